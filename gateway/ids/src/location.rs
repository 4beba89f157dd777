//! Where a record is. A location never moves (DESIGN 5).

use crate::ShardIndex;
use core::fmt;

/// A record's place: the segment (unique in the data directory) and the byte offset of its placement in the
/// uncompressed segment. Ordered within one log, whose segment numbers rise.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// Segment number, 1 and up; 0 with offset 0 is [`Location::NONE`].
    pub segment: u32,
    /// Byte offset in the segment.
    pub offset: u32,
}

/// A point between records of one log, as (segment, offset): everything at a lower location lies before it.
pub type Position = Location;

impl Location {
    /// No record: the end of a chain.
    pub const NONE: Self = Self { segment: 0, offset: 0 };
    /// The record before is in the stream's folded state, not in a linked record (DECISIONS, Log).
    pub const SNAPSHOT: Self = Self { segment: u32::MAX, offset: u32::MAX };

    /// A place.
    #[must_use]
    pub const fn new(segment: u32, offset: u32) -> Self {
        Self { segment, offset }
    }

    /// Whether this names no record.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.segment == 0 && self.offset == 0
    }

    /// Segment in the high half, offset in the low: the order of [`Location`] as one integer.
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        (self.segment as u64) << 32 | self.offset as u64
    }

    /// The inverse of [`Location::to_u64`].
    #[must_use]
    pub const fn from_u64(value: u64) -> Self {
        Self { segment: (value >> 32) as u32, offset: value as u32 }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.segment, self.offset)
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({self})")
    }
}

/// One log: the shard of one epoch that wrote it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// The epoch, 1 and up.
    pub epoch: u32,
    /// The shard within that epoch.
    pub shard: ShardIndex,
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.shard)
    }
}
