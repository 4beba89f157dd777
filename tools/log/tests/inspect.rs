//! The tool as it is run: over directories that are whole, killed, torn, damaged, wrong, or written to right now.
#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

#[path = "../../../storage/files/tests/journal/mod.rs"]
mod journal;

use journal::retire::retire;
use journal::{Journal, Kept, sums};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use tidegate_ids::{CommandNumber, ConversationId, Location, Sequence, StreamId, UserId, WallMs};
use tidegate_storage_files::Snapshots;
use tidegate_storage_log::{Links, NewRecord, Recovered};

fn stream(number: u64) -> StreamId {
    StreamId::conversation(ConversationId::direct(UserId(number), UserId(number + 1000)))
}

fn command(action: &str, dir: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate-log"));
    command.arg(action).arg(dir).args(more);
    command
}

fn run(action: &str, dir: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command(action, dir, more).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// Some records over several streams and segments, on `shards` shards.
fn fill(journal: &mut Journal, shards: u16, count: u64) -> Vec<Kept> {
    let mut kept = Vec::new();
    for at in 0..count {
        let body = [format!("message {at} ").as_bytes(), &vec![0; 100 + (at as usize * 37) % 1500]].concat();
        let (shard, of) = ((at % u64::from(shards)) as u16, at % 12);
        kept.push(journal.append(shard, stream(of), &body));
        if at % 5 == 0 {
            journal.commit();
        }
    }
    journal.commit();
    kept
}

fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn segment(dir: &Path, kept: &Kept) -> File {
    let path = format!("log/{}/{}/{}.seg", kept.log.epoch, kept.log.shard, kept.location.segment);
    File::options().write(true).open(dir.join(path)).unwrap()
}

#[test]
fn a_whole_directory_verifies_over_epochs() {
    let temp = tempfile::tempdir().unwrap();
    let mut records = 0;
    for (shards, is_sealed) in [(2, false), (2, true), (1, false), (3, true)] {
        let mut journal = Journal::open(temp.path(), shards);
        records += fill(&mut journal, shards, 120).len();
        if is_sealed {
            journal.seal();
        }
        let (code, out, err) = run("verify", temp.path(), &[]);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
        assert!(
            out.contains(&format!(" {records} records, 12 streams, 0 unacknowledged tails, 0 faults")),
            "{out}"
        );
    }
}

#[test]
fn a_cut_tail_is_reported_and_is_no_damage() {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 1);
    fill(&mut journal, 1, 30);
    let torn = journal.append(0, stream(1), &[1; 3000]);
    journal.commit();
    drop(journal);
    segment(temp.path(), &torn).write_all_at(&[0; 512], u64::from(torn.location.offset) + 1024).unwrap();
    let (code, out, _) = run("verify", temp.path(), &[]);
    assert_eq!(code, Some(0), "{out}");
    assert!(
        out.contains("cut: log 1/0: segment") && out.contains("1 unacknowledged tail, 0 faults"),
        "{out}"
    );
}

fn check_damaged(change: impl FnOnce(&Path, &[Kept]), expected: &[&str]) {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 1);
    let kept = fill(&mut journal, 1, 200);
    journal.seal();
    change(temp.path(), &kept);
    let (code, out, _) = run("verify", temp.path(), &[]);
    assert_eq!(code, Some(1), "{out}");
    for part in expected {
        assert!(out.contains(part), "{part:?} is not in {out}");
    }
}

