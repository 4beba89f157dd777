//! Random lives of a log: appends, syncs, crashes that keep any subset of the sectors in flight, damage, arbitrary bytes.

mod harness;

use harness::{DIRECTORY, Kept, Log, body, identity, recover_all, stream};
use proptest::prelude::*;
use proptest::sample::Index;
use tidegate_ids::Location;
use tidegate_storage_log::{
    AppenderConfig, AppenderStart, Direction, MemoryMedium, PackedRecords, ReadSpec, read_footer, read_page,
    recover, scan_chunk,
};

#[derive(Clone, Debug)]
enum Step {
    Append(u64, usize),
    Sync,
    Seal,
    /// The sectors of the batch in flight that reach the disk, one bit each.
    Crash(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0_u64..6, 0_usize..600).prop_map(|(stream, len)| Step::Append(stream, len)),
        6 => Just(Step::Sync),
        1 => Just(Step::Seal),
        2 => any::<u64>().prop_map(Step::Crash),
    ]
}

fn config(block_bytes: u32) -> AppenderConfig {
    AppenderConfig { segment_bytes: 16 * 1024, block_bytes, staging_bytes: 128 * 1024, batch_bytes_max: 8192 }
}

/// Power fails while a batch is in flight: only some of its sectors are there, and memory is gone.
fn crash(mut log: Log, sectors: u64, durable: &mut Vec<Kept>) -> Log {
    let before = log.medium.clone();
    let synced: Vec<Kept> =
        log.kept.iter().filter(|one| one.location < log.appender.committed_end()).cloned().collect();
    let mut medium = before;
    if let Some(batch) = log.write_batch() {
        for (index, sector) in batch.bytes.chunks(512).enumerate() {
            if sectors >> (index % 64) & 1 == 1 {
                medium.write(batch.segment, u64::from(batch.offset) + index as u64 * 512, sector);
            }
        }
    }
    durable.extend(synced);
    let (recovered, kept) = recover_all(&medium);
    assert_eq!(recovered.damage, [], "a crash is not damage");
    // Everything acknowledged is there; what was in flight is there whole or not at all.
    assert!(kept.starts_with(durable), "acknowledged records are lost");
    let tail = &kept[durable.len()..];
    let pending: Vec<&Kept> =
        log.kept.iter().filter(|one| one.location >= log.appender.committed_end()).collect();
    assert!(tail.iter().eq(pending.into_iter().take(tail.len())), "a tail that was never appended");
    durable.extend_from_slice(tail);
    let mut next =
        Log::resume(log.config, AppenderStart { identity: identity(), previous: recovered.previous }, medium);
    // The folds, as the shard would rebuild them.
    for one in &*durable {
        next.spines.entry(one.stream).or_default().push(one.location);
    }
    next
}

fn live(block: u32, steps: &[Step]) -> (MemoryMedium, Vec<Kept>) {
    let mut log = Log::new(config(block));
    let mut durable = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        match *step {
            Step::Append(number, len) => {
                if log.append(stream(number), &body(index as u64, len)).is_err() {
                    log.flush();
                }
            }
            Step::Sync => log.flush(),
            Step::Seal => log.appender.seal(),
            Step::Crash(sectors) => {
                let (old, mut before) = (log, core::mem::take(&mut durable));
                log = crash(old, sectors, &mut before);
                durable = before;
            }
        }
    }
    log.flush();
    durable.extend(log.kept.clone());
    let (recovered, kept) = recover_all(&log.medium);
    assert_eq!(recovered.damage, []);
    assert_eq!(kept, durable);
    for (stream, spine) in &log.spines {
        let wanted: Vec<Location> =
            durable.iter().filter(|one| one.stream == *stream).map(|one| one.location).collect();
        let spec = ReadSpec::Range {
            stream: *stream,
            last: spine.last(),
            last_sequence: tidegate_ids::Sequence(spine.count()),
            from: tidegate_ids::Sequence(1),
            to: tidegate_ids::Sequence(u64::MAX),
            limit: 1000,
            bytes_max: usize::MAX,
            direction: Direction::Ascending,
        };
        let mut out = Vec::new();
        let got = read_page(&mut log.medium.clone(), &spec, &mut out);
        if wanted.is_empty() {
            continue;
        }
        assert_eq!(got.map(|end| end.damaged), Ok(0));
        let got: Vec<Location> = PackedRecords(&out).iter().map(|record| record.location).collect();
        assert_eq!(got, wanted);
    }
    (log.medium, durable)
}

