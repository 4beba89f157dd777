//! Rewriting a segment that nothing is appended to any more: block by block, under the same offsets
//! (`docs/formats/log.md`, "A rewritten segment").
//!
//! Records that are over become holes: placement and head stay, so every link still leads on, and the body is zeroed.
//! Batches that held such a record get new checksums, so the uncompressed segment is one like any other. A rewritten
//! segment is rewritten again by the same code, read through [`crate::Inflated`].

use crate::batch::{BatchHeader, BatchKind, Guard};
use crate::block_table::BlockEntry;
use crate::checksum::crc32c;
use crate::descriptor::{BATCH_HEADER_BYTES, BLOCK_ENTRY_BYTES, REWRITTEN_BLOCK_BYTES, SEGMENT_HEADER_BYTES};
use crate::footer::seal_of;
use crate::index::IndexPlace;
use crate::limits::COMPRESSION_LEVEL;
use crate::medium::{Medium, MediumError};
use crate::record::{RecordHead, RecordState, hollow, parse, parse_checked};
use crate::recover::SegmentExtent;
use crate::rescue::extent_of;
use crate::segment::{ENCODING_REWRITTEN, PreviousEnd, Rewritten, SegmentHeader};
use crate::window::Window;
use core::fmt;
use tidegate_ids::{Location, Position, WallMs};
use zstd::bulk::Compressor;

/// What is to become of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It stays as it is.
    Live,
    /// Its time is over.
    Expired,
    /// Somebody asked for it to go.
    Erased,
}

/// A segment that nothing is appended to any more, and where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedSegment {
    /// Its header.
    pub header: SegmentHeader,
    /// Its end, and its last batch.
    pub end: PreviousEnd,
}

/// What a segment holds, by what would become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Records with a body.
    pub live: u64,
    /// Bytes of those in the uncompressed segment.
    pub live_bytes: u64,
    /// Records whose body is gone already.
    pub holes: u64,
    /// Records that are to become holes because their time is over.
    pub expired: u64,
    /// Records that are to become holes because somebody asked for it.
    pub erased: u64,
    /// Bytes of the records that are to become holes.
    pub freed_bytes: u64,
    /// When the oldest record that stays was stamped; the largest time if none does.
    pub oldest_live: WallMs,
    /// When the newest record of all was stamped.
    pub newest: WallMs,
}

/// How a segment was rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrote {
    /// What it holds: of `holes`, those that it had before.
    pub tally: Tally,
    /// Bytes of the new file.
    pub file_bytes: u64,
}

/// Where the bytes of a rewritten segment go. They come from front to back, but for the front itself, which comes last.
pub trait RewriteSink {
    /// Why it takes no more.
    type Error;

    /// Takes bytes at an offset.
    ///
    /// # Errors
    /// Ends the rewriting; what was written is worth nothing.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// Why a segment is not rewritten. What it was before is untouched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RewriteError<E> {
    /// It is damaged here. It stays as it is: repairing is another tool's ([`crate::repair`]), and what is bad must not look
    /// sound.
    Damaged(Location),
    /// It is gone.
    Medium(MediumError),
    /// The sink refused.
    Sink(E),
}

