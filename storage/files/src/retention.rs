//! Letting old records go: which segments are worth rewriting, one at a time and not faster than allowed (DESIGN 5).
//!
//! Invariants. Only segments that a snapshot and every checkpoint cover are touched. A segment's name always leads to a
//! whole file, the old one or the new one. A segment is removed only when nothing in it lives, and only behind one that
//! was rewritten or is gone: a plain one learns from its successor where it ends.

mod counters;
mod pace;
mod replacing;

pub use counters::{RetentionCounters, RetentionFigures};

use crate::directory::{DataDir, Owned};
use crate::error::FileError;
use crate::limits::{
    COMPRESS_AFTER_MS, EXPIRED_PERCENT_MIN, LOOK_AGAIN_MS, RESERVE_BYTES_DEFAULT, REWRITE_BYTES_PER_SECOND,
};
use crate::reader::SegmentReader;
use pace::{Pace, Paced};
use replacing::{ReplaceError, Replacing};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use tidegate_ids::{LogId, Sequence, StreamId, WallMs};
use tidegate_storage_log::{
    ClosedSegment, Keep, PreviousEnd, RecordHead, RewriteError, Tally, closed_segment, read_footer,
    segment_header, tally,
};

/// Which records are over.
pub trait RetentionPolicy {
    /// Records of the stream that are older have expired.
    fn keep_after(&self, stream: &StreamId) -> WallMs;

    /// Whether anything of the stream may have to be erased: asked of a segment's streams before its records are.
    fn may_erase(&self, stream: &StreamId) -> bool {
        let _ = stream;
        false
    }

    /// Whether somebody asked for this record to go. Records without a sequence have 0.
    fn is_erased(&self, stream: &StreamId, sequence: Sequence) -> bool {
        let _ = (stream, sequence);
        false
    }
}

/// What may be touched: for each log, where the segments end that a snapshot and all checkpoints cover. Empty at first:
/// nothing may. Shared between who makes snapshots and who rewrites.
#[derive(Clone, Debug, Default)]
pub struct CoveredSegments(Arc<Mutex<BTreeMap<LogId, PreviousEnd>>>);

impl CoveredSegments {
    /// Everything of `log` up to `end` may be touched. `end` is the end of a segment, and its last batch.
    pub fn set(&self, log: LogId, end: PreviousEnd) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(log, end);
    }

    /// What may be touched now.
    #[must_use]
    pub fn get(&self) -> BTreeMap<LogId, PreviousEnd> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// When a segment is worth rewriting, and how fast it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionOptions {
    /// Bytes read and written in a second, 0: as fast as it goes.
    pub bytes_per_second: u64,
    /// Of the bytes of records that a segment has, how many must have expired, in percent.
    pub expired_percent_min: u8,
    /// A segment whose newest record is older is compressed even if nothing in it has expired.
    pub compress_after_ms: u64,
    /// A segment that was looked at and left is looked at again after this.
    pub look_again_ms: u64,
    /// Room on the disk that rewriting leaves free.
    pub reserve_bytes: u64,
}

impl Default for RetentionOptions {
    fn default() -> Self {
        Self {
            bytes_per_second: REWRITE_BYTES_PER_SECOND,
            expired_percent_min: EXPIRED_PERCENT_MIN,
            compress_after_ms: COMPRESS_AFTER_MS,
            look_again_ms: LOOK_AGAIN_MS,
            reserve_bytes: RESERVE_BYTES_DEFAULT,
        }
    }
}

/// Something that was just done, each durable but for the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetentionStep {
    /// The new file is whole and synced, under its temporary name.
    Written(u32),
    /// The segment's name leads to the new file; the directory is not synced yet.
    Renamed(u32),
    /// The segment is rewritten.
    Rewritten(u32),
    /// The manifest no longer names the segment, whose file is still there.
    Unnamed(u32),
    /// The segment is gone.
    Dropped(u32),
    /// The segment is damaged and left as it is.
    Damaged(u32),
}

/// Why a pass ended before its end. What was done stays done; the next pass goes on.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// It was asked to stop.
    #[error("stopped")]
    Stopped,
    /// Recovered by making room.
    #[error("no space to rewrite segment {segment}: {needed_bytes} bytes needed, {free_bytes} free")]
    NoSpace {
        /// Which.
        segment: u32,
        /// The segment as it is, and the reserve.
        needed_bytes: u64,
        /// What the file system has for this user.
        free_bytes: u64,
    },
    /// What was written is not what it should be: memory or the disk errs. Nothing was replaced.
    #[error("segment {0} was rewritten wrongly; the old one stays")]
    Wrong(u32),
    /// The system refused. Recovered by what its message says.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What is to be done with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Leave,
    Rewrite,
    Drop,
}

