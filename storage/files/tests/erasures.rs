//! Asking for records to be erased, and working it off, over real files: nothing that was asked is forgotten, nothing that
//! was erased comes back, whatever the moment of a crash.
#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

mod journal;

use journal::disk::on_disk;
use journal::{Journal, Kept, cover, options};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tidegate_ids::{ConversationId, Location, LogId, Sequence, StreamId, UserId, WallMs};
use tidegate_storage_files::{
    CoveredSegments, DataDir, DirView, ErasureError, ErasureKeeper, ErasureScope, ErasureState, Erasures,
    Retention, RetentionOptions, RetentionPolicy, WhyLeft, ask_erasure, backup, change_erasures,
    load_erasures, recover_all,
};
use tidegate_storage_log::{ErasedRanges, RecordHead, RecordState, SequenceRange};
use tidegate_tests_support::{FileSystem, Volume, can_mount_or_say, copy_folder, noise};

const NOW: WallMs = WallMs(1_800_000_000_000);

fn conversation(number: u64) -> ConversationId {
    ConversationId::direct(UserId(number), UserId(number + 1000))
}

fn stream(number: u64) -> StreamId {
    StreamId::conversation(conversation(number))
}

fn range(from: u64, to: u64) -> SequenceRange {
    SequenceRange::new(Sequence(from), Sequence(to)).unwrap()
}

/// A body that is found again byte by byte, compressed or not.
fn body(at: u64) -> Vec<u8> {
    noise(at, (600 + at % 900) as usize)
}

/// Records over four conversations and two shards, with rolls.
fn fill(journal: &mut Journal, count: u64) -> Vec<Kept> {
    let seed = 100_000 * journal.recovered.len() as u64;
    let mut kept = Vec::new();
    for at in 0..count {
        let number = at % 4;
        let said = body(at + seed);
        kept.push(journal.append((number % 2) as u16, stream(number), &said));
        if at % 7 == 0 {
            journal.commit();
        }
    }
    journal.commit();
    kept
}

fn retention(dir: &DataDir, covered: CoveredSegments) -> Retention {
    // What is cold is left: only what is asked for makes anything change.
    let options = RetentionOptions {
        bytes_per_second: 0,
        reserve_bytes: 0,
        compress_after_ms: u64::MAX,
        ..RetentionOptions::default()
    };
    Retention::new(dir, options, covered)
}

/// What the gateway's policy is, but for days.
struct Policy {
    version: u64,
    pending: ErasedRanges,
}

impl Policy {
    fn of(keeper: &ErasureKeeper) -> Self {
        Self { version: keeper.version(), pending: keeper.list().pending_ranges() }
    }
}

impl RetentionPolicy for Policy {
    fn keep_after(&self, _: &StreamId) -> WallMs {
        WallMs(0)
    }

    fn gone_before(&self, _: &StreamId) -> WallMs {
        WallMs(0)
    }

    fn erasing(&self) -> u64 {
        self.version
    }

    fn may_erase(&self, stream: &StreamId, range: SequenceRange) -> bool {
        self.pending.count_in(stream, range) > 0
    }

    fn is_erased(&self, head: &RecordHead) -> bool {
        self.pending.holds(&head.stream, head.sequence)
    }
}

/// One round of a gateway's thread: look, take, rewrite, write down. `step` is told what was just done.
fn round(keeper: &mut ErasureKeeper, retention: &mut Retention, mut step: impl FnMut(&str)) -> usize {
    keeper.look().unwrap();
    keeper.taken().unwrap();
    step("Taken");
    let policy = Policy::of(keeper);
    let ended =
        retention.erase(&policy, NOW, &AtomicBool::new(false), &mut |done| step(&format!("{done:?}")));
    let whole = ended.is_ok().then_some(&policy.pending);
    let done = keeper.settle(retention, whole, NOW).unwrap();
    step("Settled");
    done.done.len()
}

/// Every record as recovery gives it.
type Found = BTreeMap<(LogId, Location), (RecordState, Vec<u8>)>;

