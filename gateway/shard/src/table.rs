//! A bounded table of what is hot: found by key, evicted by a clock hand (second chance).

use crate::limits::VICTIM_STEPS_MAX;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};

/// A seeded multiply-and-fold over integers and 16-byte ids. The seed comes from the shell's entropy, so that nobody can
/// choose ids that collide; a simulated run repeats.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IdHash(pub(crate) u64);

/// The state of an [`IdHash`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct IdHasher(u64);

impl BuildHasher for IdHash {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher(self.0)
    }
}

impl IdHasher {
    fn mix(&mut self, value: u64) {
        let product = u128::from(self.0 ^ value) * 0x9E37_79B9_7F4A_7C15;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }

    fn write_usize(&mut self, value: usize) {
        self.mix(value as u64);
    }
}

/// A map that is never iterated in its own order.
pub(crate) type IdMap<K, V> = HashMap<K, V, IdHash>;

#[derive(Debug)]
struct Slot<K, V> {
    key: K,
    value: V,
    referenced: bool,
}

/// At most `capacity` entries.
#[derive(Debug)]
pub(crate) struct HotTable<K, V> {
    index: IdMap<K, u32>,
    slots: Vec<Option<Slot<K, V>>>,
    free: Vec<u32>,
    hand: usize,
    capacity: usize,
}

impl<K: Copy + Eq + Hash, V> HotTable<K, V> {
    pub(crate) fn new(capacity: usize, hash: IdHash) -> Self {
        Self { index: IdMap::with_hasher(hash), slots: Vec::new(), free: Vec::new(), hand: 0, capacity }
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.index.len() >= self.capacity
    }

    pub(crate) fn contains(&self, key: &K) -> bool {
        self.index.contains_key(key)
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let index = *self.index.get(key)?;
        self.slots[index as usize].as_ref().map(|slot| &slot.value)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let index = *self.index.get(key)?;
        let slot = self.slots[index as usize].as_mut()?;
        slot.referenced = true;
        Some(&mut slot.value)
    }

    /// Puts a new entry; the caller has made room.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        assert!(!self.is_full(), "the caller made room");
        let slot = Some(Slot { key, value, referenced: true });
        let index = match self.free.pop() {
            Some(index) => {
                self.slots[index as usize] = slot;
                index
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        let before = self.index.insert(key, index);
        assert!(before.is_none(), "a key is inserted once");
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let index = self.index.remove(key)?;
        self.free.push(index);
        self.slots[index as usize].take().map(|slot| slot.value)
    }

    /// The next entry that was not used since the hand last passed and may go; if a part of the table has none, the first
    /// one there that may go.
    pub(crate) fn victim(&mut self, may_go: impl Fn(&V) -> bool) -> Option<K> {
        let mut used = None;
        for _ in 0..VICTIM_STEPS_MAX.min(2 * self.slots.len()) {
            self.hand = if self.hand + 1 >= self.slots.len() { 0 } else { self.hand + 1 };
            let Some(slot) = &mut self.slots[self.hand] else { continue };
            if !may_go(&slot.value) {
                continue;
            }
            if !slot.referenced {
                return Some(slot.key);
            }
            slot.referenced = false;
            used = used.or(Some(slot.key));
        }
        used
    }

    /// Keys by place, from `start` on, for a sweep in slices: the keys of at most `count` places.
    pub(crate) fn keys_from(&self, start: usize, count: usize) -> impl Iterator<Item = K> + '_ {
        self.slots.iter().skip(start).take(count).filter_map(|slot| slot.as_ref().map(|slot| slot.key))
    }

    /// Who is at a place, to be looked after in a sweep: that is no use of the entry.
    pub(crate) fn at_place_mut(&mut self, place: usize) -> Option<(K, &mut V)> {
        let slot = self.slots.get_mut(place)?.as_mut()?;
        Some((slot.key, &mut slot.value))
    }

    /// How many places a sweep has.
    pub(crate) fn places(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table in which everybody is connected was gone through twice for each newcomer.
    #[test]
    fn the_hand_looks_at_a_part_of_a_table_that_has_no_victim() {
        let mut table = HotTable::new(10 * VICTIM_STEPS_MAX, IdHash(1));
        (0..10 * VICTIM_STEPS_MAX).for_each(|key| table.insert(key, key));
        let looked_at = std::cell::Cell::new(0);
        let look = |may_go: bool| {
            looked_at.set(looked_at.get() + 1);
            may_go
        };
        assert_eq!(table.victim(|_| look(false)), None);
        assert_eq!(looked_at.replace(0), VICTIM_STEPS_MAX);
        assert!(table.victim(|value| look(value % 100 == 7)).is_some_and(|key| key % 100 == 7));
        assert_eq!(looked_at.get(), VICTIM_STEPS_MAX, "all were used: the first that may go goes");
    }

    #[test]
    fn the_hand_gives_a_second_chance_and_respects_what_must_stay() {
        let mut table = HotTable::new(3, IdHash(1));
        (0..3_u64).for_each(|key| table.insert(key, key));
        assert!(table.is_full());
        let first = table.victim(|value| *value != 1).unwrap();
        assert_ne!(first, 1);
        table.get_mut(&first);
        let second = table.victim(|value| *value != 1).unwrap();
        assert!(second != 1 && second != first);
        assert_eq!(table.victim(|value| *value > 9), None);
        assert_eq!(table.remove(&second), Some(second));
        table.insert(7, 7);
        assert_eq!((table.len(), table.get(&7)), (3, Some(&7)));
        assert_eq!(table.keys_from(0, 9).count(), 3);
    }
}
