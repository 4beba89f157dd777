//! What the shell does for a shard: it writes, syncs, reads, makes segments and snapshots, and all of it takes time or fails.

use crate::network::{KERNEL_BYTES_MAX, Wire};
use crate::plan::{Fault, Planted};
use crate::world::{MS, What, World};
use tidegate_ids::{MonotonicNs, ShardIndex};
use tidegate_shard::{ConnectionId, Event, Output, ReadRequest, ReadToken, ReceiveMode, TransferKey};
use tidegate_storage_log::{PackedRecords, StagedBatch};

/// Of so many writes one fails: a few in the life of a seed.
const WRITES_PER_FAILURE: u64 = 3000;

/// Of so many reads one is forgotten, if that bug is planted.
const READS_PER_BUG: u64 = 50;

impl World {
    /// Does what a shard asks for.
    pub(crate) fn drain(&mut self, shard: ShardIndex) {
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
                Output::Append { batch } => self.append(shard, batch),
                Output::Read { token, request } => self.read(shard, token, &request),
                Output::Recycle { .. } | Output::Swept => {}
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

    fn append(&mut self, shard: ShardIndex, batch: StagedBatch) {
        let writing = &mut self.gateway.writing[usize::from(shard.0)];
        if std::mem::replace(writing, true) {
            return self.blame(format!("shard {} has two writes in flight", shard.0));
        }
        let run = self.gateway.run;
        let mut delay = self.schedule.between(100, 8000) * 1000;
        let is_slow = !self.quiet && self.plan.has(Fault::SlowSync) && self.faults.below(400) == 0;
        if is_slow {
            self.report.fault(Fault::SlowSync);
            delay = self.faults.between(100, 4000) * MS;
        }
        let can_fail = !self.quiet && self.plan.has(Fault::FailedWrite);
        if can_fail && self.faults.below(WRITES_PER_FAILURE) == 0 {
            return self.agenda.after(delay, What::WriteFailed(run, shard, batch));
        }
        if self.plan.planted == Some(Planted::EarlySync) {
            self.agenda.after(1000, What::ToldEarly(run, shard, batch.clone()));
        }
        // What is in the cache when the power goes is torn.
        self.agenda.after(delay / 3, What::Cached(run, shard, batch.clone()));
        self.agenda.after(delay, What::Arrived(run, shard, batch));
    }

    /// A batch is synced: what is in it is committed, and the shard is told.
    pub(crate) fn arrived(&mut self, shard: ShardIndex, batch: &StagedBatch) {
        self.gateway.writing[usize::from(shard.0)] = false;
        self.disk.sync(batch.segment);
        let end = batch.offset + batch.bytes.len() as u32;
        self.gateway.note_written(shard, batch.segment, end);
        match self.gateway.read_back(&mut self.disk, shard, batch) {
            Ok(records) => self.commit(&records),
            Err(wrong) => self.blame(wrong),
        }
        if batch.seals {
            self.gateway.note_sealed(shard, batch.number);
        }
        if self.plan.planted != Some(Planted::EarlySync) {
            self.event(shard, Event::Written { batch: batch.number });
        }
    }

    /// Notes what is committed, and judges what devices are said to have stored.
    fn commit(&mut self, records: &[u8]) {
        for record in PackedRecords(records) {
            if let Err(wrong) = self.ledger.commit(&record) {
                self.blame(wrong);
            }
        }
        for claim in self.ledger.take_claims() {
            let place = self.devices.iter().position(|one| (one.user, one.id) == (claim.user, claim.device));
            let Some(place) = place else { continue };
            if let Err(wrong) = self.devices[place].judge_claim(&claim, &self.ledger) {
                self.blame(format!("device {}: {wrong}", claim.device));
            }
        }
    }

    /// A batch arrived on the disk, or half of it, or nothing, and is reported as failed.
    pub(crate) fn write_failed(&mut self, shard: ShardIndex, batch: &StagedBatch) {
        self.report.fault(Fault::FailedWrite);
        self.gateway.writing[usize::from(shard.0)] = false;
        self.disk.write_part(batch, batch.bytes.len() * self.faults.below(3) as usize / 2);
        self.event(shard, Event::WriteFailed { batch: batch.number });
        let delay = self.faults.between(1, 20_000) * MS;
        self.agenda.after(delay, What::GiveUp(self.gateway.run));
    }

    /// A segment is made once there is room for it.
    pub(crate) fn give_segment(&mut self, shard: ShardIndex) {
        let now = self.agenda.now().monotonic.0;
        let run = self.gateway.run;
        if let Some(wait) = self.full_until.checked_sub(now + 1) {
            return self.agenda.after(wait + MS, What::Segment(run, shard));
        }
        let number = self.disk.make_segment(self.gateway.log_of(shard));
        self.event(shard, Event::Segment { number });
    }

    fn read(&mut self, shard: ShardIndex, token: ReadToken, request: &ReadRequest) {
        let reading = &mut self.gateway.reading[usize::from(shard.0)];
        *reading += 1;
        let most = self.sizes.limits.reads_in_flight_max;
        if *reading > most {
            let count = *reading;
            self.blame(format!("shard {} has {count} reads in flight, its limit is {most}", shard.0));
        }
        if self.plan.planted == Some(Planted::LostRead) && self.faults.below(READS_PER_BUG) == 0 {
            return;
        }
        let (records, result) = self.gateway.read(&mut self.disk, &self.snapshots, request);
        let delay = self.schedule.between(50, 5000) * 1000;
        self.agenda.after(delay, What::ReadDone(self.gateway.run, shard, token, records, result));
    }

    /// Folds what every shard has consumed; the shards learn of it one by one.
    pub(crate) fn snapshot(&mut self) {
        let bytes_max = self.schedule.between(1, 4) * u64::from(self.sizes.segment_bytes);
        let Some(plan) = self.gateway.planner.plan(bytes_max) else { return };
        if let Err(wrong) = self.snapshots.make(&mut self.disk, &plan) {
            return self.blame(format!("a snapshot: {wrong}"));
        }
        self.report.fault(Fault::Snapshot);
        self.gateway.planner.made(&plan.covered);
        for index in 0..self.gateway.shards.len() {
            let shard = ShardIndex(index as u16);
            let through = self.gateway.planner.through(shard);
            let delay = self.schedule.between(1, 500) * MS;
            self.agenda.after(delay, What::SnapshotMade(self.gateway.run, shard, through));
        }
    }

    /// Bytes leave the gateway. For a peer who does not take them the kernel keeps some; then the send waits.
    fn send_down(&mut self, shard: ShardIndex, connection: ConnectionId, buffer: Vec<u8>) {
        let run = self.gateway.run;
        let now = self.agenda.now().monotonic.0;
        let left = self.ledger.order();
        let bytes = buffer.clone();
        let number = match self.network.begin_send(shard, connection, buffer) {
            Ok(number) => number,
            Err(wrong) => return self.blame(wrong),
        };
        let delay = self.schedule.between(50, 20_000) * 1000;
        let wire = self.network.wire(shard, connection);
        let line = wire.and_then(|wire| self.network.lines.get_mut(&wire));
        let (Some(wire), Some(line)) = (wire, line) else {
            return self.agenda.after(delay, What::SendDone(run, shard, connection, number));
        };
        if line.deaf_down {
            line.kernel_bytes += bytes.len();
            if line.kernel_bytes <= KERNEL_BYTES_MAX {
                self.agenda.after(delay, What::SendDone(run, shard, connection, number));
            }
            return;
        }
        let judged = line.announced.judge(&bytes, MonotonicNs(now), line.down_at == now);
        let arrives = (now + delay).max(line.down_at + 1).max(line.slow_until);
        line.down_at = arrives;
        let peer = line.peer;
        self.agenda.after(arrives - now, What::Down(wire, peer, bytes, left));
        self.agenda.after(arrives - now, What::SendDone(run, shard, connection, number));
        if let Err(wrong) = judged {
            self.blame(wrong);
        }
    }

    /// A socket has left for another shard.
    pub(crate) fn handed_over(
        &mut self,
        shard: ShardIndex,
        connection: ConnectionId,
        wire: Wire,
        to: ShardIndex,
        key: TransferKey,
    ) {
        self.network.release(shard, connection);
        self.event(shard, Event::HandedOver { connection, sent: true });
        let delay = self.schedule.between(1, 2000) * 1000;
        self.agenda.after(delay, What::Adopted(self.gateway.run, to, wire, key));
    }

    /// Nothing of a connection is in flight any more: what was, comes back, and its place is free.
    pub(crate) fn closed(&mut self, shard: ShardIndex, connection: ConnectionId) {
        if let Some(buffer) = self.network.cancel_send(shard, connection) {
            self.event(shard, Event::SendDone { connection, buffer, sent: false });
        }
        if let Some(wire) = self.network.release(shard, connection) {
            let now = self.agenda.now().monotonic.0;
            if let Some(line) = self.network.lines.get_mut(&wire) {
                line.gateway_gone = true;
                let (peer, delay) = (line.peer, line.down_at.saturating_sub(now) + 1000);
                if !line.deaf_down {
                    self.agenda.after(delay, What::DownEnd(wire, peer));
                }
            }
            self.network.forget_if_over(wire);
        }
        self.event(shard, Event::Closed { connection });
    }
}
