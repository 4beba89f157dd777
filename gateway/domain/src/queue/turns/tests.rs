use super::*;
use crate::{Answer, NoCredit, QueueChange, WindowEntry};
use std::collections::BTreeMap;
use tidegate_ids::{PushNumber, Sequence};

fn id(number: u8) -> ConversationId {
    ConversationId([0x80 + number; 16])
}

/// A device that acknowledges whatever it has whenever its credit is used up.
struct Bench {
    queue: DeviceQueue,
    pool: WindowPool,
    /// The newest record of each conversation.
    heads: BTreeMap<ConversationId, u64>,
    pushed: u64,
}

impl Bench {
    /// Ranges of so many records, in the order in which they opened.
    fn new(credit: u16, ranges: &[(u8, u64)]) -> Self {
        let mut queue = DeviceQueue::default();
        queue.connect(credit);
        queue.welcomed();
        let mut heads = BTreeMap::new();
        for (number, records) in ranges {
            let (conversation, from) = (id(*number), Sequence(1));
            queue.apply(&QueueChange::Widen { conversation, from });
            heads.insert(conversation, *records);
        }
        Self { queue, pool: WindowPool::new(600), heads, pushed: 0 }
    }

    /// Asks, is answered with up to 64 records, and acknowledges what was pushed; of which conversation, and how many.
    fn piece(&mut self) -> Option<(ConversationId, u64)> {
        let ask = self.queue.next_ask(&self.pool, MonotonicNs(1))?;
        self.queue.asked(&ask);
        let (conversation, from) = (ask.conversation, ask.from);
        let head = self.heads[&conversation];
        let covered = head.min(from.0 + TURN_RECORDS_MAX - 1);
        let answer = Answer { conversation, from, covered: Sequence(covered), complete: covered == head };
        self.queue.answered();
        let before = self.pushed;
        let mut is_cut = false;
        for sequence in from.0..=covered {
            let entry = WindowEntry { conversation, sequence: Sequence(sequence), bytes: 10 };
            is_cut = self.queue.push_answered(entry, false, &mut self.pool) == Err(NoCredit);
            if is_cut {
                break;
            }
            self.pushed += 1;
        }
        if is_cut {
            self.queue.cut_answer(&answer, &self.pool, |_| ());
        } else {
            self.queue.finish_answer(&answer, &self.pool, |_| ());
        }
        self.queue.assert_invariants();
        self.queue.acknowledge(PushNumber(self.pushed), &mut self.pool, |_| ()).expect("it was pushed");
        self.queue.assert_invariants();
        Some((conversation, self.pushed - before))
    }

    /// The conversations of the next pieces, those of one after the other taken together.
    fn order(&mut self, pieces: usize) -> Vec<(ConversationId, u64)> {
        let mut order: Vec<(ConversationId, u64)> = Vec::new();
        for (conversation, pushed) in (0..pieces).map_while(|_| self.piece()) {
            match order.last_mut().filter(|last| last.0 == conversation) {
                Some(last) => last.1 += pushed,
                None => order.push((conversation, pushed)),
            }
        }
        order
    }
}

/// A group was written to as fast as one of its members took it, and another group and a direct conversation got nothing to
/// that device for as long as that went on.
#[test]
fn a_range_that_grows_as_fast_as_it_is_taken_leaves_turns_to_others() {
    let mut bench = Bench::new(4, &[(1, 60), (2, 60), (3, 5)]);
    let mut others = BTreeMap::new();
    for _ in 0..60 {
        let Some((conversation, pushed)) = bench.piece() else { break };
        if conversation == id(1) {
            *bench.heads.entry(id(1)).or_default() += pushed;
        } else {
            *others.entry(conversation).or_default() += pushed;
        }
    }
    assert_eq!(others, BTreeMap::from([(id(2), 60), (id(3), 5)]));
}

#[test]
fn a_turn_is_so_many_records_whatever_the_credit() {
    // What is left of a range after its turn comes when the others had theirs.
    let all = [(id(1), 64), (id(2), 64), (id(3), 10), (id(1), 36), (id(2), 1)];
    for credit in [4, 16, 64, 256] {
        let mut bench = Bench::new(credit, &[(1, 100), (2, 65), (3, 10)]);
        assert_eq!(bench.order(1000), all, "{credit}");
    }
}

#[test]
fn the_only_range_that_has_more_goes_on() {
    let mut bench = Bench::new(16, &[(1, 1000)]);
    assert_eq!(bench.order(1000), [(id(1), 1000)]);
    assert!(bench.queue.take_drain_done());
    assert_eq!(bench.queue.range_count(), 0);
}

#[test]
fn a_connection_begins_with_the_oldest() {
    let mut bench = Bench::new(64, &[(1, 70), (2, 70)]);
    assert_eq!(bench.order(1), [(id(1), 64)]);
    bench.queue.disconnect(&mut bench.pool, |_| ());
    bench.queue.connect(64);
    bench.queue.welcomed();
    bench.pushed = 0;
    assert_eq!(bench.order(1), [(id(1), 6)]);
}
