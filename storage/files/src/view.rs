//! Looking at a data directory without owning it: no `LOCK` is taken and nothing is changed, so a running gateway is
//! not disturbed. Its newest segments are then in motion.

use crate::catalog::Catalog;
use crate::error::{FileError, OpenError};
use crate::limits::SEGMENT_NUMBER_MAX;
use crate::manifest::{self, Epoch, HASH_VERSION, Manifest};
use crate::reader::SegmentReader;
use crate::snapshot_file::SnapshotFile;
use crate::snapshots::{self, BadSnapshot, Expected, SnapshotsError};
use crate::survey::Survey;
use crate::{layout, limits, lock};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tidegate_ids::{Incarnation, LogId};
use tidegate_storage_log::descriptor::SEGMENT_HEADER_BYTES;

/// A log and its segments that hold something, rising.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSegments {
    /// Epoch and shard.
    pub log: LogId,
    /// Segment numbers.
    pub segments: Vec<u32>,
}

/// A file or directory that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct SegmentProblem {
    /// Where.
    pub path: PathBuf,
    /// What.
    pub problem: Problem,
}

impl SegmentProblem {
    /// What the system refused, said as of any other file, so that who may not read is told whom to ask.
    pub(crate) fn refusal(&self) -> Option<FileError> {
        match self.problem {
            Problem::Refused { os_error } => {
                Some(FileError::new("open", &self.path, io::Error::from_raw_os_error(os_error)))
            }
            _ => None,
        }
    }
}

/// What is wrong with a segment's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The manifest names it and it is not there.
    Missing,
    /// It is there, and the system refuses to open it.
    Refused {
        /// `errno`.
        os_error: i32,
    },
    /// A directory, a FIFO, a socket or a device lies in its place.
    NoFile,
    /// Shorter than its header, or than its header says.
    Short {
        /// The file's length.
        bytes: u64,
        /// What it should be at least.
        expected: u64,
    },
    /// Its first block is not a segment's header.
    Header,
    /// It is zero where a spare is, and something says that it was written.
    Emptied,
    /// Written in a newer format.
    Newer {
        /// The format in its header.
        found: u16,
        /// The newest this version reads.
        supported: u16,
    },
    /// Its header names another segment or another directory.
    Foreign {
        /// The log in the header.
        log: LogId,
        /// The segment in the header.
        segment: u32,
    },
    /// Another log has a segment of the same number.
    Twice,
    /// An epoch or a shard that the manifest does not name: the manifest is an older one.
    Unlisted,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("missing, though the MANIFEST lists it"),
            Self::Refused { os_error } => {
                write!(f, "cannot be opened: {}", io::Error::from_raw_os_error(*os_error))
            }
            Self::NoFile => f.write_str("not a regular file"),
            Self::Short { bytes, expected } if *expected == SEGMENT_HEADER_BYTES as u64 => write!(
                f,
                "{bytes} bytes long, less than its header alone: a segment is made as long as storage.segment_bytes says"
            ),
            Self::Short { bytes, expected } => write!(f, "{bytes} bytes long, not {expected}"),
            Self::Header => f.write_str("the segment's header is damaged"),
            Self::Emptied => f.write_str("zero like a spare, though it was written: what it held is lost"),
            Self::Newer { found, supported } => {
                write!(
                    f,
                    "format version {found} is newer than {supported}, the newest that this tidegate reads"
                )
            }
            Self::Foreign { log, segment } => {
                write!(f, "the header says segment {segment} of log {log}, or another data directory")
            }
            Self::Twice => f.write_str("another log has a segment of the same number"),
            Self::Unlisted => f.write_str("not in the MANIFEST, which must be an older one"),
        }
    }
}

/// The snapshots of a directory, as a tool sees them; each the newest first.
#[derive(Debug)]
pub struct ViewedSnapshots {
    /// Header, footer and index hold.
    pub good: Vec<Arc<SnapshotFile>>,
    /// What a start would pass over.
    pub bad: Vec<BadSnapshot>,
}

/// A directory as it lies there.
#[derive(Debug)]
pub struct DirView {
    manifest: Manifest,
    logs: Vec<LogSegments>,
    problems: Vec<SegmentProblem>,
    catalog: Arc<Catalog>,
    holder: Option<u32>,
}