fn read(path: &Path, shards: u16) -> Found {
    let dir = DataDir::open(path, &options(shards)).unwrap();
    let mut found = BTreeMap::new();
    let each = |log, record: tidegate_storage_log::RecordView<'_>| {
        found.insert((log, record.location), (record.placement.state, record.body.to_vec()));
    };
    for log in recover_all(&dir, |_| {}, each).unwrap() {
        assert_eq!((log.recovered.damage_count, log.recovered.cut), (0, None), "{}", log.log);
    }
    found
}

#[test]
fn a_request_is_about_what_was_written() {
    let temp = tempfile::tempdir().unwrap();
    let missing = ask_erasure(temp.path(), conversation(0), ErasureScope::All, "", NOW).unwrap_err();
    assert!(matches!(missing, ErasureError::Open(_)), "{missing}");
    let mut journal = Journal::open(temp.path(), 2);
    fill(&mut journal, 200);
    let ask = |number, scope| ask_erasure(temp.path(), conversation(number), scope, "", NOW);
    let unknown = ask(9, ErasureScope::All).unwrap_err();
    assert!(unknown.to_string().contains("9:1009"), "{unknown}");
    let beyond = ask(2, ErasureScope::Range(range(50, 51))).unwrap_err();
    assert!(beyond.to_string().contains("no record above 50: ask for 50..50"), "{beyond}");
    assert_eq!(load_erasures(temp.path()).unwrap(), Erasures::default(), "a refusal leaves nothing behind");
    let asked = ask(2, ErasureScope::All).unwrap();
    assert_eq!((asked.range, asked.holder), (range(1, 50), Some(std::process::id())));
    // Sealed, by its footer; and after another number of shards, in an older epoch.
    journal.seal();
    let mut journal = Journal::open(temp.path(), 1);
    assert_eq!(ask(3, ErasureScope::All).unwrap().range, range(1, 50));
    journal.append(0, stream(3), b"in the new epoch");
    journal.commit();
    assert_eq!(ask(3, ErasureScope::All).unwrap().range, range(1, 51));
    assert_eq!(ask(1, ErasureScope::Range(range(50, 50))).unwrap().range, range(50, 50));
    drop(journal);
    assert_eq!(ask(0, ErasureScope::Range(range(4, 9))).unwrap().holder, None);
    let list = load_erasures(temp.path()).unwrap();
    assert_eq!(list.pending().len(), 4);
    assert!(list.pending().iter().all(|one| one.state == ErasureState::Asked));
}

#[test]
fn one_at_a_time_changes_the_list() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path();
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            scope.spawn(move || {
                for at in 0..10_u64 {
                    let one = range(100 * thread + 2 * at + 1, 100 * thread + 2 * at + 1);
                    let asked = change_erasures(path, Duration::from_secs(60), |list| {
                        Ok(list.ask(stream(1), one, NOW, "")?)
                    });
                    asked.unwrap();
                }
            });
        }
    });
    assert_eq!(load_erasures(path).unwrap().pending().len(), 80);
    let inner = change_erasures(path, Duration::ZERO, |_| {
        Ok(change_erasures(path, Duration::ZERO, |_| Ok(())).unwrap_err().to_string())
    });
    assert!(inner.unwrap().contains("another process is changing"));
    // A crash before the rename leaves a temporary file, of which nobody takes note.
    std::fs::write(path.join("ERASURES.tmp"), b"half of a li").unwrap();
    change_erasures(path, Duration::ZERO, |list| Ok(list.ask(stream(2), range(1, 1), NOW, "")?)).unwrap();
    assert_eq!(load_erasures(path).unwrap().pending().len(), 81);
    std::fs::write(path.join("ERASURES"), b"tidegate-erasures 1\ncrc32c 00000000\n").unwrap();
    let refused = load_erasures(path).unwrap_err().to_string();
    assert!(refused.contains("ERASURES") && refused.contains("checksum"), "{refused}");
}

