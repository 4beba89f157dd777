//! A fold whose states are easy to judge, and snapshots of a journal by it.

use super::{Journal, Kept};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tidegate_ids::{ConversationId, Location, LogId, StreamId, UserId, VirtualShard};
use tidegate_storage_files::{BuildError, SnapshotBuilt, SnapshotFile, SnapshotPlan, Snapshots};
use tidegate_storage_log::{Covered, Fold, RecordView, SegmentExtent, crc32c};

pub const STREAMS: u64 = 40;

pub fn stream(number: u64) -> StreamId {
    StreamId::conversation(ConversationId::direct(UserId(number), UserId(number + 1000)))
}

/// A state is the sum and the count of all bytes ever sent, and the last sequence.
#[derive(Debug, Default)]
pub struct Sums {
    pub state: [u64; 3],
    pub finished: u64,
    /// Asks to stop when so many streams are folded.
    pub stop_after: Option<(u64, Arc<AtomicBool>)>,
}

pub fn place(stream: &StreamId) -> VirtualShard {
    VirtualShard(u16::from(stream.0[7]) * 7 % 16)
}

impl Fold for Sums {
    fn place(&self, stream: &StreamId) -> Option<VirtualShard> {
        Some(place(stream))
    }

    fn reduce(&self, record: &RecordView<'_>, out: &mut Vec<u8>) -> bool {
        let sum = record.body.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        let parts = [sum, record.body.len() as u64, record.head.sequence.0];
        parts.iter().for_each(|part| out.extend_from_slice(&part.to_le_bytes()));
        true
    }

    fn begin(&mut self, _stream: &StreamId, base: Option<&[u8]>) {
        self.state = base.map_or([0; 3], parse);
    }

    fn apply(&mut self, _location: Location, reduced: &[u8]) {
        let [sum, count, sequence] = parse(reduced);
        assert_eq!(sequence, self.state[2] + 1, "in order, and once");
        self.state = [self.state[0] + sum, self.state[1] + count, sequence];
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> bool {
        self.state.iter().for_each(|part| out.extend_from_slice(&part.to_le_bytes()));
        self.finished += 1;
        if let Some((count, stop)) = &self.stop_after
            && self.finished >= *count
        {
            stop.store(true, Ordering::Relaxed);
        }
        true
    }
}

pub fn parse(bytes: &[u8]) -> [u64; 3] {
    let mut parts = bytes.as_chunks::<8>().0.iter().map(|part| u64::from_le_bytes(*part));
    [parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap()]
}

/// What must come out of records up to the ends of what is covered.
pub fn expected(kept: &[Kept], covered: &[Covered]) -> BTreeMap<StreamId, (Location, [u64; 3])> {
    let mut model = BTreeMap::new();
    for one in kept {
        if covered.iter().any(|covered| covered.log == one.log && one.location < covered.previous.end) {
            let (folded, state): &mut (Location, [u64; 3]) = model.entry(one.stream).or_default();
            let sum = one.body.iter().map(|byte| u64::from(*byte)).sum::<u64>();
            (*folded, *state) =
                (one.location, [state[0] + sum, state[1] + one.body.len() as u64, one.sequence]);
        }
    }
    model
}

pub fn check(file: &SnapshotFile, kept: &[Kept]) {
    let model = expected(kept, &file.header().covered);
    let mut state = Vec::new();
    for number in 0..STREAMS + 5 {
        let stream = stream(number);
        let found = file.read_entry(place(&stream), &stream, &mut state).unwrap();
        let wanted = model.get(&stream);
        assert_eq!(found.map(|folded| (folded, parse(&state))), wanted.copied(), "{stream}");
    }
    let verified = file.verify();
    assert!(verified.is_sound());
    assert_eq!(verified.entries, model.len() as u64);
}

/// Appends over all streams, on two shards, with rolls.
pub fn fill(journal: &mut Journal, count: u64) -> Vec<Kept> {
    let mut kept = Vec::new();
    for at in 0..count {
        let of = at * 7 % STREAMS;
        kept.push(journal.append(
            (of % 2) as u16,
            stream(of),
            &vec![at as u8; 300 + (at as usize * 37) % 1500],
        ));
        if at % 9 == 0 {
            journal.commit();
        }
    }
    journal.commit();
    kept
}

/// Every segment that is sealed or followed by another, with what they cover; at most `most` of each log.
pub fn closed(journal: &Journal, most: usize) -> (Vec<(LogId, SegmentExtent)>, Vec<Covered>) {
    let (mut segments, mut covered) = (Vec::new(), Vec::new());
    for log in &journal.logs {
        let mut extents = log.recovered.extents.clone();
        extents.pop_if(|last| last.footer_offset.is_none());
        extents.truncate(most);
        if let Some(last) = extents.len().checked_sub(1) {
            covered.push(Covered {
                log: log.log,
                previous: log.recovered.ends[last],
                checkpoint: log.log.shard.0.to_le_bytes().to_vec(),
            });
        }
        segments.extend(extents.into_iter().map(|extent| (log.log, extent)));
    }
    (segments, covered)
}

pub fn build(journal: &Journal, snapshots: &mut Snapshots, most: usize) -> Result<SnapshotBuilt, BuildError> {
    let (segments, covered) = closed(journal, most);
    let previous = snapshots.newest().cloned();
    // So little memory that runs are written.
    let plan = SnapshotPlan { memory_bytes: 2048, ..SnapshotPlan::new(&segments, covered, previous) };
    snapshots.build(&plan, &mut Sums::default(), &AtomicBool::new(false))
}

/// Makes the checksums of header and footer right again.
pub fn seal_header(bytes: &mut [u8]) {
    let guard = crc32c(&bytes[32..48]);
    let logs = u32::from_le_bytes(bytes[52..56].try_into().unwrap()) as usize;
    let sum = crc32c(&bytes[64..64 + logs]);
    bytes[56..60].copy_from_slice(&sum.to_le_bytes());
    let sum = crc32c(&bytes[12..64]);
    bytes[8..12].copy_from_slice(&sum.to_le_bytes());
    let footer = bytes.len() - 64;
    bytes[footer + 12..footer + 16].copy_from_slice(&sum.to_le_bytes());
    let sum = crc32c(&bytes[footer + 12..]) ^ guard;
    bytes[footer + 8..footer + 12].copy_from_slice(&sum.to_le_bytes());
}
