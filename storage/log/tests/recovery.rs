//! What a log holds after a crash, after damage, after both.

mod harness;

use harness::{DIRECTORY, Kept, Log, body, identity, recover_all, small, stream};
use tidegate_ids::Location;
use tidegate_storage_log::{
    AppenderConfig, AppenderStart, Damage, DamageKind, Loss, Medium, MediumError, MemoryMedium, PreviousEnd,
    RecoverError, Recovered, SegmentExtent, crc32c, recover, recover_after,
};

fn tiny() -> AppenderConfig {
    AppenderConfig { segment_bytes: 8192, block_bytes: 512, staging_bytes: 64 * 1024, batch_bytes_max: 4096 }
}

/// The bytes that a record takes in its segment.
fn range(kept: &Kept) -> (u32, u32, u32) {
    let len = tidegate_storage_log::stored_len(kept.body.len()) as u32;
    (kept.location.segment, kept.location.offset, kept.location.offset + len)
}

#[test]
fn everything_synced_is_recovered_over_many_segments() {
    let mut log = Log::new(small());
    log.fill(1000, 17, 5);
    let (recovered, kept) = recover_all(&log.medium);
    assert_eq!(kept, log.kept);
    assert_eq!(recovered.damage, []);
    assert_eq!(recovered.cut, None);
    assert!(recovered.unclean);
    assert!(recovered.extents.len() > 3, "{}", recovered.extents.len());
    assert_eq!(recovered.identity, Some(identity()));
    assert_eq!(recovered.last_synced(), log.appender.last_synced());
    assert_eq!(recovered.next_batch(), log.appender.open_batch());
    assert_eq!(recovered.end(), log.appender.committed_end());
    assert_eq!(recovered.records, 1000);

    log.appender.seal();
    log.flush();
    let (recovered, kept) = recover_all(&log.medium);
    assert_eq!(kept, log.kept);
    assert!(!recovered.unclean);
    assert!(recovered.extents.iter().all(|extent| extent.footer_offset.is_some()));
    assert_eq!(recovered.last_synced(), log.appender.last_synced());
}

#[test]
fn a_log_without_batches_is_empty_and_clean() {
    for medium in [MemoryMedium::new(), Log::new(small()).medium] {
        let (recovered, kept) = recover_all(&medium);
        assert_eq!((kept.len(), recovered), (0, Recovered::default()));
    }
}

/// Recovers, goes on, and recovers again: what was cut must be gone for good.
fn go_on(config: AppenderConfig, medium: MemoryMedium, expected: &[Kept]) {
    let (recovered, kept) = recover_all(&medium);
    assert_eq!(kept, expected);
    assert_eq!(recovered.damage, []);
    let start = AppenderStart { identity: identity(), previous: recovered.previous };
    let mut log = Log::resume(config, start, medium);
    log.append(stream(99), b"after the crash").expect("room");
    log.flush();
    log.append(stream(99), b"and once more").expect("room");
    log.flush();
    let (again, all) = recover_all(&log.medium);
    let wanted: Vec<Kept> = expected.iter().cloned().chain(log.kept.clone()).collect();
    assert_eq!(all, wanted);
    assert_eq!(again.damage, []);
    assert_eq!(again.cut, None);
}

#[test]
fn a_torn_tail_is_cut_at_every_sector_and_never_comes_back() {
    for (before, tail) in [(30, 9), (0, 9), (3, 1), (28, 30)] {
        let mut log = Log::new(small());
        log.fill(before, 5, 3);
        let synced = log.kept.clone();
        let untorn = log.medium.clone();
        (0..tail).for_each(|i| assert!(log.append(stream(2), &body(i, 100)).is_ok()));
        let batch = log.write_batch().expect("a batch");
        let sectors = batch.bytes.len() / 512;
        for written in 0..=sectors {
            let mut medium = untorn.clone();
            medium.write(batch.segment, u64::from(batch.offset), &batch.bytes[..written * 512]);
            let survives = if written == sectors { log.kept.clone() } else { synced.clone() };
            let (recovered, _) = recover_all(&medium);
            // A segment's header alone is a segment without batches, not a torn one.
            let header = usize::from(batch.offset == 0);
            assert_eq!(
                recovered.cut.is_some(),
                written > header && written < sectors,
                "{written} of {sectors}"
            );
            go_on(small(), medium, &survives);
        }
        for lost in 0..sectors {
            let mut medium = untorn.clone();
            let mut bytes = batch.bytes.to_vec();
            bytes[lost * 512..lost * 512 + 512].fill(0);
            medium.write(batch.segment, u64::from(batch.offset), &bytes);
            go_on(small(), medium, &synced);
        }
    }
}

