//! A file like a segment: zeroed, synced, and aligned memory to write into it.

use crate::limits::{BLOCK_BYTES, SEGMENT_BYTES};
use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags, open};
use std::fs::File;
use std::io::Write;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use tidegate_reactor::{Config, LogFile, SyncMode};

/// Makes a file of one segment's size whose every byte was written and is on the disk, so that later writes change no
/// metadata.
///
/// # Errors
/// What the system says.
pub fn zeroed(path: &Path) -> Result<()> {
    let mut file = File::create_new(path).with_context(|| format!("cannot make {}", path.display()))?;
    let zeros = vec![0; 1 << 20];
    for _ in 0..SEGMENT_BYTES / zeros.len() as u64 {
        file.write_all(&zeros).with_context(|| format!("cannot fill {}", path.display()))?;
    }
    file.sync_all().with_context(|| format!("cannot sync {}", path.display()))
}

/// A ring that only writes; `shard_cpu` keeps the kernel's worker off that core.
#[must_use]
pub fn ring_config(shard_cpu: Option<usize>) -> Config {
    Config {
        submission_entries: 64,
        completion_entries: 256,
        slots: 1,
        buffers: 8,
        buffer_bytes: 512,
        shard_cpu,
        ..Config::default()
    }
}

/// Opens it for this way of writing.
///
/// # Errors
/// The file system takes no direct writes.
pub fn opened(path: &Path, mode: SyncMode) -> Result<LogFile> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let flags = match mode {
        SyncMode::LinkedFdatasync => flags,
        SyncMode::DirectDsync => flags | OFlags::DIRECT | OFlags::DSYNC,
    };
    let file = open(path, flags, Mode::empty()).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(LogFile::from(file))
}

/// Opens it for direct writes where the file system takes them, as the gateway does.
///
/// # Errors
/// What the system says.
pub fn opened_auto(path: &Path) -> Result<(LogFile, SyncMode)> {
    match opened(path, SyncMode::DirectDsync) {
        Ok(file) => Ok((file, SyncMode::DirectDsync)),
        Err(_) => Ok((opened(path, SyncMode::LinkedFdatasync)?, SyncMode::LinkedFdatasync)),
    }
}

/// Bytes that begin at a block, as direct writes need them. They stay where they are when this is moved.
#[derive(Debug)]
pub struct AlignedBytes {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBytes {
    /// Room for so many bytes, none of them used.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let bytes = vec![0; capacity + BLOCK_BYTES - 1];
        let start = bytes.as_ptr().addr().wrapping_neg() & (BLOCK_BYTES - 1);
        Self { bytes, start, len: 0 }
    }

    /// Bytes that may still be taken.
    #[must_use]
    pub fn room(&self) -> usize {
        self.bytes.len() + 1 - BLOCK_BYTES - self.len
    }

    /// Appends bytes, and zeros behind them up to `stored_bytes`.
    ///
    /// # Panics
    /// If there is no room.
    pub fn push(&mut self, bytes: &[u8], stored_bytes: usize) {
        assert!(stored_bytes >= bytes.len() && stored_bytes <= self.room(), "a batch over its limit");
        let at = self.start + self.len;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self.bytes[at + bytes.len()..at + stored_bytes].fill(0);
        self.len += stored_bytes;
    }

    /// Appends zeros up to a multiple of `block`.
    pub fn pad(&mut self, block: usize) {
        self.push(&[], self.len.next_multiple_of(block) - self.len);
    }

    /// Forgets the bytes, keeps the memory.
    pub fn clear(&mut self) {
        self.len = 0;
    }
}

impl Deref for AlignedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

/// Aligned bytes that are filled, written, and filled again: the ring holds them while it writes.
#[derive(Clone, Debug)]
pub struct Batch(Arc<AlignedBytes>);

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Arc::new(AlignedBytes::with_capacity(capacity)))
    }

    /// To be filled.
    ///
    /// # Panics
    /// If it is being written.
    pub fn bytes_mut(&mut self) -> &mut AlignedBytes {
        let Some(bytes) = Arc::get_mut(&mut self.0) else { panic!("a batch is changed while it is written") };
        bytes
    }
}

impl Deref for Batch {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::AlignedBytes;

    #[test]
    fn bytes_begin_at_a_block_and_are_padded_with_zeros() {
        let mut bytes = AlignedBytes::with_capacity(8192);
        for round in 0..2 {
            bytes.push(&[7; 10], 16);
            bytes.pad(512);
            assert_eq!(bytes.as_ptr().addr() % 4096, 0);
            assert_eq!((bytes.len(), bytes.room()), (512, 8192 - 512), "round {round}");
            assert_eq!(bytes[9..17], [7, 0, 0, 0, 0, 0, 0, 0]);
            bytes.push(&[9; 512], 512);
            bytes.clear();
        }
    }
}
