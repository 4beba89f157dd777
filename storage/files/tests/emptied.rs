//! Segments that are zero throughout: spares that go when nobody needs them, and written ones whose content is gone, which
//! nobody may take for spares.

#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

mod journal;

use journal::sums::{build, fill, stream};
use journal::{Journal, Kept, options};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tidegate_ids::{Location, LogId, ShardIndex};
use tidegate_storage_files::{DataDir, DirView, OpenError, OpenOptions, Problem, Snapshots};

fn log(epoch: u32, shard: u16) -> LogId {
    LogId { epoch, shard: ShardIndex(shard) }
}

fn segment(root: &Path, log: LogId, number: u32) -> PathBuf {
    root.join(format!("log/{}/{}/{number}.seg", log.epoch, log.shard))
}

/// What an operator does who gives a file its length back.
fn empty(path: &Path) {
    let bytes = std::fs::metadata(path).unwrap().len();
    std::fs::remove_file(path).unwrap();
    File::create(path).unwrap().set_len(bytes).unwrap();
}

/// The last written segment of a log.
fn last_written(root: &Path, log: LogId) -> u32 {
    let view = DirView::open(root).unwrap();
    let listed = view.logs().iter().find(|listed| listed.log == log).unwrap();
    *listed.segments.last().unwrap()
}

/// The spares of a log: named, and above all that was written.
fn spares(root: &Path, log: LogId) -> Vec<PathBuf> {
    let last = last_written(root, log);
    let view = DirView::open(root).unwrap();
    let above = view.named().filter(|number| *number > last).map(|number| segment(root, log, number));
    above.filter(|path| path.exists()).collect()
}

/// Two shards whose logs are sealed, with a snapshot of all of it.
fn covered(root: &Path) -> Vec<Kept> {
    let mut journal = Journal::open(root, 2);
    let kept = fill(&mut journal, 300);
    journal.seal();
    let journal = Journal::open(root, 2);
    build(&journal, &mut Snapshots::open(&journal.dir).unwrap(), usize::MAX).unwrap();
    kept
}

/// Refused by name, at every start and however it is made, with the way out; a view says the same, and nothing is thrown away.
fn check_refused(root: &Path, log: LogId, number: u32) {
    let path = segment(root, log, number);
    let larger = OpenOptions { segment_bytes: 2 * journal::SEGMENT_BYTES, ..options(2) };
    for options in [options(2), options(2), larger, options(3)] {
        let error = DataDir::open(root, &options).unwrap_err();
        let OpenError::Segment(problem) = &error else { panic!("{error}") };
        assert_eq!((&problem.path, problem.problem), (&path, Problem::Emptied));
        assert!(error.to_string().ends_with("have a sound copy made by `tidegate-log repair`"), "{error}");
        let view = DirView::open(root).unwrap();
        assert!(path.exists() && view.named().any(|named| named == number));
        assert_eq!(view.problems(), std::slice::from_ref(problem));
        assert!(view.logs().iter().any(|listed| listed.log == log && listed.segments.contains(&number)));
    }
}

/// An operator followed the advice for a segment that is nowhere, and gave the last one its length back: the next start took it for
/// an unused spare and removed it, and its messages were gone as if retention had let them go.
#[test]
fn the_last_segment_that_a_snapshot_covers_is_no_spare() {
    for shard in 0..2 {
        let temp = tempfile::tempdir().unwrap();
        covered(temp.path());
        let log = log(1, shard);
        let number = last_written(temp.path(), log);
        empty(&segment(temp.path(), log, number));
        check_refused(temp.path(), log, number);
    }
}

/// No snapshot is needed to know that in an epoch that is over every named segment was written.
#[test]
fn the_last_segment_of_an_older_epoch_is_no_spare() {
    let temp = tempfile::tempdir().unwrap();
    drop(fill(&mut Journal::open(temp.path(), 4), 100));
    drop(fill(&mut Journal::open(temp.path(), 2), 100));
    let number = last_written(temp.path(), log(1, 1));
    empty(&segment(temp.path(), log(1, 1), number));
    check_refused(temp.path(), log(1, 1), number);
}

