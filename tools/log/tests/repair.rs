//! `tidegate-log repair`: whatever happened to a directory, what holds is in the copy, identical, and the copy is whole.
#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

#[path = "../../../storage/files/tests/journal/mod.rs"]
mod journal;

use journal::{Journal, sums};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;
use tempfile::TempDir;
use tidegate_ids::{Location, LogId, Sequence, ShardIndex, StreamId, StreamKind, UserId, WallMs};
use tidegate_storage_files::{
    CoveredSegments, DirView, RepairSource, Retention, RetentionOptions, RetentionPolicy, Snapshots,
};
use tidegate_storage_log::{Links, NewRecord, ReadSpec, RecordHead, RecordView, read_page, recover};

const USERS: u64 = 5;

/// Bits that are flipped in each segment of 64 KiB.
const FLIPS: [u64; 3] = [200, 100, 30];

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

/// Half of all streams have expired in the first segments.
struct Expire;

impl RetentionPolicy for Expire {
    fn keep_after(&self, stream: &StreamId) -> WallMs {
        if *stream < sums::stream(4) && stream.0[0] != 0x40 { WallMs(u64::MAX) } else { WallMs(0) }
    }
}

fn rewrite_some(journal: &Journal) {
    let covered = CoveredSegments::default();
    for one in &journal.logs {
        let Some(place) = one.recovered.extents.len().checked_sub(3) else { continue };
        covered.set(one.log, one.recovered.ends[place]);
    }
    let options = RetentionOptions { bytes_per_second: 0, look_again_ms: 0, ..RetentionOptions::default() };
    let mut retention = Retention::new(&journal.dir, options, covered);
    retention.pass(&Expire, WallMs(1_700_000_001_000), &AtomicBool::new(false), &mut |_| {}).unwrap();
    assert!(retention.counters().figures().rewritten > 0);
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

#[test]
fn what_cannot_be_repaired_is_said() {
    let made = make(true, false);
    let to = made.copy.to_str().unwrap();
    std::fs::create_dir(&made.copy).unwrap();
    std::fs::write(made.copy.join("something"), b"").unwrap();
    let (code, _, err) = run("repair", &made.dir, &["--to", to]);
    assert_eq!((code, err), (Some(1), format!("tidegate-log: {to} is not empty: name another directory\n")));
    std::fs::remove_dir_all(&made.copy).unwrap();
    let within = made.dir.join("within");
    let (code, _, err) = run("repair", &made.dir, &["--to", within.to_str().unwrap()]);
    assert!(code == Some(1) && err.contains("lies within"), "{err}");
    let _ = std::fs::remove_dir(within);

    let journal = Journal::open(&made.dir, 3);
    let (code, _, err) = run("repair", &made.dir, &["--to", to]);
    let holder = format!("is in use by process {}: stop it first", std::process::id());
    assert!(code == Some(1) && err.contains(&holder), "{err}");
    drop(journal);

    let (code, _, err) = run("repair", made.dir.parent().unwrap(), &["--to", to]);
    assert!(code == Some(1) && err.contains("not a data directory of tidegate"), "{err}");
    // A newer version wrote it.
    let manifest = made.dir.join("MANIFEST");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("tidegate-manifest 1", "tidegate-manifest 3")).unwrap();
    let (code, _, err) = run("repair", &made.dir, &["--to", to]);
    assert!(
        code == Some(1) && err.contains("newer than 2") && err.contains("the version that wrote it"),
        "{err}"
    );
    assert!(!made.copy.join("MANIFEST").exists());
    let (code, _, err) = run("repair", &made.dir, &[]);
    assert!(code == Some(2) && err.contains("--to"), "{err}");
}

/// `--to` named a directory with somebody's files, or the damaged one itself, or one that could not be made: the refusal said that
/// "the copy in it is not whole" and to remove it.
#[test]
fn only_what_a_repair_made_is_named_for_removal() {
    let made = make(true, false);
    let before = files(&made.dir);
    let own = made.dir.to_str().unwrap();
    let beside = made.dir.parent().unwrap();
    std::fs::write(beside.join("file"), b"").unwrap();
    for (to, expected) in [
        (own.to_owned(), "lies within"),
        (beside.to_str().unwrap().to_owned(), "is not empty: name another directory"),
        (beside.join("file").to_str().unwrap().to_owned(), "cannot "),
        (beside.join("file/below").to_str().unwrap().to_owned(), "cannot create directory"),
    ] {
        let (code, _, err) = run("repair", &made.dir, &["--to", &to]);
        assert!(code == Some(1) && err.starts_with("tidegate-log: ") && err.contains(expected), "{err}");
        assert!(!err.contains("not whole") && !err.contains("remove"), "{err}");
    }
    assert_eq!(files(&made.dir), before);
}

