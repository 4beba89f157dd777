//! A user: their devices with their queues, and the conversations they are or were in.
//!
//! Records of this stream have no sequence and are appended without loading a cold user: folding them is a minimum,
//! a set, or an insertion that may come twice.

use crate::{Devices, QueueChange};
use std::collections::BTreeMap;
use std::ops::Bound;
use tidegate_ids::{ConversationId, DeviceId, Sequence, UserId, UserVersion, WallMs};

/// What a user's stream says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserRecord {
    /// A device exists from here on; registered again, its queue is empty.
    Registered {
        /// Which.
        device: DeviceId,
        /// When.
        time: WallMs,
    },
    /// A device is no more: evicted or revoked.
    Removed {
        /// Which.
        device: DeviceId,
    },
    /// A device was seen.
    Seen {
        /// Which.
        device: DeviceId,
        /// When.
        time: WallMs,
    },
    /// One device's queue changed.
    Queue {
        /// Whose.
        device: DeviceId,
        /// How.
        change: QueueChange,
    },
    /// A record came for a user that is not in memory: every device but its author's is owed it.
    WidenAll {
        /// The author's device, if the author is this user.
        except: Option<DeviceId>,
        /// Of which conversation.
        conversation: ConversationId,
        /// From which sequence.
        from: Sequence,
    },
    /// The user is in a conversation from this sequence on; a direct one by its first message.
    Joined {
        /// Which.
        conversation: ConversationId,
        /// The sequence of the record that says so.
        at: Sequence,
    },
    /// The user is not in the conversation after this sequence.
    Left {
        /// Which.
        conversation: ConversationId,
        /// The sequence of the record that says so.
        at: Sequence,
    },
}

/// A conversation in a user's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConversationEntry {
    /// The last time the user came.
    pub joined: Sequence,
    /// The user has gone since.
    pub left: Option<Sequence>,
    /// The list's version at the last change of this entry.
    pub version: UserVersion,
}

/// The fold of a user's stream.
#[derive(Clone, Debug)]
pub struct User {
    /// Who.
    pub id: UserId,
    /// Their devices.
    pub devices: Devices,
    conversations: BTreeMap<ConversationId, ConversationEntry>,
    /// The same by the version of their last change, so that a page of the list is found without going over all of it.
    changes: BTreeMap<UserVersion, ConversationId>,
    /// Counts the changes of the list.
    pub version: UserVersion,
}

impl User {
    /// A user of whom nothing is known yet.
    #[must_use]
    pub fn new(id: UserId) -> Self {
        let (conversations, changes) = (BTreeMap::new(), BTreeMap::new());
        Self { id, devices: Devices::default(), conversations, changes, version: UserVersion(0) }
    }

    /// The conversations they are or were in, by id.
    #[must_use]
    pub const fn conversations(&self) -> &BTreeMap<ConversationId, ConversationEntry> {
        &self.conversations
    }

    /// The conversations whose last change is after this version, in the order of these changes.
    pub fn changed_after(
        &self,
        version: UserVersion,
    ) -> impl DoubleEndedIterator<Item = (ConversationId, ConversationEntry)> {
        let changes = self.changes.range((Bound::Excluded(version), Bound::Unbounded));
        changes.filter_map(|(_, id)| Some((*id, *self.conversations.get(id)?)))
    }

    /// The conversations whose last change is before this version, the newest change first.
    pub fn changed_before(
        &self,
        version: UserVersion,
    ) -> impl Iterator<Item = (ConversationId, ConversationEntry)> {
        let changes = self.changes.range(..version).rev();
        changes.filter_map(|(_, id)| Some((*id, *self.conversations.get(id)?)))
    }

    /// Puts a conversation into the list as a state has it.
    pub fn restore(&mut self, conversation: ConversationId, entry: ConversationEntry) {
        let before = self.conversations.insert(conversation, entry);
        if let Some(before) = before {
            self.changes.remove(&before.version);
        }
        self.changes.insert(entry.version, conversation);
    }

    /// Takes a conversation out of the list, which is a change of it: who has seen the list as it was may have seen a change
    /// of this conversation counted that is never counted here, and versions must not fall behind what clients were told.
    pub(crate) fn unlist(&mut self, conversation: &ConversationId) {
        if let Some(entry) = self.conversations.remove(conversation) {
            self.changes.remove(&entry.version);
            self.version.0 += 1;
        }
    }

    /// Forgets so many ranges and conversations of somebody whom nobody needs in memory any more; true once all are gone. To let
    /// go of half a million ranges at once takes some ten milliseconds.
    pub fn forget_entries(&mut self, mut entries: usize) -> bool {
        for device in self.devices.iter_mut() {
            while device.queue.range_count() > 0 {
                if entries == 0 {
                    return false;
                }
                entries -= usize::from(device.queue.forget_range());
            }
        }
        while let Some((version, conversation)) = self.changes.pop_first() {
            if entries == 0 {
                self.changes.insert(version, conversation);
                return false;
            }
            self.conversations.remove(&conversation);
            entries -= 1;
        }
        true
    }

