//! The snapshots of a data directory: which there are, and how a new one takes its place.
//!
//! `snapshot/<n>.snap` is written as `<n>.snap.tmp`, synced, renamed, and the directory synced; only then are older ones
//! removed, down to the newest two. So whatever the moment of a crash, what was the newest good one is still there.

use crate::directory::{DataDir, Owned};
use crate::error::FileError;
use crate::layout::{self, SnapshotName};
use crate::limits::{RESERVE_BYTES_DEFAULT, SNAPSHOTS_KEPT};
use crate::manifest::{HASH_VERSION, Manifest};
use crate::snapshot_file::SnapshotFile;
use crate::view::LogSegments;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tidegate_ids::{Incarnation, LogId};
use tidegate_storage_log::{LogIdentity, SNAPSHOT_FORMAT_VERSION, SnapshotError};

/// The snapshots of an owned directory. Made at a start, then at home on the thread that builds the next one; it holds the
/// directory's `LOCK` as long as it lives.
#[derive(Debug)]
pub struct Snapshots {
    pub(crate) owned: Arc<Owned>,
    pub(crate) identity: LogIdentity,
    /// Newest first.
    pub(crate) good: Vec<Arc<SnapshotFile>>,
    bad: Vec<BadSnapshot>,
    pub(crate) next_number: u64,
    pub(crate) reserve_bytes: u64,
}

/// A snapshot that is passed over. Its file is left where it is until two good ones are newer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct BadSnapshot {
    /// The file.
    pub path: PathBuf,
    /// Its number, by its name.
    pub number: u64,
    /// What is wrong with it.
    pub why: SnapshotFlaw,
}

/// What is wrong with a snapshot as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotFlaw {
    /// Header, footer or index cannot be read, or are not what was written.
    #[error("{0}")]
    Content(SnapshotError),
    /// The system refuses to open it.
    #[error("cannot be opened: {}", std::io::Error::from_raw_os_error(*.0))]
    Refused(i32),
    /// A directory, a FIFO, a socket or a device lies in its place.
    #[error("not a regular file")]
    NoFile,
    /// Its header has another number than its name.
    #[error("the header says snapshot {0}")]
    Number(u64),
    /// It covers a log that is not in the manifest, or a segment that was never given out: it is of another history of this
    /// directory, as after putting back older logs.
    #[error("it covers log {0} further than this directory goes")]
    History(LogId),
}

/// Why the snapshots of a directory are not to be touched. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotsError {
    /// Written by a newer version. Recovered by that version.
    #[error(
        "{}: format version {found} is not {SNAPSHOT_FORMAT_VERSION}, the one that this tidegate reads: use the version that \
         wrote it",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u16,
    },
    /// Of another data directory, or routed by another hash. Recovered by moving it away.
    #[error("{}: the snapshot of another data directory: move it away", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The system refused. Recovered by what its message says.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Whose snapshots they must be.
#[derive(Debug)]
pub(crate) struct Expected<'a> {
    pub(crate) directory: [u8; 16],
    pub(crate) hash_version: u16,
    pub(crate) logs: &'a [LogSegments],
    pub(crate) next_segment: u32,
}

/// What lies in the directory of snapshots.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    pub(crate) good: Vec<Arc<SnapshotFile>>,
    pub(crate) bad: Vec<BadSnapshot>,
    /// Left by a crash, or being written.
    pub(crate) temporary: Vec<PathBuf>,
    pub(crate) highest: u64,
}

impl Snapshots {
    /// Looks at all snapshots, and clears what a crash left of one that was being built.
    ///
    /// # Errors
    /// See [`SnapshotsError`]; a damaged one is none, it is among [`Snapshots::bad`].
    pub fn open(dir: &DataDir) -> Result<Self, SnapshotsError> {
        let identity = dir.identity(tidegate_ids::ShardIndex(0));
        let listed = list(
            dir.path(),
            &Expected {
                directory: identity.directory,
                hash_version: identity.hash_version,
                logs: dir.logs(),
                next_segment: dir.next_segment(),
            },
        )?;
        listed.temporary.iter().try_for_each(|path| layout::remove(path))?;
        clear_runs(dir.path())?;
        let Listed { good, bad, highest, .. } = listed;
        Ok(Self {
            owned: Arc::clone(dir.owned()),
            identity,
            good,
            bad,
            next_number: highest + 1,
            reserve_bytes: RESERVE_BYTES_DEFAULT,
        })
    }

    /// The good ones, the newest first. Their blocks of entries are checked when they are read.
    #[must_use]
    pub fn good(&self) -> &[Arc<SnapshotFile>] {
        &self.good
    }

    /// The newest good one.
    #[must_use]
    pub fn newest(&self) -> Option<&Arc<SnapshotFile>> {
        self.good.first()
    }

    /// What is passed over; an operator wants to know.
    #[must_use]
    pub fn bad(&self) -> &[BadSnapshot] {
        &self.bad
    }

    /// The number that the next one gets.
    #[must_use]
    pub const fn next_number(&self) -> u64 {
        self.next_number
    }

