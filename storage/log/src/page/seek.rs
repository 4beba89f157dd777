//! A range of sequences by skew-binary links: at most 3·log2(n) steps to its upper end, then one step per record.

use super::{Direction, PageEnd, ReadError, ReadSpec, Walk, is_record};
use crate::fetch::{Fetch, FetchError, Remains};
use crate::limits::PAGE_RECORDS_MAX;
use crate::record::{RecordHead, RecordState};
use crate::spine::jump_sequence;
use tidegate_ids::{Location, Sequence, StreamId};

/// A record that is known by its place in the stream.
#[derive(Clone, Copy, Debug)]
struct Cell {
    location: Location,
    sequence: Sequence,
}

pub(crate) fn range(walk: &mut Walk, fetch: &mut impl Fetch, spec: &ReadSpec) -> Result<PageEnd, ReadError> {
    let ReadSpec::Range { stream, last, last_sequence, from, to, limit, bytes_max, direction } = *spec else {
        unreachable!("only ranges come here")
    };
    let newest = Cell { location: last, sequence: last_sequence };
    let (bottom, highest) = (from.0.max(1), to.0.min(last_sequence.0));
    let limit = u64::from(limit.clamp(1, PAGE_RECORDS_MAX));
    if highest < bottom || !is_record(last) {
        return Ok(PageEnd { complete: true, ..PageEnd::default() });
    }
    let (low, high) = match direction {
        Direction::Ascending => (bottom, highest.min(bottom.saturating_add(limit - 1))),
        Direction::Descending => (bottom.max((highest + 1).saturating_sub(limit)), highest),
    };
    let mut search = Search { fetch, stream, newest };
    let mut end = PageEnd { complete: low == bottom && high == highest, ..PageEnd::default() };
    end.first_available = search.collect(walk, low, high)?;
    let (kept, all) = (fitting(walk, bytes_max, direction), walk.newest_first_bytes().len());
    if kept < all {
        end.complete = false;
        match direction {
            Direction::Ascending => walk.keep_oldest(kept),
            Direction::Descending => walk.keep_newest(kept),
        }
    }
    Ok(end)
}

/// How many records fit in `bytes_max`, counted from the end that matters; at least one.
fn fitting(walk: &Walk, bytes_max: usize, direction: Direction) -> usize {
    let mut sum = 0;
    let mut fits = |bytes: &usize| {
        sum += bytes;
        sum <= bytes_max
    };
    let sizes = walk.newest_first_bytes();
    let count = match direction {
        Direction::Ascending => sizes.rev().take_while(|bytes| fits(bytes)).count(),
        Direction::Descending => sizes.take_while(|bytes| fits(bytes)).count(),
    };
    count.max(1)
}

struct Search<'f, F> {
    fetch: &'f mut F,
    stream: StreamId,
    newest: Cell,
}

/// Why a record could not be reached: the error, and where it happened.
type Lost = (FetchError, Location);

/// A record that was reached.
struct Arrived {
    /// Its head and state, if the record is sound.
    head: Option<(RecordHead, RecordState)>,
    jump: Cell,
    /// The record before; further back than the sequence before, if those between are lost with their links.
    prev: Cell,
}

