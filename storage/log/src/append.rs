//! Appending: records go into the open batch in memory; somebody else writes the batches (DESIGN 5).
//!
//! The caller's loop: [`Appender::append`] as commands come; when no write is under way, [`Appender::take_batch`] and
//! write its bytes; when they are synced, [`Appender::synced`], and everything up to that batch may leave.

use crate::batch::{Guard, batch_len};
use crate::buffer::{BatchBytes, Buffer, BufferPool, OwnBuffer, buffer_cost};
use crate::checksum::crc32c;
use crate::descriptor::{BATCH_HEADER_BYTES, FORMAT_VERSION, RECORD_HEADER_BYTES};
use crate::footer::FooterPlan;
use crate::limits::{
    BATCH_BYTES_DEFAULT, BATCH_BYTES_MAX, BATCH_BYTES_MIN, BLOCK_BYTES_MAX, BLOCK_BYTES_MIN,
    RECORD_BYTES_MAX, SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SEGMENT_BYTES_PER_STREAM,
    SEGMENT_STREAMS_MAX, SPARE_SEGMENTS_MAX,
};
use crate::record::{
    Links, Placement, RecordHead, RecordState, RecordView, parse_checked, stored_len, write_header,
};
use crate::roll::PendingFooter;
use crate::segment::{LogIdentity, PreviousEnd, SegmentHeader};
use crate::staging::{Committed, Staged, Staging, write_table};
use crate::stream_index::{Slot, StreamIndex};
use core::fmt;
use std::collections::VecDeque;
use std::sync::Arc;
use tidegate_ids::{BatchNumber, CommandNumber, Location, Position, Sequence, StreamId, WallMs};

/// Sizes of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppenderConfig {
    /// Bytes of a segment, a multiple of the block.
    pub segment_bytes: u32,
    /// The device's logical block: 512 to 4096, a power of two.
    pub block_bytes: u32,
    /// Memory for batches that are open, in flight, or not yet passed by every cursor.
    pub staging_bytes: usize,
    /// The most that one write carries, a multiple of 4096.
    pub batch_bytes_max: u32,
}

/// Where a log goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppenderStart {
    /// Whose log.
    pub identity: LogIdentity,
    /// Where it validly ended, as [`crate::Recovered`] says; the default for a new log.
    pub previous: PreviousEnd,
}

/// Sizes that cannot be. The operator's fault: the node does not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// `block_bytes` is not 512, 1024, 2048 or 4096.
    Block,
    /// `batch_bytes_max` is out of bounds or no multiple of 4096.
    Batch,
    /// `segment_bytes` is out of bounds, no multiple of the block, or below two batches of the smallest size.
    Segment,
    /// `staging_bytes` is below four of the largest batches: one open, one in flight, two to be read.
    Staging,
}

/// Why a record was not taken; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// The segment is full and no spare is there: try again when [`Appender::add_segment`] was called.
    NoSegment,
    /// Staging is full: try again when a batch is synced and the cursors have moved on.
    StagingFull,
    /// The record never fits. The caller's fault.
    TooLarge,
}

/// A record to append.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewRecord<'a> {
    /// The stream.
    pub stream: StreamId,
    /// The place in the stream, 0 for none.
    pub sequence: Sequence,
    /// The stamp.
    pub time: WallMs,
    /// The kind, whose meaning is the domain's.
    pub kind: u16,
    /// Flags of the domain.
    pub flags: u8,
    /// The device's command number, 0 for none.
    pub number: CommandNumber,
    /// That device's record before this one in this stream.
    pub device_prev: Location,
    /// The links, from the stream's [`crate::Spine`] or, for queue records, `prev` alone.
    pub links: Links,
    /// The body, in parts that are stored one after another.
    pub body_parts: &'a [&'a [u8]],
}

