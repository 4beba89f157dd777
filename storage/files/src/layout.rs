//! Names inside a data directory: `LOCK`, `MANIFEST`, `ERASURES`, `token.secret`, `log/<epoch>/<shard>/<segment>.seg`,
//! `snapshot/<number>.snap`.

use crate::error::FileError;
use crate::limits::SEGMENT_NUMBER_MAX;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use tidegate_ids::LogId;

pub(crate) const LOCK: &str = "LOCK";
pub(crate) const MANIFEST: &str = "MANIFEST";
pub(crate) const SECRET: &str = "token.secret";
pub(crate) const ERASURES: &str = "ERASURES";
pub(crate) const LOGS: &str = "log";
pub(crate) const SNAPSHOTS: &str = "snapshot";
/// Below [`SNAPSHOTS`]: what a merge sets aside.
pub(crate) const RUNS: &str = "runs";

/// What a file in a log's directory is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// `<segment>.seg`.
    Segment(u32),
    /// `<segment>.seg.tmp`: being zeroed, or left by a crash.
    Temporary(u32),
    /// Anything else: not ours to read or to remove.
    Other,
}

pub(crate) fn entry(name: &str) -> Entry {
    let segment = |digits: &str| {
        let number: u32 = digits.parse().ok()?;
        (number > 0 && number < SEGMENT_NUMBER_MAX && number.to_string() == digits).then_some(number)
    };
    if let Some(number) = name.strip_suffix(".seg").and_then(segment) {
        return Entry::Segment(number);
    }
    name.strip_suffix(".seg.tmp").and_then(segment).map_or(Entry::Other, Entry::Temporary)
}

/// What a file in the directory of snapshots is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SnapshotName {
    /// `<number>.snap`.
    Snapshot(u64),
    /// `<number>.snap.tmp`: being written, or left by a crash.
    Temporary(u64),
    /// Anything else: not ours to read or to remove.
    Other,
}

pub(crate) fn snapshot_name(name: &str) -> SnapshotName {
    let canonical = |digits: &str| {
        let number: u64 = digits.parse().ok()?;
        (number > 0 && number < u64::MAX && number.to_string() == digits).then_some(number)
    };
    if let Some(number) = name.strip_suffix(".snap").and_then(canonical) {
        return SnapshotName::Snapshot(number);
    }
    name.strip_suffix(".snap.tmp").and_then(canonical).map_or(SnapshotName::Other, SnapshotName::Temporary)
}

pub(crate) fn snapshot_dir(root: &Path) -> PathBuf {
    root.join(SNAPSHOTS)
}

pub(crate) fn snapshot(root: &Path, number: u64) -> PathBuf {
    snapshot_dir(root).join(format!("{number}.snap"))
}

pub(crate) fn snapshot_temporary(root: &Path, number: u64) -> PathBuf {
    snapshot_dir(root).join(format!("{number}.snap.tmp"))
}

pub(crate) fn runs_dir(root: &Path) -> PathBuf {
    snapshot_dir(root).join(RUNS)
}

pub(crate) fn log_dir(root: &Path, log: LogId) -> PathBuf {
    root.join(LOGS).join(log.epoch.to_string()).join(log.shard.0.to_string())
}

pub(crate) fn segment(root: &Path, log: LogId, number: u32) -> PathBuf {
    log_dir(root, log).join(format!("{number}.seg"))
}

pub(crate) fn temporary(root: &Path, log: LogId, number: u32) -> PathBuf {
    log_dir(root, log).join(format!("{number}.seg.tmp"))
}

/// The names in a directory that are text; none if there is no such directory.
pub(crate) fn names(directory: &Path) -> Result<Vec<String>, FileError> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(FileError::new("list", directory, error)),
    };
    let name = |entry: io::Result<std::fs::DirEntry>| entry.map(|entry| entry.file_name().into_string().ok());
    let names: io::Result<Vec<Option<String>>> = entries.map(name).collect();
    Ok(names.map_err(FileError::on("list", directory))?.into_iter().flatten().collect())
}

/// Removes a file, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), FileError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(FileError::new("remove", path, error)),
    }
}

/// Makes the entries of `directory` durable.
pub(crate) fn sync_dir(directory: &Path) -> Result<(), FileError> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(FileError::on("sync directory", directory))
}

/// Makes durable what a start found under its name: in the directory, among the snapshots, in the directories of `logs`. The
/// run that gave a name may have been killed before it synced the directory.
pub(crate) fn sync_names(root: &Path, logs: impl Iterator<Item = LogId>) -> Result<(), FileError> {
    let mut directories = BTreeSet::from([root.to_path_buf(), root.join(LOGS), snapshot_dir(root)]);
    for log in logs {
        directories.insert(root.join(LOGS).join(log.epoch.to_string()));
        directories.insert(log_dir(root, log));
    }
    directories.iter().filter(|directory| directory.is_dir()).try_for_each(|directory| sync_dir(directory))
}

/// Makes `directory` and what leads to it, each entry durable before the next is made in it.
pub(crate) fn make_dirs(directory: &Path) -> Result<(), FileError> {
    if directory.as_os_str().is_empty() || directory.is_dir() {
        return Ok(());
    }
    let parent = match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_dirs(parent)?;
    match std::fs::create_dir(directory) {
        Ok(()) => sync_dir(parent),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(FileError::new("create directory", directory, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: Entry) {
        assert_eq!(entry(name), expected, "{name}");
    }

    #[test]
    fn only_canonical_names_are_segments() {
        check("1.seg", Entry::Segment(1));
        check("4294967293.seg", Entry::Segment(4_294_967_293));
        check("17.seg.tmp", Entry::Temporary(17));
        for name in
            ["0.seg", "01.seg", "+1.seg", "1.seg.old", "4294967294.seg", ".seg", "x.seg", "1.seg.tmp2"]
        {
            check(name, Entry::Other);
        }
    }

    #[test]
    fn only_canonical_names_are_snapshots() {
        let check = |name: &str, expected| assert_eq!(snapshot_name(name), expected, "{name}");
        check("1.snap", SnapshotName::Snapshot(1));
        check("20.snap.tmp", SnapshotName::Temporary(20));
        for name in
            ["0.snap", "01.snap", "1.snap.bad", "runs", ".snap", "18446744073709551615.snap", "x.snap.tmp"]
        {
            check(name, SnapshotName::Other);
        }
    }

    #[test]
    fn directories_are_made_down_to_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        make_dirs(&deep).unwrap();
        make_dirs(&deep).unwrap();
        assert!(deep.is_dir());
        std::fs::write(dir.path().join("file"), b"").unwrap();
        assert!(make_dirs(&dir.path().join("file/below")).is_err());
    }
}
