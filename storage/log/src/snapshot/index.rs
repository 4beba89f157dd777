//! Reading a snapshot: header, footer and index are checked and kept at the opening; a stream then costs one read.

use crate::batch::Guard;
use crate::limits::{SNAPSHOT_BLOCK_LENGTH_MAX, SNAPSHOT_COVERED_BYTES_MAX, SNAPSHOT_INDEX_BLOCK_ENTRIES};
use crate::snapshot::block::{BlockIdentity, BlockKind, IndexEntry, Key, checked, take_entry};
use crate::snapshot::entries::SnapshotEntries;
use crate::snapshot::format::{
    BLOCK_HEADER_BYTES, ENTRY_BYTES, FOOTER_BYTES, Footer, Front, HEADER_BYTES, INDEX_ENTRY_BYTES,
    SNAPSHOT_FORMAT_VERSION, SnapshotHeader,
};
use crate::snapshot::source::{OsError, SnapshotSource};
use core::fmt;
use core::ops::Range;
use tidegate_ids::{Location, StreamId, VirtualShard};

/// What a snapshot holds of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotEntry<'a> {
    /// The stream's virtual shard.
    pub place: VirtualShard,
    /// The stream.
    pub stream: StreamId,
    /// The newest record folded: the stream's records at higher locations follow.
    pub folded: Location,
    /// The state, opaque here.
    pub state: &'a [u8],
}

/// Why a snapshot, or a part of it, cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotError {
    /// Written by another version of the format. Recovered by the program that wrote it.
    Version(u16),
    /// Not the bytes that were written. Recovered by an older snapshot, or by folding the logs from their beginning.
    Damaged {
        /// What it hit.
        part: SnapshotPart,
        /// Where it starts.
        offset: u64,
        /// How many bytes are concerned.
        length: u64,
    },
    /// The device refused to read. Recovered as damage is; the next read may do better.
    Unreadable {
        /// Where.
        offset: u64,
        /// What the system said.
        error: OsError,
    },
}

/// A part of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotPart {
    /// The header: it is not known what is covered.
    Header,
    /// The footer, or bytes are missing at the end.
    Footer,
    /// The index.
    Index,
    /// A block of entries: only its streams are concerned.
    Block,
}

impl SnapshotEntry<'_> {
    pub(crate) const fn key(&self) -> Key {
        (self.place, self.stream)
    }
}

/// A snapshot whose header, footer and index hold. Blocks are checked when they are read.
#[derive(Clone, Debug)]
pub struct Snapshot<S> {
    source: S,
    parts: Parts,
}

/// What is kept of a snapshot in memory.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) header: SnapshotHeader,
    pub(crate) guard: u32,
    pub(crate) footer: Footer,
    pub(crate) index: Vec<IndexEntry>,
}

impl<S: SnapshotSource> Snapshot<S> {
    /// Reads header, footer and index. Whose directory it is of is the caller's to judge, by [`Snapshot::header`].
    ///
    /// # Errors
    /// See [`SnapshotError`]: nothing of such a snapshot can be used.
    pub fn open(source: S) -> Result<Self, SnapshotError> {
        let (front, header) = read_header(&source)?;
        let guard = Guard::new(&header.directory).0;
        let header_bytes = HEADER_BYTES as u64 + u64::from(front.logs_bytes);
        let Some(footer_offset) = source.bytes().checked_sub(FOOTER_BYTES as u64) else {
            return Err(damaged(SnapshotPart::Footer, 0, source.bytes()));
        };
        let mut bytes = [0; FOOTER_BYTES];
        read_exact(&source, footer_offset, &mut bytes, SnapshotPart::Footer)?;
        let fits = |footer: &Footer| {
            footer.header_checksum == front.checksum
                && footer.number == header.number
                && footer.file_bytes == source.bytes()
                && (header_bytes..=footer_offset).contains(&footer.index_offset)
        };
        let footer = Footer::decode(&bytes, guard).filter(fits).ok_or(damaged(
            SnapshotPart::Footer,
            footer_offset,
            FOOTER_BYTES as u64,
        ))?;
        let index = read_index(&source, guard, &footer, header_bytes)?;
        Ok(Self { source, parts: Parts { header, guard, footer, index } })
    }

    /// What it is of.
    #[must_use]
    pub const fn header(&self) -> &SnapshotHeader {
        &self.parts.header
    }

    /// How many streams have an entry.
    #[must_use]
    pub const fn entry_count(&self) -> u64 {
        self.parts.footer.entries
    }

