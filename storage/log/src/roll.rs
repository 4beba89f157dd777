//! Ending a segment: its footer and its seal, batches like any other.

use crate::append::{Appender, StagedBatch};
use crate::batch::{BatchHeader, BatchKind};
use crate::buffer::{BatchBytes, Buffer};
use crate::descriptor::{BATCH_HEADER_BYTES, FOOTER_ENTRY_BYTES, SEAL_BYTES};
use crate::footer::Seal;
use crate::segment::PreviousEnd;
use crate::stream_index::StreamIndex;
use std::sync::Arc;
use tidegate_ids::{BatchNumber, Position};

/// A segment whose footer is still to be written. Its batches have their numbers already, so the next segment's
/// batches can be filled meanwhile.
#[derive(Debug)]
pub(crate) struct PendingFooter {
    segment: u32,
    /// Where the first footer batch goes.
    offset: u32,
    first_number: BatchNumber,
    /// Batches of records in the segment.
    batches_before: u32,
    /// Footer batches that were taken.
    taken: usize,
    records: u64,
    index: StreamIndex,
}

impl PendingFooter {
    pub(crate) const fn next_number(&self) -> BatchNumber {
        BatchNumber(self.first_number.0 + self.taken as u64)
    }
}

impl Appender {
    /// Ends the open segment: numbers for its footer are assigned, the next segment's predecessor is known.
    pub(crate) fn finish_segment(&mut self) {
        let Some(segment) = self.segment.take() else { return };
        let streams = segment.index.len();
        let batches = self.plan.batches(streams) as u64;
        let first_number = self.next_number;
        let end = segment.next_offset + self.plan.total_bytes(streams);
        self.next_number = BatchNumber(first_number.0 + batches);
        self.previous = PreviousEnd {
            end: Position::new(segment.number, end as u32),
            batch: BatchNumber(first_number.0 + batches - 1),
        };
        self.footers.push_back(PendingFooter {
            segment: segment.number,
            offset: segment.next_offset as u32,
            first_number,
            batches_before: (first_number.0 - segment.first_batch.0) as u32,
            taken: 0,
            records: segment.records,
            index: segment.index,
        });
    }

    /// Builds the next footer batch, and gives the index back after the last.
    pub(crate) fn take_footer(&mut self) -> Option<(StagedBatch, Arc<Buffer>)> {
        let footer = self.footers.front_mut()?;
        let streams = footer.index.len();
        let batches = self.plan.batches(streams);
        let entries = self.plan.entries(footer.taken, streams);
        let is_seal = footer.taken + 1 == batches;
        let full = self.plan.batch_bytes(self.plan.entries(0, streams).len(), batches == 1);
        let offset = footer.offset as usize + footer.taken * full;
        let length = self.plan.batch_bytes(entries.len(), is_seal);

        let mut own = self.staging.pool.take_unbounded(length);
        let bytes = &mut own.buffer.bytes_mut()[..length];
        let mut at = BATCH_HEADER_BYTES;
        if is_seal {
            let seal = Seal {
                records: footer.records,
                streams: streams as u32,
                footer_offset: footer.offset,
                footer_batches: batches as u32,
            };
            bytes[at..at + SEAL_BYTES].copy_from_slice(&seal.encode());
            at += SEAL_BYTES;
        }
        let count = entries.len() as u32;
        for entry in &footer.index.entries()[entries] {
            bytes[at..at + FOOTER_ENTRY_BYTES].copy_from_slice(&entry.encode());
            at += FOOTER_ENTRY_BYTES;
        }
        bytes[at..].fill(0);
        let header = BatchHeader {
            number: footer.next_number(),
            synced_through: self.last_synced,
            segment: footer.segment,
            offset: offset as u32,
            length: length as u32,
            used: at as u32,
            count,
            payload_checksum: 0,
            table_checksum: 0,
            kind: if is_seal { BatchKind::Seal } else { BatchKind::Footer },
            index: footer.batches_before + footer.taken as u32,
        };
        header.finish(bytes, self.guard);
        let buffer = own.share();
        let bytes = BatchBytes::new(&buffer, length);
        footer.taken += 1;
        if is_seal && let Some(mut done) = self.footers.pop_front() {
            done.index.clear();
            self.free_indexes.push(done.index);
        }
        let batch = StagedBatch {
            number: header.number,
            segment: header.segment,
            offset: header.offset,
            bytes,
            seals: is_seal,
        };
        Some((batch, buffer))
    }
}
