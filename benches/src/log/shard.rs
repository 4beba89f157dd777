//! One shard in this thread, as a gateway of one shard runs it: its log and its snapshots are files, so that what is in
//! memory is the shard's. Nothing is synced, and reads come back at once.

use super::start::walk;
use crate::limits::SHARD_RING_BYTES;
use anyhow::{Context, Result, anyhow, bail};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tidegate_domain::{RateClass, Route, virtual_shard};
use tidegate_ids::{
    Incarnation, Location, LogId, MonotonicNs, Now, Position, ShardIndex, StreamId, StreamKind, UserId,
    WallMs,
};
use tidegate_shard::{
    Claims, ClosedSegment, ConnectionId, Event, Lane, MeshPort, Output, ReadRequest, Shard, ShardLimits,
    ShardSetup, SnapshotPlanner, StreamFold, TokenError, TokenVerifier,
};
use tidegate_storage_files::{
    DataDir, FactoryOptions, OpenOptions, SegmentFactory, SegmentReader, SnapshotFile, SnapshotPlan,
    Snapshots, Spares, WriteMode, return_free_memory,
};
use tidegate_storage_log::{
    Appender, AppenderConfig, AppenderStart, PageEnd, PageReader, PreviousEnd, ReadError, ReadSpec,
    SegmentExtent, StagedBatch, scan_chunk,
};

const SHARD: ShardIndex = ShardIndex(0);

/// Virtual time of a turn.
const TURN_NS: u64 = MonotonicNs::MILLISECOND;

#[derive(Debug, Default)]
struct Rings {
    lanes: [VecDeque<Vec<u8>>; 2],
    bytes: [usize; 2],
}

impl MeshPort for Rings {
    fn has_room(&self, _to: ShardIndex, lane: Lane, bytes: usize) -> bool {
        self.bytes[lane as usize] + bytes <= SHARD_RING_BYTES
    }

    fn push(&mut self, to: ShardIndex, lane: Lane, parts: &[&[u8]]) -> bool {
        let frame = parts.concat();
        let has_room = self.has_room(to, lane, frame.len());
        if has_room {
            self.bytes[lane as usize] += frame.len();
            self.lanes[lane as usize].push_back(frame);
        }
        has_room
    }

    fn peek(&mut self, _from: ShardIndex, lane: Lane) -> Option<&[u8]> {
        self.lanes[lane as usize].front().map(Vec::as_slice)
    }

    fn pop(&mut self, _from: ShardIndex, lane: Lane) {
        let frame = self.lanes[lane as usize].pop_front();
        self.bytes[lane as usize] -= frame.map_or(0, |frame| frame.len());
    }
}

/// Tokens are the user's number.
struct Numbers;

impl TokenVerifier for Numbers {
    fn verify(&self, token: &[u8], _now: WallMs) -> Result<Claims, TokenError> {
        let text = std::str::from_utf8(token).map_err(|_| TokenError::Invalid)?;
        let user = UserId(text.parse().map_err(|_| TokenError::Invalid)?);
        Ok(Claims { user, expires: WallMs(u64::MAX), device: None, rate: RateClass::Unlimited })
    }
}

/// A running shard.
pub struct Running {
    /// The shard.
    pub shard: Shard,
    rings: Rings,
    now_ns: u64,
    dir: DataDir,
    spares: Spares,
    _factory: SegmentFactory,
    files: BTreeMap<u32, File>,
    reader: SegmentReader,
    extents: Vec<SegmentExtent>,
    planner: SnapshotPlanner,
    snapshots: Snapshots,
    newest: Option<Arc<SnapshotFile>>,
    /// What was sent to a socket and is not taken from here yet.
    pub sent: VecDeque<(ConnectionId, Vec<u8>)>,
    /// Sockets that are closed.
    pub closed: u64,
    /// Reads of users' streams.
    pub user_reads: u64,
}

