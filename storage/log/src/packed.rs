//! Records on their way from a reader: each its location (u64), then the record as a segment holds it.

use crate::record::{RecordView, parse};
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

impl<'a> Iterator for PackedIter<'a> {
    type Item = RecordView<'a>;

    fn next(&mut self) -> Option<RecordView<'a>> {
        let (location, stored) = self.rest.split_first_chunk::<LOCATION_BYTES>()?;
        let record = parse(stored, Location::from_u64(u64::from_le_bytes(*location)))?;
        self.rest = &stored[record.stored_len()..];
        Some(record)
    }
}

/// Bytes that a record takes when packed.
#[must_use]
pub(crate) const fn packed_len(stored_len: usize) -> usize {
    LOCATION_BYTES + stored_len
}

/// Packs a record.
pub(crate) fn pack(record: &RecordView<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&record.location.to_u64().to_le_bytes());
    record.write_stored(out);
}
