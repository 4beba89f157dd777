//! Connections between devices and shards: bytes in order, cut anywhere, or gone without a word.

use crate::announced::Announced;
use std::collections::{BTreeMap, VecDeque};
use tidegate_ids::ShardIndex;
use tidegate_shard::{ConnectionId, ReceiveMode};

/// What the kernel takes for a peer that reads nothing; a send past it is done only when the peer reads or the socket is
/// closed.
pub(crate) const KERNEL_BYTES_MAX: usize = 32 * 1024;

/// A connection for its whole life, whichever shard holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Wire(pub(crate) u64);

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A device with the SDK.
    Device(usize),
    /// Somebody who misbehaves.
    Rogue(usize),
}

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Line {
    /// Whose.
    pub(crate) peer: Peer,
    /// Who holds it at the gateway, and where; `None` while it is handed over.
    pub(crate) place: Option<(ShardIndex, ConnectionId)>,
    /// What the gateway has armed.
    pub(crate) armed: Option<ReceiveMode>,
    /// Bytes that have arrived and were not received.
    pub(crate) up: VecDeque<u8>,
    /// The device is gone: the gateway reads the end once `up` is empty.
    pub(crate) device_gone: bool,
    pub(crate) end_told: bool,
    /// The gateway is gone: nothing more goes down.
    pub(crate) gateway_gone: bool,
    /// When the last bytes of each direction arrive, so that they stay in order.
    pub(crate) up_at: u64,
    pub(crate) down_at: u64,
    /// The device reads nothing before this.
    pub(crate) slow_until: u64,
    /// Half-open: bytes and ends in this direction vanish.
    pub(crate) deaf_up: bool,
    pub(crate) deaf_down: bool,
    /// Bytes that the kernel took for a peer who is not there.
    pub(crate) kernel_bytes: usize,
    /// Conversations that were announced on it.
    pub(crate) announced: Announced,
}

/// A send that the gateway has in flight.
#[derive(Debug)]
struct Sending {
    number: u64,
    buffer: Vec<u8>,
}

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Network {
    next: u64,
    pub(crate) lines: BTreeMap<Wire, Line>,
    places: BTreeMap<(ShardIndex, ConnectionId), Wire>,
    sends: BTreeMap<(ShardIndex, ConnectionId), Sending>,
    free: BTreeMap<ShardIndex, (u32, Vec<u32>)>,
}

impl Network {
    /// Opens a connection that a shard accepts.
    pub(crate) fn open(&mut self, peer: Peer, shard: ShardIndex) -> (Wire, ConnectionId) {
        self.next += 1;
        let wire = Wire(self.next);
        let line = Line {
            peer,
            place: None,
            armed: None,
            up: VecDeque::new(),
            device_gone: false,
            end_told: false,
            gateway_gone: false,
            up_at: 0,
            down_at: 0,
            slow_until: 0,
            deaf_up: false,
            deaf_down: false,
            kernel_bytes: 0,
            announced: Announced::default(),
        };
        self.lines.insert(wire, line);
        (wire, self.hold(wire, shard))
    }

    /// Gives a connection a place at a shard.
    pub(crate) fn hold(&mut self, wire: Wire, shard: ShardIndex) -> ConnectionId {
        let (next, free) = self.free.entry(shard).or_default();
        let slot = free.pop().unwrap_or_else(|| {
            *next += 1;
            *next - 1
        });
        let id = ConnectionId(slot);
        self.places.insert((shard, id), wire);
        if let Some(line) = self.lines.get_mut(&wire) {
            line.place = Some((shard, id));
            line.armed = None;
        }
        id
    }

    /// Frees a place. Nothing may be in flight there.
    pub(crate) fn release(&mut self, shard: ShardIndex, id: ConnectionId) -> Option<Wire> {
        let wire = self.places.remove(&(shard, id))?;
        self.free.entry(shard).or_default().1.push(id.0);
        if let Some(line) = self.lines.get_mut(&wire) {
            line.place = None;
        }
        Some(wire)
    }

    pub(crate) fn wire(&self, shard: ShardIndex, id: ConnectionId) -> Option<Wire> {
        self.places.get(&(shard, id)).copied()
    }

    /// A send begins; gives its number.
    ///
    /// # Errors
    /// One is in flight already, or nobody is there: the shard must not do that.
    pub(crate) fn begin_send(
        &mut self,
        shard: ShardIndex,
        id: ConnectionId,
        buffer: Vec<u8>,
    ) -> Result<u64, String> {
        if !self.places.contains_key(&(shard, id)) {
            return Err(format!("shard {} sends on the free place {}", shard.0, id.0));
        }
        self.next += 1;
        let number = self.next;
        match self.sends.insert((shard, id), Sending { number, buffer }) {
            None => Ok(number),
            Some(_) => Err(format!("shard {} has two sends in flight on {}", shard.0, id.0)),
        }
    }

    /// The send of that number is done, if it still is in flight.
    pub(crate) fn end_send(&mut self, shard: ShardIndex, id: ConnectionId, number: u64) -> Option<Vec<u8>> {
        let matches = self.sends.get(&(shard, id)).is_some_and(|sending| sending.number == number);
        if matches { self.cancel_send(shard, id) } else { None }
    }

    /// Whatever is in flight there comes back.
    pub(crate) fn cancel_send(&mut self, shard: ShardIndex, id: ConnectionId) -> Option<Vec<u8>> {
        self.sends.remove(&(shard, id)).map(|sending| sending.buffer)
    }

    /// The process is gone, and every connection with it; those that devices still hold are returned.
    pub(crate) fn cut_all(&mut self) -> Vec<(Wire, Peer)> {
        self.places.clear();
        self.sends.clear();
        self.free.clear();
        let lines = std::mem::take(&mut self.lines);
        lines
            .into_iter()
            .filter(|(_, line)| !line.device_gone)
            .map(|(wire, line)| (wire, line.peer))
            .collect()
    }

    /// Drops a line that neither side holds.
    pub(crate) fn forget_if_over(&mut self, wire: Wire) {
        let over = self.lines.get(&wire).is_some_and(|line| line.place.is_none() && line.device_gone);
        if over {
            self.lines.remove(&wire);
        }
    }
}
