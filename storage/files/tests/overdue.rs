//! What expired is gone a grace later, however little of its segment it is, and whatever keeps the segment from being touched.
#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

mod journal;

use journal::disk::on_disk;
use journal::{Journal, Kept, cover, options};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use tidegate_ids::{ConversationId, StreamId, UserId, WallMs};
use tidegate_storage_files::{
    CoveredSegments, DataDir, DirView, Retention, RetentionOptions, RetentionPolicy, RetentionStep, WhyLeft,
    recover_all,
};
use tidegate_storage_log::RecordState;
use tidegate_tests_support::noise;

const DAY_MS: u64 = 24 * 3_600_000;
/// A journal stamps its records in the seconds after this.
const WRITTEN_MS: u64 = 1_700_000_000_000;

fn stream(number: u64) -> StreamId {
    StreamId::conversation(ConversationId::direct(UserId(number), UserId(number + 1000)))
}

/// One conversation is kept for 30 days and the others for five years; a day or a week later it must be gone.
struct Days(WallMs);

impl Days {
    fn before(&self, stream_of: &StreamId, (short, long): (u64, u64)) -> WallMs {
        let days = if *stream_of == stream(0) { short } else { long };
        WallMs(self.0.0.saturating_sub(days * DAY_MS))
    }
}

impl RetentionPolicy for Days {
    fn keep_after(&self, stream: &StreamId) -> WallMs {
        self.before(stream, (30, 1826))
    }

    fn gone_before(&self, stream: &StreamId) -> WallMs {
        self.before(stream, (31, 1833))
    }
}

/// So many hours after the records were written.
const fn hours(count: u64) -> WallMs {
    WallMs(WRITTEN_MS + count * 3_600_000)
}

fn retention(dir: &DataDir, covered: CoveredSegments) -> Retention {
    let options = RetentionOptions { bytes_per_second: 0, reserve_bytes: 0, ..RetentionOptions::default() };
    Retention::new(dir, options, covered)
}

/// A pass; the segments that it has rewritten or removed.
fn pass(retention: &mut Retention, now: WallMs) -> Vec<u32> {
    let mut touched = Vec::new();
    let passed = retention.pass(&Days(now), now, &AtomicBool::new(false), &mut |step| match step {
        RetentionStep::Rewritten(segment) | RetentionStep::Dropped(segment) => touched.push(segment),
        RetentionStep::Damaged(segment) => panic!("segment {segment} is sound"),
        _ => {}
    });
    passed.unwrap();
    touched
}

/// Of twenty records one that is kept for 30 days.
fn fill(journal: &mut Journal, count: u64) -> Vec<Kept> {
    let mut kept = Vec::new();
    for at in 0..count {
        let of = if at % 20 == 0 { 0 } else { 1 + at % 5 };
        kept.push(journal.append(0, stream(of), &noise(at, 800)));
        if at % 7 == 0 {
            journal.commit();
        }
    }
    journal.commit();
    kept
}

/// Every record as a start reads it: those of the one conversation are holes, and on the disk no more; the others are whole.
#[track_caller]
fn check_gone(path: &Path, kept: &[Kept]) {
    let short: Vec<&Kept> = kept.iter().filter(|one| one.stream == stream(0)).collect();
    assert!(!short.is_empty());
    assert_eq!(on_disk(path, &short), BTreeSet::new());
    let dir = DataDir::open(path, &options(1)).unwrap();
    let mut count = 0;
    let logs = recover_all(
        &dir,
        |_| {},
        |_, record| {
            count += 1;
            let one = kept.iter().find(|one| one.location == record.location).unwrap();
            let is_short = one.stream == stream(0);
            let expected = if is_short { RecordState::Expired } else { RecordState::Live };
            assert_eq!(record.placement.state, expected, "{one:?}");
            assert!(is_short || record.body == one.body, "{one:?}");
        },
    );
    assert_eq!(logs.unwrap().iter().map(|log| log.recovered.damage_count).sum::<u64>(), 0);
    assert_eq!(count, kept.len());
    assert_eq!(DirView::open(path).unwrap().problems(), []);
}

