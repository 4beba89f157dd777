//! A device's queue: a set of open ranges, and the window of its connection (DESIGN 6).
//!
//! The rules are those that held in the delivery model; the sentences that look pedantic each have a schedule that
//! loses a message without them. In memory a range is (`from`, `next`, `seen`, `complete`). Only acknowledgement
//! narrows; doing anything twice changes nothing; what must survive a crash is told as a [`QueueChange`].

use crate::{Window, WindowEntry, WindowPool};
use std::collections::{BTreeMap, VecDeque};
use tidegate_ids::{ConversationId, PushNumber, Sequence};

/// An open range of one conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenRange {
    /// The lowest sequence that is perhaps not acknowledged.
    pub from: Sequence,
    /// The next to push on this connection.
    pub next: Sequence,
    /// The highest consumed here, also while an answer is in flight.
    pub seen: Sequence,
    /// How far is known to be owed: the last complete answer, raised by what was consumed since. Unknown after
    /// recovery and at every connect.
    pub complete: Option<Sequence>,
}

impl OpenRange {
    const fn unknown(from: Sequence) -> Self {
        Self { from, next: from, seen: Sequence(0), complete: None }
    }

    fn has_more(&self) -> bool {
        self.complete.is_none_or(|complete| self.next <= complete)
    }
}

/// A change of the durable set, to be written as a record of the user's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueChange {
    /// At least from here: folded as a minimum.
    Widen {
        /// Of which conversation.
        conversation: ConversationId,
        /// The lowest sequence.
        from: Sequence,
    },
    /// Exactly from here, or removed.
    Set {
        /// Of which conversation.
        conversation: ConversationId,
        /// The new lowest unacknowledged sequence; `None`: removed.
        from: Option<Sequence>,
    },
}

/// What becomes of a consumed record for one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consumed {
    /// Push it now, under this number.
    Push(PushNumber),
    /// It is covered by an open range.
    Queued,
}

/// A piece of a range to ask the conversation's home for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskedRange {
    /// Of which conversation.
    pub conversation: ConversationId,
    /// The first sequence wanted.
    pub from: Sequence,
}

/// The head of a home's answer to an asked range; its records follow one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Of which conversation.
    pub conversation: ConversationId,
    /// As asked.
    pub from: Sequence,
    /// How far the answer covers, counting sequences not owed to this user as covered.
    pub covered: Sequence,
    /// Whether that is the head.
    pub complete: bool,
}

/// A record to push under a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Push {
    /// The push number.
    pub number: PushNumber,
    /// The record's sequence.
    pub sequence: Sequence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Down,
    /// Connected, the Welcome waits for its commit.
    Connecting,
    Up,
}

/// The queue of one device.
#[derive(Clone, Debug)]
pub struct DeviceQueue {
    ranges: BTreeMap<ConversationId, OpenRange>,
    /// Conversations in the order their ranges opened; entries without a range are skipped.
    order: VecDeque<ConversationId>,
    window: Window,
    link: Link,
    asked: Option<ConversationId>,
    drain_done: bool,
}

impl Default for DeviceQueue {
    fn default() -> Self {
        let (ranges, order) = (BTreeMap::new(), VecDeque::new());
        Self { ranges, order, window: Window::new(1), link: Link::Down, asked: None, drain_done: true }
    }
}

impl DeviceQueue {
    /// Ranges, sorted by conversation.
    pub fn ranges(&self) -> impl Iterator<Item = (&ConversationId, &OpenRange)> {
        self.ranges.iter()
    }

    /// How many ranges are open.
    #[must_use]
    pub fn range_count(&self) -> usize {
        self.ranges.len()
    }

    /// The window of the present connection.
    #[must_use]
    pub const fn window(&self) -> &Window {
        &self.window
    }

