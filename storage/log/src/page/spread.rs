//! The records of a range in rounds: every round reads what the rounds before lead to.
//!
//! The index of a segment says where the records of the stream in it are, and where it goes on before: so a cold range costs
//! one round for each segment that its records lie in, and one (`docs/decisions/0028-an-index-in-each-segment.md`). Where a
//! segment has none, a record says where the one before it is, and by its jump where a tree of records ends. So a range opens
//! like a tree: n records cost about 2·log2(n) rounds, wherever they lie
//! (`docs/decisions/0027-a-cold-page-in-rounds.md`). What is in memory already is walked from record to record.

use super::seek::{Cell, Lost, Onward, Search};
use super::{ReadError, Walk, is_record};
use crate::fetch::{Fetch, FetchError};
use crate::index::IndexEntry;
use core::cmp::Reverse;
use tidegate_ids::{Location, Sequence};

/// What is known of the sequences of a range.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    low: u64,
    /// One of each sequence from `low` on.
    slots: Vec<Slot>,
    /// What the next round reads.
    asked: Vec<Cell>,
    round: Vec<Cell>,
    /// The highest sequence whose segment retention dropped; below `low` without any.
    gone: u64,
    /// The segments whose index was asked, if they have one.
    looked_in: Vec<u32>,
    /// A record in each segment whose index this round reads.
    lookups: Vec<Cell>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Where the record behind it says that it is, or where it was read.
    location: Location,
    state: State,
    /// It was read, and its links are lost.
    is_blind: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody looks for it.
    Open,
    /// A round reads it.
    Asked,
    /// It was found.
    Sound,
    /// It is damaged, or cannot be reached.
    Lost,
}

impl Slot {
    const OPEN: Self = Self { location: Location::NONE, state: State::Open, is_blind: false };
}

impl Spread {
    fn begin(&mut self, low: u64, high: u64) {
        let count = (high - low + 1) as usize;
        self.slots.clear();
        self.slots.resize(count, Slot::OPEN);
        // The two take turns, so both get room for all of it.
        for cells in [&mut self.asked, &mut self.round] {
            cells.clear();
            cells.reserve(count);
        }
        self.looked_in.clear();
        (self.low, self.gone) = (low, low - 1);
    }

    /// The slot of a sequence that is in the range and not dropped.
    fn slot(&mut self, sequence: Sequence) -> Option<&mut Slot> {
        let index = sequence.0.checked_sub(self.low).filter(|_| sequence.0 > self.gone)?;
        self.slots.get_mut(index as usize)
    }

    /// The highest sequence that is still to be found.
    fn top_open(&self) -> Option<Sequence> {
        let place = self.slots.iter().rposition(|slot| slot.state == State::Open)?;
        Some(Sequence(self.low + place as u64)).filter(|top| top.0 > self.gone)
    }

    /// Takes on a record, unless somebody has or it is none of the range.
    fn take(&mut self, sequence: Sequence) -> bool {
        let slot = self.slot(sequence).filter(|slot| slot.state == State::Open);
        slot.map(|slot| slot.state = State::Asked).is_some()
    }

    /// Has the next round read a record.
    fn ask(&mut self, cell: Cell) {
        if self.take(cell.sequence) {
            self.asked.push(cell);
        }
    }

    fn lose(&mut self, from: Sequence, to: Sequence) {
        for sequence in from.0.max(self.low)..=to.0 {
            if let Some(slot) = self.slot(Sequence(sequence)).filter(|slot| slot.state == State::Open) {
                slot.state = State::Lost;
            }
        }
    }

    /// Notes where the record behind says that this one is.
    fn note(&mut self, cell: Cell) {
        let slot = self.slot(cell.sequence);
        if let Some(slot) = slot.filter(|slot| matches!(slot.state, State::Open | State::Asked)) {
            slot.location = cell.location;
        }
    }

    fn lost(&self) -> usize {
        let gone = (self.gone + 1 - self.low) as usize;
        self.slots[gone..].iter().filter(|slot| slot.state == State::Lost).count()
    }
}

