//! The index of a sealed segment says where the last records of each stream lie, and nothing that is wrong does harm.

mod harness;

use harness::{DIRECTORY, Kept, Log, body, recover_all, small, stream};
use proptest::prelude::*;
use std::collections::BTreeMap;
use tidegate_ids::{Location, Sequence, StreamId, UserId, WallMs};
use tidegate_storage_log::{
    AppenderConfig, Direction, Guard, IndexPlace, Links, Medium, MemoryMedium, NewRecord, PackedRecords,
    ReadSpec, crc32c, index_of, limits::INDEX_OFFSETS_MAX, limits::INDEX_WINDOW_BYTES, read_page, recover,
};

/// What the index of `segment` must say of a stream: the offsets of its last records, newest first, and how many there are.
fn wanted(kept: &[Kept], segment: u32, stream: StreamId) -> (u32, Vec<u32>) {
    let of_segment = |one: &&Kept| one.location.segment == segment && one.stream == stream;
    let all: Vec<u32> = kept.iter().filter(of_segment).map(|one| one.location.offset).collect();
    (all.len() as u32, all.iter().rev().take(INDEX_OFFSETS_MAX).copied().collect())
}

/// Compares what every index says with what was appended; gives the number of entries looked at, and of those not found.
fn check(log: &mut Log) -> (usize, usize) {
    let mut sealed: Vec<(u32, IndexPlace)> = Vec::new();
    for segment in log.medium.numbers() {
        sealed.extend(log.medium.index(segment).map(|place| (segment, place)));
    }
    let (mut looked_at, mut missing, mut buffer) = (0, 0, Vec::new());
    for (segment, place) in sealed {
        let streams: BTreeMap<StreamId, &Kept> = log
            .kept
            .iter()
            .filter(|one| one.location.segment == segment)
            .rev()
            .map(|one| (one.stream, one))
            .collect();
        for (stream, first) in streams {
            looked_at += 1;
            let entry = place.entry(&mut log.medium, segment, &stream, &mut buffer).expect("there");
            assert!(buffer.len() <= INDEX_WINDOW_BYTES);
            let Some(entry) = entry else {
                missing += 1;
                continue;
            };
            let (run, offsets) = wanted(&log.kept, segment, stream);
            assert_eq!((entry.run, entry.offsets()), (run, &offsets[..]), "segment {segment}");
            let before = log.kept.iter().rfind(|one| one.stream == stream && one.location < first.location);
            assert_eq!(entry.before, before.map_or(Location::NONE, |one| one.location));
            assert_eq!(entry.before_sequence().0, first.sequence.0.saturating_sub(1));
        }
    }
    (looked_at, missing)
}

#[test]
fn an_index_says_where_the_last_records_of_each_stream_lie() {
    let config = AppenderConfig {
        segment_bytes: 2 << 20,
        staging_bytes: 8 << 20,
        batch_bytes_max: 64 << 10,
        block_bytes: 512,
    };
    // Few streams with long runs, many with short ones, and one that has nearly everything.
    for (records, streams) in [(30_000_u64, 40_u64), (60_000, 3000), (60_000, 700)] {
        let mut log = Log::new(config);
        for i in 0..records {
            let of = if i % 3 == 0 { 0 } else { i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % streams };
            log.append(stream(of), b"hello").expect("room");
            if i % 200 == 199 {
                log.flush();
            }
        }
        log.flush();
        let (looked_at, missing) = check(&mut log);
        assert!(looked_at as u64 >= streams, "{looked_at} entries");
        assert_eq!(missing, 0, "of {looked_at} with {streams} streams");
    }
}

