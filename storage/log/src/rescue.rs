//! When a record's links are lost: the record before it, found by looking through the segments as they lie.
//!
//! It reads whole segments, so it is for damage alone. Sealed segments that do not hold the stream cost their footer.

use crate::batch::Guard;
use crate::descriptor::SEGMENT_HEADER_BYTES;
use crate::footer::{FooterEntry, footer_offset, read_footer};
use crate::limits::RESCUE_SEGMENTS_MAX;
use crate::medium::Medium;
use crate::recover::SegmentExtent;
use crate::scan::Scan;
use crate::segment::SegmentHeader;
use tidegate_ids::{Location, Sequence, StreamId};

/// The newest sound record of `stream` before `at`, and its sequence.
pub(crate) fn find_before<M: Medium>(
    medium: &mut M,
    stream: &StreamId,
    at: Location,
) -> Option<(Location, Sequence)> {
    let mut bound = at;
    for _ in 0..RESCUE_SEGMENTS_MAX {
        let header = header_of(medium, bound.segment)?;
        let extent = extent_of(medium, &header, bound.offset);
        let found = match footer_of(medium, &extent) {
            Some(entries) => entries
                .iter()
                .find(|entry| entry.stream == *stream)
                .map(|entry| (Location::new(extent.segment, entry.last_offset), entry.last_sequence)),
            None => by_scan(medium, stream, &extent, header.segment_bytes, bound),
        };
        if found.is_some() || header.previous.end.segment >= bound.segment {
            return found;
        }
        bound = header.previous.end;
    }
    None
}

fn header_of<M: Medium>(medium: &mut M, segment: u32) -> Option<SegmentHeader> {
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    medium.read(segment, 0, &mut bytes).ok()?;
    SegmentHeader::decode(&bytes).filter(|header| header.segment == segment)
}

/// The part of a segment before `end`, with its footer if a seal ends there.
pub(crate) fn extent_of<M: Medium>(medium: &mut M, header: &SegmentHeader, end: u32) -> SegmentExtent {
    let guard = Guard::new(&header.identity.directory);
    let footer_offset = footer_offset(medium, header.segment, end, guard);
    let end = end.min(header.segment_bytes);
    SegmentExtent { segment: header.segment, end, block_bytes: header.block_bytes, footer_offset, guard }
}

fn footer_of<M: Medium>(medium: &mut M, extent: &SegmentExtent) -> Option<Vec<FooterEntry>> {
    read_footer(medium, extent).ok().flatten()
}

fn by_scan<M: Medium>(
    medium: &mut M,
    stream: &StreamId,
    extent: &SegmentExtent,
    segment_bytes: u32,
    before: Location,
) -> Option<(Location, Sequence)> {
    // The batch that holds the location must be read whole.
    let whole = SegmentExtent { end: segment_bytes, ..*extent };
    let mut scan = Scan::new(medium, &whole);
    let mut found = None;
    while scan.at < extent.end {
        scan.step(|record| {
            if record.head.stream == *stream && record.location < before {
                found = Some((record.location, record.head.sequence));
            }
        });
    }
    found
}
