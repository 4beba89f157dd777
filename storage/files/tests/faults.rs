//! A disk that refuses reads, or files that are cut or gone under a process: damage, and never its end.
//!
//! A file that is a link to `/proc/self/mem` refuses every read below the first mapped page with EIO, without any right or
//! device; a cut file gives short reads, where a map would kill the process.

#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

mod journal;

use journal::sums::{Sums, build, check, closed, fill};
use journal::{Journal, Kept, options};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use tidegate_ids::{LogId, Sequence, ShardIndex, StreamId, WallMs};
use tidegate_storage_files::{
    BuildError, CoveredSegments, DataDir, ReadPool, ReadRequest, ReadWhat, Retention, RetentionOptions,
    RetentionPolicy, RetentionStep, SnapshotPlan, Snapshots, recover_all,
};
use tidegate_storage_log::{DamageKind, Direction, Loss, PackedRecords, ReadSpec};

const FIRST: LogId = LogId { epoch: 1, shard: ShardIndex(0) };

fn segment_path(root: &Path, segment: u32) -> PathBuf {
    root.join(format!("log/1/0/{segment}.seg"))
}

/// What a file turns into.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Every read is refused with EIO.
    Refused,
    /// It ends early.
    Cut,
    /// It is not there.
    Gone,
}

const FAULTS: [Fault; 3] = [Fault::Refused, Fault::Cut, Fault::Gone];

impl Fault {
    fn strike(self, path: &Path) {
        match self {
            Self::Refused => {
                std::fs::rename(path, path.with_extension("kept")).unwrap();
                std::os::unix::fs::symlink("/proc/self/mem", path).unwrap();
            }
            Self::Cut => {
                std::fs::copy(path, path.with_extension("kept")).unwrap();
                std::fs::File::options().write(true).open(path).unwrap().set_len(20_000).unwrap();
            }
            Self::Gone => std::fs::rename(path, path.with_extension("kept")).unwrap(),
        }
    }

    /// The disk gives it again.
    fn mend(path: &Path) {
        std::fs::rename(path.with_extension("kept"), path).unwrap();
    }
}

