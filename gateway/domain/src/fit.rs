//! What a user gives up whose state is larger than what keeps it can hold (decision 0021).
//!
//! Everybody who may write to a user makes their state larger, so that it is too large may be no error. What the user's
//! clients can make good by themselves goes first: the queue of a device, which goes with its device, so that it is new when
//! it comes back and synchronises from the heads of all conversations. A device that is connected meanwhile loses nothing:
//! records of a device that is not known change nothing, and memory still has its queue.

use crate::{Device, User};
use tidegate_ids::{ConversationId, DeviceId};

/// A state that is made to fit takes so much of what it may at most, in parts of [`KEPT_OF`]: what comes until the next one is
/// written finds room, and nothing more is given up for each record of it.
const KEPT_PARTS: usize = 3;
/// See above.
const KEPT_OF: usize = 4;

/// Bytes that each part of a user's state takes where it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserStateBytes {
    /// What every state has.
    pub user: usize,
    /// A device without ranges.
    pub device: usize,
    /// An open range of a device.
    pub range: usize,
    /// A conversation of the list.
    pub conversation: usize,
}

/// What a user has given up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GivenUp {
    /// Devices that are not known any more, in the order in which they went.
    pub devices: Vec<DeviceId>,
    /// Ranges that their queues had.
    pub ranges: usize,
    /// Conversations that are not listed any more.
    pub conversations: usize,
    /// Of these, those that the user had left.
    pub conversations_left: usize,
}

impl GivenUp {
    /// Whether it is nothing.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        self.devices.is_empty() && self.conversations == 0
    }
}

impl User {
    /// Bytes of this user's state.
    #[must_use]
    pub fn state_bytes(&self, each: &UserStateBytes) -> usize {
        let ranges: usize = self.devices.iter().map(|device| device.queue.range_count()).sum();
        each.user
            + self.devices.count() * each.device
            + ranges * each.range
            + self.conversations().len() * each.conversation
    }

    /// Gives up what is needed for a state of at most so many bytes, and a quarter of them more, so that the next one need not
    /// do it again. Nothing if it fits.
    ///
    /// Devices go first, the one with the most ranges before the others; of equal ones that which is unseen longest. Only if
    /// the list alone is too large, conversations go: those that the user has left, then the others, the oldest change first.
    pub fn make_fit(&mut self, bytes_max: usize, each: &UserStateBytes, given_up: &mut GivenUp) {
        if self.state_bytes(each) <= bytes_max {
            return;
        }
        let kept_bytes = bytes_max / KEPT_OF * KEPT_PARTS;
        while self.state_bytes(each) > kept_bytes
            && let Some((device, ranges)) = self.largest_queue()
        {
            self.devices.remove(device);
            given_up.devices.push(device);
            given_up.ranges += ranges;
        }
        let bytes = self.state_bytes(each);
        if bytes > bytes_max {
            self.shorten_list((bytes - kept_bytes).div_ceil(each.conversation), given_up);
        }
    }

    /// The device whose queue goes first, and how many ranges that has; `None` if no device has any.
    fn largest_queue(&self) -> Option<(DeviceId, usize)> {
        let order =
            |device: &&Device| (std::cmp::Reverse(device.queue.range_count()), device.seen, device.id);
        let first = self.devices.iter().min_by_key(order)?;
        let ranges = first.queue.range_count();
        (ranges > 0).then_some((first.id, ranges))
    }

    fn shorten_list(&mut self, count: usize, given_up: &mut GivenUp) {
        let (left, present): (Vec<_>, Vec<_>) =
            self.changed_after(Default::default()).partition(|(_, entry)| entry.left.is_some());
        given_up.conversations_left += count.min(left.len());
        let going: Vec<ConversationId> =
            left.iter().chain(&present).take(count).map(|(conversation, _)| *conversation).collect();
        given_up.conversations += going.len();
        going.iter().for_each(|conversation| self.unlist(conversation));
    }
}

#[cfg(test)]
#[path = "fit/tests.rs"]
mod tests;
