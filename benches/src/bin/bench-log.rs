//! What the log costs: pages, recovery, commits, snapshots, starts, and users who are away.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, anyhow};
use clap::{Args, Parser, Subcommand};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tidegate_benches::cpu;
use tidegate_benches::log::corpus::{Corpus, Shape};
use tidegate_benches::log::{bandwidth, fold, paced, page, queues, scan, start};
use tidegate_benches::machine::Machine;
use tidegate_tests_support::CountingAllocator;

/// What is taken and given back is counted for `queues`; the others allocate nothing where they measure.
#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[derive(Debug, Parser)]
#[command(name = "bench-log", about, max_term_width = 110)]
struct Arguments {
    /// Directory on the disk to be measured [default: the system's temporary directory]
    #[arg(long, value_name = "DIR", global = true)]
    disk: Option<PathBuf>,
    /// Samples of each row
    #[arg(long, value_name = "N", default_value_t = 5, global = true)]
    rounds: usize,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Pages from the page cache and from the disk
    Page {
        #[command(flatten)]
        log: Log,
        /// Records of a page
        #[arg(long, value_name = "N", default_value_t = 50)]
        page: u32,
        /// Reads of a sample
        #[arg(long, value_name = "N", default_value_t = 2000)]
        reads: usize,
    },
    /// Recovery of a whole log from the page cache
    Scan {
        #[command(flatten)]
        log: Log,
    },
    /// Records at a steady rate, until they are synced
    Commit {
        /// Records a second
        #[arg(long, value_name = "N", default_value_t = 100_000)]
        rate: u64,
        /// Bytes of a body
        #[arg(long, value_name = "N", default_value_t = 128)]
        body_bytes: usize,
        /// Records of a sample
        #[arg(long, value_name = "N", default_value_t = 200_000)]
        records: u64,
    },
    /// Records as fast as staging takes them
    Bandwidth {
        /// Bytes of a body
        #[arg(long, value_name = "N", default_value_t = 1024)]
        body_bytes: usize,
        /// Records of a sample
        #[arg(long, value_name = "N", default_value_t = 200_000)]
        records: u64,
    },
    /// A snapshot of all streams
    Fold {
        #[command(flatten)]
        log: ManyLog,
    },
    /// Memory of users who are away and have open ranges
    Queues {
        /// Users
        #[arg(long, value_name = "N", default_value_t = 1_000_000)]
        users: u64,
        /// Open ranges of each
        #[arg(long, value_name = "N", default_value_t = 10)]
        ranges: u64,
        /// Members of a group
        #[arg(long, value_name = "N", default_value_t = 499)]
        members: u64,
        /// Bytes of a segment
        #[arg(long, value_name = "N", default_value_t = 64 << 20)]
        segment_bytes: u32,
    },
    /// A snapshot of all streams, and starts with it and without
    Start {
        #[command(flatten)]
        log: ManyLog,
        /// The gateway's program [default: beside this one, if it is there]
        #[arg(long, value_name = "FILE")]
        tidegate: Option<PathBuf>,
    },
}

/// A log that is read.
#[derive(Clone, Copy, Debug, Args)]
struct Log {
    /// Records
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    records: u64,
    /// Conversations
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    conversations: u64,
    /// Records of one conversation among them
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    long: u64,
    #[command(flatten)]
    sizes: Sizes,
}

/// A log that is folded.
#[derive(Clone, Copy, Debug, Args)]
struct ManyLog {
    /// Records
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    records: u64,
    /// Conversations
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    conversations: u64,
    #[command(flatten)]
    sizes: Sizes,
}

#[derive(Clone, Copy, Debug, Args)]
struct Sizes {
    /// Bytes of a body
    #[arg(long, value_name = "N", default_value_t = 128)]
    body_bytes: usize,
    /// Bytes of a segment
    #[arg(long, value_name = "N", default_value_t = 64 << 20)]
    segment_bytes: u32,
}

impl Log {
    const fn shape(self) -> Shape {
        let Self { records, conversations, long, sizes: Sizes { body_bytes, segment_bytes } } = self;
        Shape { records, conversations, long, body_bytes, segment_bytes }
    }
}

impl ManyLog {
    const fn shape(self) -> Shape {
        let Self { records, conversations, sizes: Sizes { body_bytes, segment_bytes } } = self;
        Shape { records, conversations, long: 0, body_bytes, segment_bytes }
    }
}

fn main() -> Result<()> {
    let Arguments { disk, rounds, command } = Arguments::parse();
    let disk = disk.unwrap_or_else(std::env::temp_dir);
    let directory = || tempfile::Builder::new().prefix("bench-").tempdir_in(&disk);
    println!("{}\n", Machine::here());
    let table = match command {
        Command::Page { log, page, reads } => {
            let corpus = Corpus::make(&disk, &log.shape())?;
            page::tables(&page::run(&corpus, &page::Work { page, reads, rounds })?)
        }
        Command::Scan { log } => scan::table(&scan::run(&Corpus::make(&disk, &log.shape())?, rounds)?),
        Command::Commit { rate, body_bytes, records } => {
            let work = paced::Work { rate, body_bytes, records, rounds };
            paced::tables(&pinned(&directory()?, |path, core| paced::run(path, core, &work))?)
        }
        Command::Bandwidth { body_bytes, records } => {
            let work = bandwidth::Work { body_bytes, records, rounds };
            bandwidth::table(&pinned(&directory()?, |path, core| bandwidth::run(path, core, &work))?)
        }
        Command::Fold { log } => fold::table(&fold::run(&Corpus::make(&disk, &log.shape())?, rounds)?),
        Command::Queues { users, ranges, members, segment_bytes } => {
            let work = queues::Work { users, ranges, members, segment_bytes };
            queues::table(&queues::run(&directory()?.path().join("data"), &work)?)
        }
        Command::Start { log, tidegate } => {
            let corpus = Corpus::make(&disk, &log.shape())?;
            let folded = fold::table(&fold::run(&corpus, 1)?);
            let beside = std::env::current_exe()?.with_file_name("tidegate");
            let tidegate = tidegate.or_else(|| beside.is_file().then_some(beside));
            format!("{folded}\n{}", start::table(&start::run(&corpus, rounds, tidegate.as_deref())?))
        }
    };
    println!("{table}");
    Ok(())
}

/// Measures in a thread that may be pinned: the main thread keeps all cores, since the ring asks it where the kernel's
/// workers may go.
fn pinned<T: Send>(directory: &TempDir, measure: impl FnOnce(&Path, usize) -> Result<T> + Send) -> Result<T> {
    let core = *cpu::allowed()?.last().context("no core")?;
    let path = directory.path();
    let measured = std::thread::scope(|scope| scope.spawn(move || measure(path, core)).join());
    measured.map_err(|_| anyhow!("the measuring thread has failed"))?
}
