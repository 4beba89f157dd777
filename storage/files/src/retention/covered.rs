//! How far the logs may be touched: who makes snapshots says so, who rewrites asks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tidegate_ids::LogId;
use tidegate_storage_log::PreviousEnd;

/// What may be touched: for each log, where the segments end that a snapshot and all checkpoints cover. Empty at first:
/// nothing may. Shared between who makes snapshots and who rewrites.
#[derive(Clone, Debug, Default)]
pub struct CoveredSegments(Arc<Mutex<BTreeMap<LogId, PreviousEnd>>>);

impl CoveredSegments {
    /// Everything of `log` up to `end` may be touched. `end` is the end of a segment, and its last batch.
    pub fn set(&self, log: LogId, end: PreviousEnd) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(log, end);
    }

    /// Nothing may be touched any more, until it is said again: a snapshot that held it is lost. A pass that is under way
    /// touches nothing either once this returns.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What may be touched now.
    #[must_use]
    pub fn get(&self) -> BTreeMap<LogId, PreviousEnd> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Does something to a segment that only goes well while it may be touched: who says that nothing may is kept waiting until
    /// it is done. `None` if it may not be touched any more; then nothing was done.
    pub(crate) fn while_covered<T>(&self, log: LogId, segment: u32, act: impl FnOnce() -> T) -> Option<T> {
        let ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_covered = ends.get(&log).is_some_and(|end| segment <= end.end.segment);
        is_covered.then(act)
    }
}
