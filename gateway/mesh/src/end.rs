//! A shard's end of the mesh: what it writes, what it reads, whom it wakes.

use crate::limits::{RING_BYTES_MAX, SHARDS_MAX, WORD_BYTES};
use crate::ring::{Reader, Writer, frame_words, ring};
use crate::sleep::{SleepFlag, Starved, published};
use core::cell::Cell;
use core::fmt;
use std::sync::Arc;

/// The two lanes of an ordered pair of shards (DESIGN 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// May be refused at the edge, and are taken only if the home has a place to hold the answer.
    Requests = 0,
    /// Records, acks, ranges, slices: always consumed.
    Results = 1,
}

impl Lane {
    /// Both, results first: consuming them frees places that requests wait for.
    pub const ALL: [Self; 2] = [Self::Results, Self::Requests];
}

/// A mesh that cannot be built. The operator's to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeshConfigError {
    /// No shard, or more than [`SHARDS_MAX`].
    Shards(usize),
    /// Frames must be at least one byte long.
    FrameBytes,
    /// With a ring below twice the largest frame, a frame could wait for ever before the wrap.
    RingTooSmall {
        /// What was configured.
        ring_bytes: usize,
        /// The least that holds such frames.
        ring_bytes_min: usize,
    },
    /// Above [`RING_BYTES_MAX`].
    RingTooLarge(usize),
}

impl fmt::Display for MeshConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shards(shards) => write!(f, "{shards} shards: a node has 1 to {SHARDS_MAX}"),
            Self::FrameBytes => f.write_str("mesh_frame_bytes_max must not be zero"),
            Self::RingTooSmall { ring_bytes, ring_bytes_min } => write!(
                f,
                "mesh_ring_bytes is {ring_bytes}, but must be at least twice mesh_frame_bytes_max: {ring_bytes_min}"
            ),
            Self::RingTooLarge(bytes) => write!(f, "mesh_ring_bytes is {bytes}: at most {RING_BYTES_MAX}"),
        }
    }
}

impl std::error::Error for MeshConfigError {}

/// What a shard's end has done since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames pushed.
    pub frames: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Frames consumed.
    pub frames_consumed: u64,
    /// Pushes refused for want of room.
    pub refused: u64,
    /// Peers that this shard had to wake.
    pub wakes: u64,
    /// Sleeps announced that found nothing.
    pub sleeps: u64,
    /// The most bytes seen waiting in one ring that this shard writes, headers and padding included.
    pub depth_bytes_max: u64,
}

struct Outgoing {
    writer: Writer,
    /// Set while this shard sleeps and waits for room in this ring.
    starved: Arc<Starved>,
    /// The room last seen when it was less than the largest frame: more than this is news to sleep over.
    wanted_above: Cell<Option<usize>>,
}

struct Incoming {
    reader: Reader,
    starved: Arc<Starved>,
}

/// Bits of `MeshEnd::touched`: a peer with a new frame is woken if it sleeps, one with new room only if it waits
/// for room.
const PUSHED: u8 = 1;
const POPPED: u8 = 2;

impl Outgoing {
    /// Whether there is more room than when it was too little; said once.
    fn has_grown(&self) -> bool {
        let grown = self.wanted_above.get().is_some_and(|seen| self.writer.room() > seen);
        if grown {
            self.wanted_above.set(None);
        }
        grown
    }
}

/// One shard's end of the mesh. Made by [`build`] and moved to the shard's thread.
pub struct MeshEnd {
    shard: u16,
    frame_bytes_max: usize,
    /// By peer and lane.
    outgoing: Vec<[Outgoing; 2]>,
    incoming: Vec<[Incoming; 2]>,
    flags: Arc<[SleepFlag]>,
    /// By peer: what this shard has done to its rings since the last [`MeshEnd::take_wakes`].
    touched: Vec<u8>,
    touched_any: bool,
    counters: Counters,
}

