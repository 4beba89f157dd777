//! Letting records go, over real files: what lives stays, what goes is gone, and a crash at any step loses nothing.
#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

mod journal;

use journal::{Journal, Kept, cover, options};
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use tidegate_ids::{ConversationId, Location, LogId, Sequence, StreamId, UserId, WallMs};
use tidegate_storage_files::{
    CoveredSegments, DataDir, DirView, OpenError, ReadPool, ReadRequest, Retention, RetentionError,
    RetentionFigures, RetentionOptions, RetentionPolicy, RetentionStep, SegmentReader, recover_all,
};
use tidegate_storage_log::{
    Direction, PackedRecords, PageEnd, PageReader, ReadError, ReadSpec, RecordHead, RecordState,
    SegmentHeader, SequenceRange,
};
use tidegate_tests_support::{FileSystem, Volume, can_mount_or_say, copy_folder};

const NOW: WallMs = WallMs(1_800_000_000_000);
const STREAMS: u64 = 6;

fn stream(number: u64) -> StreamId {
    StreamId::conversation(ConversationId::direct(UserId(number), UserId(number + 1000)))
}

/// What goes: streams whose records have all expired, and single records.
#[derive(Clone, Debug, Default)]
struct Rules {
    expired: Vec<StreamId>,
    erased: Vec<(StreamId, u64)>,
}

impl RetentionPolicy for Rules {
    fn keep_after(&self, stream: &StreamId) -> WallMs {
        if self.expired.contains(stream) { WallMs(u64::MAX) } else { WallMs(0) }
    }

    fn gone_before(&self, stream: &StreamId) -> WallMs {
        self.keep_after(stream)
    }

    fn erasing(&self) -> u64 {
        self.erased.iter().map(|(_, sequence)| sequence + 1).sum()
    }

    fn may_erase(&self, stream: &StreamId, range: SequenceRange) -> bool {
        self.erased.iter().any(|(of, sequence)| of == stream && range.holds(Sequence(*sequence)))
    }

    fn is_erased(&self, head: &RecordHead) -> bool {
        self.erased.contains(&(head.stream, head.sequence.0))
    }
}

impl Rules {
    fn state(&self, kept: &Kept) -> RecordState {
        if self.erased.contains(&(kept.stream, kept.sequence)) {
            RecordState::Erased
        } else if self.expired.contains(&kept.stream) {
            RecordState::Expired
        } else {
            RecordState::Live
        }
    }
}

/// Records over some streams on two shards, with rolls.
fn fill(journal: &mut Journal, count: u64) -> Vec<Kept> {
    let mut kept = Vec::new();
    for at in 0..count {
        let body = format!("body {at} of a message that says where to meet; ").repeat(1 + at as usize % 40);
        kept.push(journal.append((at % 2) as u16, stream(at % STREAMS), body.as_bytes()));
        if at % 7 == 0 {
            journal.commit();
        }
    }
    journal.commit();
    kept.sort_by_key(|record| (record.log, record.location));
    kept
}

/// A directory with records, opened again after a kill.
fn written(path: &Path, count: u64) -> (Journal, Vec<Kept>) {
    let mut journal = Journal::open(path, 2);
    let kept = fill(&mut journal, count);
    drop(journal);
    (Journal::open(path, 2), kept)
}

fn quick() -> RetentionOptions {
    RetentionOptions {
        bytes_per_second: 0,
        reserve_bytes: 0,
        look_again_ms: 0,
        ..RetentionOptions::default()
    }
}

fn pass(
    retention: &mut Retention,
    rules: &Rules,
    mut progress: impl FnMut(RetentionStep),
) -> Result<(), RetentionError> {
    retention.pass(rules, NOW, &AtomicBool::new(false), &mut progress)
}

type Found = BTreeMap<(LogId, Location), (RecordState, StreamId, u64, Vec<u8>)>;

