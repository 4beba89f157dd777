//! The gateway's process: its shards, what the shell would do for them, and its start.

use crate::clock::Chance;
use crate::disk::Disk;
use crate::mesh::Mesh;
use crate::plan::Planted;
use crate::snapshots::Snapshots;
use std::collections::{BTreeMap, BTreeSet};
use tidegate_domain::{HASH_VERSION, RateClass, Route};
use tidegate_ids::{BatchNumber, Incarnation, LogId, Position, ShardIndex, UserId, WallMs};
use tidegate_shard::{
    Claims, ClosedSegment, LogEnd, ReadRequest, Recovery, Shard, ShardLimits, ShardSetup, SnapshotPlanner,
    TokenError, TokenVerifier,
};
use tidegate_storage_log::{
    Appender, AppenderConfig, AppenderStart, Covered, Guard, LogIdentity, PageEnd, PageReader, PreviousEnd,
    ReadError, SegmentExtent, StagedBatch, recover_after, scan_chunk,
};

/// Names the simulated data directory.
pub(crate) const DIRECTORY: [u8; 16] = *b"simulated volume";

/// The block of the simulated device.
const BLOCK_BYTES: u32 = 512;

/// Tokens of the simulator: `user:N`, and `rogue:N` for those who get no more than others may.
struct PlainTokens;

impl TokenVerifier for PlainTokens {
    fn verify(&self, token: &[u8], _now: WallMs) -> Result<Claims, TokenError> {
        let (class, user) = std::str::from_utf8(token)
            .ok()
            .and_then(|text| text.split_once(':'))
            .ok_or(TokenError::Invalid)?;
        let rate = match class {
            "user" => RateClass::Unlimited,
            "rogue" => RateClass::Default,
            _ => return Err(TokenError::Invalid),
        };
        let user = UserId(user.parse().map_err(|_| TokenError::Invalid)?);
        Ok(Claims { user, expires: WallMs(u64::MAX), device: None, rate })
    }
}

/// Sizes of a run.
#[derive(Clone, Debug)]
pub(crate) struct Sizes {
    pub(crate) limits: ShardLimits,
    pub(crate) segment_bytes: u32,
    pub(crate) staging_bytes: usize,
    pub(crate) batch_bytes_max: u32,
    pub(crate) ring_bytes: usize,
    /// A bug of the mesh.
    pub(crate) planted: Option<Planted>,
}

/// A running process.
pub(crate) struct Gateway {
    /// Which process this is: what was meant for another is dropped.
    pub(crate) run: u64,
    pub(crate) shards: Vec<Shard>,
    pub(crate) mesh: Mesh,
    pub(crate) ready: Vec<bool>,
    pub(crate) stopped: Vec<bool>,
    /// Whether a shard's turn is on the agenda.
    pub(crate) turn_due: Vec<bool>,
    /// What the next snapshot may hold.
    pub(crate) planner: SnapshotPlanner,
    epoch: u32,
    extents: BTreeMap<LogId, Vec<SegmentExtent>>,
    /// What the start found on the disk.
    pub(crate) tails_cut: u64,
    pub(crate) damage_found: u64,
    /// A write is in flight: a shard may have one.
    pub(crate) writing: Vec<bool>,
    /// Reads in flight.
    pub(crate) reading: Vec<usize>,
}

/// What one pass over the logs found.
struct Found {
    recovery: Recovery,
    ends: Vec<LogEnd>,
    starts: BTreeMap<LogId, PreviousEnd>,
    extents: BTreeMap<LogId, Vec<SegmentExtent>>,
    planner: SnapshotPlanner,
    tails_cut: u64,
    damage_found: u64,
}

