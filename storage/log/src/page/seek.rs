//! A range of sequences by skew-binary links: at most 3·log2(n) steps to its upper end, then each record once
//! ([`super::spread`]).

use super::{Direction, PageEnd, ReadError, ReadSpec, Walk, is_record};
use crate::fetch::{Fetch, FetchError, Remains};
use crate::limits::PAGE_RECORDS_MAX;
use crate::record::{RecordHead, RecordView};
use crate::spine::jump_sequence;
use tidegate_ids::{Location, Sequence, StreamId};

/// A record that is known by its place in the stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) location: Location,
    pub(crate) sequence: Sequence,
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

pub(crate) struct Search<'f, F> {
    pub(crate) fetch: &'f mut F,
    pub(crate) stream: StreamId,
    newest: Cell,
}

/// Why a record could not be reached: the error, and where it happened.
pub(crate) type Lost = (FetchError, Location);

/// Where a record's links lead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Onward {
    pub(crate) jump: Cell,
    /// The record before; further back than the sequence before, if those between are lost with their links.
    pub(crate) prev: Cell,
}

/// A record that was reached.
pub(crate) struct Arrived {
    pub(crate) is_sound: bool,
    /// Whether its own head says that it is what the link said; a record without a sound head may be anything.
    pub(crate) is_ours: bool,
    /// `None` if its links are lost.
    pub(crate) onward: Option<Onward>,
}

impl<F: Fetch> Search<'_, F> {
    /// Where the record `target` is: by a jump as long as it does not lead too far, else to the record before. A jump onto
    /// a broken record is gone round by the record before.
    pub(crate) fn seek(&mut self, walk: &mut Walk, target: Sequence) -> Result<Location, Lost> {
        let mut cell = self.newest;
        if cell.sequence == target {
            return Ok(cell.location);
        }
        let mut onward = self.pass(walk, cell)?;
        'steps: loop {
            let mut lost = (FetchError::Damaged(Remains::default()), cell.location);
            for next in [onward.jump, onward.prev].into_iter().filter(|next| next.sequence >= target) {
                if next.sequence == target && is_record(next.location) {
                    return Ok(next.location);
                }
                match self.pass(walk, next) {
                    Ok(found) => {
                        (cell, onward) = (next, found);
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
    pub(crate) fn first_available(&mut self, walk: &mut Walk) -> Result<Sequence, ReadError> {
        let mut cell = self.newest;
        let mut onward = self.pass(walk, cell).map_err(|(error, at)| error.at(at))?;
        'steps: loop {
            for next in [onward.jump, onward.prev].into_iter().filter(|next| next.sequence.0 > 0) {
                match self.pass(walk, next) {
                    Ok(found) => {
                        (cell, onward) = (next, found);
                        continue 'steps;
                    }
                    Err((FetchError::Elsewhere, at)) => return Err(ReadError::Elsewhere(at)),
                    Err(_) => {}
                }
            }
            return Ok(cell.sequence);
        }
    }

    /// Reads a record on the way to another one. Lost links are made good by looking for the record before, a few times in one
    /// walk.
    fn pass(&mut self, walk: &mut Walk, cell: Cell) -> Result<Onward, Lost> {
        walk.rounds += u32::from(is_record(cell.location) && !self.fetch.holds(cell.location));
        if let Some(onward) = self.arrive(walk, cell, |_, _| {})?.onward {
            return Ok(onward);
        }
        let before = Sequence(cell.sequence.0.saturating_sub(1));
        let found = self.before(walk, cell.location, before);
        let prev = found.unwrap_or(Cell { location: Location::NONE, sequence: before });
        let jump = Cell { location: Location::NONE, sequence: jump_sequence(cell.sequence) };
        Ok(Onward { jump, prev })
    }

    /// The record before one whose links are lost, if it can be found: `highest` or an older one.
    pub(crate) fn before(&mut self, walk: &mut Walk, at: Location, highest: Sequence) -> Option<Cell> {
        let (location, sequence) =
            walk.may_rescue().then(|| self.fetch.before(&self.stream, at)).flatten()?;
        (sequence <= highest && sequence.0 > 0).then_some(Cell { location, sequence })
    }

    /// Reads a record, verifies that it is what its link said, and gives it to `each` if it is sound.
    pub(crate) fn arrive(
        &mut self,
        walk: &mut Walk,
        cell: Cell,
        each: impl FnOnce(&mut Walk, &RecordView<'_>),
    ) -> Result<Arrived, Lost> {
        let nothing = (FetchError::Damaged(Remains::default()), cell.location);
        if !is_record(cell.location) {
            return Err(nothing);
        }
        walk.steps += 1;
        let ours = |head: &RecordHead| head.stream == self.stream && head.sequence == cell.sequence;
        let (links, is_sound, is_ours) = match self.fetch.fetch(cell.location) {
            Ok((record, links_sound)) if ours(&record.head) => {
                each(walk, &record);
                (links_sound.then_some(record.placement), true, true)
            }
            Err(FetchError::Damaged(remains)) if remains.head.is_none_or(|head| ours(&head)) => {
                (remains.placement, false, remains.head.is_some())
            }
            Ok(_) => return Err(nothing),
            Err(error) => return Err((error, cell.location)),
        };
        let onward = links.map(|links| Onward {
            jump: Cell { location: links.jump, sequence: jump_sequence(cell.sequence) },
            prev: Cell { location: links.prev, sequence: Sequence(cell.sequence.0.saturating_sub(1)) },
        });
        Ok(Arrived { is_sound, is_ours, onward })
    }
}
