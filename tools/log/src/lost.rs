//! Places from which records are lost, and links that lead there.

use std::collections::BTreeMap;
use tidegate_ids::Location;
use tidegate_storage_log::{Lost, LostWhat};

/// What a link is set to when nobody knows where it led: a few bytes before its own record, where none begins.
const NOWHERE_BYTES: u32 = 8;

/// The link of a record at `location` that leads to what is lost.
pub(crate) const fn nowhere(location: Location) -> Location {
    Location::new(location.segment, location.offset - NOWHERE_BYTES)
}

/// Places, as they are met in the order of a log.
#[derive(Debug, Default)]
pub(crate) struct LostPlaces {
    /// Where each begins and ends.
    places: BTreeMap<Location, u32>,
    /// The last one, if no record came behind it: batches that lie between two places of it are lost as well.
    open: Option<Location>,
}

impl LostPlaces {
    pub(crate) fn note(&mut self, lost: &Lost) {
        let location = lost.location();
        let start = match self.open {
            Some(open) if open.segment == lost.segment => open,
            _ => location,
        };
        self.places.insert(start, lost.to);
        // Of what was lost right now, every place is told with its bounds.
        let is_given_up = matches!(lost.what, LostWhat::GivenUp(_));
        self.open = is_given_up.then_some(start);
    }

    /// Everything in a segment is lost.
    pub(crate) fn note_segment(&mut self, segment: u32) {
        self.places.insert(Location::new(segment, 0), u32::MAX);
    }

    /// A record that holds was met.
    pub(crate) const fn pass(&mut self) {
        self.open = None;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether a link leads to what is lost.
    pub(crate) fn has(&self, to: Location) -> bool {
        let before = self.places.range(..=to).next_back();
        before.is_some_and(|(start, end)| start.segment == to.segment && to.offset < *end)
    }
}
