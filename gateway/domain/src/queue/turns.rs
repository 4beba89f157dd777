//! Whose turn it is: the oldest range first, and after so many records of it the next that has more.
//!
//! A range that grows as fast as its device takes it has more after every piece. Were the oldest asked for each time, nothing
//! else would reach that device.

use super::{AskedRange, DeviceQueue, Link, Opened};
use crate::WindowPool;
use crate::limits::TURN_RECORDS_MAX;
use std::ops::Bound;
use tidegate_ids::{ConversationId, MonotonicNs};

/// The range that is drained.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drained {
    conversation: ConversationId,
    opened: Opened,
    /// Records of it that were pushed since its turn began.
    pushed: u64,
}

impl DeviceQueue {
    /// The next piece to ask for, computed from state: connected, credit, none in flight, something to ask that is
    /// not held back. Asking is the caller's; a request that was refused leaves everything as it was, one that left is told to
    /// [`DeviceQueue::asked`].
    pub fn next_ask(&mut self, pool: &WindowPool, now: MonotonicNs) -> Option<AskedRange> {
        self.release_held(now);
        if self.link != Link::Up || self.asked.is_some() || !self.window.has_credit(pool) {
            return None;
        }
        let opened = self.next_waiting()?;
        let conversation = *self.order.get(&opened)?;
        Some(AskedRange { conversation, from: self.known(&conversation)?.next })
    }

    /// The request for this range has left.
    pub fn asked(&mut self, range: &AskedRange) {
        assert!(self.asked.is_none(), "one request is in flight at a time");
        self.asked = Some(range.conversation);
        let Some(opened) = self.ranges.get(&range.conversation).map(|range| range.opened) else { return };
        if !self.is_at_turn(opened) {
            self.drained = Some(Drained { conversation: range.conversation, opened, pushed: 0 });
        }
    }

    /// A record of an answer was pushed.
    pub(super) fn note_drained(&mut self, conversation: &ConversationId) {
        if let Some(drained) = self.drained.as_mut().filter(|drained| drained.conversation == *conversation) {
            drained.pushed += 1;
        }
    }

    /// Whether a range is drained now, and its turn is not over.
    fn is_at_turn(&self, opened: Opened) -> bool {
        self.drained.is_some_and(|drained| drained.opened == opened && drained.pushed < TURN_RECORDS_MAX)
    }

    /// The range to ask for: the one whose turn it is, or else the next that has more, in the order in which they opened and
    /// round again.
    pub(super) fn next_waiting(&mut self) -> Option<Opened> {
        let before = self.drained.map(|drained| drained.opened);
        if let Some(opened) =
            before.filter(|opened| self.is_at_turn(*opened) && self.waiting.contains(opened))
        {
            return Some(opened);
        }
        let after = before.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.waiting.range((after, Bound::Unbounded)).next().copied();
        behind.or_else(|| self.next_untouched()).or_else(|| self.waiting.first().copied())
    }

    /// The oldest range that has more among those that this connection has not looked at.
    fn next_untouched(&mut self) -> Option<Opened> {
        loop {
            let (opened, conversation) = self.order.range(self.waiting_from..).next()?;
            let (opened, conversation) = (*opened, *conversation);
            self.waiting_from = Opened(opened.0 + 1);
            self.settle(&conversation);
            if self.waiting.contains(&opened) {
                return Some(opened);
            }
        }
    }

    /// Notes whether a range that was looked at has more, and may be asked for.
    pub(super) fn settle(&mut self, conversation: &ConversationId) {
        let Some(range) = self.ranges.get(conversation) else { return };
        if range.opened >= self.waiting_from || self.link == Link::Down {
            return;
        }
        let has_more = self.known(conversation).is_some_and(|progress| progress.has_more());
        if has_more && !self.is_held(conversation) {
            self.waiting.insert(range.opened);
        } else {
            self.waiting.remove(&range.opened);
        }
    }
}

#[cfg(test)]
#[path = "turns/tests.rs"]
mod tests;
