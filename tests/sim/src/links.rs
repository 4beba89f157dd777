//! What happens on connections: they open, bytes arrive in pieces, and either side goes away.

use crate::ledger::CommitOrder;
use crate::network::{Peer, Wire};
use crate::world::{MS, What, World};
use tidegate_ids::{ConversationId, MonotonicNs, ShardIndex, UserId};
use tidegate_shard::{Event, ReceiveMode};

impl World {
    /// A peer opens a connection, which some shard accepts.
    pub(crate) fn open(&mut self, peer: Peer) {
        let now = self.agenda.now();
        let wants = match peer {
            Peer::Device(device) => self.devices[device].online,
            Peer::Rogue(rogue) => self.rogues[rogue].wire.is_none() && !self.quiet,
        };
        if !self.gateway.is_ready() || self.stopping || !wants {
            if let Peer::Device(device) = peer {
                self.devices[device].disconnected(now, &self.ledger);
                self.service(device);
            }
            return;
        }
        let shard = ShardIndex(self.schedule.below(self.gateway.shards.len() as u64) as u16);
        let (wire, connection) = self.network.open(peer, shard);
        self.event(shard, Event::Accepted { connection });
        match peer {
            Peer::Device(device) => {
                self.devices[device].wire = Some(wire);
                self.devices[device].connected(now, &self.ledger);
                self.service(device);
            }
            Peer::Rogue(rogue) => {
                self.rogues[rogue].opened(wire, &mut self.mischief);
                self.send_up(wire, rogue);
            }
        }
    }

    /// Bytes arrive at the gateway's machine.
    pub(crate) fn arrive_up(&mut self, wire: Wire, bytes: Vec<u8>) {
        let Some(line) = self.network.lines.get_mut(&wire) else { return };
        if !line.deaf_up {
            line.up.extend(bytes);
            self.receive(wire);
        }
    }

    /// Bytes arrive at a peer.
    pub(crate) fn arrive_down(&mut self, wire: Wire, peer: Peer, mut bytes: Vec<u8>, left: CommitOrder) {
        if self.network.lines.get(&wire).is_some_and(|line| line.deaf_down) {
            return;
        }
        let now = self.agenda.now();
        match peer {
            Peer::Device(device) if self.devices[device].wire == Some(wire) => {
                self.devices[device].received(&mut bytes, left, now, &self.ledger);
                self.service(device);
            }
            Peer::Rogue(rogue) if self.rogues[rogue].wire == Some(wire) => {
                let Self { rogues, ledger, mischief, .. } = self;
                rogues[rogue].hear(&bytes, left, ledger, mischief);
                if let Some(wrong) = self.rogues[rogue].wrong.take() {
                    self.blame(wrong);
                }
                self.send_up(wire, rogue);
                if self.rogues[rogue].dismissed {
                    self.hang_up(wire, peer);
                }
            }
            _ => {}
        }
    }

    /// Gives a shard what has arrived, if it has armed a receive.
    pub(crate) fn receive(&mut self, wire: Wire) {
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

    /// A peer learns that its connection is over, or ends it.
    pub(crate) fn hang_up(&mut self, wire: Wire, peer: Peer) {
        let held = match peer {
            Peer::Device(device) => &mut self.devices[device].wire,
            Peer::Rogue(rogue) => &mut self.rogues[rogue].wire,
        };
        if *held != Some(wire) {
            return;
        }
        *held = None;
        let now = self.agenda.now();
        if let Some(line) = self.network.lines.get_mut(&wire) {
            line.device_gone = true;
            // Nobody at the other end hears of it: only silence tells.
            line.end_told |= line.deaf_up;
            let delay = line.up_at.saturating_sub(now.monotonic.0) + 1000;
            self.agenda.after(delay, What::UpEnd(wire));
        }
        self.network.forget_if_over(wire);
        match peer {
            Peer::Device(device) => {
                self.devices[device].disconnected(now, &self.ledger);
                self.service(device);
            }
            Peer::Rogue(rogue) => self.rogues[rogue].closed(),
        }
    }

    /// Lets a device write, connect, and sleep until its next deadline.
    pub(crate) fn service(&mut self, index: usize) {
        let now = self.agenda.now();
        let device = &mut self.devices[index];
        if let Some(wrong) = device.notebook.wrong.take() {
            let wrong = format!("device {}: {wrong}", device.id);
            return self.blame(wrong);
        }
        if device.online && device.machine.poll_connect(now.monotonic).is_some() {
            let delay = self.schedule.between(1, 30) * MS;
            self.agenda.after(delay, What::Open(Peer::Device(index)));
        }
        let mut out = Vec::new();
        device.machine.transmit(&mut self.encoder, &mut out, now.monotonic);
        let wire = device.wire;
        let wants_close = device.machine.wants_close();
        if let Some(wire) = wire {
            self.travel_up(wire, out);
            if wants_close {
                return self.hang_up(wire, Peer::Device(index));
            }
        }
        let device = &mut self.devices[index];
        if !device.online && device.wire.is_none() {
            return;
        }
        let wake = device.machine.next_timeout().map(|at| at.0.max(now.monotonic.0 + 1000));
        if let Some(at) = wake.filter(|at| device.wake_at == 0 || *at < device.wake_at) {
            device.wake_at = at;
            self.agenda.after(at - now.monotonic.0, What::Device(index, at));
        }
    }

    /// What a rogue has written goes its way.
    fn send_up(&mut self, wire: Wire, rogue: usize) {
        let out = self.rogues[rogue].take_output();
        self.travel_up(wire, out);
    }

    /// Bytes travel to the gateway, in order.
    fn travel_up(&mut self, wire: Wire, bytes: Vec<u8>) {
        let now = self.agenda.now().monotonic.0;
        let Some(line) = self.network.lines.get_mut(&wire).filter(|_| !bytes.is_empty()) else { return };
        let delay = self.schedule.between(50, 30_000) * 1000;
        let arrives = (now + delay).max(line.up_at + 1);
        line.up_at = arrives;
        self.agenda.after(arrives - now, What::Up(wire, bytes));
    }

    /// Somebody who misbehaves does so, or comes and goes.
    pub(crate) fn mischief(&mut self, index: usize) {
        let rogue = &self.rogues[index];
        if self.quiet {
            if let Some(wire) = rogue.wire {
                self.hang_up(wire, Peer::Rogue(index));
            }
            return;
        }
        let again = self.mischief.between(300, 6000) * MS;
        self.agenda.after(again, What::Rogue(index));
        let Some(wire) = rogue.wire else { return self.open(Peer::Rogue(index)) };
        self.report.fault(crate::plan::Fault::Rogue);
        match self.mischief.below(20) {
            0 => return self.hang_up(wire, Peer::Rogue(index)),
            1 | 2 => {
                let until =
                    self.agenda.now().monotonic.0 + self.mischief.between(1, 30) * MonotonicNs::SECOND;
                if let Some(line) = self.network.lines.get_mut(&wire) {
                    line.slow_until = until;
                }
            }
            _ => {}
        }
        let known = self.known_to(self.rogues[index].user);
        self.rogues[index].act(&known, &mut self.mischief);
        self.send_up(wire, index);
    }

    /// Conversations that a rogue writes to: with people, and groups of others.
    fn known_to(&self, user: UserId) -> Vec<ConversationId> {
        let people = (1..=3).map(|other| ConversationId::direct(user, UserId(other)));
        people.chain(self.groups().into_iter().map(|(_, group)| group).take(2)).collect()
    }
}
