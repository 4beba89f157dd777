//! A map of small entries that takes little beside them.
//!
//! A standard map doubles, so that a table of millions takes up to 2.3 times what is in it, and keeps what it took when
//! it is emptied. This one probes linearly over any number of places, grows by a quarter, and gives back what a sweep
//! frees. A place costs its entry and one byte; seven eighths of the places are taken at most, seven tenths at least once
//! it has grown.

use crate::table::IdHash;
use std::hash::{BuildHasher, Hash};

/// Of the byte that stands for a place: whether it is taken, and bits of the hash, so that few entries are compared.
const TAKEN: u8 = 0x80;

/// Places of a table that holds something.
const PLACES_MIN: usize = 8;

/// A table that is only reached by key.
#[derive(Clone, Debug)]
pub(crate) struct CompactTable<K, V> {
    tags: Box<[u8]>,
    entries: Box<[(K, V)]>,
    count: usize,
}

/// Where a hash begins to probe, and its tag. Which table a key is in is decided by the bits between.
fn probe_of(hash: u64, places: usize) -> (usize, u8) {
    let start = ((hash & 0xFFFF_FFFF) * places as u64) >> 32;
    (start as usize, TAKEN | (hash >> 57) as u8)
}

impl<K: Copy + Default + Eq + Hash, V: Copy + Default> CompactTable<K, V> {
    pub(crate) fn new() -> Self {
        Self { tags: Box::default(), entries: Box::default(), count: 0 }
    }

    fn with_places(places: usize) -> Self {
        let entries = vec![(K::default(), V::default()); places].into_boxed_slice();
        Self { tags: vec![0; places].into_boxed_slice(), entries, count: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    /// Bytes that it holds of the heap.
    pub(crate) const fn heap_bytes(&self) -> usize {
        self.tags.len() + self.entries.len() * size_of::<(K, V)>()
    }

    /// The place of a key, or the free one where it would be.
    fn find(&self, key: &K, hash: u64) -> Result<usize, usize> {
        let (start, tag) = probe_of(hash, self.tags.len());
        let mut place = start;
        loop {
            match self.tags[place] {
                0 => return Err(place),
                found if found == tag && self.entries[place].0 == *key => return Ok(place),
                _ => place = if place + 1 == self.tags.len() { 0 } else { place + 1 },
            }
        }
    }

    pub(crate) fn get(&self, key: &K, hash: IdHash) -> Option<V> {
        if self.count == 0 {
            return None;
        }
        self.find(key, hash.hash_one(key)).ok().map(|place| self.entries[place].1)
    }

    /// Puts an entry, new or in place of the one that is there. True if it is new.
    pub(crate) fn put(&mut self, key: K, value: V, hash: IdHash) -> bool {
        if (self.count + 1) * 8 > self.tags.len() * 7 {
            self.grow(hash);
        }
        let hashed = hash.hash_one(key);
        let found = self.find(&key, hashed);
        let (Ok(place) | Err(place)) = found;
        self.entries[place] = (key, value);
        if found.is_err() {
            self.tags[place] = probe_of(hashed, self.tags.len()).1;
            self.count += 1;
        }
        found.is_err()
    }

    /// Takes an entry out. Those behind it move up, so that no probe ends too early.
    pub(crate) fn remove(&mut self, key: &K, hash: IdHash) -> bool {
        if self.count == 0 {
            return false;
        }
        let Ok(mut hole) = self.find(key, hash.hash_one(key)) else { return false };
        let places = self.tags.len();
        let mut place = hole;
        loop {
            place = if place + 1 == places { 0 } else { place + 1 };
            if self.tags[place] == 0 {
                break;
            }
            let (start, _) = probe_of(hash.hash_one(self.entries[place].0), places);
            // How far it stands from where its probe begins, and from the hole.
            let from_start = (place + places - start) % places;
            let from_hole = (place + places - hole) % places;
            if from_start >= from_hole {
                self.tags[hole] = self.tags[place];
                self.entries[hole] = self.entries[place];
                hole = place;
            }
        }
        self.tags[hole] = 0;
        self.count -= 1;
        true
    }

    /// Keeps what `keep` keeps, changed or not, in as little room as it needs.
    pub(crate) fn sweep(&mut self, hash: IdHash, mut keep: impl FnMut(&K, &mut V) -> bool) {
        let before = std::mem::replace(self, Self::new());
        let mut kept = 0;
        let mut tags = before.tags;
        let mut entries = before.entries;
        for (tag, (key, value)) in tags.iter_mut().zip(&mut entries) {
            if *tag != 0 && !keep(key, value) {
                *tag = 0;
            }
            kept += usize::from(*tag != 0);
        }
        if kept > 0 {
            *self = Self::with_places((kept * 5 / 4 + 1).max(PLACES_MIN));
            self.take_over(&tags, &entries, hash);
        }
    }

    fn grow(&mut self, hash: IdHash) {
        let places = (self.tags.len() * 5 / 4 + 1).max(PLACES_MIN);
        let before = std::mem::replace(self, Self::with_places(places));
        self.take_over(&before.tags, &before.entries, hash);
    }

    fn take_over(&mut self, tags: &[u8], entries: &[(K, V)], hash: IdHash) {
        for (_, entry) in tags.iter().zip(entries).filter(|(tag, _)| **tag != 0) {
            let hashed = hash.hash_one(entry.0);
            let (Ok(place) | Err(place)) = self.find(&entry.0, hashed);
            self.tags[place] = probe_of(hashed, self.tags.len()).1;
            self.entries[place] = *entry;
            self.count += 1;
        }
        assert!(self.count < self.tags.len(), "a probe ends at a free place");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use tidegate_domain::Generator;

    #[test]
    fn it_holds_what_a_map_holds_whatever_happens() {
        for seed in 0..50 {
            let hash = IdHash(seed);
            let mut random = Generator::new(seed);
            let mut table: CompactTable<u64, u64> = CompactTable::new();
            let mut map = BTreeMap::new();
            for step in 0..2000 {
                let bits = random.next_u64() >> 20;
                let (key, what) = (bits % 97, bits / 97 % 100);
                if what < 55 {
                    assert_eq!(table.put(key, step, hash), map.insert(key, step).is_none());
                } else if what < 99 {
                    assert_eq!(table.remove(&key, hash), map.remove(&key).is_some());
                } else {
                    let keeps = |key: u64| key % 3 != bits % 3;
                    table.sweep(hash, |key, value| {
                        *value += 1;
                        keeps(*key)
                    });
                    map.retain(|key, value| {
                        *value += 1;
                        keeps(*key)
                    });
                }
                assert_eq!(table.len(), map.len());
                assert!((0..97).all(|key| table.get(&key, hash) == map.get(&key).copied()), "seed {seed}");
            }
        }
    }

    #[test]
    fn it_takes_little_more_than_its_entries_at_any_size_and_gives_back_what_is_swept() {
        let hash = IdHash(3);
        let mut table: CompactTable<u64, [u64; 2]> = CompactTable::new();
        for key in 0..20_000_u64 {
            table.put(key, [key; 2], hash);
            // 24 bytes and a tag; seven eighths full, a quarter more once it has grown.
            assert!(table.len() < 64 || table.heap_bytes() <= table.len() * 36, "{} entries", table.len());
        }
        table.sweep(hash, |key, _| key % 100 == 0);
        assert_eq!(table.len(), 200);
        assert!(table.heap_bytes() <= 200 * 36);
        table.sweep(hash, |_, _| false);
        assert_eq!((table.len(), table.heap_bytes()), (0, 0));
    }
}
