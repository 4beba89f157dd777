//! Command numbers: contiguous per device and conversation, judged against what is appended (DESIGN 7).

use crate::{NUMBERS_PER_CONVERSATION_MAX, Reject};
use tidegate_ids::{CommandNumber, DeviceId, Location, UserId};

/// The last command of one device in one conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastCommand {
    /// Its number.
    pub number: CommandNumber,
    /// Its record; each record links to that device's previous one.
    pub location: Location,
}

/// Records of a conversation that were damaged: what they said is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// How many.
    pub count: u64,
    /// About where the newest of them was.
    pub near: Location,
}

/// What a number means to the home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberVerdict {
    /// The next: it is accepted, and links to the device's previous record.
    Next {
        /// The device's previous record, or [`Location::NONE`].
        previous: Location,
    },
    /// Taken already: the original answer is looked up from `last` backwards.
    Duplicate {
        /// The device's last command.
        last: LastCommand,
    },
}

/// Last commands by (user, device), sorted for a binary search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceNumbers {
    entries: Vec<(UserId, DeviceId, LastCommand)>,
}

impl DeviceNumbers {
    /// Judges a number. Where records are `lost`, a device's last command may be among them: then its next number is higher
    /// than is known, by as many as were lost at most, and is accepted.
    ///
    /// # Errors
    /// [`Reject::OutOfOrder`] if it is not the next and not taken (number 0 always asks), [`Reject::Quota`] if the
    /// conversation keeps as many devices as it may.
    pub fn judge(
        &self,
        user: UserId,
        device: DeviceId,
        number: CommandNumber,
        lost: &Lost,
    ) -> Result<NumberVerdict, Reject> {
        let last = self.last(user, device);
        let expected = self.expected(user, device);
        let unknown = if last.is_none_or(|last| last.location < lost.near) { lost.count } else { 0 };
        let is_next = (expected.0..=expected.0 + unknown).contains(&number.0);
        let Some(last) = last else {
            return match is_next {
                true if self.entries.len() >= NUMBERS_PER_CONVERSATION_MAX => Err(Reject::Quota),
                true => Ok(NumberVerdict::Next { previous: Location::NONE }),
                false => Err(Reject::OutOfOrder { expected }),
            };
        };
        if is_next {
            Ok(NumberVerdict::Next { previous: last.location })
        } else if number > expected || number.0 == 0 {
            Err(Reject::OutOfOrder { expected })
        } else {
            Ok(NumberVerdict::Duplicate { last })
        }
    }

    /// The number that is accepted next.
    #[must_use]
    pub fn expected(&self, user: UserId, device: DeviceId) -> CommandNumber {
        self.last(user, device).map_or(CommandNumber::FIRST, |last| last.number.next())
    }

    /// The last command of a device, if it ever sent one here.
    #[must_use]
    pub fn last(&self, user: UserId, device: DeviceId) -> Option<LastCommand> {
        self.find(user, device).ok().map(|index| self.entries[index].2)
    }

    /// Takes a number that was judged to be the next.
    pub fn take(&mut self, user: UserId, device: DeviceId, last: LastCommand) {
        match self.find(user, device) {
            Ok(index) => {
                assert!(last.number > self.entries[index].2.number, "a number is taken once");
                self.entries[index].2 = last;
            }
            Err(index) => self.entries.insert(index, (user, device, last)),
        }
    }

    /// All entries, sorted by (user, device).
    #[must_use]
    pub fn entries(&self) -> &[(UserId, DeviceId, LastCommand)] {
        &self.entries
    }

    /// Entries as [`DeviceNumbers::entries`] gave them; `None` if they are not sorted.
    #[must_use]
    pub fn from_entries(entries: Vec<(UserId, DeviceId, LastCommand)>) -> Option<Self> {
        let sorted = entries.windows(2).all(|pair| (pair[0].0, pair[0].1) < (pair[1].0, pair[1].1));
        sorted.then_some(Self { entries })
    }

    fn find(&self, user: UserId, device: DeviceId) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&(user, device), |entry| (entry.0, entry.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_next_is_accepted() {
        let mut numbers = DeviceNumbers::default();
        let (user, device) = (UserId(1), DeviceId(2));
        let last = |number, offset| LastCommand {
            number: CommandNumber(number),
            location: Location::new(1, offset),
        };
        let lost = Lost::default();
        let judge =
            |numbers: &DeviceNumbers, number| numbers.judge(user, device, CommandNumber(number), &lost);
        assert_eq!(judge(&numbers, 1), Ok(NumberVerdict::Next { previous: Location::NONE }));
        assert_eq!(judge(&numbers, 2), Err(Reject::OutOfOrder { expected: CommandNumber(1) }));
        assert_eq!(judge(&numbers, 0), Err(Reject::OutOfOrder { expected: CommandNumber(1) }));
        numbers.take(user, device, last(1, 512));
        numbers.take(user, device, last(2, 1024));
        assert_eq!(judge(&numbers, 3), Ok(NumberVerdict::Next { previous: Location::new(1, 1024) }));
        assert_eq!(judge(&numbers, 1), Ok(NumberVerdict::Duplicate { last: last(2, 1024) }));
        assert_eq!(judge(&numbers, 0), Err(Reject::OutOfOrder { expected: CommandNumber(3) }));
        assert_eq!(judge(&numbers, 9), Err(Reject::OutOfOrder { expected: CommandNumber(3) }));
        assert_eq!(numbers.expected(user, DeviceId(3)), CommandNumber(1));
    }

    #[test]
    fn behind_damage_a_device_may_be_further_than_is_known() {
        let check = |at: u32, lost: Lost, number: u64, accepted: bool| {
            let (user, device) = (UserId(1), DeviceId(2));
            let mut numbers = DeviceNumbers::default();
            let location = Location::new(1, at);
            numbers.take(user, device, LastCommand { number: CommandNumber(5), location });
            let verdict = numbers.judge(user, device, CommandNumber(number), &lost);
            let next = matches!(verdict, Ok(NumberVerdict::Next { previous }) if previous == location);
            assert_eq!(next, accepted, "{at} {lost:?} {number}: {verdict:?}");
        };
        let lost = |count| Lost { count, near: Location::new(1, 4096) };
        check(512, Lost::default(), 7, false);
        check(512, lost(2), 6, true);
        check(512, lost(2), 8, true);
        check(512, lost(2), 9, false);
        check(512, lost(2), 5, false);
        check(8192, lost(2), 7, false);
        let stranger = DeviceNumbers::default().judge(UserId(1), DeviceId(2), CommandNumber(2), &lost(1));
        assert_eq!(stranger, Ok(NumberVerdict::Next { previous: Location::NONE }));
    }
}
