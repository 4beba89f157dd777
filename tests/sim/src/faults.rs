//! What goes wrong, and when.

use crate::device::Device;
use crate::gateway::Gateway;
use crate::network::Peer;
use crate::plan::Fault;
use crate::world::{MS, What, World};
use tidegate_ids::{DeviceId, ShardIndex, StreamId};
use tidegate_shard::Event;
use tidegate_storage_log::descriptor::RECORD_HEADER_BYTES;

/// How often each fault is put among a thousand steps of the workload.
const OF_A_THOUSAND: [(Fault, u64); 13] = [
    (Fault::Cut, 50),
    (Fault::SlowReader, 40),
    (Fault::Snapshot, 30),
    (Fault::HalfOpen, 12),
    (Fault::PowerCut, 3),
    (Fault::Kill, 2),
    (Fault::Stop, 3),
    (Fault::FullDisk, 3),
    (Fault::BitRot, 5),
    (Fault::ClockJump, 5),
    (Fault::LateDevice, 3),
    (Fault::SnapshotLoss, 1),
    (Fault::Erasure, 8),
];

/// Devices of one user: fewer than the gateway allows, so that none is evicted.
const DEVICES_PER_USER: usize = 6;

/// How far the wall clock is set forward or back: an hour.
const CLOCK_JUMP_MS: u64 = 3_600_000;

/// A power cut after each quarter of the workload, whatever else happens.
const QUARTERS: u64 = 4;

impl World {
    /// Perhaps a fault.
    pub(crate) fn fault(&mut self) {
        let quarter = (self.plan.ticks / QUARTERS).max(1);
        if self.report.acts.is_multiple_of(quarter) && self.plan.has(Fault::PowerCut) {
            return self.strike(Fault::PowerCut);
        }
        let mut drawn = self.faults.below(1000);
        for (fault, share) in OF_A_THOUSAND {
            if drawn < share {
                // Who leaves a fault out sees the others at the same steps.
                if self.plan.has(fault) {
                    self.strike(fault);
                }
                return;
            }
            drawn -= share;
        }
    }

    fn strike(&mut self, fault: Fault) {
        let index = self.faults.below(self.devices.len() as u64) as usize;
        self.narrate(|world| format!("fault {}, device {}", fault.name(), world.devices[index].id));
        match fault {
            Fault::Cut => self.cut(index),
            Fault::SlowReader => self.slow_down(index),
            Fault::HalfOpen => self.deafen(index),
            Fault::Snapshot => self.agenda.after(MS, What::Snapshot(self.gateway.run)),
            Fault::PowerCut => {
                self.report.fault(fault);
                self.disk.crash();
                self.restart(true);
            }
            Fault::Kill => {
                self.report.fault(fault);
                self.disk.settle();
                self.restart(true);
            }
            Fault::Stop => self.stop(),
            Fault::FullDisk => self.fill_disk(),
            Fault::BitRot => self.rot(),
            Fault::ClockJump => {
                self.report.fault(fault);
                let by = self.faults.between(0, 2 * CLOCK_JUMP_MS) as i64 - CLOCK_JUMP_MS as i64;
                self.agenda.jump_wall(by);
            }
            Fault::LateDevice => self.add_device(index),
            Fault::SnapshotLoss => {
                if self.snapshots.lose_newest() {
                    self.report.fault(fault);
                    self.disk.settle();
                    self.restart(true);
                }
            }
            Fault::Erasure => self.erase(),
            // These are drawn where they happen.
            Fault::Reshard | Fault::FailedWrite | Fault::SlowSync | Fault::Rogue => {}
        }
    }

    /// Gone for a while, the gateway learns it soon, late or never.
    fn cut(&mut self, index: usize) {
        let Some(wire) = self.devices[index].wire else { return };
        self.report.fault(Fault::Cut);
        self.devices[index].online = false;
        if self.faults.percent(10)
            && let Some(line) = self.network.lines.get_mut(&wire)
        {
            (line.deaf_up, line.deaf_down) = (true, true);
        }
        self.hang_up(wire, Peer::Device(index));
        let away = self.faults.between(100, 20_000) * MS;
        self.agenda.after(away, What::Back(index));
    }

    fn slow_down(&mut self, index: usize) {
        let until = self.agenda.now().monotonic.0 + self.faults.between(100, 15_000) * MS;
        let line = self.devices[index].wire.and_then(|wire| self.network.lines.get_mut(&wire));
        if let Some(line) = line {
            line.slow_until = until;
            self.report.fault(Fault::SlowReader);
        }
    }

    /// A connection that carries nothing any more in a direction, and does not say so.
    fn deafen(&mut self, index: usize) {
        let both = self.faults.below(3);
        let line = self.devices[index].wire.and_then(|wire| self.network.lines.get_mut(&wire));
        if let Some(line) = line {
            line.deaf_up |= both != 0;
            line.deaf_down |= both != 1;
            self.report.fault(Fault::HalfOpen);
        }
    }

