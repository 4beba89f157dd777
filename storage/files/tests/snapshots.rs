//! Snapshots as files: built, replaced, found again after every kind of end, and not believed when they lie.

#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

mod journal;

use journal::sums::{STREAMS, Sums, build, check, closed, fill, seal_header};
use journal::{Journal, Kept};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tidegate_ids::{Location, LogId};
use tidegate_storage_files::{
    BuildError, DataDir, DirView, RecoverError, SnapshotFlaw, SnapshotPlan, Snapshots, SnapshotsError,
    recover_after,
};
use tidegate_storage_log::{PreviousEnd, SnapshotError};

/// Names in the directory of snapshots, and in that of runs.
fn names(root: &Path) -> Vec<String> {
    let list = |directory: PathBuf| {
        let entries = std::fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let mut names = list(root.join("snapshot"));
    names.extend(list(root.join("snapshot/runs")).into_iter().map(|name| format!("runs/{name}")));
    names.sort();
    names
}

/// A directory with records, and two snapshots of them, the second further than the first.
fn with_two() -> (tempfile::TempDir, Vec<Kept>) {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 2);
    let kept = fill(&mut journal, 600);
    drop(journal);
    let journal = Journal::open(temp.path(), 2);
    let mut snapshots = Snapshots::open(&journal.dir).unwrap();
    build(&journal, &mut snapshots, 2).unwrap();
    build(&journal, &mut snapshots, 4).unwrap();
    (temp, kept)
}

#[test]
fn snapshots_follow_each_other_and_two_are_kept() {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 2);
    let mut kept = fill(&mut journal, 500);
    let mut older = Vec::new();
    for round in 1..=4_u64 {
        drop(journal);
        journal = Journal::open(temp.path(), 2);
        let mut snapshots = Snapshots::open(&journal.dir).unwrap();
        assert_eq!((snapshots.good().len(), snapshots.bad()), (older.len().min(2), &[][..]));
        assert_eq!(snapshots.next_number(), round);
        let built = build(&journal, &mut snapshots, usize::MAX).unwrap();
        assert!(built.summary.runs > 1, "{:?}", built.summary);
        check(&built.file, &kept);
        assert_eq!(built.file.number(), round);
        older.push(built.file);
        let newest = older.iter().rev().take(2).map(|file| format!("{}.snap", file.number()));
        let mut expected: Vec<String> = newest.chain([String::from("runs")]).collect();
        expected.sort();
        assert_eq!(names(temp.path()), expected);
        kept.extend(fill(&mut journal, 200));
    }
    // Those that were removed are still readable by who has them open.
    older.iter().for_each(|file| check(file, &kept));
}

#[test]
fn a_start_behind_a_snapshot_walks_the_rest_only() {
    let (temp, kept) = with_two();
    let journal = Journal::open(temp.path(), 2);
    let snapshots = Snapshots::open(&journal.dir).unwrap();
    let newest = snapshots.newest().unwrap();
    check(newest, &kept);
    let covered = &newest.header().covered;
    let mut walked = Vec::new();
    let mut last = None;
    let logs = recover_after(
        &journal.dir,
        covered,
        |progress| last = Some(progress),
        |log, record| walked.push((log, record.location)),
    );
    let logs = logs.unwrap();
    let end = |log| covered.iter().find(|covered| covered.log == log).unwrap().previous.end;
    let mut rest: Vec<(LogId, Location)> = kept.iter().map(|one| (one.log, one.location)).collect();
    rest.retain(|(log, location)| *location >= end(*log));
    rest.sort();
    assert!(!rest.is_empty() && rest.len() < kept.len());
    assert_eq!(walked, rest);
    for (behind, whole) in logs.iter().zip(&journal.logs) {
        assert_eq!(behind.recovered.previous, whole.recovered.previous);
        assert!(behind.recovered.extents.len() + 4 == whole.recovered.extents.len());
        assert_eq!(behind.appender_start(&journal.dir), whole.appender_start(&journal.dir));
    }
    let last = last.unwrap();
    assert_eq!((last.segments_done, last.records), (last.segments, rest.len() as u64));
}