/// A batch to write: all of `bytes` to `offset` of `segment`, then a sync, then [`Appender::synced`].
#[derive(Clone, Debug)]
pub struct StagedBatch {
    /// Its number.
    pub number: BatchNumber,
    /// The segment.
    pub segment: u32,
    /// Where in the segment, a multiple of the block.
    pub offset: u32,
    /// What to write, a multiple of the block, 4096-aligned in memory; valid and unmoved while a clone lives.
    pub bytes: BatchBytes,
    /// Whether the segment is sealed when this is synced, so that readers may map it.
    pub seals: bool,
}

/// Appends to one log.
#[derive(Debug)]
pub struct Appender {
    pub(crate) block: usize,
    segment_bytes: usize,
    batch_bytes_max: usize,
    record_bytes_max: usize,
    pub(crate) plan: FooterPlan,
    streams_max: usize,
    identity: LogIdentity,
    pub(crate) guard: Guard,
    pub(crate) previous: PreviousEnd,
    spares: VecDeque<u32>,
    pub(crate) segment: Option<OpenSegment>,
    open: Option<OpenBatch>,
    /// Where the open batch's records start, counted from the batch's start.
    offsets: Vec<u32>,
    /// The length of the last batch: what the next is likely to need.
    likely_bytes: usize,
    pub(crate) staging: Staging,
    pub(crate) footers: VecDeque<PendingFooter>,
    pub(crate) free_indexes: Vec<StreamIndex>,
    pub(crate) next_number: BatchNumber,
    pub(crate) last_synced: BatchNumber,
    appended_through: BatchNumber,
    appended_end: Position,
    in_flight: Option<InFlight>,
}

/// The segment being filled; it has at least one batch, open or closed.
#[derive(Debug)]
pub(crate) struct OpenSegment {
    pub(crate) number: u32,
    pub(crate) first_batch: BatchNumber,
    /// Where its next batch goes.
    pub(crate) next_offset: usize,
    pub(crate) index: StreamIndex,
    pub(crate) records: u64,
    /// Bytes that its footer will take.
    reserve: usize,
}

#[derive(Debug)]
struct OpenBatch {
    number: BatchNumber,
    segment: u32,
    base: usize,
    start: usize,
    used: usize,
    buffer: OwnBuffer,
}

#[derive(Debug)]
struct InFlight {
    number: BatchNumber,
    footer: Option<Arc<Buffer>>,
}

impl Default for AppenderConfig {
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            block_bytes: BLOCK_BYTES_MIN,
            staging_bytes: 16 * BATCH_BYTES_DEFAULT as usize,
            batch_bytes_max: BATCH_BYTES_DEFAULT,
        }
    }
}

impl AppenderConfig {
    /// Says what cannot be.
    ///
    /// # Errors
    /// The first size that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        let block = self.block_bytes;
        if !block.is_power_of_two() || !(BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&block) {
            return Err(ConfigError::Block);
        }
        let batch = self.batch_bytes_max;
        if !(BATCH_BYTES_MIN..=BATCH_BYTES_MAX).contains(&batch) || !batch.is_multiple_of(BATCH_BYTES_MIN) {
            return Err(ConfigError::Batch);
        }
        let segment = self.segment_bytes;
        let in_bounds = (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&segment);
        // A header, a batch of one block, a seal.
        if !in_bounds || !segment.is_multiple_of(block) || segment < 4 * block {
            return Err(ConfigError::Segment);
        }
        let needed = 4 * buffer_cost(batch as usize);
        if self.staging_bytes < needed { Err(ConfigError::Staging) } else { Ok(()) }
    }

    /// The largest record that always fits.
    fn record_bytes_max(&self, plan: &FooterPlan) -> usize {
        let block = self.block_bytes as usize;
        let fixed = block + batch_len(BATCH_HEADER_BYTES, 1, block);
        let of_batch = self.batch_bytes_max as usize - fixed;
        let of_segment = (self.segment_bytes as usize).saturating_sub(fixed + plan.total_bytes(1));
        RECORD_BYTES_MAX.min(of_batch).min(of_segment)
    }
}

