//! Records on their way from a reader: each its location (u64), then the record as a segment holds it. Of a hole, whose
//! body is zeroes, only the header.

use crate::descriptor::RECORD_HEADER_BYTES;
use crate::record::{RecordState, RecordView, parse, parse_hole, write_header};
use tidegate_ids::Location;

const LOCATION_BYTES: usize = 8;

/// Packed records, as [`crate::read_page`] and [`crate::scan_chunk`] write them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedRecords<'a>(pub &'a [u8]);

impl<'a> PackedRecords<'a> {
    /// The records, in the order in which they were packed.
    #[must_use]
    pub const fn iter(&self) -> PackedIter<'a> {
        PackedIter { rest: self.0 }
    }
}

impl<'a> IntoIterator for PackedRecords<'a> {
    type Item = RecordView<'a>;
    type IntoIter = PackedIter<'a>;

    fn into_iter(self) -> PackedIter<'a> {
        self.iter()
    }
}

/// Goes through packed records; ends at the first bytes that are none.
#[derive(Clone, Copy, Debug)]
pub struct PackedIter<'a> {
    rest: &'a [u8],
}

impl PackedIter<'_> {
    /// Bytes of the records that are still to come.
    #[must_use]
    pub const fn rest_bytes(&self) -> usize {
        self.rest.len()
    }
}

impl<'a> Iterator for PackedIter<'a> {
    type Item = RecordView<'a>;

    fn next(&mut self) -> Option<RecordView<'a>> {
        let (location, stored) = self.rest.split_first_chunk::<LOCATION_BYTES>()?;
        let location = Location::from_u64(u64::from_le_bytes(*location));
        let record = parse_hole(stored, location).or_else(|| parse(stored, location))?;
        self.rest = &stored[packed_body_end(record.placement.state, record.stored_len())..];
        Some(record)
    }
}

/// Bytes that a record takes when packed.
#[must_use]
pub(crate) const fn packed_len(state: RecordState, stored_len: usize) -> usize {
    LOCATION_BYTES + packed_body_end(state, stored_len)
}

const fn packed_body_end(state: RecordState, stored_len: usize) -> usize {
    if state.is_hole() { RECORD_HEADER_BYTES } else { stored_len }
}

/// Packs a record.
pub(crate) fn pack(record: &RecordView<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&record.location.to_u64().to_le_bytes());
    if record.is_hole() {
        let mut header = [0; RECORD_HEADER_BYTES];
        write_header(&mut header, &record.placement, &record.head);
        out.extend_from_slice(&header);
        return;
    }
    record.write_stored(out);
}