/// A conversation that is a twentieth of its segment expired after 30 days, and stayed, and was served, until a quarter of the
/// segment had: five years later.
#[test]
fn a_twentieth_of_a_segment_does_not_wait_for_a_quarter() {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 1);
    let kept = fill(&mut journal, 300);
    journal.seal();
    let journal = Journal::open(temp.path(), 1);
    let mut retention = retention(&journal.dir, cover(&journal.dir));
    let segments: BTreeSet<u32> = kept.iter().map(|one| one.location.segment).collect();
    assert!(segments.len() > 3);
    let all: Vec<u32> = segments.into_iter().collect();
    // Compressed once, when they are cold.
    let rounds = [(0, 0), (6 * 24, 0), (7 * 24 + 1, all.len()), (8 * 24 + 2, 0), (29 * 24, 0)];
    for (at, expected) in rounds {
        assert_eq!(pass(&mut retention, hours(at)).len(), expected, "after {at} h");
    }
    // Its time is over, and it may stay for another day; none is rewritten for it before.
    for at in 30 * 24..31 * 24 {
        assert_eq!(pass(&mut retention, hours(at)), [], "after {at} h");
    }
    // The pass after that does it, a day after the last look or not.
    assert_eq!(pass(&mut retention, hours(31 * 24 + 1)), all);
    let figures = retention.counters().figures();
    let expired = kept.iter().filter(|one| one.stream == stream(0)).count();
    assert_eq!((figures.expired, figures.rewritten), (expired as u64, 2 * all.len() as u64));
    // Nothing is rewritten for what is gone.
    for at in (31 * 24 + 2..60 * 24).step_by(5) {
        assert_eq!(pass(&mut retention, hours(at)), [], "after {at} h");
    }
    drop((retention, journal));
    check_gone(temp.path(), &kept);
}

/// With one policy, all of a segment expires within the time that it spans, and goes with its segment once the last has.
#[test]
fn what_goes_as_a_whole_within_its_grace_is_not_rewritten_before() {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 1);
    let kept: Vec<Kept> = (0..200).map(|at| journal.append(0, stream(1), &noise(at, 800))).collect();
    journal.seal();
    let journal = Journal::open(temp.path(), 1);
    let mut retention = retention(&journal.dir, cover(&journal.dir));
    let last = kept.last().unwrap().location.segment;
    assert!(last > 1);
    assert_eq!(pass(&mut retention, hours(8 * 24)).len(), last as usize, "compressed");
    // A few records have expired, by milliseconds.
    let some = WallMs(WRITTEN_MS + 1826 * DAY_MS + 10);
    assert_eq!(pass(&mut retention, some), []);
    assert_eq!(pass(&mut retention, WallMs(some.0 + DAY_MS)).len(), last as usize);
    assert_eq!(retention.counters().figures().dropped, u64::from(last) - 1, "but for the newest");
}

/// In a quiet gateway the segment that is written to is not full for weeks, and no snapshot comes to hold it.
#[test]
fn a_segment_that_is_written_to_is_told_of_until_it_may_be_touched() {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 1);
    let covered = CoveredSegments::default();
    let mut quiet = retention(&journal.dir, covered.clone());
    let mut kept = vec![journal.append(0, stream(1), &noise(5000, 800))];
    journal.commit();
    // What comes behind a look is found by the next one.
    assert_eq!((pass(&mut quiet, hours(0)), quiet.left_overdue()), (Vec::new(), &[][..]));
    kept.extend(fill(&mut journal, 30));
    let segment = kept[0].location.segment;
    assert!(kept.iter().all(|one| one.location.segment == segment));
    for at in (0..=31 * 24).step_by(12) {
        assert_eq!((pass(&mut quiet, hours(at)), quiet.left_overdue()), (Vec::new(), &[][..]), "{at} h");
    }
    let left = |retention: &Retention| -> Vec<(u32, WhyLeft)> {
        retention.left_overdue().iter().map(|left| (left.segment, left.why)).collect()
    };
    let now = hours(31 * 24 + 1);
    pass(&mut quiet, now);
    assert_eq!(left(&quiet), [(segment, WhyLeft::Open)]);
    // One that only erases does not forget it.
    quiet.erase(&Days(now), now, &AtomicBool::new(false), &mut |step| panic!("{step:?}")).unwrap();
    assert_eq!((left(&quiet), quiet.left_to_erase()), (vec![(segment, WhyLeft::Open)], &[][..]));
    drop(quiet);
    journal.seal();
    let mut journal = Journal::open(temp.path(), 1);
    let new = journal.append(0, stream(1), &noise(9000, 800));
    journal.commit();
    let mut retention = retention(&journal.dir, covered.clone());
    assert_eq!(pass(&mut retention, now), []);
    assert_eq!(left(&retention), [(segment, WhyLeft::Uncovered)]);
    cover(&journal.dir).get().into_iter().for_each(|(log, end)| covered.set(log, end));
    assert_eq!(pass(&mut retention, now), [segment]);
    assert_eq!(left(&retention), []);
    drop((retention, journal));
    kept.push(new);
    check_gone(temp.path(), &kept);
}
