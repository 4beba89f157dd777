//! `cargo xtask sim`: the simulator with a range of seeds.

use anyhow::Result;
use clap::Args;

use crate::program::Program;
use crate::workspace::Workspace;

/// The simulator's package.
const PACKAGE: &str = "tidegate-tests-sim";

/// The seeds that every change runs.
const SEEDS_IN_CI: &str = "1..200";

/// Options of `sim`.
#[derive(Args)]
pub struct Options {
    /// Seeds, the first and the one past the last
    #[arg(long, value_name = "A..B", default_value = SEEDS_IN_CI)]
    seeds: String,
}

/// Runs the simulator in release.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    Program::cargo(&workspace.root)
        .args(["run", "--release", "--quiet", "--package", PACKAGE, "--", "--seeds", &options.seeds])
        .run()
}

/// The step of `ci`.
pub fn run_in_ci(workspace: &Workspace) -> Result<Option<String>> {
    run(workspace, &Options { seeds: SEEDS_IN_CI.to_owned() })?;
    Ok(None)
}