/// Every record as recovery gives it, with its state.
fn read(path: &Path, shards: u16) -> Found {
    let dir = DataDir::open(path, &options(shards)).unwrap();
    let mut found = BTreeMap::new();
    let logs = recover_all(
        &dir,
        |_| {},
        |log, record| {
            let value =
                (record.placement.state, record.head.stream, record.head.sequence.0, record.body.to_vec());
            found.insert((log, record.location), value);
        },
    );
    for log in logs.unwrap() {
        assert_eq!((log.recovered.damage_count, log.recovered.cut), (0, None), "{}", log.log);
    }
    found
}

/// Holds a directory against what was written, after `rules` were perhaps applied to some of it.
fn check(path: &Path, kept: &[Kept], rules: &Rules, may_be_gone: bool) {
    let found = read(path, 2);
    for one in kept {
        let wanted = rules.state(one);
        let Some((state, of, sequence, body)) = found.get(&(one.log, one.location)) else {
            assert!(may_be_gone && wanted != RecordState::Live, "{one:?} is lost");
            continue;
        };
        assert_eq!((*of, *sequence), (one.stream, one.sequence));
        match state {
            RecordState::Live => assert_eq!(*body, one.body),
            state => assert_eq!((*state, body.len()), (wanted, 0), "{one:?}"),
        }
    }
    let known: Vec<_> = kept.iter().map(|one| (one.log, one.location)).collect();
    assert!(found.keys().all(|place| known.contains(place)), "a record was made up");
}

fn rules() -> Rules {
    Rules { expired: vec![stream(1), stream(4)], erased: vec![(stream(0), 3), (stream(3), 9)] }
}

#[test]
fn nothing_is_touched_until_it_is_covered() {
    let temp = tempfile::tempdir().unwrap();
    let (journal, kept) = written(temp.path(), 200);
    let mut retention = Retention::new(&journal.dir, quick(), CoveredSegments::default());
    let everything = Rules { expired: (0..STREAMS).map(stream).collect(), erased: Vec::new() };
    pass(&mut retention, &everything, |step| panic!("{step:?} without a snapshot")).unwrap();
    drop((journal, retention));
    assert!(read(temp.path(), 2).values().all(|(state, ..)| *state == RecordState::Live));
    check(temp.path(), &kept, &everything, false);
}

#[test]
fn what_is_over_goes_and_the_rest_stays() {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 2);
    let mut kept = fill(&mut journal, 400);
    journal.seal();
    let mut journal = Journal::open(temp.path(), 2);
    kept.extend(fill(&mut journal, 50));
    let covered = cover(&journal.dir);
    let bound: BTreeMap<LogId, u32> =
        covered.get().into_iter().map(|(log, end)| (log, end.end.segment)).collect();
    let mut retention = Retention::new(&journal.dir, quick(), covered);
    let mut rewritten = Vec::new();
    pass(&mut retention, &rules(), |step| {
        if let RetentionStep::Rewritten(segment) = step {
            rewritten.push(segment);
        }
    })
    .unwrap();
    let figures = retention.counters().figures();
    assert_eq!((figures.rewritten, figures.dropped, figures.damaged), (rewritten.len() as u64, 0, 0));
    assert!(rewritten.len() > 4 && figures.saved_bytes > 100_000 && figures.expired > 100, "{figures:?}");
    assert_eq!(figures.erased, 2);
    pass(&mut retention, &rules(), |step| panic!("{step:?}, though all was done")).unwrap();
    // It goes on, in the same directory, and everything lives again at the next start.
    kept.extend(fill(&mut journal, 100));
    drop((journal, retention));
    check(temp.path(), &kept, &rules(), false);
    for ((log, location), (state, of, sequence, _)) in read(temp.path(), 2) {
        let one = kept.iter().find(|one| one.log == log && one.location == location).unwrap();
        let due = rules().state(one);
        let expected = if location.segment <= bound[&log] { due } else { RecordState::Live };
        assert_eq!(state, expected, "{of} {sequence} at {location}");
    }
    let view = DirView::open(temp.path()).unwrap();
    assert_eq!(view.problems(), []);
    let mut reader = view.reader();
    for segment in rewritten {
        assert_eq!(reader.check_rewritten(segment), Ok(Some(Vec::new())));
        let bytes = std::fs::read(view.segment_path(segment).unwrap()).unwrap();
        let header = SegmentHeader::decode(bytes.first_chunk().unwrap()).unwrap();
        assert_eq!(header.rewritten.unwrap().file_bytes as usize, bytes.len());
    }
}

