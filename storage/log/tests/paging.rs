//! Reading by links: pages, chains, commands, and what remains of them under damage and retention.

mod harness;

use harness::{Log, body, range, small, stream};
use proptest::prelude::*;
use tidegate_ids::{CommandNumber, Location, Sequence, StreamId};
use tidegate_storage_log::{
    AppenderConfig, DamageKind, Direction, Links, MemoryMedium, NewRecord, PackedRecords, PageEnd,
    PageReader, ReadError, ReadSpec, read_page, recover, scan_chunk,
};

fn read(medium: &mut MemoryMedium, spec: &ReadSpec) -> Result<(PageEnd, Vec<u64>), ReadError> {
    let mut out = Vec::new();
    let end = read_page(medium, spec, &mut out)?;
    let sequences: Vec<u64> = PackedRecords(&out).iter().map(|record| record.head.sequence.0).collect();
    assert_eq!(sequences.len(), end.records as usize);
    assert_eq!(sequences.first().copied().unwrap_or(0), end.first.0);
    assert_eq!(sequences.last().copied().unwrap_or(0), end.last.0);
    Ok((end, sequences))
}

#[test]
fn a_range_is_given_oldest_first_from_the_end_that_matters() {
    use Direction::{Ascending, Descending};
    let mut log = Log::new(small());
    log.fill(300, 3, 7);
    let count = log.spines[&stream(1)].count();
    assert_eq!(count, 100);
    let mut check = |from, to, limit, direction, wanted: std::ops::RangeInclusive<u64>, complete| {
        let spec = range(&log, stream(1), from, to, limit, direction);
        let (end, got) = read(&mut log.medium, &spec).expect("sound");
        assert_eq!(got, wanted.collect::<Vec<_>>(), "{spec:?}");
        assert_eq!(end.complete, complete, "{spec:?}");
        assert_eq!((end.damaged, end.first_available), (0, None));
    };
    check(1, u64::MAX, 1000, Ascending, 1..=100, true);
    check(1, u64::MAX, 1000, Descending, 1..=100, true);
    check(1, u64::MAX, 10, Ascending, 1..=10, false);
    check(0, u64::MAX, 10, Descending, 91..=100, false);
    check(40, 60, 100, Ascending, 40..=60, true);
    check(40, 60, 5, Ascending, 40..=44, false);
    check(40, 60, 5, Descending, 56..=60, false);
    check(40, 60, 21, Descending, 40..=60, true);
    check(100, 100, 1, Descending, 100..=100, true);
    check(100, 200, 0, Ascending, 100..=100, true);
    #[expect(clippy::reversed_empty_ranges)]
    {
        check(101, 200, 5, Ascending, 2..=1, true);
        check(60, 40, 5, Ascending, 2..=1, true);
    }
}

#[test]
fn a_page_ends_where_its_bytes_do_but_gives_one_record_at_least() {
    let mut log = Log::new(small());
    (0..20).for_each(|i| assert!(log.append(stream(1), &body(i, 104)).is_ok()));
    log.flush();
    // Each record: 8 of location, 96 of header, 104 of body.
    for (bytes_max, wanted) in [(0, 1), (208, 1), (415, 1), (416, 2), (2080, 10), (5000, 20)] {
        for direction in [Direction::Ascending, Direction::Descending] {
            let mut spec = range(&log, stream(1), 1, 20, 100, direction);
            if let ReadSpec::Range { bytes_max: limit, .. } = &mut spec {
                *limit = bytes_max;
            }
            let (end, got) = read(&mut log.medium, &spec).expect("sound");
            assert_eq!((got.len(), end.complete), (wanted, wanted == 20));
            let first = if direction == Direction::Ascending { 1 } else { 21 - wanted as u64 };
            assert_eq!(got[0], first);
        }
    }
}