    fn stop(&mut self) {
        if self.stopping || !self.gateway.is_ready() {
            return;
        }
        self.report.fault(Fault::Stop);
        self.stopping = true;
        let run = self.gateway.run;
        for shard in 0..self.gateway.shards.len() {
            if self.gateway.run == run {
                self.event(ShardIndex(shard as u16), Event::Shutdown);
            }
        }
    }

    fn fill_disk(&mut self) {
        self.report.fault(Fault::FullDisk);
        let lasts = self.faults.between(500, 15_000) * MS;
        self.full_until = self.agenda.now().monotonic.0 + lasts;
        let run = self.gateway.run;
        if self.faults.percent(60) {
            self.tell_space(true);
        }
        self.agenda.after(lasts, What::Room(run));
    }

    /// The disk has room again.
    pub(crate) fn have_room(&mut self) {
        self.tell_space(false);
    }

    fn tell_space(&mut self, low: bool) {
        let run = self.gateway.run;
        for shard in 0..self.gateway.shards.len() {
            if self.gateway.run == run {
                self.event(ShardIndex(shard as u16), Event::Space { low });
            }
        }
    }

    /// A bit rots in the body of a message, in a segment to whose end the log bears witness: elsewhere nobody could tell
    /// damage from a tail that was never acknowledged.
    fn rot(&mut self) {
        let closed = self.gateway.closed_segments();
        let (pick, byte) = (self.faults.bits(), self.faults.bits());
        let Some((location, body_bytes)) = self.ledger.rot(pick, &closed) else { return };
        self.report.fault(Fault::BitRot);
        let offset = location.offset + RECORD_HEADER_BYTES as u32 + (byte % u64::from(body_bytes)) as u32;
        self.disk.rot(location.segment, offset, (byte >> 60) as u8 & 7);
    }

    /// Some records of a conversation are to be erased: the shards are told one by one, as by the thread that notices.
    fn erase(&mut self) {
        let (pick, count) = (self.faults.bits(), self.faults.between(1, 20));
        let now = self.agenda.now().monotonic;
        let Some((id, range)) = self.ledger.erase(pick, count, now) else { return };
        self.report.fault(Fault::Erasure);
        self.erased.insert(StreamId::conversation(id), range);
        for index in 0..self.gateway.shards.len() {
            let delay = self.faults.between(1, 2000) * MS;
            self.agenda.after(delay, What::Erased(self.gateway.run, ShardIndex(index as u16)));
        }
    }

    fn add_device(&mut self, index: usize) {
        let user = self.devices[index].user;
        let of_user = self.devices.iter().filter(|device| device.user == user).count();
        if of_user < DEVICES_PER_USER {
            self.report.fault(Fault::LateDevice);
            let id = DeviceId(1000 + self.devices.len() as u64);
            let mut device = Device::new(user, id, self.seeds.bits(), true);
            device.narrates = self.plan.narrated;
            self.devices.push(device);
            self.service(self.devices.len() - 1);
        }
    }

    /// An operator gives up on a gateway with a shard that is read-only.
    pub(crate) fn give_up(&mut self) {
        if self.faults.percent(50) {
            self.disk.crash();
        }
        self.restart(true);
    }

    /// A new process over the same disk, perhaps with another number of shards.
    pub(crate) fn restart(&mut self, crash: bool) {
        self.report.restarts += 1;
        self.stopping = false;
        self.full_until = 0;
        self.sum_marks();
        let cut = self.network.cut_all();
        if self.faults.percent(50) && self.plan.has(Fault::Reshard) {
            let shards = self.faults.between(1, 5) as u16;
            let (epoch, before) = self.epochs.last().copied().unwrap_or((0, 0));
            if shards != before {
                self.report.fault(Fault::Reshard);
                self.epochs.push((epoch + 1, shards));
            }
        }
        let loses = self.faults.percent(15) && self.plan.has(Fault::SnapshotLoss);
        if loses && self.snapshots.lose_newest() {
            self.report.fault(Fault::SnapshotLoss);
        }
        let (_, shards) = self.epochs.last().copied().unwrap_or((1, 1));
        self.narrate(|_| format!("start with {shards} shards"));
        let run = self.gateway.run + 1;
        let Self { disk, snapshots, sizes, seeds, epochs, .. } = self;
        let booted = Gateway::boot(run, shards, epochs, disk, snapshots, sizes, seeds);
        let after = if crash { "crash" } else { "stop" };
        match booted {
            Ok(gateway) => {
                self.gateway = gateway;
                self.gateway.shards.iter_mut().for_each(|shard| shard.erase(self.erased.clone()));
            }
            Err(wrong) => return self.blame(format!("after a {after}: {wrong}")),
        }
        if let Err(wrong) = self.look_through_disk() {
            return self.blame(format!("after a {after}: {wrong}"));
        }
        self.start();
        for (wire, peer) in cut {
            self.agenda.after(self.schedule.between(1, 50) * MS, What::DownEnd(wire, peer));
        }
    }
}
