//! Records at a steady rate, committed in groups without a timer, beside raw writes of the same sizes at the same times.

use super::table::{Table, spread, times};
use super::writer::{CACHED_BUFFERS, LogWriter, RawWriter, Write, mode, prepared};
use crate::cpu;
use crate::limits::{RECORD_OVERHEAD_BYTES, SAMPLE_TIME_MAX, SEGMENT_BYTES, WAIT_STEP};
use crate::median::Median;
use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};
use tidegate_ids::BatchNumber;

/// What is offered.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Records a second.
    pub rate: u64,
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Records of a sample.
    pub records: u64,
    /// Samples.
    pub rounds: usize,
}

/// Half, nearly all, and all but one in a thousand were faster than this, in microseconds: median of the rounds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Latency {
    /// Of one in two.
    pub p50_us: Median,
    /// Of one in a hundred.
    pub p99_us: Median,
    /// Of one in a thousand.
    pub p999_us: Median,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct PacedResult {
    /// A record, from when it was due to when it is synced: what it waits for the thread is in it.
    pub from_due: Latency,
    /// A record, from its append to when it is synced.
    pub from_append: Latency,
    /// The log's writes.
    pub writes: Latency,
    /// The same writes, raw.
    pub control: Latency,
    /// Writes a second.
    pub writes_per_second: Median,
    /// Bytes of a write.
    pub write_bytes: Median,
    /// Records a second that were synced.
    pub records_per_second: Median,
}

/// A record that is not synced yet.
#[derive(Clone, Copy, Debug)]
struct Pending {
    batch: BatchNumber,
    due: Duration,
    appended: Duration,
}

struct Sample {
    from_due: Histogram<u64>,
    from_append: Histogram<u64>,
    writes: Histogram<u64>,
    trace: Vec<Write>,
    took: Duration,
    /// The same writes, raw.
    control: Histogram<u64>,
}

/// Measures on one core; to be called by a thread that may be pinned.
///
/// # Errors
/// The disk fails, or there is no room on it.
pub fn run(directory: &Path, core: usize, work: &Work) -> Result<PacedResult> {
    ensure!(work.rate > 0 && work.records > 0 && work.rounds > 0, "a record and a round at least");
    let records = work.records * (work.rounds as u64 + 1);
    let (mut log, mut raw) = writers(directory, core, work.body_bytes, records)?;
    // Warm: the first batches find cold tables of the file system, and memory that was not touched.
    let warm = sample(&mut log, work)?;
    raw.repeat(&warm.trace, CACHED_BUFFERS, |_| {})?;
    let mut samples = Vec::new();
    for round in 0..work.rounds {
        let mut taken = sample(&mut log, work)?;
        let Sample { trace, control, .. } = &mut taken;
        raw.repeat(trace, CACHED_BUFFERS, |took| control.saturating_record(took.as_nanos() as u64))?;
        samples.push(taken);
        eprintln!("round {} of {}", round + 1, work.rounds);
    }
    Ok(result(&samples))
}

/// A log with room for so many records of this size, and a raw writer beside it.
pub(super) fn writers(
    directory: &Path,
    core: usize,
    body_bytes: usize,
    records: u64,
) -> Result<(LogWriter, RawWriter)> {
    // Batches are padded and have headers: an eighth more, and what the appender holds ahead.
    let bytes = records * (body_bytes + RECORD_OVERHEAD_BYTES) as u64;
    let segments = (bytes + bytes / 8) / SEGMENT_BYTES + 4;
    eprintln!("preparing {segments} segments");
    let (dir, files) = prepared(directory, segments)?;
    // Threads for files have all cores; from here on this one has its own.
    cpu::pin(core)?;
    let raw = RawWriter::new(directory, mode(&dir), core)?;
    Ok((LogWriter::new(dir, files, body_bytes, core)?, raw))
}

fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(100, SAMPLE_TIME_MAX.as_nanos() as u64, 3)?)
}

