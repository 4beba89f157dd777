//! Opening a data directory: what is made, what is refused and by which name, what survives.

#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

mod journal;

use journal::{Journal, SEGMENT_BYTES, options};
use rustix::fs::{CWD, Mode, mkfifoat};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use tidegate_ids::{LogId, ShardIndex, StreamId, UserId};
use tidegate_storage_files::{
    DataDir, DirView, OpenError, OpenOptions, Opened, Problem, SegmentProblem, WriteMode, recover_all,
};

fn stream(user: u64) -> StreamId {
    StreamId::user(UserId(user))
}

fn open(path: &Path, shards: u16) -> Result<DataDir, OpenError> {
    DataDir::open(path, &options(shards))
}

/// A directory of one shard whose log has several segments; gives their numbers.
fn with_segments(path: &Path) -> Vec<u32> {
    let mut journal = Journal::open(path, 1);
    for _ in 0..40 {
        journal.append(0, stream(1), &[7; 5000]);
        journal.commit();
    }
    drop(journal);
    let segments = DirView::open(path).unwrap().logs()[0].segments.clone();
    assert!(segments.len() >= 3, "{segments:?}");
    segments
}

fn segment(path: &Path, number: u32) -> std::path::PathBuf {
    path.join(format!("log/1/0/{number}.seg"))
}

#[test]
fn a_new_directory_is_made_and_keeps_what_it_is() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("deep/data");
    let first = open(&path, 3).unwrap();
    assert_eq!((first.opened(), first.epoch(), first.shards()), (Opened::Created, 1, 3));
    assert_eq!(first.logs().len(), 3);
    let (incarnation, identity) = (first.incarnation(), first.identity(ShardIndex(2)));
    assert!(incarnation.0 > 0 && identity.directory != [0; 16]);
    assert_eq!(identity.log, LogId { epoch: 1, shard: ShardIndex(2) });
    drop(first);
    let again = open(&path, 3).unwrap();
    assert_eq!((again.opened(), again.epoch(), again.incarnation()), (Opened::Continued, 1, incarnation));
    assert_eq!(again.identity(ShardIndex(2)), identity);
    let other = open(&temp.path().join("other"), 3).unwrap();
    assert_ne!(other.incarnation(), incarnation);
}

#[test]
fn options_that_cannot_be_had_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let check = |options: OpenOptions| {
        let error = DataDir::open(&temp.path().join("data"), &options).unwrap_err();
        assert!(matches!(error, OpenError::Options(_)), "{error}");
        assert!(!temp.path().join("data/MANIFEST").exists(), "nothing was begun");
    };
    check(options(0));
    check(options(1025));
    check(OpenOptions { segment_bytes: 0, ..options(1) });
    check(OpenOptions { segment_bytes: u32::MAX, ..options(1) });
    check(OpenOptions { segment_bytes: SEGMENT_BYTES + 100, ..options(1) });
}

#[test]
fn another_number_of_shards_begins_an_epoch_and_keeps_the_old_logs() {
    let temp = tempfile::tempdir().unwrap();
    let mut kept = Vec::new();
    for (start, shards) in [(1, 2_u16), (2, 2), (3, 1), (4, 4), (5, 2)] {
        let mut journal = Journal::open(temp.path(), shards);
        assert_eq!(journal.recovered, kept, "start {start}");
        let epochs: Vec<u16> = journal.dir.epochs().iter().map(|epoch| epoch.shards).collect();
        let expected: &[u16] = match start {
            1 | 2 => &[2],
            3 => &[2, 1],
            4 => &[2, 1, 4],
            _ => &[2, 1, 4, 2],
        };
        assert_eq!(epochs, expected);
        if start == 3 {
            assert_eq!(journal.dir.opened(), Opened::NewEpoch { previous_shards: 2 });
        }
        for shard in 0..shards {
            // A stream lives in one log of an epoch, and in another one of the next.
            kept.push(journal.append(shard, stream(u64::from(shard)), format!("start {start}").as_bytes()));
        }
        if start % 2 == 0 {
            journal.seal();
        } else {
            journal.commit();
        }
        // Recovery gives epochs, then shards, in order; the second start added to the logs of the first.
        kept.sort_by_key(|record| (record.log, record.location));
    }
    let dir = open(temp.path(), 2).unwrap();
    let numbers: Vec<u32> = dir.logs().iter().flat_map(|log| log.segments.clone()).collect();
    let unique: std::collections::BTreeSet<u32> = numbers.iter().copied().collect();
    assert_eq!(numbers.len(), unique.len(), "a segment's number is unique in the directory");
}

