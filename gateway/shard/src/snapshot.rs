//! When a snapshot may be made and what it may hold: whole segments that nothing will be fed from again.
//!
//! The next snapshot holds, of every log, the closed segments up to which *every* shard's committed checkpoint has
//! consumed it (DESIGN 5: a snapshot never passes the slowest checkpoint). So what a start reads behind it is also all
//! that it may have to feed again.

use crate::records::write_checkpoint;
use std::collections::{BTreeMap, VecDeque};
use tidegate_ids::{LogId, Position, ShardIndex};
use tidegate_storage_log::{Covered, PreviousEnd, SegmentExtent};

/// A segment that nothing is appended to any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedSegment {
    /// What of it is to be read.
    pub extent: SegmentExtent,
    /// Its end, with its last batch.
    pub end: PreviousEnd,
}

/// What the next snapshot reads and holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotPlan {
    /// The segments to fold, of each log in order.
    pub segments: Vec<(LogId, SegmentExtent)>,
    /// What is held then, of every log.
    pub covered: Vec<Covered>,
    /// Bytes of these segments.
    pub bytes: u64,
}

#[derive(Clone, Debug, Default)]
struct Tail {
    covered: PreviousEnd,
    closed: VecDeque<ClosedSegment>,
    checkpoint: Vec<u8>,
}

/// Knows what of every log is closed, folded and consumed. The shell tells it; it performs nothing.
#[derive(Clone, Debug)]
pub struct SnapshotPlanner {
    epoch: u32,
    logs: BTreeMap<LogId, Tail>,
    /// By shard: its newest committed checkpoint of this start.
    fed: Vec<BTreeMap<LogId, Position>>,
}

impl SnapshotPlanner {
    /// Begins a start of this epoch: with what the snapshot at hand holds, the newest checkpoint of every log, and how far
    /// each shard of now was fed.
    pub(crate) fn new(
        epoch: u32,
        held: &[Covered],
        checkpoints: &BTreeMap<LogId, Vec<(LogId, Position)>>,
        fed: Vec<BTreeMap<LogId, Position>>,
    ) -> Self {
        let mut logs: BTreeMap<LogId, Tail> = BTreeMap::new();
        for one in held {
            let tail = logs.entry(one.log).or_default();
            (tail.covered, tail.checkpoint) = (one.previous, one.checkpoint.clone());
        }
        for (log, checkpoint) in checkpoints {
            let tail = logs.entry(*log).or_default();
            write_checkpoint(checkpoint.iter().copied(), &mut tail.checkpoint);
        }
        Self { epoch, logs, fed }
    }

    /// A segment of a log is closed; they come in order.
    pub fn closed(&mut self, log: LogId, segment: ClosedSegment) {
        let tail = self.logs.entry(log).or_default();
        let newest = tail.closed.back().map_or(tail.covered.end.segment, |last| last.extent.segment);
        assert!(segment.extent.segment > newest, "segments of a log close in order");
        tail.closed.push_back(segment);
    }

    /// A shard has committed a checkpoint.
    pub fn checkpointed(&mut self, shard: ShardIndex, fed: &[(LogId, Position)]) {
        let log = LogId { epoch: self.epoch, shard };
        write_checkpoint(fed.iter().copied(), &mut self.logs.entry(log).or_default().checkpoint);
        self.fed[usize::from(shard.0)] = fed.iter().copied().collect();
    }

    /// Bytes of segments that a snapshot could hold now and the one at hand does not.
    #[must_use]
    pub fn pending_bytes(&self) -> u64 {
        let bytes = |(log, tail): (&LogId, &Tail)| {
            let ready = tail.closed.iter().take_while(|segment| self.is_consumed(log, segment));
            ready.map(|segment| u64::from(segment.extent.end)).sum::<u64>()
        };
        self.logs.iter().map(bytes).sum()
    }

