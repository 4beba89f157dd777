//! Sequential reading of one segment through a buffer; what is not there or cannot be read counts as zeroes.

use crate::batch::{BatchHeader, Guard};
use crate::descriptor::{BATCH_HEADER_BYTES, BATCH_TRAILER_BYTES};
use crate::limits::{BLOCK_BYTES_MIN, WINDOW_BYTES};
use crate::medium::Medium;

const SECTOR: usize = BLOCK_BYTES_MIN as usize;

/// A stretch of a segment in memory.
pub(crate) struct Window<'m, M> {
    medium: &'m mut M,
    segment: u32,
    segment_len: usize,
    guard: Guard,
    start: usize,
    bytes: Vec<u8>,
    /// The sectors that the medium refused, as offsets in the open segment.
    pub(crate) unreadable: Vec<u32>,
}

impl<'m, M: Medium> Window<'m, M> {
    pub(crate) const fn new(medium: &'m mut M, guard: Guard) -> Self {
        Self {
            medium,
            segment: 0,
            segment_len: 0,
            guard,
            start: 0,
            bytes: Vec::new(),
            unreadable: Vec::new(),
        }
    }

    /// Goes on with another segment.
    pub(crate) fn open(&mut self, segment: u32) {
        self.segment = segment;
        if self.medium.inflates() {
            // Before its first read, a rewritten segment tells only what its file has. A refusal is met again below.
            let _ = self.medium.read(segment, 0, &mut [0]);
        }
        self.segment_len = self.medium.segment_len(segment).map_or(0, |len| len as usize);
        self.bytes.clear();
        self.unreadable.clear();
    }

    pub(crate) const fn guard_with(&mut self, guard: Guard) {
        self.guard = guard;
    }

    pub(crate) const fn guard(&self) -> Guard {
        self.guard
    }

    pub(crate) fn inflates(&self) -> bool {
        self.medium.inflates()
    }

    /// Exactly `len` bytes from `offset`.
    pub(crate) fn slice(&mut self, offset: u32, len: usize) -> &[u8] {
        let offset = offset as usize;
        let holds = offset >= self.start && offset + len <= self.start + self.bytes.len();
        if !holds {
            let ahead = self.segment_len.saturating_sub(offset).min(WINDOW_BYTES);
            self.fill(offset, len.max(ahead));
        }
        let at = offset - self.start;
        &self.bytes[at..at + len]
    }

    /// The header of a batch that says it lies at `offset` of this segment and ends by `limit`.
    pub(crate) fn header(&mut self, offset: u32, limit: u32) -> Option<BatchHeader> {
        let (segment, guard) = (self.segment, self.guard);
        let bytes = self.slice(offset, BATCH_HEADER_BYTES).first_chunk()?;
        let header = BatchHeader::decode(bytes, guard)?;
        let here = header.segment == segment && header.offset == offset && header.end() <= u64::from(limit);
        here.then_some(header)
    }

    /// The header of the batch that ends at `end`, from its trailer.
    pub(crate) fn trailer(&mut self, end: u32) -> Option<BatchHeader> {
        let (segment, guard) = (self.segment, self.guard);
        let at = end.checked_sub(BATCH_TRAILER_BYTES as u32)?;
        let header = BatchHeader::decode(self.slice(at, BATCH_TRAILER_BYTES).first_chunk()?, guard)?;
        (header.segment == segment && header.end() == u64::from(end)).then_some(header)
    }

    /// The batch at `offset`, if all of it holds.
    pub(crate) fn batch(&mut self, offset: u32, limit: u32) -> Option<(BatchHeader, &[u8])> {
        let header = self.header(offset, limit)?;
        let bytes = self.slice(offset, header.length as usize);
        header.payload_holds(bytes).then_some((header, bytes))
    }

    fn fill(&mut self, start: usize, len: usize) {
        self.start = start;
        self.bytes.clear();
        self.bytes.resize(len, 0);
        let mut done = 0;
        while done < len {
            match self.medium.read(self.segment, (start + done) as u64, &mut self.bytes[done..]) {
                Ok(0) => return,
                Ok(count) => done += count.min(len - done),
                Err(_) => return self.fill_by_sector(done),
            }
        }
    }

    /// After a refusal: each sector by itself, those refused noted and left zero.
    fn fill_by_sector(&mut self, from: usize) {
        let (start, len) = (self.start, self.bytes.len());
        for at in (from..len).step_by(SECTOR) {
            let sector = &mut self.bytes[at..len.min(at + SECTOR)];
            let got = self.medium.read(self.segment, (start + at) as u64, sector);
            if got.is_err() {
                sector.fill(0);
                let offset = (start + at) as u32;
                if self.unreadable.last().is_none_or(|last| *last < offset) {
                    self.unreadable.push(offset);
                }
            }
        }
    }
}