/// The ends of a mesh of `shards` shards: one per shard, in order.
///
/// Every ring holds `ring_bytes` of frames of at most `frame_bytes_max` bytes each; there are `2 × shards²` of
/// them, and their memory is touched here.
pub fn build(
    shards: usize,
    ring_bytes: usize,
    frame_bytes_max: usize,
) -> Result<Vec<MeshEnd>, MeshConfigError> {
    if shards == 0 || shards > SHARDS_MAX {
        return Err(MeshConfigError::Shards(shards));
    }
    if frame_bytes_max == 0 {
        return Err(MeshConfigError::FrameBytes);
    }
    if ring_bytes > RING_BYTES_MAX {
        return Err(MeshConfigError::RingTooLarge(ring_bytes));
    }
    if ring_bytes / 2 < frame_bytes_max {
        let ring_bytes_min = frame_bytes_max.saturating_mul(2);
        return Err(MeshConfigError::RingTooSmall { ring_bytes, ring_bytes_min });
    }
    let flags: Arc<[SleepFlag]> = (0..shards).map(|_| SleepFlag::new()).collect();
    let mut ends: Vec<MeshEnd> =
        (0..shards).map(|shard| MeshEnd::new(shard as u16, shards, frame_bytes_max, &flags)).collect();
    // Half a ring takes the largest frame with its header, wherever the last one ended.
    let words = (ring_bytes.div_ceil(WORD_BYTES) + 2).max(2 * frame_words(frame_bytes_max));
    for from in 0..shards {
        for to in 0..shards {
            let (request_out, request_in) = pair(words);
            let (result_out, result_in) = pair(words);
            ends[from].outgoing.push([request_out, result_out]);
            assert!(ends[to].incoming.len() == from, "rings are built in the order of their writers");
            ends[to].incoming.push([request_in, result_in]);
        }
    }
    Ok(ends)
}

fn pair(words: usize) -> (Outgoing, Incoming) {
    let (writer, reader) = ring(words);
    let starved = Arc::new(Starved::new());
    let outgoing = Outgoing { writer, starved: Arc::clone(&starved), wanted_above: Cell::new(None) };
    (outgoing, Incoming { reader, starved })
}

impl MeshEnd {
    fn new(shard: u16, shards: usize, frame_bytes_max: usize, flags: &Arc<[SleepFlag]>) -> Self {
        Self {
            shard,
            frame_bytes_max,
            outgoing: Vec::with_capacity(shards),
            incoming: Vec::with_capacity(shards),
            flags: Arc::clone(flags),
            touched: vec![0; shards],
            touched_any: false,
            counters: Counters::default(),
        }
    }

    /// Which shard's end this is.
    #[must_use]
    pub fn shard(&self) -> u16 {
        self.shard
    }

    /// How many shards the mesh joins.
    #[must_use]
    pub fn shards(&self) -> u16 {
        self.flags.len() as u16
    }

    /// The largest frame, in bytes.
    #[must_use]
    pub fn frame_bytes_max(&self) -> usize {
        self.frame_bytes_max
    }

    /// What this end has done since boot.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The bytes of the largest frame that [`MeshEnd::try_push`] would take now, at most the largest frame.
    ///
    /// Seeing less than the largest frame is remembered: if this shard then sleeps, it is woken when there is
    /// more room.
    #[must_use]
    pub fn room(&self, to: u16, lane: Lane) -> usize {
        let outgoing = &self.outgoing[usize::from(to)][lane as usize];
        let room = outgoing.writer.room();
        if room < self.frame_bytes_max {
            outgoing.wanted_above.set(Some(room));
        }
        room.min(self.frame_bytes_max)
    }

    /// Appends a frame of `len` bytes, written by `fill`, which must write every byte: it finds those of an
    /// older frame. False: there was no room, `fill` was not called, and if this shard sleeps it is woken when
    /// there is more. A frame above the largest is a bug of the caller.
    pub fn try_push(&mut self, to: u16, lane: Lane, len: usize, fill: impl FnOnce(&mut [u8])) -> bool {
        assert!(len <= self.frame_bytes_max, "a frame of {len} bytes, at most {}", self.frame_bytes_max);
        let outgoing = &mut self.outgoing[usize::from(to)][lane as usize];
        if !outgoing.writer.try_push(len, fill) {
            outgoing.wanted_above.set(Some(outgoing.writer.room()));
            self.counters.refused += 1;
            return false;
        }
        self.counters.frames += 1;
        self.counters.bytes += len as u64;
        self.counters.depth_bytes_max = self.counters.depth_bytes_max.max(outgoing.writer.depth() as u64);
        self.touch(to, PUSHED);
        true
    }

