//! Records at a steady rate, committed in groups without a timer, beside raw writes of the same sizes at the same times.

use super::table::{Table, spread, times};
use super::writer::{CACHED_BUFFERS, LogWriter, RawWriter, Write, mode, prepared};
use crate::cpu;
use crate::limits::{RECORD_OVERHEAD_BYTES, SAMPLE_TIME_MAX, SEGMENT_BYTES};
use crate::median::Median;
use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};
use tidegate_ids::BatchNumber;

/// The thread that appends, which decides when the kernel's part of a write gets the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// It sleeps while a write is under way: a shard with nothing else to do.
    Idle,
    /// It never sleeps: a shard in whose sockets something always waits.
    Busy,
}

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

/// What came of it with one of the threads.
#[derive(Clone, Debug)]
pub struct PacedResult {
    /// The thread.
    pub pace: Pace,
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

/// Measures on one core, by each kind of thread in turn; to be called by a thread that may be pinned. The control's thread
/// sleeps.
///
/// # Errors
/// The disk fails, or there is no room on it.
pub fn run(directory: &Path, core: usize, work: &Work) -> Result<Vec<PacedResult>> {
    ensure!(work.rate > 0 && work.records > 0 && work.rounds > 0, "a record and a round at least");
    let records = work.records * (Pace::ALL.len() * work.rounds + 1) as u64;
    let (mut log, mut raw) = writers(directory, core, work.body_bytes, records)?;
    // Warm: the first batches find cold tables of the file system, and memory that was not touched.
    let warm = sample(&mut log, work, Pace::Idle)?;
    raw.repeat(&warm.trace, CACHED_BUFFERS, |_| {})?;
    let mut samples = Pace::ALL.map(|pace| (pace, Vec::new()));
    for round in 0..work.rounds {
        for (pace, taken) in &mut samples {
            let mut sample = sample(&mut log, work, *pace)?;
            let Sample { trace, control, .. } = &mut sample;
            raw.repeat(trace, CACHED_BUFFERS, |took| control.saturating_record(took.as_nanos() as u64))?;
            taken.push(sample);
        }
        eprintln!("round {} of {}", round + 1, work.rounds);
    }
    Ok(samples.iter().map(|(pace, samples)| result(*pace, samples)).collect())
}

impl Pace {
    const ALL: [Self; 2] = [Self::Idle, Self::Busy];

    const fn name(self) -> &'static str {
        match self {
            Self::Idle => "by a thread that sleeps meanwhile",
            Self::Busy => "by a thread that never sleeps",
        }
    }

    /// How long it waits in the ring, when the next record is due in so long: what comes due while a write is under way goes with the
    /// next one, so nobody wakes for it.
    const fn wait(self, is_writing: bool, until_due: Duration) -> Duration {
        match self {
            Self::Idle if is_writing => SAMPLE_TIME_MAX,
            Self::Idle => until_due,
            Self::Busy => Duration::ZERO,
        }
    }
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

fn sample(log: &mut LogWriter, work: &Work, pace: Pace) -> Result<Sample> {
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
        let wait = pace.wait(!log.is_idle(), until_due);
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

fn result(pace: Pace, samples: &[Sample]) -> PacedResult {
    let latency = |of: fn(&Sample) -> &Histogram<u64>| {
        let quantile = |part: f64| {
            Median::of(samples.iter().map(|sample| of(sample).value_at_quantile(part) as f64 / 1000.0))
        };
        Latency { p50_us: quantile(0.5), p99_us: quantile(0.99), p999_us: quantile(0.999) }
    };
    let median = |of: fn(&Sample) -> f64| Median::of(samples.iter().map(of));
    PacedResult {
        pace,
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

/// As tables of Markdown, one for each thread.
#[must_use]
pub fn tables(results: &[PacedResult]) -> String {
    results.iter().map(table).collect::<Vec<_>>().join("\n")
}

fn table(result: &PacedResult) -> String {
    let mut table = Table::new(&[
        result.pace.name(),
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
        let results = measured.expect("no panic").expect("results");
        assert_eq!(results.iter().map(|result| result.pace).collect::<Vec<_>>(), Pace::ALL);
        for result in &results {
            assert!(result.write_bytes.low >= 512.0 && result.control.p50_us.low > 0.0);
            assert!(result.from_due.p50_us.low >= result.writes.p50_us.low / 2.0);
            assert!(result.from_due.p50_us.middle >= result.from_append.p50_us.middle);
            assert_eq!(table(result).lines().count(), 8);
        }
        assert_eq!(tables(&results).lines().count(), 2 * 8 + 1);
    }
}
