//! From the previous snapshot and the records of newly covered segments to the next snapshot.
//!
//! An external merge sort (Knuth, The Art of Computer Programming, volume 3, section 5.4): records are sorted in a fixed
//! stretch of memory and set aside as runs; then runs, what is left in memory, and the previous snapshot are merged in one
//! pass, in which each stream is folded. A stream without new records is copied.

use crate::footer::sealed_footer;
use crate::limits::{MERGE_RUNS_MAX, RUN_CHUNK_BYTES};
use crate::medium::{Medium, MediumError};
use crate::record::RecordView;
use crate::recover::{Damage, SegmentExtent};
use crate::scan::Scan;
use crate::snapshot::entries::SnapshotEntries;
use crate::snapshot::fold::Fold;
use crate::snapshot::index::{SnapshotEntry, SnapshotError};
use crate::snapshot::run::{Run, RunFault, RunReader, RunStore, RunWriter};
use crate::snapshot::sorter::{Arena, SortKey};
use crate::snapshot::source::{OsError, SnapshotSink};
use crate::snapshot::writer::{SnapshotSummary, SnapshotWriter, WriteError};
use core::cmp::Reverse;
use core::fmt;
use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeMap, BinaryHeap};
use tidegate_ids::{Location, Sequence, StreamId};

/// Why there is no new snapshot. The previous one stands, and so do the logs: nothing is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeError {
    /// A run cannot be written or read. Recovered by trying again later.
    Run(OsError),
    /// A run is not what was written. Recovered by trying again.
    RunDamaged(u32),
    /// The previous snapshot cannot be read to its end. Recovered by an older one, or by folding all logs without one.
    Previous(SnapshotError),
    /// The previous snapshot is of another directory, or sorted by another hash. Recovered by folding without it.
    PreviousForeign,
    /// The new snapshot cannot be written.
    Write(WriteError),
    /// A segment is not there.
    Medium(MediumError),
}

/// What a segment gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentFed {
    /// Records read.
    pub records: u64,
    /// How many times damage was met; what it cost is not in the snapshot, so the caller judges whether it was known.
    pub damage_count: u64,
    /// The first of it.
    pub damage: Option<Damage>,
}

/// What a merge did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MergeSummary {
    /// What was written.
    pub written: SnapshotSummary,
    /// Streams folded anew.
    pub folded: u64,
    /// Streams copied from the previous snapshot.
    pub copied: u64,
    /// Records applied.
    pub records: u64,
    /// Records that the previous snapshot had folded already; passed over.
    pub repeated: u64,
    /// Runs written, those of merged runs included.
    pub runs: u32,
}

/// A merge under way. Its memory: what it was given, and at most `MERGE_RUNS_MAX` chunks of runs, two blocks of
/// snapshots and the index of the new one.
#[derive(Debug)]
pub struct Merger<R> {
    store: R,
    arena: Arena,
    reduced: Vec<u8>,
    chunk: Vec<u8>,
    /// Levels never rise along it.
    runs: Vec<Run>,
    next_run: u32,
}

impl<R: RunStore> Merger<R> {
    /// A merge that sorts records in `memory_bytes` (see [`crate::limits::MERGE_BYTES_DEFAULT`]), which are taken at once.
    #[must_use]
    pub fn new(memory_bytes: usize, store: R) -> Self {
        let arena = Arena::new(memory_bytes);
        let chunk = Vec::with_capacity(RUN_CHUNK_BYTES);
        Self { store, arena, reduced: Vec::new(), chunk, runs: Vec::new(), next_run: 0 }
    }

    /// Takes in a record. Logs may come in any order, their records too.
    ///
    /// # Errors
    /// See [`MergeError`]; the merge is over.
    pub fn feed<F: Fold + ?Sized>(&mut self, fold: &F, record: &RecordView<'_>) -> Result<(), MergeError> {
        let stream = &record.head.stream;
        let Some(place) = fold.place(stream) else { return Ok(()) };
        self.reduced.clear();
        if !fold.reduce(record, &mut self.reduced) {
            return Ok(());
        }
        self.push(&SortKey::new(place, stream, record.location))
    }

    fn push(&mut self, key: &SortKey) -> Result<(), MergeError> {
        if !self.arena.push(key, &self.reduced) {
            self.spill()?;
            let taken = self.arena.push(key, &self.reduced);
            assert!(taken, "an empty arena takes any record");
        }
        Ok(())
    }

