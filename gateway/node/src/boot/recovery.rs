//! Recovery: the newest snapshot, and every log of every epoch behind it walked once, with lines that say how far it is.

use super::BootError;
use crate::damage::words;
use crate::large_users::tell_large;
use crate::snapshots;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::Instant;
use tidegate_domain::Route;
use tidegate_ids::LogId;
use tidegate_shard::{ClosedSegment, LargeUsers, LogEnd, Recovery, ShardSeed, SnapshotPlanner, StreamFold};
use tidegate_storage_files::{
    DataDir, OpenError, Progress, RecoverError, RecoveredLog, Snapshots, recover_after,
};
use tidegate_storage_log::{AppenderStart, Covered, Damage, Loss, PreviousEnd, SegmentExtent};

/// What recovery found.
pub(super) struct Recovered {
    /// For each shard of now: where its log goes on, and what it knows.
    pub(super) shards: Vec<(AppenderStart, ShardSeed)>,
    /// What of each log is to be scanned.
    pub(super) extents: BTreeMap<LogId, Vec<SegmentExtent>>,
    /// Those of the directory.
    pub(super) snapshots: Snapshots,
    /// What the next snapshot may hold.
    pub(super) planner: SnapshotPlanner,
    /// Segments in which something is damaged.
    pub(super) known_damage: Vec<u32>,
    /// The segments that were read.
    pub(super) closed: Vec<(LogId, ClosedSegment)>,
    /// How many damaged places were found.
    pub(super) damage_count: u64,
    /// How many of them may have held the newest record of a conversation.
    pub(super) lost_count: u64,
    /// Whether that was not known yet, and was answered with a new incarnation.
    pub(super) is_renewed: bool,
    /// Whose states were too large for a snapshot that was made again.
    pub(super) large_users: LargeUsers,
}

/// What one pass found.
struct Pass {
    recovery: Recovery,
    logs: Vec<RecoveredLog>,
    planner: SnapshotPlanner,
    known_damage: Vec<u32>,
    closed: Vec<(LogId, ClosedSegment)>,
    /// What is lost and may have been the newest record of a conversation.
    lost: Vec<Loss>,
    /// A log that was consumed further than it goes.
    beyond: Option<LogEnd>,
}

/// What is lost, of all passes: a snapshot that is made again on the way hides it from the last one.
#[derive(Default)]
struct Lost {
    places: Vec<Loss>,
    beyond: Option<LogEnd>,
}

impl Lost {
    fn add(&mut self, pass: &mut Pass) {
        self.places.append(&mut pass.lost);
        self.places.sort_unstable_by_key(|loss| (loss.segment, loss.from, loss.to));
        self.places.dedup();
        self.beyond = self.beyond.or(pass.beyond);
    }

    /// Takes a new incarnation if any of it is news.
    fn account(&self, dir: &mut DataDir) -> Result<bool, BootError> {
        // What was put back has taken one already, and its logs were copied one after another.
        let ends_early = self.beyond.filter(|_| !dir.was_restored());
        let renewed = dir.account_for(&self.places, ends_early.is_some()).map_err(OpenError::from)?;
        if let Some(LogEnd { log, end }) = ends_early {
            tracing::error!(%log, "the end of a log is lost: it was read up to {end}, and ends before that");
        }
        if renewed {
            tracing::error!(
                places = self.places.len(),
                incarnation = dir.incarnation().0,
                "the newest messages of some conversations may be lost: a new incarnation is taken, and clients drop what \
                 lies above the heads that they are told; see `Damage` in docs/operations.md"
            );
        }
        Ok(renewed)
    }
}

/// A line at most this often.
const PROGRESS_INTERVAL_SECONDS: u64 = 1;

/// Reads the newest snapshot that the logs agree with, and what is behind it. One that was lost is made again first.
pub(super) fn recover(dir: &mut DataDir, route: Route) -> Result<Recovered, BootError> {
    let mut snapshots = Snapshots::open(dir)?;
    for bad in snapshots.bad() {
        tracing::error!("{bad}");
    }
    let epochs: Vec<(u32, u16)> = dir.epochs().iter().map(|epoch| (epoch.number, epoch.shards)).collect();
    let mut made_again: Option<LargeUsers> = None;
    let mut lost = Lost::default();
    let pass = loop {
        let newest = snapshots.newest().map(|newest| (newest.number(), newest.header().covered.clone()));
        let held = newest.as_ref().map(|(_, covered)| &covered[..]);
        match (walk(dir, route, &epochs, held), newest) {
            (Err(BootError::Recovery(RecoverError::Log { log, source })), Some((number, _)))
                if matches!(source, tidegate_storage_log::RecoverError::Covered { .. }) =>
            {
                tracing::error!(%log, number, %source, "a snapshot is passed over");
                snapshots.pass_over(number);
            }
            (pass, _) => {
                let mut pass = pass?;
                lost.add(&mut pass);
                if pass.recovery.misses_bodies() {
                    return Err(BootError::SnapshotsGone);
                }
                if !pass.recovery.misses_snapshot() {
                    break pass;
                }
                if made_again.is_some() {
                    return Err(BootError::SnapshotLost(String::from("it holds less than the lost one")));
                }
                made_again = Some(make_again(&mut snapshots, &pass)?);
            }
        }
    };
    let is_renewed = lost.account(dir)?;
    let ends = ends_of(&pass.logs);
    let current = pass.logs.iter().filter(|log| log.log.epoch == dir.epoch());
    let starts: Vec<AppenderStart> = current.map(|log| log.appender_start(dir)).collect();
    assert_eq!(starts.len(), usize::from(dir.shards()), "the current epoch has a log for every shard");
    let shards = starts.into_iter().zip(pass.recovery.finish(&ends, &epochs)).collect();
    let damage_count = pass.logs.iter().map(|log| log.recovered.damage_count).sum();
    let extents = pass.logs.into_iter().map(|log| (log.log, log.recovered.extents)).collect();
    let Pass { planner, known_damage, closed, .. } = pass;
    let lost_count = lost.places.len() as u64 + u64::from(lost.beyond.is_some());
    Ok(Recovered {
        shards,
        extents,
        snapshots,
        planner,
        known_damage,
        closed,
        damage_count,
        lost_count,
        is_renewed,
        large_users: made_again.unwrap_or_default(),
    })
}

