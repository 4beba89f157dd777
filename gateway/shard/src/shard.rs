//! The shard: all of one core's state, and the one function that mutates it.

use crate::aside::Aside;
use crate::boot::{Boot, ShardSeed};
use crate::checkpoint::Checkpoint;
use crate::commit::Commits;
use crate::connection::Connections;
use crate::counters::{Counter, ShardStats};
use crate::cursor::Cursors;
use crate::event::Event;
use crate::hand_over::Adoptions;
use crate::held::Held;
use crate::latch::Journal;
use crate::limits::{COUNT_USERS_PER_CALL, MESH_FRAMES_PER_TURN, ShardLimits};
use crate::list::Lists;
use crate::load::Loads;
use crate::output::Output;
use crate::owed::Owed;
use crate::port::{Lane, MeshPort, TokenVerifier};
use crate::reads::Reads;
use crate::shutdown::Shutdown;
use crate::streams::Streams;
use crate::table::{IdHash, IdMap};
use crate::walk::Walks;
use std::collections::{BTreeMap, VecDeque};
use tidegate_domain::{Generator, Membership, Route, WindowPool};
use tidegate_ids::{
    ConversationId, DeviceId, Generation, Incarnation, MonotonicNs, Now, Sequence, ShardIndex, UserId, WallMs,
};
use tidegate_schema::Encoder;
use tidegate_storage_log::{Appender, ErasedRanges};

/// Everything a shard starts with.
pub struct ShardSetup {
    /// Which shard.
    pub index: ShardIndex,
    /// Over how many.
    pub route: Route,
    /// Its limits.
    pub limits: ShardLimits,
    /// Checks tokens.
    pub tokens: Box<dyn TokenVerifier>,
    /// Entropy for message ids and hashes.
    pub seed: u64,
    /// Of the data directory.
    pub incarnation: Incarnation,
    /// Its log, ready to append once a segment was given.
    pub appender: Appender,
    /// What recovery found.
    pub seed_of_logs: ShardSeed,
}

/// What every step of a turn needs.
pub(crate) struct Turn<'a> {
    pub(crate) now: Now,
    pub(crate) mesh: &'a mut dyn MeshPort,
}

/// One core's brain.
pub struct Shard {
    pub(crate) index: ShardIndex,
    pub(crate) route: Route,
    pub(crate) limits: ShardLimits,
    pub(crate) tokens: Box<dyn TokenVerifier>,
    pub(crate) incarnation: Incarnation,
    pub(crate) random: Generator,
    pub(crate) log: Appender,
    pub(crate) streams: Streams,
    pub(crate) window_pool: WindowPool,
    pub(crate) connections: Connections,
    pub(crate) aside: Aside,
    pub(crate) generation: Generation,
    pub(crate) transfer: u64,
    pub(crate) adoptions: Adoptions,
    pub(crate) loads: Loads,
    pub(crate) reads: Reads,
    pub(crate) commits: Commits,
    pub(crate) cursors: Cursors,
    pub(crate) slices: IdMap<ConversationId, Membership>,
    pub(crate) walks: Walks,
    /// From where the streams of cold users have a range, by user, conversation and excepted device.
    pub(crate) widened: BTreeMap<(UserId, ConversationId, Option<DeviceId>), Sequence>,
    pub(crate) asks: VecDeque<(UserId, DeviceId)>,
    pub(crate) held: Held,
    pub(crate) lists: Lists,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) boot: Boot,
    pub(crate) shutdown: Shutdown,
    /// User records that found no room in the log.
    pub(crate) owed: Owed,
    /// What changed since the last commit.
    pub(crate) journal: Journal,
    /// The log has failed: read-only from here on.
    pub(crate) latched: bool,
    pub(crate) segment_asked: bool,
    /// A record found no segment, and none has come since.
    pub(crate) no_segment: bool,
    /// The disk is nearly full.
    pub(crate) low_space: bool,
    pub(crate) snapshot_asked: bool,
    /// Records that are given out as holes.
    pub(crate) erased: ErasedRanges,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) encoder: Encoder,
    /// Bodies and fixed parts under construction.
    pub(crate) scratch: Vec<u8>,
    /// The frame of the mesh that is being handled.
    pub(crate) frame: Vec<u8>,
    pub(crate) stats: ShardStats,
    /// The walk that counts open ranges: its next place, and what it has found.
    range_count: (usize, usize),
    pub(crate) last_second: MonotonicNs,
    /// The wall clock of the last event or turn.
    pub(crate) last_wall: WallMs,
}

