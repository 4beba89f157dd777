//! The schedule of a seed: what devices do, and the faults put among it.

use crate::device::Device;
use crate::gateway::Gateway;
use crate::world::{What, World};
use tidegate_ids::{ConversationId, DeviceId, MonotonicNs, ShardIndex, UserId};
use tidegate_shard::Event;

const MS: u64 = MonotonicNs::MILLISECOND;

/// After the last fault: longer than every back-off and retry of the SDK.
const QUIET_NS: u64 = 240_000 * MS;

impl World {
    /// One step of the workload, and perhaps a fault.
    pub(crate) fn act(&mut self) {
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
            self.agenda.after(QUIET_NS, What::Act);
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
            46..=60 => self.agenda.after(MS, What::Snapshot(self.gateway.run)),
            _ => {}
        }
    }

    /// A new process over the same disk, perhaps with another number of shards.
    pub(crate) fn restart(&mut self, crash: bool) {
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
        if self.faults.percent(15) && self.snapshots.lose_newest() {
            self.report.snapshots_lost += 1;
        }
        let (_, shards) = self.epochs.last().copied().unwrap_or((1, 1));
        let run = self.gateway.run + 1;
        let Self { disk, snapshots, sizes, seeds, epochs, .. } = self;
        match Gateway::boot(run, shards, epochs, disk, snapshots, sizes, seeds) {
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
}