/// Bodies that were erased are in no file, under any name.
#[test]
fn what_was_erased_is_on_the_disk_no_more() {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 2);
    let secret: Vec<u8> = (0..200_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let told = journal.append(0, stream(0), &secret);
    fill(&mut journal, 300);
    drop(journal);
    let journal = Journal::open(temp.path(), 2);
    let holds = |path: &Path| {
        let mut found = false;
        let mut folders = vec![path.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let bytes = std::fs::read(path).unwrap();
                    found |= bytes.windows(16).any(|window| window == &secret[50..66]);
                }
            }
        }
        found
    };
    assert!(holds(temp.path()));
    let mut retention = Retention::new(&journal.dir, quick(), cover(&journal.dir));
    let rules = Rules { expired: Vec::new(), erased: vec![(stream(0), told.sequence)] };
    pass(&mut retention, &rules, |_| {}).unwrap();
    assert_eq!(retention.counters().figures().erased, 1);
    assert!(!holds(temp.path()));
}

fn page(
    reader: &mut SegmentReader,
    (last, last_sequence): (Location, Sequence),
    of: StreamId,
) -> (Result<PageEnd, ReadError>, Vec<(u64, RecordState)>) {
    let spec = ReadSpec::Range {
        stream: of,
        last,
        last_sequence,
        from: Sequence(1),
        to: last_sequence,
        limit: 4096,
        bytes_max: usize::MAX,
        direction: Direction::Ascending,
    };
    let mut out = Vec::new();
    let end = PageReader::new().read(reader, &spec, &mut out);
    let records = PackedRecords(&out).iter();
    (end, records.map(|record| (record.head.sequence.0, record.placement.state)).collect())
}

#[test]
fn a_reader_keeps_the_old_file_until_it_looks_again() {
    let temp = tempfile::tempdir().unwrap();
    let (journal, kept) = written(temp.path(), 300);
    let last = journal.last(stream(1));
    let mut reader = journal.dir.reader();
    let before = page(&mut reader, last, stream(1));
    assert!(before.1.iter().all(|(_, state)| *state == RecordState::Live));
    let mut retention = Retention::new(&journal.dir, quick(), cover(&journal.dir));
    pass(&mut retention, &rules(), |_| {}).unwrap();
    assert_eq!(page(&mut reader, last, stream(1)), before, "within a walk nothing changes");
    reader.refresh();
    let after = page(&mut reader, last, stream(1));
    assert_eq!(after.0.unwrap().damaged, 0);
    assert_eq!(after.1.len(), before.1.len());
    assert_eq!(after.1[0], (1, RecordState::Expired));
    // A pool looks again by itself.
    let (told, answers) = mpsc::channel();
    let wake = Box::new(move || told.send(()).unwrap());
    let mut pool = ReadPool::start(&journal.dir, 4, wake).unwrap();
    let first = kept.iter().find(|one| one.stream == stream(1) && one.sequence == 1).unwrap();
    let spec = ReadSpec::At { location: first.location };
    pool.try_read(ReadRequest {
        token: 1,
        what: tidegate_storage_files::ReadWhat::Page(spec, None),
        records: Vec::new(),
    })
    .unwrap();
    answers.recv().unwrap();
    let reply = pool.take().unwrap();
    let record = PackedRecords(&reply.records).iter().next().unwrap();
    assert_eq!((record.placement.state, record.body), (RecordState::Expired, &[][..]));
}

