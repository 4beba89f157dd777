use super::*;

const CONVERSATION: ConversationId = ConversationId([0x80; 16]);
const OTHER: ConversationId = ConversationId([0x81; 16]);

struct Bench {
    queue: DeviceQueue,
    pool: WindowPool,
    told: Vec<QueueChange>,
}

fn entry(conversation: ConversationId, sequence: u64) -> WindowEntry {
    WindowEntry { conversation, sequence: Sequence(sequence), bytes: 10 }
}

impl Bench {
    fn new(credit: u16) -> Self {
        let mut bench = Self { queue: DeviceQueue::default(), pool: WindowPool::new(64), told: Vec::new() };
        bench.connect(credit);
        bench
    }

    fn connect(&mut self, credit: u16) {
        self.queue.connect(credit);
        self.queue.welcomed();
    }

    fn consume(&mut self, sequence: u64) -> Consumed {
        let told = &mut self.told;
        self.queue.consume(entry(CONVERSATION, sequence), &mut self.pool, |change| told.push(change))
    }

    fn acknowledge(&mut self, number: u64) -> Result<(), AboveWindow> {
        let told = &mut self.told;
        self.queue.acknowledge(PushNumber(number), &mut self.pool, |change| told.push(change))
    }

    fn disconnect(&mut self) {
        let told = &mut self.told;
        self.queue.disconnect(&mut self.pool, |change| told.push(change));
    }

    /// An answer with all of [from, covered], given to the queue as the home would.
    fn answer(&mut self, from: u64, covered: u64, complete: bool) -> Vec<u64> {
        let answer =
            Answer { conversation: CONVERSATION, from: Sequence(from), covered: Sequence(covered), complete };
        self.queue.answered();
        if !self.queue.accepts(&answer) {
            return Vec::new();
        }
        let told = &mut self.told;
        let mut pushed = Vec::new();
        for sequence in from..=covered {
            match self.queue.push_answered(entry(CONVERSATION, sequence), false, &mut self.pool) {
                Ok(push) => pushed.extend(push.map(|push| push.sequence.0)),
                Err(NoCredit) => {
                    self.queue.cut_answer(&answer, &self.pool, |change| told.push(change));
                    return pushed;
                }
            }
        }
        self.queue.finish_answer(&answer, &self.pool, |change| told.push(change));
        pushed
    }

    fn ask(&mut self) -> Option<u64> {
        let ask = self.queue.next_ask(&self.pool)?;
        self.queue.asked(&ask);
        Some(ask.from.0)
    }

    fn range(&self) -> Option<(u64, u64)> {
        self.queue.ranges.get(&CONVERSATION).map(|range| (range.from.0, range.next.0))
    }
}

#[test]
fn with_credit_and_no_range_a_record_is_pushed_and_nothing_is_durable() {
    let mut bench = Bench::new(4);
    assert_eq!(bench.consume(1), Consumed::Push(PushNumber(1)));
    assert_eq!(bench.consume(2), Consumed::Push(PushNumber(2)));
    assert_eq!(bench.acknowledge(2), Ok(()));
    assert!(bench.told.is_empty());
    assert_eq!(bench.acknowledge(3), Err(AboveWindow));
}

#[test]
fn without_credit_a_range_opens_and_is_asked_for_when_credit_returns() {
    let mut bench = Bench::new(1);
    bench.consume(1);
    assert_eq!(bench.consume(2), Consumed::Queued);
    assert_eq!(bench.ask(), None, "no credit");
    bench.acknowledge(1).unwrap();
    assert_eq!(bench.ask(), Some(2));
    assert_eq!(bench.ask(), None, "one is in flight");
    assert_eq!(bench.answer(2, 2, true), [2]);
    assert_eq!(bench.range(), Some((2, 3)));
    bench.acknowledge(2).unwrap();
    assert_eq!(bench.range(), None);
    assert_eq!(bench.told, [QueueChange::Set { conversation: CONVERSATION, from: None }]);
}

/// An answer may be older than a record that came before it: without `seen`, acknowledging the answer would close the
/// range over record 3, which nobody pushes again.
#[test]
fn a_record_consumed_while_an_answer_is_in_flight_keeps_the_range_open() {
    let mut bench = Bench::new(1);
    bench.consume(1);
    bench.consume(2);
    bench.acknowledge(1).unwrap();
    assert_eq!(bench.ask(), Some(2));
    assert_eq!(bench.consume(3), Consumed::Queued);
    assert_eq!(bench.answer(2, 2, true), [2]);
    bench.acknowledge(2).unwrap();
    assert_eq!(bench.range(), Some((3, 3)));
    assert_eq!(bench.ask(), Some(3));
}

#[test]
fn a_range_that_is_pushed_out_lets_live_records_through() {
    let mut bench = Bench::new(8);
    bench.queue.apply(&QueueChange::Widen { conversation: CONVERSATION, from: Sequence(5) });
    assert_eq!(bench.consume(7), Consumed::Queued, "how far the range reaches is unknown");
    assert_eq!(bench.ask(), Some(5));
    assert_eq!(bench.answer(5, 7, true), [5, 6, 7]);
    assert_eq!(bench.consume(8), Consumed::Push(PushNumber(4)));
    assert_eq!(bench.consume(10), Consumed::Queued, "9 was the device's own: the answer will say so");
    assert_eq!(bench.ask(), Some(9));
}

