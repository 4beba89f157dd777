//! The world of one seed: devices, network, gateway and disk, moved on by what is due next.

use crate::checker;
use crate::clock::{Agenda, Chance};
use crate::device::{Device, seconds};
use crate::disk::Disk;
use crate::gateway::{Gateway, Sizes};
use crate::ledger::{CommitOrder, Ledger};
use crate::mesh::Port;
use crate::network::{Network, Peer, Wire};
use crate::plan::{Failure, Fault, Plan, Planted, Report, sizes_of};
use crate::rogue::{Mood, Rogue};
use crate::snapshots::Snapshots;
use crate::trace::kind_of;
use tidegate_client::Encoder;
use tidegate_ids::{DeviceId, MonotonicNs, ShardIndex, UserId};
use tidegate_schema::ErrorCode;
use tidegate_shard::{ConnectionId, Event, ReadToken, TICK_MS, TransferKey};
use tidegate_storage_log::{ErasedRanges, PageEnd, ReadError, StagedBatch};
use xxhash_rust::xxh3::xxh3_64;

pub(crate) const MS: u64 = MonotonicNs::MILLISECOND;

/// People, and the devices that they have between them.
const USERS: u64 = 12;
const DEVICES: usize = 20;

/// The first user of those who misbehave; one of each mood.
const ROGUE_USERS: u64 = 101;

/// Nothing that a seed does takes as many steps: it runs in a circle.
const STEPS_MAX: u64 = 40_000_000;

/// What can be due.
#[derive(Debug)]
pub(crate) enum What {
    Turn(u64, ShardIndex),
    Tick(u64),
    /// A write is in the cache.
    Cached(u64, ShardIndex, StagedBatch),
    /// The write is synced.
    Arrived(u64, ShardIndex, StagedBatch),
    /// A planted bug tells so before it is true.
    ToldEarly(u64, ShardIndex, StagedBatch),
    WriteFailed(u64, ShardIndex, StagedBatch),
    Segment(u64, ShardIndex),
    ReadDone(u64, ShardIndex, ReadToken, Vec<u8>, Result<PageEnd, ReadError>),
    /// By the number of the send.
    SendDone(u64, ShardIndex, ConnectionId, u64),
    HandedOver(u64, ShardIndex, ConnectionId, Wire, ShardIndex, TransferKey),
    Adopted(u64, ShardIndex, Wire, TransferKey),
    Closed(u64, ShardIndex, ConnectionId),
    Up(Wire, Vec<u8>),
    UpEnd(Wire),
    Receive(u64, Wire),
    /// With the order of commits when the bytes left.
    Down(Wire, Peer, Vec<u8>, CommitOrder),
    DownEnd(Wire, Peer),
    Open(Peer),
    Device(usize, u64),
    Rogue(usize),
    Act,
    Back(usize),
    /// A snapshot is made, if there is anything to fold.
    Snapshot(u64),
    /// A shard learns of it.
    SnapshotMade(u64, ShardIndex, u32),
    /// A shard learns what is to be erased.
    Erased(u64, ShardIndex),
    /// The disk has room again.
    Room(u64),
    /// An operator restarts a gateway with a shard that is read-only.
    GiveUp(u64),
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) agenda: Agenda<What>,
    pub(crate) network: Network,
    pub(crate) disk: Disk,
    pub(crate) snapshots: Snapshots,
    pub(crate) gateway: Gateway,
    pub(crate) epochs: Vec<(u32, u16)>,
    pub(crate) sizes: Sizes,
    pub(crate) devices: Vec<Device>,
    pub(crate) rogues: Vec<Rogue>,
    pub(crate) ledger: Ledger,
    /// What an operator asked to erase: kept beside the logs, and told to every start.
    pub(crate) erased: ErasedRanges,
    pub(crate) encoder: Encoder,
    pub(crate) schedule: Chance,
    pub(crate) faults: Chance,
    pub(crate) workload: Chance,
    pub(crate) mischief: Chance,
    pub(crate) curiosity: Chance,
    pub(crate) seeds: Chance,
    pub(crate) report: Report,
    /// The first thing that did not hold.
    wrong: Option<String>,
    /// The last faults are over: only draining is left.
    pub(crate) quiet: bool,
    pub(crate) stopping: bool,
    /// No segment is to be had before this.
    pub(crate) full_until: u64,
}

