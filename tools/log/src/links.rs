//! Following a link to see what is there.

use std::collections::BTreeSet;
use tidegate_ids::{CommandNumber, Location, Sequence, StreamId};
use tidegate_storage_files::{DirView, RepairSource, SegmentReader};
use tidegate_storage_log::{PackedRecords, PageReader, ReadSpec, segment_header};

/// What a link leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) stream: StreamId,
    pub(crate) sequence: Sequence,
    pub(crate) number: CommandNumber,
}

#[derive(Debug)]
pub(crate) struct Links {
    medium: SegmentReader,
    reader: PageReader,
    records: Vec<u8>,
    /// Every segment that the directory names or holds.
    named: BTreeSet<u32>,
    has_dropped: bool,
}

impl Links {
    pub(crate) fn new(view: &DirView) -> Self {
        let mut medium = view.reader();
        let written = || view.logs().iter().flat_map(|log| &log.segments).copied();
        let is_named = |segment: u32| view.segment_path(segment).is_some();
        let has_dropped = written().any(|segment| {
            let header = segment_header(&mut medium, segment);
            let before = header.ok().flatten().map_or(0, |header| header.previous.end.segment);
            before > 0 && !is_named(before)
        });
        let named = written().chain(view.named()).collect();
        Self { medium, reader: PageReader::new(), records: Vec::new(), named, has_dropped }
    }

    /// Those of a directory to repair: a segment that is neither there nor missing was let go.
    pub(crate) fn of_source(source: &RepairSource) -> Self {
        let named = source.logs().iter().flat_map(|log| &log.segments).copied().collect();
        let (medium, reader) = (source.reader(), PageReader::new());
        Self { medium, reader, records: Vec::new(), named, has_dropped: true }
    }

    /// Whether a link leads into a segment that retention removed: the manifest names no such one any more.
    pub(crate) fn is_dropped(&self, location: Location) -> bool {
        let is_record = !location.is_none() && location != Location::SNAPSHOT;
        is_record && !self.named.contains(&location.segment)
    }

    /// Whether retention removed any segment of any log.
    pub(crate) const fn has_dropped(&self) -> bool {
        self.has_dropped
    }

    /// The record at `location`; `None` if no sound one starts there.
    pub(crate) fn follow(&mut self, location: Location) -> Option<Target> {
        self.records.clear();
        self.reader.read(&mut self.medium, &ReadSpec::At { location }, &mut self.records).ok()?;
        let record = PackedRecords(&self.records).iter().next()?;
        let head = record.head;
        Some(Target { stream: head.stream, sequence: head.sequence, number: head.number })
    }
}
