//! `ERASURES`: what operators asked to erase, and how far that is (docs/formats/erasures.md, decision 0016).
//!
//! Pure: bytes in, bytes out; [`crate::erasure_file`] makes it durable. Invariants: pending requests of one conversation are
//! disjoint and do not touch, and so are those that are done; both lists are bounded, and rise by conversation and sequence.

mod text;

pub use text::{ERASURES_VERSION, ErasuresFormatError};

use crate::limits::{ERASURE_REASON_BYTES_MAX, ERASURES_DONE_MAX, ERASURES_PENDING_MAX};
use std::ops::Range;
use tidegate_ids::{Sequence, StreamId, WallMs};
use tidegate_storage_log::{ErasedRanges, SequenceRange};

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErasureState {
    /// It is durable; no gateway has seen it yet.
    Asked,
    /// A gateway gives none of these records out any more. On the disk they may still be.
    Taken,
    /// Since then they are in no file of the directory.
    Done(WallMs),
}

/// Records of one conversation that are to be erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// The conversation.
    pub stream: StreamId,
    /// Which of its records.
    pub range: SequenceRange,
    /// When somebody asked, the last time if several requests became one.
    pub asked: WallMs,
    /// How many records a gateway has erased for it; what went with a whole segment before, or for its age, is not counted.
    pub erased: u64,
    /// How far it is.
    pub state: ErasureState,
    /// Why, in the operator's words; may be empty.
    pub reason: String,
}

/// Why a request is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ErasureRefused {
    /// Recovered by letting a gateway run until some are done, or by asking for wider ranges.
    #[error(
        "{ERASURES_PENDING_MAX} ranges are pending already: wait until some are done, or ask for wider ones"
    )]
    TooMany,
    /// Recovered by other words.
    #[error(
        "the reason must be one line of at most {ERASURE_REASON_BYTES_MAX} bytes, without a space at either end"
    )]
    Reason,
}

/// The content of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Erasures {
    pending: Vec<Erasure>,
    done: Vec<Erasure>,
}

impl Erasures {
    /// What is not done yet, by conversation and sequence.
    #[must_use]
    pub fn pending(&self) -> &[Erasure] {
        &self.pending
    }

    /// What is done, as far as it is remembered.
    #[must_use]
    pub fn done(&self) -> &[Erasure] {
        &self.done
    }

    /// The records that are still to be erased.
    #[must_use]
    pub fn pending_ranges(&self) -> ErasedRanges {
        ranges(&self.pending)
    }

    /// These, and those that were: none of them is to be given out.
    #[must_use]
    pub fn all_ranges(&self) -> ErasedRanges {
        let mut all = ranges(&self.pending);
        self.done.iter().for_each(|one| all.insert(one.stream, one.range));
        all
    }

    /// Adds a request. It becomes one with those it touches; one that is wider than what was taken is to be taken again.
    ///
    /// # Errors
    /// See [`ErasureRefused`]; nothing has changed then.
    pub fn ask(
        &mut self,
        stream: StreamId,
        range: SequenceRange,
        asked: WallMs,
        reason: &str,
    ) -> Result<(), ErasureRefused> {
        if !is_reason(reason) {
            return Err(ErasureRefused::Reason);
        }
        let erasure = Erasure {
            stream,
            range,
            asked,
            erased: 0,
            state: ErasureState::Asked,
            reason: reason.to_owned(),
        };
        let is_one_more = touching(&self.pending, &erasure).is_empty();
        if is_one_more && self.pending.len() >= ERASURES_PENDING_MAX {
            return Err(ErasureRefused::TooMany);
        }
        absorb(&mut self.pending, erasure);
        Ok(())
    }

    /// Says that a gateway gives out nothing of what is pending; whether that is new of anything.
    pub fn take(&mut self) -> bool {
        let asked = self.pending.iter_mut().filter(|one| one.state == ErasureState::Asked);
        asked.map(|one| one.state = ErasureState::Taken).count() > 0
    }

