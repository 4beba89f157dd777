//! A conversation: its order, its numbers, and for a group its members.
//!
//! State is the fold of the stream's records. A direct conversation needs no creation: its members are in its id.

use crate::{DeviceNumbers, DomainLimits, LastCommand, Membership, NumberVerdict, Reject};
use tidegate_ids::{
    ClientId, CommandNumber, ConversationId, ConversationKind, Countable, DeviceId, Location, Sequence,
    UserId, WallMs,
};

/// Who caused a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Author {
    /// The user.
    pub user: UserId,
    /// Which of their devices; it gets only its acknowledgement, never a push of its own record.
    pub device: DeviceId,
}

/// What a record changes, besides taking its place in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// A message.
    Message {
        /// Whether it counts as unread.
        countable: bool,
    },
    /// A group comes into being with these members, its creator among them.
    Created {
        /// The client id the group's id is derived from.
        client_id: ClientId,
        /// Sorted, each once.
        users: &'a [UserId],
    },
    /// Members come.
    Added {
        /// Sorted, each once.
        users: &'a [UserId],
    },
    /// Members are removed by another.
    Removed {
        /// Sorted, each once.
        users: &'a [UserId],
    },
    /// The author leaves.
    Left,
}

/// A record as the fold sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its place in the order.
    pub sequence: Sequence,
    /// Its stamp's time.
    pub time: WallMs,
    /// Who caused it.
    pub author: Author,
    /// The author's command number; 0 for a creation, which is not numbered.
    pub number: CommandNumber,
    /// Where it is.
    pub location: Location,
    /// What it changes.
    pub change: Change<'a>,
}

/// The fold of a conversation's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// Which.
    pub id: ConversationId,
    /// The last sequence appended.
    pub last: Sequence,
    /// How many countable records there are.
    pub countable: Countable,
    /// The last stamp's time; stamps never go back.
    pub time: WallMs,
    /// Who created it: a group exists once this is known.
    pub creator: Option<(Author, ClientId)>,
    /// The sequence of the last membership change: the member version.
    pub member_version: Sequence,
    /// Last command of every device that ever sent here.
    pub numbers: DeviceNumbers,
    /// A group's members; empty for a direct conversation.
    pub membership: Membership,
}

impl Conversation {
    /// A conversation of which nothing is known yet.
    #[must_use]
    pub fn new(id: ConversationId) -> Self {
        Self {
            id,
            last: Sequence(0),
            countable: Countable(0),
            time: WallMs(0),
            creator: None,
            member_version: Sequence(0),
            numbers: DeviceNumbers::default(),
            membership: Membership::default(),
        }
    }

    /// Whether there is anything to read: a group that was created, or any direct conversation.
    #[must_use]
    pub const fn exists(&self) -> bool {
        !self.id.is_group() || self.creator.is_some()
    }

    /// Whether the user belongs now.
    #[must_use]
    pub fn is_member(&self, user: UserId) -> bool {
        match self.id.kind() {
            Some(ConversationKind::Direct(low, high)) => user == low || user == high,
            _ => self.membership.is_member(user),
        }
    }

    /// Whether a record of this sequence is owed to the user.
    #[must_use]
    pub fn holds(&self, user: UserId, sequence: Sequence) -> bool {
        match self.id.kind() {
            Some(ConversationKind::Direct(low, high)) => user == low || user == high,
            _ => self.membership.holds(user, sequence),
        }
    }

    /// The part of [from, to] that is owed to the user and comes first; `None` if no part is.
    #[must_use]
    pub fn first_owed(&self, user: UserId, from: Sequence, to: Sequence) -> Option<(Sequence, Sequence)> {
        let span = match self.id.kind() {
            Some(ConversationKind::Direct(low, high)) => (user == low || user == high).then_some((from, to)),
            _ => self.membership.stays_of(user).iter().find_map(|stay| {
                let end = stay.interval.left.map_or(to, |left| left.min(to));
                let start = stay.interval.joined.max(from);
                (start <= end).then_some((start, end))
            }),
        };
        span.filter(|(start, end)| start <= end)
    }

