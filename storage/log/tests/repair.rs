//! Repairing a log: whatever happened to its segments, what holds is kept where it was, and the result is whole.

mod harness;

use harness::{DIRECTORY, Log, body, identity, small, stream};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};
use tidegate_ids::{BatchNumber, Location, Sequence, StreamId};
use tidegate_storage_log::{
    AppenderConfig, AppenderStart, Direction, FooterEntry, Inflated, JudgeError, JudgedLog, Keep, LogFacts,
    Lost, LostWhat, Medium, MediumError, MemoryMedium, PackedRecords, PreviousEnd, ReadSpec, RecordHead,
    RecordView, Recovered, SegmentState, Witness, check_rewritten, closed_segment, judge, read_footer,
    read_page, recover, recover_telling, repair, rewrite,
};

/// A record as recovery gives it out; its links apart, which a repair may set.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    location: Location,
    head: RecordHead,
    body: Vec<u8>,
}

/// What a medium holds, and what is lost in it.
#[derive(Debug, Default)]
struct Told {
    seen: Vec<Seen>,
    without_links: Vec<Location>,
    lost: Vec<Lost>,
}

impl Witness for Told {
    fn record(&mut self, record: &RecordView<'_>, has_links: bool) {
        if !has_links {
            self.without_links.push(record.location);
        }
        let (location, head, body) = (record.location, record.head, record.body.to_vec());
        self.seen.push(Seen { location, head, body });
    }

    fn lost(&mut self, lost: &Lost) {
        self.lost.push(*lost);
    }
}

/// Segments in memory, some sectors of which cannot be read.
#[derive(Clone, Debug, Default)]
struct Failing {
    medium: MemoryMedium,
    bad: Vec<(u32, u64)>,
}

impl Medium for Failing {
    fn segment_len(&self, segment: u32) -> Result<u64, MediumError> {
        self.medium.segment_len(segment)
    }

    fn read(&mut self, segment: u32, offset: u64, into: &mut [u8]) -> Result<usize, MediumError> {
        let end = offset + into.len() as u64;
        let hit = self.bad.iter().find(|(of, at)| *of == segment && *at < end && offset < at + 512);
        match hit {
            Some((_, at)) => Err(MediumError::Unreadable { segment, offset: *at, os_error: 5 }),
            None => self.medium.read(segment, offset, into),
        }
    }
}

fn facts() -> LogFacts {
    LogFacts { identity: identity(), segment_bytes: 32 * 1024, block_bytes: 512, ends: Vec::new() }
}

/// Judges and repairs into a new medium.
fn repaired(
    source: &Failing,
    segments: &[u32],
    facts: LogFacts,
    keeps_missing: bool,
) -> Result<(JudgedLog, Told, MemoryMedium), JudgeError> {
    let mut told = Told::default();
    let mut view = Inflated::new(source.clone());
    let mut judged = judge(&mut view, segments, facts, &mut told)?;
    if keeps_missing {
        judged.keep_missing_behind(u32::MAX)?;
    }
    let mut copy = MemoryMedium::new();
    for one in &judged.segments {
        let number = one.header.segment;
        // A copy of a header or a table may be bad where nothing else is.
        let is_whole = check_rewritten(&mut source.clone(), number)
            .is_ok_and(|damage| damage.is_none_or(|all| all.is_empty()));
        let bytes = match one.state {
            SegmentState::Sound { .. } if is_whole => {
                let mut bytes = source.medium.segments[&number].clone();
                if one.header.rewritten.is_none() {
                    bytes[one.end.end.offset as usize..].fill(0);
                }
                bytes
            }
            _ => {
                let mut bytes = Vec::new();
                let done = repair(&mut view, one, &BTreeMap::new(), &mut bytes)
                    .unwrap_or_else(|error| panic!("{error}: {:?}", judged.segments));
                assert_eq!(done.file_bytes, bytes.len() as u64);
                bytes
            }
        };
        copy.segments.insert(number, bytes);
    }
    Ok((judged, told, copy))
}