    /// The directory's incarnation.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.owned.incarnation()
    }

    /// Sets what building leaves free on the disk, for the logs; 64 MiB if nobody does.
    pub const fn reserve(&mut self, bytes: u64) {
        self.reserve_bytes = bytes;
    }

    /// Passes over a good one from now on, as its word does not fit the logs; its file stays.
    pub fn pass_over(&mut self, number: u64) {
        self.good.retain(|file| file.number() != number);
    }

    /// Sets a good one aside whose blocks turned out to be damaged, as `<number>.snap.damaged`: no start uses it again.
    ///
    /// # Errors
    /// The system refuses; it is passed over by this process only.
    pub fn set_aside(&mut self, number: u64) -> Result<(), FileError> {
        self.pass_over(number);
        let path = layout::snapshot(self.owned.root(), number);
        let aside = path.with_extension("snap.damaged");
        std::fs::rename(&path, aside).map_err(FileError::on("set aside", &path))?;
        layout::sync_dir(&layout::snapshot_dir(self.owned.root()))
    }

    /// The written and synced temporary file of snapshot `number` takes its place, and older ones go.
    pub(crate) fn replace(&mut self, number: u64) -> Result<Arc<SnapshotFile>, FileError> {
        let root = self.owned.root();
        let directory = layout::snapshot_dir(root);
        let path = layout::snapshot(root, number);
        std::fs::rename(layout::snapshot_temporary(root, number), &path)
            .map_err(FileError::on("replace", &path))?;
        layout::sync_dir(&directory)?;
        let opened = SnapshotFile::open(&path).map_err(FileError::on("open", &path))?;
        let file = opened.map_err(|error| {
            FileError::new("read back", &path, std::io::Error::new(std::io::ErrorKind::InvalidData, error))
        })?;
        let file = Arc::new(file);
        self.good.insert(0, Arc::clone(&file));
        // What cannot be removed now is removed when the next one is in place.
        let _ = self.remove_older();
        Ok(file)
    }

    /// Keeps the newest two good ones, and nothing that is older than both.
    fn remove_older(&mut self) -> Result<(), FileError> {
        let Some(oldest) = self.good.get(SNAPSHOTS_KEPT - 1).map(|file| file.number()) else { return Ok(()) };
        self.good.truncate(SNAPSHOTS_KEPT);
        let root = self.owned.root();
        for name in layout::names(&layout::snapshot_dir(root))? {
            if let SnapshotName::Snapshot(number) = layout::snapshot_name(&name)
                && number < oldest
            {
                layout::remove(&layout::snapshot(root, number))?;
            }
        }
        self.bad.retain(|bad| bad.number >= oldest);
        Ok(())
    }
}

/// Looks at every snapshot there is and changes nothing.
pub(crate) fn list(root: &Path, expected: &Expected<'_>) -> Result<Listed, SnapshotsError> {
    let directory = layout::snapshot_dir(root);
    let mut listed = Listed::default();
    let mut numbers = Vec::new();
    for name in layout::names(&directory)? {
        match layout::snapshot_name(&name) {
            SnapshotName::Snapshot(number) => numbers.push(number),
            SnapshotName::Temporary(number) => {
                listed.highest = listed.highest.max(number);
                listed.temporary.push(directory.join(name));
            }
            SnapshotName::Other => {}
        }
    }
    numbers.sort_unstable_by(|one, other| other.cmp(one));
    listed.highest = numbers.first().copied().unwrap_or(0).max(listed.highest);
    for number in numbers {
        let path = layout::snapshot(root, number);
        match inspect(&path, number, expected)? {
            Ok(file) => listed.good.push(Arc::new(file)),
            Err(why) => listed.bad.push(BadSnapshot { path, number, why }),
        }
    }
    Ok(listed)
}

/// The last segment of each log that a good snapshot holds: up to there all were written, whatever they look like now. A
/// snapshot that may not be used says nothing here; whoever uses snapshots is told why.
pub(crate) fn covered_through(root: &Path, manifest: &Manifest) -> Result<BTreeMap<LogId, u32>, FileError> {
    let logs: Vec<LogSegments> =
        manifest.logs().map(|log| LogSegments { log, segments: Vec::new() }).collect();
    let expected = Expected {
        directory: manifest.directory,
        hash_version: HASH_VERSION as u16,
        logs: &logs,
        next_segment: manifest.next_segment,
    };
    let mut through = BTreeMap::new();
    for name in layout::names(&layout::snapshot_dir(root))? {
        let SnapshotName::Snapshot(number) = layout::snapshot_name(&name) else { continue };
        let Ok(Ok(file)) = inspect(&layout::snapshot(root, number), number, &expected) else { continue };
        for covered in &file.header().covered {
            let last = through.entry(covered.log).or_insert(0);
            *last = covered.previous.end.segment.max(*last);
        }
    }
    Ok(through)
}

pub(crate) fn inspect(
    path: &Path,
    number: u64,
    expected: &Expected<'_>,
) -> Result<Result<SnapshotFile, SnapshotFlaw>, SnapshotsError> {
    let file = match SnapshotFile::open(path) {
        Err(error) => {
            return Ok(Err(error.raw_os_error().map_or(SnapshotFlaw::NoFile, SnapshotFlaw::Refused)));
        }
        Ok(Err(SnapshotError::Version(found))) => {
            return Err(SnapshotsError::Version { path: path.to_path_buf(), found });
        }
        Ok(Err(error)) => return Ok(Err(SnapshotFlaw::Content(error))),
        Ok(Ok(file)) => file,
    };
    let header = file.header();
    if header.directory != expected.directory || header.hash_version != expected.hash_version {
        return Err(SnapshotsError::Foreign { path: path.to_path_buf() });
    }
    if header.number != number {
        return Ok(Err(SnapshotFlaw::Number(header.number)));
    }
    let beyond = header.covered.iter().find(|covered| {
        !expected.logs.iter().any(|known| known.log == covered.log)
            || covered.previous.end.segment >= expected.next_segment
    });
    Ok(beyond.map_or(Ok(()), |covered| Err(SnapshotFlaw::History(covered.log))).map(|()| file))
}

/// Removes what merges set aside: nobody reads it after a crash.
pub(crate) fn clear_runs(root: &Path) -> Result<(), FileError> {
    let directory = layout::runs_dir(root);
    layout::names(&directory)?.iter().try_for_each(|name| layout::remove(&directory.join(name)))
}
