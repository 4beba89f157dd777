//! Rate classes, and what a user has spent of theirs (REQUIREMENTS 156, decision 0011).

use crate::limits::{INVITATION_REFILL_NS, INVITATIONS_BURST, RECORD_REFILL_NS, RECORDS_BURST};
use tidegate_ids::MonotonicNs;

/// A named class of limits that a token may carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RateClass {
    /// 100 records and 100 invitations a minute, with a reserve of each.
    #[default]
    Default,
    /// No limit: tools and trusted services.
    Unlimited,
}

impl RateClass {
    /// The class a token names; `None` for a name that is not configured.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        match name {
            "default" => Some(Self::Default),
            "unlimited" => Some(Self::Unlimited),
            _ => None,
        }
    }
}

/// What a user has spent, on all devices and connections: of records, and of users added to groups. The class comes with
/// each connection's token and changes the rate, never what is spent.
///
/// Each is kept as the moment at which nothing of it would be spent any more (the generic cell rate algorithm, ITU-T
/// I.371): eight bytes, and no timer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    records: MonotonicNs,
    invitations: MonotonicNs,
}

impl Quota {
    /// Takes one record, and an invitation for every user it adds; nothing if either is not there. A command that adds more
    /// than the whole reserve takes the whole reserve.
    ///
    /// # Errors
    /// The milliseconds until it would pass.
    pub fn take(&mut self, class: RateClass, now: MonotonicNs, invited: usize) -> Result<(), u32> {
        if class == RateClass::Unlimited {
            return Ok(());
        }
        let records = spend(self.records, now, RECORD_REFILL_NS, RECORDS_BURST, 1)?;
        let invited = INVITATIONS_BURST.min(invited as u64);
        let invitations = spend(self.invitations, now, INVITATION_REFILL_NS, INVITATIONS_BURST, invited)?;
        *self = Self { records, invitations };
        Ok(())
    }
}

/// When nothing would be spent any more, after `count` more are; the milliseconds to wait if they exceed the burst.
fn spend(
    free: MonotonicNs,
    now: MonotonicNs,
    refill_ns: u64,
    burst: u64,
    count: u64,
) -> Result<MonotonicNs, u32> {
    if count == 0 {
        return Ok(free);
    }
    let after = free.max(now).after(count * refill_ns);
    let excess_ns = after.since(now).saturating_sub(burst * refill_ns);
    if excess_ns > 0 {
        return Err((excess_ns / MonotonicNs::MILLISECOND) as u32 + 1);
    }
    Ok(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: MonotonicNs = MonotonicNs(600 * MonotonicNs::MILLISECOND);

    #[test]
    fn a_hundred_pass_then_one_each_six_hundred_milliseconds() {
        let mut quota = Quota::default();
        assert!((0..100).all(|_| quota.take(RateClass::Default, MonotonicNs(0), 0).is_ok()));
        assert_eq!(quota.take(RateClass::Default, MonotonicNs(0), 0), Err(601));
        assert_eq!(quota.take(RateClass::Default, LATER, 0), Ok(()));
        assert!(quota.take(RateClass::Default, LATER, 0).is_err());
    }

    #[test]
    fn unlimited_never_refuses_and_gives_nothing_back() {
        let mut quota = Quota::default();
        while quota.take(RateClass::Default, MonotonicNs(0), 0).is_ok() {}
        assert!((0..10_000).all(|_| quota.take(RateClass::Unlimited, MonotonicNs(0), 500).is_ok()));
        assert_eq!(quota.take(RateClass::Default, MonotonicNs(0), 0), Err(601));
    }

    /// A token of the default class made thousands of groups of 500 invented users, each a stream: only messages were
    /// counted.
    #[test]
    fn users_that_are_added_count_one_by_one() {
        let mut quota = Quota::default();
        assert_eq!(quota.take(RateClass::Default, MonotonicNs(0), 500), Ok(()));
        assert_eq!(quota.take(RateClass::Default, MonotonicNs(0), 500), Ok(()));
        assert_eq!(quota.take(RateClass::Default, MonotonicNs(0), 1), Err(601));
        // What was refused took nothing of either.
        assert!((0..98).all(|_| quota.take(RateClass::Default, MonotonicNs(0), 0).is_ok()));
        assert_eq!(quota.take(RateClass::Default, LATER, 1), Ok(()));
    }

    #[test]
    fn a_group_larger_than_the_reserve_takes_all_of_it() {
        let mut quota = Quota::default();
        assert_eq!(quota.take(RateClass::Default, MonotonicNs(0), 4096), Ok(()));
        assert_eq!(quota.take(RateClass::Default, MonotonicNs(0), 4096), Err(600_001));
        let full = MonotonicNs(600 * MonotonicNs::SECOND);
        assert_eq!(quota.take(RateClass::Default, full, 4096), Ok(()));
    }
}
