//! Writing a sound copy of a damaged data directory: docs/decisions/0013-a-repair-keeps-every-location.md.
//!
//! Invariants. Nothing is written in the source. What holds is linked or copied, what does not is written anew under the same
//! number. The manifest is written last: without it no start takes the copy for a data directory.

use crate::backup::copy_secret;
use crate::erasure_file::{ErasureError, load_erasures, store_erasures};
use crate::erasures::Erasures;
use crate::error::{FileError, OpenError};
use crate::layout;
use crate::limits::SEGMENT_NUMBER_MAX;
use crate::manifest::{self, Manifest};
use crate::reader::SegmentReader;
use crate::repair_source::RepairSource;
use crate::snapshot_file::SnapshotFile;
use crate::transfer::{Transferred, copy_front, link_or_copy, prepare_target};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tidegate_ids::{Location, LogId};
use tidegate_storage_log::{
    JudgedSegment, Links, OsError, RepairError, RewriteSink, SegmentState, SnapshotSink, SnapshotWriter,
    WriteError, repair,
};

/// As the factory makes segments, and as snapshots are built.
const SEGMENT_MODE: u32 = 0o666;
const SNAPSHOT_MODE: u32 = 0o600;

/// What a copy is made of.
#[derive(Debug)]
pub struct CopyPlan<'a> {
    /// Every log with its judged segments.
    pub logs: Vec<(LogId, &'a [JudgedSegment])>,
    /// Links to set anew.
    pub relinks: &'a BTreeMap<Location, Links>,
    /// The snapshots to take along. Of one that is not whole, the entries that hold.
    pub snapshots: Vec<Arc<SnapshotFile>>,
    /// The highest segment number that anything in the directory speaks of: it is never given again.
    pub highest_segment: u32,
}

/// How far a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyStep {
    /// Segments done.
    pub done: usize,
    /// Of these.
    pub of: usize,
}

/// What a copy holds.
#[derive(Debug, Default)]
pub struct Copied {
    /// Segments.
    pub segments: usize,
    /// Of these, how many were written anew.
    pub rewritten: usize,
    /// Snapshots.
    pub snapshots: usize,
    /// Files and bytes that were taken as they are.
    pub transferred: Transferred,
    /// Files beside the logs and snapshots that could not be taken along, and why.
    pub left_behind: Vec<(PathBuf, io::Error)>,
}

