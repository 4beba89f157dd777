//! `cargo xtask sim`: the simulator with a range of seeds.

use anyhow::Result;
use clap::Args;

use crate::program::Program;
use crate::workspace::Workspace;

/// The simulator's package.
const PACKAGE: &str = "tidegate-tests-sim";

/// The seeds that every change runs: they must reach every mark, and some run twice for the trace.
const IN_CI: &[&str] = &["--seeds", "0..200", "--require-marks", "--check-trace", "20"];

/// Options of `sim`.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct Options {
    /// As the simulator takes them; `--help` lists them
    #[arg(value_name = "OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs the simulator as optimised as a release, but for a panic: that ends its seed, not the batch.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let arguments: Vec<&str> = options.arguments.iter().map(String::as_str).collect();
    Program::cargo(&workspace.root)
        .args(["run", "--profile", "sim", "--locked", "--quiet", "--package", PACKAGE, "--"])
        .args(arguments)
        .run()
}

/// The step of `ci`.
pub fn run_in_ci(workspace: &Workspace) -> Result<Option<String>> {
    let arguments = IN_CI.iter().map(|argument| (*argument).to_owned()).collect();
    run(workspace, &Options { arguments })?;
    Ok(None)
}
