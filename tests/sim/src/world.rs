//! The world of one seed: devices, network, gateway and disk, moved on by what is due next.

use crate::checker::Truth;
use crate::clock::{Agenda, Chance};
use crate::device::Device;
use crate::disk::Disk;
use crate::gateway::{Gateway, Sizes};
use crate::mesh::Port;
use crate::network::{Network, Wire};
use crate::plan::{Failure, Plan, Planted, Report, sizes_of};
use crate::snapshots::Snapshots;
use crate::trace::kind_of;
use std::collections::BTreeSet;
use tidegate_client::Encoder;
use tidegate_ids::{DeviceId, LogId, MonotonicNs, ShardIndex, UserId};
use tidegate_shard::{
    ConnectionId, Event, Output, ReadRequest, ReadToken, ReceiveMode, TICK_MS, TransferKey,
};
use tidegate_storage_log::{PageEnd, ReadError, StagedBatch};
use xxhash_rust::xxh3::xxh3_64;

const MS: u64 = MonotonicNs::MILLISECOND;

/// Of so many writes one fails: about once in the life of a seed of 250 steps.
const WRITES_PER_FAILURE: u64 = 1000;

/// What can be due.
#[derive(Debug)]
pub(crate) enum What {
    Turn(u64, ShardIndex),
    Tick(u64),
    Written(u64, ShardIndex, StagedBatch),
    Segment(u64, ShardIndex),
    ReadDone(u64, ShardIndex, ReadToken, Vec<u8>, Result<PageEnd, ReadError>),
    SendDone(u64, ShardIndex, ConnectionId, Vec<u8>),
    HandedOver(u64, ShardIndex, ConnectionId, Wire, ShardIndex, TransferKey),
    Adopted(u64, ShardIndex, Wire, TransferKey),
    Closed(u64, ShardIndex, ConnectionId),
    Up(Wire, Vec<u8>),
    UpEnd(Wire),
    Receive(u64, Wire),
    Down(Wire, usize, Vec<u8>),
    DownEnd(Wire, usize),
    Open(usize),
    Device(usize, u64),
    Act,
    Back(usize),
    /// A snapshot is made, if there is anything to fold.
    Snapshot(u64),
    /// A shard learns of it.
    SnapshotMade(u64, ShardIndex, u32),
    WriteFailed(u64, ShardIndex, StagedBatch),
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
    pub(crate) late: BTreeSet<usize>,
    pub(crate) encoder: Encoder,
    pub(crate) schedule: Chance,
    pub(crate) faults: Chance,
    pub(crate) workload: Chance,
    pub(crate) seeds: Chance,
    pub(crate) report: Report,
    pub(crate) wrong: Option<String>,
    pub(crate) acts: u64,
    /// The last faults are over: only draining is left.
    pub(crate) quiet: bool,
    pub(crate) stopping: bool,
}

