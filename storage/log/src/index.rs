//! The index of a sealed segment: where the last records of each stream in it lie, so that a cold page reads them all at once.
//!
//! It is a hint and nothing else: whatever it says is verified on arrival, and what it does not say is found by links. Entries
//! lie in the order of a hash of their streams, so that one read finds a stream's without a directory
//! (`docs/decisions/0028-an-index-in-each-segment.md`).

use crate::batch::batch_len;
use crate::checksum::crc32c;
use crate::descriptor::{
    BATCH_HEADER_BYTES, BATCH_TRAILER_BYTES, INDEX_ENTRY_BYTES, RECORD_ALIGN, array, get_u32, get_u64, index,
    place, put, round_up,
};
use crate::fetch::fill;
use crate::limits::{INDEX_OFFSETS_MAX, INDEX_WINDOW_BYTES};
use crate::medium::{Medium, MediumError};
use crate::segment::SegmentHeader;
use tidegate_ids::{Location, Sequence, StreamId};

/// Where the index of a segment lies in it; zeroes: it has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexPlace {
    /// Where its first batch starts.
    pub offset: u32,
    /// Bytes of all its batches.
    pub bytes: u32,
}

/// What an index says of one stream: of its run, which is the stretch of records at its end each of which links to the one
/// before and has the next sequence. Streams without sequences are not listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// The sequence of the run's last record.
    pub last_sequence: Sequence,
    /// Where the stream goes on before the run: `prev` of its first record.
    pub before: Location,
    /// Records of the run.
    pub run: u32,
    offsets: [u32; INDEX_OFFSETS_MAX],
}

/// What the index of a segment will say of a stream, before there is one: told along with a read by whoever still writes the
/// segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lead {
    /// The segment.
    pub segment: u32,
    /// What its index would say now; some of it may not be durable yet.
    pub entry: IndexEntry,
}

/// The sizes of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexPlan {
    batch_bytes_max: usize,
    block: usize,
}

/// Bytes of an entry whose run has so many records.
pub(crate) const fn entry_bytes(run: u32) -> usize {
    round_up(INDEX_ENTRY_BYTES + 4 * listed(run), RECORD_ALIGN)
}

/// How many offsets an entry lists.
pub(crate) const fn listed(run: u32) -> usize {
    if run as usize > INDEX_OFFSETS_MAX { INDEX_OFFSETS_MAX } else { run as usize }
}

/// What orders the entries: both halves of the stream, mixed with odd constants, in a widening multiplication (as wyhash does).
#[inline]
pub(crate) fn stream_hash(stream: &StreamId) -> u64 {
    let value = u128::from_le_bytes(stream.0);
    let low = (value as u64) ^ 0x2d35_8dcc_aa6c_78a5;
    let high = ((value >> 64) as u64) ^ 0x8bb8_4b93_962e_acc9;
    let product = u128::from(low).wrapping_mul(u128::from(high));
    let mixed = (product as u64) ^ ((product >> 64) as u64);
    mixed ^ (mixed >> 32)
}

impl IndexPlan {
    pub(crate) const fn new(batch_bytes_max: usize, block: usize) -> Self {
        Self { batch_bytes_max, block }
    }

    /// Bytes of the batches that entries of `entry_bytes` in all are spread over: a quarter of the room stays empty.
    pub(crate) const fn bytes(&self, entry_bytes: usize) -> usize {
        if entry_bytes == 0 {
            return 0;
        }
        let payload = round_up(entry_bytes + entry_bytes / 3, RECORD_ALIGN);
        let room = self.batch_bytes_max - BATCH_HEADER_BYTES - BATCH_TRAILER_BYTES;
        let (whole, rest) = (payload / room, payload % room);
        let last = if rest > 0 { batch_len(BATCH_HEADER_BYTES + rest, 0, self.block) } else { 0 };
        whole * self.batch_bytes_max + last
    }

    /// How many batches an index of so many bytes has.
    pub(crate) const fn batches(&self, bytes: usize) -> usize {
        bytes.div_ceil(self.batch_bytes_max)
    }

    /// Where batch `number` lies in an index of so many bytes.
    pub(crate) fn batch(&self, number: usize, bytes: usize) -> core::ops::Range<usize> {
        let from = number * self.batch_bytes_max;
        from..bytes.min(from + self.batch_bytes_max)
    }
}

/// Where in an index of so many bytes the entry of a stream lies at the earliest.
pub(crate) fn home(hash: u64, bytes: usize) -> usize {
    let homes = bytes.saturating_sub(INDEX_WINDOW_BYTES) as u128;
    let home = (u128::from(hash) * homes) >> 64;
    home as usize & !(RECORD_ALIGN - 1)
}

impl IndexPlace {
    /// Reads a place at `at`.
    pub(crate) fn get(bytes: &[u8], at: usize) -> Self {
        Self { offset: get_u32(bytes, at + place::OFFSET_AT), bytes: get_u32(bytes, at + place::BYTES_AT) }
    }

