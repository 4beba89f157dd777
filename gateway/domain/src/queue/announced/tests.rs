use super::*;
use crate::{Consumed, QueueChange};
use tidegate_ids::Sequence;

const SECOND: u64 = MonotonicNs::SECOND;

fn id(number: u64) -> ConversationId {
    ConversationId::group(u128::from(number.wrapping_mul(0x9E37_79B9_7F4A_7C15)).to_be_bytes())
}

struct Bench {
    queue: DeviceQueue,
    pool: WindowPool,
    now: u64,
    pushed: u64,
    /// The highest sequence that anybody has written in any conversation.
    head: u64,
}

impl Bench {
    fn new(credit: u16) -> Self {
        let mut queue = DeviceQueue::default();
        queue.connect(credit);
        queue.welcomed();
        Self { queue, pool: WindowPool::new(600), now: 5 * SECOND, pushed: 0, head: 0 }
    }

    /// A range from the next sequence on that is a thousand long. Nothing of it is pushed: the device has no credit.
    fn fall_behind(&mut self, conversation: ConversationId) {
        let from = Sequence(self.head + 1);
        self.head += 1000;
        self.queue.apply(&QueueChange::Widen { conversation, from });
    }

    fn ask(&mut self) -> Option<(ConversationId, u64)> {
        let ask = self.queue.next_ask(&self.pool, MonotonicNs(self.now))?;
        self.queue.asked(&ask);
        Some((ask.conversation, ask.from.0))
    }

    /// Asks, and is answered that the range up to the head is too long.
    fn ask_for_long(&mut self) -> Option<(ConversationId, Announcement)> {
        let (conversation, from) = self.ask()?;
        let (from, covered) = (Sequence(from), Sequence(self.head));
        let answer = Answer { conversation, from, covered, complete: true };
        self.queue.answered();
        assert!(self.queue.accepts(&answer));
        let made = self.queue.push_dirty(&answer, 10, &mut self.pool, MonotonicNs(self.now));
        self.pushed += u64::from(matches!(made, Announcement::Push(_)));
        self.queue.assert_invariants();
        Some((conversation, made))
    }

    fn announces(&mut self, conversation: ConversationId) -> bool {
        self.ask_for_long() == Some((conversation, Announcement::Push(PushNumber(self.pushed))))
    }

    fn acknowledge(&mut self) {
        self.queue.acknowledge(PushNumber(self.pushed), &mut self.pool, |_| ()).unwrap();
        self.queue.assert_invariants();
    }

    fn next_of(&self, conversation: &ConversationId) -> u64 {
        self.queue.known(conversation).unwrap().next.0
    }
}

/// A device without credit in a group of hundreds of messages a second was announced the range each time that more than 64
/// of them had gathered: it acknowledged at once, and the range that opened behind that was announced again.
#[test]
fn what_is_acknowledged_quickly_is_not_announced_twice_in_a_second() {
    let mut bench = Bench::new(4);
    bench.fall_behind(id(1));
    assert!(bench.announces(id(1)));
    bench.acknowledge();
    assert_eq!(bench.queue.range_count(), 0, "all of it is acknowledged");
    bench.now += SECOND / 2;
    bench.fall_behind(id(1));
    assert_eq!(bench.ask_for_long(), Some((id(1), Announcement::Held)));
    assert_eq!(bench.next_of(&id(1)), 1001, "the range stays as it was");
    assert_eq!(bench.queue.window().count(), 0, "nothing was pushed");
    bench.head += 500;
    bench.now = 6 * SECOND - 1;
    assert_eq!(bench.ask(), None, "its second is not over");
    assert_eq!(bench.queue.held_until(), Some(MonotonicNs(6 * SECOND)));
    bench.now += 1;
    assert!(bench.announces(id(1)));
    assert_eq!(bench.next_of(&id(1)), 2501, "up to the newest head");
    assert_eq!(bench.queue.held_until(), None);
    assert_eq!(bench.ask(), None, "once");
}

#[test]
fn others_are_announced_and_pushed_while_one_is_held_back() {
    let mut bench = Bench::new(8);
    bench.fall_behind(id(1));
    assert!(bench.announces(id(1)));
    bench.acknowledge();
    bench.fall_behind(id(1));
    bench.fall_behind(id(2));
    assert_eq!(bench.ask_for_long(), Some((id(1), Announcement::Held)));
    assert!(bench.announces(id(2)));
    let entry = WindowEntry { conversation: id(3), sequence: Sequence(1), bytes: 10 };
    let live = bench.queue.consume(entry, &mut bench.pool, |_| ());
    assert_eq!(live, Consumed::Push(PushNumber(3)));
    assert_eq!(bench.ask(), None);
    // The other's second began later, and its range is not held back.
    bench.now += SECOND;
    bench.pushed = 3;
    assert!(bench.ask_for_long().is_some_and(|(of, _)| of == id(1)));
}

/// What was asked for is pushed if it is short, whenever its conversation was announced: a live record behind it too.
#[test]
fn a_short_piece_of_what_was_just_announced_is_pushed() {
    let mut bench = Bench::new(4);
    bench.fall_behind(id(1));
    assert!(bench.announces(id(1)));
    bench.acknowledge();
    bench.queue.apply(&QueueChange::Widen { conversation: id(1), from: Sequence(1001) });
    assert_eq!(bench.ask(), Some((id(1), 1001)));
    bench.queue.answered();
    let entry = |sequence| WindowEntry { conversation: id(1), sequence: Sequence(sequence), bytes: 10 };
    let pushed = bench.queue.push_answered(entry(1001), false, &mut bench.pool).unwrap();
    assert_eq!(pushed.map(|push| push.number), Some(PushNumber(2)));
    let (from, covered) = (Sequence(1001), Sequence(1001));
    let answer = Answer { conversation: id(1), from, covered, complete: true };
    bench.queue.finish_answer(&answer, &bench.pool, |_| ());
    let live = bench.queue.consume(entry(1002), &mut bench.pool, |_| ());
    assert_eq!(live, Consumed::Push(PushNumber(3)));
}

