//! Format version 1 of a snapshot as it lies in a file: `tests/golden/v1.snap`. What was written once must always be read.
//!
//! The file is written again by `TIDEGATE_WRITE_GOLDEN=1 cargo test -p tidegate-storage-log --test snapshot_golden`, which is
//! right only before a version is released.

mod harness;

use harness::DIRECTORY;
use harness::folding::{Fed, Model, check, fold_in_memory, header, merge, user};
use std::path::PathBuf;
use tidegate_storage_log::{Snapshot, crc32c};

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1.snap")
}

/// Some streams of a few records, and one that fills a block of its own.
fn records() -> Vec<Fed> {
    let mut fed: Vec<Fed> =
        (0..40).map(|at| user(u64::from(at * 7 % 9) + 1, at, vec![at as u8; at as usize % 13])).collect();
    fed.push(user(21, 100, vec![0x5a; 16 << 10]));
    fed
}

fn golden() -> Vec<u8> {
    std::fs::read(path()).expect("the golden file is in the repository")
}

#[test]
fn version_1_is_written_byte_for_byte() {
    let (bytes, _) = merge(4096, &records(), None, 5).expect("sound");
    if std::env::var_os("TIDEGATE_WRITE_GOLDEN").is_some() {
        std::fs::write(path(), &bytes).expect("written");
    }
    let golden = golden();
    let differs = bytes.iter().zip(&golden).position(|(is, was)| is != was);
    assert_eq!((bytes.len(), differs), (golden.len(), None));
}

#[test]
fn version_1_is_read() {
    let snapshot = Snapshot::open(golden()).expect("version 1 is known");
    assert_eq!(snapshot.header(), &header(5));
    let mut model = Model::new();
    fold_in_memory(&mut model, &records());
    check(&snapshot, &model);
}

/// The numbers of `docs/formats/snapshot.md`, without the code that reads them elsewhere.
#[test]
fn the_bytes_are_where_the_documentation_says() {
    let bytes = golden();
    let u16_at = |at: usize| u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two"));
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"));
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight"));
    let guard = crc32c(&DIRECTORY);
    assert_eq!((&bytes[..8], u32_at(8)), (&b"TIDESNAP"[..], crc32c(&bytes[12..64])));
    assert_eq!((u16_at(12), u16_at(14), u64_at(16), u64_at(24)), (1, 1, 5, 7));
    assert_eq!((&bytes[32..48], u32_at(48), u32_at(52)), (&DIRECTORY[..], 1, 48));
    assert_eq!((u32_at(56), u32_at(60)), (crc32c(&bytes[64..112]), 0));
    // The one log covered, and its checkpoint.
    assert_eq!((u32_at(64), u16_at(68), u16_at(70)), (1, 3, 0));
    assert_eq!((u64_at(72), u64_at(80), u32_at(88), u32_at(92)), (7 << 32 | 8192, 99, 12, 0));
    assert_eq!(&bytes[96..112], b"a checkpoint\0\0\0\0");
    // The first block, and its first entry.
    let length = u32_at(112 + 24) as usize;
    assert_eq!((&bytes[112..116], u32_at(116)), (&b"TSBK"[..], crc32c(&bytes[120..112 + length]) ^ guard));
    assert_eq!((u64_at(120), u64_at(128), bytes[142], bytes[143]), (5, 112, 1, 0));
    let entry = 144;
    assert_eq!(bytes[entry], 0x40, "a user");
    assert_eq!(u64_at(entry + 16) >> 32, 1);
    let (state_bytes, place) = (u32_at(entry + 24) as usize, u16_at(entry + 28));
    let next = entry + 32 + state_bytes.next_multiple_of(8);
    assert!(place <= u16_at(next + 28));
    // The footer, and the index it leads to.
    let footer = bytes.len() - 64;
    assert_eq!(
        (&bytes[footer..footer + 8], u32_at(footer + 8)),
        (&b"TIDESNPE"[..], crc32c(&bytes[footer + 12..]) ^ guard)
    );
    assert_eq!(
        (u32_at(footer + 12), u64_at(footer + 16), u64_at(footer + 32)),
        (u32_at(8), 5, bytes.len() as u64)
    );
    let blocks = u32_at(footer + 48);
    assert_eq!((u64_at(footer + 40), u32_at(footer + 52), u64_at(footer + 56)), (10, 1, 0));
    let index = u64_at(footer + 24) as usize;
    assert_eq!(
        (&bytes[index..index + 4], bytes[index + 30], u32::from(u16_at(index + 28))),
        (&b"TSBK"[..], 2, blocks)
    );
    let first = index + 32;
    assert_eq!(bytes[first..first + 16], bytes[entry..entry + 16]);
    assert_eq!((u64_at(first + 16), u32_at(first + 24) as usize, u16_at(first + 28)), (112, length, place));
}
