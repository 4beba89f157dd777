//! What becomes of a snapshot whose bytes are wrong, and of a merge whose disk fails: nothing that was not written is
//! ever given out.

mod harness;

use harness::folding::{Concatenate, Fed, Model, check, fold_in_memory, header, merge, user};
use harness::{DIRECTORY, Log, body, small, stream};
use std::collections::BTreeMap;
use tidegate_ids::{Location, StreamId, VirtualShard};
use tidegate_storage_log::{
    MemoryRuns, MergeError, Merger, OsError, RunStore, Snapshot, SnapshotEntry, SnapshotError, SnapshotPart,
    SnapshotSink, SnapshotSource, SnapshotWriter, WriteError, crc32c,
};

type Entries = BTreeMap<(VirtualShard, StreamId), (Location, Vec<u8>)>;

/// A few blocks: one of many entries, one of a large entry.
fn small_one(number: u64) -> (Vec<Fed>, Vec<u8>) {
    let mut fed: Vec<Fed> = (0..60).map(|at| user(u64::from(at % 20) + 1, at, vec![at as u8; 40])).collect();
    fed.push(user(31, 100, vec![3; 17_000]));
    let (bytes, _) = merge(4096, &fed, None, number).expect("sound");
    (fed, bytes)
}

/// Everything that a snapshot gives out, and how much of it does not hold.
fn read_all(snapshot: &Snapshot<Vec<u8>>) -> (Entries, usize) {
    let (mut all, mut errors) = (Entries::new(), 0);
    let mut entries = snapshot.entries();
    while let Some(entry) = entries.next() {
        match entry {
            Ok(entry) => _ = all.insert((entry.place, entry.stream), (entry.folded, entry.state.to_vec())),
            Err(SnapshotError::Damaged { part: SnapshotPart::Block, .. }) => errors += 1,
            Err(error) => panic!("{error}"),
        }
    }
    (all, errors)
}

#[test]
fn every_flipped_byte_is_detected() {
    let (_, sound) = small_one(1);
    let (whole, _) = read_all(&Snapshot::open(sound.clone()).expect("sound"));
    assert_eq!(whole.len(), 21);
    let mut refused = 0;
    let asked: Vec<_> = whole.iter().step_by(10).collect();
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= [0x01, 0x80, 0xff][at % 3];
        let snapshot = match Snapshot::open(bytes) {
            Ok(snapshot) => snapshot,
            Err(SnapshotError::Damaged { part, .. }) => {
                assert_ne!(part, SnapshotPart::Block, "at {at}");
                refused += 1;
                continue;
            }
            Err(error) => panic!("{error} at {at}"),
        };
        let (all, errors) = read_all(&snapshot);
        assert_eq!(errors, 1, "one block is lost, at {at}");
        assert!(all.len() < whole.len());
        assert!(all.iter().all(|(key, value)| whole.get(key) == Some(value)), "made up, at {at}");
        let mut state = Vec::new();
        for ((place, stream), (folded, expected)) in &asked {
            match snapshot.load(*place, stream, &mut state) {
                Ok(found) => {
                    assert_eq!((found, &state), (Some(*folded), expected), "at {at}");
                    assert!(all.contains_key(&(*place, *stream)));
                }
                Err(_) => assert!(state.is_empty() && !all.contains_key(&(*place, *stream)), "at {at}"),
            }
        }
    }
    assert!(refused > 2 * 128, "header, index and footer: {refused}");
}

#[test]
fn cut_or_lengthened_anywhere_it_is_refused() {
    let (_, sound) = small_one(1);
    for len in 0..sound.len() {
        let cut = Snapshot::open(sound[..len].to_vec()).err();
        assert!(matches!(cut, Some(SnapshotError::Damaged { .. })), "{len}: {cut:?}");
    }
    for more in [1, 8, 64, 5000] {
        let mut bytes = sound.clone();
        bytes.resize(sound.len() + more, 0);
        assert!(Snapshot::open(bytes).is_err(), "{more}");
        let mut bytes = sound.clone();
        bytes.splice(200..200, vec![0; more]);
        assert!(Snapshot::open(bytes).is_err(), "{more}");
    }
    let mut twice = sound.clone();
    twice.extend_from_slice(&sound);
    assert!(Snapshot::open(twice).is_err());
}

