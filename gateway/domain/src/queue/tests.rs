use super::*;
use crate::CREDIT_FRAMES_MAX;
use std::ops::RangeInclusive;
use tidegate_ids::MonotonicNs;

const CONVERSATION: ConversationId = ConversationId([0x80; 16]);
const OTHER: ConversationId = ConversationId([0x81; 16]);

struct Bench {
    queue: DeviceQueue,
    pool: WindowPool,
    told: Vec<QueueChange>,
    now: MonotonicNs,
}

fn entry(conversation: ConversationId, sequence: u64) -> WindowEntry {
    WindowEntry { conversation, sequence: Sequence(sequence), bytes: 10 }
}

impl Bench {
    fn new(credit: u16) -> Self {
        let (queue, pool) = (DeviceQueue::default(), WindowPool::new(64));
        let mut bench = Self { queue, pool, told: Vec::new(), now: MonotonicNs(0) };
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
        let ask = self.queue.next_ask(&self.pool, self.now)?;
        self.queue.asked(&ask);
        Some(ask.from.0)
    }

    fn push_dirty(&mut self, answer: &Answer) -> Announcement {
        self.queue.push_dirty(answer, 64, &mut self.pool, self.now)
    }

    fn range(&self) -> Option<(u64, u64)> {
        let next = self.queue.known(&CONVERSATION)?.next.0;
        Some((self.queue.ranges[&CONVERSATION].from.0, next))
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
    assert_eq!(bench.push_dirty(&answer), Announcement::Push(PushNumber(1)));
    assert_eq!(bench.ask(), None);
    assert!(bench.queue.take_drain_done(), "announced is as good as pushed");
    bench.disconnect();
    bench.connect(2);
    assert_eq!(bench.ask(), Some(1), "not acknowledged: announced again");
    bench.queue.answered();
    bench.push_dirty(&answer);
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
    assert_eq!(bench.push_dirty(&answer), Announcement::Push(PushNumber(4)));
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

fn id(number: u64) -> ConversationId {
    ConversationId::group(u128::from(number.wrapping_mul(0x9E37_79B9_7F4A_7C15)).to_be_bytes())
}

fn folded(told: &[QueueChange]) -> DeviceQueue {
    let mut folded = DeviceQueue::default();
    told.iter().for_each(|change| folded.apply(change));
    folded
}

/// A state of ranges sorted by conversation, and a set that moved a range to the end, made "oldest first" a matter of
/// luck after the first load.
#[test]
fn ranges_keep_the_order_in_which_they_opened() {
    let mut queue = DeviceQueue::default();
    let opened: Vec<ConversationId> = (0..50).map(id).collect();
    for conversation in &opened {
        queue.apply(&QueueChange::Widen { conversation: *conversation, from: Sequence(5) });
    }
    queue.apply(&QueueChange::Set { conversation: opened[0], from: Some(Sequence(6)) });
    queue.apply(&QueueChange::Widen { conversation: opened[1], from: Sequence(2) });
    queue.apply(&QueueChange::Set { conversation: opened[2], from: None });
    queue.apply(&QueueChange::Widen { conversation: opened[2], from: Sequence(7) });
    let found: Vec<(ConversationId, u64)> = queue.ranges().map(|(id, from)| (id, from.0)).collect();
    let mut expected: Vec<(ConversationId, u64)> = opened.iter().map(|id| (*id, 5)).collect();
    (expected[0].1, expected[1].1) = (6, 2);
    expected.remove(2);
    expected.push((opened[2], 7));
    assert_eq!(found, expected);
}

/// The end of a connection wrote every range of the queue: a device with ten thousand of them that lost its connection
/// each minute wrote a megabyte each time, in one turn.
#[test]
fn the_end_of_a_connection_tells_what_is_new_and_never_more_than_its_limit() {
    let pool = &mut WindowPool::new(256);
    let mut queue = DeviceQueue::default();
    (0..10_000).for_each(|n| queue.apply(&QueueChange::Widen { conversation: id(n), from: Sequence(1) }));
    let mut told = Vec::new();
    queue.connect(CREDIT_FRAMES_MAX);
    queue.disconnect(pool, |change| told.push(change));
    assert_eq!(told, [], "the stream says all of it");
    let untold = UNTOLD_RANGES_MAX + usize::from(CREDIT_FRAMES_MAX);
    for round in 1..3 {
        queue.connect(CREDIT_FRAMES_MAX);
        queue.welcomed();
        told.clear();
        for n in 0..3000 {
            let entry = WindowEntry { conversation: id(n + round * 20_000), sequence: Sequence(1), bytes: 1 };
            let before = told.len();
            queue.consume(entry, pool, |change| told.push(change));
            assert!(told.len() - before <= 1, "a record tells one change at most");
        }
        assert_eq!(told.len(), 3000 - untold, "what is neither pushed nor waits for a checkpoint");
        let mut at_checkpoint = 0;
        if round == 1 {
            queue.checkpoint(pool, |_| at_checkpoint += 1);
        }
        told.clear();
        queue.disconnect(pool, |change| told.push(change));
        assert_eq!(at_checkpoint + told.len(), untold, "each is told once");
        assert!(round == 2 || told.is_empty(), "the checkpoint has told all of it");
    }
}

/// A device with whatever happens to it, in an order that a seed decides.
struct Chaos {
    random: crate::Generator,
    queue: DeviceQueue,
    pool: WindowPool,
    /// By conversation: the last sequence consumed.
    heads: Vec<u64>,
    told: Vec<QueueChange>,
    now: MonotonicNs,
    /// By conversation: when it was announced on this connection.
    announced: BTreeMap<usize, MonotonicNs>,
    /// Sequences that were pushed or announced on this connection and not acknowledged, and all that were acknowledged.
    pushed: Vec<(usize, RangeInclusive<u64>)>,
    stored: BTreeSet<(usize, u64)>,
    acknowledged: u64,
    /// Announcements that were held back.
    held: usize,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        Self {
            random: crate::Generator::new(seed),
            queue: DeviceQueue::default(),
            pool: WindowPool::new(6),
            heads: vec![0; 12],
            told: Vec::new(),
            now: MonotonicNs(0),
            announced: BTreeMap::new(),
            pushed: Vec::new(),
            stored: BTreeSet::new(),
            acknowledged: 0,
            held: 0,
        }
    }

    fn below(&mut self, count: usize) -> usize {
        (self.random.next_u64() >> 33) as usize % count
    }

    fn consume(&mut self) {
        let place = self.below(self.heads.len());
        self.heads[place] += 1;
        let entry = entry(id(place as u64), self.heads[place]);
        let told = &mut self.told;
        if let Consumed::Push(_) = self.queue.consume(entry, &mut self.pool, |change| told.push(change)) {
            self.pushed.push((place, entry.sequence.0..=entry.sequence.0));
        }
    }

    fn drain(&mut self) {
        self.now = self.now.after(self.below(10) as u64 * MonotonicNs::MILLISECOND);
        let Some(ask) = self.queue.next_ask(&self.pool, self.now) else { return };
        let place = (0..self.heads.len()).find(|place| id(*place as u64) == ask.conversation).unwrap();
        self.queue.asked(&ask);
        let covered = self.heads[place].min(ask.from.0 + 2);
        if self.below(3) == 0 {
            self.consume();
        }
        if self.below(3) == 0 {
            return self.announce(place, &ask);
        }
        let complete = covered >= self.heads[place];
        let answer =
            Answer { conversation: ask.conversation, from: ask.from, covered: Sequence(covered), complete };
        self.queue.answered();
        assert!(self.queue.accepts(&answer), "nothing has lowered it since");
        let told = &mut self.told;
        for sequence in ask.from.0..=covered {
            match self.queue.push_answered(entry(ask.conversation, sequence), false, &mut self.pool) {
                Ok(None) => {}
                Ok(Some(push)) => self.pushed.push((place, push.sequence.0..=push.sequence.0)),
                Err(NoCredit) => {
                    return self.queue.cut_answer(&answer, &self.pool, |change| told.push(change));
                }
            }
        }
        self.queue.finish_answer(&answer, &self.pool, |change| told.push(change));
    }

    /// The range is answered to be too long, up to its head.
    fn announce(&mut self, place: usize, ask: &AskedRange) {
        let covered = Sequence(self.heads[place]);
        let answer = Answer { conversation: ask.conversation, from: ask.from, covered, complete: true };
        self.queue.answered();
        let next = self.queue.known(&ask.conversation).map(|progress| progress.next.0);
        match self.queue.push_dirty(&answer, 10, &mut self.pool, self.now) {
            Announcement::Push(_) => {
                self.pushed.push((place, next.unwrap()..=covered.0));
                let before = self.announced.insert(place, self.now);
                let is_late = before.is_none_or(|before| self.now.since(before) >= MonotonicNs::SECOND);
                assert!(is_late, "{place} was announced twice in a second");
            }
            Announcement::Held => self.held += 1,
            Announcement::Nothing => {}
        }
    }

    fn acknowledge(&mut self) {
        let count = self.below(self.pushed.len() + 1);
        for (place, sequences) in self.pushed.drain(..count) {
            self.stored.extend(sequences.map(|sequence| (place, sequence)));
        }
        self.acknowledged += count as u64;
        let (told, number) = (&mut self.told, PushNumber(self.acknowledged));
        self.queue.acknowledge(number, &mut self.pool, |change| told.push(change)).unwrap();
    }

    fn turn_over(&mut self) {
        if self.queue.is_connected() {
            let told = &mut self.told;
            self.queue.disconnect(&mut self.pool, |change| told.push(change));
            self.check_durable();
            self.pushed.clear();
            self.announced.clear();
            self.acknowledged = 0;
        } else {
            self.queue.connect(4);
            self.queue.welcomed();
        }
    }

    /// What the stream says is what memory holds, and covers everything that is not stored.
    fn check_durable(&self) {
        let folded = folded(&self.told);
        let ranges: BTreeMap<ConversationId, Sequence> = folded.ranges().collect();
        assert_eq!(ranges, self.queue.ranges().collect(), "the stream says something else");
        for (place, head) in self.heads.iter().enumerate() {
            let from = ranges.get(&id(place as u64)).map_or(u64::MAX, |from| from.0);
            let lost = (1..=*head).find(|one| *one < from && !self.stored.contains(&(place, *one)));
            assert_eq!(lost, None, "conversation {place}, range from {from}");
        }
    }

    /// A crash at any moment: the stream, with what a checkpoint adds, covers everything that is not stored.
    fn check_crash(&mut self) {
        let mut told = Vec::new();
        self.queue.checkpoint(&self.pool, |change| told.push(change));
        self.told.extend(&told);
        let ranges: BTreeMap<ConversationId, Sequence> = folded(&self.told).ranges().collect();
        for (id, from) in self.queue.ranges() {
            assert!(ranges.get(&id).is_some_and(|said| *said <= from), "{id} from {from} is not told");
        }
        for (place, sequences) in &self.pushed {
            assert!(ranges.get(&id(*place as u64)).is_some_and(|said| said.0 <= *sequences.start()));
        }
    }
}

#[test]
fn whatever_happens_the_stream_covers_what_is_not_acknowledged() {
    let mut held = 0;
    for seed in 0..300 {
        let mut chaos = Chaos::new(seed);
        for _ in 0..400 {
            match chaos.below(60) {
                0 => chaos.turn_over(),
                1..=3 if chaos.queue.is_connected() => chaos.check_crash(),
                4..=20 => chaos.acknowledge(),
                21..=38 => chaos.drain(),
                _ => chaos.consume(),
            }
            chaos.queue.assert_invariants();
        }
        if !chaos.queue.is_connected() {
            chaos.turn_over();
        }
        for _ in 0..2000 {
            chaos.drain();
            chaos.acknowledge();
        }
        let all: usize = chaos.heads.iter().map(|head| *head as usize).sum();
        assert_eq!((chaos.stored.len(), chaos.queue.range_count()), (all, 0), "seed {seed}");
        assert_eq!(chaos.pool.free_count(), 6);
        held += chaos.held;
    }
    assert!(held > 100, "{held} announcements were held back");
}