#[test]
fn a_missing_segment_is_refused_by_name() {
    for which in ["first", "middle", "last"] {
        let temp = tempfile::tempdir().unwrap();
        let segments = with_segments(temp.path());
        let number = match which {
            "first" => segments[0],
            "middle" => segments[1],
            _ => segments[segments.len() - 1],
        };
        let gone = segment(temp.path(), number);
        fs::rename(&gone, temp.path().join("elsewhere")).unwrap();
        let error = open(temp.path(), 1).unwrap_err();
        assert!(
            matches!(&error, OpenError::Segment(problem) if problem.problem == Problem::Missing),
            "{error}"
        );
        assert!(error.to_string().contains(&gone.display().to_string()), "{error}");
        assert!(
            error
                .to_string()
                .ends_with("put the right file back, or have a sound copy made by `tidegate-log repair`")
        );
        fs::rename(temp.path().join("elsewhere"), &gone).unwrap();
        open(temp.path(), 1).unwrap();
    }
}

fn check_segment_refused(change: impl FnOnce(&Path, &Path), expected: impl FnOnce(&Problem) -> bool) {
    let temp = tempfile::tempdir().unwrap();
    let segments = with_segments(temp.path());
    let path = segment(temp.path(), segments[1]);
    change(&path, &segment(temp.path(), segments[0]));
    let error = open(temp.path(), 1).unwrap_err();
    let OpenError::Segment(problem) = &error else { panic!("{error}") };
    assert!(expected(&problem.problem), "{error}");
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    // Which way out there is is not a guess for whoever reads it at night.
    let is_newer = matches!(problem.problem, Problem::Newer { .. });
    let way_out = if is_newer { "use the version that wrote it" } else { "`tidegate-log repair`" };
    assert!(error.to_string().contains(way_out), "{error}");
    // A view does not mind, and says the same.
    assert!(DirView::open(temp.path()).unwrap().problems().contains(problem));
}

/// What a user may not read is told as of any other file, so that the way out is the owner and no repair; a view names it.
#[test]
fn a_segment_that_cannot_be_opened_is_refused_by_the_systems_word() {
    let temp = tempfile::tempdir().unwrap();
    let path = segment(temp.path(), with_segments(temp.path())[1]);
    fs::remove_file(&path).unwrap();
    // A link to itself is refused to root as well.
    std::os::unix::fs::symlink(path.file_name().unwrap(), &path).unwrap();
    let error = open(temp.path(), 1).unwrap_err();
    let OpenError::File(refused) = &error else { panic!("{error}") };
    assert_eq!((refused.path.as_path(), refused.source.raw_os_error()), (path.as_path(), Some(40)));
    let view = DirView::open(temp.path()).unwrap();
    let problem = SegmentProblem { path, problem: Problem::Refused { os_error: 40 } };
    assert_eq!(view.problems(), [problem]);
}

#[test]
fn a_wrong_segment_is_refused_by_name() {
    let flip = |at: usize| {
        move |path: &Path, _: &Path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[at] ^= 1;
            fs::write(path, bytes).unwrap();
        }
    };
    check_segment_refused(flip(0), |problem| *problem == Problem::Header);
    check_segment_refused(flip(70), |problem| *problem == Problem::Header);
    check_segment_refused(
        |path, other| _ = fs::copy(other, path).unwrap(),
        |problem| matches!(problem, Problem::Foreign { .. }),
    );
    let cut = |bytes: u64| {
        move |path: &Path, _: &Path| {
            fs::File::options().write(true).open(path).unwrap().set_len(bytes).unwrap();
        }
    };
    check_segment_refused(cut(100), |problem| *problem == Problem::Short { bytes: 100, expected: 512 });
    let expected = u64::from(SEGMENT_BYTES);
    check_segment_refused(cut(4096), move |problem| *problem == Problem::Short { bytes: 4096, expected });
    check_segment_refused(
        |path, _| {
            fs::remove_file(path).unwrap();
            mkfifoat(CWD, path, Mode::RUSR).unwrap();
        },
        |problem| *problem == Problem::NoFile,
    );
    let newer = |path: &Path, _: &Path| {
        let mut bytes = fs::read(path).unwrap();
        bytes[12] = 9;
        let sum = tidegate_storage_log::crc32c(&bytes[12..512]);
        bytes[8..12].copy_from_slice(&sum.to_le_bytes());
        fs::write(path, bytes).unwrap();
    };
    check_segment_refused(newer, |problem| *problem == Problem::Newer { found: 9, supported: 2 });
}