impl<F: Fetch> Search<'_, F> {
    /// Collects `high` down to `low`. If a segment on the way is gone: the lowest sequence that is left.
    fn collect(&mut self, walk: &mut Walk, low: u64, high: u64) -> Result<Option<Sequence>, ReadError> {
        let mut sequence = high;
        let mut at = None;
        while sequence >= low {
            let location = match at {
                Some(location) => Ok(location),
                None => self.seek(walk, Sequence(sequence)),
            };
            let arrived = location.and_then(|location| {
                let cell = Cell { location, sequence: Sequence(sequence) };
                Ok((location, self.arrive(walk, cell)?))
            });
            let prev = match arrived {
                Ok((location, arrived)) => {
                    match arrived.head {
                        Some((head, state)) => walk.collect(location, &head, state),
                        None => walk.note_damaged(1),
                    }
                    arrived.prev
                }
                // Without links, the next one is sought from the newest record again.
                Err((FetchError::Damaged(_), _)) => {
                    walk.note_damaged(1);
                    Cell { location: Location::NONE, sequence: Sequence(sequence - 1) }
                }
                Err((FetchError::Dropped, _)) => return self.first_available(walk).map(Some),
                Err((FetchError::Elsewhere, at)) => return Err(ReadError::Elsewhere(at)),
            };
            walk.note_damaged((sequence - 1).saturating_sub(prev.sequence.0.max(low - 1)) as u32);
            sequence = prev.sequence.0;
            at = Some(prev.location).filter(|at| is_record(*at));
        }
        Ok(None)
    }

    /// Where the record `target` is: by a jump as long as it does not lead too far, else to the record before. A jump onto
    /// a broken record is gone round by the record before.
    fn seek(&mut self, walk: &mut Walk, target: Sequence) -> Result<Location, Lost> {
        let mut cell = self.newest;
        if cell.sequence == target {
            return Ok(cell.location);
        }
        let mut arrived = self.arrive(walk, cell)?;
        'steps: loop {
            let mut lost = (FetchError::Damaged(Remains::default()), cell.location);
            for next in [arrived.jump, arrived.prev].into_iter().filter(|next| next.sequence >= target) {
                if next.sequence == target && is_record(next.location) {
                    return Ok(next.location);
                }
                match self.arrive(walk, next) {
                    Ok(found) => {
                        (cell, arrived) = (next, found);
                        continue 'steps;
                    }
                    Err((FetchError::Damaged(remains), at)) => lost = (FetchError::Damaged(remains), at),
                    Err(other) => return Err(other),
                }
            }
            return Err(lost);
        }
    }

    /// The lowest sequence still there: down by every link that leads somewhere.
    fn first_available(&mut self, walk: &mut Walk) -> Result<Sequence, ReadError> {
        let mut cell = self.newest;
        let mut arrived = self.arrive(walk, cell).map_err(|(error, at)| error.at(at))?;
        'steps: loop {
            for next in [arrived.jump, arrived.prev].into_iter().filter(|next| next.sequence.0 > 0) {
                match self.arrive(walk, next) {
                    Ok(found) => {
                        (cell, arrived) = (next, found);
                        continue 'steps;
                    }
                    Err((FetchError::Elsewhere, at)) => return Err(ReadError::Elsewhere(at)),
                    Err(_) => {}
                }
            }
            return Ok(cell.sequence);
        }
    }

    /// Reads a record and verifies that it is what its link said. Lost links are made good by looking for the record
    /// before, a few times in one walk.
    fn arrive(&mut self, walk: &mut Walk, cell: Cell) -> Result<Arrived, Lost> {
        let nothing = (FetchError::Damaged(Remains::default()), cell.location);
        if !is_record(cell.location) {
            return Err(nothing);
        }
        walk.steps += 1;
        let ours = |head: &RecordHead| head.stream == self.stream && head.sequence == cell.sequence;
        let (links, head) = match self.fetch.fetch(cell.location) {
            Ok((record, sound)) if ours(&record.head) => {
                (sound.then_some(record.placement), Some((record.head, record.placement.state)))
            }
            Err(FetchError::Damaged(remains)) if remains.head.is_none_or(|head| ours(&head)) => {
                (remains.placement, None)
            }
            Ok(_) => return Err(nothing),
            Err(error) => return Err((error, cell.location)),
        };
        let before = Sequence(cell.sequence.0.saturating_sub(1));
        let jump_to = jump_sequence(cell.sequence);
        if let Some(links) = links {
            let jump = Cell { location: links.jump, sequence: jump_to };
            return Ok(Arrived { head, jump, prev: Cell { location: links.prev, sequence: before } });
        }
        let found = walk.may_rescue().then(|| self.fetch.before(&self.stream, cell.location)).flatten();
        let found = found.filter(|(_, sequence)| *sequence <= before && sequence.0 > 0);
        let (location, sequence) = found.unwrap_or((Location::NONE, before));
        let jump = Cell { location: Location::NONE, sequence: jump_to };
        Ok(Arrived { head, jump, prev: Cell { location, sequence } })
    }
}
