//! A block of entries: what one read brings, under one checksum.

use crate::checksum::crc32c;
use crate::descriptor::{array, get_u16, get_u32, get_u64, put, round_up};
use crate::snapshot::format::{
    ALIGN, BLOCK_HEADER_BYTES, ENTRY_BYTES, INDEX_ENTRY_BYTES, block, entry, index_entry,
};
use crate::snapshot::index::SnapshotEntry;
use tidegate_ids::{Location, StreamId, VirtualShard};

/// What entries are sorted by.
pub(crate) type Key = (VirtualShard, StreamId);

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockKind {
    /// Entries of streams.
    Entries = 1,
    /// Entries of the index.
    Index = 2,
}

/// Whose block it is, and where it was written: a block that lies elsewhere does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockIdentity {
    pub(crate) kind: BlockKind,
    pub(crate) number: u64,
    pub(crate) offset: u64,
    pub(crate) guard: u32,
}

/// A block as the index knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) first: Key,
    pub(crate) offset: u64,
    pub(crate) length: u32,
}

const _: () = assert!(size_of::<IndexEntry>() == 32);

/// A block being filled.
#[derive(Debug)]
pub(crate) struct BlockBuilder {
    bytes: Vec<u8>,
    count: u16,
}

impl BlockBuilder {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; BLOCK_HEADER_BYTES], count: 0 }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes so far.
    pub(crate) const fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn push(&mut self, new: &SnapshotEntry<'_>) {
        let mut fixed = [0; ENTRY_BYTES];
        put(&mut fixed, entry::STREAM_AT, new.stream.0);
        put(&mut fixed, entry::FOLDED_AT, new.folded.to_u64().to_le_bytes());
        put(&mut fixed, entry::STATE_BYTES_AT, (new.state.len() as u32).to_le_bytes());
        put(&mut fixed, entry::PLACE_AT, new.place.0.to_le_bytes());
        self.bytes.extend_from_slice(&fixed);
        self.bytes.extend_from_slice(new.state);
        self.bytes.resize(round_up(self.bytes.len(), ALIGN), 0);
        self.count += 1;
    }

    pub(crate) fn push_index(&mut self, new: &IndexEntry) {
        let mut fixed = [0; INDEX_ENTRY_BYTES];
        put(&mut fixed, index_entry::STREAM_AT, new.first.1.0);
        put(&mut fixed, index_entry::OFFSET_AT, new.offset.to_le_bytes());
        put(&mut fixed, index_entry::LENGTH_AT, new.length.to_le_bytes());
        put(&mut fixed, index_entry::PLACE_AT, new.first.0.0.to_le_bytes());
        self.bytes.extend_from_slice(&fixed);
        self.count += 1;
    }

    /// The finished block; [`BlockBuilder::clear`] begins the next.
    pub(crate) fn finish(&mut self, identity: &BlockIdentity) -> &[u8] {
        let out = &mut self.bytes;
        let length = out.len() as u32;
        put(out, block::MAGIC_AT, block::MAGIC.to_le_bytes());
        put(out, block::NUMBER_AT, identity.number.to_le_bytes());
        put(out, block::OFFSET_AT, identity.offset.to_le_bytes());
        put(out, block::LENGTH_AT, length.to_le_bytes());
        put(out, block::COUNT_AT, self.count.to_le_bytes());
        put(out, block::KIND_AT, [identity.kind as u8, 0]);
        let sum = crc32c(&out[block::NUMBER_AT..]) ^ identity.guard;
        put(out, block::CHECKSUM_AT, sum.to_le_bytes());
        &self.bytes
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.truncate(BLOCK_HEADER_BYTES);
        self.count = 0;
    }
}

/// The payload of a block and how many entries it has, if all of it holds and it is the one that is meant.
pub(crate) fn checked<'a>(bytes: &'a [u8], identity: &BlockIdentity) -> Option<(&'a [u8], u16)> {
    let header = bytes.first_chunk::<BLOCK_HEADER_BYTES>()?;
    let sound = get_u32(header, block::MAGIC_AT) == block::MAGIC
        && get_u32(header, block::CHECKSUM_AT) == crc32c(&bytes[block::NUMBER_AT..]) ^ identity.guard
        && get_u64(header, block::NUMBER_AT) == identity.number
        && get_u64(header, block::OFFSET_AT) == identity.offset
        && get_u32(header, block::LENGTH_AT) as usize == bytes.len()
        && header[block::KIND_AT..] == [identity.kind as u8, 0];
    sound.then(|| (&bytes[BLOCK_HEADER_BYTES..], get_u16(header, block::COUNT_AT)))
}

/// Takes the first entry off the payload of a block that holds.
pub(crate) fn take_entry<'a>(rest: &mut &'a [u8]) -> Option<SnapshotEntry<'a>> {
    let (fixed, after) = rest.split_first_chunk::<ENTRY_BYTES>()?;
    let state_bytes = get_u32(fixed, entry::STATE_BYTES_AT) as usize;
    let state = after.get(..state_bytes)?;
    *rest = after.get(round_up(state_bytes, ALIGN)..)?;
    Some(SnapshotEntry {
        place: VirtualShard(get_u16(fixed, entry::PLACE_AT)),
        stream: StreamId(array(fixed, entry::STREAM_AT)),
        folded: Location::from_u64(get_u64(fixed, entry::FOLDED_AT)),
        state,
    })
}

impl IndexEntry {
    pub(crate) fn decode(bytes: &[u8; INDEX_ENTRY_BYTES]) -> Self {
        let place = VirtualShard(get_u16(bytes, index_entry::PLACE_AT));
        Self {
            first: (place, StreamId(array(bytes, index_entry::STREAM_AT))),
            offset: get_u64(bytes, index_entry::OFFSET_AT),
            length: get_u32(bytes, index_entry::LENGTH_AT),
        }
    }
}
