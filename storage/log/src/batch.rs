//! A batch: what one write makes durable (DESIGN 5, "Batch").

use crate::checksum::crc32c;
use crate::descriptor::{
    BATCH_HEADER_BYTES, BATCH_TRAILER_BYTES, RECORD_ALIGN, TABLE_ENTRY_BYTES, batch, get_u32, get_u64, put,
    round_up,
};
use crate::limits::BATCH_BYTES_MAX;
use tidegate_ids::BatchNumber;

/// What a batch holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchKind {
    /// Records.
    Records,
    /// Entries of the segment's footer.
    Footer,
    /// The seal and the last entries of the footer: nothing follows in this segment.
    Seal,
    /// A part of the segment's index.
    Index,
}

/// What the checksum of a batch's header is mixed with: a number made from the id of the data directory.
///
/// When scanning resynchronises behind bad bytes, it looks into what people sent. They know neither the id nor any
/// byte of the log, so a batch inside a message is not taken for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guard(pub(crate) u32);

impl Guard {
    /// The guard of a data directory.
    #[must_use]
    pub fn new(directory: &[u8; 16]) -> Self {
        Self(crc32c(directory))
    }
}

/// The head of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Its number in the log.
    pub number: BatchNumber,
    /// The last batch known synced when this one was written.
    pub synced_through: BatchNumber,
    /// The segment it was written to.
    pub segment: u32,
    /// The offset it was written at.
    pub offset: u32,
    /// Bytes of the whole batch, a multiple of the block.
    pub length: u32,
    /// Bytes up to the end of the last record or footer entry, header included.
    pub used: u32,
    /// Records or footer entries.
    pub count: u32,
    /// CRC-32C of everything between header and trailer.
    pub payload_checksum: u32,
    /// CRC-32C of the table of offsets.
    pub table_checksum: u32,
    /// What it holds.
    pub kind: BatchKind,
    /// How many batches lie before it in its segment.
    pub index: u32,
}

/// Bytes that a batch takes whose records or entries end at `used`, with a table of `table_entries`.
pub(crate) const fn batch_len(used: usize, table_entries: usize, block: usize) -> usize {
    round_up(used + table_entries * TABLE_ENTRY_BYTES + BATCH_TRAILER_BYTES, block)
}

impl BatchHeader {
    /// Writes the checksums of `bytes`, a whole batch, and its header at both ends.
    pub(crate) fn finish(mut self, bytes: &mut [u8], guard: Guard) {
        let length = self.length as usize;
        let trailer_at = length - BATCH_TRAILER_BYTES;
        debug_assert_eq!(bytes.len(), length);
        self.payload_checksum = crc32c(&bytes[BATCH_HEADER_BYTES..trailer_at]);
        self.table_checksum = crc32c(&bytes[self.table_range()]);
        let header = self.encode(guard);
        bytes[..BATCH_HEADER_BYTES].copy_from_slice(&header);
        bytes[trailer_at..].copy_from_slice(&header);
    }

    fn encode(&self, guard: Guard) -> [u8; BATCH_HEADER_BYTES] {
        let mut out = [0; BATCH_HEADER_BYTES];
        put(&mut out, batch::MAGIC_AT, batch::MAGIC.to_le_bytes());
        put(&mut out, batch::NUMBER_AT, self.number.0.to_le_bytes());
        put(&mut out, batch::SYNCED_THROUGH_AT, self.synced_through.0.to_le_bytes());
        put(&mut out, batch::SEGMENT_AT, self.segment.to_le_bytes());
        put(&mut out, batch::OFFSET_AT, self.offset.to_le_bytes());
        put(&mut out, batch::LENGTH_AT, self.length.to_le_bytes());
        put(&mut out, batch::USED_AT, self.used.to_le_bytes());
        put(&mut out, batch::COUNT_AT, self.count.to_le_bytes());
        put(&mut out, batch::PAYLOAD_CHECKSUM_AT, self.payload_checksum.to_le_bytes());
        put(&mut out, batch::TABLE_CHECKSUM_AT, self.table_checksum.to_le_bytes());
        out[batch::KIND_AT] = match self.kind {
            BatchKind::Records => 1,
            BatchKind::Footer => 2,
            BatchKind::Seal => 3,
            BatchKind::Index => 4,
        };
        put(&mut out, batch::INDEX_AT, self.index.to_le_bytes());
        let sum = crc32c(&out[batch::NUMBER_AT..]) ^ guard.0;
        put(&mut out, batch::HEADER_CHECKSUM_AT, sum.to_le_bytes());
        out
    }