    /// How many blocks of entries there are.
    #[must_use]
    pub const fn block_count(&self) -> usize {
        self.parts.index.len()
    }

    /// Bytes of the whole snapshot.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.parts.footer.file_bytes
    }

    /// Where it is read from.
    #[must_use]
    pub const fn source(&self) -> &S {
        &self.source
    }

    /// The entry of a stream, or `None` if it has none. At most one read, into `block`, which is the caller's to use again
    /// and again.
    ///
    /// # Errors
    /// The one block that could hold it is damaged or cannot be read.
    pub fn read_entry<'b>(
        &self,
        place: VirtualShard,
        stream: &StreamId,
        block: &'b mut Vec<u8>,
    ) -> Result<Option<SnapshotEntry<'b>>, SnapshotError> {
        let found = self.parts.find(&self.source, (place, *stream), block)?;
        Ok(found.map(|(folded, state)| SnapshotEntry {
            place,
            stream: *stream,
            folded,
            state: &block[state],
        }))
    }

    /// Like [`Snapshot::read_entry`], but leaves nothing but the state in `state`, which is empty if there is no entry or
    /// after an error, and says up to where it is folded.
    ///
    /// # Errors
    /// Those of [`Snapshot::read_entry`].
    pub fn load(
        &self,
        place: VirtualShard,
        stream: &StreamId,
        state: &mut Vec<u8>,
    ) -> Result<Option<Location>, SnapshotError> {
        let found = self.parts.find(&self.source, (place, *stream), state);
        let range =
            found.as_ref().ok().and_then(|found| found.as_ref()).map_or(0..0, |(_, range)| range.clone());
        let len = range.len();
        state.copy_within(range, 0);
        state.truncate(len);
        Ok(found?.map(|(folded, _)| folded))
    }

    /// All entries in order.
    #[must_use]
    pub fn entries(&self) -> SnapshotEntries<'_> {
        SnapshotEntries::new(&self.parts, &self.source, 0..u32::from(u16::MAX) + 1)
    }

    /// The entries of some virtual shards, in order: what another shard, or another node, takes over.
    #[must_use]
    pub fn entries_of(&self, places: Range<u32>) -> SnapshotEntries<'_> {
        SnapshotEntries::new(&self.parts, &self.source, places)
    }
}

impl Parts {
    /// The first block that could hold `key` or what comes after it.
    pub(crate) fn block_of(&self, key: Key) -> Option<usize> {
        self.index.partition_point(|entry| entry.first <= key).checked_sub(1)
    }

    /// Reads block `at`, which then fills `block`, and says how many entries it has.
    pub(crate) fn read_block(
        &self,
        source: &dyn SnapshotSource,
        at: usize,
        block: &mut Vec<u8>,
    ) -> Result<u16, SnapshotError> {
        let IndexEntry { offset, length, .. } = self.index[at];
        block.resize(length as usize, 0);
        read_exact(source, offset, block, SnapshotPart::Block)?;
        let (number, guard) = (self.header.number, self.guard);
        let identity = BlockIdentity { kind: BlockKind::Entries, number, offset, guard };
        let count = checked(block, &identity).map(|(_, count)| count);
        count.ok_or(damaged(SnapshotPart::Block, offset, u64::from(length)))
    }

    /// Where the state of `key` stands in `block` after the one read it takes, and up to where it is folded.
    fn find(
        &self,
        source: &dyn SnapshotSource,
        key: Key,
        block: &mut Vec<u8>,
    ) -> Result<Option<(Location, Range<usize>)>, SnapshotError> {
        block.clear();
        let Some(at) = self.block_of(key) else { return Ok(None) };
        self.read_block(source, at, block)?;
        let mut rest = &block[BLOCK_HEADER_BYTES..];
        while !rest.is_empty() {
            let start = block.len() - rest.len() + ENTRY_BYTES;
            let Some(entry) = take_entry(&mut rest) else {
                let IndexEntry { offset, length, .. } = self.index[at];
                return Err(damaged(SnapshotPart::Block, offset, u64::from(length)));
            };
            if entry.key() >= key {
                let range = start..start + entry.state.len();
                return Ok((entry.key() == key).then_some((entry.folded, range)));
            }
        }
        Ok(None)
    }
}