impl Running {
    /// Starts one over a new directory, and waits until it is ready.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(path: &Path, segment_bytes: u32, limits: &ShardLimits) -> Result<Self> {
        let options = OpenOptions { segment_bytes, write_mode: WriteMode::Buffered, ..OpenOptions::new(1) };
        let dir = DataDir::open(path, &options)?;
        let (planner, mut seeds) = walk(&dir, None)?;
        let config =
            AppenderConfig { segment_bytes, block_bytes: dir.block_bytes(), ..AppenderConfig::default() };
        let start = AppenderStart { identity: dir.identity(SHARD), ..AppenderStart::default() };
        let shard = Shard::new(ShardSetup {
            index: SHARD,
            route: Route::new(1),
            limits: limits.clone(),
            tokens: Box::new(Numbers),
            seed: 7,
            incarnation: Incarnation(1),
            appender: Appender::new(&config, start).map_err(|error| anyhow!("{error:?}"))?,
            seed_of_logs: seeds.pop().context("a seed for the shard")?,
        });
        let wakes: Vec<tidegate_storage_files::Wake> = vec![Box::new(|| {})];
        let (factory, mut spares) = SegmentFactory::start(&dir, FactoryOptions::default(), wakes)?;
        let mut running = Self {
            shard,
            rings: Rings::default(),
            now_ns: 1,
            spares: spares.pop().context("a shard has spares")?,
            _factory: factory,
            files: BTreeMap::new(),
            reader: dir.reader(),
            extents: Vec::new(),
            planner,
            snapshots: Snapshots::open(&dir)?,
            newest: None,
            dir,
            sent: VecDeque::new(),
            closed: 0,
            user_reads: 0,
        };
        running.give_segment()?;
        let now = running.now();
        running.shard.start(now, &mut running.rings);
        running.settle()?;
        running.shard.is_ready().then_some(running).context("the shard does not become ready")
    }

    const fn now(&self) -> Now {
        let wall = WallMs(1_750_000_000_000 + self.now_ns / MonotonicNs::MILLISECOND);
        Now { monotonic: MonotonicNs(self.now_ns), wall }
    }

    fn log(&self) -> LogId {
        self.dir.identity(SHARD).log
    }

    /// Tells the shard something.
    pub fn tell(&mut self, event: Event<'_>) {
        let now = self.now();
        self.shard.handle(event, now, &mut self.rings);
    }

    /// Lets the shard take turns until there is nothing to do.
    ///
    /// # Errors
    /// What the system says.
    pub fn settle(&mut self) -> Result<()> {
        loop {
            let now = self.now();
            let mut more = self.shard.turn(now, &mut self.rings);
            self.now_ns += TURN_NS;
            while let Some(output) = self.shard.poll_output() {
                more = true;
                self.perform(output)?;
            }
            if !more && self.rings.lanes.iter().all(VecDeque::is_empty) {
                return Ok(());
            }
        }
    }

    /// Lets time pass, and with it checkpoints.
    ///
    /// # Errors
    /// What the system says.
    pub fn wait(&mut self, ns: u64) -> Result<()> {
        self.now_ns += ns;
        self.tell(Event::Tick);
        self.settle()
    }

    fn perform(&mut self, output: Output) -> Result<()> {
        match output {
            Output::Append { batch } => self.write(&batch)?,
            Output::NeedSegment => self.give_segment()?,
            Output::Read { token, request } => {
                let (records, result) = self.read(&request)?;
                self.tell(Event::ReadDone { token, records, result });
            }
            Output::Send { connection, buffer } => {
                self.sent.push_back((connection, buffer.clone()));
                self.tell(Event::SendDone { connection, buffer, sent: true });
            }
            Output::Close { connection } => {
                self.closed += 1;
                self.tell(Event::Closed { connection });
            }
            Output::Checkpointed { fed } => self.planner.checkpointed(SHARD, &fed),
            Output::HandOver { .. } => bail!("there is no other shard"),
            Output::Receive { .. }
            | Output::Recycle { .. }
            | Output::WantSnapshot
            | Output::Swept
            | Output::Ready
            | Output::Stopped => {}
        }
        Ok(())
    }

    fn give_segment(&mut self) -> Result<()> {
        let segment = self.spares.wait()?;
        let number = segment.number();
        self.files.insert(number, File::from(segment.as_fd().try_clone_to_owned()?));
        self.tell(Event::Segment { number });
        Ok(())
    }

    fn write(&mut self, batch: &StagedBatch) -> Result<()> {
        let file = self.files.get(&batch.segment).context("a batch of no segment")?;
        file.write_all_at(&batch.bytes, batch.offset.into())?;
        let end = batch.offset + batch.bytes.len() as u32;
        match self.extents.last_mut().filter(|last| last.segment == batch.segment) {
            Some(last) => last.end = end,
            None => self.extents.push(SegmentExtent {
                segment: batch.segment,
                end,
                block_bytes: self.dir.block_bytes(),
                footer_offset: None,
                guard: tidegate_storage_log::Guard::new(&self.dir.identity(SHARD).directory),
            }),
        }
        if batch.seals {
            self.files.remove(&batch.segment);
            self.dir.indexes().note(batch.segment, batch.index);
            let extent = *self.extents.last().context("a segment that was written")?;
            let end = PreviousEnd { end: Position::new(extent.segment, extent.end), batch: batch.number };
            self.planner.closed(self.log(), ClosedSegment { extent, end });
        }
        self.tell(Event::Written { batch: batch.number });
        Ok(())
    }

    fn read(&mut self, request: &ReadRequest) -> Result<(Vec<u8>, Result<PageEnd, ReadError>)> {
        let mut records = Vec::new();
        let stream = match request {
            ReadRequest::Snapshot { stream }
            | ReadRequest::Page(ReadSpec::Range { stream, .. } | ReadSpec::Chain { stream, .. }, _) => {
                Some(stream)
            }
            _ => None,
        };
        let of_user = stream.is_some_and(|stream| matches!(stream.kind(), Some(StreamKind::User(_))));
        self.user_reads += u64::from(of_user);
        let result = match request {
            ReadRequest::Page(spec, lead) => {
                PageReader::new().read_led(&mut self.reader, spec, lead.as_deref(), &mut records)
            }
            ReadRequest::Snapshot { stream } => Ok(self.read_snapshot(stream, &mut records)?),
            ReadRequest::Scan { from, to, bytes_max, .. } => {
                let scanned = scan_chunk(&mut self.reader, &self.extents, *from, *bytes_max, &mut records);
                let next = scanned.next;
                Ok(PageEnd { next, complete: next >= *to, ..PageEnd::default() })
            }
        };
        Ok((records, result))
    }

    fn read_snapshot(&self, stream: &StreamId, state: &mut Vec<u8>) -> Result<PageEnd> {
        let newest = self.newest.as_ref().context("there is no snapshot")?;
        let place = virtual_shard(stream).context("a shard's own stream")?;
        let found: Option<Location> = newest.read_entry(place, stream, state)?;
        Ok(found.map_or(PageEnd::default(), |next| PageEnd { records: 1, next, ..PageEnd::default() }))
    }

    /// Makes a snapshot of everything but the open segment, and lets the shard forget what it holds. How many streams it has.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make_snapshot(&mut self) -> Result<u64> {
        let planned = self.planner.plan(u64::MAX).context("there is nothing to make a snapshot of")?;
        let plan = SnapshotPlan::new(&planned.segments, planned.covered.clone(), self.newest.clone());
        // As in the gateway: on a helper's thread, with memory of its own.
        let snapshots = &mut self.snapshots;
        let build = || snapshots.build(&plan, &mut StreamFold::new(), &AtomicBool::new(false));
        let built = std::thread::scope(|scope| scope.spawn(build).join());
        let built = built.map_err(|_| anyhow!("the thread that makes the snapshot has failed"))??;
        self.planner.made(&planned.covered);
        let entries = built.file.entry_count();
        self.newest = Some(built.file);
        let through = self.planner.through(SHARD);
        self.tell(Event::Snapshot { through });
        self.settle()?;
        // As the gateway does when its shards have swept their tables.
        return_free_memory();
        Ok(entries)
    }
}