/// Runs one seed.
///
/// # Errors
/// The first thing that did not hold.
pub fn run(plan: &Plan) -> Result<Report, Failure> {
    let mut world = match World::new(plan.clone()) {
        Ok(world) => world,
        Err(what) => return Err(Failure { what, report: Box::default() }),
    };
    let done = world.run();
    world.close_report();
    match done {
        Ok(()) => Ok(world.report),
        Err(what) => Err(Failure { what, report: Box::new(world.report) }),
    }
}

impl World {
    fn new(plan: Plan) -> Result<Self, String> {
        let seed = plan.seed;
        let mut seeds = Chance::new(seed, 1);
        let mut schedule = Chance::new(seed, 2);
        let sizes = sizes_of(&plan, &mut schedule);
        let mut disk = Disk::new(sizes.segment_bytes, Chance::new(seed, 3));
        disk.lies = plan.planted == Some(Planted::NoSync);
        disk.forgets = plan.planted == Some(Planted::ForgottenSegment);
        let shards = schedule.between(2, 5) as u16;
        let epochs = vec![(1, shards)];
        let mut snapshots = Snapshots::default();
        snapshots.hollow = plan.planted == Some(Planted::HollowSnapshot);
        snapshots.are_small = plan.has_small_user_states();
        let gateway = Gateway::boot(1, shards, &epochs, &mut disk, &mut snapshots, &sizes, &mut seeds)?;
        let devices = (0..DEVICES).map(|place| {
            let user = UserId(place as u64 % USERS + 1);
            let mut device = Device::new(user, DeviceId(1000 + place as u64), seeds.bits(), false);
            device.narrates = plan.narrated;
            device
        });
        let devices: Vec<Device> = devices.collect();
        let rogue = |(place, mood): (usize, &Mood)| {
            let place = place as u64;
            Rogue::new(UserId(ROGUE_USERS + place), DeviceId(5000 + place), *mood)
        };
        let rogues: Vec<Rogue> = Mood::ALL.iter().enumerate().map(rogue).collect();
        let mut world = Self {
            agenda: Agenda::new(),
            network: Network::default(),
            disk,
            snapshots,
            gateway,
            epochs,
            sizes,
            devices,
            rogues,
            ledger: Ledger::default(),
            erased: ErasedRanges::new(),
            encoder: Encoder::new(),
            schedule,
            faults: Chance::new(seed, 4),
            workload: Chance::new(seed, 5),
            mischief: Chance::new(seed, 6),
            curiosity: Chance::new(seed, 7),
            seeds,
            report: Report::default(),
            wrong: None,
            quiet: false,
            stopping: false,
            full_until: 0,
            plan,
        };
        world.start();
        (0..world.devices.len()).for_each(|device| world.service(device));
        if world.plan.has(Fault::Rogue) {
            (0..world.rogues.len()).for_each(|rogue| world.agenda.after(3000 * MS, What::Rogue(rogue)));
        }
        world.agenda.after(2000 * MS, What::Act);
        Ok(world)
    }

    /// Starts the shards of a new process.
    pub(crate) fn start(&mut self) {
        let run = self.gateway.run;
        for index in 0..self.gateway.shards.len() {
            let shard = ShardIndex(index as u16);
            self.agenda.after(MS, What::Segment(run, shard));
            let now = self.agenda.now();
            let Gateway { shards, mesh, .. } = &mut self.gateway;
            shards[index].start(now, &mut Port { mesh, me: shard });
            self.drain(shard);
        }
        self.agenda.after(TICK_MS * MS, What::Tick(run));
    }

    /// Prints what happens, if that is wanted.
    pub(crate) fn narrate(&self, text: impl FnOnce(&Self) -> String) {
        if self.plan.narrated {
            println!("{:>10.6} {}", seconds(self.agenda.now()), text(self));
        }
    }

    /// Something did not hold; the first such thing ends the run.
    pub(crate) fn blame(&mut self, wrong: impl Into<String>) {
        if self.wrong.is_none() {
            self.wrong = Some(wrong.into());
        }
    }

