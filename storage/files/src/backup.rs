//! A copy of a data directory that a gateway may be writing to: docs/decisions/0010-backups-log-by-log.md.
//!
//! Invariants. Snapshots are taken before logs, so what they cover is there. Only files that are never written again are
//! linked. Of a log that is written to, what is taken is a prefix of whole batches. The manifest is read after the last log,
//! so that no segment number that a checkpoint speaks of is given again, and it is written last: without it there is no backup.

use crate::erasure_file::{ErasureError, load_erasures, store_erasures};
use crate::erasures::Erasures;
use crate::error::{FileError, OpenError};
use crate::layout::{self, SnapshotName};
use crate::limits::{BACKUP_ATTEMPTS_MAX, SNAPSHOTS_KEPT};
use crate::manifest::{self, Manifest};
use crate::snapshots::SnapshotsError;
use crate::transfer::{Transferred, copy_front, link_or_copy, prepare_target};
use crate::view::{DirView, Problem, SegmentProblem, no_manifest};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use tidegate_ids::LogId;
use tidegate_storage_log::{Covered, RecoverError, recover, segment_header};

/// What a backup holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackedUp {
    /// Logs.
    pub logs: usize,
    /// Segments of all logs.
    pub segments: usize,
    /// Of these, how many were written to, so that what they held was copied.
    pub tails: usize,
    /// Snapshots.
    pub snapshots: usize,
    /// Ranges of records that whoever starts a gateway on the backup erases.
    pub erasures: usize,
    /// Files and bytes, attempts that were given up included.
    pub transferred: Transferred,
}

/// How far a backup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupStep {
    /// So many segments of so many are there.
    Segments {
        /// Done.
        done: usize,
        /// Of these.
        of: usize,
    },
    /// The gateway changed what was being looked at: what is there stays, the rest is looked at again.
    Again,
}