/// A header of version 0 holds, and no version reads it: the walk of the logs says so, and what to do.
#[test]
fn a_segment_of_an_older_format_is_refused_by_name() {
    let temp = tempfile::tempdir().unwrap();
    let segments = with_segments(temp.path());
    let path = segment(temp.path(), segments[1]);
    let mut bytes = fs::read(&path).unwrap();
    bytes[12] = 0;
    let sum = tidegate_storage_log::crc32c(&bytes[12..512]);
    bytes[8..12].copy_from_slice(&sum.to_le_bytes());
    fs::write(path, bytes).unwrap();
    let refused = recover_all(&open(temp.path(), 1).unwrap(), |_| {}, |_, _| {}).unwrap_err().to_string();
    let expected = format!("segment {} has format version 0", segments[1]);
    assert!(refused.contains(&expected) && refused.ends_with("use the version that wrote it"), "{refused}");
}

#[test]
fn an_older_manifest_does_not_hide_an_epoch() {
    let temp = tempfile::tempdir().unwrap();
    drop(open(temp.path(), 2).unwrap());
    let older = fs::read(temp.path().join("MANIFEST")).unwrap();
    drop(open(temp.path(), 1).unwrap());
    fs::write(temp.path().join("MANIFEST"), older).unwrap();
    let error = open(temp.path(), 2).unwrap_err().to_string();
    assert!(error.contains("log/2") && error.contains("older"), "{error}");
    assert!(
        error.contains("put the newest MANIFEST back") && error.contains("`tidegate-log repair`"),
        "{error}"
    );
    fs::remove_file(temp.path().join("MANIFEST")).unwrap();
    let error = open(temp.path(), 2).unwrap_err();
    assert!(matches!(error, OpenError::NoManifest { .. }), "{error}");
    assert!(error.to_string().contains("`tidegate-log repair`, which makes it again"), "{error}");
}

#[test]
fn a_newer_manifest_is_refused_with_both_versions() {
    let temp = tempfile::tempdir().unwrap();
    drop(open(temp.path(), 1).unwrap());
    fs::write(temp.path().join("MANIFEST"), "tidegate-manifest 12\nwho knows\n").unwrap();
    let error = open(temp.path(), 1).unwrap_err().to_string();
    assert!(error.contains("MANIFEST") && error.contains("12") && error.contains('1'), "{error}");
    assert!(error.ends_with("use the version that wrote it"), "{error}");
    fs::write(temp.path().join("MANIFEST"), "garbage").unwrap();
    let error = open(temp.path(), 1).unwrap_err().to_string();
    assert!(
        error.contains("MANIFEST") && error.contains("`tidegate-log repair`, which makes it again"),
        "{error}"
    );
}

/// A crash between the rename of a segment and the manifest that names it.
#[test]
fn a_segment_that_no_manifest_names_belongs_to_its_log() {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 1);
    let kept = journal.append(0, stream(1), b"before");
    journal.commit();
    drop(journal);
    let dir = open(temp.path(), 1).unwrap();
    let text = fs::read_to_string(temp.path().join("MANIFEST")).unwrap();
    drop(dir);
    let body: String = text
        .lines()
        .filter(|line| !line.starts_with("log") && !line.starts_with("crc32c"))
        .fold(String::new(), |body, line| body + &line.replace("next-segment 3", "next-segment 1") + "\n");
    let sum = tidegate_storage_log::crc32c(body.as_bytes());
    fs::write(temp.path().join("MANIFEST"), format!("{body}crc32c {sum:08x}\n")).unwrap();
    let mut journal = Journal::open(temp.path(), 1);
    assert_eq!(journal.recovered, [kept]);
    let next = journal.append(0, stream(1), b"after");
    assert!(next.location.segment > journal.recovered[0].location.segment, "numbers are not given twice");
}