#[test]
fn damage_is_named_and_fails() {
    let rot = |at: usize, into: u64| {
        move |dir: &Path, kept: &[Kept]| {
            let place = u64::from(kept[at].location.offset) + into;
            segment(dir, &kept[at]).write_all_at(b"rot", place).unwrap();
        }
    };
    let lost = "a record of conversation 2:1002 (sequence 5) is lost";
    check_damaged(rot(50, 100), &["damage: log 1/0: segment", lost, "expected 5"]);
    check_damaged(rot(50, 4), &["the links of a record of conversation 2:1002 (sequence 5) are damaged"]);
    // Its head is gone, so nobody knows whose it was.
    check_damaged(rot(50, 40), &["a record is lost", "expected 5"]);
    check_damaged(
        |dir, kept| segment(dir, &kept[0]).write_all_at(b"rot", 16).unwrap(),
        &["header is damaged", "1.seg"],
    );
    check_damaged(
        |dir, kept| {
            let number = kept[50].location.segment;
            std::fs::remove_file(dir.join(format!("log/1/0/{number}.seg"))).unwrap();
        },
        &["missing, though the MANIFEST lists it"],
    );
    // The footer lies before the seal, at the end of what a sealed segment holds.
    check_damaged(
        |dir, kept| {
            let file = dir.join(format!("log/1/0/{}.seg", kept[0].location.segment));
            let bytes = std::fs::read(&file).unwrap();
            let end = bytes.iter().rposition(|&byte| byte != 0).unwrap() / 512 * 512;
            segment(dir, &kept[0]).write_all_at(b"rot", end as u64 + 100).unwrap();
        },
        &["footer"],
    );
}

/// Records that are sound one by one, and wrong as a stream: only the inspector looks at these rules.
fn check_wrong(record: impl Fn(&NewRecord<'static>, Location) -> NewRecord<'static>, expected: &str) {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 1);
    let other = journal.append(0, stream(2), b"of another stream").location;
    (0..6).for_each(|_| _ = journal.append(0, stream(1), b"right"));
    let (last, sequence) = journal.last(stream(1));
    let right = NewRecord {
        stream: stream(1),
        sequence: sequence.next(),
        kind: 1,
        number: CommandNumber(sequence.0 + 1),
        device_prev: last,
        links: journal.links(stream(1)),
        ..NewRecord::default()
    };
    journal.append_record(0, &record(&right, other));
    journal.seal();
    let (code, out, _) = run("verify", temp.path(), &[]);
    assert_eq!(code, Some(i32::from(!expected.is_empty())), "{out}");
    assert!(out.contains(expected), "{expected:?} is not in {out}");
}

#[test]
fn wrong_sequences_and_links_are_found() {
    check_wrong(|right, _| *right, "");
    check_wrong(|right, _| NewRecord { sequence: Sequence(9), ..*right }, "sequence 9, expected 7");
    check_wrong(|right, _| NewRecord { sequence: Sequence(6), ..*right }, "sequence 6, expected 7");
    check_wrong(
        |right, other| NewRecord { links: Links { prev: other, ..right.links }, ..*right },
        "expected",
    );
    check_wrong(
        |right, _| NewRecord { links: Links { jump: right.links.prev, ..right.links }, ..*right },
        "links to",
    );
    check_wrong(|right, other| NewRecord { device_prev: other, ..*right }, "the device's link leads to");
    check_wrong(|right, _| NewRecord { number: CommandNumber(6), ..*right }, "the device's link leads to");
    // States repeat the last sequence and stand alone or after one of their stream.
    let state = |right: &NewRecord<'static>, prev| NewRecord {
        kind: 16,
        sequence: Sequence(6),
        device_prev: Location::NONE,
        links: Links { prev, jump: Location::NONE },
        ..*right
    };
    check_wrong(|right, _| state(right, Location::NONE), "");
    check_wrong(|right, _| state(right, right.links.prev), "");
    check_wrong(state, "no record of this stream");
    check_wrong(
        |right, _| NewRecord { sequence: Sequence(5), ..state(right, Location::NONE) },
        "the stream is at 6",
    );
}

#[test]
fn dump_prints_records_as_text_and_as_json() {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 2);
    let kept = fill(&mut journal, 2, 60);
    journal.seal();
    let (code, out, err) = run("dump", temp.path(), &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(out.lines().count(), 60);
    let first = &kept[0];
    let line = out.lines().next().unwrap();
    let expected = format!("1/0 {} 2023-11-14T22:13:20.001Z conversation 0:1000 message 1", first.location);
    assert!(line.starts_with(&expected) && line.contains("number 1 110 B \"message 0 \""), "{line}");

    let (_, out, _) = run("dump", temp.path(), &["--limit", "7"]);
    assert_eq!(out.lines().count(), 7);
    let (_, out, _) = run("dump", temp.path(), &["--stream", "3:1003", "--json"]);
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of: Vec<&Kept> = kept.iter().filter(|record| record.stream == stream(3)).collect();
    assert_eq!(lines.len(), of.len());
    for (line, kept) in lines.iter().zip(of) {
        assert_eq!(line["stream"], "conversation 3:1003");
        assert_eq!(line["sequence"], kept.sequence);
        assert_eq!(line["location"], kept.location.to_string());
        assert_eq!(line["body_bytes"], kept.body.len());
        assert_eq!(line["kind_name"], "message");
    }
    let (_, out, _) = run("dump", temp.path(), &["--log", "1/1"]);
    assert!(out.lines().count() == 30 && out.lines().all(|line| line.starts_with("1/1 ")), "{out}");
    let (code, _, err) = run("dump", temp.path(), &["--stream", "nobody"]);
    assert!(code == Some(2) && err.contains("user:N"), "{err}");
}

