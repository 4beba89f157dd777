//! A log that is written as a shard writes it, and raw writes of the same sizes.

use super::ring::Ring;
use crate::disk::{Batch, opened, zeroed};
use crate::limits::{BATCH_BYTES_MAX, BLOCK_BYTES, SEGMENT_BYTES};
use anyhow::{Context, Result, anyhow};
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};
use tidegate_ids::{BatchNumber, ConversationId, Sequence, ShardIndex, StreamId, UserId};
use tidegate_reactor::{LogFile, SyncMode};
use tidegate_storage_files::{
    DataDir, FactoryOptions, OpenError, OpenOptions, SegmentFactory, SegmentFile, WriteMode,
};
use tidegate_storage_log::{
    AppendError, Appender, AppenderConfig, AppenderStart, BatchBytes, NewRecord, Spine,
};

/// Conversations that are written to: a busy shard's.
const STREAMS: u64 = 1000;
/// Segments that the appender knows of ahead.
const AHEAD: usize = 2;
/// Largest batches that the log's staging holds: so many buffers take turns when the disk is the slower one.
pub const STAGED_BATCHES: usize = 16;
/// Buffers of a raw writer that stay in the processor's cache: one is filled while the other is written.
pub const CACHED_BUFFERS: usize = 2;

/// A write that was made.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    /// After the sample's beginning.
    pub at: Duration,
    /// How many bytes.
    pub bytes: usize,
}

/// A log on prepared segments.
pub struct LogWriter {
    appender: Appender,
    ring: Ring<BatchBytes>,
    files: BTreeMap<u32, LogFile>,
    prepared: VecDeque<SegmentFile>,
    in_flight: Option<BatchNumber>,
    streams: Vec<(StreamId, Spine)>,
    count: u64,
    body: Vec<u8>,
    _dir: DataDir,
}

/// Makes a data directory with so many segments, zeroed and synced; nothing is prepared while it is measured.
///
/// # Errors
/// What the system says.
pub fn prepared(directory: &Path, segments: u64) -> Result<(DataDir, VecDeque<SegmentFile>)> {
    let open = |write_mode| {
        let options = OpenOptions { write_mode, segment_bytes: SEGMENT_BYTES as u32, ..OpenOptions::new(1) };
        DataDir::open(&directory.join("data"), &options)
    };
    let dir = match open(WriteMode::Direct) {
        Err(OpenError::DirectRefused { .. }) => open(WriteMode::Buffered)?,
        dir => dir?,
    };
    let wakes: Vec<tidegate_storage_files::Wake> = vec![Box::new(|| {})];
    let (factory, mut spares) = SegmentFactory::start(&dir, FactoryOptions::default(), wakes)?;
    let mut spares = spares.pop().context("a shard has spares")?;
    let files = (0..segments).map(|_| spares.wait()).collect::<Result<_, _>>()?;
    drop(factory);
    Ok((dir, files))
}

/// How a directory's segments are written.
#[must_use]
pub fn mode(dir: &DataDir) -> SyncMode {
    match dir.options().write_mode {
        WriteMode::Direct => SyncMode::DirectDsync,
        WriteMode::Buffered => SyncMode::LinkedFdatasync,
    }
}