#[test]
fn any_sequence_is_reached_in_three_logarithms_of_links() {
    let config = AppenderConfig {
        segment_bytes: 1 << 20,
        staging_bytes: 1 << 20,
        batch_bytes_max: 65536,
        block_bytes: 512,
    };
    let mut log = Log::new(config);
    let count = 5000_u64;
    for i in 0..count {
        log.append(stream(1), b"").expect("room");
        if i % 100 == 99 {
            log.flush();
        }
    }
    log.flush();
    let bound = (3.0 * (count as f64).log2()) as u32;
    let mut most = 0;
    for target in 1..=count {
        let spec = range(&log, stream(1), target, target, 1, Direction::Ascending);
        let (end, got) = read(&mut log.medium, &spec).expect("sound");
        assert_eq!(got, [target]);
        assert!(end.steps <= bound, "{target}: {} steps, {bound} allowed", end.steps);
        most = most.max(end.steps);
    }
    assert!(most > bound / 3, "the bound says something: {most}");
}

#[test]
fn staging_answers_alone_or_says_that_it_cannot() {
    let mut log = Log::new(AppenderConfig { staging_bytes: 1 << 20, ..small() });
    for i in 0..100_u64 {
        log.append(stream(i % 2), &body(i, 50)).expect("room");
        if i % 10 == 9 {
            log.flush_without_release();
        }
    }
    let mut reader = PageReader::new();
    let spec = range(&log, stream(1), 1, 50, 50, Direction::Ascending);
    let (mut from_memory, mut from_medium) = (Vec::new(), Vec::new());
    let one = reader.read_staging(&log.appender, &spec, &mut from_memory).expect("all there");
    let other = reader.read(&mut log.medium, &spec, &mut from_medium).expect("all there");
    // Memory waits for nothing.
    assert_eq!((one.steps, one.rounds), (50, 0));
    assert_eq!(PageEnd { rounds: 0, ..other }, one);
    assert!(from_memory == from_medium, "the same bytes");
    log.appender.release(log.kept[50].location);
    let mut out = vec![1, 2, 3];
    let got = reader.read_staging(&log.appender, &spec, &mut out);
    assert!(matches!(got, Err(ReadError::Elsewhere(_))));
    assert_eq!(out, [1, 2, 3]);
    let spec = range(&log, stream(1), 40, 50, 50, Direction::Ascending);
    assert_eq!(reader.read_staging(&log.appender, &spec, &mut Vec::new()).expect("recent").records, 11);
}

/// Appends queue records of one stream, which have `prev` links only.
fn queue(log: &mut Log, stream: StreamId, mut prev: Location, count: u64) -> Vec<Location> {
    let mut all = Vec::new();
    for i in 0..count {
        let links = Links { prev, jump: Location::NONE };
        let record = NewRecord { stream, links, body_parts: &[&i.to_le_bytes()], ..NewRecord::default() };
        prev = log.appender.append(&record).expect("room");
        all.push(prev);
        if i % 5 == 4 {
            log.flush();
        }
    }
    log.flush();
    all
}

#[test]
fn a_chain_is_read_back_to_where_it_was_left() {
    let mut log = Log::new(small());
    let user = StreamId::user(tidegate_ids::UserId(5));
    let all = queue(&mut log, user, Location::SNAPSHOT, 60);
    let mut check = |stop: Location, limit, wanted: std::ops::Range<usize>, complete, next| {
        let spec = ReadSpec::Chain { stream: user, last: all[59], stop, limit };
        let mut out = Vec::new();
        let end = read_page(&mut log.medium, &spec, &mut out).expect("sound");
        let got: Vec<Location> = PackedRecords(&out).iter().map(|record| record.location).collect();
        assert_eq!(got, all[wanted]);
        assert_eq!((end.complete, end.next), (complete, next));
    };
    check(Location::NONE, 100, 0..60, true, Location::SNAPSHOT);
    check(all[10], 100, 11..60, true, all[10]);
    check(all[59], 100, 60..60, true, all[59]);
    check(all[10], 5, 55..60, false, all[54]);
    check(Location::NONE, 60, 0..60, true, Location::SNAPSHOT);
    let spec = ReadSpec::Chain { stream: stream(1), last: all[59], stop: Location::NONE, limit: 9 };
    let end = read_page(&mut log.medium, &spec, &mut Vec::new()).expect("nothing, but no error");
    assert_eq!((end.records, end.damaged, end.complete), (0, 1, false));
}

