//! What small pieces of the per-message path cost beside a copy of their bytes.
#![forbid(unsafe_code)]

use anyhow::Result;
use clap::{Parser, Subcommand};
use serde::Serialize;
use std::path::PathBuf;
use tidegate_benches::cpu;
use tidegate_benches::machine::Machine;
use tidegate_benches::micro::{self, MicroRow};
use tidegate_benches::report::write_json;

#[derive(Debug, Parser)]
#[command(name = "bench-micro", about, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Times all cases, interleaved
    Run {
        /// Samples of each case
        #[arg(long, value_name = "N", default_value_t = 9)]
        rounds: usize,
        /// Repetitions of a sample
        #[arg(long, value_name = "N", default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(1..))]
        repetitions: u64,
        /// Also count instructions with valgrind
        #[arg(long)]
        count: bool,
        /// Also write a report
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Repeats one case, for a tool that counts
    Once {
        /// Which
        #[arg(long, value_name = "NAME")]
        case: String,
        /// How often
        #[arg(long, value_name = "N")]
        repetitions: u64,
    },
}

#[derive(Serialize)]
struct Report {
    machine: Machine,
    rows: Vec<MicroRow>,
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Once { case, repetitions } => micro::repeat(&case, repetitions),
        Command::Run { rounds, repetitions, count, json } => {
            let machine = Machine::here();
            println!("{machine}\n");
            if let Some(core) = cpu::allowed()?.last() {
                cpu::pin(*core)?;
            }
            let mut rows = micro::time(rounds, repetitions)?;
            if count {
                for row in &mut rows {
                    row.instructions = Some(micro::instructions(row.name)?);
                }
            }
            println!("{}", micro::table(&rows));
            json.map_or(Ok(()), |path| write_json(&Report { machine, rows }, &path))
        }
    }
}
