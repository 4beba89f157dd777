//! Where the workspace lies and where its tasks may write.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};
use cargo_metadata::MetadataCommand;

use crate::program::Program;

/// The folders that tasks work in.
pub struct Workspace {
    /// The folder of the root `Cargo.toml`.
    pub root: PathBuf,
    /// Cargo's target directory.
    pub target: PathBuf,
}

impl Workspace {
    /// Finds the workspace that this task was built from.
    pub fn find() -> Result<Workspace> {
        let mut command = MetadataCommand::new();
        if let Some(manifest_dir) = env::var_os("CARGO_MANIFEST_DIR") {
            command.current_dir(manifest_dir);
        }
        let metadata = command
            .no_deps()
            .other_options(vec!["--offline".to_owned()])
            .exec()
            .context("cargo metadata failed; run this as `cargo xtask` inside the repository")?;
        Ok(Workspace {
            root: metadata.workspace_root.into_std_path_buf(),
            target: metadata.target_directory.into_std_path_buf(),
        })
    }

    /// Where tasks keep what they install and write: `target/xtask`.
    pub fn own(&self) -> PathBuf {
        self.target.join("xtask")
    }

    /// A binary of the release build.
    pub fn release_binary(&self, name: &str) -> PathBuf {
        self.target.join("release").join(name)
    }

    /// Builds every binary as an operator runs it.
    pub fn build_release(&self) -> Result<()> {
        Program::cargo(&self.root).args(["build", "--release", "--workspace", "--bins", "--locked"]).run()
    }
}
