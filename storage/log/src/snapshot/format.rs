//! The offsets of a snapshot, its header and its footer. `docs/formats/snapshot.md` is this file in words.

use crate::checksum::crc32c;
use crate::descriptor::{array, get_u16, get_u32, get_u64, put, round_up};
use crate::limits::SNAPSHOT_COVERED_BYTES_MAX;
use crate::segment::PreviousEnd;
use tidegate_ids::{BatchNumber, Incarnation, Location, LogId, ShardIndex};

/// The version of the format that is written, and the only one that is read.
pub const SNAPSHOT_FORMAT_VERSION: u16 = 1;

/// Everything in a snapshot is padded to this.
pub(crate) const ALIGN: usize = 8;

/// Bytes of the header before the list of logs.
pub(crate) const HEADER_BYTES: usize = 64;

/// Offsets in the header. The first 64 bytes mean the same in every version.
pub(crate) mod header {
    pub(crate) const MAGIC: [u8; 8] = *b"TIDESNAP";
    pub(crate) const MAGIC_AT: usize = 0;
    /// u32: CRC of bytes 12 to 64.
    pub(crate) const CHECKSUM_AT: usize = 8;
    /// u16: format version.
    pub(crate) const VERSION_AT: usize = 12;
    /// u16: version of the routing hash.
    pub(crate) const HASH_VERSION_AT: usize = 14;
    /// u64: number of the snapshot.
    pub(crate) const NUMBER_AT: usize = 16;
    /// u64: incarnation.
    pub(crate) const INCARNATION_AT: usize = 24;
    /// Sixteen bytes: id of the data directory.
    pub(crate) const DIRECTORY_AT: usize = 32;
    /// u32: logs covered.
    pub(crate) const LOGS_AT: usize = 48;
    /// u32: bytes of the list of logs that follows.
    pub(crate) const LOGS_BYTES_AT: usize = 52;
    /// u32: CRC of that list.
    pub(crate) const LOGS_CHECKSUM_AT: usize = 56;
}

/// Bytes of a covered log before its checkpoint.
pub(crate) const COVERED_BYTES: usize = 32;

/// Offsets in a covered log.
pub(crate) mod covered {
    /// u32: epoch.
    pub(crate) const EPOCH_AT: usize = 0;
    /// u16: shard, then two zeroes.
    pub(crate) const SHARD_AT: usize = 4;
    /// u64: location, the end of what is covered.
    pub(crate) const END_AT: usize = 8;
    /// u64: number of the last batch covered.
    pub(crate) const BATCH_AT: usize = 16;
    /// u32: bytes of the checkpoint that follows; then four zeroes.
    pub(crate) const CHECKPOINT_BYTES_AT: usize = 24;
}

/// Bytes of a block's header.
pub(crate) const BLOCK_HEADER_BYTES: usize = 32;

/// Offsets in a block's header.
pub(crate) mod block {
    pub(crate) const MAGIC: u32 = u32::from_le_bytes(*b"TSBK");
    pub(crate) const MAGIC_AT: usize = 0;
    /// u32: CRC of bytes 8 to the block's end, xor the CRC of the data directory's id.
    pub(crate) const CHECKSUM_AT: usize = 4;
    /// u64: number of the snapshot.
    pub(crate) const NUMBER_AT: usize = 8;
    /// u64: where in the file it was written.
    pub(crate) const OFFSET_AT: usize = 16;
    /// u32: bytes of the whole block.
    pub(crate) const LENGTH_AT: usize = 24;
    /// u16: entries.
    pub(crate) const COUNT_AT: usize = 28;
    /// u8: 1 entries of streams, 2 index; then a zero.
    pub(crate) const KIND_AT: usize = 30;
}

/// Bytes of an entry before its state.
pub(crate) const ENTRY_BYTES: usize = 32;

/// Offsets in an entry.
pub(crate) mod entry {
    /// Sixteen bytes: stream.
    pub(crate) const STREAM_AT: usize = 0;
    /// u64: location of the newest record folded.
    pub(crate) const FOLDED_AT: usize = 16;
    /// u32: bytes of the state that follows.
    pub(crate) const STATE_BYTES_AT: usize = 24;
    /// u16: virtual shard, then two zeroes.
    pub(crate) const PLACE_AT: usize = 28;
}

/// Bytes of an entry of the index.
pub(crate) const INDEX_ENTRY_BYTES: usize = 32;

/// Offsets in an entry of the index, which stands for a block.
pub(crate) mod index_entry {
    /// Sixteen bytes: the block's first stream.
    pub(crate) const STREAM_AT: usize = 0;
    /// u64: where the block starts.
    pub(crate) const OFFSET_AT: usize = 16;
    /// u32: bytes of the block.
    pub(crate) const LENGTH_AT: usize = 24;
    /// u16: virtual shard of the first stream, then two zeroes.
    pub(crate) const PLACE_AT: usize = 28;
}

