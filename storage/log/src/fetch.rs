//! Following a link: one record by its location, from segments or from staging memory.

use crate::append::Appender;
use crate::descriptor::RECORD_HEADER_BYTES;
use crate::index::{IndexEntry, Lead};
use crate::limits::{LINK_READ_BEFORE_BYTES, LINK_READ_BYTES};
use crate::medium::{Medium, MediumError};
use crate::record::{
    Placement, RecordHead, RecordView, checked_len, checked_placement, parse_head, parse_logical, remnant_of,
};
use crate::rescue::find_before;
use tidegate_ids::{Location, Sequence, StreamId};

/// Why a link led nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FetchError {
    /// Its segment is gone: retention.
    Dropped,
    /// There is no sound record; what of it is sound.
    Damaged(Remains),
    /// Not in memory: somebody must read segments.
    Elsewhere,
}

/// What is left of a damaged record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Remains {
    pub(crate) placement: Option<Placement>,
    pub(crate) head: Option<RecordHead>,
}

/// Where records come from.
pub(crate) trait Fetch {
    /// The logical record at a location, its checksums checked, and whether its links are sound too.
    fn fetch(&mut self, at: Location) -> Result<(RecordView<'_>, bool), FetchError>;

    /// Whether a record, or its header at least, is read already.
    fn holds(&self, at: Location) -> bool;

    /// Says that a record is fetched soon.
    fn will_need(&mut self, at: Location);

    /// What the index of a segment will say of the stream, if that was told.
    fn lead(&self, segment: u32) -> Option<IndexEntry>;

    /// Whether it is known where the index of a segment lies.
    fn has_index(&mut self, segment: u32) -> bool;

    /// Says that what a segment's index says of a stream is read soon.
    fn will_need_entry(&mut self, stream: &StreamId, segment: u32);

    /// What a segment's index says of a stream, if it has one and can be read.
    fn entry(&mut self, stream: &StreamId, segment: u32) -> Option<IndexEntry>;

    /// The newest sound record of a stream before a location, found without links, and its sequence.
    fn before(&mut self, stream: &StreamId, at: Location) -> Option<(Location, Sequence)>;
}

/// Records of a medium.
pub(crate) struct MediumFetch<'m, M> {
    pub(crate) medium: &'m mut M,
    lead: Option<&'m Lead>,
    pub(crate) bytes: &'m mut Vec<u8>,
    pub(crate) index_bytes: &'m mut Vec<u8>,
    pub(crate) segment: u32,
    pub(crate) start: u64,
}

impl<'m, M: Medium> MediumFetch<'m, M> {
    pub(crate) fn new(
        medium: &'m mut M,
        lead: Option<&'m Lead>,
        bytes: &'m mut Vec<u8>,
        index_bytes: &'m mut Vec<u8>,
    ) -> Self {
        bytes.clear();
        Self { medium, lead, bytes, index_bytes, segment: 0, start: 0 }
    }

    const fn is_held(&self, at: Location, len: usize) -> bool {
        let end = self.start + self.bytes.len() as u64;
        let offset = at.offset as u64;
        self.segment == at.segment && self.start <= offset && offset + len as u64 <= end
    }

    /// Where `len` bytes at a location are in the buffer, after reading them if need be.
    fn hold(&mut self, at: Location, len: usize) -> Result<usize, FetchError> {
        if !self.is_held(at, len) {
            self.read(at, len)?;
        }
        let from = (u64::from(at.offset) - self.start) as usize;
        if from + len > self.bytes.len() { Err(FetchError::Damaged(Remains::default())) } else { Ok(from) }
    }

    fn read(&mut self, at: Location, len: usize) -> Result<(), FetchError> {
        let (mut start, mut want) = around(at, len);
        let mut got = self.fill(at.segment, start, want);
        if matches!(got, Err(MediumError::Unreadable { .. })) {
            // The bytes around the record may be the bad ones.
            (start, want) = (u64::from(at.offset), len);
            got = self.fill(at.segment, start, want);
        }
        match got {
            Ok(count) => {
                self.bytes.truncate(count);
                (self.segment, self.start) = (at.segment, start);
                Ok(())
            }
            Err(error) => {
                self.bytes.clear();
                self.segment = 0;
                let is_dropped = matches!(error, MediumError::Missing(_));
                Err(if is_dropped { FetchError::Dropped } else { FetchError::Damaged(Remains::default()) })
            }
        }
    }

