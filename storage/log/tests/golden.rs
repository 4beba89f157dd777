//! The versions of the format as they lie in files: `tests/golden/v1-*.seg` and `v2-*.seg`. What was written once must always be
//! read.
//!
//! The files of the newest version are written again by `TIDEGATE_WRITE_GOLDEN=1 cargo test -p tidegate-storage-log --test golden`, which is
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

fn path(version: u16, segment: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/v{version}-{segment}.seg"))
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

fn golden(version: u16) -> MemoryMedium {
    let mut medium = MemoryMedium::new();
    for segment in SEGMENTS {
        let bytes = std::fs::read(path(version, segment)).expect("the golden files are in the repository");
        medium.segments.insert(segment, bytes);
    }
    medium
}

#[test]
fn version_2_is_written_byte_for_byte() {
    let log = write();
    if std::env::var_os("TIDEGATE_WRITE_GOLDEN").is_some() {
        for (segment, bytes) in &log.medium.segments {
            std::fs::write(path(2, *segment), bytes).expect("written");
        }
    }
    let golden = golden(2);
    for segment in SEGMENTS {
        let (is, was) = (&log.medium.segments[&segment], &golden.segments[&segment]);
        let differs = is.iter().zip(was).position(|(is, was)| is != was);
        assert_eq!((is.len(), differs), (was.len(), None), "segment {segment}");
    }
}

/// What a version gives out, but for where it lies.
fn read(version: u16) -> Vec<Kept> {
    let mut medium = golden(version);
    let mut kept = Vec::new();
    let recovered = recover(&mut medium, &SEGMENTS, None, |record| kept.push(Kept::of(&record)))
        .expect("the version is known");
    assert!(kept.is_sorted_by_key(|one| one.location));
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
    let nowhere = |one: Kept| Kept { location: Location::NONE, ..one };
    kept.into_iter().map(nowhere).collect()
}

#[test]
fn every_version_is_read() {
    let written: Vec<Kept> =
        write().kept.into_iter().map(|one| Kept { location: Location::NONE, ..one }).collect();
    assert_eq!(written.len(), 41);
    for version in [1, 2] {
        assert!(read(version) == written, "version {version}");
    }
}

/// The numbers of `docs/formats/log.md`, without the code that reads them elsewhere.
#[test]
fn the_bytes_are_where_the_documentation_says() {
    for version in [1, 2] {
        let medium = golden(version);
        let bytes = &medium.segments[&1];
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"));
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight"));
        assert_eq!(&bytes[..8], b"TIDESEG1");
        let sizes = (u32_at(16), u32_at(20), u32_at(24));
        assert_eq!((u16::from(bytes[12]), bytes[14], sizes), (version, 1, (512, 8192, 1)));
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
        let second = medium.segments[&2].first_chunk().expect("a header");
        let previous = SegmentHeader::decode(second).expect("sound").previous.end;
        assert_eq!((previous.segment, second[24]), (1, 2));
        let seal = previous.offset as usize - 512;
        assert_eq!((&bytes[seal..seal + 4], bytes[seal + 52]), (&b"TBAT"[..], 3));
        assert_eq!((u32_at(seal + 64 + 8), u32_at(seal + 64 + 12) as usize), (3, seal));
        let (index, index_bytes) = (u32_at(seal + 64 + 20) as usize, u32_at(seal + 64 + 24) as usize);
        assert_eq!(second[116..124], bytes[seal + 64 + 20..seal + 64 + 28]);
        if version == 1 {
            assert_eq!((index, index_bytes), (0, 0));
            continue;
        }
        assert_eq!((index + index_bytes, bytes[index + 52], u32_at(index + 40)), (seal, 4, 2));
        // The entries follow each other, since the index is smaller than what is read of it.
        let mut at = index + 64;
        let mut runs = Vec::new();
        for _ in 0..2 {
            let run = u32_at(at + 4);
            let end = (at + 40 + 4 * run as usize).next_multiple_of(8);
            assert_eq!(u32_at(at), tidegate_storage_log::crc32c(&bytes[at + 4..end]));
            let newest = u32_at(at + 40) as usize;
            assert_eq!(bytes[at + 8..at + 24], bytes[newest + 24..newest + 40], "the stream");
            assert_eq!(u64_at(at + 24), u64_at(newest + 40), "its last sequence");
            let oldest = u32_at(at + 36 + 4 * run as usize) as usize;
            assert_eq!(u64_at(at + 32), u64_at(oldest), "where it goes on before");
            runs.push(run);
            at = end;
        }
        runs.sort_unstable();
        assert_eq!((runs, index + u32_at(index + 36) as usize), (vec![16, 16], at));
    }
}
