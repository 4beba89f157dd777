//! A segment's header: whose it is, and what came before it (DESIGN 5, `docs/formats/log.md`).

use crate::checksum::crc32c;
use crate::descriptor::{
    BLOCK_ENTRY_BYTES, FORMAT_VERSION, FORMAT_VERSION_MIN, REWRITTEN_BLOCK_BYTES, SEGMENT_HEADER_BYTES,
    array, get_u16, get_u32, get_u64, put, segment,
};
use crate::index::IndexPlace;
use crate::limits::{BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use tidegate_ids::{BatchNumber, Incarnation, Location, LogId, ShardIndex, WallMs};

/// A segment as the appender wrote it.
pub const ENCODING_PLAIN: u16 = 0;
/// A segment rewritten in compressed blocks.
pub const ENCODING_REWRITTEN: u16 = 1;

/// Whose log it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogIdentity {
    /// Epoch and shard.
    pub log: LogId,
    /// The id of the data directory.
    pub directory: [u8; 16],
    /// The incarnation of the data directory when the segment was begun.
    pub incarnation: Incarnation,
    /// The version of the routing hash.
    pub hash_version: u16,
}

/// Where a log validly ended when its next segment was begun: what lies behind it there was cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PreviousEnd {
    /// The end of the last valid batch; segment 0 if there is no segment before.
    pub end: Location,
    /// The number of that batch, 0 if there is none.
    pub batch: BatchNumber,
}

/// The first block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose log.
    pub identity: LogIdentity,
    /// This segment's number, unique in the data directory.
    pub segment: u32,
    /// Its size.
    pub segment_bytes: u32,
    /// Its block size.
    pub block_bytes: u32,
    /// The format's version; only [`FORMAT_VERSION_MIN`] to [`FORMAT_VERSION`] can be read.
    pub format_version: u16,
    /// [`ENCODING_PLAIN`] or [`ENCODING_REWRITTEN`]; no other can be read.
    pub encoding: u16,
    /// What came before.
    pub previous: PreviousEnd,
    /// Where the index of the segment before lies, if the appender that wrote that one began this one too.
    pub previous_index: IndexPlace,
    /// What the header of a rewritten segment says beyond that.
    pub rewritten: Option<Rewritten>,
}

/// What a rewritten segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// Where its last batch ends in the uncompressed segment; what lies behind is zero.
    pub end: u32,
    /// The number of that batch: everything in the segment was synced once.
    pub last_batch: BatchNumber,
    /// Bytes of the whole file.
    pub file_bytes: u32,
    /// When the oldest record with a body was stamped; the largest time if there is none.
    pub oldest_live: WallMs,
    /// Records without a body.
    pub holes: u32,
    /// CRC-32C of the table of blocks.
    pub table_checksum: u32,
    /// No repair has lost a record of it. `false` in what older versions wrote.
    pub is_gapless: bool,
    /// Where its index lies in the uncompressed segment.
    pub index: IndexPlace,
}

/// Whether segments of that version can be read.
pub(crate) fn is_read(version: u16) -> bool {
    (FORMAT_VERSION_MIN..=FORMAT_VERSION).contains(&version)
}

impl Rewritten {
    /// How many blocks a segment has that ends there.
    pub(crate) const fn blocks(end: u32) -> usize {
        (end as usize).div_ceil(REWRITTEN_BLOCK_BYTES)
    }

    /// Bytes of the table of a segment that ends there.
    pub(crate) const fn table_bytes(end: u32) -> usize {
        Self::blocks(end) * BLOCK_ENTRY_BYTES
    }

    /// Bytes of the file beside its blocks: header and table, twice.
    pub(crate) const fn frame_bytes(end: u32) -> usize {
        2 * (SEGMENT_HEADER_BYTES + Self::table_bytes(end))
    }

    fn encode(&self, out: &mut [u8]) {
        put(out, segment::END_AT, self.end.to_le_bytes());
        put(out, segment::FILE_BYTES_AT, self.file_bytes.to_le_bytes());
        put(out, segment::LAST_BATCH_AT, self.last_batch.0.to_le_bytes());
        put(out, segment::OLDEST_LIVE_AT, self.oldest_live.0.to_le_bytes());
        put(out, segment::HOLES_AT, self.holes.to_le_bytes());
        put(out, segment::TABLE_CHECKSUM_AT, self.table_checksum.to_le_bytes());
        put(out, segment::GAPLESS_AT, [u8::from(self.is_gapless)]);
        self.index.put(out, segment::INDEX_AT);
    }

