//! The thread that makes snapshots: shards tell it what is closed and consumed, it folds, and tells them what is folded.
//!
//! No shard ever waits for it. What it fails at is tried again; until then logs and locators grow.

use crate::large_users::tell_large;
use crate::limits::{SNAPSHOT_DAMAGE_READS, SNAPSHOT_PASS_BYTES_MAX, SNAPSHOT_RETRY};
use crate::stats::Board;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;
use tidegate_ids::{LogId, Position, ShardIndex};
use tidegate_shard::{ClosedSegment, LargeUsers, SnapshotPlanner, StreamFold, is_let_go};
use tidegate_storage_files::{
    BuildError, CoveredSegments, Refolded, SegmentTails, SnapshotBuilt, SnapshotFile, SnapshotPlan,
    Snapshots, return_free_memory,
};
use tidegate_storage_log::MergeError;
use tidegate_storage_log::limits::MERGE_BYTES_DEFAULT;

/// What a shard tells. At most one of each a segment or a checkpoint, so the channel is bounded by their pace.
#[derive(Debug)]
pub enum Told {
    /// A segment is sealed.
    Closed(LogId, ClosedSegment),
    /// A checkpoint is committed.
    Checkpointed(ShardIndex, Vec<(LogId, Position)>),
    /// A table of streams fills up.
    Wanted,
    /// A shard has forgotten what the newest snapshot holds.
    Swept(ShardIndex),
    /// An entry of this snapshot cannot be read.
    Suspect(u64),
    /// Two snapshots should hold these segments, and all before them, as soon as that can be: they hold what is to go.
    /// What was said of it before is void.
    Hold(BTreeMap<LogId, u32>),
}

/// What a shard is told.
#[derive(Clone, Debug)]
pub struct NewSnapshot {
    /// To read from.
    pub file: Arc<SnapshotFile>,
    /// Up to which segment it holds all of the shard's streams.
    pub through: u32,
}

/// What the thread starts with.
pub struct Setup {
    /// Those of the directory.
    pub snapshots: Snapshots,
    /// What the next one may hold.
    pub planner: SnapshotPlanner,
    /// Segments that recovery found damaged: what that cost is known.
    pub known_damage: Vec<u32>,
    /// So much of the logs is folded at a time, at least.
    pub bytes_min: u64,
    /// Closed segments give back what they do not use.
    pub tails: SegmentTails,
    /// Segments that recovery found closed.
    pub closed: Vec<(LogId, ClosedSegment)>,
    /// What may be made smaller: what two snapshots hold.
    pub covered: CoveredSegments,
    /// Where its figures go.
    pub board: Arc<Board>,
}

/// The thread. It ends when every sender is dropped.
#[derive(Debug)]
pub struct Snapshotter {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
}

impl Snapshotter {
    /// Starts the thread; `tell` reaches a shard, by its index.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(
        setup: Setup,
        shards: u16,
        tell: impl Fn(ShardIndex, NewSnapshot) + Send + 'static,
    ) -> io::Result<(Self, Sender<Told>)> {
        if let Some(newest) = setup.snapshots.newest() {
            setup.board.note_snapshot(newest);
        }
        let (sender, told) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let work = Work::new(setup, shards);
        // Before anybody looks at what may be touched.
        work.let_go();
        let run = move || work.serve(&told, &stopped, tell);
        let thread = Builder::new().name(String::from("snapshots")).spawn(run)?;
        Ok((Self { thread, stop }, sender))
    }

    /// Gives up what is being made: the gateway stops.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for its end.
    pub fn join(self) {
        // A panic there has been reported by its own message.
        let _ = self.thread.join();
    }
}

struct Work {
    setup: Setup,
    shards: u16,
    wanted: bool,
    /// Of each log the last segment that two snapshots should hold.
    hold: BTreeMap<LogId, u32>,
    /// After a failure.
    not_before: Option<Instant>,
    /// How often a segment was found damaged.
    damaged: BTreeMap<u32, u8>,
    /// Of these, those that are read without what is bad in them.
    late_damage: Vec<u32>,
    /// The newest snapshot was lost, and is made again from the one before: in one piece, since shards read from it what they
    /// have forgotten.
    rebuilds: bool,
    /// The next try waits for nothing.
    at_once: bool,
    /// The newest snapshot is lost, and cannot be made again: a start says more.
    halted: bool,
    /// Shards that have forgotten what the newest snapshot holds.
    swept: BTreeSet<ShardIndex>,
}

impl Work {
    const fn new(setup: Setup, shards: u16) -> Self {
        Self {
            setup,
            shards,
            wanted: false,
            hold: BTreeMap::new(),
            not_before: None,
            damaged: BTreeMap::new(),
            late_damage: Vec::new(),
            rebuilds: false,
            at_once: false,
            halted: false,
            swept: BTreeSet::new(),
        }
    }