/// Looks at a segment: `None` if it has no header, or if nothing says where it ended. That says its own header if it was
/// rewritten, or else the header of the first written one among `later`, the segments of its log that follow, or, where
/// it is the log's last, `known`: where a snapshot says that the log ends.
///
/// # Errors
/// Those of the medium.
pub fn closed_segment<M: Medium>(
    medium: &mut M,
    segment: u32,
    later: &[u32],
    known: PreviousEnd,
) -> Result<Option<ClosedSegment>, MediumError> {
    let Some(header) = segment_header(medium, segment)? else { return Ok(None) };
    if let Some(own) = header.rewritten {
        let end = PreviousEnd { end: Position::new(segment, own.end), batch: own.last_batch };
        return Ok(Some(ClosedSegment { header, end }));
    }
    for &next in later {
        match segment_header(medium, next) {
            Ok(Some(next)) => {
                let end = next.previous;
                return Ok((end.end.segment == segment).then_some(ClosedSegment { header, end }));
            }
            Ok(None) => {}
            // It would say where this one ends.
            Err(MediumError::Unreadable { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok((known.end.segment == segment).then_some(ClosedSegment { header, end: known }))
}

impl ClosedSegment {
    /// What scanning and reading its footer need.
    pub fn extent<M: Medium>(&self, medium: &mut M) -> SegmentExtent {
        extent_of(medium, &self.header, self.end.end.offset)
    }

    /// Whether the records of each stream in it surely follow each other without a gap, so that its footer's count says where the
    /// stream begins: not where a repair may have lost some.
    #[must_use]
    pub fn is_gapless(&self) -> bool {
        self.header.rewritten.is_none_or(|own| own.is_gapless || own.holes == 0)
    }
}

/// The header of a segment, if it has a sound one: then it was written.
///
/// # Errors
/// Those of the medium.
pub fn segment_header<M: Medium>(medium: &mut M, segment: u32) -> Result<Option<SegmentHeader>, MediumError> {
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    let count = medium.read(segment, 0, &mut bytes)?;
    let header = SegmentHeader::decode(&bytes).filter(|header| header.segment == segment);
    Ok(header.filter(|_| count == SEGMENT_HEADER_BYTES))
}

/// Counts what a segment holds, and what of it `decide` would let go.
///
/// # Errors
/// [`RewriteError::Damaged`], or [`RewriteError::Medium`].
pub fn tally<M: Medium>(
    medium: &mut M,
    closed: &ClosedSegment,
    mut decide: impl FnMut(&RecordHead) -> Keep,
) -> Result<Tally, RewriteError<core::convert::Infallible>> {
    let mut tally = Tally::default();
    walk(medium, closed, |header, bytes| {
        for_records(header, bytes, |record| _ = tally.take(record, &mut decide));
        Ok(())
    })?;
    Ok(tally)
}

/// Writes a segment anew to `sink`. `decide` is asked for every record that has a body.
///
/// # Errors
/// See [`RewriteError`].
pub fn rewrite<M: Medium, S: RewriteSink>(
    medium: &mut M,
    closed: &ClosedSegment,
    mut decide: impl FnMut(&RecordHead) -> Keep,
    sink: &mut S,
) -> Result<Rewrote, RewriteError<S::Error>> {
    let mut tally = Tally::default();
    let guard = Guard::new(&closed.header.identity.directory);
    let mut packer = Packer::new(sink, closed.end.end.offset);
    packer.push_zeroes(closed.header.block_bytes as usize).map_err(RewriteError::Sink)?;
    let mut batch = Vec::new();
    let mut holes = Vec::new();
    let mut index = IndexPlace::default();
    walk(medium, closed, |header, bytes| {
        if header.kind == BatchKind::Seal {
            index = seal_of(header, bytes).map_or(index, |seal| seal.index);
        }
        holes.clear();
        for_records(header, bytes, |record| {
            if let Some(state) = tally.take(record, &mut decide) {
                holes.push((record.at..record.at + record.stored_len, state));
            }
        });
        if holes.is_empty() {
            return packer.push(bytes).map_err(RewriteError::Sink);
        }
        batch.clear();
        batch.extend_from_slice(bytes);
        holes.iter().for_each(|(range, state)| hollow(&mut batch[range.clone()], *state));
        header.finish(&mut batch, guard);
        packer.push(&batch).map_err(RewriteError::Sink)
    })?;
    let holes = tally.holes + tally.expired + tally.erased;
    let known = Rewritten {
        end: closed.end.end.offset,
        last_batch: closed.end.batch,
        file_bytes: 0,
        oldest_live: tally.oldest_live,
        holes: u32::try_from(holes).unwrap_or(u32::MAX),
        table_checksum: 0,
        is_gapless: closed.is_gapless(),
        index,
    };
    let file_bytes = packer.finish(closed.header, known).map_err(RewriteError::Sink)?;
    Ok(Rewrote { tally, file_bytes })
}

/// A record in its batch.
struct Found {
    at: usize,
    stored_len: usize,
    head: RecordHead,
    state: RecordState,
}

fn for_records(header: &BatchHeader, bytes: &[u8], mut each: impl FnMut(&Found)) {
    if header.kind != BatchKind::Records {
        return;
    }
    let mut at = BATCH_HEADER_BYTES;
    while let Some(record) = parse(&bytes[at..header.used as usize], Location::NONE) {
        let stored_len = record.stored_len();
        each(&Found { at, stored_len, head: record.head, state: record.placement.state });
        at += stored_len;
    }
}

/// Goes through the batches of a segment, all of which must hold, each record too.
fn walk<M: Medium, E>(
    medium: &mut M,
    closed: &ClosedSegment,
    mut each: impl FnMut(&BatchHeader, &[u8]) -> Result<(), RewriteError<E>>,
) -> Result<(), RewriteError<E>> {
    let (header, end) = (&closed.header, closed.end.end.offset);
    medium.segment_len(header.segment).map_err(RewriteError::Medium)?;
    let mut window = Window::new(medium, Guard::new(&header.identity.directory));
    window.open(header.segment);
    let (mut at, mut number) = (header.block_bytes, header.previous.batch.next());
    while at < end {
        let damaged = RewriteError::Damaged(Location::new(header.segment, at));
        let Some((batch, bytes)) = window.batch(at, end) else { return Err(damaged) };
        let fits = batch.length.is_multiple_of(header.block_bytes) && batch.number == number;
        if !fits || !records_hold(&batch, bytes) {
            return Err(damaged);
        }
        each(&batch, bytes)?;
        (at, number) = (at + batch.length, number.next());
    }
    if at != end || number != closed.end.batch.next() {
        return Err(RewriteError::Damaged(Location::new(header.segment, at)));
    }
    Ok(())
}

/// Whether the records of a batch hold one by one, and fill it.
fn records_hold(header: &BatchHeader, bytes: &[u8]) -> bool {
    if header.kind != BatchKind::Records {
        return true;
    }
    let used = header.used as usize;
    let (mut at, mut count) = (BATCH_HEADER_BYTES, 0);
    while at < used {
        let Ok(record) = parse_checked(&bytes[at..used], Location::NONE) else { return false };
        at += record.stored_len();
        count += 1;
    }
    at == used && count == header.count
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            live: 0,
            live_bytes: 0,
            holes: 0,
            expired: 0,
            erased: 0,
            freed_bytes: 0,
            oldest_live: WallMs(u64::MAX),
            newest: WallMs(0),
        }
    }
}

impl Tally {
    /// Counts a record; the state that it is to get, if it is to become a hole.
    fn take(&mut self, record: &Found, decide: &mut impl FnMut(&RecordHead) -> Keep) -> Option<RecordState> {
        self.newest = self.newest.max(record.head.time);
        if record.state.is_hole() {
            self.holes += 1;
            return None;
        }
        let bytes = record.stored_len as u64;
        let state = match decide(&record.head) {
            Keep::Live => {
                self.live += 1;
                self.live_bytes += bytes;
                self.oldest_live = self.oldest_live.min(record.head.time);
                return None;
            }
            Keep::Expired => {
                self.expired += 1;
                RecordState::Expired
            }
            Keep::Erased => {
                self.erased += 1;
                RecordState::Erased
            }
        };
        self.freed_bytes += bytes;
        Some(state)
    }
}

/// Cuts what comes into blocks, compresses them, and writes them out.
pub(crate) struct Packer<'s, S> {
    sink: &'s mut S,
    compressor: Compressor<'static>,
    block: Vec<u8>,
    compressed: Vec<u8>,
    entries: Vec<BlockEntry>,
    /// Where the next block goes in the file.
    at: u64,
}

impl<'s, S: RewriteSink> Packer<'s, S> {
    pub(crate) fn new(sink: &'s mut S, end: u32) -> Self {
        let mut compressor = Compressor::default();
        // Without an effect where it fails, which only an unknown level does: then the library's own is taken.
        let _ = compressor.set_compression_level(COMPRESSION_LEVEL);
        Self {
            sink,
            compressor,
            block: Vec::with_capacity(REWRITTEN_BLOCK_BYTES),
            compressed: vec![0; REWRITTEN_BLOCK_BYTES],
            entries: Vec::with_capacity(Rewritten::blocks(end)),
            at: (SEGMENT_HEADER_BYTES + Rewritten::table_bytes(end)) as u64,
        }
    }

    pub(crate) fn push_zeroes(&mut self, count: usize) -> Result<(), S::Error> {
        self.push(&[0; crate::limits::BLOCK_BYTES_MAX as usize][..count])
    }

    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<(), S::Error> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(REWRITTEN_BLOCK_BYTES - self.block.len()));
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() == REWRITTEN_BLOCK_BYTES {
                self.write_block()?;
            }
        }
        Ok(())
    }

    fn write_block(&mut self) -> Result<(), S::Error> {
        let len = self.block.len();
        if self.block.iter().all(|byte| *byte == 0) {
            self.entries.push(BlockEntry::default());
            self.block.clear();
            return Ok(());
        }
        // What does not get smaller, as sealed bodies do not, is stored as it is.
        let room = &mut self.compressed[..len - 1];
        let stored = match self.compressor.compress_to_buffer(&self.block, room) {
            Ok(count) => &self.compressed[..count],
            Err(_) => &self.block[..],
        };
        self.sink.write_at(self.at, stored)?;
        self.entries.push(BlockEntry {
            stored_bytes: stored.len() as u32,
            stored_checksum: crc32c(stored),
            checksum: crc32c(&self.block),
        });
        self.at += stored.len() as u64;
        self.block.clear();
        Ok(())
    }

    /// The last block, and header and table at both ends. Says how long the file is.
    pub(crate) fn finish(mut self, header: SegmentHeader, known: Rewritten) -> Result<u64, S::Error> {
        if !self.block.is_empty() {
            self.write_block()?;
        }
        debug_assert_eq!(self.entries.len(), Rewritten::blocks(known.end));
        let mut table = Vec::with_capacity(self.entries.len() * BLOCK_ENTRY_BYTES);
        self.entries.iter().for_each(|entry| table.extend_from_slice(&entry.encode()));
        let file_bytes = self.at + (SEGMENT_HEADER_BYTES + table.len()) as u64;
        let known = Rewritten { file_bytes: file_bytes as u32, table_checksum: crc32c(&table), ..known };
        let header = SegmentHeader { encoding: ENCODING_REWRITTEN, rewritten: Some(known), ..header };
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        header.encode(&mut bytes);
        self.sink.write_at(self.at, &table)?;
        self.sink.write_at(self.at + table.len() as u64, &bytes)?;
        self.sink.write_at(SEGMENT_HEADER_BYTES as u64, &table)?;
        self.sink.write_at(0, &bytes)?;
        Ok(file_bytes)
    }
}

impl RewriteSink for Vec<u8> {
    type Error = core::convert::Infallible;

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Self::Error> {
        let (from, to) = (offset as usize, offset as usize + bytes.len());
        if self.len() < to {
            self.resize(to, 0);
        }
        self[from..to].copy_from_slice(bytes);
        Ok(())
    }
}

impl<E: fmt::Display> fmt::Display for RewriteError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(at) => write!(f, "segment {} is damaged at {}", at.segment, at.offset),
            Self::Medium(error) => error.fmt(f),
            Self::Sink(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for RewriteError<E> {}