    /// Reads a header (or a trailer) whose checksum and shape hold; its payload is not looked at.
    #[must_use]
    pub fn decode(bytes: &[u8; BATCH_HEADER_BYTES], guard: Guard) -> Option<Self> {
        let sound = get_u32(bytes, batch::MAGIC_AT) == batch::MAGIC
            && get_u32(bytes, batch::HEADER_CHECKSUM_AT) == crc32c(&bytes[batch::NUMBER_AT..]) ^ guard.0;
        if !sound {
            return None;
        }
        let kind = match bytes[batch::KIND_AT] {
            1 => BatchKind::Records,
            2 => BatchKind::Footer,
            3 => BatchKind::Seal,
            4 => BatchKind::Index,
            _ => return None,
        };
        let header = Self {
            number: BatchNumber(get_u64(bytes, batch::NUMBER_AT)),
            synced_through: BatchNumber(get_u64(bytes, batch::SYNCED_THROUGH_AT)),
            segment: get_u32(bytes, batch::SEGMENT_AT),
            offset: get_u32(bytes, batch::OFFSET_AT),
            length: get_u32(bytes, batch::LENGTH_AT),
            used: get_u32(bytes, batch::USED_AT),
            count: get_u32(bytes, batch::COUNT_AT),
            payload_checksum: get_u32(bytes, batch::PAYLOAD_CHECKSUM_AT),
            table_checksum: get_u32(bytes, batch::TABLE_CHECKSUM_AT),
            kind,
            index: get_u32(bytes, batch::INDEX_AT),
        };
        header.has_shape().then_some(header)
    }

    /// Whether the numbers fit each other, so that no slice of the batch can be out of bounds.
    fn has_shape(&self) -> bool {
        let needed = u64::from(self.used)
            + u64::from(self.table_entries()) * TABLE_ENTRY_BYTES as u64
            + BATCH_TRAILER_BYTES as u64;
        let ordered = self.synced_through < self.number && self.number.0 < u64::MAX / 2;
        ordered
            && u64::from(self.index) < self.number.0
            && self.used as usize >= BATCH_HEADER_BYTES
            && self.used.is_multiple_of(RECORD_ALIGN as u32)
            && needed <= u64::from(self.length)
            && self.length <= BATCH_BYTES_MAX
    }

    /// The number of the first batch in its segment.
    pub(crate) const fn first_number(&self) -> BatchNumber {
        BatchNumber(self.number.0 - self.index as u64)
    }

    /// Only records have a table.
    pub(crate) const fn table_entries(&self) -> u32 {
        if matches!(self.kind, BatchKind::Records) { self.count } else { 0 }
    }

    /// Where the table of offsets lies in the batch.
    pub(crate) fn table_range(&self) -> core::ops::Range<usize> {
        let start = self.used as usize;
        start..start + self.table_entries() as usize * TABLE_ENTRY_BYTES
    }

    /// Whether the payload of `bytes`, the whole batch, and its trailer hold.
    pub(crate) fn payload_holds(&self, bytes: &[u8]) -> bool {
        let trailer_at = self.length as usize - BATCH_TRAILER_BYTES;
        crc32c(&bytes[BATCH_HEADER_BYTES..trailer_at]) == self.payload_checksum
            && bytes[trailer_at..self.length as usize] == bytes[..BATCH_HEADER_BYTES]
    }

    /// Where the batch ends in its segment; beyond any segment if the header lies.
    pub(crate) const fn end(&self) -> u64 {
        self.offset as u64 + self.length as u64
    }
}