/// A log of several segments, the last one sealed or not, with small and larger batches.
fn several(sealed: bool) -> Log {
    let mut log = Log::new(tiny());
    log.fill(27, 5, 3);
    (0..9).for_each(|i| assert!(log.append(stream(3), &body(i, 60)).is_ok()));
    log.flush();
    if sealed {
        log.appender.seal();
        log.flush();
    }
    log
}

/// What every recovery of a log with one bad stretch must satisfy.
fn judge(log: &Log, medium: &MemoryMedium, bad: (u32, u32, u32), sealed: bool) {
    let (recovered, kept) = recover_all(medium);
    let lost: Vec<&Kept> = log.kept.iter().filter(|one| !kept.contains(one)).collect();
    assert!(kept.iter().all(|one| log.kept.contains(one)), "a record was made up: {bad:?}");
    assert_eq!(kept.len() + lost.len(), log.kept.len(), "a record was given twice: {bad:?}");
    let harmless = kept.len() == log.kept.len();
    judge_losses(&recovered, &lost);
    if recovered.damage.is_empty() && recovered.cut.is_none() {
        assert!(harmless, "a loss is not reported: {bad:?}");
    }
    if recovered.cut.is_none() {
        for one in lost {
            let (segment, from, to) = range(one);
            let hit = segment == bad.0 && from < bad.2 && to > bad.1;
            assert!(hit, "damage at {bad:?} cost the record at {segment}@{from}: {:?}", recovered.damage);
        }
    } else if sealed {
        assert!(harmless, "a cut took a record of a sealed log: {bad:?}");
    }
}

/// What is lost and was not cut is told, so that its sequence is not given again; a cut tail is no loss.
fn judge_losses(recovered: &Recovered, lost: &[&Kept]) {
    for one in lost {
        let (segment, from, to) = range(one);
        let told =
            recovered.lost.iter().find(|loss| loss.segment == segment && loss.from < to && loss.to > from);
        let is_cut = recovered.cut.is_some_and(|cut| cut.segment == segment && cut.from <= from);
        assert!(told.is_some() != is_cut, "{segment}@{from}: {:?} {:?}", recovered.lost, recovered.cut);
        let record = told.and_then(|loss| loss.record);
        assert!(record.is_none_or(|record| record == (one.stream, one.sequence)), "{record:?}");
    }
    let is_hit = |loss: &&Loss| {
        let hits = |one: &&Kept| {
            let (segment, from, to) = range(one);
            loss.segment == segment && loss.from < to && loss.to > from
        };
        lost.iter().copied().any(|one| hits(&one))
    };
    // Batches of which nothing is left may have held the footer only.
    let known = recovered.lost.iter().filter(|loss| loss.record.is_some());
    known.for_each(|loss| assert!(is_hit(&loss), "{loss:?} is lost, and nothing is missing"));
}

/// The last thing that was acknowledged lay in a sector that the disk refuses: that looked like a tail that was cut. It was
/// given its sequence again.
#[test]
fn an_end_that_cannot_be_read_is_a_loss_and_a_torn_one_is_none() {
    let log = several(false);
    let last = log.kept.last().expect("some");
    let (segment, from, _) = range(last);
    let sector = u64::from(from - from % 512);
    let segments = log.medium.numbers();
    let mut scratched = Scratched(log.medium.clone(), vec![(segment, sector)]);
    let recovered = recover(&mut scratched, &segments, Some(DIRECTORY), |_| {}).expect("one log");
    assert!(recovered.lost.iter().any(|loss| loss.segment == segment && u64::from(loss.from) == sector));
    let mut torn = log.medium.clone();
    torn.write(segment, sector, &[0; 512]);
    let (recovered, _) = recover_all(&torn);
    assert_eq!((recovered.lost, recovered.cut.is_some()), (Vec::new(), true));
}

