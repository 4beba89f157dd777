//! Letting old records go: which segments are worth rewriting, one at a time and not faster than allowed (DESIGN 5).
//!
//! Invariants. Only segments that a snapshot and every checkpoint cover are touched. A segment's name always leads to a
//! whole file, the old one or the new one. A segment is removed only when nothing in it lives, and only behind one that
//! was rewritten or is gone: a plain one learns from its successor where it ends.

mod counters;
mod covered;
mod erasing;
mod overdue;
mod pace;
mod replacing;
mod uncovered;

pub use counters::{RetentionCounters, RetentionFigures};
pub use covered::CoveredSegments;
pub use erasing::{LeftToGo, WhyLeft};

use crate::directory::{DataDir, Owned};
use crate::error::FileError;
use crate::holdings::{self, is_written};
use crate::limits::{
    COMPRESS_AFTER_MS, EXPIRED_PERCENT_MIN, LOOK_AGAIN_MS, RESERVE_BYTES_DEFAULT, REWRITE_BYTES_PER_SECOND,
};
use crate::reader::SegmentReader;
use erasing::Erasing;
use overdue::{Outlook, Overdue};
use pace::{Pace, Paced};
use replacing::{ReplaceError, Replacing};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tidegate_ids::{LogId, StreamId, WallMs};
use tidegate_storage_log::{
    ClosedSegment, ErasedRanges, Keep, MediumError, PreviousEnd, RecordHead, RewriteError, SequenceRange,
    Tally, closed_segment, read_footer, tally,
};

/// Which records are over.
pub trait RetentionPolicy {
    /// Records of the stream that are older have expired.
    fn keep_after(&self, stream: &StreamId) -> WallMs;

    /// Records of the stream that are older must be gone, whatever that costs. It is before [`RetentionPolicy::keep_after`], by
    /// more than [`RetentionOptions::look_again_ms`], and both move on with the clock.
    fn gone_before(&self, stream: &StreamId) -> WallMs;

    /// Changes whenever what is to be erased does, 0 while nothing is: a segment that was looked at for it is not looked at
    /// again as long as this stays.
    fn erasing(&self) -> u64 {
        0
    }

    /// Whether any of these records of the stream may have to be erased: asked of what a segment holds before its records are.
    fn may_erase(&self, stream: &StreamId, range: SequenceRange) -> bool {
        let _ = (stream, range);
        false
    }

