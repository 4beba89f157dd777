//! A log as a gateway of one shard leaves it: made with the real appender, with records of direct conversations.
//!
//! Bodies are stamps and messages in stored form; devices number their commands; a checkpoint ends the log, and it is
//! sealed. What it lacks is the records of users: their queues.

use crate::limits::{CORPUS_BATCH_RECORDS, CORPUS_TELL_RECORDS, RECORD_BODY_EXTRA_BYTES};
use anyhow::{Context, Result, anyhow, ensure};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tidegate_domain::{Generator, message_id};
use tidegate_ids::{
    CommandNumber, ConversationId, Countable, DeviceId, Location, Sequence, ShardIndex, StreamId, UserId,
    WallMs,
};
use tidegate_schema::deliver::{self, Stamp};
use tidegate_storage_files::{DataDir, FactoryOptions, OpenOptions, SegmentFactory, Spares, WriteMode};
use tidegate_storage_log::{Appender, AppenderConfig, AppenderStart, NewRecord, Spine};

/// A message, as `gateway/shard` numbers kinds (docs/formats/log.md).
const KIND_MESSAGE: u16 = 1;
/// What a shard has consumed of every log.
const KIND_CHECKPOINT: u16 = 48;
/// The record counts as unread.
const FLAG_COUNTABLE: u8 = 1;
/// When the first record was written; each is a millisecond later.
const BEGAN: WallMs = WallMs(1_750_000_000_000);

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Records of conversations.
    pub records: u64,
    /// Conversations, the long one included.
    pub conversations: u64,
    /// Records of the long one, spread over the whole log; 0: it is like the others.
    pub long: u64,
    /// Bytes of a body: stamp, message and client id.
    pub body_bytes: usize,
    /// Bytes of a segment.
    pub segment_bytes: u32,
}

/// Where a conversation's records end.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// Which.
    pub stream: StreamId,
    /// Its newest record.
    pub last: Location,
    /// How many it has.
    pub count: u64,
}

/// A log in files, removed when this is dropped.
#[derive(Debug)]
pub struct Corpus {
    directory: TempDir,
    options: OpenOptions,
    /// Its conversations, the long one first.
    pub ends: Vec<End>,
    /// Records in it, checkpoints not counted.
    pub records: u64,
}

/// A segment's file, and how much of it is log.
#[derive(Clone, Debug)]
pub struct LogFilePart {
    /// Its number.
    pub segment: u32,
    /// Where it lies.
    pub path: PathBuf,
    /// Bytes of it that are log.
    pub end: u64,
}

#[derive(Clone, Debug)]
struct Author {
    spine: Spine,
    /// The newest record of each of the two devices.
    previous: [Location; 2],
}

struct Maker {
    appender: Appender,
    spares: Spares,
    _factory: SegmentFactory,
    files: BTreeMap<u32, File>,
    random: Generator,
    body: Vec<u8>,
    message: Vec<u8>,
}

impl Shape {
    /// Which conversation a record belongs to, by its place in the log: neighbours belong to different ones.
    fn conversation(&self, index: u64) -> u64 {
        let before = (u128::from(index) * u128::from(self.long) / u128::from(self.records)) as u64;
        let after = (u128::from(index + 1) * u128::from(self.long) / u128::from(self.records)) as u64;
        if after > before {
            return 0;
        }
        let (first, count) =
            if self.long > 0 { (1, self.conversations - 1) } else { (0, self.conversations) };
        let step = [7919, 7907, 7901].into_iter().find(|step| !count.is_multiple_of(*step)).unwrap_or(1);
        first + (index - before) * step % count
    }

    fn check(&self) -> Result<()> {
        let body = self.body_bytes > RECORD_BODY_EXTRA_BYTES && self.body_bytes.is_multiple_of(8);
        ensure!(body, "a body has a multiple of 8 bytes, and more than {RECORD_BODY_EXTRA_BYTES}");
        ensure!(self.records > 0 && self.conversations > 1, "a record and two conversations at least");
        ensure!(self.long <= self.records, "the long conversation has at most all records");
        Ok(())
    }
}