#[test]
fn a_keeper_notices_and_writes_down() {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 2);
    let kept = fill(&mut journal, 200);
    journal.seal();
    let journal = Journal::open(temp.path(), 2);
    let mut retention = retention(&journal.dir, cover(&journal.dir));
    let mut keeper = ErasureKeeper::open(&journal.dir).unwrap();
    assert_eq!((keeper.version(), keeper.look().unwrap()), (0, false));
    let ask = |number, from, to| {
        ask_erasure(temp.path(), conversation(number), ErasureScope::Range(range(from, to)), "", NOW)
            .unwrap();
    };
    ask(0, 3, 9);
    assert!(keeper.look().unwrap());
    let version = keeper.version();
    assert!(version > 0 && !keeper.look().unwrap());
    keeper.taken().unwrap();
    assert_eq!(load_erasures(temp.path()).unwrap().pending()[0].state, ErasureState::Taken);
    assert_eq!(round(&mut keeper, &mut retention, |_| {}), 1);
    let list = load_erasures(temp.path()).unwrap();
    assert_eq!((list.pending().len(), list.done().len(), list.done()[0].erased), (0, 1, 7));
    assert_eq!(list.done()[0].state, ErasureState::Done(NOW));
    // Nothing is given out of it for as long as it is listed: a read may be under way.
    assert!(keeper.list().all_ranges().holds(&stream(0), Sequence(3)));
    assert_eq!((keeper.version(), keeper.look().unwrap()), (0, false));
    // The same once more is looked for once more, and found to be done.
    ask(0, 1, 9);
    assert!(keeper.look().unwrap() && keeper.version() > version);
    assert_eq!(round(&mut keeper, &mut retention, |_| {}), 1);
    let list = load_erasures(temp.path()).unwrap();
    assert_eq!((list.done().len(), list.done()[0].range, list.done()[0].erased), (1, range(1, 9), 9));
    drop((journal, retention));
    let gone: Vec<&Kept> = kept.iter().filter(|one| one.stream == stream(0) && one.sequence <= 9).collect();
    assert_eq!(on_disk(temp.path(), &gone), BTreeSet::new());
}

/// What is asked while a pass is under way was not looked for by it, and none of it is left anywhere it knows of: it counted as
/// done without a byte having changed.
#[test]
fn what_is_asked_during_a_pass_is_not_done_by_it() {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 2);
    fill(&mut journal, 200);
    journal.seal();
    let journal = Journal::open(temp.path(), 2);
    let mut retention = retention(&journal.dir, cover(&journal.dir));
    let mut keeper = ErasureKeeper::open(&journal.dir).unwrap();
    let ask = |number| {
        let scope = ErasureScope::Range(range(1, 9));
        ask_erasure(temp.path(), conversation(number), scope, "", NOW).unwrap();
    };
    ask(0);
    keeper.look().unwrap();
    let policy = Policy::of(&keeper);
    retention.erase(&policy, NOW, &AtomicBool::new(false), &mut |_| {}).unwrap();
    ask(1);
    assert!(keeper.look().unwrap());
    let settled = keeper.settle(&mut retention, Some(&policy.pending), NOW).unwrap();
    assert_eq!((settled.done.len(), settled.done[0].stream, settled.records), (1, stream(0), 9));
    // Nor is anything done by a pass that did not come to its end.
    assert_eq!(keeper.settle(&mut retention, None, NOW).unwrap().done.len(), 0);
    assert_eq!(load_erasures(temp.path()).unwrap().pending().len(), 1);
    assert_eq!(round(&mut keeper, &mut retention, |_| {}), 1);
}

