//! What the nodes of these tests are made of, beside their disk and those who connect: rings between shards, tokens, the
//! start over what lies on the disk, and where each log was written to. Each test has a loop of its own.

use std::collections::{BTreeMap, VecDeque};
use tidegate_domain::{HASH_VERSION, RateClass, Route};
use tidegate_ids::{Incarnation, LogId, Position, ShardIndex, UserId, WallMs};
use tidegate_shard::{
    Claims, ClosedSegment, Lane, LogEnd, MeshPort, Recovery, Shard, ShardLimits, ShardSetup, SnapshotPlanner,
    TokenError, TokenVerifier,
};
use tidegate_storage_log::{
    Appender, AppenderConfig, AppenderStart, Covered, Damage, Guard, LogIdentity, Medium, PreviousEnd,
    SegmentExtent, StagedBatch, recover_after,
};

pub const SHARDS: u16 = 2;
pub const INCARNATION: Incarnation = Incarnation(1);
const BLOCK_BYTES: u32 = 512;
const EPOCHS: [(u32, u16); 1] = [(1, SHARDS)];

/// The log of a shard.
pub const fn log_of(shard: u16) -> LogId {
    LogId { epoch: 1, shard: ShardIndex(shard) }
}

#[derive(Default)]
struct Ring {
    frames: VecDeque<Vec<u8>>,
    bytes: usize,
}

/// Rings as queues with a capacity. Memory of a frame is used again, so that a test can count what a shard takes.
pub struct Rings {
    rings: BTreeMap<(u16, u16, bool), Ring>,
    spares: Vec<Vec<u8>>,
    frames_max: usize,
    bytes_max: usize,
    /// Nothing goes from the first of these shards to the second.
    pub blocked: Option<(u16, u16)>,
}

impl Rings {
    pub fn new(frames_max: usize, bytes_max: usize) -> Self {
        Self { rings: BTreeMap::new(), spares: Vec::new(), frames_max, bytes_max, blocked: None }
    }
}

/// One shard's view of them.
pub struct Port<'a> {
    pub rings: &'a mut Rings,
    pub me: u16,
}

impl MeshPort for Port<'_> {
    fn has_room(&self, to: ShardIndex, lane: Lane, bytes: usize) -> bool {
        let Rings { rings, frames_max, bytes_max, blocked, .. } = &*self.rings;
        let ring = rings.get(&(self.me, to.0, lane == Lane::Results));
        let fits = |ring: &Ring| ring.frames.len() < *frames_max && ring.bytes + bytes <= *bytes_max;
        *blocked != Some((self.me, to.0)) && ring.is_none_or(fits)
    }

    fn push(&mut self, to: ShardIndex, lane: Lane, parts: &[&[u8]]) -> bool {
        let bytes = parts.iter().map(|part| part.len()).sum();
        let has_room = self.has_room(to, lane, bytes);
        if has_room {
            let mut frame = self.rings.spares.pop().unwrap_or_default();
            frame.clear();
            parts.iter().for_each(|part| frame.extend_from_slice(part));
            let ring = self.rings.rings.entry((self.me, to.0, lane == Lane::Results)).or_default();
            ring.bytes += bytes;
            ring.frames.push_back(frame);
        }
        has_room
    }

    fn peek(&mut self, from: ShardIndex, lane: Lane) -> Option<&[u8]> {
        let ring = self.rings.rings.get(&(from.0, self.me, lane == Lane::Results))?;
        ring.frames.front().map(Vec::as_slice)
    }

    fn pop(&mut self, from: ShardIndex, lane: Lane) {
        let ring = self.rings.rings.get_mut(&(from.0, self.me, lane == Lane::Results));
        let ring = ring.expect("it was peeked");
        let frame = ring.frames.pop_front().expect("it was peeked");
        ring.bytes -= frame.len();
        self.rings.spares.push(frame);
    }
}

/// Tokens are `user:N`.
struct PlainTokens;

impl TokenVerifier for PlainTokens {
    fn verify(&self, token: &[u8], _now: WallMs) -> Result<Claims, TokenError> {
        let text = std::str::from_utf8(token).ok().and_then(|text| text.strip_prefix("user:"));
        let user = text.and_then(|user| user.parse().ok()).ok_or(TokenError::Invalid)?;
        let (expires, rate) = (WallMs(u64::MAX), RateClass::Unlimited);
        Ok(Claims { user: UserId(user), expires, device: None, rate })
    }
}

/// Sizes of every log of a disk, and its name.
pub struct Sizes {
    pub directory: [u8; 16],
    pub segment_bytes: u32,
    pub staging_bytes: usize,
    pub batch_bytes_max: u32,
}