impl<F: Fetch> Search<'_, F> {
    /// Collects the records `low` to `high`, newest first. If a segment on the way is gone: the lowest sequence that is left.
    pub(crate) fn collect(
        &mut self,
        walk: &mut Walk,
        low: u64,
        high: u64,
    ) -> Result<Option<Sequence>, ReadError> {
        walk.spread.begin(low, high);
        while let Some(top) = walk.spread.top_open() {
            match self.locate(walk, top) {
                Ok(cell) => {
                    walk.spread.ask(cell);
                    if let Some(entry) = self.fetch.lead(cell.location.segment) {
                        walk.spread.looked_in.push(cell.location.segment);
                        follow(&mut walk.spread, cell, &entry);
                    }
                    self.spread(walk)?;
                }
                Err((FetchError::Damaged(_), _)) => walk.spread.lose(top, top),
                Err((FetchError::Dropped, _)) => walk.spread.gone = top.0,
                Err((FetchError::Elsewhere, at)) => return Err(ReadError::Elsewhere(at)),
            }
        }
        walk.note_damaged(walk.spread.lost() as u32);
        walk.sort_newest_first(Sequence(walk.spread.gone));
        if walk.spread.gone >= low { self.first_available(walk).map(Some) } else { Ok(None) }
    }

    /// Where `top` is, or an older one if those between are lost: as the record behind it says; by looking for it, if that one
    /// has lost its links; or sought from the newest record.
    fn locate(&mut self, walk: &mut Walk, top: Sequence) -> Result<Cell, Lost> {
        let known = walk.spread.slot(top).map_or(Location::NONE, |slot| slot.location);
        if is_record(known) {
            return Ok(Cell { location: known, sequence: top });
        }
        let behind = walk.spread.slot(top.next()).filter(|slot| slot.is_blind).map(|slot| slot.location);
        if let Some(found) = behind.and_then(|behind| self.before(walk, behind, top)) {
            walk.spread.lose(found.sequence.next(), top);
            walk.spread.note(found);
            return Ok(found);
        }
        let cell = Cell { location: self.seek(walk, top)?, sequence: top };
        walk.spread.note(cell);
        Ok(cell)
    }

    /// Reads what is asked for, and what that leads to.
    fn spread(&mut self, walk: &mut Walk) -> Result<(), ReadError> {
        while !walk.spread.asked.is_empty() {
            let Spread { asked, round, looked_in, lookups, .. } = &mut walk.spread;
            round.clear();
            core::mem::swap(asked, round);
            // Newest first: what lies together is read together.
            round.sort_unstable_by_key(|cell| Reverse(cell.location));
            lookups.clear();
            for of_segment in round.chunk_by(|one, next| one.location.segment == next.location.segment) {
                let segment = of_segment[0].location.segment;
                if !looked_in.contains(&segment) {
                    looked_in.push(segment);
                    lookups.extend(self.fetch.has_index(segment).then_some(of_segment[0]));
                }
            }
            let unheld = round.iter().filter(|cell| !self.fetch.holds(cell.location)).count();
            let cold = unheld + lookups.len();
            if cold > 1 {
                round.iter().for_each(|cell| self.fetch.will_need(cell.location));
                for cell in lookups.iter() {
                    self.fetch.will_need_entry(&self.stream, cell.location.segment);
                }
            }
            walk.rounds += u32::from(cold > 0);
            for index in 0..walk.spread.round.len() {
                let mut next = Some(walk.spread.round[index]);
                while let Some(cell) = next {
                    next = self.visit(walk, cell)?;
                }
            }
            for index in 0..walk.spread.lookups.len() {
                let cell = walk.spread.lookups[index];
                if walk.spread.top_open().is_some()
                    && let Some(entry) = self.fetch.entry(&self.stream, cell.location.segment)
                {
                    follow(&mut walk.spread, cell, &entry);
                }
            }
        }
        Ok(())
    }

    /// Reads one record and asks for those that its links lead to; the one before it, if it lies in memory already.
    fn visit(&mut self, walk: &mut Walk, cell: Cell) -> Result<Option<Cell>, ReadError> {
        let arrived = self.arrive(walk, cell, |walk, record| walk.collect(record));
        let Some(slot) = walk.spread.slot(cell.sequence) else { return Ok(None) };
        // A jump or an index may have led wrong: then the record behind knows better, or it is sought.
        let is_certain = slot.location == cell.location;
        match arrived {
            Ok(arrived) if !arrived.is_ours && !is_certain => {
                slot.state = State::Open;
                Ok(None)
            }
            Ok(arrived) => {
                let state = if arrived.is_sound { State::Sound } else { State::Lost };
                *slot = Slot { location: cell.location, state, is_blind: arrived.onward.is_none() };
                let Some(onward) = arrived.onward else { return Ok(None) };
                let Onward { prev, jump } = onward;
                let mut next = None;
                if is_record(prev.location) {
                    walk.spread.note(prev);
                    if self.fetch.holds(prev.location) {
                        next = walk.spread.take(prev.sequence).then_some(prev);
                    } else {
                        walk.spread.ask(prev);
                    }
                }
                if is_record(jump.location) && !self.fetch.holds(jump.location) {
                    walk.spread.ask(jump);
                }
                Ok(next)
            }
            Err((FetchError::Damaged(_) | FetchError::Dropped, _)) if !is_certain => {
                slot.state = State::Open;
                Ok(None)
            }
            Err((FetchError::Damaged(_), _)) => {
                slot.state = State::Lost;
                Ok(None)
            }
            Err((FetchError::Dropped, _)) => {
                walk.spread.gone = walk.spread.gone.max(cell.sequence.0);
                Ok(None)
            }
            Err((FetchError::Elsewhere, at)) => Err(ReadError::Elsewhere(at)),
        }
    }
}

/// Asks for what the index of a record's segment says of the records beside it, and of the one before them. It says so only of
/// those that links lead along, if this one is among them; that they are what is sought is verified on arrival, as of a jump.
fn follow(spread: &mut Spread, cell: Cell, entry: &IndexEntry) {
    let Location { segment, offset } = cell.location;
    let (last, offsets) = (entry.last_sequence.0, entry.offsets());
    let place = last.checked_sub(cell.sequence.0).and_then(|back| usize::try_from(back).ok());
    if place.and_then(|place| offsets.get(place)) != Some(&offset) {
        return;
    }
    for (offset, back) in offsets.iter().zip(0..last) {
        spread.ask(Cell { location: Location::new(segment, *offset), sequence: Sequence(last - back) });
    }
    if is_record(entry.before) && offsets.len() == entry.run as usize {
        spread.ask(Cell { location: entry.before, sequence: entry.before_sequence() });
    }
}
