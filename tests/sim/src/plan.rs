//! What a seed does, and what it did.

use crate::clock::Chance;
use crate::gateway::Sizes;
use std::collections::BTreeMap;
use tidegate_ids::MonotonicNs;
use tidegate_shard::ShardLimits;

const MS: u64 = MonotonicNs::MILLISECOND;

/// Steps of the workload of a seed unless it is told otherwise: 320 ms each on average, so about six and a half minutes,
/// and four more until everything has drained.
pub const TICKS_DEFAULT: u64 = 1200;

/// A bug put in from outside, to see that it is found. Bugs in the rules themselves are patches (`tests/sim/plants`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Planted {
    /// The disk reports syncs that it did not do.
    NoSync,
    /// A shard is told that a batch is synced before it is written.
    EarlySync,
    /// The mesh loses a result now and then.
    LostResult,
    /// A start does not see the newest segment of a log.
    ForgottenSegment,
    /// A snapshot says that it holds a segment that was never folded into it.
    HollowSnapshot,
    /// The process forgets a read: its answer never comes.
    LostRead,
}

/// What can go wrong in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Fault {
    /// A device goes away for a while, noticed or not.
    Cut,
    /// A connection goes deaf in one direction or both.
    HalfOpen,
    /// A device reads nothing for a while.
    SlowReader,
    /// The power goes: what was not synced is torn.
    PowerCut,
    /// The process is killed.
    Kill,
    /// A clean stop, and a start.
    Stop,
    /// Starts with another number of shards.
    Reshard,
    /// A write or its sync fails, and the shard is read-only until a restart.
    FailedWrite,
    /// A sync takes seconds.
    SlowSync,
    /// No segment is to be had, and the disk says that it is nearly full.
    FullDisk,
    /// A bit of a message rots.
    BitRot,
    /// Somebody sets the wall clock.
    ClockJump,
    /// Snapshots are made in the middle of things.
    Snapshot,
    /// The newest snapshot is gone at a start.
    SnapshotLoss,
    /// A device registers after its user's conversations have begun.
    LateDevice,
    /// Somebody misbehaves.
    Rogue,
    /// An operator has records erased.
    Erasure,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Cut,
        Self::HalfOpen,
        Self::SlowReader,
        Self::PowerCut,
        Self::Kill,
        Self::Stop,
        Self::Reshard,
        Self::FailedWrite,
        Self::SlowSync,
        Self::FullDisk,
        Self::BitRot,
        Self::ClockJump,
        Self::Snapshot,
        Self::SnapshotLoss,
        Self::LateDevice,
        Self::Rogue,
        Self::Erasure,
    ];

    /// Its name on the command line and in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::HalfOpen => "half-open",
            Self::SlowReader => "slow-reader",
            Self::PowerCut => "power-cut",
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Reshard => "reshard",
            Self::FailedWrite => "failed-write",
            Self::SlowSync => "slow-sync",
            Self::FullDisk => "full-disk",
            Self::BitRot => "bit-rot",
            Self::ClockJump => "clock-jump",
            Self::Snapshot => "snapshot",
            Self::SnapshotLoss => "snapshot-loss",
            Self::LateDevice => "late-device",
            Self::Rogue => "rogue",
            Self::Erasure => "erasure",
        }
    }
}

/// What one seed does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Steps of the workload.
    pub ticks: u64,
    /// A bug, if one is wanted.
    pub planted: Option<Planted>,
    /// Faults that do not happen.
    pub without: Vec<Fault>,
    /// Print what devices are told, and every fault.
    pub narrated: bool,
}

impl Plan {
    /// A seed as it is run unless something else is asked for.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, ticks: TICKS_DEFAULT, planted: None, without: Vec::new(), narrated: false }
    }

    /// Whether a fault may happen.
    #[must_use]
    pub fn has(&self, fault: Fault) -> bool {
        !self.without.contains(&fault)
    }

    /// Every third seed has tables so small that everything goes cold.
    const fn has_tiny_tables(&self) -> bool {
        self.seed.is_multiple_of(3)
    }

    /// Every third seed, another one, has snapshots whose entries are too small for some users' queues.
    pub(crate) const fn has_small_user_states(&self) -> bool {
        self.seed % 3 == 1
    }
}

/// What a seed did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The same for the same seed.
    pub trace: u64,
    /// Virtual time.
    pub virtual_ms: u64,
    /// Steps of the workload that were done.
    pub acts: u64,
    /// Records with a sequence that were committed.
    pub records: u64,
    /// Devices with the SDK.
    pub devices: u64,
    /// Starts of a gateway after the first.
    pub restarts: u64,
    /// Faults by kind.
    pub faults: BTreeMap<Fault, u64>,
    /// Interesting branches that were reached, by name.
    pub marks: BTreeMap<&'static str, u64>,
}

impl Report {
    pub(crate) fn fault(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    pub(crate) fn mark(&mut self, mark: &'static str, count: u64) {
        *self.marks.entry(mark).or_default() += count;
    }

    /// Adds what another seed did.
    pub fn add(&mut self, other: &Self) {
        self.trace = self.trace.rotate_left(1) ^ other.trace;
        self.virtual_ms += other.virtual_ms;
        self.acts += other.acts;
        self.records += other.records;
        self.devices += other.devices;
        self.restarts += other.restarts;
        other.faults.iter().for_each(|(fault, count)| *self.faults.entry(*fault).or_default() += count);
        other.marks.iter().for_each(|(mark, count)| *self.marks.entry(mark).or_default() += count);
    }
}

/// A seed that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What did not hold.
    pub what: String,
    /// What had been done by then.
    pub report: Box<Report>,
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
        held_bytes_max: 128 * 1024,
        reads_in_flight_max: chance.between(1, 8) as usize,
        checkpoint_interval_ns: chance.between(500, 5000) * MS,
        cursor_lag_bytes_max: chance.between(0, 16) * 1024,
        shutdown_grace_ns: 200 * MS,
        mesh_frame_bytes_max: chance.between(6, 40) as usize * 1024,
        ..ShardLimits::default()
    };
    if plan.has_tiny_tables() {
        limits.hot_users_max = 28;
        limits.hot_conversations_max = 3;
    }
    let ring_bytes = limits.mesh_frame_bytes_max * chance.between(2, 4) as usize;
    Sizes {
        limits,
        segment_bytes: 256 * 1024,
        staging_bytes: 1024 * 1024,
        batch_bytes_max: 64 * 1024,
        ring_bytes,
        planted: plan.planted,
    }
}