#[test]
fn disconnecting_turns_the_window_into_durable_ranges() {
    let mut bench = Bench::new(4);
    bench.consume(3);
    bench.consume(4);
    bench.acknowledge(1).unwrap();
    bench.disconnect();
    assert_eq!(bench.told, [QueueChange::Widen { conversation: CONVERSATION, from: Sequence(4) }]);
    assert_eq!(bench.pool.free_count(), 64);
    bench.consume(5);
    assert_eq!(bench.told.len(), 1, "the durable set did not change");
    bench.connect(4);
    assert_eq!(bench.ask(), Some(4));
}

#[test]
fn an_answer_that_begins_above_next_is_dropped() {
    let mut bench = Bench::new(2);
    bench.queue.apply(&QueueChange::Widen { conversation: CONVERSATION, from: Sequence(1) });
    assert_eq!(bench.ask(), Some(1));
    assert_eq!(bench.answer(1, 2, false), [1, 2]);
    bench.disconnect();
    bench.connect(2);
    assert_eq!(bench.answer(3, 4, true), [] as [u64; 0]);
    assert_eq!(bench.range(), Some((1, 1)));
}

#[test]
fn an_answer_with_nothing_to_push_moves_the_range_by_itself() {
    let mut bench = Bench::new(2);
    bench.queue.apply(&QueueChange::Widen { conversation: CONVERSATION, from: Sequence(1) });
    bench.ask();
    bench.queue.answered();
    let answer =
        Answer { conversation: CONVERSATION, from: Sequence(1), covered: Sequence(9), complete: true };
    assert!(bench.queue.accepts(&answer));
    let told = &mut bench.told;
    bench.queue.finish_answer(&answer, &bench.pool, |change| told.push(change));
    assert_eq!(bench.range(), None);
    assert_eq!(bench.told, [QueueChange::Set { conversation: CONVERSATION, from: None }]);
    assert!(bench.queue.take_drain_done());
    assert!(!bench.queue.take_drain_done(), "once per connection");
}

#[test]
fn a_dirty_stays_in_the_window_until_it_is_acknowledged() {
    let mut bench = Bench::new(2);
    bench.queue.apply(&QueueChange::Widen { conversation: CONVERSATION, from: Sequence(1) });
    bench.ask();
    bench.queue.answered();
    let answer =
        Answer { conversation: CONVERSATION, from: Sequence(1), covered: Sequence(900), complete: true };
    assert_eq!(bench.queue.push_dirty(&answer, 64, &mut bench.pool), Some(PushNumber(1)));
    assert_eq!(bench.ask(), None);
    assert!(bench.queue.take_drain_done(), "announced is as good as pushed");
    bench.disconnect();
    bench.connect(2);
    assert_eq!(bench.ask(), Some(1), "not acknowledged: announced again");
    bench.queue.answered();
    bench.queue.push_dirty(&answer, 64, &mut bench.pool);
    bench.acknowledge(1).unwrap();
    assert_eq!(bench.range(), None);
}

/// Seed 0 of the simulator. A device had three records on the way when a longer range behind them was announced. It
/// acknowledged the three before the announcement reached it: the gateway took the announcement for its head, and wrote down
/// that everything below was acknowledged. The connection broke, and what was announced was never told again.
#[test]
fn an_acknowledgement_before_a_dirty_does_not_cover_it() {
    let mut bench = Bench::new(8);
    bench.queue.apply(&QueueChange::Widen { conversation: CONVERSATION, from: Sequence(1) });
    bench.ask();
    assert_eq!(bench.answer(1, 3, false), [1, 2, 3]);
    bench.ask();
    bench.queue.answered();
    let answer =
        Answer { conversation: CONVERSATION, from: Sequence(4), covered: Sequence(900), complete: true };
    assert_eq!(bench.queue.push_dirty(&answer, 64, &mut bench.pool), Some(PushNumber(4)));
    bench.acknowledge(3).unwrap();
    let set = QueueChange::Set { conversation: CONVERSATION, from: Some(Sequence(4)) };
    assert_eq!(bench.told.last(), Some(&set));
    bench.disconnect();
    bench.connect(8);
    assert_eq!(bench.ask(), Some(4), "announced again");
}

#[test]
fn an_acknowledgement_narrows_every_conversation_it_covers() {
    let mut bench = Bench::new(3);
    for (conversation, sequence) in [(CONVERSATION, 1), (OTHER, 1), (CONVERSATION, 2)] {
        bench.queue.consume(entry(conversation, sequence), &mut bench.pool, |_| ());
    }
    for (conversation, sequence) in [(CONVERSATION, 3), (OTHER, 2)] {
        bench.queue.consume(entry(conversation, sequence), &mut bench.pool, |_| ());
    }
    bench.disconnect();
    bench.connect(3);
    assert_eq!(bench.ask(), Some(1));
    assert_eq!(bench.answer(1, 3, true), [1, 2, 3]);
    bench.acknowledge(3).unwrap();
    assert_eq!(bench.range(), None);
    assert_eq!(bench.queue.range_count(), 1);
}

#[test]
fn a_checkpoint_tells_ranges_and_windows_of_the_connected() {
    let mut bench = Bench::new(2);
    bench.consume(4);
    bench.consume(5);
    bench.consume(6);
    let mut told = Vec::new();
    bench.queue.checkpoint(&bench.pool, |change| told.push(change));
    let widen = |from| QueueChange::Widen { conversation: CONVERSATION, from: Sequence(from) };
    assert_eq!(told, [widen(6), widen(4)]);
    let mut folded = DeviceQueue::default();
    told.iter().for_each(|change| folded.apply(change));
    assert_eq!(folded.ranges[&CONVERSATION].from, Sequence(4));
}