#[test]
fn a_body_that_is_damaged_still_says_which_record_it_was() {
    let log = several(true);
    for one in &log.kept {
        let (segment, from, to) = range(one);
        let mut medium = log.medium.clone();
        medium.segments.get_mut(&segment).expect("there")[from as usize + 100] ^= 1;
        let (recovered, _) = recover_all(&medium);
        let record = Some((one.stream, one.sequence));
        assert_eq!(recovered.lost, [Loss { segment, from, to, record }]);
        let named: Vec<_> = recovered.damage.iter().filter(|damage| damage.record.is_some()).collect();
        assert_eq!(named, [&Damage { record, ..Damage::new(DamageKind::Record, segment, from, to) }]);
        // The same where it is only the links that are gone.
        let mut medium = log.medium.clone();
        medium.segments.get_mut(&segment).expect("there")[from as usize] ^= 1;
        let (recovered, _) = recover_all(&medium);
        assert_eq!(recovered.lost, []);
        let named: Vec<_> = recovered.damage.iter().filter(|damage| damage.record.is_some()).collect();
        assert_eq!(named, [&Damage { record, ..Damage::new(DamageKind::Links, segment, from, to) }]);
    }
}

#[test]
fn every_flipped_byte_is_detected_or_harmless() {
    for sealed in [false, true] {
        let log = several(sealed);
        let mut medium = log.medium.clone();
        for segment in log.medium.numbers() {
            let written = |at: &usize| {
                let at = *at as u32;
                let within = log.synced.iter().any(|one| one.0 == segment && (one.1..one.2).contains(&at));
                // What was never written is all alike.
                within || at.is_multiple_of(61)
            };
            for at in (0..log.medium.segments[&segment].len()).filter(written) {
                let flip = 1 << (at % 8);
                medium.segments.get_mut(&segment).expect("there")[at] ^= flip;
                judge(&log, &medium, (segment, at as u32, at as u32 + 1), sealed);
                medium.segments.get_mut(&segment).expect("there")[at] ^= flip;
            }
        }
    }
}

#[test]
fn a_lost_stretch_of_sectors_costs_only_its_records() {
    for sealed in [false, true] {
        let log = several(sealed);
        for segment in log.medium.numbers() {
            for at in (0..8192_u32).step_by(512) {
                let mut medium = log.medium.clone();
                let bytes = medium.segments.get_mut(&segment).expect("there");
                bytes[at as usize..at as usize + 512].fill(0xa5);
                judge(&log, &medium, (segment, at, at + 512), sealed);
            }
        }
    }
}

/// A medium with sectors that cannot be read.
struct Scratched(MemoryMedium, Vec<(u32, u64)>);

impl Medium for Scratched {
    fn segment_len(&self, segment: u32) -> Result<u64, MediumError> {
        self.0.segment_len(segment)
    }

    fn read(&mut self, segment: u32, offset: u64, into: &mut [u8]) -> Result<usize, MediumError> {
        let end = offset + into.len() as u64;
        let scratch = self.1.iter().find(|(bad, at)| *bad == segment && at + 512 > offset && *at < end);
        match scratch {
            Some((_, offset)) => Err(MediumError::Unreadable { segment, offset: *offset, os_error: 5 }),
            None => self.0.read(segment, offset, into),
        }
    }
}

#[test]
fn a_sector_that_cannot_be_read_is_reported_and_costs_only_its_records() {
    let log = several(true);
    let segments = log.medium.numbers();
    for at in (512..4096_u64).step_by(512) {
        let mut medium = Scratched(log.medium.clone(), vec![(1, at)]);
        let mut kept = Vec::new();
        let recovered =
            recover(&mut medium, &segments, Some(DIRECTORY), |record| kept.push(Kept::of(&record)))
                .expect("one log");
        let unreadable =
            recovered.damage.iter().find(|damage| damage.kind == DamageKind::Unreadable).expect("reported");
        assert_eq!((unreadable.segment, u64::from(unreadable.from)), (1, at));
        for one in log.kept.iter().filter(|one| !kept.contains(one)) {
            let (segment, from, to) = range(one);
            assert!(segment == 1 && u64::from(from) < at + 512 && u64::from(to) > at);
        }
    }
}

