//! A fold whose states are easy to judge, and a model that folds in memory.

use super::DIRECTORY;
use std::collections::BTreeMap;
use tidegate_ids::{BatchNumber, Incarnation, Location, LogId, ShardIndex, StreamId, UserId, VirtualShard};
use tidegate_storage_log::{
    Covered, Fold, MemoryRuns, MergeError, MergeSummary, Merger, PreviousEnd, RecordHead, RecordView,
    Snapshot, SnapshotHeader, SnapshotWriter,
};

/// A state is all that was applied, one after another: (location, length, bytes). Every tenth stream is worth no entry
/// while it has less than three records.
#[derive(Debug, Default)]
pub struct Concatenate {
    stream: StreamId,
    state: Vec<u8>,
}

pub fn place(stream: &StreamId) -> Option<VirtualShard> {
    let sum = stream.0.iter().fold(0_u16, |sum, byte| sum * 31 % 1021 + u16::from(*byte));
    (*stream != StreamId::SHARD).then_some(VirtualShard(sum % 1024))
}

pub fn is_worth_it(stream: &StreamId, records: usize) -> bool {
    !stream.0[15].is_multiple_of(10) || records >= 3
}

pub fn write_one(location: Location, reduced: &[u8], state: &mut Vec<u8>) {
    state.extend_from_slice(&location.to_u64().to_le_bytes());
    state.extend_from_slice(&(reduced.len() as u32).to_le_bytes());
    state.extend_from_slice(reduced);
}

pub fn count(state: &[u8]) -> usize {
    let (mut rest, mut count) = (state, 0);
    while let Some((fixed, after)) = rest.split_first_chunk::<12>() {
        let len = u32::from_le_bytes(fixed[8..].try_into().expect("four")) as usize;
        rest = &after[len..];
        count += 1;
    }
    count
}

impl Fold for Concatenate {
    fn place(&self, stream: &StreamId) -> Option<VirtualShard> {
        place(stream)
    }

    fn reduce(&self, record: &RecordView<'_>, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(record.body);
        record.head.kind != 404
    }

    fn begin(&mut self, stream: &StreamId, base: Option<&[u8]>) {
        self.stream = *stream;
        self.state.clear();
        self.state.extend_from_slice(base.unwrap_or_default());
    }

    fn apply(&mut self, location: Location, reduced: &[u8]) {
        write_one(location, reduced, &mut self.state);
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(&self.state);
        is_worth_it(&self.stream, count(&self.state))
    }
}

pub fn header(number: u64) -> SnapshotHeader {
    let log = LogId { epoch: 1, shard: ShardIndex(3) };
    let previous = PreviousEnd { end: Location::new(7, 8192), batch: BatchNumber(99) };
    SnapshotHeader {
        number,
        directory: DIRECTORY,
        incarnation: Incarnation(7),
        hash_version: 1,
        covered: vec![Covered { log, previous, checkpoint: b"a checkpoint".to_vec() }],
    }
}

#[derive(Clone, Debug)]
pub struct Fed {
    pub stream: StreamId,
    pub location: Location,
    pub kind: u16,
    pub body: Vec<u8>,
}

impl Fed {
    pub fn view(&self) -> RecordView<'_> {
        let head = RecordHead {
            stream: self.stream,
            kind: self.kind,
            body_len: self.body.len() as u32,
            ..RecordHead::default()
        };
        RecordView { location: self.location, placement: Default::default(), head, body: &self.body }
    }
}

/// What a model knows of a stream: up to where it is folded, its state.
pub type Model = BTreeMap<(VirtualShard, StreamId), (Location, Vec<u8>)>;

pub fn fold_in_memory(model: &mut Model, fed: &[Fed]) {
    let mut sorted: Vec<&Fed> = fed.iter().filter(|one| one.kind != 404).collect();
    sorted.sort_by_key(|one| one.location);
    for one in sorted {
        let Some(place) = place(&one.stream) else { continue };
        let (folded, state) = model.entry((place, one.stream)).or_default();
        if *folded < one.location {
            *folded = one.location;
            write_one(one.location, &one.body, state);
        }
    }
    model.retain(|(_, stream), (_, state)| is_worth_it(stream, count(state)));
}

pub fn merge(
    memory_bytes: usize,
    fed: &[Fed],
    previous: Option<&Snapshot<Vec<u8>>>,
    number: u64,
) -> Result<(Vec<u8>, MergeSummary), MergeError> {
    let mut fold = Concatenate::default();
    let mut runs = MemoryRuns::default();
    let mut merger = Merger::new(memory_bytes, &mut runs);
    for one in fed {
        merger.feed(&fold, &one.view())?;
    }
    let writer = SnapshotWriter::new(Vec::new(), &header(number)).map_err(MergeError::Write)?;
    let merged = merger.finish(&mut fold, previous.map(Snapshot::entries), writer);
    assert!(merged.is_err() || runs.runs.is_empty(), "runs are removed");
    merged
}

pub fn check(snapshot: &Snapshot<Vec<u8>>, model: &Model) {
    let mut entries = snapshot.entries();
    let mut expected = model.iter();
    while let Some(entry) = entries.next() {
        let entry = entry.expect("sound");
        let ((place, stream), (folded, state)) = expected.next().expect("no entry too many");
        assert_eq!((entry.place, entry.stream, entry.folded), (*place, *stream, *folded));
        assert_eq!(entry.state, state);
    }
    assert_eq!(expected.next(), None, "no entry too few");
    assert_eq!(snapshot.entry_count(), model.len() as u64);
    let mut state = Vec::new();
    for ((place, stream), (folded, expected)) in model {
        assert_eq!(snapshot.load(*place, stream, &mut state), Ok(Some(*folded)));
        assert_eq!(&state, expected);
    }
    for number in 0..200 {
        let stream = StreamId::user(UserId(number));
        let place = place(&stream).expect("a user has one");
        let expected = model.get(&(place, stream)).map(|(folded, _)| *folded);
        assert_eq!(snapshot.load(place, &stream, &mut state), Ok(expected));
    }
}

/// A record of a user's stream, the `at`th of all.
pub fn user(number: u64, at: u32, body: Vec<u8>) -> Fed {
    Fed { stream: StreamId::user(UserId(number)), location: Location::new(1, 512 + at * 8), kind: 9, body }
}