impl DirView {
    /// Looks at `path`. What is wrong with single segments does not end this: see [`DirView::problems`].
    ///
    /// # Errors
    /// There is no manifest, or not one that this version reads, or the system refuses.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let holder = lock::holder(path);
        let mut attempts = 1;
        loop {
            let manifest = manifest::load(path)?.ok_or_else(|| no_manifest(path))?;
            let survey = Survey::take(path, &manifest)?;
            // A running gateway names segments, removes spares and rolls between the two: look again.
            let settled =
                survey.problems.is_empty() || holder.is_none() || attempts >= limits::VIEW_ATTEMPTS_MAX;
            if settled {
                let mut known = manifest.segments.clone();
                for (&log, numbers) in &survey.written {
                    known.extend(numbers.iter().map(|&number| (number, log)));
                }
                let catalog = Arc::new(Catalog::viewed(path.to_path_buf(), known));
                survey.indexes.tell(&catalog, &manifest.directory);
                let logs = log_segments(survey.written);
                return Ok(Self { manifest, logs, problems: survey.problems, catalog, holder });
            }
            attempts += 1;
        }
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.catalog.root()
    }

    /// The process that seems to own the directory now; then the newest segments are in motion.
    #[must_use]
    pub const fn holder(&self) -> Option<u32> {
        self.holder
    }

    /// The directory's id, which every segment's header repeats.
    #[must_use]
    pub const fn directory(&self) -> [u8; 16] {
        self.manifest.directory
    }

    /// The directory's incarnation.
    #[must_use]
    pub const fn incarnation(&self) -> Incarnation {
        self.manifest.incarnation
    }

    /// All epochs, rising.
    #[must_use]
    pub fn epochs(&self) -> &[Epoch] {
        &self.manifest.epochs
    }

    /// Every log of every epoch, in order, with its written segments.
    #[must_use]
    pub fn logs(&self) -> &[LogSegments] {
        &self.logs
    }

    /// What is not as it should be. Of these, [`DirView::logs`] lists emptied segments and those with a damaged
    /// header or end only.
    #[must_use]
    pub fn problems(&self) -> &[SegmentProblem] {
        &self.problems
    }

    /// Its snapshots, good and bad, as they lie there now; a running gateway may replace them meanwhile, and those opened
    /// stay readable.
    ///
    /// # Errors
    /// See [`SnapshotsError`].
    pub fn snapshots(&self) -> Result<ViewedSnapshots, SnapshotsError> {
        let expected = Expected {
            directory: self.manifest.directory,
            hash_version: HASH_VERSION as u16,
            logs: &self.logs,
            // A running gateway names segments in its newest manifest only.
            next_segment: if self.holder.is_some() { SEGMENT_NUMBER_MAX } else { self.manifest.next_segment },
        };
        let listed = snapshots::list(self.path(), &expected)?;
        Ok(ViewedSnapshots { good: listed.good, bad: listed.bad })
    }

    /// The segments that the manifest names, whether they are there or not.
    pub fn named(&self) -> impl Iterator<Item = u32> + '_ {
        self.manifest.segments.keys().copied()
    }

    /// A reader of this directory's segments.
    #[must_use]
    pub fn reader(&self) -> SegmentReader {
        SegmentReader::new(Arc::clone(&self.catalog))
    }

    /// The file of a segment.
    #[must_use]
    pub fn segment_path(&self, segment: u32) -> Option<PathBuf> {
        self.catalog.path(segment)
    }
}

pub(crate) fn log_segments(written: std::collections::BTreeMap<LogId, Vec<u32>>) -> Vec<LogSegments> {
    written.into_iter().map(|(log, segments)| LogSegments { log, segments }).collect()
}

pub(crate) fn no_manifest(path: &Path) -> OpenError {
    if path.join(layout::LOGS).is_dir() {
        return OpenError::NoManifest { directory: path.to_path_buf() };
    }
    let missing = io::Error::new(io::ErrorKind::NotFound, "not a data directory of tidegate");
    FileError::new("open", &path.join(layout::MANIFEST), missing).into()
}