    /// Bytes waiting in one ring that this shard writes, headers and padding included.
    #[must_use]
    pub fn depth(&self, to: u16, lane: Lane) -> usize {
        self.outgoing[usize::from(to)][lane as usize].writer.depth()
    }

    /// The oldest frame from a shard, 8-aligned; it stays until [`MeshEnd::pop`].
    pub fn peek(&mut self, from: u16, lane: Lane) -> Option<&[u8]> {
        self.incoming[usize::from(from)][lane as usize].reader.peek()
    }

    /// Releases the frame that [`MeshEnd::peek`] lent. A bug of the caller if there is none.
    pub fn pop(&mut self, from: u16, lane: Lane) {
        let popped = self.incoming[usize::from(from)][lane as usize].reader.pop();
        assert!(popped.is_some(), "pop without a frame");
        self.counters.frames_consumed += 1;
        self.touch(from, POPPED);
    }

    /// Publishes that this shard will sleep, and looks again. False: a frame waits, or a ring that was too full
    /// has more room: do not sleep. After true, call [`MeshEnd::awake`] when the sleep is over.
    ///
    /// Call [`MeshEnd::take_wakes`] first: nobody else wakes the peers this shard has pushed to.
    pub fn announce_sleep(&mut self) -> bool {
        assert!(!self.touched_any, "sleeping with wakes that nobody took");
        for outgoing in
            self.outgoing.iter().flatten().filter(|outgoing| outgoing.wanted_above.get().is_some())
        {
            outgoing.starved.set(true);
        }
        let (incoming, outgoing) = (&self.incoming, &self.outgoing);
        let asleep = self.flags[usize::from(self.shard)].announce(|| {
            let frame = incoming.iter().flatten().any(|incoming| !incoming.reader.is_empty());
            let grown = outgoing.iter().flatten().filter(|outgoing| outgoing.has_grown()).count();
            frame || grown > 0
        });
        self.counters.sleeps += u64::from(asleep);
        if !asleep {
            self.stop_waiting();
        }
        asleep
    }

    /// Takes the sleep flag down. Call it after every sleep, however it ended.
    pub fn awake(&mut self) {
        self.flags[usize::from(self.shard)].awake();
        self.stop_waiting();
    }

    fn stop_waiting(&mut self) {
        self.outgoing.iter().flatten().filter(|outgoing| outgoing.starved.is_set()).for_each(|outgoing| {
            outgoing.starved.set(false);
        });
    }

    /// Names the peers to be woken: those that had published their sleep flag and got a frame since the last
    /// call, or room that they waited for. Each at most once, and whoever takes the flag is the only one to wake.
    pub fn take_wakes(&mut self, mut wake: impl FnMut(u16)) {
        if !self.touched_any {
            return;
        }
        self.touched_any = false;
        published();
        for (peer, touched) in self.touched.iter_mut().enumerate().filter(|(_, touched)| **touched != 0) {
            let pushed = *touched & PUSHED != 0;
            *touched = 0;
            let starved = self.incoming[peer].iter().any(|incoming| incoming.starved.is_set());
            if (pushed || starved) && self.flags[peer].take() {
                self.counters.wakes += 1;
                wake(peer as u16);
            }
        }
    }

    fn touch(&mut self, peer: u16, how: u8) {
        // One's own ring needs no wake: whoever pushes or pops is awake, and looks before it sleeps.
        if peer != self.shard {
            self.touched[usize::from(peer)] |= how;
            self.touched_any = true;
        }
    }
}

// Under loom the flags live only inside a model, and only models run.
#[cfg(all(test, not(loom)))]
#[path = "end_tests.rs"]
mod tests;
