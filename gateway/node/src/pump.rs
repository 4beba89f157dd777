//! The pump: the only loop of a shard's thread (DESIGN 4).
//!
//! Each turn has a bounded budget: completions, orders and helper threads, the tick, the shard's own turn (mesh, cursors,
//! commit), its outputs, wakes, then submit and wait. It sleeps only after it has published its sleep flag and looked
//! again; what it pushed to a sleeping peer wakes that peer at most once a batch. Nothing here is allocated per message.

mod outputs;

use crate::clock::Clock;
use crate::damage::words;
use crate::limits::{
    COMPLETIONS_PER_TURN, DAMAGE_LINE_INTERVAL_NS, PUBLISH_INTERVAL_MS, SUSPICION_INTERVAL_NS,
};
use crate::port::Rings;
use crate::scans::Scans;
use crate::segments::{Sealed, Segments};
use crate::snapshots::{NewSnapshot, Told};
use crate::space::Space;
use crate::stats::{Board, Measured, PumpCounters};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;
use tidegate_ids::{BatchNumber, Location, LogId, MonotonicNs, Now};
use tidegate_reactor::{Completion, Reactor, RingHandle};
use tidegate_shard::{ConnectionId, Event, ReadToken, Shard, TICK_MS, TransferKey};
use tidegate_storage_files::{ReadPool, SealedIndexes, SnapshotFile, SpareEvent, Spares};
use tidegate_storage_log::{BatchBytes, Damage, ErasedRanges, ReadError};

/// What the main thread tells a shard's thread; a wake of its ring follows.
#[derive(Debug)]
pub enum Order {
    /// Accept from this listening socket.
    Accept(OwnedFd),
    /// Read from this snapshot from now on.
    Snapshot(NewSnapshot),
    /// Give out these records as holes from now on, and no others.
    Erased(ErasedRanges),
    /// End the open segment.
    CloseSegment,
    /// Stop: tell clients to go, commit, seal.
    Stop,
    /// Every shard has stopped: end the thread.
    Exit,
}

/// What a shard's thread tells the main thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// A shard is recovered, fed and synced.
    Ready(u16),
    /// A shard has committed and sealed everything.
    Stopped(u16),
    /// The process was asked to stop.
    Signal,
}

/// Everything a pump starts with.
pub struct PumpSetup {
    /// Its ring.
    pub reactor: Reactor<BatchBytes>,
    /// Its end of the mesh.
    pub mesh: Rings,
    /// The rings of all shards.
    pub peers: Vec<RingHandle>,
    /// Prepared segments.
    pub spares: Spares,
    /// Reads of pages.
    pub reads: ReadPool,
    /// Reads of whole logs.
    pub scans: Scans,
    /// Its open segments.
    pub segments: Segments,
    /// What tells readers of the indexes of those that are sealed.
    pub indexes: SealedIndexes,
    /// The log it writes.
    pub log: LogId,
    /// How full the disk is.
    pub space: Arc<Space>,
    /// The newest snapshot.
    pub snapshot: Option<Arc<SnapshotFile>>,
    /// To the thread that makes snapshots.
    pub told: Sender<Told>,
    /// From the main thread.
    pub orders: Receiver<Order>,
    /// To the main thread.
    pub news: Sender<News>,
    /// Where its figures go.
    pub board: Arc<Board>,
    /// The machine's clocks.
    pub clock: Clock,
}

/// What the pump holds beside the ring, so that completions can reach it while the ring is lent.
struct Core {
    shard: Shard,
    mesh: Rings,
    peers: Vec<RingHandle>,
    spares: Spares,
    reads: ReadPool,
    scans: Scans,
    segments: Segments,
    indexes: SealedIndexes,
    log: LogId,
    snapshot: Option<Arc<SnapshotFile>>,
    told: Sender<Told>,
    news: Sender<News>,
    /// By slot: whether it is on its way to another shard.
    leaving: Vec<bool>,
    /// Buffers of reads, to be used again.
    buffers: Vec<Vec<u8>>,
    /// Segments that the shard has asked for.
    segments_wanted: u32,
    /// Whether orders and helper threads are to be looked at.
    look: bool,
    /// The shard has said in this turn that it is ready.
    is_ready: bool,
    /// When damage is said again.
    next_damage_line: MonotonicNs,
    /// When a snapshot that cannot be read is told of again.
    next_suspicion: MonotonicNs,
    counters: PumpCounters,
}