#[test]
fn drain_done_waits_for_what_is_held_back() {
    let mut bench = Bench::new(4);
    bench.fall_behind(id(1));
    assert!(bench.announces(id(1)));
    bench.head += 1000;
    let entry = WindowEntry { conversation: id(1), sequence: Sequence(bench.head), bytes: 10 };
    assert_eq!(bench.queue.consume(entry, &mut bench.pool, |_| ()), Consumed::Queued);
    assert_eq!(bench.ask_for_long(), Some((id(1), Announcement::Held)));
    assert_eq!(bench.ask(), None);
    assert!(!bench.queue.take_drain_done());
    bench.now += SECOND;
    assert!(bench.announces(id(1)));
    assert!(bench.queue.take_drain_done());
}

#[test]
fn a_range_that_is_held_back_is_durable_like_any_other() {
    let mut bench = Bench::new(4);
    let entry = |sequence| WindowEntry { conversation: id(1), sequence: Sequence(sequence), bytes: 10 };
    bench.fall_behind(id(1));
    assert!(bench.announces(id(1)));
    bench.acknowledge();
    // Three short of the credit, so that a record opens a range which the stream does not say yet.
    (2..=4).for_each(|other| {
        let entry = WindowEntry { conversation: id(other), ..entry(1) };
        assert_ne!(bench.queue.consume(entry, &mut bench.pool, |_| ()), Consumed::Queued);
    });
    bench.pushed += 3;
    let last = WindowEntry { conversation: id(5), ..entry(1) };
    bench.queue.consume(last, &mut bench.pool, |_| ());
    bench.pushed += 1;
    assert_eq!(bench.queue.consume(entry(1001), &mut bench.pool, |_| ()), Consumed::Queued);
    bench.acknowledge();
    bench.head += 1000;
    assert_eq!(bench.ask_for_long(), Some((id(1), Announcement::Held)));
    let mut told = Vec::new();
    bench.queue.checkpoint(&bench.pool, |change| told.push(change));
    assert_eq!(told, [QueueChange::Widen { conversation: id(1), from: Sequence(1001) }]);
    told.clear();
    bench.queue.disconnect(&mut bench.pool, |change| told.push(change));
    assert_eq!(told, [], "the checkpoint has said it");
    bench.queue.assert_invariants();
    let ranges: Vec<_> = bench.queue.ranges().collect();
    assert_eq!(ranges, [(id(1), Sequence(1001))]);
}

#[test]
fn a_fresh_connection_is_announced_at_once() {
    let mut bench = Bench::new(4);
    bench.fall_behind(id(1));
    assert!(bench.announces(id(1)));
    bench.queue.disconnect(&mut bench.pool, |_| ());
    assert!(bench.queue.announced.is_none());
    bench.queue.assert_invariants();
    bench.queue.connect(4);
    bench.queue.welcomed();
    bench.pushed = 0;
    bench.now += 1;
    assert!(bench.announces(id(1)), "what was not acknowledged");
}

/// A range that is removed while it is held back, as by a fold, leaves nothing behind that keeps the next one waiting.
#[test]
fn a_range_that_goes_is_not_held_back_any_more() {
    let mut bench = Bench::new(4);
    bench.fall_behind(id(1));
    assert!(bench.announces(id(1)));
    bench.acknowledge();
    bench.fall_behind(id(1));
    assert_eq!(bench.ask_for_long(), Some((id(1), Announcement::Held)));
    bench.queue.apply(&QueueChange::Set { conversation: id(1), from: None });
    bench.queue.assert_invariants();
    assert_eq!(bench.queue.held_until(), None);
    bench.fall_behind(id(1));
    assert_eq!(bench.ask_for_long(), Some((id(1), Announcement::Held)), "asked for, and long again");
}

#[test]
fn so_many_are_remembered_and_the_oldest_is_forgotten() {
    let mut bench = Bench::new(4);
    bench.fall_behind(id(0));
    assert!(bench.announces(id(0)));
    bench.acknowledge();
    bench.fall_behind(id(0));
    assert_eq!(bench.ask_for_long(), Some((id(0), Announcement::Held)));
    for number in 1..=ANNOUNCED_MAX as u64 {
        assert_eq!(bench.queue.announced.as_ref().unwrap().last.len() as u64, number);
        bench.now += 1;
        bench.fall_behind(id(number));
        assert!(bench.announces(id(number)), "{number}");
        bench.acknowledge();
    }
    assert_eq!(bench.queue.announced.as_ref().unwrap().last.len(), ANNOUNCED_MAX);
    assert_eq!(bench.queue.held_until(), None, "the oldest was forgotten");
    assert!(bench.announces(id(0)), "and may be announced at once");
    bench.acknowledge();
    bench.fall_behind(id(2));
    assert_eq!(bench.ask_for_long(), Some((id(2), Announcement::Held)), "the others are remembered");
}

#[test]
fn an_idle_device_keeps_no_heap_for_it() {
    let mut bench = Bench::new(4);
    assert!(bench.queue.announced.is_none());
    bench.fall_behind(id(1));
    assert!(bench.announces(id(1)));
    bench.acknowledge();
    bench.queue.forget_announced(MonotonicNs(bench.now + SECOND - 1));
    assert!(bench.queue.announced.is_some());
    bench.queue.forget_announced(MonotonicNs(bench.now + SECOND));
    assert!(bench.queue.announced.is_none());
}