    fn run(&mut self) -> Result<(), String> {
        let mut steps: u64 = 0;
        while let Some(what) = self.agenda.next() {
            steps += 1;
            if steps > STEPS_MAX {
                return Err("livelock: forty million steps".to_owned());
            }
            let now = self.agenda.now();
            self.report.virtual_ms = now.monotonic.0 / MS;
            let happened = [self.report.trace, now.monotonic.0, kind_of(&what)];
            self.report.trace = xxh3_64(&happened.map(u64::to_le_bytes).concat());
            let ends = self.quiet && matches!(what, What::Act);
            self.step(what);
            if let Some(wrong) = self.wrong.take() {
                return Err(wrong);
            }
            if ends {
                return self.finish();
            }
        }
        Err("nothing is due any more".to_owned())
    }

    /// The end: everything has had its time, now it must hold.
    fn finish(&mut self) -> Result<(), String> {
        self.look_through_disk()?;
        checker::check(&self.devices, &self.ledger)?;
        for shard in &mut self.gateway.shards {
            let stats = shard.stats();
            let waits = stats.pending + stats.parked + stats.cursor_lag_bytes;
            if waits > 0 || stats.no_segment {
                return Err(format!("liveness: a shard has not drained: {stats:?}"));
            }
        }
        Ok(())
    }

    /// Compares what the disk holds with what was committed.
    pub(crate) fn look_through_disk(&mut self) -> Result<(), String> {
        let Self { ledger, disk, epochs, .. } = self;
        ledger.begin_pass();
        for (epoch, count) in epochs.iter() {
            for shard in (0..*count).map(ShardIndex) {
                let segments = disk.segments_of(tidegate_ids::LogId { epoch: *epoch, shard });
                let mut wrong = None;
                let found = tidegate_storage_log::recover(disk, &segments, None, |record| {
                    if let Err(error) = ledger.meet(&record) {
                        wrong.get_or_insert(error);
                    }
                });
                found.map_err(|error| format!("{error:?}"))?;
                wrong.map_or(Ok(()), Err)?;
            }
        }
        ledger.end_pass()
    }

    fn step(&mut self, what: What) {
        let run = self.gateway.run;
        match what {
            What::Act => self.act(),
            What::Back(device) => {
                self.devices[device].online = true;
                self.service(device);
            }
            What::Device(device, at) => {
                if self.devices[device].wake_at == at {
                    self.devices[device].wake_at = 0;
                }
                let now = self.agenda.now();
                self.devices[device].tick(now, &self.ledger);
                self.service(device);
            }
            What::Rogue(rogue) => self.mischief(rogue),
            What::Open(peer) => self.open(peer),
            What::Up(wire, bytes) => self.arrive_up(wire, bytes),
            What::UpEnd(wire) => self.receive(wire),
            What::Receive(of, wire) if of == run => self.receive(wire),
            What::Down(wire, peer, bytes, left) => self.arrive_down(wire, peer, bytes, left),
            What::DownEnd(wire, peer) => self.hang_up(wire, peer),
            What::Turn(of, shard) if of == run => {
                self.gateway.turn_due[usize::from(shard.0)] = false;
                self.turn(shard);
            }
            What::Tick(of) if of == run => self.tick(),
            What::Cached(of, _, batch) if of == run => self.disk.write(&batch),
            What::Arrived(of, shard, batch) if of == run => self.arrived(shard, &batch),
            What::ToldEarly(of, shard, batch) if of == run => {
                self.event(shard, Event::Written { batch: batch.number });
            }
            What::WriteFailed(of, shard, batch) if of == run => self.write_failed(shard, &batch),
            What::GiveUp(of) if of == run => self.give_up(),
            What::Erased(of, shard) if of == run => {
                let ranges = self.erased.clone();
                self.event(shard, Event::Erased { ranges });
            }
            What::Room(of) if of == run => self.have_room(),
            What::Segment(of, shard) if of == run => self.give_segment(shard),
            What::ReadDone(of, shard, token, records, result) if of == run => {
                self.gateway.reading[usize::from(shard.0)] -= 1;
                self.event(shard, Event::ReadDone { token, records, result });
            }
            What::SendDone(of, shard, connection, number) if of == run => {
                if let Some(buffer) = self.network.end_send(shard, connection, number) {
                    self.event(shard, Event::SendDone { connection, buffer, sent: true });
                }
            }
            What::HandedOver(of, shard, connection, wire, to, key) if of == run => {
                self.handed_over(shard, connection, wire, to, key);
            }
            What::Adopted(of, shard, wire, key) if of == run => {
                let connection = self.network.hold(wire, shard);
                self.event(shard, Event::Adopted { connection, key });
            }
            What::Snapshot(of) if of == run => self.snapshot(),
            What::SnapshotMade(of, shard, through) if of == run => {
                self.event(shard, Event::Snapshot { through });
            }
            What::Closed(of, shard, connection) if of == run => self.closed(shard, connection),
            _ => {}
        }
    }