    /// The next snapshot: about `bytes_max` of segments, one at least; `None` if there is nothing to fold. A stream moves with
    /// the epochs, so an epoch is folded only behind all older ones.
    #[must_use]
    pub fn plan(&self, bytes_max: u64) -> Option<SnapshotPlan> {
        let mut plan = SnapshotPlan::default();
        let mut last_epoch = u32::MAX;
        for (log, tail) in &self.logs {
            let mut covered = tail.covered;
            for segment in &tail.closed {
                let full = plan.bytes >= bytes_max && !plan.segments.is_empty();
                if full || log.epoch > last_epoch || !self.is_consumed(log, segment) {
                    last_epoch = last_epoch.min(log.epoch);
                    break;
                }
                plan.bytes += u64::from(segment.extent.end);
                plan.segments.push((*log, segment.extent));
                covered = segment.end;
            }
            if covered == PreviousEnd::default() {
                continue;
            }
            let checkpoint = tail.checkpoint.clone();
            plan.covered.push(Covered { log: *log, previous: covered, checkpoint });
        }
        (!plan.segments.is_empty()).then_some(plan)
    }

    /// The same as the snapshot at hand once more, so that two hold what it holds; `None` if it holds nothing.
    #[must_use]
    pub fn again(&self) -> Option<SnapshotPlan> {
        let held = self.logs.iter().filter(|(_, tail)| tail.covered != PreviousEnd::default());
        let covered = held.map(|(log, tail)| Covered {
            log: *log,
            previous: tail.covered,
            checkpoint: tail.checkpoint.clone(),
        });
        let plan = SnapshotPlan { covered: covered.collect(), ..SnapshotPlan::default() };
        (!plan.covered.is_empty()).then_some(plan)
    }

    /// A planned snapshot is there.
    pub fn made(&mut self, covered: &[Covered]) {
        for one in covered {
            let tail = self.logs.entry(one.log).or_default();
            tail.covered = one.previous;
            while tail.closed.front().is_some_and(|first| first.extent.segment <= one.previous.end.segment) {
                tail.closed.pop_front();
            }
        }
    }

    /// The snapshot at hand is lost: the one before it is at hand now, or none. `between` are the segments that it does not hold
    /// and the lost one did, of each log in order.
    pub fn fall_back(&mut self, held: &[Covered], between: &[(LogId, ClosedSegment)]) {
        for (log, tail) in &mut self.logs {
            let covered = held.iter().find(|one| one.log == *log);
            tail.covered = covered.map_or_else(PreviousEnd::default, |one| one.previous);
        }
        for (log, segment) in between.iter().rev() {
            let tail = self.logs.entry(*log).or_default();
            let first = tail.closed.front().map_or(u32::MAX, |first| first.extent.segment);
            assert!(segment.extent.segment < first, "they lie before what is closed since");
            tail.closed.push_front(*segment);
        }
    }

    /// The last segment up to which the snapshot at hand holds every record of a shard's streams: they are in its own log,
    /// and in any log of an older epoch.
    #[must_use]
    pub fn through(&self, shard: ShardIndex) -> u32 {
        let concerns = |log: &LogId| log.epoch < self.epoch || log.shard == shard;
        let own = self.logs.iter().filter(|(log, _)| concerns(log));
        let (mut held, mut open) = (0, u32::MAX);
        for (_, tail) in own {
            held = held.max(tail.covered.end.segment);
            open = tail.closed.front().map_or(open, |first| open.min(first.extent.segment - 1));
        }
        held.min(open)
    }

