//! Which conversations a segment holds, and about which of their records: by its footer where it has one, or else by its
//! records.

use crate::view::DirView;
use std::collections::BTreeMap;
use tidegate_ids::{Sequence, StreamId};
use tidegate_storage_log::{
    ClosedSegment, FooterEntry, Medium, PreviousEnd, SequenceRange, closed_segment, read_footer, recover,
    segment_header,
};

/// What a segment may hold of streams whose records have sequences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holdings {
    /// For each stream a range that all its records in the segment are in, as far as that matters to who asked; perhaps more
    /// than there are.
    pub streams: Vec<(StreamId, SequenceRange)>,
    /// Something in it cannot be read, so there may be more.
    pub is_damaged: bool,
}

/// Of a segment that nothing is appended to any more. Its ranges are as small as it takes to say whether `matters`.
pub(crate) fn of_closed<M: Medium>(
    medium: &mut M,
    closed: &ClosedSegment,
    matters: impl Fn(&StreamId, SequenceRange) -> bool,
) -> Holdings {
    let extent = closed.extent(medium);
    let Ok(Some(entries)) = read_footer(medium, &extent) else {
        return of_records(medium, closed.header.segment);
    };
    // Where a repair has lost records between others, a stream begins anywhere below what its footer's count says.
    let matters_below = |(stream, range): &(StreamId, SequenceRange)| {
        let below = SequenceRange::new(Sequence(1), range.to());
        !matters(stream, *range) && below.is_some_and(|below| matters(stream, below))
    };
    let streams: Vec<_> = entries.iter().filter_map(range_of).collect();
    if !closed.is_gapless() && streams.iter().any(matters_below) {
        return of_records(medium, closed.header.segment);
    }
    Holdings { streams, is_damaged: false }
}

/// Of a segment of which nothing is known but those that follow it in its log.
pub(crate) fn of<M: Medium>(
    medium: &mut M,
    segment: u32,
    later: &[u32],
    matters: impl Fn(&StreamId, SequenceRange) -> bool,
) -> Holdings {
    match closed_segment(medium, segment, later, PreviousEnd::default()) {
        Ok(Some(closed)) => of_closed(medium, &closed, matters),
        _ => of_records(medium, segment),
    }
}

/// Of the segment that is written to, as far as it has come; or of any other one, record by record.
pub(crate) fn of_records<M: Medium>(medium: &mut M, segment: u32) -> Holdings {
    let mut found: BTreeMap<StreamId, SequenceRange> = BTreeMap::new();
    let recovered = recover(medium, &[segment], None, |record| {
        let (stream, sequence) = (record.head.stream, record.head.sequence);
        let Some(one) = SequenceRange::new(sequence, sequence) else { return };
        found.entry(stream).and_modify(|range| *range = range.hull(one)).or_insert(one);
    });
    let is_damaged = recovered.map_or(true, |recovered| recovered.damage_count > 0);
    Holdings { streams: found.into_iter().collect(), is_damaged }
}

/// A stream's records in a segment that is gapless follow each other, and states repeat a sequence: so they begin no lower than
/// their number says.
fn range_of(entry: &FooterEntry) -> Option<(StreamId, SequenceRange)> {
    let last = entry.last_sequence;
    let first = last.0.saturating_sub(u64::from(entry.count).saturating_sub(1)).max(1);
    Some((entry.stream, SequenceRange::new(Sequence(first), last)?))
}

/// The newest record of a conversation, `None` if no segment has any. A conversation is in one log of each epoch.
pub(crate) fn newest_sequence(view: &DirView, stream: &StreamId) -> Option<Sequence> {
    let mut epoch = u32::MAX;
    let mut newest = None;
    for listed in view.logs().iter().rev() {
        if listed.log.epoch < epoch && newest.is_some() {
            break;
        }
        epoch = listed.log.epoch;
        newest = newest.max(newest_in(view, &listed.segments, stream));
    }
    newest
}

fn newest_in(view: &DirView, segments: &[u32], stream: &StreamId) -> Option<Sequence> {
    let mut reader = view.reader();
    let mut newest = None;
    for (place, &segment) in segments.iter().enumerate().rev() {
        // Only where it ends is asked.
        let holdings = of(&mut reader, segment, &segments[place + 1..], |_, _| false);
        let held = holdings.streams.iter().find(|(of, _)| of == stream).map(|(_, range)| range.to());
        newest = newest.max(held);
        // What is damaged may have hidden it: then an older one says what is left.
        if newest.is_some() && !holdings.is_damaged {
            break;
        }
    }
    newest
}

/// Whether a segment was written to.
pub(crate) fn is_written<M: Medium>(medium: &mut M, segment: u32) -> bool {
    matches!(segment_header(medium, segment), Ok(Some(_)))
}
