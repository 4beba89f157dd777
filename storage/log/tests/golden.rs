//! Format version 1 as it lies in files: `tests/golden/v1-*.seg`. What was written once must always be read.
//!
//! The files are written again by `TIDEGATE_WRITE_GOLDEN=1 cargo test -p tidegate-storage-log --test golden`, which is
//! right only before a version is released.

mod harness;

use harness::{DIRECTORY, Kept, Log, body, identity, stream};
use std::path::PathBuf;
use tidegate_ids::{Location, UserId};
use tidegate_storage_log::{
    AppenderConfig, Direction, Links, MemoryMedium, NewRecord, PackedRecords, ReadSpec, SegmentHeader,
    read_footer, read_page, recover,
};

const SEGMENTS: [u32; 2] = [1, 2];

fn path(segment: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/v1-{segment}.seg"))
}

/// A sealed segment and one that is not: records of two conversations with links and jumps, a queue record, a roll.
fn write() -> Log {
    let config = AppenderConfig {
        segment_bytes: 8192,
        block_bytes: 512,
        staging_bytes: 64 * 1024,
        batch_bytes_max: 4096,
    };
    let mut log = Log::new(config);
    let user = tidegate_ids::StreamId::user(UserId(5));
    let links = Links { prev: Location::SNAPSHOT, jump: Location::NONE };
    let record =
        NewRecord { stream: user, kind: 300, links, body_parts: &[b"a queue"], ..NewRecord::default() };
    let location = log.appender.append(&record).expect("room");
    log.kept.push(Kept {
        location,
        stream: user,
        sequence: tidegate_ids::Sequence(0),
        body: b"a queue".to_vec(),
    });
    for i in 0..40_u64 {
        log.append(stream(i % 2), &body(i, (i * 11 % 90) as usize)).expect("room");
        if i % 5 == 4 {
            log.flush();
        }
    }
    log.medium.segments.retain(|segment, _| SEGMENTS.contains(segment));
    assert!(log.kept.iter().all(|one| SEGMENTS.contains(&one.location.segment)));
    log
}

fn golden() -> MemoryMedium {
    let mut medium = MemoryMedium::new();
    for segment in SEGMENTS {
        let bytes = std::fs::read(path(segment)).expect("the golden files are in the repository");
        medium.segments.insert(segment, bytes);
    }
    medium
}

#[test]
fn version_1_is_written_byte_for_byte() {
    let log = write();
    if std::env::var_os("TIDEGATE_WRITE_GOLDEN").is_some() {
        for (segment, bytes) in &log.medium.segments {
            std::fs::create_dir_all(path(*segment).parent().expect("a folder")).expect("made");
            std::fs::write(path(*segment), bytes).expect("written");
        }
    }
    let golden = golden();
    for segment in SEGMENTS {
        let (is, was) = (&log.medium.segments[&segment], &golden.segments[&segment]);
        let differs = is.iter().zip(was).position(|(is, was)| is != was);
        assert_eq!((is.len(), differs), (was.len(), None), "segment {segment}");
    }
}

#[test]
fn version_1_is_read() {
    let mut medium = golden();
    let mut kept = Vec::new();
    let recovered = recover(&mut medium, &SEGMENTS, None, |record| kept.push(Kept::of(&record)))
        .expect("version 1 is known");
    assert_eq!(kept, write().kept);
    assert_eq!((recovered.damage.len(), recovered.cut, recovered.unclean), (0, None, true));
    assert_eq!(recovered.identity, Some(identity()));
    let streams = read_footer(&mut medium, &recovered.extents[0]).expect("there").expect("sealed");
    assert_eq!(streams.len(), 3);
    let last = kept.iter().rfind(|one| one.stream == stream(1)).expect("kept");
    let spec = ReadSpec::Range {
        stream: stream(1),
        last: last.location,
        last_sequence: last.sequence,
        from: tidegate_ids::Sequence(3),
        to: tidegate_ids::Sequence(9),
        limit: 100,
        bytes_max: 1 << 20,
        direction: Direction::Ascending,
    };
    let mut out = Vec::new();
    read_page(&mut medium, &spec, &mut out).expect("sound");
    let sequences: Vec<u64> = PackedRecords(&out).iter().map(|record| record.head.sequence.0).collect();
    assert_eq!(sequences, [3, 4, 5, 6, 7, 8, 9]);
}

/// The numbers of `docs/formats/log.md`, without the code that reads them elsewhere.
#[test]
fn the_bytes_are_where_the_documentation_says() {
    let medium = golden();
    let bytes = &medium.segments[&1];
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"));
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight"));
    assert_eq!(&bytes[..8], b"TIDESEG1");
    assert_eq!((bytes[12], bytes[14], u32_at(16), u32_at(20), u32_at(24)), (1, 1, 512, 8192, 1));
    assert_eq!((u32_at(28), bytes[32], u64_at(56), &bytes[64..80]), (1, 3, 7, &DIRECTORY[..]));
    // The first batch, its first record and that record's body.
    assert_eq!(&bytes[512..516], b"TBAT");
    assert_eq!((u64_at(520), u64_at(528), u32_at(536), u32_at(540), u32_at(568)), (1, 0, 1, 512, 0));
    assert_eq!((u32_at(552), bytes[564]), (6, 1));
    let length = u32_at(544) as usize;
    assert_eq!(bytes[512..576], bytes[512 + length - 64..512 + length]);
    assert_eq!(u32_at(512 + u32_at(548) as usize), 64);
    let record = 576;
    assert_eq!((u64_at(record), u64_at(record + 8)), (u64::MAX, 0));
    assert_eq!((bytes[record + 24], u32_at(record + 72), u32_at(record + 76) as u16), (0x40, 7, 300));
    assert_eq!(&bytes[record + 96..record + 104], b"a queue\0");
    let second = SegmentHeader::decode(medium.segments[&2].first_chunk().expect("a header")).expect("sound");
    assert_eq!((second.previous.end.segment, second.segment), (1, 2));
    let seal = second.previous.end.offset as usize - 512;
    assert_eq!((&bytes[seal..seal + 4], bytes[seal + 52]), (&b"TBAT"[..], 3));
    assert_eq!((u32_at(seal + 64 + 8), u32_at(seal + 64 + 12) as usize), (3, seal));
}
