//! A start: every log is walked, oldest epoch first, and what was found is made durable before anyone builds on it.

use crate::directory::DataDir;
use crate::error::FileError;
use crate::indexes::tell_of_seal;
use crate::layout;
use crate::view::LogSegments;
use rustix::fs::{Advice, fadvise};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use tidegate_ids::LogId;
use tidegate_storage_log::limits::{BATCH_BYTES_MAX, BLOCK_BYTES_MIN};
use tidegate_storage_log::{AppenderStart, Covered, PreviousEnd, RecordView, Recovered};

/// How far a recovery is. Told once per segment that holds records, and at the end of each log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The log being walked.
    pub log: LogId,
    /// Segments of all logs that are behind.
    pub segments_done: usize,
    /// Segments of all logs.
    pub segments: usize,
    /// Records given out so far, of all logs.
    pub records: u64,
}

/// What one log holds.
#[derive(Clone, Debug)]
pub struct RecoveredLog {
    /// Epoch and shard.
    pub log: LogId,
    /// Its segments, as [`DataDir::logs`] lists them.
    pub segments: Vec<u32>,
    /// Where it ends, what was cut, what is damaged, and the extents that scanning needs.
    pub recovered: Recovered,
}

/// Why a log could not be recovered. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The log makes no sense as a whole. Recovered by the version that wrote it, from a backup, or by a repair.
    #[error("log {log}: {source}: {}", crate::error::way_out_of_log(source))]
    Log {
        /// The log.
        log: LogId,
        /// Why.
        source: tidegate_storage_log::RecoverError,
    },
    /// What was found could not be made durable. Recovered by what its message says; until then nothing may be served.
    #[error(transparent)]
    File(#[from] FileError),
}

impl RecoveredLog {
    /// Where the log of `dir`'s current epoch goes on: for its appender.
    #[must_use]
    pub fn appender_start(&self, dir: &DataDir) -> AppenderStart {
        assert_eq!(self.log.epoch, dir.epoch(), "only the current epoch is written");
        AppenderStart { identity: dir.identity(self.log.shard), previous: self.recovered.previous }
    }
}