/// A mistaken name printed nothing and ended with 0, like a stream that is empty.
#[test]
fn what_a_dump_does_not_find_is_said() {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 2);
    fill(&mut journal, 2, 60);
    journal.seal();
    let check = |more: &[&str], expected: &str| {
        let (code, out, err) = run("dump", temp.path(), more);
        let dir = temp.path().display();
        let expected = match expected {
            "" => String::new(),
            expected => format!("tidegate-log: there is no {expected}{dir}\n"),
        };
        assert_eq!((code, out.as_str(), err), (Some(0), "", expected), "{more:?}");
    };
    check(&["--log", "9/9"], "log 9/9 in ");
    check(&["--log", "9/9", "--stream", "3:1003"], "log 9/9 in ");
    check(&["--stream", "user:99"], "record of user 99 in ");
    // The even streams are those of the first log.
    check(&["--log", "1/0", "--stream", "3:1003"], "record of conversation 3:1003 in log 1/0 of ");
    check(&["--limit", "0"], "");
    let (_, out, err) = run("dump", temp.path(), &["--log", "1/1", "--stream", "3:1003"]);
    assert_eq!((out.lines().count(), err.as_str()), (5, ""));
    let empty = tempfile::tempdir().unwrap();
    drop(Journal::open(empty.path(), 1));
    let (code, out, err) = run("dump", empty.path(), &[]);
    assert!(code == Some(0) && out.is_empty() && err.contains("there is no record in "), "{err}");
}

/// A FIFO in a segment's place was waited for without end, and one segment that could not be opened ended everything, with
/// not a word about the others.
#[test]
fn what_is_no_segment_is_named_and_the_others_are_looked_at() {
    let check = |replace: &dyn Fn(&Path), expected: &str| {
        let temp = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(temp.path(), 1);
        let kept = fill(&mut journal, 1, 200);
        journal.seal();
        let number = kept[50].location.segment;
        let path = temp.path().join(format!("log/1/0/{number}.seg"));
        std::fs::remove_file(&path).unwrap();
        replace(&path);
        let expected = format!("{}: {expected}\n", path.display());
        let (code, out, err) = run("verify", temp.path(), &[]);
        assert_eq!((code, err.as_str()), (Some(1), ""), "{out}");
        assert!(out.contains(&format!("damage: {expected}")), "{expected:?} is not in {out}");
        let others = kept.iter().filter(|kept| kept.location.segment != number).count();
        assert!(others > 100 && out.contains(&format!(" {others} records, 12 streams")), "{out}");
        let (code, out, err) = run("dump", temp.path(), &[]);
        assert_eq!((code, out.lines().count()), (Some(0), others), "{err}");
        assert!(err.contains(&format!("tidegate-log: {expected}")), "{err}");
        let (code, out, err) = run("repair", temp.path(), &["--dry-run"]);
        assert_eq!(code, Some(0), "{out}{err}");
        assert!(out.contains(&format!("log 1/0: segment {number}, all its records")), "{out}");
        let copy = temp.path().with_extension("copy");
        let (code, _, err) = run("backup", temp.path(), &[copy.to_str().unwrap()]);
        let is_refused = expected.contains("cannot be opened");
        let why = if is_refused { "cannot open " } else { "no gateway would start on a copy" };
        assert!(code == Some(2) && err.contains(why), "{err}");
        assert!(!copy.exists(), "an empty copy is left");
    };
    check(&make_fifo, "not a regular file");
    check(&|path| std::fs::create_dir(path).unwrap(), "not a regular file");
    check(&|path| std::os::unix::fs::symlink("/dev/null", path).unwrap(), "not a regular file");
    let loops = |path: &Path| std::os::unix::fs::symlink(path.file_name().unwrap(), path).unwrap();
    check(&loops, "cannot be opened: Too many levels of symbolic links (os error 40)");
}

