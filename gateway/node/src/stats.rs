//! What the gateway tells about itself: numbers that shards publish and others read, without disturbing them.
//!
//! A shard writes its figures into atomics of its own at most every [`crate::limits::PUBLISH_INTERVAL_MS`]; the admin
//! endpoint reads them. Names and values stand in one place, [`figures::visit`].

pub mod figures;
mod json;
mod prometheus;

pub use figures::{Figure, Kind, Measured, PROCESS_FIGURES, PumpCounters, RETENTION_FIGURES};
pub use json::render as to_json;
pub use prometheus::Exporter;

use figures::{
    COLD_STREAMS, ERASURES_PENDING, ERASURES_RECORDS, HOT_STREAMS, LARGE_USERS, LOCATED_STREAMS,
    RECOVERY_DAMAGE, SNAPSHOT_STREAMS, SNAPSHOTS_FAILED, SNAPSHOTS_SET_ASIDE, retention_values,
};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tidegate_shard::{LATENCY_BUCKETS, LargeUsers};
use tidegate_storage_files::{RetentionCounters, SnapshotFile};

/// What the process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Recovering; nothing is accepted.
    Starting = 0,
    /// Serving.
    Ready = 1,
    /// Stopping: clients are told to go.
    Draining = 2,
}

/// The figures of all shards and the phase of the process.
#[derive(Debug)]
pub struct Board {
    figures: Vec<Figure>,
    shards: Vec<Cells>,
    /// Of the process: in the order of [`PROCESS_FIGURES`].
    process: [AtomicU64; PROCESS_FIGURES.len()],
    retention: OnceLock<Arc<RetentionCounters>>,
    phase: AtomicU8,
    started: Instant,
}

#[derive(Debug)]
struct Cells {
    values: Box<[AtomicU64]>,
    latency: Box<[AtomicU64]>,
    latency_ns_total: AtomicU64,
}

/// The figures of one shard, or of all, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// In the order of [`Board::figures`].
    pub values: Vec<u64>,
    /// Commits by latency (`tidegate_shard::latency_bucket_ns`).
    pub latency: [u64; LATENCY_BUCKETS],
    /// The sum of all commit latencies.
    pub latency_ns_total: u64,
}

impl Board {
    /// A board of `shards` shards that have published nothing.
    #[must_use]
    pub fn new(shards: u16) -> Self {
        let mut figures = Vec::new();
        figures::visit(&Measured::default(), &mut |figure, _| figures.push(figure));
        let cells = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        let shards = (0..shards)
            .map(|_| Cells {
                values: cells(figures.len()),
                latency: cells(LATENCY_BUCKETS),
                latency_ns_total: AtomicU64::new(0),
            })
            .collect();
        let process = std::array::from_fn(|_| AtomicU64::new(0));
        Self {
            figures,
            shards,
            process,
            retention: OnceLock::new(),
            phase: AtomicU8::new(Phase::Starting as u8),
            started: Instant::now(),
        }
    }

    /// Writes a shard's figures; only that shard's thread calls it. Nothing is allocated.
    pub fn publish(&self, shard: u16, measured: &Measured<'_>) {
        let cells = &self.shards[usize::from(shard)];
        let mut index = 0;
        figures::visit(measured, &mut |_, value| {
            cells.values[index].store(value, Ordering::Relaxed);
            index += 1;
        });
        assert_eq!(index, self.figures.len(), "every figure is visited every time");
        for (cell, count) in cells.latency.iter().zip(measured.latency()) {
            cell.store(*count, Ordering::Relaxed);
        }
        cells.latency_ns_total.store(measured.latency_ns_total(), Ordering::Relaxed);
    }