    fn is_consumed(&self, log: &LogId, segment: &ClosedSegment) -> bool {
        let end = Position::new(segment.extent.segment, segment.extent.end);
        let by = |fed: &BTreeMap<LogId, Position>| {
            fed.get(log).is_some_and(|at| *at >= end || at.segment > end.segment)
        };
        self.fed.iter().all(by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_ids::BatchNumber;
    use tidegate_storage_log::Guard;

    const OLD: LogId = LogId { epoch: 1, shard: ShardIndex(0) };
    const FIRST: LogId = LogId { epoch: 2, shard: ShardIndex(0) };
    const SECOND: LogId = LogId { epoch: 2, shard: ShardIndex(1) };

    fn segment(number: u32) -> ClosedSegment {
        let extent = SegmentExtent {
            segment: number,
            end: 1000,
            block_bytes: 512,
            footer_offset: None,
            guard: Guard::new(&[0; 16]),
        };
        let end = PreviousEnd { end: Position::new(number, 1000), batch: BatchNumber(u64::from(number)) };
        ClosedSegment { extent, end }
    }

    fn numbers(plan: Option<&SnapshotPlan>) -> Vec<u32> {
        plan.map_or_else(Vec::new, |plan| plan.segments.iter().map(|(_, one)| one.segment).collect())
    }

    fn begun(epoch: u32, shards: usize, held: &[Covered]) -> SnapshotPlanner {
        SnapshotPlanner::new(epoch, held, &BTreeMap::new(), vec![BTreeMap::new(); shards])
    }

    fn planner() -> SnapshotPlanner {
        let mut planner = begun(2, 2, &[]);
        planner.closed(OLD, segment(1));
        planner.closed(FIRST, segment(2));
        planner.closed(SECOND, segment(3));
        planner.closed(FIRST, segment(4));
        planner
    }

    fn at(segment: u32, offset: u32) -> Position {
        Position::new(segment, offset)
    }

    #[test]
    fn nothing_is_folded_before_every_shard_has_consumed_it() {
        let mut planner = planner();
        assert_eq!(planner.plan(u64::MAX), None);
        planner.checkpointed(ShardIndex(0), &[(OLD, at(1, 1000)), (FIRST, at(5, 0)), (SECOND, at(3, 1000))]);
        assert_eq!(planner.plan(u64::MAX), None);
        planner.checkpointed(ShardIndex(1), &[(OLD, at(1, 1000)), (FIRST, at(4, 999)), (SECOND, at(2, 0))]);
        let plan = planner.plan(u64::MAX);
        assert_eq!(numbers(plan.as_ref()), [1, 2]);
        assert_eq!(planner.pending_bytes(), 2000);
    }

    #[test]
    fn what_was_folded_is_not_folded_again() {
        let mut planner = planner();
        let fed = [(OLD, at(1, 1000)), (FIRST, at(5, 0)), (SECOND, at(3, 1000))];
        planner.checkpointed(ShardIndex(0), &fed);
        planner.checkpointed(ShardIndex(1), &fed);
        let plan = planner.plan(1).unwrap();
        assert_eq!(numbers(Some(&plan)), [1]);
        planner.made(&plan.covered);
        let older = plan.covered.clone();
        assert_eq!((planner.through(ShardIndex(0)), planner.through(ShardIndex(1))), (1, 1));
        let plan = planner.plan(u64::MAX).unwrap();
        assert_eq!(numbers(Some(&plan)), [2, 4, 3]);
        planner.made(&plan.covered);
        assert_eq!((planner.through(ShardIndex(0)), planner.through(ShardIndex(1))), (4, 3));
        assert_eq!(planner.plan(u64::MAX), None);
        let copy = planner.again().unwrap();
        assert_eq!((copy.segments.len(), copy.covered.len()), (0, 3));
        assert!(copy.covered.iter().all(|one| plan.covered.contains(one)));
        assert_eq!(begun(3, 1, &[]).again(), None);
        let mut lost = planner.clone();
        lost.closed(SECOND, segment(6));
        lost.fall_back(&older, &[(FIRST, segment(2)), (FIRST, segment(4)), (SECOND, segment(3))]);
        let again = lost.plan(u64::MAX);
        assert_eq!(numbers(again.as_ref()), [2, 4, 3], "the same again, and not what nobody has consumed");
        assert_eq!(again.map(|again| again.covered), Some(plan.covered.clone()));
        lost.fall_back(&[], &[(OLD, segment(1))]);
        assert_eq!(numbers(lost.plan(u64::MAX).as_ref()), [1, 2, 4, 3], "or from nothing");
        let again = begun(3, 1, &plan.covered);
        assert_eq!(again.through(ShardIndex(0)), 4);
        assert!(plan.covered.iter().any(|one| one.log == FIRST && !one.checkpoint.is_empty()));
    }
}
