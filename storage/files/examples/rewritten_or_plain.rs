//! How small a directory gets when all of it is rewritten, and what a page costs from rewritten segments and from plain ones.
//!
//! `cargo run --release -p tidegate-storage-files --example rewritten_or_plain COPY`, where COPY is a copy of a stopped
//! gateway's data directory: it is rewritten. docs/benchmarks.md has the numbers.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Instant;
use tidegate_ids::{Location, Sequence, StreamId, StreamKind, WallMs};
use tidegate_storage_files::{
    CoveredSegments, DataDir, DirView, OpenOptions, Retention, RetentionOptions, RetentionPolicy,
    SegmentReader, recover_all,
};
use tidegate_storage_log::{Direction, Medium, PageReader, ReadSpec};

const PAGE: u32 = 50;
const PAGES: usize = 2000;
const ROUNDS: usize = 5;

/// Nothing expires: only what compression does is looked at.
struct KeepAll;

impl RetentionPolicy for KeepAll {
    fn keep_after(&self, _: &StreamId) -> WallMs {
        WallMs(0)
    }

    fn gone_before(&self, _: &StreamId) -> WallMs {
        WallMs(0)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = PathBuf::from(std::env::args().nth(1).ok_or("which directory?")?);
    let shards = DirView::open(&path)?.epochs().last().map_or(1, |epoch| epoch.shards);
    let dir = DataDir::open(&path, &OpenOptions::new(shards))?;
    let mut newest: HashMap<StreamId, (Location, Sequence)> = HashMap::new();
    let logs = recover_all(
        &dir,
        |_| {},
        |_, record| {
            let head = record.head;
            if matches!(head.stream.kind(), Some(StreamKind::Conversation(_))) && head.number.0 > 0 {
                newest.insert(head.stream, (record.location, head.sequence));
            }
        },
    )?;
    // A reader that looks at every segment now keeps the plain files, whatever happens to their names.
    let mut plain = dir.reader();
    let covered = CoveredSegments::default();
    let mut segments = 0;
    for log in &logs {
        for extent in &log.recovered.extents {
            plain.read(extent.segment, 0, &mut [0])?;
            segments += 1;
        }
        covered.set(log.log, log.recovered.previous);
    }
    let options =
        RetentionOptions { bytes_per_second: 0, compress_after_ms: 0, ..RetentionOptions::default() };
    let mut retention = Retention::new(&dir, options, covered);
    let began = Instant::now();
    retention.pass(&KeepAll, WallMs(u64::MAX), &AtomicBool::new(false), &mut |_| {})?;
    let (seconds, figures) = (began.elapsed().as_secs_f64(), retention.counters().figures());
    let written: u64 =
        logs.iter().flat_map(|log| &log.recovered.extents).map(|extent| u64::from(extent.end)).sum();
    let view = DirView::open(&path)?;
    let now: u64 = logs
        .iter()
        .flat_map(|log| &log.recovered.extents)
        .filter_map(|extent| view.segment_path(extent.segment)?.metadata().ok())
        .map(|file| file.len())
        .sum();
    println!(
        "{segments} segments, {} rewritten in {seconds:.1} s: {written} bytes written to them are {now} now, {:.2} to 1",
        figures.rewritten,
        written as f64 / now as f64
    );
    let mut streams: Vec<_> = newest.into_iter().filter(|(_, (_, last))| last.0 >= u64::from(PAGE)).collect();
    streams.sort_by_key(|(stream, _)| stream.0);
    let (mut by_plain, mut by_rewritten) = (Vec::new(), Vec::new());
    let mut rewritten = dir.reader();
    // Interleaved, so that both see the same machine.
    for _ in 0..ROUNDS {
        by_plain.push(measure(&mut plain, &streams)?);
        by_rewritten.push(measure(&mut rewritten, &streams)?);
    }
    by_plain.sort_unstable();
    by_rewritten.sort_unstable();
    let (plain, rewritten) = (by_plain[ROUNDS / 2], by_rewritten[ROUNDS / 2]);
    println!(
        "latest page of {PAGE}, {} conversations: plain {plain} ns, rewritten {rewritten} ns",
        streams.len()
    );
    Ok(())
}

/// Nanoseconds per page of pseudo-random conversations (an xorshift, Marsaglia 2003).
fn measure(
    reader: &mut SegmentReader,
    streams: &[(StreamId, (Location, Sequence))],
) -> Result<u64, Box<dyn std::error::Error>> {
    let (mut pages, mut out) = (PageReader::new(), Vec::new());
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let began = Instant::now();
    for _ in 0..PAGES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let (stream, (last, last_sequence)) = streams[state as usize % streams.len()];
        out.clear();
        let spec = ReadSpec::Range {
            stream,
            last,
            last_sequence,
            from: Sequence(1),
            to: last_sequence,
            limit: PAGE,
            bytes_max: 64 << 10,
            direction: Direction::Descending,
        };
        let end = pages.read(reader, &spec, &mut out)?;
        if end.damaged > 0 {
            return Err("a page was damaged".into());
        }
    }
    Ok(began.elapsed().as_nanos() as u64 / PAGES as u64)
}
