//! A merge holds no more memory for a hundred times the streams, and loading a stream takes none.

mod harness;

use harness::folding::{Concatenate, header, place};
use tidegate_ids::{Location, StreamId, UserId};
use tidegate_storage_log::{
    MemoryRuns, MergeSummary, Merger, OsError, RecordHead, RecordView, RunStore, Snapshot, SnapshotSink,
    SnapshotWriter,
};
use tidegate_tests_support::{CountingAllocator, allocations, most_held};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const MERGE_BYTES: usize = 256 << 10;

/// Runs and a snapshot in memory that was taken before the merge, as a disk is.
struct Disk {
    runs: MemoryRuns,
    room: Vec<Vec<u8>>,
}

impl RunStore for Disk {
    fn create(&mut self, run: u32) -> Result<(), OsError> {
        let room = self.room.pop().expect("the test has taken enough");
        self.runs.runs.insert(run, room);
        Ok(())
    }

    fn append(&mut self, run: u32, bytes: &[u8]) -> Result<(), OsError> {
        let held = self.runs.runs.get_mut(&run).expect("created");
        assert!(held.len() + bytes.len() <= held.capacity(), "the test has taken enough");
        self.runs.append(run, bytes)
    }

    fn read(&mut self, run: u32, offset: u64, into: &mut [u8]) -> Result<usize, OsError> {
        self.runs.read(run, offset, into)
    }

    fn remove(&mut self, run: u32) {
        if let Some(mut bytes) = self.runs.runs.remove(&run) {
            bytes.clear();
            self.room.push(bytes);
        }
    }
}

struct Sink(Vec<u8>);

impl SnapshotSink for Sink {
    fn write(&mut self, bytes: &[u8]) -> Result<(), OsError> {
        assert!(self.0.len() + bytes.len() <= self.0.capacity(), "the test has taken enough");
        self.0.write(bytes)
    }
}

/// Folds three records of each of `streams` streams, in no order, onto `previous`; the most bytes held meanwhile.
fn merge(streams: u64, previous: Option<&Snapshot<Vec<u8>>>, round: u32) -> (u64, Vec<u8>, MergeSummary) {
    let records = streams * 3;
    let run_bytes = (records as usize * 64).next_power_of_two();
    let room = (0..400.min(records / 100)).map(|_| Vec::with_capacity(run_bytes)).collect();
    let disk = Disk { runs: MemoryRuns::default(), room };
    let sink = Sink(Vec::with_capacity(records as usize * 200 + 4096));
    let (most, (sink, summary)) = most_held(|| {
        let mut fold = Concatenate::default();
        let mut merger = Merger::new(MERGE_BYTES, disk);
        for at in 0..records {
            let stream = StreamId::user(UserId(at * 7919 % streams + 1));
            let head = RecordHead { stream, kind: 9, body_len: 16, ..RecordHead::default() };
            let location = Location::new(round, 512 + at as u32 * 8);
            let record = RecordView { location, placement: Default::default(), head, body: &[at as u8; 16] };
            merger.feed(&fold, &record).expect("memory");
        }
        let writer = SnapshotWriter::new(sink, &header(u64::from(round))).expect("memory");
        merger.finish(&mut fold, previous.map(Snapshot::entries), writer).expect("memory")
    });
    (most, sink.0, summary)
}

#[test]
fn a_merge_holds_as_much_for_a_hundred_times_the_streams() {
    let (few, bytes, small) = merge(1000, None, 1);
    let small_previous = Snapshot::open(bytes).expect("sound");
    let (many, bytes, large) = merge(100_000, None, 1);
    let large_previous = Snapshot::open(bytes).expect("sound");
    assert_eq!((small.folded, large.folded), (1000, 100_000));
    assert!(large.runs > 64, "runs were merged: {large:?}");
    let (few_more, ..) = merge(1000, Some(&small_previous), 2);
    let (many_more, _, grown) = merge(100_000, Some(&large_previous), 2);
    assert_eq!(grown.records, 300_000);
    // What it was given for sorting, and a chunk of each run being merged; never what is merged.
    let bound = (MERGE_BYTES + 34 * (96 << 10)) as u64;
    for most in [few, many, few_more, many_more] {
        assert!(most > MERGE_BYTES as u64 / 2 && most < bound, "{most} bytes of {bound}");
    }
    let index = 32 * large_previous.block_count() as u64;
    assert!(many < few + 34 * (96 << 10) + 4 * index, "{few} bytes for few, {many} for many");
}

#[test]
fn a_warm_load_allocates_nothing() {
    let (_, bytes, _) = merge(5000, None, 1);
    let snapshot = Snapshot::open(bytes).expect("sound");
    let mut state = Vec::new();
    let mut load = |number: u64| {
        let stream = StreamId::user(UserId(number));
        let place = place(&stream).expect("a user has one");
        snapshot.load(place, &stream, &mut state).expect("sound").is_some()
    };
    let (cold, found) = allocations(|| (1..=5000).map(&mut load).filter(|found| *found).count());
    assert!(cold.count > 0 && found == 5000, "the allocator counts");
    let (warm, found) = allocations(|| (1..=6000).map(&mut load).filter(|found| *found).count());
    assert_eq!((warm.count, found), (0, 5000), "{warm:?}");
}
