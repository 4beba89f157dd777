//! A log in memory with everything that an appender's caller owes it, and a model of what was appended.
#![allow(dead_code)]

pub mod folding;

use std::collections::BTreeMap;
use tidegate_ids::{
    CommandNumber, ConversationId, Incarnation, Location, LogId, Sequence, ShardIndex, StreamId, UserId,
    WallMs,
};
use tidegate_storage_log::{
    AppendError, Appender, AppenderConfig, AppenderStart, Direction, LogIdentity, MemoryMedium, NewRecord,
    ReadSpec, RecordView, Recovered, Spine, StagedBatch, recover,
};

pub const DIRECTORY: [u8; 16] = *b"directory of one";

/// What the model knows of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub location: Location,
    pub stream: StreamId,
    pub sequence: Sequence,
    pub body: Vec<u8>,
}

impl Kept {
    pub fn of(record: &RecordView<'_>) -> Self {
        Self {
            location: record.location,
            stream: record.head.stream,
            sequence: record.head.sequence,
            body: record.body.to_vec(),
        }
    }
}

/// An appender, its medium, the folds of its streams, and all that was appended.
pub struct Log {
    pub config: AppenderConfig,
    pub appender: Appender,
    pub medium: MemoryMedium,
    pub spines: BTreeMap<StreamId, Spine>,
    pub kept: Vec<Kept>,
    /// (segment, from, to) of everything synced; writing there again is the worst fault there is.
    pub synced: Vec<(u32, u32, u32)>,
    pub next_segment: u32,
}

pub fn identity() -> LogIdentity {
    LogIdentity {
        log: LogId { epoch: 1, shard: ShardIndex(3) },
        directory: DIRECTORY,
        incarnation: Incarnation(7),
        hash_version: 1,
    }
}

pub fn small() -> AppenderConfig {
    AppenderConfig {
        segment_bytes: 32 * 1024,
        block_bytes: 512,
        staging_bytes: 256 * 1024,
        batch_bytes_max: 8192,
    }
}

pub fn stream(number: u64) -> StreamId {
    StreamId::conversation(ConversationId::direct(UserId(number), UserId(number + 1)))
}

impl Log {
    pub fn new(config: AppenderConfig) -> Self {
        Self::resume(
            config,
            AppenderStart { identity: identity(), ..AppenderStart::default() },
            MemoryMedium::new(),
        )
    }

    pub fn resume(config: AppenderConfig, start: AppenderStart, medium: MemoryMedium) -> Self {
        let next_segment = medium.segments.keys().last().copied().unwrap_or(0) + 1;
        let appender = Appender::new(&config, start).expect("sizes that can be");
        let (spines, kept, synced) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut log = Self { config, appender, medium, spines, kept, synced, next_segment };
        log.refill();
        log
    }

    /// Spare segments, as the factory makes them.
    pub fn refill(&mut self) {
        while self.appender.spare_segments() < 2 {
            self.medium.add(self.next_segment, self.config.segment_bytes);
            self.appender.add_segment(self.next_segment);
            self.next_segment += 1;
        }
    }

    /// Appends to a stream with its links.
    pub fn append(&mut self, stream: StreamId, body: &[u8]) -> Result<Location, AppendError> {
        let spine = self.spines.entry(stream).or_default();
        let sequence = Sequence(spine.count() + 1);
        let location = self.appender.append(&NewRecord {
            stream,
            sequence,
            time: WallMs(1_700_000_000_000 + sequence.0),
            kind: 9,
            flags: 1,
            number: CommandNumber(sequence.0),
            device_prev: spine.last(),
            links: spine.links(),
            body_parts: &[&body[..body.len() / 2], &body[body.len() / 2..]],
        })?;
        spine.push(location);
        self.kept.push(Kept { location, stream, sequence, body: body.to_vec() });
        Ok(location)
    }

    /// Writes one batch to the medium; `true` if there was one.
    pub fn write_batch(&mut self) -> Option<StagedBatch> {
        let batch = self.appender.take_batch()?;
        let (from, to) = (batch.offset, batch.offset + batch.bytes.len() as u32);
        for (segment, start, end) in &self.synced {
            assert!(
                *segment != batch.segment || to <= *start || from >= *end,
                "a synced block is written again"
            );
        }
        assert_eq!(from % self.config.block_bytes, 0);
        assert_eq!(to % self.config.block_bytes, 0);
        assert!(to <= self.config.segment_bytes);
        assert_eq!(batch.bytes.as_ptr().addr() % 4096, 0);
        self.medium.write(batch.segment, u64::from(from), &batch.bytes);
        self.synced.push((batch.segment, from, to));
        Some(batch)
    }

    /// Writes and syncs everything, and lets the cursors pass.
    pub fn flush(&mut self) {
        while let Some(batch) = self.write_batch() {
            self.appender.synced(batch.number);
            let end = self.appender.committed_end();
            self.appender.release(end);
        }
        self.refill();
    }

    /// Writes and syncs everything; the cursors stay where they are.
    pub fn flush_without_release(&mut self) {
        while let Some(batch) = self.write_batch() {
            self.appender.synced(batch.number);
        }
        self.refill();
    }

    /// Appends `count` records of varying lengths over `streams` streams, a batch every `per_batch`.
    pub fn fill(&mut self, count: u64, streams: u64, per_batch: u64) {
        for i in 0..count {
            let body = body(i, 20 + (i * 37 % 180) as usize);
            self.append(stream(i * 7 % streams), &body).expect("room");
            if i % per_batch == per_batch - 1 {
                self.flush();
            }
        }
        self.flush();
    }
}

/// A recognisable body.
pub fn body(seed: u64, len: usize) -> Vec<u8> {
    (0..len).map(|at| (seed as usize * 131 + at * 7) as u8).collect()
}

/// Recovers and keeps every record given out.
pub fn recover_all(medium: &MemoryMedium) -> (Recovered, Vec<Kept>) {
    let mut kept = Vec::new();
    let mut medium = medium.clone();
    let numbers = medium.numbers();
    let recovered = recover(&mut medium, &numbers, Some(DIRECTORY), |record| kept.push(Kept::of(&record)));
    (recovered.expect("one log of this version"), kept)
}

/// The records `from` to `to` of a stream, as many as `limit`.
pub fn range(log: &Log, stream: StreamId, from: u64, to: u64, limit: u32, direction: Direction) -> ReadSpec {
    let spine = &log.spines[&stream];
    ReadSpec::Range {
        stream,
        last: spine.last(),
        last_sequence: Sequence(spine.count()),
        from: Sequence(from),
        to: Sequence(to),
        limit,
        bytes_max: usize::MAX,
        direction,
    }
}