#[test]
fn leftovers_of_a_crash_are_removed() {
    let temp = tempfile::tempdir().unwrap();
    drop(open(temp.path(), 1).unwrap());
    let temporary = temp.path().join("log/1/0/44.seg.tmp");
    fs::write(&temporary, [0; 100]).unwrap();
    fs::write(temp.path().join("log/1/0/notes.txt"), "an operator's").unwrap();
    let mut journal = Journal::open(temp.path(), 1);
    assert!(!temporary.exists() && temp.path().join("log/1/0/notes.txt").exists());
    assert!(journal.append(0, stream(1), b"x").location.segment > 44, "its number is not given again");
}

#[test]
fn direct_writes_are_refused_or_work() {
    let temp = tempfile::tempdir().unwrap();
    let direct = OpenOptions { write_mode: WriteMode::Direct, ..options(1) };
    match DataDir::open(temp.path(), &direct) {
        Err(OpenError::DirectRefused { directory }) => assert_eq!(directory, temp.path()),
        Err(error) => panic!("{error}"),
        Ok(dir) => {
            assert!(dir.block_bytes() >= 512);
            drop(dir);
            let mut journal = Journal::open_with(temp.path(), &direct);
            assert_eq!(journal.mode(), WriteMode::Direct);
            let kept: Vec<_> = (0..60).map(|at| journal.append(0, stream(1), &[at; 3000])).collect();
            journal.commit();
            drop(journal);
            assert_eq!(Journal::open_with(temp.path(), &direct).recovered, kept);
        }
    }
}

const HOLD: &str = "TIDEGATE_TEST_HOLD";

/// Not a test of its own: the other process of the next one.
#[test]
fn child_that_holds_a_directory() {
    let Some(path) = std::env::var_os(HOLD) else { return };
    let dir = open(Path::new(&path), 1).unwrap();
    println!("\nheld {}", dir.incarnation());
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
}

/// Two gateways on one directory would write the same log. The second is told who has it; a killed one leaves no lock.
#[test]
fn two_processes_do_not_share_a_directory() {
    let temp = tempfile::tempdir().unwrap();
    for is_killed in [false, true] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child_that_holds_a_directory", "--exact", "--nocapture"])
            .env(HOLD, temp.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let held = lines.map_while(Result::ok).find(|line| line.starts_with("held "));
        assert!(held.is_some(), "the child opened it");
        let message = open(temp.path(), 1).unwrap_err().to_string();
        assert!(message.contains(&temp.path().display().to_string()), "{message}");
        assert!(message.contains(&format!("process {}", child.id())), "{message}");
        assert_eq!(DirView::open(temp.path()).unwrap().holder(), Some(child.id()));
        if is_killed {
            child.kill().unwrap();
        } else {
            child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        }
        child.wait().unwrap();
        drop(open(temp.path(), 1).unwrap());
        assert_eq!(DirView::open(temp.path()).unwrap().holder(), None);
    }
}

#[test]
fn a_closed_segment_gives_back_what_it_does_not_use() {
    use std::os::unix::fs::MetadataExt;
    use tidegate_storage_files::{SegmentTails, recover_all};
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 1);
    journal.append(0, stream(1), &[7; 5000]);
    journal.commit();
    drop(journal);
    let dir = open(temp.path(), 1).unwrap();
    let records = |dir: &DataDir| {
        let mut count = 0;
        let logs = recover_all(dir, |_| {}, |_, _| count += 1).unwrap();
        (count, logs[0].recovered.extents[0])
    };
    let (count, extent) = records(&dir);
    let path = segment(temp.path(), extent.segment);
    let before = fs::metadata(&path).unwrap();
    let log = LogId { epoch: 1, shard: ShardIndex(0) };
    let tails = SegmentTails::new(&dir);
    let given = tails.release(log, extent.segment, extent.end).unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_eq!(after.len(), before.len());
    assert_eq!(given, (before.blocks() - after.blocks()) * 512);
    assert!(after.blocks() * 512 <= u64::from(extent.end).next_multiple_of(4096) + 4096, "{given}");
    assert_eq!(tails.release(log, extent.segment, extent.end).unwrap(), 0);
    assert_eq!(records(&dir), (count, extent));
}
