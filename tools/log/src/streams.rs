//! The rules that hold along a stream, over all logs: contiguous sequences, and links that lead where they say. What a repair
//! gave up counts as being there, as far as it says what it was.

use crate::faults::Faults;
use crate::kinds::is_sequenced;
use crate::links::Links;
use crate::lost::{LostPlaces, nowhere};
use crate::spines::KnownSpine;
use std::collections::HashMap;
use tidegate_ids::{Location, Sequence, StreamId};
use tidegate_storage_log::{Lost, LostWhat, RecordView, jump_sequence};

/// All streams so far.
#[derive(Debug)]
pub(crate) struct Streams {
    streams: HashMap<StreamId, Held>,
    rules: Rules,
}

/// What links are judged by.
#[derive(Debug)]
struct Rules {
    links: Links,
    /// What a repair gave up.
    lost: LostPlaces,
}

#[derive(Debug, Default)]
struct Held {
    last: Sequence,
    /// Where the next links must lead; behind a hole, links that are not known are followed instead.
    spine: KnownSpine,
    /// Whether a repair gave up records of this stream.
    misses_some: bool,
}

impl Streams {
    pub(crate) fn new(links: Links) -> Self {
        let rules = Rules { links, lost: LostPlaces::default() };
        Self { streams: HashMap::new(), rules }
    }

    pub(crate) fn count(&self) -> usize {
        self.streams.len()
    }

    /// Takes the next record in the order of epochs, shards and appends.
    pub(crate) fn take(&mut self, record: &RecordView<'_>, faults: &mut Faults) {
        self.rules.lost.pass();
        let head = &record.head;
        let held = self.streams.entry(head.stream).or_default();
        if is_sequenced(head.kind) {
            check_sequenced(held, record, &mut self.rules, faults);
        } else {
            check_unsequenced(held, record, &mut self.rules, faults);
        }
        check_device_link(held, record, &mut self.rules, faults);
    }

    /// Takes the next place that a repair gave up. What is lost now is told as damage.
    pub(crate) fn take_lost(&mut self, lost: &Lost) {
        let LostWhat::GivenUp(left) = lost.what else { return };
        self.rules.lost.note(lost);
        let Some(head) = left.head.filter(|head| is_sequenced(head.kind)) else { return };
        let held = self.streams.entry(head.stream).or_default();
        held.misses_some = true;
        if head.sequence < held.last.next() {
            return;
        }
        if head.sequence > held.last.next() {
            held.spine.forget_through(Sequence(head.sequence.0 - 1));
        }
        held.last = head.sequence;
        held.spine.push(lost.location());
    }
}

fn check_sequenced(held: &mut Held, record: &RecordView<'_>, rules: &mut Rules, faults: &mut Faults) {
    let (head, placement) = (&record.head, &record.placement);
    let (expected, prev) = (held.last.next(), placement.prev);
    if head.sequence != expected {
        let is_behind = head.sequence > expected;
        if is_behind && (rules.lost.has(prev) || prev == nowhere(record.location)) {
            held.misses_some = true;
        } else if !is_behind || !rules.links.is_dropped(prev) {
            // Otherwise what lies between went with its segment.
            faults.add(|| format!("{}: sequence {}, expected {expected}", name(record), head.sequence));
        }
        held.spine.forget_through(Sequence(head.sequence.0.saturating_sub(1)));
    }
    held.last = held.last.max(head.sequence);
    let right = held.spine.links();
    if let (Some(to), Some(jump)) = (right.prev, right.jump) {
        if (placement.prev, placement.jump) != (to, jump) {
            let found = (placement.prev, placement.jump);
            faults.add(|| {
                format!("{}: links to {} and {}, expected {to} and {jump}", name(record), found.0, found.1)
            });
        }
    } else {
        let before = Sequence(head.sequence.0.saturating_sub(1));
        check_link(record, "prev", (prev, right.prev), before, rules, faults);
        check_link(record, "jump", (placement.jump, right.jump), jump_sequence(head.sequence), rules, faults);
    }
    held.spine.push(record.location);
}

/// A link behind a hole: where it is not known, it leads to the record of that sequence, which may itself be what is missing.
fn check_link(
    record: &RecordView<'_>,
    which: &str,
    (to, right): (Location, Option<Location>),
    sequence: Sequence,
    rules: &mut Rules,
    faults: &mut Faults,
) {
    let is_right = match right {
        Some(right) => to == right,
        None if sequence.0 == 0 || to.is_none() => sequence.0 == 0 && to.is_none(),
        None => {
            let target = rules.links.follow(to);
            to < record.location
                && target.is_none_or(|at| at.stream == record.head.stream && at.sequence == sequence)
        }
    };
    if !is_right {
        faults.add(|| format!("{}: {which} leads to {to}, which is not sequence {sequence}", name(record)));
    }
}

/// Records of users and shards, and states: no sequence of their own, one link back along the stream, or none.
fn check_unsequenced(held: &mut Held, record: &RecordView<'_>, rules: &mut Rules, faults: &mut Faults) {
    let (head, placement) = (&record.head, &record.placement);
    let (links, prev) = (&mut rules.links, placement.prev);
    let is_first = held.last.0 == 0 && links.has_dropped() && (prev.is_none() || prev == Location::SNAPSHOT);
    let is_explained = links.is_dropped(prev) || is_first || !rules.lost.is_empty();
    if head.sequence > held.last && is_explained {
        held.misses_some |= !rules.lost.is_empty();
        held.last = head.sequence;
        held.spine.forget_through(head.sequence);
    } else if head.sequence != held.last {
        let last = held.last;
        faults
            .add(|| format!("{}: sequence {}, though the stream is at {last}", name(record), head.sequence));
    }
    if !placement.jump.is_none() {
        faults.add(|| format!("{}: a jump to {}, where none belongs", name(record), placement.jump));
    }
    if prev.is_none() || prev == Location::SNAPSHOT || links.is_dropped(prev) {
        return;
    }
    let target = (prev < record.location).then(|| links.follow(prev)).flatten();
    if target.is_none_or(|at| at.stream != head.stream) {
        faults.add(|| format!("{}: prev leads to {prev}, which is no record of this stream", name(record)));
    }
}

/// The link to the device's record before: of the same stream, with a lower number. It is a part of the record for life, so it
/// may lead to what a repair gave up.
fn check_device_link(held: &Held, record: &RecordView<'_>, rules: &mut Rules, faults: &mut Faults) {
    let (head, to) = (&record.head, record.head.device_prev);
    let Rules { links, lost } = rules;
    if to.is_none() || to == Location::SNAPSHOT || links.is_dropped(to) {
        return;
    }
    let target = (to < record.location).then(|| links.follow(to)).flatten();
    let is_lost = target.is_none() && (held.misses_some || lost.has(to));
    if !is_lost && target.is_none_or(|at| at.stream != head.stream || at.number >= head.number) {
        faults
            .add(|| format!("{}: the device's link leads to {to}, which is no command before", name(record)));
    }
}

fn name(record: &RecordView<'_>) -> String {
    format!("record {} of {}", record.location, record.head.stream)
}
