//! What recovery and reading see of the segments: a trait of this room, implemented by files and by tests.

use crate::index::IndexPlace;
use crate::segment::SegmentHeader;
use core::fmt;
use std::collections::BTreeMap;

/// Segments to read, by number. Never used for writing.
pub trait Medium {
    /// Bytes of a segment as it lies there; a rewritten one may tell the uncompressed ones.
    ///
    /// # Errors
    /// [`MediumError::Missing`] if there is no such segment (dropped, or never made).
    fn segment_len(&self, segment: u32) -> Result<u64, MediumError>;

    /// Fills `into` from `offset` and says how many bytes it got; fewer only at the end of the segment.
    ///
    /// # Errors
    /// [`MediumError::Unreadable`] is taken for damage of these bytes, never for the end of the process.
    fn read(&mut self, segment: u32, offset: u64, into: &mut [u8]) -> Result<usize, MediumError>;

    /// Says that these bytes are read soon: the medium may fetch them meanwhile. Nobody waits, and no failure is told.
    fn will_need(&mut self, segment: u32, offset: u64, bytes: usize) {
        let _ = (segment, offset, bytes);
    }

    /// Which of a segment's files is read from now on: another number after it was replaced.
    ///
    /// # Errors
    /// Those of [`Medium::read`].
    fn generation(&mut self, segment: u32) -> Result<u64, MediumError> {
        let _ = segment;
        Ok(0)
    }

    /// Where the index of a sealed segment lies, if that is known without waiting for a device.
    fn index(&mut self, segment: u32) -> Option<IndexPlace> {
        let _ = segment;
        None
    }

    /// Whether rewritten segments are read as the uncompressed segments they stand for, see [`crate::Inflated`]. Where
    /// they are not, recovery refuses them.
    fn inflates(&self) -> bool {
        false
    }
}

impl<M: Medium> Medium for &mut M {
    fn segment_len(&self, segment: u32) -> Result<u64, MediumError> {
        (**self).segment_len(segment)
    }

    fn read(&mut self, segment: u32, offset: u64, into: &mut [u8]) -> Result<usize, MediumError> {
        (**self).read(segment, offset, into)
    }

    fn will_need(&mut self, segment: u32, offset: u64, bytes: usize) {
        (**self).will_need(segment, offset, bytes);
    }

    fn generation(&mut self, segment: u32) -> Result<u64, MediumError> {
        (**self).generation(segment)
    }

    fn index(&mut self, segment: u32) -> Option<IndexPlace> {
        (**self).index(segment)
    }

    fn inflates(&self) -> bool {
        (**self).inflates()
    }
}

/// Why bytes could not be had. The world's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediumError {
    /// There is no such segment. A link into it ends the walk: retention dropped it.
    Missing(u32),
    /// The device refused, or what it gave fails its checksum: a block of a rewritten segment.
    Unreadable {
        /// The segment.
        segment: u32,
        /// Where in it.
        offset: u64,
        /// `errno`, 0 for a checksum.
        os_error: i32,
    },
}

impl fmt::Display for MediumError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(segment) => write!(f, "segment {segment} is not there"),
            Self::Unreadable { segment, offset, os_error: 0 } => {
                write!(f, "the block of segment {segment} at {offset} fails its checksum")
            }
            Self::Unreadable { segment, offset, os_error } => {
                write!(f, "segment {segment} cannot be read at {offset} (os error {os_error})")
            }
        }
    }
}

impl core::error::Error for MediumError {}

/// Segments in memory: for tests and the simulator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryMedium {
    /// The bytes of each segment.
    pub segments: BTreeMap<u32, Vec<u8>>,
}

impl MemoryMedium {
    /// A medium without segments.
    #[must_use]
    pub const fn new() -> Self {
        Self { segments: BTreeMap::new() }
    }

    /// Adds a zeroed segment.
    pub fn add(&mut self, segment: u32, bytes: u32) {
        self.segments.insert(segment, vec![0; bytes as usize]);
    }

    /// Writes into a segment as a file would take it, growing it if needed.
    pub fn write(&mut self, segment: u32, offset: u64, bytes: &[u8]) {
        let held = self.segments.entry(segment).or_default();
        let (from, to) = (offset as usize, offset as usize + bytes.len());
        if held.len() < to {
            held.resize(to, 0);
        }
        held[from..to].copy_from_slice(bytes);
    }

    /// The numbers of all segments, rising.
    #[must_use]
    pub fn numbers(&self) -> Vec<u32> {
        self.segments.keys().copied().collect()
    }
}

impl Medium for MemoryMedium {
    fn segment_len(&self, segment: u32) -> Result<u64, MediumError> {
        let bytes = self.segments.get(&segment).ok_or(MediumError::Missing(segment))?;
        Ok(bytes.len() as u64)
    }

    fn read(&mut self, segment: u32, offset: u64, into: &mut [u8]) -> Result<usize, MediumError> {
        let bytes = self.segments.get(&segment).ok_or(MediumError::Missing(segment))?;
        let from = usize::try_from(offset).map_or(bytes.len(), |offset| offset.min(bytes.len()));
        let count = into.len().min(bytes.len() - from);
        into[..count].copy_from_slice(&bytes[from..from + count]);
        Ok(count)
    }

    fn index(&mut self, segment: u32) -> Option<IndexPlace> {
        let headers = self.segments.values().filter_map(|bytes| SegmentHeader::decode(bytes.first_chunk()?));
        IndexPlace::among(headers, segment)
    }
}