/// The segments of the first shard that hold records, rising.
fn segments_of(kept: &[Kept]) -> Vec<u32> {
    let own = kept.iter().filter(|one| one.log == FIRST).map(|one| one.location.segment);
    own.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Whether a record cannot be had: of a cut file the front can.
fn is_lost(one: &Kept, segment: u32, fault: Fault) -> bool {
    let whole = one.location.offset as usize + 96 + one.body.len() <= 20_000;
    one.log == FIRST && one.location.segment == segment && !(matches!(fault, Fault::Cut) && whole)
}

fn written(path: &Path) -> (Journal, Vec<Kept>) {
    let mut journal = Journal::open(path, 2);
    let kept = fill(&mut journal, 600);
    drop(journal);
    (Journal::open(path, 2), kept)
}

/// A sector that was refused while a log was walked, or its tail was synced, ended the start.
#[test]
fn a_start_walks_round_what_it_cannot_read() {
    for fault in FAULTS {
        let temp = tempfile::tempdir().unwrap();
        let (journal, kept) = written(temp.path());
        drop(journal);
        let segments = segments_of(&kept);
        assert!(segments.len() > 4);
        // One in the middle, and the newest, which was not sealed and is synced again.
        for segment in [segments[1], segments[segments.len() - 1]] {
            // A newest file that is shorter than it was made is refused before its log is walked.
            if matches!(fault, Fault::Cut) && segment != segments[1] {
                continue;
            }
            let dir = DataDir::open(temp.path(), &options(2)).unwrap();
            let path = segment_path(temp.path(), segment);
            fault.strike(&path);
            let mut found = Vec::new();
            let logs = recover_all(&dir, |_| {}, |log, record| found.push((log, record.location))).unwrap();
            let all = kept.iter().filter(|one| !is_lost(one, segment, fault));
            let mut expected: Vec<_> = all.map(|one| (one.log, one.location)).collect();
            expected.sort();
            found.sort();
            assert_eq!(found, expected, "{fault:?} {segment}");
            let recovered = &logs[0].recovered;
            assert!(
                recovered.damage.iter().all(|damage| damage.segment == segment),
                "{:?}",
                recovered.damage
            );
            assert!(!recovered.lost.is_empty(), "{fault:?} {segment}: {recovered:?}");
            Fault::mend(&path);
        }
    }
}

fn page(journal: &Journal, of: StreamId) -> ReadSpec {
    let (last, last_sequence) = journal.last(of);
    let (from, to, direction) = (Sequence(1), last_sequence, Direction::Ascending);
    ReadSpec::Range { stream: of, last, last_sequence, from, to, limit: 100, bytes_max: 1 << 20, direction }
}

#[test]
fn a_reader_thread_answers_what_can_be_read_and_says_how_much_cannot() {
    for fault in FAULTS {
        let temp = tempfile::tempdir().unwrap();
        let (journal, kept) = written(temp.path());
        let segments = segments_of(&kept);
        let segment = segments[segments.len() - 2];
        let stream = kept.iter().find(|one| one.location.segment == segment).unwrap().stream;
        let (woken, wakes) = mpsc::channel();
        let mut pool = ReadPool::start(&journal.dir, 1, Box::new(move || _ = woken.send(()))).unwrap();
        let mut ask = |token| {
            let what = ReadWhat::Page(page(&journal, stream), None);
            pool.try_read(ReadRequest { token, what, records: Vec::new() }).unwrap();
            wakes.recv().unwrap();
            let reply = pool.take().unwrap();
            let sequences =
                PackedRecords(&reply.records).iter().map(|record| record.head.sequence.0).collect();
            (reply.result.unwrap(), sequences)
        };
        let own: Vec<&Kept> = kept.iter().filter(|one| one.stream == stream).collect();
        let path = segment_path(temp.path(), segment);
        // Before the thread has opened anything of it.
        fault.strike(&path);
        let (end, sequences): (_, Vec<u64>) = ask(1);
        let lost = own.iter().filter(|one| is_lost(one, segment, fault)).count();
        assert!(lost > 0);
        assert!(end.damaged as usize >= lost, "{fault:?}: {end:?}");
        assert_eq!(sequences.len() + end.damaged as usize, own.len(), "{fault:?}: {end:?}");
        let sound = |sequence: &u64| !is_lost(own[*sequence as usize - 1], segment, fault);
        assert!(sequences.iter().all(sound), "{fault:?}");
        assert_eq!(end.first_available, None, "nothing was let go");
        Fault::mend(&path);
        if matches!(fault, Fault::Gone) {
            let (end, sequences) = ask(2);
            assert_eq!((end.damaged, sequences.len()), (0, own.len()), "it is there again");
        }
    }
}

#[test]
fn a_snapshot_waits_for_what_cannot_be_read_and_is_made_when_it_can() {
    for fault in FAULTS {
        let temp = tempfile::tempdir().unwrap();
        let (journal, kept) = written(temp.path());
        let mut snapshots = Snapshots::open(&journal.dir).unwrap();
        let segment = segments_of(&kept)[2];
        let path = segment_path(temp.path(), segment);
        fault.strike(&path);
        let refused = build(&journal, &mut snapshots, usize::MAX).unwrap_err();
        let is_told = match &refused {
            BuildError::Damaged { segment: at, .. } => *at == segment,
            BuildError::Merge(error) => {
                matches!(fault, Fault::Gone) && error.to_string().contains("cannot be read")
            }
            _ => false,
        };
        assert!(is_told && snapshots.newest().is_none(), "{fault:?}: {refused}");
        Fault::mend(&path);
        check(&build(&journal, &mut snapshots, usize::MAX).unwrap().file, &kept);
    }
}

/// A segment that went bad under a running gateway was folded without its bad records, and the snapshot then said that their
/// conversations ended before them: the next message of one got a sequence that had been given.
#[test]
fn a_snapshot_over_late_damage_says_how_far_conversations_went() {
    let temp = tempfile::tempdir().unwrap();
    let (journal, kept) = written(temp.path());
    let mut snapshots = Snapshots::open(&journal.dir).unwrap();
    let segment = segments_of(&kept)[2];
    let path = segment_path(temp.path(), segment);
    let (segments, covered) = closed(&journal, 3);
    // The last record of each stream there: no one in these snapshots comes after it.
    let mut ends: Vec<(StreamId, u64)> = Vec::new();
    let mut bytes = std::fs::read(&path).unwrap();
    for one in kept.iter().filter(|one| one.location.segment == segment) {
        ends.retain(|(stream, _)| *stream != one.stream);
        ends.push((one.stream, one.sequence));
        bytes[one.location.offset as usize + 100] ^= 1;
    }
    std::fs::write(&path, bytes).unwrap();
    let damage = [segment];
    let plan = SnapshotPlan {
        known_damage: &damage,
        late_damage: &damage,
        memory_bytes: 2048,
        ..SnapshotPlan::new(&segments, covered, None)
    };
    let mut fold = Ends(Sums::default());
    let built = snapshots.build(&plan, &mut fold, &AtomicBool::new(false)).unwrap();
    let mut state = Vec::new();
    for (stream, sequence) in ends {
        let place = journal::sums::place(&stream);
        built.file.read_entry(place, &stream, &mut state).unwrap().unwrap();
        assert_eq!(journal::sums::parse(&state)[2], sequence, "{stream}");
    }
    // Without a footer that says so, it is left to a start.
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end - 80] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let refused = Snapshots::open(&journal.dir).unwrap().build(
        &SnapshotPlan { previous: None, ..plan },
        &mut Ends(Sums::default()),
        &AtomicBool::new(false),
    );
    assert!(
        matches!(refused, Err(BuildError::EndUnknown { segment: at, .. }) if at == segment),
        "{refused:?}"
    );
}

