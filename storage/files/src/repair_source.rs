//! A data directory that may be damaged in any way, as a repair sees it: what its files say counts, and its manifest as far
//! as it can be read. Nothing is written in it; its lock is held, if it has one, so that no gateway starts meanwhile.

use crate::catalog::Catalog;
use crate::error::{FileError, OpenError};
use crate::layout::{self, Entry, SnapshotName};
use crate::limits::{EPOCHS_MAX, SEGMENT_NUMBER_MAX, SHARDS_MAX};
use crate::lock::Lock;
use crate::manifest::{self, Epoch, HASH_VERSION, Manifest, ManifestError};
use crate::read_at::open;
use crate::reader::SegmentReader;
use crate::snapshot_file::SnapshotFile;
use crate::snapshots::{BadSnapshot, Expected, SnapshotsError, inspect};
use crate::survey::file_header;
use crate::view::{LogSegments, Problem, SegmentProblem, no_manifest};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tidegate_ids::{Incarnation, LogId, ShardIndex};
use tidegate_storage_log::descriptor::FORMAT_VERSION;
use tidegate_storage_log::limits::{BLOCK_BYTES_MIN, SEGMENT_BYTES_DEFAULT};
use tidegate_storage_log::{LogFacts, LogIdentity, PreviousEnd, SegmentHeader};

/// Why a directory cannot be repaired. Nothing was changed in it.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A gateway runs on it, or it is no data directory, or the system refuses.
    #[error("{source}{}", way_out(source))]
    Open {
        /// What is refused.
        #[from]
        source: OpenError,
    },
    /// Written by a newer version. Recovered by that version's tool.
    #[error("{0}: use the version that wrote it")]
    Newer(SegmentProblem),
    /// Neither the manifest nor a segment nor a snapshot says which directory this is. Recovered from a backup.
    #[error("{}: no MANIFEST, segment or snapshot in it can be read: put a backup back", .0.display())]
    Nameless(PathBuf),
    /// The snapshots are not to be touched.
    #[error(transparent)]
    Snapshots(SnapshotsError),
}

fn way_out(error: &OpenError) -> &'static str {
    match error {
        OpenError::InUse { .. } => ": stop it first, so that what is repaired stays as it is",
        _ => "",
    }
}

impl From<FileError> for SourceError {
    fn from(error: FileError) -> Self {
        Self::Open { source: error.into() }
    }
}

/// A directory to repair.
#[derive(Debug)]
pub struct RepairSource {
    root: PathBuf,
    /// As it is, or made again from the files.
    manifest: Manifest,
    /// Why the manifest had to be made again, or that it had to.
    manifest_loss: Option<String>,
    logs: Vec<LogSegments>,
    missing: BTreeSet<u32>,
    problems: Vec<SegmentProblem>,
    catalog: Arc<Catalog>,
    sizes: (u32, u32),
    _lock: Option<Lock>,
}

/// The snapshots of a directory to repair, the newest first.
#[derive(Debug, Default)]
pub struct RepairSnapshots {
    /// Header, footer and index hold.
    pub good: Vec<Arc<SnapshotFile>>,
    /// What no start would use.
    pub bad: Vec<BadSnapshot>,
    /// Of another directory.
    pub foreign: Vec<PathBuf>,
}

/// A segment's file.
#[derive(Debug)]
struct Found {
    log: LogId,
    number: u32,
    path: PathBuf,
    header: Option<SegmentHeader>,
}

