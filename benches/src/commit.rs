//! Ways of making a batch durable through a ring, interleaved: which one the gateway writes its log with is decided here.

use crate::cpu;
use crate::disk::{Batch, opened, ring_config, zeroed};
use crate::limits::{BLOCK_BYTES, SAMPLE_TIME_MAX, SEGMENT_BYTES};
use crate::median::Median;
use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, Instant};
use tidegate_reactor::{Completion, LogFile, Reactor, SyncMode};

/// A way of writing.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// In words.
    pub name: &'static str,
    mode: SyncMode,
    /// Whether the kernel's worker may not run on the core of the thread that writes.
    worker_apart: bool,
}

/// All that are compared.
pub const METHODS: [Method; 3] = [
    Method {
        name: "write linked to fdatasync, worker on the same core",
        mode: SyncMode::LinkedFdatasync,
        worker_apart: false,
    },
    Method {
        name: "write linked to fdatasync, worker on another core",
        mode: SyncMode::LinkedFdatasync,
        worker_apart: true,
    },
    Method { name: "O_DIRECT and O_DSYNC", mode: SyncMode::DirectDsync, worker_apart: true },
];

/// What is written.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Work {
    /// Bytes of a batch, a multiple of 4096.
    pub batch_bytes: usize,
    /// Batches of a sample.
    pub batches: u64,
    /// From one batch's durability to the next batch.
    pub pause: Duration,
    /// Samples of each method.
    pub rounds: usize,
}

/// What came of a method.
#[derive(Clone, Debug, Serialize)]
pub struct CommitRow {
    /// Which.
    pub name: &'static str,
    /// Of all samples together.
    pub commits: u64,
    /// Microseconds from the request to durable: median of each round.
    pub p50_us: Median,
    /// All but one in a hundred, of each round.
    pub p99_us: Median,
    /// All but one in a thousand, over all rounds.
    pub p999_us: f64,
    /// The longest of all.
    pub max_us: f64,
    /// Microseconds of processor time of this process, kernel workers included, for a commit.
    pub cpu_us: Median,
}

struct Writer {
    method: Method,
    reactor: Reactor<Batch>,
    file: LogFile,
    batch: Batch,
    offset: u64,
    samples: Vec<(Histogram<u64>, f64)>,
}

/// Measures every method in every round, on one core. To be called by a thread that may be pinned.
///
/// # Errors
/// The file system takes no direct writes, or the disk fails.
pub fn run(directory: &Path, core: usize, work: &Work) -> Result<Vec<CommitRow>> {
    let sound = work.batch_bytes > 0 && work.batch_bytes.is_multiple_of(BLOCK_BYTES);
    ensure!(sound, "batches have a multiple of {BLOCK_BYTES} bytes");
    cpu::pin(core)?;
    let mut writers = Vec::new();
    for (index, method) in METHODS.into_iter().enumerate() {
        let path = directory.join(format!("{index}.seg"));
        zeroed(&path)?;
        writers.push(Writer::new(method, &path, core, work).context(method.name)?);
    }
    // Warm: the first batches find cold tables of the file system.
    writers.iter_mut().try_for_each(|writer| writer.sample(work, core).map(drop))?;
    for round in 0..work.rounds {
        for turn in 0..writers.len() {
            let index = (round + turn) % METHODS.len();
            let sample = writers[index].sample(work, core)?;
            writers[index].samples.push(sample);
        }
    }
    Ok(writers.iter().map(Writer::row).collect())
}

impl Writer {
    fn new(method: Method, path: &Path, core: usize, work: &Work) -> Result<Self> {
        let config = ring_config(method.worker_apart.then_some(core));
        let mut batch = Batch::with_capacity(work.batch_bytes);
        batch.bytes_mut().push(&vec![7; work.batch_bytes], work.batch_bytes);
        let (reactor, file) = (Reactor::new(&config)?, opened(path, method.mode)?);
        Ok(Self { method, reactor, file, batch, offset: 0, samples: Vec::new() })
    }

    /// Latencies, and processor time of a commit.
    fn sample(&mut self, work: &Work, core: usize) -> Result<(Histogram<u64>, f64)> {
        let mut latency_ns = Histogram::new_with_bounds(100, SAMPLE_TIME_MAX.as_nanos() as u64, 3)?;
        let before = cpu::Spent::so_far(std::process::id(), core)?;
        for _ in 0..work.batches {
            self.pause(work.pause)?;
            let began = Instant::now();
            self.commit()?;
            latency_ns.saturating_record(began.elapsed().as_nanos() as u64);
        }
        let spent = cpu::Spent::so_far(std::process::id(), core)?.since(&before);
        Ok((latency_ns, spent.process_s() * 1e6 / work.batches as f64))
    }

    /// Sleeps in the ring, as a shard does.
    fn pause(&mut self, pause: Duration) -> Result<()> {
        let end = Instant::now() + pause;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.reactor.submit_and_wait(Some(left)).context("the ring failed")?;
        }
    }

    fn commit(&mut self) -> Result<()> {
        if self.offset + self.batch.len() as u64 > SEGMENT_BYTES {
            self.offset = 0;
        }
        let ops = self.reactor.ops();
        ops.write_sync(1, &self.file, self.offset, self.batch.clone(), self.method.mode);
        self.offset += self.batch.len() as u64;
        let mut done = None;
        while done.is_none() {
            self.reactor.submit_and_wait(None).context("the ring failed")?;
            self.reactor.completions(usize::MAX, |_, completion| {
                if let Completion::WriteDone { result, .. } = completion {
                    done = Some(result);
                }
            });
        }
        done.transpose().context("the disk failed")?;
        Ok(())
    }

    fn row(&self) -> CommitRow {
        let us = |ns: u64| ns as f64 / 1000.0;
        let quantile = |part: f64| {
            Median::of(self.samples.iter().map(|(latency_ns, _)| us(latency_ns.value_at_quantile(part))))
        };
        let mut all = Histogram::<u64>::new_from(&self.samples[0].0);
        for (latency_ns, _) in &self.samples {
            // All have the same bounds.
            let _ = all.add(latency_ns);
        }
        CommitRow {
            name: self.method.name,
            commits: all.len(),
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            p999_us: us(all.value_at_quantile(0.999)),
            max_us: us(all.max()),
            cpu_us: Median::of(self.samples.iter().map(|(_, cpu_us)| *cpu_us)),
        }
    }
}

/// As a table of Markdown.
#[must_use]
pub fn table(rows: &[CommitRow]) -> String {
    use std::fmt::Write as _;
    let mut out = String::from(
        "| method | commits | p50 µs (low to high) | p99 µs (low to high) | p99.9 µs | longest µs | CPU µs |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let spread =
            |median: &Median| format!("{:.0} ({:.0} to {:.0})", median.middle, median.low, median.high);
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {:.0} | {:.0} | {:.0} |",
            row.name,
            row.commits,
            spread(&row.p50_us),
            spread(&row.p99_us),
            row.p999_us,
            row.max_us,
            row.cpu_us.middle,
        );
    }
    out
}
