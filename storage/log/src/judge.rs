//! Judging a damaged log before it is repaired (docs/decisions/0013-a-repair-keeps-every-location.md): which of its
//! segments go on, under which header, where each ends, and what stands for those that are gone.
//!
//! Invariant: every planned segment goes on where the one before ends, by location and by number, and has a block for
//! every batch.

use crate::batch::{BatchHeader, Guard};
use crate::descriptor::FORMAT_VERSION;
use crate::index::IndexPlace;
use crate::limits::BATCH_BYTES_MAX;
use crate::medium::Medium;
use crate::record::RecordView;
use crate::recover::{RecoverError, Recovered, lengths_of};
use crate::replay::Replay;
use crate::segment::{ENCODING_PLAIN, LogIdentity, PreviousEnd, SegmentHeader};
use crate::survey::{Surveyed, Usage, survey};
use crate::window::Window;
use crate::witness::{Lost, Observe, Witness};
use core::fmt;
use std::collections::BTreeMap;
use tidegate_ids::{BatchNumber, Location};

/// What is known of a log from elsewhere.
#[derive(Clone, Debug)]
pub struct LogFacts {
    /// Whose log: what a lost header is made again from.
    pub identity: LogIdentity,
    /// The size of a segment that does not say its own.
    pub segment_bytes: u32,
    /// Its block size.
    pub block_bytes: u32,
    /// Where snapshots say that segments of this log end: believed where the log itself does not say.
    pub ends: Vec<PreviousEnd>,
}

/// A segment of the repaired log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JudgedSegment {
    /// Its header, as it is or made again.
    pub header: SegmentHeader,
    /// Where it ends, and its last batch.
    pub end: PreviousEnd,
    /// Up to where it is read. What lies between this and the end is made anew with nothing in it.
    pub held: PreviousEnd,
    /// What is to become of it.
    pub state: SegmentState,
}

/// What a segment is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentState {
    /// All of it up to its end holds; nothing of it is written any more if `is_sealed`.
    Sound {
        /// Whether it ends with a seal, or was rewritten.
        is_sealed: bool,
    },
    /// Something in it does not hold.
    Damaged,
    /// It is gone, or not one batch of it is left, and it is made anew with nothing in it.
    Missing,
}

/// A log, judged.
#[derive(Clone, Debug)]
pub struct JudgedLog {
    /// What recovery says of it.
    pub recovered: Recovered,
    /// Its segments, rising.
    pub segments: Vec<JudgedSegment>,
    /// Files that hold nothing of the log: never written, or torn by a crash at their first write.
    pub unused: Vec<u32>,
    /// Missing segments behind the last one that is there. Nothing says whether they were written.
    pub missing_behind: Vec<u32>,
    facts: LogFacts,
}

/// Why a log cannot be repaired. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JudgeError {
    /// It cannot be read at all.
    Recover(RecoverError),
    /// The batches that are missing before this segment do not fit where they were: files of different histories are mixed.
    /// Recovered from a backup.
    NoRoom(u32),
}

