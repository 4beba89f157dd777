//! A node in one thread, with a disk in memory, rings that hold few bytes, and snapshots. Everything happens in the order
//! of its cause, so a run repeats exactly. After every event and every turn all limits are looked at, and how much was
//! done in it.

use crate::device::Device;
use crate::node::{INCARNATION, Logs, Port, Rings, SHARDS, Sizes, Start, Started, log_of};
use std::collections::{BTreeMap, VecDeque};
use tidegate_domain::{HASH_VERSION, virtual_shard};
use tidegate_ids::{LogId, MonotonicNs, Now, ShardIndex, StreamId, StreamKind, WallMs};
use tidegate_shard::{
    ConnectionId, Counter, Event, LargeUsers, Output, ReadRequest, ReadToken, ReceiveMode, Shard,
    ShardLimits, ShardStats, StreamFold, TransferKey,
};
use tidegate_storage_log::{
    Covered, MemoryMedium, MemoryRuns, Merger, PageEnd, PageReader, ReadError, ReadSpec, SegmentExtent,
    Snapshot, SnapshotHeader, SnapshotWriter, StagedBatch, scan_chunk,
};

const DIRECTORY: [u8; 16] = *b"queues in memory";
const SEGMENT_BYTES: u32 = 512 * 1024;

/// Steps that a write takes, and virtual time of a step.
const WRITE_STEPS: u64 = 1;
pub const STEP_NS: u64 = 5 * MonotonicNs::MILLISECOND;

/// Bytes of a ring: four of the largest frames.
const RING_BYTES: usize = 64 * 1024;

/// A state that is larger is taken out of its read's buffer.
const COPIED_STATE_BYTES_MAX: usize = 64 * 1024;

/// Sizes so small that every limit is met.
pub fn limits() -> ShardLimits {
    ShardLimits {
        mesh_frame_bytes_max: RING_BYTES / 4,
        hot_users_max: 12,
        hot_conversations_max: 64,
        window_entries_max: 40,
        pending_max: 64,
        parked_max: 16,
        reads_in_flight_max: 3,
        checkpoint_interval_ns: 40 * STEP_NS,
        heartbeat_active_ms: 3_600_000,
        ..ShardLimits::default()
    }
}

/// Every segment, and whose it is. What a batch in flight would write is lost with the process.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    medium: MemoryMedium,
    logs: BTreeMap<u32, LogId>,
    snapshots: Vec<Snapshot<Vec<u8>>>,
    /// The largest state that a user may have in a snapshot, if not that of an entry.
    pub user_state_bytes_max: Option<usize>,
    /// Whose was too large in the newest.
    pub large_users: LargeUsers,
}

impl Disk {
    fn segments_of(&self, log: LogId) -> Vec<u32> {
        self.logs.iter().filter(|(_, of)| **of == log).map(|(number, _)| *number).collect()
    }

    fn covered(&self) -> &[Covered] {
        self.snapshots.last().map_or(&[], |newest| &newest.header().covered)
    }

    fn read_snapshot(&self, stream: &StreamId) -> (Vec<u8>, Result<PageEnd, ReadError>) {
        let mut state = Vec::new();
        let place = virtual_shard(stream).expect("a stream of a shard's own is never read");
        let newest = self.snapshots.last().expect("asked for only if there is one");
        let end = match newest.load(place, stream, &mut state).unwrap() {
            Some(next) => PageEnd { records: 1, next, ..PageEnd::default() },
            None => PageEnd::default(),
        };
        (state, Ok(end))
    }

