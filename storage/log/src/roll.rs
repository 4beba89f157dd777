//! Ending a segment: its index, its footer and its seal, batches like any other.

use crate::append::{Appender, StagedBatch};
use crate::batch::{BatchHeader, BatchKind};
use crate::buffer::{BatchBytes, Buffer};
use crate::config::AppenderConfig;
use crate::descriptor::{BATCH_HEADER_BYTES, BATCH_TRAILER_BYTES, FOOTER_ENTRY_BYTES, SEAL_BYTES};
use crate::footer::{FooterPlan, Seal};
use crate::index::{IndexPlace, IndexPlan, entry_bytes, home, stream_hash};
use crate::limits::{INDEX_ROOM_PARTS, INDEX_WINDOW_BYTES};
use crate::segment::PreviousEnd;
use crate::stream_index::StreamIndex;
use core::ops::Range;
use std::sync::Arc;
use tidegate_ids::{BatchNumber, Position};

/// A segment whose index and footer are still to be written. Its batches have their numbers already, so the next segment's
/// batches can be filled meanwhile.
#[derive(Debug)]
pub(crate) struct PendingFooter {
    segment: u32,
    /// Where its records end and its index goes.
    offset: u32,
    /// Bytes of the index.
    index_bytes: usize,
    first_number: BatchNumber,
    /// Batches of records in the segment.
    batches_before: u32,
    /// Batches that were taken, of the index and then of the footer.
    taken: usize,
    /// Entries of the index that are placed or left out, and where the last one placed ends in it.
    placed: usize,
    placed_end: usize,
    records: u64,
    index: StreamIndex,
}

/// What the ending of a segment takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndingPlan {
    footer: FooterPlan,
    index: IndexPlan,
    /// What the room for the index grows by.
    index_step: usize,
}

/// A batch that ends a segment, as far as it is built.
struct Ending {
    kind: BatchKind,
    /// Where in the segment, and how long.
    offset: usize,
    length: usize,
    /// Where its entries end.
    used: usize,
    count: u32,
}

impl EndingPlan {
    pub(crate) const fn new(config: &AppenderConfig) -> Self {
        let (batch_bytes_max, block) = (config.batch_bytes_max as usize, config.block_bytes as usize);
        Self {
            footer: FooterPlan::new(batch_bytes_max, block),
            index: IndexPlan::new(batch_bytes_max, block),
            index_step: config.segment_bytes as usize / INDEX_ROOM_PARTS,
        }
    }

    /// The room that is kept for entries of the index of so many bytes in all.
    pub(crate) const fn index_room(&self, entry_bytes: usize) -> usize {
        entry_bytes.next_multiple_of(self.index_step)
    }

    /// Bytes of the footer of so many streams, and of an index with such a room.
    pub(crate) const fn bytes(&self, streams: usize, index_room: usize) -> usize {
        self.footer.total_bytes(streams) + self.index.bytes(index_room)
    }
}

impl PendingFooter {
    pub(crate) const fn next_number(&self) -> BatchNumber {
        BatchNumber(self.first_number.0 + self.taken as u64)
    }

    pub(crate) const fn segment(&self) -> (u32, &StreamIndex) {
        (self.segment, &self.index)
    }

    const fn place(&self) -> IndexPlace {
        if self.index_bytes == 0 {
            return IndexPlace { offset: 0, bytes: 0 };
        }
        IndexPlace { offset: self.offset, bytes: self.index_bytes as u32 }
    }

    /// Fills the part of the index that lies at `range` of it with entries, each as near behind its home as those before it
    /// leave room. One that a reader would not find there is left out.
    fn fill_index(&mut self, range: Range<usize>, out: &mut [u8]) -> Ending {
        if range.start == 0 {
            self.index.sort();
        }
        out[..range.len()].fill(0);
        let end = range.end - BATCH_TRAILER_BYTES;
        let (mut used, mut count) = (BATCH_HEADER_BYTES, 0);
        let mut is_full = false;
        while !is_full && self.placed < self.index.sorted_len() {
            for (stream, entry) in self.index.sorted(self.placed) {
                let (bytes, home) = (entry_bytes(entry.run), home(stream_hash(stream), self.index_bytes));
                let at = self.placed_end.max(home).max(range.start + BATCH_HEADER_BYTES);
                let is_found = at + bytes <= home + INDEX_WINDOW_BYTES;
                is_full = is_found && at + bytes > end && range.end < self.index_bytes;
                if is_full {
                    break;
                }
                if is_found && at + bytes <= end {
                    let to = at - range.start;
                    entry.encode(stream, &mut out[to..to + bytes]);
                    self.placed_end = at + bytes;
                    used = to + bytes;
                    count += 1;
                }
                self.placed += 1;
            }
        }
        let offset = self.offset as usize + range.start;
        Ending { kind: BatchKind::Index, offset, length: range.len(), used, count }
    }

