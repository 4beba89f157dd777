//! Appending: records go into the open batch in memory; somebody else writes the batches (DESIGN 5).
//!
//! The caller's loop: [`Appender::append`] as commands come; when no write is under way, [`Appender::take_batch`] and
//! write its bytes; when they are synced, [`Appender::synced`], and everything up to that batch may leave.

use crate::batch::Guard;
use crate::buffer::{BatchBytes, Buffer, BufferPool, OwnBuffer};
use crate::checksum::crc32c;
use crate::config::{AppenderConfig, AppenderStart, ConfigError};
use crate::descriptor::RECORD_HEADER_BYTES;
use crate::index::{IndexPlace, Lead};
use crate::limits::{SEGMENT_BYTES_PER_STREAM, SEGMENT_STREAMS_MAX, SPARE_SEGMENTS_MAX};
use crate::record::{
    Links, Placement, RecordHead, RecordState, RecordView, parse_checked, stored_len, write_header,
};
use crate::roll::{EndingPlan, PendingFooter};
use crate::segment::{LogIdentity, PreviousEnd};
use crate::staging::{Committed, Staging};
use crate::stream_index::{Slot, StreamIndex};
use core::fmt;
use std::collections::VecDeque;
use std::sync::Arc;
use tidegate_ids::{BatchNumber, CommandNumber, Location, Position, Sequence, StreamId, WallMs};

/// Why a record was not taken; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// The segment is full and no spare is there: try again when [`Appender::add_segment`] was called.
    NoSegment,
    /// Staging is full: try again when a batch is synced and the cursors have moved on.
    StagingFull,
    /// The record never fits. The caller's fault.
    TooLarge,
    /// A write or a sync has failed ([`Appender::fail`]): nothing is taken until the next start.
    Failed,
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
    /// Where the segment's index lies, if this seals one that has an index: readers find records by it.
    pub index: IndexPlace,
}

/// Appends to one log.
#[derive(Debug)]
pub struct Appender {
    pub(crate) block: usize,
    pub(crate) segment_bytes: usize,
    pub(crate) batch_bytes_max: usize,
    pub(crate) record_bytes_max: usize,
    pub(crate) plan: EndingPlan,
    pub(crate) streams_max: usize,
    pub(crate) identity: LogIdentity,
    pub(crate) guard: Guard,
    pub(crate) previous: PreviousEnd,
    pub(crate) previous_index: IndexPlace,
    pub(crate) spares: VecDeque<u32>,
    pub(crate) segment: Option<OpenSegment>,
    pub(crate) open: Option<OpenBatch>,
    /// Where the open batch's records start, counted from the batch's start.
    pub(crate) offsets: Vec<u32>,
    /// The length of the last batch: what the next is likely to need.
    pub(crate) likely_bytes: usize,
    pub(crate) staging: Staging,
    pub(crate) footers: VecDeque<PendingFooter>,
    pub(crate) free_indexes: Vec<StreamIndex>,
    pub(crate) next_number: BatchNumber,
    pub(crate) last_synced: BatchNumber,
    pub(crate) appended_through: BatchNumber,
    pub(crate) appended_end: Position,
    in_flight: Option<InFlight>,
    has_failed: bool,
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
    /// Bytes that its index and its footer will take at most, with entries of the index of `reserved_index` bytes.
    pub(crate) reserve: usize,
    pub(crate) reserved_index: usize,
}

#[derive(Debug)]
pub(crate) struct OpenBatch {
    pub(crate) number: BatchNumber,
    pub(crate) segment: u32,
    pub(crate) base: usize,
    pub(crate) start: usize,
    pub(crate) used: usize,
    pub(crate) buffer: OwnBuffer,
}

#[derive(Debug)]
struct InFlight {
    number: BatchNumber,
    footer: Option<Arc<Buffer>>,
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
        let plan = EndingPlan::new(config);
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
            previous_index: IndexPlace::default(),
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
            has_failed: false,
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
        if self.has_failed {
            return Err(AppendError::Failed);
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
        segment.index.note(slot, record.stream, record.sequence, location, record.links.prev);
        if matches!(slot, Slot::Free(_)) || segment.index.index_bytes() > segment.reserved_index {
            segment.reserved_index = self.plan.index_room(segment.index.index_bytes());
            segment.reserve = self.plan.bytes(segment.index.len(), segment.reserved_index);
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
            index: IndexPlace::default(),
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

    /// The batch in flight could not be written or synced, so nobody knows what of it is on the device: everything that is
    /// not committed is forgotten here, and nothing is appended or written until the next start has looked at the device.
    /// What is committed stays readable.
    pub fn fail(&mut self) {
        self.has_failed = true;
        self.in_flight = None;
        self.open = None;
        self.offsets.clear();
        self.footers.clear();
        self.staging.forget_uncommitted();
        self.appended_through = self.last_synced;
        self.appended_end = self.staging.committed_end();
        debug_assert!(!self.has_batch());
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

    /// Bytes of memory that batches have, in use or free for reuse; never above `staging_bytes` but for the end of a segment.
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

    /// Where the last records of a stream lie in the newest segment that has any and whose seal was not taken yet: what a reader of
    /// segments cannot know.
    #[must_use]
    pub fn lead(&self, stream: &StreamId) -> Option<Lead> {
        let open = self.segment.as_ref().map(|open| (open.number, &open.index));
        let ending = self.footers.iter().rev().map(PendingFooter::segment);
        open.into_iter()
            .chain(ending)
            .find_map(|(segment, index)| Some(Lead { segment, entry: index.lead(stream)? }))
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
        if self.has_failed {
            return;
        }
        self.close_batch();
        self.finish_segment();
    }
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSegment => "no spare segment is ready",
            Self::StagingFull => "the staging memory is full",
            Self::TooLarge => "the record is larger than any batch",
            Self::Failed => "the log has failed and is read-only",
        })
    }
}

impl core::error::Error for AppendError {}
