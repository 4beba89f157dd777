//! Commit: nothing leaves before the batch of the turn that decided it is synced (DESIGN 1.3).
//!
//! While one batch is synced, the next gathers: group commit without a timer. What waits stands in one queue in the
//! order of its batches; a result whose ring is full then waits in a queue per target. Both together are bounded by
//! `ShardLimits::pending_max`: at the limit requests stay in their rings.

use crate::mesh_frame::Outcome;
use crate::output::Output;
use crate::port::Lane;
use crate::reads::ReadPurpose;
use crate::shard::{Shard, Turn};
use std::collections::VecDeque;
use tidegate_ids::{BatchNumber, DeviceId, Generation, LogId, MonotonicNs, Position, ShardIndex, UserId};
use tidegate_storage_log::ReadSpec;

/// Something that leaves with a commit.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// A result frame for a shard.
    Result(ShardIndex, Vec<u8>),
    /// A read whose last record must be in its segment first.
    Read(ReadPurpose, ReadSpec),
    /// A device's Welcome.
    Welcome { user: UserId, device: DeviceId, generation: Generation },
    /// A checkpoint.
    Checkpoint(Vec<(LogId, Position)>),
    /// The checkpoint after the start: the shard is ready.
    Ready,
}

/// What waits for a commit or for room.
#[derive(Debug)]
pub(crate) struct Commits {
    waiting: VecDeque<(BatchNumber, Waiting)>,
    results: Vec<VecDeque<Vec<u8>>>,
    results_count: usize,
    /// The batch in flight and when it was taken.
    flying: Option<(BatchNumber, MonotonicNs, u64)>,
}

impl Commits {
    pub(crate) fn new(shards: u16) -> Self {
        let results = (0..shards).map(|_| VecDeque::new()).collect();
        Self { waiting: VecDeque::new(), results, results_count: 0, flying: None }
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.results_count
    }

    pub(crate) const fn is_flying(&self) -> bool {
        self.flying.is_some()
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.results_count == 0
    }

    /// The batch in flight has failed: gives what waited for it and for those behind it. Results that are committed and
    /// wait only for room stay.
    pub(crate) fn fail(&mut self) -> VecDeque<(BatchNumber, Waiting)> {
        self.flying = None;
        std::mem::take(&mut self.waiting)
    }
}

impl Shard {
    /// Lets something leave with the commit of everything appended so far; at once where nothing is pending.
    pub(crate) fn after_commit(&mut self, waiting: Waiting) {
        let batch = self.log.appended_through();
        debug_assert!(self.commits.waiting.back().is_none_or(|(last, _)| *last <= batch));
        self.commits.waiting.push_back((batch, waiting));
    }

    /// Sends a result with the next commit.
    pub(crate) fn result_after_commit(&mut self, to: ShardIndex, outcome: &Outcome<'_>) {
        let frame = self.result_frame(outcome);
        self.after_commit(Waiting::Result(to, frame));
    }

    /// Sends a result as soon as its ring has room, behind those that wait already.
    pub(crate) fn result_now(&mut self, to: ShardIndex, outcome: &Outcome<'_>) {
        let frame = self.result_frame(outcome);
        self.queue_result(to, frame);
    }

    fn result_frame(&mut self, outcome: &Outcome<'_>) -> Vec<u8> {
        let mut frame = self.buffer();
        let rest = outcome.encode(&mut frame);
        frame.extend_from_slice(rest);
        frame
    }

    fn queue_result(&mut self, to: ShardIndex, frame: Vec<u8>) {
        self.commits.results[usize::from(to.0)].push_back(frame);
        self.commits.results_count += 1;
    }

    /// Takes the next batch if none is in flight, and asks for a segment before the last is used.
    pub(crate) fn take_batch(&mut self, turn: &mut Turn<'_>) {
        if self.latched {
            return;
        }
        if self.log.spare_segments() == 0 && !self.segment_asked {
            self.segment_asked = true;
            self.outputs.push_back(Output::NeedSegment);
        }
        if let Some(batch) = self.log.take_batch() {
            let bytes = batch.bytes.len() as u64;
            self.commits.flying = Some((batch.number, turn.now.monotonic, bytes));
            self.outputs.push_back(Output::Append { batch });
        }
    }

    pub(crate) fn on_written(&mut self, batch: BatchNumber, turn: &mut Turn<'_>) {
        if self.latched {
            return;
        }
        let flying = self.commits.flying.take();
        let Some((number, taken, bytes)) = flying else { unreachable!("a batch is written while it flies") };
        assert_eq!(number, batch, "batches are written one at a time");
        self.log.synced(batch);
        self.journal.committed(batch);
        self.stats.commit(turn.now.monotonic.since(taken), bytes);
    }

    /// Lets leave what is committed.
    pub(crate) fn leave_with_commit(&mut self, turn: &mut Turn<'_>) {
        let synced = self.log.last_synced();
        while self.commits.waiting.front().is_some_and(|(batch, _)| *batch <= synced) {
            let Some((_, waiting)) = self.commits.waiting.pop_front() else { break };
            match waiting {
                Waiting::Result(to, frame) => self.queue_result(to, frame),
                Waiting::Read(purpose, spec) => self.read(purpose, spec, turn),
                Waiting::Welcome { user, device, generation } => self.welcome(user, device, generation, turn),
                Waiting::Checkpoint(fed) => self.outputs.push_back(Output::Checkpointed { fed }),
                Waiting::Ready => self.on_boot_checkpoint(),
            }
        }
        self.push_results(turn);
    }

    fn push_results(&mut self, turn: &mut Turn<'_>) {
        if self.commits.results_count == 0 {
            return;
        }
        for to in 0..self.route.shards() {
            while let Some(frame) = self.commits.results[usize::from(to)].front() {
                if !turn.mesh.push(ShardIndex(to), Lane::Results, &[frame]) {
                    break;
                }
                self.commits.results_count -= 1;
                if let Some(frame) = self.commits.results[usize::from(to)].pop_front() {
                    self.recycle(frame);
                }
            }
        }
    }

    /// Whether there is a place for one more answer.
    pub(crate) fn has_place_for_answer(&self) -> bool {
        self.commits.len() < self.limits.pending_max
    }
}
