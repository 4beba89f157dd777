//! Which records somebody asked to erase: sequences of streams, whatever segments they are in.

use core::fmt;
use std::collections::BTreeMap;
use tidegate_ids::{Sequence, StreamId};

/// Sequences `from` to `to`, both included; never empty, and none is 0, which records without a sequence have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SequenceRange {
    from: Sequence,
    to: Sequence,
}

impl SequenceRange {
    /// `None` if nothing is in between, or `from` is 0.
    #[must_use]
    pub const fn new(from: Sequence, to: Sequence) -> Option<Self> {
        if from.0 == 0 || from.0 > to.0 { None } else { Some(Self { from, to }) }
    }

    /// The lowest.
    #[must_use]
    pub const fn from(self) -> Sequence {
        self.from
    }

    /// The highest.
    #[must_use]
    pub const fn to(self) -> Sequence {
        self.to
    }

    /// How many sequences.
    #[must_use]
    pub const fn count(self) -> u64 {
        (self.to.0 - self.from.0).saturating_add(1)
    }

    /// Whether a sequence is among them.
    #[must_use]
    pub const fn holds(self, sequence: Sequence) -> bool {
        self.from.0 <= sequence.0 && sequence.0 <= self.to.0
    }

    /// What is in both.
    #[must_use]
    pub fn common(self, other: Self) -> Option<Self> {
        Self::new(self.from.max(other.from), self.to.min(other.to))
    }

    /// Whether both together are one range: they overlap, or one follows the other without a gap.
    #[must_use]
    pub const fn touches(self, other: Self) -> bool {
        self.from.0 <= other.to.0.saturating_add(1) && other.from.0 <= self.to.0.saturating_add(1)
    }

    /// The smallest range that holds both.
    #[must_use]
    pub fn hull(self, other: Self) -> Self {
        Self { from: self.from.min(other.from), to: self.to.max(other.to) }
    }
}

impl fmt::Display for SequenceRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.from, self.to)
    }
}

/// Ranges of many streams: of each stream disjoint, rising, and none touching the next. Whoever fills it bounds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErasedRanges {
    streams: BTreeMap<StreamId, Vec<SequenceRange>>,
}

impl ErasedRanges {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self { streams: BTreeMap::new() }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// How many ranges there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.streams.values().map(Vec::len).sum()
    }

    /// Adds a range to a stream's.
    pub fn insert(&mut self, stream: StreamId, range: SequenceRange) {
        let ranges = self.streams.entry(stream).or_default();
        let first = ranges.partition_point(|one| one.to < range.from && !one.touches(range));
        let touching = ranges[first..].iter().take_while(|one| one.touches(range)).count();
        let joined = ranges.drain(first..first + touching).fold(range, SequenceRange::hull);
        ranges.insert(first, joined);
        debug_assert!(ranges.windows(2).all(|two| two[0].to < two[1].from && !two[0].touches(two[1])));
    }

    /// Whether a record is among them.
    #[must_use]
    pub fn holds(&self, stream: &StreamId, sequence: Sequence) -> bool {
        let Some(ranges) = self.streams.get(stream) else { return false };
        let place = ranges.partition_point(|one| one.to < sequence);
        ranges.get(place).is_some_and(|one| one.holds(sequence))
    }

    /// How many sequences of a range of a stream are among them.
    #[must_use]
    pub fn count_in(&self, stream: &StreamId, range: SequenceRange) -> u64 {
        let Some(ranges) = self.streams.get(stream) else { return 0 };
        let place = ranges.partition_point(|one| one.to < range.from);
        let common = ranges[place..].iter().map_while(|one| one.common(range));
        common.map(SequenceRange::count).sum()
    }

    /// All ranges, by stream, rising.
    pub fn iter(&self) -> impl Iterator<Item = (StreamId, SequenceRange)> + '_ {
        self.streams.iter().flat_map(|(stream, ranges)| ranges.iter().map(|range| (*stream, *range)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use tidegate_ids::UserId;

    fn range(from: u64, to: u64) -> SequenceRange {
        SequenceRange::new(Sequence(from), Sequence(to)).expect("a range")
    }

    const A: StreamId = StreamId([1; 16]);

    #[test]
    fn a_range_is_never_empty() {
        let check = |from, to, is_one: bool| {
            assert_eq!(SequenceRange::new(Sequence(from), Sequence(to)).is_some(), is_one, "{from}..{to}");
        };
        check(1, 1, true);
        check(3, 9, true);
        check(0, 9, false);
        check(9, 8, false);
        check(u64::MAX, u64::MAX, true);
    }

    fn check(ranges: &[(u64, u64)], expected: &[(u64, u64)]) {
        let mut all = ErasedRanges::new();
        ranges.iter().for_each(|&(from, to)| all.insert(A, range(from, to)));
        let found: Vec<(u64, u64)> = all.iter().map(|(_, one)| (one.from.0, one.to.0)).collect();
        assert_eq!(found, expected, "{ranges:?}");
    }

    #[test]
    fn ranges_that_touch_become_one() {
        check(&[(1, 3), (4, 6)], &[(1, 6)]);
        check(&[(4, 6), (1, 3)], &[(1, 6)]);
        check(&[(1, 3), (5, 6)], &[(1, 3), (5, 6)]);
        check(&[(1, 3), (5, 6), (4, 4)], &[(1, 6)]);
        check(&[(5, 6), (9, 12), (1, 20)], &[(1, 20)]);
        check(&[(1, 20), (5, 6)], &[(1, 20)]);
        check(&[(8, u64::MAX), (1, 7)], &[(1, u64::MAX)]);
        check(&[(20, 30), (1, 2), (10, 12), (11, 19)], &[(1, 2), (10, 30)]);
    }

    /// Against a plain set, over every order that a small generator gives.
    #[test]
    fn what_it_holds_is_what_a_set_would() {
        let mut state = 7_u64;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for round in 0..300 {
            let (mut all, mut model) = (ErasedRanges::new(), BTreeSet::new());
            for _ in 0..next(12) {
                let from = next(60) + 1;
                let to = from + next(9);
                all.insert(A, range(from, to));
                model.extend(from..=to);
            }
            for sequence in 0..80 {
                assert_eq!(all.holds(&A, Sequence(sequence)), model.contains(&sequence), "round {round}");
                let (low, high) = (sequence.max(1), sequence + 7);
                let within = model.range(low..=high).count() as u64;
                assert_eq!(all.count_in(&A, range(low, high)), within, "round {round}");
            }
            assert!(!all.holds(&StreamId::user(UserId(1)), Sequence(1)));
            assert_eq!(all.is_empty(), model.is_empty());
        }
    }
}