/// An erasure does not wait for what has expired, and touches nothing else.
#[test]
fn erasing_leaves_alone_what_it_is_not_about() {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 2);
    fill(&mut journal, 300);
    journal.seal();
    let journal = Journal::open(temp.path(), 2);
    let options = RetentionOptions { bytes_per_second: 0, reserve_bytes: 0, ..RetentionOptions::default() };
    let mut retention = Retention::new(&journal.dir, options, cover(&journal.dir));
    let mut keeper = ErasureKeeper::open(&journal.dir).unwrap();
    let scope = ErasureScope::Range(range(1, 1));
    ask_erasure(temp.path(), conversation(0), scope, "", NOW).unwrap();
    let mut rewritten = 0;
    let mut count = |step: &str| rewritten += u32::from(step.starts_with("Rewritten"));
    assert_eq!(round(&mut keeper, &mut retention, &mut count), 1);
    assert_eq!(rewritten, 1);
    // Everything is cold, and is compressed in its turn.
    let policy = Policy::of(&keeper);
    retention.pass(&policy, NOW, &AtomicBool::new(false), &mut |_| {}).unwrap();
    assert!(retention.counters().figures().rewritten > 3);
}

/// Segments that are written to, or that no two snapshots hold yet, hold what was asked for: it is not done.
#[test]
fn what_cannot_be_touched_yet_is_not_done() {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 2);
    fill(&mut journal, 400);
    let last = journal.last(stream(0)).1;
    let covered = CoveredSegments::default();
    let mut retention = retention(&journal.dir, covered.clone());
    let mut keeper = ErasureKeeper::open(&journal.dir).unwrap();
    let all = ErasureScope::Range(range(1, last.0));
    ask_erasure(temp.path(), conversation(0), all, "", NOW).unwrap();
    assert_eq!(round(&mut keeper, &mut retention, |step| assert!(!step.contains('('), "{step}")), 0);
    let log = LogId { epoch: 1, shard: tidegate_ids::ShardIndex(0) };
    let left = retention.left_to_erase();
    assert!(left.iter().all(|left| left.log == log), "{left:?}");
    assert!(left.iter().all(|left| left.may_hold(&stream(0), range(1, 400)) && !left.may_hold(&stream(2), range(1, 400))));
    let open = left.iter().filter(|left| left.why == WhyLeft::Open).count();
    assert!(open == 1 && left.len() > 2, "{left:?}");
    let segments: Vec<u32> = left.iter().map(|left| left.segment).collect();
    assert!(segments.is_sorted());
    // Of the first records only the first segments are in the way.
    drop((keeper, retention));
    journal.seal();
    let journal = Journal::open(temp.path(), 2);
    std::fs::remove_file(temp.path().join("ERASURES")).unwrap();
    ask_erasure(temp.path(), conversation(0), ErasureScope::Range(range(1, 2)), "", NOW).unwrap();
    let mut keeper = ErasureKeeper::open(&journal.dir).unwrap();
    let mut retention = self::retention(&journal.dir, covered.clone());
    assert_eq!(round(&mut keeper, &mut retention, |_| {}), 0);
    let left: Vec<(u32, WhyLeft)> =
        retention.left_to_erase().iter().map(|left| (left.segment, left.why)).collect();
    assert_eq!(left, [(segments[0], WhyLeft::Uncovered)]);
    // As soon as it is covered it is done.
    let ends = recover_all(&journal.dir, |_| {}, |_, _| {}).unwrap();
    covered.set(log, ends.iter().find(|one| one.log == log).unwrap().recovered.ends[0]);
    assert_eq!(round(&mut keeper, &mut retention, |_| {}), 1);
    assert_eq!(retention.left_to_erase(), []);
}