impl Appender {
    /// An appender that goes on in a new segment.
    ///
    /// # Errors
    /// Sizes that cannot be.
    pub fn new(config: &AppenderConfig, start: AppenderStart) -> Result<Self, ConfigError> {
        config.check()?;
        let block = config.block_bytes as usize;
        let batch_bytes_max = config.batch_bytes_max as usize;
        let plan = FooterPlan::new(batch_bytes_max, block);
        let pool = BufferPool::new(config.staging_bytes, batch_bytes_max);
        let streams_max = (config.segment_bytes / SEGMENT_BYTES_PER_STREAM).min(SEGMENT_STREAMS_MAX);
        Ok(Self {
            block,
            segment_bytes: config.segment_bytes as usize,
            batch_bytes_max,
            record_bytes_max: config.record_bytes_max(&plan),
            plan,
            streams_max: streams_max as usize,
            identity: start.identity,
            guard: Guard::new(&start.identity.directory),
            previous: start.previous,
            spares: VecDeque::with_capacity(SPARE_SEGMENTS_MAX),
            segment: None,
            open: None,
            offsets: Vec::with_capacity(batch_bytes_max / RECORD_HEADER_BYTES),
            likely_bytes: 0,
            staging: Staging::new(pool, start.previous.end),
            footers: VecDeque::new(),
            free_indexes: Vec::new(),
            next_number: start.previous.batch.next(),
            last_synced: start.previous.batch,
            appended_through: start.previous.batch,
            appended_end: start.previous.end,
            in_flight: None,
        })
    }

    /// Hands over a segment that is zeroed, synced, and in its synced directory. Numbers rise.
    ///
    /// # Panics
    /// If the number does not rise, or [`SPARE_SEGMENTS_MAX`] are there already.
    pub fn add_segment(&mut self, segment: u32) {
        let newest = self.spares.back().copied().or(self.segment.as_ref().map(|open| open.number));
        let newest = newest.unwrap_or(self.previous.end.segment);
        assert!(segment > newest, "segment {segment} does not follow {newest}");
        assert!(segment < u32::MAX, "the last number is never a segment's");
        assert!(self.spares.len() < SPARE_SEGMENTS_MAX, "more spare segments than were ever asked for");
        self.spares.push_back(segment);
    }

    /// How many spare segments are left.
    #[must_use]
    pub fn spare_segments(&self) -> usize {
        self.spares.len()
    }

    /// Bytes of the largest body that [`Appender::append`] takes with these sizes.
    #[must_use]
    pub const fn body_bytes_max(&self) -> usize {
        self.record_bytes_max - RECORD_HEADER_BYTES
    }

    /// Appends a record to the open batch.
    ///
    /// # Errors
    /// See [`AppendError`]; nothing has changed then.
    pub fn append(&mut self, record: &NewRecord<'_>) -> Result<Location, AppendError> {
        let body_len: usize = record.body_parts.iter().map(|part| part.len()).sum();
        let stored = stored_len(body_len);
        if stored > self.record_bytes_max {
            return Err(AppendError::TooLarge);
        }
        let slot = self.make_room(&record.stream, stored)?;
        let (Some(open), Some(segment)) = (self.open.as_mut(), self.segment.as_mut()) else {
            unreachable!("make_room leaves a batch open")
        };
        let at = open.used;
        let bytes = &mut open.buffer.buffer.bytes_mut()[at..at + stored];
        let Some((header, body)) = bytes.split_first_chunk_mut::<RECORD_HEADER_BYTES>() else {
            unreachable!("a stored record is longer than its header")
        };
        let mut filled = 0;
        for part in record.body_parts {
            body[filled..filled + part.len()].copy_from_slice(part);
            filled += part.len();
        }
        body[filled..].fill(0);
        let placement =
            Placement { prev: record.links.prev, jump: record.links.jump, state: RecordState::Live };
        let head = RecordHead {
            stream: record.stream,
            sequence: record.sequence,
            time: record.time,
            number: record.number,
            device_prev: record.device_prev,
            body_len: body_len as u32,
            kind: record.kind,
            flags: record.flags,
            body_checksum: crc32c(&body[..filled]),
            ..RecordHead::default()
        };
        write_header(header, &placement, &head);

        let location = Location::new(open.segment, (open.base + at) as u32);
        open.used += stored;
        self.offsets.push((at - open.start) as u32);
        self.appended_through = open.number;
        self.appended_end = Position::new(open.segment, (open.base + open.used) as u32);
        segment.records += 1;
        segment.index.note(slot, record.stream, record.sequence, location.offset);
        if matches!(slot, Slot::Free(_)) {
            segment.reserve = self.plan.total_bytes(segment.index.len());
        }
        Ok(location)
    }