/// Checks a repaired copy against what was told of its source.
fn check_copy(copy: &MemoryMedium, source: &Told) -> Recovered {
    let mut view = Inflated::new(copy.clone());
    let mut told = Told::default();
    let recovered = recover_telling(&mut view, &copy.numbers(), Some(DIRECTORY), &mut told).expect("one log");
    assert_eq!(recovered.damage, []);
    assert_eq!(recovered.cut, None);
    assert_eq!(told.seen, source.seen);
    assert_eq!(told.without_links, []);
    assert!(told.lost.iter().all(|lost| matches!(lost.what, LostWhat::GivenUp(_))), "{:?}", told.lost);
    for number in copy.numbers() {
        let damage = check_rewritten(&mut copy.clone(), number).expect("there");
        assert!(damage.is_none_or(|damage| damage.is_empty()));
    }
    for extent in recovered.extents.iter().filter(|extent| extent.footer_offset.is_some()) {
        let entries = read_footer(&mut view, extent).expect("there").expect("sound");
        let mut expected: HashMap<StreamId, FooterEntry> = HashMap::new();
        for seen in told.seen.iter().filter(|seen| seen.location.segment == extent.segment) {
            let fresh = FooterEntry { stream: seen.head.stream, ..FooterEntry::default() };
            let entry = expected.entry(seen.head.stream).or_insert(fresh);
            entry.last_sequence = entry.last_sequence.max(seen.head.sequence);
            entry.last_offset = seen.location.offset;
            entry.count += 1;
        }
        assert_eq!(entries.len(), expected.len());
        entries.iter().for_each(|entry| assert_eq!(expected.get(&entry.stream), Some(entry)));
    }
    recovered
}

/// All of it: the copy is whole, a second repair changes nothing, and the log goes on behind it.
fn check(source: &Failing, segments: &[u32], keeps_missing: bool) -> (JudgedLog, Told, MemoryMedium) {
    let (judged, told, copy) = repaired(source, segments, facts(), keeps_missing).expect("a log");
    let recovered = check_copy(&copy, &told);
    let again = Failing { medium: copy.clone(), bad: Vec::new() };
    let (twice, told_again, same) = repaired(&again, &copy.numbers(), facts(), true).expect("a log");
    assert!(
        twice.segments.iter().all(|one| matches!(one.state, SegmentState::Sound { .. })),
        "{:?}",
        twice.segments
    );
    assert_eq!(told_again.seen, told.seen);
    assert_eq!(same, copy);

    let start = AppenderStart { identity: identity(), previous: recovered.previous };
    let mut log = Log::resume(small(), start, copy.clone());
    log.next_segment = log.next_segment.max(segments.last().map_or(0, |last| last + 1));
    let location = log.append(stream(999), b"after the repair").expect("room");
    log.flush();
    let mut last = None;
    let mut view = Inflated::new(log.medium.clone());
    let recovered =
        recover(&mut view, &log.medium.numbers(), Some(DIRECTORY), |record| last = Some(record.location));
    assert_eq!(last, Some(location));
    assert_eq!(recovered.expect("one log").damage, []);
    (judged, told, copy)
}

fn sealed(count: u64) -> Log {
    let mut log = Log::new(small());
    log.fill(count, 17, 5);
    log.appender.seal();
    log.flush();
    log
}

/// Damages one record of a sealed log, and says what is told of it.
fn one_record(at: usize, into: u32, bytes: &[u8]) -> (Log, Told, MemoryMedium) {
    let log = sealed(600);
    let location = log.kept[at].location;
    let mut source = Failing { medium: log.medium.clone(), bad: Vec::new() };
    source.medium.write(location.segment, u64::from(location.offset + into), bytes);
    let (judged, told, copy) = check(&source, &log.medium.numbers(), false);
    let damaged: Vec<u32> = judged
        .segments
        .iter()
        .filter(|one| one.state == SegmentState::Damaged)
        .map(|one| one.header.segment)
        .collect();
    assert_eq!(damaged, [location.segment]);
    (log, told, copy)
}

