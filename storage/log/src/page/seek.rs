//! A range of sequences by skew-binary links: at most 3·log2(n) steps to its upper end, then one step per record.

use super::{Direction, PageEnd, ReadError, ReadSpec, Walk, is_record};
use crate::fetch::{Fetch, FetchError};
use crate::limits::PAGE_RECORDS_MAX;
use crate::record::Placement;
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
                walk.steps += 1;
                let links = self.arrive(Cell { location, sequence }, Some(&mut *walk));
                links.map_err(|error| (error, location))
            });
            at = match arrived {
                Ok(links) => Some(links.prev).filter(|prev| is_record(*prev)),
                Err((FetchError::Damaged(links), _)) => {
                    walk.note_damaged();
                    links.map(|links| links.prev).filter(|prev| is_record(*prev))
                }
                Err((FetchError::Dropped, _)) => return self.first_available(walk).map(Some),
                Err((FetchError::Elsewhere, at)) => return Err(ReadError::Elsewhere(at)),
            };
        }
        Ok(None)
    }

    /// Where the record `target` is: by a jump as long as it does not lead too far, else to the record before.
    fn seek(&mut self, walk: &mut Walk, target: Sequence) -> Result<Location, (FetchError, Location)> {
        let mut cell = self.newest;
        while cell.sequence > target {
            walk.steps += 1;
            let links = match self.arrive(cell, None) {
                Ok(links) | Err(FetchError::Damaged(Some(links))) => links,
                Err(error) => return Err((error, cell.location)),
            };
            cell = self.step(&links, cell, target);
        }
        Ok(cell.location)
    }

    fn step(&mut self, links: &Placement, from: Cell, target: Sequence) -> Cell {
        let jump = Cell { location: links.jump, sequence: jump_sequence(from.sequence) };
        let prev = Cell { location: links.prev, sequence: Sequence(from.sequence.0 - 1) };
        if jump.sequence < target || jump.location == prev.location {
            return prev;
        }
        // A jump onto a broken record goes round it by the record before, as far as that leads.
        let broken = matches!(self.arrive(jump, None), Err(FetchError::Damaged(None)));
        if broken && jump.sequence > target { prev } else { jump }
    }

    /// The lowest sequence still there: down by every link that leads somewhere.
    fn first_available(&mut self, walk: &mut Walk) -> Result<Sequence, ReadError> {
        let mut cell = self.newest;
        let mut links = self.arrive(cell, None).map_err(|error| error.at(cell.location))?;
        while cell.sequence.0 > 1 {
            let jump = Cell { location: links.jump, sequence: jump_sequence(cell.sequence) };
            let prev = Cell { location: links.prev, sequence: Sequence(cell.sequence.0 - 1) };
            let next = [jump, prev].into_iter().find_map(|next| {
                walk.steps += 1;
                let found = is_record(next.location).then(|| self.arrive(next, None));
                found.and_then(Result::ok).map(|links| (next, links))
            });
            let Some((next, found)) = next else { break };
            (cell, links) = (next, found);
        }
        Ok(cell.sequence)
    }

    /// Reads a record and verifies that it is what its link said; collects it into `walk` if one is given.
    fn arrive(&mut self, cell: Cell, walk: Option<&mut Walk>) -> Result<Placement, FetchError> {
        if !is_record(cell.location) {
            return Err(FetchError::Damaged(None));
        }
        let record = self.fetch.fetch(cell.location)?;
        if record.head.stream != self.stream || record.head.sequence != cell.sequence {
            return Err(FetchError::Damaged(None));
        }
        if let Some(walk) = walk {
            walk.collect(cell.location, &record.head);
        }
        Ok(record.placement)
    }
}