/// Reads every log behind what the snapshot holds.
fn survey(
    route: Route,
    epochs: &[(u32, u16)],
    disk: &mut Disk,
    held: Option<&[Covered]>,
) -> Result<Found, String> {
    let mut recovery = Recovery::new(route, held);
    let (mut ends, mut starts, mut extents) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    let mut closed = Vec::new();
    let (mut tails_cut, mut damage_found) = (0, 0);
    for (epoch, count) in epochs {
        for shard in (0..*count).map(ShardIndex) {
            let log = LogId { epoch: *epoch, shard };
            let segments = disk.segments_of(log);
            let covered = held.into_iter().flatten().find(|one| one.log == log);
            let covered = covered.map_or(PreviousEnd::default(), |one| one.previous);
            let each = |record: tidegate_storage_log::RecordView<'_>| recovery.record(log, &record);
            let found = recover_after(disk, &segments, Some(DIRECTORY), covered, each)
                .map_err(|error| format!("{error:?}"))?;
            if !disk.explains(&found.damage) {
                return Err(format!("damage in {log}: {:?}", found.damage));
            }
            tails_cut += u64::from(found.cut.is_some());
            damage_found += found.damage_count;
            ends.push(LogEnd { log, end: found.end() });
            starts.insert(log, found.previous);
            let both = found.extents.iter().zip(&found.ends);
            closed.extend(both.map(|(extent, end)| (log, ClosedSegment { extent: *extent, end: *end })));
            extents.insert(log, found.extents);
        }
    }
    let mut planner = recovery.planner(epochs, held.unwrap_or_default());
    closed.into_iter().for_each(|(log, segment)| planner.closed(log, segment));
    Ok(Found { recovery, ends, starts, extents, planner, tails_cut, damage_found })
}

fn appender_of(log: LogId, previous: PreviousEnd, sizes: &Sizes) -> Result<Appender, String> {
    let identity = LogIdentity {
        log,
        directory: DIRECTORY,
        incarnation: Incarnation(1),
        hash_version: HASH_VERSION as u16,
    };
    let config = AppenderConfig {
        segment_bytes: sizes.segment_bytes,
        block_bytes: BLOCK_BYTES,
        staging_bytes: sizes.staging_bytes,
        batch_bytes_max: sizes.batch_bytes_max,
    };
    Appender::new(&config, AppenderStart { identity, previous }).map_err(|error| format!("{error:?}"))
}

impl Gateway {
    /// Recovers and makes the shards; none of them has started.
    pub(crate) fn boot(
        run: u64,
        shards: u16,
        epochs: &[(u32, u16)],
        disk: &mut Disk,
        snapshots: &mut Snapshots,
        sizes: &Sizes,
        chance: &mut Chance,
    ) -> Result<Self, String> {
        let route = Route::new(shards);
        let mut found = survey(route, epochs, disk, snapshots.covered())?;
        if found.recovery.misses_snapshot() {
            let plan = found.planner.plan(u64::MAX).ok_or("a lost snapshot cannot be made again")?;
            snapshots.make(disk, &plan)?;
            found = survey(route, epochs, disk, snapshots.covered())?;
        }
        let Found { recovery, ends, starts, extents, planner, tails_cut, damage_found } = found;
        if recovery.misses_snapshot() {
            return Err("a snapshot made again holds less than the lost one".to_owned());
        }
        // What was found valid may never have been synced.
        disk.settle();
        let epoch = epochs.last().map_or(1, |(epoch, _)| *epoch);
        let seeds = recovery.finish(&ends, epochs);
        let mut all = Vec::new();
        for (index, seed_of_logs) in seeds.into_iter().enumerate() {
            let log = LogId { epoch, shard: ShardIndex(index as u16) };
            let previous = starts.get(&log).copied().unwrap_or_default();
            let appender = appender_of(log, previous, sizes)?;
            all.push(Shard::new(ShardSetup {
                index: log.shard,
                route,
                limits: sizes.limits.clone(),
                tokens: Box::new(PlainTokens),
                seed: chance.bits(),
                incarnation: Incarnation(1),
                appender,
                seed_of_logs,
            }));
        }
        let count = usize::from(shards);
        Ok(Self {
            run,
            shards: all,
            mesh: Mesh::new(shards, sizes.ring_bytes, sizes.planted),
            ready: vec![false; count],
            stopped: vec![false; count],
            turn_due: vec![false; count],
            planner,
            epoch,
            extents,
            tails_cut,
            damage_found,
            writing: vec![false; count],
            reading: vec![0; count],
        })
    }