#[test]
fn a_command_is_found_by_its_number() {
    let mut log = Log::new(small());
    log.fill(200, 2, 9);
    let (stream, last) = (stream(1), log.spines[&stream(1)].last());
    let mut check = |number: u64, wanted: &[u64]| {
        let spec = ReadSpec::Number { stream, last, number: CommandNumber(number) };
        let (end, got) = read(&mut log.medium, &spec).expect("sound");
        assert_eq!((got.as_slice(), end.complete), (wanted, true));
    };
    check(100, &[100]);
    check(1, &[1]);
    check(57, &[57]);
    check(0, &[]);
    check(101, &[]);
    let spec = ReadSpec::At { location: log.kept[20].location };
    let mut out = Vec::new();
    let end = read_page(&mut log.medium, &spec, &mut out).expect("sound");
    assert_eq!(
        (end.records, PackedRecords(&out).iter().next().map(|record| record.body.to_vec())),
        (1, Some(log.kept[20].body.clone()))
    );
}

#[test]
fn a_link_into_a_dropped_segment_ends_the_walk() {
    let mut log = Log::new(small());
    log.fill(600, 3, 7);
    let gone = log.kept.iter().rposition(|one| one.location.segment == 2).expect("two segments");
    log.medium.segments.remove(&1);
    log.medium.segments.remove(&2);
    let first = log.kept[gone + 1..].iter().find(|one| one.stream == stream(1)).expect("kept").sequence;
    assert!(first.0 > 20);
    let check = |log: &mut Log, from, to, direction, wanted: Vec<u64>| {
        let spec = range(log, stream(1), from, to, 50, direction);
        let (end, got) = read(&mut log.medium, &spec).expect("the newest is there");
        assert_eq!(got, wanted);
        assert_eq!((end.first_available, end.damaged), (Some(first), 0));
        assert!(end.steps < 200);
    };
    check(&mut log, 1, u64::MAX, Direction::Ascending, Vec::new());
    check(&mut log, first.0 - 5, first.0 + 5, Direction::Ascending, (first.0..=first.0 + 5).collect());
    check(&mut log, 1, first.0 + 5, Direction::Descending, (first.0..=first.0 + 5).collect());
    check(&mut log, 3, 9, Direction::Descending, Vec::new());
    let spec = ReadSpec::At { location: log.kept[0].location };
    assert_eq!(read(&mut log.medium, &spec), Err(ReadError::Dropped(log.kept[0].location)));
}

/// A record's links went bad with it, and half of the stream behind it could not be reached any more. Now the record before
/// is looked for in the segments: wherever the bad byte is, the page loses at most this record.
#[test]
fn damage_in_a_record_costs_a_page_only_that_record() {
    let mut log = Log::new(small());
    log.fill(240, 2, 7);
    log.appender.seal();
    log.flush();
    let ours: Vec<_> = log.kept.iter().filter(|one| one.stream == stream(1)).cloned().collect();
    for bad in 0..ours.len() {
        let location = ours[bad].location;
        for (at, len) in [(0, 1), (9, 1), (20, 1), (30, 1), (60, 1), (95, 1), (100, 1), (0, 100)] {
            let (from, to) = (location.offset as usize + at, location.offset as usize + at + len);
            let bytes = log.medium.segments.get_mut(&location.segment).expect("there");
            let before = bytes[from..to].to_vec();
            bytes[from..to].iter_mut().for_each(|byte| *byte ^= 0x10);
            let spec = range(&log, stream(1), 1, u64::MAX, 200, Direction::Ascending);
            let (end, got) = read(&mut log.medium, &spec).expect("not even the newest stops it");
            // Links are not part of the record: without them it is still served.
            let lost = usize::from(at + len > 24);
            let wanted: Vec<u64> =
                (1..=ours.len() as u64).filter(|one| lost == 0 || *one != bad as u64 + 1).collect();
            assert_eq!((got, end.damaged as usize), (wanted, lost), "record {bad} byte {at}");
            let one = read(&mut log.medium, &ReadSpec::At { location });
            assert_eq!(one.is_err(), lost == 1);
            let bytes = log.medium.segments.get_mut(&location.segment).expect("there");
            bytes[from..to].copy_from_slice(&before);
        }
    }
}

