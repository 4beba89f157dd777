//! What an appender's caller sees: rolls, limits, cursors, memory.

mod harness;

use harness::{Kept, Log, body, recover_all, small, stream};
use std::collections::BTreeMap;
use tidegate_ids::{BatchNumber, Location, Position};
use tidegate_storage_log::{AppendError, AppenderConfig, ConfigError, MemoryMedium, read_footer};

#[test]
fn sizes_that_cannot_be_are_refused() {
    let base = AppenderConfig::default();
    assert_eq!(base.check(), Ok(()));
    let check = |config: AppenderConfig, wanted: ConfigError| assert_eq!(config.check(), Err(wanted));
    for block_bytes in [0, 256, 768, 8192] {
        check(AppenderConfig { block_bytes, ..base }, ConfigError::Block);
    }
    for batch_bytes_max in [0, 2048, 4097, 16 * 1024 * 1024] {
        check(AppenderConfig { batch_bytes_max, ..base }, ConfigError::Batch);
    }
    for segment_bytes in [0, 4096, 64 * 1024 + 100, u32::MAX] {
        check(AppenderConfig { segment_bytes, ..base }, ConfigError::Segment);
    }
    check(AppenderConfig { segment_bytes: 8192, block_bytes: 4096, ..base }, ConfigError::Segment);
    check(AppenderConfig { batch_bytes_max: 4096, block_bytes: 2048, ..base }, ConfigError::Batch);
    check(AppenderConfig { staging_bytes: 4 * 1024 * 1024, ..base }, ConfigError::Staging);
}

#[test]
fn the_smallest_sizes_of_every_block_still_take_records() {
    for block_bytes in [512, 1024, 2048, 4096] {
        let batch_bytes_max = 4096.max(4 * block_bytes);
        let segment_bytes = 8192.max(5 * block_bytes);
        let config =
            AppenderConfig { segment_bytes, block_bytes, staging_bytes: 128 * 1024, batch_bytes_max };
        let mut log = Log::new(config);
        let largest = log.appender.body_bytes_max();
        assert!(largest >= block_bytes as usize - 128, "{block_bytes}: {largest}");
        for i in 0..30_u64 {
            let len = if i % 3 == 0 { largest } else { i as usize };
            log.append(stream(i % 5), &body(i, len)).expect("room");
            log.flush();
        }
        let (recovered, kept) = recover_all(&log.medium);
        assert_eq!((kept, recovered.damage), (log.kept, Vec::new()));
    }
}

#[test]
fn only_one_batch_flies_and_the_next_gathers_meanwhile() {
    let mut log = Log::new(small());
    assert!(!log.appender.has_batch());
    assert!(log.write_batch().is_none());
    log.append(stream(1), b"first").expect("room");
    assert_eq!(log.appender.appended_through(), BatchNumber(1));
    let first = log.write_batch().expect("a batch");
    assert_eq!((first.number, first.offset, first.bytes.len()), (BatchNumber(1), 0, 1024));
    log.append(stream(1), b"second").expect("room");
    assert_eq!(
        (log.appender.appended_through(), log.appender.open_batch()),
        (BatchNumber(2), BatchNumber(2))
    );
    assert!(!log.appender.has_batch());
    assert!(log.appender.take_batch().is_none());
    assert_eq!(log.appender.committed_after(Location::NONE), None);
    log.appender.synced(first.number);
    assert_eq!(log.appender.last_synced(), BatchNumber(1));
    assert_eq!(log.appender.committed_after(Location::NONE).map(|record| record.body), Some(&b"first"[..]));
    let second = log.write_batch().expect("a batch");
    assert_eq!((second.number, second.offset), (BatchNumber(2), 1024));
    assert_eq!(log.appender.committed(Location::NONE).count(), 1);
    log.appender.synced(second.number);
    assert_eq!(log.appender.committed(Location::NONE).count(), 2);
}

#[test]
#[should_panic(expected = "none is in flight")]
fn a_sync_that_nobody_waits_for_is_our_fault() {
    Log::new(small()).appender.synced(BatchNumber(1));
}

#[test]
fn the_bytes_of_a_batch_stay_while_somebody_holds_them() {
    let mut log = Log::new(small());
    log.append(stream(1), &body(1, 300)).expect("room");
    let batch = log.write_batch().expect("a batch");
    let (held, before, at) = (batch.bytes.clone(), batch.bytes.to_vec(), batch.bytes.as_ptr());
    log.appender.synced(batch.number);
    log.appender.release(log.appender.committed_end());
    for round in 0..50 {
        log.append(stream(1), &body(round, 300)).expect("room");
        log.flush();
    }
    assert_eq!((held.as_ptr(), held.to_vec()), (at, before));
}

