//! What passes know about records that somebody asked to erase: where they may still be, and which of them are gone.

use super::RetentionPolicy;
use crate::holdings::Holdings;
use std::collections::{BTreeMap, BTreeSet};
use tidegate_ids::{LogId, StreamId};
use tidegate_storage_log::{ErasedRanges, SequenceRange};

/// A segment that may hold records that are to go and is left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftToGo {
    /// Its log.
    pub log: LogId,
    /// Which.
    pub segment: u32,
    /// Why they are still there.
    pub why: WhyLeft,
    /// What that is to be erased it may hold; `None`: anything.
    pub(super) holds: Option<Vec<(StreamId, SequenceRange)>>,
}

/// Why records that are to go are still in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyLeft {
    /// It is written to. Recovered by ending it.
    Open,
    /// Two snapshots have to hold it first. Recovered by making them.
    Uncovered,
    /// It is damaged, and so it is not rewritten. Recovered by putting a sound one back from a backup.
    Damaged,
}

impl LeftToGo {
    /// Whether any of these records, which are to be erased, may be in it.
    #[must_use]
    pub fn may_hold(&self, stream: &StreamId, range: SequenceRange) -> bool {
        let Some(holds) = &self.holds else { return true };
        holds.iter().any(|(of, within)| of == stream && within.common(range).is_some())
    }
}

/// What is known of the segments, for one version of what is to be erased.
#[derive(Debug, Default)]
pub(super) struct Erasing {
    version: u64,
    /// Segments that were looked at, and what they may hold of it: nothing, once they are rewritten.
    known: BTreeMap<u32, Vec<(StreamId, SequenceRange)>>,
    /// Segments that could not be read to their end.
    damaged: BTreeSet<u32>,
    /// What the last pass had to leave.
    left: Vec<LeftToGo>,
    /// Records that became holes, or went with their segment, and that nobody was told of yet.
    erased: ErasedRanges,
}

impl Erasing {
    /// Begins a pass.
    pub(super) fn begin(&mut self, version: u64) {
        if version != self.version {
            self.version = version;
            self.known.clear();
            self.damaged.clear();
        }
        self.left.clear();
    }

    pub(super) const fn is_asked(&self) -> bool {
        self.version != 0
    }

    /// What a segment is known to hold, if it was looked at.
    pub(super) fn known(&self, segment: u32) -> Option<&[(StreamId, SequenceRange)]> {
        self.known.get(&segment).map(Vec::as_slice)
    }

    /// Notes what a segment holds, as far as it is to be erased. What is damaged is looked at again.
    pub(super) fn note(&mut self, policy: &dyn RetentionPolicy, segment: u32, holdings: &Holdings) {
        if holdings.is_damaged {
            return;
        }
        let meant = |(stream, range): &&(StreamId, SequenceRange)| policy.may_erase(stream, *range);
        self.known.insert(segment, holdings.streams.iter().filter(meant).copied().collect());
    }

    /// A segment holds nothing of it any more.
    pub(super) fn is_clean(&mut self, segment: u32) {
        if self.is_asked() {
            self.known.insert(segment, Vec::new());
        }
    }

    /// Whether a segment could not be read to its end.
    pub(super) fn is_damaged(&self, segment: u32) -> bool {
        self.damaged.contains(&segment)
    }

    pub(super) fn is_gone(&mut self, segment: u32) {
        self.known.remove(&segment);
        self.damaged.remove(&segment);
    }

    /// A segment stays as it is for now.
    pub(super) fn leave(&mut self, log: LogId, segment: u32, why: WhyLeft) {
        let holds = self.known.get(&segment).cloned();
        if self.is_asked() && holds.as_ref().is_none_or(|holds| !holds.is_empty()) {
            if why == WhyLeft::Damaged {
                self.damaged.insert(segment);
            }
            self.left.push(LeftToGo { log, segment, why, holds });
        }
    }

    pub(super) fn left(&self) -> &[LeftToGo] {
        &self.left
    }

    /// These are gone for good.
    pub(super) fn erased(&mut self, ranges: &ErasedRanges) {
        ranges.iter().for_each(|(stream, range)| self.erased.insert(stream, range));
    }

    pub(super) fn take_erased(&mut self) -> ErasedRanges {
        std::mem::take(&mut self.erased)
    }
}