/// One shard's loop.
pub struct Pump {
    core: Core,
    reactor: Reactor<BatchBytes>,
    orders: Receiver<Order>,
    board: Arc<Board>,
    space: Arc<Space>,
    /// What the shard was told of it.
    low_space: bool,
    /// What was said of the shard's table of streams.
    streams_full: bool,
    clock: Clock,
    next_tick: MonotonicNs,
    next_publish: MonotonicNs,
}

/// Whether the thread goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    Exit,
}

impl Pump {
    /// A pump of this shard.
    #[must_use]
    pub fn new(mut setup: PumpSetup, shard: Shard) -> Self {
        let slots = setup.reactor.ops().slots_max() as usize;
        let core = Core {
            shard,
            mesh: setup.mesh,
            peers: setup.peers,
            spares: setup.spares,
            reads: setup.reads,
            scans: setup.scans,
            segments: setup.segments,
            indexes: setup.indexes,
            log: setup.log,
            snapshot: setup.snapshot,
            told: setup.told,
            news: setup.news,
            leaving: vec![false; slots],
            buffers: Vec::new(),
            // The first segment comes unasked.
            segments_wanted: 1,
            look: true,
            is_ready: false,
            next_damage_line: MonotonicNs(0),
            next_suspicion: MonotonicNs(0),
            counters: PumpCounters::default(),
        };
        Self {
            core,
            reactor: setup.reactor,
            orders: setup.orders,
            board: setup.board,
            space: setup.space,
            low_space: false,
            streams_full: false,
            clock: setup.clock,
            next_tick: MonotonicNs(0),
            next_publish: MonotonicNs(0),
        }
    }

    /// Runs until [`Order::Exit`].
    ///
    /// # Errors
    /// The ring is unusable, or no descriptor is left for a segment: the process must end and recover from its log.
    pub fn run(mut self) -> io::Result<()> {
        let now = self.clock.now();
        self.core.shard.start(now, &mut self.core.mesh);
        loop {
            let now = self.clock.now();
            let taken = self.take_completions(now);
            if self.look(now)? == Next::Exit {
                return Ok(());
            }
            self.tick(now);
            let mut more = self.core.shard.turn(now, &mut self.core.mesh);
            more |= taken == COMPLETIONS_PER_TURN;
            self.core.perform_outputs(self.reactor.ops());
            more |= self.core.look;
            let is_ready = std::mem::take(&mut self.core.is_ready);
            if is_ready {
                // Whoever hears of it finds the figures of a shard that is.
                self.next_publish = now.monotonic;
            }
            self.publish(now);
            if is_ready {
                self.core.tell(News::Ready(self.core.mesh.0.shard()));
            }
            self.wait(more, now)?;
        }
    }

    fn take_completions(&mut self, now: Now) -> usize {
        let Self { reactor, core, .. } = self;
        reactor.completions(COMPLETIONS_PER_TURN, |_, completion| core.complete(completion, now))
    }

