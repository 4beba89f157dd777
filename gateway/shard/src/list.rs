//! A user's list of conversations: the user's home knows which, each conversation's home gives its row.

use crate::edge::Sent;
use crate::event::ConnectionId;
use crate::limits::CONVERSATION_ROWS_MAX;
use crate::mesh_frame::{Origin, Request, Row};
use crate::shard::{Shard, Turn};
use tidegate_domain::{ConversationEntry, User};
use tidegate_ids::{ConversationId, Sequence, UserVersion};
use tidegate_schema::{ConversationList, ConversationPage, ConversationRow, ErrorCode, List, ListOrder};

#[derive(Debug)]
struct Job {
    connection: ConnectionId,
    origin: Origin,
    entries: Vec<(ConversationId, ConversationEntry)>,
    rows: Vec<Option<ConversationRow>>,
    /// How many rows were asked for, and how many have come.
    asked: usize,
    came: usize,
    more: bool,
    version: UserVersion,
}

/// Lists under way, at most one a connection.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    jobs: Vec<Job>,
}

/// Which conversations a page has, in its order, and whether there are more.
fn page_of(user: &User, list: &ConversationList) -> (Vec<(ConversationId, ConversationEntry)>, bool) {
    let limit = usize::from(list.limit).min(CONVERSATION_ROWS_MAX);
    let after = list.after.and_then(|after| user.conversations().get(&after)).map(|entry| entry.version);
    // Activity is known to the conversations' homes only (decision 0006): pages and their rows go by the list's own changes,
    // so that `after`, the last row of the page before, continues without a gap.
    let mut page: Vec<(ConversationId, ConversationEntry)> = match list.order {
        ListOrder::ChangedSince(version) => {
            let from = after.map_or(version, |after| version.max(after));
            user.changed_after(from).take(limit + 1).collect()
        }
        ListOrder::LastActivity(_) => {
            let before = after.unwrap_or(UserVersion(u64::MAX));
            user.changed_before(before).take(limit + 1).collect()
        }
    };
    let more = page.len() > limit;
    page.truncate(limit);
    (page, more)
}

impl Shard {
    pub(crate) fn on_conversation_list(
        &mut self,
        id: ConnectionId,
        origin: &Origin,
        list: &ConversationList,
    ) {
        let busy = self.lists.jobs.iter().any(|job| job.connection == id);
        if busy {
            return self.refuse_frame(id, origin.request, 0, ErrorCode::Overloaded, b"one list at a time");
        }
        let Some(hot) = self.streams.users.get(&origin.user) else { return };
        let (entries, more) = page_of(&hot.user, list);
        let rows = vec![None; entries.len()];
        let version = hot.user.version;
        let (asked, came) = (0, 0);
        let origin = *origin;
        self.lists.jobs.push(Job { connection: id, origin, entries, rows, asked, came, more, version });
    }

    /// Asks homes for rows, and sends pages whose rows have come.
    pub(crate) fn run_lists(&mut self, turn: &mut Turn<'_>) {
        if self.lists.jobs.is_empty() {
            return;
        }
        let mut jobs = std::mem::take(&mut self.lists.jobs);
        jobs.retain_mut(|job| {
            let serves = |shard: &Self| {
                shard.connections.get(job.connection).is_some_and(|one| one.serves(job.origin.generation))
            };
            if !serves(self) {
                return false;
            }
            while job.asked < job.entries.len() {
                let origin = Origin { index: job.asked as u16, ..job.origin };
                let request = Request::Row { origin, conversation: job.entries[job.asked].0 };
                if self.send_request(&request, turn) != Sent::Yes {
                    break;
                }
                job.asked += 1;
            }
            let complete = job.came == job.entries.len();
            if complete {
                self.write_page(job);
            }
            !complete
        });
        jobs.append(&mut self.lists.jobs);
        self.lists.jobs = jobs;
    }

    /// A row has come. One that cannot be read now ends its list: a row without a head would tell a device that there is nothing
    /// to fetch, or to drop what it has.
    pub(crate) fn on_row(
        &mut self,
        origin: &Origin,
        conversation: ConversationId,
        row: Option<Row>,
        turn: &mut Turn<'_>,
    ) {
        let (generation, request) = (origin.generation, origin.request);
        let mine = |job: &Job| job.origin.generation == generation && job.origin.request == request;
        let Some(at) = self.lists.jobs.iter().position(mine) else { return };
        let Some(row) = row else {
            let job = self.lists.jobs.remove(at);
            let text = b"a conversation of the list cannot be read now";
            return self.refuse_frame(job.connection, request, 0, ErrorCode::Unavailable, text);
        };
        let job = &mut self.lists.jobs[at];
        let place = usize::from(origin.index);
        let Some((id, entry)) = job.entries.get(place).copied() else { return };
        debug_assert_eq!(id, conversation);
        if job.rows[place].is_none() {
            job.came += 1;
        }
        let left = entry.left.unwrap_or(Sequence(0));
        let head = entry.left.map_or(row.head, |left| left.min(row.head));
        job.rows[place] = Some(ConversationRow {
            conversation,
            head,
            first_available: entry.joined.min(row.joined).max(Sequence::FIRST),
            last_number: row.last_number,
            last_activity: row.last_activity,
            joined: entry.joined,
            left,
            delivered: Sequence(0),
            read: Sequence(0),
        });
        self.run_lists(turn);
    }

    fn write_page(&mut self, job: &Job) {
        let rows: Vec<ConversationRow> = job.rows.iter().flatten().copied().collect();
        let body = ConversationPage { rows: List::new(&rows), user_version: job.version, more: job.more };
        let mut frame = std::mem::take(&mut self.scratch);
        frame.clear();
        self.encoder.frame(&mut frame, job.origin.request.0, 0, &body);
        self.write_frame(job.connection, &frame);
        self.scratch = frame;
    }
}
