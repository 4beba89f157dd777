//! A segment's header: whose it is, and what came before it (DESIGN 5, `docs/formats/log.md`).

use crate::checksum::crc32c;
use crate::descriptor::{
    FORMAT_VERSION, SEGMENT_HEADER_BYTES, array, get_u16, get_u32, get_u64, put, segment,
};
use crate::limits::{BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use tidegate_ids::{BatchNumber, Incarnation, Location, LogId, ShardIndex};

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
    /// The format's version; only [`FORMAT_VERSION`] can be read.
    pub format_version: u16,
    /// 0: as the appender wrote it.
    pub encoding: u16,
    /// What came before.
    pub previous: PreviousEnd,
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
        let header = Self {
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
        };
        let block = header.block_bytes;
        let sizes_can_be = block.is_power_of_two()
            && (BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&block)
            && (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&header.segment_bytes)
            && header.segment_bytes.is_multiple_of(block);
        let readable = sizes_can_be || header.format_version != FORMAT_VERSION;
        readable.then_some(header)
    }
}
