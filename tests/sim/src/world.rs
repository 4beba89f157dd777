//! The world of one seed: devices, network, gateway, disk, and the schedule that puts faults among them.

use crate::checker::Truth;
use crate::clock::{Agenda, Chance};
use crate::device::Device;
use crate::disk::Disk;
use crate::gateway::{Gateway, Sizes};
use crate::mesh::Port;
use crate::network::{Network, Wire};
use std::collections::BTreeSet;
use tidegate_client::Encoder;
use tidegate_ids::{BatchNumber, ConversationId, DeviceId, LogId, MonotonicNs, ShardIndex, UserId};
use tidegate_shard::{
    ConnectionId, Event, Output, ReadRequest, ReadToken, ReceiveMode, ShardLimits, TICK_MS, TransferKey,
};
use tidegate_storage_log::{PageEnd, ReadError, StagedBatch};
use xxhash_rust::xxh3::xxh3_64;

const MS: u64 = MonotonicNs::MILLISECOND;

/// A bug put in from outside, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Planted {
    /// The disk reports syncs that it did not do.
    NoSync,
}

/// What one seed does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Steps of the workload, about one in 100 ms of virtual time.
    pub ticks: u64,
    /// A bug, if one is wanted.
    pub planted: Option<Planted>,
    /// Whether tables are so small that everything goes cold.
    pub tiny_tables: bool,
}

/// What a seed did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The same for the same seed.
    pub trace: u64,
    /// Virtual time.
    pub virtual_ms: u64,
    /// Records in the logs in the end.
    pub records: u64,
    /// Power cuts, kills and clean stops.
    pub crashes: u64,
    /// Connections cut.
    pub cuts: u64,
    /// Starts with another number of shards.
    pub reshards: u64,
    /// The sums of all shards' counters, by label.
    pub marks: std::collections::BTreeMap<&'static str, u64>,
}

/// A seed that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What did not hold.
    pub what: String,
    /// What had been done by then.
    pub report: Report,
}

/// What can be due.
#[derive(Debug)]
enum What {
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
}

