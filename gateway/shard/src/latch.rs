//! A log that failed: the shard is read-only from then on, at the last commit (DESIGN 5, decision 0007).
//!
//! What was appended and not committed may be on the device or not; nobody knows before the next start. So nothing that
//! rests on it leaves, and it is taken back: every stream that was touched since the last commit has its locator of
//! then, and is folded again when somebody asks for it. Whoever waited is told `UNAVAILABLE`, which promises nothing.

use crate::commit::Waiting;
use crate::counters::Counter;
use crate::limits::WIDENED_MAX;
use crate::locators::Locator;
use crate::mesh_frame::{Outcome, Request};
use crate::shard::{Shard, Turn};
use std::collections::VecDeque;
use tidegate_domain::{Answer, UserRecord};
use tidegate_ids::{
    BatchNumber, CommandNumber, ConversationId, DeviceId, Sequence, ShardIndex, StreamId, StreamKind, UserId,
};
use tidegate_schema::{CloseCode, ErrorCode};

/// A change that is not committed.
#[derive(Clone, Copy, Debug)]
struct Touch {
    batch: BatchNumber,
    stream: StreamId,
    /// The stream's locator before it; none if the stream was not known.
    before: Option<Locator>,
    /// Whether the fold says something else now to those who ask; a queue record only repeats what memory holds.
    is_served: bool,
}

/// What has changed since the last commit, oldest first: as much as uncommitted batches hold.
#[derive(Debug, Default)]
pub(crate) struct Journal(VecDeque<Touch>);

impl Journal {
    /// Notes a stream's locator before it changes with a record of this batch.
    pub(crate) fn note(
        &mut self,
        batch: BatchNumber,
        stream: StreamId,
        before: Option<Locator>,
        is_served: bool,
    ) {
        debug_assert!(self.0.back().is_none_or(|last| last.batch <= batch));
        self.0.push_back(Touch { batch, stream, before, is_served });
    }

    /// Everything up to this batch is committed.
    pub(crate) fn committed(&mut self, batch: BatchNumber) {
        while self.0.front().is_some_and(|touch| touch.batch <= batch) {
            self.0.pop_front();
        }
    }
}

impl Shard {
    /// The log has failed: nothing pending leaves, and nothing is appended again.
    pub(crate) fn on_write_failed(&mut self, turn: &mut Turn<'_>) {
        if self.latched {
            return;
        }
        self.latched = true;
        self.stats.count(Counter::WritesFailed);
        self.log.fail();
        self.take_back();
        for (_, waiting) in self.commits.fail() {
            self.refuse_waiting(waiting, turn);
        }
    }

    /// Puts the streams that were touched since the last commit back to where they were then.
    fn take_back(&mut self) {
        while let Some(touch) = self.journal.0.pop_back() {
            self.streams.put_back(touch.stream, touch.before);
            if touch.is_served {
                self.fold_again(&touch.stream);
            }
        }
        for (user, record) in self.owed.take() {
            if record.is_served() {
                self.fold_again(&StreamId::user(user));
            }
        }
    }

    /// Drops a stream's fold; it is loaded from what is committed when somebody asks.
    fn fold_again(&mut self, stream: &StreamId) {
        match stream.kind() {
            Some(StreamKind::Conversation(id)) => self.streams.remove_conversation(&id),
            Some(StreamKind::User(id)) => self.forget_user(id),
            _ => {}
        }
    }

    /// Their devices connect anew and find what the log has of them.
    fn forget_user(&mut self, id: UserId) {
        let Some(hot) = self.streams.users.get(&id) else { return };
        let connections: Vec<_> = hot.sessions.iter().map(|session| session.connection).collect();
        for connection in connections {
            self.close(connection, CloseCode::GOING_AWAY, "the log failed: connect again");
        }
        self.keep_ranges(id);
        self.streams.users.remove(&id);
    }

    /// Remembers which ranges of a user are open: the log will not be told before the next start, which feeds the
    /// records again.
    pub(crate) fn keep_ranges(&mut self, id: UserId) {
        let Some(hot) = self.streams.users.get(&id) else { return };
        let ranges = |device: &tidegate_domain::Device| device.queue.ranges().collect::<Vec<_>>();
        let ranges: Vec<(ConversationId, Sequence)> = hot.user.devices.iter().flat_map(ranges).collect();
        for (conversation, from) in ranges {
            self.keep_range((id, conversation, None), from);
        }
    }

    pub(crate) fn keep_range(&mut self, key: (UserId, ConversationId, Option<DeviceId>), from: Sequence) {
        let has_place = self.widened.len() < WIDENED_MAX;
        if let Some(lowest) = self.widened.get_mut(&key) {
            *lowest = from.min(*lowest);
        } else if has_place {
            self.widened.insert(key, from);
        }
    }

    /// Whoever waited for a commit that never comes is told so, or looked after again.
    fn refuse_waiting(&mut self, waiting: Waiting, turn: &mut Turn<'_>) {
        match waiting {
            Waiting::Result(to, frame) => {
                self.refuse_result(to, &frame, turn);
                self.recycle(frame);
            }
            Waiting::Read(purpose, _) => self.refuse_read(purpose, turn),
            // The next start begins from the one before.
            Waiting::Checkpoint(_) => {}
            // A device whose registration is committed; another has no session any more.
            welcome @ Waiting::Welcome { .. } => self.after_commit(welcome),
            // It serves what there is. What the checkpoint would have said is fed again at the next start.
            Waiting::Ready => self.after_commit(Waiting::Ready),
        }
    }

    fn refuse_result(&mut self, to: ShardIndex, frame: &[u8], turn: &mut Turn<'_>) {
        let Some(outcome) = Outcome::decode(frame) else { unreachable!("it was encoded here") };
        match outcome {
            Outcome::Reply { origin, class, .. } => {
                self.refuse_origin(to, &origin, class, ErrorCode::Unavailable, CommandNumber(0));
            }
            Outcome::Answer { origin, answer, .. } => {
                // Nothing is covered: the queue asks again, and is answered with what is committed.
                let covered = Sequence(answer.from.0.saturating_sub(1));
                let answer = Answer { covered, complete: false, ..answer };
                self.result_after_commit(to, &Outcome::Answer { origin, answer, dirty: false, records: &[] });
            }
            Outcome::Row { origin, conversation, .. } => {
                let mut again = self.buffer();
                Request::Row { origin, conversation }.encode(&mut again);
                self.on_request(to, &again, turn);
                self.recycle(again);
            }
            _ => unreachable!("only answers wait for a commit"),
        }
    }
}

/// Whether a record changes what is told of its user, beside the queues.
pub(crate) trait Served {
    fn is_served(&self) -> bool;
}

impl Served for UserRecord {
    fn is_served(&self) -> bool {
        match self {
            Self::Registered { .. } | Self::Removed { .. } | Self::Joined { .. } | Self::Left { .. } => true,
            Self::Seen { .. } | Self::Queue { .. } | Self::WidenAll { .. } => false,
        }
    }
}