    fn fill(&mut self, segment: u32, start: u64, want: usize) -> Result<usize, MediumError> {
        self.bytes.resize(want, 0);
        fill(self.medium, segment, start, self.bytes)
    }
}

/// Fills `into` as far as the segment has bytes, and says how far that is.
pub(crate) fn fill<M: Medium>(
    medium: &mut M,
    segment: u32,
    start: u64,
    into: &mut [u8],
) -> Result<usize, MediumError> {
    let mut done = 0;
    while done < into.len() {
        let count = medium.read(segment, start + done as u64, &mut into[done..])?;
        if count == 0 {
            break;
        }
        done += count.min(into.len() - done);
    }
    Ok(done)
}

/// What is read for `len` bytes at a location: where it starts, and how much.
fn around(at: Location, len: usize) -> (u64, usize) {
    let before = (at.offset as usize).min(LINK_READ_BEFORE_BYTES);
    (u64::from(at.offset) - before as u64, before + len.max(LINK_READ_BYTES))
}

impl<M: Medium> Fetch for MediumFetch<'_, M> {
    fn fetch(&mut self, at: Location) -> Result<(RecordView<'_>, bool), FetchError> {
        let from = self.hold(at, RECORD_HEADER_BYTES)?;
        let header = &self.bytes[from..from + RECORD_HEADER_BYTES];
        let stored = checked_len(header);
        let remains = Remains {
            placement: checked_placement(header),
            head: stored.and(header.first_chunk().map(parse_head)),
        };
        let damaged = FetchError::Damaged(remains);
        let stored = stored.ok_or(damaged)?;
        let from = self.hold(at, stored).map_err(|error| match error {
            FetchError::Damaged(_) => damaged,
            other => other,
        })?;
        match parse_logical(&self.bytes[from..from + stored], at) {
            Ok((record, _)) if record.is_lost() => Err(FetchError::Damaged(given_up(&record))),
            found => found.map_err(|_| damaged),
        }
    }

    fn holds(&self, at: Location) -> bool {
        self.is_held(at, RECORD_HEADER_BYTES)
    }

    fn will_need(&mut self, at: Location) {
        let (start, bytes) = around(at, 0);
        self.medium.will_need(at.segment, start, bytes);
    }

    fn lead(&self, segment: u32) -> Option<IndexEntry> {
        self.lead.filter(|lead| lead.segment == segment).map(|lead| lead.entry)
    }

    fn has_index(&mut self, segment: u32) -> bool {
        self.medium.index(segment).is_some()
    }

    fn will_need_entry(&mut self, stream: &StreamId, segment: u32) {
        if let Some(place) = self.medium.index(segment) {
            let (start, bytes) = place.window(stream);
            self.medium.will_need(segment, start, bytes);
        }
    }

    fn entry(&mut self, stream: &StreamId, segment: u32) -> Option<IndexEntry> {
        let place = self.medium.index(segment)?;
        place.entry(self.medium, segment, stream, self.index_bytes).ok()?
    }

    fn before(&mut self, stream: &StreamId, at: Location) -> Option<(Location, Sequence)> {
        find_before(self.medium, stream, at)
    }
}

/// What a repair gave up reads as it did before, damaged.
fn given_up(record: &RecordView<'_>) -> Remains {
    let left = remnant_of(record);
    Remains { placement: left.links.map(|_| record.placement), head: left.head }
}

/// Records in staging memory.
pub(crate) struct StagingFetch<'a>(pub(crate) &'a Appender);

impl Fetch for StagingFetch<'_> {
    fn fetch(&mut self, at: Location) -> Result<(RecordView<'_>, bool), FetchError> {
        let record = self.0.read(at).ok_or(FetchError::Elsewhere)?;
        Ok((record, true))
    }

    fn holds(&self, _: Location) -> bool {
        true
    }

    fn will_need(&mut self, _: Location) {}

    fn lead(&self, _: u32) -> Option<IndexEntry> {
        None
    }

    fn has_index(&mut self, _: u32) -> bool {
        false
    }

    fn will_need_entry(&mut self, _: &StreamId, _: u32) {}

    fn entry(&mut self, _: &StreamId, _: u32) -> Option<IndexEntry> {
        None
    }

    fn before(&mut self, _: &StreamId, _: Location) -> Option<(Location, Sequence)> {
        None
    }
}
