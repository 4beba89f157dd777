//! What a turn has to send: gathered per connection, one send in flight, as a shard does it.

use std::ops::Deref;
use tidegate_reactor::{Ops, Slot};

/// Everything that waits to be sent.
pub(super) struct Outbox {
    lines: Vec<Line>,
    /// Connections with something to send and nothing in flight, perhaps twice.
    due: Vec<Slot>,
    /// Buffers to be used again.
    spare: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Line {
    waiting: Vec<u8>,
    sending: bool,
}

impl Outbox {
    pub(super) fn new(slots: u32) -> Self {
        Self {
            lines: std::iter::repeat_with(Line::default).take(slots as usize).collect(),
            due: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// Appends to what a connection is sent next.
    pub(super) fn push(&mut self, slot: Slot, bytes: &[u8]) {
        let line = &mut self.lines[slot.index()];
        if line.waiting.capacity() == 0 {
            line.waiting = self.spare.pop().unwrap_or_default();
        }
        if line.waiting.is_empty() && !line.sending {
            self.due.push(slot);
        }
        line.waiting.extend_from_slice(bytes);
    }

    /// A send is over.
    pub(super) fn sent(&mut self, slot: Slot, mut buffer: Vec<u8>) {
        buffer.clear();
        self.spare.push(buffer);
        let line = &mut self.lines[slot.index()];
        line.sending = false;
        if !line.waiting.is_empty() {
            self.due.push(slot);
        }
    }

    /// The connection is closed.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.lines[slot.index()] = Line::default();
        self.due.retain(|due| *due != slot);
    }

    /// Sends what the turn has gathered.
    pub(super) fn send_all<B: Deref<Target = [u8]>>(&mut self, ops: &mut Ops<B>) {
        for slot in self.due.drain(..) {
            let line = &mut self.lines[slot.index()];
            line.sending = true;
            ops.send(slot, std::mem::take(&mut line.waiting));
        }
    }
}