/// A disk that lost a write still holds what was there before: a sound block of an older snapshot.
#[test]
fn a_block_that_belongs_elsewhere_does_not_hold() {
    let (_, old) = small_one(1);
    let (_, new) = small_one(2);
    assert_eq!(old.len(), new.len());
    let blocks: Vec<usize> = (0..new.len() - 4).filter(|at| new[*at..*at + 4] == *b"TSBK").collect();
    assert_eq!(blocks.len(), 3, "two of entries, one of index");
    for range in [blocks[0]..blocks[1], blocks[1]..blocks[2], blocks[2]..new.len() - 64] {
        let mut mixed = new.clone();
        mixed[range.clone()].copy_from_slice(&old[range]);
        match Snapshot::open(mixed) {
            Ok(snapshot) => assert_eq!(read_all(&snapshot).1, 1),
            Err(error) => assert!(matches!(error, SnapshotError::Damaged { part: SnapshotPart::Index, .. })),
        }
    }
    let mut mixed = new.clone();
    mixed[new.len() - 64..].copy_from_slice(&old[old.len() - 64..]);
    assert!(Snapshot::open(mixed).is_err());
}

#[test]
fn another_version_is_told_from_damage() {
    let (_, mut bytes) = small_one(1);
    bytes[12..14].copy_from_slice(&2_u16.to_le_bytes());
    assert!(
        matches!(Snapshot::open(bytes.clone()), Err(SnapshotError::Damaged { .. })),
        "its checksum fails"
    );
    let sum = crc32c(&bytes[12..64]);
    bytes[8..12].copy_from_slice(&sum.to_le_bytes());
    assert_eq!(Snapshot::open(bytes).err(), Some(SnapshotError::Version(2)));
}

/// Gives out a source whose reads fail from some place on.
#[derive(Debug)]
struct Failing(Vec<u8>, u64);

impl SnapshotSource for Failing {
    fn bytes(&self) -> u64 {
        self.0.bytes()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<usize, OsError> {
        if (offset..offset + into.len() as u64).contains(&self.1) {
            Err(OsError(5))
        } else {
            self.0.read_at(offset, into)
        }
    }
}

#[test]
fn a_read_error_is_a_value() {
    let (fed, bytes) = small_one(1);
    let len = bytes.len() as u64;
    for at in [0, 100, len - 1, len - 100] {
        let refused = Snapshot::open(Failing(bytes.clone(), at)).err();
        assert!(
            matches!(refused, Some(SnapshotError::Unreadable { error: OsError(5), .. })),
            "{at}: {refused:?}"
        );
    }
    let snapshot = Snapshot::open(Failing(bytes, 300)).expect("the blocks are read later");
    let stream = fed[0].stream;
    let place = harness::folding::place(&stream).expect("a user has one");
    let mut state = vec![1];
    let refused = snapshot.load(place, &stream, &mut state);
    assert!(matches!(refused, Err(SnapshotError::Unreadable { .. })), "{refused:?}");
    assert!(state.is_empty());
}

/// Runs that fail or lie at one byte.
#[derive(Debug, Default)]
struct BadRuns {
    runs: MemoryRuns,
    written: u64,
    read: u64,
    /// Writes fail behind so many bytes.
    full_at: Option<u64>,
    /// Reads fail behind so many bytes.
    unreadable_at: Option<u64>,
    /// This byte of all that are read is another.
    flip_at: Option<u64>,
}

impl RunStore for BadRuns {
    fn create(&mut self, run: u32) -> Result<(), OsError> {
        self.runs.create(run)
    }

