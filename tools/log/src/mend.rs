//! What a repair has to know of the streams: which records are lost, and which links have to be set anew because they, or what
//! they led to, do not hold.
//!
//! Links that hold stay, also where they lead to what is lost: it keeps its place. A user's stream is read by its chain
//! alone, so there a link leads round what is lost.

use crate::kinds::{is_sequenced, is_state, state_part};
use crate::links::Links;
use crate::losses::{Loss, Losses};
use crate::lost::{LostPlaces, nowhere};
use crate::snapshots::{Needed, is_let_go, note_needed};
use crate::spines::KnownSpine;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tidegate_ids::{Location, LogId, Sequence, StreamId, StreamKind};
use tidegate_storage_files::RepairSource;
use tidegate_storage_log::{
    JudgedLog, Links as RecordLinks, Lost, LostWhat, RecordHead, RecordView, Remnant, Witness, jump_sequence,
};

/// All streams of a damaged directory, told log by log.
#[derive(Debug)]
pub(crate) struct Mender {
    /// The log being told of.
    log: LogId,
    streams: HashMap<StreamId, Mended>,
    links: Links,
    lost: LostNow,
    missing: BTreeSet<u32>,
    pub(crate) found: Mending,
}

/// What is lost.
#[derive(Debug, Default)]
struct LostNow {
    /// What this repair finds.
    fresh: LostPlaces,
    /// What an earlier one gave up.
    given_up: LostPlaces,
    /// Up to where each segment of a log that is told whole goes into the copy: 0 if it does not.
    kept_to: BTreeMap<u32, u32>,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Mending {
    /// Links to set anew.
    pub(crate) relinks: BTreeMap<Location, RecordLinks>,
    pub(crate) losses: Losses,
    /// Records that hold.
    pub(crate) records: u64,
    /// Sequences of which there is no record.
    pub(crate) sequences_missing: u64,
    /// Missing segments that a link leads to: they were used.
    pub(crate) linked: BTreeSet<u32>,
    /// The highest segment that anything leads to.
    pub(crate) highest_segment: u32,
    /// What only snapshots hold.
    pub(crate) let_go: Needed,
}

/// A stream so far.
#[derive(Debug, Default)]
struct Mended {
    last: Sequence,
    spine: KnownSpine,
    /// The last record that holds, parts of states apart.
    seen: Option<Location>,
    /// The last part of a state, and its place among all.
    part: Option<(Location, u16)>,
    /// Whether the last record that holds ends a whole state: what follows is linked to nothing.
    is_behind_state: bool,
}

impl Mender {
    pub(crate) fn new(source: &RepairSource) -> Self {
        let mut lost = LostNow::default();
        source.missing().iter().for_each(|segment| lost.fresh.note_segment(*segment));
        Self {
            log: LogId::default(),
            streams: HashMap::new(),
            links: Links::of_source(source),
            lost,
            missing: source.missing().clone(),
            found: Mending::default(),
        }
    }

    /// The next log comes.
    pub(crate) const fn begin(&mut self, log: LogId) {
        self.log = log;
    }

    /// The log was told whole. What was cut from it is no loss, but later logs may lead there, and it is not in the copy.
    pub(crate) fn end(&mut self, judged: &JudgedLog) {
        let kept = judged.segments.iter().map(|one| (one.header.segment, one.held.end.offset));
        self.lost.kept_to.extend(kept.chain(judged.unused.iter().map(|segment| (*segment, 0))));
    }

    fn note_targets(&mut self, head: &RecordHead, links: RecordLinks) {
        for to in [links.prev, links.jump, head.device_prev] {
            if to.is_none() || to == Location::SNAPSHOT {
                continue;
            }
            self.found.highest_segment = self.found.highest_segment.max(to.segment);
            if self.missing.contains(&to.segment) {
                self.found.linked.insert(to.segment);
            }
        }
    }

