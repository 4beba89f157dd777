//! `tidegate-log repair`: whatever happened to a directory, what holds is in the copy, identical, and the copy is whole.
#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

mod erase;
#[path = "../../../../storage/files/tests/journal/mod.rs"]
mod journal;
mod random;
mod refusals;
mod snapshots;

use journal::retire::retire;
use journal::{Journal, sums};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;
use tidegate_ids::{Location, LogId, Sequence, ShardIndex, StreamId, UserId, WallMs};
use tidegate_storage_files::{DirView, RepairSource};
use tidegate_storage_log::{
    Links, NewRecord, ReadSpec, RecordHead, RecordView, Recovered, read_page, recover,
};

const USERS: u64 = 5;

/// When retention looks at a directory: a moment after the first record was written.
const NOW: WallMs = WallMs(1_700_000_001_000);

fn run(action: &str, dir: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate-log"));
    let Output { status, stdout, stderr } = command.arg(action).arg(dir).args(more).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A record as it is promised for life.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sound {
    log: LogId,
    location: Location,
    head: RecordHead,
    body: Vec<u8>,
}

impl Sound {
    fn of(log: LogId, record: &RecordView<'_>) -> Self {
        Self { log, location: record.location, head: record.head, body: record.body.to_vec() }
    }
}

/// A directory with conversations and users on two shards, then on three, and what was written to it.
struct Made {
    _temp: TempDir,
    dir: PathBuf,
    copy: PathBuf,
    written: Vec<Sound>,
    /// Segments in which something was written.
    used: Vec<(LogId, u32)>,
}

/// The streams of users: chains of records with a state now and then.
#[derive(Default)]
struct Chains(BTreeMap<u64, (Location, u64)>);

impl Chains {
    fn append(&mut self, journal: &mut Journal, shard: u16, user: u64) {
        let (last, count) = self.0.entry(user).or_insert((Location::NONE, 0));
        *count += 1;
        let is_state = *count % 9 == 0;
        let parts = if *count % 27 == 0 { 3_u16 } else { 1 };
        if !is_state {
            let body = [&user.to_le_bytes()[..], &vec![7; (*count as usize * 13) % 300]].concat();
            *last = journal.append_record(shard, &of_user(user, 35, *last, &[&body]));
            return;
        }
        let mut prev = Location::NONE;
        for index in 0..parts {
            let header = [index.to_le_bytes(), parts.to_le_bytes()].concat();
            prev = journal.append_record(shard, &of_user(user, 40, prev, &[&header, &[9; 400]]));
        }
        *last = Location::NONE;
    }
}

fn of_user<'a>(user: u64, kind: u16, prev: Location, body_parts: &'a [&'a [u8]]) -> NewRecord<'a> {
    let links = Links { prev, jump: Location::NONE };
    NewRecord { stream: StreamId::user(UserId(user)), kind, links, body_parts, ..NewRecord::default() }
}

fn fill(journal: &mut Journal, chains: &mut Chains, shards: u16, count: u64) {
    for at in 0..count {
        let of = at % 12;
        let body = [format!("message {at} ").as_bytes(), &vec![0; 100 + (at as usize * 37) % 1500]].concat();
        journal.append((of % u64::from(shards)) as u16, sums::stream(of), &body);
        if at % 2 == 0 {
            let user = at % USERS;
            chains.append(journal, (user % u64::from(shards)) as u16, user);
        }
        if at % 5 == 0 {
            journal.commit();
        }
    }
    journal.commit();
}

/// In all segments but the last two of each log half of all streams have expired.
fn rewrite_some(journal: &Journal) {
    let but_two = |log: &Recovered| Some(log.ends[log.extents.len().checked_sub(3)?]);
    let half = |stream: &StreamId| *stream < sums::stream(4) && stream.0[0] != 0x40;
    assert!(retire(journal, NOW, but_two, half).rewritten > 0);
}

/// Everything that recovery gives of the logs, in order.
fn sound(source: &RepairSource) -> Vec<Sound> {
    let mut all = Vec::new();
    for listed in source.logs() {
        let directory = source.facts(listed.log, Vec::new()).identity.directory;
        recover(&mut source.reader(), &listed.segments, Some(directory), |record| {
            all.push(Sound::of(listed.log, &record));
        })
        .unwrap();
    }
    all
}

/// One directory of each sort is written, with all its syncs; tests take copies of it.
fn original(is_sealed: bool, is_rewritten: bool) -> PathBuf {
    thread_local! {
        // Removed when the test's thread ends.
        static MADE: RefCell<BTreeMap<(bool, bool), TempDir>> = const { RefCell::new(BTreeMap::new()) };
    }
    let write = || {
        let temp = tempfile::tempdir().unwrap();
        let mut chains = Chains::default();
        for (shards, count) in [(2, 500), (3, 400)] {
            let mut journal = Journal::open(temp.path(), shards);
            fill(&mut journal, &mut chains, shards, count);
            if is_sealed {
                journal.seal();
            }
        }
        if is_rewritten {
            rewrite_some(&Journal::open(temp.path(), 3));
        }
        temp
    };
    MADE.with_borrow_mut(|made| {
        made.entry((is_sealed, is_rewritten)).or_insert_with(write).path().to_path_buf()
    })
}

fn make(is_sealed: bool, is_rewritten: bool) -> Made {
    let temp = tempfile::tempdir().unwrap();
    let (dir, copy) = (temp.path().join("data"), temp.path().join("copy"));
    for (name, bytes) in files(&original(is_sealed, is_rewritten)) {
        std::fs::create_dir_all(dir.join(&name).parent().unwrap()).unwrap();
        std::fs::write(dir.join(name), bytes).unwrap();
    }
    std::fs::write(dir.join("token.secret"), [7; 32]).unwrap();
    std::fs::write(dir.join("gateway.toml"), "shards = 3\n").unwrap();
    let written = sound(&RepairSource::open(&dir).unwrap());
    assert!(written.len() > 1000);
    let mut used: Vec<(LogId, u32)> = written.iter().map(|one| (one.log, one.location.segment)).collect();
    used.dedup();
    Made { _temp: temp, dir, copy, written, used }
}

impl Made {
    fn path(&self, (log, segment): (LogId, u32)) -> PathBuf {
        self.dir.join(format!("log/{}/{}/{segment}.seg", log.epoch, log.shard))
    }

    fn write(&self, of: (LogId, u32), offset: u64, bytes: &[u8]) {
        File::options().write(true).open(self.path(of)).unwrap().write_all_at(bytes, offset).unwrap();
    }

    /// The segments of the first log.
    fn first_log(&self) -> Vec<(LogId, u32)> {
        self.used
            .iter()
            .copied()
            .filter(|(log, _)| *log == LogId { epoch: 1, shard: ShardIndex(0) })
            .collect()
    }

    /// A record in the middle of the first log.
    fn record(&self) -> &Sound {
        let of = self.first_log();
        let in_it = |one: &&Sound| (one.log, one.location.segment) == of[of.len() / 2];
        self.written.iter().filter(in_it).nth(20).unwrap()
    }

    /// Where the batches end in a segment's file: behind its last byte that is not zero.
    fn end(&self, of: (LogId, u32)) -> u64 {
        let bytes = std::fs::read(self.path(of)).unwrap();
        (bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1).next_multiple_of(512)
    }
}

/// Every file below a directory, with its bytes.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(next) = dirs.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                all.insert(path.strip_prefix(dir).unwrap().to_path_buf(), bytes);
            }
        }
    }
    all
}

