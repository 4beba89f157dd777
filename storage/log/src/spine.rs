//! A stream's skew-binary spine (E. W. Myers, "An applicative random-access stack", 1983).
//!
//! The records of a stream form a list of perfect binary trees whose sizes are 2^rank − 1, as in the skew-binary
//! notation of their count: ranks rise, and only the first two may be equal. A new record either stands alone in front
//! (`jump` = `prev`) or becomes the root over the first two trees, if they are equal (`jump` = the third root).
//! So `jump` of record *c* leads to record *c* − size of the tree under *c*, a number known without reading anything.
//!
//! The spine is kept in the stream's fold, so an append reads no record.

use crate::limits::SPINE_ROOTS_MAX;
use crate::record::Links;
use tidegate_ids::{Location, Sequence};

/// The roots of a stream's trees, the newest last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spine {
    count: u64,
    roots: Vec<Root>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Root {
    location: Location,
    rank: u8,
}

const _: () = assert!(size_of::<Root>() == 12);

impl Spine {
    /// The spine of a stream without records.
    #[must_use]
    pub const fn new() -> Self {
        Self { count: 0, roots: Vec::new() }
    }

    /// How many records were pushed.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The location of the newest record, [`Location::NONE`] without any.
    #[must_use]
    pub fn last(&self) -> Location {
        self.roots.last().map_or(Location::NONE, |root| root.location)
    }

    /// The links of the next record.
    #[must_use]
    pub fn links(&self) -> Links {
        let prev = self.last();
        let jump = match self.roots.as_slice() {
            [.., third, second, first] if first.rank == second.rank => third.location,
            [second, first] if first.rank == second.rank => Location::NONE,
            _ => prev,
        };
        Links { prev, jump }
    }

    /// Takes in the record that was appended with [`Spine::links`].
    pub fn push(&mut self, location: Location) {
        debug_assert!(!location.is_none());
        let rank = match self.roots.as_slice() {
            [.., second, first] if first.rank == second.rank => {
                let rank = first.rank + 1;
                self.roots.truncate(self.roots.len() - 2);
                rank
            }
            _ => 1,
        };
        self.roots.push(Root { location, rank });
        self.count += 1;
        debug_assert!(self.roots.len() <= SPINE_ROOTS_MAX);
    }

    /// Bytes that [`Spine::encode`] appends.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        8 + 8 * self.roots.len()
    }

    /// Appends the count and the locations of the roots, oldest first; the ranks follow from the count.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.count.to_le_bytes());
        self.roots.iter().for_each(|root| out.extend_from_slice(&root.location.to_u64().to_le_bytes()));
    }

    /// Reads what [`Spine::encode`] wrote from the front of `bytes`, with the bytes it took; `None` if there are too few
    /// or the count is beyond any stream.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut rest = bytes;
        let count = take_u64(&mut rest)?;
        if count > tidegate_ids::INTEGER_MAX {
            return None;
        }
        let mut roots = Vec::new();
        let mut left = count;
        while left > 0 {
            let rank = (left + 1).ilog2();
            roots.push(Root { location: Location::from_u64(take_u64(&mut rest)?), rank: rank as u8 });
            left -= (1 << rank) - 1;
        }
        Some((Self { count, roots }, bytes.len() - rest.len()))
    }
}

fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    let (value, after) = rest.split_first_chunk::<8>()?;
    *rest = after;
    Some(u64::from_le_bytes(*value))
}

/// Where the jump of a stream's record `sequence` leads; 0 means nowhere. Sequences count from 1 without gaps.
#[must_use]
pub fn jump_sequence(sequence: Sequence) -> Sequence {
    let mut left = sequence.0;
    while left > 0 {
        let size = (1_u64 << (left + 1).ilog2()) - 1;
        if left == size {
            return Sequence(sequence.0 - size);
        }
        left -= size;
    }
    Sequence(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_jump_leads_where_the_count_says_and_encoding_keeps_it() {
        let mut spine = Spine::new();
        for count in 0..5000_u32 {
            let links = spine.links();
            let next = Sequence(u64::from(count) + 1);
            assert_eq!(links.prev, Location::new(u32::from(count > 0), count));
            assert_eq!(u64::from(links.jump.offset), jump_sequence(next).0, "record {next}");
            let mut bytes = Vec::new();
            spine.encode(&mut bytes);
            assert_eq!(bytes.len(), spine.encoded_len());
            assert_eq!(Spine::decode(&bytes), Some((spine.clone(), bytes.len())));
            spine.push(Location::new(1, count + 1));
            assert!(spine.roots.len() as u32 <= spine.count().ilog2() + 1);
        }
    }

    #[test]
    fn any_sequence_is_found_in_three_logarithms() {
        for from in 1..3000_u64 {
            for target in (1..=from).step_by(if from > 300 { 37 } else { 1 }) {
                let (mut at, mut steps) = (from, 0);
                while at > target {
                    let jump = jump_sequence(Sequence(at)).0;
                    at = if jump >= target { jump } else { at - 1 };
                    steps += 1;
                }
                let bound = 3.0 * (from as f64).log2();
                assert!(f64::from(steps) <= bound.max(1.0), "{from} to {target}: {steps}");
            }
        }
    }

    #[test]
    fn broken_bytes_are_refused() {
        let mut spine = Spine::new();
        (1..20).for_each(|offset| spine.push(Location::new(1, offset)));
        let mut bytes = Vec::new();
        spine.encode(&mut bytes);
        for len in 0..bytes.len() {
            assert_eq!(Spine::decode(&bytes[..len]), None);
        }
        assert_eq!(Spine::decode(&[0xff; 64]), None);
    }
}
