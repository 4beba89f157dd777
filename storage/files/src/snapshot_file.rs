//! One snapshot as a file open for reading, by any number of threads.

use crate::read_at::{fill, open};
use rustix::io::pread;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use tidegate_ids::{Location, StreamId, VirtualShard};
use tidegate_storage_log::{
    OsError, Snapshot, SnapshotEntries, SnapshotError, SnapshotHeader, SnapshotPart, SnapshotSource,
};

/// A snapshot whose header, footer and index hold. It stays readable after it was replaced and removed, until this is
/// dropped.
#[derive(Debug)]
pub struct SnapshotFile {
    path: PathBuf,
    snapshot: Snapshot<FileSource>,
}

/// A block of a snapshot that could not be had: its streams are damaged, no others.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("snapshot {}: {source}", path.display())]
pub struct SnapshotReadError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub source: SnapshotError,
}

/// What a look at all of a snapshot found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotVerified {
    /// Entries that hold.
    pub entries: u64,
    /// Bytes of their states.
    pub state_bytes: u64,
    /// What does not hold, the first [`SNAPSHOT_PROBLEMS_MAX`](crate::limits::SNAPSHOT_PROBLEMS_MAX) of it.
    pub problems: Vec<SnapshotError>,
    /// How many blocks do not hold.
    pub problem_count: u64,
}

impl SnapshotVerified {
    /// Whether all of it holds.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.problem_count == 0
    }
}

/// Reads by `pread`.
#[derive(Debug)]
struct FileSource {
    file: File,
    bytes: u64,
}

impl SnapshotSource for FileSource {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<usize, OsError> {
        fill(into, |part, at| pread(&self.file, part, offset + at))
            .map_err(|(_, errno)| OsError(errno.raw_os_error()))
    }
}

impl SnapshotFile {
    /// Opens a file and checks header, footer and index.
    ///
    /// # Errors
    /// The system's, or what is wrong with the content. Where no regular file is, it is one without a number of the system.
    pub(crate) fn open(path: &Path) -> io::Result<Result<Self, SnapshotError>> {
        let file = open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let bytes = metadata.len();
        let opened = Snapshot::open(FileSource { file, bytes });
        Ok(opened.map(|snapshot| Self { path: path.to_path_buf(), snapshot }))
    }

    /// The file; it may have been removed since.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its number.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.snapshot.header().number
    }

    /// What it is of, and what of each log it covers.
    #[must_use]
    pub const fn header(&self) -> &SnapshotHeader {
        self.snapshot.header()
    }

    /// How many streams have an entry.
    #[must_use]
    pub const fn entry_count(&self) -> u64 {
        self.snapshot.entry_count()
    }

    /// Bytes of the file.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.snapshot.bytes()
    }

    /// Leaves the state of a stream in `state`, and says up to where it is folded; `None`, and nothing in `state`, if it has
    /// no entry. At most one read, which may wait for the disk: for a reader thread, or a start.
    ///
    /// # Errors
    /// The block that could hold it is damaged or cannot be read.
    pub fn read_entry(
        &self,
        place: VirtualShard,
        stream: &StreamId,
        state: &mut Vec<u8>,
    ) -> Result<Option<Location>, SnapshotReadError> {
        let loaded = self.snapshot.load(place, stream, state);
        loaded.map_err(|source| SnapshotReadError { path: self.path.clone(), source })
    }

    /// All entries in order.
    #[must_use]
    pub fn entries(&self) -> SnapshotEntries<'_> {
        self.snapshot.entries()
    }

    /// The entries of some virtual shards, in order.
    #[must_use]
    pub fn entries_of(&self, places: std::ops::Range<u32>) -> SnapshotEntries<'_> {
        self.snapshot.entries_of(places)
    }

    /// Reads all of it.
    #[must_use]
    pub fn verify(&self) -> SnapshotVerified {
        let mut verified = SnapshotVerified::default();
        let mut entries = self.entries();
        while let Some(entry) = entries.next() {
            match entry {
                Ok(entry) => {
                    verified.entries += 1;
                    verified.state_bytes += entry.state.len() as u64;
                }
                Err(problem) => verified.note(problem),
            }
        }
        if verified.is_sound() && verified.entries != self.entry_count() {
            let (part, length) = (SnapshotPart::Index, self.bytes());
            verified.note(SnapshotError::Damaged { part, offset: 0, length });
        }
        verified
    }
}

impl SnapshotVerified {
    fn note(&mut self, problem: SnapshotError) {
        self.problem_count += 1;
        if self.problems.len() < crate::limits::SNAPSHOT_PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }
}

const _: () = {
    const fn shared_by_threads<T: Send + Sync>() {}
    shared_by_threads::<SnapshotFile>();
};