fn ends_of(logs: &[RecoveredLog]) -> Vec<LogEnd> {
    logs.iter().map(|log| LogEnd { log: log.log, end: log.recovered.end() }).collect()
}

/// Walks all logs behind what a snapshot holds.
fn walk(
    dir: &DataDir,
    route: Route,
    epochs: &[(u32, u16)],
    held: Option<&[Covered]>,
) -> Result<Pass, BootError> {
    let began = Instant::now();
    let mut told = began;
    let mut recovery = Recovery::new(route, held);
    let mut records = 0;
    let progress = |progress: Progress| {
        records = progress.records;
        if told.elapsed().as_secs() >= PROGRESS_INTERVAL_SECONDS {
            told = Instant::now();
            let Progress { log, segments_done, segments, records } = progress;
            tracing::info!(%log, segments_done, segments, records, "recovering");
        }
    };
    let held = held.unwrap_or_default();
    let logs = recover_after(dir, held, progress, |log, record| recovery.record(log, &record))?;
    logs.iter().for_each(tell_damage);
    let segments: usize = logs.iter().map(|log| log.recovered.extents.len()).sum();
    if segments > 0 {
        let seconds = began.elapsed().as_secs_f64();
        tracing::info!(segments, records, "recovered in {seconds:.3} s");
    }
    let ends = ends_of(&logs);
    let lost = logs.iter().flat_map(|log| recovery.unnoticed(&log.recovered.lost)).collect();
    let beyond = recovery.consumed_beyond(&ends).next();
    // Not in what was put back: its logs were copied one after another, so the one that says so may be the newer copy.
    for LogEnd { log, end } in recovery.consumed_beyond(&ends).filter(|_| !dir.was_restored()) {
        if let Some(problem) = dir.note_emptied(log, end).map_err(OpenError::from)? {
            return Err(BootError::Directory(problem.into()));
        }
    }
    recovery.ended(&ends);
    let mut planner = recovery.planner(epochs, held);
    let closed_of = |log: &RecoveredLog| {
        let both = log.recovered.extents.iter().zip(&log.recovered.ends);
        let name = log.log;
        let close =
            |(extent, end): (&SegmentExtent, &PreviousEnd)| ClosedSegment { extent: *extent, end: *end };
        both.map(close).map(|segment| (name, segment)).collect::<Vec<_>>()
    };
    let closed: Vec<(LogId, ClosedSegment)> = logs.iter().flat_map(closed_of).collect();
    closed.iter().for_each(|(log, segment)| planner.closed(*log, *segment));
    let damage = logs.iter().flat_map(|log| &log.recovered.damage);
    let known_damage = damage.map(|damage| damage.segment).collect();
    Ok(Pass { recovery, logs, planner, known_damage, closed, lost, beyond })
}

/// Folds from the logs what a snapshot held that is lost.
fn make_again(snapshots: &mut Snapshots, pass: &Pass) -> Result<LargeUsers, BootError> {
    let lost = |what: &dyn std::fmt::Display| BootError::SnapshotLost(what.to_string());
    let Some(plan) = pass.planner.plan(u64::MAX) else { return Err(lost(&"no segment is there to fold")) };
    tracing::warn!(
        segments = plan.segments.len(),
        "the newest snapshot is lost: it is made again from the logs"
    );
    let stop = AtomicBool::new(false);
    let built = snapshots::build(snapshots, &plan, &pass.known_damage, &[], &stop, StreamFold::new());
    let (built, large) = built.map_err(|error| lost(&error))?;
    tell_large(built.file.number(), &large);
    Ok(large)
}

/// A cut is what a crash leaves and no loss; damage is.
fn tell_damage(log: &RecoveredLog) {
    let recovered = &log.recovered;
    if let Some(cut) = recovered.cut {
        let log = log.log;
        tracing::info!(%log, segment = cut.segment, from = cut.from, to = cut.to, "cut a tail that nobody was told of");
    }
    for damage in &recovered.damage {
        let Damage { segment, from, to, .. } = *damage;
        tracing::error!(log = %log.log, segment, from, to, "a log is damaged: {}", words(damage));
    }
    let more = recovered.damage_count - recovered.damage.len() as u64;
    if more > 0 {
        tracing::error!(log = %log.log, more, "there is more damage than is listed: see `tidegate-log verify`");
    }
}