/// Sums, and how far each stream went.
struct Ends(Sums);

impl tidegate_storage_log::Fold for Ends {
    fn place(&self, stream: &StreamId) -> Option<tidegate_ids::VirtualShard> {
        self.0.place(stream)
    }

    fn reduce(&self, record: &tidegate_storage_log::RecordView<'_>, out: &mut Vec<u8>) -> bool {
        self.0.reduce(record, out)
    }

    fn reduce_lost(&self, _: &StreamId, through: Sequence, out: &mut Vec<u8>) -> bool {
        [0, 0, through.0].iter().for_each(|part| out.extend_from_slice(&part.to_le_bytes()));
        true
    }

    fn begin(&mut self, stream: &StreamId, base: Option<&[u8]>) {
        self.0.begin(stream, base);
    }

    fn apply(&mut self, _: tidegate_ids::Location, reduced: &[u8]) {
        let [sum, count, sequence] = journal::sums::parse(reduced);
        assert!(sequence > self.0.state[2], "in order, and once");
        self.0.state = [self.0.state[0] + sum, self.0.state[1] + count, sequence];
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> bool {
        self.0.finish(out)
    }
}

/// Keeps nothing.
struct AllGoes;

impl RetentionPolicy for AllGoes {
    fn keep_after(&self, _: &StreamId) -> WallMs {
        WallMs(u64::MAX)
    }

