//! A node in one thread: real shards, a disk in memory, rings as queues. Everything happens in the order of its cause, so a
//! run repeats exactly; a write takes a few steps, so that more is appended behind it.

use crate::client::Client;
use crate::disk::{DIRECTORY, Disk, SEGMENT_BYTES};
use crate::node::{INCARNATION, Logs, Port, Rings, SHARDS, Sizes, Start, Started, log_of};
use std::collections::{BTreeMap, VecDeque};
use tidegate_domain::{HASH_VERSION, virtual_shard};
use tidegate_ids::{Location, MonotonicNs, Now, ShardIndex, StreamId, WallMs};
use tidegate_shard::{
    ConnectionId, Event, Output, ReadRequest, ReadToken, ReceiveMode, Shard, ShardLimits, ShardStats,
    StreamFold, TransferKey,
};
use tidegate_storage_log::{
    DamageKind, MemoryRuns, Merger, PageEnd, PageReader, ReadError, Snapshot, SnapshotHeader, SnapshotWriter,
    StagedBatch, scan_chunk,
};

/// Memory of a merge: a few records at a time.
const MERGE_BYTES: usize = 64 * 1024;

/// Steps that a write takes, and virtual time of a step.
const WRITE_STEPS: u64 = 3;
const STEP_NS: u64 = 30 * MonotonicNs::MILLISECOND;

/// Steps without anything for a client after which nothing more is expected: longer than checkpoints and retries take.
const QUIET_STEPS: u64 = 60;

enum Done {
    Written(StagedBatch),
    Segment,
    Read(ReadToken, Vec<u8>, Result<PageEnd, ReadError>),
    Sent(ConnectionId, Vec<u8>),
    HandedOver(ConnectionId, ShardIndex, TransferKey),
    Closed(ConnectionId),
}

/// What every shard is limited to, unless a test says otherwise.
pub fn limits() -> ShardLimits {
    ShardLimits {
        checkpoint_interval_ns: 20 * STEP_NS,
        listed_members_max: 3,
        heartbeat_active_ms: 3_600_000,
        ..ShardLimits::default()
    }
}

const SIZES: Sizes = Sizes {
    directory: DIRECTORY,
    segment_bytes: SEGMENT_BYTES,
    staging_bytes: 1 << 20,
    batch_bytes_max: 32 * 1024,
};

/// A running node and the clients on it.
pub struct House {
    pub disk: Disk,
    pub shards: Vec<Shard>,
    rings: Rings,
    step: u64,
    done: VecDeque<(u64, u16, Done)>,
    logs: Logs,
    /// Which client is at a place, and whether a receive is armed.
    places: BTreeMap<(u16, u32), (usize, Option<ReceiveMode>)>,
    next_place: u32,
    /// Whether reads take until this is taken back.
    pub holds_reads: bool,
    ready: usize,
    pub stopped: usize,
    pub clients: Vec<Client>,
}

impl House {
    /// Starts over a disk, and waits until it is ready.
    pub fn start(disk: Disk) -> Self {
        Self::start_with(disk, &limits())
    }

    /// The same with other limits.
    pub fn start_with(disk: Disk, limits: &ShardLimits) -> Self {
        let mut house = Self::begin_with(disk, limits);
        house.settle();
        assert_eq!(house.ready, usize::from(SHARDS), "every shard is ready");
        house
    }

    /// Starts, and waits for nothing.
    pub fn begin(disk: Disk) -> Self {
        Self::begin_with(disk, &limits())
    }

    fn begin_with(mut disk: Disk, limits: &ShardLimits) -> Self {
        let held = disk.snapshot().map(|snapshot| snapshot.header().covered.clone());
        let segments = [0, 1].map(|shard| disk.segments_of(log_of(shard)));
        let (held, seed) = (held.as_deref(), 7 + disk.writes);
        let start = Start { segments, held, limits, sizes: &SIZES, seed };
        let Started { shards, logs, damage, misses_snapshot } = start.read(&mut disk.reading());
        assert!(disk.is_bad() || !misses_snapshot);
        let damaged = damage.iter().filter(|damage| damage.kind == DamageKind::Record).count() as u64;
        assert!(disk.is_bad() || damaged == disk.damaged, "what is damaged is found, and nothing else");
        // What was found valid is synced before anything rests on it.
        disk.promised = disk.seen.clone();
        let mut house = Self {
            shards,
            disk,
            rings: Rings::new(64, usize::MAX),
            step: 0,
            done: VecDeque::new(),
            logs,
            places: BTreeMap::new(),
            next_place: 0,
            holds_reads: false,
            ready: 0,
            stopped: 0,
            clients: Vec::new(),
        };
        for index in 0..SHARDS {
            house.done.push_back((1, index, Done::Segment));
            let now = house.now();
            house.shards[usize::from(index)].start(now, &mut Port { rings: &mut house.rings, me: index });
            house.drain(index);
        }
        house
    }