struct World {
    plan: Plan,
    agenda: Agenda<What>,
    network: Network,
    disk: Disk,
    gateway: Gateway,
    epochs: Vec<(u32, u16)>,
    sizes: Sizes,
    devices: Vec<Device>,
    late: BTreeSet<usize>,
    encoder: Encoder,
    schedule: Chance,
    faults: Chance,
    workload: Chance,
    seeds: Chance,
    report: Report,
    wrong: Option<String>,
    acts: u64,
    /// The last faults are over: only draining is left.
    quiet: bool,
    stopping: bool,
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

fn sizes_of(plan: &Plan, chance: &mut Chance) -> Sizes {
    let mut limits = ShardLimits {
        listed_members_max: chance.between(1, 6) as usize,
        connections_max: 256,
        hot_users_max: 256,
        hot_conversations_max: 256,
        locators_max: 100_000,
        window_entries_max: chance.between(16, 512) as usize,
        pending_max: chance.between(8, 512) as usize,
        parked_max: chance.between(4, 64) as usize,
        reads_in_flight_max: chance.between(1, 8) as usize,
        checkpoint_interval_ns: chance.between(500, 5000) * MS,
        shutdown_grace_ns: 200 * MS,
        mesh_frame_bytes_max: chance.between(6, 40) as usize * 1024,
        ..ShardLimits::default()
    };
    if plan.tiny_tables {
        limits.hot_users_max = 24;
        limits.hot_conversations_max = 3;
    }
    let ring_bytes = limits.mesh_frame_bytes_max * chance.between(2, 4) as usize;
    Sizes {
        limits,
        segment_bytes: 1024 * 1024,
        staging_bytes: 4 * 1024 * 1024,
        batch_bytes_max: 256 * 1024,
        ring_bytes,
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
        let gateway = Gateway::boot(1, shards, &epochs, &mut disk, &sizes, &mut seeds)?;
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
    fn start(&mut self) {
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
            What::Tick(of) if of == run => {
                for index in 0..self.gateway.shards.len() {
                    self.event(ShardIndex(index as u16), Event::Tick);
                }
                self.agenda.after(TICK_MS * MS, What::Tick(run));
            }
            What::Written(of, shard, batch) if of == run => {
                self.disk.write(&batch);
                self.disk.sync(batch.segment);
                let end = batch.offset + batch.bytes.len() as u32;
                self.gateway.note_written(shard, batch.segment, end);
                self.event(shard, Event::Written { batch: batch.number });
            }
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
            What::Closed(of, shard, connection) if of == run => self.closed(shard, connection),
            _ => {}
        }
    }

    /// Tells a shard something and lets it take its turn.
    fn event(&mut self, shard: ShardIndex, event: Event<'_>) {
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
                    self.agenda.after(delay, What::Written(run, shard, batch));
                }
                Output::Read { token, request } => self.read(shard, token, &request),
                Output::Recycle { .. } => {}
                Output::NeedSegment => {
                    let delay = self.schedule.between(1, 200) * MS;
                    self.agenda.after(delay, What::Segment(run, shard));
                }
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
        let (records, result) = self.gateway.read(&mut self.disk, request);
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
    fn hang_up(&mut self, wire: Wire, device: usize) {
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
    fn service(&mut self, index: usize) {
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

    /// One step of the workload, and perhaps a fault.
    fn act(&mut self) {
        if self.quiet {
            return;
        }
        self.acts += 1;
        if self.acts > self.plan.ticks {
            self.quiet = true;
            for device in 0..self.devices.len() {
                self.devices[device].online = true;
                self.service(device);
            }
            // Longer than every back-off and retry of the SDK.
            self.agenda.after(240_000 * MS, What::Act);
            return;
        }
        self.work();
        self.fault();
        let delay = self.workload.between(20, 180) * MS;
        self.agenda.after(delay, What::Act);
    }

    fn groups(&self) -> Vec<(usize, ConversationId)> {
        let of = |(place, device): (usize, &Device)| {
            device.notebook.groups.iter().map(|group| (place, *group)).collect::<Vec<_>>()
        };
        self.devices.iter().enumerate().flat_map(of).collect()
    }

    fn work(&mut self) {
        let index = self.workload.below(self.devices.len() as u64) as usize;
        let users = self.devices.last().map_or(1, |device| device.user.0);
        let other = UserId(self.workload.between(1, users));
        let groups = self.groups();
        match self.workload.below(20) {
            0 if groups.len() < 6 => {
                let count = self.workload.between(1, 9);
                let members: Vec<UserId> =
                    (0..count).map(|_| UserId(self.workload.between(1, users))).collect();
                self.devices[index].machine.create_group(b"group", &members).ok();
            }
            1 if !groups.is_empty() => {
                let (owner, group) = groups[self.workload.below(groups.len() as u64) as usize];
                let machine = &mut self.devices[owner].machine;
                let _ = if self.workload.percent(50) {
                    machine.members_add(group, 0, &[other])
                } else {
                    machine.members_remove(group, 0, &[other])
                };
                self.service(owner);
            }
            2 if !groups.is_empty() && self.workload.percent(20) => {
                let (_, group) = groups[self.workload.below(groups.len() as u64) as usize];
                self.devices[index].machine.leave(group).ok();
            }
            3..=12 if !groups.is_empty() => {
                let (_, group) = groups[self.workload.below(groups.len() as u64) as usize];
                // Now and then more than windows and rings hold.
                let most = if self.workload.percent(4) { 150 } else { 6 };
                for _ in 0..self.workload.between(1, most) {
                    self.devices[index].send(group, &mut self.encoder);
                }
            }
            _ => {
                let conversation = ConversationId::direct(self.devices[index].user, other);
                for _ in 0..self.workload.between(1, 3) {
                    self.devices[index].send(conversation, &mut self.encoder);
                }
            }
        }
        self.service(index);
    }

    fn fault(&mut self) {
        let index = self.faults.below(self.devices.len() as u64) as usize;
        match self.faults.below(400) {
            0..=20 => {
                // Gone for a while, the gateway learns it or not.
                if let Some(wire) = self.devices[index].wire {
                    self.report.cuts += 1;
                    self.devices[index].online = false;
                    self.hang_up(wire, index);
                    let away = self.faults.between(100, 20_000) * MS;
                    self.agenda.after(away, What::Back(index));
                }
            }
            21..=40 => {
                // A slow reader.
                if let Some(line) =
                    self.devices[index].wire.and_then(|wire| self.network.lines.get_mut(&wire))
                {
                    line.slow_until = self.agenda.now().monotonic.0 + self.faults.between(100, 15_000) * MS;
                }
            }
            41..=42 => {
                self.disk.crash();
                self.restart(true);
            }
            43 => {
                self.disk.settle();
                self.restart(true);
            }
            44 if !self.stopping && self.gateway.is_ready() => {
                self.stopping = true;
                for shard in 0..self.gateway.shards.len() {
                    self.event(ShardIndex(shard as u16), Event::Shutdown);
                }
            }
            45 => {
                let user = self.devices[index].user;
                let of_user = self.devices.iter().filter(|device| device.user == user).count();
                if of_user < 6 {
                    let id = DeviceId(1000 + self.devices.len() as u64);
                    let seed = self.seeds.bits();
                    self.late.insert(self.devices.len());
                    self.devices.push(Device::new(user, id, seed));
                    self.service(self.devices.len() - 1);
                }
            }
            _ => {}
        }
    }

    /// A new process over the same disk, perhaps with another number of shards.
    fn restart(&mut self, crash: bool) {
        self.report.crashes += 1;
        self.stopping = false;
        self.sum_marks();
        let cut = self.network.cut_all();
        if self.faults.percent(50) {
            let shards = self.faults.between(1, 5) as u16;
            let (epoch, before) = self.epochs.last().copied().unwrap_or((0, 0));
            if shards != before {
                self.report.reshards += 1;
                self.epochs.push((epoch + 1, shards));
            }
        }
        let (_, shards) = self.epochs.last().copied().unwrap_or((1, 1));
        let run = self.gateway.run + 1;
        let Self { disk, sizes, seeds, epochs, .. } = self;
        match Gateway::boot(run, shards, epochs, disk, sizes, seeds) {
            Ok(gateway) => self.gateway = gateway,
            Err(wrong) => {
                self.wrong
                    .get_or_insert(format!("after a {}: {wrong}", if crash { "crash" } else { "stop" }));
                return;
            }
        }
        self.start();
        for (wire, device) in cut {
            self.agenda.after(self.schedule.between(1, 50) * MS, What::DownEnd(wire, device));
        }
    }

    fn sum_marks(&mut self) {
        for shard in &mut self.gateway.shards {
            let stats = shard.stats();
            for counter in tidegate_shard::Counter::ALL {
                *self.report.marks.entry(counter.label()).or_default() += stats.get(*counter);
            }
        }
    }
}

/// A number for the trace.
fn kind_of(what: &What) -> u64 {
    let (kind, of): (u64, u64) = match what {
        What::Turn(_, shard) => (1, shard.0.into()),
        What::Tick(_) => (2, 0),
        What::Written(_, shard, batch) => (3, BatchNumber::get(batch.number) << 8 | u64::from(shard.0)),
        What::Segment(_, shard) => (4, shard.0.into()),
        What::ReadDone(_, shard, token, ..) => (5, token.0 << 8 | u64::from(shard.0)),
        What::SendDone(_, shard, connection, buffer) => {
            (6, xxh3_64(buffer) ^ (u64::from(connection.0) << 8 | u64::from(shard.0)))
        }
        What::HandedOver(.., key) => (7, key.0),
        What::Adopted(.., key) => (8, key.0),
        What::Closed(_, shard, connection) => (9, u64::from(connection.0) << 8 | u64::from(shard.0)),
        What::Up(_, bytes) => (10, xxh3_64(bytes)),
        What::UpEnd(wire) => (11, wire.0),
        What::Receive(_, wire) => (12, wire.0),
        What::Down(_, device, bytes) => (13, xxh3_64(bytes) ^ *device as u64),
        What::DownEnd(_, device) => (14, *device as u64),
        What::Open(device) => (15, *device as u64),
        What::Device(device, _) => (16, *device as u64),
        What::Act => (17, 0),
        What::Back(device) => (18, *device as u64),
    };
    kind ^ of.rotate_left(8)
}