/// What is not a record of the list that links lead along is in no run: a state repeats a sequence, and its `prev` is another
/// list's. If one comes first in a segment, the next message does not link to it.
#[test]
fn a_state_is_in_no_run_with_messages() {
    let mut log = Log::new(small());
    let state = |log: &mut Log| {
        let spine = log.spines[&stream(1)].clone();
        let links = Links { prev: log.kept[0].location, jump: Location::NONE };
        let record = NewRecord {
            stream: stream(1),
            sequence: Sequence(spine.count()),
            time: WallMs(1),
            kind: 77,
            links,
            body_parts: &[b"a state"],
            ..NewRecord::default()
        };
        log.appender.append(&record).expect("room");
    };
    let roll = |log: &mut Log| {
        log.appender.seal();
        log.flush();
    };
    for i in 0..5 {
        log.append(stream(1), &body(i, 10)).expect("room");
        state(&mut log);
    }
    roll(&mut log);
    state(&mut log);
    for i in 0..3 {
        log.append(stream(1), &body(i, 10)).expect("room");
        state(&mut log);
    }
    roll(&mut log);
    // Only a state: no message leads here, and none is said to be here.
    state(&mut log);
    roll(&mut log);
    log.append(stream(1), b"last").expect("room");
    log.flush();
    let mut entry = |segment: u32| {
        let place = log.medium.index(segment).expect("sealed");
        place.entry(&mut log.medium, segment, &stream(1), &mut Vec::new()).expect("there").expect("listed")
    };
    let (first, second) = (entry(1), entry(2));
    assert_eq!((first.run, first.last_sequence, first.before), (5, Sequence(5), Location::NONE));
    assert_eq!((second.run, second.last_sequence, second.before), (3, Sequence(8), log.kept[4].location));
    let spine = &log.spines[&stream(1)];
    let spec = ReadSpec::Range {
        stream: stream(1),
        last: spine.last(),
        last_sequence: Sequence(spine.count()),
        from: Sequence(1),
        to: Sequence(9),
        limit: 50,
        bytes_max: 1 << 20,
        direction: Direction::Descending,
    };
    let mut page = Vec::new();
    assert_eq!(read_page(&mut log.medium, &spec, &mut page).expect("sound").records, 9);
    assert!(PackedRecords(&page).iter().all(|record| record.head.kind == 9), "messages only");
}

/// Nobody reads pages of them, and there may be as many as users.
#[test]
fn streams_without_sequences_are_in_no_index() {
    let mut log = Log::new(small());
    let user = StreamId::user(UserId(9));
    let owe = |log: &mut Log| {
        let record = NewRecord { stream: user, body_parts: &[b"owed"], ..NewRecord::default() };
        log.appender.append(&record).expect("room");
    };
    owe(&mut log);
    log.append(stream(1), b"one").expect("room");
    owe(&mut log);
    assert_eq!(log.appender.lead(&user), None);
    log.appender.seal();
    log.append(stream(1), b"next").expect("room");
    log.flush();
    let place = log.medium.index(1).expect("sealed");
    let mut entry = |of| place.entry(&mut log.medium, 1, &of, &mut Vec::new()).expect("there");
    assert_eq!(entry(user), None);
    assert_eq!(entry(stream(1)).expect("listed").run, 1);
    // One without any stream to list has no index.
    (0..400).for_each(|_| owe(&mut log));
    log.appender.seal();
    log.flush();
    owe(&mut log);
    log.appender.seal();
    log.append(stream(1), b"last").expect("room");
    log.flush();
    let sealed: Vec<u32> =
        log.medium.numbers().into_iter().filter(|one| log.medium.index(*one).is_some()).collect();
    assert_eq!(sealed, [1, 2]);
    let recovered = recover_all(&log.medium).0;
    assert!(recovered.ends.len() > 3 && recovered.damage_count == 0);
    let none = index_of(&mut log.medium, recovered.ends[2], Guard::new(&DIRECTORY));
    assert_eq!(none, Ok(IndexPlace::default()));
}

