//! Devices for which an announcement is held back (decision 0020): they ask again once its second is over, also when
//! nobody writes to them and nothing comes from them. The sweep over the connections would come to them too, but takes
//! seconds where the table is large.

use crate::limits::HELD_DEVICES_MAX;
use std::collections::BTreeMap;
use tidegate_ids::{DeviceId, MonotonicNs, UserId};

/// When to look at which device, once each, at most [`HELD_DEVICES_MAX`].
#[derive(Debug, Default)]
pub(crate) struct Held {
    due: BTreeMap<(UserId, DeviceId), MonotonicNs>,
}

impl Held {
    /// Notes when a device is due, or that it is earlier than that. Past the limit it is left to the sweep.
    pub(crate) fn note(&mut self, user: UserId, device: DeviceId, due: MonotonicNs) {
        let key = (user, device);
        if let Some(noted) = self.due.get_mut(&key) {
            *noted = due.min(*noted);
        } else if self.due.len() < HELD_DEVICES_MAX {
            self.due.insert(key, due);
        }
    }

    /// Takes out the devices that are due. One whose connection is over is among them, and asks for nothing.
    pub(crate) fn take_due(&mut self, now: MonotonicNs, mut ask: impl FnMut(UserId, DeviceId)) {
        self.due.retain(|(user, device), due| {
            let waits = now < *due;
            if !waits {
                ask(*user, *device);
            }
            waits
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due_at(held: &mut Held, now: u64) -> Vec<u64> {
        let mut due = Vec::new();
        held.take_due(MonotonicNs(now), |user, _| due.push(user.0));
        due
    }

    #[test]
    fn a_device_stands_in_it_once_and_is_due_at_the_earliest() {
        let mut held = Held::default();
        for (user, due) in [(1, 50), (1, 20), (1, 90), (2, 30)] {
            held.note(UserId(user), DeviceId(7), MonotonicNs(due));
        }
        assert_eq!(due_at(&mut held, 19), []);
        assert_eq!(due_at(&mut held, 20), [1]);
        assert_eq!(due_at(&mut held, 100), [2], "the first is taken out");
    }

    #[test]
    fn it_holds_no_more_than_its_limit() {
        let mut held = Held::default();
        let count = HELD_DEVICES_MAX as u64;
        (0..count + 5).for_each(|user| held.note(UserId(user), DeviceId(7), MonotonicNs(50)));
        held.note(UserId(0), DeviceId(7), MonotonicNs(10));
        assert_eq!(due_at(&mut held, 10), [0], "who stands in it can become due earlier when it is full");
        assert_eq!(due_at(&mut held, 50).len() as u64, count - 1);
    }
}
