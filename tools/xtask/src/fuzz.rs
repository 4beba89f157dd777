//! `cargo xtask fuzz`: the fuzz targets of `tests/fuzz`, each for a while. Needs a nightly toolchain.

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::program::Program;
use crate::pypi;
use crate::workspace::Workspace;

/// The fuzz crate, a workspace of its own.
const FOLDER: &str = "tests/fuzz";

/// Options of `fuzz`.
#[derive(Args)]
pub struct Options {
    /// Targets, by name; all of them if none is given
    targets: Vec<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// Runs the targets one after another and stops at the first that finds something.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let known = targets(workspace)?;
    for target in &options.targets {
        ensure!(known.contains(target), "no fuzz target is called {target}; there are {}", known.join(", "));
    }
    let cargo_fuzz = pypi::CARGO_FUZZ.file(workspace, "bin/cargo-fuzz")?;
    let chosen = if options.targets.is_empty() { &known } else { &options.targets };
    for target in chosen {
        println!("== {target} for {} s", options.seconds);
        Program::new(&cargo_fuzz, &workspace.root)
            .env("RUSTUP_TOOLCHAIN", "nightly")
            .args(["fuzz", "run", "--fuzz-dir", FOLDER])
            .arg_path("--target-dir", &workspace.own().join("fuzz"))
            .args([target.as_str(), "--", &format!("-max_total_time={}", options.seconds), "-max_len=4096"])
            .run()
            .with_context(|| {
                format!("{target} found something; the input is in {FOLDER}/artifacts/{target}")
            })?;
    }
    println!("fuzz: {} targets found nothing", chosen.len());
    Ok(())
}

fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let folder = workspace.root.join(FOLDER).join("fuzz_targets");
    let mut names: Vec<String> = folder
        .read_dir()
        .with_context(|| format!("cannot read {}", folder.display()))?
        .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}
