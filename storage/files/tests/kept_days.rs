//! How long records of state stay where two snapshots hold them: by the days since they were written.
#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

mod journal;

use journal::{Journal, cover, options};
use std::sync::atomic::AtomicBool;
use tidegate_ids::{StreamId, UserId, WallMs};
use tidegate_storage_files::{Retention, RetentionFigures, RetentionOptions, RetentionPolicy};
use tidegate_storage_log::NewRecord;

const DAY_MS: u64 = 24 * 3_600_000;
const WRITTEN: WallMs = WallMs(1_700_000_000_000);
const KEPT_DAYS: u64 = 7;

/// Everything is kept for the same days.
struct Days(WallMs);

impl RetentionPolicy for Days {
    fn keep_after(&self, _stream: &StreamId) -> WallMs {
        WallMs(self.0.0 - KEPT_DAYS * DAY_MS)
    }

    /// State never has to.
    fn gone_before(&self, _stream: &StreamId) -> WallMs {
        WallMs(0)
    }
}

/// What a pass so many days after they were written does with segments of one user's records alone.
fn check(stamp: WallMs, days: u64, (rewritten, dropped): (u64, u64)) {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 1);
    for _ in 0..60 {
        let stream = StreamId::user(UserId(1));
        journal.append_record(
            0,
            &NewRecord { stream, time: stamp, body_parts: &[&[1; 4000]], ..NewRecord::default() },
        );
        journal.commit();
    }
    drop(journal);
    let journal = Journal::open_with(temp.path(), &options(1));
    assert_eq!(journal.logs[0].segments.len(), 5);
    let quick = RetentionOptions { bytes_per_second: 0, reserve_bytes: 0, ..RetentionOptions::default() };
    let mut retention = Retention::new(&journal.dir, quick, cover(&journal.dir));
    let now = WallMs(WRITTEN.0 + days * DAY_MS);
    retention.pass(&Days(now), now, &AtomicBool::new(false), &mut |_| {}).unwrap();
    let RetentionFigures { rewritten: found, dropped: gone, .. } = retention.counters().figures();
    assert_eq!((found, gone), (rewritten, dropped), "stamped {} after {days} days", stamp.0);
}

/// A gateway did not say when it wrote users' records. Segments of these alone were taken for cold and for long over, and went
/// the moment they were covered.
#[test]
fn a_segment_of_users_alone_is_kept_for_its_days() {
    check(WRITTEN, 0, (0, 0));
    check(WRITTEN, KEPT_DAYS - 1, (0, 0));
    check(WRITTEN, KEPT_DAYS + 1, (0, 4));
    check(WallMs(0), 0, (0, 4));
}