    /// Whether somebody asked for this record to go.
    fn is_erased(&self, head: &RecordHead) -> bool {
        let _ = head;
        false
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
    /// The segment was to be touched, and may not be any more: a snapshot that held it is lost. Recovered by making it again.
    #[error("segment {0} stays as it is: two snapshots do not hold it any more")]
    Uncovered(u32),
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

/// What is to be done with a segment, and the records in it that somebody asked to erase.
#[derive(Clone, Debug)]
struct Judged {
    verdict: Verdict,
    erased: ErasedRanges,
    /// Whether it may not stay as it is.
    must_change: bool,
}

impl Judged {
    const LEAVE: Self = Self { verdict: Verdict::Leave, erased: ErasedRanges::new(), must_change: false };
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
    erasing: Erasing,
    overdue: Overdue,
}

/// The segment before the one at hand, if that one says where it ends.
#[derive(Clone, Copy, Debug)]
enum Before {
    /// It was never rewritten.
    Plain(ClosedSegment),
    /// The disk refuses its header.
    Unread,
}

/// What a pass is told.
struct Pass<'a> {
    /// Leaves alone what holds nothing that is to be erased.
    only_erases: bool,
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
            erasing: Erasing::default(),
            overdue: Overdue::default(),
        }
    }

    /// What was done since the start, to be read from any thread.
    #[must_use]
    pub const fn counters(&self) -> &Arc<RetentionCounters> {
        &self.counters
    }

    /// Where the last pass left records that are to be erased. Empty after a whole pass: they are in no segment any more.
    #[must_use]
    pub fn left_to_erase(&self) -> &[LeftToGo] {
        self.erasing.left()
    }

    /// Where the last pass left records that must be gone, because the segment may not be touched yet.
    #[must_use]
    pub fn left_overdue(&self) -> &[LeftToGo] {
        self.overdue.left()
    }

    /// Records that passes have erased since this was asked last, durably.
    pub fn take_erased(&mut self) -> ErasedRanges {
        self.erasing.take_erased()
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
        let pace = Pace::new(self.options.bytes_per_second, stop);
        self.walk(&mut Pass { only_erases: false, policy, now, pace, progress })?;
        self.counters.note_pass();
        Ok(())
    }

    /// One pass over what holds records that are to be erased: so that they do not wait for all that has expired or is to be
    /// compressed. [`Retention::left_to_erase`] is whole after it, as after any other.
    ///
    /// # Errors
    /// See [`RetentionError`].
    pub fn erase(
        &mut self,
        policy: &dyn RetentionPolicy,
        now: WallMs,
        stop: &AtomicBool,
        progress: &mut dyn FnMut(RetentionStep),
    ) -> Result<(), RetentionError> {
        let pace = Pace::new(self.options.bytes_per_second, stop);
        self.walk(&mut Pass { only_erases: true, policy, now, pace, progress })
    }

    fn walk(&mut self, pass: &mut Pass<'_>) -> Result<(), RetentionError> {
        self.reader.refresh();
        self.erasing.begin(pass.policy.erasing());
        self.overdue.begin();
        let covered = self.covered.get();
        for log in self.logs.clone() {
            let end = covered.get(&log).copied().unwrap_or_default();
            let segments = self.owned.catalog().segments(log);
            let mut before = None;
            for (place, &segment) in segments.iter().enumerate() {
                pass.pace.stop_if_asked()?;
                let later = &segments[place + 1..];
                if segment > end.end.segment {
                    self.look_at_uncovered(pass, log, segment, later);
                    continue;
                }
                self.overdue.may_be_touched(segment);
                let visited = self.visit(pass, log, segment, later, end, before);
                if visited.is_err() {
                    // What was not done is not left for a day.
                    self.looked_at.remove(&segment);
                }
                before = visited?;
            }
        }
        Ok(())
    }

    /// Looks at a segment and does what is to be done. `before` is what the segment before it needs of it; the answer is what
    /// to say of this one.
    fn visit(
        &mut self,
        pass: &mut Pass<'_>,
        log: LogId,
        segment: u32,
        later: &[u32],
        end: PreviousEnd,
        before: Option<Before>,
    ) -> Result<Option<Before>, RetentionError> {
        let closed = match closed_segment(&mut self.reader, segment, later, end) {
            Ok(Some(closed)) => closed,
            Err(MediumError::Unreadable { .. }) => {
                if self.is_due(pass, segment) {
                    self.note_damaged(pass, segment);
                }
                self.erasing.leave(log, segment, WhyLeft::Damaged);
                return Ok(Some(Before::Unread));
            }
            Ok(None) | Err(MediumError::Missing(_)) => {
                if self.is_passed_over(segment, later) {
                    self.remove(pass, log, segment)?;
                } else {
                    self.erasing.leave(log, segment, WhyLeft::Damaged);
                }
                return Ok(before);
            }
        };
        let plain = closed.header.rewritten.is_none().then_some(Before::Plain(closed));
        // The current log's newest segment says where the log goes on.
        let may_go = log.epoch != self.epoch || later.iter().any(|next| is_written(&mut self.reader, *next));
        let judged = self.judge(pass, log, &closed, may_go);
        match judged.verdict {
            Verdict::Leave => return Ok(plain),
            Verdict::Drop if self.free_from_before(pass, log, before.as_ref())? => {
                self.remove(pass, log, segment)?;
                self.erasing.erased(&judged.erased);
                return Ok(None);
            }
            // Without its successor, the damaged one before would not know its end.
            Verdict::Drop if !judged.must_change => return Ok(plain),
            Verdict::Drop | Verdict::Rewrite => {}
        }
        if !self.rewrite(pass, log, &closed)? {
            self.erasing.leave(log, segment, WhyLeft::Damaged);
            return Ok(Some(Before::Plain(closed)));
        }
        self.erasing.erased(&judged.erased);
        Ok(None)
    }

    /// Rewrites the plain segment before one that is to go, so that it knows its own end; `false` if it is damaged or cannot
    /// be read.
    fn free_from_before(
        &mut self,
        pass: &mut Pass<'_>,
        log: LogId,
        before: Option<&Before>,
    ) -> Result<bool, RetentionError> {
        match before {
            None => Ok(true),
            Some(Before::Plain(before)) => self.rewrite(pass, log, before),
            Some(Before::Unread) => Ok(false),
        }
    }

    /// Whether a closed segment may hold what is to be erased.
    fn may_hold_erased(&mut self, pass: &Pass<'_>, closed: &ClosedSegment) -> bool {
        if !self.erasing.is_asked() {
            return false;
        }
        let segment = closed.header.segment;
        if self.erasing.known(segment).is_none() {
            let may_erase = |stream: &StreamId, range| pass.policy.may_erase(stream, range);
            let mut medium = Paced { medium: &mut self.reader, pace: &pass.pace };
            let holdings = holdings::of_closed(&mut medium, closed, may_erase);
            self.erasing.note(pass.policy, segment, &holdings);
        }
        self.erasing.known(segment).is_none_or(|holds| !holds.is_empty())
    }

    /// Whether a segment's time to be looked at has come; then it is noted for the next one.
    fn is_due(&mut self, pass: &Pass<'_>, segment: u32) -> bool {
        if self.looked_at.get(&segment).is_some_and(|&again| pass.now < again) {
            return false;
        }
        self.looked_at.insert(segment, WallMs(pass.now.0.saturating_add(self.options.look_again_ms)));
        true
    }

    /// A segment is to be looked at again at `by` at the latest.
    fn look_again_by(&mut self, segment: u32, by: WallMs) {
        self.looked_at.entry(segment).and_modify(|again| *again = by.min(*again));
    }

    fn note_damaged(&self, pass: &mut Pass<'_>, segment: u32) {
        self.counters.note_damaged();
        (pass.progress)(RetentionStep::Damaged(segment));
    }

    fn judge(&mut self, pass: &mut Pass<'_>, log: LogId, closed: &ClosedSegment, may_go: bool) -> Judged {
        let segment = closed.header.segment;
        let may_hold_erased = self.may_hold_erased(pass, closed);
        if pass.only_erases && !may_hold_erased {
            return Judged::LEAVE;
        }
        let is_due = self.is_due(pass, segment);
        if !is_due && (!may_hold_erased || self.erasing.is_damaged(segment)) {
            self.erasing.leave(log, segment, WhyLeft::Damaged);
            return Judged::LEAVE;
        }
        if !may_hold_erased && self.is_surely_live(pass, closed) {
            return Judged::LEAVE;
        }
        let policy = pass.policy;
        let mut erased = ErasedRanges::new();
        let mut outlook = Outlook::default();
        let mut medium = Paced { medium: &mut self.reader, pace: &pass.pace };
        let counted = tally(&mut medium, closed, |head| {
            let keep = decide(policy, head);
            outlook.take(policy, head);
            let one = SequenceRange::new(head.sequence, head.sequence).filter(|_| keep == Keep::Erased);
            one.into_iter().for_each(|one| erased.insert(head.stream, one));
            keep
        });
        match counted {
            Ok(tally) => {
                if tally.erased == 0 && may_hold_erased {
                    self.erasing.is_clean(segment);
                }
                self.look_again_by(segment, WallMs(pass.now.0.saturating_add(outlook.next_ms)));
                let must_change = tally.erased > 0 || outlook.overdue > 0;
                let verdict = self.weigh(pass.now, closed, &tally, must_change, may_go);
                Judged { verdict, erased, must_change }
            }
            Err(RewriteError::Damaged(_) | RewriteError::Medium(MediumError::Unreadable { .. })) => {
                self.note_damaged(pass, segment);
                self.erasing.leave(log, segment, WhyLeft::Damaged);
                Judged::LEAVE
            }
            Err(RewriteError::Medium(MediumError::Missing(_))) => {
                self.erasing.leave(log, segment, WhyLeft::Damaged);
                Judged::LEAVE
            }
            Err(RewriteError::Sink(never)) => match never {},
        }
    }

    /// Whether a rewritten segment's header and footer alone say that nothing in it is over.
    fn is_surely_live(&mut self, pass: &Pass<'_>, closed: &ClosedSegment) -> bool {
        let Some(own) = closed.header.rewritten else { return false };
        let extent = closed.extent(&mut self.reader);
        let Ok(Some(streams)) = read_footer(&mut self.reader, &extent) else { return false };
        own.oldest_live != WallMs(u64::MAX)
            && !streams.iter().any(|entry| pass.policy.keep_after(&entry.stream) > own.oldest_live)
    }

    fn weigh(
        &self,
        now: WallMs,
        closed: &ClosedSegment,
        tally: &Tally,
        must_change: bool,
        may_go: bool,
    ) -> Verdict {
        if tally.live == 0 && may_go {
            return Verdict::Drop;
        }
        let all_bytes = tally.live_bytes + tally.freed_bytes;
        let percent = u64::from(self.options.expired_percent_min);
        let is_hollow = tally.freed_bytes > 0 && tally.freed_bytes * 100 >= all_bytes * percent;
        let is_plain = closed.header.rewritten.is_none();
        let is_cold = is_plain && now.0.saturating_sub(tally.newest.0) >= self.options.compress_after_ms;
        if must_change || is_hollow || is_cold { Verdict::Rewrite } else { Verdict::Leave }
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
        // Asked here for what it costs to write, and below for good.
        self.covered.while_covered(log, segment, || ()).ok_or(RetentionError::Uncovered(segment))?;
        replacing.check_room(self.options.reserve_bytes)?;
        let policy = pass.policy;
        let written = replacing.write(&mut self.reader, closed, |head| decide(policy, head), &pass.pace);
        let rewrote = match written {
            Ok(rewrote) => rewrote,
            Err(ReplaceError::Damaged) => {
                self.note_damaged(pass, segment);
                return Ok(false);
            }
            Err(ReplaceError::Ended(error)) => return Err(error),
        };
        let before = replacing.bytes_now();
        (pass.progress)(RetentionStep::Written(segment));
        let Some(renamed) = self.covered.while_covered(log, segment, || replacing.rename()) else {
            replacing.withdraw();
            return Err(RetentionError::Uncovered(segment));
        };
        renamed?;
        // From here on readers may open either; the name is made durable before anything depends on it.
        self.owned.catalog().replaced(segment);
        self.reader.refresh();
        (pass.progress)(RetentionStep::Renamed(segment));
        replacing.sync_directory()?;
        self.counters.note_rewritten(&rewrote, before);
        self.erasing.is_clean(segment);
        (pass.progress)(RetentionStep::Rewritten(segment));
        Ok(true)
    }

    /// Removes a segment in which nothing lives.
    fn remove(&mut self, pass: &mut Pass<'_>, log: LogId, segment: u32) -> Result<(), RetentionError> {
        let replacing = Replacing::new(self.owned.root(), log, segment);
        let before = replacing.bytes_now();
        let unregistered = self.covered.while_covered(log, segment, || self.owned.unregister(segment));
        unregistered.ok_or(RetentionError::Uncovered(segment))??;
        self.reader.refresh();
        (pass.progress)(RetentionStep::Unnamed(segment));
        replacing.remove()?;
        self.looked_at.remove(&segment);
        self.erasing.is_gone(segment);
        self.counters.note_dropped(before);
        (pass.progress)(RetentionStep::Dropped(segment));
        Ok(())
    }
}

fn decide(policy: &dyn RetentionPolicy, head: &RecordHead) -> Keep {
    if policy.erasing() != 0 && policy.is_erased(head) {
        return Keep::Erased;
    }
    if head.time < policy.keep_after(&head.stream) { Keep::Expired } else { Keep::Live }
}
