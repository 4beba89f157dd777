//! What a seed does, and what it did.

use crate::clock::Chance;
use crate::gateway::Sizes;
use tidegate_ids::MonotonicNs;
use tidegate_shard::ShardLimits;

const MS: u64 = MonotonicNs::MILLISECOND;

/// A bug put in from outside, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Planted {
    /// The disk reports syncs that it did not do.
    NoSync,
}

/// What one seed does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Steps of the workload, about one in 100 ms of virtual time.
    pub ticks: u64,
    /// A bug, if one is wanted.
    pub planted: Option<Planted>,
    /// Whether tables are so small that everything goes cold.
    pub tiny_tables: bool,
}

/// What a seed did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The same for the same seed.
    pub trace: u64,
    /// Virtual time.
    pub virtual_ms: u64,
    /// Records in the logs in the end.
    pub records: u64,
    /// Power cuts, kills and clean stops.
    pub crashes: u64,
    /// Writes of a log that failed.
    pub failed_writes: u64,
    /// Connections cut.
    pub cuts: u64,
    /// Starts with another number of shards.
    pub reshards: u64,
    /// Snapshots made.
    pub snapshots: u64,
    /// Snapshots lost before a start.
    pub snapshots_lost: u64,
    /// The sums of all shards' counters, by label.
    pub marks: std::collections::BTreeMap<&'static str, u64>,
}

/// A seed that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What did not hold.
    pub what: String,
    /// What had been done by then.
    pub report: Report,
}

/// Sizes so small that every limit is met.
pub(crate) fn sizes_of(plan: &Plan, chance: &mut Chance) -> Sizes {
    let mut limits = ShardLimits {
        listed_members_max: chance.between(1, 6) as usize,
        connections_max: 256,
        hot_users_max: 256,
        hot_conversations_max: 256,
        locators_max: 100_000,
        window_entries_max: chance.between(16, 512) as usize,
        pending_max: chance.between(8, 512) as usize,
        parked_max: chance.between(4, 64) as usize,
        reads_in_flight_max: chance.between(1, 8) as usize,
        checkpoint_interval_ns: chance.between(500, 5000) * MS,
        cursor_lag_bytes_max: chance.between(0, 16) * 1024,
        shutdown_grace_ns: 200 * MS,
        mesh_frame_bytes_max: chance.between(6, 40) as usize * 1024,
        ..ShardLimits::default()
    };
    if plan.tiny_tables {
        limits.hot_users_max = 24;
        limits.hot_conversations_max = 3;
    }
    let ring_bytes = limits.mesh_frame_bytes_max * chance.between(2, 4) as usize;
    Sizes {
        limits,
        segment_bytes: 1024 * 1024,
        staging_bytes: 4 * 1024 * 1024,
        batch_bytes_max: 256 * 1024,
        ring_bytes,
    }
}