impl Shard {
    /// A shard that has not started.
    #[must_use]
    pub fn new(setup: ShardSetup) -> Self {
        let shards = setup.route.shards();
        assert!(usize::from(shards) <= crate::SHARDS_MAX, "a slice's targets are bits of a u64");
        assert!(setup.index.0 < shards, "the shard is one of the route's");
        let mut random = Generator::new(setup.seed);
        let hash = IdHash(random.next_u64());
        let (locators, boot) = setup.seed_of_logs.open(hash, setup.limits.locators_max);
        Self {
            index: setup.index,
            route: setup.route,
            streams: Streams::new(&setup.limits, hash, locators),
            window_pool: WindowPool::new(setup.limits.window_entries_max),
            cursors: Cursors::new(shards, setup.appender.committed_end()),
            walks: Walks::new(shards),
            commits: Commits::new(shards),
            reads: Reads::new(hash),
            loads: Loads::new(hash),
            adoptions: Adoptions::default(),
            lists: Lists::default(),
            checkpoint: Checkpoint::default(),
            shutdown: Shutdown::default(),
            connections: Connections::default(),
            slices: IdMap::with_hasher(hash),
            aside: Aside::new(&setup.limits),
            limits: setup.limits,
            tokens: setup.tokens,
            incarnation: setup.incarnation,
            log: setup.appender,
            boot,
            random,
            generation: Generation(0),
            widened: BTreeMap::new(),
            transfer: 0,
            asks: VecDeque::new(),
            held: Held::default(),
            owed: Owed::default(),
            journal: Journal::default(),
            latched: false,
            segment_asked: false,
            no_segment: false,
            low_space: false,
            snapshot_asked: false,
            erased: ErasedRanges::new(),
            outputs: VecDeque::new(),
            encoder: Encoder::new(),
            scratch: Vec::new(),
            frame: Vec::new(),
            stats: ShardStats::default(),
            range_count: (0, 0),
            last_second: MonotonicNs(0),
            last_wall: WallMs(0),
        }
    }

    /// Begins: what was not fed before the stop is fed again; [`Output::Ready`] follows.
    pub fn start(&mut self, now: Now, mesh: &mut dyn MeshPort) {
        self.checkpoint.began = now.monotonic;
        self.turn(now, mesh);
    }

    /// Takes one event.
    pub fn handle(&mut self, event: Event<'_>, now: Now, mesh: &mut dyn MeshPort) {
        self.last_wall = now.wall;
        let turn = &mut Turn { now, mesh };
        match event {
            Event::Accepted { connection } => self.on_accepted(connection, turn),
            Event::Adopted { connection, key } => self.on_adopted(connection, key, turn),
            Event::HandedOver { connection, sent } => self.on_handed_over(connection, sent, turn),
            Event::Bytes { connection, bytes } => self.on_bytes(connection, bytes, turn),
            Event::Ended { connection } => self.on_ended(connection, turn),
            Event::Closed { connection } => self.on_closed(connection, turn),
            Event::SendDone { connection, buffer, sent } => self.on_send_done(connection, buffer, sent, turn),
            Event::Written { batch } => self.on_written(batch, turn),
            Event::WriteFailed { .. } => self.on_write_failed(turn),
            Event::Space { low } => self.low_space = low,
            Event::Segment { number } => {
                self.segment_asked = false;
                self.no_segment = false;
                self.boot.segment(number);
                self.log.add_segment(number);
            }
            Event::ReadDone { token, records, result } => self.on_read_done(token, records, result, turn),
            Event::Snapshot { through } => {
                // If the table is still crowded once it is swept, the next is wanted.
                self.snapshot_asked &= !self.streams.locators.covered_by(through);
            }
            Event::Erased { ranges } => self.erase(ranges),
            Event::CloseSegment => self.on_close_segment(turn),
            Event::Tick => self.on_tick(turn),
            Event::Shutdown => self.on_shutdown(turn),
        }
    }

    /// Does what follows from the events: takes frames from the mesh, ships, asks, commits and flushes, each within its
    /// budget. True if there is more to do at once.
    pub fn turn(&mut self, now: Now, mesh: &mut dyn MeshPort) -> bool {
        self.last_wall = now.wall;
        let turn = &mut Turn { now, mesh };
        self.append_owed();
        let mut more = false;
        if !self.shutdown.is_sealing() {
            more |= self.take_results(turn);
            more |= self.take_requests(turn);
        }
        self.leave_with_commit(turn);
        more |= self.run_cursors(turn);
        self.run_boot(turn);
        more |= self.run_loads(turn);
        self.run_asks(turn);
        self.run_lists(turn);
        if !self.shutdown.is_sealing() {
            more |= self.run_checkpoint(turn);
        }
        more |= self.run_sweep();
        self.run_shutdown(turn);
        self.take_batch(turn);
        self.leave_with_commit(turn);
        self.start_reads(now.monotonic);
        self.flush(turn);
        more
    }