    fn tick(&mut self) {
        for index in 0..self.gateway.shards.len() {
            self.event(ShardIndex(index as u16), Event::Tick);
            self.check_limits(index);
        }
        self.agenda.after(TICK_MS * MS, What::Tick(self.gateway.run));
    }

    /// Tables and queues stay within their limits, whatever comes.
    fn check_limits(&mut self, index: usize) {
        let Some(shard) = self.gateway.shards.get_mut(index) else { return };
        let limits = &self.sizes.limits;
        let stats = shard.stats();
        let held = [
            ("sockets", stats.sockets, limits.connections_max),
            ("hot users", stats.hot_users, limits.hot_users_max),
            ("hot conversations", stats.hot_conversations, limits.hot_conversations_max),
            ("streams", stats.streams, limits.locators_max + limits.locators_max / 16),
            ("pushes in windows", stats.window_entries, limits.window_entries_max),
            ("bytes held", stats.held_bytes, limits.held_bytes_max),
            ("parked requests", stats.parked, limits.parked_max + limits.connections_max),
        ];
        let passed = held.into_iter().find(|(_, now, most)| *now > *most as u64);
        if let Some((what, now, most)) = passed {
            self.blame(format!("shard {index} holds {now} {what}, its limit is {most}"));
        }
    }

    /// Tells a shard something and lets it take its turn.
    pub(crate) fn event(&mut self, shard: ShardIndex, event: Event<'_>) {
        let now = self.agenda.now();
        let Gateway { shards, mesh, .. } = &mut self.gateway;
        let Some(brain) = shards.get_mut(usize::from(shard.0)) else { return };
        brain.handle(event, now, &mut Port { mesh, me: shard });
        self.turn(shard);
    }

    fn turn(&mut self, shard: ShardIndex) {
        let now = self.agenda.now();
        let run = self.gateway.run;
        let index = usize::from(shard.0);
        let Gateway { shards, mesh, .. } = &mut self.gateway;
        let more = shards[index].turn(now, &mut Port { mesh, me: shard });
        self.drain(shard);
        if run != self.gateway.run {
            return;
        }
        for index in 0..self.gateway.shards.len() {
            let other = ShardIndex(index as u16);
            let waits = self.gateway.mesh.waits_for(other) || (other == shard && more);
            if waits && !self.gateway.turn_due[index] {
                self.gateway.turn_due[index] = true;
                let slow = self.schedule.percent(5);
                let delay = self.schedule.between(1, if slow { 40_000 } else { 300 }) * 1000;
                self.agenda.after(delay, What::Turn(run, other));
            }
        }
    }

    /// Adds up what the shards of a process that ends have counted.
    pub(crate) fn sum_marks(&mut self) {
        for shard in &mut self.gateway.shards {
            let stats = shard.stats();
            for counter in tidegate_shard::Counter::ALL {
                self.report.mark(counter.label(), stats.get(*counter));
            }
            for code in ErrorCode::ALL {
                self.report.mark(code.label(), stats.errors[code.index()]);
            }
        }
        self.report.mark("tail_cut", self.gateway.tails_cut);
        self.report.mark("damage_found", self.gateway.damage_found);
    }

    fn close_report(&mut self) {
        self.sum_marks();
        self.report.mark("sectors_lost", self.disk.sectors_lost);
        self.report.mark("devices_forgotten", self.snapshots.devices_forgotten);
        self.report.records = self.ledger.records();
        self.report.devices = self.devices.len() as u64;
        for device in &self.devices {
            self.report.mark("sdk_refused", device.notebook.refused);
            let skipped: usize = device.notebook.skipped.values().map(Vec::len).sum();
            self.report.mark("sdk_skipped", skipped as u64);
            self.report.mark("sdk_repeats", device.machine.repeats());
            self.report.mark("sdk_pages", device.notebook.pages);
            self.report.mark("sdk_told_of_erasure", device.notebook.told_of_erasure);
        }
    }
}
