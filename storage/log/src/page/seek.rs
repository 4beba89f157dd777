//! A range of sequences by skew-binary links: at most 3·log2(n) steps to its upper end, then one step per record.

use super::{Direction, PageEnd, ReadError, ReadSpec, Walk, is_record};
use crate::fetch::{Fetch, FetchError, Remains};
use crate::limits::PAGE_RECORDS_MAX;
use crate::record::{Placement, RecordHead};
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

impl<F: Fetch> Search<'_, F> {
    /// Collects `high` down to `low`. If a segment on the way is gone: the lowest sequence that is left.
    fn collect(&mut self, walk: &mut Walk, low: u64, high: u64) -> Result<Option<Sequence>, ReadError> {
        let mut at = None;
        for sequence in (low..=high).rev().map(Sequence) {
            let location = match at {
                Some(location) => Ok(location),
                None => self.seek(walk, sequence),
            };
            let arrived = location.and_then(|location| {
                let record = self.arrive(walk, Cell { location, sequence })?;
                Ok((location, record))
            });
            let links = match arrived {
                Ok((location, (links, Some(head)))) => {
                    walk.collect(location, &head);
                    Some(links)
                }
                Ok((_, (links, None))) => {
                    walk.note_damaged();
                    Some(links)
                }
                Err((FetchError::Damaged(_), _)) => {
                    walk.note_damaged();
                    None
                }
                Err((FetchError::Dropped, _)) => return self.first_available(walk).map(Some),
                Err((FetchError::Elsewhere, at)) => return Err(ReadError::Elsewhere(at)),
            };
            // Without links, the next one is sought from the newest record again.
            at = links.map(|links| links.prev).filter(|prev| is_record(*prev));
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
        let (mut links, _) = self.arrive(walk, cell)?;
        'steps: loop {
            let mut lost = (FetchError::Damaged(Remains::default()), cell.location);
            for next in ways(&cell, &links).into_iter().filter(|next| next.sequence >= target) {
                if next.sequence == target {
                    return Ok(next.location);
                }
                match self.arrive(walk, next) {
                    Ok((found, _)) => {
                        (cell, links) = (next, found);
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
        let (mut links, _) = self.arrive(walk, cell).map_err(|(error, at)| error.at(at))?;
        'steps: loop {
            for next in ways(&cell, &links).into_iter().filter(|next| next.sequence.0 > 0) {
                match self.arrive(walk, next) {
                    Ok((found, _)) => {
                        (cell, links) = (next, found);
                        continue 'steps;
                    }
                    Err((FetchError::Elsewhere, at)) => return Err(ReadError::Elsewhere(at)),
                    Err(_) => {}
                }
            }
            return Ok(cell.sequence);
        }
    }

    /// Reads a record and verifies that it is what its link said: its links, and its head if all of it is sound.
    fn arrive(&mut self, walk: &mut Walk, cell: Cell) -> Result<(Placement, Option<RecordHead>), Lost> {
        let nothing = (FetchError::Damaged(Remains::default()), cell.location);
        if !is_record(cell.location) {
            return Err(nothing);
        }
        walk.steps += 1;
        let ours = |head: &RecordHead| head.stream == self.stream && head.sequence == cell.sequence;
        match self.fetch.fetch(cell.location) {
            Ok(record) if ours(&record.head) => Ok((record.placement, Some(record.head))),
            Ok(_) => Err(nothing),
            Err(FetchError::Damaged(Remains { placement: Some(links), head }))
                if head.is_none_or(|head| ours(&head)) =>
            {
                Ok((links, None))
            }
            Err(error) => Err((error, cell.location)),
        }
    }
}

/// The records that one leads to, the further one first.
fn ways(from: &Cell, links: &Placement) -> [Cell; 2] {
    let jump = Cell { location: links.jump, sequence: jump_sequence(from.sequence) };
    let prev = Cell { location: links.prev, sequence: Sequence(from.sequence.0.saturating_sub(1)) };
    [jump, prev]
}