/// Bytes of the footer.
pub(crate) const FOOTER_BYTES: usize = 64;

/// Offsets in the footer.
pub(crate) mod footer {
    pub(crate) const MAGIC: [u8; 8] = *b"TIDESNPE";
    pub(crate) const MAGIC_AT: usize = 0;
    /// u32: CRC of bytes 12 to 64, xor the CRC of the data directory's id.
    pub(crate) const CHECKSUM_AT: usize = 8;
    /// u32: the checksum of the header.
    pub(crate) const HEADER_CHECKSUM_AT: usize = 12;
    /// u64: number of the snapshot.
    pub(crate) const NUMBER_AT: usize = 16;
    /// u64: where the index starts.
    pub(crate) const INDEX_OFFSET_AT: usize = 24;
    /// u64: bytes of the file.
    pub(crate) const FILE_BYTES_AT: usize = 32;
    /// u64: entries of streams.
    pub(crate) const ENTRIES_AT: usize = 40;
    /// u32: blocks of entries.
    pub(crate) const BLOCKS_AT: usize = 48;
    /// u32: blocks of the index.
    pub(crate) const INDEX_BLOCKS_AT: usize = 52;
}

/// What a snapshot is of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// Its number, rising from snapshot to snapshot of a directory.
    pub number: u64,
    /// The id of the data directory.
    pub directory: [u8; 16],
    /// The incarnation of the data directory.
    pub incarnation: Incarnation,
    /// The version of the routing hash, by which the entries are sorted.
    pub hash_version: u16,
    /// What of each log is folded. A log that is not here is not folded at all.
    pub covered: Vec<Covered>,
}

/// One log: everything before `previous.end` is folded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Covered {
    /// The log.
    pub log: LogId,
    /// Where the last covered segment ends, and its last batch.
    pub previous: PreviousEnd,
    /// The newest checkpoint in what is folded: the body of its record, opaque here; empty: there is none.
    pub checkpoint: Vec<u8>,
}

/// Where everything is, from the end of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) header_checksum: u32,
    pub(crate) number: u64,
    pub(crate) index_offset: u64,
    pub(crate) file_bytes: u64,
    pub(crate) entries: u64,
    pub(crate) blocks: u32,
    pub(crate) index_blocks: u32,
}

/// The front of a header: what every version has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Front {
    pub(crate) version: u16,
    pub(crate) checksum: u32,
    pub(crate) logs_bytes: u32,
}

impl SnapshotHeader {
    /// What is folded of a log.
    #[must_use]
    pub fn covered(&self, log: LogId) -> Option<&Covered> {
        self.covered.iter().find(|covered| covered.log == log)
    }

    /// The header's bytes, the list of logs included; `None` if that is too long.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let mut out = vec![0; HEADER_BYTES];
        self.covered.iter().for_each(|covered| covered.encode(&mut out));
        let logs_bytes = out.len() - HEADER_BYTES;
        if logs_bytes > SNAPSHOT_COVERED_BYTES_MAX {
            return None;
        }
        let logs_checksum = crc32c(&out[HEADER_BYTES..]);
        put(&mut out, header::MAGIC_AT, header::MAGIC);
        put(&mut out, header::VERSION_AT, SNAPSHOT_FORMAT_VERSION.to_le_bytes());
        put(&mut out, header::HASH_VERSION_AT, self.hash_version.to_le_bytes());
        put(&mut out, header::NUMBER_AT, self.number.to_le_bytes());
        put(&mut out, header::INCARNATION_AT, self.incarnation.0.to_le_bytes());
        put(&mut out, header::DIRECTORY_AT, self.directory);
        put(&mut out, header::LOGS_AT, (self.covered.len() as u32).to_le_bytes());
        put(&mut out, header::LOGS_BYTES_AT, (logs_bytes as u32).to_le_bytes());
        put(&mut out, header::LOGS_CHECKSUM_AT, logs_checksum.to_le_bytes());
        let sum = crc32c(&out[header::VERSION_AT..HEADER_BYTES]);
        put(&mut out, header::CHECKSUM_AT, sum.to_le_bytes());
        Some(out)
    }

    /// Reads a whole header whose front was judged by [`Front::decode`]; `None` if its list does not hold.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let list = bytes.get(HEADER_BYTES..)?;
        if crc32c(list) != get_u32(bytes, header::LOGS_CHECKSUM_AT) {
            return None;
        }
        let mut rest = list;
        let mut covered = Vec::new();
        while !rest.is_empty() {
            covered.push(Covered::decode(&mut rest)?);
        }
        (covered.len() == get_u32(bytes, header::LOGS_AT) as usize).then(|| Self {
            number: get_u64(bytes, header::NUMBER_AT),
            directory: array(bytes, header::DIRECTORY_AT),
            incarnation: Incarnation(get_u64(bytes, header::INCARNATION_AT)),
            hash_version: get_u16(bytes, header::HASH_VERSION_AT),
            covered,
        })
    }
}

