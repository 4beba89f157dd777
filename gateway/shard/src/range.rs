//! What clients ask a conversation's home to read: ranges of records, and members.

use crate::commit::Waiting;
use crate::mesh_frame::{Origin, ReplyClass, Request, Span};
use crate::reads::{RangeRead, ReadPurpose};
use crate::records::Sequenced;
use crate::shard::Shard;
use tidegate_ids::{CommandNumber, ConversationId, ConversationKind, Sequence, ShardIndex};
use tidegate_schema::{ErrorCode, List, Member, MembersPage, Range, Role, SkipReason, SkipSpan};
use tidegate_storage_log::{Direction, PageEnd, RecordState};

/// Bytes of a member's row in a page, table and offset included.
const MEMBER_ROW_BYTES: usize = 64;

/// What of a page's sequences has no record, in spans that rise. A page has at most 100 records, so it has few spans.
struct Skips {
    spans: Vec<SkipSpan>,
    next: Sequence,
    to: Sequence,
}

impl Skips {
    const fn new(from: Sequence, to: Sequence) -> Self {
        Self { spans: Vec::new(), next: from, to }
    }

    /// There is a record; what lies before it is lost.
    fn present(&mut self, at: Sequence, reason: SkipReason) {
        if at > self.next {
            self.skip(Sequence(at.0 - 1), reason);
        }
        self.next = self.next.max(at.next());
    }

    /// There is a record without a body.
    fn hole(&mut self, at: Sequence, reason: SkipReason) {
        self.present(at, SkipReason::Damaged);
        self.next = at;
        self.skip(at, reason);
    }

    fn skip(&mut self, to: Sequence, reason: SkipReason) {
        let from = self.next;
        self.next = to.next();
        match self.spans.last_mut() {
            Some(span) if span.reason == reason && span.to.next() == from => span.to = to,
            _ => self.spans.push(SkipSpan { from, to, reason }),
        }
    }

    fn finish(mut self, reason: SkipReason) -> Vec<SkipSpan> {
        if self.next <= self.to {
            self.skip(self.to, reason);
        }
        self.spans
    }
}

/// Why a record has no body.
const fn reason_of(state: RecordState) -> SkipReason {
    match state {
        RecordState::Expired => SkipReason::Expired,
        RecordState::Erased => SkipReason::Erased,
        RecordState::Live | RecordState::Lost => SkipReason::Damaged,
    }
}

impl Shard {
    /// A client's `GetRange`: the part of what it asks for that is owed to its user, nearest to where it asks from.
    pub(crate) fn on_range(&mut self, to: ShardIndex, request: &Request<'_>) {
        let &Request::Range { origin, conversation, span, limit } = request else {
            unreachable!("the caller matched it")
        };
        let hot = self.hot(&conversation);
        if !hot.exists() {
            return self.refuse(to, request, ErrorCode::NoConversation, CommandNumber(0));
        }
        if !hot.may_read(origin.user) {
            return self.refuse(to, request, ErrorCode::NotMember, CommandNumber(0));
        }
        let head = hot.last;
        let (low, high) = match span {
            Span::Before(Sequence(0)) => (Sequence::FIRST, head),
            Span::Before(at) => (Sequence::FIRST, Sequence(at.0 - 1).min(head)),
            Span::After(at) => (at.next(), head),
            Span::Between(low, high) => (low.max(Sequence::FIRST), high.min(head)),
        };
        let descending = matches!(span, Span::Before(_));
        let owed = if descending {
            hot.last_owed(origin.user, low, high)
        } else {
            hot.first_owed(origin.user, low, high)
        };
        let first_available =
            hot.first_owed(origin.user, Sequence::FIRST, head).map_or(Sequence(0), |span| span.0);
        let mut read = RangeRead {
            to,
            origin,
            conversation,
            span,
            asked: (low, high),
            owed: owed.unwrap_or((Sequence(1), Sequence(0))),
            limit: limit.into(),
            head,
            first_available,
        };
        let Some((start, end)) = owed else {
            read.owed = (high.next(), high);
            let nothing = PageEnd { complete: true, ..PageEnd::default() };
            return self.answer_range(&read, &[], &nothing, SkipReason::NotMember);
        };
        let direction = if descending { Direction::Descending } else { Direction::Ascending };
        let spec = self.range_spec(&conversation, start, end, read.limit, direction);
        self.after_commit(Waiting::Read(ReadPurpose::Range(read), spec));
    }