    /// The batch that holds the record appended last, while it is open; else the number the next batch gets (a roll
    /// in between takes numbers for the footer). What was decided with everything appended so far may leave with
    /// [`Appender::appended_through`].
    #[must_use]
    pub fn open_batch(&self) -> BatchNumber {
        self.open.as_ref().map_or(self.next_number, |open| open.number)
    }

    /// The batch whose sync commits everything appended so far; not above [`Appender::last_synced`] if nothing is pending.
    #[must_use]
    pub const fn appended_through(&self) -> BatchNumber {
        self.appended_through
    }

    /// Whether [`Appender::take_batch`] would give something.
    #[must_use]
    pub fn has_batch(&self) -> bool {
        self.in_flight.is_none()
            && (self.open.is_some() || self.staging.next_to_take().is_some() || !self.footers.is_empty())
    }

    /// The next batch to write; `None` while one is in flight or nothing was appended. Closes the open batch if no
    /// other waits. When a segment is full, its footer and seal come out before the first batch of the next.
    pub fn take_batch(&mut self) -> Option<StagedBatch> {
        if self.in_flight.is_some() {
            return None;
        }
        let footer = self.footers.front().map(PendingFooter::next_number);
        if footer.is_none() && self.staging.next_to_take().is_none() {
            self.close_batch();
        }
        let staged = self.staging.next_to_take();
        let takes_footer = footer.is_some_and(|footer| staged.is_none_or(|staged| footer < staged));
        if takes_footer {
            let (batch, buffer) = self.take_footer()?;
            self.in_flight = Some(InFlight { number: batch.number, footer: Some(buffer) });
            return Some(batch);
        }
        let staged = self.staging.take(self.last_synced, self.guard)?;
        let batch = StagedBatch {
            number: staged.number,
            segment: staged.segment,
            offset: staged.base,
            bytes: BatchBytes::new(&staged.buffer, staged.len as usize),
            seals: false,
        };
        self.in_flight = Some(InFlight { number: batch.number, footer: None });
        Some(batch)
    }

    /// The batch in flight is on the device.
    ///
    /// # Panics
    /// If `number` is not in flight: going on would acknowledge what is not durable.
    pub fn synced(&mut self, number: BatchNumber) {
        let Some(flown) = self.in_flight.take() else {
            panic!("batch {number} synced, but none is in flight")
        };
        assert_eq!(flown.number, number, "another batch is in flight");
        assert!(number > self.last_synced);
        self.last_synced = number;
        match flown.footer {
            Some(buffer) => self.staging.pool.give(buffer),
            None => self.staging.commit(),
        }
    }

    /// The last batch that is durable, with everything before it.
    #[must_use]
    pub const fn last_synced(&self) -> BatchNumber {
        self.last_synced
    }

    /// Every record before this is durable. A cursor at or beyond it has nothing left to read.
    #[must_use]
    pub const fn committed_end(&self) -> Position {
        self.staging.committed_end()
    }

    /// The end of the last record appended.
    #[must_use]
    pub const fn appended_end(&self) -> Position {
        self.appended_end
    }