    fn append(&mut self, run: u32, bytes: &[u8]) -> Result<(), OsError> {
        self.written += bytes.len() as u64;
        if self.full_at.is_some_and(|at| self.written > at) {
            return Err(OsError(28));
        }
        self.runs.append(run, bytes)
    }

    fn read(&mut self, run: u32, offset: u64, into: &mut [u8]) -> Result<usize, OsError> {
        let from = self.read;
        self.read += into.len() as u64;
        if self.unreadable_at.is_some_and(|at| self.read > at) {
            return Err(OsError(5));
        }
        let got = self.runs.read(run, offset, into)?;
        if let Some(at) = self.flip_at.filter(|at| (from..self.read).contains(at)) {
            into[(at - from) as usize] ^= 0x40;
        }
        Ok(got)
    }

    fn remove(&mut self, run: u32) {
        self.runs.remove(run);
    }
}

/// A sink that is full behind so many bytes.
struct Full(Vec<u8>, usize);

impl SnapshotSink for Full {
    fn write(&mut self, bytes: &[u8]) -> Result<(), OsError> {
        if self.0.len() + bytes.len() > self.1 {
            return Err(OsError(28));
        }
        self.0.write(bytes)
    }
}

fn merge_through(runs: &mut BadRuns, fed: &[Fed], sink_bytes: usize) -> Result<Vec<u8>, MergeError> {
    let mut fold = Concatenate::default();
    let mut merger = Merger::new(2048, runs);
    fed.iter().try_for_each(|one| merger.feed(&fold, &one.view()))?;
    let writer = SnapshotWriter::new(Full(Vec::new(), sink_bytes), &header(1)).map_err(MergeError::Write)?;
    merger.finish(&mut fold, None, writer).map(|(sink, _)| sink.0)
}

/// Writes, reads and bytes of a merge fail, at many places: the merge fails with it, and never makes up a state.
#[test]
fn a_merge_ends_with_the_first_failure() {
    let fed: Vec<Fed> =
        (0..400).map(|at| user(u64::from(at * 37 % 50) + 1, at, vec![at as u8; 30])).collect();
    let mut sound = BadRuns::default();
    let bytes = merge_through(&mut sound, &fed, usize::MAX).expect("sound");
    let mut model = Model::new();
    fold_in_memory(&mut model, &fed);
    check(&Snapshot::open(bytes.clone()).expect("sound"), &model);
    assert!(sound.written > 10_000 && sound.read > 10_000);
    for at in (0..sound.written).step_by(397) {
        let mut runs = BadRuns { full_at: Some(at), ..BadRuns::default() };
        assert_eq!(merge_through(&mut runs, &fed, usize::MAX), Err(MergeError::Run(OsError(28))));
    }
    for at in (0..sound.read).step_by(397) {
        let mut runs = BadRuns { unreadable_at: Some(at), ..BadRuns::default() };
        assert_eq!(merge_through(&mut runs, &fed, usize::MAX), Err(MergeError::Run(OsError(5))));
    }
    for at in (0..sound.read).step_by(17) {
        let mut runs = BadRuns { flip_at: Some(at), ..BadRuns::default() };
        let got = merge_through(&mut runs, &fed, usize::MAX);
        assert!(matches!(got, Err(MergeError::RunDamaged(_))), "byte {at}: {got:?}");
    }
    for len in (0..bytes.len()).step_by(97) {
        let got = merge_through(&mut BadRuns::default(), &fed, len);
        assert_eq!(got, Err(MergeError::Write(WriteError::Sink(OsError(28)))), "{len}");
    }
}

#[test]
fn a_damaged_previous_snapshot_ends_the_merge_and_is_named() {
    let (fed, mut bytes) = small_one(1);
    bytes[300] ^= 1;
    let damaged = Snapshot::open(bytes).expect("the index holds");
    let more = [user(5, 900, vec![1])];
    let refused = merge(4096, &more, Some(&damaged), 2).expect_err("a block does not hold");
    let MergeError::Previous(SnapshotError::Damaged { part: SnapshotPart::Block, offset, length }) = refused
    else {
        panic!("{refused}")
    };
    assert!((offset..offset + length).contains(&300));
    // Without it, from all records, there is nothing missing.
    let all: Vec<Fed> = fed.iter().chain(&more).cloned().collect();
    let (again, _) = merge(4096, &all, None, 2).expect("sound");
    let mut model = Model::new();
    fold_in_memory(&mut model, &all);
    check(&Snapshot::open(again).expect("sound"), &model);
}

#[test]
fn a_previous_snapshot_of_another_directory_or_order_is_refused() {
    let (fed, bytes) = small_one(1);
    let previous = Snapshot::open(bytes).expect("sound");
    for (directory, hash_version) in [(*b"another director", 1), (DIRECTORY, 2)] {
        let other = tidegate_storage_log::SnapshotHeader { directory, hash_version, ..header(2) };
        let mut fold = Concatenate::default();
        let mut merger = Merger::new(4096, MemoryRuns::default());
        merger.feed(&fold, &fed[0].view()).expect("room");
        let writer = SnapshotWriter::new(Vec::new(), &other).expect("memory");
        let refused = merger.finish(&mut fold, Some(previous.entries()), writer).err();
        assert_eq!(refused, Some(MergeError::PreviousForeign));
    }
}

#[test]
fn a_state_that_no_entry_holds_is_refused() {
    let mut writer = SnapshotWriter::new(Vec::new(), &header(1)).expect("memory");
    let state = vec![0; (16 << 20) + 1];
    let mut entry = SnapshotEntry {
        place: VirtualShard(0),
        stream: stream(1),
        folded: Location::new(1, 8),
        state: &state,
    };
    let refused = writer.push(&entry);
    assert_eq!(refused, Err(WriteError::StateTooLarge { stream: stream(1), bytes: state.len() }));
    entry.state = &state[..16 << 20];
    writer.push(&entry).expect("the largest");
    let (bytes, _) = writer.finish().expect("memory");
    let mut read = Vec::new();
    let snapshot = Snapshot::open(bytes).expect("sound");
    assert_eq!(snapshot.load(VirtualShard(0), &stream(1), &mut read), Ok(Some(Location::new(1, 8))));
    assert_eq!(read.len(), 16 << 20);
}

/// What a segment lost is not folded away in silence.
#[test]
fn damage_in_a_segment_is_told() {
    let mut log = Log::new(small());
    (0..200).for_each(|i| _ = log.append(stream(i % 7), &body(i, 120)).expect("room"));
    log.appender.seal();
    log.flush();
    let (recovered, _) = harness::recover_all(&log.medium);
    let feed = |medium: &mut tidegate_storage_log::MemoryMedium| {
        let fold = Concatenate::default();
        let mut merger = Merger::new(1 << 16, MemoryRuns::default());
        let fed = recovered.extents.iter().map(|extent| merger.feed_segment(&fold, medium, extent));
        fed.collect::<Result<Vec<_>, _>>()
    };
    let sound = feed(&mut log.medium.clone()).expect("there");
    assert_eq!(sound.iter().map(|fed| fed.records).sum::<u64>(), 200);
    assert!(sound.iter().all(|fed| fed.damage_count == 0 && fed.damage.is_none()));
    let hit = log.kept[150].location;
    let mut damaged = log.medium.clone();
    damaged.segments.get_mut(&hit.segment).expect("there")[hit.offset as usize + 100] ^= 1;
    let fed = feed(&mut damaged).expect("there");
    assert_eq!(fed.iter().map(|fed| fed.records).sum::<u64>(), 199);
    let told: Vec<u32> = fed.iter().filter_map(|fed| fed.damage).map(|damage| damage.segment).collect();
    assert_eq!(told, [hit.segment]);
    damaged.segments.remove(&hit.segment);
    let missing = tidegate_storage_log::MediumError::Missing(hit.segment);
    assert_eq!(feed(&mut damaged), Err(MergeError::Medium(missing)));
}
