//! The streams of the segment being written, for its footer and its index: a fixed table, so that no append rehashes.

use crate::footer::FooterEntry;
use crate::index::{IndexEntry, entry_bytes, listed, stream_hash};
use crate::limits::STREAMS_SIDE_BY_SIDE;
use core::ops::Range;
use tidegate_ids::{Location, Sequence, StreamId};

/// An open-addressed table from stream to what is known of it; at most half full. And where every record lies that continues
/// a run, each with the one before.
#[derive(Debug)]
pub(crate) struct StreamIndex {
    /// A [`Name`]; 0 is free.
    slots: Vec<u32>,
    /// Streams whose first record has no sequence, as those of users: there may be as many as users, and no index lists them.
    plain: Vec<FooterEntry>,
    /// The other streams.
    sequenced: Vec<Held>,
    streams_max: usize,
    trail: Vec<Step>,
    /// Bytes of all entries of the index.
    index_bytes: usize,
    /// The streams with sequences by their hash, once the segment is full: the hash's upper bits, and the stream's number.
    order: Vec<u64>,
}

/// What is known of a stream with sequences: a line of the processor's cache, since streams come in any order.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Held {
    footer: FooterEntry,
    /// `prev` of the run's first record.
    before: Location,
    /// Records of the run.
    run: u32,
    /// Where the run's last record lies.
    run_offset: u32,
    /// That record's step.
    newest: u32,
}

const _: () = assert!(size_of::<Held>() == 64);

/// A record of a run.
#[derive(Clone, Copy, Debug)]
struct Step {
    offset: u32,
    /// The step of the record before, in the same run.
    older: u32,
}

/// A stream in one of the two lists: its number there plus one, and in the upper bit which of them it is.
type Name = u32;

const SEQUENCED: Name = 1 << 31;

/// The bits of `order` that are a stream's number.
const NUMBER_BITS: u32 = 24;
const _: () = assert!(crate::limits::SEGMENT_STREAMS_MAX < 1 << NUMBER_BITS);

/// Where a stream is, or where it would go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    Held(Name),
    Free(usize),
}

/// A list's place for a name.
const fn number(name: Name) -> usize {
    (name & !SEQUENCED) as usize - 1
}

impl StreamIndex {
    /// A table for so many streams and records. Its memory is touched only as it fills.
    pub(crate) fn new(streams_max: usize, records_max: usize) -> Self {
        let slots = vec![0; (streams_max * 2).next_power_of_two()];
        Self {
            slots,
            plain: Vec::with_capacity(streams_max),
            sequenced: Vec::with_capacity(streams_max),
            streams_max,
            trail: Vec::with_capacity(records_max),
            index_bytes: 0,
            order: Vec::with_capacity(streams_max),
        }
    }

    /// What the footer lists: streams without sequences, then those with.
    pub(crate) fn footer(&self, range: Range<usize>) -> impl Iterator<Item = &FooterEntry> {
        let all = self.plain.iter().chain(self.sequenced.iter().map(|held| &held.footer));
        all.skip(range.start).take(range.len())
    }

    /// Streams that are in the order of the index.
    pub(crate) const fn sorted_len(&self) -> usize {
        self.order.len()
    }

    pub(crate) const fn len(&self) -> usize {
        self.plain.len() + self.sequenced.len()
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.len() >= self.streams_max
    }

    /// Bytes of all entries of the index.
    pub(crate) const fn index_bytes(&self) -> usize {
        self.index_bytes
    }

    #[inline]
    fn stream(&self, name: Name) -> &StreamId {
        if name & SEQUENCED == 0 {
            &self.plain[number(name)].stream
        } else {
            &self.sequenced[number(name)].footer.stream
        }
    }

    #[inline]
    pub(crate) fn find(&self, stream: &StreamId) -> Slot {
        let mask = self.slots.len() - 1;
        let mut at = stream_hash(stream) as usize & mask;
        loop {
            match self.slots[at] {
                0 => return Slot::Free(at),
                name if self.stream(name) == stream => return Slot::Held(name),
                _ => at = (at + 1) & mask,
            }
        }
    }

    /// Notes a record and its `prev`; `slot` is what `find` just said.
    #[inline]
    pub(crate) fn note(
        &mut self,
        slot: Slot,
        stream: StreamId,
        sequence: Sequence,
        at: Location,
        prev: Location,
    ) {
        match slot {
            Slot::Held(name) if name & SEQUENCED == 0 => {
                self.plain[number(name)].take(sequence, at.offset);
            }
            Slot::Held(name) => self.note_sequenced(number(name), sequence, at, prev),
            Slot::Free(slot) => {
                debug_assert!(!self.is_full());
                let mut footer = FooterEntry { stream, ..FooterEntry::default() };
                footer.take(sequence, at.offset);
                self.slots[slot] = if sequence.0 == 0 {
                    self.plain.push(footer);
                    self.plain.len() as Name
                } else {
                    let newest = self.trail.len() as u32;
                    self.trail.push(Step { offset: at.offset, older: 0 });
                    self.sequenced.push(Held { footer, before: prev, run: 1, run_offset: at.offset, newest });
                    self.index_bytes += entry_bytes(1);
                    self.sequenced.len() as Name | SEQUENCED
                };
            }
        }
    }

    #[inline]
    fn note_sequenced(&mut self, number: usize, sequence: Sequence, at: Location, prev: Location) {
        let held = &mut self.sequenced[number];
        let last = held.footer.last_sequence;
        held.footer.take(sequence, at.offset);
        // What repeats a sequence, as a folded state does, is none of the records that links lead to.
        if sequence <= last {
            return;
        }
        let older = held.newest;
        self.index_bytes -= entry_bytes(held.run);
        if sequence == last.next() && prev == Location::new(at.segment, held.run_offset) {
            held.run += 1;
        } else {
            (held.run, held.before) = (1, prev);
        }
        self.index_bytes += entry_bytes(held.run);
        (held.newest, held.run_offset) = (self.trail.len() as u32, at.offset);
        self.trail.push(Step { offset: at.offset, older });
    }

