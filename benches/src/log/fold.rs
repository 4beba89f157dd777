//! A snapshot of all streams, folded from the whole log, beside reading the same files and writing as many bytes.

use super::corpus::Corpus;
use super::scan::read_and_sum;
use super::start::walk;
use super::table::{Table, spread, times};
use crate::limits::CONTROL_READ_BYTES;
use crate::median::Median;
use anyhow::{Context, Result, ensure};
use std::fs::{File, remove_file};
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;
use tidegate_shard::StreamFold;
use tidegate_storage_files::{SnapshotPlan, Snapshots};

/// What came of it.
#[derive(Clone, Debug)]
pub struct FoldResult {
    /// Seconds of building.
    pub build_s: Median,
    /// Seconds of the control.
    pub control_s: Median,
    /// Records folded.
    pub records: u64,
    /// Streams in the snapshot.
    pub entries: u64,
    /// Bytes of the snapshot.
    pub snapshot_bytes: u64,
    /// Bytes of the log that it holds.
    pub log_bytes: u64,
}

/// Builds the snapshot in every round, from nothing, and leaves the last one.
///
/// # Errors
/// It cannot be built.
pub fn run(corpus: &Corpus, rounds: usize) -> Result<FoldResult> {
    ensure!(rounds > 0, "a round at least");
    let dir = corpus.open()?;
    let parts = corpus.parts(&dir)?;
    let (planner, _) = walk(&dir, None)?;
    let planned = planner.plan(u64::MAX).context("the log has too few segments for a snapshot")?;
    let held = |segment: u32| planned.segments.iter().any(|(_, extent)| extent.segment == segment);
    let folded: Vec<_> = parts.into_iter().filter(|part| held(part.segment)).collect();
    let (mut build_s, mut control_s) = (Vec::new(), Vec::new());
    let mut result = None;
    for round in 0..rounds {
        for file in Snapshots::open(&dir)?.good() {
            remove_file(file.path())?;
        }
        let mut snapshots = Snapshots::open(&dir)?;
        let plan = SnapshotPlan::new(&planned.segments, planned.covered.clone(), None);
        let began = Instant::now();
        let built = snapshots.build(&plan, &mut StreamFold::new(), &AtomicBool::new(false))?;
        build_s.push(began.elapsed().as_secs_f64());
        let began = Instant::now();
        read_and_sum(&folded)?;
        write(&corpus.path().with_extension("control"), built.file.bytes())?;
        control_s.push(began.elapsed().as_secs_f64());
        result = Some(built);
        eprintln!("round {} of {rounds}", round + 1);
    }
    let built = result.context("a round at least")?;
    Ok(FoldResult {
        build_s: Median::of(build_s),
        control_s: Median::of(control_s),
        records: built.records,
        entries: built.file.entry_count(),
        snapshot_bytes: built.file.bytes(),
        log_bytes: planned.bytes,
    })
}

/// Writes so many bytes, syncs them, and removes them.
fn write(path: &Path, bytes: u64) -> Result<()> {
    let piece = vec![7; CONTROL_READ_BYTES];
    let mut file = File::create(path)?;
    let mut left = bytes;
    while left > 0 {
        let len = left.min(piece.len() as u64);
        file.write_all(&piece[..len as usize])?;
        left -= len;
    }
    file.sync_all()?;
    Ok(remove_file(path)?)
}

/// As a table of Markdown.
#[must_use]
pub fn table(result: &FoldResult) -> String {
    let mut table = Table::new(&["what", "seconds (low to high)", "× control"]);
    let control = "control: reading the same files with a checksum, writing and syncing as many bytes";
    table.row(&[
        control.to_owned(),
        spread(&result.control_s, 2),
        times(&result.control_s, &result.control_s),
    ]);
    table.row(&[
        String::from("building the snapshot"),
        spread(&result.build_s, 2),
        times(&result.build_s, &result.control_s),
    ]);
    format!(
        "{} records, {:.2} GB of log; {} streams, {:.0} MB of snapshot; {:.0} ns a record\n\n{}",
        result.records,
        result.log_bytes as f64 / 1e9,
        result.entries,
        result.snapshot_bytes as f64 / 1e6,
        result.build_s.middle * 1e9 / result.records.max(1) as f64,
        table.text()
    )
}

#[cfg(test)]
mod tests {
    use super::super::corpus::tests::SMALL;
    use super::*;

    #[test]
    fn a_snapshot_holds_every_stream() {
        let corpus = Corpus::make(&std::env::temp_dir(), &SMALL).expect("a corpus");
        let result = run(&corpus, 2).expect("a snapshot");
        assert_eq!(result.entries, SMALL.conversations);
        assert!(result.records > SMALL.records / 2 && result.records <= SMALL.records);
        assert!(result.snapshot_bytes > 0 && result.build_s.low > 0.0 && result.control_s.low > 0.0);
        assert_eq!(table(&result).lines().count(), 6);
    }
}
