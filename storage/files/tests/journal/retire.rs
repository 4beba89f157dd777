//! Retention over what a journal has written: at once, and as fast as it goes.

use super::Journal;
use std::sync::atomic::AtomicBool;
use tidegate_ids::{StreamId, WallMs};
use tidegate_storage_files::{
    CoveredSegments, Retention, RetentionFigures, RetentionOptions, RetentionPolicy,
};
use tidegate_storage_log::{PreviousEnd, Recovered};

/// Of some streams everything has expired, of the others nothing.
struct Expired<F>(F);

impl<F: Fn(&StreamId) -> bool> RetentionPolicy for Expired<F> {
    fn keep_after(&self, stream: &StreamId) -> WallMs {
        WallMs(if (self.0)(stream) { u64::MAX } else { 0 })
    }

    fn gone_before(&self, stream: &StreamId) -> WallMs {
        self.keep_after(stream)
    }
}

/// A pass at `now` over each log up to where `through` says; what it did.
pub fn retire(
    journal: &Journal,
    now: WallMs,
    through: impl Fn(&Recovered) -> Option<PreviousEnd>,
    has_expired: impl Fn(&StreamId) -> bool,
) -> RetentionFigures {
    let covered = CoveredSegments::default();
    for one in &journal.logs {
        through(&one.recovered).into_iter().for_each(|end| covered.set(one.log, end));
    }
    let options = RetentionOptions { bytes_per_second: 0, look_again_ms: 0, ..RetentionOptions::default() };
    let mut retention = Retention::new(&journal.dir, options, covered);
    retention.pass(&Expired(has_expired), now, &AtomicBool::new(false), &mut |_| {}).unwrap();
    retention.counters().figures()
}
