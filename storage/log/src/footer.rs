//! The footer of a sealed segment: its streams, so that a cold reader finds a stream's last record in one read.

use crate::batch::{BatchHeader, BatchKind, Guard, batch_len};
use crate::descriptor::{
    BATCH_HEADER_BYTES, BATCH_TRAILER_BYTES, FOOTER_ENTRY_BYTES, SEAL_BYTES, array, footer, get_u32, get_u64,
    put, seal,
};
use crate::fetch::fill;
use crate::index::IndexPlace;
use crate::medium::{Medium, MediumError};
use crate::recover::SegmentExtent;
use crate::segment::PreviousEnd;
use crate::window::Window;
use tidegate_ids::{Sequence, StreamId};

/// One stream of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FooterEntry {
    /// The stream.
    pub stream: StreamId,
    /// Its last sequence in the segment, 0 if its records have none.
    pub last_sequence: Sequence,
    /// The offset of its last record in the segment.
    pub last_offset: u32,
    /// How many of its records are in the segment: what a repair has lost is not counted, so see
    /// [`crate::ClosedSegment::is_gapless`] before anything is concluded from it.
    pub count: u32,
}

/// What the seal says about its segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seal {
    pub(crate) records: u64,
    pub(crate) streams: u32,
    pub(crate) footer_offset: u32,
    pub(crate) footer_batches: u32,
    pub(crate) index: IndexPlace,
}

/// How the footer of a segment is split into batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FooterPlan {
    entries_per_batch: usize,
    block: usize,
}

impl FooterPlan {
    pub(crate) const fn new(batch_bytes_max: usize, block: usize) -> Self {
        let room = BATCH_HEADER_BYTES + BATCH_TRAILER_BYTES + SEAL_BYTES;
        Self { entries_per_batch: (batch_bytes_max - room) / FOOTER_ENTRY_BYTES, block }
    }

    /// Batches that a footer of so many streams takes, the seal included.
    pub(crate) const fn batches(&self, streams: usize) -> usize {
        if streams == 0 { 1 } else { streams.div_ceil(self.entries_per_batch) }
    }

    /// Entries in batch `index` of the footer.
    pub(crate) fn entries(&self, index: usize, streams: usize) -> core::ops::Range<usize> {
        let from = index * self.entries_per_batch;
        from..streams.min(from + self.entries_per_batch)
    }

    /// Bytes of one footer batch.
    pub(crate) const fn batch_bytes(&self, entries: usize, is_seal: bool) -> usize {
        let seal = if is_seal { SEAL_BYTES } else { 0 };
        batch_len(BATCH_HEADER_BYTES + seal + entries * FOOTER_ENTRY_BYTES, 0, self.block)
    }

    /// Bytes of the whole footer.
    pub(crate) const fn total_bytes(&self, streams: usize) -> usize {
        let batches = self.batches(streams);
        let last = streams - (batches - 1) * self.entries_per_batch;
        (batches - 1) * self.batch_bytes(self.entries_per_batch, false) + self.batch_bytes(last, true)
    }
}

impl FooterEntry {
    /// Takes in a record. One without a sequence may stand between those with one.
    pub(crate) fn take(&mut self, sequence: Sequence, offset: u32) {
        self.last_sequence = self.last_sequence.max(sequence);
        self.last_offset = offset;
        self.count += 1;
    }

    pub(crate) fn encode(&self) -> [u8; FOOTER_ENTRY_BYTES] {
        let mut out = [0; FOOTER_ENTRY_BYTES];
        put(&mut out, footer::STREAM_AT, self.stream.0);
        put(&mut out, footer::LAST_SEQUENCE_AT, self.last_sequence.0.to_le_bytes());
        put(&mut out, footer::LAST_OFFSET_AT, self.last_offset.to_le_bytes());
        put(&mut out, footer::COUNT_AT, self.count.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8; FOOTER_ENTRY_BYTES]) -> Self {
        Self {
            stream: StreamId(array(bytes, footer::STREAM_AT)),
            last_sequence: Sequence(get_u64(bytes, footer::LAST_SEQUENCE_AT)),
            last_offset: get_u32(bytes, footer::LAST_OFFSET_AT),
            count: get_u32(bytes, footer::COUNT_AT),
        }
    }
}

impl Seal {
    pub(crate) fn encode(&self) -> [u8; SEAL_BYTES] {
        let mut out = [0; SEAL_BYTES];
        put(&mut out, seal::RECORDS_AT, self.records.to_le_bytes());
        put(&mut out, seal::STREAMS_AT, self.streams.to_le_bytes());
        put(&mut out, seal::FOOTER_OFFSET_AT, self.footer_offset.to_le_bytes());
        put(&mut out, seal::FOOTER_BATCHES_AT, self.footer_batches.to_le_bytes());
        self.index.put(&mut out, seal::INDEX_AT);
        out
    }

