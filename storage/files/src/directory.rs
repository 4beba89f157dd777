//! Owning a data directory: lock it, read or make its manifest, hold its files against it, begin an epoch if the number
//! of shards changed.

use crate::catalog::Catalog;
use crate::error::{FileError, OpenError};
use crate::indexes::SealedIndexes;
use crate::layout;
use crate::limits::{EPOCHS_MAX, SEGMENT_NUMBER_MAX, SHARDS_MAX};
use crate::lock::Lock;
use crate::manifest::{self, Epoch, HASH_VERSION, Manifest};
use crate::reader::SegmentReader;
use crate::secret::fill_random;
use crate::segment::WriteMode;
use crate::survey::{Prepared, Survey};
use crate::view::{LogSegments, Problem, SegmentProblem, log_segments, no_manifest};
use rustix::fs::{AtFlags, CWD, OFlags, StatxFlags, statx};
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tidegate_ids::{INTEGER_MAX, Incarnation, LogId, Position, ShardIndex};
use tidegate_storage_log::limits::{
    BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN,
};
use tidegate_storage_log::{LogIdentity, Loss};

/// How to open a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// How many logs are written to at a time; another number than last time begins an epoch.
    pub shards: u16,
    /// Size of new segments, a multiple of 4096.
    pub segment_bytes: u32,
    /// How new segments take writes.
    pub write_mode: WriteMode,
}

impl OpenOptions {
    /// Segments of 64 MiB, buffered.
    #[must_use]
    pub const fn new(shards: u16) -> Self {
        Self { shards, segment_bytes: SEGMENT_BYTES_DEFAULT, write_mode: WriteMode::Buffered }
    }
}

/// What opening did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// There was no data.
    Created,
    /// The same number of shards as before: its epoch goes on.
    Continued,
    /// Another number of shards: an epoch was begun.
    NewEpoch {
        /// The number of shards before.
        previous_shards: u16,
    },
}

/// An owned data directory. Its `LOCK` is held until this, and every factory started from it, are gone.
#[derive(Debug)]
pub struct DataDir {
    owned: Arc<Owned>,
    opened: Opened,
    was_restored: bool,
    epochs: Vec<Epoch>,
    logs: Vec<LogSegments>,
    identity: LogIdentity,
    block_bytes: u32,
    options: OpenOptions,
}

/// What a factory shares with the directory.
#[derive(Debug)]
pub(crate) struct Owned {
    manifest: Mutex<Manifest>,
    catalog: Arc<Catalog>,
    /// Prepared segments that the last run left, for the first factory.
    leftovers: Mutex<Vec<Prepared>>,
    /// Those that nobody can use and the manifest no longer names. They go with the first factory: by then recovery has not
    /// found that one of them was written.
    useless: Mutex<Vec<Prepared>>,
    _lock: Lock,
}

