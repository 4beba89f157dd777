//! The streams of the segment being written, for its footer: a fixed table, so that no append rehashes.

use crate::footer::FooterEntry;
use tidegate_ids::{Sequence, StreamId};

/// An open-addressed table from stream to footer entry; at most half full.
#[derive(Debug)]
pub(crate) struct StreamIndex {
    /// Entry number plus one; 0 is free.
    slots: Vec<u32>,
    entries: Vec<FooterEntry>,
    streams_max: usize,
}

/// Where a stream is, or where it would go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    Held(usize),
    Free(usize),
}

impl StreamIndex {
    /// A table for so many streams. Its memory is touched only as it fills.
    pub(crate) fn new(streams_max: usize) -> Self {
        let slots = vec![0; (streams_max * 2).next_power_of_two()];
        Self { slots, entries: Vec::with_capacity(streams_max), streams_max }
    }

    pub(crate) fn entries(&self) -> &[FooterEntry] {
        &self.entries
    }

    pub(crate) const fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.entries.len() >= self.streams_max
    }

    #[inline]
    pub(crate) fn find(&self, stream: &StreamId) -> Slot {
        let mask = self.slots.len() - 1;
        let mut at = hash(stream) as usize & mask;
        loop {
            match self.slots[at] {
                0 => return Slot::Free(at),
                entry if self.entries[entry as usize - 1].stream == *stream => {
                    return Slot::Held(entry as usize - 1);
                }
                _ => at = (at + 1) & mask,
            }
        }
    }

    /// Notes a record; `slot` is what `find` just said.
    #[inline]
    pub(crate) fn note(&mut self, slot: Slot, stream: StreamId, sequence: Sequence, offset: u32) {
        let entry = match slot {
            Slot::Held(entry) => entry,
            Slot::Free(at) => {
                debug_assert!(!self.is_full());
                self.entries.push(FooterEntry { stream, ..FooterEntry::default() });
                self.slots[at] = self.entries.len() as u32;
                self.entries.len() - 1
            }
        };
        let entry = &mut self.entries[entry];
        entry.last_offset = offset;
        entry.count += 1;
        // Records without a sequence may stand between those with one.
        entry.last_sequence = entry.last_sequence.max(sequence);
    }

    /// Empties the table for another segment. A table that is hardly used is emptied slot by slot, so that memory that
    /// was never needed is never touched.
    pub(crate) fn clear(&mut self) {
        if self.entries.len() > self.slots.len() / 16 {
            self.slots.fill(0);
        } else {
            let mask = self.slots.len() - 1;
            for (entry, number) in self.entries.iter().zip(1..) {
                let mut at = hash(&entry.stream) as usize & mask;
                while self.slots[at] != number {
                    at = (at + 1) & mask;
                }
                self.slots[at] = 0;
            }
        }
        self.entries.clear();
    }
}

/// Sixteen bytes to 64 well-mixed bits: a widening multiplication of both halves with odd constants (wyhash's way).
fn hash(stream: &StreamId) -> u64 {
    let value = u128::from_le_bytes(stream.0);
    let low = (value as u64) ^ 0x2d35_8dcc_aa6c_78a5;
    let high = ((value >> 64) as u64) ^ 0x8bb8_4b93_962e_acc9;
    let product = u128::from(low).wrapping_mul(u128::from(high));
    let mixed = (product as u64) ^ ((product >> 64) as u64);
    mixed ^ (mixed >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use tidegate_ids::{ConversationId, UserId};

    #[test]
    fn it_holds_what_a_map_holds() {
        let mut index = StreamIndex::new(1000);
        // Few streams and many: both ways of emptying.
        for (round, streams) in [(0, 1000), (1, 60), (2, 1000), (3, 1), (4, 1000)] {
            let mut model = BTreeMap::new();
            for i in 0..5000_u32 {
                let pair = u64::from(i.wrapping_mul(2_654_435_761) % streams);
                let stream =
                    StreamId::conversation(ConversationId::direct(UserId(pair), UserId(pair + round)));
                let slot = index.find(&stream);
                index.note(slot, stream, Sequence(u64::from(i)), i);
                let (sequence, offset, count) = model.entry(stream).or_insert((0, 0, 0));
                (*sequence, *offset, *count) = (u64::from(i), i, *count + 1);
            }
            assert_eq!(index.len(), model.len());
            for entry in index.entries() {
                let held = (entry.last_sequence.0, entry.last_offset, entry.count);
                assert_eq!(model.get(&entry.stream), Some(&held));
            }
            index.clear();
            assert!(index.slots.iter().all(|slot| *slot == 0));
        }
    }
}