/// Why there is no copy. What was written of it has no `MANIFEST`, so that no start takes it for one; remove it.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The place of the copy is not to be used.
    #[error(transparent)]
    Target(#[from] OpenError),
    /// The system refused. Recovered by what its message says.
    #[error(transparent)]
    File(#[from] FileError),
    /// What was asked to be erased cannot be read, and a copy without it would give that out. Recovered by what its message says.
    #[error(transparent)]
    Erasures(#[from] ErasureError),
    /// A segment cannot be made whole.
    #[error("log {log}: {why}")]
    Segment {
        /// Its log.
        log: LogId,
        /// What is wrong with it.
        why: String,
    },
    /// A snapshot cannot be written.
    #[error("{}: {why}", path.display())]
    Snapshot {
        /// The new file.
        path: PathBuf,
        /// Why.
        why: WriteError,
    },
}

/// Writes a sound copy of `source` to `to`, which is empty or not there. The first start of a gateway on it takes a new
/// incarnation.
///
/// # Errors
/// See [`CopyError`].
pub fn write_copy(
    source: &RepairSource,
    to: &Path,
    plan: &CopyPlan<'_>,
    mut tell: impl FnMut(CopyStep),
) -> Result<Copied, CopyError> {
    prepare_target(source.path(), to)?;
    let of = plan.logs.iter().map(|(_, segments)| segments.len()).sum();
    let mut work = Work { source, to, reader: source.reader(), done: Copied::default() };
    work.take_snapshots(&plan.snapshots)?;
    let mut segments = BTreeMap::new();
    for (log, judged) in &plan.logs {
        let directory = layout::log_dir(to, *log);
        layout::make_dirs(&directory)?;
        for one in *judged {
            work.take_segment(*log, one, plan.relinks)?;
            segments.insert(one.header.segment, *log);
            tell(CopyStep { done: segments.len(), of });
        }
        layout::sync_dir(&directory)?;
    }
    for log in source.manifest().logs() {
        layout::make_dirs(&layout::log_dir(to, log))?;
    }
    let erasures = load_erasures(source.path())?;
    if erasures != Erasures::default() {
        store_erasures(to, &erasures)?;
    }
    work.take_others()?;
    let after = plan.highest_segment.saturating_add(1).min(SEGMENT_NUMBER_MAX);
    let before = source.manifest();
    let next_segment = before.next_segment.max(after);
    let made = Manifest { next_segment, segments, restored: true, ..before.clone() };
    manifest::store(to, &made)?;
    work.done.segments = made.segments.len();
    Ok(work.done)
}

/// Takes the manifest of a copy away again, so that no start takes it for a data directory.
///
/// # Errors
/// The system refuses.
pub fn withdraw_copy(to: &Path) -> Result<(), FileError> {
    layout::remove(&to.join(layout::MANIFEST))?;
    layout::sync_dir(to)
}

struct Work<'a> {
    source: &'a RepairSource,
    to: &'a Path,
    reader: SegmentReader,
    done: Copied,
}

impl Work<'_> {
    fn take_segment(
        &mut self,
        log: LogId,
        one: &JudgedSegment,
        relinks: &BTreeMap<Location, Links>,
    ) -> Result<(), CopyError> {
        let number = one.header.segment;
        let (from, to) =
            (layout::segment(self.source.path(), log, number), layout::segment(self.to, log, number));
        let is_relinked =
            relinks.range(Location::new(number, 0)..Location::new(number + 1, 0)).next().is_some();
        match one.state {
            SegmentState::Sound { .. } if is_relinked || !self.has_sound_copies(number) => {
                self.write_anew(log, one, relinks, &to)
            }
            SegmentState::Sound { is_sealed: true } => {
                Ok(link_or_copy(&from, &to, &mut self.done.transferred)?)
            }
            SegmentState::Sound { is_sealed: false } => {
                // What was cut behind its end stays behind.
                let file = File::open(&from).map_err(FileError::on("open", &from))?;
                let bytes = file.metadata().map_err(FileError::on("inspect", &from))?.len();
                let front = u64::from(one.end.end.offset).min(bytes);
                Ok(copy_front(&file, &from, &to, front, bytes, &mut self.done.transferred)?)
            }
            SegmentState::Damaged | SegmentState::Missing => self.write_anew(log, one, relinks, &to),
        }
    }

    /// A rewritten segment has its header and its table twice, and reading needs one of each.
    fn has_sound_copies(&mut self, number: u32) -> bool {
        let damage = self.reader.check_rewritten(number);
        damage.is_ok_and(|damage| damage.is_none_or(|damage| damage.is_empty()))
    }

    fn write_anew(
        &mut self,
        log: LogId,
        one: &JudgedSegment,
        relinks: &BTreeMap<Location, Links>,
        to: &Path,
    ) -> Result<(), CopyError> {
        let file = create(to, SEGMENT_MODE)?;
        repair(&mut self.reader, one, relinks, &mut FileSink(&file)).map_err(|error| match error {
            RepairError::Sink(error) => CopyError::File(FileError::new("write", to, error)),
            error @ RepairError::Inconsistent(_) => CopyError::Segment { log, why: error.to_string() },
        })?;
        file.sync_all().map_err(FileError::on("sync", to))?;
        self.done.rewritten += 1;
        Ok(())
    }

    fn take_snapshots(&mut self, snapshots: &[Arc<SnapshotFile>]) -> Result<(), CopyError> {
        if snapshots.is_empty() {
            return Ok(());
        }
        let directory = layout::snapshot_dir(self.to);
        layout::make_dirs(&directory)?;
        for file in snapshots {
            let to = layout::snapshot(self.to, file.number());
            if file.verify().is_sound() {
                link_or_copy(file.path(), &to, &mut self.done.transferred)?;
            } else {
                write_snapshot(file, &to)?;
            }
            self.done.snapshots += 1;
        }
        Ok(layout::sync_dir(&directory)?)
    }

    /// The secret, and whatever else an operator keeps beside the logs.
    fn take_others(&mut self) -> Result<(), CopyError> {
        if let Err(error) = copy_secret(self.source.path(), self.to) {
            self.done.left_behind.push((error.path, error.source));
        }
        let own = BTreeSet::from([layout::LOCK, layout::MANIFEST, layout::SECRET, layout::ERASURES]);
        for name in layout::names(self.source.path())? {
            let (from, to) = (self.source.path().join(&name), self.to.join(&name));
            if own.contains(name.as_str()) || name.ends_with(".tmp") || !from.is_file() {
                continue;
            }
            if let Err(error) = std::fs::copy(&from, &to).and_then(|_| File::open(&to)?.sync_all()) {
                self.done.left_behind.push((from, error));
            }
        }
        Ok(())
    }
}

fn create(path: &Path, mode: u32) -> Result<File, FileError> {
    let file = File::options().write(true).create_new(true).mode(mode).open(path);
    file.map_err(FileError::on("create", path))
}

/// The entries of a snapshot that hold, as a snapshot of the same number.
fn write_snapshot(from: &SnapshotFile, to: &Path) -> Result<(), CopyError> {
    let failed = |why| CopyError::Snapshot { path: to.to_path_buf(), why };
    let sink = StreamSink(BufWriter::new(create(to, SNAPSHOT_MODE)?));
    let mut writer = SnapshotWriter::new(sink, from.header()).map_err(failed)?;
    let mut entries = from.entries();
    while let Some(entry) = entries.next() {
        if let Ok(entry) = entry {
            writer.push(&entry).map_err(failed)?;
        }
    }
    let (sink, _) = writer.finish().map_err(failed)?;
    let file = sink.0.into_inner().map_err(|error| FileError::new("write", to, error.into_error()))?;
    Ok(file.sync_all().map_err(FileError::on("sync", to))?)
}

struct FileSink<'a>(&'a File);

impl RewriteSink for FileSink<'_> {
    type Error = io::Error;

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
}

struct StreamSink(BufWriter<File>);

impl SnapshotSink for StreamSink {
    fn write(&mut self, bytes: &[u8]) -> Result<(), OsError> {
        self.0.write_all(bytes).map_err(|error| OsError(error.raw_os_error().unwrap_or(0)))
    }
}