    /// The only mutation of what is durable: live, in recovery, and when the stream is loaded.
    pub fn apply(&mut self, record: &UserRecord) {
        match *record {
            UserRecord::Registered { device, time } => self.devices.register(device, time),
            UserRecord::Removed { device } => self.devices.remove(device),
            UserRecord::Seen { device, time } => self.devices.saw(device, time),
            UserRecord::Queue { device, change } => {
                if let Some(device) = self.devices.get_mut(device) {
                    device.queue.apply(&change);
                }
            }
            UserRecord::WidenAll { except, conversation, from } => {
                let change = QueueChange::Widen { conversation, from };
                let others = self.devices.iter_mut().filter(|device| Some(device.id) != except);
                others.for_each(|device| device.queue.apply(&change));
            }
            UserRecord::Joined { conversation, at } => self.join(conversation, at),
            UserRecord::Left { conversation, at } => self.leave(&conversation, at),
        }
    }

    fn join(&mut self, conversation: ConversationId, at: Sequence) {
        let known = self.conversations.get(&conversation).is_some_and(|entry| entry.joined >= at);
        if known {
            return;
        }
        self.version.0 += 1;
        let entry = ConversationEntry { joined: at, left: None, version: self.version };
        self.restore(conversation, entry);
    }

    fn leave(&mut self, conversation: &ConversationId, at: Sequence) {
        let Some(entry) = self.conversations.get(conversation) else { return };
        if entry.left.is_none() && entry.joined < at {
            self.version.0 += 1;
            let entry = ConversationEntry { left: Some(at), version: self.version, ..*entry };
            self.restore(*conversation, entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: ConversationId = ConversationId([0x80; 16]);

    #[test]
    fn a_widening_of_all_skips_the_author_and_devices_that_register_later() {
        let mut user = User::new(UserId(1));
        let register = |id| UserRecord::Registered { device: DeviceId(id), time: WallMs(1) };
        user.apply(&register(1));
        user.apply(&register(2));
        user.apply(&UserRecord::WidenAll {
            except: Some(DeviceId(1)),
            conversation: GROUP,
            from: Sequence(7),
        });
        user.apply(&register(3));
        let counts: Vec<usize> = user.devices.iter().map(|device| device.queue.range_count()).collect();
        assert_eq!(counts, [0, 1, 0]);
    }

    #[test]
    fn somebody_large_is_forgotten_a_few_entries_at_a_time() {
        let mut user = User::new(UserId(1));
        for device in [1, 2].map(DeviceId) {
            user.apply(&UserRecord::Registered { device, time: WallMs(1) });
        }
        for number in 0..10 {
            let (conversation, at) = (ConversationId([0x80 + number; 16]), Sequence(1));
            user.apply(&UserRecord::Joined { conversation, at });
            user.apply(&UserRecord::WidenAll { except: None, conversation, from: at });
        }
        let entries = |user: &User| -> usize {
            let ranges = user.devices.iter().map(|device| device.queue.range_count());
            ranges.sum::<usize>() + user.conversations().len()
        };
        for left in [23, 16, 9, 2] {
            assert!(!user.forget_entries(7));
            assert_eq!(entries(&user), left);
            user.devices.iter().for_each(|device| device.queue.assert_invariants());
        }
        assert!(user.forget_entries(7) && entries(&user) == 0);
        assert!(user.changes.is_empty() && user.forget_entries(0));
    }

    #[test]
    fn joining_and_leaving_twice_changes_nothing() {
        let mut user = User::new(UserId(1));
        let joined = UserRecord::Joined { conversation: GROUP, at: Sequence(3) };
        let left = UserRecord::Left { conversation: GROUP, at: Sequence(5) };
        for record in [joined, joined, left, left, joined] {
            user.apply(&record);
        }
        assert_eq!(user.version, UserVersion(2));
        assert_eq!(user.conversations[&GROUP].left, Some(Sequence(5)));
        user.apply(&UserRecord::Joined { conversation: GROUP, at: Sequence(9) });
        assert_eq!(user.conversations[&GROUP].left, None);
    }

    #[test]
    fn the_list_is_found_by_its_changes() {
        let mut user = User::new(UserId(1));
        let group = |number: u8| ConversationId([0x80 + number; 16]);
        for number in [5, 3, 9] {
            user.apply(&UserRecord::Joined { conversation: group(number), at: Sequence(1) });
        }
        user.apply(&UserRecord::Left { conversation: group(3), at: Sequence(4) });
        let after = |version| -> Vec<ConversationId> {
            user.changed_after(UserVersion(version)).map(|(id, _)| id).collect()
        };
        assert_eq!(after(0), [group(5), group(9), group(3)]);
        assert_eq!((after(3), after(4)), (vec![group(3)], vec![]));
        let before: Vec<ConversationId> = user.changed_before(UserVersion(4)).map(|(id, _)| id).collect();
        assert_eq!(before, [group(9), group(5)]);
        assert_eq!(
            user.changed_after(UserVersion(3)).next().map(|(_, entry)| entry.left),
            Some(Some(Sequence(4)))
        );
    }
}