/// Walks all logs of all epochs, in order, and gives every record to `each`. An empty log is among the answers.
///
/// # Errors
/// See [`RecoverError`]. Damage is not an error: it is in the answer.
pub fn recover_all(
    dir: &DataDir,
    progress: impl FnMut(Progress),
    each: impl FnMut(LogId, RecordView<'_>),
) -> Result<Vec<RecoveredLog>, RecoverError> {
    recover_after(dir, &[], progress, each)
}

/// Like [`recover_all`], but what a snapshot covers is neither read nor given out, and not among the extents. A log that is
/// not in `covered` is walked from its beginning.
///
/// # Errors
/// See [`RecoverError`]; [`tidegate_storage_log::RecoverError::Covered`] in it is the snapshot's fault.
pub fn recover_after(
    dir: &DataDir,
    covered: &[Covered],
    mut progress: impl FnMut(Progress),
    mut each: impl FnMut(LogId, RecordView<'_>),
) -> Result<Vec<RecoveredLog>, RecoverError> {
    let starts = |log: LogId| covered.iter().find(|covered| covered.log == log);
    let starts = |log: LogId| starts(log).map_or_else(PreviousEnd::default, |covered| covered.previous);
    let to_walk = |listed: &LogSegments| {
        let start = starts(listed.log).end.segment;
        listed.segments[listed.segments.partition_point(|&number| number <= start)..].to_vec()
    };
    let segments = dir.logs().iter().map(|log| to_walk(log).len()).sum();
    let mut answer = Vec::with_capacity(dir.logs().len());
    let (mut segments_done, mut records) = (0, 0);
    for listed in dir.logs() {
        let (log, mut seen, mut segment) = (listed.log, 0, 0);
        let walked = to_walk(listed);
        let one = recover_log(dir, log, starts(log), |record| {
            if record.location.segment != segment {
                segment = record.location.segment;
                let behind = walked.partition_point(|&number| number < segment);
                let (segments_done, records) = (segments_done + behind, records + seen);
                progress(Progress { log, segments_done, segments, records });
            }
            seen += 1;
            each(log, record);
        })?;
        segments_done += walked.len();
        records += seen;
        progress(Progress { log, segments_done, segments, records });
        answer.push(one);
    }
    Ok(answer)
}

/// Walks one log of `dir` behind `covered` (the default: from its beginning) and gives every record to `each`. Logs of one
/// epoch may be walked at the same time, on threads.
///
/// # Errors
/// See [`RecoverError`].
///
/// # Panics
/// If `dir` has no such log.
pub fn recover_log(
    dir: &DataDir,
    log: LogId,
    covered: PreviousEnd,
    each: impl FnMut(RecordView<'_>),
) -> Result<RecoveredLog, RecoverError> {
    let Some(listed) = dir.logs().iter().find(|listed| listed.log == log) else {
        panic!("{} has no log {log}", dir.path().display())
    };
    let segments = listed.segments.clone();
    let directory = dir.identity(tidegate_ids::ShardIndex(0)).directory;
    let recovered =
        tidegate_storage_log::recover_after(&mut dir.reader(), &segments, Some(directory), covered, each)
            .map_err(|source| RecoverError::Log { log, source })?;
    make_durable(dir, log, &segments, &recovered)?;
    // No header behind it says where its index lies.
    tell_of_seal(&mut dir.reader(), dir.owned().catalog(), recovered.previous, &directory);
    Ok(RecoveredLog { log, segments, recovered })
}

/// After a kill, the last batch may be in the page cache only: read well, and lost with the next power cut. A batch is
/// written after the one before is synced, so only the last segment, and the one before it at a roll, can hold such. A seal
/// is a batch like any other: the header of the next segment will say that it is there.
fn make_durable(dir: &DataDir, log: LogId, segments: &[u32], recovered: &Recovered) -> Result<(), FileError> {
    // A segment whose first write was torn stays, and only what is left of that write tells it from one that was emptied.
    // Without one the log ends with its seal, and what lies behind that is a spare.
    let is_torn = |number: &&u32| recovered.unclean && **number > recovered.end().segment;
    for &torn in segments.iter().filter(is_torn) {
        let path = layout::segment(dir.path(), log, torn);
        File::open(&path).and_then(|file| file.sync_data()).map_err(FileError::on("sync", &path))?;
    }
    for extent in recovered.extents.iter().rev().take(2) {
        let path = layout::segment(dir.path(), log, extent.segment);
        File::open(&path)
            .and_then(|file| settle(&file, u64::from(extent.end)))
            .map_err(FileError::on("sync", &path))?;
    }
    Ok(())
}

/// Syncs a segment, and looks whether the device has what was read. A sync that failed in the last run may have left pages
/// that count as written and are not; another sync reports success for them. Only the last batch can be such.
fn settle(file: &File, end: u64) -> io::Result<()> {
    // A rewritten segment is shorter than its offsets say.
    let end = end.min(file.metadata()?.len());
    let start = end.saturating_sub(BATCH_BYTES_MAX.into());
    let read = tail(file, start, end)?;
    file.sync_data()?;
    // Pages that are synced are dropped, so that the second look is at the device.
    fadvise(file, start, NonZeroU64::new(end - start), Advice::DontNeed)?;
    if tail(file, start, end)? == read {
        return Ok(());
    }
    let why =
        "the last run could not write all that was read here, and the disk has something else: start again";
    Err(io::Error::other(why))
}

/// The last bytes; sectors that the device refuses read as zeroes: they are damage, which recovery has reported.
fn tail(file: &File, start: u64, end: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; (end - start) as usize];
    let is_refusal = |error: &io::Error| error.raw_os_error() == Some(Errno::IO.raw_os_error());
    match file.read_exact_at(&mut bytes, start) {
        Err(error) if is_refusal(&error) => {}
        read => return read.map(|()| bytes),
    }
    for (index, sector) in bytes.chunks_mut(BLOCK_BYTES_MIN as usize).enumerate() {
        let at = start + index as u64 * u64::from(BLOCK_BYTES_MIN);
        match file.read_exact_at(sector, at) {
            Err(error) if is_refusal(&error) => sector.fill(0),
            read => read?,
        }
    }
    Ok(bytes)
}