    /// What the figures mean.
    #[must_use]
    pub fn figures(&self) -> &[Figure] {
        &self.figures
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> u16 {
        self.shards.len() as u16
    }

    /// What a shard published last.
    #[must_use]
    pub fn shard(&self, shard: u16) -> Snapshot {
        let cells = &self.shards[usize::from(shard)];
        let mut latency = [0; LATENCY_BUCKETS];
        for (count, cell) in latency.iter_mut().zip(&cells.latency) {
            *count = cell.load(Ordering::Relaxed);
        }
        let values = cells.values.iter().map(|cell| cell.load(Ordering::Relaxed)).collect();
        Snapshot { values, latency, latency_ns_total: cells.latency_ns_total.load(Ordering::Relaxed) }
    }

    /// All shards together: sums, but for figures that are a maximum.
    #[must_use]
    pub fn total(&self) -> Snapshot {
        let values = vec![0; self.figures.len()];
        let mut total = Snapshot { values, latency: [0; LATENCY_BUCKETS], latency_ns_total: 0 };
        for shard in (0..self.shards()).map(|shard| self.shard(shard)) {
            for ((figure, sum), value) in self.figures.iter().zip(&mut total.values).zip(&shard.values) {
                *sum = if figure.kind == Kind::Maximum { (*sum).max(*value) } else { *sum + value };
            }
            for (sum, value) in total.latency.iter_mut().zip(&shard.latency) {
                *sum += value;
            }
            total.latency_ns_total += shard.latency_ns_total;
        }
        total
    }

    /// Notes the newest snapshot.
    pub fn note_snapshot(&self, file: &SnapshotFile) {
        let covered = file.header().covered.iter().map(|one| u64::from(one.previous.end.segment)).max();
        let values = [file.number(), file.entry_count(), file.bytes(), covered.unwrap_or(0)];
        for (cell, value) in self.process.iter().zip(values) {
            cell.store(value, Ordering::Relaxed);
        }
    }

    /// Notes that a snapshot could not be made.
    pub fn note_snapshot_failed(&self) {
        self.process[SNAPSHOTS_FAILED].fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a snapshot was damaged and set aside.
    pub fn note_snapshot_set_aside(&self) {
        self.process[SNAPSHOTS_SET_ASIDE].fetch_add(1, Ordering::Relaxed);
    }

    /// Notes what users gave up so that a snapshot could be made.
    pub fn note_large_users(&self, large: &LargeUsers) {
        let cells = self.process[LARGE_USERS..].iter();
        for (cell, value) in cells.zip([large.users, large.devices, large.conversations]) {
            cell.fetch_add(value, Ordering::Relaxed);
        }
    }

    /// Notes how much damage the start has found, how much of it may have held the newest record of a conversation, and
    /// whether it took a new incarnation for it.
    pub fn note_recovery(&self, damage: u64, lost: u64, is_renewed: bool) {
        let cells = self.process[RECOVERY_DAMAGE..].iter();
        for (cell, value) in cells.zip([damage, lost, u64::from(is_renewed)]) {
            cell.store(value, Ordering::Relaxed);
        }
    }

    /// Tells what retention counts from now on.
    pub fn follow_retention(&self, counters: Arc<RetentionCounters>) {
        // A process has one such thread.
        let _ = self.retention.set(counters);
    }

    /// Notes how many ranges are to be erased, and that so many records have been.
    pub fn note_erasures(&self, pending: usize, records: u64) {
        self.process[ERASURES_PENDING].store(pending as u64, Ordering::Relaxed);
        self.process[ERASURES_RECORDS].fetch_add(records, Ordering::Relaxed);
    }

    /// The figures of the process, each with its value.
    pub fn process(&self) -> impl Iterator<Item = (&'static Figure, u64)> + '_ {
        let own = PROCESS_FIGURES.iter().zip(self.process.iter().map(|cell| cell.load(Ordering::Relaxed)));
        let retention = self.retention.get().map(|counters| counters.figures()).unwrap_or_default();
        let cold = core::iter::once((&COLD_STREAMS, self.cold_streams()));
        own.chain(RETENTION_FIGURES.iter().zip(retention_values(&retention))).chain(cold)
    }

    /// Streams that are not in memory, at most: every stream is in the newest snapshot or in the table, and some are in both.
    fn cold_streams(&self) -> u64 {
        let total = self.total();
        let sum = |path: &str| {
            let place = self.figures.iter().position(|figure| figure.path == path);
            place.map_or(0, |place| total.values[place])
        };
        let known = self.process[SNAPSHOT_STREAMS].load(Ordering::Relaxed) + sum(LOCATED_STREAMS);
        known.saturating_sub(sum(HOT_STREAMS))
    }

    /// Whether a figure is not zero in some shard, such as [`figures::LATCHED`].
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        let found = self.figures.iter().position(|figure| figure.path == path);
        found.is_some_and(|index| {
            self.shards.iter().any(|cells| cells.values[index].load(Ordering::Relaxed) > 0)
        })
    }

    /// What the process is doing.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }

    /// Goes on to a phase; never back.
    pub fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
    }

    /// Seconds since the process began to start.
    #[must_use]
    pub fn uptime_seconds(&self) -> u64 {
        self.started.elapsed().as_secs()
    }
}

#[cfg(test)]
mod tests;
