//! Writing a snapshot from front to back.

use crate::batch::Guard;
use crate::limits::{
    SNAPSHOT_BLOCK_BYTES, SNAPSHOT_BLOCKS_MAX, SNAPSHOT_INDEX_BLOCK_ENTRIES, SNAPSHOT_STATE_BYTES_MAX,
};
use crate::snapshot::block::{BlockBuilder, BlockIdentity, BlockKind, IndexEntry, Key};
use crate::snapshot::format::{ENTRY_BYTES, FOOTER_BYTES, Footer, SnapshotHeader, header};
use crate::snapshot::index::SnapshotEntry;
use crate::snapshot::source::{OsError, SnapshotSink};
use core::fmt;
use tidegate_ids::StreamId;

/// Why a snapshot could not be written; what was written so far is worth nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// The device refused, or is full. Recovered by trying again later; the previous snapshot stands.
    Sink(OsError),
    /// A stream's state is larger than an entry may be. Recovered by nothing but a program that folds it smaller.
    StateTooLarge {
        /// The stream.
        stream: StreamId,
        /// Bytes of its state.
        bytes: usize,
    },
    /// The covered logs and their checkpoints are too many bytes for a header, or the blocks too many for an index.
    TooLarge,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotSummary {
    /// Entries of streams.
    pub entries: u64,
    /// Blocks of entries.
    pub blocks: u32,
    /// Bytes of the file.
    pub bytes: u64,
}

/// A snapshot being written. Its memory is one block and the index.
#[derive(Debug)]
pub struct SnapshotWriter<K> {
    sink: K,
    number: u64,
    directory: [u8; 16],
    hash_version: u16,
    guard: u32,
    header_checksum: u32,
    offset: u64,
    entries: u64,
    last: Option<Key>,
    first_of_block: Key,
    block: BlockBuilder,
    index: Vec<IndexEntry>,
}

impl<K: SnapshotSink> SnapshotWriter<K> {
    /// Begins, with the header.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn new(mut sink: K, header: &SnapshotHeader) -> Result<Self, WriteError> {
        let bytes = header.encode().ok_or(WriteError::TooLarge)?;
        sink.write(&bytes).map_err(WriteError::Sink)?;
        Ok(Self {
            sink,
            number: header.number,
            directory: header.directory,
            hash_version: header.hash_version,
            guard: Guard::new(&header.directory).0,
            header_checksum: crate::descriptor::get_u32(&bytes, header::CHECKSUM_AT),
            offset: bytes.len() as u64,
            entries: 0,
            last: None,
            first_of_block: Key::default(),
            block: BlockBuilder::new(),
            index: Vec::new(),
        })
    }

    /// Whether entries of a snapshot with header `previous` may be taken over: same directory, same order.
    #[must_use]
    pub fn continues(&self, previous: &SnapshotHeader) -> bool {
        previous.directory == self.directory && previous.hash_version == self.hash_version
    }

    /// Bytes written so far.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.offset
    }

    /// Adds the next entry.
    ///
    /// # Errors
    /// See [`WriteError`].
    ///
    /// # Panics
    /// If entries do not rise by (place, stream).
    pub fn push(&mut self, entry: &SnapshotEntry<'_>) -> Result<(), WriteError> {
        let key = entry.key();
        assert!(self.last.is_none_or(|last| last < key), "entries of a snapshot rise");
        if entry.state.len() > SNAPSHOT_STATE_BYTES_MAX {
            return Err(WriteError::StateTooLarge { stream: entry.stream, bytes: entry.state.len() });
        }
        let would_be = self.block.len() + ENTRY_BYTES + entry.state.len();
        if would_be > SNAPSHOT_BLOCK_BYTES && !self.block.is_empty() {
            self.end_block()?;
        }
        if self.block.is_empty() {
            self.first_of_block = key;
        }
        self.block.push(entry);
        self.last = Some(key);
        self.entries += 1;
        Ok(())
    }

    /// Ends with the index and the footer, and gives the sink back. Nothing of the snapshot counts before that.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn finish(mut self) -> Result<(K, SnapshotSummary), WriteError> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        let index_offset = self.offset;
        let index = core::mem::take(&mut self.index);
        let mut index_blocks = 0;
        for part in index.chunks(SNAPSHOT_INDEX_BLOCK_ENTRIES) {
            part.iter().for_each(|entry| self.block.push_index(entry));
            self.write_block(BlockKind::Index)?;
            index_blocks += 1;
        }
        let footer = Footer {
            header_checksum: self.header_checksum,
            number: self.number,
            index_offset,
            file_bytes: self.offset + FOOTER_BYTES as u64,
            entries: self.entries,
            blocks: index.len() as u32,
            index_blocks,
        };
        self.sink.write(&footer.encode(self.guard)).map_err(WriteError::Sink)?;
        let summary =
            SnapshotSummary { entries: self.entries, blocks: footer.blocks, bytes: footer.file_bytes };
        Ok((self.sink, summary))
    }

    fn end_block(&mut self) -> Result<(), WriteError> {
        if self.index.len() >= SNAPSHOT_BLOCKS_MAX {
            return Err(WriteError::TooLarge);
        }
        let (offset, length) = (self.offset, self.block.len() as u32);
        self.index.push(IndexEntry { first: self.first_of_block, offset, length });
        self.write_block(BlockKind::Entries)
    }

    fn write_block(&mut self, kind: BlockKind) -> Result<(), WriteError> {
        let (number, offset, guard) = (self.number, self.offset, self.guard);
        let bytes = self.block.finish(&BlockIdentity { kind, number, offset, guard });
        self.sink.write(bytes).map_err(WriteError::Sink)?;
        self.offset += bytes.len() as u64;
        self.block.clear();
        Ok(())
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sink(error) => write!(f, "the snapshot cannot be written ({error})"),
            Self::StateTooLarge { stream, bytes } => {
                write!(f, "the state of {stream} is {bytes} bytes, more than an entry may have")
            }
            Self::TooLarge => f.write_str("too many logs or blocks for one snapshot"),
        }
    }
}

impl core::error::Error for WriteError {}