/// The start of a segment went missing. The tail cut in the segment before looked proven, because the numbers of its
/// batches had been used again: records nobody was promised came back. Now any batch that is left in the segment says the
/// number of its first, and without any, what is bad at the end of the segment before is taken for a tail.
#[test]
fn a_cut_tail_stays_cut_when_the_start_of_the_next_segment_is_lost() {
    let mut log = Log::new(tiny());
    log.fill(6, 2, 3);
    let synced = log.kept.clone();
    (0..6).for_each(|i| assert!(log.append(stream(1), &body(i, 200)).is_ok()));
    let torn = log.write_batch().expect("a batch");
    let sound = torn.bytes.len() - 512;
    log.medium.write(torn.segment, u64::from(torn.offset) + sound as u64, &[0; 512]);
    let (recovered, _) = recover_all(&log.medium);
    assert!(recovered.cut.is_some());

    let start = AppenderStart { identity: identity(), previous: recovered.previous };
    let mut next = Log::resume(tiny(), start, log.medium.clone());
    next.fill(40, 2, 3);
    let segment = next.kept[0].location.segment;
    for lost in (512..=8192).step_by(512) {
        let mut medium = next.medium.clone();
        medium.segments.get_mut(&segment).expect("there")[..lost].fill(0);
        let (recovered, kept) = recover_all(&medium);
        // The logical record starts behind 24 bytes of placement, and holds without it.
        let intact = |one: &&Kept| one.location.segment > segment || one.location.offset + 24 >= lost as u32;
        let wanted: Vec<Kept> = synced.iter().chain(next.kept.iter().filter(intact)).cloned().collect();
        assert!(recovered.damage.iter().any(|damage| damage.kind == DamageKind::SegmentHeader));
        assert!(kept.starts_with(&synced));
        assert_eq!(kept, wanted, "{lost}: {:?}", recovered.damage);
        assert_eq!(recovered.damage.len() > 1, lost > 512);
    }
}

/// A batch with one record of stream 66, as it would have to look at `offset` of segment 1 to be taken for number 3 by
/// somebody who believes that the data directory has this id.
fn forged(directory: [u8; 16], offset: u32) -> Vec<u8> {
    let mut forger = Log::new(tiny());
    forger.append(stream(66), b"I never said this").expect("room");
    let mut bytes = forger.write_batch().expect("a batch").bytes[512..].to_vec();
    let guard = crc32c(&directory);
    let mut header: [u8; 64] = *bytes.first_chunk().expect("a header");
    header[8..16].copy_from_slice(&3_u64.to_le_bytes());
    header[28..32].copy_from_slice(&offset.to_le_bytes());
    let sum = crc32c(&header[8..]) ^ guard;
    header[4..8].copy_from_slice(&sum.to_le_bytes());
    let trailer = bytes.len() - 64;
    bytes[..64].copy_from_slice(&header);
    bytes[trailer..].copy_from_slice(&header);
    bytes
}

/// A user sent a message that held a whole valid batch, and a sector in front of it went bad. Resynchronising looks at
/// every block, so it looks into what people sent; the guard keeps it from believing it.
#[test]
fn a_batch_inside_a_message_is_not_believed() {
    // Who knows the id of the directory can forge: that shows that the rest of the forgery is right.
    for (directory, believed) in [([0; 16], false), (DIRECTORY, true)] {
        let mut log = Log::new(tiny());
        log.append(stream(1), &body(1, 8)).expect("room");
        log.flush();
        // The second batch starts at 1024, its record's body at 1024 + 64 + 96, a block boundary within it at 1536.
        let mut message = vec![0; 2000];
        let forged = forged(directory, 1536);
        let at = 1536 - (1024 + 64 + 96);
        message[at..at + forged.len()].copy_from_slice(&forged);
        let location = log.append(stream(1), &message).expect("room");
        assert_eq!(location, Location::new(1, 1024 + 64));
        log.flush();
        log.append(stream(1), b"later").expect("room");
        log.flush();
        log.medium.write(1, 1024, &[0; 512]);
        let (recovered, kept) = recover_all(&log.medium);
        assert!(!recovered.damage.is_empty());
        assert_eq!(kept.iter().any(|one| one.stream == stream(66)), believed);
        assert_eq!(kept.iter().any(|one| one.body == b"later"), !believed);
    }
}

#[test]
fn a_missing_segment_is_damage_and_the_rest_is_read() {
    let log = several(true);
    let mut medium = log.medium.clone();
    let numbers = medium.numbers();
    medium.segments.remove(&2);
    let mut kept = Vec::new();
    let recovered =
        recover(&mut medium, &numbers, None, |record| kept.push(Kept::of(&record))).expect("one log");
    let wanted: Vec<Kept> = log.kept.iter().filter(|one| one.location.segment != 2).cloned().collect();
    assert_eq!(kept, wanted);
    assert!(recovered.damage.iter().any(|damage| damage.kind == DamageKind::Segment && damage.segment == 2));
    assert_eq!(recovered.lost, [Loss::whole(2)]);
    assert!(!recovered.unclean);
}

#[test]
fn segments_dropped_at_the_old_end_are_no_damage() {
    let log = several(true);
    let mut medium = log.medium.clone();
    medium.segments.remove(&1);
    let (recovered, kept) = recover_all(&medium);
    let wanted: Vec<Kept> = log.kept.iter().filter(|one| one.location.segment > 1).cloned().collect();
    assert_eq!(kept, wanted);
    assert_eq!(recovered.damage, []);
}