/// Repairs a damaged directory, and proves of the copy everything that is promised. Gives what the tool said.
#[track_caller]
fn check_repaired(made: &Made) -> String {
    let expected = sound(&RepairSource::open(&made.dir).unwrap());
    let before = files(&made.dir);
    let to = made.copy.to_str().unwrap();
    let (code, dry, err) = run("repair", &made.dir, &["--dry-run"]);
    assert!(code == Some(0) && !made.copy.exists() && dry.contains("nothing was written"), "{dry}{err}");
    let (code, out, err) = run("repair", &made.dir, &["--to", to]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert_eq!(files(&made.dir), before, "the source is as it was");
    let losses = |out: &str| {
        out.lines().filter(|line| line.starts_with("lost: ")).map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(losses(&dry), losses(&out));

    let (code, verified, _) = run("verify", &made.copy, &[]);
    assert!(code == Some(0) && verified.contains(" 0 unacknowledged tails, 0 faults"), "{verified}\n{out}");
    let copied = sound(&RepairSource::open(&made.copy).unwrap());
    assert_eq!(copied.len(), expected.len(), "{out}");
    for (copied, expected) in copied.iter().zip(&expected) {
        assert_eq!(copied, expected);
    }
    assert!(out.contains(&format!(" {} records kept, ", copied.len())), "{out}");
    assert_eq!(std::fs::read(made.copy.join("token.secret")).unwrap(), [7; 32]);
    assert_eq!(std::fs::read(made.copy.join("gateway.toml")).unwrap(), b"shards = 3\n");

    let again = made.copy.with_extension("again");
    let (code, second, err) = run("repair", &made.copy, &["--to", again.to_str().unwrap()]);
    assert!(
        code == Some(0) && second.contains(" (0 written anew), ") && second.contains(" 0 losses, "),
        "{second}{err}"
    );
    assert_eq!(files(&again), files(&made.copy), "a second repair changes nothing");
    std::fs::remove_dir_all(&again).unwrap();

    check_start(made, &copied);
    out
}

/// A start takes another incarnation, finds every record, and goes on.
fn check_start(made: &Made, copied: &[Sound]) {
    let view = DirView::open(&made.copy).unwrap();
    let mut journal = Journal::open(&made.copy, 3);
    assert_ne!(journal.dir.incarnation(), view.incarnation());
    assert_eq!(journal.recovered.len(), copied.len());
    journal.append(0, sums::stream(30), b"after the repair");
    journal.seal();
    let (code, verified, _) = run("verify", &made.copy, &[]);
    assert!(code == Some(0), "{verified}");
}

#[track_caller]
fn check(harm: impl Fn(&Made), expected: &[&str]) {
    for (is_sealed, is_rewritten) in [(true, false), (false, false), (true, true)] {
        let made = make(is_sealed, is_rewritten);
        harm(&made);
        let out = check_repaired(&made);
        for part in expected {
            assert!(out.contains(part), "{part:?} is not in {out}");
        }
    }
}

fn rot(into: u64) -> impl Fn(&Made) {
    move |made| {
        let record = made.record();
        made.write((record.log, record.location.segment), u64::from(record.location.offset) + into, b"rot");
    }
}

#[test]
fn a_whole_directory_is_copied_as_it_is() {
    check(|_| {}, &[" (0 written anew), ", " 0 losses, 0 sequences missing, "]);
}

#[test]
fn a_damaged_record_costs_itself() {
    for into in [100, 40, 3] {
        let made = make(true, false);
        rot(into)(&made);
        let out = check_repaired(&made);
        let copied = sound(&RepairSource::open(&made.copy).unwrap());
        let lost: Vec<&Sound> = made.written.iter().filter(|one| !copied.contains(one)).collect();
        let expected = if into == 3 { vec![] } else { vec![made.record()] };
        assert_eq!(lost, expected, "{out}");
        let head = made.record().head;
        if into == 100 {
            let kind = if head.sequence.0 > 0 { "message" } else { "queue-widen" };
            assert!(out.contains(&format!(": a {kind} of {}", head.stream)), "{out}");
        }
    }
}

/// Where a record of the copy is linked to.
fn prev_of(made: &Made, location: Location) -> Location {
    let source = RepairSource::open(&made.copy).unwrap();
    let mut out = Vec::new();
    read_page(&mut source.reader(), &ReadSpec::At { location }, &mut out).unwrap().next
}

/// A user's records behind a folded state are linked to nothing, since it holds what came before. Without it they must lead on to
/// that, or the user has forgotten all of it; and those behind a lost record must lead round it.
#[test]
fn a_users_chain_leads_round_what_is_lost() {
    let made = make(true, false);
    let user = StreamId::user(UserId(2));
    let chain: Vec<&Sound> = made.written.iter().filter(|one| one.head.stream == user).collect();
    let state = chain.iter().position(|one| one.head.kind == 40).unwrap();
    let (lost, before, after) = (chain[state], chain[state - 1], chain[state + 1]);
    let second = chain[state + 3];
    for one in [lost, second] {
        made.write((one.log, one.location.segment), u64::from(one.location.offset) + 100, b"rot");
    }
    let out = check_repaired(&made);
    assert!(out.contains(": a user-state of user 2") && out.contains(": a queue-widen of user 2"), "{out}");
    assert_eq!(prev_of(&made, after.location), before.location);
    assert_eq!(prev_of(&made, chain[state + 4].location), chain[state + 2].location);
    // The state of three parts lost its second one: neither it nor what is left of it is in the chain.
    let made = make(true, false);
    let parts =
        chain.iter().position(|one| one.head.kind == 40 && one.body.starts_with(&[1, 0, 3, 0])).unwrap();
    let part = chain[parts];
    made.write((part.log, part.location.segment), u64::from(part.location.offset) + 100, b"rot");
    check_repaired(&made);
    assert_eq!(prev_of(&made, chain[parts + 1].location), Location::NONE);
    assert_eq!(prev_of(&made, chain[parts + 2].location), chain[parts - 2].location);
}

#[test]
fn damage_to_what_holds_records_together_costs_none() {
    let nothing_lost = " 0 losses, 0 sequences missing, ";
    let first = |made: &Made| made.first_log()[1];
    check(|made| made.write(first(made), 16, b"rot"), &[nothing_lost]);
    // A batch's header, and the footer and the seal of a segment, where it has them.
    check(|made| made.write(first(made), 512 + 9, b"rot"), &[]);
    let made = make(true, false);
    let end = made.end(first(&made));
    made.write(first(&made), end - 500, b"rot");
    assert!(check_repaired(&made).contains(nothing_lost));
    let made = make(true, false);
    made.write(first(&made), end - 512, &[0; 512]);
    check_repaired(&made);
}

#[test]
fn lost_segments_leave_their_places() {
    for place in [0, 1, 2, usize::MAX] {
        check(
            |made| {
                let log = made.first_log();
                std::fs::remove_file(made.path(log[place.min(log.len() - 1)])).unwrap();
            },
            &["lost: log 1/0: segment ", "sequences missing"],
        );
    }
    check(
        |made| {
            let last = *made.used.last().unwrap();
            std::fs::remove_file(made.path(last)).unwrap();
        },
        &["is gone, and nothing leads to it"],
    );
}

#[test]
fn segments_cut_short_zeroed_unreadable_or_foreign() {
    let second = |made: &Made| made.first_log()[1];
    let cut = |bytes: u64| {
        move |made: &Made| {
            File::options().write(true).open(made.path(second(made))).unwrap().set_len(bytes).unwrap();
        }
    };
    check(cut(20_000), &[]);
    check(cut(700), &[]);
    check(cut(100), &[]);
    check(|made| made.write(second(made), 0, &vec![0; 64 << 10]), &["lost: log 1/0: segment "]);
    check(|made| made.write(second(made), 4096, &[0; 8192]), &[]);
    // A directory opens, and refuses to be read: what the disk refuses.
    check(
        |made| {
            let path = made.path(second(made));
            std::fs::remove_file(&path).unwrap();
            std::fs::create_dir(&path).unwrap();
        },
        &["lost: log 1/0: segment "],
    );
    check(
        |made| {
            let third = made.path(made.first_log()[2]);
            std::fs::copy(third, made.path(second(made))).unwrap();
        },
        &["left out: ", "or another data directory", "lost: log 1/0: segment "],
    );
}

#[test]
fn a_manifest_that_is_gone_damaged_or_older_is_made_again() {
    check(
        |made| std::fs::remove_file(made.dir.join("MANIFEST")).unwrap(),
        &["made again from the segments", " 0 losses, "],
    );
    check(
        |made| {
            let manifest = made.dir.join("MANIFEST");
            let text = std::fs::read_to_string(&manifest).unwrap();
            std::fs::write(manifest, text.replace("epoch 2 3", "epoch 2 2")).unwrap();
        },
        &["made again from the segments", "the checksum does not match", " 0 losses, "],
    );
    check(
        |made| {
            std::fs::remove_file(made.dir.join("MANIFEST")).unwrap();
            std::fs::remove_file(made.path(made.first_log()[1])).unwrap();
        },
        &["made again from the segments", "lost: log 1/0: segment "],
    );
}

#[test]
fn a_tail_that_was_cut_stays_out() {
    let made = make(false, false);
    let last = made.written.iter().rfind(|one| one.log.epoch == 2).unwrap().clone();
    let of = (last.log, last.location.segment);
    made.write(of, u64::from(last.location.offset) + 24, b"rot");
    let out = check_repaired(&made);
    assert!(out.contains(&format!("cut: log {}: segment {}", of.0, of.1)), "{out}");
    assert!(!sound(&RepairSource::open(&made.copy).unwrap()).iter().any(|one| one.location == last.location));
}

/// Links to what was cut from an older epoch's log came to be when its last batch was still whole.
#[test]
fn links_to_a_tail_that_rotted_after_others_went_on_from_it() {
    let made = make(false, false);
    let newest =
        made.written.iter().rfind(|one| one.log == LogId { epoch: 1, shard: ShardIndex(0) }).unwrap();
    made.write((newest.log, newest.location.segment), u64::from(newest.location.offset) + 24, b"rot");
    check_repaired(&made);
}

/// An empty directory that looked like a log of the epoch 999 gave the copy a thousand logs.
#[test]
fn an_empty_directory_of_somebody_else_is_no_log() {
    for has_manifest in [true, false] {
        let made = make(true, false);
        std::fs::create_dir_all(made.dir.join("log/999/0")).unwrap();
        std::fs::create_dir_all(made.dir.join("log/998")).unwrap();
        if !has_manifest {
            std::fs::remove_file(made.dir.join("MANIFEST")).unwrap();
        }
        let out = check_repaired(&made);
        assert!(out.contains("repair: 5 logs, ") && !out.contains("999"), "{out}");
        assert!(!made.copy.join("log/999").exists() && !made.copy.join("log/3").exists());
    }
}

/// Nothing lives in a segment that was made again, so retention lets it go. If it was the last of an older epoch's log, no header
/// names it then, and the links into it were taken for wrong ones.
#[test]
fn retention_may_let_go_of_what_was_made_again() {
    let made = make(true, false);
    std::fs::remove_file(made.path(*made.first_log().last().unwrap())).unwrap();
    check_repaired(&made);
    let journal = Journal::open(&made.copy, 3);
    assert_eq!(retire(&journal, NOW, |log| Some(log.previous), |_| false).dropped, 1);
    drop(journal);
    let (code, verified, _) = run("verify", &made.copy, &[]);
    assert!(code == Some(0) && verified.contains(" 0 faults"), "{verified}");
}

/// The last batch of a segment had lost its payload, and the header of the next segment, which says where that batch ends, was gone
/// too: the segment was taken to go on to the end of its file, where there is no batch, and could not be written anew.
#[test]
fn a_last_batch_ends_where_it_says() {
    let made = make(true, false);
    let of = made.first_log();
    let place = of.iter().position(|of| made.end(*of) < std::fs::metadata(made.path(*of)).unwrap().len());
    let place = place.unwrap();
    assert!(place + 1 < of.len(), "a segment comes behind it");
    made.write(of[place], made.end(of[place]) - 512 + 96, b"rot");
    made.write(of[place + 1], 0, &[0; 512]);
    check_repaired(&made);
}

/// Nobody is told twice of the same sequence: what is missing is counted once.
#[test]
fn a_lost_stretch_is_counted_by_sequences() {
    let made = make(true, false);
    let gone = made.first_log()[1];
    std::fs::remove_file(made.path(gone)).unwrap();
    let out = check_repaired(&made);
    let is_lost = |one: &&Sound| (one.log, one.location.segment) == gone && one.head.sequence > Sequence(0);
    let lost = made.written.iter().filter(is_lost).count();
    assert!(lost > 5 && out.contains(&format!(" {lost} sequences missing, ")), "{lost}: {out}");
}
