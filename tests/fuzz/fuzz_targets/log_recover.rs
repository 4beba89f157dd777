//! Recovery of a log whose tail is torn or whose bytes are wrong: it ends, does not panic, and a torn tail costs
//! exactly the records behind the tear.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_ids::{CommandNumber, Sequence, StreamId, UserId, WallMs};
use tidegate_storage_log::{
    Appender, AppenderConfig, AppenderStart, Links, MemoryMedium, NewRecord, StagedBatch, recover,
};

const SEGMENT: u32 = 1;

fuzz_target!(|data: &[u8]| {
    let Some((head, rest)) = data.split_first_chunk::<4>() else { return };
    let (records, wrong) = rest.split_at(rest.len() / 2);
    let (mut medium, ends) = written(records);
    let end = ends.last().map_or(0, |(end, _)| *end);
    let at = u64::from(u32::from_le_bytes(*head));
    if wrong.len() % 2 == 0 {
        let tear = at % (end + 1);
        let whole = medium.segments[&SEGMENT].clone();
        tear_at(&mut medium, tear);
        let torn = &medium.segments[&SEGMENT];
        // A batch may end in zeroes: then it is whole although the tear is in it.
        let kept = ends.iter().take_while(|(end, _)| torn[..*end as usize] == whole[..*end as usize]);
        let kept = kept.map(|(_, records)| records).sum::<usize>();
        assert_eq!(recovered(&mut medium), kept, "torn at {tear} of {end}");
    } else {
        medium.write(SEGMENT, at % (end + 1), wrong);
        recovered(&mut medium);
    }
});

/// A log with one record for each byte of `records`; also where each batch ends and how many records it has.
fn written(records: &[u8]) -> (MemoryMedium, Vec<(u64, usize)>) {
    let config = AppenderConfig {
        segment_bytes: 256 << 10,
        block_bytes: 512,
        staging_bytes: 1 << 20,
        batch_bytes_max: 128 << 10,
    };
    let mut medium = MemoryMedium::new();
    medium.add(SEGMENT, config.segment_bytes);
    let mut appender = Appender::new(&config, AppenderStart::default()).expect("a valid configuration");
    appender.add_segment(SEGMENT);
    let mut ends = Vec::new();
    let mut open = 0;
    for (index, byte) in records.iter().take(200).enumerate() {
        let body = vec![*byte; usize::from(*byte)];
        let record = NewRecord {
            stream: StreamId::user(UserId(u64::from(byte % 3) + 1)),
            sequence: Sequence(0),
            time: WallMs(index as u64),
            kind: 1,
            number: CommandNumber(0),
            links: Links::default(),
            body_parts: &[&body],
            ..NewRecord::default()
        };
        appender.append(&record).expect("200 small records fit");
        open += 1;
        if byte % 4 == 0 {
            ends.extend(commit(&mut appender, &mut medium, open));
            open = 0;
        }
    }
    ends.extend(commit(&mut appender, &mut medium, open));
    (medium, ends)
}

fn commit(appender: &mut Appender, medium: &mut MemoryMedium, records: usize) -> Option<(u64, usize)> {
    let StagedBatch { number, segment, offset, bytes, .. } = appender.take_batch()?;
    medium.write(segment, u64::from(offset), &bytes);
    appender.synced(number);
    appender.release(appender.committed_end());
    Some((u64::from(offset) + bytes.len() as u64, records))
}

/// Everything from `at` on was never written.
fn tear_at(medium: &mut MemoryMedium, at: u64) {
    let segment = medium.segments.get_mut(&SEGMENT).expect("the segment was added");
    segment[at as usize..].fill(0);
}

fn recovered(medium: &mut MemoryMedium) -> usize {
    let mut records = 0;
    let numbers = medium.numbers();
    // An error is an answer, too; a panic is not.
    let _ = recover(medium, &numbers, None, |_| records += 1);
    records
}
