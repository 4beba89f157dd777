//! A rewritten segment whose bytes are wrong: it is read without a panic, and nothing is given out that was not there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use tidegate_ids::{Sequence, StreamId, UserId, WallMs};
use tidegate_storage_log::{
    Appender, AppenderConfig, AppenderStart, Inflated, Keep, MemoryMedium, NewRecord, PackedRecords, PreviousEnd, ReadSpec,
    check_rewritten, closed_segment, read_page, recover, rewrite,
};

const SEGMENT: u32 = 1;

/// What is given out of the segment as it was written, each record packed.
static SOUND: LazyLock<(Vec<u8>, Vec<Vec<u8>>)> = LazyLock::new(|| {
    let bytes = written();
    let records = given(&bytes).1;
    assert!(records.len() > 50, "the segment holds records");
    (bytes, records)
});

fuzz_target!(|data: &[u8]| {
    let (sound, records) = &*SOUND;
    // Patches of three bytes: where, and what. The last odd bytes cut the file.
    let mut bytes = sound.clone();
    let (patches, rest) = data.as_chunks::<4>();
    for [low, high, more, value] in patches {
        let at = usize::from(u16::from_le_bytes([*low, *high])) + usize::from(more & 1) * 65_536;
        let at = at % bytes.len();
        bytes[at] = *value;
        if *more >= 128 {
            reseal(&mut bytes);
        }
    }
    if let [cut, ..] = rest {
        bytes.truncate(bytes.len() * usize::from(*cut) / 256);
    }
    let (found, out) = given(&bytes);
    if patches.iter().all(|[_, _, more, _]| *more < 128) {
        let mut left = records.iter();
        assert!(out.iter().all(|one| left.any(|other| other == one)), "a record was made up");
        assert!(!found || bytes == *sound || out.len() <= records.len());
    }
});

/// Makes the checksum of the front header right again, so that what is wrong behind it is looked at.
fn reseal(bytes: &mut [u8]) {
    if let Some(header) = bytes.first_chunk_mut::<512>() {
        let sum = tidegate_storage_log::crc32c(&header[12..]);
        header[8..12].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Whether the segment was read at all, and its records.
fn given(bytes: &[u8]) -> (bool, Vec<Vec<u8>>) {
    let mut medium = MemoryMedium::new();
    medium.segments.insert(SEGMENT, bytes.to_vec());
    // An error is an answer, too; a panic is not.
    let _ = check_rewritten(&mut medium, SEGMENT);
    let mut view = Inflated::new(medium);
    let (mut out, mut locations) = (Vec::new(), Vec::new());
    let recovered = recover(&mut view, &[SEGMENT], None, |record| {
        let mut one = record.location.to_u64().to_le_bytes().to_vec();
        record.write_stored(&mut one);
        out.push(one);
        locations.push(record.location);
    });
    for location in locations.into_iter().step_by(7) {
        let mut page = Vec::new();
        if read_page(&mut view, &ReadSpec::At { location }, &mut page).is_ok() {
            assert!(PackedRecords(&page).iter().all(|record| !record.is_hole() || record.body.is_empty()));
        }
    }
    (recovered.is_ok(), out)
}

/// A sealed segment of several blocks, rewritten with holes.
fn written() -> Vec<u8> {
    let config = AppenderConfig {
        segment_bytes: 256 << 10,
        block_bytes: 512,
        staging_bytes: 1 << 20,
        batch_bytes_max: 32 << 10,
    };
    let mut medium = MemoryMedium::new();
    medium.add(SEGMENT, config.segment_bytes);
    let mut appender = Appender::new(&config, AppenderStart::default()).expect("a valid configuration");
    appender.add_segment(SEGMENT);
    for index in 0..100_u64 {
        let body: Vec<u8> = (0..1500_u64).map(|at| (at * index / 7) as u8).collect();
        let record = NewRecord {
            stream: StreamId::user(UserId(index % 3 + 1)),
            sequence: Sequence(0),
            time: WallMs(index),
            kind: 1,
            body_parts: &[&body],
            ..NewRecord::default()
        };
        appender.append(&record).expect("100 small records fit");
    }
    appender.seal();
    while let Some(batch) = appender.take_batch() {
        medium.write(batch.segment, u64::from(batch.offset), &batch.bytes);
        appender.synced(batch.number);
    }
    let end = appender.committed_end();
    // What the header of the next segment would say.
    medium.add(SEGMENT + 1, config.segment_bytes);
    appender.add_segment(SEGMENT + 1);
    appender.append(&NewRecord::default()).expect("a new segment");
    let next = appender.take_batch().expect("one batch");
    assert!(end.segment <= next.segment);
    medium.write(next.segment, u64::from(next.offset), &next.bytes);
    let mut view = Inflated::new(medium);
    let closed = closed_segment(&mut view, SEGMENT, &[SEGMENT + 1], PreviousEnd::default()).expect("there").expect("closed");
    let mut bytes = Vec::new();
    let decide = |head: &tidegate_storage_log::RecordHead| match head.time.0 % 3 {
        0 => Keep::Expired,
        _ => Keep::Live,
    };
    rewrite(&mut view, &closed, decide, &mut bytes).expect("sound");
    bytes
}