#[test]
fn cursors_see_every_committed_record_once_and_in_order() {
    let mut log = Log::new(AppenderConfig { staging_bytes: 4 << 20, ..small() });
    let mut cursors =
        [(Location::NONE, Vec::new()), (Location::NONE, Vec::new()), (Location::NONE, Vec::new())];
    for i in 0..600_u64 {
        log.append(stream(i % 7), &body(i, (i * 13 % 300) as usize)).expect("room");
        if i % 4 == 3 {
            while let Some(batch) = log.write_batch() {
                log.appender.synced(batch.number);
            }
            log.refill();
        }
        for (pace, (position, seen)) in cursors.iter_mut().enumerate() {
            let mut committed = log.appender.committed(*position);
            seen.extend(committed.by_ref().take(pace).map(|record| Kept::of(&record)));
            *position = committed.position();
        }
        let slowest = cursors.iter().skip(1).map(|(position, _)| *position).min().expect("cursors");
        log.appender.release(slowest.min(cursors[0].0));
    }
    log.flush_without_release();
    for (position, seen) in &mut cursors {
        let mut committed = log.appender.committed(*position);
        seen.extend(committed.by_ref().map(|record| Kept::of(&record)));
        assert_eq!(committed.position(), log.appender.committed_end());
        assert_eq!(*seen, log.kept);
    }
}

#[test]
fn every_record_in_memory_can_be_read_at_its_location_and_nowhere_else() {
    let mut log = Log::new(AppenderConfig { staging_bytes: 4 << 20, ..small() });
    for i in 0..200_u64 {
        log.append(stream(i % 7), &body(i, (i * 13 % 300) as usize)).expect("room");
        if i % 11 == 10 {
            log.flush_without_release();
        }
    }
    for one in &log.kept {
        let record = log.appender.read(one.location).expect("in memory");
        assert_eq!(Kept::of(&record), *one);
        for shift in [1, 8, 96] {
            let beside = Location::new(one.location.segment, one.location.offset + shift);
            assert!(log.appender.read(beside).is_none_or(|record| record.location != one.location));
        }
    }
    let middle = log.kept[100].location;
    log.appender.release(middle);
    assert!(log.appender.staging_start() <= middle);
    assert!(log.appender.staging_start() > Location::NONE);
    assert!(log.appender.read(log.kept[0].location).is_none());
    assert!(log.appender.read(middle).is_some());
}

#[test]
fn releasing_too_much_keeps_what_is_not_durable() {
    let mut log = Log::new(small());
    log.append(stream(1), b"in flight").expect("room");
    let batch = log.write_batch().expect("a batch");
    log.append(stream(1), b"open").expect("room");
    log.appender.release(log.appender.appended_end());
    assert!(log.kept.iter().all(|one| log.appender.read(one.location).is_some()));
    assert_eq!(log.appender.staging_start(), Location::NONE);
    log.appender.synced(batch.number);
    log.appender.release(log.appender.appended_end());
    assert!(log.appender.read(log.kept[0].location).is_none());
    assert!(log.appender.read(log.kept[1].location).is_some());
}

#[test]
#[should_panic(expected = "no longer here")]
fn a_cursor_behind_staging_is_told() {
    let mut log = Log::new(small());
    log.fill(50, 3, 5);
    let _ = log.appender.committed(Location::NONE);
}

#[test]
fn refusals_change_nothing() {
    let mut log = Log::new(small());
    let largest = log.appender.body_bytes_max();
    assert_eq!(log.append(stream(1), &vec![0; largest + 1]), Err(AppendError::TooLarge));
    log.append(stream(1), &vec![7; largest]).expect("the largest fits");
    log.flush();
    let mut refused = 0;
    for i in 0..4000_u64 {
        let before = (log.appender.appended_end(), log.appender.appended_through());
        match log.append(stream(i % 3), &body(i, 100)) {
            Ok(_) => {}
            Err(error) => {
                assert!(matches!(error, AppendError::StagingFull | AppendError::NoSegment));
                assert_eq!(before.1, log.appender.appended_through());
                assert!(log.appender.staging_allocated() <= log.config.staging_bytes);
                refused += 1;
                log.flush();
            }
        }
    }
    log.flush();
    assert!(refused > 3);
    let (_, kept) = recover_all(&log.medium);
    assert_eq!(kept, log.kept);
}

/// A disk refuses a batch while others gather and wait: what was promised stays, the rest was never there.
#[test]
fn after_a_failed_write_only_what_is_committed_is_left() {
    let mut log = Log::new(small());
    let committed: Vec<Location> = (0..5).map(|_| log.append(stream(1), b"kept").unwrap()).collect();
    let batch = log.write_batch().unwrap();
    log.appender.synced(batch.number);
    let end = log.appender.committed_end();
    // One in flight, some closed behind it, one open.
    let lost: Vec<Location> = (0..180).map(|_| log.append(stream(1), &[1; 200]).unwrap()).collect();
    assert!(log.write_batch().is_some());
    assert!(log.appender.appended_through() > log.appender.last_synced());
    log.appender.fail();
    assert_eq!(log.appender.appended_through(), log.appender.last_synced());
    assert_eq!((log.appender.appended_end(), log.appender.committed_end()), (end, end));
    assert!(committed.iter().all(|location| log.appender.read(*location).is_some()));
    assert!(lost.iter().all(|location| log.appender.read(*location).is_none()));
    assert_eq!(log.appender.committed(Position::default()).count(), committed.len());
    assert_eq!(log.append(stream(2), b"late"), Err(AppendError::Failed));
    log.appender.seal();
    assert!(!log.appender.has_batch() && log.appender.take_batch().is_none());
}