    fn gone_before(&self, _: &StreamId) -> WallMs {
        WallMs(u64::MAX)
    }
}

#[test]
fn retention_leaves_a_segment_that_it_cannot_read() {
    for fault in FAULTS {
        let temp = tempfile::tempdir().unwrap();
        let (journal, kept) = written(temp.path());
        let covered = CoveredSegments::default();
        for log in &journal.logs {
            let place = log.recovered.ends.len() - 2;
            covered.set(log.log, log.recovered.ends[place]);
        }
        let options =
            RetentionOptions { bytes_per_second: 0, reserve_bytes: 0, ..RetentionOptions::default() };
        let mut retention = Retention::new(&journal.dir, options, covered);
        let segments = segments_of(&kept);
        let (segment, path) = (segments[1], segment_path(temp.path(), segments[1]));
        fault.strike(&path);
        let mut damaged = Vec::new();
        let now = WallMs(1_800_000_000_000);
        let passed = retention.pass(&AllGoes, now, &AtomicBool::new(false), &mut |step| {
            if let RetentionStep::Damaged(segment) = step {
                damaged.push(segment);
            }
        });
        let figures = retention.counters().figures();
        passed.unwrap();
        assert!(!damaged.is_empty() && damaged.iter().all(|at| *at == segment), "{fault:?}: {damaged:?}");
        assert_eq!(figures.damaged, damaged.len() as u64);
        assert!(figures.dropped > 1, "others are let go: {figures:?}");
        Fault::mend(&path);
        let manifest = std::fs::read_to_string(temp.path().join("MANIFEST")).unwrap();
        let line = manifest.lines().find(|line| line.starts_with("log 1 0 ")).unwrap();
        assert!(line.split(' ').any(|number| number == segment.to_string()), "{line}");
    }
}

/// The newest messages of a conversation were damaged, and the next one got the sequence of the first of them: clients that
/// had it dropped the new one as known.
#[test]
fn what_is_lost_is_answered_with_a_new_incarnation_once() {
    let temp = tempfile::tempdir().unwrap();
    let (journal, _) = written(temp.path());
    drop(journal);
    let open = || DataDir::open(temp.path(), &options(2)).unwrap();
    let loss = |from, to| Loss { segment: 1, from, to, record: None };
    let mut before = open().incarnation();
    let mut check_start = |lost: &[Loss], ends_early: bool, renewed: bool| {
        let mut dir = open();
        assert_eq!(dir.incarnation(), before, "opening alone changes nothing");
        assert_eq!(dir.account_for(lost, ends_early).unwrap(), renewed, "{lost:?}");
        assert_eq!(dir.incarnation() != before, renewed);
        assert_eq!(dir.identity(ShardIndex(1)).incarnation, dir.incarnation(), "segments say so, too");
        assert_eq!(Snapshots::open(&dir).unwrap().incarnation(), dir.incarnation());
        before = dir.incarnation();
    };
    check_start(&[], false, false);
    check_start(&[loss(512, 1024)], false, true);
    check_start(&[loss(512, 1024)], false, false);
    check_start(&[loss(512, 1024), loss(2048, 2560)], false, true);
    check_start(&[loss(2048, 2560)], false, false);
    check_start(&[loss(512, 1024), loss(2048, 2560)], false, false);
    check_start(&[loss(512, 1025)], false, true);
    check_start(&[], true, true);
    check_start(&[], false, false);
    let manifest = std::fs::read_to_string(temp.path().join("MANIFEST")).unwrap();
    assert!(
        manifest.starts_with("tidegate-manifest 2\n") && manifest.contains("\nlost 1 512-1025 2048-2560\n")
    );
}

/// A start that is told of a whole segment says so by its kind.
#[test]
fn a_segment_that_is_gone_is_a_loss_as_a_whole() {
    let temp = tempfile::tempdir().unwrap();
    let (journal, kept) = written(temp.path());
    drop(journal);
    let dir = DataDir::open(temp.path(), &options(2)).unwrap();
    let segment = segments_of(&kept)[1];
    Fault::Gone.strike(&segment_path(temp.path(), segment));
    let logs = recover_all(&dir, |_| {}, |_, _| {}).unwrap();
    let recovered = &logs[0].recovered;
    assert_eq!(recovered.lost, [Loss::whole(segment)]);
    assert!(recovered.damage.iter().any(|damage| damage.kind == DamageKind::Segment));
}
