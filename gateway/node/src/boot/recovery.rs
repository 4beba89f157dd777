//! Recovery: every log of every epoch is walked once, with lines that say how far it is.

use super::BootError;
use std::collections::BTreeMap;
use std::time::Instant;
use tidegate_domain::Route;
use tidegate_ids::LogId;
use tidegate_shard::{LogEnd, Recovery, ShardSeed};
use tidegate_storage_files::{DataDir, Progress, RecoveredLog, recover_all};
use tidegate_storage_log::{AppenderStart, SegmentExtent};

/// What recovery found.
pub(super) struct Recovered {
    /// For each shard of now: where its log goes on, and what it knows.
    pub(super) shards: Vec<(AppenderStart, ShardSeed)>,
    /// What of each log is to be scanned.
    pub(super) extents: BTreeMap<LogId, Vec<SegmentExtent>>,
}

/// A line at most this often.
const PROGRESS_INTERVAL_SECONDS: u64 = 1;

pub(super) fn recover(dir: &DataDir, route: Route) -> Result<Recovered, BootError> {
    let began = Instant::now();
    let mut told = began;
    let mut recovery = Recovery::new(route);
    let mut records = 0;
    let progress = |progress: Progress| {
        records = progress.records;
        if told.elapsed().as_secs() >= PROGRESS_INTERVAL_SECONDS {
            told = Instant::now();
            let Progress { log, segments_done, segments, records } = progress;
            tracing::info!(%log, segments_done, segments, records, "recovering");
        }
    };
    let logs = recover_all(dir, progress, |log, record| recovery.record(log, &record))?;
    logs.iter().for_each(tell_damage);
    let segments: usize = logs.iter().map(|log| log.recovered.extents.len()).sum();
    if segments > 0 {
        let seconds = began.elapsed().as_secs_f64();
        tracing::info!(segments, records, "recovered in {seconds:.3} s");
    }
    let ends: Vec<LogEnd> =
        logs.iter().map(|log| LogEnd { log: log.log, end: log.recovered.end() }).collect();
    let epochs: Vec<(u32, u16)> = dir.epochs().iter().map(|epoch| (epoch.number, epoch.shards)).collect();
    let current = logs.iter().filter(|log| log.log.epoch == dir.epoch());
    let starts: Vec<AppenderStart> = current.map(|log| log.appender_start(dir)).collect();
    assert_eq!(starts.len(), usize::from(dir.shards()), "the current epoch has a log for every shard");
    let shards = starts.into_iter().zip(recovery.finish(&ends, &epochs)).collect();
    let extents = logs.into_iter().map(|log| (log.log, log.recovered.extents)).collect();
    Ok(Recovered { shards, extents })
}

/// A cut is what a crash leaves and no loss; damage is.
fn tell_damage(log: &RecoveredLog) {
    let recovered = &log.recovered;
    if let Some(cut) = recovered.cut {
        let log = log.log;
        tracing::info!(%log, segment = cut.segment, from = cut.from, to = cut.to, "cut a tail that nobody was told of");
    }
    for damage in &recovered.damage {
        tracing::error!(log = %log.log, ?damage, "a log is damaged: what is there is not served");
    }
    if recovered.damage_count > recovered.damage.len() as u64 {
        tracing::error!(log = %log.log, count = recovered.damage_count, "more damage than is listed");
    }
}