    /// `None` if the numbers do not fit each other.
    fn decode(bytes: &[u8; SEGMENT_HEADER_BYTES], segment_bytes: u32, block_bytes: u32) -> Option<Self> {
        let found = Self {
            end: get_u32(bytes, segment::END_AT),
            last_batch: BatchNumber(get_u64(bytes, segment::LAST_BATCH_AT)),
            file_bytes: get_u32(bytes, segment::FILE_BYTES_AT),
            oldest_live: WallMs(get_u64(bytes, segment::OLDEST_LIVE_AT)),
            holes: get_u32(bytes, segment::HOLES_AT),
            table_checksum: get_u32(bytes, segment::TABLE_CHECKSUM_AT),
            is_gapless: bytes[segment::GAPLESS_AT] == 1,
            index: IndexPlace::get(bytes, segment::INDEX_AT),
        };
        let end = found.end;
        let ends_within = (block_bytes..=segment_bytes).contains(&end) && end.is_multiple_of(block_bytes);
        let frame = Self::frame_bytes(end);
        let fits = (frame..=frame + end as usize).contains(&(found.file_bytes as usize));
        (ends_within && fits).then_some(found)
    }
}

impl SegmentHeader {
    /// Writes the header block; `out` is a whole block.
    pub(crate) fn encode(&self, out: &mut [u8]) {
        out.fill(0);
        put(out, segment::MAGIC_AT, segment::MAGIC);
        put(out, segment::VERSION_AT, self.format_version.to_le_bytes());
        put(out, segment::HASH_VERSION_AT, self.identity.hash_version.to_le_bytes());
        put(out, segment::BLOCK_BYTES_AT, self.block_bytes.to_le_bytes());
        put(out, segment::SEGMENT_BYTES_AT, self.segment_bytes.to_le_bytes());
        put(out, segment::SEGMENT_AT, self.segment.to_le_bytes());
        put(out, segment::EPOCH_AT, self.identity.log.epoch.to_le_bytes());
        put(out, segment::SHARD_AT, self.identity.log.shard.0.to_le_bytes());
        put(out, segment::ENCODING_AT, self.encoding.to_le_bytes());
        put(out, segment::PREVIOUS_SEGMENT_AT, self.previous.end.segment.to_le_bytes());
        put(out, segment::PREVIOUS_END_AT, self.previous.end.offset.to_le_bytes());
        put(out, segment::PREVIOUS_BATCH_AT, self.previous.batch.0.to_le_bytes());
        put(out, segment::INCARNATION_AT, self.identity.incarnation.0.to_le_bytes());
        put(out, segment::DIRECTORY_AT, self.identity.directory);
        self.previous_index.put(out, segment::PREVIOUS_INDEX_AT);
        if let Some(rewritten) = &self.rewritten {
            rewritten.encode(out);
        }
        let sum = crc32c(&out[segment::VERSION_AT..SEGMENT_HEADER_BYTES]);
        put(out, segment::CHECKSUM_AT, sum.to_le_bytes());
    }

    /// Reads a header whose checksum holds and whose sizes can be; the version is the caller's to judge.
    #[must_use]
    pub fn decode(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> Option<Self> {
        let sound = array::<8>(bytes, segment::MAGIC_AT) == segment::MAGIC
            && get_u32(bytes, segment::CHECKSUM_AT) == crc32c(&bytes[segment::VERSION_AT..]);
        if !sound {
            return None;
        }
        let mut header = Self {
            identity: LogIdentity {
                log: LogId {
                    epoch: get_u32(bytes, segment::EPOCH_AT),
                    shard: ShardIndex(get_u16(bytes, segment::SHARD_AT)),
                },
                directory: array(bytes, segment::DIRECTORY_AT),
                incarnation: Incarnation(get_u64(bytes, segment::INCARNATION_AT)),
                hash_version: get_u16(bytes, segment::HASH_VERSION_AT),
            },
            segment: get_u32(bytes, segment::SEGMENT_AT),
            segment_bytes: get_u32(bytes, segment::SEGMENT_BYTES_AT),
            block_bytes: get_u32(bytes, segment::BLOCK_BYTES_AT),
            format_version: get_u16(bytes, segment::VERSION_AT),
            encoding: get_u16(bytes, segment::ENCODING_AT),
            previous: PreviousEnd {
                end: Location::new(
                    get_u32(bytes, segment::PREVIOUS_SEGMENT_AT),
                    get_u32(bytes, segment::PREVIOUS_END_AT),
                ),
                batch: BatchNumber(get_u64(bytes, segment::PREVIOUS_BATCH_AT)),
            },
            previous_index: IndexPlace::get(bytes, segment::PREVIOUS_INDEX_AT),
            rewritten: None,
        };
        let block = header.block_bytes;
        let sizes_can_be = block.is_power_of_two()
            && (BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&block)
            && (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&header.segment_bytes)
            && header.segment_bytes.is_multiple_of(block);
        if !is_read(header.format_version) {
            return Some(header);
        }
        if sizes_can_be && header.encoding == ENCODING_REWRITTEN {
            header.rewritten = Some(Rewritten::decode(bytes, header.segment_bytes, block)?);
        }
        sizes_can_be.then_some(header)
    }
}
