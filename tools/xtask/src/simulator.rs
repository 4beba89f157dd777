//! `cargo xtask sim`: the simulator with a range of seeds.

use anyhow::Result;
use clap::Args;

use crate::program::Program;
use crate::workspace::Workspace;

/// The simulator's package.
const PACKAGE: &str = "tidegate-tests-sim";

/// The seeds that every change runs.
const SEEDS_IN_CI: &str = "0..200";

/// Options of `sim`.
#[derive(Args)]
pub struct Options {
    /// Seeds, the first and the one past the last
    #[arg(long, value_name = "A..B", default_value = SEEDS_IN_CI)]
    seeds: String,
    /// Steps of the workload of each seed; by default what the simulator takes
    #[arg(long)]
    ticks: Option<u64>,
    /// Say what each seed did
    #[arg(long)]
    verbose: bool,
}

/// Runs the simulator in release.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let mut program = Program::cargo(&workspace.root)
        .args(["run", "--release", "--locked", "--quiet", "--package", PACKAGE, "--"])
        .args(["--seeds", &options.seeds]);
    if let Some(ticks) = options.ticks {
        program = program.args(["--ticks", &ticks.to_string()]);
    }
    if options.verbose {
        program = program.args(["--verbose"]);
    }
    program.run()
}

/// The step of `ci`.
pub fn run_in_ci(workspace: &Workspace) -> Result<Option<String>> {
    run(workspace, &Options { seeds: SEEDS_IN_CI.to_owned(), ticks: None, verbose: false })?;
    Ok(None)
}
