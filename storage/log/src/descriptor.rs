//! The format as named offsets; `docs/formats/log.md` explains it. All integers are little-endian.
//!
//! A segment is a header block, then batches on block boundaries. A batch is a header, records, a table of the
//! records' offsets, zeroes, and the header once more, up to a block boundary. A sealed segment ends with index batches, footer
//! batches and a seal.

/// The version of everything in this file: what is written. Version 1, which has no index, is read too.
pub const FORMAT_VERSION: u16 = 2;

/// The oldest version that is read.
pub const FORMAT_VERSION_MIN: u16 = 1;

/// The first version whose sealed segments have an index.
pub const FORMAT_VERSION_INDEXED: u16 = 2;

/// Records and footers are aligned to this within a batch, and so in the segment.
pub const RECORD_ALIGN: usize = 8;

/// The bytes of a segment header under its checksum; the rest of the block is zero.
pub const SEGMENT_HEADER_BYTES: usize = 512;

/// Offsets in a segment's header.
pub mod segment {
    /// `TIDESEG1` as eight bytes.
    pub const MAGIC: [u8; 8] = *b"TIDESEG1";
    /// Eight bytes: [`MAGIC`].
    pub const MAGIC_AT: usize = 0;
    /// u32: CRC-32C of bytes 12 to 512.
    pub const CHECKSUM_AT: usize = 8;
    /// u16: the format's version.
    pub const VERSION_AT: usize = 12;
    /// u16: the version of the routing hash.
    pub const HASH_VERSION_AT: usize = 14;
    /// u32: the block size of this segment.
    pub const BLOCK_BYTES_AT: usize = 16;
    /// u32: the size of the uncompressed segment.
    pub const SEGMENT_BYTES_AT: usize = 20;
    /// u32: this segment's number.
    pub const SEGMENT_AT: usize = 24;
    /// u32: the epoch of the log.
    pub const EPOCH_AT: usize = 28;
    /// u16: the shard of the log.
    pub const SHARD_AT: usize = 32;
    /// u16: 0 as written by the appender; 1 rewritten in compressed blocks.
    pub const ENCODING_AT: usize = 34;
    /// u32: the segment of this log before this one, 0 for none.
    pub const PREVIOUS_SEGMENT_AT: usize = 36;
    /// u32: where that one validly ended.
    pub const PREVIOUS_END_AT: usize = 40;
    /// u64: the last valid batch of the log before this segment.
    pub const PREVIOUS_BATCH_AT: usize = 48;
    /// u64: the incarnation of the data directory.
    pub const INCARNATION_AT: usize = 56;
    /// Sixteen bytes: the id of the data directory.
    pub const DIRECTORY_AT: usize = 64;
    /// Rewritten only. u32: where the last batch ends in the uncompressed segment.
    pub const END_AT: usize = 80;
    /// Rewritten only. u32: bytes of the whole file.
    pub const FILE_BYTES_AT: usize = 84;
    /// Rewritten only. u64: the number of the last batch.
    pub const LAST_BATCH_AT: usize = 88;
    /// Rewritten only. u64: the time of the oldest live record, all ones if nothing lives.
    pub const OLDEST_LIVE_AT: usize = 96;
    /// Rewritten only. u32: records without a body.
    pub const HOLES_AT: usize = 104;
    /// Rewritten only. u32: CRC-32C of the table of blocks.
    pub const TABLE_CHECKSUM_AT: usize = 108;
    /// Rewritten only. u8: 1 if no repair has lost a record of it, 0 if that is not known.
    pub const GAPLESS_AT: usize = 112;
    /// A place: the index of the segment before this one.
    pub const PREVIOUS_INDEX_AT: usize = 116;
    /// Rewritten only. A place: this segment's index.
    pub const INDEX_AT: usize = 124;
}

/// Bytes of the uncompressed segment in one block of a rewritten one; the last block ends with the last batch.
pub const REWRITTEN_BLOCK_BYTES: usize = 64 * 1024;

/// The bytes of one entry in the table of blocks of a rewritten segment.
pub const BLOCK_ENTRY_BYTES: usize = 12;

