//! What was done since the start.

use std::sync::atomic::{AtomicU64, Ordering};
use tidegate_storage_log::Rewrote;

/// Rising numbers, read from any thread.
#[derive(Debug, Default)]
pub struct RetentionCounters {
    passes: AtomicU64,
    rewritten: AtomicU64,
    dropped: AtomicU64,
    damaged: AtomicU64,
    expired: AtomicU64,
    erased: AtomicU64,
    saved_bytes: AtomicU64,
}

/// What the counters were at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionFigures {
    /// Passes that came to their end.
    pub passes: u64,
    /// Segments rewritten.
    pub rewritten: u64,
    /// Segments removed because nothing in them lived.
    pub dropped: u64,
    /// Times that a segment was left as it is because it is damaged.
    pub damaged: u64,
    /// Records whose time was over, those of removed segments not counted.
    pub expired: u64,
    /// Records erased because somebody asked for it, those of removed segments not counted.
    pub erased: u64,
    /// Bytes that files are smaller for it.
    pub saved_bytes: u64,
}

impl RetentionCounters {
    /// The numbers now.
    #[must_use]
    pub fn figures(&self) -> RetentionFigures {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RetentionFigures {
            passes: get(&self.passes),
            rewritten: get(&self.rewritten),
            dropped: get(&self.dropped),
            damaged: get(&self.damaged),
            expired: get(&self.expired),
            erased: get(&self.erased),
            saved_bytes: get(&self.saved_bytes),
        }
    }

    pub(super) fn note_pass(&self) {
        self.passes.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_damaged(&self) {
        self.damaged.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_rewritten(&self, rewrote: &Rewrote, bytes_before: u64) {
        self.rewritten.fetch_add(1, Ordering::Relaxed);
        self.expired.fetch_add(rewrote.tally.expired, Ordering::Relaxed);
        self.erased.fetch_add(rewrote.tally.erased, Ordering::Relaxed);
        self.saved_bytes.fetch_add(bytes_before.saturating_sub(rewrote.file_bytes), Ordering::Relaxed);
    }

    pub(super) fn note_dropped(&self, bytes_before: u64) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        self.saved_bytes.fetch_add(bytes_before, Ordering::Relaxed);
    }
}