    fn serve(mut self, told: &Receiver<Told>, stop: &AtomicBool, tell: impl Fn(ShardIndex, NewSnapshot)) {
        for (log, segment) in std::mem::take(&mut self.setup.closed) {
            self.release(log, &segment);
        }
        loop {
            match told.recv_timeout(SNAPSHOT_RETRY) {
                Ok(first) => {
                    self.hear(first);
                    told.try_iter().for_each(|next| self.hear(next));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Some(plan) = self.due().filter(|_| !stop.load(Ordering::Relaxed)) {
                let made = self.make(&plan, stop);
                let Some(file) = made else {
                    if std::mem::take(&mut self.at_once) {
                        continue;
                    }
                    break;
                };
                self.swept.clear();
                for shard in (0..self.shards).map(ShardIndex) {
                    let through = self.setup.planner.through(shard);
                    tell(shard, NewSnapshot { file: Arc::clone(&file), through });
                }
            }
        }
    }

    fn hear(&mut self, told: Told) {
        match told {
            Told::Closed(log, segment) => {
                self.release(log, &segment);
                self.setup.planner.closed(log, segment);
            }
            Told::Checkpointed(shard, fed) => self.setup.planner.checkpointed(shard, &fed),
            Told::Wanted => self.wanted = true,
            Told::Swept(shard) => self.swept(shard),
            Told::Suspect(number) => self.suspect(number),
            Told::Hold(hold) => self.hold = hold,
        }
    }

    /// When the last shard has swept its table, what all of it took is free, and so is what made the snapshot.
    fn swept(&mut self, shard: ShardIndex) {
        self.swept.insert(shard);
        if self.swept.len() == usize::from(self.shards) {
            self.swept.clear();
            let began = Instant::now();
            return_free_memory();
            tracing::debug!("gave free memory back in {:.3} s", began.elapsed().as_secs_f64());
        }
    }

    /// What a failure says about what lies on the disk.
    fn learn_from(&mut self, error: &BuildError) {
        match error {
            // It is read again: only what stays damaged is lost, with or without a snapshot.
            BuildError::Damaged { segment, .. } => {
                let times = self.damaged.entry(*segment).or_default();
                *times += 1;
                if *times >= SNAPSHOT_DAMAGE_READS {
                    self.setup.known_damage.push(*segment);
                    self.late_damage.push(*segment);
                }
            }
            BuildError::Merge(MergeError::Previous(_)) if self.is_newest_sound() => {
                tracing::warn!("the newest snapshot was read badly once, and is sound");
            }
            BuildError::Merge(MergeError::Previous(_) | MergeError::PreviousForeign) => {
                self.lose_newest();
                self.at_once = true;
            }
            _ => {}
        }
    }

    /// Somebody cannot be served because their entry in this snapshot cannot be read, and may wait for ever: no log need grow,
    /// so no next snapshot need become due that would meet it. If it is damaged it is made again at once.
    fn suspect(&mut self, number: u64) {
        let is_newest = self.setup.snapshots.newest().is_some_and(|newest| newest.number() == number);
        if is_newest && !self.halted && !self.is_newest_sound() {
            self.lose_newest();
        }
    }

    /// Reads all of it again.
    fn is_newest_sound(&self) -> bool {
        self.setup.snapshots.newest().is_some_and(|newest| newest.verify().is_sound())
    }

    /// The newest snapshot cannot be read to its end, however often. It is set aside as a start does, and made again from the
    /// one before, or from nothing. Shards go on reading from it what can be read.
    fn lose_newest(&mut self) {
        let Some(lost) = self.setup.snapshots.newest().cloned() else { return };
        let number = lost.number();
        self.setup.board.note_snapshot_set_aside();
        // What one snapshot alone holds is not let go.
        self.setup.covered.clear();
        if let Err(error) = self.setup.snapshots.set_aside(number) {
            tracing::error!(number, "a damaged snapshot is not set aside: {error}");
        }
        match self.fall_back(&lost) {
            Ok(segments) => {
                self.rebuilds = true;
                self.not_before = None;
                tracing::error!(
                    number,
                    segments,
                    "the newest snapshot is damaged and was set aside: it is made again"
                );
            }
            Err(error) => {
                self.halted = true;
                tracing::error!(
                    number,
                    "the newest snapshot is damaged, was set aside, and cannot be made again: {error}; no other one is made, \
                     and the logs grow; restore a backup"
                );
            }
        }
    }

    /// Goes back to the snapshot before the lost one, or to none; gives how many segments are to be folded again.
    fn fall_back(&mut self, lost: &SnapshotFile) -> Result<usize, String> {
        let Setup { snapshots, planner, .. } = &mut self.setup;
        let held = snapshots.newest().map(|older| older.header().covered.clone()).unwrap_or_default();
        let mut misses_bodies = false;
        let between = snapshots
            .between(&held, &lost.header().covered, |record| misses_bodies |= is_let_go(record))
            .map_err(|error| error.to_string())?;
        if misses_bodies {
            return Err(String::from("retention has let bodies go that only lost snapshots held"));
        }
        let closed = |(log, extent, end): &Refolded| (*log, ClosedSegment { extent: *extent, end: *end });
        let between: Vec<(LogId, ClosedSegment)> = between.iter().map(closed).collect();
        planner.fall_back(&held, &between);
        Ok(between.len())
    }

    /// Gives back the room behind a closed segment's end.
    fn release(&self, log: LogId, segment: &ClosedSegment) {
        let extent = &segment.extent;
        match self.setup.tails.release(log, extent.segment, extent.end) {
            Ok(bytes) => tracing::debug!(%log, segment = extent.segment, bytes, "gave back a segment's rest"),
            Err(error) => tracing::warn!("a segment's rest is not given back: {error}"),
        }
    }

    /// Says what may be made smaller: what the older of two snapshots holds too, so that either can be made again.
    fn let_go(&self) {
        let Some(older) = self.setup.snapshots.good().get(1) else { return };
        for one in &older.header().covered {
            self.setup.covered.set(one.log, one.previous);
        }
    }

    /// The next snapshot, if it is due. It copies the one before: it pays once so much is new, or when it is needed.
    fn due(&self) -> Option<tidegate_shard::SnapshotPlan> {
        if self.halted || self.not_before.is_some_and(|at| Instant::now() < at) {
            return None;
        }
        let Setup { snapshots, planner, bytes_min, .. } = &self.setup;
        if self.rebuilds {
            return planner.plan(u64::MAX);
        }
        let pending = planner.pending_bytes();
        let held = snapshots.newest().map_or(0, |newest| newest.bytes());
        let is_worth = pending >= (*bytes_min).max(held) || (self.wanted && pending > 0);
        let plan = planner.plan(SNAPSHOT_PASS_BYTES_MAX);
        if let Some(plan) = plan.filter(|plan| is_worth || self.is_nearer(plan)) {
            return Some(plan);
        }
        let is_copy_needed = self.lacks(snapshots.good().get(1)).next().is_some()
            && self.lacks(snapshots.newest()).next().is_none();
        if is_copy_needed { planner.again() } else { None }
    }

    /// Of each log that a snapshot does not hold as far as it should: the last segment that it holds.
    fn lacks<'a>(
        &'a self,
        snapshot: Option<&'a Arc<SnapshotFile>>,
    ) -> impl Iterator<Item = (LogId, u32)> + 'a {
        let held = move |log: &LogId| {
            let covered = snapshot.map_or(&[][..], |file| &file.header().covered);
            covered.iter().find(|one| one.log == *log).map_or(0, |one| one.previous.end.segment)
        };
        let logs = self.hold.iter().map(move |(log, wanted)| (*log, held(log), *wanted));
        logs.filter(|(_, held, wanted)| held < wanted).map(|(log, held, _)| (log, held))
    }