    /// Takes a record that has a sequence, whose body may be lost.
    fn take_sequenced(&mut self, location: Location, head: &RecordHead, links: Option<RecordLinks>) {
        let Self { streams, links: follower, lost, found, .. } = self;
        let held = streams.entry(head.stream).or_default();
        let (stream, sequence) = (head.stream, head.sequence);
        let mut right_prev = None;
        if sequence > held.last.next() {
            let is_let_go = links.is_some_and(|links| follower.is_dropped(links.prev));
            if !is_let_go {
                let (first, last) = (held.last.next(), Sequence(sequence.0 - 1));
                if !links.is_some_and(|links| lost.is_old(links.prev, location)) {
                    found.miss(stream, first, last);
                }
                let leads_there = links.is_some_and(|links| lost.has(links.prev, location));
                right_prev = (!leads_there).then(|| nowhere(location));
            }
            held.spine.forget_through(Sequence(sequence.0 - 1));
        } else if sequence < held.last.next() {
            held.spine.forget_through(Sequence(sequence.0.saturating_sub(1)));
        }
        held.last = held.last.max(sequence);
        held.seen = Some(location);
        let known = held.spine.links();
        held.spine.push(location);
        let mut settle = |own: Option<Location>, known: Option<Location>, to: Sequence| match (known, own) {
            (Some(known), _) => known,
            (None, Some(own)) if leads_to(follower, lost, location, own, stream, to) => own,
            (None, _) => nowhere(location),
        };
        let before = Sequence(sequence.0.saturating_sub(1));
        let prev = settle(links.map(|links| links.prev), right_prev.or(known.prev), before);
        let jump_to = jump_sequence(sequence);
        let jump =
            if jump_to == before { prev } else { settle(links.map(|links| links.jump), known.jump, jump_to) };
        let right = RecordLinks { prev, jump };
        // A record without links is written with none.
        if links.unwrap_or_default() != right {
            found.relinks.insert(location, right);
        }
    }

    /// Takes a record of a user, a shard, or a state.
    fn take_unsequenced(&mut self, record: &RecordView<'_>, links: Option<RecordLinks>) {
        let Self { streams, links: follower, lost, found, .. } = self;
        let (head, location) = (&record.head, record.location);
        let held = streams.entry(head.stream).or_default();
        if head.sequence > held.last {
            let is_let_go = links.is_some_and(|links| follower.is_dropped(links.prev));
            if !is_let_go && !lost.fresh.is_empty() {
                found.miss(head.stream, held.last.next(), head.sequence);
            }
            held.last = head.sequence;
            held.spine.forget_through(head.sequence);
        }
        let part = is_state(head.kind).then(|| state_part(record.body)).flatten();
        let holds = |held: &Mended, prev: Location| {
            let is_known = prev == Location::SNAPSHOT || follower.is_dropped(prev) || Some(prev) == held.seen;
            let is_bridge = prev.is_none() && part.is_none() && misses_state(held, head, lost);
            is_known || (prev.is_none() && !is_bridge)
        };
        let prev = match links.map(|links| links.prev) {
            Some(prev) if holds(held, prev) => prev,
            Some(prev) if leads_to_kept(follower, lost, location, prev, head.stream) => prev,
            _ => before_in_chain(held, head, part),
        };
        let right = RecordLinks { prev, jump: Location::NONE };
        if links.unwrap_or_default() != right {
            found.relinks.insert(location, right);
        }
        held.note(location, head, part);
    }
}

impl LostNow {
    fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.given_up.is_empty()
    }

    /// Whether a link of the record at `from` leads to what is lost.
    fn has(&self, to: Location, from: Location) -> bool {
        self.fresh.has(to) || self.is_old(to, from)
    }

    /// Whether the copy has no record at `to`, though one may read well by itself: where the bounds of records are lost, all of
    /// them are given up together.
    fn lacks(&self, to: Location, from: Location) -> bool {
        self.has(to, from) || self.kept_to.get(&to.segment).is_some_and(|kept| to.offset >= *kept)
    }

    /// Whether an earlier repair knew that.
    fn is_old(&self, to: Location, from: Location) -> bool {
        to == nowhere(from) || self.given_up.has(to)
    }
}

impl Mending {
    fn miss(&mut self, stream: StreamId, first: Sequence, last: Sequence) {
        self.sequences_missing += last.0 - first.0 + 1;
        self.losses.add(Loss::Sequences { stream, first, last });
    }
}