impl RepairSource {
    /// Looks at a directory.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub fn open(root: &Path) -> Result<Self, SourceError> {
        let lock = Lock::hold(root)?;
        let (loaded, manifest_loss) = load_manifest(root)?;
        let (found, mut dirs) = find(root)?;
        forget_foreign(&mut dirs, loaded.as_ref(), &found);
        if loaded.is_none() && dirs.is_empty() {
            return Err(no_manifest(root).into());
        }
        let directory = match &loaded {
            Some(manifest) => manifest.directory,
            None => name_of(root, &found)?,
        };
        let mut problems = Vec::new();
        let homes = homes_of(&found, directory, loaded.as_ref(), &mut problems)?;
        let mut manifest = loaded.clone().unwrap_or_else(|| again(directory, &found));
        widen(root, &mut manifest, &dirs, loaded.is_some().then_some(&mut problems));
        let mut missing: BTreeMap<u32, LogId> = manifest.segments.clone();
        if loaded.is_none() {
            missing.extend(named(&homes));
        }
        missing.retain(|number, log| homes.get(number).is_none_or(|found| found.log != *log));
        for (&number, &log) in &missing {
            problems
                .push(SegmentProblem { path: layout::segment(root, log, number), problem: Problem::Missing });
        }
        let highest =
            homes.values().flat_map(|found| [found.number, before(found.header)]).max().unwrap_or(0);
        manifest.next_segment = manifest.next_segment.max(highest.saturating_add(1).min(SEGMENT_NUMBER_MAX));
        let there: BTreeMap<u32, LogId> = homes.iter().map(|(number, found)| (*number, found.log)).collect();
        let mut by_log: BTreeMap<LogId, BTreeSet<u32>> =
            manifest.logs().map(|log| (log, BTreeSet::new())).collect();
        for (&number, &log) in there.iter().chain(&missing) {
            by_log.entry(log).or_default().insert(number);
        }
        let listed = |(log, numbers): (LogId, BTreeSet<u32>)| LogSegments {
            log,
            segments: numbers.into_iter().collect(),
        };
        let sizes = homes
            .values()
            .find_map(|found| found.header)
            .map(|header| (header.segment_bytes, header.block_bytes));
        let mut source = Self {
            root: root.to_path_buf(),
            manifest,
            manifest_loss,
            logs: by_log.into_iter().map(listed).collect(),
            missing: missing.into_keys().collect(),
            problems,
            catalog: Arc::new(Catalog::new(root.to_path_buf(), there)),
            sizes: sizes.unwrap_or((SEGMENT_BYTES_DEFAULT, BLOCK_BYTES_MIN)),
            _lock: lock,
        };
        if loaded.is_none() {
            source.excuse_covered()?;
        }
        Ok(source)
    }

    /// Without a manifest, a segment that another one names may have been let go or lost. Only what snapshots hold is let go.
    fn excuse_covered(&mut self) -> Result<(), SourceError> {
        let snapshots = self.snapshots()?.good;
        let covered: Vec<(LogId, u32)> = snapshots
            .iter()
            .flat_map(|file| &file.header().covered)
            .map(|covered| (covered.log, covered.previous.end.segment))
            .collect();
        let Self { logs, missing, problems, root, .. } = self;
        for listed in logs {
            let is_covered =
                |number: u32| covered.iter().any(|(log, last)| *log == listed.log && *last >= number);
            listed.segments.retain(|number| {
                let is_excused = missing.contains(number) && is_covered(*number);
                if is_excused {
                    missing.remove(number);
                    let path = layout::segment(root, listed.log, *number);
                    problems.retain(|problem| problem.path != path);
                }
                !is_excused
            });
        }
        Ok(())
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Why the manifest is made again, if it is.
    #[must_use]
    pub fn manifest_loss(&self) -> Option<&str> {
        self.manifest_loss.as_deref()
    }

    /// Every log, in order, with its segments, missing ones among them.
    #[must_use]
    pub fn logs(&self) -> &[LogSegments] {
        &self.logs
    }

    /// Segments that should be there and are not, or that another file stands for.
    #[must_use]
    pub const fn missing(&self) -> &BTreeSet<u32> {
        &self.missing
    }

    /// Files that are not what they should be.
    #[must_use]
    pub fn problems(&self) -> &[SegmentProblem] {
        &self.problems
    }

    /// A reader of its segments.
    #[must_use]
    pub fn reader(&self) -> SegmentReader {
        SegmentReader::new(Arc::clone(&self.catalog))
    }

    /// What is known of a log beside its segments; `ends` is what snapshots say of it.
    #[must_use]
    pub fn facts(&self, log: LogId, ends: Vec<PreviousEnd>) -> LogFacts {
        let (segment_bytes, block_bytes) = self.sizes;
        let identity = LogIdentity {
            log,
            directory: self.manifest.directory,
            incarnation: self.manifest.incarnation,
            hash_version: HASH_VERSION as u16,
        };
        LogFacts { identity, segment_bytes, block_bytes, ends }
    }

    /// Its snapshots.
    ///
    /// # Errors
    /// One is of a version that this one does not read, or the system refuses.
    pub fn snapshots(&self) -> Result<RepairSnapshots, SourceError> {
        let mut all = RepairSnapshots::default();
        let expected = Expected {
            directory: self.manifest.directory,
            hash_version: HASH_VERSION as u16,
            logs: &self.logs,
            next_segment: self.manifest.next_segment,
        };
        for number in snapshot_numbers(&self.root)?.into_iter().rev() {
            let path = layout::snapshot(&self.root, number);
            match inspect(&path, number, &expected) {
                Ok(Ok(file)) => all.good.push(Arc::new(file)),
                Ok(Err(why)) => all.bad.push(BadSnapshot { path, number, why }),
                Err(SnapshotsError::Foreign { path }) => all.foreign.push(path),
                Err(error) => return Err(SourceError::Snapshots(error)),
            }
        }
        Ok(all)
    }

    pub(crate) const fn manifest(&self) -> &Manifest {
        &self.manifest
    }
}