#[test]
fn a_record_without_its_body_keeps_its_head_and_its_links() {
    let (log, told, copy) = one_record(250, 100, b"rot");
    let lost = &log.kept[250];
    assert_eq!(told.seen.len(), log.kept.len() - 1);
    let [Lost { what: LostWhat::Record(left), .. }] = told.lost[..] else { panic!("{:?}", told.lost) };
    let head = left.head.expect("its head");
    assert_eq!((head.stream, head.sequence), (lost.stream, lost.sequence));
    // The whole conversation but this record is read by its links.
    let newest = log.kept.iter().rfind(|kept| kept.stream == lost.stream).expect("there");
    let spec = ReadSpec::Range {
        stream: lost.stream,
        last: newest.location,
        last_sequence: newest.sequence,
        from: Sequence(1),
        to: newest.sequence,
        limit: 1000,
        bytes_max: usize::MAX,
        direction: Direction::Ascending,
    };
    let mut out = Vec::new();
    let end = read_page(&mut Inflated::new(copy), &spec, &mut out).expect("readable");
    let found: Vec<u64> = PackedRecords(&out).iter().map(|record| record.head.sequence.0).collect();
    let expected: Vec<u64> = (1..=newest.sequence.0).filter(|at| *at != lost.sequence.0).collect();
    assert_eq!((found, end.damaged, end.complete), (expected, 1, true));
}

/// A repaired segment does not say that its streams have no gaps, not when it is rewritten again either; any other one does.
#[test]
fn where_records_are_lost_counts_are_not_believed() {
    let (log, _, copy) = one_record(250, 100, b"rot");
    let damaged = log.kept[250].location.segment;
    let again = |medium: &MemoryMedium, segment: u32| {
        let numbers = medium.numbers();
        let later = &numbers[segment as usize..];
        let mut view = Inflated::new(medium.clone());
        let end = PreviousEnd::default();
        let closed = closed_segment(&mut view, segment, later, end).expect("there").expect("closed");
        let mut bytes = Vec::new();
        let by_sequence =
            |head: &RecordHead| if head.sequence.0.is_multiple_of(2) { Keep::Live } else { Keep::Expired };
        rewrite(&mut view, &closed, by_sequence, &mut bytes).expect("sound");
        let mut medium = medium.clone();
        medium.segments.insert(segment, bytes);
        let rewritten = closed_segment(&mut Inflated::new(medium.clone()), segment, later, end);
        (closed.is_gapless(), rewritten.expect("there").expect("closed").is_gapless(), medium)
    };
    let (before, after, twice) = again(&copy, damaged);
    assert_eq!((before, after), (false, false));
    assert!(!again(&twice, damaged).1);
    let other = if damaged == 1 { 2 } else { 1 };
    let (before, after, twice) = again(&copy, other);
    assert_eq!((before, after, again(&twice, other).1), (true, true, true));
}

#[test]
fn a_record_without_its_head_is_lost_and_one_without_its_links_is_not() {
    let (log, told, _) = one_record(250, 30, b"rot");
    assert_eq!(told.seen.len(), log.kept.len() - 1);
    let [Lost { what: LostWhat::Record(left), .. }] = told.lost[..] else { panic!("{:?}", told.lost) };
    assert!(left.head.is_none() && left.links.is_some());
    let (log, told, _) = one_record(250, 3, b"rot");
    assert_eq!(told.seen.len(), log.kept.len());
    assert_eq!(told.without_links, [log.kept[250].location]);
}

