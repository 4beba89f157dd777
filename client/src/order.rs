//! Order of arrival into order of the conversation: each record once, none before its predecessor (requirements 10,
//! 11, 14).
//!
//! `next` is what the application gets next. What comes above it is held; what is missing between is asked for after
//! a wait, and the answer either brings it or says that it is not to be had. So `next` moves or a request is on its
//! way, always. Nothing here knows of connections: the machine asks, and tells what came.

use crate::conversation::Conversation;
use crate::event::{Event, Sink, Source};
use tidegate_ids::{MonotonicNs, PushNumber, Sequence};
use tidegate_schema::{Deliver, Range, SkipReason, Stamp};

/// What is known above a hole.
#[derive(Debug, Default)]
pub(crate) struct Holes {
    /// Sorted, disjoint, all above `next`.
    held: Vec<Held>,
    /// When the lowest hole is asked for.
    pub(crate) due_at: MonotonicNs,
    /// Whether a request for it is on its way.
    pub(crate) asked: bool,
    /// Answers without progress, one after the other.
    pub(crate) fruitless: u8,
    /// Refusals, one after the other.
    pub(crate) refusals: u8,
}

#[derive(Debug)]
struct Held {
    first: Sequence,
    last: Sequence,
    what: What,
}

#[derive(Debug)]
enum What {
    /// A record; the push waits for its acknowledgement (0: of an earlier connection).
    Record { stamp: Stamp, message: Box<[u8]>, push: PushNumber },
    /// This device's own record: the application has it from `Sent`.
    Own,
    /// Not to be had.
    Gap(SkipReason),
}

/// What became of a pushed record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offered {
    /// Given to the application, or it had it.
    Given,
    /// Held; its push must not be acknowledged.
    Held,
    /// Dropped for want of room: it is part of the duty now.
    Duty,
}

impl Holes {
    /// The lowest push that is held.
    pub(crate) fn lowest_push(&self) -> Option<PushNumber> {
        let push = |held: &Held| match held.what {
            What::Record { push, .. } if push.0 > 0 => Some(push),
            _ => None,
        };
        self.held.iter().filter_map(push).min()
    }

    /// The connection ended: nothing is asked for, and no push waits for its acknowledgement.
    pub(crate) fn disconnected(&mut self) {
        self.asked = false;
        self.refusals = 0;
        for held in &mut self.held {
            if let What::Record { push, .. } = &mut held.what {
                *push = PushNumber(0);
            }
        }
    }

    fn insert(&mut self, first: Sequence, last: Sequence, what: What) {
        let place = self.held.partition_point(|held| held.first < first);
        let free = self.held.get(place).is_none_or(|above| last < above.first);
        if free && (place == 0 || self.held[place - 1].last < first) {
            self.held.insert(place, Held { first, last, what });
        }
    }
}

impl Conversation {
    /// The lowest hole: both ends included. None if nothing is missing.
    pub(crate) fn hole(&self) -> Option<(Sequence, Sequence)> {
        let from = self.next.max(Sequence::FIRST);
        let first_held = self.holes.as_ref().and_then(|holes| holes.held.first());
        let to = first_held.map_or(self.duty_to, |held| Sequence(held.first.0 - 1));
        (from <= to).then_some((from, to))
    }

    /// Whether a hole or something held is there.
    pub(crate) fn is_waiting(&self) -> bool {
        self.holes.is_some()
    }

    /// Where the conversation begins: everything below is not this device's.
    pub(crate) fn begin(&mut self, next: Sequence, now: MonotonicNs, sink: &mut Sink<'_>) {
        debug_assert!(next.0 > 0);
        self.next = next;
        if let Some(holes) = &mut self.holes {
            holes.held.retain(|held| held.first >= next);
        }
        sink(Event::Begins { conversation: self.id, next });
        self.settle(now, sink);
    }

    /// Where a device begins that wants only what comes: above the head, unless something lower was pushed already.
    pub(crate) fn begin_at_head(&self, head: Sequence) -> Sequence {
        let held = self.holes.as_ref().and_then(|holes| holes.held.first());
        held.map_or(head.next(), |held| held.first.min(head.next()))
    }