    /// Folds segments behind the newest snapshot into the next one.
    fn fold(&mut self, segments: &[(LogId, SegmentExtent)], covered: Vec<Covered>) -> Snapshot<Vec<u8>> {
        let header = SnapshotHeader {
            number: self.snapshots.len() as u64 + 1,
            directory: DIRECTORY,
            incarnation: INCARNATION,
            hash_version: HASH_VERSION as u16,
            covered,
        };
        let limited = self.user_state_bytes_max.map(StreamFold::with_user_state_bytes_max);
        let mut fold = limited.unwrap_or_default();
        let mut merger = Merger::new(8 << 20, MemoryRuns::default());
        for (_, extent) in segments {
            merger.feed_segment(&fold, &mut self.medium, extent).unwrap();
        }
        let writer = SnapshotWriter::new(Vec::new(), &header).unwrap();
        let previous = self.snapshots.last().map(Snapshot::entries);
        let (bytes, _) = merger.finish(&mut fold, previous, writer).unwrap();
        self.large_users = fold.into_large_users();
        Snapshot::open(bytes).unwrap()
    }
}

const SIZES: Sizes = Sizes {
    directory: DIRECTORY,
    segment_bytes: SEGMENT_BYTES,
    staging_bytes: 2 << 20,
    batch_bytes_max: 128 * 1024,
};

enum Done {
    Written(StagedBatch),
    Segment,
    Read(ReadToken, Vec<u8>, Result<PageEnd, ReadError>),
    Sent(ConnectionId, Vec<u8>),
    HandedOver(ConnectionId, ShardIndex, TransferKey),
    Closed(ConnectionId),
}

/// The most that one event or turn did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    pub queue_records: u64,
    pub load_entries: u64,
    pub outputs: u64,
}

/// A running node and the devices on it.
pub struct House {
    pub disk: Disk,
    pub shards: Vec<Shard>,
    limits: ShardLimits,
    rings: Rings,
    step: u64,
    done: VecDeque<(u64, u16, Done)>,
    logs: Logs,
    /// Which device is at a place, and whether a receive is armed.
    places: BTreeMap<(u16, u32), (usize, Option<ReceiveMode>)>,
    next_place: u32,
    ready: usize,
    pub devices: Vec<Device>,
    pub most: Work,
    /// Reads that were asked for of users' streams, and of conversations'.
    pub user_reads: u64,
    pub conversation_reads: u64,
    /// The last large state that was read of a snapshot.
    large_state: Option<Vec<u8>>,
    /// By shard: nothing is written any more, what is decided from here on is lost with the process.
    pub loses_writes: [bool; SHARDS as usize],
}

impl House {
    /// Starts over a disk, and waits until it is ready.
    pub fn start(disk: Disk, limits: ShardLimits) -> Self {
        let mut house = Self::begin(disk, limits);
        for _ in 0..1_000_000 {
            if house.ready == usize::from(SHARDS) {
                return house;
            }
            house.run_step();
        }
        panic!("it does not become ready");
    }

    /// Starts, and waits for nothing.
    pub fn begin(mut disk: Disk, limits: ShardLimits) -> Self {
        let held = disk.covered().to_vec();
        let segments = [0, 1].map(|shard| disk.segments_of(log_of(shard)));
        let held = (!held.is_empty()).then_some(&held[..]);
        let start = Start { segments, held, limits: &limits, sizes: &SIZES, seed: 7 };
        let Started { shards, logs, damage, misses_snapshot } = start.read(&mut disk.medium);
        assert!(damage.is_empty() && !misses_snapshot, "{damage:?}");
        let mut house = Self {
            shards,
            disk,
            limits,
            rings: Rings::new(usize::MAX, RING_BYTES),
            step: 0,
            done: VecDeque::new(),
            logs,
            places: BTreeMap::new(),
            next_place: 0,
            ready: 0,
            devices: Vec::new(),
            most: Work::default(),
            user_reads: 0,
            conversation_reads: 0,
            large_state: None,
            loses_writes: [false; SHARDS as usize],
        };
        for index in 0..SHARDS {
            house.done.push_back((1, index, Done::Segment));
            let now = house.now();
            house.shards[usize::from(index)].start(now, &mut Port { rings: &mut house.rings, me: index });
            house.drain(index);
        }
        house
    }

