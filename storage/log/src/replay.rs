//! Recovery of one segment after another: which batches hold, what is damage, where the tail is cut.

use crate::batch::{BatchHeader, BatchKind};
use crate::descriptor::{BATCH_HEADER_BYTES, SEGMENT_HEADER_BYTES};
use crate::footer::seal_of;
use crate::limits::BLOCK_BYTES_MIN;
use crate::medium::Medium;
use crate::record::{RecordView, parse, remnant_of};
use crate::recover::{Cut, Damage, DamageKind, Loss, Recovered, SegmentExtent};
use crate::salvage::salvage;
use crate::segment::PreviousEnd;
use crate::survey::{Ahead, Surveyed, look_ahead};
use crate::window::Window;
use crate::witness::{Lost, LostWhat, Observe};
use core::ops::Range;
use tidegate_ids::{BatchNumber, Location, Position};

/// Recovery under way.
pub(crate) struct Replay<'m, M, O> {
    window: Window<'m, M>,
    observer: O,
    out: Recovered,
    /// The number of the next batch; `None` before the first used segment.
    expected: Option<BatchNumber>,
}

/// One segment while it is read.
struct Walk<'a> {
    one: &'a Surveyed,
    /// Where reading ends.
    limit: u32,
    at: u32,
    expected: BatchNumber,
    /// What is known to be synced, once it was asked for.
    ahead: Option<Ahead>,
    footer_offset: Option<u32>,
}

impl<'m, M: Medium, O: Observe> Replay<'m, M, O> {
    /// `out.previous` is where the log is known to be folded to; the default: nowhere.
    pub(crate) fn new(window: Window<'m, M>, observer: O, out: Recovered) -> Self {
        let batch = out.previous.batch;
        let expected = (batch.0 > 0).then(|| batch.next());
        Self { window, observer, out, expected }
    }

    /// Reads a used segment.
    pub(crate) fn segment(&mut self, one: &Surveyed) {
        self.window.open(one.segment);
        let expected = self.first_expected(one);
        let limit = one.bound.map_or(one.bytes, |bound| bound.end.offset.min(one.bytes));
        let mut walk = Walk { one, limit, at: one.block, expected, ahead: None, footer_offset: None };
        while walk.at + one.block <= walk.limit && walk.footer_offset.is_none() {
            if one.last_batch.is_some_and(|last| walk.expected > last) {
                break;
            }
            if !self.take_batch(&mut walk) && !self.skip_damage(&mut walk) {
                break;
            }
        }
        self.settle(&mut walk);
        self.expected = Some(walk.expected);
        // Behind an end that nothing else proves, what the device refuses may be the last of what was acknowledged.
        let is_open = one.last_batch.is_none() && walk.footer_offset.is_none();
        self.note_unreadable(one.segment, is_open.then_some(walk.at));
        self.out.unclean = walk.footer_offset.is_none();
        self.out.previous = PreviousEnd {
            end: Position::new(one.segment, walk.at),
            batch: BatchNumber(walk.expected.0.saturating_sub(1)),
        };
        self.out.extents.push(SegmentExtent {
            segment: one.segment,
            end: walk.at,
            block_bytes: one.block,
            footer_offset: walk.footer_offset,
            guard: self.window.guard(),
        });
        self.out.ends.push(self.out.previous);
    }

    /// The end.
    pub(crate) fn finish(self) -> Recovered {
        self.out
    }

    /// What was found so far.
    pub(crate) const fn found(&self) -> &Recovered {
        &self.out
    }

    /// The observer.
    pub(crate) const fn observer(&self) -> &O {
        &self.observer
    }

    /// The observer, when all is read.
    pub(crate) fn into_observer(self) -> O {
        self.observer
    }

    /// A segment behind the last used one whose first write was torn.
    pub(crate) fn cut_whole(&mut self, one: &Surveyed) {
        self.window.open(one.segment);
        let ahead = look_ahead(&mut self.window, 0, one.bytes, one.block);
        self.note_unreadable(one.segment, Some(0));
        self.out.unclean = true;
        self.out.cut.get_or_insert(Cut {
            segment: one.segment,
            from: 0,
            to: ahead.dirty_end.unwrap_or(one.block),
            first_batch: self.expected.unwrap_or(BatchNumber::FIRST),
        });
    }

