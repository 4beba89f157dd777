//! Records as fast as staging takes them, beside raw writes of the same sizes one after the other.

use super::paced::writers;
use super::table::{Table, spread, times};
use super::writer::{CACHED_BUFFERS, LogWriter, STAGED_BATCHES, Write};
use crate::limits::RECORDS_BETWEEN_POLLS;
use crate::median::Median;
use anyhow::{Result, ensure};
use std::path::Path;
use std::time::{Duration, Instant};

/// How much to write.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Records of a sample.
    pub records: u64,
    /// Samples.
    pub rounds: usize,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct BandwidthResult {
    /// MB/s of all that was written, and synced.
    pub written: Median,
    /// MB/s of bodies.
    pub bodies: Median,
    /// MB/s of the same writes, raw, from as many buffers as the log's staging has.
    pub control: Median,
    /// MB/s of the same writes, raw, from two buffers that stay in the processor's cache.
    pub cached: Median,
    /// Bytes of a write.
    pub write_bytes: Median,
}

/// Measures on one core; to be called by a thread that may be pinned.
///
/// # Errors
/// The disk fails, or there is no room on it.
pub fn run(directory: &Path, core: usize, work: &Work) -> Result<BandwidthResult> {
    ensure!(work.records > 0 && work.rounds > 0, "a record and a round at least");
    let (mut log, mut raw) =
        writers(directory, core, work.body_bytes, work.records * (work.rounds as u64 + 1))?;
    // Warm: memory of staging is touched, and tables of the file system.
    let (warm, _) = sample(&mut log, work.records)?;
    raw.repeat(&warm, STAGED_BATCHES, |_| {})?;
    let (mut written, mut bodies, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
    let (mut control, mut cached) = (Vec::new(), Vec::new());
    for round in 0..work.rounds {
        let (writes, took) = sample(&mut log, work.records)?;
        let bytes = writes.iter().map(|write| write.bytes).sum::<usize>() as f64;
        for (buffers, rates) in [(STAGED_BATCHES, &mut control), (CACHED_BUFFERS, &mut cached)] {
            let began = Instant::now();
            raw.repeat(&writes, buffers, |_| {})?;
            rates.push(bytes / 1e6 / began.elapsed().as_secs_f64());
        }
        written.push(bytes / 1e6 / took.as_secs_f64());
        bodies.push(work.records as f64 * work.body_bytes as f64 / 1e6 / took.as_secs_f64());
        sizes.push(bytes / writes.len() as f64);
        eprintln!("round {} of {}", round + 1, work.rounds);
    }
    Ok(BandwidthResult {
        written: Median::of(written),
        bodies: Median::of(bodies),
        control: Median::of(control),
        cached: Median::of(cached),
        write_bytes: Median::of(sizes),
    })
}

/// Appends while a write is in flight; the writes, without their times, and how long all took.
fn sample(log: &mut LogWriter, records: u64) -> Result<(Vec<Write>, Duration)> {
    let began = Instant::now();
    let (mut writes, mut appended) = (Vec::new(), 0);
    loop {
        // What is ready goes out as soon as the write before it is done, as a shard's does; the next gathers meanwhile.
        if let Some(bytes) = log.commit()? {
            writes.push(Write { at: Duration::ZERO, bytes });
        } else if log.is_idle() && appended == records {
            return Ok((writes, began.elapsed()));
        }
        let mut is_full = false;
        for _ in 0..RECORDS_BETWEEN_POLLS.min(records - appended) {
            is_full = log.append()?.is_none();
            if is_full {
                break;
            }
            appended += 1;
        }
        if log.is_idle() {
            continue;
        }
        let must_wait = is_full || appended == records;
        log.wait(if must_wait { None } else { Some(Duration::ZERO) })?;
    }
}

/// As a table of Markdown.
#[must_use]
pub fn table(result: &BandwidthResult) -> String {
    let mut table = Table::new(&["what", "MB/s (low to high)", "× control", "× from the cache"]);
    let rows = [
        ("control: the same writes, raw, from as many buffers", &result.control),
        ("the same writes, raw, from two buffers that stay in the cache", &result.cached),
        ("the log, all that is written", &result.written),
        ("the log, bodies alone", &result.bodies),
    ];
    for (name, rate) in rows {
        table.row(&[
            name.to_owned(),
            spread(rate, 0),
            times(rate, &result.control),
            times(rate, &result.cached),
        ]);
    }
    format!("writes of {:.0} KiB\n\n{}", result.write_bytes.middle / 1024.0, table.text())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu;
    use std::thread;

    #[test]
    fn more_is_written_than_the_bodies() {
        let directory = tempfile::tempdir().expect("a directory");
        let work = Work { body_bytes: 1024, records: 5000, rounds: 1 };
        let core = *cpu::allowed().expect("cores").last().expect("a core");
        let measured = thread::scope(|scope| scope.spawn(|| run(directory.path(), core, &work)).join());
        let result = measured.expect("no panic").expect("a result");
        assert!(
            result.bodies.low > 0.0 && result.written.low > result.bodies.low && result.control.low > 0.0
        );
        assert_eq!(table(&result).lines().count(), 8);
    }
}
