//! User records that the log has no room for at the moment: appended in their order, before newer ones.
//!
//! Without a segment this may last until an operator makes room. So what may be lost (an acknowledgement: its record is
//! pushed again; when a device was seen) is not kept then, and a range is kept once.

use crate::limits::OWED_RECORDS_MAX;
use std::collections::{BTreeMap, VecDeque};
use tidegate_domain::{QueueChange, UserRecord};
use tidegate_ids::{ConversationId, DeviceId, Sequence, UserId};

/// Records that wait for room in the log.
#[derive(Debug, Default)]
pub(crate) struct Owed {
    records: VecDeque<(UserId, UserRecord)>,
    /// Ranges among them, with the lowest sequence that one of them is from.
    ranges: BTreeMap<(UserId, DeviceId, ConversationId), Sequence>,
}

impl Owed {
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether results, which may bring more, are taken from their rings. One result is never cut, so this is passed by
    /// what one brings.
    pub(crate) fn has_place(&self) -> bool {
        self.records.len() < OWED_RECORDS_MAX
    }

    /// Keeps a record; `is_long` if nobody knows when there will be room.
    pub(crate) fn push(&mut self, user: UserId, record: UserRecord, is_long: bool) {
        match record {
            UserRecord::Seen { .. } | UserRecord::Queue { change: QueueChange::Set { .. }, .. }
                if is_long => {}
            UserRecord::Queue { device, change: QueueChange::Set { conversation, .. } } => {
                // Behind it a range must be said again.
                self.ranges.remove(&(user, device, conversation));
                self.records.push_back((user, record));
            }
            UserRecord::Queue { device, change: QueueChange::Widen { conversation, from } } => {
                let lowest = self.ranges.entry((user, device, conversation)).or_insert(Sequence(u64::MAX));
                if from < *lowest {
                    *lowest = from;
                    self.records.push_back((user, record));
                }
            }
            _ => self.records.push_back((user, record)),
        }
    }

    pub(crate) fn front(&self) -> Option<(UserId, UserRecord)> {
        self.records.front().copied()
    }

    pub(crate) fn pop(&mut self) {
        self.records.pop_front();
        if self.records.is_empty() {
            self.ranges.clear();
        }
    }

    /// Gives everything up.
    pub(crate) fn take(&mut self) -> VecDeque<(UserId, UserRecord)> {
        self.ranges.clear();
        std::mem::take(&mut self.records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_ids::WallMs;

    const CONVERSATION: ConversationId = ConversationId([0x80; 16]);

    fn queue(change: QueueChange) -> UserRecord {
        UserRecord::Queue { device: DeviceId(1), change }
    }

    fn widen(from: u64) -> UserRecord {
        queue(QueueChange::Widen { conversation: CONVERSATION, from: Sequence(from) })
    }

    #[test]
    fn on_a_full_disk_only_what_must_not_be_lost_is_kept_and_a_range_once() {
        let narrowing = queue(QueueChange::Set { conversation: CONVERSATION, from: None });
        let seen = UserRecord::Seen { device: DeviceId(1), time: WallMs(1) };
        let joined = UserRecord::Joined { conversation: CONVERSATION, at: Sequence(1) };
        let records = [widen(5), seen, narrowing, widen(7), widen(5), joined, widen(3), seen];
        let check = |is_long: bool, kept: &[UserRecord]| {
            let mut owed = Owed::default();
            records.iter().for_each(|record| owed.push(UserId(1), *record, is_long));
            let found: Vec<UserRecord> = owed.take().into_iter().map(|(_, record)| record).collect();
            assert_eq!(found, kept);
        };
        check(true, &[widen(5), joined, widen(3)]);
        check(false, &records);
    }

    #[test]
    fn a_range_is_kept_again_once_it_was_appended() {
        let mut owed = Owed::default();
        owed.push(UserId(1), widen(5), true);
        assert_eq!(owed.front(), Some((UserId(1), widen(5))));
        owed.pop();
        assert!(owed.is_empty());
        owed.push(UserId(1), widen(9), true);
        assert_eq!(owed.take().len(), 1);
    }
}
