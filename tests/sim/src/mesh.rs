//! Rings between shards as plain queues with a capacity.

use crate::plan::Planted;
use std::collections::VecDeque;
use tidegate_ids::ShardIndex;
use tidegate_shard::{Lane, MeshPort};

#[derive(Debug, Default)]
struct Ring {
    frames: VecDeque<Vec<u8>>,
    bytes: usize,
}

/// All rings of a node.
#[derive(Debug)]
pub(crate) struct Mesh {
    shards: usize,
    capacity: usize,
    rings: Vec<Ring>,
    /// A bug of the mesh, and results pushed so far.
    planted: Option<Planted>,
    results: u64,
}

/// Of so many results one is lost, if that bug is planted.
const RESULTS_PER_BUG: u64 = 50;

impl Mesh {
    pub(crate) fn new(shards: u16, capacity: usize, planted: Option<Planted>) -> Self {
        let shards = usize::from(shards);
        let rings = (0..2 * shards * shards).map(|_| Ring::default()).collect();
        Self { shards, capacity, rings, planted, results: 0 }
    }

    fn place(&self, from: ShardIndex, to: ShardIndex, lane: Lane) -> usize {
        let lane = usize::from(lane == Lane::Results);
        (usize::from(from.0) * self.shards + usize::from(to.0)) * 2 + lane
    }

    /// Whether a planted bug loses this frame.
    fn loses(&mut self, lane: Lane) -> bool {
        if self.planted != Some(Planted::LostResult) || lane != Lane::Results {
            return false;
        }
        self.results += 1;
        self.results.is_multiple_of(RESULTS_PER_BUG)
    }

    /// Whether a shard has frames to take.
    pub(crate) fn waits_for(&self, to: ShardIndex) -> bool {
        let waits = |from: usize| {
            let from = ShardIndex(from as u16);
            [Lane::Requests, Lane::Results]
                .into_iter()
                .any(|lane| !self.rings[self.place(from, to, lane)].frames.is_empty())
        };
        (0..self.shards).any(waits)
    }
}

/// One shard's view.
pub(crate) struct Port<'a> {
    pub(crate) mesh: &'a mut Mesh,
    pub(crate) me: ShardIndex,
}

impl MeshPort for Port<'_> {
    fn has_room(&self, to: ShardIndex, lane: Lane, bytes: usize) -> bool {
        self.mesh.rings[self.mesh.place(self.me, to, lane)].bytes + bytes <= self.mesh.capacity
    }

    fn push(&mut self, to: ShardIndex, lane: Lane, parts: &[&[u8]]) -> bool {
        let bytes = parts.iter().map(|part| part.len()).sum();
        assert!(bytes <= tidegate_shard::MESH_FRAME_BYTES_MAX, "a frame of {bytes} bytes");
        if !self.has_room(to, lane, bytes) {
            return false;
        }
        if self.mesh.loses(lane) {
            return true;
        }
        let place = self.mesh.place(self.me, to, lane);
        let ring = &mut self.mesh.rings[place];
        ring.bytes += bytes;
        ring.frames.push_back(parts.concat());
        true
    }

    fn peek(&mut self, from: ShardIndex, lane: Lane) -> Option<&[u8]> {
        let place = self.mesh.place(from, self.me, lane);
        self.mesh.rings[place].frames.front().map(Vec::as_slice)
    }

    fn pop(&mut self, from: ShardIndex, lane: Lane) {
        let place = self.mesh.place(from, self.me, lane);
        let ring = &mut self.mesh.rings[place];
        let frame = ring.frames.pop_front().expect("a frame that was peeked");
        ring.bytes -= frame.len();
    }
}