fn sample(log: &mut LogWriter, work: &Work) -> Result<Sample> {
    let mut sample = Sample {
        from_due: histogram()?,
        from_append: histogram()?,
        writes: histogram()?,
        trace: Vec::new(),
        took: Duration::ZERO,
        control: histogram()?,
    };
    let mut pending: VecDeque<Pending> = VecDeque::new();
    let due = |number: u64| Duration::from_nanos(number * 1_000_000_000 / work.rate);
    let (began, mut offered, mut synced) = (Instant::now(), 0, 0);
    while synced < work.records || !log.is_idle() {
        let now = began.elapsed();
        ensure!(now < SAMPLE_TIME_MAX, "the disk does not follow: {synced} of {} records", work.records);
        while offered < work.records && due(offered) <= now {
            let Some(batch) = log.append()? else { break };
            pending.push_back(Pending { batch, due: due(offered), appended: now });
            offered += 1;
        }
        if let Some(bytes) = log.commit()? {
            sample.trace.push(Write { at: began.elapsed(), bytes });
        }
        let until_due = due(offered).saturating_sub(began.elapsed());
        let wait = if log.is_idle() || offered < work.records { until_due.max(WAIT_STEP) } else { WAIT_STEP };
        let Some((number, took)) = log.wait(Some(wait))? else { continue };
        sample.writes.saturating_record(took.as_nanos() as u64);
        let now = began.elapsed();
        while let Some(record) = pending.pop_front_if(|record| record.batch <= number) {
            sample.from_due.saturating_record(now.saturating_sub(record.due).as_nanos() as u64);
            sample.from_append.saturating_record(now.saturating_sub(record.appended).as_nanos() as u64);
            synced += 1;
        }
    }
    sample.took = began.elapsed();
    Ok(sample)
}

fn result(samples: &[Sample]) -> PacedResult {
    let latency = |of: fn(&Sample) -> &Histogram<u64>| {
        let quantile = |part: f64| {
            Median::of(samples.iter().map(|sample| of(sample).value_at_quantile(part) as f64 / 1000.0))
        };
        Latency { p50_us: quantile(0.5), p99_us: quantile(0.99), p999_us: quantile(0.999) }
    };
    let median = |of: fn(&Sample) -> f64| Median::of(samples.iter().map(of));
    PacedResult {
        from_due: latency(|sample| &sample.from_due),
        from_append: latency(|sample| &sample.from_append),
        writes: latency(|sample| &sample.writes),
        control: latency(|sample| &sample.control),
        writes_per_second: median(|sample| sample.trace.len() as f64 / sample.took.as_secs_f64()),
        write_bytes: median(|sample| {
            sample.trace.iter().map(|write| write.bytes).sum::<usize>() as f64 / sample.trace.len() as f64
        }),
        records_per_second: median(|sample| sample.from_due.len() as f64 / sample.took.as_secs_f64()),
    }
}

/// As a table of Markdown.
#[must_use]
pub fn table(result: &PacedResult) -> String {
    let mut table = Table::new(&[
        "what",
        "p50 µs (low to high)",
        "p99 µs (low to high)",
        "p99.9 µs (low to high)",
        "p99 × control",
    ]);
    let rows = [
        ("control: the same writes at the same times, raw", &result.control),
        ("a write of the log", &result.writes),
        ("a record, from its append to synced", &result.from_append),
        ("a record, from when it was due to synced", &result.from_due),
    ];
    for (name, latency) in rows {
        table.row(&[
            name.to_owned(),
            spread(&latency.p50_us, 0),
            spread(&latency.p99_us, 0),
            spread(&latency.p999_us, 0),
            times(&latency.p99_us, &result.control.p99_us),
        ]);
    }
    format!(
        "{:.0} records/s in {:.0} writes/s of {:.0} bytes\n\n{}",
        result.records_per_second.middle,
        result.writes_per_second.middle,
        result.write_bytes.middle,
        table.text()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn every_record_is_synced_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let work = Work { rate: 20_000, body_bytes: 128, records: 2000, rounds: 2 };
        let core = *cpu::allowed().expect("cores").last().expect("a core");
        let measured = thread::scope(|scope| scope.spawn(|| run(directory.path(), core, &work)).join());
        let result = measured.expect("no panic").expect("a result");
        assert!(result.write_bytes.low >= 512.0 && result.control.p50_us.low > 0.0);
        assert!(result.from_due.p50_us.low >= result.writes.p50_us.low / 2.0);
        assert!(result.from_due.p50_us.middle >= result.from_append.p50_us.middle);
        assert_eq!(table(&result).lines().count(), 8);
    }
}