    /// Writes the place at `at`.
    pub(crate) fn put(&self, out: &mut [u8], at: usize) {
        put(out, at + place::OFFSET_AT, self.offset.to_le_bytes());
        put(out, at + place::BYTES_AT, self.bytes.to_le_bytes());
    }

    /// The place of a segment's index, if one of these headers says it: its own, if it was rewritten, or that of the segment
    /// behind it.
    pub fn among(headers: impl Iterator<Item = SegmentHeader>, segment: u32) -> Option<Self> {
        let said = |header: SegmentHeader| match header.rewritten {
            Some(own) if header.segment == segment => Some(own.index),
            _ => (header.previous.end.segment == segment).then_some(header.previous_index),
        };
        headers.filter_map(said).find(|place| !place.is_none())
    }

    /// Whether there is no index.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.offset == 0 || self.bytes == 0
    }

    /// What the index of a segment says of a stream, through a buffer; `None` if nothing, or if it is damaged.
    ///
    /// # Errors
    /// Those of the medium.
    pub fn entry<M: Medium>(
        &self,
        medium: &mut M,
        segment: u32,
        stream: &StreamId,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<IndexEntry>, MediumError> {
        let (start, bytes) = self.window(stream);
        buffer.resize(bytes, 0);
        let count = fill(medium, segment, start, buffer)?;
        Ok(IndexEntry::find(&buffer[..count], stream))
    }

    /// What is read of the segment to find a stream: from where on, and how much.
    pub(crate) fn window(&self, stream: &StreamId) -> (u64, usize) {
        let bytes = self.bytes as usize;
        let home = home(stream_hash(stream), bytes);
        (u64::from(self.offset) + home as u64, (bytes - home).min(INDEX_WINDOW_BYTES))
    }
}

impl IndexEntry {
    /// An entry whose offsets come newest first.
    pub(crate) fn new(
        last_sequence: Sequence,
        before: Location,
        run: u32,
        newest_first: impl Iterator<Item = u32>,
    ) -> Self {
        let mut offsets = [0; INDEX_OFFSETS_MAX];
        offsets.iter_mut().zip(newest_first.take(listed(run))).for_each(|(slot, offset)| *slot = offset);
        Self { last_sequence, before, run, offsets }
    }

    /// Says where the record number `place` of the run lies, counted from its last.
    pub(crate) fn list(&mut self, place: usize, offset: u32) {
        debug_assert!(place < listed(self.run));
        self.offsets[place] = offset;
    }

    /// Where the last records of the run lie in the segment, the newest first.
    #[must_use]
    pub fn offsets(&self) -> &[u32] {
        &self.offsets[..listed(self.run)]
    }

    /// The sequence of the record before the run, 0 if there is none.
    #[must_use]
    pub const fn before_sequence(&self) -> Sequence {
        Sequence(self.last_sequence.0.saturating_sub(self.run as u64))
    }

    /// Writes the entry, which fills `out`.
    pub(crate) fn encode(&self, stream: &StreamId, out: &mut [u8]) {
        debug_assert_eq!(out.len(), entry_bytes(self.run));
        out.fill(0);
        put(out, index::RUN_AT, self.run.to_le_bytes());
        put(out, index::STREAM_AT, stream.0);
        put(out, index::LAST_SEQUENCE_AT, self.last_sequence.0.to_le_bytes());
        put(out, index::BEFORE_AT, self.before.to_u64().to_le_bytes());
        let slots = out[INDEX_ENTRY_BYTES..].as_chunks_mut::<4>().0;
        slots.iter_mut().zip(self.offsets()).for_each(|(slot, offset)| *slot = offset.to_le_bytes());
        let sum = crc32c(&out[index::RUN_AT..]);
        put(out, index::CHECKSUM_AT, sum.to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let run = get_u32(bytes, index::RUN_AT);
        let bytes = bytes.get(..entry_bytes(run))?;
        let sound = run > 0 && get_u32(bytes, index::CHECKSUM_AT) == crc32c(&bytes[index::RUN_AT..]);
        sound.then(|| {
            let offsets = bytes[INDEX_ENTRY_BYTES..].as_chunks::<4>().0;
            Self::new(
                Sequence(get_u64(bytes, index::LAST_SEQUENCE_AT)),
                Location::from_u64(get_u64(bytes, index::BEFORE_AT)),
                run,
                offsets.iter().map(|offset| u32::from_le_bytes(*offset)),
            )
        })
    }

    /// The entry of a stream in what was read of an index.
    pub(crate) fn find(bytes: &[u8], stream: &StreamId) -> Option<Self> {
        let last = bytes.len().checked_sub(INDEX_ENTRY_BYTES)?;
        (0..=last)
            .step_by(RECORD_ALIGN)
            .filter(|at| array::<16>(bytes, at + index::STREAM_AT) == stream.0)
            .find_map(|at| Self::decode(&bytes[at..]))
    }
}
