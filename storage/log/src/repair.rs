//! Writing a damaged segment anew (docs/decisions/0013-a-repair-keeps-every-location.md): every record that holds stays
//! where it was, and what is lost becomes records that nobody is given.
//!
//! The result is a rewritten segment: it knows its own end, so nothing that was cut comes back. Every batch keeps its
//! offset, its length and its number; those of which nothing is left are made again with lost records only.

use crate::batch::{BatchHeader, BatchKind, Guard};
use crate::descriptor::{
    BATCH_HEADER_BYTES, BATCH_TRAILER_BYTES, FOOTER_ENTRY_BYTES, RECORD_ALIGN, RECORD_HEADER_BYTES,
    SEAL_BYTES, TABLE_ENTRY_BYTES,
};
use crate::footer::{FooterEntry, Seal};
use crate::index::IndexPlace;
use crate::judge::{JudgedSegment, SegmentState};
use crate::limits::{BATCH_BYTES_MAX, RECORD_BYTES_MAX};
use crate::medium::Medium;
use crate::record::{Links, Placement, RecordHead, RecordState, RecordView, write_header};
use crate::recover::Recovered;
use crate::replay::{BatchRecords, Replay};
use crate::rewrite::{Packer, RewriteSink};
use crate::salvage::{remnant, stretches, whole_record};
use crate::segment::Rewritten;
use crate::survey::{Surveyed, Usage};
use crate::window::Window;
use crate::witness::{Observe, Remnant};
use core::fmt;
use core::ops::Range;
use std::collections::BTreeMap;
use tidegate_ids::{BatchNumber, Location, StreamId, WallMs};

/// What a repaired segment holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Records kept, holes of retention among them.
    pub kept: u64,
    /// Bytes of the new file.
    pub file_bytes: u64,
}

/// Why a segment cannot be written anew. What it was before is untouched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepairError<E> {
    /// Its batches do not follow each other, though their checksums hold. Recovered from a backup.
    Inconsistent(Location),
    /// The sink refused.
    Sink(E),
}

/// Writes a segment anew to `sink`, with other links for the records that `relinks` names.
///
/// # Errors
/// See [`RepairError`]; what was written is worth nothing.
pub fn repair<M: Medium, S: RewriteSink>(
    medium: &mut M,
    segment: &JudgedSegment,
    relinks: &BTreeMap<Location, Links>,
    sink: &mut S,
) -> Result<Repaired, RepairError<S::Error>> {
    let JudgedSegment { header, end, held, state } = *segment;
    let guard = Guard::new(&header.identity.directory);
    let mut packer = Packer::new(sink, end.end.offset);
    packer.push_zeroes(header.block_bytes as usize).map_err(RepairError::Sink)?;
    let rebuild = Rebuild {
        packer,
        guard,
        relinks,
        segment: header.segment,
        block: header.block_bytes,
        first_number: header.previous.batch.next(),
        at: header.block_bytes,
        number: header.previous.batch.next(),
        failed: None,
        footer: Vec::new(),
        index: Index::default(),
        tally: Tally { oldest_live: WallMs(u64::MAX), ..Tally::default() },
        made: Vec::new(),
    };
    let one = Surveyed {
        segment: header.segment,
        header: Some(header),
        bytes: header.segment_bytes.max(held.end.offset),
        block: header.block_bytes,
        usage: Usage::Used,
        bound: Some(held),
        last_batch: Some(held.batch),
        first_batch: None,
        is_refused: false,
    };
    let mut replay = Replay::new(Window::new(medium, guard), rebuild, Recovered::default());
    if state != SegmentState::Missing {
        replay.segment(&one);
    }
    let mut rebuild = replay.into_observer();
    if held != end {
        rebuild.gone(held.end.offset..end.end.offset, held.batch.next()..end.batch.next());
    }
    rebuild.give_up_footer();
    if let Some(error) = rebuild.failed {
        return Err(error);
    }
    if rebuild.at != end.end.offset || rebuild.number != end.batch.next() {
        return Err(RepairError::Inconsistent(Location::new(header.segment, rebuild.at)));
    }
    let known = Rewritten {
        end: end.end.offset,
        last_batch: end.batch,
        file_bytes: 0,
        oldest_live: rebuild.tally.oldest_live,
        holes: u32::try_from(rebuild.tally.holes).unwrap_or(u32::MAX),
        table_checksum: 0,
        // The footer counts what is left of each stream, which may have gaps.
        is_gapless: false,
        // It also leads to what is lost. Where the next segment's header says that it lies, a reader finds that out.
        index: IndexPlace::default(),
    };
    let kept = rebuild.tally.kept;
    let file_bytes = rebuild.packer.finish(header, known).map_err(RepairError::Sink)?;
    Ok(Repaired { kept, file_bytes })
}