    /// A record was pushed.
    pub(crate) fn offer(
        &mut self,
        deliver: &Deliver<'_>,
        push: PushNumber,
        reorder_max: usize,
        hole_at: MonotonicNs,
        sink: &mut Sink<'_>,
    ) -> Offered {
        let sequence = deliver.stamp.sequence;
        if sequence == self.next {
            self.give(deliver, Source::Push, sink);
            if self.holes.is_some() {
                self.settle(hole_at, sink);
            }
            return Offered::Given;
        }
        if sequence < self.next {
            return Offered::Given;
        }
        self.hold(deliver, push, reorder_max, hole_at, sink)
    }

    fn hold(
        &mut self,
        deliver: &Deliver<'_>,
        push: PushNumber,
        reorder_max: usize,
        hole_at: MonotonicNs,
        sink: &mut Sink<'_>,
    ) -> Offered {
        let sequence = deliver.stamp.sequence;
        let holes = self.open_holes(hole_at);
        let above = holes.held.partition_point(|held| held.first <= sequence);
        if above > 0 && holes.held[above - 1].last >= sequence {
            return match &mut holes.held[above - 1].what {
                What::Record { push: waiting, .. } => {
                    *waiting = push;
                    Offered::Held
                }
                What::Own | What::Gap(_) => Offered::Given,
            };
        }
        if holes.held.len() >= reorder_max {
            self.want(sequence, 0, hole_at, sink);
            return Offered::Duty;
        }
        let what = What::Record { stamp: deliver.stamp, message: deliver.message.into(), push };
        holes.held.insert(above, Held { first: sequence, last: sequence, what });
        Offered::Held
    }

    /// Everything up to `to` exists and must be fetched. `at` is when.
    pub(crate) fn want(&mut self, to: Sequence, mentions: u32, at: MonotonicNs, sink: &mut Sink<'_>) {
        if to < self.next.max(Sequence::FIRST) {
            return;
        }
        let holes = self.open_holes(at);
        holes.due_at = holes.due_at.min(at);
        if to <= self.duty_to {
            return;
        }
        self.duty_to = to;
        let (conversation, from) = (self.id, self.next.max(Sequence::FIRST));
        sink(Event::Duty { conversation, from, to: self.duty_to, mentions });
    }

    /// This device's own record stands here.
    pub(crate) fn fill_own(&mut self, sequence: Sequence, hole_at: MonotonicNs, sink: &mut Sink<'_>) {
        if sequence < self.next || sequence.0 == 0 {
            return;
        }
        if sequence == self.next {
            self.next = sequence.next();
            if self.holes.is_some() {
                self.settle(hole_at, sink);
            }
            return;
        }
        self.open_holes(hole_at).insert(sequence, sequence, What::Own);
    }

    /// The gateway says that these are not to be had.
    pub(crate) fn gap(
        &mut self,
        from: Sequence,
        to: Sequence,
        reason: SkipReason,
        hole_at: MonotonicNs,
        sink: &mut Sink<'_>,
    ) {
        if to < from.max(self.next) {
            return;
        }
        if self.next.0 > 0 && from <= self.next {
            self.pass(to, &|_| (to, reason), sink);
            return self.settle(hole_at, sink);
        }
        let from = from.max(Sequence::FIRST);
        self.open_holes(hole_at).insert(from, to, What::Gap(reason));
    }

    /// The answer to a request for `from` to `to`. What it does not bring, although it covers it, is not to be had; an
    /// answer that covers nothing new counts as fruitless, and after a few of them all that was asked for is passed.
    pub(crate) fn answer(
        &mut self,
        to: Sequence,
        range: &Range<'_>,
        fruitless_max: u8,
        now: MonotonicNs,
        sink: &mut Sink<'_>,
    ) {
        let before = self.next;
        let reason_at = |sequence: Sequence| -> (Sequence, SkipReason) {
            let mut end = Sequence(u64::MAX);
            for span in range.skips {
                if span.from <= sequence && sequence <= span.to {
                    return (span.to, span.reason);
                }
                if span.from > sequence {
                    end = end.min(Sequence(span.from.0 - 1));
                }
            }
            (end, SkipReason::Unspecified)
        };
        if range.first_available > self.next {
            let below = Sequence(range.first_available.0 - 1).min(to.max(range.head));
            self.pass(below, &|_| (below, SkipReason::Expired), sink);
        }
        for record in range.iter() {
            let Ok(record) = record else { break };
            let sequence = record.stamp.sequence;
            if sequence > to || record.stamp.conversation != self.id {
                continue;
            }
            if sequence > self.next {
                self.pass(Sequence(sequence.0 - 1), &reason_at, sink);
            }
            if sequence == self.next {
                self.give(&record, Source::Fetch, sink);
            }
        }
        let mut covered = if range.complete { to.min(range.head) } else { Sequence(0) };
        for span in range.skips {
            let contiguous = span.from <= self.next.max(covered.next());
            covered = if contiguous { covered.max(span.to) } else { covered };
        }
        self.pass(covered, &reason_at, sink);
        self.judge(before, to, fruitless_max, sink);
        self.settle(now, sink);
    }