    /// Takes what other threads have left, after a wake.
    fn look(&mut self, now: Now) -> io::Result<Next> {
        if !std::mem::take(&mut self.core.look) {
            return Ok(Next::GoOn);
        }
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Accept(listener) => self.reactor.ops().listen(listener),
                Order::Snapshot(NewSnapshot { file, through }) => {
                    self.core.snapshot = Some(file);
                    self.core.shard.handle(Event::Snapshot { through }, now, &mut self.core.mesh);
                }
                Order::Erased(ranges) => {
                    self.core.shard.handle(Event::Erased { ranges }, now, &mut self.core.mesh);
                }
                Order::CloseSegment => {
                    self.core.shard.handle(Event::CloseSegment, now, &mut self.core.mesh);
                }
                Order::Stop => {
                    self.reactor.ops().stop_accepting();
                    self.core.shard.handle(Event::Shutdown, now, &mut self.core.mesh);
                }
                Order::Exit => return Ok(Next::Exit),
            }
        }
        self.core.take_segments(now)?;
        self.core.take_reads(now);
        Ok(Next::GoOn)
    }

    fn tick(&mut self, now: Now) {
        if now.monotonic >= self.next_tick {
            self.next_tick = now.monotonic.after(TICK_MS * MonotonicNs::MILLISECOND);
            let low = self.space.is_low();
            if low != self.low_space {
                self.low_space = low;
                self.core.shard.handle(Event::Space { low }, now, &mut self.core.mesh);
            }
            self.core.shard.handle(Event::Tick, now, &mut self.core.mesh);
        }
    }

    fn publish(&mut self, now: Now) {
        if now.monotonic < self.next_publish {
            return;
        }
        self.next_publish = now.monotonic.after(PUBLISH_INTERVAL_MS * MonotonicNs::MILLISECOND);
        self.core.shard.count_open_ranges();
        self.tell_streams();
        let core = &mut self.core;
        let measured = Measured {
            mesh: *core.mesh.0.counters(),
            mesh_depth_bytes: core.mesh.depth_bytes(),
            reactor: *self.reactor.counters(),
            pump: core.counters,
            free_bytes: self.space.free_bytes(),
            shard: Some(core.shard.stats()),
        };
        self.board.publish(core.mesh.0.shard(), &measured);
    }

    /// Says when the table of streams becomes full, and when it has room again.
    fn tell_streams(&mut self) {
        let (full, shard) = (self.core.shard.stats().streams_full, self.core.mesh.0.shard());
        match (self.streams_full, full) {
            (false, true) => tracing::error!(
                shard,
                "the table of streams is full: commands that need a place in it are refused until a snapshot makes room; \
                 limits.locators_max is its size"
            ),
            (true, false) => tracing::info!(shard, "the table of streams has room again"),
            _ => {}
        }
        self.streams_full = full;
    }

    /// Wakes peers, submits, and sleeps if there is nothing to do: not before the flag is up and the rings are empty.
    fn wait(&mut self, more: bool, now: Now) -> io::Result<()> {
        let Core { mesh, peers, counters, .. } = &mut self.core;
        counters.turns += 1;
        let ops = self.reactor.ops();
        mesh.0.take_wakes(|peer| ops.wake(&peers[usize::from(peer)]));
        if more {
            counters.busy_turns += 1;
            return self.reactor.submit_and_wait(Some(Duration::ZERO));
        }
        // Rings that are left as they are, for want of room in the log, are no reason to stay awake: what makes room comes
        // as a completion.
        if !mesh.0.announce_sleep() && !self.core.shard.is_held() {
            return self.reactor.submit_and_wait(Some(Duration::ZERO));
        }
        let until_tick = Duration::from_nanos(self.next_tick.since(now.monotonic));
        let waited = self.reactor.submit_and_wait(Some(until_tick));
        self.core.mesh.0.awake();
        waited
    }
}

impl Core {
    /// Turns a completion of the ring into an event of the shard.
    fn complete(&mut self, completion: Completion<'_>, now: Now) {
        let connection = |slot: tidegate_reactor::Slot| ConnectionId(slot.0);
        let event = match completion {
            Completion::Accepted { slot } => Event::Accepted { connection: connection(slot) },
            Completion::Received { slot, bytes } => Event::Bytes { connection: connection(slot), bytes },
            Completion::ReceiveEnded { slot, .. } => Event::Ended { connection: connection(slot) },
            Completion::Sent { slot, buffer, result } => {
                Event::SendDone { connection: connection(slot), buffer, sent: result.is_ok() }
            }
            Completion::SlotClosed { slot } => {
                let left = std::mem::take(&mut self.leaving[slot.0 as usize]);
                match left {
                    true => Event::HandedOver { connection: connection(slot), sent: true },
                    false => Event::Closed { connection: connection(slot) },
                }
            }
            Completion::Adopted { slot, key } => {
                Event::Adopted { connection: connection(slot), key: TransferKey(key) }
            }
            Completion::HandedOver { slot, result, .. } => match result {
                // The place is free when the slot is closed.
                Ok(()) => return,
                Err(error) => {
                    tracing::debug!(shard = self.mesh.0.shard(), %error, "a hand-over failed");
                    self.leaving[slot.0 as usize] = false;
                    self.counters.hand_overs_failed += 1;
                    Event::HandedOver { connection: connection(slot), sent: false }
                }
            },
            Completion::WriteDone { token, result } => {
                if let Some(Sealed { closed, index }) = self.segments.written(result.is_ok()) {
                    self.indexes.note(closed.extent.segment, index);
                    self.tell_snapshots(Told::Closed(self.log, closed));
                }
                let batch = BatchNumber(token);
                match result {
                    Ok(()) => Event::Written { batch },
                    Err(error) => {
                        let shard = self.mesh.0.shard();
                        tracing::error!(shard, %error, "a log write failed: the shard is read-only from now on");
                        Event::WriteFailed { batch }
                    }
                }
            }
            // Nobody inserts here; an accept that failed is counted by the ring and needs nothing.
            Completion::InsertFailed { .. } | Completion::AcceptFailed { .. } => return,
            Completion::Woken => {
                self.look = true;
                return;
            }
        };
        self.shard.handle(event, now, &mut self.mesh);
    }

