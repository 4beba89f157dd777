//! A group's members and the intervals in which each belonged to it.
//!
//! A member has every record with a sequence in [joined, left], both ends included, for ever (DESIGN 2).

use crate::{INTERVALS_PER_GROUP_MAX, Reject};
use tidegate_ids::{Sequence, UserId};

/// A stay: from the record that added the member to the record that ended it, both delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Sequence of the record that added the member.
    pub joined: Sequence,
    /// Sequence of the record that ended it; `None` while it lasts.
    pub left: Option<Sequence>,
}

impl Interval {
    /// Whether a sequence lies in the stay.
    #[must_use]
    pub fn holds(&self, sequence: Sequence) -> bool {
        self.joined <= sequence && self.left.is_none_or(|left| sequence <= left)
    }
}

/// One stay of one user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// When.
    pub interval: Interval,
}

/// All stays, sorted by (user, joined); a user who came back has several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    stays: Vec<Member>,
    current: usize,
}

impl Membership {
    /// How many belong now.
    #[must_use]
    pub const fn current_count(&self) -> usize {
        self.current
    }

    /// Every stay, sorted by (user, joined).
    #[must_use]
    pub fn stays(&self) -> &[Member] {
        &self.stays
    }

    /// Stays as [`Membership::stays`] gave them; `None` if they are not sorted or overlap.
    #[must_use]
    pub fn from_stays(stays: Vec<Member>) -> Option<Self> {
        let sound = stays.windows(2).all(|pair| {
            let (a, b) = (&pair[0], &pair[1]);
            a.user < b.user
                || (a.user == b.user && a.interval.left.is_some_and(|left| left < b.interval.joined))
        });
        let current = stays.iter().filter(|stay| stay.interval.left.is_none()).count();
        sound.then_some(Self { stays, current })
    }

    /// Whether the user belongs now.
    #[must_use]
    pub fn is_member(&self, user: UserId) -> bool {
        self.stays_of(user).last().is_some_and(|stay| stay.interval.left.is_none())
    }

    /// Whether a record of this sequence is owed to the user.
    #[must_use]
    pub fn holds(&self, user: UserId, sequence: Sequence) -> bool {
        self.stays_of(user).iter().any(|stay| stay.interval.holds(sequence))
    }

    /// The stays of one user, oldest first.
    #[must_use]
    pub fn stays_of(&self, user: UserId) -> &[Member] {
        let start = self.stays.partition_point(|stay| stay.user < user);
        let end = self.stays.partition_point(|stay| stay.user <= user);
        &self.stays[start..end]
    }