    /// The clients leave with their memory; the process is gone.
    pub fn kill(self) -> (Disk, Vec<Client>) {
        let mut clients = self.clients;
        clients.iter_mut().for_each(Client::cut);
        (self.disk, clients)
    }

    fn now(&self) -> Now {
        let monotonic = MonotonicNs(self.step * STEP_NS + 1);
        let wall =
            WallMs(1_700_000_000_000 + self.disk.writes + self.step * STEP_NS / MonotonicNs::MILLISECOND);
        Now { monotonic, wall }
    }

    /// A client's socket ends, and the next one gets its place.
    pub fn end_and_reuse(&mut self, client: usize) {
        let at = self.places.iter().find(|(_, (of, _))| *of == client);
        let (&(shard, place), _) = at.expect("a client with a socket");
        self.tell(shard, Event::Ended { connection: ConnectionId(place) });
        self.next_place = place - 1;
    }

    pub fn stats(&mut self, shard: u16) -> ShardStats {
        self.shards[usize::from(shard)].stats().clone()
    }

    pub fn tell(&mut self, shard: u16, event: Event<'_>) {
        let now = self.now();
        let port = &mut Port { rings: &mut self.rings, me: shard };
        self.shards[usize::from(shard)].handle(event, now, port);
        self.drain(shard);
    }