    /// For a damaged segment that was fed: says of each of its streams up to where it went, where its sound records do not
    /// reach as far. `false` if the segment's footer does not tell: then nothing was fed.
    ///
    /// # Errors
    /// See [`MergeError`]; the merge is over.
    pub fn feed_lost_ends<F: Fold + ?Sized, M: Medium>(
        &mut self,
        fold: &F,
        medium: &mut M,
        extent: &SegmentExtent,
    ) -> Result<bool, MergeError> {
        let Some(entries) = sealed_footer(medium, extent).map_err(MergeError::Medium)? else {
            return Ok(false);
        };
        let mut reached: BTreeMap<StreamId, Sequence> = BTreeMap::new();
        let mut scan = Scan::new(medium, extent);
        while scan.at < extent.end {
            scan.step(|record| {
                let highest = reached.entry(record.head.stream).or_default();
                *highest = record.head.sequence.max(*highest);
            });
        }
        for entry in entries {
            let known = reached.get(&entry.stream).copied().unwrap_or_default();
            let Some(place) = fold.place(&entry.stream).filter(|_| entry.last_sequence > known) else {
                continue;
            };
            self.reduced.clear();
            if fold.reduce_lost(&entry.stream, entry.last_sequence, &mut self.reduced) {
                // Behind the stream's last record there, and no record's own place.
                let at = Location::new(extent.segment, entry.last_offset + 1);
                self.push(&SortKey::new(place, &entry.stream, at))?;
            }
        }
        Ok(true)
    }

    /// Takes in all records of a segment, reading it once.
    ///
    /// # Errors
    /// See [`MergeError`]; the merge is over. Damage is not an error here: it is in the answer.
    pub fn feed_segment<F: Fold + ?Sized, M: Medium>(
        &mut self,
        fold: &F,
        medium: &mut M,
        extent: &SegmentExtent,
    ) -> Result<SegmentFed, MergeError> {
        medium.segment_len(extent.segment).map_err(MergeError::Medium)?;
        let mut scan = Scan::new(medium, extent);
        let (mut records, mut result) = (0, Ok(()));
        while scan.at < extent.end {
            scan.step(|record| {
                records += 1;
                if result.is_ok() {
                    result = self.feed(fold, &record);
                }
            });
            result?;
        }
        let damage = scan.found.damage.first().copied();
        Ok(SegmentFed { records, damage_count: scan.found.damage_count, damage })
    }

    /// Folds everything fed, and the previous snapshot, into `writer`, and ends it. The sink comes back, not yet synced.
    ///
    /// # Errors
    /// See [`MergeError`]; what was written is worth nothing.
    pub fn finish<F: Fold + ?Sized, K: SnapshotSink>(
        mut self,
        fold: &mut F,
        mut previous: Option<SnapshotEntries<'_>>,
        mut writer: SnapshotWriter<K>,
    ) -> Result<(K, MergeSummary), MergeError> {
        if previous.as_ref().is_some_and(|previous| !writer.continues(previous.header())) {
            return Err(MergeError::PreviousForeign);
        }
        while self.runs.len() > MERGE_RUNS_MAX {
            let too_many = self.runs.len() - MERGE_RUNS_MAX + 1;
            self.merge_last(too_many.clamp(2, MERGE_RUNS_MAX))?;
        }
        self.arena.sort();
        let mut summary = MergeSummary { runs: self.next_run, ..MergeSummary::default() };
        let mut sources = Sources::new(&mut self.store, Some(&self.arena), &self.runs)?;
        let mut state = Vec::new();
        let mut base = step(&mut previous)?;
        loop {
            let next = sources.peek();
            let Some(key) = next.filter(|key| base.is_none_or(|entry| key.entry() <= entry.key())) else {
                let Some(entry) = base else { break };
                writer.push(&entry).map_err(MergeError::Write)?;
                summary.copied += 1;
                base = step(&mut previous)?;
                continue;
            };
            let own = base.filter(|entry| entry.key() == key.entry());
            fold.begin(&key.stream(), own.map(|entry| entry.state));
            let mut folded = own.map_or(Location::NONE, |entry| entry.folded);
            while let Some(at) = sources.peek().filter(|at| at.same_stream(&key)) {
                if at.location > folded {
                    fold.apply(at.location, sources.reduced());
                    folded = at.location;
                    summary.records += 1;
                } else {
                    summary.repeated += 1;
                }
                sources.advance(&mut self.store)?;
            }
            state.clear();
            if fold.finish(&mut state) {
                let entry = SnapshotEntry { place: key.place, stream: key.stream(), folded, state: &state };
                writer.push(&entry).map_err(MergeError::Write)?;
            }
            summary.folded += 1;
            if own.is_some() {
                base = step(&mut previous)?;
            }
        }
        self.runs.iter().for_each(|run| self.store.remove(run.number));
        let (sink, written) = writer.finish().map_err(MergeError::Write)?;
        Ok((sink, MergeSummary { written, ..summary }))
    }

    /// Sets aside what is in memory, and keeps the number of runs small.
    fn spill(&mut self) -> Result<(), MergeError> {
        self.arena.sort();
        let mut writer = self.begin_run(0)?;
        for index in 0..self.arena.len() {
            let Some(key) = self.arena.key(index) else { break };
            writer.push(&mut self.store, &key, self.arena.reduced(index)).map_err(MergeError::Run)?;
        }
        self.end_run(writer)?;
        self.arena.clear();
        while let Some(last) = self.runs.last()
            && self.runs.iter().filter(|run| run.level == last.level).count() >= MERGE_RUNS_MAX
        {
            self.merge_last(MERGE_RUNS_MAX)?;
        }
        Ok(())
    }

