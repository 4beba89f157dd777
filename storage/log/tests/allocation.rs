//! Nothing is taken from the heap per message, per batch or per segment once an appender is warm.

mod harness;

use harness::{Log, body, small, stream};
use std::hint::black_box;
use tidegate_ids::{Location, Position, Sequence};
use tidegate_storage_log::{
    Appender, AppenderConfig, AppenderStart, Direction, NewRecord, PackedRecords, PageReader, ReadSpec, Spine,
};
use tidegate_tests_support::{CountingAllocator, allocations};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Appends 2,000 records over 100 streams, a batch every 40, with rolls in between, and two cursors.
fn run(appender: &mut Appender, spines: &mut [Spine], cursor: &mut Position, next_segment: &mut u32) -> u64 {
    let bytes = [7; 128];
    let mut sum = 0;
    for i in 0..2000_u64 {
        while appender.spare_segments() < 2 {
            appender.add_segment(*next_segment);
            *next_segment += 1;
        }
        let number = i * 7 % 100;
        let spine = &mut spines[number as usize];
        let record = NewRecord {
            stream: stream(number),
            sequence: Sequence(spine.count() + 1),
            links: spine.links(),
            body_parts: &[&bytes[..48], &bytes[48..]],
            ..NewRecord::default()
        };
        let location = appender.append(&record).expect("room");
        spine.push(location);
        sum += appender.read(location).map_or(0, |record| record.body.len() as u64);
        if i % 40 == 39 {
            while let Some(batch) = appender.take_batch() {
                black_box(&batch.bytes);
                appender.synced(batch.number);
            }
            let mut committed = appender.committed(*cursor);
            sum += committed.by_ref().map(|record| record.head.sequence.0).sum::<u64>();
            *cursor = committed.position();
            appender.release(*cursor);
        }
    }
    sum
}

#[test]
fn a_warm_appender_allocates_nothing() {
    let config = AppenderConfig { segment_bytes: 128 * 1024, ..AppenderConfig::default() };
    let mut appender = Appender::new(&config, AppenderStart::default()).expect("sizes that can be");
    let mut spines = vec![Spine::new(); 100];
    let (mut cursor, mut next_segment) = (Location::NONE, 1);
    let mut round = || run(&mut appender, &mut spines, &mut cursor, &mut next_segment);
    let (cold, _) = allocations(&mut round);
    assert!(cold.count > 0, "the allocator counts");
    // The spines double their room at 4 and 8 roots, the last time at 255 records of a stream.
    (0..20).for_each(|_| {
        black_box(round());
    });
    let (warm, _) = allocations(&mut round);
    assert_eq!(warm.count, 0, "{warm:?}");
    assert!(next_segment > 50, "segments were rolled: {next_segment}");
}

#[test]
fn a_warm_reader_allocates_nothing() {
    let mut log = Log::new(small());
    for i in 0..300 {
        log.append(stream(i % 3), &body(i, 100)).expect("room");
        if i % 9 == 8 {
            log.flush();
        }
    }
    log.flush();
    let spine = &log.spines[&stream(1)];
    let spec = ReadSpec::Range {
        stream: stream(1),
        last: spine.last(),
        last_sequence: Sequence(spine.count()),
        from: Sequence(30),
        to: Sequence(70),
        limit: 50,
        bytes_max: 1 << 20,
        direction: Direction::Ascending,
    };
    let (mut reader, mut out) = (PageReader::new(), Vec::new());
    let mut read = || {
        out.clear();
        let end = reader.read(&mut log.medium, &spec, &mut out).expect("sound");
        (end.records, PackedRecords(&out).iter().map(|record| record.body.len()).sum::<usize>())
    };
    assert_eq!(read(), (41, 4100));
    let (warm, _) = allocations(read);
    assert_eq!(warm.count, 0, "{warm:?}");
}
