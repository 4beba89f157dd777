//! The segment files that a shard writes, and how far each is synced.

use std::io;
use std::os::fd::AsFd;
use tidegate_ids::{BatchNumber, Position};
use tidegate_reactor::{LogFile, SyncMode};
use tidegate_shard::ClosedSegment;
use tidegate_storage_files::{SegmentFile, WriteMode};
use tidegate_storage_log::{Guard, IndexPlace, PreviousEnd, SegmentExtent, StagedBatch};

struct OpenSegment {
    number: u32,
    file: LogFile,
    mode: SyncMode,
}

/// A segment that a batch has sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Its extent and its end.
    pub closed: ClosedSegment,
    /// Where its index lies.
    pub index: IndexPlace,
}

/// A shard's segments of this start.
pub struct Segments {
    open: Vec<OpenSegment>,
    written: Vec<SegmentExtent>,
    block_bytes: u32,
    guard: Guard,
    /// The end of the batch in flight; if it seals, its number and where the index lies.
    in_flight: Option<(Position, Option<(BatchNumber, IndexPlace)>)>,
}

impl Segments {
    /// None yet.
    #[must_use]
    pub fn new(block_bytes: u32, guard: Guard) -> Self {
        Self { open: Vec::new(), written: Vec::new(), block_bytes, guard, in_flight: None }
    }

    /// Takes a prepared segment and gives its number.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn add(&mut self, file: &SegmentFile) -> io::Result<u32> {
        let mode = match file.mode() {
            WriteMode::Direct => SyncMode::DirectDsync,
            WriteMode::Buffered => SyncMode::LinkedFdatasync,
        };
        let number = file.number();
        let file = LogFile::from(file.as_fd().try_clone_to_owned()?);
        self.open.push(OpenSegment { number, file, mode });
        Ok(number)
    }

    /// The file that a batch goes to. Batches are written one at a time and in order, so older
    /// segments are closed.
    pub fn write(&mut self, batch: &StagedBatch) -> (LogFile, SyncMode) {
        let seals = batch.seals.then_some((batch.number, batch.index));
        self.begin(batch.segment, batch.offset, batch.bytes.len(), seals);
        self.open.retain(|open| open.number >= batch.segment);
        let Some(open) = self.open.iter().find(|open| open.number == batch.segment) else {
            unreachable!("a batch goes to a segment that the shard was given");
        };
        (open.file.clone(), open.mode)
    }

    /// A batch is on its way to the disk.
    pub(crate) fn begin(
        &mut self,
        segment: u32,
        offset: u32,
        bytes: usize,
        seals: Option<(BatchNumber, IndexPlace)>,
    ) {
        assert!(self.in_flight.is_none(), "batches are written one at a time");
        self.in_flight = Some((Position::new(segment, offset + bytes as u32), seals));
    }

    /// The batch in flight is synced, or has failed. Gives the segment that it sealed.
    pub fn written(&mut self, synced: bool) -> Option<Sealed> {
        let (end, seals) = self.in_flight.take().filter(|_| synced)?;
        match self.written.last_mut().filter(|last| last.segment == end.segment) {
            Some(last) => last.end = end.offset,
            None => self.written.push(SegmentExtent {
                segment: end.segment,
                end: end.offset,
                block_bytes: self.block_bytes,
                footer_offset: None,
                guard: self.guard,
            }),
        }
        let (extent, (batch, index)) = (*self.written.last()?, seals?);
        Some(Sealed { closed: ClosedSegment { extent, end: PreviousEnd { end, batch } }, index })
    }

    /// What is synced, from a position on.
    #[must_use]
    pub fn extents_from(&self, from: Position) -> Vec<SegmentExtent> {
        self.written.iter().filter(|extent| extent.segment >= from.segment).copied().collect()
    }
}