impl Corpus {
    /// Makes it below `disk`.
    ///
    /// # Errors
    /// What the system says, and sizes that cannot be.
    pub fn make(disk: &Path, shape: &Shape) -> Result<Self> {
        shape.check()?;
        let directory = tempfile::Builder::new().prefix("bench-").tempdir_in(disk)?;
        let segment_bytes = shape.segment_bytes;
        let options = OpenOptions { segment_bytes, write_mode: WriteMode::Buffered, ..OpenOptions::new(1) };
        let dir = DataDir::open(&directory.path().join("data"), &options)?;
        let mut maker = Maker::new(&dir, shape)?;
        let mut authors = vec![
            Author { spine: Spine::new(), previous: [Location::NONE; 2] };
            usize::try_from(shape.conversations)?
        ];
        for index in 0..shape.records {
            let conversation = shape.conversation(index);
            maker.record(index, conversation, &mut authors[conversation as usize])?;
            if index.is_multiple_of(CORPUS_BATCH_RECORDS) {
                maker.write()?;
            }
            if index > 0 && index.is_multiple_of(CORPUS_TELL_RECORDS) {
                eprintln!("made {index} of {} records", shape.records);
            }
        }
        maker.finish(&dir)?;
        let end = |(number, author): (usize, &Author)| {
            let (last, count) = (author.spine.last(), author.spine.count());
            End { stream: stream(number as u64).1, last, count }
        };
        let ends = authors.iter().enumerate().map(end).collect();
        Ok(Self { directory, options, ends, records: shape.records })
    }

    /// Where the data directory lies.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Opens it as a start does.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(&self) -> Result<DataDir> {
        Ok(DataDir::open(&self.path(), &self.options)?)
    }

    /// The used segments of the log.
    ///
    /// # Errors
    /// What the system says.
    pub fn parts(&self, dir: &DataDir) -> Result<Vec<LogFilePart>> {
        let logs = tidegate_storage_files::recover_all(dir, |_| {}, |_, _| {})?;
        let part = |log, extent: &tidegate_storage_log::SegmentExtent| {
            let path = segment_path(dir.path(), log, extent.segment);
            LogFilePart { segment: extent.segment, path, end: extent.end.into() }
        };
        let all =
            logs.iter().flat_map(|log| log.recovered.extents.iter().map(|extent| part(log.log, extent)));
        let parts: Vec<_> = all.collect();
        ensure!(parts.iter().all(|part| part.path.is_file()), "a segment lies elsewhere");
        Ok(parts)
    }
}

/// As docs/formats/manifest.md lays out a data directory.
fn segment_path(root: &Path, log: tidegate_ids::LogId, segment: u32) -> PathBuf {
    root.join("log").join(log.epoch.to_string()).join(log.shard.0.to_string()).join(format!("{segment}.seg"))
}

/// The two who talk in a conversation, and its stream.
fn stream(number: u64) -> ([UserId; 2], StreamId) {
    let users = [UserId(2 * number + 1), UserId(2 * number + 2)];
    (users, StreamId::conversation(ConversationId::direct(users[0], users[1])))
}

impl Maker {
    fn new(dir: &DataDir, shape: &Shape) -> Result<Self> {
        let start = AppenderStart { identity: dir.identity(ShardIndex(0)), ..AppenderStart::default() };
        let config = AppenderConfig {
            segment_bytes: shape.segment_bytes,
            block_bytes: dir.block_bytes(),
            ..AppenderConfig::default()
        };
        let appender = Appender::new(&config, start).map_err(|error| anyhow!("{error:?}"))?;
        let wakes: Vec<tidegate_storage_files::Wake> = vec![Box::new(|| {})];
        let (factory, mut spares) = SegmentFactory::start(dir, FactoryOptions::default(), wakes)?;
        let spares = spares.pop().context("a shard has spares")?;
        Ok(Self {
            appender,
            spares,
            _factory: factory,
            files: BTreeMap::new(),
            random: Generator::new(7),
            body: Vec::new(),
            message: vec![0x5A; shape.body_bytes - RECORD_BODY_EXTRA_BYTES],
        })
    }

