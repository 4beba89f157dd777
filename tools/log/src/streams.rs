//! The rules that hold along a stream, over all logs: contiguous sequences, and links that lead where they say.

use crate::faults::Faults;
use crate::kinds::is_sequenced;
use crate::links::Links;
use std::collections::HashMap;
use tidegate_ids::{Location, Sequence, StreamId};
use tidegate_storage_log::{RecordView, Spine, jump_sequence};

/// All streams so far.
#[derive(Debug)]
pub(crate) struct Streams {
    streams: HashMap<StreamId, Held>,
    links: Links,
}

#[derive(Debug, Default)]
struct Held {
    last: Sequence,
    /// Where the next links must lead; `None` behind a hole, when links are followed instead.
    spine: Option<Spine>,
}

impl Streams {
    pub(crate) fn new(links: Links) -> Self {
        Self { streams: HashMap::new(), links }
    }

    pub(crate) fn count(&self) -> usize {
        self.streams.len()
    }

    /// Takes the next record in the order of epochs, shards and appends.
    pub(crate) fn take(&mut self, record: &RecordView<'_>, faults: &mut Faults) {
        let head = &record.head;
        let held = self
            .streams
            .entry(head.stream)
            .or_insert_with(|| Held { last: Sequence(0), spine: Some(Spine::new()) });
        if is_sequenced(head.kind) {
            check_sequenced(held, record, &mut self.links, faults);
        } else {
            check_unsequenced(held, record, &mut self.links, faults);
        }
        check_device_link(record, &mut self.links, faults);
    }
}

fn check_sequenced(held: &mut Held, record: &RecordView<'_>, links: &mut Links, faults: &mut Faults) {
    let (head, placement) = (&record.head, &record.placement);
    let expected = held.last.next();
    if head.sequence > expected && links.is_dropped(placement.prev) {
        // What lies between went with its segment.
        held.spine = None;
    } else if head.sequence != expected {
        faults.add(|| format!("{}: sequence {}, expected {expected}", name(record), head.sequence));
        held.spine = None;
    }
    held.last = held.last.max(head.sequence);
    if let Some(spine) = &mut held.spine {
        let right = spine.links();
        if (placement.prev, placement.jump) != (right.prev, right.jump) {
            let (prev, jump) = (placement.prev, placement.jump);
            faults.add(|| {
                let name = name(record);
                format!("{name}: links to {prev} and {jump}, expected {} and {}", right.prev, right.jump)
            });
        }
        spine.push(record.location);
        return;
    }
    let before = Sequence(head.sequence.0.saturating_sub(1));
    check_link(record, "prev", placement.prev, before, links, faults);
    check_link(record, "jump", placement.jump, jump_sequence(head.sequence), links, faults);
}

/// A link behind a hole: it leads to the record of that sequence, which may itself be what is missing.
fn check_link(
    record: &RecordView<'_>,
    which: &str,
    to: Location,
    sequence: Sequence,
    links: &mut Links,
    faults: &mut Faults,
) {
    let is_right = if sequence.0 == 0 || to.is_none() {
        sequence.0 == 0 && to.is_none()
    } else {
        let target = links.follow(to);
        to < record.location
            && target.is_none_or(|at| at.stream == record.head.stream && at.sequence == sequence)
    };
    if !is_right {
        faults.add(|| format!("{}: {which} leads to {to}, which is not sequence {sequence}", name(record)));
    }
}

/// Records of users and shards, and states: no sequence of their own, one link back along the stream, or none.
fn check_unsequenced(held: &mut Held, record: &RecordView<'_>, links: &mut Links, faults: &mut Faults) {
    let (head, placement) = (&record.head, &record.placement);
    let prev = placement.prev;
    let is_first = held.last.0 == 0 && links.has_dropped() && (prev.is_none() || prev == Location::SNAPSHOT);
    if head.sequence > held.last && (links.is_dropped(prev) || is_first) {
        held.last = head.sequence;
        held.spine = None;
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

/// The link to the device's record before: of the same stream, with a lower number.
fn check_device_link(record: &RecordView<'_>, links: &mut Links, faults: &mut Faults) {
    let (head, to) = (&record.head, record.head.device_prev);
    if to.is_none() || to == Location::SNAPSHOT || links.is_dropped(to) {
        return;
    }
    let target = (to < record.location).then(|| links.follow(to)).flatten();
    if target.is_none_or(|at| at.stream != head.stream || at.number >= head.number) {
        faults
            .add(|| format!("{}: the device's link leads to {to}, which is no command before", name(record)));
    }
}

fn name(record: &RecordView<'_>) -> String {
    format!("record {} of {}", record.location, record.head.stream)
}