    pub(crate) fn decode(bytes: &[u8; SEAL_BYTES]) -> Self {
        Self {
            records: get_u64(bytes, seal::RECORDS_AT),
            streams: get_u32(bytes, seal::STREAMS_AT),
            footer_offset: get_u32(bytes, seal::FOOTER_OFFSET_AT),
            footer_batches: get_u32(bytes, seal::FOOTER_BATCHES_AT),
            index: IndexPlace::get(bytes, seal::INDEX_AT),
        }
    }
}

/// The seal in a seal batch, or in the front of one.
pub(crate) fn seal_of(header: &BatchHeader, bytes: &[u8]) -> Option<Seal> {
    let payload = bytes.get(BATCH_HEADER_BYTES..bytes.len().min(header.used as usize))?;
    Some(Seal::decode(payload.first_chunk()?))
}

/// The streams of a sealed segment, each once; `None` if it has no seal or its
/// footer is damaged (then scanning it says the same).
///
/// # Errors
/// Those of the medium.
pub fn read_footer<M: Medium>(
    medium: &mut M,
    extent: &SegmentExtent,
) -> Result<Option<Vec<FooterEntry>>, MediumError> {
    medium.segment_len(extent.segment)?;
    let Some(footer_offset) = extent.footer_offset else { return Ok(None) };
    let mut window = Window::new(medium, extent.guard);
    window.open(extent.segment);
    let mut entries = Vec::new();
    let mut offset = footer_offset;
    while let Some((header, bytes)) = window.batch(offset, extent.end) {
        let payload = &bytes[BATCH_HEADER_BYTES..header.used as usize];
        let payload = match header.kind {
            BatchKind::Records | BatchKind::Index => return Ok(None),
            BatchKind::Footer => payload,
            BatchKind::Seal => payload.get(SEAL_BYTES..).unwrap_or_default(),
        };
        entries.extend(payload.as_chunks::<FOOTER_ENTRY_BYTES>().0.iter().map(FooterEntry::decode));
        offset += header.length;
        if header.kind == BatchKind::Seal {
            return Ok(Some(entries));
        }
    }
    Ok(None)
}

/// The seal that ends at `end` of a segment, `None` if none does. Its payload is not summed: a footer that it leads to is, and an index
/// is only a hint. Two small reads.
fn seal_at<M: Medium>(
    medium: &mut M,
    segment: u32,
    end: u32,
    guard: Guard,
) -> Result<Option<Seal>, MediumError> {
    let mut trailer = [0; BATCH_TRAILER_BYTES];
    let at = u64::from(end).saturating_sub(BATCH_TRAILER_BYTES as u64);
    let is_whole = fill(medium, segment, at, &mut trailer)? == trailer.len();
    let seal = BatchHeader::decode(&trailer, guard).filter(|batch| {
        let is_there = batch.segment == segment && batch.end() == u64::from(end);
        is_whole && is_there && batch.kind == BatchKind::Seal
    });
    let Some(batch) = seal else { return Ok(None) };
    let mut bytes = [0; BATCH_HEADER_BYTES + SEAL_BYTES];
    let count = fill(medium, segment, batch.offset.into(), &mut bytes)?;
    let is_same = count == bytes.len() && bytes[..BATCH_HEADER_BYTES] == trailer;
    Ok(seal_of(&batch, &bytes).filter(|_| is_same))
}

/// Where the index of a segment lies that ends there, as its seal says; none if no seal ends there.
///
/// # Errors
/// Those of the medium.
pub fn index_of<M: Medium>(
    medium: &mut M,
    end: PreviousEnd,
    guard: Guard,
) -> Result<IndexPlace, MediumError> {
    let seal = seal_at(medium, end.end.segment, end.end.offset, guard)?;
    Ok(seal.map_or_else(IndexPlace::default, |seal| seal.index))
}

/// Where the footer of a segment begins that ends at `end`, if a seal ends there and can be read.
pub(crate) fn footer_offset<M: Medium>(medium: &mut M, segment: u32, end: u32, guard: Guard) -> Option<u32> {
    seal_at(medium, segment, end, guard).ok().flatten().map(|seal| seal.footer_offset)
}

/// The streams of a segment whose seal is sought at its end: an extent that was noted while it was written does not say
/// where its footer begins. `None` as for [`read_footer`].
pub(crate) fn sealed_footer<M: Medium>(
    medium: &mut M,
    extent: &SegmentExtent,
) -> Result<Option<Vec<FooterEntry>>, MediumError> {
    let footer_offset = footer_offset(medium, extent.segment, extent.end, extent.guard);
    read_footer(medium, &SegmentExtent { footer_offset, ..*extent })
}