    /// The next thing the shell is asked for.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What was counted, and what is there now.
    pub fn stats(&mut self) -> &ShardStats {
        self.stats.sockets = self.connections.count() as u64;
        let get = |counter: Counter| self.stats.counters[counter as usize];
        self.stats.sessions = get(Counter::Greeted) - get(Counter::SessionsEnded);
        self.stats.hot_users = self.streams.users.len() as u64;
        self.stats.hot_conversations = self.streams.conversations.len() as u64;
        self.stats.streams = self.streams.locators.len() as u64;
        self.stats.pending = self.commits.len() as u64;
        self.stats.parked = self.loads.parked() as u64;
        self.stats.reads = self.reads.len() as u64;
        self.stats.window_entries = (self.limits.window_entries_max - self.window_pool.free_count()) as u64;
        self.stats.held_bytes = self.aside.held_bytes() as u64;
        self.stats.cursor_lag_bytes = self.cursors.lag_bytes(&self.log);
        self.stats.latched = self.latched;
        let starts_without = !self.boot.is_ready() && self.log.spare_segments() == 0;
        self.stats.no_segment = !self.latched && (self.no_segment || starts_without);
        self.stats.low_space = self.low_space;
        self.stats.streams_full = self.streams.is_table_full();
        self.stats.ready = self.boot.is_ready();
        &self.stats
    }

    /// Goes on counting the open ranges of the users in memory, for an operator who asks: some of them at each call, so that
    /// nobody waits for a walk over all. The figure is that of the last walk that came to its end.
    pub fn count_open_ranges(&mut self) {
        let users = &self.streams.users;
        let (start, so_far) = self.range_count;
        let of = |id: UserId| {
            users.get(&id).map_or(0, |hot| hot.user.devices.iter().map(|d| d.queue.range_count()).sum())
        };
        let counted = so_far + users.keys_from(start, COUNT_USERS_PER_CALL).map(of).sum::<usize>();
        let next = start + COUNT_USERS_PER_CALL;
        if next >= users.places() {
            self.stats.open_ranges = counted as u64;
        }
        self.range_count = if next < users.places() { (next, counted) } else { (0, 0) };
    }

    /// Bytes of the heap that the table of streams holds, whatever is in it.
    #[must_use]
    pub fn locator_bytes(&self) -> usize {
        self.streams.locators.heap_bytes()
    }

    /// Stays in the slices of large groups that this shard was given.
    #[must_use]
    pub fn slice_stays(&self) -> usize {
        self.slices.values().map(|slice| slice.stays().len()).sum()
    }

    /// Whether connections may be accepted.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.boot.is_ready()
    }

    /// Whether results are left in their rings until the log has room for what they bring. Then the shell may sleep
    /// although a ring is not empty: an event says when there is room.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !self.owed.has_place()
    }

    /// A buffer for a frame or a send.
    pub(crate) fn buffer(&mut self) -> Vec<u8> {
        self.connections.buffers.take()
    }

    /// Gives a buffer back.
    pub(crate) fn recycle(&mut self, buffer: Vec<u8>) {
        self.connections.buffers.give(buffer);
    }

    /// Forgets where streams are that the newest snapshot holds, and asks for one while there is still place.
    fn run_sweep(&mut self) -> bool {
        let Self { streams, loads, .. } = self;
        let sweeps = streams.locators.is_sweeping();
        let more = streams.sweep_locators(|stream| loads.is_loading(stream));
        if sweeps && !more {
            self.outputs.push_back(Output::Swept);
        }
        let crowded = streams.locators.len() >= self.limits.locators_max / 4 * 3;
        if crowded && !self.snapshot_asked && !more {
            self.outputs.push_back(Output::WantSnapshot);
            self.snapshot_asked = true;
        }
        self.snapshot_asked &= crowded;
        more
    }

    fn shards(&self) -> impl Iterator<Item = ShardIndex> + use<> {
        (0..self.route.shards()).map(ShardIndex)
    }

    /// Takes results from every ring, while there is a place for the records they bring.
    fn take_results(&mut self, turn: &mut Turn<'_>) -> bool {
        let mut more = false;
        self.walks.begin_turn();
        for from in self.shards() {
            for taken in 0.. {
                if !self.owed.has_place() || !self.continue_walk(from) {
                    more = true;
                    break;
                }
                if taken == MESH_FRAMES_PER_TURN {
                    more = true;
                    break;
                }
                let Some(frame) = turn.mesh.peek(from, Lane::Results) else { break };
                let mut copy = std::mem::take(&mut self.frame);
                copy.clear();
                copy.extend_from_slice(frame);
                turn.mesh.pop(from, Lane::Results);
                self.on_result(from, &copy, turn);
                self.frame = copy;
            }
        }
        more && self.owed.has_place()
    }

    /// Takes requests from every ring, while there is a place for their answers.
    fn take_requests(&mut self, turn: &mut Turn<'_>) -> bool {
        let mut more = false;
        for from in self.shards() {
            for taken in 0.. {
                let Some(frame) = turn.mesh.peek(from, Lane::Requests) else { break };
                if taken == MESH_FRAMES_PER_TURN {
                    more = true;
                    break;
                }
                let mut copy = std::mem::take(&mut self.frame);
                copy.clear();
                copy.extend_from_slice(frame);
                let can_take = self.can_take_request();
                if can_take {
                    turn.mesh.pop(from, Lane::Requests);
                    self.on_request(from, &copy, turn);
                }
                self.frame = copy;
                if !can_take {
                    self.stats.count(Counter::IntakeStopped);
                    break;
                }
            }
        }
        more
    }
}
