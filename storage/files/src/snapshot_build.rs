//! Building a snapshot on a helper thread: segments are read once, merged with the snapshot before, and the result takes
//! its place. Shards go on meanwhile; nothing here waits for them nor they for it.

use crate::error::FileError;
use crate::layout;
use crate::limits::{SNAPSHOT_SYNC_BYTES, SNAPSHOT_WRITE_BYTES};
use crate::reader::SegmentReader;
use crate::run_files::RunFiles;
use crate::snapshot_file::SnapshotFile;
use crate::snapshots::{Snapshots, clear_runs};
use crate::space::free_bytes;
use rustix::io::Errno;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tidegate_ids::LogId;
use tidegate_storage_log::limits::MERGE_BYTES_DEFAULT;
use tidegate_storage_log::{
    Covered, Fold, MergeError, MergeSummary, Merger, OsError, SegmentExtent, SnapshotHeader, SnapshotSink,
    SnapshotWriter, WriteError,
};

/// What the next snapshot is made of.
#[derive(Clone, Debug)]
pub struct SnapshotPlan<'a> {
    /// What is newly covered: whole segments of any logs that are sealed, or end behind a crash and have another after
    /// them. Of one log all between what `previous` covers and what `covered` says; older epochs wholly before anything of
    /// a newer one.
    pub segments: &'a [(LogId, SegmentExtent)],
    /// What the new one covers, all logs of `previous` included.
    pub covered: Vec<Covered>,
    /// The one before, if there is a good one.
    pub previous: Option<Arc<SnapshotFile>>,
    /// Segments in which recovery has reported damage: what it cost is lost, with or without a snapshot. Damage anywhere
    /// else ends the building, since the record may be read well another time.
    pub known_damage: &'a [u32],
    /// Of these, segments whose damage no recovery has seen: what they held of a conversation's end is known to the running
    /// gateway, which gives no sequence again. So it must not be forgotten here; the segment's footer tells it.
    pub late_damage: &'a [u32],
    /// What sorting may take; about as much again is not needed.
    pub memory_bytes: usize,
}

impl<'a> SnapshotPlan<'a> {
    /// With the default memory and no damage known.
    #[must_use]
    pub const fn new(
        segments: &'a [(LogId, SegmentExtent)],
        covered: Vec<Covered>,
        previous: Option<Arc<SnapshotFile>>,
    ) -> Self {
        let memory_bytes = MERGE_BYTES_DEFAULT;
        Self { segments, covered, previous, known_damage: &[], late_damage: &[], memory_bytes }
    }
}

/// A new snapshot.
#[derive(Clone, Debug)]
pub struct SnapshotBuilt {
    /// Open for reading, durable.
    pub file: Arc<SnapshotFile>,
    /// What was done.
    pub summary: MergeSummary,
    /// Records read.
    pub records: u64,
}