/// Reads a log, tells `witness` what holds and what is lost, and says what a repair makes of its segments. Listed segments
/// that the medium does not have are missing.
///
/// # Errors
/// See [`JudgeError`].
pub fn judge<M: Medium, W: Witness>(
    medium: &mut M,
    segments: &[u32],
    facts: LogFacts,
    witness: &mut W,
) -> Result<JudgedLog, JudgeError> {
    let lengths = lengths_of(medium, segments.iter().copied());
    let directory = facts.identity.directory;
    let mut window = Window::new(medium, Guard::new(&directory));
    let mut all = survey(&mut window, &lengths, Some(directory)).map_err(JudgeError::Recover)?;
    let facts = with_sizes_of(facts, &all);
    doubt(&mut all, &facts);
    for one in &mut all {
        believe(one, &facts.ends);
        // A file that was cut short reads as zeroes behind its end.
        one.bytes = one.bytes.max(one.bound.map_or(0, |bound| bound.end.offset));
    }
    let identity = all.iter().rev().find_map(|one| one.header).map(|header| header.identity);
    let judging = Judging { witness, first_batches: BTreeMap::new() };
    let mut replay = Replay::new(window, judging, Recovered { identity, ..Recovered::default() });
    let mut plan = Plan::new(facts);
    for (one, (_, len)) in all.iter().zip(&lengths) {
        match one.usage {
            Usage::Used => {
                let before = replay.found().damage_count;
                replay.segment(one);
                let found = replay.found();
                let is_sealed = !found.unclean || one.header.is_some_and(|header| header.rewritten.is_some());
                let state = match found.damage_count == before && is_long_enough(one, *len) {
                    true => SegmentState::Sound { is_sealed },
                    false => SegmentState::Damaged,
                };
                let (end, first) =
                    (found.previous, replay.observer().first_batches.get(&one.segment).copied());
                let one = Surveyed { first_batch: first.or(one.first_batch), ..*one };
                plan.used(&one, end, state)?;
            }
            Usage::Missing => plan.missing(one.segment)?,
            Usage::Torn | Usage::Spare => plan.unused.push(one.segment),
        }
    }
    let last_used = plan.segments.last().map_or(0, |last| last.header.segment);
    let torn = |one: &&Surveyed| one.usage == Usage::Torn && one.segment > last_used;
    all.iter().filter(torn).for_each(|one| replay.cut_whole(one));
    let Plan { segments, unused, waiting, facts } = plan;
    Ok(JudgedLog { recovered: replay.finish(), segments, unused, missing_behind: waiting, facts })
}

impl JudgedLog {
    /// Takes the missing segments behind the last one that is there for used, up to `last`.
    ///
    /// # Errors
    /// See [`JudgeError`].
    pub fn keep_missing_behind(&mut self, last: u32) -> Result<(), JudgeError> {
        let is_kept = |segment: &u32| *segment <= last;
        let kept = self.missing_behind.iter().copied().filter(is_kept).collect();
        self.missing_behind.retain(|segment| *segment > last);
        let mut plan = Plan {
            segments: core::mem::take(&mut self.segments),
            unused: Vec::new(),
            waiting: kept,
            facts: self.facts.clone(),
        };
        plan.fill(None)?;
        self.segments = plan.segments;
        Ok(())
    }
}

/// A segment that looks as if it was never used, right before one that lost its header: nobody is left to name it, so it may
/// have been lost. It is read as a used one, and what the numbers around it leave out is what was in it.
fn doubt(all: &mut [Surveyed], facts: &LogFacts) {
    let mut next_first: Option<BatchNumber> = None;
    let mut was_doubted = false;
    for one in all.iter_mut().rev() {
        match one.usage {
            Usage::Missing => next_first = None,
            Usage::Used => {
                if was_doubted && one.bound.is_none() {
                    one.last_batch = next_first.map(|first| BatchNumber(first.0 - 1));
                }
                next_first = one.first_batch.filter(|_| one.header.is_none());
                was_doubted = false;
            }
            Usage::Spare | Usage::Torn => {
                let Some(first) = next_first else { continue };
                one.usage = Usage::Used;
                one.bytes = one.bytes.max(facts.segment_bytes);
                one.last_batch = Some(BatchNumber(first.0 - 1));
                next_first = one.first_batch.filter(|own| *own < first);
                was_doubted = true;
            }
        }
    }
}

/// A snapshot's word counts where nothing in the log says where a segment ends.
fn believe(one: &mut Surveyed, ends: &[PreviousEnd]) {
    let Some(known) = ends.iter().find(|known| known.end.segment == one.segment) else { return };
    let agrees = one.last_batch.is_none_or(|last| last == known.batch);
    if one.usage == Usage::Missing || one.bound.is_some() || !agrees {
        return;
    }
    // It was folded, so it was written.
    one.usage = Usage::Used;
    one.bound = Some(*known);
    one.last_batch = Some(known.batch);
}

/// A file that was cut short holds no less for it where its end was zeroes, but no start takes it. Of a rewritten segment,
/// [`crate::check_rewritten`] says so.
fn is_long_enough(one: &Surveyed, len: Option<u32>) -> bool {
    let plain = one.header.filter(|header| header.rewritten.is_none());
    plain.is_none_or(|header| len >= Some(header.segment_bytes))
}

