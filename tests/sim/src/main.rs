//! Runs seeds of the simulator.

use clap::Parser;
use std::collections::BTreeMap;
use std::process::ExitCode;
use tidegate_tests_sim::{Plan, Planted, run};

/// Runs seeds of the deterministic simulator; a failure prints its seed and how to repeat it.
#[derive(Debug, Parser)]
#[command(name = "sim")]
struct Arguments {
    /// Seeds, as A..B (B excluded).
    #[arg(long, default_value = "0..20")]
    seeds: String,
    /// Steps of the workload of each seed, about one in 100 ms of virtual time.
    #[arg(long, default_value_t = 1200)]
    ticks: u64,
    /// Plant a bug that the seeds must find.
    #[arg(long)]
    plant: Option<Planted>,
    /// Say what each seed did.
    #[arg(long)]
    verbose: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let range = arguments.seeds.split_once("..").and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    let Some((first, end)) = range else {
        eprintln!("sim: --seeds wants A..B, for instance 0..100");
        return ExitCode::FAILURE;
    };
    let mut marks: BTreeMap<&'static str, u64> = BTreeMap::new();
    let (mut failed, mut virtual_ms, mut records, mut crashes) = (0_u64, 0_u64, 0_u64, 0_u64);
    let (mut snapshots, mut snapshots_lost) = (0_u64, 0_u64);
    for seed in first..end {
        let plan =
            Plan { seed, ticks: arguments.ticks, planted: arguments.plant, tiny_tables: seed % 3 == 0 };
        match run(&plan) {
            Ok(report) => {
                virtual_ms += report.virtual_ms;
                records += report.records;
                crashes += report.crashes;
                snapshots += report.snapshots;
                snapshots_lost += report.snapshots_lost;
                report.marks.iter().for_each(|(mark, count)| *marks.entry(mark).or_default() += count);
                if arguments.verbose {
                    println!("seed {seed}: {report:?}");
                }
            }
            Err(failure) => {
                failed += 1;
                println!("seed {seed} FAILED: {}", failure.what);
                println!("  after {:?}", failure.report);
                println!(
                    "  repeat: cargo xtask sim --seeds {seed}..{} --ticks {}",
                    seed + 1,
                    arguments.ticks
                );
            }
        }
    }
    let hours = virtual_ms as f64 / 3_600_000.0;
    println!(
        "sim: {} seeds, {failed} failed, {hours:.1} virtual hours, {records} records, {crashes} restarts, \
         {snapshots} snapshots ({snapshots_lost} lost)",
        end - first
    );
    println!("marks: {marks:?}");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
