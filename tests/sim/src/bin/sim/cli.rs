//! The command line.

use clap::Parser;
use std::ops::Range;
use std::process::Command;
use tidegate_tests_sim::{Fault, Plan, Planted, TICKS_DEFAULT};

const EXAMPLES: &str = "\
Examples:
  cargo xtask sim --seeds 0..200
  cargo xtask sim --seeds 1234..1235 --ticks 400 --shrink
  cargo xtask sim --seeds 0..20 --plant no-sync
  cargo xtask sim --seeds 0..50 --without rogue,bit-rot --markdown";

/// Runs seeds of the deterministic simulator. A failure prints its seed, the commit, and the command that repeats it.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask sim", after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Seeds, the first and the one past the last.
    #[arg(long, value_name = "A..B", default_value = "0..20", value_parser = parse_seeds)]
    pub(crate) seeds: Range<u64>,
    /// Steps of the workload of each seed, one in 320 ms of virtual time on average.
    #[arg(long, default_value_t = TICKS_DEFAULT)]
    pub(crate) ticks: u64,
    /// Plant a bug that the seeds must find.
    #[arg(long, value_name = "BUG")]
    plant: Option<Planted>,
    /// Leave kinds of faults out.
    #[arg(long, value_name = "FAULT", value_delimiter = ',')]
    without: Vec<Fault>,
    /// Look for the shortest way to a failure: fewer steps, fewer kinds of faults.
    #[arg(long)]
    pub(crate) shrink: bool,
    /// Stop at the first seed that fails.
    #[arg(long)]
    pub(crate) fail_fast: bool,
    /// Seeds that run at the same time; 0: as many as there are cores.
    #[arg(long, default_value_t = 0)]
    pub(crate) jobs: usize,
    /// Run every so many-th seed twice and compare the traces; 0: none.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) check_trace: u64,
    /// Fail if these seeds have not reached every mark and every kind of fault.
    #[arg(long)]
    pub(crate) require_marks: bool,
    /// Print the closing tables as in docs/simulator.md.
    #[arg(long)]
    pub(crate) markdown: bool,
    /// Print what devices are told, and every fault, with the virtual time: for one seed.
    #[arg(long)]
    narrate: bool,
    /// Say what each seed did.
    #[arg(long)]
    pub(crate) verbose: bool,
}

fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    let parsed = text.split_once("..").and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
    parsed
        .filter(|range: &Range<u64>| !range.is_empty())
        .ok_or_else(|| "want A..B, for instance 0..100".to_owned())
}

impl Arguments {
    pub(crate) fn plan(&self, seed: u64) -> Plan {
        Plan {
            seed,
            ticks: self.ticks,
            planted: self.plant,
            without: self.without.clone(),
            narrated: self.narrate,
        }
    }
}

/// The command that runs a plan.
pub(crate) fn repeat(plan: &Plan) -> String {
    let mut command =
        format!("cargo xtask sim --seeds {}..{} --ticks {}", plan.seed, plan.seed + 1, plan.ticks);
    if let Some(planted) = plan.planted {
        let value = clap::ValueEnum::to_possible_value(&planted);
        command += &format!(" --plant {}", value.map_or(String::new(), |value| value.get_name().to_owned()));
    }
    if !plan.without.is_empty() {
        let names: Vec<&str> = plan.without.iter().map(|fault| fault.name()).collect();
        command += &format!(" --without {}", names.join(","));
    }
    command
}

/// The commit of the sources, `-dirty` if they differ from it.
pub(crate) fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".to_owned() };
    let is_clean =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|status| status.is_empty());
    if is_clean { commit } else { commit + "-dirty" }
}
