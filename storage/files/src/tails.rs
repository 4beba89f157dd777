//! Giving back the room behind the end of closed segments: they are zeroed ahead to their full size, and a stop or a crash
//! closes them early.

use crate::directory::{DataDir, Owned};
use crate::error::FileError;
use crate::layout;
use crate::limits::TRANSFER_BYTES;
use rustix::fs::{FallocateFlags, fallocate, fstat};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use tidegate_ids::LogId;
use tidegate_storage_log::descriptor::segment::ENCODING_AT;

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

    /// Makes a hole of everything behind `end` of a closed segment, so that it reads as zeroes, what was cut there too. Gives
    /// the bytes given back; 0 if there was nothing, if the segment is a rewritten one, whose offsets are not the file's, or
    /// if the file system makes no holes and zeroes were written instead.
    ///
    /// # Errors
    /// The system refuses; the segment is as it was.
    pub fn release(&self, log: LogId, segment: u32, end: u32) -> Result<u64, FileError> {
        let path = layout::segment(self.owned.root(), log, segment);
        let file =
            File::options().read(true).write(true).open(&path).map_err(FileError::on("open", &path))?;
        let before = fstat(&file).map_err(|error| FileError::new("look at", &path, error.into()))?;
        let (from, to) = (u64::from(end), before.st_size as u64);
        let allocated = before.st_blocks as u64 * STAT_BLOCK_BYTES;
        if from >= to || allocated <= from || !is_plain(&file, &path)? {
            return Ok(0);
        }
        // From the end itself, not from the next page: what was cut there may be what somebody said again later, and asked to
        // erase (decision 0016).
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&file, hole, from, to - from) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP) => {
                zero(&file, from).map_err(FileError::on("zero the rest of", &path))?;
                return Ok(0);
            }
            Err(error) => return Err(FileError::new("make a hole in", &path, error.into())),
        }
        let after = fstat(&file).map_err(|error| FileError::new("look at", &path, error.into()))?;
        Ok(allocated.saturating_sub(after.st_blocks as u64 * STAT_BLOCK_BYTES))
    }
}

/// Writes zeroes over what is not zero from here on. What was cut there reads as before, for nobody ever reads it.
fn zero(file: &File, from: u64) -> io::Result<()> {
    let (mut at, mut piece) = (from, vec![0; TRANSFER_BYTES]);
    let zeroes = vec![0; TRANSFER_BYTES];
    let mut is_changed = false;
    loop {
        let count = file.read_at(&mut piece, at)?;
        if count == 0 {
            break;
        }
        if piece[..count] != zeroes[..count] {
            file.write_all_at(&zeroes[..count], at)?;
            is_changed = true;
        }
        at += count as u64;
    }
    if is_changed { file.sync_data() } else { Ok(()) }
}

fn is_plain(file: &File, path: &Path) -> Result<bool, FileError> {
    let mut encoding = [0; 2];
    file.read_exact_at(&mut encoding, ENCODING_AT as u64).map_err(FileError::on("read", path))?;
    Ok(u16::from_le_bytes(encoding) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a file system makes no holes, what a crash had cut stayed on the disk for good.
    #[test]
    fn without_holes_the_rest_is_zeroed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let bytes = vec![7; 3 * TRANSFER_BYTES / 2];
        std::fs::write(&path, &bytes).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        zero(&file, 1000).unwrap();
        let found = std::fs::read(&path).unwrap();
        assert_eq!(found.len(), bytes.len());
        assert!(found[..1000].iter().all(|byte| *byte == 7) && found[1000..].iter().all(|byte| *byte == 0));
    }
}