    /// A range was read: records, what is skipped among and beside them, and whether that is all that was asked for. What
    /// should be there and is not was lost for the `reason` given.
    pub(crate) fn answer_range(
        &mut self,
        read: &RangeRead,
        records: &[u8],
        end: &PageEnd,
        reason: SkipReason,
    ) {
        let (low, high) = read.asked;
        let (start, last) = read.owed;
        let descending = matches!(read.span, Span::Before(_));
        let first_available = read.first_available.max(end.first_available.unwrap_or(Sequence(0)));
        // What this page answers for: a limit may have ended it before the other end. One without a sound record ends where
        // its limit does; a client that was told of nothing would ask for the same again.
        let (mut from, mut to) = (start, last);
        let reach = u64::from(read.limit.max(1)) - 1;
        match (end.complete, descending, end.records) {
            (true, _, _) => {}
            (false, true, 0) => from = Sequence(last.0.saturating_sub(reach)).max(start),
            (false, true, _) => from = end.first,
            (false, false, 0) => to = Sequence(start.0 + reach).min(last),
            (false, false, _) => to = end.last,
        }
        let mut skips = Skips::new(from.max(first_available), to);
        let mut stored = self.buffer();
        for record in self.served(records) {
            match Sequenced::read(&record) {
                Some(sequenced) => {
                    stored.extend_from_slice(sequenced.stored);
                    skips.present(record.head.sequence, reason);
                }
                None => skips.hole(record.head.sequence, reason_of(record.placement.state)),
            }
        }
        let mut skips = skips.finish(reason);
        // On the side where the client asks from, what is not owed is skipped; the other side is another page.
        if !descending && low < start && low <= high {
            let to = Sequence(start.0 - 1).min(high);
            skips.insert(0, SkipSpan { from: low, to, reason: SkipReason::NotMember });
        }
        if descending && last < high {
            skips.push(SkipSpan { from: last.next(), to: high, reason: SkipReason::NotMember });
        }
        let reaches_end = if descending { start <= low } else { last >= high };
        let body = Range {
            conversation: read.conversation,
            head: read.head,
            first_available,
            complete: end.complete && (reaches_end || start > last),
            skips: List::new(&skips),
            records: &stored,
        };
        let mut frame = self.buffer();
        self.encoder.frame(&mut frame, read.origin.request.0, 0, &body);
        self.reply(read.to, &read.origin, ReplyClass::Range, &frame);
        self.recycle(frame);
        self.recycle(stored);
    }

    /// A client's `MembersGet`, after the last user of the page before.
    pub(crate) fn on_members_get(&mut self, to: ShardIndex, request: &Request<'_>) {
        let &Request::MembersGet { origin, conversation, after, limit } = request else {
            unreachable!("the caller matched it")
        };
        let hot = self.hot(&conversation);
        let code = match (hot.exists(), hot.may_read(origin.user)) {
            (false, _) => Some(ErrorCode::NoConversation),
            (true, false) => Some(ErrorCode::NotMember),
            (true, true) => None,
        };
        if let Some(code) = code {
            return self.refuse(to, request, code, CommandNumber(0));
        }
        let rows_max = self.limits.answer_bytes_max() / MEMBER_ROW_BYTES;
        let limit = usize::from(limit).min(rows_max);
        let (members, more) = self.members_of(&conversation, &origin, after.0, limit);
        let member_version = self.hot(&conversation).member_version.0;
        let body = MembersPage { conversation, member_version, members: List::new(&members), more };
        let mut frame = self.buffer();
        self.encoder.frame(&mut frame, origin.request.0, 0, &body);
        self.reply(to, &origin, ReplyClass::Range, &frame);
        self.recycle(frame);
    }

    fn members_of(
        &self,
        id: &ConversationId,
        origin: &Origin,
        after: u64,
        limit: usize,
    ) -> (Vec<Member>, bool) {
        let hot = self.hot(id);
        let member = |user, joined, left, role| Member { user, role, joined, left };
        if let Some(ConversationKind::Direct(low, high)) = id.kind() {
            let mut both = vec![low, high];
            both.dedup();
            debug_assert!(both.contains(&origin.user));
            let rows = both.into_iter().filter(|user| after == 0 || user.0 > after);
            return (
                rows.map(|user| member(user, Sequence::FIRST, Sequence(0), Role::Member)).collect(),
                false,
            );
        }
        let creator = hot.creator.map(|(author, _)| author.user);
        let mut rows =
            hot.membership.stays().iter().filter(|stay| after == 0 || stay.user.0 > after).peekable();
        let mut members = Vec::new();
        while members.len() < limit {
            let Some(stay) = rows.next() else { break };
            // The last stay of a user says where they stand.
            if rows.peek().is_some_and(|next| next.user == stay.user) {
                continue;
            }
            let role = if Some(stay.user) == creator { Role::Owner } else { Role::Member };
            let left = stay.interval.left.unwrap_or(Sequence(0));
            members.push(member(stay.user, stay.interval.joined, left, role));
        }
        let more = rows.peek().is_some();
        (members, more)
    }
}
