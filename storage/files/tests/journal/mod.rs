//! A log writer for tests: the appender of each shard over real segment files, written by blocking calls.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part of it, and may end by a panic")]

pub mod disk;
pub mod retire;
pub mod sums;

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use tidegate_ids::{CommandNumber, Location, LogId, Sequence, ShardIndex, StreamId, WallMs};
use tidegate_storage_files::{
    CoveredSegments, DataDir, FactoryOptions, OpenOptions, RecoveredLog, SegmentFactory, SegmentFile,
    SpareEvent, Spares, WriteMode, recover_all,
};
use tidegate_storage_log::{AppendError, Appender, AppenderConfig, Links, NewRecord, Spine};

/// Small, so that a few hundred records roll.
pub const SEGMENT_BYTES: u32 = 64 << 10;
const BATCH_BYTES: u32 = 16 << 10;

pub fn options(shards: u16) -> OpenOptions {
    OpenOptions { segment_bytes: SEGMENT_BYTES, ..OpenOptions::new(shards) }
}

/// A record as a test remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub log: LogId,
    pub location: Location,
    pub stream: StreamId,
    pub sequence: u64,
    pub body: Vec<u8>,
}

struct Shard {
    appender: Appender,
    spares: Spares,
    files: HashMap<u32, SegmentFile>,
}

#[derive(Clone, Default)]
struct Stream {
    spine: Spine,
    sequence: u64,
}

pub struct Journal {
    pub dir: DataDir,
    shards: Vec<Shard>,
    streams: HashMap<StreamId, Stream>,
    /// What recovery gave, oldest first.
    pub recovered: Vec<Kept>,
    pub logs: Vec<RecoveredLog>,
    factory: SegmentFactory,
}

impl Journal {
    pub fn open(path: &Path, shards: u16) -> Self {
        Self::open_with(path, &options(shards))
    }

    pub fn open_with(path: &Path, options: &OpenOptions) -> Self {
        let dir = DataDir::open(path, options).unwrap();
        let mut recovered = Vec::new();
        let mut streams: HashMap<StreamId, Stream> = HashMap::new();
        let logs = recover_all(
            &dir,
            |_| {},
            |log, record| {
                let stream = streams.entry(record.head.stream).or_default();
                stream.spine.push(record.location);
                stream.sequence = record.head.sequence.0;
                let (location, body) = (record.location, record.body.to_vec());
                recovered.push(Kept {
                    log,
                    location,
                    stream: record.head.stream,
                    sequence: stream.sequence,
                    body,
                });
            },
        )
        .unwrap();
        let wakes = (0..options.shards).map(|_| Box::new(|| {}) as Box<dyn Fn() + Send>).collect();
        let factory_options = FactoryOptions { spares: 1, reserve_bytes: 0, ..FactoryOptions::default() };
        let (factory, spares) = SegmentFactory::start(&dir, factory_options, wakes).unwrap();
        let config = AppenderConfig {
            segment_bytes: options.segment_bytes,
            block_bytes: dir.block_bytes(),
            staging_bytes: 4 << 20,
            batch_bytes_max: BATCH_BYTES,
        };
        let current = logs.iter().filter(|one| one.log.epoch == dir.epoch());
        let shard = |(one, spares): (&RecoveredLog, Spares)| Shard {
            appender: Appender::new(&config, one.appender_start(&dir)).unwrap(),
            spares,
            files: HashMap::new(),
        };
        let shards = current.zip(spares).map(shard).collect();
        Self { dir, shards, streams, recovered, logs, factory }
    }

