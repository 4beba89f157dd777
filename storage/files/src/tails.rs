//! Giving back the room behind the end of closed segments: they are zeroed ahead to their full size, and a stop or a crash
//! closes them early.

use crate::directory::{DataDir, Owned};
use crate::error::FileError;
use crate::layout;
use rustix::fs::{FallocateFlags, fallocate, fstat};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use tidegate_ids::LogId;
use tidegate_storage_log::descriptor::segment::ENCODING_AT;

/// What a file system allocates at a time.
const PAGE_BYTES: u64 = 4096;

/// What `st_blocks` counts in.
const STAT_BLOCK_BYTES: u64 = 512;

/// Gives back the tails of a directory's segments.
#[derive(Clone, Debug)]
pub struct SegmentTails {
    owned: Arc<Owned>,
}

impl SegmentTails {
    /// Of this directory.
    #[must_use]
    pub fn new(dir: &DataDir) -> Self {
        Self { owned: Arc::clone(dir.owned()) }
    }

    /// Makes a hole of everything behind `end` of a closed segment: it reads as zeroes, as before or as what was cut. Gives
    /// the bytes given back; 0 if there was nothing, if the segment is a rewritten one, whose offsets are not the file's, or
    /// if the file system makes no holes.
    ///
    /// # Errors
    /// The system refuses; the segment is as it was.
    pub fn release(&self, log: LogId, segment: u32, end: u32) -> Result<u64, FileError> {
        let path = layout::segment(self.owned.root(), log, segment);
        let file =
            File::options().read(true).write(true).open(&path).map_err(FileError::on("open", &path))?;
        let before = fstat(&file).map_err(|error| FileError::new("look at", &path, error.into()))?;
        let (from, to) = (u64::from(end).next_multiple_of(PAGE_BYTES), before.st_size as u64);
        let allocated = before.st_blocks as u64 * STAT_BLOCK_BYTES;
        if from >= to || allocated <= from || !is_plain(&file, &path)? {
            return Ok(0);
        }
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&file, hole, from, to - from) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP) => return Ok(0),
            Err(error) => return Err(FileError::new("make a hole in", &path, error.into())),
        }
        let after = fstat(&file).map_err(|error| FileError::new("look at", &path, error.into()))?;
        Ok(allocated.saturating_sub(after.st_blocks as u64 * STAT_BLOCK_BYTES))
    }
}

fn is_plain(file: &File, path: &Path) -> Result<bool, FileError> {
    let mut encoding = [0; 2];
    file.read_exact_at(&mut encoding, ENCODING_AT as u64).map_err(FileError::on("read", path))?;
    Ok(u16::from_le_bytes(encoding) == 0)
}