/// Why there is no backup. What was written of it has no `MANIFEST`, so that no start takes it for one; remove it.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The directory cannot be looked at. Recovered by what its message says.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The system refused. Recovered by what its message says.
    #[error(transparent)]
    File(#[from] FileError),
    /// The snapshots are not to be touched.
    #[error(transparent)]
    Snapshots(#[from] SnapshotsError),
    /// What was asked to be erased cannot be read. Recovered by what its message says.
    #[error(transparent)]
    Erasures(#[from] ErasureError),
    /// A segment is missing, or not what its name says. Recovered by putting an older backup back, or that file.
    #[error("{0}: no gateway would start on a copy of this directory")]
    Problem(SegmentProblem),
    /// A log makes no sense as a whole. Recovered by the version that wrote it.
    #[error("log {0}: {1}")]
    Log(LogId, RecoverError),
    /// The gateway changed the directory each time. Recovered by trying again.
    #[error("{} was changed under every one of {BACKUP_ATTEMPTS_MAX} attempts: try again", .0.display())]
    InMotion(PathBuf),
}

/// Copies the data directory `from`, whether a gateway runs on it or not, to `to`, which is empty or not there. Everything
/// that was acknowledged before this began is in it. The first start of a gateway on the copy takes a new incarnation.
///
/// # Errors
/// See [`BackupError`].
pub fn backup(
    from: &Path,
    to: &Path,
    with_secret: bool,
    tell: impl FnMut(BackupStep),
) -> Result<BackedUp, BackupError> {
    // A wrong name leaves nothing behind.
    manifest::load(from)?.ok_or_else(|| no_manifest(from))?;
    let was_there = to.exists();
    let done =
        prepare_target(from, to).map_err(BackupError::from).and_then(|()| fill(from, to, with_secret, tell));
    if done.is_err() && !was_there {
        // Only an empty one goes: what is in it may tell what happened, and is no backup without a manifest.
        let _ = std::fs::remove_dir(to);
    }
    done
}

/// Copies to `to`, which is empty.
fn fill(
    from: &Path,
    to: &Path,
    with_secret: bool,
    mut tell: impl FnMut(BackupStep),
) -> Result<BackedUp, BackupError> {
    // Before any segment: what is erased while the backup is made may be in it as it was.
    let asked_before = load_erasures(from)?;
    let mut work = Work { from, to, taken: BTreeMap::new(), tails: Vec::new(), done: BackedUp::default() };
    for _ in 0..BACKUP_ATTEMPTS_MAX {
        if let Some(manifest) = work.attempt(&mut tell)? {
            if with_secret {
                copy_secret(from, to)?;
            }
            work.settle(&manifest, &asked_before)?;
            return Ok(work.done);
        }
        tell(BackupStep::Again);
    }
    Err(BackupError::InMotion(from.to_path_buf()))
}

struct Work<'a> {
    from: &'a Path,
    to: &'a Path,
    /// Segments that are in the copy.
    taken: BTreeMap<u32, LogId>,
    /// Of these, the ones taken in part: they are taken anew by every attempt.
    tails: Vec<u32>,
    done: BackedUp,
}

impl Work<'_> {
    /// `None`: the directory was changed meanwhile, so that what was taken does not fit together.
    fn attempt(&mut self, tell: &mut impl FnMut(BackupStep)) -> Result<Option<Manifest>, BackupError> {
        self.forget_tails()?;
        let view = DirView::open(self.from)?;
        if let Some(problem) = view.problems().first() {
            if let Some(refusal) = problem.refusal() {
                return Err(refusal.into());
            }
            // What is no file at all does not come from a gateway's work.
            let may_settle = problem.problem != Problem::NoFile;
            return if view.holder().is_some() && may_settle {
                Ok(None)
            } else {
                Err(BackupError::Problem(problem.clone()))
            };
        }
        let Some((covered_by, covered)) = self.take_snapshots(&view)? else { return Ok(None) };
        let of = view.logs().iter().map(|log| log.segments.len()).sum();
        let current = view.epochs().last().map_or(0, |epoch| epoch.number);
        let mut gone = Vec::new();
        for listed in view.logs() {
            layout::make_dirs(&layout::log_dir(self.to, listed.log))?;
            for (index, &number) in listed.segments.iter().enumerate() {
                let is_newest = listed.log.epoch == current && index + 1 == listed.segments.len();
                if self.taken.contains_key(&number) {
                    continue;
                }
                let is_there = if is_newest {
                    self.take_newest(&view, listed.log, number)?
                } else {
                    self.take(listed.log, number)?
                };
                if !is_there {
                    gone.push(number);
                }
                tell(BackupStep::Segments { done: self.taken.len(), of });
            }
        }
        let Some(now) = manifest::load(self.from)? else { return Ok(None) };
        let is_lost = gone.iter().any(|number| now.segments.contains_key(number));
        if now.epochs != view.epochs() || is_lost || now.incarnation != view.incarnation() {
            return Ok(None);
        }
        if self.is_overtaken(covered_by)? {
            return Ok(None);
        }
        let highest = self.taken.keys().next_back().map_or(0, |number| number + 1);
        let next_segment = now.next_segment.max(highest);
        let mut made = Manifest { next_segment, segments: self.taken.clone(), restored: true, ..now };
        made.lost.keep(|segment| self.taken.contains_key(&segment));
        Ok(self.fits(&view, &covered).then_some(made))
    }

    fn forget_tails(&mut self) -> Result<(), FileError> {
        for number in self.tails.drain(..) {
            if let Some(log) = self.taken.remove(&number) {
                layout::remove(&layout::segment(self.to, log, number))?;
            }
        }
        Ok(())
    }

    /// The newest good snapshots; gives the number of the newest, and what it covers.
    fn take_snapshots(&mut self, view: &DirView) -> Result<Option<(u64, Vec<Covered>)>, BackupError> {
        let directory = layout::snapshot_dir(self.to);
        for name in layout::names(&directory)? {
            layout::remove(&directory.join(name))?;
        }
        let good = view.snapshots()?.good;
        self.done.snapshots = good.len().min(SNAPSHOTS_KEPT);
        for file in good.iter().take(SNAPSHOTS_KEPT) {
            layout::make_dirs(&directory)?;
            let to = layout::snapshot(self.to, file.number());
            if !self.transfer(file.path(), &to)? {
                return Ok(None);
            }
        }
        let newest = good.first().map(|file| (file.number(), file.header().covered.clone()));
        Ok(Some(newest.unwrap_or_default()))
    }

    /// Whether two snapshots are there now that are newer than the one that was taken: then records may have been let go that
    /// it does not hold.
    fn is_overtaken(&self, taken: u64) -> Result<bool, FileError> {
        let names = layout::names(&layout::snapshot_dir(self.from))?;
        let newer = |name: &&String| match layout::snapshot_name(name) {
            SnapshotName::Snapshot(number) => number > taken,
            _ => false,
        };
        Ok(names.iter().filter(newer).count() >= SNAPSHOTS_KEPT)
    }

    /// Links or copies a file that is never written again; `false` if it is gone.
    fn transfer(&mut self, from: &Path, to: &Path) -> Result<bool, FileError> {
        match link_or_copy(from, to, &mut self.done.transferred) {
            Ok(()) => Ok(true),
            Err(error) if error.path == from && error.source.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn take(&mut self, log: LogId, number: u32) -> Result<bool, FileError> {
        let from = layout::segment(self.from, log, number);
        let is_there = self.transfer(&from, &layout::segment(self.to, log, number))?;
        if is_there {
            self.taken.insert(number, log);
        }
        Ok(is_there)
    }

    /// The newest segment of a log: whole if it is sealed, or else what of it validly reads, which is never written again.
    fn take_newest(&mut self, view: &DirView, log: LogId, number: u32) -> Result<bool, BackupError> {
        let mut attempts = 0;
        let found = loop {
            attempts += 1;
            let found = recover(&mut view.reader(), &[number], Some(view.directory()), |_| {})
                .map_err(|error| BackupError::Log(log, error))?;
            // A batch that is read while it is written can look like damage: it does so once.
            let is_in_motion = found.damage_count > 0 && view.holder().is_some();
            if !is_in_motion || attempts >= BACKUP_ATTEMPTS_MAX {
                break found;
            }
        };
        let Some(extent) = found.extents.last() else {
            // Its first write was torn, or is under way: nothing of it is acknowledged, and it is no loss.
            return Ok(layout::segment(self.from, log, number).exists());
        };
        let header = segment_header(&mut view.reader(), number).ok().flatten();
        if extent.footer_offset.is_some() || header.is_some_and(|header| header.rewritten.is_some()) {
            return Ok(self.take(log, number)?);
        }
        let path = layout::segment(self.from, log, number);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(FileError::new("open", &path, error).into()),
        };
        let bytes = file.metadata().map_err(FileError::on("inspect", &path))?.len();
        let to = layout::segment(self.to, log, number);
        let front = u64::from(extent.end).min(bytes);
        copy_front(&file, &path, &to, front, bytes, &mut self.done.transferred)?;
        self.taken.insert(number, log);
        self.tails.push(number);
        Ok(true)
    }

    /// Whether every log goes on from where the newest snapshot says that it folded it to, without a gap: a segment may have
    /// been let go because a newer snapshot holds it.
    fn fits(&self, view: &DirView, covered: &[Covered]) -> bool {
        let mut reader = view.reader();
        covered.iter().all(|held| {
            let mut before = held.previous.end.segment;
            let of_log = self.taken.iter().filter(|(_, log)| **log == held.log).map(|(&number, _)| number);
            let mut later = of_log.filter(|number| *number > held.previous.end.segment);
            later.all(|number| {
                // A header that is damaged says nothing; a start reports it.
                let header = segment_header(&mut reader, number).ok().flatten();
                let follows = header.is_none_or(|header| header.previous.end.segment == before);
                before = number;
                follows
            })
        })
    }

    /// Makes everything durable, the manifest last. Whatever was asked to be erased, before or meanwhile and done or not, is to
    /// be erased in the copy, whose segments may be older.
    fn settle(&mut self, manifest: &Manifest, asked_before: &Erasures) -> Result<(), BackupError> {
        let mut erasures = Erasures::default();
        erasures.ask_again(asked_before);
        erasures.ask_again(&load_erasures(self.from)?);
        self.done.erasures = erasures.pending().len();
        if self.done.erasures > 0 {
            store_erasures(self.to, &erasures)?;
        }
        for log in manifest.logs() {
            layout::make_dirs(&layout::log_dir(self.to, log))?;
            layout::sync_dir(&layout::log_dir(self.to, log))?;
        }
        if self.done.snapshots > 0 {
            layout::sync_dir(&layout::snapshot_dir(self.to))?;
        }
        manifest::store(self.to, manifest)?;
        self.done.logs = manifest.logs().count();
        self.done.segments = self.taken.len();
        self.done.tails = self.tails.len();
        Ok(())
    }
}

/// The secret that tokens are signed with, if it is a file of the directory.
pub(crate) fn copy_secret(from: &Path, to: &Path) -> Result<(), FileError> {
    let (source, target) = (from.join(layout::SECRET), to.join(layout::SECRET));
    match std::fs::copy(&source, &target) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(FileError::new("copy", &source, error)),
    }
    let file = File::open(&target).map_err(FileError::on("open", &target))?;
    file.sync_all().map_err(FileError::on("sync", &target))
}