impl DataDir {
    /// Opens `path`, making it if there is nothing.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing was changed then.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Self, OpenError> {
        check_options(options)?;
        layout::make_dirs(path)?;
        let lock = Lock::take(path)?;
        let block_bytes = block_bytes(path, options.write_mode)?;
        if !options.segment_bytes.is_multiple_of(block_bytes) {
            return Err(OpenError::Options(format!("segment_bytes must be a multiple of {block_bytes}")));
        }
        let (before, mut opened) = load_or_make(path, options.shards)?;
        let mut survey = Survey::take(path, &before)?;
        if let Some(problem) = survey.problems.pop() {
            return Err(match problem.refusal() {
                Some(refusal) => refusal.into(),
                None => problem.into(),
            });
        }
        let mut manifest = before.clone();
        let previous_shards = manifest.current().shards;
        if previous_shards != options.shards {
            if !manifest.begin_epoch(options.shards) {
                let enough = format!("{EPOCHS_MAX} epochs are enough: start with {previous_shards} shards");
                return Err(OpenError::Options(enough));
            }
            opened = Opened::NewEpoch { previous_shards };
        }
        let was_restored = manifest.restored;
        if was_restored {
            manifest.incarnation = another_incarnation(path, manifest.incarnation)?;
            manifest.restored = false;
        }
        let (leftovers, useless) = reconcile(&mut manifest, &mut survey, options.segment_bytes);
        layout::sync_names(path, before.current_logs().chain(manifest.segments.values().copied()))?;
        if manifest != before {
            manifest::store(path, &manifest)?;
        }
        survey.temporary.iter().try_for_each(|path| layout::remove(path))?;
        let epoch = manifest.current().number;
        for shard in 0..options.shards {
            layout::make_dirs(&layout::log_dir(path, LogId { epoch, shard: ShardIndex(shard) }))?;
        }
        let identity = LogIdentity {
            log: LogId { epoch, shard: ShardIndex(0) },
            directory: manifest.directory,
            incarnation: manifest.incarnation,
            hash_version: HASH_VERSION as u16,
        };
        let epochs = manifest.epochs.clone();
        let catalog = Arc::new(Catalog::new(path.to_path_buf(), manifest.segments.clone()));
        survey.indexes.tell(&catalog, &manifest.directory);
        let leftovers = Mutex::new(leftovers);
        let (manifest, useless) = (Mutex::new(manifest), Mutex::new(useless));
        let owned = Arc::new(Owned { manifest, catalog, leftovers, useless, _lock: lock });
        let logs = log_segments(survey.written);
        Ok(Self { owned, opened, was_restored, epochs, logs, identity, block_bytes, options: *options })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.owned.catalog.root()
    }

    /// What opening did.
    #[must_use]
    pub const fn opened(&self) -> Opened {
        self.opened
    }

    /// Whether it was put back from a backup, or marked as such, and this is its first start since.
    #[must_use]
    pub const fn was_restored(&self) -> bool {
        self.was_restored
    }

    /// Told to clients; another one after a restore or a repair.
    #[must_use]
    pub const fn incarnation(&self) -> Incarnation {
        self.identity.incarnation
    }

    /// The epoch that is written to.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.identity.log.epoch
    }

    /// How many logs the epoch has.
    #[must_use]
    pub const fn shards(&self) -> u16 {
        self.options.shards
    }

    /// All epochs, rising; the last is the one written to.
    #[must_use]
    pub fn epochs(&self) -> &[Epoch] {
        &self.epochs
    }

    /// Every log of every epoch, in order, with the segments that held something when this was opened.
    #[must_use]
    pub fn logs(&self) -> &[LogSegments] {
        &self.logs
    }

    /// Whose log a shard writes: for the appender.
    #[must_use]
    pub fn identity(&self, shard: ShardIndex) -> LogIdentity {
        assert!(shard.0 < self.options.shards, "shard {shard} of {}", self.options.shards);
        LogIdentity { log: LogId { epoch: self.epoch(), shard }, ..self.identity }
    }

    /// The block that batches start on: 512 bytes, or what the device asks of direct writes.
    #[must_use]
    pub const fn block_bytes(&self) -> u32 {
        self.block_bytes
    }

    /// How it was opened.
    #[must_use]
    pub const fn options(&self) -> &OpenOptions {
        &self.options
    }

    /// A reader of all segments, those made later included.
    #[must_use]
    pub fn reader(&self) -> SegmentReader {
        SegmentReader::new(Arc::clone(&self.owned.catalog))
    }

    /// What tells readers where the index of a segment lies that was sealed.
    #[must_use]
    pub fn indexes(&self) -> SealedIndexes {
        SealedIndexes::new(Arc::clone(&self.owned.catalog))
    }

    /// Accounts for what a start has lost: records that were perhaps acknowledged, and perhaps the newest of a conversation,
    /// so that their sequences would be given again. What the manifest does not remember yet, or `ends_early`, is answered
    /// with a new incarnation, in one replacement with what was lost; says whether it was.
    ///
    /// # Errors
    /// The manifest cannot be replaced; nothing may be served then.
    pub fn account_for(&mut self, lost: &[Loss], ends_early: bool) -> Result<bool, FileError> {
        let mut manifest = self.owned.manifest();
        if !ends_early && lost.iter().all(|loss| manifest.lost.holds(loss)) {
            return Ok(false);
        }
        let mut now = manifest.clone();
        lost.iter().for_each(|loss| now.lost.note(loss));
        now.incarnation = another_incarnation(self.owned.root(), now.incarnation)?;
        manifest::store(self.owned.root(), &now)?;
        self.identity.incarnation = now.incarnation;
        *manifest = now;
        Ok(true)
    }

    /// Of a log that went up to `end` at least, as its readers say: a segment in which it went there, and which lies there as
    /// if it had never been written. The manifest remembers that it is lost as a whole, so that every look at the directory
    /// from now on says so, also one that cannot ask those readers; nothing may be served.
    ///
    /// # Errors
    /// The manifest cannot be replaced.
    pub fn note_emptied(&self, log: LogId, end: Position) -> Result<Option<SegmentProblem>, FileError> {
        let of_log = |spare: &Prepared| spare.log == log && spare.number <= end.segment;
        let Some(Prepared { number, .. }) = self.owned.prepared().find(of_log) else { return Ok(None) };
        let mut manifest = self.owned.manifest();
        let mut now = manifest.clone();
        now.segments.insert(number, log);
        now.lost.note(&Loss::whole(number));
        manifest::store(self.owned.root(), &now)?;
        *manifest = now;
        let path = layout::segment(self.owned.root(), log, number);
        Ok(Some(SegmentProblem { path, problem: Problem::Emptied }))
    }

    /// The number that the next segment gets: above that of every one there is or was.
    pub(crate) fn next_segment(&self) -> u32 {
        self.owned.manifest().next_segment
    }

    pub(crate) const fn owned(&self) -> &Arc<Owned> {
        &self.owned
    }
}