#[test]
fn segments_in_which_nothing_lives_go() {
    let temp = tempfile::tempdir().unwrap();
    let (mut journal, mut kept) = written(temp.path(), 300);
    let covered = cover(&journal.dir);
    let ends = covered.get();
    let mut retention = Retention::new(&journal.dir, quick(), covered);
    let everything = Rules { expired: (0..STREAMS).map(stream).collect(), erased: Vec::new() };
    let mut dropped = Vec::new();
    pass(&mut retention, &everything, |step| {
        if let RetentionStep::Dropped(segment) = step {
            dropped.push(segment);
        }
    })
    .unwrap();
    assert!(dropped.len() > 2);
    let RetentionFigures { rewritten, dropped: counted, .. } = retention.counters().figures();
    assert_eq!((rewritten, counted), (0, dropped.len() as u64));
    let mut reader = journal.dir.reader();
    let last = journal.last(stream(2));
    let (end, left) = page(&mut reader, last, stream(2));
    assert_eq!(end.unwrap().first_available, Some(Sequence(left[0].0)), "a link into it ends the walk");
    kept.extend(fill(&mut journal, 60));
    drop((journal, retention));
    let manifest = std::fs::read_to_string(temp.path().join("MANIFEST")).unwrap();
    let named: Vec<&str> = manifest
        .lines()
        .filter(|line| line.starts_with("log"))
        .flat_map(|line| line.split(' ').skip(3))
        .collect();
    assert!(dropped.iter().all(|segment| !named.contains(&segment.to_string().as_str())), "{manifest}");
    check(temp.path(), &kept, &everything, true);
    let found = read(temp.path(), 2);
    assert!(found.keys().all(|(log, location)| location.segment > ends[log].end.segment));
    assert_eq!(DirView::open(temp.path()).unwrap().problems(), []);
}

/// What a killed process leaves at each step is what the next one starts from; an interrupted write, too.
#[test]
fn a_crash_at_any_step_loses_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    let (journal, kept) = written(&data, 300);
    let covered = cover(&journal.dir);
    let mut retention = Retention::new(&journal.dir, quick(), covered);
    // The first stream to expire makes holes; then all do, and segments go.
    let everything = Rules { expired: (0..STREAMS).map(stream).collect(), erased: Vec::new() };
    let mut steps = BTreeMap::new();
    for rules in [rules(), everything] {
        pass(&mut retention, &rules, |step| {
            let kind = format!("{step:?}");
            let kind = kind.split('(').next().unwrap().to_string();
            let times: &mut u32 = steps.entry(kind.clone()).or_default();
            *times += 1;
            if *times <= 3 {
                let at = temp.path().join(format!("{kind}-{times}"));
                copy_folder(&data, &at);
                if kind == "Written" {
                    // Half of it: the crash came earlier.
                    let half = temp.path().join(format!("Half-{times}"));
                    copy_folder(&data, &half);
                    let RetentionStep::Written(segment) = step else { unreachable!() };
                    let log = kept.iter().find(|one| one.location.segment == segment).unwrap().log;
                    let file = half.join(format!("log/{}/{}/{segment}.seg.tmp", log.epoch, log.shard));
                    let file = std::fs::File::options().write(true).open(file).unwrap();
                    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
                }
            }
        })
        .unwrap();
    }
    assert_eq!(
        steps.keys().map(String::as_str).collect::<Vec<_>>(),
        ["Dropped", "Renamed", "Rewritten", "Unnamed", "Written"]
    );
    let everything = Rules {
        erased: rules().erased,
        ..Rules { expired: (0..STREAMS).map(stream).collect(), erased: Vec::new() }
    };
    for entry in std::fs::read_dir(temp.path()).unwrap() {
        let path = entry.unwrap().path();
        if path == data {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        let had_drops = name.starts_with("Unnamed") || name.starts_with("Dropped");
        let allowed = if had_drops { &everything } else { &rules() };
        check(&path, &kept, allowed, had_drops);
        // A temporary file is gone, and the pass that was interrupted ends well.
        let mut journal = Journal::open(&path, 2);
        let mut retention = Retention::new(&journal.dir, quick(), cover(&journal.dir));
        pass(&mut retention, &everything, |_| {}).unwrap();
        fill(&mut journal, 20);
        assert!(retention.counters().figures().dropped > 0 || had_drops, "{name}");
        assert_eq!(DirView::open(&path).unwrap().problems(), []);
    }
}