impl Sizes {
    fn appender(&self, log: LogId, previous: PreviousEnd) -> Appender {
        let (directory, incarnation) = (self.directory, INCARNATION);
        let identity = LogIdentity { log, directory, incarnation, hash_version: HASH_VERSION as u16 };
        let config = AppenderConfig {
            segment_bytes: self.segment_bytes,
            block_bytes: BLOCK_BYTES,
            staging_bytes: self.staging_bytes,
            batch_bytes_max: self.batch_bytes_max,
        };
        Appender::new(&config, AppenderStart { identity, previous }).unwrap()
    }
}

/// Where each log was written to, and what the next snapshot may hold of it.
pub struct Logs {
    directory: [u8; 16],
    pub extents: BTreeMap<LogId, Vec<SegmentExtent>>,
    pub planner: SnapshotPlanner,
}

impl Logs {
    /// A batch of a shard is on the disk.
    pub fn wrote(&mut self, shard: u16, batch: &StagedBatch) {
        let log = log_of(shard);
        let extents = self.extents.entry(log).or_default();
        let (segment, end) = (batch.segment, batch.offset + batch.bytes.len() as u32);
        match extents.last_mut().filter(|last| last.segment == segment) {
            Some(last) => last.end = end,
            None => {
                let (block_bytes, guard) = (BLOCK_BYTES, Guard::new(&self.directory));
                extents.push(SegmentExtent { segment, end, block_bytes, footer_offset: None, guard });
            }
        }
        if let Some(extent) = extents.last().filter(|_| batch.seals) {
            let end = PreviousEnd { end: Position::new(segment, end), batch: batch.number };
            self.planner.closed(log, ClosedSegment { extent: *extent, end });
        }
    }

    /// The written segments of a log up to the one of `to`.
    pub fn until(&self, log: &LogId, to: Position) -> Vec<SegmentExtent> {
        let all = self.extents.get(log).into_iter().flatten();
        all.filter(|extent| Position::new(extent.segment, 0) <= to).copied().collect()
    }
}

/// What a start goes by.
pub struct Start<'a> {
    /// The segments of each shard's log, oldest first.
    pub segments: [Vec<u32>; SHARDS as usize],
    /// What the newest snapshot holds, if there is one.
    pub held: Option<&'a [Covered]>,
    pub limits: &'a ShardLimits,
    pub sizes: &'a Sizes,
    pub seed: u64,
}

/// Shards that have not started yet.
pub struct Started {
    pub shards: Vec<Shard>,
    pub logs: Logs,
    pub damage: Vec<Damage>,
    pub misses_snapshot: bool,
}

impl Start<'_> {
    /// Reads every log behind what the snapshot holds, and makes the shards.
    pub fn read(self, medium: &mut impl Medium) -> Started {
        let route = Route::new(SHARDS);
        let mut recovery = Recovery::new(route, self.held);
        let held = self.held.unwrap_or_default();
        let (mut ends, mut starts, mut extents) = (Vec::new(), Vec::new(), BTreeMap::new());
        let (mut closed, mut damage) = (Vec::new(), Vec::new());
        for shard in 0..SHARDS {
            let log = log_of(shard);
            let covered = held.iter().find(|one| one.log == log);
            let covered = covered.map_or(PreviousEnd::default(), |one| one.previous);
            let segments = &self.segments[usize::from(shard)];
            let each = |record: tidegate_storage_log::RecordView<'_>| recovery.record(log, &record);
            let found = recover_after(medium, segments, Some(self.sizes.directory), covered, each).unwrap();
            damage.extend(&found.damage);
            ends.push(LogEnd { log, end: found.end() });
            starts.push(found.previous);
            let both = found.extents.iter().zip(&found.ends);
            closed.extend(both.map(|(extent, end)| (log, ClosedSegment { extent: *extent, end: *end })));
            extents.insert(log, found.extents);
        }
        let misses_snapshot = recovery.misses_snapshot();
        let mut planner = recovery.planner(&EPOCHS, held);
        closed.into_iter().for_each(|(log, segment)| planner.closed(log, segment));
        let seeds = recovery.finish(&ends, &EPOCHS);
        let shards = seeds.into_iter().zip(starts).zip(0..SHARDS).map(|((seed_of_logs, previous), index)| {
            Shard::new(ShardSetup {
                index: ShardIndex(index),
                route,
                limits: self.limits.clone(),
                tokens: Box::new(PlainTokens),
                seed: self.seed + u64::from(index),
                incarnation: INCARNATION,
                appender: self.sizes.appender(log_of(index), previous),
                seed_of_logs,
            })
        });
        let logs = Logs { directory: self.sizes.directory, extents, planner };
        Started { shards: shards.collect(), logs, damage, misses_snapshot }
    }
}