    /// Whether a connection holds this queue.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.link != Link::Down
    }

    /// A connection begins. Ranges start from their durable end again, and how far they reach is unknown.
    pub fn connect(&mut self, credit: u16) {
        assert_eq!(self.link, Link::Down, "the connection before was ended");
        assert_eq!(self.window.count(), 0, "its window was turned into ranges");
        self.window = Window::new(credit);
        self.link = Link::Connecting;
        self.asked = None;
        self.drain_done = false;
        for range in self.ranges.values_mut() {
            range.next = range.from;
            range.complete = None;
        }
    }

    /// The Welcome has left: pushes may follow.
    pub fn welcomed(&mut self) {
        if self.link == Link::Connecting {
            self.link = Link::Up;
        }
    }

    /// The connection is over: its window becomes ranges, and all of them are told as durable changes.
    pub fn disconnect(&mut self, pool: &mut WindowPool, mut tell: impl FnMut(QueueChange)) {
        if self.link == Link::Down {
            return;
        }
        self.link = Link::Down;
        self.asked = None;
        while let Some(entry) = self.window.pop(pool, PushNumber(u64::MAX)) {
            self.open(entry.conversation, entry.sequence);
        }
        for (conversation, range) in &mut self.ranges {
            range.next = range.from;
            tell(QueueChange::Widen { conversation: *conversation, from: range.from });
        }
    }

    /// A record owed to this device was consumed from the conversation's home.
    pub fn consume(
        &mut self,
        entry: WindowEntry,
        pool: &mut WindowPool,
        mut tell: impl FnMut(QueueChange),
    ) -> Consumed {
        let (conversation, sequence) = (entry.conversation, entry.sequence);
        let can_push = self.link == Link::Up && self.window.has_credit(pool);
        let Some(range) = self.ranges.get_mut(&conversation) else {
            if can_push {
                return Consumed::Push(self.window.push(pool, entry));
            }
            self.open_at_head(conversation, sequence);
            if self.link == Link::Down {
                tell(QueueChange::Widen { conversation, from: sequence });
            }
            return Consumed::Queued;
        };
        range.seen = range.seen.max(sequence);
        let pushed_out = range.complete.is_some_and(|complete| complete < sequence);
        if can_push && range.next == sequence && pushed_out {
            range.next = sequence.next();
            range.complete = Some(sequence);
            return Consumed::Push(self.window.push(pool, entry));
        }
        range.complete = range.complete.map(|complete| complete.max(sequence));
        if sequence < range.from {
            range.from = sequence;
            range.next = if self.link == Link::Down { sequence } else { range.next.min(sequence) };
            if self.link == Link::Down {
                tell(QueueChange::Widen { conversation, from: sequence });
            }
        }
        Consumed::Queued
    }

    /// The next piece to ask for, computed from state: connected, credit, none in flight, something to ask. Asking is
    /// the caller's; a request that was refused leaves everything as it was, one that left is told to
    /// [`DeviceQueue::asked`].
    pub fn next_ask(&mut self, pool: &WindowPool) -> Option<AskedRange> {
        if self.link != Link::Up || self.asked.is_some() || !self.window.has_credit(pool) {
            return None;
        }
        while self.order.front().is_some_and(|conversation| !self.ranges.contains_key(conversation)) {
            self.order.pop_front();
        }
        let ready =
            |conversation: &&ConversationId| self.ranges.get(*conversation).is_some_and(OpenRange::has_more);
        let conversation = *self.order.iter().find(ready)?;
        Some(AskedRange { conversation, from: self.ranges[&conversation].next })
    }

    /// The request for this range has left.
    pub fn asked(&mut self, range: &AskedRange) {
        assert!(self.asked.is_none(), "one request is in flight at a time");
        self.asked = Some(range.conversation);
    }

    /// An answer of this connection's generation has come, or its refusal: another may be asked.
    pub fn answered(&mut self) {
        self.asked = None;
    }

    /// Whether an answer still fits: its range is open, and it does not begin above the range's present `next`.
    #[must_use]
    pub fn accepts(&self, answer: &Answer) -> bool {
        let range = self.ranges.get(&answer.conversation);
        self.link == Link::Up && range.is_some_and(|range| answer.from <= range.next)
    }

    /// One record of an accepted answer. `Ok(None)`: below `next`, or the device's own, nothing to push.
    ///
    /// # Errors
    /// No credit: the rest of the answer is dropped and asked again.
    pub fn push_answered(
        &mut self,
        entry: WindowEntry,
        own: bool,
        pool: &mut WindowPool,
    ) -> Result<Option<Push>, NoCredit> {
        let Some(range) = self.ranges.get_mut(&entry.conversation) else { return Ok(None) };
        if entry.sequence < range.next {
            return Ok(None);
        }
        if own {
            range.next = entry.sequence.next();
            return Ok(None);
        }
        if !self.window.has_credit(pool) {
            return Err(NoCredit);
        }
        range.next = entry.sequence.next();
        let number = self.window.push(pool, entry);
        Ok(Some(Push { number, sequence: entry.sequence }))
    }

    /// All records of an accepted answer were taken: what it covers without a record moves the range by itself.
    pub fn finish_answer(&mut self, answer: &Answer, pool: &WindowPool, tell: impl FnMut(QueueChange)) {
        if let Some(range) = self.ranges.get_mut(&answer.conversation) {
            range.next = range.next.max(answer.covered.next());
            if answer.complete {
                range.complete = Some(answer.covered.max(range.seen));
            }
        }
        self.narrow(&answer.conversation, pool, tell);
    }

    /// An accepted answer was cut short for want of credit.
    pub fn cut_answer(&mut self, answer: &Answer, pool: &WindowPool, tell: impl FnMut(QueueChange)) {
        self.narrow(&answer.conversation, pool, tell);
    }

    /// The range is too long to push: it is announced up to its head, numbered, and stays in the window, where it counts as
    /// its first record: what is not acknowledged reaches down to there.
    pub fn push_dirty(&mut self, answer: &Answer, bytes: u32, pool: &mut WindowPool) -> Option<PushNumber> {
        if !self.window.has_credit(pool) {
            return None;
        }
        let range = self.ranges.get_mut(&answer.conversation)?;
        let entry = WindowEntry { conversation: answer.conversation, sequence: range.next, bytes };
        range.next = range.next.max(answer.covered.next());
        range.complete = Some(answer.covered.max(range.seen));
        Some(self.window.push(pool, entry))
    }

    /// The device has stored everything up to this push number.
    ///
    /// # Errors
    /// The number is above what was pushed.
    pub fn acknowledge(
        &mut self,
        up_to: PushNumber,
        pool: &mut WindowPool,
        mut tell: impl FnMut(QueueChange),
    ) -> Result<(), AboveWindow> {
        if up_to > self.window.pushed() {
            return Err(AboveWindow);
        }
        let mut touched: Option<ConversationId> = None;
        while let Some(entry) = self.window.pop(pool, up_to) {
            if touched == Some(entry.conversation) || !self.ranges.contains_key(&entry.conversation) {
                continue;
            }
            if let Some(before) = touched.replace(entry.conversation) {
                self.narrow(&before, pool, &mut tell);
            }
        }
        if let Some(last) = touched {
            self.narrow(&last, pool, &mut tell);
        }
        Ok(())
    }

    /// Whether `DrainDone` is due: every range that waited has been pushed or announced. True once per connection.
    pub fn take_drain_done(&mut self) -> bool {
        let due = self.link == Link::Up && !self.drain_done && self.asked.is_none();
        let done = due && !self.ranges.values().any(OpenRange::has_more);
        self.drain_done |= done;
        done
    }

    /// Folds a durable change.
    pub fn apply(&mut self, change: &QueueChange) {
        match *change {
            QueueChange::Widen { conversation, from } => self.open(conversation, from),
            QueueChange::Set { conversation, from: Some(from) } => {
                self.ranges.remove(&conversation);
                self.open(conversation, from);
            }
            QueueChange::Set { conversation, from: None } => {
                self.ranges.remove(&conversation);
            }
        }
    }

    /// What a checkpoint must add for a connected device: its ranges and its window as ranges.
    pub fn checkpoint(&self, pool: &WindowPool, mut tell: impl FnMut(QueueChange)) {
        if self.link == Link::Down {
            return;
        }
        for (conversation, range) in &self.ranges {
            tell(QueueChange::Widen { conversation: *conversation, from: range.from });
        }
        let mut lowest: BTreeMap<ConversationId, Sequence> = BTreeMap::new();
        for entry in self.window.entries(pool) {
            let low = lowest.entry(entry.conversation).or_insert(entry.sequence);
            *low = (*low).min(entry.sequence);
        }
        for (conversation, from) in lowest {
            tell(QueueChange::Widen { conversation, from });
        }
    }

    fn open(&mut self, conversation: ConversationId, from: Sequence) {
        match self.ranges.get_mut(&conversation) {
            Some(range) => {
                range.from = range.from.min(from);
                range.next = range.next.min(range.from);
            }
            None => self.insert(conversation, OpenRange::unknown(from)),
        }
    }

    fn open_at_head(&mut self, conversation: ConversationId, at: Sequence) {
        self.insert(conversation, OpenRange { from: at, next: at, seen: at, complete: Some(at) });
    }

    fn insert(&mut self, conversation: ConversationId, range: OpenRange) {
        self.ranges.insert(conversation, range);
        self.order.retain(|other| *other != conversation);
        self.order.push_back(conversation);
    }

    /// Moves a range's lower end to what is not acknowledged, and removes it only when everything up to `seen` and up
    /// to the last complete answer is acknowledged.
    fn narrow(
        &mut self,
        conversation: &ConversationId,
        pool: &WindowPool,
        mut tell: impl FnMut(QueueChange),
    ) {
        let Some(range) = self.ranges.get_mut(conversation) else { return };
        let lowest = self.window.lowest(pool, conversation).unwrap_or(range.next).min(range.next);
        let moved = lowest != range.from;
        range.from = lowest;
        let finished = range.complete.is_some_and(|complete| range.from > complete);
        if finished {
            self.ranges.remove(conversation);
            tell(QueueChange::Set { conversation: *conversation, from: None });
        } else if moved {
            tell(QueueChange::Set { conversation: *conversation, from: Some(lowest) });
        }
    }
}

/// The window, or the shard's pool of entries, is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoCredit;

/// An acknowledgement above what was pushed: `BAD_ARGUMENT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AboveWindow;

#[cfg(test)]
#[path = "queue/tests.rs"]
mod tests;