#[test]
fn links_that_are_given_are_written() {
    let log = sealed(300);
    let (one, other) = (&log.kept[40], &log.kept[41]);
    assert_eq!(one.location.segment, other.location.segment);
    let mut source = Failing { medium: log.medium.clone(), bad: Vec::new() };
    // One record loses its links; the other's batch is whole.
    source.medium.write(one.location.segment, u64::from(one.location.offset), b"rot");
    let links = |offset| tidegate_storage_log::Links {
        prev: Location::new(1, offset),
        jump: Location::new(1, offset + 8),
    };
    let relinks = BTreeMap::from([(one.location, links(520)), (other.location, links(600))]);
    let mut view = Inflated::new(source);
    let judged = judge(&mut view, &log.medium.numbers(), facts(), &mut Told::default()).expect("a log");
    let mut bytes = Vec::new();
    repair(&mut view, &judged.segments[0], &relinks, &mut bytes).expect("repaired");
    let mut copy = MemoryMedium::new();
    copy.segments.insert(1, bytes);
    let mut found = BTreeMap::new();
    let recovered = recover(&mut Inflated::new(copy), &[1], Some(DIRECTORY), |record| {
        found.insert(record.location, (record.placement.prev, record.placement.jump));
    });
    assert_eq!(recovered.expect("one log").damage, []);
    for (location, links) in relinks {
        assert_eq!(found.get(&location), Some(&(links.prev, links.jump)));
    }
}

#[test]
fn a_missing_segment_is_made_again_with_nothing_in_it() {
    for gone in [&[1][..], &[3], &[2, 3], &[1, 2, 3, 4]] {
        let log = sealed(900);
        let mut source = Failing { medium: log.medium.clone(), bad: Vec::new() };
        gone.iter().for_each(|segment| _ = source.medium.segments.remove(segment));
        let (judged, told, copy) = check(&source, &log.medium.numbers(), false);
        let missing: Vec<u32> = judged
            .segments
            .iter()
            .filter(|one| one.state == SegmentState::Missing)
            .map(|one| one.header.segment)
            .collect();
        assert_eq!(missing, gone);
        let kept = log.kept.iter().filter(|kept| !gone.contains(&kept.location.segment)).count();
        assert_eq!(told.seen.len(), kept);
        // Every place of a lost record leads to what was given up.
        let mut given_up = Told::default();
        recover_telling(&mut Inflated::new(copy.clone()), &copy.numbers(), Some(DIRECTORY), &mut given_up)
            .expect("a log");
        let (first, last) = (given_up.lost.first().expect("some"), given_up.lost.last().expect("some"));
        let end = Location::new(last.segment, last.to);
        for kept in log.kept.iter().filter(|kept| gone.contains(&kept.location.segment)) {
            assert!(kept.location >= first.location() && kept.location < end);
        }
    }
}

/// The segment before a missing one was said to have lost as many batches as the missing one had, because the one behind, which
/// had lost its header, said what its own first batch was.
#[test]
fn a_headerless_segment_behind_a_missing_one_says_nothing_of_the_one_before() {
    let log = sealed(900);
    let mut source = Failing { medium: log.medium.clone(), bad: Vec::new() };
    source.medium.segments.remove(&3);
    source.medium.write(4, 100, b"rot");
    let (judged, ..) = check(&source, &log.medium.numbers(), false);
    let states: Vec<SegmentState> = judged.segments[..4].iter().map(|one| one.state).collect();
    let sound = SegmentState::Sound { is_sealed: true };
    assert_eq!(states, [sound, sound, SegmentState::Missing, SegmentState::Damaged]);
    assert!(
        judged.recovered.damage.iter().all(|damage| damage.segment == 4),
        "{:?}",
        judged.recovered.damage
    );
}

#[test]
fn a_missing_last_segment_stands_only_if_it_was_used() {
    let log = sealed(900);
    let numbers = log.medium.numbers();
    let used = log.kept.last().expect("some").location.segment;
    let mut source = Failing { medium: log.medium, bad: Vec::new() };
    source.medium.segments.retain(|number, _| *number < used);
    let (judged, ..) = check(&source, &numbers, false);
    assert!(judged.missing_behind.contains(&used) && judged.segments.len() + 1 == used as usize);
    let (judged, _, copy) = check(&source, &numbers, true);
    assert_eq!(judged.missing_behind, []);
    assert_eq!(judged.segments.last().expect("some").state, SegmentState::Missing);
    assert_eq!(copy.numbers(), numbers);
}

