//! Connections between devices and shards: bytes in order, cut anywhere.

use std::collections::{BTreeMap, VecDeque};
use tidegate_ids::ShardIndex;
use tidegate_shard::{ConnectionId, ReceiveMode};

/// A connection for its whole life, whichever shard holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Wire(pub(crate) u64);

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Line {
    /// Whose.
    pub(crate) device: usize,
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
}

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Network {
    next: u64,
    pub(crate) lines: BTreeMap<Wire, Line>,
    places: BTreeMap<(ShardIndex, ConnectionId), Wire>,
    free: BTreeMap<ShardIndex, (u32, Vec<u32>)>,
}

impl Network {
    /// Opens a connection that a shard accepts.
    pub(crate) fn open(&mut self, device: usize, shard: ShardIndex) -> (Wire, ConnectionId) {
        self.next += 1;
        let wire = Wire(self.next);
        let line = Line {
            device,
            place: None,
            armed: None,
            up: VecDeque::new(),
            device_gone: false,
            end_told: false,
            gateway_gone: false,
            up_at: 0,
            down_at: 0,
            slow_until: 0,
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

    /// Frees a place.
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

    /// The process is gone, and every connection with it; those that devices still hold are returned.
    pub(crate) fn cut_all(&mut self) -> Vec<(Wire, usize)> {
        self.places.clear();
        self.free.clear();
        let lines = std::mem::take(&mut self.lines);
        lines
            .into_iter()
            .filter(|(_, line)| !line.device_gone)
            .map(|(wire, line)| (wire, line.device))
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
