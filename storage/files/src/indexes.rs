//! Where the indexes of segments lie, so that a reader of records waits for none of it: from the headers that a start reads, from
//! seals, and from whoever seals a segment.

use crate::catalog::Catalog;
use crate::reader::SegmentReader;
use std::collections::BTreeMap;
use std::sync::Arc;
use tidegate_storage_log::descriptor::FORMAT_VERSION_INDEXED;
use tidegate_storage_log::{Guard, IndexPlace, PreviousEnd, SegmentHeader, index_of};

/// Where the indexes of segments lie, as headers say.
#[derive(Debug, Default)]
pub(crate) struct Indexes {
    known: BTreeMap<u32, IndexPlace>,
    /// Ends of segments whose index only their seal knows, if they have one: the run that wrote them did not go on behind.
    asked: Vec<PreviousEnd>,
}

impl Indexes {
    pub(crate) fn take(&mut self, header: &SegmentHeader) {
        let places = [
            (header.segment, header.rewritten.map(|own| own.index)),
            (header.previous.end.segment, Some(header.previous_index)),
        ];
        for (segment, place) in places {
            if let Some(place) = place.filter(|place| !place.is_none()) {
                self.known.insert(segment, place);
            }
        }
        let is_first = header.previous.end.segment == 0;
        if !is_first && header.previous_index.is_none() && header.format_version >= FORMAT_VERSION_INDEXED {
            self.asked.push(header.previous);
        }
    }

    /// Tells a catalog all of it.
    pub(crate) fn tell(&self, catalog: &Arc<Catalog>, directory: &[u8; 16]) {
        self.known.iter().for_each(|(segment, place)| catalog.note_index(*segment, *place));
        let mut reader = SegmentReader::new(Arc::clone(catalog));
        self.asked.iter().for_each(|end| tell_of_seal(&mut reader, catalog, *end, directory));
    }
}

/// Tells a catalog of the index that the seal of a segment knows. One that cannot be read costs rounds by links.
pub(crate) fn tell_of_seal(
    reader: &mut SegmentReader,
    catalog: &Catalog,
    end: PreviousEnd,
    directory: &[u8; 16],
) {
    let segment = end.end.segment;
    if catalog.index(segment).is_none()
        && let Ok(place) = index_of(reader, end, Guard::new(directory))
    {
        catalog.note_index(segment, place);
    }
}

/// Where the indexes of sealed segments lie, for readers on any thread.
#[derive(Clone, Debug)]
pub struct SealedIndexes {
    catalog: Arc<Catalog>,
}

impl SealedIndexes {
    pub(crate) const fn new(catalog: Arc<Catalog>) -> Self {
        Self { catalog }
    }

    /// Notes the index of a segment that was just sealed.
    pub fn note(&self, segment: u32, place: IndexPlace) {
        self.catalog.note_index(segment, place);
    }
}
