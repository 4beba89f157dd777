//! Names inside a data directory: `LOCK`, `MANIFEST`, `token.secret`, `log/<epoch>/<shard>/<segment>.seg`.

use crate::error::FileError;
use crate::limits::SEGMENT_NUMBER_MAX;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use tidegate_ids::LogId;

pub(crate) const LOCK: &str = "LOCK";
pub(crate) const MANIFEST: &str = "MANIFEST";
pub(crate) const SECRET: &str = "token.secret";
pub(crate) const LOGS: &str = "log";

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

pub(crate) fn log_dir(root: &Path, log: LogId) -> PathBuf {
    root.join(LOGS).join(log.epoch.to_string()).join(log.shard.0.to_string())
}

pub(crate) fn segment(root: &Path, log: LogId, number: u32) -> PathBuf {
    log_dir(root, log).join(format!("{number}.seg"))
}

pub(crate) fn temporary(root: &Path, log: LogId, number: u32) -> PathBuf {
    log_dir(root, log).join(format!("{number}.seg.tmp"))
}

/// Makes the entries of `directory` durable.
pub(crate) fn sync_dir(directory: &Path) -> Result<(), FileError> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(FileError::on("sync directory", directory))
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
