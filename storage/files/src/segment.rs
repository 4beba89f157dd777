//! One segment as a file open for appending. Live appends go through the reactor, to the descriptor; this type only
//! owns it.

use crate::error::FileError;
use rustix::fs::OFlags;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use tidegate_ids::LogId;

/// How a segment's file takes writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteMode {
    /// `O_DIRECT | O_DSYNC`: a finished write is durable. Buffers and offsets are multiples of the device's block.
    Direct,
    /// Through the page cache: a write is durable after an `fdatasync` that follows it.
    #[default]
    Buffered,
}

/// A prepared segment: zeroed, synced, named in the manifest.
#[derive(Debug)]
pub struct SegmentFile {
    file: File,
    number: u32,
    log: LogId,
    bytes: u32,
    mode: WriteMode,
}

impl SegmentFile {
    pub(crate) fn open(
        path: &Path,
        log: LogId,
        number: u32,
        bytes: u32,
        mode: WriteMode,
    ) -> Result<Self, FileError> {
        let flags = match mode {
            WriteMode::Direct => OFlags::DIRECT | OFlags::DSYNC,
            WriteMode::Buffered => OFlags::empty(),
        };
        let file = File::options()
            .write(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path)
            .map_err(FileError::on("open for writing", path))?;
        Ok(Self { file, number, log, bytes, mode })
    }

    /// Unique in the data directory; rising within a log.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// The log it belongs to.
    #[must_use]
    pub const fn log(&self) -> LogId {
        self.log
    }

    /// Its size; a segment never grows.
    #[must_use]
    pub const fn bytes(&self) -> u32 {
        self.bytes
    }

    /// How it takes writes.
    #[must_use]
    pub const fn mode(&self) -> WriteMode {
        self.mode
    }

    /// The descriptor, open while this lives.
    #[must_use]
    pub fn raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Writes and makes durable, blocking: for tools and tests; a shard never calls it.
    ///
    /// # Errors
    /// What the system says. In [`WriteMode::Direct`] unaligned bytes are refused (`EINVAL`).
    pub fn write_sync(&self, offset: u32, bytes: &[u8]) -> io::Result<()> {
        assert!(offset as usize + bytes.len() <= self.bytes as usize, "a segment never grows");
        self.file.write_all_at(bytes, u64::from(offset))?;
        match self.mode {
            WriteMode::Direct => Ok(()),
            WriteMode::Buffered => self.file.sync_data(),
        }
    }
}

impl AsFd for SegmentFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
