//! Which way of making a log batch durable is faster on this disk.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, anyhow, ensure};
use clap::Parser;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;
use tidegate_benches::commit::{self, CommitRow, Work};
use tidegate_benches::cpu;
use tidegate_benches::machine::Machine;
use tidegate_benches::report::write_json;

#[derive(Debug, Parser)]
#[command(name = "bench-commit", about, max_term_width = 110)]
struct Arguments {
    /// Directory on the disk to be measured [default: the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    disk: Option<PathBuf>,
    /// Bytes of a batch
    #[arg(long, value_name = "N", default_value_t = 4096)]
    batch_bytes: usize,
    /// Batches of a sample
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    batches: u64,
    /// Microseconds between two batches
    #[arg(long, value_name = "N", default_value_t = 200)]
    pause_us: u64,
    /// Samples of each method
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// Core of the thread that writes [default: the last]
    #[arg(long, value_name = "N")]
    core: Option<usize>,
    /// Also write a report
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    machine: Machine,
    work: Work,
    rows: Vec<CommitRow>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let machine = Machine::here();
    let core = match arguments.core {
        Some(core) => core,
        None => *cpu::allowed()?.last().context("no core")?,
    };
    ensure!(arguments.rounds > 0, "at least one round");
    let disk = arguments.disk.unwrap_or_else(std::env::temp_dir);
    let directory = tempfile::Builder::new().prefix("bench-").tempdir_in(&disk)?;
    let work = Work {
        batch_bytes: arguments.batch_bytes,
        batches: arguments.batches,
        pause: Duration::from_micros(arguments.pause_us),
        rounds: arguments.rounds,
    };
    println!("{machine}; core {core}\n{work:?}\n");
    // The main thread keeps all cores: the ring asks it where the kernel's workers may go.
    let rows = std::thread::scope(|scope| scope.spawn(|| commit::run(directory.path(), core, &work)).join());
    let rows = rows.map_err(|_| anyhow!("the measuring thread has failed"))??;
    println!("{}", commit::table(&rows));
    if let Some(path) = &arguments.json {
        write_json(&Report { machine, work, rows }, path)?;
    }
    Ok(())
}
