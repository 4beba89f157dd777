//! Waits and windows of the tests, each with its reason.

use std::time::Duration;

/// How long anything may take on a machine that does much else; only bounds a test that would hang.
pub const WAIT: Duration = Duration::from_secs(90);

/// How long a start may take, which zeroes segments first.
pub const START_WAIT: Duration = Duration::from_secs(120);

/// Between two looks at something that nobody tells about.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Bytes of a segment: zeroed in no time, and small enough that load of a few seconds rolls.
pub const SEGMENT_BYTES: u32 = 4 << 20;

/// What is folded into a snapshot at least: so little that a gateway that lives for a moment makes some.
pub const SNAPSHOT_BYTES: u64 = 1 << 20;

/// How often a gateway is ended in a test that ends it again and again: as a run of the whole suite has time for, or what
/// the environment's `TIDEGATE_TEST_CYCLES` says.
#[must_use]
pub fn cycles(usual: usize) -> usize {
    let asked = std::env::var("TIDEGATE_TEST_CYCLES").ok();
    asked.map_or(usual, |count| count.parse().expect("TIDEGATE_TEST_CYCLES is a number"))
}

/// What chance is drawn from in a test that is driven by it: the same in every run, or what the environment's
/// `TIDEGATE_TEST_SEED` says. The usual one ends the first two lives of a directory in its making, and the sixth in a start.
#[must_use]
pub fn seed() -> u64 {
    let asked = std::env::var("TIDEGATE_TEST_SEED").ok();
    asked.map_or(7, |seed| seed.parse().expect("TIDEGATE_TEST_SEED is a number"))
}

/// Sends of a [`crate::Sender`] without an answer, over all its conversations: enough that a batch holds several
/// records, and so few that hundreds of them, not thousands, come of one life of 200 ms.
pub const UNANSWERED_MAX: usize = 16;