/// A snapshot says where the last segment ended: then bad bytes before that are damage, and no tail that nobody was told of.
#[test]
fn what_a_snapshot_covers_is_no_tail() {
    let mut log = Log::new(small());
    log.fill(40, 5, 4);
    let end = PreviousEnd { end: log.appender.committed_end(), batch: log.appender.last_synced() };
    let last = log.kept.last().expect("some").location;
    let mut source = Failing { medium: log.medium.clone(), bad: Vec::new() };
    source.medium.write(last.segment, u64::from(last.offset) + 24, b"rot");
    let (judged, told, _) = repaired(&source, &[1], facts(), false).expect("a log");
    assert!(judged.recovered.cut.is_some() && told.lost.is_empty());
    let facts = LogFacts { ends: vec![end], ..facts() };
    let (judged, told, copy) = repaired(&source, &[1], facts, false).expect("a log");
    assert!(judged.recovered.cut.is_none() && told.lost.len() == 1, "{:?}", told.lost);
    assert_eq!(judged.segments[0].end, end);
    assert_eq!(check_copy(&copy, &told).previous, end);
}

/// Small batches fill a segment to its last block. If the segment before lost its end as well, there is no room for all the
/// numbers that are missing where the segment was, and the one before must take some.
#[test]
fn missing_numbers_that_find_no_room_go_into_the_segment_before() {
    let config = AppenderConfig { segment_bytes: 8192, batch_bytes_max: 4096, ..small() };
    let mut log = Log::new(config);
    for at in 0..60 {
        log.append(stream(1), &body(at, 40)).expect("room");
        log.flush();
    }
    let end_of = |log: &Log, segment: u32| {
        let mut view = Inflated::new(log.medium.clone());
        let numbers = log.medium.numbers();
        closed_segment(&mut view, segment, &numbers[segment as usize..], PreviousEnd::default())
            .expect("there")
            .expect("closed")
            .end
    };
    let end = end_of(&log, 2);
    let mut source = Failing { medium: log.medium.clone(), bad: Vec::new() };
    source.medium.segments.remove(&3);
    // The seal and the records before it.
    source.medium.write(2, u64::from(end.end.offset) - 2048, &[0; 2048]);
    let (judged, told, _) = check(&source, &log.medium.numbers(), false);
    assert_eq!(judged.segments[1].state, SegmentState::Damaged);
    assert_eq!(judged.segments[2].state, SegmentState::Missing);
    let kept = |kept: &&harness::Kept| {
        kept.location.segment != 3
            && (kept.location.segment != 2 || kept.location.offset < end.end.offset - 2048)
    };
    assert_eq!(told.seen.len(), log.kept.iter().filter(kept).count());
}

#[test]
fn files_of_different_histories_are_refused() {
    let log = sealed(900);
    let mut source = Failing { medium: log.medium.clone(), bad: Vec::new() };
    source.medium.segments.remove(&3);
    // A number that the log never had by then.
    let facts = LogFacts {
        ends: vec![PreviousEnd { end: Location::new(3, 4096), batch: BatchNumber(1) }],
        ..facts()
    };
    let refused = repaired(&source, &log.medium.numbers(), facts, false).expect_err("no room");
    assert_eq!(refused, JudgeError::NoRoom(3));
}