/// Walks the directory's closed segments and makes them small. One for a directory.
#[derive(Debug)]
pub struct Retention {
    owned: Arc<Owned>,
    logs: Vec<LogId>,
    epoch: u32,
    reader: SegmentReader,
    options: RetentionOptions,
    covered: CoveredSegments,
    counters: Arc<RetentionCounters>,
    /// Segments that were looked at, and when to look again.
    looked_at: BTreeMap<u32, WallMs>,
}

/// What a pass is told.
struct Pass<'a> {
    policy: &'a dyn RetentionPolicy,
    now: WallMs,
    pace: Pace<'a>,
    progress: &'a mut dyn FnMut(RetentionStep),
}

impl Retention {
    /// For a directory; `covered` says what may be touched, now and later.
    #[must_use]
    pub fn new(dir: &DataDir, options: RetentionOptions, covered: CoveredSegments) -> Self {
        Self {
            owned: Arc::clone(dir.owned()),
            logs: dir.logs().iter().map(|listed| listed.log).collect(),
            epoch: dir.epoch(),
            reader: dir.reader(),
            options,
            covered,
            counters: Arc::default(),
            looked_at: BTreeMap::new(),
        }
    }

    /// What was done since the start, to be read from any thread.
    #[must_use]
    pub const fn counters(&self) -> &Arc<RetentionCounters> {
        &self.counters
    }

    /// Looks at every segment again at the next pass: the policy changed, as when something is to be erased.
    pub fn look_again(&mut self) {
        self.looked_at.clear();
    }

    /// One pass over everything that may be touched, oldest first in each log.
    ///
    /// # Errors
    /// See [`RetentionError`].
    pub fn pass(
        &mut self,
        policy: &dyn RetentionPolicy,
        now: WallMs,
        stop: &AtomicBool,
        progress: &mut dyn FnMut(RetentionStep),
    ) -> Result<(), RetentionError> {
        self.reader.refresh();
        let covered = self.covered.get();
        let pace = Pace::new(self.options.bytes_per_second, stop);
        let mut pass = Pass { policy, now, pace, progress };
        for log in self.logs.clone() {
            let Some(&end) = covered.get(&log) else { continue };
            let segments = self.owned.catalog().segments(log);
            let mut plain_before = None;
            for (place, &segment) in segments.iter().enumerate() {
                if segment > end.end.segment {
                    break;
                }
                pass.pace.stop_if_asked()?;
                let later = &segments[place + 1..];
                plain_before = self.visit(&mut pass, log, segment, later, end, plain_before)?;
            }
        }
        self.counters.note_pass();
        Ok(())
    }

    /// Looks at a segment and does what is to be done. `plain_before` is the segment before it, if that was never
    /// rewritten; the answer is what to say of this one.
    fn visit(
        &mut self,
        pass: &mut Pass<'_>,
        log: LogId,
        segment: u32,
        later: &[u32],
        end: PreviousEnd,
        plain_before: Option<ClosedSegment>,
    ) -> Result<Option<ClosedSegment>, RetentionError> {
        let Ok(Some(closed)) = closed_segment(&mut self.reader, segment, later, end) else {
            return Ok(plain_before);
        };
        let is_plain = closed.header.rewritten.is_none();
        // The current log's newest segment says where the log goes on.
        let reader = &mut self.reader;
        let mut is_written = |next: &u32| matches!(segment_header(reader, *next), Ok(Some(_)));
        let may_go = log.epoch != self.epoch || later.iter().any(&mut is_written);
        match self.judge(pass, &closed, may_go) {
            Verdict::Leave => Ok(is_plain.then_some(closed)),
            Verdict::Rewrite => Ok(if self.rewrite(pass, log, &closed)? { None } else { Some(closed) }),
            Verdict::Drop => {
                if let Some(before) = plain_before
                    && !self.rewrite(pass, log, &before)?
                {
                    // Without its successor, the damaged one before would not know its end.
                    return Ok(is_plain.then_some(closed));
                }
                self.remove(pass, log, segment)?;
                Ok(None)
            }
        }
    }

