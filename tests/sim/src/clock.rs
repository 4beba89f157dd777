//! Virtual time, what is due when, and chance.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use tidegate_domain::Generator;
use tidegate_ids::{MonotonicNs, Now, WallMs};

/// Where the wall clock starts: 2026-01-01. Jumps never take it below.
const WALL_START_MS: u64 = 1_767_225_600_000;

/// A stream of chance; every concern has its own, so that one more draw here moves nothing there.
#[derive(Clone, Debug)]
pub struct Chance(Generator);

impl Chance {
    /// A stream for one concern of one seed.
    #[must_use]
    pub fn new(seed: u64, concern: u64) -> Self {
        let mut mixed = Generator::new(seed ^ concern.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        let start = mixed.next_u64();
        Self(Generator::new(start))
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Below `bound`, which is above 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        (self.0.next_u64() >> 11) % bound
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True in `percent` of cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Something due at a time.
#[derive(Debug)]
struct Due<T> {
    at: MonotonicNs,
    order: u64,
    what: T,
}

impl<T> PartialEq for Due<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl<T> Eq for Due<T> {}

impl<T> PartialOrd for Due<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Due<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// The clock with its agenda.
#[derive(Debug)]
pub(crate) struct Agenda<T> {
    now: MonotonicNs,
    /// How far the wall clock is ahead of where it should be.
    wall_ahead_ms: i64,
    order: u64,
    dues: BinaryHeap<Reverse<Due<T>>>,
}

impl<T> Agenda<T> {
    pub(crate) fn new() -> Self {
        Self { now: MonotonicNs(MonotonicNs::SECOND), wall_ahead_ms: 0, order: 0, dues: BinaryHeap::new() }
    }

    pub(crate) fn now(&self) -> Now {
        let elapsed_ms = (self.now.0 / MonotonicNs::MILLISECOND).saturating_add_signed(self.wall_ahead_ms);
        Now { monotonic: self.now, wall: WallMs(WALL_START_MS + elapsed_ms) }
    }

    /// Somebody sets the wall clock.
    pub(crate) fn jump_wall(&mut self, ahead_ms: i64) {
        self.wall_ahead_ms = ahead_ms;
    }

    /// Puts something on the agenda, so many nanoseconds from now.
    pub(crate) fn after(&mut self, ns: u64, what: T) {
        self.order += 1;
        self.dues.push(Reverse(Due { at: self.now.after(ns), order: self.order, what }));
    }

    /// The next thing, with the clock set to its time.
    pub(crate) fn next(&mut self) -> Option<T> {
        let Reverse(due) = self.dues.pop()?;
        self.now = self.now.max(due.at);
        Some(due.what)
    }
}
