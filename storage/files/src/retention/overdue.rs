//! What passes know about records whose time was over so long ago that they must be gone, however little of their segment
//! they are; and which segments hold some and may not be touched yet.

use super::{LeftToGo, RetentionPolicy, WhyLeft};
use std::collections::BTreeMap;
use tidegate_ids::{LogId, WallMs};
use tidegate_storage_log::RecordHead;

/// What the records with a body in a segment say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outlook {
    /// How many must be gone.
    pub overdue: u64,
    /// So many milliseconds later there is one more.
    pub next_ms: u64,
}

impl Default for Outlook {
    fn default() -> Self {
        Self { overdue: 0, next_ms: u64::MAX }
    }
}

impl Outlook {
    /// Takes account of a record with a body.
    pub(super) fn take(&mut self, policy: &dyn RetentionPolicy, head: &RecordHead) {
        match head.time.0.checked_sub(policy.gone_before(&head.stream).0) {
            // It is the first millisecond that must be behind it.
            Some(left_ms) => self.next_ms = self.next_ms.min(left_ms.saturating_add(1)),
            None => self.overdue += 1,
        }
    }
}

/// What is known of a segment that may not be touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// It holds what must be gone, and will until it may be touched.
    Overdue,
    /// It did not. Looked at again then.
    Again(WallMs),
}

/// The segments that may not be touched yet.
#[derive(Debug, Default)]
pub(super) struct Overdue {
    seen: BTreeMap<u32, Seen>,
    left: Vec<LeftToGo>,
}

impl Overdue {
    /// Begins a pass.
    pub(super) fn begin(&mut self) {
        self.left.clear();
    }

    /// Whether nobody knows what a segment holds.
    pub(super) fn is_due(&self, segment: u32, now: WallMs) -> bool {
        match self.seen.get(&segment) {
            None => true,
            Some(Seen::Again(at)) => *at <= now,
            Some(Seen::Overdue) => false,
        }
    }

    /// Notes what a segment holds; nothing else is found in it for `fixed_ms`.
    pub(super) fn note(&mut self, segment: u32, outlook: Outlook, now: WallMs, fixed_ms: u64) {
        let again = WallMs(now.0.saturating_add(outlook.next_ms.min(fixed_ms)));
        let seen = if outlook.overdue > 0 { Seen::Overdue } else { Seen::Again(again) };
        self.seen.insert(segment, seen);
    }

    /// A segment stays as it is for now.
    pub(super) fn leave(&mut self, log: LogId, segment: u32, why: WhyLeft) {
        if self.seen.get(&segment) == Some(&Seen::Overdue) {
            self.left.push(LeftToGo { log, segment, why, holds: Some(Vec::new()) });
        }
    }

    /// It may be touched, so each pass sees to it.
    pub(super) fn may_be_touched(&mut self, segment: u32) {
        self.seen.remove(&segment);
    }

    pub(super) fn left(&self) -> &[LeftToGo] {
        &self.left
    }
}