/// The streams of the segment, for its footer.
#[derive(Debug, Default)]
struct Index {
    places: BTreeMap<StreamId, usize>,
    entries: Vec<FooterEntry>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    kept: u64,
    /// Records without a body, lost ones included.
    holes: u64,
    oldest_live: WallMs,
}

/// A segment while it is made again, piece by piece as recovery meets them.
struct Rebuild<'s, S: RewriteSink> {
    packer: Packer<'s, S>,
    guard: Guard,
    relinks: &'s BTreeMap<Location, Links>,
    segment: u32,
    block: u32,
    first_number: BatchNumber,
    /// Where the next piece goes, and the number of its first batch.
    at: u32,
    number: BatchNumber,
    failed: Option<RepairError<S::Error>>,
    /// Footer batches that wait for the seal: their content depends on what was kept.
    footer: Vec<BatchHeader>,
    index: Index,
    tally: Tally,
    /// The batch being made.
    made: Vec<u8>,
}

impl<S: RewriteSink> Observe for Rebuild<'_, S> {
    fn record(&mut self, record: &RecordView<'_>, _has_links: bool) {
        self.tally.kept += 1;
        if record.is_hole() {
            self.tally.holes += 1;
        } else {
            self.tally.oldest_live = self.tally.oldest_live.min(record.head.time);
        }
        self.index.note(record);
    }

    fn batch(&mut self, header: &BatchHeader, bytes: &[u8], is_whole: bool) {
        if !self.follows(header.offset, header.number) {
            return;
        }
        (self.at, self.number) = (header.end() as u32, header.number.next());
        match header.kind {
            BatchKind::Footer => self.footer.push(*header),
            BatchKind::Seal => {
                self.footer.push(*header);
                self.write_footer();
            }
            BatchKind::Index => {
                self.give_up_footer();
                if is_whole { self.push(bytes) } else { self.push_empty(header) }
            }
            BatchKind::Records => {
                self.give_up_footer();
                if is_whole { self.take_whole(header, bytes) } else { self.take_damaged(header, bytes) }
            }
        }
    }

    fn gone(&mut self, range: Range<u32>, numbers: Range<BatchNumber>) {
        if !self.follows(range.start, numbers.start) {
            return;
        }
        self.give_up_footer();
        let (bytes, mut left) = (range.end - range.start, numbers.end.0 - numbers.start.0);
        let block = self.block;
        if u64::from(bytes / block) < left || u64::from(bytes.div_ceil(BATCH_BYTES_MAX)) > left {
            self.fail(RepairError::Inconsistent(Location::new(self.segment, range.start)));
            return;
        }
        let mut number = numbers.start;
        while left > 0 {
            left -= 1;
            // Every batch to come needs a block, and the last one takes the rest.
            let room = range.end - self.at - left as u32 * block;
            let length = room.min(BATCH_BYTES_MAX);
            self.push_lost_batch(number, self.at, length);
            self.at += length;
            number = number.next();
        }
        self.number = number;
        if self.at != range.end {
            self.fail(RepairError::Inconsistent(Location::new(self.segment, self.at)));
        }
    }
}

