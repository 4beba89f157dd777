//! Snapshots of a damaged directory: which go along, and what they alone hold.

use super::journal::retire::retire;
use super::journal::{Journal, sums};
use super::{NOW, files, make, run};
use std::path::Path;
use tempfile::TempDir;
use tidegate_ids::{StreamId, StreamKind, WallMs};
use tidegate_storage_files::Snapshots;
use tidegate_storage_log::Recovered;

/// A directory with two snapshots, changed by `harm`.
fn with_snapshots(is_let_go: bool, harm: impl FnOnce(&Path)) -> (TempDir, (Option<i32>, String, String)) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("data");
    for most in [2, usize::MAX] {
        let mut journal = Journal::open(&dir, 2);
        sums::fill(&mut journal, 300);
        drop(journal);
        let journal = Journal::open(&dir, 2);
        let mut snapshots = Snapshots::open(&journal.dir).unwrap();
        sums::build(&journal, &mut snapshots, most).unwrap();
    }
    if is_let_go {
        let journal = Journal::open(&dir, 2);
        let two = |log: &Recovered| Some(log.ends[1]);
        assert!(retire(&journal, WallMs(1_800_000_000_000), two, |_| true).dropped > 0);
    }
    harm(&dir);
    let out = run("repair", &dir, &["--to", temp.path().join("copy").to_str().unwrap()]);
    (temp, out)
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

#[track_caller]
fn check_snapshots(is_let_go: bool, harm: impl FnOnce(&Path), kept: &[&str], expected: &[&str]) {
    let (temp, (code, out, err)) = with_snapshots(is_let_go, harm);
    let copy = temp.path().join("copy");
    assert_eq!(code, Some(0), "{out}{err}");
    expected.iter().for_each(|part| assert!(out.contains(part), "{part:?} is not in {out}"));
    let mut names: Vec<String> = files(&copy)
        .into_keys()
        .filter(|path| path.starts_with("snapshot"))
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert_eq!(names, kept, "{out}");
    let (code, verified, _) = run("verify", &copy, &[]);
    assert!(code == Some(0), "{verified}");
}

#[test]
fn snapshots_that_hold_go_along() {
    check_snapshots(false, |_| {}, &["1.snap", "2.snap"], &["2 snapshots", " 0 losses, "]);
    check_snapshots(true, |_| {}, &["1.snap", "2.snap"], &["2 snapshots", " 0 losses, "]);
    check_snapshots(
        false,
        |dir| change(&dir.join("snapshot/2.snap"), |bytes| bytes[300] ^= 4),
        &["1.snap"],
        &["left out: ", "the block of"],
    );
    check_snapshots(
        false,
        |dir| change(&dir.join("snapshot/2.snap"), |bytes| bytes.truncate(900)),
        &["1.snap"],
        &["left out: "],
    );
    // It says a batch that is not the last of its segment: the logs tell.
    let lie = |dir: &Path| {
        change(&dir.join("snapshot/2.snap"), |bytes| {
            bytes[80] ^= 1;
            sums::seal_header(bytes);
        });
    };
    check_snapshots(false, lie, &["1.snap"], &["left out: ", "covers log 1/0 to"]);
    let remove = |dir: &Path| std::fs::remove_dir_all(dir.join("snapshot")).unwrap();
    check_snapshots(false, remove, &[], &["0 snapshots"]);
}

/// What retention let go of is in the snapshots alone.
#[test]
fn of_the_last_snapshot_that_holds_what_was_let_go_the_sound_entries_are_kept() {
    let harm = |dir: &Path| {
        std::fs::remove_file(dir.join("snapshot/1.snap")).unwrap();
        change(&dir.join("snapshot/2.snap"), |bytes| bytes[300] ^= 4);
    };
    check_snapshots(true, harm, &["2.snap"], &["lost: the folded state of ", "1 snapshot"]);
    let (temp, (code, out, err)) =
        with_snapshots(true, |dir| std::fs::remove_dir_all(dir.join("snapshot")).unwrap());
    assert!(code == Some(1) && err.contains("put a backup back"), "{out}{err}");
    assert!(!temp.path().join("copy").exists());
    let (code, out, _) = run("verify", &temp.path().join("data"), &[]);
    assert!(code == Some(1) && out.contains("holds what retention let go of: put a backup back"), "{out}");
}

/// A directory without its snapshots, whose rewritten segments have holes where users' records were: `verify` found no fault in it,
/// though no gateway starts on it and there is nothing to repair it from.
#[test]
fn snapshots_that_alone_held_what_was_let_go_are_missed() {
    let made = make(true, false);
    let journal = Journal::open(&made.dir, 3);
    // Users' records are folded, and go.
    let is_user = |stream: &StreamId| matches!(stream.kind(), Some(StreamKind::User(_)));
    let figures = retire(&journal, NOW, |log| Some(log.previous), is_user);
    assert!(figures.rewritten > 0 && figures.dropped == 0, "{figures:?}");
    drop(journal);
    let (code, out, _) = run("verify", &made.dir, &[]);
    assert!(code == Some(1) && out.contains(" holes") && out.contains(" 1 fault"), "{out}");
    let expected = "no snapshot that can be read holds what retention let go of: put a backup back";
    assert!(out.contains(expected), "{out}");
    let (code, out, err) = run("repair", &made.dir, &["--dry-run"]);
    assert!(code == Some(1) && err.contains("none of these can be read: put a backup back"), "{out}{err}");
}