    /// The part of [from, to] that is owed to the user and comes last; `None` if no part is.
    #[must_use]
    pub fn last_owed(&self, user: UserId, from: Sequence, to: Sequence) -> Option<(Sequence, Sequence)> {
        let span = match self.id.kind() {
            Some(ConversationKind::Direct(low, high)) => (user == low || user == high).then_some((from, to)),
            _ => self.membership.stays_of(user).iter().rev().find_map(|stay| {
                let end = stay.interval.left.map_or(to, |left| left.min(to));
                let start = stay.interval.joined.max(from);
                (start <= end).then_some((start, end))
            }),
        };
        span.filter(|(start, end)| start <= end)
    }

    /// Whether the user ever belonged, and so may read.
    #[must_use]
    pub fn may_read(&self, user: UserId) -> bool {
        match self.id.kind() {
            Some(ConversationKind::Direct(low, high)) => user == low || user == high,
            _ => !self.membership.stays_of(user).is_empty(),
        }
    }

    /// How many sequences of [from, to] are owed to the user.
    #[must_use]
    pub fn owed_count(&self, user: UserId, from: Sequence, to: Sequence) -> u64 {
        let (mut from, mut count) = (from, 0);
        while let Some((start, end)) = self.first_owed(user, from, to) {
            count += end.0 - start.0 + 1;
            from = end.next();
        }
        count
    }

    /// Judges a message.
    ///
    /// # Errors
    /// Membership is judged before the number, so a stranger learns nothing from numbers.
    pub fn decide_send(&self, author: Author, number: CommandNumber) -> Result<NumberVerdict, Reject> {
        self.judge(author, number, true)
    }

    /// Judges an addition, and says whom it would add.
    ///
    /// # Errors
    /// As [`Conversation::decide_send`]; also [`Reject::VersionConflict`], [`Reject::GroupFull`].
    pub fn decide_add(
        &self,
        author: Author,
        number: CommandNumber,
        version: Sequence,
        users: &[UserId],
        limits: &DomainLimits,
    ) -> Result<(NumberVerdict, Vec<UserId>), Reject> {
        let verdict = self.judge_membership(author, number, version)?;
        if matches!(verdict, NumberVerdict::Duplicate { .. }) {
            return Ok((verdict, Vec::new()));
        }
        Ok((verdict, self.membership.decide_add(users, limits.group_members_max)?))
    }

    /// Judges a removal, and says whom it would remove. Only the creator removes others.
    ///
    /// # Errors
    /// As [`Conversation::decide_send`]; also [`Reject::VersionConflict`], [`Reject::Forbidden`].
    pub fn decide_remove(
        &self,
        author: Author,
        number: CommandNumber,
        version: Sequence,
        users: &[UserId],
    ) -> Result<(NumberVerdict, Vec<UserId>), Reject> {
        let verdict = self.judge_membership(author, number, version)?;
        if matches!(verdict, NumberVerdict::Duplicate { .. }) {
            return Ok((verdict, Vec::new()));
        }
        let is_creator = self.creator.is_some_and(|(creator, _)| creator.user == author.user);
        if !is_creator {
            return Err(Reject::Forbidden);
        }
        Ok((verdict, self.membership.decide_remove(users)?))
    }

    /// Judges a leave. A duplicate is answered also after the leave it repeats.
    ///
    /// # Errors
    /// As [`Conversation::decide_send`].
    pub fn decide_leave(&self, author: Author, number: CommandNumber) -> Result<NumberVerdict, Reject> {
        if !self.id.is_group() {
            return Err(Reject::BadArgument);
        }
        self.judge(author, number, true)
    }

    /// Judges a creation: the members it would have, or `None` if this very creation was done already.
    ///
    /// # Errors
    /// [`Reject::IdempotencyConflict`] if another creation has this id, [`Reject::GroupFull`].
    pub fn decide_create(
        &self,
        author: Author,
        client_id: ClientId,
        users: &[UserId],
        limits: &DomainLimits,
    ) -> Result<Option<Vec<UserId>>, Reject> {
        if let Some(creator) = self.creator {
            let same = creator == (author, client_id);
            let conflict = Reject::IdempotencyConflict { expected: CommandNumber(0) };
            return if same { Ok(None) } else { Err(conflict) };
        }
        let mut members = users.to_vec();
        members.push(author.user);
        Membership::default().decide_add(&members, limits.group_members_max).map(Some)
    }