    /// A segment behind the last used one that looks like a spare because the device refuses what would say otherwise.
    pub(crate) fn note_refused(&mut self, one: &Surveyed) {
        self.window.open(one.segment);
        let _ = self.window.slice(0, SEGMENT_HEADER_BYTES);
        let _ = look_ahead(&mut self.window, 0, one.bytes, one.block);
        self.note_unreadable(one.segment, Some(0));
    }

    /// A listed segment that is gone.
    pub(crate) fn note_missing(&mut self, segment: u32) {
        self.out.note(Damage::new(DamageKind::Segment, segment, 0, 0));
        self.out.lose(Loss::whole(segment));
    }

    /// What the first batch of a segment must be: one more than its header says, or than the last one read.
    fn first_expected(&mut self, one: &Surveyed) -> BatchNumber {
        if let Some(header) = one.header {
            return header.previous.batch.next();
        }
        let to = SEGMENT_HEADER_BYTES as u32;
        self.out.note(Damage::new(DamageKind::SegmentHeader, one.segment, 0, to));
        self.expected.unwrap_or_else(|| {
            let ahead = look_ahead(&mut self.window, one.block, one.bytes, one.block);
            ahead.first.unwrap_or(BatchNumber::FIRST)
        })
    }

    /// Gives out the batch at hand if it holds and comes next.
    fn take_batch(&mut self, walk: &mut Walk<'_>) -> bool {
        let Some((header, bytes)) = self.window.batch(walk.at, walk.limit) else { return false };
        let whole = header.length.is_multiple_of(walk.one.block);
        if !whole || header.number != walk.expected {
            return false;
        }
        match header.kind {
            BatchKind::Records => {
                let Some(count) = give_out(&header, bytes, &mut self.observer) else { return false };
                self.out.records += u64::from(count);
            }
            BatchKind::Footer | BatchKind::Index => self.observer.batch(&header, bytes, true),
            BatchKind::Seal => {
                let Some(seal) = seal_of(&header, bytes) else { return false };
                self.observer.batch(&header, bytes, true);
                let sound = seal.footer_offset <= walk.at && seal.footer_offset >= walk.one.block;
                walk.footer_offset = Some(if sound { seal.footer_offset } else { walk.at });
            }
        }
        walk.at += header.length;
        walk.expected = header.number.next();
        true
    }

    /// Steps over bad bytes that were synced once; `false` if they were not: then the log ends here.
    fn skip_damage(&mut self, walk: &mut Walk<'_>) -> bool {
        if self.proven(walk) < walk.expected {
            self.cut(walk);
            return false;
        }
        let next = self.next_sound(walk);
        let end = next.map_or(walk.limit, |header| header.offset);
        let next_number = next.map_or_else(|| self.proven(walk).next(), |header| header.number);
        let batches_end = salvage(
            &mut self.window,
            &mut self.out,
            &mut self.observer,
            walk.one.segment,
            walk.at..end,
            walk.expected..next_number,
        );
        // Nothing need lie behind the last batch: only the next one says how far it is.
        let at = if next.is_some() { end } else { batches_end };
        (walk.at, walk.expected) = (at, next_number);
        true
    }

    /// The next batch from here on whose header holds and whose number can be, other than the bad one at hand.
    fn next_sound(&mut self, walk: &Walk<'_>) -> Option<BatchHeader> {
        let block = walk.one.block;
        let mut at = walk.at;
        while at + block <= walk.limit {
            let header =
                self.window.header(at, walk.limit).filter(|header| header.length.is_multiple_of(block));
            match header {
                Some(header) if at == walk.at && header.number == walk.expected => at += header.length,
                Some(header) if header.number > walk.expected => return Some(header),
                _ => at += block,
            }
        }
        None
    }

    /// The last batch known to be synced: by the next segment, or by any batch still to come in this one.
    fn proven(&mut self, walk: &mut Walk<'_>) -> BatchNumber {
        if let Some(last) = walk.one.last_batch {
            return last;
        }
        if let Some(ahead) = walk.ahead {
            return ahead.proven;
        }
        let ahead = look_ahead(&mut self.window, walk.at, walk.limit, walk.one.block);
        walk.ahead = Some(ahead);
        ahead.proven
    }

