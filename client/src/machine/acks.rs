//! Which pushes may be acknowledged, and which watermarks are told (PROTOCOL, "Receipts").
//!
//! An `Ack` is cumulative, so it stops below the lowest push that is held out of order, and below what the application
//! has not stored. What was fetched has no push: once stored, a `Mark` says that it was delivered.

use super::Machine;
use crate::limits::{ACK_FRAMES, MARKS_MAX};
use tidegate_ids::{MonotonicNs, PushNumber, Sequence};

/// Everything that was told up to a moment; see [`Machine::store_mark`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreMark {
    connection: u64,
    push: u64,
    fetched: u64,
}

/// The pushes of this connection.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    /// Counts connections, so that a mark of an earlier one says nothing about this one's pushes.
    connection: u64,
    received_to: u64,
    stored_to: u64,
    acked_to: u64,
    /// When the next acknowledgement leaves; none if there is nothing to say.
    pub(crate) due_at: Option<MonotonicNs>,
}

/// How far this device is, told by `Mark`, which has no answer: told again after a reconnect.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    entries: Vec<Mark>,
    /// Counts fetched answers.
    serial: u64,
    /// Fetched and not yet stored.
    fetched: Vec<Fetched>,
}

#[derive(Debug)]
pub(crate) struct Mark {
    pub(crate) conversation: u32,
    pub(crate) delivered: Sequence,
    pub(crate) read: Sequence,
    told: bool,
}

#[derive(Debug)]
struct Fetched {
    conversation: u32,
    delivered: Sequence,
    serial: u64,
}

impl Acks {
    pub(crate) fn connected(&mut self) {
        *self = Self { connection: self.connection + 1, ..Self::default() };
    }

    pub(crate) fn received(&mut self, push: PushNumber) {
        self.received_to = self.received_to.max(push.0);
    }

    /// What an acknowledgement may say at `now`.
    pub(crate) fn take_due(&mut self, now: MonotonicNs) -> Option<PushNumber> {
        self.due_at.filter(|due_at| *due_at <= now)?;
        self.due_at = None;
        self.acked_to = self.stored_to;
        Some(PushNumber(self.acked_to))
    }

    /// Gives a new deadline.
    fn stored(&mut self, to: u64, wait_ns: u64, now: MonotonicNs) -> Option<MonotonicNs> {
        self.stored_to = self.stored_to.max(to);
        let count = self.stored_to - self.acked_to;
        if count == 0 {
            return None;
        }
        let due_at = self.due_at.unwrap_or_else(|| now.after(wait_ns));
        let due_at = if count >= ACK_FRAMES { now } else { due_at };
        self.due_at = Some(due_at);
        Some(due_at)
    }
}

impl Marks {
    pub(crate) fn fetched(&mut self, conversation: u32, delivered: Sequence) {
        self.serial += 1;
        let serial = self.serial;
        match self.fetched.iter_mut().find(|fetched| fetched.conversation == conversation) {
            Some(fetched) => (fetched.delivered, fetched.serial) = (delivered, serial),
            None => self.fetched.push(Fetched { conversation, delivered, serial }),
        }
    }

    /// Gives whether there is something to tell.
    fn stored(&mut self, serial: u64) -> bool {
        let mut found = false;
        while let Some(place) = self.fetched.iter().position(|fetched| fetched.serial <= serial) {
            let fetched = self.fetched.swap_remove(place);
            self.raise(fetched.conversation, fetched.delivered, Sequence(0));
            found = true;
        }
        found
    }

    pub(crate) fn raise(&mut self, conversation: u32, delivered: Sequence, read: Sequence) {
        if let Some(mark) = self.entries.iter_mut().find(|mark| mark.conversation == conversation) {
            mark.told &= delivered <= mark.delivered && read <= mark.read;
            mark.delivered = mark.delivered.max(delivered);
            mark.read = mark.read.max(read);
            return;
        }
        if self.entries.len() >= MARKS_MAX {
            let told = self.entries.iter().position(|mark| mark.told);
            self.entries.remove(told.unwrap_or(0));
        }
        self.entries.push(Mark { conversation, delivered, read, told: false });
    }

    pub(crate) fn untold(&mut self) -> impl Iterator<Item = &Mark> {
        self.entries.iter_mut().filter(|mark| !mark.told).map(|mark| {
            mark.told = true;
            &*mark
        })
    }

    pub(crate) fn connected(&mut self) {
        self.entries.iter_mut().for_each(|mark| mark.told = false);
    }
}

impl Machine {
    /// Everything that events have told so far. Once all of it is durable, give it to [`Machine::stored`].
    #[must_use]
    pub fn store_mark(&self) -> StoreMark {
        let lowest = |index: &u32| {
            self.table.get(*index as usize)?.holes.as_ref().and_then(|holes| holes.lowest_push())
        };
        let held = self.holed.holding().filter_map(lowest).min();
        let push = held.map_or(self.acks.received_to, |held| held.0 - 1);
        StoreMark { connection: self.acks.connection, push, fetched: self.marks.serial }
    }

    /// What was told up to the mark is durable: it is acknowledged, at most every 50 ms or 64 pushes.
    pub fn stored(&mut self, mark: StoreMark, now: MonotonicNs) {
        if self.marks.stored(mark.fetched) {
            self.stirred = true;
        }
        if mark.connection != self.acks.connection {
            return;
        }
        let due_at = self.acks.stored(mark.push, self.config.ack_wait_ns, now);
        if let Some(due_at) = due_at {
            self.stirred |= due_at <= now;
            self.wake_at(due_at);
        }
    }

    /// Everything told so far is durable: [`Machine::stored`] of [`Machine::store_mark`].
    pub fn stored_all(&mut self, now: MonotonicNs) {
        self.stored(self.store_mark(), now);
    }
}