/// Runs the tool where no file may grow, as on a disk that is full.
fn run_on_full_disk(action: &str, dir: &Path, more: &[&str]) -> (Option<i32>, String) {
    // Ignored signals stay ignored in what the shell becomes, so that the system refuses the write instead.
    let script = r#"trap '' XFSZ; ulimit -f 0; exec "$0" "$@""#;
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_tidegate-log"), action]).arg(dir).args(more);
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
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

/// What the tool calls a conversation of the directories here.
fn conversation(number: u64) -> String {
    match sums::stream(number).kind() {
        Some(StreamKind::Conversation(id)) => id.to_string(),
        other => panic!("no conversation: {other:?}"),
    }
}

/// A disk that was full left the beginning of the new list behind.
#[test]
fn a_request_to_erase_that_found_no_room_leaves_nothing() {
    let made = make(true, false);
    let ask = |of: u64| [String::from("--conversation"), conversation(of), String::from("--all")];
    let (first, second) = (ask(1), ask(2));
    let (code, _, err) = run("erase", &made.dir, &first.each_ref().map(String::as_str));
    assert_eq!(code, Some(0), "{err}");
    let before = files(&made.dir);
    let (code, err) = run_on_full_disk("erase", &made.dir, &second.each_ref().map(String::as_str));
    assert!(code != Some(0) && err.contains("cannot write ") && err.contains("ERASURES.tmp"), "{err}");
    assert!(!made.dir.join("ERASURES.tmp").exists());
    assert!(files(&made.dir) == before, "the list is as it was");
}

/// What is left of a copy that could not be written is to be removed, but not an operator's directory around it.
#[test]
fn of_a_directory_that_was_there_only_what_is_in_it_is_to_be_removed() {
    let made = make(true, false);
    rot(100)(&made);
    let to = made.copy.to_str().unwrap();
    let (code, err) = run_on_full_disk("repair", &made.dir, &["--to", to]);
    assert!(code == Some(1) && err.contains(&format!("the copy in {to} is not whole, remove it: ")), "{err}");
    assert!(!made.copy.join("MANIFEST").exists());
    std::fs::remove_dir_all(&made.copy).unwrap();
    std::fs::create_dir(&made.copy).unwrap();
    let (code, err) = run_on_full_disk("repair", &made.dir, &["--to", to]);
    let expected = format!("the copy in {to} is not whole, remove what is in it: ");
    assert!(code == Some(1) && err.contains(&expected), "{err}");
}

/// A list of erasures that could not be read was left out of the copy, and the gateway on it gave erased messages out; one that
/// was damaged failed only the copy's verification, after the dry run had said that all was well.
#[test]
fn what_was_erased_is_known_or_there_is_no_copy() {
    let made = make(true, false);
    let list = made.dir.join("ERASURES");
    let to = made.copy.to_str().unwrap();
    let refused = |expected: &str| {
        for more in [&["--dry-run"][..], &["--to", to]] {
            let (code, out, err) = run("repair", &made.dir, more);
            assert!(code == Some(1) && out.is_empty() && !made.copy.exists(), "{out}{err}");
            let way_out = "put it back from a backup, or move it away and ask again for what was not done";
            assert!(err.contains(list.to_str().unwrap()) && err.contains(expected), "{err}");
            assert!(err.contains(way_out) && !err.contains("put a backup back"), "{err}");
        }
    };
    std::fs::create_dir(&list).unwrap();
    refused("without it nobody knows what may be given out: let this user read it");
    std::fs::remove_dir(&list).unwrap();
    // As one that this user may not follow: root may read everything else.
    std::os::unix::fs::symlink("ERASURES", &list).unwrap();
    refused("without it nobody knows what may be given out: let this user read it");
    std::fs::remove_file(&list).unwrap();
    std::fs::write(&list, b"").unwrap();
    refused("line 1: not a tidegate list of erasures");
    std::fs::write(&list, b"tidegate-erasures 1\ncrc32c 00000000\n").unwrap();
    refused("the checksum does not match");
    std::fs::remove_file(&list).unwrap();
    let (code, _, err) =
        run("erase", &made.dir, &["--conversation", &conversation(1), "--sequences", "1..2"]);
    assert_eq!(code, Some(0), "{err}");
    let (code, out, err) = run("repair", &made.dir, &["--to", to]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert_eq!(std::fs::read(made.copy.join("ERASURES")).unwrap(), std::fs::read(&list).unwrap());
}

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
        let covered = CoveredSegments::default();
        journal.logs.iter().for_each(|one| covered.set(one.log, one.recovered.ends[1]));
        let options =
            RetentionOptions { bytes_per_second: 0, look_again_ms: 0, ..RetentionOptions::default() };
        let mut retention = Retention::new(&journal.dir, options, covered);
        retention.pass(&ExpireAll, WallMs(1_800_000_000_000), &AtomicBool::new(false), &mut |_| {}).unwrap();
        assert!(retention.counters().figures().dropped > 0);
    }
    harm(&dir);
    let out = run("repair", &dir, &["--to", temp.path().join("copy").to_str().unwrap()]);
    (temp, out)
}

struct ExpireAll;

