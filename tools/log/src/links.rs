//! Following a link to see what is there.

use tidegate_ids::{CommandNumber, Location, Sequence, StreamId};
use tidegate_storage_files::SegmentReader;
use tidegate_storage_log::{PackedRecords, PageReader, ReadSpec};

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
}

impl Links {
    pub(crate) fn new(medium: SegmentReader) -> Self {
        Self { medium, reader: PageReader::new(), records: Vec::new() }
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