/// Each state in which a crash can leave the directory while the third snapshot takes its place.
#[test]
fn a_crash_at_any_step_leaves_a_good_snapshot() {
    let (temp, kept) = with_two();
    let third = {
        let journal = Journal::open(temp.path(), 2);
        let mut snapshots = Snapshots::open(&journal.dir).unwrap();
        let before: Vec<Vec<u8>> =
            [1, 2].map(|n| std::fs::read(temp.path().join(format!("snapshot/{n}.snap"))).unwrap()).into();
        build(&journal, &mut snapshots, usize::MAX).unwrap();
        drop(journal);
        let third = std::fs::read(temp.path().join("snapshot/3.snap")).unwrap();
        std::fs::remove_file(temp.path().join("snapshot/3.snap")).unwrap();
        for (n, bytes) in (1..).zip(&before) {
            std::fs::write(temp.path().join(format!("snapshot/{n}.snap")), bytes).unwrap();
        }
        third
    };
    let check_state = |step: &str, files: &[(&str, &[u8])], good: &[u64], next: u64| {
        for (name, bytes) in files {
            std::fs::write(temp.path().join("snapshot").join(name), bytes).unwrap();
        }
        let dir = DataDir::open(temp.path(), &journal::options(2)).unwrap();
        let snapshots = Snapshots::open(&dir).unwrap();
        let numbers: Vec<u64> = snapshots.good().iter().map(|file| file.number()).collect();
        assert_eq!((&numbers[..], snapshots.bad().len(), snapshots.next_number()), (good, 0, next), "{step}");
        snapshots.good().iter().for_each(|file| check(file, &kept));
        let left = names(temp.path()).iter().any(|name| name.ends_with(".tmp") || name.ends_with(".run"));
        assert!(!left, "{step}");
    };
    check_state("runs being written", &[("runs/0.run", &third[..100]), ("runs/7.run", &[])], &[2, 1], 3);
    check_state("nothing of the new one", &[("3.snap.tmp", &[])], &[2, 1], 4);
    check_state("half of it", &[("3.snap.tmp", &third[..third.len() / 2])], &[2, 1], 4);
    check_state("all of it, not renamed", &[("3.snap.tmp", &third)], &[2, 1], 4);
    check_state("renamed, older ones not removed", &[("3.snap", &third)], &[3, 2, 1], 4);
}

#[test]
fn a_damaged_snapshot_is_passed_over_and_the_older_one_used() {
    let (temp, kept) = with_two();
    let path = temp.path().join("snapshot/2.snap");
    let sound = std::fs::read(&path).unwrap();
    let check_bytes = |bytes: &[u8], wanted: &dyn Fn(&SnapshotFlaw) -> bool| {
        std::fs::write(&path, bytes).unwrap();
        let dir = DataDir::open(temp.path(), &journal::options(2)).unwrap();
        let snapshots = Snapshots::open(&dir).unwrap();
        let numbers: Vec<u64> = snapshots.good().iter().map(|file| file.number()).collect();
        assert_eq!((numbers, snapshots.next_number()), (vec![1], 3));
        let [bad] = snapshots.bad() else { panic!("{:?}", snapshots.bad()) };
        assert_eq!((bad.number, &bad.path), (2, &path));
        assert!(wanted(&bad.why), "{bad}");
        check(&snapshots.good()[0], &kept);
    };
    let is_damage = |why: &SnapshotFlaw| matches!(why, SnapshotFlaw::Content(SnapshotError::Damaged { .. }));
    for at in [0, 13, 20, 70, sound.len() - 100, sound.len() - 3] {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x20;
        check_bytes(&bytes, &is_damage);
    }
    check_bytes(&sound[..sound.len() - 64], &is_damage);
    check_bytes(&[], &is_damage);
    let first = std::fs::read(temp.path().join("snapshot/1.snap")).unwrap();
    check_bytes(&first, &|why| *why == SnapshotFlaw::Number(1));
    // Older logs were put back beside it: it covers segments that they never had.
    let (mut bytes, log) = (sound, LogId { epoch: 1, shard: tidegate_ids::ShardIndex(0) });
    bytes[64 + 8 + 4..64 + 8 + 8].copy_from_slice(&4_000_000_u32.to_le_bytes());
    seal_header(&mut bytes);
    check_bytes(&bytes, &|why| *why == SnapshotFlaw::History(log));
}