    /// The process is gone, and with it every write under way. The devices keep what they stored.
    pub fn kill(self) -> (Disk, Vec<Device>) {
        let mut devices = self.devices;
        devices.iter_mut().for_each(Device::cut);
        (self.disk, devices)
    }

    pub fn is_ready(&self) -> bool {
        self.ready == usize::from(SHARDS)
    }

    pub fn now(&self) -> Now {
        let wall_ms = self.step * STEP_NS / MonotonicNs::MILLISECOND;
        let wall = WallMs(1_700_000_000_000 + wall_ms);
        Now { monotonic: MonotonicNs(self.step * STEP_NS + 1), wall }
    }

    pub fn stats(&mut self, shard: u16) -> ShardStats {
        self.shards[usize::from(shard)].stats().clone()
    }

    /// Segments that a shard has written to.
    pub fn segments(&self, shard: u16) -> usize {
        self.logs.extents.get(&log_of(shard)).map_or(0, Vec::len)
    }

    /// A counter over all shards.
    pub fn count(&mut self, counter: Counter) -> u64 {
        self.shards.iter_mut().map(|shard| shard.stats().get(counter)).sum()
    }

    /// So many places of the tables of connections are left free, as where many others are connected.
    pub const fn leave_places(&mut self, count: u32) {
        self.next_place += count;
    }

    /// The socket of a device ends; what it had not acknowledged comes again.
    pub fn cut(&mut self, device: usize) {
        let at = self.places.iter().find(|(_, (of, _))| *of == device);
        let (&(shard, place), _) = at.expect("a device with a socket");
        self.tell(shard, Event::Ended { connection: ConnectionId(place) });
        self.devices[device].welcomed = false;
    }

    fn tell(&mut self, shard: u16, event: Event<'_>) {
        let (now, before) = (self.now(), self.work(shard));
        let port = &mut Port { rings: &mut self.rings, me: shard };
        self.shards[usize::from(shard)].handle(event, now, port);
        self.watch(shard, &before);
    }

    fn work(&mut self, shard: u16) -> Work {
        let stats = self.shards[usize::from(shard)].stats();
        let (queue_records, load_entries) =
            (stats.get(Counter::QueueRecords), stats.get(Counter::LoadEntries));
        Work { queue_records, load_entries, outputs: 0 }
    }

    /// Every limit holds after every event and every turn.
    fn watch(&mut self, shard: u16, before: &Work) {
        let outputs = self.drain(shard);
        let after = self.work(shard);
        let most = &mut self.most;
        most.queue_records = most.queue_records.max(after.queue_records - before.queue_records);
        most.load_entries = most.load_entries.max(after.load_entries - before.load_entries);
        most.outputs = most.outputs.max(outputs);
        let limits = &self.limits;
        let stats = self.shards[usize::from(shard)].stats();
        let bounds = [
            ("window entries", stats.window_entries, limits.window_entries_max),
            // Beside those of requests: a read of each load, the Welcomes of this house's devices, a checkpoint.
            (
                "answers that wait",
                stats.pending,
                limits.pending_max + limits.parked_max + self.devices.len() + 1,
            ),
            ("requests that wait for a stream", stats.parked, limits.parked_max),
            ("held bytes", stats.held_bytes, limits.held_bytes_max),
            ("users in memory", stats.hot_users, limits.hot_users_max),
            ("conversations in memory", stats.hot_conversations, limits.hot_conversations_max),
            // A load of a stream and a drain each have one, and what is parked has a load.
            ("reads", stats.reads, limits.parked_max + limits.pending_max),
        ];
        for (what, count, max) in bounds {
            assert!(count <= max as u64, "{count} {what} of {max} in step {}", self.step);
        }
        let under_way =
            self.done.iter().filter(|(_, of, done)| *of == shard && matches!(done, Done::Read(..)));
        assert!(under_way.count() <= limits.reads_in_flight_max);
    }