    /// The only mutation: live, in recovery, and when the stream is loaded.
    pub fn apply(&mut self, record: &Record<'_>) {
        assert_eq!(record.sequence, self.last.next(), "sequences are contiguous");
        self.last = record.sequence;
        self.time = self.time.max(record.time);
        if record.number.0 > 0 {
            let last = LastCommand { number: record.number, location: record.location };
            self.numbers.take(record.author.user, record.author.device, last);
        }
        match record.change {
            Change::Message { countable } => self.countable.0 += u64::from(countable),
            Change::Created { client_id, users } => {
                self.creator = Some((record.author, client_id));
                self.change_members(users, record.sequence, Membership::add);
            }
            Change::Added { users } => self.change_members(users, record.sequence, Membership::add),
            Change::Removed { users } => self.change_members(users, record.sequence, Membership::remove),
            Change::Left => self.change_members(&[record.author.user], record.sequence, Membership::remove),
        }
    }

    /// The next records are damaged: their places stay taken.
    pub const fn lose(&mut self, count: u64) {
        self.last.0 += count;
    }

    /// The stamp's time of a record appended now.
    #[must_use]
    pub fn stamp_time(&self, wall: WallMs) -> WallMs {
        self.time.max(wall)
    }

    /// Checks what must always hold.
    pub fn assert_invariants(&self) {
        self.membership.assert_invariants();
        assert!(self.countable.0 <= self.last.0);
        assert!(self.member_version <= self.last);
    }

    fn change_members(
        &mut self,
        users: &[UserId],
        at: Sequence,
        change: fn(&mut Membership, UserId, Sequence),
    ) {
        users.iter().for_each(|user| change(&mut self.membership, *user, at));
        self.member_version = at;
    }

    fn judge_membership(
        &self,
        author: Author,
        number: CommandNumber,
        version: Sequence,
    ) -> Result<NumberVerdict, Reject> {
        if !self.id.is_group() {
            return Err(Reject::BadArgument);
        }
        let verdict = self.judge(author, number, true)?;
        let stale = version.0 != 0 && version != self.member_version;
        let next = matches!(verdict, NumberVerdict::Next { .. });
        if next && stale { Err(Reject::VersionConflict) } else { Ok(verdict) }
    }

    fn judge(
        &self,
        author: Author,
        number: CommandNumber,
        member_only: bool,
    ) -> Result<NumberVerdict, Reject> {
        if !self.exists() {
            return Err(Reject::NoConversation);
        }
        let known = self.numbers.last(author.user, author.device).is_some();
        if member_only && !self.is_member(author.user) {
            let verdict = self.numbers.judge(author.user, author.device, number);
            let duplicate = known && matches!(verdict, Ok(NumberVerdict::Duplicate { .. }));
            return if duplicate { verdict } else { Err(Reject::NotMember) };
        }
        self.numbers.judge(author.user, author.device, number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: Author = Author { user: UserId(1), device: DeviceId(10) };
    const BOB: Author = Author { user: UserId(2), device: DeviceId(20) };
    const CLIENT: ClientId = ClientId([9; 16]);

    fn record<'a>(of: &Conversation, author: Author, number: u64, change: Change<'a>) -> Record<'a> {
        let sequence = of.last.next();
        Record {
            sequence,
            time: WallMs(1000),
            author,
            number: CommandNumber(number),
            location: Location::new(1, 512 * sequence.0 as u32),
            change,
        }
    }

    fn group() -> Conversation {
        let mut group = Conversation::new(ConversationId::group([1; 16]));
        let limits = DomainLimits::default();
        let users = group.decide_create(ANN, CLIENT, &[BOB.user], &limits).unwrap().unwrap();
        group.apply(&record(&group, ANN, 0, Change::Created { client_id: CLIENT, users: &users }));
        group.assert_invariants();
        group
    }