/// Nothing in the directory of segments says that the newest segment of the newest epoch was written; somebody who has read the
/// log may. Until recovery is through it stays, also where its size or its epoch makes it useless as a spare.
#[test]
fn the_newest_segment_is_kept_until_recovery_had_its_say() {
    let larger = OpenOptions { segment_bytes: 2 * journal::SEGMENT_BYTES, ..options(2) };
    for options in [options(2), larger, options(3)] {
        let temp = tempfile::tempdir().unwrap();
        let kept = fill(&mut Journal::open(temp.path(), 2), 100);
        let last = kept.iter().rfind(|record| record.log == log(1, 0)).unwrap().location;
        let path = segment(temp.path(), log(1, 0), last.segment);
        empty(&path);
        for _ in 0..2 {
            let dir = DataDir::open(temp.path(), &options).unwrap();
            assert_eq!(dir.note_emptied(log(1, 0), Location::new(last.segment - 1, u32::MAX)).unwrap(), None);
            assert_eq!(dir.note_emptied(log(1, 1), Location::new(last.segment, 512)).unwrap(), None);
            assert!(path.exists());
        }
        let dir = DataDir::open(temp.path(), &options).unwrap();
        let incarnation = dir.incarnation();
        let problem = dir.note_emptied(log(1, 0), last).unwrap().unwrap();
        assert_eq!((&problem.path, problem.problem), (&path, Problem::Emptied));
        drop(dir);
        // From then on the directory itself says so.
        check_refused(temp.path(), log(1, 0), last.segment);
        assert_eq!(DirView::open(temp.path()).unwrap().incarnation(), incarnation);
    }
}

/// Spares lie above what a snapshot covers. One that a crash left between the manifest and its first byte is such.
#[test]
fn spares_are_used_or_go_in_silence() {
    let temp = tempfile::tempdir().unwrap();
    let mut kept = covered(temp.path());
    let left = spares(temp.path(), log(1, 0));
    assert!(!left.is_empty());
    let mut journal = Journal::open(temp.path(), 2);
    assert_eq!(journal.recovered.len(), kept.len());
    let next = journal.append(0, stream(0), b"into a spare");
    journal.commit();
    assert!(left.contains(&segment(temp.path(), log(1, 0), next.location.segment)), "{next:?}");
    kept.push(next);
    drop(journal);
    let left = [spares(temp.path(), log(1, 0)), spares(temp.path(), log(1, 1))].concat();
    assert!(!left.is_empty());
    // Another number of shards has no use for them.
    let journal = Journal::open(temp.path(), 3);
    assert_eq!(journal.recovered.len(), kept.len());
    assert!(left.iter().all(|path| !path.exists()));
    drop(journal);
    // A crash after the manifest had let one go, before its file was removed.
    std::fs::write(&left[0], vec![0; journal::SEGMENT_BYTES as usize]).unwrap();
    assert_eq!(DirView::open(temp.path()).unwrap().problems(), []);
    let journal = Journal::open(temp.path(), 3);
    assert_eq!(journal.recovered.len(), kept.len());
    assert!(!left[0].exists());
}

/// A segment whose first write was torn was never acknowledged. It stays, in an older epoch too, and refuses no start.
#[test]
fn a_torn_first_write_of_an_older_epoch_refuses_no_start() {
    let temp = tempfile::tempdir().unwrap();
    let kept = fill(&mut Journal::open(temp.path(), 2), 100);
    let path = spares(temp.path(), log(1, 0)).remove(0);
    File::options().write(true).open(&path).unwrap().write_all_at(b"half of a batch", 8192).unwrap();
    for shards in [2, 3, 3, 1] {
        let journal = Journal::open(temp.path(), shards);
        assert_eq!(journal.recovered.len(), kept.len(), "{shards}");
        assert!(path.exists());
    }
}