impl<S: RewriteSink> Rebuild<'_, S> {
    fn fail(&mut self, error: RepairError<S::Error>) {
        self.failed.get_or_insert(error);
    }

    fn follows(&mut self, at: u32, number: BatchNumber) -> bool {
        if self.failed.is_none() && (at != self.at || number != self.number) {
            self.fail(RepairError::Inconsistent(Location::new(self.segment, at)));
        }
        self.failed.is_none()
    }

    fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_none()
            && let Err(error) = self.packer.push(bytes)
        {
            self.fail(RepairError::Sink(error));
        }
    }

    fn take_whole(&mut self, header: &BatchHeader, bytes: &[u8]) {
        let (from, to) =
            (Location::new(self.segment, header.offset), Location::new(self.segment, header.end() as u32));
        let lost = BatchRecords::new(header, bytes).filter(RecordView::is_lost).count();
        self.tally.holes += lost as u64;
        if self.relinks.range(from..to).next().is_none() {
            return self.push(bytes);
        }
        let mut made = core::mem::take(&mut self.made);
        made.clear();
        made.extend_from_slice(bytes);
        for record in BatchRecords::new(header, bytes) {
            if let Some(links) = self.relinks.get(&record.location) {
                let placement = Placement { prev: links.prev, jump: links.jump, ..record.placement };
                put_header(&mut made, header, record.location, &placement, &record.head);
            }
        }
        header.finish(&mut made, self.guard);
        self.push(&made);
        self.made = made;
    }

    fn take_damaged(&mut self, header: &BatchHeader, bytes: &[u8]) {
        let stretches = stretches(header, bytes);
        let is_regular = |stretch: &Range<usize>| {
            stretch.len() >= RECORD_HEADER_BYTES && stretch.len().is_multiple_of(RECORD_ALIGN)
        };
        if !stretches.iter().all(is_regular) {
            // Lengths that no appender wrote under a sound checksum: nothing of it is believed.
            return self.push_lost_batch(header.number, header.offset, header.length);
        }
        let mut made = core::mem::take(&mut self.made);
        made.clear();
        made.resize(header.length as usize, 0);
        let mut starts = Vec::new();
        for stretch in stretches {
            let location = Location::new(self.segment, header.offset + stretch.start as u32);
            let from = &bytes[stretch.clone()];
            let relinked = self.relinks.get(&location).copied();
            match whole_record(from, location) {
                Some((record, _)) => {
                    starts.push(stretch.start);
                    self.tally.holes += u64::from(record.is_lost());
                    made[stretch].copy_from_slice(from);
                    let Links { prev, jump } = relinked.unwrap_or_else(|| links_of(&record));
                    let placement = Placement { prev, jump, ..record.placement };
                    put_header(&mut made, header, location, &placement, &record.head);
                }
                None => {
                    let left = Remnant { links: relinked.or(remnant(from).links), ..remnant(from) };
                    self.tally.holes += put_lost(&mut made, stretch, left, &mut starts);
                }
            }
        }
        self.finish_records(*header, made, &starts);
    }

    /// A batch in which nothing is left.
    fn push_lost_batch(&mut self, number: BatchNumber, offset: u32, length: u32) {
        let header = BatchHeader {
            number,
            synced_through: BatchNumber(number.0 - 1),
            segment: self.segment,
            offset,
            length,
            used: BATCH_HEADER_BYTES as u32,
            count: 0,
            payload_checksum: 0,
            table_checksum: 0,
            kind: BatchKind::Records,
            index: (number.0 - self.first_number.0) as u32,
        };
        let mut made = core::mem::take(&mut self.made);
        made.clear();
        made.resize(length as usize, 0);
        let room = length as usize - BATCH_HEADER_BYTES - BATCH_TRAILER_BYTES;
        let records = room.div_ceil(RECORD_BYTES_MAX);
        let space = (room - records * TABLE_ENTRY_BYTES) & !(RECORD_ALIGN - 1);
        let mut starts = Vec::new();
        let stretch = BATCH_HEADER_BYTES..BATCH_HEADER_BYTES + space;
        self.tally.holes += put_lost(&mut made, stretch, Remnant::default(), &mut starts);
        let used = (BATCH_HEADER_BYTES + space) as u32;
        self.finish_records(BatchHeader { used, ..header }, made, &starts);
    }

    /// The table of offsets, the checksums, and out.
    fn finish_records(&mut self, header: BatchHeader, mut made: Vec<u8>, starts: &[usize]) {
        let header = BatchHeader { count: starts.len() as u32, ..header };
        let table = header.table_range();
        if table.end + BATCH_TRAILER_BYTES > made.len() {
            return self.fail(RepairError::Inconsistent(Location::new(self.segment, header.offset)));
        }
        for (entry, start) in made[table].chunks_exact_mut(TABLE_ENTRY_BYTES).zip(starts) {
            entry.copy_from_slice(&(*start as u32).to_le_bytes());
        }
        header.finish(&mut made, self.guard);
        self.push(&made);
        self.made = made;
    }

    /// A part of an index, which says nothing any more.
    fn push_empty(&mut self, header: &BatchHeader) {
        let mut made = core::mem::take(&mut self.made);
        made.clear();
        made.resize(header.length as usize, 0);
        BatchHeader { used: BATCH_HEADER_BYTES as u32, count: 0, ..*header }.finish(&mut made, self.guard);
        self.push(&made);
        self.made = made;
    }

    /// Footer batches that no seal follows say nothing.
    fn give_up_footer(&mut self) {
        for header in core::mem::take(&mut self.footer) {
            self.push_lost_batch(header.number, header.offset, header.length);
        }
    }

    /// The footer again, of what was kept, in as many batches of the same lengths.
    fn write_footer(&mut self) {
        let slots = core::mem::take(&mut self.footer);
        let entries = core::mem::take(&mut self.index.entries);
        let room: usize = slots.iter().map(entries_max).sum();
        if room < entries.len() {
            self.footer = slots;
            return self.give_up_footer();
        }
        let seal = Seal {
            records: entries.iter().map(|entry| u64::from(entry.count)).sum(),
            streams: entries.len() as u32,
            footer_offset: slots.first().map_or(0, |first| first.offset),
            footer_batches: slots.len() as u32,
            index: IndexPlace::default(),
        };
        let mut left = &entries[..];
        for slot in slots {
            let (now, later) = left.split_at(left.len().min(entries_max(&slot)));
            left = later;
            let mut made = core::mem::take(&mut self.made);
            made.clear();
            made.resize(BATCH_HEADER_BYTES, 0);
            if slot.kind == BatchKind::Seal {
                made.extend_from_slice(&seal.encode());
            }
            now.iter().for_each(|entry| made.extend_from_slice(&entry.encode()));
            let header = BatchHeader { used: made.len() as u32, count: now.len() as u32, ..slot };
            made.resize(slot.length as usize, 0);
            header.finish(&mut made, self.guard);
            self.push(&made);
            self.made = made;
        }
    }
}