    /// Counts an answer without progress, and ends the asking when there were too many.
    fn judge(&mut self, before: Sequence, to: Sequence, fruitless_max: u8, sink: &mut Sink<'_>) {
        // What was asked for may have come by pushes in the meantime.
        let moved = self.next > before || self.next > to;
        let Some(holes) = &mut self.holes else { return };
        holes.fruitless = if moved { 0 } else { holes.fruitless + 1 };
        if holes.fruitless >= fruitless_max {
            holes.fruitless = 0;
            self.pass(to, &|_| (to, SkipReason::Unspecified), sink);
        }
    }

    /// What was asked for is refused for good.
    pub(crate) fn give_up(
        &mut self,
        to: Sequence,
        reason: SkipReason,
        now: MonotonicNs,
        sink: &mut Sink<'_>,
    ) {
        self.pass(to, &|_| (to, reason), sink);
        self.settle(now, sink);
    }

    /// Records above `head` do not exist any more: the duty ends there, what is held above is gone. Gives whether the
    /// application may have some of them.
    pub(crate) fn cut(&mut self, head: Sequence) -> bool {
        if let Some(holes) = &mut self.holes {
            holes.held.retain(|held| held.last <= head);
        }
        self.duty_to = self.duty_to.min(head);
        let dropped = self.next > head.next();
        self.next = self.next.min(head.next());
        if self.hole().is_none() {
            self.holes = None;
        }
        dropped
    }

    fn give(&mut self, deliver: &Deliver<'_>, source: Source, sink: &mut Sink<'_>) {
        debug_assert_eq!(deliver.stamp.sequence, self.next);
        self.next = self.next.next();
        sink(Event::Message { stamp: &deliver.stamp, message: deliver.message, source });
    }

    /// Moves `next` above `to`: what is held on the way is given, the rest is skipped. `reason` says why for a sequence
    /// and up to where that holds.
    fn pass(
        &mut self,
        to: Sequence,
        reason: &dyn Fn(Sequence) -> (Sequence, SkipReason),
        sink: &mut Sink<'_>,
    ) {
        while self.next <= to {
            if self.take_held(sink) {
                continue;
            }
            let held = self.holes.as_ref().and_then(|holes| holes.held.first());
            let limit = held.map_or(to, |held| to.min(Sequence(held.first.0 - 1)));
            let (end, why) = reason(self.next);
            let (from, end) = (self.next, end.min(limit).max(self.next));
            self.next = end.next();
            sink(Event::Skipped { conversation: self.id, from, to: end, reason: why });
        }
    }

    /// Takes what is held at `next`.
    fn take_held(&mut self, sink: &mut Sink<'_>) -> bool {
        let Some(holes) = &mut self.holes else { return false };
        // What a gap or a fetch has passed on its way is not wanted any more.
        let passed = holes.held.iter().take_while(|held| held.last < self.next).count();
        holes.held.drain(..passed);
        if holes.held.first().is_none_or(|held| held.first > self.next) {
            return false;
        }
        let held = holes.held.remove(0);
        match held.what {
            What::Record { stamp, message, .. } => {
                self.give(&Deliver { stamp, message: &message }, Source::Push, sink);
            }
            What::Own => self.next = held.last.next(),
            What::Gap(reason) => {
                let from = self.next;
                self.next = held.last.next();
                sink(Event::Skipped { conversation: self.id, from, to: held.last, reason });
            }
        }
        true
    }

    /// Gives what has become due, and closes the books if nothing is missing. A hole that is left is asked for at `at`.
    fn settle(&mut self, at: MonotonicNs, sink: &mut Sink<'_>) {
        if self.next.0 == 0 {
            return;
        }
        while self.take_held(sink) {}
        if self.hole().is_none() {
            self.holes = None;
        } else if let Some(holes) = &mut self.holes {
            holes.due_at = at;
        }
    }

    fn open_holes(&mut self, at: MonotonicNs) -> &mut Holes {
        self.holes.get_or_insert_with(|| Box::new(Holes { due_at: at, ..Holes::default() }))
    }
}
