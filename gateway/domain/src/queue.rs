//! A device's queue: a set of open ranges, and the window of its connection (DESIGN 6).
//!
//! The rules are those that held in the delivery model; the sentences that look pedantic each have a schedule that
//! loses a message without them. A range that nobody drains is where it begins and its place in the order (decision
//! 0014); what a connection knows of it beside (`next`, `seen`, `complete`) is made when it is touched and forgotten with
//! the connection. Only acknowledgement narrows; doing anything twice changes nothing; what must survive a crash is
//! told as a [`QueueChange`].
//!
//! Nothing here is done for every range at once: connecting, disconnecting and a checkpoint cost what the connection has
//! touched, so a queue of ten thousand ranges holds up nobody.

mod announced;
mod turns;

pub use announced::Announcement;

use crate::limits::UNTOLD_RANGES_MAX;
use crate::{Window, WindowEntry, WindowPool};
use announced::Announced;
use std::collections::{BTreeMap, BTreeSet};
use tidegate_ids::{ConversationId, PushNumber, Sequence};
use turns::Drained;

/// When a range opened, among those of its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Opened(u64);

/// An open range of one conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OpenRange {
    /// The lowest sequence that is perhaps not acknowledged.
    from: Sequence,
    opened: Opened,
}

/// What the present connection knows of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Progress {
    /// The next to push.
    next: Sequence,
    /// The highest consumed here, also while an answer is in flight.
    seen: Sequence,
    /// How far is known to be owed: the last complete answer, raised by what was consumed since.
    complete: Option<Sequence>,
}

impl Progress {
    const fn unknown(from: Sequence) -> Self {
        Self { next: from, seen: Sequence(0), complete: None }
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
    /// The same, in the order in which they opened.
    order: BTreeMap<Opened, ConversationId>,
    next_opened: Opened,
    /// Ranges that the user's stream does not say yet, at most [`UNTOLD_RANGES_MAX`]: opened or lowered while connected.
    untold: BTreeSet<Opened>,
    /// What a checkpoint said of the window: the stream says it until it is taken back, acknowledged or not.
    said: BTreeMap<ConversationId, Sequence>,
    /// Ranges that this connection has touched.
    progress: BTreeMap<ConversationId, Progress>,
    /// Every range from here on waits to be asked for.
    waiting_from: Opened,
    /// Ranges before it that have more.
    waiting: BTreeSet<Opened>,
    /// The range that was asked for last.
    drained: Option<Drained>,
    /// What was announced within the last second; a device to which nothing was has no heap for it.
    announced: Option<Box<Announced>>,
    window: Window,
    link: Link,
    asked: Option<ConversationId>,
    drain_done: bool,
}

impl Default for DeviceQueue {
    fn default() -> Self {
        Self {
            ranges: BTreeMap::new(),
            order: BTreeMap::new(),
            next_opened: Opened(0),
            untold: BTreeSet::new(),
            said: BTreeMap::new(),
            progress: BTreeMap::new(),
            waiting_from: Opened(0),
            waiting: BTreeSet::new(),
            drained: None,
            announced: None,
            window: Window::new(1),
            link: Link::Down,
            asked: None,
            drain_done: true,
        }
    }
}

impl DeviceQueue {
    /// Where each range begins, in the order in which they opened.
    pub fn ranges(&self) -> impl Iterator<Item = (ConversationId, Sequence)> {
        self.order.values().filter_map(|id| Some((*id, self.ranges.get(id)?.from)))
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
        assert!(self.progress.is_empty() && self.waiting.is_empty(), "what it knew was forgotten");
        self.window = Window::new(credit);
        self.link = Link::Connecting;
        self.asked = None;
        self.drain_done = false;
        self.waiting_from = Opened(0);
    }

    /// The Welcome has left: pushes may follow.
    pub fn welcomed(&mut self) {
        if self.link == Link::Connecting {
            self.link = Link::Up;
        }
    }

    /// The connection is over: its window becomes ranges, and what is not durable yet is told.
    pub fn disconnect(&mut self, pool: &mut WindowPool, mut tell: impl FnMut(QueueChange)) {
        if self.link == Link::Down {
            return;
        }
        self.link = Link::Down;
        self.asked = None;
        self.progress.clear();
        self.waiting.clear();
        self.drained = None;
        self.announced = None;
        while let Some(entry) = self.window.pop(pool, PushNumber(u64::MAX)) {
            self.open(entry.conversation, entry.sequence);
        }
        self.take_back(pool, &mut tell);
        self.tell_untold(usize::MAX, tell);
    }

