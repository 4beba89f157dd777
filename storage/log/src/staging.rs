//! Batches in memory, from their close until every cursor has passed them.
//!
//! Three stretches, oldest first: committed (synced, kept for cursors), in flight (at most one), waiting.

use crate::batch::{BatchHeader, BatchKind, Guard, batch_len};
use crate::buffer::{Buffer, BufferPool};
use crate::descriptor::{BATCH_HEADER_BYTES, TABLE_ENTRY_BYTES, get_u32};
use crate::record::{RecordView, parse, parse_checked};
use std::collections::VecDeque;
use std::sync::Arc;
use tidegate_ids::{BatchNumber, Location, Position};

/// A closed batch of records.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) number: BatchNumber,
    /// How many batches lie before it in its segment.
    pub(crate) index: u32,
    pub(crate) segment: u32,
    /// The offset in the segment of the buffer's first byte.
    pub(crate) base: u32,
    /// Where in the buffer the batch starts: behind the segment's header block, if this is its first.
    pub(crate) start: u32,
    /// Where in the buffer the last record ends.
    pub(crate) used: u32,
    /// Bytes of the buffer to write.
    pub(crate) len: u32,
    pub(crate) count: u32,
    pub(crate) buffer: Arc<Buffer>,
}

/// All closed batches, and the memory of every batch.
#[derive(Debug)]
pub(crate) struct Staging {
    pub(crate) pool: BufferPool,
    batches: VecDeque<Staged>,
    committed: usize,
    taken: usize,
    released_end: Position,
    committed_end: Position,
}

impl Staged {
    fn end(&self) -> Position {
        Position::new(self.segment, self.base + self.len)
    }

    fn first_record(&self) -> u32 {
        self.start + BATCH_HEADER_BYTES as u32
    }

    /// Where the record number `index` is in the buffer.
    fn record_at(&self, index: u32) -> u32 {
        let at = self.used as usize + index as usize * TABLE_ENTRY_BYTES;
        self.start + get_u32(self.buffer.bytes(), at)
    }

    /// How many records of this batch lie before `position`.
    fn records_before(&self, position: Position) -> u32 {
        if position <= Position::new(self.segment, self.base) {
            return 0;
        }
        let offset = position.offset - self.base;
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.record_at(middle) < offset { low = middle + 1 } else { high = middle }
        }
        low
    }

    fn parse_at(&self, at: u32) -> Option<RecordView<'_>> {
        let bytes = &self.buffer.bytes()[at as usize..self.used as usize];
        parse(bytes, Location::new(self.segment, self.base + at))
    }

    /// Writes the header with its checksums, now that what is synced is known.
    fn finish(&mut self, synced_through: BatchNumber, guard: Guard) {
        let header = BatchHeader {
            number: self.number,
            synced_through,
            segment: self.segment,
            offset: self.base + self.start,
            length: self.len - self.start,
            used: self.used - self.start,
            count: self.count,
            payload_checksum: 0,
            table_checksum: 0,
            kind: BatchKind::Records,
            index: self.index,
        };
        let buffer = Arc::get_mut(&mut self.buffer).expect("a batch is shared only once it is finished");
        header.finish(&mut buffer.bytes_mut()[self.start as usize..self.len as usize], guard);
    }
}

/// Writes the table of offsets behind the records and zeroes the rest of the batch; says where the batch ends.
/// `offsets` count from the batch's start, which is at `start` of the buffer.
pub(crate) fn write_table(
    bytes: &mut [u8],
    start: usize,
    used: usize,
    offsets: &[u32],
    block: usize,
) -> usize {
    let end = start + batch_len(used - start, offsets.len(), block);
    let (table, rest) = bytes[used..end].split_at_mut(offsets.len() * TABLE_ENTRY_BYTES);
    for (slot, offset) in table.as_chunks_mut::<TABLE_ENTRY_BYTES>().0.iter_mut().zip(offsets) {
        *slot = offset.to_le_bytes();
    }
    rest.fill(0);
    end
}

