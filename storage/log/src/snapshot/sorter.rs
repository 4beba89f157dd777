//! Records of a merge in memory, until there are enough to sort.

use crate::descriptor::get_u32;
use crate::limits::{MERGE_BYTES_MIN, REDUCED_BYTES_MAX};
use tidegate_ids::{Location, StreamId, VirtualShard};

/// What the records of a merge are sorted by: virtual shard, stream, location. No two are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SortKey {
    pub(crate) place: VirtualShard,
    /// The stream's bytes as an integer that sorts as they do.
    stream: u128,
    pub(crate) location: Location,
}

impl SortKey {
    pub(crate) const fn new(place: VirtualShard, stream: &StreamId, location: Location) -> Self {
        Self { place, stream: u128::from_be_bytes(stream.0), location }
    }

    pub(crate) const fn stream(&self) -> StreamId {
        StreamId(self.stream.to_be_bytes())
    }

    /// The stream's key among the entries of a snapshot.
    pub(crate) const fn entry(&self) -> (VirtualShard, StreamId) {
        (self.place, self.stream())
    }

    pub(crate) fn same_stream(&self, other: &Self) -> bool {
        self.stream == other.stream && self.place == other.place
    }
}

/// A record in the arena: its key, laid out to be small, and where it stands, its length first.
#[derive(Clone, Copy, Debug)]
struct Kept {
    stream: [u64; 2],
    location: Location,
    at: u32,
    place: VirtualShard,
}

const _: () = assert!(size_of::<Kept>() == 32);

impl Kept {
    const fn new(key: &SortKey, at: u32) -> Self {
        let stream = [(key.stream >> 64) as u64, key.stream as u64];
        Self { stream, location: key.location, at, place: key.place }
    }

    const fn key(&self) -> SortKey {
        let stream = (self.stream[0] as u128) << 64 | self.stream[1] as u128;
        SortKey { place: self.place, stream, location: self.location }
    }
}

const LENGTH_BYTES: usize = 4;

/// A fixed stretch of memory for records, and their keys.
#[derive(Debug)]
pub(crate) struct Arena {
    bytes: Vec<u8>,
    kept: Vec<Kept>,
}

impl Arena {
    /// Half of the memory is for keys: what `reduce` gives is about as long as one.
    pub(crate) fn new(memory_bytes: usize) -> Self {
        let half = memory_bytes.max(MERGE_BYTES_MIN).min(u32::MAX as usize) / 2;
        Self { bytes: Vec::with_capacity(half), kept: Vec::with_capacity(half / size_of::<Kept>()) }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    pub(crate) const fn len(&self) -> usize {
        self.kept.len()
    }

    /// Takes a record in; `false`: there is no room, sort and clear first. An empty arena takes any record.
    pub(crate) fn push(&mut self, key: &SortKey, reduced: &[u8]) -> bool {
        assert!(reduced.len() <= REDUCED_BYTES_MAX, "what folding needs of a record is less than the record");
        let full = self.kept.len() == self.kept.capacity()
            || self.bytes.len() + LENGTH_BYTES + reduced.len() > self.bytes.capacity();
        if full && !self.is_empty() {
            return false;
        }
        self.kept.push(Kept::new(key, self.bytes.len() as u32));
        self.bytes.extend_from_slice(&(reduced.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(reduced);
        true
    }

    pub(crate) fn sort(&mut self) {
        self.kept.sort_unstable_by_key(Kept::key);
    }

    /// Record `index` in the order of the last [`Arena::sort`].
    pub(crate) fn key(&self, index: usize) -> Option<SortKey> {
        self.kept.get(index).map(Kept::key)
    }

    /// What `reduce` gave for record `index`.
    pub(crate) fn reduced(&self, index: usize) -> &[u8] {
        let start = self.kept[index].at as usize + LENGTH_BYTES;
        let len = get_u32(&self.bytes, start - LENGTH_BYTES) as usize;
        &self.bytes[start..start + len]
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.kept.clear();
    }
}