/// The sizes of a log are those of its first sound header.
fn with_sizes_of(facts: LogFacts, all: &[Surveyed]) -> LogFacts {
    match all.iter().find_map(|one| one.header) {
        Some(SegmentHeader { segment_bytes, block_bytes, .. }) => {
            LogFacts { segment_bytes, block_bytes, ..facts }
        }
        None => facts,
    }
}

/// Tells the witness, and notes what the batches of a segment say of its first one.
struct Judging<'w, W> {
    witness: &'w mut W,
    first_batches: BTreeMap<u32, BatchNumber>,
}

impl<W: Witness> Observe for Judging<'_, W> {
    fn record(&mut self, record: &RecordView<'_>, has_links: bool) {
        self.witness.record(record, has_links);
    }

    fn lost(&mut self, lost: &Lost) {
        self.witness.lost(lost);
    }

    fn batch(&mut self, header: &BatchHeader, _bytes: &[u8], _is_whole: bool) {
        self.first_batches.entry(header.segment).or_insert_with(|| header.first_number());
    }
}

struct Plan {
    segments: Vec<JudgedSegment>,
    unused: Vec<u32>,
    /// Missing segments that nothing was said about so far.
    waiting: Vec<u32>,
    facts: LogFacts,
}

/// A missing segment while batches are given to it.
struct Share {
    segment: u32,
    end: u32,
    /// Whether `end` is said by somebody.
    is_known: bool,
    batches: u64,
}

impl Plan {
    const fn new(facts: LogFacts) -> Self {
        Self { segments: Vec::new(), unused: Vec::new(), waiting: Vec::new(), facts }
    }

    fn missing(&mut self, segment: u32) -> Result<(), JudgeError> {
        self.waiting.push(segment);
        let known = self.facts.ends.iter().find(|known| known.end.segment == segment).copied();
        match known {
            Some(known) => self.fill(Some(known)),
            None => Ok(()),
        }
    }

    fn used(&mut self, one: &Surveyed, end: PreviousEnd, state: SegmentState) -> Result<(), JudgeError> {
        let segment = one.segment;
        if one.header.is_none() && one.first_batch.is_none() {
            // Not one batch is left that would say how many there were.
            self.waiting.push(segment);
            return if one.bound.is_some() { self.fill(Some(end)) } else { Ok(()) };
        }
        match (one.header, self.waiting.last()) {
            (Some(header), _) => {
                // Those behind the one that is named were never a part of the log.
                let named = header.previous.end.segment;
                self.waiting.retain(|missing| *missing <= named);
                let is_named = self.waiting.last() == Some(&named);
                self.fill(is_named.then_some(header.previous))?;
            }
            (None, Some(&last)) => {
                let batch = one.first_batch.map(|first| BatchNumber(first.0 - 1));
                self.fill(batch.map(|batch| PreviousEnd { end: Location::new(last, 0), batch }))?;
            }
            (None, None) => {}
        }
        if let (None, Some(first), Some(before)) = (one.header, one.first_batch, self.segments.last()) {
            // Nobody said how many batches the segment before has, and it has lost its last ones.
            let lost = (first.0 - 1).saturating_sub(before.end.batch.0);
            self.extend(lost).ok_or(JudgeError::NoRoom(segment))?;
        }
        let header = match one.header {
            Some(header) => header,
            None => self.header(segment, self.previous_of(one), one.bytes.max(end.end.offset)),
        };
        self.segments.push(JudgedSegment { header, end, held: end, state });
        Ok(())
    }

    /// What came before a segment that lost its header.
    fn previous_of(&self, one: &Surveyed) -> PreviousEnd {
        if let Some(before) = self.segments.last() {
            return before.end;
        }
        let batch = one.first_batch.map_or(BatchNumber(0), |first| BatchNumber(first.0 - 1));
        let before = |known: &&PreviousEnd| known.end.segment < one.segment && known.batch == batch;
        let known = self.facts.ends.iter().filter(before).max_by_key(|known| known.end);
        known.copied().unwrap_or(PreviousEnd { end: Location::NONE, batch })
    }