#[test]
fn what_another_version_or_directory_wrote_is_refused() {
    let (temp, _) = with_two();
    let path = temp.path().join("snapshot/2.snap");
    let sound = std::fs::read(&path).unwrap();
    let refusal = |at: usize, byte: u8| {
        let mut bytes = sound.clone();
        bytes[at] = byte;
        seal_header(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        let dir = DataDir::open(temp.path(), &journal::options(2)).unwrap();
        let refusal = Snapshots::open(&dir).unwrap_err();
        assert!(refusal.to_string().contains("2.snap"), "{refusal}");
        refusal
    };
    let newer = refusal(12, 2);
    assert!(matches!(newer, SnapshotsError::Version { found: 2, .. }));
    assert!(newer.to_string().ends_with("use the version that wrote it"), "{newer}");
    let foreign = refusal(14, 9);
    assert!(matches!(foreign, SnapshotsError::Foreign { .. }));
    assert!(foreign.to_string().ends_with("move it away"), "{foreign}");
    assert_eq!(names(temp.path()).len(), 3, "nothing was changed");
    let (other, _) = with_two();
    std::fs::copy(other.path().join("snapshot/2.snap"), &path).unwrap();
    let dir = DataDir::open(temp.path(), &journal::options(2)).unwrap();
    assert!(matches!(Snapshots::open(&dir), Err(SnapshotsError::Foreign { .. })));
}

/// A snapshot that says more than the log: believed, it would hide records that were acknowledged.
#[test]
fn a_snapshot_of_another_history_is_refused_by_recovery() {
    let (temp, _) = with_two();
    let journal = Journal::open(temp.path(), 2);
    let snapshots = Snapshots::open(&journal.dir).unwrap();
    let mut covered = snapshots.newest().unwrap().header().covered.clone();
    let batch = covered[1].previous.batch.next();
    covered[1].previous = PreviousEnd { batch, ..covered[1].previous };
    let refused = recover_after(&journal.dir, &covered, |_| {}, |_, _| {}).unwrap_err();
    let RecoverError::Log { log, source } = refused else { panic!("{refused}") };
    assert_eq!(log, covered[1].log);
    assert!(matches!(source, tidegate_storage_log::RecoverError::Covered { .. }), "{source}");
}

#[test]
fn what_is_not_whole_changes_nothing() {
    let (temp, kept) = with_two();
    let before = names(temp.path());
    let check_failure = |known: &[u32], stop_after: Option<u64>, wanted: &dyn Fn(&BuildError) -> bool| {
        let journal = Journal::open(temp.path(), 2);
        let mut snapshots = Snapshots::open(&journal.dir).unwrap();
        let (segments, covered) = closed(&journal, usize::MAX);
        let previous = snapshots.newest().cloned();
        let plan = SnapshotPlan {
            known_damage: known,
            memory_bytes: 2048,
            ..SnapshotPlan::new(&segments, covered, previous)
        };
        let stop = Arc::new(AtomicBool::new(false));
        let stop_after = stop_after.map(|count| (count, Arc::clone(&stop)));
        let mut fold = Sums { stop_after, ..Sums::default() };
        let refused = snapshots.build(&plan, &mut fold, &stop).unwrap_err();
        assert!(wanted(&refused), "{refused:?}");
        assert_eq!(names(temp.path()), before);
        check(snapshots.newest().unwrap(), &kept);
    };
    check_failure(&[], Some(1), &|error| matches!(error, BuildError::Stopped));
    check_failure(&[], Some(STREAMS), &|error| matches!(error, BuildError::Stopped));

    let journal = Journal::open(temp.path(), 2);
    let mut snapshots = Snapshots::open(&journal.dir).unwrap();
    snapshots.reserve(1 << 60);
    let refused = build(&journal, &mut snapshots, 5).unwrap_err();
    assert!(
        matches!(refused, BuildError::NoSpace { reserve_bytes, .. } if reserve_bytes == 1 << 60),
        "{refused}"
    );
    assert_eq!(names(temp.path()), before);
    drop((snapshots, journal));

    // In the fifth segment: behind what the second snapshot covers, and not the open one.
    let mut segments: Vec<u32> =
        kept.iter().filter(|one| one.log.shard.0 == 0).map(|one| one.location.segment).collect();
    segments.dedup();
    assert!(segments.len() > 5);
    let lost = kept.iter().find(|one| one.location.segment == segments[4]).unwrap();
    let path = temp.path().join(format!("log/1/0/{}.seg", lost.location.segment));
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(&[0xee; 16], u64::from(lost.location.offset) + 200).unwrap();
    let segment = lost.location.segment;
    check_failure(
        &[],
        None,
        &|error| matches!(error, BuildError::Damaged { segment: at, .. } if *at == segment),
    );
    let path = temp.path().join("snapshot/2.snap");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[300] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    // Recovered by the older one, or by none.
    let journal = Journal::open(temp.path(), 2);
    let mut snapshots = Snapshots::open(&journal.dir).unwrap();
    assert_eq!(snapshots.newest().unwrap().number(), 2, "its index holds");
    let refused = build(&journal, &mut snapshots, 4).unwrap_err();
    assert!(matches!(refused, BuildError::Merge(tidegate_storage_log::MergeError::Previous(_))), "{refused}");
    let verified = snapshots.newest().unwrap().verify();
    assert!((verified.problem_count, verified.is_sound()) == (1, false));
    snapshots.pass_over(2);
    assert_eq!(build(&journal, &mut snapshots, 4).unwrap().file.number(), 3);
}

#[test]
fn a_plan_that_covers_less_is_refused() {
    let (temp, _) = with_two();
    let journal = Journal::open(temp.path(), 2);
    let mut snapshots = Snapshots::open(&journal.dir).unwrap();
    let log = LogId { epoch: 1, shard: tidegate_ids::ShardIndex(0) };
    let refused = build(&journal, &mut snapshots, 3).unwrap_err();
    assert!(matches!(refused, BuildError::Backwards(of) if of == log), "{refused}");
}

#[test]
fn threads_and_tools_read_it_too() {
    let (temp, kept) = with_two();
    let journal = Journal::open(temp.path(), 2);
    let mut snapshots = Snapshots::open(&journal.dir).unwrap();
    let newest = Arc::clone(snapshots.newest().unwrap());
    std::thread::scope(|scope| {
        (0..4).for_each(|_| _ = scope.spawn(|| check(&newest, &kept)));
        build(&journal, &mut snapshots, 5).unwrap();
    });
    let view = DirView::open(temp.path()).unwrap().snapshots().unwrap();
    let numbers: Vec<u64> = view.good.iter().map(|file| file.number()).collect();
    assert_eq!((numbers, view.bad.len()), (vec![3, 2], 0));
    let places: Vec<u16> = {
        let mut entries = view.good[0].entries_of(3..9);
        let mut places = Vec::new();
        while let Some(entry) = entries.next() {
            places.push(entry.unwrap().place.0);
        }
        places
    };
    assert!(!places.is_empty() && places.iter().all(|place| (3..9).contains(place)) && places.is_sorted());
}

#[test]
fn one_that_was_set_aside_is_used_by_no_start() {
    let (temp, kept) = with_two();
    let numbers =
        |snapshots: &Snapshots| -> Vec<u64> { snapshots.good().iter().map(|file| file.number()).collect() };
    let dir = DataDir::open(temp.path(), &journal::options(2)).unwrap();
    let mut snapshots = Snapshots::open(&dir).unwrap();
    let newest = snapshots.newest().cloned().unwrap();
    snapshots.set_aside(2).unwrap();
    assert_eq!(numbers(&snapshots), [1]);
    assert_eq!(names(temp.path()), ["1.snap", "2.snap.damaged", "runs"]);
    check(&newest, &kept);
    drop((snapshots, dir));
    let dir = DataDir::open(temp.path(), &journal::options(2)).unwrap();
    assert_eq!(numbers(&Snapshots::open(&dir).unwrap()), [1]);
}