#[test]
fn a_chain_goes_on_behind_lost_links() {
    let mut log = Log::new(small());
    let user = StreamId::user(tidegate_ids::UserId(5));
    let first = queue(&mut log, user, Location::SNAPSHOT, 30);
    log.fill(600, 3, 7);
    let all = [first.clone(), queue(&mut log, user, first[29], 30)].concat();
    assert!(all[30].segment > all[29].segment + 1);
    for (bad, count) in [(31, 1), (30, 1), (29, 1), (5, 1), (7, 9), (28, 4)] {
        let mut medium = log.medium.clone();
        for one in &all[bad..bad + count] {
            let bytes = medium.segments.get_mut(&one.segment).expect("there");
            bytes[one.offset as usize..one.offset as usize + 96].fill(0);
        }
        let spec = ReadSpec::Chain { stream: user, last: all[59], stop: Location::NONE, limit: 100 };
        let mut out = Vec::new();
        let end = read_page(&mut medium, &spec, &mut out).expect("the newest is sound");
        let got: Vec<Location> = PackedRecords(&out).iter().map(|record| record.location).collect();
        let wanted: Vec<Location> =
            all.iter().filter(|one| !all[bad..bad + count].contains(one)).copied().collect();
        assert_eq!((got, end.complete), (wanted, true));
        assert!(end.damaged >= 1);
    }
}

#[test]
fn a_broken_body_does_not_hide_older_commands() {
    let mut log = Log::new(small());
    log.fill(60, 2, 7);
    let ours: Vec<_> = log.kept.iter().filter(|one| one.stream == stream(1)).cloned().collect();
    let bad = ours[20].location;
    log.medium.segments.get_mut(&bad.segment).expect("there")[bad.offset as usize + 100] ^= 1;
    let last = log.spines[&stream(1)].last();
    let spec = |number| ReadSpec::Number { stream: stream(1), last, number: CommandNumber(number) };
    assert_eq!(read(&mut log.medium, &spec(5)).expect("sound").1, [5]);
    assert_eq!(read(&mut log.medium, &spec(21)), Err(ReadError::Damaged(bad)));
}

#[test]
fn links_that_lead_in_a_circle_or_elsewhere_end() {
    let mut log = Log::new(small());
    let user = StreamId::user(tidegate_ids::UserId(5));
    let own = Location::new(1, 512 + 64);
    let links = Links { prev: own, jump: own };
    let record = NewRecord {
        stream: user,
        sequence: Sequence(9),
        number: CommandNumber(9),
        device_prev: own,
        links,
        ..NewRecord::default()
    };
    assert_eq!(log.appender.append(&record), Ok(own));
    log.flush();
    let medium = &mut log.medium;
    let (end, _) =
        read(medium, &ReadSpec::Chain { stream: user, last: own, stop: Location::NONE, limit: 100 })
            .expect("ends");
    assert!(!end.complete);
    let number = ReadSpec::Number { stream: user, last: own, number: CommandNumber(1) };
    assert_eq!(read(medium, &number), Err(ReadError::Damaged(own)));
    let spec = ReadSpec::Range {
        stream: user,
        last: own,
        last_sequence: Sequence(9),
        from: Sequence(1),
        to: Sequence(9),
        limit: 9,
        bytes_max: usize::MAX,
        direction: Direction::Descending,
    };
    assert_eq!(read(medium, &spec).expect("ends").1, [9]);
}

#[test]
fn scanning_gives_what_recovery_gave_from_any_position_in_any_pieces() {
    let mut log = Log::new(small());
    log.fill(400, 5, 6);
    let numbers = log.medium.numbers();
    let recovered = recover(&mut log.medium, &numbers, None, |_| {}).expect("one log");
    for bytes_max in [1, 3000, usize::MAX / 2] {
        for start in (0..400).step_by(13) {
            let mut at = if start == 0 { Location::NONE } else { log.kept[start].location };
            let mut got = Vec::new();
            loop {
                let mut out = Vec::new();
                let scanned = scan_chunk(&mut log.medium, &recovered.extents, at, bytes_max, &mut out);
                assert_eq!(scanned.damage_count, 0);
                let next = scanned.next;
                assert!(next >= at);
                got.extend(PackedRecords(&out).iter().map(|record| record.location));
                if next == at || next >= recovered.end() {
                    assert_eq!(next, recovered.end());
                    break;
                }
                at = next;
            }
            let wanted: Vec<_> = log.kept[start..].iter().map(|one| one.location).collect();
            assert_eq!(got, wanted);
        }
    }
}