impl Owned {
    pub(crate) fn root(&self) -> &Path {
        self.catalog.root()
    }

    pub(crate) const fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// The directory's incarnation now.
    pub(crate) fn incarnation(&self) -> Incarnation {
        self.manifest().incarnation
    }

    fn manifest(&self) -> MutexGuard<'_, Manifest> {
        locked(&self.manifest)
    }

    /// Prepared segments that the last run left. Given once.
    pub(crate) fn take_leftovers(&self) -> Vec<Prepared> {
        std::mem::take(&mut locked(&self.leftovers))
    }

    /// Removes the prepared segments that nobody can use. No manifest names them, so what cannot be removed now is removed by
    /// the next start.
    pub(crate) fn remove_useless(&self) {
        for spare in std::mem::take(&mut *locked(&self.useless)) {
            let _ = layout::remove(&layout::segment(self.root(), spare.log, spare.number));
        }
    }

    /// All prepared segments that the last run left, those that are of no use included; the lowest number first.
    fn prepared(&self) -> impl Iterator<Item = Prepared> {
        let mut all = [&self.leftovers, &self.useless].map(|spares| locked(spares).clone()).concat();
        all.sort_unstable_by_key(|spare| spare.number);
        all.into_iter()
    }

    /// A number that no segment has, `None` when there are no more.
    pub(crate) fn new_number(&self) -> Option<u32> {
        let mut manifest = self.manifest();
        let number = manifest.next_segment;
        (number < SEGMENT_NUMBER_MAX).then(|| {
            manifest.next_segment = number + 1;
            number
        })
    }

    /// Makes the manifest name a segment, durably. After an error it may be named or not; trying again is right.
    pub(crate) fn register(&self, number: u32, log: LogId) -> Result<(), FileError> {
        let mut manifest = self.manifest();
        if manifest.segments.insert(number, log).is_none()
            && let Err(error) = manifest::store(self.root(), &manifest)
        {
            manifest.segments.remove(&number);
            return Err(error);
        }
        self.catalog.insert(number, log);
        Ok(())
    }

    /// Makes the manifest no longer name a segment, durably; then its file may go. After an error it may be named or not;
    /// it is there, so either is right.
    pub(crate) fn unregister(&self, number: u32) -> Result<(), FileError> {
        let mut manifest = self.manifest();
        if let Some(log) = manifest.segments.remove(&number) {
            let lost = manifest.lost.clone();
            manifest.lost.forget(number);
            if let Err(error) = manifest::store(self.root(), &manifest) {
                manifest.segments.insert(number, log);
                manifest.lost = lost;
                return Err(error);
            }
        }
        self.catalog.remove(number);
        Ok(())
    }
}

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check_options(options: &OpenOptions) -> Result<(), OpenError> {
    if options.shards == 0 || options.shards > SHARDS_MAX {
        return Err(OpenError::Options(format!("shards must be 1 to {SHARDS_MAX}")));
    }
    if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&options.segment_bytes) {
        return Err(OpenError::Options(format!(
            "segment_bytes must be {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX}"
        )));
    }
    Ok(())
}