/// It was "0 bytes long, not 512", after which a file of 512 bytes was made.
#[test]
fn a_segment_without_its_header_is_told_how_long_it_must_be() {
    check_damaged(
        |dir, kept| segment(dir, &kept[0]).set_len(0).unwrap(),
        &[
            "1.seg: 0 bytes long, less than its header alone: a segment is made as long as storage.segment_bytes says",
        ],
    );
}

/// `dump | head` must not end in a panic about a closed pipe.
#[test]
fn a_closed_pipe_ends_a_dump_quietly() {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 1);
    fill(&mut journal, 1, 3000);
    drop(journal);
    let mut child =
        command("dump", temp.path(), &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    drop(out);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(0), String::new()));
}

/// The tool neither takes the lock nor changes a byte, and says that the tail is in motion.
#[test]
fn a_directory_in_use_is_read_beside_its_owner() {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 1);
    let kept = fill(&mut journal, 1, 50);
    journal.append(0, stream(1), b"appended, not written");
    let (code, out, _) = run("verify", temp.path(), &[]);
    let process = format!("process {} writes to this directory", std::process::id());
    assert!(code == Some(0) && out.contains(&process), "{out}");
    assert!(out.contains(&format!(" {} records,", kept.len())), "{out}");
    let (_, out, err) = run("dump", temp.path(), &["--limit", "1"]);
    assert!(out.lines().count() == 1 && err.contains("newest records may be missing"), "{err}");
    journal.commit();
    journal.seal();
    assert_eq!(Journal::open(temp.path(), 1).recovered.len(), kept.len() + 1);
}

/// A batch that is read while it is written must not pass for damage.
#[test]
fn a_directory_verifies_while_it_is_written() {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 2);
    fill(&mut journal, 2, 12);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (stop, journal) = (&stop, &mut journal);
        scope.spawn(move || {
            while !stop.load(Ordering::Acquire) {
                fill(journal, 2, 60);
            }
        });
        for _ in 0..8 {
            let (code, out, _) = run("verify", temp.path(), &[]);
            if code != Some(0) {
                stop.store(true, Ordering::Release);
                panic!("{out}");
            }
        }
        stop.store(true, Ordering::Release);
    });
    journal.seal();
    let (code, out, _) = run("verify", temp.path(), &[]);
    assert_eq!(code, Some(0), "{out}");
}

#[test]
fn what_is_no_data_directory_is_said() {
    let temp = tempfile::tempdir().unwrap();
    for action in ["dump", "verify"] {
        let (code, _, err) = run(action, temp.path(), &[]);
        assert!(code == Some(2) && err.contains("MANIFEST"), "{err}");
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0, "nothing is made");
    }
    // Not a word about it, and the target was there, empty.
    let to = temp.path().join("copies/x1");
    let (code, _, err) = run("backup", &temp.path().join("nope"), &[to.to_str().unwrap()]);
    assert!(code == Some(2) && err.contains("not a data directory"), "{err}");
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0, "nothing is made");
    let help = Command::new(env!("CARGO_BIN_EXE_tidegate-log")).arg("--help").output().unwrap();
    assert!(String::from_utf8(help.stdout).unwrap().contains("tidegate-log verify data"));
}

/// Everything of `expired` goes from all segments but the last of each log; how many segments went.
fn retain(journal: &Journal, expired: &[StreamId]) -> u64 {
    let but_last = |log: &Recovered| Some(log.ends[log.extents.len().checked_sub(2)?]);
    retire(journal, WallMs(1_800_000_000_000), but_last, |stream| expired.contains(stream)).dropped
}