    /// Who is owed a record of this sequence, in the order of their ids.
    pub fn recipients(&self, sequence: Sequence) -> impl Iterator<Item = UserId> + '_ {
        self.stays.iter().filter(move |stay| stay.interval.holds(sequence)).map(|stay| stay.user)
    }

    /// Which of `users` would be added: those who do not belong now, each once, sorted.
    ///
    /// # Errors
    /// [`Reject::BadArgument`] if nobody would be, [`Reject::GroupFull`] if they do not fit.
    pub fn decide_add(&self, users: &[UserId], members_max: usize) -> Result<Vec<UserId>, Reject> {
        let mut added: Vec<UserId> = users.iter().copied().filter(|user| !self.is_member(*user)).collect();
        added.sort_unstable();
        added.dedup();
        if added.is_empty() {
            return Err(Reject::BadArgument);
        }
        let full = self.current + added.len() > members_max
            || self.stays.len() + added.len() > INTERVALS_PER_GROUP_MAX;
        if full { Err(Reject::GroupFull) } else { Ok(added) }
    }

    /// Which of `users` would be removed: those who belong now, each once, sorted.
    ///
    /// # Errors
    /// [`Reject::BadArgument`] if nobody would be.
    pub fn decide_remove(&self, users: &[UserId]) -> Result<Vec<UserId>, Reject> {
        let mut removed: Vec<UserId> = users.iter().copied().filter(|user| self.is_member(*user)).collect();
        removed.sort_unstable();
        removed.dedup();
        if removed.is_empty() { Err(Reject::BadArgument) } else { Ok(removed) }
    }

    /// Adds a stay. Doing it twice changes nothing: a slice that was copied ahead of a record sees it again.
    pub fn add(&mut self, user: UserId, joined: Sequence) {
        let end = self.stays.partition_point(|stay| stay.user <= user);
        let last = self.stays_of(user).last().map(|stay| stay.interval);
        let known = last.is_some_and(|interval| joined <= interval.joined || interval.left.is_none());
        if known {
            return;
        }
        self.stays.insert(end, Member { user, interval: Interval { joined, left: None } });
        self.current += 1;
    }

    /// Ends the current stay. Doing it twice changes nothing.
    pub fn remove(&mut self, user: UserId, left: Sequence) {
        let end = self.stays.partition_point(|stay| stay.user <= user);
        let Some(stay) = end.checked_sub(1).map(|index| &mut self.stays[index]) else { return };
        if stay.user == user && stay.interval.left.is_none() && stay.interval.joined < left {
            stay.interval.left = Some(left);
            self.current -= 1;
        }
    }

    /// Takes over a stay that another shard folded: a slice arrives in parts.
    pub fn adopt(&mut self, member: Member) {
        self.add(member.user, member.interval.joined);
        if let Some(left) = member.interval.left {
            self.remove(member.user, left);
        }
    }

    /// Checks what must always hold.
    pub fn assert_invariants(&self) {
        assert_eq!(self.current, self.stays.iter().filter(|stay| stay.interval.left.is_none()).count());
        assert!(self.stays.is_sorted_by_key(|stay| (stay.user, stay.interval.joined)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(steps: &[(char, u64, u64)], owed: &[(u64, u64, bool)]) {
        let mut members = Membership::default();
        for (what, user, sequence) in steps {
            match what {
                '+' => members.add(UserId(*user), Sequence(*sequence)),
                _ => members.remove(UserId(*user), Sequence(*sequence)),
            }
            members.assert_invariants();
        }
        for (user, sequence, expected) in owed {
            assert_eq!(
                members.holds(UserId(*user), Sequence(*sequence)),
                *expected,
                "user {user} at {sequence}"
            );
        }
        assert_eq!(Membership::from_stays(members.stays().to_vec()), Some(members));
    }

    #[test]
    fn both_ends_are_delivered() {
        check(&[('+', 1, 3), ('-', 1, 7)], &[(1, 2, false), (1, 3, true), (1, 7, true), (1, 8, false)]);
    }

    #[test]
    fn joining_again_adds_an_interval_and_keeps_the_first() {
        let steps = [('+', 1, 3), ('-', 1, 7), ('+', 1, 9), ('+', 2, 9)];
        check(&steps, &[(1, 5, true), (1, 8, false), (1, 9, true), (1, 99, true), (2, 8, false)]);
    }

    #[test]
    fn a_step_seen_twice_changes_nothing() {
        let steps = [('+', 1, 3), ('+', 1, 3), ('-', 1, 7), ('-', 1, 7), ('+', 1, 3), ('-', 1, 3)];
        check(&steps, &[(1, 3, true), (1, 7, true), (1, 8, false)]);
    }

    #[test]
    fn a_full_group_refuses_and_nobody_is_added_twice() {
        let mut members = Membership::default();
        members.add(UserId(1), Sequence(1));
        let users = [UserId(1), UserId(2), UserId(2), UserId(3)];
        assert_eq!(members.decide_add(&users, 3), Ok(vec![UserId(2), UserId(3)]));
        assert_eq!(members.decide_add(&users, 2), Err(Reject::GroupFull));
        assert_eq!(members.decide_add(&users[..1], 3), Err(Reject::BadArgument));
        assert_eq!(members.decide_remove(&users[1..]), Err(Reject::BadArgument));
    }
}