impl Staging {
    pub(crate) const fn new(pool: BufferPool, start: Position) -> Self {
        Self {
            pool,
            batches: VecDeque::new(),
            committed: 0,
            taken: 0,
            released_end: start,
            committed_end: start,
        }
    }

    pub(crate) fn push(&mut self, batch: Staged) {
        debug_assert!(self.batches.back().is_none_or(|last| last.number < batch.number));
        self.batches.push_back(batch);
    }

    /// The number of the next batch to take.
    pub(crate) fn next_to_take(&self) -> Option<BatchNumber> {
        self.batches.get(self.taken).map(|batch| batch.number)
    }

    /// Finishes the next batch and lends it.
    pub(crate) fn take(&mut self, synced_through: BatchNumber, guard: Guard) -> Option<&Staged> {
        let batch = self.batches.get_mut(self.taken)?;
        batch.finish(synced_through, guard);
        self.taken += 1;
        Some(batch)
    }

    /// The batch in flight is synced.
    pub(crate) fn commit(&mut self) {
        assert!(self.committed < self.taken, "a batch is synced only after it was taken");
        self.committed_end = self.batches[self.committed].end();
        self.committed += 1;
    }

    /// Drops what is in flight and what waits.
    pub(crate) fn forget_uncommitted(&mut self) {
        self.batches.truncate(self.committed);
        self.taken = self.committed;
    }

    pub(crate) const fn committed_end(&self) -> Position {
        self.committed_end
    }

    pub(crate) const fn released_end(&self) -> Position {
        self.released_end
    }

    /// Gives back the committed batches that lie wholly before `position`.
    pub(crate) fn release(&mut self, position: Position) {
        while self.committed > 0 && self.batches.front().is_some_and(|batch| batch.end() <= position) {
            if let Some(batch) = self.batches.pop_front() {
                self.released_end = batch.end();
                self.committed -= 1;
                self.taken -= 1;
                self.pool.give(batch.buffer);
            }
        }
    }

    /// The record that starts at `location`, checked.
    pub(crate) fn read(&self, location: Location) -> Option<RecordView<'_>> {
        let index = self.batches.partition_point(|batch| batch.end() <= location);
        let batch = self.batches.get(index)?;
        if batch.segment != location.segment || location.offset < batch.base {
            return None;
        }
        let record = batch.records_before(location);
        if record >= batch.count || batch.base + batch.record_at(record) != location.offset {
            return None;
        }
        let at = batch.record_at(record) as usize;
        parse_checked(&batch.buffer.bytes()[at..batch.used as usize], location).ok()
    }

    /// The committed records at `position` and after.
    pub(crate) fn committed(&self, position: Position) -> Committed<'_> {
        let index = self.batches.partition_point(|batch| batch.end() <= position);
        let at = self.batches.get(index).map_or(0, |batch| {
            let record = batch.records_before(position);
            if record < batch.count { batch.record_at(record) } else { batch.used }
        });
        Committed { staging: self, index, at, position }
    }
}

/// Committed records in the order of the log; see [`crate::Appender::committed`].
#[derive(Clone, Debug)]
pub struct Committed<'a> {
    staging: &'a Staging,
    index: usize,
    at: u32,
    position: Position,
}

impl Committed<'_> {
    /// Where to go on: everything before it was given out.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }
}

impl<'a> Iterator for Committed<'a> {
    type Item = RecordView<'a>;

    #[inline]
    fn next(&mut self) -> Option<RecordView<'a>> {
        loop {
            if self.index >= self.staging.committed {
                return None;
            }
            let batch = &self.staging.batches[self.index];
            if self.at < batch.used {
                let record = batch.parse_at(self.at)?;
                self.at += record.stored_len() as u32;
                let is_last = self.at >= batch.used;
                self.position =
                    if is_last { batch.end() } else { Position::new(batch.segment, batch.base + self.at) };
                return Some(record);
            }
            self.index += 1;
            self.at = self.staging.batches.get(self.index).map_or(0, Staged::first_record);
        }
    }
}