    /// Gives the shard the segments it asked for, as far as they are prepared.
    fn take_segments(&mut self, now: Now) -> io::Result<()> {
        let mut failed = None;
        while self.segments_wanted > 0 {
            match self.spares.take() {
                None => break,
                Some(SpareEvent::Ready(file)) => {
                    failed = None;
                    let number = self.segments.add(&file)?;
                    self.segments_wanted -= 1;
                    self.shard.handle(Event::Segment { number }, now, &mut self.mesh);
                }
                Some(SpareEvent::Failed(error)) => {
                    self.counters.segments_failed += 1;
                    failed = Some(error);
                }
                Some(SpareEvent::PassedOver(path)) => {
                    tracing::warn!(path = %path.display(), "a prepared segment is not empty and was passed over");
                }
            }
        }
        // A failure that a segment followed is over. One that lasts is said again from time to time.
        if let Some(error) = failed {
            tracing::error!(shard = self.mesh.0.shard(), %error, "no segment could be prepared; trying again");
        }
        Ok(())
    }

    fn take_reads(&mut self, now: Now) {
        while let Some(reply) = self.reads.take() {
            match reply.result {
                Err(ReadError::Damaged(at)) if at == Location::SNAPSHOT => {
                    self.tell_damage(now, &"a stream's entry in the snapshot cannot be read");
                    self.suspect_snapshot(now);
                }
                Err(error @ ReadError::Damaged(_)) => self.tell_damage(now, &error),
                Ok(end) if end.damaged > 0 => {
                    self.tell_damage(now, &format_args!("{} records of a page are damaged", end.damaged));
                }
                _ => {}
            }
            let token = ReadToken(reply.token);
            let event = Event::ReadDone { token, records: reply.records, result: reply.result };
            self.shard.handle(event, now, &mut self.mesh);
        }
        while let Some(reply) = self.scans.take() {
            if let Some(damage) = reply.damage {
                let Damage { segment, from, to, .. } = damage;
                let words = words(&damage);
                self.tell_damage(now, &format_args!("segment {segment}, bytes {from} to {to}: {words}"));
            }
            let token = ReadToken(reply.token);
            let event = Event::ReadDone { token, records: reply.records, result: Ok(reply.end) };
            self.shard.handle(event, now, &mut self.mesh);
        }
    }

    /// Has the snapshot looked through by the thread that can make it again, now and then: nobody whose entry is lost is served
    /// until it has.
    fn suspect_snapshot(&mut self, now: Now) {
        if now.monotonic >= self.next_suspicion
            && let Some(snapshot) = &self.snapshot
        {
            self.next_suspicion = now.monotonic.after(SUSPICION_INTERVAL_NS);
            self.tell_snapshots(Told::Suspect(snapshot.number()));
        }
    }

    /// Says what a read has met, now and then; `events{reads_failed}` counts all of them, `reads_damaged` those that met it
    /// again when they were made again.
    fn tell_damage(&mut self, now: Now, what: &dyn std::fmt::Display) {
        if now.monotonic < self.next_damage_line {
            return;
        }
        self.next_damage_line = now.monotonic.after(DAMAGE_LINE_INTERVAL_NS);
        let shard = self.mesh.0.shard();
        tracing::error!(
            shard,
            "a read met damage; it is made again, then what it does not give counts as lost: {what}"
        );
    }
}