    fn record(&mut self, index: u64, conversation: u64, author: &mut Author) -> Result<()> {
        let (users, stream) = stream(conversation);
        let sequence = Sequence(author.spine.count() + 1);
        let side = (sequence.0 % 2) as usize;
        let time = WallMs(BEGAN.0 + index);
        let stamp = Stamp {
            conversation: ConversationId(stream.0),
            sequence,
            countable: Countable(sequence.0),
            message_id: message_id(time, &mut self.random),
            time,
            sender: users[side],
            device: DeviceId(1),
            target: Sequence(0),
        };
        self.body.clear();
        deliver::write_stored(&stamp, &self.message, &mut self.body);
        self.body.extend_from_slice(&sequence.0.to_le_bytes());
        self.body.extend_from_slice(&users[side].0.to_le_bytes());
        self.add_segments()?;
        let record = NewRecord {
            stream,
            sequence,
            time,
            kind: KIND_MESSAGE,
            flags: FLAG_COUNTABLE,
            number: CommandNumber(sequence.0.div_ceil(2)),
            device_prev: author.previous[side],
            links: author.spine.links(),
            body_parts: &[&self.body],
        };
        let location = self.appender.append(&record).map_err(|error| anyhow!("{error:?}"))?;
        author.previous[side] = location;
        author.spine.push(location);
        Ok(())
    }

    fn add_segments(&mut self) -> Result<()> {
        while self.appender.spare_segments() < 2 {
            let segment = self.spares.wait()?;
            self.appender.add_segment(segment.number());
            let file = File::from(segment.as_fd().try_clone_to_owned()?);
            self.files.insert(segment.number(), file);
        }
        Ok(())
    }

    /// Writes what is appended; a segment is synced when it is full.
    fn write(&mut self) -> Result<()> {
        while let Some(batch) = self.appender.take_batch() {
            let file = self.files.get(&batch.segment).context("a batch of no segment")?;
            file.write_all_at(&batch.bytes, batch.offset.into())?;
            if batch.seals {
                file.sync_data()?;
                self.files.remove(&batch.segment);
            }
            let number = batch.number;
            drop(batch);
            self.appender.synced(number);
        }
        self.appender.release(self.appender.committed_end());
        Ok(())
    }

    /// Ends the log as a clean stop does: all is consumed.
    fn finish(mut self, dir: &DataDir) -> Result<()> {
        self.write()?;
        self.add_segments()?;
        let (log, fed) = (dir.identity(ShardIndex(0)).log, self.appender.committed_end());
        self.body.clear();
        self.body.extend_from_slice(&log.epoch.to_le_bytes());
        self.body.extend_from_slice(&log.shard.0.to_le_bytes());
        self.body.extend_from_slice(&fed.to_u64().to_le_bytes());
        let checkpoint = NewRecord {
            stream: StreamId::SHARD,
            kind: KIND_CHECKPOINT,
            body_parts: &[&self.body],
            ..NewRecord::default()
        };
        self.appender.append(&checkpoint).map_err(|error| anyhow!("{error:?}"))?;
        self.appender.seal();
        self.write()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use tidegate_storage_files::recover_all;
    use tidegate_storage_log::RecordView;

    /// Several small segments.
    pub(crate) const SMALL: Shape =
        Shape { records: 6000, conversations: 40, long: 2000, body_bytes: 128, segment_bytes: 256 << 10 };

    #[test]
    fn records_are_spread_as_asked() {
        let corpus = Corpus::make(&std::env::temp_dir(), &SMALL).expect("a corpus");
        let mut counts: BTreeMap<StreamId, u64> = BTreeMap::new();
        let each = |_, record: RecordView<'_>| {
            if record.head.kind == KIND_MESSAGE {
                assert_eq!(record.body.len(), SMALL.body_bytes);
                let (stored, _) = deliver::read_stored(record.body).expect("a stored form");
                assert_eq!(stored.stamp.sequence, record.head.sequence);
                *counts.entry(record.head.stream).or_default() += 1;
            }
        };
        let logs = recover_all(&corpus.open().expect("a directory"), |_| {}, each).expect("a log");
        assert!(logs[0].recovered.extents.len() > 3 && !logs[0].recovered.unclean);
        assert_eq!(counts.len() as u64, SMALL.conversations);
        for (number, end) in corpus.ends.iter().enumerate() {
            assert_eq!(counts.get(&end.stream), Some(&end.count), "conversation {number}");
        }
        assert_eq!(corpus.ends[0].count, SMALL.long);
        let others = (SMALL.records - SMALL.long) / (SMALL.conversations - 1);
        assert!(corpus.ends[1..].iter().all(|end| end.count.abs_diff(others) <= 1));
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        let check = |shape: Shape| assert!(Corpus::make(&std::env::temp_dir(), &shape).is_err(), "{shape:?}");
        check(Shape { body_bytes: 104, ..SMALL });
        check(Shape { body_bytes: 130, ..SMALL });
        check(Shape { conversations: 1, ..SMALL });
        check(Shape { long: SMALL.records + 1, ..SMALL });
    }
}