/// A damaged segment is not rewritten, and so what was asked for stays pending, for as long as it takes.
#[test]
fn what_is_in_a_damaged_segment_stays_pending() {
    use std::os::unix::fs::FileExt;
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 2);
    let kept = fill(&mut journal, 200);
    journal.seal();
    let journal = Journal::open(temp.path(), 2);
    let covered = cover(&journal.dir);
    let hit = kept.iter().find(|one| one.stream == stream(0)).unwrap();
    let (log, segment) = (hit.log, hit.location.segment);
    let path = temp.path().join(format!("log/{}/{}/{segment}.seg", log.epoch, log.shard));
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(b"rot", u64::from(hit.location.offset) + 100).unwrap();
    let mut retention = retention(&journal.dir, covered);
    let mut keeper = ErasureKeeper::open(&journal.dir).unwrap();
    ask_erasure(temp.path(), conversation(0), ErasureScope::Range(range(1, 50)), "", NOW).unwrap();
    ask_erasure(temp.path(), conversation(1), ErasureScope::Range(range(1, 50)), "", NOW).unwrap();
    for _ in 0..2 {
        let mut rewritten = Vec::new();
        round(&mut keeper, &mut retention, |step| rewritten.push(step.to_owned()));
        let left = retention.left_to_erase();
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!((left[0].segment, left[0].why), (segment, WhyLeft::Damaged));
        assert!(!rewritten.contains(&format!("Rewritten({segment})")));
    }
    let list = load_erasures(temp.path()).unwrap();
    assert_eq!((list.pending().len(), list.pending()[0].stream), (1, stream(0)));
    assert_eq!((list.done().len(), list.done()[0].stream), (1, stream(1)));
    assert!(list.pending()[0].erased < 50 && list.done()[0].erased == 50);
}

/// What a killed gateway leaves at any step of taking a request, rewriting and writing down is what the next one goes on from:
/// the request is not lost, what was erased does not come back, and in the end no file holds it.
#[test]
fn a_crash_at_any_step_forgets_nothing_and_brings_nothing_back() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    let mut journal = Journal::open(&data, 2);
    // The first segment of the second shard holds nothing but this: it goes as a whole.
    let alone = (0..160).map(|at| journal.append(1, stream(3), &body(7_000_000 + at)));
    let mut kept: Vec<Kept> = alone.collect();
    kept.extend(fill(&mut journal, 160));
    journal.seal();
    let mut journal = Journal::open(&data, 2);
    kept.extend(fill(&mut journal, 40));
    journal.seal();
    let journal = Journal::open(&data, 2);
    let newest = journal.last(stream(0)).1.0;
    let asked = [(0, range(5, newest)), (1, range(1, 30)), (3, range(1, 160))];
    let is_meant = |one: &Kept| {
        asked
            .iter()
            .any(|(number, range)| one.stream == stream(*number) && range.holds(Sequence(one.sequence)))
    };
    let meant: Vec<&Kept> = kept.iter().filter(|one| is_meant(one)).collect();
    let mut copies: Vec<(String, bool)> = Vec::new();
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    let mut keep = |step: &str, is_asked: bool| {
        let kind = step.split('(').next().unwrap().to_owned();
        let times = times.entry(kind.clone()).or_default();
        *times += 1;
        if *times <= 3 {
            let name = format!("{kind}-{times}");
            copy_folder(&data, &temp.path().join(&name));
            copies.push((name, is_asked));
        }
    };
    keep("Before", false);
    for (number, range) in asked {
        ask_erasure(&data, conversation(number), ErasureScope::Range(range), "a case", NOW).unwrap();
        keep("Asked", number == 3);
    }
    let mut keeper = ErasureKeeper::open(&journal.dir).unwrap();
    let mut retention = retention(&journal.dir, cover(&journal.dir));
    assert_eq!(round(&mut keeper, &mut retention, |step| keep(step, true)), 3);
    drop((keeper, retention, journal));
    let kinds: Vec<&str> = times.keys().map(String::as_str).collect();
    let all =
        ["Asked", "Before", "Dropped", "Renamed", "Rewritten", "Settled", "Taken", "Unnamed", "Written"];
    assert_eq!(kinds, all);
    assert_eq!(on_disk(&data, &meant), BTreeSet::new());
    for (name, is_asked) in copies {
        check_goes_on(&temp.path().join(&name), &kept, &meant, is_asked);
    }
}

