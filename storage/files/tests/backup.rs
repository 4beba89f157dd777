//! Copies of a directory that is written to, and what a start on one of them does.
#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

mod journal;

use journal::sums::{build, check, fill};
use journal::{Journal, Kept, options};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use tidegate_storage_files::{
    BackupError, DataDir, DirView, OpenError, Snapshots, backup, mark_restored, secret,
};

fn copy(from: &Path, to: &Path) -> Result<tidegate_storage_files::BackedUp, BackupError> {
    backup(from, to, true, |_| {})
}

fn inode(root: &Path, log: &str) -> u64 {
    std::fs::metadata(root.join(log)).unwrap().ino()
}

/// What a start on a directory finds.
fn recovered(path: &Path, shards: u16) -> Vec<Kept> {
    let mut found = Journal::open(path, shards).recovered;
    found.sort_by_key(|record| (record.log, record.location));
    found
}

#[test]
fn a_directory_in_use_is_copied_up_to_its_last_batch() {
    let temp = tempfile::tempdir().unwrap();
    let (from, to) = (temp.path().join("data"), temp.path().join("backup"));
    let mut journal = Journal::open(&from, 2);
    secret(&from).unwrap();
    let mut kept = fill(&mut journal, 400);
    let done = copy(&from, &to).unwrap();
    assert_eq!((done.logs, done.tails, done.snapshots), (2, 2, 0));
    assert!(done.segments > 4 && done.transferred.linked as usize == done.segments - 2, "{done:?}");
    let (first, last) = {
        let view = DirView::open(&to).unwrap();
        assert_eq!((view.problems(), view.incarnation()), (&[][..], journal.dir.incarnation()));
        let log = &view.logs()[0];
        let name = |number: &u32| format!("log/1/0/{number}.seg");
        (log.segments.first().map(name).unwrap(), log.segments.last().map(name).unwrap())
    };
    assert_eq!(inode(&from, &first), inode(&to, &first), "what is closed is linked");
    assert_ne!(inode(&from, &last), inode(&to, &last), "what is written to is not");
    // What the gateway writes now is not in the copy, and what a start on the copy writes is not in the directory.
    kept.sort_by_key(|record| (record.log, record.location));
    fill(&mut journal, 200);
    assert_eq!(recovered(&to, 2), kept);
    let mode = std::fs::metadata(to.join("token.secret")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(secret(&from).unwrap().bytes(), secret(&to).unwrap().bytes());
}

#[test]
fn every_first_start_of_a_copy_has_its_own_incarnation_and_keeps_it() {
    let temp = tempfile::tempdir().unwrap();
    let from = temp.path().join("data");
    let mut journal = Journal::open(&from, 2);
    fill(&mut journal, 50);
    let old = journal.dir.incarnation();
    journal.seal();
    let start = |path: &Path| DataDir::open(path, &options(2)).unwrap().incarnation();
    let (one, other) = (temp.path().join("one"), temp.path().join("other"));
    copy(&from, &one).unwrap();
    copy(&one, &other).unwrap();
    let restored = start(&one);
    assert_ne!(restored, old);
    assert_eq!(start(&one), restored);
    assert!(![old, restored].contains(&start(&other)), "a copy of a copy is another history");
    assert_eq!(start(&from), old);
    // Put back by other means.
    let owner = DataDir::open(&from, &options(2)).unwrap();
    assert!(matches!(mark_restored(&from), Err(OpenError::InUse { .. })));
    drop(owner);
    mark_restored(&from).unwrap();
    let marked = start(&from);
    assert_ne!(marked, old);
    assert_eq!(start(&from), marked);
    assert!(mark_restored(&temp.path().join("nothing")).is_err());
}

#[test]
fn what_is_committed_before_a_copy_begins_is_in_it_whatever_is_written_meanwhile() {
    let temp = tempfile::tempdir().unwrap();
    let from = temp.path().join("data");
    let mut journal = Journal::open(&from, 2);
    let mut before = fill(&mut journal, 100);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                fill(&mut journal, 20);
            }
        });
        for round in 0..5 {
            let to = temp.path().join(format!("backup{round}"));
            let done = copy(&from, &to);
            if done.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            done.unwrap();
            let found = recovered(&to, 2);
            let missing = before.iter().find(|kept| !found.contains(kept));
            if missing.is_some() {
                stop.store(true, Ordering::Relaxed);
            }
            assert_eq!(missing, None, "round {round}");
            // A prefix of the log: what this copy holds, the next one holds too.
            before = found.into_iter().filter(|kept| kept.log.epoch == 1).collect();
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
    });
}

#[test]
fn snapshots_come_along_and_fit() {
    let temp = tempfile::tempdir().unwrap();
    let (from, to) = (temp.path().join("data"), temp.path().join("backup"));
    let mut journal = Journal::open(&from, 2);
    let kept = fill(&mut journal, 600);
    drop(journal);
    let journal = Journal::open(&from, 2);
    let mut snapshots = Snapshots::open(&journal.dir).unwrap();
    build(&journal, &mut snapshots, 2).unwrap();
    build(&journal, &mut snapshots, 4).unwrap();
    let done = copy(&from, &to).unwrap();
    assert_eq!(done.snapshots, 2);
    let restored = DataDir::open(&to, &options(2)).unwrap();
    let found = Snapshots::open(&restored).unwrap();
    assert_eq!((found.good().len(), found.bad().len()), (2, 0));
    check(found.newest().unwrap(), &kept);
}

#[test]
fn a_copy_goes_to_an_empty_place_only() {
    let temp = tempfile::tempdir().unwrap();
    let from = temp.path().join("data");
    fill(&mut Journal::open(&from, 2), 10);
    let check = |to: &Path, expected: &str| {
        let message = copy(&from, to).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    };
    check(temp.path(), "not empty");
    check(&from.join("log/copy"), "lies within");
    std::fs::write(temp.path().join("file"), b"").unwrap();
    check(&temp.path().join("file"), "file");
    let message = copy(&temp.path().join("nothing"), &temp.path().join("to")).unwrap_err().to_string();
    assert!(message.contains("nothing"), "{message}");
}