    /// A record owed to this device was consumed from the conversation's home. At most one change is told, which may be of
    /// another conversation.
    pub fn consume(
        &mut self,
        entry: WindowEntry,
        pool: &mut WindowPool,
        tell: impl FnMut(QueueChange),
    ) -> Consumed {
        let (conversation, sequence) = (entry.conversation, entry.sequence);
        let can_push = self.link == Link::Up && self.window.has_credit(pool);
        let Some(from) = self.ranges.get(&conversation).map(|range| range.from) else {
            if can_push {
                return Consumed::Push(self.window.push(pool, entry));
            }
            self.open(conversation, sequence);
            if self.link != Link::Down {
                let progress = Progress { next: sequence, seen: sequence, complete: Some(sequence) };
                self.progress.insert(conversation, progress);
            }
            self.tell_one(tell);
            return Consumed::Queued;
        };
        if self.link != Link::Down {
            let progress = self.progress.entry(conversation).or_insert(Progress::unknown(from));
            progress.seen = progress.seen.max(sequence);
            let pushed_out = progress.complete.is_some_and(|complete| complete < sequence);
            if can_push && progress.next == sequence && pushed_out {
                progress.next = sequence.next();
                progress.complete = Some(sequence);
                return Consumed::Push(self.window.push(pool, entry));
            }
            progress.complete = progress.complete.map(|complete| complete.max(sequence));
        }
        if sequence < from {
            self.open(conversation, sequence);
            self.tell_one(tell);
        }
        self.settle(&conversation);
        Consumed::Queued
    }

    /// An answer of this connection's generation has come, or its refusal: another may be asked.
    pub fn answered(&mut self) {
        self.asked = None;
    }

    /// Whether an answer still fits: its range is open, and it does not begin above the range's present `next`.
    #[must_use]
    pub fn accepts(&self, answer: &Answer) -> bool {
        let progress = self.known(&answer.conversation);
        self.link == Link::Up && progress.is_some_and(|progress| answer.from <= progress.next)
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
        let has_credit = self.window.has_credit(pool);
        let Some(progress) = self.touch(&entry.conversation) else { return Ok(None) };
        if entry.sequence < progress.next {
            return Ok(None);
        }
        if own {
            progress.next = entry.sequence.next();
            return Ok(None);
        }
        if !has_credit {
            return Err(NoCredit);
        }
        progress.next = entry.sequence.next();
        self.note_drained(&entry.conversation);
        let number = self.window.push(pool, entry);
        Ok(Some(Push { number, sequence: entry.sequence }))
    }

    /// All records of an accepted answer were taken: what it covers without a record moves the range by itself.
    pub fn finish_answer(&mut self, answer: &Answer, pool: &WindowPool, tell: impl FnMut(QueueChange)) {
        if let Some(progress) = self.touch(&answer.conversation) {
            progress.next = progress.next.max(answer.covered.next());
            if answer.complete {
                progress.complete = Some(answer.covered.max(progress.seen));
            }
        }
        self.narrow(&answer.conversation, pool, tell);
    }

    /// An accepted answer was cut short for want of credit.
    pub fn cut_answer(&mut self, answer: &Answer, pool: &WindowPool, tell: impl FnMut(QueueChange)) {
        self.narrow(&answer.conversation, pool, tell);
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
        let done = due && self.held_until().is_none() && self.next_waiting().is_none();
        self.drain_done |= done;
        done
    }

    /// Folds a durable change. A range that is set keeps its place in the order.
    pub fn apply(&mut self, change: &QueueChange) {
        let conversation = match *change {
            QueueChange::Widen { conversation, from } => {
                let opened = self.open(conversation, from);
                if self.ranges.get(&conversation).is_some_and(|range| from <= range.from) {
                    self.untold.remove(&opened);
                }
                return;
            }
            QueueChange::Set { conversation, .. } => conversation,
        };
        let QueueChange::Set { from: Some(from), .. } = *change else { return self.remove(&conversation) };
        match self.ranges.get_mut(&conversation) {
            Some(range) => range.from = from,
            None => _ = self.open(conversation, from),
        }
        if let Some(range) = self.ranges.get(&conversation) {
            self.untold.remove(&range.opened);
        }
    }

    /// What a checkpoint must add for a connected device: what its user's stream does not say yet of its ranges, and its
    /// window as ranges; what the checkpoint before said of the window and is acknowledged since is taken back. At most
    /// [`UNTOLD_RANGES_MAX`] and two windows.
    pub fn checkpoint(&mut self, pool: &WindowPool, mut tell: impl FnMut(QueueChange)) {
        if self.link == Link::Down {
            return;
        }
        self.take_back(pool, &mut tell);
        self.tell_untold(usize::MAX, &mut tell);
        for entry in self.window.entries(pool) {
            let WindowEntry { conversation, sequence: from, .. } = entry;
            let in_range = self.ranges.get(&conversation).is_some_and(|range| range.from <= from);
            let in_said = self.said.get(&conversation).is_some_and(|said| *said <= from);
            if !in_range && !in_said {
                self.said.insert(conversation, from);
                tell(QueueChange::Widen { conversation, from });
            }
        }
    }

    /// Forgets the range that opened first, of a queue that nobody needs any more; false if there is none.
    pub(crate) fn forget_range(&mut self) -> bool {
        let first = self.order.first_key_value().map(|(_, conversation)| *conversation);
        first.inspect(|conversation| self.remove(conversation)).is_some()
    }

