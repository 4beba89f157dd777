//! Reading rewritten segments: a medium that presents the uncompressed segment and inflates only the blocks that a read
//! touches (`docs/formats/log.md`, "A rewritten segment").
//!
//! Everything else of this room reads through it and does not know: recovery, scans, pages, footers. A block that fails its
//! checksum is [`MediumError::Unreadable`], like a bad sector, and costs what lies in it.

use crate::block_table::BlockTable;
use crate::descriptor::{REWRITTEN_BLOCK_BYTES, SEGMENT_HEADER_BYTES};
use crate::index::IndexPlace;
use crate::limits::{INFLATED_BLOCKS_MAX, TABLES_MAX};
use crate::medium::{Medium, MediumError};
use core::fmt;

/// A medium of segments as they lie there, read as the appender wrote them, less what expired or was erased. Plain
/// segments pass through. It keeps the tables of the segments used last and the blocks inflated last, both bounded.
#[derive(Debug)]
pub struct Inflated<M> {
    raw: M,
    views: Vec<View>,
    blocks: BlockCache,
    /// Counts uses, to tell what was used last.
    clock: u64,
}

#[derive(Debug)]
struct View {
    segment: u32,
    /// Which of the segment's files was looked at.
    generation: u64,
    /// `None` for a plain segment.
    table: Option<BlockTable>,
    used: u64,
}

/// Blocks inflated last.
struct BlockCache {
    slots: Vec<Slot>,
    /// A block as stored.
    stored: Vec<u8>,
    decoder: zstd::bulk::Decompressor<'static>,
}

struct Slot {
    segment: u32,
    block: usize,
    used: u64,
    bytes: Vec<u8>,
}

impl<M: Medium> Inflated<M> {
    /// Reads `raw`.
    pub fn new(raw: M) -> Self {
        let decoder = zstd::bulk::Decompressor::default();
        let blocks = BlockCache { slots: Vec::new(), stored: Vec::new(), decoder };
        Self { raw, views: Vec::new(), blocks, clock: 0 }
    }

    /// The segments as they lie there.
    pub const fn raw(&mut self) -> &mut M {
        &mut self.raw
    }

    /// Forgets what is known of a segment: another file stands for it.
    fn forget(&mut self, segment: u32) {
        self.views.retain(|view| view.segment != segment);
        self.blocks.slots.retain(|slot| slot.segment != segment);
    }

    /// Where in `views` a segment is, looking at it if need be.
    fn view(&mut self, segment: u32) -> Result<usize, MediumError> {
        let generation = self.raw.generation(segment)?;
        if let Some(place) = self.views.iter().position(|view| view.segment == segment) {
            if self.views[place].generation == generation {
                return Ok(place);
            }
            self.forget(segment);
        }
        let table = BlockTable::load(&mut self.raw, segment)?;
        if self.views.len() >= TABLES_MAX {
            let oldest = self.views.iter().enumerate().min_by_key(|(_, view)| view.used);
            let place = oldest.map_or(0, |(place, _)| place);
            self.views.swap_remove(place);
        }
        self.views.push(View { segment, generation, table, used: 0 });
        Ok(self.views.len() - 1)
    }
}

impl<M: Medium> Medium for Inflated<M> {
    fn segment_len(&self, segment: u32) -> Result<u64, MediumError> {
        let known = self.views.iter().find(|view| view.segment == segment);
        match known.and_then(|view| view.table.as_ref()) {
            Some(table) => Ok(u64::from(table.header.segment_bytes)),
            None => self.raw.segment_len(segment),
        }
    }

    fn read(&mut self, segment: u32, offset: u64, into: &mut [u8]) -> Result<usize, MediumError> {
        let place = self.view(segment)?;
        self.clock += 1;
        let view = &mut self.views[place];
        view.used = self.clock;
        let Some(table) = &view.table else { return self.raw.read(segment, offset, into) };
        let left = u64::from(table.header.segment_bytes).saturating_sub(offset);
        let len = left.min(into.len() as u64) as usize;
        let mut done = 0;
        while done < len {
            let at = offset as usize + done;
            let piece = &mut into[done..len];
            done += if at < SEGMENT_HEADER_BYTES {
                copy(&table.header_bytes[at..], piece)
            } else if at >= table.end() {
                piece.fill(0);
                piece.len()
            } else {
                let index = at / REWRITTEN_BLOCK_BYTES;
                let bytes = self.blocks.block(&mut self.raw, table, index, self.clock)?;
                copy(&bytes[at % REWRITTEN_BLOCK_BYTES..], piece)
            };
        }
        Ok(len)
    }

    /// Of a rewritten segment, the blocks in its file that the bytes lie in and that are not inflated yet.
    fn will_need(&mut self, segment: u32, offset: u64, bytes: usize) {
        let Ok(place) = self.view(segment) else { return };
        let Some(table) = &self.views[place].table else { return self.raw.will_need(segment, offset, bytes) };
        let first = offset as usize / REWRITTEN_BLOCK_BYTES;
        let behind = (offset as usize + bytes).min(table.end()).div_ceil(REWRITTEN_BLOCK_BYTES);
        for block in (first..behind).filter(|block| !self.blocks.holds(segment, *block)) {
            if let Some((at, stored_bytes)) = table.stored(block) {
                self.raw.will_need(segment, at, stored_bytes);
            }
        }
    }

    fn index(&mut self, segment: u32) -> Option<IndexPlace> {
        self.raw.index(segment)
    }

    fn inflates(&self) -> bool {
        true
    }
}

fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let count = from.len().min(to.len());
    to[..count].copy_from_slice(&from[..count]);
    count
}

impl BlockCache {
    fn holds(&self, segment: u32, block: usize) -> bool {
        self.slots.iter().any(|slot| slot.segment == segment && slot.block == block)
    }

    /// A block, inflated now or before.
    fn block<M: Medium>(
        &mut self,
        raw: &mut M,
        table: &BlockTable,
        block: usize,
        clock: u64,
    ) -> Result<&[u8], MediumError> {
        let segment = table.header.segment;
        let held = self.slots.iter().position(|slot| slot.segment == segment && slot.block == block);
        let place = match held {
            Some(place) => place,
            None => {
                let mut slot = self.free_slot();
                let inflated =
                    table.inflate(raw, &mut self.decoder, block, &mut self.stored, &mut slot.bytes);
                // A block that is bad is held under no number.
                (slot.segment, slot.block) = if inflated.is_ok() { (segment, block) } else { (0, 0) };
                self.slots.push(slot);
                inflated?;
                self.slots.len() - 1
            }
        };
        self.slots[place].used = clock;
        Ok(&self.slots[place].bytes)
    }

    /// A slot to fill: a new one, or that of the block unused longest.
    fn free_slot(&mut self) -> Slot {
        if self.slots.len() < INFLATED_BLOCKS_MAX {
            return Slot { segment: 0, block: 0, used: 0, bytes: Vec::with_capacity(REWRITTEN_BLOCK_BYTES) };
        }
        let oldest = self.slots.iter().enumerate().min_by_key(|(_, slot)| slot.used);
        let place = oldest.map_or(0, |(place, _)| place);
        self.slots.swap_remove(place)
    }
}

impl fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockCache").field("blocks", &self.slots.len()).finish_non_exhaustive()
    }
}