    fn header(&self, segment: u32, previous: PreviousEnd, bytes: u32) -> SegmentHeader {
        let block_bytes = self.facts.block_bytes;
        SegmentHeader {
            identity: self.facts.identity,
            segment,
            segment_bytes: self.facts.segment_bytes.max(bytes.next_multiple_of(block_bytes)),
            block_bytes,
            format_version: FORMAT_VERSION,
            encoding: ENCODING_PLAIN,
            previous,
            previous_index: IndexPlace::default(),
            rewritten: None,
        }
    }

    /// Plans the missing segments that wait. `last` is where the last of them ended, as far as anybody says so; an offset of
    /// 0 is not known.
    fn fill(&mut self, last: Option<PreviousEnd>) -> Result<(), JudgeError> {
        let waiting = core::mem::take(&mut self.waiting);
        let Some(&last_segment) = waiting.last() else { return Ok(()) };
        let known_end = last.map(|last| last.end.offset).filter(|offset| *offset > 0);
        let block = self.facts.block_bytes;
        let mut shares: Vec<Share> = waiting
            .iter()
            .map(|&segment| {
                let known = known_end.filter(|_| segment == last_segment);
                let end = known.unwrap_or(self.facts.segment_bytes);
                let batches = u64::from((end - block).div_ceil(BATCH_BYTES_MAX));
                Share { segment, end, is_known: known.is_some(), batches }
            })
            .collect();
        let fewest: u64 = shares.iter().map(|share| share.batches).sum();
        let before = self.segments.last().map(|before| before.end.batch.0);
        let before = match (before, last) {
            (Some(before), _) => before,
            (None, last) => last.map_or(0, |last| last.batch.0.saturating_sub(fewest)),
        };
        let total = last.map_or(Some(fewest), |last| last.batch.0.checked_sub(before));
        let no_room = JudgeError::NoRoom(last_segment);
        let excess = share_out(&mut shares, total.ok_or(no_room)?, block).ok_or(no_room)?;
        self.extend(excess).ok_or(no_room)?;
        let before = PreviousEnd { end: Location::NONE, batch: BatchNumber(before) };
        let mut previous = self.segments.last().map_or(before, |before| before.end);
        for share in shares {
            let header = self.header(share.segment, previous, share.end);
            let batch = BatchNumber(previous.batch.0 + share.batches);
            previous = PreviousEnd { end: Location::new(share.segment, share.end), batch };
            let held = PreviousEnd {
                end: Location::new(share.segment, header.block_bytes),
                batch: header.previous.batch,
            };
            let state = SegmentState::Missing;
            self.segments.push(JudgedSegment { header, end: previous, held, state });
        }
        Ok(())
    }

    /// Lets the newest segment end later, by batches of which nothing is left.
    fn extend(&mut self, batches: u64) -> Option<()> {
        if batches == 0 {
            return Some(());
        }
        let last = self.segments.last_mut()?;
        let end = u64::from(last.end.end.offset) + batches * u64::from(last.header.block_bytes);
        if end > u64::from(last.header.segment_bytes) {
            return None;
        }
        last.end = PreviousEnd {
            end: Location::new(last.header.segment, end as u32),
            batch: BatchNumber(last.end.batch.0 + batches),
        };
        last.state = match last.state {
            SegmentState::Missing => SegmentState::Missing,
            _ => SegmentState::Damaged,
        };
        Some(())
    }
}

/// Gives each segment as many of `total` batches as it must and can have, and says how many found no room.
fn share_out(shares: &mut [Share], total: u64, block: u32) -> Option<u64> {
    let mut wanted: u64 = shares.iter().map(|share| share.batches).sum();
    for share in shares.iter_mut().filter(|share| !share.is_known) {
        if wanted > total {
            wanted -= share.batches;
            (share.batches, share.end) = (0, block);
        }
    }
    let mut rest = total.checked_sub(wanted)?;
    for share in shares.iter_mut().rev() {
        let more = (u64::from((share.end - block) / block) - share.batches).min(rest);
        share.batches += more;
        rest -= more;
    }
    Some(rest)
}

impl fmt::Display for JudgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recover(error) => error.fmt(f),
            Self::NoRoom(segment) => write!(
                f,
                "what is missing up to segment {segment} does not fit where it was: files of different histories are mixed; \
                 put a backup back"
            ),
        }
    }
}

impl core::error::Error for JudgeError {}
