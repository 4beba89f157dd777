//! Checkpoints: how far this shard has consumed every log, behind the queue records that must precede it (decision
//! 0003).

use crate::commit::Waiting;
use crate::counters::Counter;
use crate::limits::{CHECKPOINT_RECORDS_PER_TURN, CHECKPOINT_USERS_PER_TURN};
use crate::records::{RecordKind, write_checkpoint};
use crate::shard::{Shard, Turn};
use tidegate_domain::{QueueChange, UserRecord};
use tidegate_ids::{DeviceId, LogId, MonotonicNs, Position, ShardIndex, StreamId, UserId};
use tidegate_storage_log::NewRecord;

/// The present checkpoint.
#[derive(Debug, Default)]
pub(crate) struct Checkpoint {
    /// Per source of this start, behind the last record consumed.
    fed: Vec<Position>,
    changed: bool,
    pub(crate) began: MonotonicNs,
    /// The vector of the checkpoint under way, and the next place of the table of users.
    sweep: Option<(Vec<(LogId, Position)>, usize)>,
}

impl Checkpoint {
    /// Everything before `position` of a source's log was consumed.
    pub(crate) fn consumed(&mut self, from: ShardIndex, position: Position) {
        self.changed |= self.advance(from, position);
    }

    /// Nothing before `position` of a source's log concerns this shard. That alone is no reason for a checkpoint, whose own
    /// record moves positions on, unless a segment is behind.
    pub(crate) fn passed(&mut self, from: ShardIndex, position: Position) {
        let before = self.fed.get(usize::from(from.0)).map_or(0, |fed| fed.segment);
        self.changed |= self.advance(from, position) && position.segment > before;
    }

    fn advance(&mut self, from: ShardIndex, position: Position) -> bool {
        let place = usize::from(from.0);
        if self.fed.len() <= place {
            self.fed.resize(place + 1, Position::default());
        }
        let advances = position > self.fed[place];
        if advances {
            self.fed[place] = position;
        }
        advances
    }

    /// Whether a checkpoint is under way.
    pub(crate) const fn is_under_way(&self) -> bool {
        self.sweep.is_some()
    }

    /// Whether anything was consumed since the last one began.
    pub(crate) const fn is_due(&self) -> bool {
        self.changed
    }
}

impl Shard {
    /// Begins a checkpoint when one is due, and goes on with the one under way. True if there is more to do at once.
    pub(crate) fn run_checkpoint(&mut self, turn: &mut Turn<'_>) -> bool {
        let due = self.checkpoint.changed
            && turn.now.monotonic.since(self.checkpoint.began) >= self.limits.checkpoint_interval_ns;
        if self.checkpoint.sweep.is_none() && due && self.boot.is_ready() && !self.latched {
            self.begin_checkpoint(turn);
        }
        self.continue_checkpoint()
    }

    pub(crate) fn begin_checkpoint(&mut self, turn: &mut Turn<'_>) {
        self.checkpoint.changed = false;
        self.checkpoint.began = turn.now.monotonic;
        let epoch = self.boot.epoch();
        let mut vector = self.boot.ends().to_vec();
        for (shard, position) in self.checkpoint.fed.iter().enumerate() {
            let log = LogId { epoch, shard: ShardIndex(shard as u16) };
            match vector.iter_mut().find(|(other, _)| *other == log) {
                Some((_, known)) => *known = (*known).max(*position),
                None => vector.push((log, *position)),
            }
        }
        self.checkpoint.sweep = Some((vector, 0));
    }

    fn continue_checkpoint(&mut self) -> bool {
        let Some((vector, place)) = self.checkpoint.sweep.take() else { return false };
        if !self.owed.is_empty() || self.latched {
            self.checkpoint.sweep = Some((vector, place));
            return false;
        }
        if place < self.streams.users.places() {
            let next = self.checkpoint_users(place);
            self.checkpoint.sweep = Some((vector, next));
            return true;
        }
        if !self.write_checkpoint(&vector) {
            self.checkpoint.sweep = Some((vector, place));
        }
        false
    }

    /// Writes what only memory holds of the connected devices in a slice of the table.
    /// The next place.
    fn checkpoint_users(&mut self, place: usize) -> usize {
        let Self { streams, window_pool, .. } = self;
        let mut told: Vec<(UserId, DeviceId, QueueChange)> = Vec::new();
        let end = streams.users.places().min(place + CHECKPOINT_USERS_PER_TURN);
        let mut next = place;
        while next < end && told.len() < CHECKPOINT_RECORDS_PER_TURN {
            if let Some((user, hot)) = streams.users.at_place_mut(next) {
                for device in hot.user.devices.iter_mut() {
                    device.queue.checkpoint(window_pool, |change| told.push((user, device.id, change)));
                }
            }
            next += 1;
        }
        for (user, device, change) in told {
            self.append_user(user, UserRecord::Queue { device, change });
        }
        next
    }

    /// Appends a checkpoint record; false if there was no room.
    pub(crate) fn write_checkpoint(&mut self, vector: &[(LogId, Position)]) -> bool {
        write_checkpoint(vector.iter().copied(), &mut self.scratch);
        let appended = self.log.append(&NewRecord {
            stream: StreamId::SHARD,
            time: self.last_wall,
            kind: RecordKind::Checkpoint as u16,
            body_parts: &[&self.scratch],
            ..NewRecord::default()
        });
        if appended.is_ok() {
            self.stats.count(Counter::Checkpoints);
            self.after_commit(Waiting::Checkpoint(vector.to_vec()));
        }
        appended.is_ok()
    }
}