/// The manifest, or `None` and why there is none.
fn load_manifest(root: &Path) -> Result<(Option<Manifest>, Option<String>), SourceError> {
    match manifest::load(root) {
        Ok(Some(manifest)) => Ok((Some(manifest), None)),
        Ok(None) => Ok((None, Some(format!("{} is missing", root.join(layout::MANIFEST).display())))),
        Err(
            error @ OpenError::Manifest {
                source: ManifestError::Newer { .. } | ManifestError::Hash { .. },
                ..
            },
        ) => Err(error.into()),
        Err(OpenError::File(error)) if error.source.kind() == io::ErrorKind::PermissionDenied => {
            Err(error.into())
        }
        Err(OpenError::Manifest { path, source }) => {
            Ok((None, Some(format!("{}: {source}", path.display()))))
        }
        Err(error) => Ok((None, Some(error.to_string()))),
    }
}

/// Every file that is named like a segment, and every directory that is named like a log.
fn find(root: &Path) -> Result<(Vec<Found>, BTreeSet<LogId>), SourceError> {
    let (mut found, mut dirs) = (Vec::new(), BTreeSet::new());
    let logs = root.join(layout::LOGS);
    for epoch in numbers_in(&logs)? {
        for shard in numbers_in(&logs.join(epoch.to_string()))? {
            let Ok(shard) = u16::try_from(shard) else { continue };
            let log = LogId { epoch, shard: ShardIndex(shard) };
            if epoch == 0 || epoch as usize > EPOCHS_MAX || shard >= SHARDS_MAX {
                continue;
            }
            dirs.insert(log);
            for name in layout::names(&layout::log_dir(root, log))? {
                let Entry::Segment(number) = layout::entry(&name) else { continue };
                let path = layout::segment(root, log, number);
                let header = header_of(&path)?;
                found.push(Found { log, number, path, header });
            }
        }
    }
    Ok((found, dirs))
}

/// Directories of epochs that nothing speaks of are somebody else's: the copy would have a log for each number up to theirs.
/// Without a manifest, one epoch more may have begun and written nothing yet.
fn forget_foreign(dirs: &mut BTreeSet<LogId>, manifest: Option<&Manifest>, found: &[Found]) {
    let listed = manifest.map_or(0, |manifest| manifest.current().number);
    let written = found.iter().map(|found| found.log.epoch).max().unwrap_or(0);
    let begun = u32::from(manifest.is_none());
    dirs.retain(|log| log.epoch <= listed.max(written.saturating_add(begun)));
}

/// Names that are numbers as this layout writes them; none where there is no directory.
fn numbers_in(directory: &Path) -> Result<Vec<u32>, FileError> {
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let number = |name: &String| name.parse::<u32>().ok().filter(|number| number.to_string() == *name);
    let mut numbers: Vec<u32> = layout::names(directory)?.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// A segment's header, if one of its copies can be read and holds.
fn header_of(path: &Path) -> Result<Option<SegmentHeader>, SourceError> {
    let file = match open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(FileError::new("open", path, error).into());
        }
        Err(_) => return Ok(None),
    };
    let bytes = file.metadata().map_or(0, |metadata| metadata.len());
    let header = file_header(&file, bytes);
    match header {
        Some(header) if header.format_version > FORMAT_VERSION => Err(SourceError::Newer(SegmentProblem {
            path: path.to_path_buf(),
            problem: Problem::Newer { found: header.format_version, supported: FORMAT_VERSION },
        })),
        header => Ok(header),
    }
}

