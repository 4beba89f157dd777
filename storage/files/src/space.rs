//! How much room the file system has.

use crate::error::FileError;
use rustix::fs::statvfs;
use std::path::Path;

/// Bytes that the file system of a directory has left for this user. The call may wait for the disk: not on a shard's
/// thread.
///
/// # Errors
/// The system refuses to say.
pub fn free_bytes(directory: &Path) -> Result<u64, FileError> {
    let answer =
        statvfs(directory).map_err(|error| FileError::new("ask the space of", directory, error.into()))?;
    Ok(answer.f_bavail.saturating_mul(answer.f_frsize))
}