    /// Checks what must always hold.
    pub fn assert_invariants(&self) {
        assert_eq!(self.ranges.len(), self.order.len());
        assert!(self.ranges.iter().all(|(id, range)| self.order.get(&range.opened) == Some(id)));
        assert!(self.untold.len() <= UNTOLD_RANGES_MAX, "the rest was told when it opened");
        assert!(self.untold.iter().chain(&self.waiting).all(|opened| self.order.contains_key(opened)));
        assert!(self.said.len() <= usize::from(crate::CREDIT_FRAMES_MAX), "as many as the window had");
        let rests = self.untold.is_empty() && self.progress.is_empty() && self.said.is_empty();
        assert!(self.link != Link::Down || rests, "the stream says all of a device that is away");
        assert!(self.progress.keys().all(|id| self.ranges.contains_key(id)));
        for (opened, id) in self.order.range(..self.waiting_from) {
            let has_more = self.known(id).is_some_and(|progress| progress.has_more());
            let waits = has_more && self.link != Link::Down && !self.is_held(id);
            assert_eq!(self.waiting.contains(opened), waits, "{id}");
        }
        self.assert_announced();
    }

    /// Opens a range, or lowers one that is open; what is new by it is not told yet. Its place in the order.
    fn open(&mut self, conversation: ConversationId, from: Sequence) -> Opened {
        let Some(range) = self.ranges.get_mut(&conversation) else {
            let opened = self.next_opened;
            self.next_opened.0 += 1;
            self.ranges.insert(conversation, OpenRange { from, opened });
            self.order.insert(opened, conversation);
            self.untold.insert(opened);
            return opened;
        };
        if from < range.from {
            range.from = from;
            self.untold.insert(range.opened);
            if let Some(progress) = self.progress.get_mut(&conversation) {
                progress.next = progress.next.min(from);
            }
        }
        range.opened
    }

    fn remove(&mut self, conversation: &ConversationId) {
        if let Some(range) = self.ranges.remove(conversation) {
            self.order.remove(&range.opened);
            self.untold.remove(&range.opened);
            self.waiting.remove(&range.opened);
            self.progress.remove(conversation);
            self.unhold(conversation);
        }
    }

    /// What this connection knows of an open range.
    fn known(&self, conversation: &ConversationId) -> Option<Progress> {
        let range = self.ranges.get(conversation)?;
        Some(self.progress.get(conversation).copied().unwrap_or(Progress::unknown(range.from)))
    }

    fn touch(&mut self, conversation: &ConversationId) -> Option<&mut Progress> {
        let range = self.ranges.get(conversation)?;
        Some(self.progress.entry(*conversation).or_insert(Progress::unknown(range.from)))
    }

    /// Tells the oldest range that is untold: at once where the device is away, and where more is untold than a turn may
    /// have to tell at the end of a connection.
    fn tell_one(&mut self, tell: impl FnMut(QueueChange)) {
        if self.link == Link::Down || self.untold.len() > UNTOLD_RANGES_MAX {
            self.tell_untold(1, tell);
        }
    }

    /// Tells what the stream does not say yet, in the order in which ranges opened.
    fn tell_untold(&mut self, count: usize, mut tell: impl FnMut(QueueChange)) {
        for _ in 0..count {
            let Some(opened) = self.untold.pop_first() else { return };
            let Some(conversation) = self.order.get(&opened).copied() else { continue };
            let Some(range) = self.ranges.get(&conversation) else { continue };
            tell(QueueChange::Widen { conversation, from: range.from });
        }
    }

    /// Says of what the last checkpoint said of the window how much of it still holds.
    fn take_back(&mut self, pool: &WindowPool, mut tell: impl FnMut(QueueChange)) {
        for (conversation, said) in std::mem::take(&mut self.said) {
            let range = self.ranges.get(&conversation);
            let from = range.map(|range| range.from);
            let lowest = self.window.lowest(pool, &conversation).into_iter().chain(from).min();
            if let Some(range) = range.filter(|_| lowest == from) {
                self.untold.remove(&range.opened);
            } else if let Some(lowest) = lowest {
                self.said.insert(conversation, lowest);
            }
            if lowest != Some(said) {
                tell(QueueChange::Set { conversation, from: lowest });
            }
        }
    }

    /// Moves a range's lower end to what is not acknowledged, and removes it only when everything up to `seen` and up
    /// to the last complete answer is acknowledged.
    fn narrow(
        &mut self,
        conversation: &ConversationId,
        pool: &WindowPool,
        mut tell: impl FnMut(QueueChange),
    ) {
        let Some(progress) = self.known(conversation) else { return };
        let Some(range) = self.ranges.get_mut(conversation) else { return };
        let lowest = self.window.lowest(pool, conversation).unwrap_or(progress.next).min(progress.next);
        let moved = lowest != range.from;
        range.from = lowest;
        let finished = progress.complete.is_some_and(|complete| lowest > complete);
        if finished {
            self.remove(conversation);
            self.said.remove(conversation);
            tell(QueueChange::Set { conversation: *conversation, from: None });
            return;
        }
        if moved {
            self.untold.remove(&range.opened);
            self.said.remove(conversation);
            tell(QueueChange::Set { conversation: *conversation, from: Some(lowest) });
        }
        self.settle(conversation);
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