    /// Every record from here on is in memory; a cursor before it must read segments.
    #[must_use]
    pub const fn staging_start(&self) -> Position {
        self.staging.released_end()
    }

    /// Bytes of memory that batches have, in use or free for reuse; never above `staging_bytes` but for a footer.
    #[must_use]
    pub const fn staging_allocated(&self) -> usize {
        self.staging.pool.allocated()
    }

    /// The record at `location`, durable or not, if it is in memory.
    #[must_use]
    pub fn read(&self, location: Location) -> Option<RecordView<'_>> {
        let Some(open) = self
            .open
            .as_ref()
            .filter(|open| open.segment == location.segment && location.offset as usize >= open.base)
        else {
            return self.staging.read(location);
        };
        let at = location.offset as usize - open.base;
        self.offsets.binary_search(&(at.checked_sub(open.start)? as u32)).ok()?;
        parse_checked(&open.buffer.buffer.bytes()[at..open.used], location).ok()
    }

    /// The durable records in memory at `from` and after, in order. Cursors are positions, as many as one likes.
    ///
    /// # Panics
    /// If `from` is before [`Appender::staging_start`]: records would be skipped in silence.
    #[must_use]
    pub fn committed(&self, from: Position) -> Committed<'_> {
        assert!(
            from >= self.staging_start(),
            "records from {from} to {} are no longer here",
            self.staging_start()
        );
        self.staging.committed(from)
    }

    /// The first durable record in memory at `from` or after.
    #[must_use]
    pub fn committed_after(&self, from: Position) -> Option<RecordView<'_>> {
        self.committed(from).next()
    }

    /// All cursors have passed `position`: the memory of committed batches before it is reused.
    pub fn release(&mut self, position: Position) {
        self.staging.release(position);
    }

    /// Ends the segment, as a clean stop does: take and sync batches until there are none. A later append opens another.
    pub fn seal(&mut self) {
        self.close_batch();
        self.finish_segment();
    }

    /// Makes sure that a record fits behind the open batch's last one, closing batch or segment where it does not.
    #[inline]
    fn make_room(&mut self, stream: &StreamId, stored: usize) -> Result<Slot, AppendError> {
        if let Some(segment) = &self.segment {
            let slot = segment.index.find(stream);
            let is_new = matches!(slot, Slot::Free(_));
            let index_full = is_new && segment.index.is_full();
            let reserve =
                if is_new { self.plan.total_bytes(segment.index.len() + 1) } else { segment.reserve };
            if !index_full && self.fits_open(stored, reserve)? {
                return Ok(slot);
            }
            if !index_full && self.fits_segment(stored, reserve) {
                self.close_batch();
                self.open_next_batch(stored)?;
                return Ok(slot);
            }
            if self.spares.is_empty() {
                return Err(AppendError::NoSegment);
            }
            self.close_batch();
            self.finish_segment();
        }
        self.open_next_batch(stored)?;
        let Some(segment) = &self.segment else { unreachable!("a batch is open only in a segment") };
        Ok(segment.index.find(stream))
    }

    /// Whether a batch of its own for the record fits in the segment, behind the open batch.
    fn fits_segment(&self, stored: usize, reserve: usize) -> bool {
        let Some(segment) = &self.segment else { return false };
        let offset = self.open.as_ref().map_or(segment.next_offset, |open| {
            open.base + open.start + batch_len(open.used - open.start, self.offsets.len(), self.block)
        });
        offset + batch_len(BATCH_HEADER_BYTES + stored, 1, self.block) + reserve <= self.segment_bytes
    }

    /// Whether the record fits in the open batch, growing its buffer if the pool allows.
    fn fits_open(&mut self, stored: usize, reserve: usize) -> Result<bool, AppendError> {
        let Some(open) = self.open.as_mut() else { return Ok(false) };
        let length = batch_len(open.used - open.start + stored, self.offsets.len() + 1, self.block);
        let end = open.start + length;
        if end > self.batch_bytes_max || open.base + end + reserve > self.segment_bytes {
            return Ok(false);
        }
        if end > open.buffer.buffer.capacity() {
            let Some(mut larger) = self.staging.pool.take(end) else { return Err(AppendError::StagingFull) };
            larger.buffer.bytes_mut()[..open.used].copy_from_slice(&open.buffer.buffer.bytes()[..open.used]);
            let smaller = core::mem::replace(&mut open.buffer, larger);
            self.staging.pool.give(smaller.share());
        }
        Ok(true)
    }

    /// Opens a batch behind the last one, in a new segment if there is none.
    fn open_next_batch(&mut self, stored: usize) -> Result<(), AppendError> {
        debug_assert!(self.open.is_none());
        if self.segment.is_none() && self.spares.is_empty() {
            return Err(AppendError::NoSegment);
        }
        let start = if self.segment.is_none() { self.block } else { 0 };
        let needed = start + batch_len(BATCH_HEADER_BYTES + stored, 1, self.block);
        let pool = &mut self.staging.pool;
        let buffer = pool.take(needed.max(self.likely_bytes)).or_else(|| pool.take(needed));
        let mut buffer = buffer.ok_or(AppendError::StagingFull)?;
        if self.segment.is_none() {
            self.open_segment(&mut buffer.buffer.bytes_mut()[..start]);
        }
        let Some(segment) = &self.segment else { unreachable!("a segment was just opened") };
        self.open = Some(OpenBatch {
            number: self.next_number,
            segment: segment.number,
            base: segment.next_offset,
            start,
            used: start + BATCH_HEADER_BYTES,
            buffer,
        });
        self.next_number = self.next_number.next();
        self.offsets.clear();
        Ok(())
    }

    fn open_segment(&mut self, header_block: &mut [u8]) {
        let Some(number) = self.spares.pop_front() else { unreachable!("the caller has looked for a spare") };
        let header = SegmentHeader {
            identity: self.identity,
            segment: number,
            segment_bytes: self.segment_bytes as u32,
            block_bytes: self.block as u32,
            format_version: FORMAT_VERSION,
            encoding: 0,
            previous: self.previous,
        };
        header.encode(header_block);
        let index = self.free_indexes.pop().unwrap_or_else(|| StreamIndex::new(self.streams_max));
        let reserve = self.plan.total_bytes(0);
        self.segment = Some(OpenSegment {
            number,
            first_batch: self.next_number,
            next_offset: 0,
            index,
            records: 0,
            reserve,
        });
    }

    /// Closes the open batch, if any, for taking.
    fn close_batch(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        let Some(segment) = self.segment.as_mut() else { unreachable!("a batch is open only in a segment") };
        debug_assert!(!self.offsets.is_empty());
        let bytes = open.buffer.buffer.bytes_mut();
        let len = write_table(bytes, open.start, open.used, &self.offsets, self.block);
        segment.next_offset = open.base + len;
        self.likely_bytes = len;
        self.appended_end = Position::new(open.segment, segment.next_offset as u32);
        self.staging.push(Staged {
            number: open.number,
            index: (open.number.0 - segment.first_batch.0) as u32,
            segment: open.segment,
            base: open.base as u32,
            start: open.start as u32,
            used: open.used as u32,
            len: len as u32,
            count: self.offsets.len() as u32,
            buffer: open.buffer.share(),
        });
    }
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSegment => "no spare segment is ready",
            Self::StagingFull => "the staging memory is full",
            Self::TooLarge => "the record is larger than any batch",
        })
    }
}

impl core::error::Error for AppendError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Block => "block_bytes must be 512, 1024, 2048 or 4096",
            Self::Batch => "batch_bytes_max must be a multiple of 4096 between 4 KiB and 8 MiB",
            Self::Segment => "segment_bytes must be a multiple of the block between 8 KiB and 1 GiB",
            Self::Staging => "staging_bytes must hold four of the largest batches",
        })
    }
}

impl core::error::Error for ConfigError {}