/// The id of a directory without a manifest: what most of its segments say, or else a snapshot.
fn name_of(root: &Path, found: &[Found]) -> Result<[u8; 16], SourceError> {
    let mut votes: BTreeMap<[u8; 16], usize> = BTreeMap::new();
    let headers = found.iter().filter_map(|found| found.header);
    headers.for_each(|header| *votes.entry(header.identity.directory).or_default() += 1);
    if let Some((directory, _)) = votes.into_iter().max_by_key(|(_, count)| *count) {
        return Ok(directory);
    }
    for number in snapshot_numbers(root)?.into_iter().rev() {
        if let Ok(Ok(file)) = SnapshotFile::open(&layout::snapshot(root, number)) {
            return Ok(file.header().directory);
        }
    }
    Err(SourceError::Nameless(root.to_path_buf()))
}

fn snapshot_numbers(root: &Path) -> Result<BTreeSet<u64>, FileError> {
    let names = layout::names(&layout::snapshot_dir(root))?;
    let number = |name: &String| match layout::snapshot_name(name) {
        SnapshotName::Snapshot(number) => Some(number),
        _ => None,
    };
    Ok(names.iter().filter_map(number).collect())
}

/// The files that stand for segments, each number once.
fn homes_of<'a>(
    found: &'a [Found],
    directory: [u8; 16],
    manifest: Option<&Manifest>,
    problems: &mut Vec<SegmentProblem>,
) -> Result<BTreeMap<u32, &'a Found>, SourceError> {
    let mut homes: BTreeMap<u32, &Found> = BTreeMap::new();
    for one in found {
        let mut report =
            |of: &Found, problem| problems.push(SegmentProblem { path: of.path.clone(), problem });
        if let Some(header) = one.header {
            let LogIdentity { log, directory: own, .. } = header.identity;
            if own != directory || log != one.log || header.segment != one.number {
                report(one, Problem::Foreign { log, segment: header.segment });
                continue;
            }
        }
        let Some(other) = homes.get(&one.number) else {
            homes.insert(one.number, one);
            continue;
        };
        let is_named = |found: &Found| {
            manifest.is_some_and(|manifest| manifest.segments.get(&found.number) == Some(&found.log))
        };
        let rank = |found: &Found| (is_named(found), found.header.is_some());
        if rank(one) > rank(other) {
            report(other, Problem::Twice);
            homes.insert(one.number, one);
        } else {
            report(one, Problem::Twice);
        }
    }
    Ok(homes)
}

/// A manifest from what the files say; its epochs are still to be found.
fn again(directory: [u8; 16], found: &[Found]) -> Manifest {
    let own =
        found.iter().filter_map(|found| found.header).filter(|header| header.identity.directory == directory);
    let newest = own.max_by_key(|header| header.segment);
    let incarnation = newest.map_or(Incarnation(1), |header| header.identity.incarnation);
    Manifest { epochs: Vec::new(), ..Manifest::first(directory, incarnation, 1) }
}

/// Adds epochs and shards that have a directory.
fn widen(
    root: &Path,
    manifest: &mut Manifest,
    dirs: &BTreeSet<LogId>,
    mut problems: Option<&mut Vec<SegmentProblem>>,
) {
    for log in dirs {
        let is_new = manifest.current().number < log.epoch;
        while manifest.current().number < log.epoch {
            let number = manifest.current().number + 1;
            manifest.epochs.push(Epoch { number, shards: 1 });
        }
        let epoch = &mut manifest.epochs[log.epoch as usize - 1];
        if (is_new || epoch.shards <= log.shard.0)
            && let Some(problems) = &mut problems
        {
            let path = layout::log_dir(root, *log);
            problems.push(SegmentProblem { path, problem: Problem::Unlisted });
        }
        epoch.shards = epoch.shards.max(log.shard.0 + 1);
    }
}

/// Without a manifest: the segments that another one names as the one before it.
fn named(homes: &BTreeMap<u32, &Found>) -> BTreeMap<u32, LogId> {
    let before = homes.values().map(|found| (before(found.header), found.log));
    before.filter(|(number, _)| *number > 0 && *number < SEGMENT_NUMBER_MAX).collect()
}

fn before(header: Option<SegmentHeader>) -> u32 {
    header.map_or(0, |header| header.previous.end.segment)
}