/// Why there is no new snapshot. The ones before stand, and so do the logs; nothing is lost but the work.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Somebody asked to stop.
    #[error("the snapshot was stopped")]
    Stopped,
    /// The plan covers less of a log than the snapshot before. Our fault.
    #[error("the plan covers less of log {0} than the snapshot before it")]
    Backwards(LogId),
    /// A segment was damaged since it was recovered or written. Recovered by the next start, which judges it.
    #[error("segment {segment} of log {log} is damaged in {count} places")]
    Damaged {
        /// The log.
        log: LogId,
        /// The segment.
        segment: u32,
        /// How many times damage was met.
        count: u64,
    },
    /// A segment was damaged since it was written, its footer too: up to where sequences were given in it is not known.
    /// Recovered by the next start, which takes a new incarnation; until then no snapshot passes it.
    #[error(
        "segment {segment} of log {log} is damaged, and so is its footer: restart, no snapshot passes it before"
    )]
    EndUnknown {
        /// The log.
        log: LogId,
        /// The segment.
        segment: u32,
    },
    /// The disk would have less room left than what is kept free for the logs. Recovered by room, or by retention.
    #[error("no space for a snapshot in {}: less than {reserve_bytes} bytes would be free", directory.display())]
    NoSpace {
        /// Where.
        directory: PathBuf,
        /// What must stay free.
        reserve_bytes: u64,
    },
    /// The merge failed: [`MergeError`] says what recovers it.
    #[error("{0}")]
    Merge(MergeError),
    /// The system refused. Recovered by what its message says.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Snapshots {
    /// Builds the next snapshot and puts it in place. May take minutes; `stop` ends it early. After an error everything is
    /// as before.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn build<F: Fold + ?Sized>(
        &mut self,
        plan: &SnapshotPlan<'_>,
        fold: &mut F,
        stop: &AtomicBool,
    ) -> Result<SnapshotBuilt, BuildError> {
        check(plan)?;
        let root = self.owned.root().to_path_buf();
        let number = self.next_number;
        layout::make_dirs(&layout::runs_dir(&root))?;
        clear_runs(&root)?;
        let temporary = layout::snapshot_temporary(&root, number);
        let room = Room::new(layout::snapshot_dir(&root), self.reserve_bytes, stop);
        let written = self.write(plan, fold, &room, &temporary);
        // After a failure there is less to clear at the next start; that also finds what cannot be removed now.
        let cleared = clear_runs(&root);
        let (summary, records) = match written {
            Ok(written) => written,
            Err(error) => {
                let _ = layout::remove(&temporary);
                return Err(room.refusal().unwrap_or(error));
            }
        };
        cleared?;
        self.next_number += 1;
        let file = self.replace(number)?;
        Ok(SnapshotBuilt { file, summary, records })
    }

    fn write<F: Fold + ?Sized>(
        &self,
        plan: &SnapshotPlan<'_>,
        fold: &mut F,
        room: &Room<'_>,
        temporary: &Path,
    ) -> Result<(MergeSummary, u64), BuildError> {
        let mut reader = SegmentReader::new(Arc::clone(self.owned.catalog()));
        let runs = RunFiles::new(layout::runs_dir(self.owned.root()), room);
        let mut merger = Merger::new(plan.memory_bytes, runs);
        let mut records = 0;
        for (log, extent) in plan.segments {
            if let Some(refusal) = room.refusal() {
                return Err(refusal);
            }
            let fed = merger.feed_segment(fold, &mut reader, extent).map_err(BuildError::Merge)?;
            records += fed.records;
            if fed.damage_count > 0 && !plan.known_damage.contains(&extent.segment) {
                let (log, segment, count) = (*log, extent.segment, fed.damage_count);
                return Err(BuildError::Damaged { log, segment, count });
            }
            if fed.damage_count > 0 && plan.late_damage.contains(&extent.segment) {
                let told = merger.feed_lost_ends(fold, &mut reader, extent).map_err(BuildError::Merge)?;
                if !told {
                    return Err(BuildError::EndUnknown { log: *log, segment: extent.segment });
                }
            }
        }
        let header = SnapshotHeader {
            number: self.next_number,
            directory: self.identity.directory,
            incarnation: self.incarnation(),
            hash_version: self.identity.hash_version,
            covered: plan.covered.clone(),
        };
        let sink = FileSink::create(temporary, room)?;
        let failed = |error| BuildError::Merge(MergeError::Write(error));
        let writer = SnapshotWriter::new(sink, &header).map_err(failed)?;
        let previous = plan.previous.as_ref().map(|file| file.entries());
        let (sink, summary) = merger.finish(fold, previous, writer).map_err(BuildError::Merge)?;
        sink.finish().map_err(|error| failed(WriteError::Sink(error)))?;
        Ok((summary, records))
    }
}

/// What is covered never shrinks.
fn check(plan: &SnapshotPlan<'_>) -> Result<(), BuildError> {
    let Some(previous) = &plan.previous else { return Ok(()) };
    for before in &previous.header().covered {
        let now = plan.covered.iter().find(|covered| covered.log == before.log);
        if now.is_none_or(|now| now.previous.end < before.previous.end) {
            return Err(BuildError::Backwards(before.log));
        }
    }
    Ok(())
}