#[test]
fn what_was_rewritten_or_let_go_is_no_damage() {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 2);
    let mut records = fill(&mut journal, 2, 400).len();
    drop(journal);
    let mut journal = Journal::open(temp.path(), 2);
    retain(&journal, &[stream(3), stream(8)]);
    records += fill(&mut journal, 2, 100).len();
    drop(journal);
    let (code, out, err) = run("verify", temp.path(), &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(
        out.contains(&format!(" {records} records, 12 streams, 0 unacknowledged tails, 0 faults, ")),
        "{out}"
    );
    assert!(out.trim_end().ends_with(" holes"), "{out}");
    let (_, out, _) = run("dump", temp.path(), &["--stream", "3:1003", "--limit", "1"]);
    assert!(out.contains(" expired ") && out.trim_end().ends_with("\"\""), "{out}");
    let (_, out, _) = run("dump", temp.path(), &["--stream", "4:1004", "--limit", "1"]);
    assert!(out.contains("message 4"), "{out}");

    let mut journal = Journal::open(temp.path(), 2);
    // What is let go is in a snapshot, or it is a loss.
    sums::build(&journal, &mut Snapshots::open(&journal.dir).unwrap(), usize::MAX).unwrap();
    assert!(retain(&journal, &(0..12).map(stream).collect::<Vec<_>>()) > 2);
    fill(&mut journal, 2, 50);
    drop(journal);
    let (code, out, err) = run("verify", temp.path(), &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains(" 12 streams, 0 unacknowledged tails, 0 faults"), "{out}");
}

#[test]
fn every_copy_of_a_rewritten_segments_header_is_looked_at() {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 1);
    let kept = fill(&mut journal, 1, 200);
    drop(journal);
    let journal = Journal::open(temp.path(), 1);
    retain(&journal, &[stream(3)]);
    drop(journal);
    let file = segment(temp.path(), &kept[0]);
    file.write_all_at(b"rot", 16).unwrap();
    let (code, out, _) = run("verify", temp.path(), &[]);
    assert_eq!(code, Some(1), "{out}");
    assert!(
        out.contains("a copy of the header or the table is damaged") && out.contains(", 1 fault, "),
        "{out}"
    );
    let (code, _, _) = run("dump", temp.path(), &["--limit", "1"]);
    assert_eq!(code, Some(0));
}

/// A directory with a snapshot, changed by `change`, which is given the snapshot's bytes.
fn check_snapshot(change: impl FnOnce(&mut Vec<u8>), code: i32, expected: &[&str]) {
    let change = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        change(&mut bytes);
        std::fs::write(path, bytes).unwrap();
    };
    check_snapshot_file(change, code, expected);
}

/// The same; `change` is given the snapshot's file.
fn check_snapshot_file(change: impl FnOnce(&Path), code: i32, expected: &[&str]) {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 2);
    sums::fill(&mut journal, 300);
    drop(journal);
    let journal = Journal::open(temp.path(), 2);
    let mut snapshots = Snapshots::open(&journal.dir).unwrap();
    sums::build(&journal, &mut snapshots, usize::MAX).unwrap();
    drop((journal, snapshots));
    change(&temp.path().join("snapshot/1.snap"));
    let (found, out, err) = run("verify", temp.path(), &[]);
    assert_eq!((found, err.as_str()), (Some(code), ""), "{out}");
    for part in expected {
        assert!(out.contains(part), "{part:?} is not in {out}");
    }
}

#[test]
fn snapshots_are_verified_too() {
    check_snapshot(|_| {}, 0, &["0 faults, 1 snapshot"]);
    check_snapshot(|bytes| bytes[300] ^= 4, 1, &["1.snap: the block of", "1 fault, 1 snapshot"]);
    check_snapshot(|bytes| bytes.truncate(1500), 1, &["1.snap: the footer of", "1 fault, 1 snapshot"]);
    // It says a batch that is not the last of its segment: made right again, so that only the logs can tell.
    check_snapshot(
        |bytes| {
            bytes[80] ^= 1;
            sums::seal_header(bytes);
        },
        1,
        &["1.snap: covers log 1/0 to", "1 fault, 1 snapshot"],
    );
}