#[test]
fn a_damaged_segment_stays_as_it_is() {
    let temp = tempfile::tempdir().unwrap();
    let (journal, kept) = written(temp.path(), 300);
    let hit = &kept[3];
    let log = hit.log;
    let path = temp.path().join(format!("log/{}/{}/{}.seg", log.epoch, log.shard, hit.location.segment));
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(b"rot", u64::from(hit.location.offset) + 100).unwrap();
    let before = std::fs::read(&path).unwrap();
    let mut retention = Retention::new(&journal.dir, quick(), cover(&journal.dir));
    let everything = Rules { expired: (0..STREAMS).map(stream).collect(), erased: Vec::new() };
    let mut damaged = Vec::new();
    pass(&mut retention, &everything, |step| {
        if let RetentionStep::Damaged(segment) = step {
            damaged.push(segment);
        }
    })
    .unwrap();
    assert!(damaged.contains(&hit.location.segment));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    // The one behind it stays too: it says where the damaged one ends.
    let next = kept.iter().map(|one| one.location.segment).filter(|other| *other > hit.location.segment);
    let next =
        next.filter(|other| kept.iter().any(|one| one.log == log && one.location.segment == *other)).min();
    assert!(temp.path().join(format!("log/{}/{}/{}.seg", log.epoch, log.shard, next.unwrap())).exists());
}

/// With another number of shards a log is never written again; its last segment ends where a snapshot says.
#[test]
fn the_last_segment_of_an_old_epoch_is_not_forgotten() {
    for is_sealed in [true, false] {
        let temp = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(temp.path(), 2);
        let kept = fill(&mut journal, 200);
        if is_sealed {
            journal.seal();
        } else {
            drop(journal);
        }
        let journal = Journal::open(temp.path(), 1);
        let mut retention = Retention::new(&journal.dir, quick(), cover(&journal.dir));
        pass(&mut retention, &rules(), |_| {}).unwrap();
        drop((journal, retention));
        let found = read(temp.path(), 1);
        for one in &kept {
            assert_eq!(found[&(one.log, one.location)].0, rules().state(one), "{one:?}");
        }
        let journal = Journal::open(temp.path(), 1);
        let mut retention = Retention::new(&journal.dir, quick(), cover(&journal.dir));
        let everything = Rules { expired: (0..STREAMS).map(stream).collect(), erased: Vec::new() };
        pass(&mut retention, &everything, |_| {}).unwrap();
        drop((journal, retention));
        assert_eq!(read(temp.path(), 1), BTreeMap::new());
    }
}

#[test]
fn it_stops_when_asked_and_leaves_no_file_behind() {
    let temp = tempfile::tempdir().unwrap();
    let (journal, _) = written(temp.path(), 200);
    let mut retention = Retention::new(&journal.dir, quick(), cover(&journal.dir));
    let stop = AtomicBool::new(true);
    let stopped = retention.pass(&rules(), NOW, &stop, &mut |step| panic!("{step:?}"));
    assert!(matches!(stopped, Err(RetentionError::Stopped)));
    let no_room = RetentionOptions { reserve_bytes: u64::MAX, ..quick() };
    let mut retention = Retention::new(&journal.dir, no_room, cover(&journal.dir));
    assert!(matches!(pass(&mut retention, &rules(), |_| {}), Err(RetentionError::NoSpace { .. })));
    let files = std::fs::read_dir(temp.path().join("log/1/0")).unwrap();
    assert!(files.into_iter().all(|entry| entry.unwrap().path().extension().unwrap() == "seg"));
}

