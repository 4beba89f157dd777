//! The table of blocks of a rewritten segment: where each block is in the file, and what it must be.
//!
//! Header and table stand at both ends of the file, so that a lost first sector costs nothing.

use crate::checksum::crc32c;
use crate::descriptor::{
    BLOCK_ENTRY_BYTES, REWRITTEN_BLOCK_BYTES, SEGMENT_HEADER_BYTES, block, get_u32, put,
};
use crate::medium::{Medium, MediumError};
use crate::segment::{ENCODING_REWRITTEN, Rewritten, SegmentHeader};
use zstd::bulk::Decompressor;

/// What the table says of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BlockEntry {
    /// Bytes in the file; 0: all of the block is zero, the block's length: stored as it is.
    pub(crate) stored_bytes: u32,
    pub(crate) stored_checksum: u32,
    /// Of the block itself.
    pub(crate) checksum: u32,
}

/// A rewritten segment's header and table.
#[derive(Clone, Debug)]
pub(crate) struct BlockTable {
    pub(crate) header: SegmentHeader,
    pub(crate) header_bytes: [u8; SEGMENT_HEADER_BYTES],
    rewritten: Rewritten,
    /// Each block with its offset in the file; none if no copy of the table is left.
    blocks: Vec<(u32, BlockEntry)>,
}

/// Which copies hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Copies {
    pub(crate) front_header: bool,
    pub(crate) back_header: bool,
    pub(crate) front_table: bool,
    pub(crate) back_table: bool,
}

impl BlockEntry {
    pub(crate) fn encode(&self) -> [u8; BLOCK_ENTRY_BYTES] {
        let mut out = [0; BLOCK_ENTRY_BYTES];
        put(&mut out, block::STORED_BYTES_AT, self.stored_bytes.to_le_bytes());
        put(&mut out, block::STORED_CHECKSUM_AT, self.stored_checksum.to_le_bytes());
        put(&mut out, block::CHECKSUM_AT, self.checksum.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8; BLOCK_ENTRY_BYTES]) -> Self {
        Self {
            stored_bytes: get_u32(bytes, block::STORED_BYTES_AT),
            stored_checksum: get_u32(bytes, block::STORED_CHECKSUM_AT),
            checksum: get_u32(bytes, block::CHECKSUM_AT),
        }
    }
}

impl BlockTable {
    /// The table of a segment, `None` if it is not a rewritten one, or neither copy of its header says so.
    pub(crate) fn load<M: Medium>(raw: &mut M, segment: u32) -> Result<Option<Self>, MediumError> {
        let front = header_at(raw, segment, 0)?;
        if front.is_some_and(|(header, _)| header.rewritten.is_none()) {
            return Ok(None);
        }
        let Some((header, header_bytes)) = front.or(back_header(raw, segment)?) else { return Ok(None) };
        let Some(rewritten) = header.rewritten else { return Ok(None) };
        let mut table = Self { header, header_bytes, rewritten, blocks: Vec::new() };
        for at in table.table_places() {
            if table.read_blocks(raw, at) {
                break;
            }
        }
        Ok(Some(table))
    }

    /// Which copies of header and table hold.
    pub(crate) fn copies<M: Medium>(&self, raw: &mut M) -> Result<Copies, MediumError> {
        let segment = self.header.segment;
        let same = |found: Option<(SegmentHeader, _)>| found.is_some_and(|(header, _)| header == self.header);
        let mut copy = Self { blocks: Vec::new(), ..self.clone() };
        let [front, back] = self.table_places();
        Ok(Copies {
            front_header: same(header_at(raw, segment, 0)?),
            back_header: same(back_header(raw, segment)?),
            front_table: copy.read_blocks(raw, front),
            back_table: copy.read_blocks(raw, back),
        })
    }

    /// Where the blocks end in the uncompressed segment.
    pub(crate) const fn end(&self) -> usize {
        self.rewritten.end as usize
    }

    pub(crate) const fn blocks(&self) -> usize {
        Rewritten::blocks(self.rewritten.end)
    }

    /// Where the two copies of the table lie in the file.
    pub(crate) const fn table_places(&self) -> [u64; 2] {
        let bytes = Rewritten::table_bytes(self.rewritten.end) + SEGMENT_HEADER_BYTES;
        [SEGMENT_HEADER_BYTES as u64, self.rewritten.file_bytes as u64 - bytes as u64]
    }

    /// The length of a block, uncompressed.
    const fn block_bytes(&self, block: usize) -> usize {
        let left = self.end() - block * REWRITTEN_BLOCK_BYTES;
        if left < REWRITTEN_BLOCK_BYTES { left } else { REWRITTEN_BLOCK_BYTES }
    }

