//! One segment's file in place of another, or none: written under a temporary name, synced, read back, renamed, the
//! directory synced. Whatever the moment of a crash, the segment's name leads to a whole file.

use super::RetentionError;
use super::pace::{Pace, Paced};
use crate::error::FileError;
use crate::layout;
use crate::reader::SegmentReader;
use crate::space::free_bytes;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tidegate_ids::LogId;
use tidegate_storage_log::{
    ClosedSegment, Inflated, Keep, Medium, MediumError, PreviousEnd, RecordHead, RewriteError, RewriteSink,
    Rewrote, check_rewritten, closed_segment, rewrite, tally,
};

/// The steps, in this order.
pub(super) struct Replacing {
    segment: u32,
    directory: PathBuf,
    target: PathBuf,
    temporary: PathBuf,
}

/// Why there is no new file. The temporary one is gone.
pub(super) enum ReplaceError {
    /// The old one is damaged.
    Damaged,
    /// The pass ends.
    Ended(RetentionError),
}

impl<E: Into<RetentionError>> From<E> for ReplaceError {
    fn from(error: E) -> Self {
        Self::Ended(error.into())
    }
}

/// A file that takes what is written, at a pace.
struct FileSink<'a, 'p> {
    file: &'a File,
    pace: &'a Pace<'p>,
}

/// Why a file takes no more.
enum SinkError {
    Stopped,
    File(io::Error),
}

impl RewriteSink for FileSink<'_, '_> {
    type Error = SinkError;

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SinkError> {
        if self.pace.is_stopped() {
            return Err(SinkError::Stopped);
        }
        self.pace.take(bytes.len() as u64);
        self.file.write_all_at(bytes, offset).map_err(SinkError::File)
    }
}

/// One file, whatever its name.
struct OneFile {
    segment: u32,
    file: File,
    bytes: u64,
}

impl Medium for OneFile {
    fn segment_len(&self, segment: u32) -> Result<u64, MediumError> {
        if segment == self.segment { Ok(self.bytes) } else { Err(MediumError::Missing(segment)) }
    }

    fn read(&mut self, segment: u32, offset: u64, into: &mut [u8]) -> Result<usize, MediumError> {
        self.segment_len(segment)?;
        self.file.read_at(into, offset).map_err(|error| MediumError::Unreadable {
            segment,
            offset,
            os_error: error.raw_os_error().unwrap_or(0),
        })
    }
}

impl Replacing {
    pub(super) fn new(root: &Path, log: LogId, segment: u32) -> Self {
        Self {
            segment,
            directory: layout::log_dir(root, log),
            target: layout::segment(root, log, segment),
            temporary: layout::temporary(root, log, segment),
        }
    }

    /// Bytes of the file that is there; 0 if nobody can tell.
    pub(super) fn bytes_now(&self) -> u64 {
        std::fs::metadata(&self.target).map_or(0, |metadata| metadata.len())
    }

    pub(super) fn check_room(&self, reserve_bytes: u64) -> Result<(), RetentionError> {
        let needed_bytes = self.bytes_now().saturating_add(reserve_bytes);
        let free_bytes = free_bytes(&self.directory)?;
        if free_bytes < needed_bytes {
            return Err(RetentionError::NoSpace { segment: self.segment, needed_bytes, free_bytes });
        }
        Ok(())
    }

    /// The new file, durable and read back, under the temporary name. One left by a crash is overwritten.
    pub(super) fn write(
        &self,
        reader: &mut SegmentReader,
        closed: &ClosedSegment,
        decide: impl FnMut(&RecordHead) -> Keep,
        pace: &Pace<'_>,
    ) -> Result<Rewrote, ReplaceError> {
        let written = self.write_and_check(reader, closed, decide, pace);
        if written.is_err() {
            self.withdraw();
        }
        written
    }

    fn write_and_check(
        &self,
        reader: &mut SegmentReader,
        closed: &ClosedSegment,
        decide: impl FnMut(&RecordHead) -> Keep,
        pace: &Pace<'_>,
    ) -> Result<Rewrote, ReplaceError> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&self.temporary)
            .map_err(FileError::on("create", &self.temporary))?;
        let mut medium = Paced { medium: reader, pace };
        let mut sink = FileSink { file: &file, pace };
        let rewrote = rewrite(&mut medium, closed, decide, &mut sink).map_err(|error| match error {
            RewriteError::Damaged(_) | RewriteError::Medium(_) => ReplaceError::Damaged,
            RewriteError::Sink(SinkError::Stopped) => RetentionError::Stopped.into(),
            RewriteError::Sink(SinkError::File(error)) => {
                FileError::new("write", &self.temporary, error).into()
            }
        })?;
        file.sync_all().map_err(FileError::on("sync", &self.temporary))?;
        let bytes = file.metadata().map_err(FileError::on("inspect", &self.temporary))?.len();
        let one = OneFile { segment: self.segment, file, bytes };
        if holds(one, &rewrote) { Ok(rewrote) } else { Err(RetentionError::Wrong(self.segment).into()) }
    }

    /// The new file goes, whole or not: it takes room. If this fails too, the next start removes it.
    pub(super) fn withdraw(&self) {
        let _ = std::fs::remove_file(&self.temporary);
    }

    pub(super) fn rename(&self) -> Result<(), FileError> {
        std::fs::rename(&self.temporary, &self.target).map_err(FileError::on("replace", &self.target))
    }

    pub(super) fn sync_directory(&self) -> Result<(), FileError> {
        layout::sync_dir(&self.directory)
    }

    /// The file goes; its name is gone for good when this returns well.
    pub(super) fn remove(&self) -> Result<(), FileError> {
        std::fs::remove_file(&self.target).map_err(FileError::on("remove", &self.target))?;
        self.sync_directory()
    }
}

/// Whether a new file is whole, and holds what it was to hold.
fn holds(mut file: OneFile, rewrote: &Rewrote) -> bool {
    let segment = file.segment;
    let is_whole = check_rewritten(&mut file, segment).is_ok_and(|damage| damage == Some(Vec::new()));
    let mut view = Inflated::new(file);
    let closed = closed_segment(&mut view, segment, &[], PreviousEnd::default());
    let Ok(Some(closed)) = closed else { return false };
    let Ok(found) = tally(&mut view, &closed, |_| Keep::Live) else { return false };
    let was = &rewrote.tally;
    let holes = was.holes + was.expired + was.erased;
    is_whole && (found.live, found.live_bytes, found.holes) == (was.live, was.live_bytes, holes)
}