/// Entries that a footer batch has room for.
const fn entries_max(slot: &BatchHeader) -> usize {
    let seal = if matches!(slot.kind, BatchKind::Seal) { SEAL_BYTES } else { 0 };
    (slot.length as usize).saturating_sub(BATCH_HEADER_BYTES + BATCH_TRAILER_BYTES + seal)
        / FOOTER_ENTRY_BYTES
}

const fn links_of(record: &RecordView<'_>) -> Links {
    Links { prev: record.placement.prev, jump: record.placement.jump }
}

fn put_header(made: &mut [u8], batch: &BatchHeader, at: Location, placement: &Placement, head: &RecordHead) {
    let start = (at.offset - batch.offset) as usize;
    if let Some(into) = made[start..].first_chunk_mut() {
        write_header(into, placement, head);
    }
}

/// Lost records over a stretch of a batch, as few as can be; says how many.
fn put_lost(made: &mut [u8], stretch: Range<usize>, left: Remnant, starts: &mut Vec<usize>) -> u64 {
    let (mut at, mut left, mut count) = (stretch.start, left, 0);
    while at < stretch.end {
        let rest = stretch.end - at;
        // What follows must have room for a header too.
        let length = match rest {
            rest if rest <= RECORD_BYTES_MAX => rest,
            rest if rest - RECORD_BYTES_MAX < RECORD_HEADER_BYTES => RECORD_BYTES_MAX - RECORD_HEADER_BYTES,
            _ => RECORD_BYTES_MAX,
        };
        let Remnant { head, links } = core::mem::take(&mut left);
        let Links { prev, jump } = links.unwrap_or_default();
        let placement = Placement { prev, jump, state: RecordState::Lost };
        let body_len = (length - RECORD_HEADER_BYTES) as u32;
        let head =
            head.filter(|_| length == rest).unwrap_or(RecordHead { body_len, ..RecordHead::default() });
        if let Some(into) = made[at..].first_chunk_mut() {
            write_header(into, &placement, &head);
        }
        starts.push(at);
        at += length;
        count += 1;
    }
    count
}

impl Index {
    fn note(&mut self, record: &RecordView<'_>) {
        let head = &record.head;
        let place = *self.places.entry(head.stream).or_insert_with(|| {
            self.entries.push(FooterEntry { stream: head.stream, ..FooterEntry::default() });
            self.entries.len() - 1
        });
        self.entries[place].take(head.sequence, record.location.offset);
    }
}

impl<E: fmt::Display> fmt::Display for RepairError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inconsistent(at) => write!(
                f,
                "the batches of segment {} do not follow each other at {}, though their checksums hold: put a backup back",
                at.segment, at.offset
            ),
            Self::Sink(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Display + fmt::Debug> core::error::Error for RepairError<E> {}