    /// Bytes of footer batch `number`.
    fn footer_bytes(&self, plan: &FooterPlan, number: usize) -> usize {
        let streams = self.index.len();
        plan.batch_bytes(plan.entries(number, streams).len(), number + 1 == plan.batches(streams))
    }

    /// Fills footer batch `number`, the last of which is the seal.
    fn fill_footer(&self, plan: &FooterPlan, number: usize, out: &mut [u8]) -> Ending {
        let streams = self.index.len();
        let (entries, batches) = (plan.entries(number, streams), plan.batches(streams));
        let footer_offset = self.offset as usize + self.index_bytes;
        let is_seal = number + 1 == batches;
        let mut used = BATCH_HEADER_BYTES;
        if is_seal {
            let seal = Seal {
                records: self.records,
                streams: streams as u32,
                footer_offset: footer_offset as u32,
                footer_batches: batches as u32,
                index: self.place(),
            };
            out[used..used + SEAL_BYTES].copy_from_slice(&seal.encode());
            used += SEAL_BYTES;
        }
        let count = entries.len() as u32;
        for entry in self.index.footer(entries) {
            out[used..used + FOOTER_ENTRY_BYTES].copy_from_slice(&entry.encode());
            used += FOOTER_ENTRY_BYTES;
        }
        let length = self.footer_bytes(plan, number);
        out[used..length].fill(0);
        Ending {
            kind: if is_seal { BatchKind::Seal } else { BatchKind::Footer },
            offset: footer_offset + number * self.footer_bytes(plan, 0),
            length,
            used,
            count,
        }
    }
}

impl Appender {
    /// Ends the open segment: numbers for its index and its footer are assigned, the next segment's predecessor is known.
    pub(crate) fn finish_segment(&mut self) {
        let Some(segment) = self.segment.take() else { return };
        let streams = segment.index.len();
        let index_bytes = self.plan.index.bytes(segment.index.index_bytes());
        let batches = (self.plan.index.batches(index_bytes) + self.plan.footer.batches(streams)) as u64;
        let first_number = self.next_number;
        let end = segment.next_offset + index_bytes + self.plan.footer.total_bytes(streams);
        debug_assert!(end <= self.segment_bytes);
        self.next_number = BatchNumber(first_number.0 + batches);
        self.previous = PreviousEnd {
            end: Position::new(segment.number, end as u32),
            batch: BatchNumber(first_number.0 + batches - 1),
        };
        let footer = PendingFooter {
            segment: segment.number,
            offset: segment.next_offset as u32,
            index_bytes,
            first_number,
            batches_before: (first_number.0 - segment.first_batch.0) as u32,
            taken: 0,
            placed: 0,
            placed_end: 0,
            records: segment.records,
            index: segment.index,
        };
        self.previous_index = footer.place();
        self.footers.push_back(footer);
    }

    /// Builds the next batch of an index or a footer, and gives the table back after the last.
    pub(crate) fn take_footer(&mut self) -> Option<(StagedBatch, Arc<Buffer>)> {
        let footer = self.footers.front_mut()?;
        let batches = self.plan.index.batches(footer.index_bytes);
        let (mut own, ending) = if footer.taken < batches {
            let range = self.plan.index.batch(footer.taken, footer.index_bytes);
            let mut own = self.staging.pool.take_unbounded(range.len());
            let ending = footer.fill_index(range, own.buffer.bytes_mut());
            (own, ending)
        } else {
            let number = footer.taken - batches;
            let mut own = self.staging.pool.take_unbounded(footer.footer_bytes(&self.plan.footer, number));
            let ending = footer.fill_footer(&self.plan.footer, number, own.buffer.bytes_mut());
            (own, ending)
        };
        let seals = ending.kind == BatchKind::Seal;
        let header = BatchHeader {
            number: footer.next_number(),
            synced_through: self.last_synced,
            segment: footer.segment,
            offset: ending.offset as u32,
            length: ending.length as u32,
            used: ending.used as u32,
            count: ending.count,
            payload_checksum: 0,
            table_checksum: 0,
            kind: ending.kind,
            index: footer.batches_before + footer.taken as u32,
        };
        header.finish(&mut own.buffer.bytes_mut()[..ending.length], self.guard);
        let buffer = own.share();
        let bytes = BatchBytes::new(&buffer, ending.length);
        footer.taken += 1;
        let index = if seals { footer.place() } else { IndexPlace::default() };
        if seals && let Some(mut done) = self.footers.pop_front() {
            done.index.clear();
            self.free_indexes.push(done.index);
        }
        let (number, segment, offset) = (header.number, header.segment, header.offset);
        Some((StagedBatch { number, segment, offset, bytes, seals, index }, buffer))
    }
}