    /// Runs until a condition holds.
    pub fn run_until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) -> u64 {
        let begun = self.step;
        while !holds(self) {
            self.run_step();
            assert!(self.step - begun < 400_000, "never: {what}");
        }
        self.step - begun
    }

    /// Runs so many steps.
    pub fn run_steps(&mut self, count: u64) {
        (0..count).for_each(|_| self.run_step());
    }

    /// One step of time.
    pub fn run_step(&mut self) {
        self.step += 1;
        (0..self.devices.len()).for_each(|device| self.serve(device));
        for _ in 0..self.done.len() {
            let Some((due, shard, done)) = self.done.pop_front() else { break };
            if due > self.step {
                self.done.push_back((due, shard, done));
            } else {
                self.finish(shard, done);
            }
        }
        for shard in 0..SHARDS {
            if self.step.is_multiple_of(5) {
                self.tell(shard, Event::Tick);
            }
            let (now, before) = (self.now(), self.work(shard));
            let port = &mut Port { rings: &mut self.rings, me: shard };
            self.shards[usize::from(shard)].turn(now, port);
            self.watch(shard, &before);
        }
    }

    fn serve(&mut self, device: usize) {
        if self.devices[device].wants_socket() {
            self.next_place += 1;
            let place = self.next_place;
            self.places.insert((0, place), (device, None));
            self.devices[device].opened(place);
            self.tell(0, Event::Accepted { connection: ConnectionId(place) });
        }
        let at = self.places.iter().find(|(_, (of, mode))| *of == device && mode.is_some());
        let Some((&(shard, place), &(_, mode))) = at else { return };
        let mut bytes = self.devices[device].take_output();
        if bytes.is_empty() {
            return;
        }
        if mode == Some(ReceiveMode::Once) {
            self.places.insert((shard, place), (device, None));
        }
        self.tell(shard, Event::Bytes { connection: ConnectionId(place), bytes: &mut bytes });
    }

    fn finish(&mut self, shard: u16, done: Done) {
        match done {
            Done::Written(_) if self.loses_writes[usize::from(shard)] => {}
            Done::Written(batch) => self.finish_write(shard, &batch),
            Done::Segment => {
                let number = self.disk.logs.len() as u32 + 1;
                self.disk.medium.add(number, SEGMENT_BYTES);
                self.disk.logs.insert(number, log_of(shard));
                self.tell(shard, Event::Segment { number });
            }
            Done::Read(token, records, result) => {
                self.tell(shard, Event::ReadDone { token, records, result });
            }
            Done::Sent(connection, buffer) => {
                self.tell(shard, Event::SendDone { connection, buffer, sent: true });
            }
            Done::HandedOver(connection, to, key) => {
                let Some((device, _)) = self.places.remove(&(shard, connection.0)) else { return };
                self.tell(shard, Event::HandedOver { connection, sent: true });
                self.next_place += 1;
                let connection = ConnectionId(self.next_place);
                self.places.insert((to.0, connection.0), (device, None));
                self.tell(to.0, Event::Adopted { connection, key });
            }
            Done::Closed(connection) => {
                if let Some((device, _)) = self.places.remove(&(shard, connection.0)) {
                    self.devices[device].cut();
                }
                self.tell(shard, Event::Closed { connection });
            }
        }
    }

    fn finish_write(&mut self, shard: u16, batch: &StagedBatch) {
        self.disk.medium.write(batch.segment, batch.offset.into(), &batch.bytes);
        self.logs.wrote(shard, batch);
        self.tell(shard, Event::Written { batch: batch.number });
    }

    /// Makes a snapshot of all that may be in one, and lets the shards know; false if there is nothing new.
    pub fn make_snapshot(&mut self) -> bool {
        let Some(plan) = self.logs.planner.plan(u64::MAX) else { return false };
        let made = self.disk.fold(&plan.segments, plan.covered.clone());
        self.disk.snapshots.push(made);
        self.logs.planner.made(&plan.covered);
        for shard in 0..SHARDS {
            let through = self.logs.planner.through(ShardIndex(shard));
            self.tell(shard, Event::Snapshot { through });
        }
        true
    }

    /// What every user's stream says now, folded from all that is on the disk.
    pub fn folded_users(&mut self) -> BTreeMap<StreamId, Vec<u8>> {
        let covered = self.disk.covered().to_vec();
        let through =
            |log: LogId| covered.iter().find(|one| one.log == log).map_or(0, |one| one.previous.end.segment);
        let each = |(log, extents): (&LogId, &Vec<SegmentExtent>)| {
            let new = extents.iter().filter(|extent| extent.segment > through(*log));
            new.map(|extent| (*log, *extent)).collect::<Vec<_>>()
        };
        let segments: Vec<(LogId, SegmentExtent)> = self.logs.extents.iter().flat_map(each).collect();
        let snapshot = self.disk.fold(&segments, covered);
        let mut folded = BTreeMap::new();
        let mut entries = snapshot.entries();
        while let Some(entry) = entries.next() {
            let entry = entry.unwrap();
            if matches!(entry.stream.kind(), Some(StreamKind::User(_))) {
                folded.insert(entry.stream, entry.state.to_vec());
            }
        }
        folded
    }

    /// Does what a shard asks for; how much that was.
    fn drain(&mut self, shard: u16) -> u64 {
        let mut count = 0;
        while let Some(output) = self.shards[usize::from(shard)].poll_output() {
            count += 1;
            let mut later = |steps: u64, done: Done| self.done.push_back((self.step + steps, shard, done));
            match output {
                Output::Receive { connection, mode } => {
                    if let Some((_, armed)) = self.places.get_mut(&(shard, connection.0)) {
                        *armed = (mode != ReceiveMode::Pause).then_some(mode);
                    }
                }
                Output::Send { connection, buffer } => {
                    if let Some((device, _)) = self.places.get(&(shard, connection.0)) {
                        self.devices[*device].hear(&buffer);
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
                Output::Recycle { buffer } => {
                    let is_state = self.large_state.as_ref().is_some_and(|state| *state == buffer);
                    assert!(!is_state, "a large state was copied, and its buffer is kept");
                }
                Output::WantSnapshot | Output::Swept | Output::Stopped => {}
                Output::Ready => self.ready += 1,
            }
        }
        count
    }

    fn read(&mut self, request: &ReadRequest) -> (Vec<u8>, Result<PageEnd, ReadError>) {
        self.note_read(request);
        let mut records = Vec::new();
        let result = match request {
            ReadRequest::Snapshot { stream } => {
                let (state, end) = self.disk.read_snapshot(stream);
                if state.len() > COPIED_STATE_BYTES_MAX {
                    self.large_state = Some(state.clone());
                }
                return (state, end);
            }
            ReadRequest::Page(spec, lead) => {
                PageReader::new().read_led(&mut self.disk.medium, spec, lead.as_deref(), &mut records)
            }
            ReadRequest::Scan { log, from, to, bytes_max } => {
                let extents = self.logs.until(log, *to);
                let next = scan_chunk(&mut self.disk.medium, &extents, *from, *bytes_max, &mut records).next;
                Ok(PageEnd { next, complete: next >= *to, ..PageEnd::default() })
            }
        };
        (records, result)
    }

    fn note_read(&mut self, request: &ReadRequest) {
        let stream = match request {
            ReadRequest::Snapshot { stream }
            | ReadRequest::Page(
                ReadSpec::Range { stream, .. }
                | ReadSpec::Chain { stream, .. }
                | ReadSpec::Number { stream, .. },
                _,
            ) => stream,
            ReadRequest::Page(ReadSpec::At { .. }, _) | ReadRequest::Scan { .. } => return,
        };
        let of_user = matches!(stream.kind(), Some(StreamKind::User(_)));
        self.user_reads += u64::from(of_user);
        self.conversation_reads += u64::from(!of_user);
    }
}
