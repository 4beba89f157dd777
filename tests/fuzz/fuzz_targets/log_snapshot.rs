//! A snapshot whose bytes are wrong: it is refused or read, never a panic; what its checksums do not hold is not given
//! out, and with checksums that were made right again nothing worse happens than other states.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use tidegate_ids::{BatchNumber, Location, LogId, ShardIndex, StreamId, UserId, VirtualShard};
use tidegate_storage_log::{
    Covered, PreviousEnd, Snapshot, SnapshotEntry, SnapshotHeader, SnapshotWriter, crc32c,
};

const DIRECTORY: [u8; 16] = *b"directory of one";
const STREAMS: u16 = 40;

fuzz_target!(|data: &[u8]| {
    let Some((head, wrong)) = data.split_first_chunk::<4>() else { return };
    static SOUND: OnceLock<Vec<u8>> = OnceLock::new();
    let sound = SOUND.get_or_init(written);
    let at = u32::from_le_bytes(*head) as usize % sound.len();
    let mut bytes = sound.clone();
    let wrong = &wrong[..wrong.len().min(bytes.len() - at)];
    bytes[at..at + wrong.len()].copy_from_slice(wrong);
    let is_changed = bytes != *sound;
    let resealed = head[3] & 1 == 1;
    if resealed {
        seal(sound, &mut bytes);
    }
    match read_all(bytes) {
        Some((all, errors)) if !resealed => assert_eq!(errors == 0 && all == STREAMS, !is_changed),
        Some(_) => {}
        None => assert!(is_changed),
    }
    read_all(data.to_vec());
});

/// Some blocks: states of up to 4 KiB.
fn written() -> Vec<u8> {
    let previous = PreviousEnd { end: Location::new(3, 4096), batch: BatchNumber(9) };
    let covered = Covered {
        log: LogId { epoch: 1, shard: ShardIndex(0) },
        previous,
        checkpoint: b"checkpoint".to_vec(),
    };
    let header = SnapshotHeader {
        number: 3,
        directory: DIRECTORY,
        hash_version: 1,
        covered: vec![covered],
        ..SnapshotHeader::default()
    };
    let mut writer = SnapshotWriter::new(Vec::new(), &header).expect("memory");
    for at in 0..STREAMS {
        let state = vec![at as u8; usize::from(at) * 100];
        let entry = SnapshotEntry {
            place: VirtualShard(at / 3),
            stream: StreamId::user(UserId(u64::from(at) + 1)),
            folded: Location::new(1, u32::from(at) * 8),
            state: &state,
        };
        writer.push(&entry).expect("memory");
    }
    writer.finish().expect("memory").0
}

/// Makes all checksums right again, of the parts as they lay in `sound`.
fn seal(sound: &[u8], bytes: &mut [u8]) {
    let u32_at = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"));
    let guard = crc32c(&DIRECTORY);
    let logs = u32_at(sound, 52) as usize;
    let footer = sound.len() - 64;
    put(bytes, 56, crc32c(&bytes[64..64 + logs]));
    put(bytes, 8, crc32c(&bytes[12..64]));
    let mut at = 64 + logs;
    while at < footer {
        let end = at + u32_at(sound, at + 24) as usize;
        put(bytes, at + 4, crc32c(&bytes[at + 8..end]) ^ guard);
        at = end;
    }
    put(bytes, footer + 12, u32_at(bytes, 8));
    put(bytes, footer + 8, crc32c(&bytes[footer + 12..]) ^ guard);
}

fn put(bytes: &mut [u8], at: usize, sum: u32) {
    bytes[at..at + 4].copy_from_slice(&sum.to_le_bytes());
}

/// How many entries there are and how many blocks do not hold; `None` if it is refused as a whole.
fn read_all(bytes: Vec<u8>) -> Option<(u16, u32)> {
    let snapshot = Snapshot::open(bytes).ok()?;
    let (mut all, mut errors, mut last) = (0, 0, None);
    let mut entries = snapshot.entries();
    while let Some(entry) = entries.next() {
        match entry {
            Ok(entry) => {
                let key = (entry.place, entry.stream);
                assert!(last.is_none_or(|last| last < key), "entries rise");
                last = Some(key);
                all += 1;
            }
            Err(_) => errors += 1,
        }
    }
    let mut state = Vec::new();
    for at in 0..STREAMS {
        let stream = StreamId::user(UserId(u64::from(at) + 1));
        let loaded = snapshot.load(VirtualShard(at / 3), &stream, &mut state);
        // Nothing but a whole entry leaves anything behind.
        assert!(matches!(loaded, Ok(Some(_))) || state.is_empty());
    }
    let mut part = snapshot.entries_of(2..5);
    while part.next().is_some() {}
    Some((all, errors))
}
