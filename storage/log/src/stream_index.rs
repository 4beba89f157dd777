//! The streams of the segment being written, for its footer and its index: a fixed table, so that no append rehashes.

use crate::footer::FooterEntry;
use crate::index::{IndexEntry, entry_bytes, stream_hash};
use tidegate_ids::{Location, Sequence, StreamId};

/// An open-addressed table from stream to what is known of it; at most half full. And where every record lies that continues
/// a run, each with the one before.
#[derive(Debug)]
pub(crate) struct StreamIndex {
    /// Entry number plus one; 0 is free.
    slots: Vec<u32>,
    entries: Vec<Held>,
    streams_max: usize,
    trail: Vec<Step>,
    /// Bytes of all entries of the index.
    index_bytes: usize,
    /// Streams that have a run, by their hash, once the segment is full: the hash's upper bits, and the entry's number.
    order: Vec<u64>,
}

/// What is known of one stream: a line of the processor's cache, since streams come in any order.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Held {
    footer: FooterEntry,
    /// `prev` of the run's first record.
    before: Location,
    /// Records of the run, 0 without one.
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

/// The bits of `order` that are an entry's number.
const NUMBER_BITS: u32 = 24;
const _: () = assert!(crate::limits::SEGMENT_STREAMS_MAX < 1 << NUMBER_BITS);

/// Where a stream is, or where it would go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    Held(usize),
    Free(usize),
}

impl StreamIndex {
    /// A table for so many streams and records. Its memory is touched only as it fills.
    pub(crate) fn new(streams_max: usize, records_max: usize) -> Self {
        let slots = vec![0; (streams_max * 2).next_power_of_two()];
        Self {
            slots,
            entries: Vec::with_capacity(streams_max),
            streams_max,
            trail: Vec::with_capacity(records_max),
            index_bytes: 0,
            order: Vec::with_capacity(streams_max),
        }
    }

    /// What the footer lists.
    pub(crate) fn footer(&self, range: core::ops::Range<usize>) -> impl Iterator<Item = &FooterEntry> {
        self.entries[range].iter().map(|held| &held.footer)
    }

    pub(crate) const fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.entries.len() >= self.streams_max
    }

    /// Bytes of all entries of the index.
    pub(crate) const fn index_bytes(&self) -> usize {
        self.index_bytes
    }

    #[inline]
    pub(crate) fn find(&self, stream: &StreamId) -> Slot {
        let mask = self.slots.len() - 1;
        let mut at = stream_hash(stream) as usize & mask;
        loop {
            match self.slots[at] {
                0 => return Slot::Free(at),
                entry if self.entries[entry as usize - 1].footer.stream == *stream => {
                    return Slot::Held(entry as usize - 1);
                }
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
        let entry = match slot {
            Slot::Held(entry) => entry,
            Slot::Free(at) => {
                debug_assert!(!self.is_full());
                let footer = FooterEntry { stream, ..FooterEntry::default() };
                self.entries.push(Held { footer, before: prev, run: 0, run_offset: 0, newest: 0 });
                self.slots[at] = self.entries.len() as u32;
                self.entries.len() - 1
            }
        };
        let held = &mut self.entries[entry];
        let last = held.footer.last_sequence;
        // What repeats a sequence, as a folded state does, is none of the records that links lead to.
        if sequence > last || sequence == last && sequence.0 == 0 || held.run == 0 {
            let follows = sequence.0 == 0 || sequence.0 == last.0 + 1;
            let continues = held.run > 0
                && follows
                && (sequence.0 == 0) == (last.0 == 0)
                && prev == Location::new(at.segment, held.run_offset);
            let was = if held.run == 0 { 0 } else { entry_bytes(held.run) };
            let older = held.newest;
            if continues {
                held.run += 1;
            } else {
                (held.run, held.before) = (1, prev);
            }
            (held.newest, held.run_offset) = (self.trail.len() as u32, at.offset);
            self.trail.push(Step { offset: at.offset, older });
            self.index_bytes = self.index_bytes + entry_bytes(held.run) - was;
        }
        let footer = &mut held.footer;
        footer.last_offset = at.offset;
        footer.count += 1;
        // Records without a sequence may stand between those with one.
        footer.last_sequence = last.max(sequence);
    }

    /// What the index would say of a stream now.
    pub(crate) fn lead(&self, stream: &StreamId) -> Option<IndexEntry> {
        let Slot::Held(number) = self.find(stream) else { return None };
        let held = &self.entries[number];
        (held.run > 0).then(|| self.entry(held))
    }

    /// What the index says of a stream.
    fn entry(&self, held: &Held) -> IndexEntry {
        let mut step = held.newest;
        let newest_first = core::iter::from_fn(|| {
            let Step { offset, older } = self.trail[step as usize];
            step = older;
            Some(offset)
        });
        IndexEntry::new(held.footer.last_sequence, held.before, held.run, newest_first)
    }

    /// Brings the entries into the order of the index.
    pub(crate) fn sort(&mut self) {
        self.order.clear();
        self.order.extend(
            self.entries.iter().zip(0_u64..).filter(|(held, _)| held.run > 0).map(|(held, number)| {
                stream_hash(&held.footer.stream) >> NUMBER_BITS << NUMBER_BITS | number
            }),
        );
        self.order.sort_unstable();
    }

    /// Number `place` in the order of the index: its stream, how long its run is, and what the index says.
    pub(crate) fn sorted(&self, place: usize) -> Option<(&StreamId, u32, impl FnOnce() -> IndexEntry)> {
        let number = *self.order.get(place)? & ((1 << NUMBER_BITS) - 1);
        let held = &self.entries[number as usize];
        Some((&held.footer.stream, held.run, move || self.entry(held)))
    }

    /// Empties the table for another segment. A table that is hardly used is emptied slot by slot, so that memory that
    /// was never needed is never touched.
    pub(crate) fn clear(&mut self) {
        if self.entries.len() > self.slots.len() / 16 {
            self.slots.fill(0);
        } else {
            let mask = self.slots.len() - 1;
            for (held, number) in self.entries.iter().zip(1..) {
                let mut at = stream_hash(&held.footer.stream) as usize & mask;
                while self.slots[at] != number {
                    at = (at + 1) & mask;
                }
                self.slots[at] = 0;
            }
        }
        self.entries.clear();
        self.trail.clear();
        self.order.clear();
        self.index_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use tidegate_ids::{ConversationId, UserId};

    #[test]
    fn it_holds_what_a_map_holds() {
        let mut index = StreamIndex::new(1000, 5000);
        // Few streams and many: both ways of emptying.
        for (round, streams) in [(0, 1000), (1, 60), (2, 1000), (3, 1), (4, 1000)] {
            let mut model = BTreeMap::new();
            for i in 0..5000_u32 {
                let pair = u64::from(i.wrapping_mul(2_654_435_761) % streams);
                let stream =
                    StreamId::conversation(ConversationId::direct(UserId(pair), UserId(pair + round)));
                let slot = index.find(&stream);
                index.note(slot, stream, Sequence(u64::from(i)), Location::new(1, i), Location::NONE);
                let (sequence, offset, count) = model.entry(stream).or_insert((0, 0, 0));
                (*sequence, *offset, *count) = (u64::from(i), i, *count + 1);
            }
            assert_eq!(index.len(), model.len());
            for entry in index.footer(0..index.len()) {
                let held = (entry.last_sequence.0, entry.last_offset, entry.count);
                assert_eq!(model.get(&entry.stream), Some(&held));
            }
            index.clear();
            assert!(index.slots.iter().all(|slot| *slot == 0));
        }
    }
}