/// What a snapshot covers is not read again; what follows it is the same as in a recovery from the beginning.
#[test]
fn a_recovery_behind_a_snapshot_gives_out_the_rest() {
    for is_sealed in [true, false] {
        let mut log = Log::new(tiny());
        log.fill(120, 5, 3);
        if is_sealed {
            log.appender.seal();
            log.flush();
        }
        let numbers = log.medium.numbers();
        let (whole, _) = recover_all(&log.medium);
        let both = whole.extents.iter().copied().zip(whole.ends.iter().copied());
        let sealed: Vec<(SegmentExtent, PreviousEnd)> =
            both.filter(|(extent, _)| extent.footer_offset.is_some()).collect();
        assert!(sealed.len() >= 3);
        for (extent, covered) in sealed {
            let mut medium = log.medium.clone();
            medium.segments.retain(|number, _| *number > extent.segment);
            let mut kept = Vec::new();
            let rest = recover_after(&mut medium, &numbers, None, covered, |one| kept.push(Kept::of(&one)))
                .expect("one log");
            let wanted = log.kept.iter().filter(|one| one.location.segment > extent.segment);
            assert_eq!(kept, wanted.cloned().collect::<Vec<_>>());
            assert_eq!((rest.previous, rest.unclean, rest.damage_count), (whole.previous, !is_sealed, 0));
            assert_eq!(rest.extents, whole.extents[whole.extents.len() - rest.extents.len()..]);
        }
    }
}

#[test]
fn a_snapshot_of_another_history_is_refused() {
    let log = several(true);
    let (whole, _) = recover_all(&log.medium);
    let numbers = log.medium.numbers();
    let covered = whole.ends[0];
    let check = |covered: PreviousEnd, refused: bool| {
        let got = recover_after(&mut log.medium.clone(), &numbers, None, covered, |_| {});
        let segment = numbers[1];
        let found = whole.ends[0];
        assert_eq!(got.err(), refused.then_some(RecoverError::Covered { segment, found }), "{covered:?}");
    };
    check(covered, false);
    check(PreviousEnd { batch: covered.batch.next(), ..covered }, true);
    let end = Location::new(covered.end.segment, covered.end.offset - 512);
    check(PreviousEnd { end, ..covered }, true);
}

#[test]
fn what_cannot_be_one_log_is_refused() {
    let one = several(true).medium;
    let check = |medium: &MemoryMedium, numbers: &[u32], wanted: RecoverError| {
        let got = recover(&mut medium.clone(), numbers, None, |_| {});
        assert_eq!(got, Err(wanted));
    };
    check(&one, &[2, 1], RecoverError::Order(1));
    check(&one, &[1, 1], RecoverError::Order(1));

    let mut other = identity();
    other.log.epoch = 2;
    let mut medium = one.clone();
    let start = AppenderStart { identity: other, ..AppenderStart::default() };
    let mut foreign = Log::resume(tiny(), start, medium.clone());
    foreign.append(stream(1), b"x").expect("room");
    foreign.flush();
    let number = foreign.kept[0].location.segment;
    medium.segments = foreign.medium.segments;
    check(&medium, &[1, number], RecoverError::MixedLogs(number));

    let patched = |at: usize| {
        let mut medium = one.clone();
        let bytes = medium.segments.get_mut(&1).expect("there");
        bytes[at] = 9;
        let sum = crc32c(&bytes[12..512]);
        bytes[8..12].copy_from_slice(&sum.to_le_bytes());
        medium
    };
    check(&patched(12), &[1], RecoverError::Version { segment: 1, version: 9 });
    check(&patched(34), &[1], RecoverError::Encoding { segment: 1, encoding: 9 });
}

#[test]
fn the_record_that_recovery_gives_out_is_the_one_appended() {
    let mut log = Log::new(small());
    let first = log.append(stream(1), b"one").expect("room");
    log.append(stream(1), b"two").expect("room");
    log.flush();
    let mut seen = Vec::new();
    recover(&mut log.medium.clone(), &[1], None, |record| seen.push((record.placement, record.head)))
        .expect("one log");
    let (placement, head) = seen[1];
    assert_eq!((placement.prev, placement.jump), (first, first));
    assert_eq!((head.kind, head.flags, head.number.0, head.device_prev), (9, 1, 2, first));
    assert_eq!((head.time.0, head.body_len), (1_700_000_000_002, 3));
    assert_eq!(first, Location::new(1, 512 + 64));
}