/// "cannot be opened (os error 13)" is a number that not everybody knows; and a FIFO was waited for without end.
#[test]
fn a_snapshot_that_cannot_be_read_is_told_in_words() {
    let instead = |make: fn(&Path)| {
        move |path: &Path| {
            std::fs::remove_file(path).unwrap();
            make(path);
        }
    };
    let loops = |path: &Path| std::os::unix::fs::symlink("1.snap", path).unwrap();
    let words = "1.snap: cannot be opened: Too many levels of symbolic links (os error 40)";
    check_snapshot_file(instead(loops), 1, &[words, "1 fault, 1 snapshot"]);
    check_snapshot_file(instead(make_fifo), 1, &["1.snap: not a regular file", "1 fault, 1 snapshot"]);
}

#[test]
fn records_to_erase_are_asked_for_by_name_and_listed() {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 2);
    fill(&mut journal, 2, 60);
    drop(journal);
    let erase = |more: &[&str]| run("erase", temp.path(), more);
    assert_eq!(erase(&["--list"]), (Some(0), String::from("0 pending, 0 done\n"), String::new()));
    let check_refused = |more: &[&str], expected: &str| {
        let (code, out, err) = erase(more);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{more:?}");
        assert!(err.contains(expected), "{more:?}: {err}");
    };
    let one = ["--conversation", "1:1001"];
    check_refused(&["--conversation", "1:1002", "--all"], "there is no record of conversation 1:1002");
    check_refused(
        &[&one[..], &["--sequences", "2..9"]].concat(),
        "no record above 5: ask for 2..5, or for --all",
    );
    check_refused(&[&one[..], &["--sequences", "9..2"]].concat(), "is not A..B");
    check_refused(&[&one[..], &["--all", "--reason", "two\nlines"]].concat(), "one line");
    check_refused(&one, "--sequences");
    check_refused(&[&one[..], &["--all", "--list"]].concat(), "--list");
    check_refused(&["--all"], "--conversation");
    check_refused(&["--conversation", "user:1", "--all"], "hex digits of a group");
    assert_eq!(erase(&["--list"]).1, "0 pending, 0 done\n", "a refusal leaves nothing behind");
    let (code, out, _) = erase(&[&one[..], &["--sequences", "2..3", "--reason", "case 4711"]].concat());
    assert!(
        code == Some(0) && out.starts_with("1:1001: records 2..3 are to be erased\nno gateway runs on"),
        "{out}"
    );
    let (code, out, _) = erase(&["--conversation", "2:1002", "--all"]);
    assert!(code == Some(0) && out.contains("records 1..5"), "{out}");
    let (_, out, _) = erase(&["--list"]);
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("asked 1:1001 2..3 0 of 2 erased, asked 20"), "{out}");
    assert!(lines[0].ends_with(": case 4711") && lines[1].starts_with("asked 2:1002 1..5 0 of 5"), "{out}");
    assert_eq!(lines[2..], ["2 pending, 0 done"]);
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("copy");
    let (code, out, _) = run("backup", temp.path(), &[copy.to_str().unwrap()]);
    assert!(code == Some(0) && out.contains("2 ranges of records may be in it"), "{out}");
    assert_eq!(run("erase", &copy, &["--list"]).1.lines().last(), Some("2 pending, 0 done"));
    assert_eq!(run("verify", temp.path(), &[]).0, Some(0));
    std::fs::write(temp.path().join("ERASURES"), "tidegate-erasures 1\nasked\n").unwrap();
    let (code, out, err) = run("verify", temp.path(), &[]);
    let way_out = "ERASURES: the checksum does not match: the file is damaged or was edited: put it back from a backup, \
                   or move it away and ask again for what was not done";
    assert!(code == Some(1) && out.contains(way_out), "{out}{err}");
    // The ways that only said what is wrong with it.
    let elsewhere = elsewhere.path().join("another");
    let backup = run("backup", temp.path(), &[elsewhere.to_str().unwrap()]);
    for (code, _, err) in [erase(&["--list"]), erase(&[&one[..], &["--all"]].concat()), backup] {
        assert!(code == Some(2) && err.contains(way_out), "{code:?} {err}");
    }
    let nowhere = run("erase", &temp.path().join("nowhere"), &["--list"]);
    assert!(nowhere.0 == Some(2) && nowhere.2.contains("not a data directory"), "{nowhere:?}");
}