/// Everything that reads, over bytes that mean nothing.
fn read_anything(medium: &mut MemoryMedium, directory: Option<[u8; 16]>) {
    let numbers = medium.numbers();
    let mut locations = vec![Location::new(1, 576), Location::new(2, 8), Location::new(9, 9)];
    let recovered = recover(medium, &numbers, directory, |record| {
        locations.push(record.location);
        locations.push(record.placement.prev);
        locations.push(record.placement.jump);
    });
    if let Ok(recovered) = recovered {
        for extent in &recovered.extents {
            let _ = read_footer(medium, extent);
        }
        let _ = scan_chunk(medium, &recovered.extents, Location::NONE, usize::MAX / 2, &mut Vec::new());
    }
    for location in locations.into_iter().take(20) {
        let last_sequence = tidegate_ids::Sequence(u64::from(location.offset % 50) + 1);
        let number = tidegate_ids::CommandNumber(1);
        for spec in [
            ReadSpec::At { location },
            ReadSpec::Number { stream: stream(1), last: location, number },
            ReadSpec::Chain { stream: stream(1), last: location, stop: Location::NONE, limit: 50 },
            ReadSpec::Range {
                stream: stream(1),
                last: location,
                last_sequence,
                from: tidegate_ids::Sequence(0),
                to: tidegate_ids::Sequence(u64::MAX),
                limit: 50,
                bytes_max: 10_000,
                direction: Direction::Descending,
            },
        ] {
            let _ = read_page(medium, &spec, &mut Vec::new());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_was_acknowledged_survives_any_life(
        large_block in any::<bool>(),
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        live(if large_block { 1024 } else { 512 }, &steps);
    }

    #[test]
    fn damage_anywhere_makes_nothing_up(
        steps in proptest::collection::vec(step(), 20..80),
        hits in proptest::collection::vec((any::<Index>(), any::<Index>(), any::<u8>(), 1_usize..700), 1..6),
    ) {
        let (mut medium, durable) = live(512, &steps);
        let numbers = medium.numbers();
        for (segment, offset, value, len) in hits {
            let bytes = medium.segments.get_mut(segment.get(&numbers)).expect("listed");
            let from = offset.index(bytes.len());
            let to = bytes.len().min(from + len);
            bytes[from..to].fill(value);
        }
        let (recovered, kept) = recover_all(&medium);
        let mut rest = durable.iter();
        for one in &kept {
            prop_assert!(rest.any(|other| other == one), "made up, doubled or out of order: {:?}", one);
        }
        let reported = recovered.damage_count > 0 || recovered.cut.is_some();
        prop_assert!(reported || kept.len() == durable.len());
        read_anything(&mut medium, Some(DIRECTORY));
    }

    #[test]
    fn arbitrary_bytes_are_read_without_a_panic(
        segments in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 0..4),
        sound_headers in any::<bool>(),
        patches in proptest::collection::vec((any::<Index>(), any::<Index>(), any::<u8>()), 0..40),
    ) {
        let mut medium = MemoryMedium::new();
        if sound_headers {
            let steps: Vec<Step> =
                (0..60).map(|i| if i % 7 == 6 { Step::Sync } else { Step::Append(i % 3, 90) }).collect();
            medium = live(512, &steps).0;
            let numbers = medium.numbers();
            for (segment, offset, value) in &patches {
                let bytes = medium.segments.get_mut(segment.get(&numbers)).expect("listed");
                let at = offset.index(bytes.len());
                bytes[at] = *value;
                reseal(bytes, at);
            }
        }
        for (index, bytes) in segments.into_iter().enumerate() {
            medium.segments.insert(index as u32 + 20, bytes);
        }
        read_anything(&mut medium, None);
        read_anything(&mut medium, Some(DIRECTORY));
    }
}

/// Makes the checksum of the header that a patch hit right again, so that reading goes on with the patched fields.
fn reseal(bytes: &mut [u8], at: usize) {
    let block = at / 512 * 512;
    let sector = &mut bytes[block..(block + 512)];
    if block == 0 {
        let sum = tidegate_storage_log::crc32c(&sector[12..512]);
        sector[8..12].copy_from_slice(&sum.to_le_bytes());
    } else if sector[..4] == *b"TBAT" {
        let sum = tidegate_storage_log::crc32c(&sector[8..64]) ^ tidegate_storage_log::crc32c(&DIRECTORY);
        sector[4..8].copy_from_slice(&sum.to_le_bytes());
    }
}