    /// Segments that nothing is appended to any more, and whose end is on record in the next.
    pub(crate) fn closed_segments(&self) -> BTreeSet<u32> {
        let closed = self.extents.values().flat_map(|extents| extents.iter().rev().skip(1));
        closed.map(|extent| extent.segment).collect()
    }

    /// Gives out the records of a batch that a shard has just written, as they lie on the disk.
    pub(crate) fn read_back(
        &self,
        disk: &mut Disk,
        shard: ShardIndex,
        batch: &StagedBatch,
    ) -> Result<Vec<u8>, String> {
        let extents = self.extents.get(&self.log_of(shard));
        let extent = extents.and_then(|extents| extents.last()).copied();
        let extent = extent.filter(|extent| extent.segment == batch.segment);
        let extent = extent.ok_or_else(|| format!("batch {} is in no segment", batch.number))?;
        let from = Position::new(batch.segment, batch.offset);
        let mut records = Vec::new();
        scan_chunk(disk, &[extent], from, usize::MAX / 2, &mut records);
        Ok(records)
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.iter().all(|ready| *ready)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.iter().all(|stopped| *stopped)
    }

    /// The log that a shard writes.
    pub(crate) fn log_of(&self, shard: ShardIndex) -> LogId {
        LogId { epoch: self.epoch, shard }
    }

    /// Notes where a shard's own log reaches.
    pub(crate) fn note_written(&mut self, shard: ShardIndex, segment: u32, end: u32) {
        let extents = self.extents.entry(self.log_of(shard)).or_default();
        match extents.last_mut() {
            Some(last) if last.segment == segment => last.end = end,
            _ => extents.push(SegmentExtent {
                segment,
                end,
                block_bytes: BLOCK_BYTES,
                footer_offset: None,
                guard: Guard::new(&DIRECTORY),
            }),
        }
    }

    /// A shard's newest segment is sealed by this batch.
    pub(crate) fn note_sealed(&mut self, shard: ShardIndex, batch: BatchNumber) {
        let log = self.log_of(shard);
        if let Some(extent) = self.extents.get(&log).and_then(|extents| extents.last()).copied() {
            let end = PreviousEnd { end: Position::new(extent.segment, extent.end), batch };
            self.planner.closed(log, ClosedSegment { extent, end });
        }
    }

    /// Reads as a reader thread would.
    pub(crate) fn read(
        &self,
        disk: &mut Disk,
        snapshots: &Snapshots,
        request: &ReadRequest,
    ) -> (Vec<u8>, Result<PageEnd, ReadError>) {
        let mut records = Vec::new();
        let result = match request {
            ReadRequest::Snapshot { stream } => return snapshots.read(stream),
            ReadRequest::Page(spec, lead) => {
                PageReader::new().read_led(disk, spec, lead.as_deref(), &mut records)
            }
            ReadRequest::Scan { log, from, to, bytes_max } => {
                let extents = self.trimmed(*log, *to);
                let scanned = scan_chunk(disk, &extents, *from, *bytes_max, &mut records);
                let (next, damaged) = (scanned.next, scanned.damage_count as u32);
                Ok(PageEnd { next, damaged, complete: next >= *to, ..PageEnd::default() })
            }
        };
        (records, result)
    }

    /// The written segments of a log up to the one of `to`: whole batches, all of them synced.
    fn trimmed(&self, log: LogId, to: Position) -> Vec<SegmentExtent> {
        let all = self.extents.get(&log).into_iter().flatten();
        all.filter(|extent| extent.segment <= to.segment).copied().collect()
    }
}