    /// Whether a plan brings a segment nearer to its first snapshot that two should hold.
    fn is_nearer(&self, plan: &tidegate_shard::SnapshotPlan) -> bool {
        let moves = |(log, held): (LogId, u32)| {
            plan.covered.iter().any(|one| one.log == log && one.previous.end.segment > held)
        };
        self.lacks(self.setup.snapshots.newest()).any(moves)
    }

    fn make(&mut self, plan: &tidegate_shard::SnapshotPlan, stop: &AtomicBool) -> Option<Arc<SnapshotFile>> {
        let Setup { snapshots, planner, known_damage, board, .. } = &mut self.setup;
        let began = Instant::now();
        match build(snapshots, plan, known_damage, &self.late_damage, stop, StreamFold::new()) {
            Ok((built, large)) => {
                planner.made(&plan.covered);
                let file = built.file;
                (self.wanted, self.rebuilds) = (false, false);
                self.not_before = None;
                let (entries, bytes) = (file.entry_count(), file.bytes());
                let seconds = began.elapsed().as_secs_f64();
                let number = file.number();
                tracing::info!(
                    number,
                    entries,
                    bytes,
                    folded_bytes = plan.bytes,
                    "made a snapshot in {seconds:.3} s"
                );
                board.note_snapshot(&file);
                board.note_large_users(&large);
                tell_large(number, &large);
                self.let_go();
                Some(file)
            }
            Err(BuildError::Stopped) => None,
            Err(error) => {
                tracing::error!(%error, "no snapshot could be made; trying again");
                board.note_snapshot_failed();
                self.not_before = Some(Instant::now() + SNAPSHOT_RETRY);
                self.learn_from(&error);
                None
            }
        }
    }
}

/// Folds what is planned on top of the newest snapshot. Whose states were too large is told by who has the snapshot: one that
/// is not made has taken nothing from anybody.
pub(crate) fn build(
    snapshots: &mut Snapshots,
    plan: &tidegate_shard::SnapshotPlan,
    known_damage: &[u32],
    late_damage: &[u32],
    stop: &AtomicBool,
    mut fold: StreamFold,
) -> Result<(SnapshotBuilt, LargeUsers), BuildError> {
    let plan = SnapshotPlan {
        segments: &plan.segments,
        covered: plan.covered.clone(),
        previous: snapshots.newest().cloned(),
        known_damage,
        late_damage,
        memory_bytes: MERGE_BYTES_DEFAULT,
    };
    let built = snapshots.build(&plan, &mut fold, stop)?;
    Ok((built, fold.into_large_users()))
}

#[cfg(test)]
mod tests;