    /// What the index would say of a stream now.
    pub(crate) fn lead(&self, stream: &StreamId) -> Option<IndexEntry> {
        match self.find(stream) {
            Slot::Held(name) if name & SEQUENCED != 0 => {
                let [entry] = self.entries([&self.sequenced[number(name)]]);
                Some(entry)
            }
            _ => None,
        }
    }

    /// What the index says of some streams.
    fn entries<const N: usize>(&self, held: [&Held; N]) -> [IndexEntry; N] {
        let mut entries = held.map(|held| {
            IndexEntry::new(held.footer.last_sequence, held.before, held.run, core::iter::empty())
        });
        let mut steps = held.map(|held| held.newest);
        // Side by side: each step waits for memory, and for none of another stream.
        let longest = held.iter().map(|held| listed(held.run)).max().unwrap_or(0);
        for place in 0..longest {
            for (entry, step) in entries.iter_mut().zip(&mut steps) {
                if place < listed(entry.run) {
                    let Step { offset, older } = self.trail[*step as usize];
                    entry.list(place, offset);
                    *step = older;
                }
            }
        }
        entries
    }

    /// Brings the streams with sequences into the order of the index.
    pub(crate) fn sort(&mut self) {
        self.order.clear();
        let keys =
            self.sequenced.iter().zip(0_u64..).map(|(held, number)| {
                stream_hash(&held.footer.stream) >> NUMBER_BITS << NUMBER_BITS | number
            });
        self.order.extend(keys);
        self.order.sort_unstable();
    }

    /// Some streams from number `place` in the order of the index on, and what the index says of each; none behind the last.
    pub(crate) fn sorted(&self, place: usize) -> impl Iterator<Item = (&StreamId, IndexEntry)> {
        let rest = self.order.get(place..).unwrap_or_default();
        let some = &rest[..rest.len().min(STREAMS_SIDE_BY_SIDE)];
        let entries = some.last().map(|last| {
            let held = core::array::from_fn::<_, STREAMS_SIDE_BY_SIDE, _>(|at| {
                let key = some.get(at).unwrap_or(last);
                &self.sequenced[(key & ((1 << NUMBER_BITS) - 1)) as usize]
            });
            held.map(|held| &held.footer.stream).into_iter().zip(self.entries(held))
        });
        entries.into_iter().flatten().take(some.len())
    }

    /// Empties the table for another segment. A table that is hardly used is emptied slot by slot, so that memory that
    /// was never needed is never touched.
    pub(crate) fn clear(&mut self) {
        if self.len() > self.slots.len() / 16 {
            self.slots.fill(0);
        } else {
            let mask = self.slots.len() - 1;
            let plain = self.plain.iter().zip(1..);
            let sequenced = self.sequenced.iter().map(|held| &held.footer).zip(1 | SEQUENCED..);
            for (footer, name) in plain.chain(sequenced) {
                let mut at = stream_hash(&footer.stream) as usize & mask;
                while self.slots[at] != name {
                    at = (at + 1) & mask;
                }
                self.slots[at] = 0;
            }
        }
        self.plain.clear();
        self.sequenced.clear();
        self.trail.clear();
        self.order.clear();
        self.index_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};
    use tidegate_ids::{ConversationId, UserId};

    #[test]
    fn it_holds_what_a_map_holds() {
        let mut index = StreamIndex::new(1000, 5000);
        // Few streams and many: both ways of emptying.
        for (round, streams) in [(0, 1000), (1, 60), (2, 1000), (3, 1), (4, 17), (5, 16), (6, 1000)] {
            let mut model = BTreeMap::new();
            for i in 0..5000_u32 {
                let pair = u64::from(i.wrapping_mul(2_654_435_761) % streams);
                let stream =
                    StreamId::conversation(ConversationId::direct(UserId(pair), UserId(pair + round)));
                let slot = index.find(&stream);
                // Every other stream has no sequences.
                let sequence = if pair % 2 == 0 { u64::from(i) + 1 } else { 0 };
                index.note(slot, stream, Sequence(sequence), Location::new(1, i), Location::NONE);
                let (last, offset, count) = model.entry(stream).or_insert((0, 0, 0));
                (*last, *offset, *count) = (sequence, i, *count + 1);
            }
            assert_eq!(index.len(), model.len());
            for entry in index.footer(0..index.len()) {
                let held = (entry.last_sequence.0, entry.last_offset, entry.count);
                assert_eq!(model.get(&entry.stream), Some(&held));
            }
            index.sort();
            let mut listed = Vec::new();
            while listed.len() < index.sorted_len() {
                let from = listed.len();
                listed.extend(index.sorted(from).map(|(stream, entry)| (*stream, entry)));
                assert!(listed.len() > from, "some come as long as there are any");
            }
            assert!(index.sorted(listed.len()).next().is_none());
            assert!(listed.is_sorted_by_key(|(stream, _)| stream_hash(stream) >> NUMBER_BITS));
            let with_sequences = model.iter().filter(|(_, (last, ..))| *last > 0).map(|(stream, _)| *stream);
            assert_eq!(
                listed.iter().map(|(stream, _)| *stream).collect::<BTreeSet<_>>(),
                with_sequences.collect()
            );
            assert!(listed.iter().all(|(stream, entry)| index.lead(stream).as_ref() == Some(entry)));
            index.clear();
            assert!(index.slots.iter().all(|slot| *slot == 0));
        }
    }
}