fn all_of(log: &Log, medium: &mut MemoryMedium, of: StreamId) -> Vec<Vec<u8>> {
    let spine = &log.spines[&of];
    let spec = ReadSpec::Range {
        stream: of,
        last: spine.last(),
        last_sequence: Sequence(spine.count()),
        from: Sequence(1),
        to: Sequence(u64::MAX),
        limit: 4096,
        bytes_max: 1 << 20,
        direction: Direction::Descending,
    };
    let mut page = Vec::new();
    let end = read_page(medium, &spec, &mut page).expect("sound");
    assert_eq!((end.damaged, end.complete, end.first_available), (0, true, None));
    PackedRecords(&page).iter().map(|record| record.body.to_vec()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Whatever the bytes of an index say, a page is the same; only recovery says that they are damaged.
    #[test]
    fn a_wrong_index_changes_no_page(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..30),
        reseals in any::<bool>(),
        place in prop::option::of((0_u32..40_000, 0_u32..40_000)),
    ) {
        let mut log = Log::new(small());
        log.fill(300, 3, 7);
        let mut hit = Hit { medium: log.medium.clone(), place: place.map(|(offset, bytes)| IndexPlace { offset, bytes }) };
        for segment in log.medium.numbers() {
            let Some(IndexPlace { offset, bytes }) = log.medium.index(segment) else { continue };
            let index = &mut hit.medium.segments.get_mut(&segment).expect("there")[offset as usize..][..bytes as usize];
            let entries = entries_of(index);
            for (at, value) in &damage {
                index[at.index(bytes as usize)] = *value;
            }
            // Wrong entries whose checksums hold: what they say must still be believed of no record.
            for entry in entries.into_iter().filter(|_| reseals) {
                let sum = crc32c(&index[entry.start + 4..entry.end]);
                index[entry.start..entry.start + 4].copy_from_slice(&sum.to_le_bytes());
            }
        }
        for number in 0..3 {
            let of = stream(number);
            let wanted: Vec<_> = log.kept.iter().filter(|one| one.stream == of).map(|one| one.body.clone()).collect();
            let spine = &log.spines[&of];
            let spec = ReadSpec::Range {
                stream: of, last: spine.last(), last_sequence: Sequence(spine.count()), from: Sequence(1),
                to: Sequence(u64::MAX), limit: 4096, bytes_max: 1 << 20, direction: Direction::Descending,
            };
            let mut page = Vec::new();
            let end = read_page(&mut hit, &spec, &mut page).expect("sound");
            prop_assert_eq!((end.damaged, end.complete, end.first_available), (0, true, None));
            let got: Vec<_> = PackedRecords(&page).iter().map(|record| record.body.to_vec()).collect();
            prop_assert!(got == wanted);
        }
        let (recovered, kept) = recover_all(&hit.medium);
        prop_assert!(kept == log.kept, "records do not depend on an index");
        prop_assert!(recovered.cut.is_none());
    }
}

/// Where the entries of a small index are, which follow each other.
fn entries_of(index: &[u8]) -> Vec<std::ops::Range<usize>> {
    let u32_at = |at: usize| u32::from_le_bytes(index[at..at + 4].try_into().expect("four"));
    let mut at = 64;
    let mut entries = Vec::new();
    for _ in 0..u32_at(40) {
        let end = (at + 40 + 4 * u32_at(at + 4) as usize).next_multiple_of(8);
        entries.push(at..end);
        at = end;
    }
    assert_eq!(at, u32_at(36) as usize, "all of it is entries");
    entries
}

/// A medium whose indexes are damaged, and perhaps somewhere else.
struct Hit {
    medium: MemoryMedium,
    place: Option<IndexPlace>,
}

impl Medium for Hit {
    fn segment_len(&self, segment: u32) -> Result<u64, tidegate_storage_log::MediumError> {
        self.medium.segment_len(segment)
    }

    fn read(
        &mut self,
        segment: u32,
        offset: u64,
        into: &mut [u8],
    ) -> Result<usize, tidegate_storage_log::MediumError> {
        self.medium.read(segment, offset, into)
    }

    fn index(&mut self, segment: u32) -> Option<IndexPlace> {
        self.place.or_else(|| self.medium.index(segment))
    }
}

/// A log of version 1 goes on in version 2, and one page reads both.
#[test]
fn segments_without_an_index_lie_beside_those_with_one() {
    let mut log = Log::new(small());
    log.fill(600, 3, 7);
    let mut medium = log.medium.clone();
    let sound = all_of(&log, &mut medium, stream(1));
    // As an older version wrote them: no header says where the index of the one before lies.
    for segment in [2_u32, 3] {
        let bytes = medium.segments.get_mut(&segment).expect("there");
        bytes[116..124].fill(0);
        let sum = crc32c(&bytes[12..512]);
        bytes[8..12].copy_from_slice(&sum.to_le_bytes());
    }
    assert!(medium.index(1).is_none() && medium.index(2).is_none() && medium.index(3).is_some());
    assert!(all_of(&log, &mut medium, stream(1)) == sound && sound.len() == 200);
    let recovered = recover(&mut medium, &log.medium.numbers(), Some(DIRECTORY), |_| {}).expect("sound");
    assert_eq!(recovered.damage_count, 0);
    // The seal says it too, to whoever may read it.
    let end = recovered.ends[0];
    assert_eq!(index_of(&mut medium, end, Guard::new(&DIRECTORY)), Ok(log.medium.index(1).expect("sealed")));
}