#[test]
fn scanning_steps_over_damage_as_recovery_does() {
    let mut log = Log::new(small());
    log.fill(200, 5, 6);
    for at in (1024..20_000).step_by(512) {
        let mut medium = log.medium.clone();
        medium.write(1, at, &[0x5a; 512]);
        let numbers = medium.numbers();
        let mut wanted = Vec::new();
        let recovered =
            recover(&mut medium, &numbers, None, |record| wanted.push(record.location)).expect("one log");
        let mut out = Vec::new();
        let scanned = scan_chunk(&mut medium, &recovered.extents, Location::NONE, usize::MAX / 2, &mut out);
        assert_eq!(scanned.next, recovered.end());
        assert_eq!(scanned.damage_count > 0, recovered.damage_count > 0);
        let got: Vec<_> = PackedRecords(&out).iter().map(|record| record.location).collect();
        assert_eq!(got, wanted);
    }
}

/// A segment that was gone ended the scan with an error, and whoever was owed what lay behind it asked for ever.
#[test]
fn scanning_goes_on_behind_a_segment_that_is_gone() {
    let mut log = Log::new(small());
    log.fill(400, 5, 6);
    let numbers = log.medium.numbers();
    let recovered = recover(&mut log.medium, &numbers, None, |_| {}).expect("one log");
    for gone in recovered.extents.iter().map(|extent| extent.segment) {
        let mut medium = log.medium.clone();
        medium.segments.remove(&gone);
        for bytes_max in [1, usize::MAX / 2] {
            let (mut at, mut got, mut damage) = (Location::NONE, Vec::new(), 0);
            while at < recovered.end() {
                let mut out = Vec::new();
                let scanned = scan_chunk(&mut medium, &recovered.extents, at, bytes_max, &mut out);
                assert!(scanned.next > at, "it goes on");
                got.extend(PackedRecords(&out).iter().map(|record| record.location));
                let kinds = scanned.damage.map(|damage| (damage.kind, damage.segment));
                assert!(kinds.is_none_or(|kind| kind == (DamageKind::Segment, gone)), "{kinds:?}");
                damage += scanned.damage_count;
                at = scanned.next;
            }
            let kept = log.kept.iter().map(|one| one.location);
            let wanted: Vec<Location> = kept.filter(|location| location.segment != gone).collect();
            assert_eq!((got, damage), (wanted, 1));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_page_is_what_a_vector_says(
        lens in proptest::collection::vec((0_u64..3, 0_usize..400), 1..150),
        asked in proptest::collection::vec((0_u64..60, 0_u64..60, 1_u32..40, any::<bool>()), 1..8),
    ) {
        let mut log = Log::new(small());
        for (index, (number, len)) in lens.iter().enumerate() {
            log.append(stream(*number), &body(index as u64, *len)).expect("room");
            if index % 4 == 3 {
                log.flush();
            }
        }
        log.flush();
        for (from, to, limit, ascending) in asked {
            for number in 0..3 {
                if !log.spines.contains_key(&stream(number)) {
                    continue;
                }
                let direction = if ascending { Direction::Ascending } else { Direction::Descending };
                let spec = range(&log, stream(number), from, to, limit, direction);
                let (_, got) = read(&mut log.medium, &spec).expect("sound");
                let all: Vec<u64> = (from.max(1)..=to.min(log.spines[&stream(number)].count())).collect();
                let count = all.len().min(limit as usize);
                let wanted = if ascending { &all[..count] } else { &all[all.len() - count..] };
                prop_assert_eq!(got.as_slice(), wanted);
            }
        }
    }
}