/// Offsets in an entry of the table of blocks.
pub mod block {
    /// u32: bytes of the block in the file: 0 if all of it is zero, its own length if it is stored as it is.
    pub const STORED_BYTES_AT: usize = 0;
    /// u32: CRC-32C of those bytes.
    pub const STORED_CHECKSUM_AT: usize = 4;
    /// u32: CRC-32C of the block itself.
    pub const CHECKSUM_AT: usize = 8;
}

/// The bytes of a batch header.
pub const BATCH_HEADER_BYTES: usize = 64;

/// The bytes of a batch's trailer: its header again, in its last bytes, so that a lost first sector costs no other.
pub const BATCH_TRAILER_BYTES: usize = BATCH_HEADER_BYTES;

/// Offsets in a batch's header.
pub mod batch {
    /// `TBAT`.
    pub const MAGIC: u32 = u32::from_le_bytes(*b"TBAT");
    /// u32: [`MAGIC`].
    pub const MAGIC_AT: usize = 0;
    /// u32: CRC-32C of bytes 8 to 64, xor CRC-32C of the data directory's id.
    pub const HEADER_CHECKSUM_AT: usize = 4;
    /// u64: the batch's number in its log.
    pub const NUMBER_AT: usize = 8;
    /// u64: the last batch known synced when this one was written.
    pub const SYNCED_THROUGH_AT: usize = 16;
    /// u32: the segment this batch was written to.
    pub const SEGMENT_AT: usize = 24;
    /// u32: the offset this batch was written at.
    pub const OFFSET_AT: usize = 28;
    /// u32: bytes of the whole batch, a multiple of the block.
    pub const LENGTH_AT: usize = 32;
    /// u32: bytes up to the end of the last record or footer entry, header included.
    pub const USED_AT: usize = 36;
    /// u32: records or footer entries in this batch.
    pub const COUNT_AT: usize = 40;
    /// u32: CRC-32C of bytes 64 to the trailer, padding included.
    pub const PAYLOAD_CHECKSUM_AT: usize = 44;
    /// u32: CRC-32C of the table of offsets.
    pub const TABLE_CHECKSUM_AT: usize = 48;
    /// u8: 1 records, 2 footer, 3 seal, 4 index.
    pub const KIND_AT: usize = 52;
    /// u32: how many batches lie before this one in its segment; so each of them knows the segment's first number.
    pub const INDEX_AT: usize = 56;
}

/// The bytes of one entry in a batch's table of offsets: u32, the record's offset in the batch.
pub const TABLE_ENTRY_BYTES: usize = 4;

/// The bytes of a placement.
pub const PLACEMENT_BYTES: usize = 24;

/// Offsets in a record's placement.
pub mod placement {
    /// u64: the stream's record before this one.
    pub const PREV_AT: usize = 0;
    /// u64: a record further back (Myers 1983).
    pub const JUMP_AT: usize = 8;
    /// u8: 0 live, 1 expired, 2 erased.
    pub const STATE_AT: usize = 16;
    /// u32: CRC-32C of bytes 0 to 20.
    pub const CHECKSUM_AT: usize = 20;
}

/// The bytes of a logical record's head.
pub const HEAD_BYTES: usize = 72;

/// Offsets in a logical record's head, which follows the placement.
pub mod head {
    /// Sixteen bytes: the stream.
    pub const STREAM_AT: usize = 0;
    /// u64: the sequence, 0 for none.
    pub const SEQUENCE_AT: usize = 16;
    /// u64: wall time in milliseconds.
    pub const TIME_AT: usize = 24;
    /// u64: the device's command number, 0 for none.
    pub const NUMBER_AT: usize = 32;
    /// u64: the location of that device's record before this one in this stream.
    pub const DEVICE_PREV_AT: usize = 40;
    /// u32: bytes of the body.
    pub const BODY_LEN_AT: usize = 48;
    /// u16: the kind, whose meaning is the domain's.
    pub const KIND_AT: usize = 52;
    /// u8: flags of the domain.
    pub const FLAGS_AT: usize = 54;
    /// u8: how the body is encoded, 0 for as it is.
    pub const ENCODING_AT: usize = 55;
    /// u32: the key the body is sealed under, 0 for none.
    pub const KEY_AT: usize = 56;
    /// u16: the dictionary the body is compressed with, 0 for none.
    pub const DICTIONARY_AT: usize = 60;
    /// u32: CRC-32C of the body as stored.
    pub const BODY_CHECKSUM_AT: usize = 64;
    /// u32: CRC-32C of bytes 0 to 68.
    pub const CHECKSUM_AT: usize = 68;
}