    fn judge(&mut self, pass: &mut Pass<'_>, closed: &ClosedSegment, may_go: bool) -> Verdict {
        let segment = closed.header.segment;
        if self.looked_at.get(&segment).is_some_and(|&again| pass.now < again) {
            return Verdict::Leave;
        }
        self.looked_at.insert(segment, WallMs(pass.now.0.saturating_add(self.options.look_again_ms)));
        if self.is_surely_live(pass, closed) {
            return Verdict::Leave;
        }
        let policy = pass.policy;
        let mut medium = Paced { medium: &mut self.reader, pace: &pass.pace };
        match tally(&mut medium, closed, |head| decide(policy, head)) {
            Ok(tally) => self.weigh(pass.now, closed, &tally, may_go),
            Err(RewriteError::Damaged(_)) => {
                self.counters.note_damaged();
                (pass.progress)(RetentionStep::Damaged(segment));
                Verdict::Leave
            }
            Err(RewriteError::Medium(_)) => Verdict::Leave,
            Err(RewriteError::Sink(never)) => match never {},
        }
    }

    /// Whether a rewritten segment's header and footer alone say that nothing in it is over.
    fn is_surely_live(&mut self, pass: &Pass<'_>, closed: &ClosedSegment) -> bool {
        let Some(own) = closed.header.rewritten else { return false };
        let extent = closed.extent(&mut self.reader);
        let Ok(Some(streams)) = read_footer(&mut self.reader, &extent) else { return false };
        let policy = pass.policy;
        own.oldest_live != WallMs(u64::MAX)
            && !streams.iter().any(|entry| {
                policy.may_erase(&entry.stream) || policy.keep_after(&entry.stream) > own.oldest_live
            })
    }

    fn weigh(&self, now: WallMs, closed: &ClosedSegment, tally: &Tally, may_go: bool) -> Verdict {
        if tally.live == 0 && may_go {
            return Verdict::Drop;
        }
        let all_bytes = tally.live_bytes + tally.freed_bytes;
        let percent = u64::from(self.options.expired_percent_min);
        let is_hollow = tally.freed_bytes > 0 && tally.freed_bytes * 100 >= all_bytes * percent;
        let is_plain = closed.header.rewritten.is_none();
        let is_cold = is_plain && now.0.saturating_sub(tally.newest.0) >= self.options.compress_after_ms;
        if tally.erased > 0 || is_hollow || is_cold { Verdict::Rewrite } else { Verdict::Leave }
    }

    /// Rewrites a segment; `false` if it is damaged and stays as it is.
    fn rewrite(
        &mut self,
        pass: &mut Pass<'_>,
        log: LogId,
        closed: &ClosedSegment,
    ) -> Result<bool, RetentionError> {
        let segment = closed.header.segment;
        let replacing = Replacing::new(self.owned.root(), log, segment);
        replacing.check_room(self.options.reserve_bytes)?;
        let policy = pass.policy;
        let written = replacing.write(&mut self.reader, closed, |head| decide(policy, head), &pass.pace);
        let rewrote = match written {
            Ok(rewrote) => rewrote,
            Err(ReplaceError::Damaged) => {
                self.counters.note_damaged();
                (pass.progress)(RetentionStep::Damaged(segment));
                return Ok(false);
            }
            Err(ReplaceError::Ended(error)) => return Err(error),
        };
        let before = replacing.bytes_now();
        (pass.progress)(RetentionStep::Written(segment));
        replacing.rename()?;
        // From here on readers may open either; the name is made durable before anything depends on it.
        self.owned.catalog().replaced(segment);
        self.reader.refresh();
        (pass.progress)(RetentionStep::Renamed(segment));
        replacing.sync_directory()?;
        self.counters.note_rewritten(&rewrote, before);
        (pass.progress)(RetentionStep::Rewritten(segment));
        Ok(true)
    }

    /// Removes a segment in which nothing lives.
    fn remove(&mut self, pass: &mut Pass<'_>, log: LogId, segment: u32) -> Result<(), RetentionError> {
        let replacing = Replacing::new(self.owned.root(), log, segment);
        let before = replacing.bytes_now();
        self.owned.unregister(segment)?;
        self.reader.refresh();
        (pass.progress)(RetentionStep::Unnamed(segment));
        replacing.remove()?;
        self.looked_at.remove(&segment);
        self.counters.note_dropped(before);
        (pass.progress)(RetentionStep::Dropped(segment));
        Ok(())
    }
}

fn decide(policy: &dyn RetentionPolicy, head: &RecordHead) -> Keep {
    if policy.may_erase(&head.stream) && policy.is_erased(&head.stream, head.sequence) {
        return Keep::Erased;
    }
    if head.time < policy.keep_after(&head.stream) { Keep::Expired } else { Keep::Live }
}