fn load_or_make(path: &Path, shards: u16) -> Result<(Manifest, Opened), OpenError> {
    if let Some(manifest) = manifest::load(path)? {
        return Ok((manifest, Opened::Continued));
    }
    if path.join(layout::LOGS).exists() {
        return Err(OpenError::NoManifest { directory: path.to_path_buf() });
    }
    let mut directory = [0; 16];
    fill_random(&mut directory).map_err(FileError::on("get random bytes for", path))?;
    let manifest = Manifest::first(directory, another_incarnation(path, Incarnation(0))?, shards);
    manifest::store(path, &manifest)?;
    Ok((manifest, Opened::Created))
}

/// A random incarnation that is not `old`.
fn another_incarnation(path: &Path, old: Incarnation) -> Result<Incarnation, FileError> {
    loop {
        let mut random = [0; 8];
        fill_random(&mut random).map_err(FileError::on("get random bytes for", path))?;
        let incarnation = Incarnation((u64::from_le_bytes(random) & INTEGER_MAX).max(1));
        if incarnation != old {
            return Ok(incarnation);
        }
    }
}

/// Has the next start of the gateway on `path` take a new incarnation: for a directory that was put back by other means
/// than a backup of this crate, and may so be older than what clients have seen.
///
/// # Errors
/// A gateway runs on it, or there is no manifest, or the system refuses.
pub fn mark_restored(path: &Path) -> Result<(), OpenError> {
    let Some(_) = manifest::load(path)? else { return Err(no_manifest(path)) };
    let _lock = Lock::take(path)?;
    // Read again, now that nobody writes it.
    let Some(mut manifest) = manifest::load(path)? else { return Err(no_manifest(path)) };
    manifest.restored = true;
    Ok(manifest::store(path, &manifest)?)
}

/// Brings the manifest and the files together: what was written is named, and of the prepared segments those that this
/// start can use. Gives those, and those to remove once the manifest no longer names them.
fn reconcile(
    manifest: &mut Manifest,
    survey: &mut Survey,
    segment_bytes: u32,
) -> (Vec<Prepared>, Vec<Prepared>) {
    let after = survey.highest.saturating_add(1).min(SEGMENT_NUMBER_MAX);
    manifest.next_segment = manifest.next_segment.max(after);
    manifest.logs().for_each(|log| _ = survey.written.entry(log).or_default());
    for (&log, numbers) in &survey.written {
        manifest.segments.extend(numbers.iter().map(|&number| (number, log)));
    }
    let epoch = manifest.current().number;
    let usable = |spare: &Prepared| spare.log.epoch == epoch && spare.bytes == u64::from(segment_bytes);
    let (leftovers, useless): (Vec<_>, Vec<_>) =
        std::mem::take(&mut survey.prepared).into_iter().partition(usable);
    leftovers.iter().for_each(|spare| _ = manifest.segments.insert(spare.number, spare.log));
    useless.iter().for_each(|spare| _ = manifest.segments.remove(&spare.number));
    (leftovers, useless)
}

/// Asks the file system about direct writes, by the `LOCK` file: it is there, regular and ours.
fn block_bytes(directory: &Path, mode: WriteMode) -> Result<u32, OpenError> {
    let path = directory.join(layout::LOCK);
    let asked = statx(CWD, &path, AtFlags::empty(), StatxFlags::DIOALIGN);
    // Before Linux 6.1 the answer is missing: 4096 is right for every common device.
    let unknown = if mode == WriteMode::Direct { BLOCK_BYTES_MAX } else { BLOCK_BYTES_MIN };
    let block = match asked {
        Ok(answer) if answer.stx_dio_offset_align > 0 => answer.stx_dio_offset_align,
        _ => unknown,
    };
    if mode == WriteMode::Buffered {
        return Ok(if block.is_power_of_two() {
            block.clamp(BLOCK_BYTES_MIN, BLOCK_BYTES_MAX)
        } else {
            BLOCK_BYTES_MIN
        });
    }
    let direct = File::options().read(true).custom_flags(OFlags::DIRECT.bits().cast_signed()).open(&path);
    match direct {
        Ok(_) if block.is_power_of_two() && block <= BLOCK_BYTES_MAX => Ok(block.max(BLOCK_BYTES_MIN)),
        Ok(_) => Err(OpenError::DirectRefused { directory: directory.to_path_buf() }),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            Err(OpenError::DirectRefused { directory: directory.to_path_buf() })
        }
        Err(error) => Err(FileError::new("open for direct writes", &path, error).into()),
    }
}