    /// Reads the table at `at` of the file; `false` if it does not hold, or does not fill the file exactly.
    fn read_blocks<M: Medium>(&mut self, raw: &mut M, at: u64) -> bool {
        let table_bytes = Rewritten::table_bytes(self.rewritten.end);
        let mut bytes = vec![0; table_bytes];
        let is_whole = fill(raw, self.header.segment, at, &mut bytes).is_ok_and(|whole| whole);
        if !is_whole || crc32c(&bytes) != self.rewritten.table_checksum {
            return false;
        }
        let mut offset = (SEGMENT_HEADER_BYTES + table_bytes) as u64;
        let mut blocks = Vec::with_capacity(self.blocks());
        for entry in bytes.as_chunks::<BLOCK_ENTRY_BYTES>().0.iter().map(BlockEntry::decode) {
            if entry.stored_bytes as usize > self.block_bytes(blocks.len()) {
                return false;
            }
            blocks.push((offset as u32, entry));
            offset += u64::from(entry.stored_bytes);
        }
        let is_exact =
            offset + (SEGMENT_HEADER_BYTES + table_bytes) as u64 == u64::from(self.rewritten.file_bytes);
        if is_exact {
            self.blocks = blocks;
        }
        is_exact
    }

    /// Where a block lies in the file, and its bytes there; `None` if it has none.
    pub(crate) fn stored(&self, block: usize) -> Option<(u64, usize)> {
        let (offset, entry) = self.blocks.get(block)?;
        (entry.stored_bytes > 0).then_some((u64::from(*offset), entry.stored_bytes as usize))
    }

    /// Reads a block, checks it, and puts it into `out` uncompressed.
    pub(crate) fn inflate<M: Medium>(
        &self,
        raw: &mut M,
        decoder: &mut Decompressor<'_>,
        block: usize,
        stored: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), MediumError> {
        let segment = self.header.segment;
        let bad =
            MediumError::Unreadable { segment, offset: (block * REWRITTEN_BLOCK_BYTES) as u64, os_error: 0 };
        let (offset, entry) = *self.blocks.get(block).ok_or(bad)?;
        let (bytes, stored_bytes) = (self.block_bytes(block), entry.stored_bytes as usize);
        out.clear();
        out.resize(bytes, 0);
        if stored_bytes == 0 {
            return Ok(());
        }
        stored.clear();
        stored.resize(stored_bytes, 0);
        let is_whole = fill(raw, segment, u64::from(offset), stored)?;
        if !is_whole || crc32c(stored) != entry.stored_checksum {
            return Err(bad);
        }
        if stored_bytes == bytes {
            out.copy_from_slice(stored);
        } else {
            let count = decoder.decompress_to_buffer(stored, &mut out[..]).map_err(|_| bad)?;
            if count != bytes {
                return Err(bad);
            }
        }
        if crc32c(out) == entry.checksum { Ok(()) } else { Err(bad) }
    }
}

type FoundHeader = Option<(SegmentHeader, [u8; SEGMENT_HEADER_BYTES])>;

/// The header of this segment at `at` of its file, if it holds.
fn header_at<M: Medium>(raw: &mut M, segment: u32, at: u64) -> Result<FoundHeader, MediumError> {
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    match fill(raw, segment, at, &mut bytes) {
        Ok(true) => {}
        Ok(false) | Err(MediumError::Unreadable { .. }) => return Ok(None),
        Err(error @ MediumError::Missing(_)) => return Err(error),
    }
    let header = SegmentHeader::decode(&bytes).filter(|header| header.segment == segment);
    Ok(header.map(|header| (header, bytes)))
}

/// The copy of the header in the last bytes of the file. A plain segment has none there: its last bytes are zeroes, or
/// the trailer of a batch.
fn back_header<M: Medium>(raw: &mut M, segment: u32) -> Result<FoundHeader, MediumError> {
    let len = raw.segment_len(segment)?;
    let Some(at) = len.checked_sub(SEGMENT_HEADER_BYTES as u64) else { return Ok(None) };
    let found = header_at(raw, segment, at)?;
    Ok(found.filter(|(header, _)| {
        let file_bytes = header.rewritten.map(|rewritten| u64::from(rewritten.file_bytes));
        header.encoding == ENCODING_REWRITTEN && file_bytes == Some(len)
    }))
}

/// Fills `into` from the file; `false` if the file ends before.
fn fill<M: Medium>(raw: &mut M, segment: u32, at: u64, into: &mut [u8]) -> Result<bool, MediumError> {
    let mut done = 0;
    while done < into.len() {
        match raw.read(segment, at + done as u64, &mut into[done..])? {
            0 => return Ok(false),
            count => done += count,
        }
    }
    Ok(true)
}