/// What happens to the segments of a log.
#[derive(Clone, Debug)]
enum Harm {
    Flip(u64, u64, u8),
    Sector(u64, u64),
    Stretch(u64, u64, u64),
    Unreadable(u64, u64),
    Shorten(u64, u64),
    Remove(u64),
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        4 => (any::<u64>(), any::<u64>(), 1..=255_u8).prop_map(|(of, at, bits)| Harm::Flip(of, at, bits)),
        3 => (any::<u64>(), any::<u64>()).prop_map(|(of, at)| Harm::Sector(of, at)),
        1 => (any::<u64>(), any::<u64>(), 1..40_u64).prop_map(|(of, at, count)| Harm::Stretch(of, at, count)),
        2 => (any::<u64>(), any::<u64>()).prop_map(|(of, at)| Harm::Unreadable(of, at)),
        1 => (any::<u64>(), any::<u64>()).prop_map(|(of, at)| Harm::Shorten(of, at)),
        1 => any::<u64>().prop_map(Harm::Remove),
    ]
}

fn do_harm(source: &mut Failing, harm: &Harm) {
    let numbers = source.medium.numbers();
    let of = |pick: u64| numbers.get(pick as usize % numbers.len().max(1)).copied().unwrap_or(0);
    let bytes =
        |source: &Failing, segment: u32| source.medium.segments.get(&segment).map_or(0, Vec::len) as u64;
    match *harm {
        Harm::Flip(pick, at, bits) => {
            let bytes = bytes(source, of(pick));
            if let Some(held) = source.medium.segments.get_mut(&of(pick)).filter(|_| bytes > 0) {
                held[(at % bytes) as usize] ^= bits;
            }
        }
        Harm::Sector(pick, at) => zero(source, of(pick), at, 1),
        Harm::Stretch(pick, at, count) => zero(source, of(pick), at, count),
        Harm::Unreadable(pick, at) => {
            let sectors = (bytes(source, of(pick)) / 512).max(1);
            source.bad.push((of(pick), at % sectors * 512));
        }
        Harm::Shorten(pick, at) => {
            let bytes = bytes(source, of(pick)).max(1);
            if let Some(held) = source.medium.segments.get_mut(&of(pick)) {
                held.truncate((at % bytes) as usize);
            }
        }
        Harm::Remove(pick) => _ = source.medium.segments.remove(&of(pick)),
    }
}

fn zero(source: &mut Failing, segment: u32, at: u64, count: u64) {
    let Some(held) = source.medium.segments.get_mut(&segment).filter(|held| held.len() >= 512) else {
        return;
    };
    let sectors = held.len() as u64 / 512;
    let from = at % sectors;
    let to = sectors.min(from + count);
    held[from as usize * 512..to as usize * 512].fill(0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_harm_is_repaired_and_what_holds_is_kept(
        count in 20..500_u64,
        per_batch in 1..12_u64,
        ends_sealed in any::<bool>(),
        is_small in any::<bool>(),
        compressed in proptest::option::of(0..4_usize),
        keeps_missing in any::<bool>(),
        harms in proptest::collection::vec(harm(), 1..7),
    ) {
        let config = AppenderConfig { segment_bytes: if is_small { 8192 } else { 32 * 1024 }, batch_bytes_max: 4096, ..small() };
        let mut log = Log::new(config);
        log.fill(count, 9, per_batch);
        if ends_sealed {
            log.appender.seal();
            log.flush();
        }
        let numbers = log.medium.numbers();
        if let Some(place) = compressed {
            let segment = numbers[place % numbers.len()];
            let mut view = Inflated::new(log.medium.clone());
            let closed = closed_segment(&mut view, segment, &numbers[place % numbers.len() + 1..], PreviousEnd::default());
            if let Ok(Some(closed)) = closed {
                let mut bytes = Vec::new();
                let decide = |head: &RecordHead| if head.sequence.0.is_multiple_of(3) { Keep::Expired } else { Keep::Live };
                rewrite(&mut view, &closed, decide, &mut bytes).expect("sound");
                log.medium.segments.insert(segment, bytes);
            }
        }
        let mut source = Failing { medium: log.medium.clone(), bad: Vec::new() };
        harms.iter().for_each(|harm| do_harm(&mut source, harm));
        check(&source, &numbers, keeps_missing);
    }
}
