//! Where the next links of a stream must lead, as far as its records are known.

use tidegate_ids::{Location, Sequence};
use tidegate_storage_log::{Spine, limits::SPINE_ROOTS_MAX};

/// Stands for the place of a record that is not known. No record lies there.
const UNKNOWN: Location = Location::SNAPSHOT;

/// A spine that knows of some records only that they were there.
#[derive(Debug, Default)]
pub(crate) struct KnownSpine(Spine);

/// Where the links of a stream's next record must lead; `None` where that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KnownLinks {
    pub(crate) prev: Option<Location>,
    pub(crate) jump: Option<Location>,
}

impl KnownSpine {
    /// Of everything up to `last`, nothing is known but that it was there.
    pub(crate) fn forget_through(&mut self, last: Sequence) {
        let mut bytes = last.0.to_le_bytes().to_vec();
        bytes.resize(8 + 8 * SPINE_ROOTS_MAX, 0xff);
        debug_assert_eq!(UNKNOWN.to_u64(), u64::MAX);
        self.0 = Spine::decode(&bytes).map_or_else(Spine::new, |(spine, _)| spine);
    }

    pub(crate) fn links(&self) -> KnownLinks {
        let known = |location: Location| (location != UNKNOWN).then_some(location);
        let links = self.0.links();
        KnownLinks { prev: known(links.prev), jump: known(links.jump) }
    }

    pub(crate) fn push(&mut self, location: Location) {
        self.0.push(location);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_storage_log::jump_sequence;

    #[test]
    fn links_are_known_where_the_records_are() {
        for lost in 0..70_u64 {
            let mut spine = KnownSpine::default();
            spine.forget_through(Sequence(lost));
            for sequence in lost + 1..lost + 200 {
                let at = |to: u64| match to {
                    0 => Some(Location::NONE),
                    to => (to > lost).then(|| Location::new(1, to as u32)),
                };
                let links = spine.links();
                assert_eq!(links.prev, at(sequence - 1), "{sequence} after {lost}");
                assert_eq!(links.jump, at(jump_sequence(Sequence(sequence)).0), "{sequence} after {lost}");
                spine.push(Location::new(1, sequence as u32));
            }
        }
    }
}
