//! The first look at a log: which of its segments were used, and what each says of the one before.

use crate::batch::{BatchKind, Guard};
use crate::descriptor::SEGMENT_HEADER_BYTES;
use crate::limits::{BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, HEADERLESS_SCAN_BYTES, SEGMENT_BYTES_MAX};
use crate::medium::Medium;
use crate::recover::RecoverError;
use crate::segment::{ENCODING_PLAIN, PreviousEnd, SegmentHeader, is_read};
use crate::window::Window;
use tidegate_ids::{BatchNumber, Position};

/// What a block that was never written looks like; compared as a whole, since whole segments are looked at.
const ZEROES: [u8; BLOCK_BYTES_MAX as usize] = [0; BLOCK_BYTES_MAX as usize];

/// One listed segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surveyed {
    pub(crate) segment: u32,
    pub(crate) header: Option<SegmentHeader>,
    /// Bytes to look at: the header's word, or what lies there.
    pub(crate) bytes: u32,
    pub(crate) block: u32,
    pub(crate) usage: Usage,
    /// Where the next used segment says that this one ended.
    pub(crate) bound: Option<PreviousEnd>,
    /// The last batch of this segment, as the header or the first batch of the next used one says.
    pub(crate) last_batch: Option<BatchNumber>,
    /// Without a sound header: the number of its first batch, as any batch in it says.
    pub(crate) first_batch: Option<BatchNumber>,
    /// Without a sound header: whether the device refused what was looked at, so that nobody knows whether it was used.
    pub(crate) is_refused: bool,
}

impl Surveyed {
    /// A segment of which only its extent is known.
    pub(crate) const fn bare(segment: u32, bytes: u32, block: u32, usage: Usage) -> Self {
        Self {
            segment,
            header: None,
            bytes,
            block,
            usage,
            bound: None,
            last_batch: None,
            first_batch: None,
            is_refused: false,
        }
    }
}

/// Whether a segment belongs to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    /// It holds batches, or did.
    Used,
    /// A spare, never written.
    Spare,
    /// Its first write was torn and never acknowledged.
    Torn,
    /// Listed but gone.
    Missing,
}

/// What lies ahead in a segment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ahead {
    /// The highest batch that some header there knows to be synced.
    pub(crate) proven: BatchNumber,
    /// Where the last byte that is not zero may be.
    pub(crate) dirty_end: Option<u32>,
    /// The segment's first batch, as the first sound header says.
    pub(crate) first: Option<BatchNumber>,
}

/// Looks at every header of a log.
pub(crate) fn survey<M: Medium>(
    window: &mut Window<'_, M>,
    lengths: &[(u32, Option<u32>)],
    directory: Option<[u8; 16]>,
) -> Result<Vec<Surveyed>, RecoverError> {
    let mut all = Vec::with_capacity(lengths.len());
    for &(segment, len) in lengths {
        if all.last().is_some_and(|last: &Surveyed| last.segment >= segment) {
            return Err(RecoverError::Order(segment));
        }
        all.push(look(window, segment, len)?);
    }
    let identity = all.iter().find_map(|one| one.header).map(|header| header.identity);
    if let Some(directory) = directory.or(identity.map(|identity| identity.directory)) {
        window.guard_with(Guard::new(&directory));
    }
    if let Some(identity) = identity {
        let foreign = |one: &&Surveyed| one.header.is_some_and(|header| header.identity.log != identity.log);
        if let Some(other) = all.iter().find(foreign) {
            return Err(RecoverError::MixedLogs(other.segment));
        }
    }
    judge_headerless(window, &mut all);
    bind(&mut all);
    Ok(all)
}

