//! A start: the same directory opened as the gateway opens it, with its snapshot and without.

use super::corpus::Corpus;
use super::scan::read_and_sum;
use super::table::{Table, spread};
use crate::median::Median;
use crate::server::wait_until_ready;
use anyhow::{Context, Result, ensure};
use std::fs::remove_file;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use tidegate_domain::Route;
use tidegate_shard::{ClosedSegment, LogEnd, Recovery, ShardSeed, SnapshotPlanner};
use tidegate_storage_files::{DataDir, Snapshots, recover_after};
use tidegate_storage_log::Covered;

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct StartResult {
    /// Seconds of the gateway's own steps, everything read.
    pub whole_s: Median,
    /// Seconds of the same, with the snapshot.
    pub snapshot_s: Median,
    /// Seconds of reading all files of the log with a checksum.
    pub control_s: Median,
    /// Seconds of `tidegate serve` until it is ready, with the snapshot.
    pub serve_snapshot_s: Median,
    /// Seconds of the same, without it.
    pub serve_whole_s: Median,
}

/// Opens a corpus with a snapshot in every round, and one that is not there; removes the snapshot at the end. The gateway
/// is started too, if its program is given.
///
/// # Errors
/// It does not start.
pub fn run(corpus: &Corpus, rounds: usize, tidegate: Option<&Path>) -> Result<StartResult> {
    ensure!(rounds > 0, "a round at least");
    let (mut whole, mut with, mut control) = (Vec::new(), Vec::new(), Vec::new());
    let parts = corpus.parts(&corpus.open()?)?;
    for round in 0..rounds {
        whole.push(open(corpus, false)?);
        with.push(open(corpus, true)?);
        let began = Instant::now();
        read_and_sum(&parts)?;
        control.push(began.elapsed().as_secs_f64());
        eprintln!("round {} of {rounds}", round + 1);
    }
    let mut result = StartResult {
        whole_s: Median::of(whole),
        snapshot_s: Median::of(with),
        control_s: Median::of(control),
        ..StartResult::default()
    };
    if let Some(tidegate) = tidegate {
        let serve = |_| serve(tidegate, &corpus.path());
        result.serve_snapshot_s = Median::of((0..rounds).map(serve).collect::<Result<Vec<_>>>()?);
        for file in Snapshots::open(&corpus.open()?)?.good() {
            remove_file(file.path())?;
        }
        // Once: a gateway without a snapshot begins to make one.
        result.serve_whole_s = Median::of([serve(0)?]);
    }
    Ok(result)
}

/// What `gateway/node` does before its shards exist.
fn open(corpus: &Corpus, with_snapshot: bool) -> Result<f64> {
    let began = Instant::now();
    let dir = corpus.open()?;
    let snapshots = Snapshots::open(&dir)?;
    let covered = snapshots.newest().map(|newest| newest.header().covered.clone());
    ensure!(covered.is_some(), "there is no snapshot");
    let (_, seeds) = walk(&dir, covered.as_deref().filter(|_| with_snapshot))?;
    ensure!(seeds.len() == usize::from(dir.shards()), "a seed for every shard");
    Ok(began.elapsed().as_secs_f64())
}

/// One pass over the logs behind a snapshot: what the next one may hold, and what each shard begins with.
pub(super) fn walk(dir: &DataDir, held: Option<&[Covered]>) -> Result<(SnapshotPlanner, Vec<ShardSeed>)> {
    let epochs: Vec<(u32, u16)> = dir.epochs().iter().map(|epoch| (epoch.number, epoch.shards)).collect();
    let mut recovery = Recovery::new(Route::new(dir.shards()), held);
    let held = held.unwrap_or_default();
    let logs = recover_after(dir, held, |_| {}, |log, record| recovery.record(log, &record))?;
    let mut planner = recovery.planner(&epochs, held);
    for log in &logs {
        let recovered = &log.recovered;
        ensure!(recovered.damage_count == 0, "the log is damaged");
        for (extent, end) in recovered.extents.iter().zip(&recovered.ends) {
            planner.closed(log.log, ClosedSegment { extent: *extent, end: *end });
        }
    }
    let ends: Vec<LogEnd> =
        logs.iter().map(|log| LogEnd { log: log.log, end: log.recovered.end() }).collect();
    Ok((planner, recovery.finish(&ends, &epochs)))
}

/// Starts the gateway and ends it as soon as it is ready.
fn serve(tidegate: &Path, data: &Path) -> Result<f64> {
    let began = Instant::now();
    let mut child = Command::new(tidegate)
        .args(["serve", "--shards", "1", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data"])
        .arg(data)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", tidegate.display()))?;
    let ready = wait_until_ready(&mut child);
    let took = began.elapsed().as_secs_f64();
    // Both fail only if it has ended already.
    let _ = child.kill();
    let _ = child.wait();
    ready.map(|_| took).context("the gateway does not become ready")
}

/// As a table of Markdown.
#[must_use]
pub fn table(result: &StartResult) -> String {
    let mut table = Table::new(&["what", "without a snapshot, seconds", "with it, seconds (low to high)"]);
    table.row(&[
        String::from("control: reading all files of the log with a checksum"),
        spread(&result.control_s, 3),
        String::from("–"),
    ]);
    table.row(&[
        String::from("directory, snapshot, recovery, what each shard begins with"),
        spread(&result.whole_s, 3),
        spread(&result.snapshot_s, 3),
    ]);
    if result.serve_snapshot_s.middle > 0.0 {
        table.row(&[
            String::from("`tidegate serve` until it is ready"),
            format!("{:.3}, once", result.serve_whole_s.middle),
            spread(&result.serve_snapshot_s, 3),
        ]);
    }
    table.text().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::corpus::tests::SMALL;
    use super::super::fold;
    use super::*;

    #[test]
    fn a_start_needs_a_snapshot_to_compare_with() {
        let corpus = Corpus::make(&std::env::temp_dir(), &SMALL).expect("a corpus");
        assert!(run(&corpus, 1, None).is_err());
        fold::run(&corpus, 1).expect("a snapshot");
        let result = run(&corpus, 1, None).expect("a start");
        assert!(result.whole_s.low > 0.0 && result.snapshot_s.low > 0.0 && result.control_s.low > 0.0);
        assert_eq!(table(&result).lines().count(), 4);
    }
}