/// Whether a building may go on writing: nobody asked to stop, and what must stay free on the disk is free.
#[derive(Debug)]
pub(crate) struct Room<'a> {
    directory: PathBuf,
    reserve_bytes: u64,
    stop: &'a AtomicBool,
    /// Bytes that may be written before the disk is asked again.
    granted: Cell<u64>,
    is_short: Cell<bool>,
}

impl<'a> Room<'a> {
    const fn new(directory: PathBuf, reserve_bytes: u64, stop: &'a AtomicBool) -> Self {
        Self { directory, reserve_bytes, stop, granted: Cell::new(0), is_short: Cell::new(false) }
    }

    /// Asks for room for so many bytes more.
    pub(crate) fn take(&self, bytes: usize) -> Result<(), OsError> {
        self.check()?;
        let bytes = bytes as u64;
        if self.granted.get() < bytes {
            let asked = bytes.max(SNAPSHOT_SYNC_BYTES);
            let free = free_bytes(&self.directory).map_err(|error| os_error(&error.source))?;
            if free < self.reserve_bytes.saturating_add(asked) {
                self.is_short.set(true);
                return Err(OsError(Errno::NOSPC.raw_os_error()));
            }
            self.granted.set(asked);
        }
        self.granted.set(self.granted.get() - bytes);
        Ok(())
    }

    /// Whether somebody asked to stop.
    pub(crate) fn check(&self) -> Result<(), OsError> {
        let stopped = self.stop.load(Ordering::Relaxed);
        if stopped { Err(OsError(Errno::CANCELED.raw_os_error())) } else { Ok(()) }
    }

    /// What ended the building, if it was this.
    fn refusal(&self) -> Option<BuildError> {
        if self.stop.load(Ordering::Relaxed) {
            return Some(BuildError::Stopped);
        }
        let (directory, reserve_bytes) = (self.directory.clone(), self.reserve_bytes);
        self.is_short.get().then_some(BuildError::NoSpace { directory, reserve_bytes })
    }
}

/// The temporary file, written in large pieces and synced as it grows.
#[derive(Debug)]
struct FileSink<'a> {
    file: File,
    gathered: Vec<u8>,
    unsynced: u64,
    room: &'a Room<'a>,
}

impl<'a> FileSink<'a> {
    fn create(path: &Path, room: &'a Room<'a>) -> Result<Self, FileError> {
        layout::remove(path)?;
        let file = File::options().write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(FileError::on("create", path))?;
        Ok(Self { file, gathered: Vec::with_capacity(SNAPSHOT_WRITE_BYTES), unsynced: 0, room })
    }

    fn flush(&mut self) -> Result<(), OsError> {
        let gathered = std::mem::take(&mut self.gathered);
        let written = self.write_now(&gathered);
        self.gathered = gathered;
        self.gathered.clear();
        written
    }

    fn write_now(&mut self, bytes: &[u8]) -> Result<(), OsError> {
        self.room.take(bytes.len())?;
        self.file.write_all(bytes).map_err(|error| os_error(&error))?;
        self.unsynced += bytes.len() as u64;
        if self.unsynced >= SNAPSHOT_SYNC_BYTES {
            self.file.sync_data().map_err(|error| os_error(&error))?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// All of it, durable.
    fn finish(mut self) -> Result<(), OsError> {
        self.flush()?;
        self.file.sync_all().map_err(|error| os_error(&error))
    }
}

impl SnapshotSink for FileSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), OsError> {
        if self.gathered.len() + bytes.len() > SNAPSHOT_WRITE_BYTES {
            self.flush()?;
        }
        if bytes.len() > SNAPSHOT_WRITE_BYTES {
            return self.write_now(bytes);
        }
        self.gathered.extend_from_slice(bytes);
        Ok(())
    }
}

pub(crate) fn os_error(error: &io::Error) -> OsError {
    OsError(error.raw_os_error().unwrap_or(0))
}