impl LogWriter {
    /// Of records with bodies of this size, by a thread on this core.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(
        dir: DataDir,
        prepared: VecDeque<SegmentFile>,
        body_bytes: usize,
        core: usize,
    ) -> Result<Self> {
        let start = AppenderStart { identity: dir.identity(ShardIndex(0)), ..AppenderStart::default() };
        let config = AppenderConfig {
            segment_bytes: SEGMENT_BYTES as u32,
            block_bytes: dir.block_bytes(),
            batch_bytes_max: BATCH_BYTES_MAX as u32,
            staging_bytes: STAGED_BATCHES * (BATCH_BYTES_MAX + BLOCK_BYTES),
        };
        let appender = Appender::new(&config, start).map_err(|error| anyhow!("{error:?}"))?;
        let stream = |number| {
            StreamId::conversation(ConversationId::direct(UserId(number + 1), UserId(number + 1_000_000)))
        };
        let ring = Ring::new(core, mode(&dir))?;
        Ok(Self {
            appender,
            ring,
            files: BTreeMap::new(),
            prepared,
            in_flight: None,
            streams: (0..STREAMS).map(|number| (stream(number), Spine::new())).collect(),
            count: 0,
            body: vec![7; body_bytes],
            _dir: dir,
        })
    }

    /// Appends a record; the batch that commits it, `None` if staging is full.
    ///
    /// # Errors
    /// The prepared segments are used up.
    pub fn append(&mut self) -> Result<Option<BatchNumber>> {
        while self.appender.spare_segments() < AHEAD {
            let Some(segment) = self.prepared.pop_front() else { break };
            self.appender.add_segment(segment.number());
            let file = LogFile::from(segment.as_fd().try_clone_to_owned()?);
            self.files.insert(segment.number(), file);
        }
        let (stream, spine) = &mut self.streams[(self.count * 7919 % STREAMS) as usize];
        let record = NewRecord {
            stream: *stream,
            sequence: Sequence(spine.count() + 1),
            links: spine.links(),
            body_parts: &[&self.body],
            ..NewRecord::default()
        };
        match self.appender.append(&record) {
            Ok(location) => {
                spine.push(location);
                self.count += 1;
                Ok(Some(self.appender.appended_through()))
            }
            Err(AppendError::StagingFull) => Ok(None),
            Err(error) => Err(anyhow!("{error:?}")),
        }
    }

    /// Begins to write what is appended, if nothing is being written: group commit without a timer. How many bytes.
    ///
    /// # Errors
    /// A batch belongs to no segment.
    pub fn commit(&mut self) -> Result<Option<usize>> {
        if !self.ring.is_idle() {
            return Ok(None);
        }
        let Some(batch) = self.appender.take_batch() else { return Ok(None) };
        let file = self.files.get(&batch.segment).context("a batch of no segment")?;
        let bytes = batch.bytes.len();
        self.ring.write(file, batch.offset.into(), batch.bytes);
        self.in_flight = Some(batch.number);
        if batch.seals {
            // The ring holds the descriptor until the write is done.
            self.files.remove(&batch.segment);
        }
        Ok(Some(bytes))
    }

    /// Whether nothing is being written.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.ring.is_idle()
    }

    /// Waits for the write or for so long; the batch that is synced now, and how long its write took.
    ///
    /// # Errors
    /// The ring or the disk failed.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<(BatchNumber, Duration)>> {
        let Some(took) = self.ring.wait(timeout)? else { return Ok(None) };
        let number = self.in_flight.take().context("a write of no batch")?;
        self.appender.synced(number);
        self.appender.release(self.appender.committed_end());
        Ok(Some((number, took)))
    }
}

/// Raw writes into a zeroed file of one segment, from its front again when it is full.
pub struct RawWriter {
    ring: Ring<Batch>,
    file: LogFile,
    batches: Vec<Batch>,
    content: Vec<u8>,
    offset: u64,
}

impl RawWriter {
    /// Beside a log, written the same way.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(directory: &Path, mode: SyncMode, core: usize) -> Result<Self> {
        let path = directory.join("raw.seg");
        zeroed(&path)?;
        let batches = (0..STAGED_BATCHES).map(|_| Batch::with_capacity(2 * BATCH_BYTES_MAX)).collect();
        let content = vec![7; 2 * BATCH_BYTES_MAX];
        Ok(Self { ring: Ring::new(core, mode)?, file: opened(&path, mode)?, batches, content, offset: 0 })
    }

    /// Makes the same writes, none before its time; `tell` hears how long each took. So many buffers take turns, from
    /// two to [`STAGED_BATCHES`], and one is filled while the one before it is written: two stay in the processor's
    /// cache, a log's do not.
    ///
    /// # Errors
    /// The ring or the disk failed.
    pub fn repeat(&mut self, writes: &[Write], buffers: usize, mut tell: impl FnMut(Duration)) -> Result<()> {
        let began = Instant::now();
        let mut next = writes.first().map(|write| self.fill(0, write.bytes));
        for (number, write) in writes.iter().enumerate() {
            if self.offset + write.bytes as u64 > SEGMENT_BYTES {
                self.offset = 0;
            }
            while let Some(left) = write.at.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) {
                self.ring.wait(Some(left))?;
            }
            let Some(batch) = next.take() else { break };
            self.ring.write(&self.file, self.offset, batch);
            self.offset += write.bytes as u64;
            next = writes.get(number + 1).map(|write| self.fill((number + 1) % buffers, write.bytes));
            let mut took = None;
            while took.is_none() {
                took = self.ring.wait(None)?;
            }
            took.into_iter().for_each(&mut tell);
        }
        Ok(())
    }

    fn fill(&mut self, buffer: usize, len: usize) -> Batch {
        let batch = &mut self.batches[buffer];
        let bytes = batch.bytes_mut();
        bytes.clear();
        bytes.push(&self.content[..len], len);
        batch.clone()
    }
}