    #[test]
    fn a_repeated_creation_is_the_same_group_and_another_is_a_conflict() {
        let group = group();
        let limits = DomainLimits::default();
        assert_eq!(group.decide_create(ANN, CLIENT, &[BOB.user], &limits), Ok(None));
        let other = group.decide_create(BOB, CLIENT, &[], &limits);
        assert!(matches!(other, Err(Reject::IdempotencyConflict { .. })));
    }

    #[test]
    fn a_stranger_sends_nothing_and_a_duplicate_is_answered_after_leaving() {
        let mut group = group();
        let stranger = Author { user: UserId(3), device: DeviceId(30) };
        assert_eq!(group.decide_send(stranger, CommandNumber(1)), Err(Reject::NotMember));
        assert_eq!(
            group.decide_leave(BOB, CommandNumber(1)),
            Ok(NumberVerdict::Next { previous: Location::NONE })
        );
        group.apply(&record(&group, BOB, 1, Change::Left));
        assert!(matches!(group.decide_leave(BOB, CommandNumber(1)), Ok(NumberVerdict::Duplicate { .. })));
        assert_eq!(group.decide_send(BOB, CommandNumber(2)), Err(Reject::NotMember));
        assert!(group.holds(BOB.user, Sequence(2)) && !group.holds(BOB.user, Sequence(3)));
    }

    #[test]
    fn a_moved_member_version_is_a_conflict_for_a_new_command_only() {
        let mut group = group();
        let limits = DomainLimits::default();
        let seen = group.member_version;
        let (_, users) = group.decide_add(ANN, CommandNumber(1), seen, &[UserId(3)], &limits).unwrap();
        group.apply(&record(&group, ANN, 1, Change::Added { users: &users }));
        let stale = group.decide_add(ANN, CommandNumber(2), seen, &[UserId(4)], &limits);
        assert_eq!(stale, Err(Reject::VersionConflict));
        let again = group.decide_add(ANN, CommandNumber(1), seen, &[UserId(3)], &limits);
        assert!(matches!(again, Ok((NumberVerdict::Duplicate { .. }, _))));
        let others = group.decide_remove(BOB, CommandNumber(1), Sequence(0), &[UserId(3)]);
        assert_eq!(others, Err(Reject::Forbidden));
    }

    #[test]
    fn what_is_owed_skips_the_time_between_two_stays() {
        let mut group = group();
        group.apply(&record(&group, BOB, 1, Change::Left));
        group.apply(&record(&group, ANN, 1, Change::Message { countable: true }));
        group.apply(&record(&group, ANN, 2, Change::Added { users: &[BOB.user] }));
        let owed = |from, to| group.first_owed(BOB.user, Sequence(from), Sequence(to));
        assert_eq!(owed(1, 4), Some((Sequence(1), Sequence(2))));
        assert_eq!(owed(3, 4), Some((Sequence(4), Sequence(4))));
        assert_eq!(owed(3, 3), None);
        let last = |from, to| group.last_owed(BOB.user, Sequence(from), Sequence(to));
        assert_eq!(last(1, 4), Some((Sequence(4), Sequence(4))));
        assert_eq!(last(1, 3), Some((Sequence(1), Sequence(2))));
        assert!(group.may_read(BOB.user) && !group.may_read(UserId(9)));
        assert_eq!(group.owed_count(BOB.user, Sequence(1), Sequence(4)), 3);
    }

    #[test]
    fn a_direct_conversation_has_two_members_and_no_creation() {
        let direct = Conversation::new(ConversationId::direct(ANN.user, BOB.user));
        assert!(direct.exists() && direct.is_member(ANN.user) && !direct.is_member(UserId(3)));
        assert_eq!(direct.decide_leave(ANN, CommandNumber(1)), Err(Reject::BadArgument));
        assert_eq!(direct.owed_count(BOB.user, Sequence(1), Sequence(0)), 0);
    }
}