    /// Appends the next record of `stream`; durable after [`Journal::commit`].
    pub fn append(&mut self, shard: u16, stream: StreamId, body: &[u8]) -> Kept {
        let held = self.streams.entry(stream).or_default();
        let links = held.spine.links();
        let sequence = held.sequence + 1;
        let location = self.append_record(
            shard,
            &NewRecord {
                stream,
                sequence: Sequence(sequence),
                time: WallMs(1_700_000_000_000 + sequence),
                kind: 1,
                number: CommandNumber(sequence),
                device_prev: links.prev,
                links,
                body_parts: &[body],
                ..NewRecord::default()
            },
        );
        let held = self.streams.entry(stream).or_default();
        held.spine.push(location);
        held.sequence = sequence;
        let log = LogId { epoch: self.dir.epoch(), shard: ShardIndex(shard) };
        Kept { log, location, stream, sequence, body: body.to_vec() }
    }

    /// Appends any record, right or wrong.
    pub fn append_record(&mut self, shard: u16, record: &NewRecord<'_>) -> Location {
        loop {
            match self.shards[usize::from(shard)].appender.append(record) {
                Ok(location) => return location,
                Err(AppendError::NoSegment) => self.add_segment(shard),
                Err(AppendError::StagingFull) => self.commit(),
                Err(error @ (AppendError::TooLarge | AppendError::Failed)) => panic!("{error}"),
            }
        }
    }

    fn add_segment(&mut self, shard: u16) {
        let shard = &mut self.shards[usize::from(shard)];
        let file = shard.spares.wait().unwrap();
        shard.appender.add_segment(file.number());
        shard.files.insert(file.number(), file);
    }

    /// Writes and syncs everything appended.
    pub fn commit(&mut self) {
        for shard in &mut self.shards {
            while let Some(batch) = shard.appender.take_batch() {
                shard.files[&batch.segment].write_sync(batch.offset, &batch.bytes).unwrap();
                shard.appender.synced(batch.number);
                if batch.seals {
                    self.dir.indexes().note(batch.segment, batch.index);
                }
            }
            let end = shard.appender.committed_end();
            shard.appender.release(end);
        }
    }

    /// Writes everything appended and syncs nothing: what a killed process leaves in the page cache.
    pub fn write_without_sync(&mut self) {
        for shard in &mut self.shards {
            while let Some(batch) = shard.appender.take_batch() {
                let file = shard.files[&batch.segment].as_fd().try_clone_to_owned().unwrap();
                File::from(file).write_all_at(&batch.bytes, u64::from(batch.offset)).unwrap();
                shard.appender.synced(batch.number);
            }
        }
    }

    /// A clean stop that was killed between the write of the seal and its sync.
    pub fn seal_without_sync(mut self) {
        self.shards.iter_mut().for_each(|shard| shard.appender.seal());
        self.write_without_sync();
    }

    /// A clean stop.
    pub fn seal(mut self) {
        self.shards.iter_mut().for_each(|shard| shard.appender.seal());
        self.commit();
    }

    /// Where a stream's newest record is, and its sequence.
    pub fn last(&self, stream: StreamId) -> (Location, Sequence) {
        let held = &self.streams[&stream];
        (held.spine.last(), Sequence(held.sequence))
    }

    /// The links that a stream's next record gets.
    pub fn links(&self, stream: StreamId) -> Links {
        self.streams[&stream].spine.links()
    }

    /// The next event of a shard's spares.
    pub fn spare(&mut self, shard: u16) -> Option<SpareEvent> {
        self.shards[usize::from(shard)].spares.take()
    }

    pub fn mode(&self) -> WriteMode {
        self.dir.options().write_mode
    }
}

/// Everything in a directory but the segments that are written to: what two snapshots would hold after a roll.
pub fn cover(dir: &DataDir) -> CoveredSegments {
    let covered = CoveredSegments::default();
    for log in recover_all(dir, |_| {}, |_, _| {}).unwrap() {
        let is_current = log.log.epoch == dir.epoch() && log.recovered.unclean;
        let place = log.recovered.extents.len().checked_sub(1 + usize::from(is_current));
        let Some(place) = place else { continue };
        covered.set(log.log, log.recovered.ends[place]);
    }
    covered
}