fn look<M: Medium>(
    window: &mut Window<'_, M>,
    segment: u32,
    len: Option<u32>,
) -> Result<Surveyed, RecoverError> {
    let Some(len) = len else { return Ok(Surveyed::bare(segment, 0, BLOCK_BYTES_MIN, Usage::Missing)) };
    window.open(segment);
    let header = window.slice(0, SEGMENT_HEADER_BYTES).first_chunk().and_then(SegmentHeader::decode);
    let Some(header) = header.filter(|header| header.segment == segment) else {
        let is_refused = !window.unreadable.is_empty();
        return Ok(Surveyed { is_refused, ..Surveyed::bare(segment, len, BLOCK_BYTES_MIN, Usage::Spare) });
    };
    if !is_read(header.format_version) {
        return Err(RecoverError::Version { segment, version: header.format_version });
    }
    if header.encoding != ENCODING_PLAIN && !(header.rewritten.is_some() && window.inflates()) {
        return Err(RecoverError::Encoding { segment, encoding: header.encoding });
    }
    let (bytes, block) = (header.segment_bytes, header.block_bytes);
    // A rewritten segment knows its own end, so nothing in it is ever taken for a tail.
    let bound =
        header.rewritten.map(|it| PreviousEnd { end: Position::new(segment, it.end), batch: it.last_batch });
    let last_batch = bound.map(|bound| bound.batch);
    let bare = Surveyed::bare(segment, bytes, block, Usage::Used);
    Ok(Surveyed { header: Some(header), bound, last_batch, ..bare })
}

/// A segment without a sound header was used if a sound header names it, or if a batch in it knows another one in it
/// to be synced. Otherwise it is a spare, or its first write was torn.
fn judge_headerless<M: Medium>(window: &mut Window<'_, M>, all: &mut [Surveyed]) {
    let block = all.iter().find_map(|one| one.header).map_or(BLOCK_BYTES_MIN, |header| header.block_bytes);
    let named: Vec<u32> =
        all.iter().filter_map(|one| one.header).map(|header| header.previous.end.segment).collect();
    for one in all.iter_mut().filter(|one| one.usage == Usage::Spare) {
        one.block = block;
        one.bytes -= one.bytes % block;
        window.open(one.segment);
        let start = look_ahead(window, 0, one.bytes.min(HEADERLESS_SCAN_BYTES), block);
        one.first_batch = start.first;
        let is_proven = named.contains(&one.segment)
            || start.first.is_some_and(|first| look_ahead(window, 0, one.bytes, block).proven >= first);
        one.is_refused |= !window.unreadable.is_empty();
        one.usage = match start.dirty_end {
            _ if is_proven => Usage::Used,
            Some(_) => Usage::Torn,
            None => Usage::Spare,
        };
    }
}

/// Gives each used segment the end that its successor's header records. If that header is lost, any of the successor's
/// batches still says the number of the last one before them, so that a tail cut long ago stays cut.
fn bind(all: &mut [Surveyed]) {
    let mut successor: Option<Surveyed> = None;
    let mut misses_one = false;
    for one in all.iter_mut().rev() {
        misses_one |= one.usage == Usage::Missing;
        if one.usage != Usage::Used {
            continue;
        }
        match successor {
            Some(Surveyed { header: Some(next), .. }) if next.previous.end.segment == one.segment => {
                one.bound = Some(next.previous);
                one.last_batch = Some(next.previous.batch);
            }
            _ if one.bound.is_some() => {}
            Some(Surveyed { header: Some(next), .. }) if next.previous.end.segment < one.segment => {
                // The log went on without this one: it was cut whole.
                one.usage = Usage::Torn;
                continue;
            }
            // What lies between is missing, so where this one ended is not known.
            Some(Surveyed { header: Some(_), .. }) => {}
            // Nor is it if the successor only says what its own first batch is.
            Some(_) if misses_one => {}
            Some(next) => one.last_batch = next.first_batch.map(|first| BatchNumber(first.0 - 1)),
            None => {}
        }
        successor = Some(*one);
        misses_one = false;
    }
}

/// Reads every block from `from` on and says what is there.
pub(crate) fn look_ahead<M: Medium>(window: &mut Window<'_, M>, from: u32, limit: u32, block: u32) -> Ahead {
    let mut ahead = Ahead::default();
    let mut at = from;
    while at + block <= limit.min(SEGMENT_BYTES_MAX) {
        if let Some(header) = window.header(at, limit).filter(|header| header.length.is_multiple_of(block)) {
            let known =
                if header.kind == BatchKind::Seal { header.number.0 - 1 } else { header.synced_through.0 };
            ahead.proven = ahead.proven.max(BatchNumber(known));
            ahead.first = ahead.first.or(Some(header.first_number()));
            at += header.length;
            ahead.dirty_end = Some(at);
            continue;
        }
        if *window.slice(at, block as usize) != ZEROES[..block as usize] {
            ahead.dirty_end = Some(at + block);
        }
        at += block;
    }
    ahead
}
