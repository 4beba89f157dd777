//! Announcements of ranges that are too long to push, none of a conversation twice within a second (decision 0020).
//!
//! A range that would be announced again too soon is held back: it stays as it is and is not asked for before its second is
//! over; then it is asked for again, and announced up to the head of then. What was announced is remembered apart from
//! the ranges, since a device that acknowledges quickly has none left to ask; it ends with the connection.

use super::{Answer, DeviceQueue};
use crate::limits::{ANNOUNCE_INTERVAL_NS_MIN, ANNOUNCED_MAX};
use crate::{WindowEntry, WindowPool};
use std::collections::BTreeMap;
use tidegate_ids::{ConversationId, MonotonicNs, PushNumber};

/// What becomes of an answer that says that a range is too long to push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// Announce it now, under this number.
    Push(PushNumber),
    /// Its conversation was announced less than a second ago: it waits.
    Held,
    /// The window is full, or the range is gone: nothing has changed.
    Nothing,
}

/// A conversation that was announced.
#[derive(Clone, Copy, Debug)]
struct Last {
    /// From then on it may be announced again.
    until: MonotonicNs,
    /// Whether more of it waits for that.
    is_held: bool,
}

/// What was announced within the last second, at most [`ANNOUNCED_MAX`] conversations.
#[derive(Clone, Debug, Default)]
pub(super) struct Announced {
    last: BTreeMap<ConversationId, Last>,
    /// When the first of those that are held back may be announced.
    held_until: Option<MonotonicNs>,
}

impl Announced {
    fn look_for_held(&mut self) {
        self.held_until = self.last.values().filter(|last| last.is_held).map(|last| last.until).min();
    }
}

impl DeviceQueue {
    /// The range is too long to push: it is announced up to its head, numbered, and stays in the window, where it counts as
    /// its first record: what is not acknowledged reaches down to there. If the conversation was announced less than
    /// [`ANNOUNCE_INTERVAL_NS_MIN`] ago, it is held back instead.
    pub fn push_dirty(
        &mut self,
        answer: &Answer,
        bytes: u32,
        pool: &mut WindowPool,
        now: MonotonicNs,
    ) -> Announcement {
        let conversation = answer.conversation;
        if self.ranges.contains_key(&conversation) && self.hold(&conversation, now) {
            return Announcement::Held;
        }
        if !self.window.has_credit(pool) {
            return Announcement::Nothing;
        }
        let Some(progress) = self.touch(&conversation) else { return Announcement::Nothing };
        let entry = WindowEntry { conversation, sequence: progress.next, bytes };
        progress.next = progress.next.max(answer.covered.next());
        progress.complete = Some(answer.covered.max(progress.seen));
        self.settle(&conversation);
        self.note_announced(conversation, now);
        Announcement::Push(self.window.push(pool, entry))
    }

    /// When the first range that is held back may be announced; `None` if none is.
    #[must_use]
    pub fn held_until(&self) -> Option<MonotonicNs> {
        self.announced.as_ref()?.held_until
    }

    /// Forgets what was announced more than a second ago; ranges that were held back for it wait to be asked for again.
    pub fn forget_announced(&mut self, now: MonotonicNs) {
        let Some(mut announced) = self.announced.take() else { return };
        announced.last.retain(|conversation, last| {
            let is_over = last.until <= now;
            if is_over && last.is_held {
                // Nothing is held while the table is taken out.
                self.settle(conversation);
            }
            !is_over
        });
        announced.look_for_held();
        self.announced = (!announced.last.is_empty()).then_some(announced);
    }

    /// Lets go of the ranges whose second is over.
    pub(super) fn release_held(&mut self, now: MonotonicNs) {
        if self.held_until().is_some_and(|until| until <= now) {
            self.forget_announced(now);
        }
    }

    pub(super) fn is_held(&self, conversation: &ConversationId) -> bool {
        let last = self.announced.as_ref().and_then(|announced| announced.last.get(conversation));
        last.is_some_and(|last| last.is_held)
    }

    /// The range is gone: what opens of its conversation next may be short enough to push.
    pub(super) fn unhold(&mut self, conversation: &ConversationId) {
        let Some(announced) = &mut self.announced else { return };
        let Some(last) = announced.last.get_mut(conversation).filter(|last| last.is_held) else { return };
        last.is_held = false;
        announced.look_for_held();
    }

    /// Whether the conversation was announced less than a second ago; then its range waits until that is over.
    fn hold(&mut self, conversation: &ConversationId, now: MonotonicNs) -> bool {
        let Some(announced) = &mut self.announced else { return false };
        let Some(last) = announced.last.get_mut(conversation).filter(|last| now < last.until) else {
            return false;
        };
        last.is_held = true;
        announced.look_for_held();
        self.settle(conversation);
        true
    }

    /// Past [`ANNOUNCED_MAX`] the oldest is forgotten, and may be announced again at once.
    fn note_announced(&mut self, conversation: ConversationId, now: MonotonicNs) {
        self.forget_announced(now);
        let mut announced = self.announced.take().unwrap_or_default();
        if announced.last.len() >= ANNOUNCED_MAX {
            let oldest = announced.last.iter().min_by_key(|(_, last)| last.until).map(|(id, _)| *id);
            if let Some(oldest) = oldest {
                announced.last.remove(&oldest);
                self.settle(&oldest);
            }
        }
        let until = now.after(ANNOUNCE_INTERVAL_NS_MIN);
        announced.last.insert(conversation, Last { until, is_held: false });
        announced.look_for_held();
        self.announced = Some(announced);
    }

    /// Checks what must always hold of announcements.
    pub(super) fn assert_announced(&self) {
        let Some(announced) = &self.announced else { return };
        assert!(self.is_connected(), "what was announced ends with its connection");
        assert!((1..=ANNOUNCED_MAX).contains(&announced.last.len()));
        let held = || announced.last.iter().filter(|(_, last)| last.is_held);
        assert_eq!(held().map(|(_, last)| last.until).min(), announced.held_until);
        assert!(held().all(|(id, _)| self.ranges.contains_key(id)), "only a range is held back");
    }
}

#[cfg(test)]
#[path = "announced/tests.rs"]
mod tests;