    /// Makes one run of the last `count`.
    fn merge_last(&mut self, count: usize) -> Result<(), MergeError> {
        let merged = self.runs.split_off(self.runs.len() - count);
        let level = merged.iter().map(|run| run.level).max().unwrap_or(0) + 1;
        let mut writer = self.begin_run(level)?;
        let mut sources = Sources::new(&mut self.store, None, &merged)?;
        while let Some(key) = sources.peek() {
            writer.push(&mut self.store, &key, sources.reduced()).map_err(MergeError::Run)?;
            sources.advance(&mut self.store)?;
        }
        merged.iter().for_each(|run| self.store.remove(run.number));
        self.end_run(writer)
    }

    fn begin_run(&mut self, level: u32) -> Result<RunWriter, MergeError> {
        let number = self.next_run;
        self.next_run += 1;
        let chunk = core::mem::take(&mut self.chunk);
        RunWriter::new(&mut self.store, number, level, chunk).map_err(MergeError::Run)
    }

    fn end_run(&mut self, writer: RunWriter) -> Result<(), MergeError> {
        let (run, chunk) = writer.finish(&mut self.store).map_err(MergeError::Run)?;
        self.runs.push(run);
        self.chunk = chunk;
        Ok(())
    }
}

/// The next entry of the previous snapshot. A block of it that does not hold ends the merge.
fn step<'e>(previous: &'e mut Option<SnapshotEntries<'_>>) -> Result<Option<SnapshotEntry<'e>>, MergeError> {
    match previous {
        Some(entries) => entries.next().transpose().map_err(MergeError::Previous),
        None => Ok(None),
    }
}

/// Records from memory and from runs, as one sequence in order.
struct Sources<'a> {
    arena: Option<&'a Arena>,
    arena_at: usize,
    readers: Vec<RunReader>,
    /// The record at hand of every source that has one; sources count from 0, the arena is behind the runs.
    heads: BinaryHeap<Reverse<(SortKey, usize)>>,
}

impl<'a> Sources<'a> {
    fn new(store: &mut impl RunStore, arena: Option<&'a Arena>, runs: &[Run]) -> Result<Self, MergeError> {
        let mut readers: Vec<RunReader> = runs.iter().map(|run| RunReader::new(*run)).collect();
        let mut heads = BinaryHeap::with_capacity(runs.len() + 1);
        for (source, reader) in readers.iter_mut().enumerate() {
            let first = reader.advance(store).map_err(|fault| of_run(fault, reader))?;
            heads.extend(first.map(|key| Reverse((key, source))));
        }
        let first = arena.and_then(|arena| arena.key(0));
        heads.extend(first.map(|key| Reverse((key, readers.len()))));
        Ok(Self { arena, arena_at: 0, readers, heads })
    }

    /// The key of the next record.
    fn peek(&self) -> Option<SortKey> {
        self.heads.peek().map(|Reverse((key, _))| *key)
    }

    /// What `reduce` gave for it.
    fn reduced(&self) -> &[u8] {
        match self.heads.peek() {
            Some(Reverse((_, source))) => match (self.readers.get(*source), self.arena) {
                (Some(reader), _) => reader.reduced(),
                (None, Some(arena)) => arena.reduced(self.arena_at),
                (None, None) => &[],
            },
            None => &[],
        }
    }

    /// Goes on behind it.
    fn advance(&mut self, store: &mut impl RunStore) -> Result<(), MergeError> {
        let Some(mut head) = self.heads.peek_mut() else { return Ok(()) };
        let Reverse((_, source)) = *head;
        let next = match self.readers.get_mut(source) {
            Some(reader) => reader.advance(store).map_err(|fault| of_run(fault, reader))?,
            None => {
                self.arena_at += 1;
                self.arena.and_then(|arena| arena.key(self.arena_at))
            }
        };
        match next {
            Some(key) => *head = Reverse((key, source)),
            None => _ = PeekMut::pop(head),
        }
        Ok(())
    }
}

fn of_run(fault: RunFault, reader: &RunReader) -> MergeError {
    match fault {
        RunFault::Store(error) => MergeError::Run(error),
        RunFault::Damaged => MergeError::RunDamaged(reader.run().number),
    }
}

impl fmt::Display for MergeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(error) => write!(f, "a temporary run cannot be written or read ({error})"),
            Self::RunDamaged(run) => write!(f, "temporary run {run} is not what was written"),
            Self::Previous(error) => write!(f, "the previous snapshot: {error}"),
            Self::PreviousForeign => {
                f.write_str("the previous snapshot is of another directory or sorted by another hash")
            }
            Self::Write(error) => error.fmt(f),
            Self::Medium(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for MergeError {}