/// A gateway that starts on what a crash left works off what was asked before it, and nothing else.
#[track_caller]
fn check_goes_on(path: &Path, kept: &[Kept], meant: &[&Kept], is_asked: bool) {
    let name = path.display();
    // Half of a temporary list, as a crash leaves one.
    std::fs::write(path.join("ERASURES.tmp"), b"tidegate-era").unwrap();
    let told = load_erasures(path).unwrap().all_ranges();
    let is_told = |one: &Kept| told.holds(&one.stream, Sequence(one.sequence));
    assert_eq!(meant.iter().all(|one| is_told(one)), is_asked, "{name}");
    let journal = Journal::open(path, 2);
    let mut keeper = ErasureKeeper::open(&journal.dir).unwrap();
    let mut retention = retention(&journal.dir, cover(&journal.dir));
    let pending = keeper.list().pending().len();
    assert_eq!(round(&mut keeper, &mut retention, |_| {}), pending, "{name}");
    assert_eq!(keeper.list().pending().len(), 0, "{name}");
    drop((keeper, retention, journal));
    if is_asked {
        assert_eq!(on_disk(path, meant), BTreeSet::new(), "{name}");
    }
    let found = read(path, 2);
    for one in kept {
        let Some((state, body)) = found.get(&(one.log, one.location)) else {
            assert!(is_told(one), "{name}: {one:?} is lost");
            continue;
        };
        let is_hole = *state == RecordState::Erased && body.is_empty();
        assert!(!is_told(one) || is_hole, "{name}: {one:?} is back");
        assert!(is_told(one) || *body == one.body, "{name}: {one:?} is not what it was");
    }
    assert_eq!(DirView::open(path).unwrap().problems(), [], "{name}");
}

/// The power fails the moment that somebody was told that a request is taken down, or that it is done.
#[test]
fn what_the_list_says_is_so_after_a_power_cut() {
    if !can_mount_or_say(1) {
        return;
    }
    for is_done in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut volume = Volume::new(folder.path(), FileSystem::Ext4, 32).unwrap();
        let data = volume.path().join("data");
        let mut journal = Journal::open(&data, 2);
        let kept = fill(&mut journal, 120);
        journal.seal();
        let journal = Journal::open(&data, 2);
        let meant: Vec<&Kept> =
            kept.iter().filter(|one| one.stream == stream(1) && one.sequence <= 20).collect();
        let mut keeper = ErasureKeeper::open(&journal.dir).unwrap();
        let mut retention = retention(&journal.dir, cover(&journal.dir));
        let scope = ErasureScope::Range(range(1, 20));
        ask_erasure(&data, conversation(1), scope, "", NOW).unwrap();
        if is_done {
            assert_eq!(round(&mut keeper, &mut retention, |_| {}), 1);
        }
        volume.cut_power().unwrap();
        drop((keeper, retention, journal));
        volume.restart().unwrap();
        let list = load_erasures(&data).unwrap();
        assert_eq!((list.pending().len(), list.done().len()), if is_done { (0, 1) } else { (1, 0) });
        assert_eq!(on_disk(&data, &meant).is_empty(), is_done);
        check_goes_on(&data, &kept, &meant, true);
    }
}