impl RetentionPolicy for ExpireAll {
    fn keep_after(&self, _: &StreamId) -> WallMs {
        WallMs(u64::MAX)
    }
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

/// Users' records are folded, and go.
struct ExpireUsers;

impl RetentionPolicy for ExpireUsers {
    fn keep_after(&self, stream: &StreamId) -> WallMs {
        let is_user = matches!(stream.kind(), Some(StreamKind::User(_)));
        WallMs(if is_user { u64::MAX } else { 0 })
    }
}

/// A directory without its snapshots, whose rewritten segments have holes where users' records were: `verify` found no fault in it,
/// though no gateway starts on it and there is nothing to repair it from.
#[test]
fn snapshots_that_alone_held_what_was_let_go_are_missed() {
    let made = make(true, false);
    let journal = Journal::open(&made.dir, 3);
    let covered = CoveredSegments::default();
    journal.logs.iter().for_each(|one| covered.set(one.log, one.recovered.previous));
    let options = RetentionOptions {
        bytes_per_second: 0,
        look_again_ms: 0,
        expired_percent_min: 1,
        ..RetentionOptions::default()
    };
    let mut retention = Retention::new(&journal.dir, options, covered);
    retention.pass(&ExpireUsers, WallMs(1_700_000_001_000), &AtomicBool::new(false), &mut |_| {}).unwrap();
    let figures = retention.counters().figures();
    assert!(figures.rewritten > 0 && figures.dropped == 0, "{figures:?}");
    drop((retention, journal));
    let (code, out, _) = run("verify", &made.dir, &[]);
    assert!(code == Some(1) && out.contains(" holes") && out.contains(" 1 fault"), "{out}");
    let expected = "no snapshot that can be read holds what retention let go of: put a backup back";
    assert!(out.contains(expected), "{out}");
    let (code, out, err) = run("repair", &made.dir, &["--dry-run"]);
    assert!(code == Some(1) && err.contains("none of these can be read: put a backup back"), "{out}{err}");
}

struct KeepAll;

impl RetentionPolicy for KeepAll {
    fn keep_after(&self, _: &StreamId) -> WallMs {
        WallMs(0)
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
    let covered = CoveredSegments::default();
    journal.logs.iter().for_each(|one| covered.set(one.log, one.recovered.previous));
    let options = RetentionOptions { bytes_per_second: 0, look_again_ms: 0, ..RetentionOptions::default() };
    let mut retention = Retention::new(&journal.dir, options, covered);
    retention.pass(&KeepAll, WallMs(1_700_000_001_000), &AtomicBool::new(false), &mut |_| {}).unwrap();
    assert_eq!(retention.counters().figures().dropped, 1);
    drop(journal);
    let (code, verified, _) = run("verify", &made.copy, &[]);
    assert!(code == Some(0) && verified.contains(" 0 faults"), "{verified}");
}

/// Numbers from a seed (splitmix64, Steele and others, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below.max(1)
    }
}

fn harm_at_random(made: &Made, random: &mut Random) {
    let of = made.used[random.next(made.used.len() as u64) as usize];
    let Ok(bytes) = std::fs::metadata(made.path(of)).map(|metadata| metadata.len()) else { return };
    match random.next(10) {
        0 => std::fs::remove_file(made.path(of)).unwrap(),
        1 => File::options().write(true).open(made.path(of)).unwrap().set_len(random.next(bytes)).unwrap(),
        2..=4 => {
            let sector = random.next(bytes / 512) * 512;
            made.write(of, sector, &vec![0; 512 * (1 + random.next(6) as usize)]);
        }
        5 => _ = std::fs::remove_file(made.dir.join("MANIFEST")),
        _ => (0..1 + random.next(20))
            .for_each(|_| made.write(of, random.next(bytes), &[random.next(256) as u8])),
    }
}

/// The seeds to run; `TIDEGATE_REPAIR_SEED` runs one.
fn seeds(usual: Range<u64>) -> Range<u64> {
    match std::env::var("TIDEGATE_REPAIR_SEED") {
        Ok(seed) => seed.parse().map(|seed: u64| seed..seed + 1).unwrap(),
        Err(_) => usual,
    }
}

/// Whatever is flipped, zeroed, cut or removed at random.
#[test]
fn any_harm_is_repaired() {
    for seed in seeds(0..12) {
        println!("seed {seed}");
        let mut random = Random(seed);
        let made = make(random.next(2) == 0, random.next(3) == 0);
        (0..1 + random.next(8)).for_each(|_| harm_at_random(&made, &mut random));
        check_repaired(&made);
    }
}

/// Up to two hundred flipped bits in every segment: lengths and tables of batches rot together, so that many records in a row are one
/// lost stretch, though some of them would still read well alone. The chains of users were left linked to these, the copy failed
/// its verification, and `--dry-run` had said that all was well.
#[test]
fn many_flipped_bits_in_every_segment_are_repaired() {
    for seed in seeds(0..9) {
        println!("seed {seed}");
        let mut random = Random(1000 + seed);
        let made = make(random.next(2) == 0, random.next(3) == 0);
        for &of in &made.used {
            let path = made.path(of);
            let mut bytes = std::fs::read(&path).unwrap();
            for _ in 0..FLIPS[seed as usize % FLIPS.len()] {
                let at = random.next(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << random.next(8);
            }
            std::fs::write(path, bytes).unwrap();
        }
        check_repaired(&made);
    }
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