impl Witness for Mender {
    fn record(&mut self, record: &RecordView<'_>, has_links: bool) {
        self.lost.given_up.pass();
        self.found.records += 1;
        let links = RecordLinks { prev: record.placement.prev, jump: record.placement.jump };
        self.note_targets(&record.head, links);
        if is_let_go(record) {
            note_needed(&mut self.found.let_go, self.log, record.location.segment);
        }
        let links = has_links.then_some(links);
        if is_sequenced(record.head.kind) {
            self.take_sequenced(record.location, &record.head, links);
        } else {
            self.take_unsequenced(record, links);
        }
    }

    fn lost(&mut self, lost: &Lost) {
        let (left, is_new) = match lost.what {
            LostWhat::Record(left) => (left, true),
            LostWhat::GivenUp(left) => (left, false),
            LostWhat::Batches { .. } => (Remnant::default(), true),
        };
        if is_new {
            self.lost.fresh.note(lost);
        } else {
            self.lost.given_up.note(lost);
        }
        if is_new {
            self.found.losses.add(Loss::Place { log: self.log, lost: *lost });
        }
        let Some(head) = left.head else { return };
        if is_sequenced(head.kind)
            && self.streams.get(&head.stream).is_none_or(|held| held.last < head.sequence)
        {
            self.note_targets(&head, left.links.unwrap_or_default());
            self.found.sequences_missing += u64::from(is_new);
            self.take_sequenced(lost.location(), &head, left.links);
        } else if is_state(head.kind) {
            // What follows is linked to nothing, and has to be linked to what came before.
            let held = self.streams.entry(head.stream).or_default();
            (held.part, held.is_behind_state) = (None, false);
        }
    }
}

/// Whether a link of a sequenced record that holds leads where it must, as far as anybody can tell.
fn leads_to(
    follower: &mut Links,
    lost: &LostNow,
    from: Location,
    to: Location,
    stream: StreamId,
    sequence: Sequence,
) -> bool {
    if sequence.0 == 0 || to.is_none() || to >= from {
        return sequence.0 == 0 && to.is_none();
    }
    lost.has(to, from)
        || follower.follow(to).is_none_or(|target| target.stream == stream && target.sequence == sequence)
}

/// Whether the link of a record without a sequence leads to a record of its stream that is in the copy.
fn leads_to_kept(
    follower: &mut Links,
    lost: &LostNow,
    from: Location,
    to: Location,
    stream: StreamId,
) -> bool {
    to < from && !lost.lacks(to, from) && follower.follow(to).is_some_and(|target| target.stream == stream)
}

/// Whether a user's record that is linked to nothing stands behind other records and no whole state: the state before it is
/// lost, and its chain would end too early.
fn misses_state(held: &Mended, head: &RecordHead, lost: &LostNow) -> bool {
    let is_user = matches!(head.stream.kind(), Some(StreamKind::User(_)));
    is_user && !lost.is_empty() && held.seen.is_some() && !held.is_behind_state
}

/// What a record without links of its own is linked to.
fn before_in_chain(held: &Mended, head: &RecordHead, part: Option<(u16, u16)>) -> Location {
    if is_state(head.kind) {
        let before = held.part.filter(|(_, index)| part.is_some_and(|(own, _)| own == index + 1));
        return before.map_or(Location::NONE, |(location, _)| location);
    }
    let is_user = matches!(head.stream.kind(), Some(StreamKind::User(_)));
    held.seen.filter(|_| is_user && !held.is_behind_state).unwrap_or(Location::NONE)
}

impl Mended {
    /// A record that holds was taken.
    fn note(&mut self, location: Location, head: &RecordHead, part: Option<(u16, u16)>) {
        self.is_behind_state = false;
        if !is_state(head.kind) {
            (self.seen, self.part) = (Some(location), None);
            return;
        }
        let Some((index, count)) = part else { return self.part = None };
        let follows = index == 0 || self.part.is_some_and(|(_, before)| before + 1 == index);
        self.part = follows.then_some((location, index));
        self.is_behind_state = follows && index + 1 == count;
    }
}