/// A power cut tears the last batch, and its author says it again: the torn half lay behind the end of a segment for good, and
/// a segment whose first write was torn was never looked at.
#[test]
fn what_was_torn_and_said_again_goes_too() {
    use std::os::unix::fs::FileExt;
    for is_first in [false, true] {
        let temp = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(temp.path(), 1);
        let mut before = None;
        for at in 0..if is_first { 0 } else { 5 } {
            before = Some(journal.append(0, stream(0), &body(at)));
            journal.commit();
        }
        let said = journal.append(0, stream(1), &body(77));
        journal.commit();
        drop(journal);
        // The batch's first sector never reached the disk.
        let path = temp.path().join(format!("log/1/0/{}.seg", said.location.segment));
        let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
        let start = u64::from(said.location.offset) / 512 * 512;
        let from = if is_first { 0 } else { start };
        file.write_all_at(&vec![0; (start - from) as usize + 512], from).unwrap();
        let end = file.metadata().unwrap().len().min(start + 4096);
        let mut rest = vec![0; (end - start) as usize];
        file.read_exact_at(&mut rest, start).unwrap();
        let tail = &said.body[said.body.len() - 16..];
        let torn = rest.windows(16).any(|window| window == tail);
        // The trailer would make good for a lost header: it is gone as well.
        let last = rest.iter().rposition(|byte| *byte != 0).unwrap();
        let trailer = start + (last as u64 / 512 * 512) + 448;
        file.write_all_at(&[0; 64], trailer).unwrap();
        assert!(torn, "the torn half holds what was said");

        let mut journal = Journal::open(temp.path(), 1);
        let again = journal.append(0, stream(1), &body(77));
        journal.commit();
        journal.seal();
        let journal = Journal::open(temp.path(), 1);
        assert_eq!(again.sequence, 1, "it was never acknowledged");
        let tails = tidegate_storage_files::SegmentTails::new(&journal.dir);
        for log in &journal.logs {
            for extent in &log.recovered.extents {
                tails.release(log.log, extent.segment, extent.end).unwrap();
            }
        }
        ask_erasure(temp.path(), conversation(1), ErasureScope::All, "", NOW).unwrap();
        let mut keeper = ErasureKeeper::open(&journal.dir).unwrap();
        let mut retention = retention(&journal.dir, cover(&journal.dir));
        assert_eq!(round(&mut keeper, &mut retention, |_| {}), 1);
        drop((keeper, retention, journal, tails));
        assert_eq!(on_disk(temp.path(), &[&again]), BTreeSet::new(), "the first: {is_first}");
        let found = read(temp.path(), 1);
        if let Some(before) = before {
            assert_eq!(found[&(before.log, before.location)].1, before.body);
        }
    }
}

/// A backup holds segments as they were: what was asked before it, or while it was made, is asked of whoever starts on it.
#[test]
fn a_backup_carries_what_was_asked() {
    let temp = tempfile::tempdir().unwrap();
    let (data, copy) = (temp.path().join("data"), temp.path().join("copy"));
    let mut journal = Journal::open(&data, 2);
    let kept = fill(&mut journal, 200);
    journal.seal();
    let journal = Journal::open(&data, 2);
    let mut keeper = ErasureKeeper::open(&journal.dir).unwrap();
    let mut retention = retention(&journal.dir, cover(&journal.dir));
    ask_erasure(&data, conversation(0), ErasureScope::Range(range(1, 9)), "before", NOW).unwrap();
    let mut is_done = false;
    let done = backup(&data, &copy, true, |_| {
        // While it is under way everything is erased, and more is asked for.
        if !std::mem::replace(&mut is_done, true) {
            assert_eq!(round(&mut keeper, &mut retention, |_| {}), 1);
            ask_erasure(&data, conversation(1), ErasureScope::Range(range(2, 2)), "meanwhile", NOW).unwrap();
        }
    });
    assert_eq!(done.unwrap().erasures, 2);
    let list = load_erasures(&copy).unwrap();
    assert_eq!((list.pending().len(), list.done().len()), (2, 0));
    assert!(list.pending().iter().all(|one| one.state == ErasureState::Asked));
    drop((keeper, retention, journal));
    let journal = Journal::open(&copy, 2);
    let mut keeper = ErasureKeeper::open(&journal.dir).unwrap();
    let mut retention = self::retention(&journal.dir, cover(&journal.dir));
    assert_eq!(round(&mut keeper, &mut retention, |_| {}), 2);
    drop((keeper, retention, journal));
    let told = load_erasures(&copy).unwrap().all_ranges();
    let gone: Vec<&Kept> =
        kept.iter().filter(|one| told.holds(&one.stream, Sequence(one.sequence))).collect();
    assert_eq!(gone.len(), 10);
    assert_eq!(on_disk(&copy, &gone), BTreeSet::new());
    // A directory in which nobody ever asked has no list, and its copy has none.
    let again = temp.path().join("again");
    std::fs::remove_file(data.join("ERASURES")).unwrap();
    assert_eq!(backup(&data, &again, true, |_| {}).unwrap().erasures, 0);
    assert!(!again.join("ERASURES").exists());
}
