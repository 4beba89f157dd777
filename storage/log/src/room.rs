//! Making room for a record: growing, closing and opening batches, and rolling to the next segment.

use crate::append::{AppendError, Appender, OpenBatch, OpenSegment};
use crate::batch::batch_len;
use crate::descriptor::{BATCH_HEADER_BYTES, FORMAT_VERSION, RECORD_ALIGN, RECORD_HEADER_BYTES};
use crate::index::entry_bytes;
use crate::segment::{ENCODING_PLAIN, SegmentHeader};
use crate::staging::{Staged, write_table};
use crate::stream_index::{Slot, StreamIndex};
use tidegate_ids::{Position, StreamId};

impl Appender {
    /// Makes sure that a record fits behind the open batch's last one, closing batch or segment where it does not.
    #[inline]
    pub(crate) fn make_room(&mut self, stream: &StreamId, stored: usize) -> Result<Slot, AppendError> {
        if let Some(segment) = &self.segment {
            let slot = segment.index.find(stream);
            let is_new = matches!(slot, Slot::Free(_));
            let index_full = is_new && segment.index.is_full();
            let index_bytes =
                segment.index.index_bytes() + if is_new { entry_bytes(1) } else { RECORD_ALIGN };
            let reserve = if is_new || index_bytes > segment.reserved_index {
                self.plan.bytes(segment.index.len() + usize::from(is_new), self.plan.index_room(index_bytes))
            } else {
                segment.reserve
            };
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
            encoding: ENCODING_PLAIN,
            previous: self.previous,
            previous_index: self.previous_index,
            rewritten: None,
        };
        header.encode(header_block);
        let records_max = self.segment_bytes / RECORD_HEADER_BYTES;
        let index =
            self.free_indexes.pop().unwrap_or_else(|| StreamIndex::new(self.streams_max, records_max));
        let reserve = self.plan.bytes(0, 0);
        self.segment = Some(OpenSegment {
            number,
            first_batch: self.next_number,
            next_offset: 0,
            index,
            records: 0,
            reserve,
            reserved_index: 0,
        });
    }

    /// Closes the open batch, if any, for taking.
    pub(crate) fn close_batch(&mut self) {
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