impl Front {
    /// Reads the first bytes of a header, if their checksum holds.
    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let checksum = get_u32(bytes, header::CHECKSUM_AT);
        let sound = array::<8>(bytes, header::MAGIC_AT) == header::MAGIC
            && checksum == crc32c(&bytes[header::VERSION_AT..]);
        sound.then(|| Self {
            version: get_u16(bytes, header::VERSION_AT),
            checksum,
            logs_bytes: get_u32(bytes, header::LOGS_BYTES_AT),
        })
    }
}

impl Covered {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut fixed = [0; COVERED_BYTES];
        put(&mut fixed, covered::EPOCH_AT, self.log.epoch.to_le_bytes());
        put(&mut fixed, covered::SHARD_AT, self.log.shard.0.to_le_bytes());
        put(&mut fixed, covered::END_AT, self.previous.end.to_u64().to_le_bytes());
        put(&mut fixed, covered::BATCH_AT, self.previous.batch.0.to_le_bytes());
        put(&mut fixed, covered::CHECKPOINT_BYTES_AT, (self.checkpoint.len() as u32).to_le_bytes());
        out.extend_from_slice(&fixed);
        out.extend_from_slice(&self.checkpoint);
        out.resize(round_up(out.len(), ALIGN), 0);
    }

    fn decode(rest: &mut &[u8]) -> Option<Self> {
        let (fixed, after) = rest.split_first_chunk::<COVERED_BYTES>()?;
        let checkpoint_bytes = get_u32(fixed, covered::CHECKPOINT_BYTES_AT) as usize;
        let checkpoint = after.get(..checkpoint_bytes)?;
        *rest = after.get(round_up(checkpoint_bytes, ALIGN)..)?;
        Some(Self {
            log: LogId {
                epoch: get_u32(fixed, covered::EPOCH_AT),
                shard: ShardIndex(get_u16(fixed, covered::SHARD_AT)),
            },
            previous: PreviousEnd {
                end: Location::from_u64(get_u64(fixed, covered::END_AT)),
                batch: BatchNumber(get_u64(fixed, covered::BATCH_AT)),
            },
            checkpoint: checkpoint.to_vec(),
        })
    }
}

impl Footer {
    pub(crate) fn encode(&self, guard: u32) -> [u8; FOOTER_BYTES] {
        let mut out = [0; FOOTER_BYTES];
        put(&mut out, footer::MAGIC_AT, footer::MAGIC);
        put(&mut out, footer::HEADER_CHECKSUM_AT, self.header_checksum.to_le_bytes());
        put(&mut out, footer::NUMBER_AT, self.number.to_le_bytes());
        put(&mut out, footer::INDEX_OFFSET_AT, self.index_offset.to_le_bytes());
        put(&mut out, footer::FILE_BYTES_AT, self.file_bytes.to_le_bytes());
        put(&mut out, footer::ENTRIES_AT, self.entries.to_le_bytes());
        put(&mut out, footer::BLOCKS_AT, self.blocks.to_le_bytes());
        put(&mut out, footer::INDEX_BLOCKS_AT, self.index_blocks.to_le_bytes());
        let sum = crc32c(&out[footer::HEADER_CHECKSUM_AT..]) ^ guard;
        put(&mut out, footer::CHECKSUM_AT, sum.to_le_bytes());
        out
    }

    /// Reads a footer whose checksum holds.
    pub(crate) fn decode(bytes: &[u8; FOOTER_BYTES], guard: u32) -> Option<Self> {
        let sum = crc32c(&bytes[footer::HEADER_CHECKSUM_AT..]) ^ guard;
        let sound = array::<8>(bytes, footer::MAGIC_AT) == footer::MAGIC
            && get_u32(bytes, footer::CHECKSUM_AT) == sum;
        sound.then(|| Self {
            header_checksum: get_u32(bytes, footer::HEADER_CHECKSUM_AT),
            number: get_u64(bytes, footer::NUMBER_AT),
            index_offset: get_u64(bytes, footer::INDEX_OFFSET_AT),
            file_bytes: get_u64(bytes, footer::FILE_BYTES_AT),
            entries: get_u64(bytes, footer::ENTRIES_AT),
            blocks: get_u32(bytes, footer::BLOCKS_AT),
            index_blocks: get_u32(bytes, footer::INDEX_BLOCKS_AT),
        })
    }
}

const _: () = assert!(HEADER_BYTES.is_multiple_of(ALIGN) && FOOTER_BYTES.is_multiple_of(ALIGN));
const _: () = assert!(BLOCK_HEADER_BYTES.is_multiple_of(ALIGN) && ENTRY_BYTES.is_multiple_of(ALIGN));
const _: () = assert!(entry::PLACE_AT + 4 == ENTRY_BYTES && index_entry::PLACE_AT + 4 == INDEX_ENTRY_BYTES);