#[test]
fn without_a_spare_segment_appending_waits_and_goes_on() {
    let mut log = Log::new(small());
    let mut refused = false;
    for i in 0..2000_u64 {
        let got = log.append(stream(i % 3), &body(i, 200));
        if got == Err(AppendError::NoSegment) {
            refused = true;
            break;
        }
        assert!(got.is_ok());
        while let Some(batch) = log.write_batch() {
            log.appender.synced(batch.number);
            log.appender.release(log.appender.committed_end());
        }
    }
    assert!(refused);
    assert_eq!(log.appender.spare_segments(), 0);
    log.refill();
    log.append(stream(1), b"on").expect("there is a segment again");
    log.flush();
    let (_, kept) = recover_all(&log.medium);
    assert_eq!(kept, log.kept);
}

#[test]
fn a_roll_puts_footer_and_seal_between_the_segments() {
    let mut log = Log::new(small());
    let mut seals = Vec::new();
    // Nothing is taken until three segments' worth was appended: the footers still come out in their places.
    let config = AppenderConfig { staging_bytes: 1 << 20, ..small() };
    log.appender = Log::new(config).appender;
    while log.appender.spare_segments() > 0 {
        let i = log.kept.len() as u64;
        log.append(stream(i % 40), &body(i, 150)).expect("room");
    }
    let mut numbers = Vec::new();
    while let Some(batch) = log.write_batch() {
        numbers.push(batch.number.0);
        if batch.seals {
            seals.push(batch.segment);
        }
        log.appender.synced(batch.number);
    }
    assert_eq!(seals, [1]);
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    let (_, kept) = recover_all(&log.medium);
    assert_eq!(kept, log.kept);
}

/// Checks each footer against the records of its segment.
fn check_footers(medium: &MemoryMedium) -> Vec<usize> {
    let (recovered, kept) = recover_all(medium);
    let mut lens = Vec::new();
    for extent in recovered.extents.iter().filter(|extent| extent.footer_offset.is_some()) {
        let entries = read_footer(&mut medium.clone(), extent).expect("readable").expect("sealed");
        let mut wanted = BTreeMap::new();
        for one in kept.iter().filter(|one| one.location.segment == extent.segment) {
            let (last, count) = wanted.entry(one.stream).or_insert((Location::NONE, 0));
            (*last, *count) = (one.location, *count + 1);
        }
        assert_eq!(entries.len(), wanted.len());
        for entry in &entries {
            let (last, count) = wanted[&entry.stream];
            assert_eq!((entry.last_offset, entry.count), (last.offset, count));
            let record = kept.iter().find(|one| one.location == last).expect("kept");
            assert_eq!(entry.last_sequence, record.sequence);
        }
        lens.push(entries.len());
    }
    lens
}

#[test]
fn footers_list_the_streams_of_their_segments() {
    for (config, streams) in [
        (small(), 1),
        (small(), 60),
        // More entries than one batch holds: 4 KiB hold 123.
        (AppenderConfig { segment_bytes: 256 * 1024, batch_bytes_max: 4096, ..small() }, 400),
        // More streams than the index holds: 32 KiB / 512 = 64, so segments roll early.
        (small(), 1000),
        (
            AppenderConfig {
                block_bytes: 4096,
                segment_bytes: 512 * 1024,
                staging_bytes: 1 << 20,
                batch_bytes_max: 65536,
            },
            77,
        ),
    ] {
        let mut log = Log::new(config);
        log.fill(1500, streams, 9);
        log.appender.seal();
        log.flush();
        let lens = check_footers(&log.medium);
        assert!(!lens.is_empty());
        assert!(lens.iter().all(|len| *len as u64 <= streams.min(u64::from(config.segment_bytes) / 512)));
        let (recovered, kept) = recover_all(&log.medium);
        assert_eq!(kept, log.kept);
        assert_eq!(recovered.damage, []);
    }
}

#[test]
fn sealing_twice_or_without_records_does_nothing() {
    let mut log = Log::new(small());
    log.appender.seal();
    assert!(!log.appender.has_batch());
    log.append(stream(1), b"x").expect("room");
    log.flush();
    log.appender.seal();
    log.appender.seal();
    log.flush();
    let sealed = log.appender.last_synced();
    log.appender.seal();
    log.flush();
    assert_eq!(log.appender.last_synced(), sealed);
    log.append(stream(1), b"in another segment").expect("room");
    log.flush();
    assert_eq!(log.kept[1].location.segment, 2);
    let (_, kept) = recover_all(&log.medium);
    assert_eq!(kept, log.kept);
}

/// The shard gives batches to the reactor, whose kernel writes them; the pump may build appenders on another thread.
#[test]
fn batches_and_appenders_may_change_threads() {
    const fn send<T: Send>() {}
    const fn shared<T: Send + Sync + Clone>() {}
    send::<tidegate_storage_log::Appender>();
    shared::<tidegate_storage_log::BatchBytes>();
    shared::<tidegate_storage_log::StagedBatch>();
}