/// Runs one seed.
///
/// # Errors
/// The first thing that did not hold.
pub fn run(plan: &Plan) -> Result<Report, Failure> {
    let mut world = match World::new(plan.clone()) {
        Ok(world) => world,
        Err(what) => return Err(Failure { what, report: Report::default() }),
    };
    let done = world.run();
    world.sum_marks();
    world.report.virtual_ms = world.agenda.now().monotonic.0 / MS;
    match done {
        Ok(()) => Ok(world.report),
        Err(what) => Err(Failure { what, report: world.report }),
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
        let shards = schedule.between(1, 5) as u16;
        let epochs = vec![(1, shards)];
        let mut snapshots = Snapshots::default();
        let gateway = Gateway::boot(1, shards, &epochs, &mut disk, &mut snapshots, &sizes, &mut seeds)?;
        let mut devices = Vec::new();
        for user in 1..=12_u64 {
            for _ in 0..1 + schedule.below(2) {
                let id = DeviceId(1000 + devices.len() as u64);
                devices.push(Device::new(UserId(user), id, seeds.bits()));
            }
        }
        let mut world = Self {
            agenda: Agenda::new(),
            network: Network::default(),
            disk,
            snapshots,
            gateway,
            epochs,
            sizes,
            devices,
            late: BTreeSet::new(),
            encoder: Encoder::new(),
            schedule,
            faults: Chance::new(seed, 4),
            workload: Chance::new(seed, 5),
            seeds,
            report: Report::default(),
            wrong: None,
            acts: 0,
            quiet: false,
            stopping: false,
            plan,
        };
        world.start();
        (0..world.devices.len()).for_each(|device| world.service(device));
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

    fn run(&mut self) -> Result<(), String> {
        let mut steps: u64 = 0;
        while let Some(what) = self.agenda.next() {
            steps += 1;
            if steps > 40_000_000 {
                return Err("livelock: forty million steps".to_owned());
            }
            let now = self.agenda.now().monotonic.0;
            self.report.trace =
                xxh3_64(&[self.report.trace, now, kind_of(&what)].map(u64::to_le_bytes).concat());
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
        if let Some(device) = self.devices.iter().find(|device| !device.machine.is_ready()) {
            let state = device.machine.connection();
            return Err(format!("liveness: device {} is not connected: {state:?}", device.id));
        }
        let mut truth = Truth::default();
        for (epoch, count) in self.epochs.clone() {
            for shard in (0..count).map(ShardIndex) {
                let segments = self.disk.segments_of(LogId { epoch, shard });
                let found = tidegate_storage_log::recover(&mut self.disk, &segments, None, |record| {
                    truth.record(&record);
                });
                found.map_err(|error| format!("{error:?}"))?;
            }
        }
        self.report.records = truth.messages();
        truth.check(&self.devices, &self.late)
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
                self.devices[device].tick(now);
                self.service(device);
            }
            What::Open(device) => self.open(device),
            What::Up(wire, bytes) => {
                if let Some(line) = self.network.lines.get_mut(&wire) {
                    line.up.extend(bytes);
                    self.receive(wire);
                }
            }
            What::UpEnd(wire) => self.receive(wire),
            What::Receive(of, wire) if of == run => self.receive(wire),
            What::Down(wire, device, mut bytes) if self.devices[device].wire == Some(wire) => {
                let now = self.agenda.now();
                self.devices[device].received(&mut bytes, now);
                self.service(device);
            }
            What::DownEnd(wire, device) => self.hang_up(wire, device),
            What::Turn(of, shard) if of == run => {
                self.gateway.turn_due[usize::from(shard.0)] = false;
                self.turn(shard);
            }
            What::Tick(of) if of == run => self.tick(),
            What::Written(of, shard, batch) if of == run => self.written(shard, &batch),
            What::WriteFailed(of, shard, batch) if of == run => self.write_failed(shard, &batch),
            What::GiveUp(of) if of == run => self.give_up(),
            What::Segment(of, shard) if of == run => {
                let number = self.disk.make_segment(self.gateway.log_of(shard));
                self.event(shard, Event::Segment { number });
            }
            What::ReadDone(of, shard, token, records, result) if of == run => {
                self.event(shard, Event::ReadDone { token, records, result });
            }
            What::SendDone(of, shard, connection, buffer) if of == run => {
                self.event(shard, Event::SendDone { connection, buffer, sent: true });
            }
            What::HandedOver(of, shard, connection, wire, to, key) if of == run => {
                self.network.release(shard, connection);
                self.event(shard, Event::HandedOver { connection, sent: true });
                let delay = self.schedule.between(1, 2000) * 1000;
                self.agenda.after(delay, What::Adopted(run, to, wire, key));
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
        }
        self.agenda.after(TICK_MS * MS, What::Tick(self.gateway.run));
    }

    fn written(&mut self, shard: ShardIndex, batch: &StagedBatch) {
        self.disk.write(batch);
        self.disk.sync(batch.segment);
        let end = batch.offset + batch.bytes.len() as u32;
        self.gateway.note_written(shard, batch.segment, end);
        if batch.seals {
            self.gateway.note_sealed(shard, batch.number);
        }
        self.event(shard, Event::Written { batch: batch.number });
    }

    /// Folds what every shard has consumed; the shards learn of it one by one.
    fn snapshot(&mut self) {
        let bytes_max = self.schedule.between(1, 4) * u64::from(self.sizes.segment_bytes);
        let Some(plan) = self.gateway.planner.plan(bytes_max) else { return };
        if let Err(wrong) = self.snapshots.make(&mut self.disk, &plan) {
            self.wrong.get_or_insert(format!("a snapshot: {wrong}"));
            return;
        }
        self.report.snapshots += 1;
        self.gateway.planner.made(&plan.covered);
        for index in 0..self.gateway.shards.len() {
            let shard = ShardIndex(index as u16);
            let through = self.gateway.planner.through(shard);
            let delay = self.schedule.between(1, 500) * MS;
            self.agenda.after(delay, What::SnapshotMade(self.gateway.run, shard, through));
        }
    }

    /// A batch arrived on the disk, or half of it, or nothing, and is reported as failed.
    fn write_failed(&mut self, shard: ShardIndex, batch: &StagedBatch) {
        self.report.failed_writes += 1;
        self.disk.write_part(batch, batch.bytes.len() * self.faults.below(3) as usize / 2);
        self.event(shard, Event::WriteFailed { batch: batch.number });
        let delay = self.faults.between(1, 20_000) * MS;
        self.agenda.after(delay, What::GiveUp(self.gateway.run));
    }

    fn give_up(&mut self) {
        if self.faults.percent(50) {
            self.disk.crash();
        }
        self.restart(true);
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

    /// Does what a shard asks for.
    fn drain(&mut self, shard: ShardIndex) {
        let run = self.gateway.run;
        while let Some(output) = self.gateway.shards[usize::from(shard.0)].poll_output() {
            match output {
                Output::Receive { connection, mode } => {
                    if let Some(wire) = self.network.wire(shard, connection) {
                        if let Some(line) = self.network.lines.get_mut(&wire) {
                            line.armed = (mode != ReceiveMode::Pause).then_some(mode);
                        }
                        self.agenda.after(1000, What::Receive(run, wire));
                    }
                }
                Output::Send { connection, buffer } => self.send_down(shard, connection, buffer),
                Output::Close { connection } => {
                    let delay = self.schedule.between(1, 3000) * 1000;
                    self.agenda.after(delay, What::Closed(run, shard, connection));
                }
                Output::HandOver { connection, to, key } => {
                    if let Some(wire) = self.network.wire(shard, connection) {
                        let delay = self.schedule.between(1, 2000) * 1000;
                        self.agenda.after(delay, What::HandedOver(run, shard, connection, wire, to, key));
                    }
                }
                Output::Append { batch } => {
                    let delay = self.schedule.between(100, 8000) * 1000;
                    let fails = !self.quiet && self.faults.below(WRITES_PER_FAILURE) == 0;
                    let done = if fails { What::WriteFailed } else { What::Written };
                    self.agenda.after(delay, done(run, shard, batch));
                }
                Output::Read { token, request } => self.read(shard, token, &request),
                Output::Recycle { .. } => {}
                Output::NeedSegment => {
                    let delay = self.schedule.between(1, 200) * MS;
                    self.agenda.after(delay, What::Segment(run, shard));
                }
                Output::Checkpointed { fed } => self.gateway.planner.checkpointed(shard, &fed),
                Output::WantSnapshot => self.agenda.after(MS, What::Snapshot(run)),
                Output::Ready => self.gateway.ready[usize::from(shard.0)] = true,
                Output::Stopped => self.gateway.stopped[usize::from(shard.0)] = true,
            }
        }
        if self.stopping && self.gateway.is_stopped() {
            self.stopping = false;
            self.restart(false);
        }
    }

    fn read(&mut self, shard: ShardIndex, token: ReadToken, request: &ReadRequest) {
        let (records, result) = self.gateway.read(&mut self.disk, &self.snapshots, request);
        let delay = self.schedule.between(50, 5000) * 1000;
        self.agenda.after(delay, What::ReadDone(self.gateway.run, shard, token, records, result));
    }

    fn send_down(&mut self, shard: ShardIndex, connection: ConnectionId, buffer: Vec<u8>) {
        let run = self.gateway.run;
        let now = self.agenda.now().monotonic.0;
        let mut delay = self.schedule.between(50, 20_000) * 1000;
        if let Some(wire) = self.network.wire(shard, connection)
            && let Some(line) = self.network.lines.get_mut(&wire)
        {
            let arrives = (now + delay).max(line.down_at + 1).max(line.slow_until);
            line.down_at = arrives;
            delay = arrives - now;
            let device = line.device;
            self.agenda.after(delay, What::Down(wire, device, buffer.clone()));
        }
        self.agenda.after(delay, What::SendDone(run, shard, connection, buffer));
    }

    /// Gives a shard what has arrived, if it has armed a receive.
    fn receive(&mut self, wire: Wire) {
        let Some(line) = self.network.lines.get_mut(&wire) else { return };
        let (Some((shard, connection)), Some(mode)) = (line.place, line.armed) else { return };
        if line.up.is_empty() {
            if line.device_gone && !line.end_told && line.up_at <= self.agenda.now().monotonic.0 {
                line.end_told = true;
                self.event(shard, Event::Ended { connection });
            }
            return;
        }
        let most = self.schedule.between(1, 4096) as usize;
        let count = most.min(line.up.len());
        let mut bytes: Vec<u8> = line.up.drain(..count).collect();
        if mode == ReceiveMode::Once {
            line.armed = None;
        }
        self.event(shard, Event::Bytes { connection, bytes: &mut bytes });
        self.agenda.after(1000, What::Receive(self.gateway.run, wire));
    }

    fn closed(&mut self, shard: ShardIndex, connection: ConnectionId) {
        if let Some(wire) = self.network.release(shard, connection) {
            let now = self.agenda.now().monotonic.0;
            if let Some(line) = self.network.lines.get_mut(&wire) {
                line.gateway_gone = true;
                let (device, delay) = (line.device, line.down_at.saturating_sub(now) + 1000);
                self.agenda.after(delay, What::DownEnd(wire, device));
            }
            self.network.forget_if_over(wire);
        }
        self.event(shard, Event::Closed { connection });
    }

    /// The device learns that its connection is over, or ends it.
    pub(crate) fn hang_up(&mut self, wire: Wire, device: usize) {
        if self.devices[device].wire != Some(wire) {
            return;
        }
        self.devices[device].wire = None;
        let now = self.agenda.now();
        if let Some(line) = self.network.lines.get_mut(&wire) {
            line.device_gone = true;
            let delay = line.up_at.saturating_sub(now.monotonic.0) + 1000;
            self.agenda.after(delay, What::UpEnd(wire));
        }
        self.network.forget_if_over(wire);
        self.devices[device].disconnected(now);
        self.service(device);
    }

    fn open(&mut self, device: usize) {
        let now = self.agenda.now();
        if !self.gateway.is_ready() || self.stopping || !self.devices[device].online {
            self.devices[device].disconnected(now);
            return self.service(device);
        }
        let shard = ShardIndex(self.schedule.below(self.gateway.shards.len() as u64) as u16);
        let (wire, connection) = self.network.open(device, shard);
        self.devices[device].wire = Some(wire);
        self.event(shard, Event::Accepted { connection });
        self.devices[device].connected(now);
        self.service(device);
    }

    /// Lets a device write, connect, and sleep until its next deadline.
    pub(crate) fn service(&mut self, index: usize) {
        let now = self.agenda.now();
        let device = &mut self.devices[index];
        if device.online && device.machine.poll_connect(now.monotonic).is_some() {
            let delay = self.schedule.between(1, 30) * MS;
            self.agenda.after(delay, What::Open(index));
        }
        let mut out = Vec::new();
        device.machine.transmit(&mut self.encoder, &mut out, now.monotonic);
        let wire = device.wire;
        if let (Some(wire), false) = (wire, out.is_empty())
            && let Some(line) = self.network.lines.get_mut(&wire)
        {
            let delay = self.schedule.between(50, 30_000) * 1000;
            let arrives = (now.monotonic.0 + delay).max(line.up_at + 1);
            line.up_at = arrives;
            self.agenda.after(arrives - now.monotonic.0, What::Up(wire, out));
        }
        let device = &mut self.devices[index];
        if let (true, Some(wire)) = (device.machine.wants_close(), wire) {
            return self.hang_up(wire, index);
        }
        if !device.online && device.wire.is_none() {
            return;
        }
        let wake = device.machine.next_timeout().map(|at| at.0.max(now.monotonic.0 + 1000));
        if let Some(at) = wake.filter(|at| device.wake_at == 0 || *at < device.wake_at) {
            device.wake_at = at;
            self.agenda.after(at - now.monotonic.0, What::Device(index, at));
        }
    }

    pub(crate) fn sum_marks(&mut self) {
        for shard in &mut self.gateway.shards {
            let stats = shard.stats();
            for counter in tidegate_shard::Counter::ALL {
                *self.report.marks.entry(counter.label()).or_default() += stats.get(*counter);
            }
        }
    }
}
