//! Times, monotonic and wall apart, both handed in by the shell.

use core::fmt;

/// Nanoseconds of a clock that never goes back; its zero means nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonotonicNs(pub u64);

/// Milliseconds since 1970, UTC; may jump in either direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallMs(pub u64);

/// What the shell hands to every call that needs time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For deadlines and durations.
    pub monotonic: MonotonicNs,
    /// For stamps and token expiry.
    pub wall: WallMs,
}

impl MonotonicNs {
    /// One millisecond in nanoseconds.
    pub const MILLISECOND: u64 = 1_000_000;
    /// One second in nanoseconds.
    pub const SECOND: u64 = 1_000_000_000;

    /// This instant and `ns` more.
    #[must_use]
    pub const fn after(self, ns: u64) -> Self {
        Self(self.0.saturating_add(ns))
    }

    /// Nanoseconds since `earlier`, zero if it is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for WallMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