    fn cut(&mut self, walk: &Walk<'_>) {
        let Some(to) = walk.ahead.and_then(|ahead| ahead.dirty_end).filter(|to| *to > walk.at) else {
            return;
        };
        self.out.cut = Some(Cut { segment: walk.one.segment, from: walk.at, to, first_batch: walk.expected });
    }

    /// Compares a segment's end with what the next one says of it.
    fn settle(&mut self, walk: &mut Walk<'_>) {
        let Some(last) = walk.one.last_batch else { return };
        if walk.expected <= last {
            let (segment, to) = (walk.one.segment, walk.limit.max(walk.at));
            note_gone(&mut self.out, &mut self.observer, segment, walk.at..to, walk.expected..last.next());
            walk.expected = last.next();
        }
        if let Some(bound) = walk.one.bound {
            walk.at = bound.end.offset.min(walk.limit);
        }
    }

    fn note_unreadable(&mut self, segment: u32, open_end: Option<u32>) {
        let unreadable = core::mem::take(&mut self.window.unreadable);
        for stretch in unreadable.chunk_by(|one, next| *next == *one + BLOCK_BYTES_MIN) {
            let (from, to) = (stretch[0], stretch[stretch.len() - 1] + BLOCK_BYTES_MIN);
            self.out.note(Damage::new(DamageKind::Unreadable, segment, from, to));
            if open_end.is_some_and(|end| to > end) {
                self.out.lose(Loss { segment, from, to, record: None });
            }
        }
    }
}

/// Reports bytes of batches of which nothing is left.
pub(crate) fn note_gone(
    out: &mut Recovered,
    observer: &mut impl Observe,
    segment: u32,
    range: Range<u32>,
    numbers: Range<BatchNumber>,
) {
    let (first, last) = (numbers.start, BatchNumber(numbers.end.0 - 1));
    let (from, to) = (range.start, range.end);
    out.note(Damage::new(DamageKind::Batches { first, last }, segment, from, to));
    out.lose(Loss { segment, from, to, record: None });
    observer.gone(range, numbers);
    observer.lost(&Lost { segment, from, to, what: LostWhat::Batches { first, last } });
}

/// Gives out the records of a batch that holds, and says how many; `None`, and nothing given, if they do not fill it exactly.
pub(crate) fn give_out(header: &BatchHeader, bytes: &[u8], observer: &mut impl Observe) -> Option<u32> {
    let records = || BatchRecords::new(header, bytes);
    let (count, end) = records()
        .fold((0_u32, BATCH_HEADER_BYTES), |(count, end), record| (count + 1, end + record.stored_len()));
    if count != header.count || end != header.used as usize {
        return None;
    }
    observer.batch(header, bytes, true);
    let mut given = 0;
    for record in records() {
        if record.is_lost() {
            observer.lost(&given_up(&record));
        } else {
            given += 1;
            observer.record(&record, true);
        }
    }
    Some(given)
}

/// A record that a repair gave up, as a place where something is lost.
pub(crate) fn given_up(record: &RecordView<'_>) -> Lost {
    let Location { segment, offset } = record.location;
    let what = LostWhat::GivenUp(remnant_of(record));
    Lost { segment, from: offset, to: offset + record.stored_len() as u32, what }
}

/// The records of a batch one after another, as far as their lengths lead.
pub(crate) struct BatchRecords<'a> {
    bytes: &'a [u8],
    segment: u32,
    offset: u32,
}

impl<'a> BatchRecords<'a> {
    pub(crate) fn new(header: &BatchHeader, bytes: &'a [u8]) -> Self {
        Self {
            bytes: &bytes[BATCH_HEADER_BYTES..header.used as usize],
            segment: header.segment,
            offset: header.offset + BATCH_HEADER_BYTES as u32,
        }
    }
}

impl<'a> Iterator for BatchRecords<'a> {
    type Item = RecordView<'a>;

    fn next(&mut self) -> Option<RecordView<'a>> {
        let record = parse(self.bytes, Location::new(self.segment, self.offset))?;
        let stored = record.stored_len();
        self.bytes = &self.bytes[stored..];
        self.offset += stored as u32;
        Some(record)
    }
}
