//! What a snapshot is written to and read from: traits of this room, implemented by files and by memory.

use core::fmt;

/// The system refused; the number is the operating system's, 0 if there is none. The world's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OsError(pub i32);

impl fmt::Display for OsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "os error {}", self.0)
    }
}

impl core::error::Error for OsError {}

/// The bytes of a snapshot, to be read at any place, by several threads at a time.
pub trait SnapshotSource {
    /// How many there are.
    fn bytes(&self) -> u64;

    /// Fills `into` from `offset` and says how many bytes it got; fewer only at the end.
    ///
    /// # Errors
    /// The device refused.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<usize, OsError>;
}

/// Where a snapshot is written, from the first byte to the last.
pub trait SnapshotSink {
    /// Takes all of `bytes`.
    ///
    /// # Errors
    /// The device refused, or is full.
    fn write(&mut self, bytes: &[u8]) -> Result<(), OsError>;
}

impl SnapshotSource for Vec<u8> {
    fn bytes(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<usize, OsError> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

impl<S: SnapshotSource + ?Sized> SnapshotSource for &S {
    fn bytes(&self) -> u64 {
        (**self).bytes()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<usize, OsError> {
        (**self).read_at(offset, into)
    }
}

impl SnapshotSink for Vec<u8> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), OsError> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

impl<S: SnapshotSink + ?Sized> SnapshotSink for &mut S {
    fn write(&mut self, bytes: &[u8]) -> Result<(), OsError> {
        (**self).write(bytes)
    }
}