    /// Counts records that have been erased for what is pending; whether there were any.
    pub fn count(&mut self, erased: &ErasedRanges) -> bool {
        let mut is_changed = false;
        for one in &mut self.pending {
            let more = erased.count_in(&one.stream, one.range);
            one.erased = one.erased.saturating_add(more).min(one.range.count());
            is_changed |= more > 0;
        }
        is_changed
    }

    /// A pending request is done. `false` if it has become another one meanwhile, which may not be.
    pub fn finish(&mut self, stream: &StreamId, range: SequenceRange, now: WallMs) -> bool {
        let found = self.pending.iter().position(|one| one.stream == *stream && one.range == range);
        let Some(place) = found else { return false };
        let done = self.pending.remove(place);
        absorb(&mut self.done, Erasure { state: ErasureState::Done(now), ..done });
        while self.done.len() > ERASURES_DONE_MAX {
            let oldest = self.done.iter().enumerate().min_by_key(|(_, one)| one.done_at());
            let Some((place, _)) = oldest else { break };
            self.done.remove(place);
        }
        true
    }

    /// Everything of `other` is to be done here too, again if it was: for a copy whose segments may be older.
    pub(crate) fn ask_again(&mut self, other: &Self) {
        for one in other.pending.iter().chain(&other.done) {
            absorb(&mut self.pending, Erasure { state: ErasureState::Asked, erased: 0, ..one.clone() });
        }
    }
}

impl Erasure {
    /// When it was done; 0 before.
    const fn done_at(&self) -> WallMs {
        match self.state {
            ErasureState::Done(at) => at,
            ErasureState::Asked | ErasureState::Taken => WallMs(0),
        }
    }

    /// This and a newer one that touches it, as one.
    fn joined_by(self, newer: Self) -> Self {
        let range = self.range.hull(newer.range);
        let is_wider = range != self.range;
        let state = match (self.state, newer.state) {
            (ErasureState::Done(one), ErasureState::Done(other)) => ErasureState::Done(one.max(other)),
            (ErasureState::Taken, ErasureState::Asked) if !is_wider => ErasureState::Taken,
            (_, newer) => newer,
        };
        let both = format!("{}; {}", self.reason, newer.reason);
        let reason = if newer.reason.is_empty() || self.reason == newer.reason {
            self.reason
        } else if self.reason.is_empty() || !is_reason(&both) {
            newer.reason
        } else {
            both
        };
        Self {
            stream: self.stream,
            range,
            asked: self.asked.max(newer.asked),
            erased: self.erased.saturating_add(newer.erased).min(range.count()),
            state,
            reason,
        }
    }
}

fn ranges(list: &[Erasure]) -> ErasedRanges {
    let mut all = ErasedRanges::new();
    list.iter().for_each(|one| all.insert(one.stream, one.range));
    all
}

/// Where in a list those are that touch one.
fn touching(list: &[Erasure], new: &Erasure) -> Range<usize> {
    let key = |one: &Erasure| (one.stream, Sequence(one.range.to().0.saturating_add(1)));
    let first = list.partition_point(|one| key(one) < (new.stream, new.range.from()));
    let touches = |one: &&Erasure| one.stream == new.stream && one.range.touches(new.range);
    first..first + list[first..].iter().take_while(touches).count()
}

/// Puts one into a list, joined with those it touches.
fn absorb(list: &mut Vec<Erasure>, new: Erasure) {
    let place = touching(list, &new);
    let first = place.start;
    let joined: Vec<Erasure> = list.drain(place).collect();
    let joined = joined.into_iter().fold(new, |new, old| old.joined_by(new));
    list.insert(first, joined);
}

/// Whether a text can be a reason: one line, short, and the same however often it is written and read.
fn is_reason(text: &str) -> bool {
    text.len() <= ERASURE_REASON_BYTES_MAX && text.trim() == text && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests;
