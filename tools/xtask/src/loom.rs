//! `cargo xtask loom`: the models of the mesh, whose threads are run in every order that the memory model allows.

use anyhow::Result;

use crate::program::Program;
use crate::pypi;
use crate::workspace::Workspace;

/// The package that has models. Under the flag its library has no other tests.
const PACKAGE: [&str; 3] = ["--package", "tidegate-mesh", "--locked"];

/// Lints and runs the models. No bound is set (`LOOM_MAX_PREEMPTIONS`): all of them take some fifteen seconds of one
/// core.
pub fn run(workspace: &Workspace) -> Result<()> {
    let lints = Program::cargo(&workspace.root).args(["clippy", "--all-targets", "--quiet"]).args(PACKAGE);
    with_flag(lints, workspace).args(["--", "-D", "warnings"]).run()?;
    // Without the flag there would be no models, and nothing that could fail.
    let models = pypi::nextest(workspace)?.args(["run", "--lib", "--no-tests", "fail", "--color", "never"]);
    with_flag(models.args(PACKAGE), workspace).run()
}

/// The step of `ci`.
pub fn run_in_ci(workspace: &Workspace) -> Result<Option<String>> {
    run(workspace)?;
    Ok(None)
}

/// Sets the flag in the variable that stands above all others, and a target directory of its own: everything is built
/// anew under another flag.
fn with_flag(program: Program, workspace: &Workspace) -> Program {
    program
        .env("CARGO_ENCODED_RUSTFLAGS", "--cfg=loom")
        .arg_path("--target-dir", &workspace.own().join("loom"))
}