fn read_header(source: &dyn SnapshotSource) -> Result<(Front, SnapshotHeader), SnapshotError> {
    let wrong = |length: usize| damaged(SnapshotPart::Header, 0, length as u64);
    let mut fixed = [0; HEADER_BYTES];
    read_exact(source, 0, &mut fixed, SnapshotPart::Header)?;
    let front = Front::decode(&fixed).ok_or(wrong(HEADER_BYTES))?;
    if front.version != SNAPSHOT_FORMAT_VERSION {
        return Err(SnapshotError::Version(front.version));
    }
    let length = HEADER_BYTES + front.logs_bytes as usize;
    if front.logs_bytes as usize > SNAPSHOT_COVERED_BYTES_MAX || length as u64 > source.bytes() {
        return Err(wrong(length));
    }
    let mut bytes = vec![0; length];
    bytes[..HEADER_BYTES].copy_from_slice(&fixed);
    read_exact(source, HEADER_BYTES as u64, &mut bytes[HEADER_BYTES..], SnapshotPart::Header)?;
    SnapshotHeader::decode(&bytes).map(|header| (front, header)).ok_or(wrong(length))
}

/// Reads the index, and holds it against itself: blocks follow each other without a gap from the header to the index, and
/// their first keys rise.
fn read_index(
    source: &dyn SnapshotSource,
    guard: u32,
    footer: &Footer,
    header_bytes: u64,
) -> Result<Vec<IndexEntry>, SnapshotError> {
    let footer_offset = footer.file_bytes - FOOTER_BYTES as u64;
    let wrong = damaged(SnapshotPart::Index, footer.index_offset, footer_offset - footer.index_offset);
    let blocks = footer.blocks as usize;
    let index_bytes =
        blocks as u64 * INDEX_ENTRY_BYTES as u64 + u64::from(footer.index_blocks) * BLOCK_HEADER_BYTES as u64;
    let sizes_fit = footer.index_offset + index_bytes == footer_offset
        && footer.index_blocks as usize == blocks.div_ceil(SNAPSHOT_INDEX_BLOCK_ENTRIES);
    if !sizes_fit {
        return Err(wrong);
    }
    let mut index: Vec<IndexEntry> = Vec::with_capacity(blocks);
    let (mut offset, mut bytes) = (footer.index_offset, Vec::new());
    while index.len() < blocks {
        let expected = (blocks - index.len()).min(SNAPSHOT_INDEX_BLOCK_ENTRIES);
        bytes.resize(BLOCK_HEADER_BYTES + expected * INDEX_ENTRY_BYTES, 0);
        read_exact(source, offset, &mut bytes, SnapshotPart::Index)?;
        let identity = BlockIdentity { kind: BlockKind::Index, number: footer.number, offset, guard };
        let (payload, count) = checked(&bytes, &identity).ok_or(wrong)?;
        let entries = payload.as_chunks::<INDEX_ENTRY_BYTES>().0;
        if usize::from(count) != expected {
            return Err(wrong);
        }
        index.extend(entries.iter().map(IndexEntry::decode));
        offset += bytes.len() as u64;
    }
    let mut end = header_bytes;
    let mut before = None;
    for entry in &index {
        let follows = entry.offset == end && before.is_none_or(|before| before < entry.first);
        if !follows || entry.length as usize <= BLOCK_HEADER_BYTES || entry.length > SNAPSHOT_BLOCK_LENGTH_MAX
        {
            return Err(wrong);
        }
        (before, end) = (Some(entry.first), end + u64::from(entry.length));
    }
    if end == footer.index_offset { Ok(index) } else { Err(wrong) }
}

/// Fills `into`; fewer bytes than that are damage of `part`.
fn read_exact(
    source: &dyn SnapshotSource,
    offset: u64,
    into: &mut [u8],
    part: SnapshotPart,
) -> Result<(), SnapshotError> {
    let got = source.read_at(offset, into).map_err(|error| SnapshotError::Unreadable { offset, error })?;
    if got == into.len() { Ok(()) } else { Err(damaged(part, offset, into.len() as u64)) }
}

pub(crate) const fn damaged(part: SnapshotPart, offset: u64, length: u64) -> SnapshotError {
    SnapshotError::Damaged { part, offset, length }
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => {
                write!(f, "format version {version}, which this program does not know")
            }
            Self::Damaged { part, offset, length } => {
                let part = match part {
                    SnapshotPart::Header => "header",
                    SnapshotPart::Footer => "footer",
                    SnapshotPart::Index => "index",
                    SnapshotPart::Block => "block",
                };
                write!(f, "the {part} of {length} bytes at {offset} is damaged")
            }
            Self::Unreadable { offset, error } => write!(f, "cannot be read at {offset} ({error})"),
        }
    }
}

impl core::error::Error for SnapshotError {}
