//! What a connection has not taken yet: one send at a time, and no reading while too much waits (DESIGN 4).
//!
//! Over [`UNSENT_BYTES_MAX`] nothing more is received, whatever the connection is and however long its send is stuck; at half
//! of it, reading goes on. Until the kernel knows, what it had received still comes: the gateway's receive buffers (1024 of
//! 4 KiB a shard, unless configured) at most. An answer is at most some ten times what asks for it: a frame of 16 bytes
//! that is refused.

use crate::connection::{Connection, Phase};
use crate::counters::Counter;
use crate::event::ConnectionId;
use crate::limits::UNSENT_BYTES_MAX;
use crate::output::{Output, ReceiveMode};
use crate::shard::{Shard, Turn};
use tidegate_ws::encode;

/// Bytes of a ping at most (RFC 6455, 5.5).
const PING_BYTES_MAX: usize = 125;

/// The newest ping of some bytes that is not answered yet.
#[derive(Debug)]
pub(crate) struct LatePong {
    payload: [u8; PING_BYTES_MAX],
    len: Option<usize>,
}

impl Default for LatePong {
    fn default() -> Self {
        Self { payload: [0; PING_BYTES_MAX], len: None }
    }
}

impl Shard {
    /// Answers a ping; while too much is unsent only the newest of what was received at once (RFC 6455, 5.5.3).
    pub(crate) fn pong(&mut self, id: ConnectionId, payload: &[u8], late: &mut LatePong) {
        let Some(connection) = self.connections.get(id) else { return };
        let place = late.payload.get_mut(..payload.len());
        if let Some(place) = place.filter(|_| is_full(connection)) {
            place.copy_from_slice(payload);
            late.len = Some(payload.len());
        } else if let Some(out) = self.connections.writer(id) {
            encode::pong(out, payload, None);
        }
    }

    /// Answers the ping that was kept, if one was.
    pub(crate) fn pong_late(&mut self, id: ConnectionId, late: &LatePong) {
        let Some(payload) = late.len.and_then(|len| late.payload.get(..len)) else { return };
        if let Some(out) = self.connections.writer(id) {
            encode::pong(out, payload, None);
        }
    }

    /// A single-shot receive is spent: the next is armed unless the connection is about to leave or to close, or does not
    /// take what it is sent.
    pub(crate) fn rearm(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if !matches!(connection.phase, Phase::Upgrading | Phase::Upgraded) {
            return;
        }
        connection.paused = is_full(connection);
        if connection.paused {
            self.stats.count(Counter::ReadsPaused);
        } else {
            self.outputs.push_back(Output::Receive { connection: id, mode: ReceiveMode::Once });
        }
    }

    /// Stops a receive that stays armed if too much is unsent.
    fn hold_back(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if is_multishot(connection) && !connection.paused && is_full(connection) {
            connection.paused = true;
            self.stats.count(Counter::ReadsPaused);
            self.outputs.push_back(Output::Receive { connection: id, mode: ReceiveMode::Pause });
        }
    }

    /// Reads a connection again that has taken half of what it may leave.
    fn read_on(&mut self, id: ConnectionId, turn: &Turn<'_>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if !connection.paused || connection.unsent_bytes() > UNSENT_BYTES_MAX / 2 {
            return;
        }
        connection.paused = false;
        // The rest of a message could not come meanwhile.
        connection.message_began = turn.now.monotonic;
        match connection.phase {
            Phase::Upgraded | Phase::Upgrading => self.rearm(id),
            Phase::Echo | Phase::Session(_) => {
                self.outputs.push_back(Output::Receive { connection: id, mode: ReceiveMode::Multishot });
            }
            // One that is greeted is read once it is welcome; one that closes never again.
            Phase::Greeting | Phase::Leaving(_) | Phase::Closing | Phase::Closed => {}
        }
    }

    /// Sends what was gathered, one send a connection at a time.
    pub(crate) fn flush(&mut self, turn: &mut Turn<'_>) {
        let mut queued = std::mem::take(&mut self.connections.to_flush);
        for id in queued.drain(..) {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            connection.flush_queued = false;
            self.flush_one(id, turn);
            self.hold_back(id);
        }
        self.connections.to_flush = queued;
    }

    pub(crate) fn flush_one(&mut self, id: ConnectionId, turn: &mut Turn<'_>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.in_flight_bytes > 0 || connection.out.is_empty() || connection.phase == Phase::Closed {
            return;
        }
        // What is written next has a buffer of its own then, or the connection is idle and owns no heap block.
        let buffer = std::mem::take(&mut connection.out);
        connection.in_flight_bytes = buffer.len() as u32;
        connection.send_began = turn.now.monotonic;
        self.stats.add(Counter::BytesSent, buffer.len() as u64);
        self.outputs.push_back(Output::Send { connection: id, buffer });
    }

    pub(crate) fn on_send_done(
        &mut self,
        id: ConnectionId,
        buffer: Vec<u8>,
        sent: bool,
        turn: &mut Turn<'_>,
    ) {
        self.recycle(buffer);
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.in_flight_bytes = 0;
        if !sent {
            return self.close_now(id, turn);
        }
        self.read_on(id, turn);
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.out.is_empty() {
            match connection.phase {
                Phase::Closing => self.close_now(id, turn),
                Phase::Greeting => self.try_greet(id, turn),
                _ => {}
            }
        } else {
            self.flush_one(id, turn);
        }
    }
}

fn is_full(connection: &Connection) -> bool {
    connection.unsent_bytes() > UNSENT_BYTES_MAX
}

/// Whether the connection has a receive that stays armed.
const fn is_multishot(connection: &Connection) -> bool {
    matches!(connection.phase, Phase::Session(_) | Phase::Echo)
}
