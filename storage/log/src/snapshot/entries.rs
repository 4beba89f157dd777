//! Going through a snapshot in order, one block in memory at a time.

use crate::snapshot::block::{Key, take_entry};
use crate::snapshot::format::{BLOCK_HEADER_BYTES, SnapshotHeader};
use crate::snapshot::index::{Parts, SnapshotEntry, SnapshotError, SnapshotPart, damaged};
use crate::snapshot::source::SnapshotSource;
use core::fmt;
use core::ops::Range;
use tidegate_ids::{StreamId, VirtualShard};

/// The entries of a snapshot, or of a range of it. A block that does not hold is reported, and passed over by the next
/// step: what follows it is still given out.
pub struct SnapshotEntries<'a> {
    parts: &'a Parts,
    source: &'a dyn SnapshotSource,
    places: Range<u32>,
    /// The block to read next.
    next_block: usize,
    block: Vec<u8>,
    /// Where in `block` the next entry starts; its length when there is none left.
    at: usize,
    left: u16,
    last: Option<Key>,
}

impl<'a> SnapshotEntries<'a> {
    pub(crate) fn new(parts: &'a Parts, source: &'a dyn SnapshotSource, places: Range<u32>) -> Self {
        let first = u16::try_from(places.start).map(|place| (VirtualShard(place), StreamId([0; 16])));
        let next_block = first.map_or(parts.index.len(), |first| parts.block_of(first).unwrap_or(0));
        Self { parts, source, places, next_block, block: Vec::new(), at: 0, left: 0, last: None }
    }

    /// What the snapshot is of.
    #[must_use]
    pub const fn header(&self) -> &'a SnapshotHeader {
        &self.parts.header
    }

    /// The next entry; `None` at the end. Not an `Iterator`: an entry lends from the block that the next step replaces.
    ///
    /// # Errors
    /// A block that is damaged or cannot be read; the next step goes on behind it.
    #[expect(clippy::should_implement_trait, reason = "an entry is lent until the next step")]
    pub fn next(&mut self) -> Option<Result<SnapshotEntry<'_>, SnapshotError>> {
        loop {
            if self.left == 0 {
                if self.at < self.block.len() {
                    return Some(Err(self.give_up_block()));
                }
                let first = self.parts.index.get(self.next_block)?.first;
                if u32::from(first.0.0) >= self.places.end {
                    return None;
                }
                if let Err(error) = self.read_next() {
                    return Some(Err(error));
                }
                continue;
            }
            let start = self.at;
            let mut rest = &self.block[start..];
            let taken = take_entry(&mut rest).map(|entry| (entry.key(), self.block.len() - rest.len()));
            let Some((key, end)) = taken.filter(|(key, _)| self.last.is_none_or(|last| last < *key)) else {
                return Some(Err(self.give_up_block()));
            };
            (self.at, self.left, self.last) = (end, self.left - 1, Some(key));
            let place = u32::from(key.0.0);
            if place >= self.places.end {
                (self.next_block, self.left, self.at) = (self.parts.index.len(), 0, self.block.len());
                return None;
            }
            if place >= self.places.start {
                let mut entry = &self.block[start..];
                return take_entry(&mut entry).map(Ok);
            }
        }
    }

    fn read_next(&mut self) -> Result<(), SnapshotError> {
        let at = self.next_block;
        self.next_block += 1;
        (self.at, self.left) = (0, 0);
        let read = self.parts.read_block(self.source, at, &mut self.block);
        match read {
            Ok(count) => {
                (self.at, self.left) = (BLOCK_HEADER_BYTES, count);
                Ok(())
            }
            Err(error) => {
                self.block.clear();
                Err(error)
            }
        }
    }

    /// A block whose checksum holds and whose entries do not: nobody wrote that.
    fn give_up_block(&mut self) -> SnapshotError {
        self.block.clear();
        (self.at, self.left) = (0, 0);
        let entry = self.parts.index[self.next_block - 1];
        damaged(SnapshotPart::Block, entry.offset, u64::from(entry.length))
    }
}

impl fmt::Debug for SnapshotEntries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotEntries").field("next_block", &self.next_block).finish_non_exhaustive()
    }
}