/// Placement and head together: what stands before a body.
pub const RECORD_HEADER_BYTES: usize = PLACEMENT_BYTES + HEAD_BYTES;

/// The bytes of one footer entry.
pub const FOOTER_ENTRY_BYTES: usize = 32;

/// Offsets in a footer entry.
pub mod footer {
    /// Sixteen bytes: the stream.
    pub const STREAM_AT: usize = 0;
    /// u64: the last sequence of the stream in this segment.
    pub const LAST_SEQUENCE_AT: usize = 16;
    /// u32: the offset of the stream's last record in this segment.
    pub const LAST_OFFSET_AT: usize = 24;
    /// u32: how many records of the stream are in this segment.
    pub const COUNT_AT: usize = 28;
}

/// The bytes of a seal, before the last footer entries.
pub const SEAL_BYTES: usize = 32;

/// Offsets in a seal.
pub mod seal {
    /// u64: records in the segment.
    pub const RECORDS_AT: usize = 0;
    /// u32: streams in the segment.
    pub const STREAMS_AT: usize = 8;
    /// u32: the offset of the first footer batch, the seal itself if it is the only one.
    pub const FOOTER_OFFSET_AT: usize = 12;
    /// u32: footer batches, the seal included.
    pub const FOOTER_BATCHES_AT: usize = 16;
    /// A place: the segment's index.
    pub const INDEX_AT: usize = 20;
}

/// Offsets in the place of an index, wherever one is told.
pub mod place {
    /// u32: where the index begins in its segment, 0 for none.
    pub const OFFSET_AT: usize = 0;
    /// u32: bytes of the index, headers and trailers of its batches included.
    pub const BYTES_AT: usize = 4;
}

/// The bytes of an index entry before its offsets.
pub const INDEX_ENTRY_BYTES: usize = 40;

/// Offsets in an index entry.
pub mod index {
    /// u32: CRC-32C of the entry from byte 4 on.
    pub const CHECKSUM_AT: usize = 0;
    /// u32: how many records the run has.
    pub const RUN_AT: usize = 4;
    /// Sixteen bytes: the stream.
    pub const STREAM_AT: usize = 8;
    /// u64: the sequence of the run's last record.
    pub const LAST_SEQUENCE_AT: usize = 24;
    /// u64: `prev` of the run's first record.
    pub const BEFORE_AT: usize = 32;
}

const _: () = assert!(HEAD_BYTES == head::CHECKSUM_AT + 4);
const _: () = assert!(PLACEMENT_BYTES == placement::CHECKSUM_AT + 4);
const _: () = assert!(RECORD_HEADER_BYTES.is_multiple_of(RECORD_ALIGN));
const _: () = assert!(BATCH_HEADER_BYTES.is_multiple_of(RECORD_ALIGN));

/// Reads a u16 at `at`.
pub(crate) fn get_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

/// Reads a u32 at `at`.
pub(crate) fn get_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

/// Reads a u64 at `at`.
pub(crate) fn get_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

/// Reads `N` bytes at `at`; callers have checked the bounds.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut value = [0; N];
    value.copy_from_slice(&bytes[at..at + N]);
    value
}

/// Writes bytes at `at`.
pub(crate) fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

/// The smallest multiple of `block` (a power of two) that is not below `value`.
pub(crate) const fn round_up(value: usize, block: usize) -> usize {
    (value + block - 1) & !(block - 1)
}
