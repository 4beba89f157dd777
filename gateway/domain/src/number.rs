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
    /// Judges a number. Behind damage a device may have been further than is known: its number is out of order like any
    /// other, and it goes on from the one that is expected (decision 0018).
    ///
    /// # Errors
    /// [`Reject::OutOfOrder`] if it is not the next and not taken (number 0 always asks), [`Reject::Quota`] if the
    /// conversation keeps as many devices as it may.
    pub fn judge(
        &self,
        user: UserId,
        device: DeviceId,
        number: CommandNumber,
    ) -> Result<NumberVerdict, Reject> {
        let expected = self.expected(user, device);
        let is_next = number == expected;
        let Some(last) = self.last(user, device) else {
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

    /// Takes a number that was judged to be the next, in the order of the log. Behind damage it may be one that was taken
    /// before by a record that could not be read then and can be now: the later one counts.
    pub fn take(&mut self, user: UserId, device: DeviceId, last: LastCommand) {
        match self.find(user, device) {
            Ok(index) => {
                assert!(last.location > self.entries[index].2.location, "records are taken in their order");
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
        let judge = |numbers: &DeviceNumbers, number| numbers.judge(user, device, CommandNumber(number));
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

    /// A record could not be read when its conversation was loaded, and its number went to the device's next command; at a
    /// later start it could be read again.
    #[test]
    fn of_two_records_with_a_number_the_later_counts() {
        let mut numbers = DeviceNumbers::default();
        let (user, device) = (UserId(1), DeviceId(2));
        let command = |number, offset| LastCommand {
            number: CommandNumber(number),
            location: Location::new(1, offset),
        };
        for (number, offset) in [(5, 512), (6, 1024), (5, 2048)] {
            numbers.take(user, device, command(number, offset));
        }
        assert_eq!(numbers.last(user, device), Some(command(5, 2048)));
        assert_eq!(numbers.expected(user, device), CommandNumber(6));
    }
}
