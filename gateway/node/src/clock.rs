//! The two times that every call to a shard carries.

use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tidegate_ids::{MonotonicNs, Now, WallMs};

/// Reads the clocks of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Shared by all shards, so that their monotonic times compare.
    zero: Instant,
}

impl Clock {
    /// A clock whose monotonic time begins now.
    #[must_use]
    pub fn start() -> Self {
        Self { zero: Instant::now() }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Now {
        let ns = u64::try_from(self.zero.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Now { monotonic: MonotonicNs(ns), wall: wall() }
    }
}

/// Milliseconds since 1970; a clock set before that reads as 1970.
#[must_use]
pub fn wall() -> WallMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