    /// Runs until nothing happens any more.
    pub fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..20_000 {
            quiet = if self.run_step() { 0 } else { quiet + 1 };
            if quiet > QUIET_STEPS {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    /// One step of time; whether anything happened in it that concerns a client. Checkpoints follow each other for ever.
    pub fn run_step(&mut self) -> bool {
        self.step += 1;
        let mut busy = false;
        for client in 0..self.clients.len() {
            busy |= self.serve(client);
        }
        for _ in 0..self.done.len() {
            let Some((due, shard, done)) = self.done.pop_front() else { break };
            if due > self.step {
                self.done.push_back((due, shard, done));
            } else {
                busy |= self.finish(shard, done);
            }
        }
        for shard in 0..SHARDS {
            self.tell(shard, Event::Tick);
            let now = self.now();
            let port = &mut Port { rings: &mut self.rings, me: shard };
            self.shards[usize::from(shard)].turn(now, port);
            self.drain(shard);
        }
        busy
    }

    /// Opens sockets that are wanted, and passes on what a client says.
    fn serve(&mut self, client: usize) -> bool {
        if self.clients[client].wants_socket() {
            self.next_place += 1;
            let place = self.next_place;
            self.places.insert((0, place), (client, None));
            self.clients[client].opened(place);
            self.tell(0, Event::Accepted { connection: ConnectionId(place) });
        }
        let at = self.places.iter().find(|(_, (of, mode))| *of == client && mode.is_some());
        let Some((&(shard, place), &(_, mode))) = at else { return false };
        let mut bytes = self.clients[client].take_output();
        if bytes.is_empty() {
            return false;
        }
        if mode == Some(ReceiveMode::Once) {
            self.places.insert((shard, place), (client, None));
        }
        self.tell(shard, Event::Bytes { connection: ConnectionId(place), bytes: &mut bytes });
        true
    }

    fn finish(&mut self, shard: u16, done: Done) -> bool {
        match done {
            Done::Written(batch) => {
                self.finish_write(shard, &batch);
                return false;
            }
            Done::Segment if self.disk.is_full => {
                self.done.push_back((self.step + 1, shard, Done::Segment));
                return false;
            }
            Done::Segment => {
                let number = self.disk.make_segment(log_of(shard));
                self.tell(shard, Event::Segment { number });
                return false;
            }
            Done::Read(..) if self.holds_reads => {
                self.done.push_back((self.step + 1, shard, done));
                return false;
            }
            Done::Read(token, records, result) => {
                self.tell(shard, Event::ReadDone { token, records, result });
            }
            Done::Sent(connection, buffer) => {
                self.tell(shard, Event::SendDone { connection, buffer, sent: true });
            }
            Done::HandedOver(connection, to, key) => {
                let Some((client, _)) = self.places.remove(&(shard, connection.0)) else { return true };
                self.tell(shard, Event::HandedOver { connection, sent: true });
                self.next_place += 1;
                let connection = ConnectionId(self.next_place);
                self.places.insert((to.0, connection.0), (client, None));
                self.tell(to.0, Event::Adopted { connection, key });
            }
            Done::Closed(connection) => {
                if let Some((client, _)) = self.places.remove(&(shard, connection.0)) {
                    self.clients[client].cut();
                }
                self.tell(shard, Event::Closed { connection });
            }
        }
        true
    }

    /// Nothing goes from one shard to another, until this is taken back.
    pub fn block(&mut self, blocked: Option<(u16, u16)>) {
        self.rings.blocked = blocked;
    }

    /// Makes a snapshot of all that is closed and consumed, if there is anything, and tells the shards.
    pub fn make_snapshot(&mut self) -> bool {
        let Some(plan) = self.logs.planner.plan(u64::MAX) else { return false };
        let previous = self.disk.snapshot();
        let header = SnapshotHeader {
            number: previous.as_ref().map_or(0, |previous| previous.header().number) + 1,
            directory: DIRECTORY,
            incarnation: INCARNATION,
            hash_version: HASH_VERSION as u16,
            covered: plan.covered.clone(),
        };
        let mut fold = StreamFold::new();
        let mut merger = Merger::new(MERGE_BYTES, MemoryRuns::default());
        for (_, extent) in &plan.segments {
            merger.feed_segment(&fold, &mut self.disk.seen, extent).unwrap();
        }
        let writer = SnapshotWriter::new(Vec::new(), &header).unwrap();
        let entries = previous.as_ref().map(Snapshot::entries);
        let (bytes, _) = merger.finish(&mut fold, entries, writer).unwrap();
        self.disk.snapshot = Some(bytes);
        self.logs.planner.made(&plan.covered);
        for shard in 0..SHARDS {
            let through = self.logs.planner.through(ShardIndex(shard));
            self.tell(shard, Event::Snapshot { through });
        }
        true
    }

    fn finish_write(&mut self, shard: u16, batch: &StagedBatch) {
        if !self.disk.write(batch) {
            return self.tell(shard, Event::WriteFailed { batch: batch.number });
        }
        self.logs.wrote(shard, batch);
        self.tell(shard, Event::Written { batch: batch.number });
    }

    fn drain(&mut self, shard: u16) {
        while let Some(output) = self.shards[usize::from(shard)].poll_output() {
            let mut later = |steps: u64, done: Done| self.done.push_back((self.step + steps, shard, done));
            match output {
                Output::Receive { connection, mode } => {
                    if let Some((_, armed)) = self.places.get_mut(&(shard, connection.0)) {
                        *armed = (mode != ReceiveMode::Pause).then_some(mode);
                    }
                }
                Output::Send { connection, buffer } => {
                    if let Some((client, _)) = self.places.get(&(shard, connection.0)) {
                        self.clients[*client].hear(&buffer);
                    }
                    later(1, Done::Sent(connection, buffer));
                }
                Output::Close { connection } => later(1, Done::Closed(connection)),
                Output::HandOver { connection, to, key } => later(1, Done::HandedOver(connection, to, key)),
                Output::Append { batch } => later(WRITE_STEPS, Done::Written(batch)),
                Output::NeedSegment => later(1, Done::Segment),
                Output::Read { token, request } => {
                    let (records, result) = self.read(&request);
                    self.done.push_back((self.step + 1, shard, Done::Read(token, records, result)));
                }
                Output::Checkpointed { fed } => self.logs.planner.checkpointed(ShardIndex(shard), &fed),
                // Snapshots are made when a test says so.
                Output::Recycle { .. } | Output::WantSnapshot | Output::Swept => {}
                Output::Ready => self.ready += 1,
                Output::Stopped => self.stopped += 1,
            }
        }
    }

    fn read(&mut self, request: &ReadRequest) -> (Vec<u8>, Result<PageEnd, ReadError>) {
        self.disk.begin_read(request);
        let mut records = Vec::new();
        let result = match request {
            ReadRequest::Snapshot { stream } => self.read_snapshot(stream, &mut records),
            ReadRequest::Page(spec, lead) => {
                PageReader::new().read_led(&mut self.disk.reading(), spec, lead.as_deref(), &mut records)
            }
            ReadRequest::Scan { log, from, to, bytes_max } => {
                let extents = self.logs.until(log, *to);
                let scanned = scan_chunk(&mut self.disk.reading(), &extents, *from, *bytes_max, &mut records);
                let (next, damaged) = (scanned.next, scanned.damage_count as u32);
                Ok(PageEnd { next, damaged, complete: next >= *to, ..PageEnd::default() })
            }
        };
        self.disk.end_read();
        (records, result)
    }

    fn read_snapshot(&self, stream: &StreamId, state: &mut Vec<u8>) -> Result<PageEnd, ReadError> {
        if self.disk.refuses_snapshots() {
            return Err(ReadError::Damaged(Location::SNAPSHOT));
        }
        let (Some(snapshot), Some(place)) = (self.disk.snapshot(), virtual_shard(stream)) else {
            unreachable!("the shard was told of a snapshot")
        };
        match snapshot.load(place, stream, state).unwrap() {
            Some(next) => Ok(PageEnd { records: 1, next, ..PageEnd::default() }),
            None => Ok(PageEnd::default()),
        }
    }
}
