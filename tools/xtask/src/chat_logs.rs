//! Where the real chat lies: 153 excerpts of a public channel, one gzip file each.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::workspace::Workspace;

/// Names the folder, if it is not `../shared/data/ubuntu-irc`.
const VARIABLE: &str = "TIDEGATE_IRC_DIR";

/// How many files the whole replay has.
pub const FILES: usize = 153;

/// Messages of an average file: 196,598 in all 153.
pub const MESSAGES_PER_FILE: usize = 196_598 / FILES;

/// What CI replays: six files from all years, with the fewest speakers (68) and the most (237).
const FIXED: [&str; 6] = [
    "2005-05-19.train-a.txt.gz",
    "2006-03-05.train-c.txt.gz",
    "2006-06-08.train-c.txt.gz",
    "2010-03-08.train-c.txt.gz",
    "2015-08-10.train-b.txt.gz",
    "2018-02-27.train-c.txt.gz",
];

/// The six fixed files.
pub fn fixed(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let folder = folder(workspace)?;
    let files: Vec<PathBuf> = FIXED.iter().map(|name| folder.join(name)).collect();
    for file in &files {
        ensure!(file.is_file(), "no {}", file.display());
    }
    Ok(files)
}

/// All files, by name.
pub fn all(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let folder = folder(workspace)?;
    let mut files: Vec<PathBuf> = folder
        .read_dir()
        .with_context(|| format!("cannot read {}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "gz"))
        .collect();
    files.sort();
    ensure!(files.len() == FILES, "{} holds {} logs, not {FILES}", folder.display(), files.len());
    Ok(files)
}

fn folder(workspace: &Workspace) -> Result<PathBuf> {
    let beside = || workspace.root.parent().unwrap_or(Path::new("/")).join("shared/data/ubuntu-irc");
    let folder = env::var_os(VARIABLE).map_or_else(beside, PathBuf::from);
    ensure!(
        folder.is_dir(),
        "no chat logs at {}: put the folder there, or name it in {VARIABLE}",
        folder.display()
    );
    Ok(folder)
}
