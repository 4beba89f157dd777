//! The workload of a seed: what people do.

use crate::device::Device;
use crate::network::Peer;
use crate::world::{MS, What, World};
use tidegate_ids::{ConversationId, Sequence, UserId};
use tidegate_schema::RangeSpan;

/// After the last fault: longer than a connection that went deaf takes to be noticed, and than every back-off and retry of
/// the SDK behind it.
const QUIET_NS: u64 = 270_000 * MS;

/// Groups at most, so that they are used.
const GROUPS_MAX: usize = 6;

impl World {
    /// One step of the workload, and perhaps a fault.
    pub(crate) fn act(&mut self) {
        if self.quiet {
            return;
        }
        if self.report.acts >= self.plan.ticks {
            return self.fall_quiet();
        }
        self.report.acts += 1;
        self.work();
        self.browse();
        self.fault();
        let delay = self.workload.between(20, 620) * MS;
        self.agenda.after(delay, What::Act);
    }

    /// The last fault has happened: everybody is there, and what is owed has to arrive.
    fn fall_quiet(&mut self) {
        self.quiet = true;
        self.agenda.jump_wall(0);
        for device in 0..self.devices.len() {
            self.devices[device].online = true;
            self.service(device);
        }
        for rogue in 0..self.rogues.len() {
            if let Some(wire) = self.rogues[rogue].wire {
                self.hang_up(wire, Peer::Rogue(rogue));
            }
        }
        self.agenda.after(QUIET_NS, What::Act);
    }

    pub(crate) fn groups(&self) -> Vec<(usize, ConversationId)> {
        let of = |(place, device): (usize, &Device)| {
            device.notebook.groups.iter().map(|group| (place, *group)).collect::<Vec<_>>()
        };
        self.devices.iter().enumerate().flat_map(of).collect()
    }

    fn work(&mut self) {
        let index = self.workload.below(self.devices.len() as u64) as usize;
        let users = self.devices.iter().map(|device| device.user.0).max().unwrap_or(1);
        let other = UserId(self.workload.between(1, users));
        let groups = self.groups();
        let group = if groups.is_empty() {
            None
        } else {
            Some(groups[self.workload.below(groups.len() as u64) as usize])
        };
        match (self.workload.below(20), group) {
            (0, _) if groups.len() < GROUPS_MAX => self.create_group(index, users),
            (1, Some((owner, group))) => {
                let machine = &mut self.devices[owner].machine;
                let _ = if self.workload.percent(50) {
                    machine.members_add(group, 0, &[other])
                } else {
                    machine.members_remove(group, 0, &[other])
                };
                self.service(owner);
            }
            (2, Some((_, group))) if self.workload.percent(20) => {
                self.devices[index].machine.leave(group).ok();
            }
            (3..=12, Some((_, group))) => {
                // Now and then more than windows and rings hold.
                let most = if self.workload.percent(4) { 150 } else { 6 };
                for _ in 0..self.workload.between(1, most) {
                    self.say(index, group);
                }
            }
            _ => {
                let conversation = ConversationId::direct(self.devices[index].user, other);
                for _ in 0..self.workload.between(1, 3) {
                    self.say(index, conversation);
                }
            }
        }
        self.service(index);
    }

    /// Perhaps somebody looks at the newest messages of a conversation, while others write.
    fn browse(&mut self) {
        let index = self.curiosity.below(self.devices.len() as u64) as usize;
        let device = &mut self.devices[index];
        let known: Vec<ConversationId> = device.notebook.conversations().copied().collect();
        if known.is_empty() || !device.machine.is_ready() || !self.curiosity.percent(40) {
            return;
        }
        let conversation = known[self.curiosity.below(known.len() as u64) as usize];
        let span = RangeSpan::Before(Sequence(0));
        let limit = self.curiosity.between(1, 50) as u16;
        let now = self.agenda.now().monotonic;
        // Too many questions at once are refused by the SDK; then there is one less.
        device.machine.history(conversation, span, limit, now).ok();
        self.service(index);
    }

    fn create_group(&mut self, index: usize, users: u64) {
        let count = self.workload.between(1, 9);
        let members: Vec<UserId> = (0..count).map(|_| UserId(self.workload.between(1, users))).collect();
        self.devices[index].machine.create_group(b"group", &members).ok();
    }

    /// Most messages are short; some fill a frame, and some are more than a small mesh takes.
    fn say(&mut self, index: usize, conversation: ConversationId) {
        let body_bytes = match self.workload.below(100) {
            0 => self.workload.between(2000, 12_000),
            1..=9 => self.workload.between(100, 1500),
            _ => 0,
        };
        self.devices[index].send(conversation, body_bytes as usize, &mut self.encoder);
    }
}