/// A snapshot was lost while a pass was under way, for hours perhaps, and it went on hollowing what the other one alone held.
#[test]
fn a_pass_touches_nothing_once_nothing_may_be_touched() {
    let everything = Rules { expired: (0..STREAMS).map(stream).collect(), erased: Vec::new() };
    for (wanted, rules) in [("Written", rules()), ("Rewritten", rules()), ("Dropped", everything)] {
        let temp = tempfile::tempdir().unwrap();
        let (journal, kept) = written(temp.path(), 300);
        let covered = cover(&journal.dir);
        let ends = covered.get();
        let mut retention = Retention::new(&journal.dir, quick(), covered.clone());
        let mut is_lost = false;
        let ended = pass(&mut retention, &rules, |step| {
            assert!(!is_lost, "{step:?} after {wanted}, without a snapshot");
            if format!("{step:?}").starts_with(wanted) {
                covered.clear();
                is_lost = true;
            }
        });
        assert!(is_lost && matches!(ended, Err(RetentionError::Uncovered(_))), "{wanted}: {ended:?}");
        // A spare that is being made has such a name, too.
        let temporary = |one: &Kept| format!("log/1/{}/{}.seg.tmp", one.log.shard, one.location.segment);
        assert!(kept.iter().all(|one| !temp.path().join(temporary(one)).exists()), "{wanted}");
        // Once it is made again the rest is done.
        ends.into_iter().for_each(|(log, end)| covered.set(log, end));
        pass(&mut retention, &rules, |_| {}).unwrap();
        drop((journal, retention));
        check(temp.path(), &kept, &rules, wanted == "Dropped");
    }
}

/// A header that was lost is in the file twice; without either, start refuses and names the file.
#[test]
fn a_lost_first_sector_of_a_rewritten_segment_costs_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let (journal, kept) = written(temp.path(), 200);
    let mut retention = Retention::new(&journal.dir, quick(), cover(&journal.dir));
    let mut rewritten = Vec::new();
    pass(&mut retention, &rules(), |step| {
        if let RetentionStep::Rewritten(segment) = step {
            rewritten.push(segment);
        }
    })
    .unwrap();
    drop((journal, retention));
    let path = DirView::open(temp.path()).unwrap().segment_path(rewritten[0]).unwrap();
    let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    for lost in [[0; 512], [0xff; 512]] {
        file.write_all_at(&lost, 0).unwrap();
        check(temp.path(), &kept, &rules(), false);
        let damage = DirView::open(temp.path()).unwrap().reader().check_rewritten(rewritten[0]);
        assert_eq!(damage.unwrap().unwrap().len(), 1);
    }
    let end = file.metadata().unwrap().len();
    file.write_all_at(&[0xff; 4], end - 100).unwrap();
    let refused = DataDir::open(temp.path(), &options(2)).unwrap_err();
    assert!(matches!(refused, OpenError::Segment(_)), "{refused}");
    assert!(refused.to_string().contains(path.to_str().unwrap()), "{refused}");
}

/// The power fails at each step of a pass.
#[test]
fn a_power_cut_at_any_step_loses_nothing() {
    if !can_mount_or_say(1) {
        return;
    }
    let kinds = ["Written", "Renamed", "Rewritten", "Unnamed", "Dropped"];
    for (round, wanted) in kinds.into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let mut volume = Volume::new(folder.path(), FileSystem::Ext4, 32).unwrap();
        let data = volume.path().join("data");
        let (journal, kept) = written(&data, 300);
        let mut retention = Retention::new(&journal.dir, quick(), cover(&journal.dir));
        let all = Rules { expired: (0..STREAMS).map(stream).collect(), erased: rules().erased };
        let rules = if round < 3 { rules() } else { all };
        let mut done = Vec::new();
        let mut is_cut = false;
        let ended = pass(&mut retention, &rules, |step| {
            if !is_cut && format!("{step:?}").starts_with(wanted) {
                volume.cut_power().unwrap();
                is_cut = true;
            }
            if let (false, RetentionStep::Rewritten(segment)) = (is_cut, step) {
                done.push(segment);
            }
        });
        let must_fail = ["Written", "Renamed", "Unnamed"].contains(&wanted);
        assert!(is_cut && (ended.is_err() || !must_fail), "{wanted}: without power no step ends well");
        drop((journal, retention));
        volume.restart().unwrap();
        check(&data, &kept, &rules, round >= 3);
        // What was said to be rewritten is.
        for ((_, location), (state, of, sequence, _)) in read(&data, 2) {
            let one = kept.iter().find(|one| one.stream == of && one.sequence == sequence).unwrap();
            if done.contains(&location.segment) {
                assert_eq!(state, rules.state(one), "{wanted}");
            }
        }
    }
}
