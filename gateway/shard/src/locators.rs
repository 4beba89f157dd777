//! Where the records of streams are that the newest snapshot does not hold: a locator each (DECISIONS, Log).
//!
//! A user's takes 25 bytes and a conversation's 41, and with the places that are free at most 64 at any size (decision
//! 0014). What one kind does not have is not kept for it.

use crate::compact::CompactTable;
use crate::table::IdHash;
use std::hash::BuildHasher;
use tidegate_ids::{ConversationId, Location, Sequence, StreamId, StreamKind};

/// Where a stream's records are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Locator {
    /// The last record that is linked: of a conversation the last sequenced one, of a user the last since the state.
    pub(crate) last: Location,
    /// The last part of the newest folded state.
    pub(crate) state: Location,
    /// The sequence of `last`, 0 in a user's stream.
    pub(crate) sequence: Sequence,
    /// A user's stream: whether a device ever registered; without one nothing is queued.
    pub(crate) has_devices: bool,
}

/// A user's locator. Segments are numbered below 2^31 for as long as a disk lives, so a bit of one says the rest.
#[derive(Clone, Copy, Debug, Default)]
struct UserPlace {
    last: Location,
    state: Location,
}

/// The bit of a state's segment that says that a device registered.
const HAS_DEVICES: u32 = 1 << 31;

#[derive(Clone, Copy, Debug, Default)]
struct ConversationPlace {
    last: Location,
    state: Location,
    sequence: Sequence,
}

const _: () = assert!(size_of::<(u64, UserPlace)>() == 24);
const _: () = assert!(size_of::<(ConversationId, ConversationPlace)>() == 40);

impl UserPlace {
    fn new(locator: Locator) -> Self {
        debug_assert!(locator.sequence.0 == 0, "a user's records have no sequence");
        assert!(locator.state.segment < HAS_DEVICES, "two thousand million segments were written");
        let mut state = locator.state;
        state.segment |= if locator.has_devices { HAS_DEVICES } else { 0 };
        Self { last: locator.last, state }
    }

    fn locator(self) -> Locator {
        let state = Location { segment: self.state.segment & !HAS_DEVICES, ..self.state };
        let has_devices = self.state.segment & HAS_DEVICES != 0;
        Locator { last: self.last, state, sequence: Sequence(0), has_devices }
    }
}

impl ConversationPlace {
    const fn new(locator: Locator) -> Self {
        Self { last: locator.last, state: locator.state, sequence: locator.sequence }
    }

    const fn locator(self) -> Locator {
        Locator { last: self.last, state: self.state, sequence: self.sequence, has_devices: false }
    }
}

impl Locator {
    /// Whether everything that it leads to lies in segments up to this one.
    const fn is_within(&self, segment: u32) -> bool {
        self.last.segment <= segment && self.state.segment <= segment
    }
}

/// Streams of one part: it grows, and is swept, alone, so that no turn does so for millions.
#[derive(Debug)]
struct Part {
    users: CompactTable<u64, UserPlace>,
    conversations: CompactTable<ConversationId, ConversationPlace>,
}

/// Streams of a part when the table is full, about: growing or sweeping them takes some ten microseconds.
const PART_STREAMS: usize = 1024;

/// Parts at most: a table of four million streams has parts as above.
const PARTS_MAX: usize = 4096;

/// The locators of every stream with records that the newest snapshot does not hold, and of hot streams.
#[derive(Debug)]
pub(crate) struct Locators {
    parts: Vec<Part>,
    hash: IdHash,
    count: usize,
    /// The newest snapshot, if there is one, holds every record of this shard's streams up to this segment.
    covered: Option<u32>,
    /// The next part to sweep.
    sweep: usize,
}

impl Locators {
    pub(crate) fn new(hash: IdHash, covered: Option<u32>, locators_max: usize) -> Self {
        let count = locators_max.div_ceil(PART_STREAMS).clamp(1, PARTS_MAX);
        let part = |_| Part { users: CompactTable::new(), conversations: CompactTable::new() };
        let parts: Vec<Part> = (0..count).map(part).collect();
        let sweep = parts.len();
        Self { parts, hash, count: 0, covered, sweep }
    }

    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    /// Bytes that the table holds of the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        let of = |part: &Part| size_of::<Part>() + part.users.heap_bytes() + part.conversations.heap_bytes();
        self.parts.iter().map(of).sum()
    }

    /// Whether a snapshot may know what no locator leads to.
    pub(crate) const fn has_snapshot(&self) -> bool {
        self.covered.is_some()
    }

    pub(crate) fn get(&self, stream: &StreamId) -> Option<Locator> {
        let part = &self.parts[self.part_of(stream)];
        match stream.kind()? {
            StreamKind::User(id) => part.users.get(&id.0, self.hash).map(UserPlace::locator),
            StreamKind::Conversation(id) => {
                part.conversations.get(&id, self.hash).map(ConversationPlace::locator)
            }
            StreamKind::Shard => None,
        }
    }

    /// Gives a stream a locator, new or in place of the one it has.
    pub(crate) fn put(&mut self, stream: &StreamId, locator: Locator) {
        let place = self.part_of(stream);
        let part = &mut self.parts[place];
        let is_new = match stream.kind() {
            Some(StreamKind::User(id)) => part.users.put(id.0, UserPlace::new(locator), self.hash),
            Some(StreamKind::Conversation(id)) => {
                part.conversations.put(id, ConversationPlace::new(locator), self.hash)
            }
            _ => unreachable!("a shard's own stream has no locator"),
        };
        self.count += usize::from(is_new);
    }

    pub(crate) fn remove(&mut self, stream: &StreamId) {
        let place = self.part_of(stream);
        let part = &mut self.parts[place];
        let removed = match stream.kind() {
            Some(StreamKind::User(id)) => part.users.remove(&id.0, self.hash),
            Some(StreamKind::Conversation(id)) => part.conversations.remove(&id, self.hash),
            _ => false,
        };
        self.count -= usize::from(removed);
    }

    /// A snapshot is there: what it holds needs no locator any more. Whether it holds more than the one before.
    pub(crate) fn covered_by(&mut self, segment: u32) -> bool {
        let is_newer = Some(segment) > self.covered;
        if is_newer {
            self.covered = Some(segment);
            self.sweep = 0;
        }
        is_newer
    }

    /// Whether a sweep is under way.
    pub(crate) const fn is_sweeping(&self) -> bool {
        self.sweep < self.parts.len()
    }

    /// Sweeps one part; `keep` says which streams need theirs in any case.
    pub(crate) fn sweep_part(&mut self, keep: impl Fn(&StreamId) -> bool) {
        let (Some(part), Some(covered)) = (self.parts.get_mut(self.sweep), self.covered) else { return };
        self.sweep += 1;
        let before = part.users.len() + part.conversations.len();
        // The snapshot holds more than a state that it covers.
        let swept = |locator: Locator| {
            if locator.state.segment <= covered {
                Locator { state: Location::NONE, ..locator }
            } else {
                locator
            }
        };
        part.users.sweep(self.hash, |user, place| {
            let locator = place.locator();
            *place = UserPlace::new(swept(locator));
            !locator.is_within(covered) || keep(&StreamId::user(tidegate_ids::UserId(*user)))
        });
        part.conversations.sweep(self.hash, |conversation, place| {
            let locator = place.locator();
            *place = ConversationPlace::new(swept(locator));
            !locator.is_within(covered) || keep(&StreamId::conversation(*conversation))
        });
        self.count = self.count + part.users.len() + part.conversations.len() - before;
    }

    fn part_of(&self, stream: &StreamId) -> usize {
        // The table inside a part uses the low and the highest bits.
        (self.hash.hash_one(stream) >> 32) as usize % self.parts.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_ids::UserId;

    fn user(number: u64) -> StreamId {
        StreamId::user(UserId(number))
    }

    fn conversation(number: u64) -> StreamId {
        StreamId::conversation(ConversationId::direct(UserId(number), UserId(number + 1)))
    }

    fn at(segment: u32, offset: u32) -> Location {
        Location::new(segment, offset)
    }

    #[test]
    fn a_locator_of_each_kind_survives_its_place() {
        let mut locators = Locators::new(IdHash(1), None, 1000);
        let whole = Locator { last: at(7, 512), state: at(3, 64), sequence: Sequence(9), has_devices: false };
        locators.put(&conversation(1), whole);
        assert_eq!(locators.get(&conversation(1)), Some(whole));
        for has_devices in [false, true] {
            for last in [Location::NONE, Location::SNAPSHOT, at(9, 8)] {
                let of_user = Locator { last, sequence: Sequence(0), has_devices, ..whole };
                locators.put(&user(1), of_user);
                assert_eq!(locators.get(&user(1)), Some(of_user));
            }
        }
        assert_eq!((locators.len(), locators.get(&user(2))), (2, None));
        locators.remove(&user(1));
        locators.remove(&user(1));
        assert_eq!((locators.len(), locators.get(&user(1))), (1, None));
    }

    /// A map that doubles took 102 bytes for each of a million streams, and kept them when it was swept.
    #[test]
    fn a_locator_takes_64_bytes_with_slack_at_most_at_any_size_and_nothing_once_it_is_swept() {
        for (kind, bytes_max) in [(user as fn(u64) -> StreamId, 40), (conversation, 64)] {
            let mut locators = Locators::new(IdHash(2), None, 64 * PART_STREAMS);
            let empty = locators.heap_bytes();
            for number in 1..=64 * PART_STREAMS as u64 {
                locators.put(&kind(number), Locator { last: at(1, 64), ..Locator::default() });
                let taken = locators.heap_bytes() - empty;
                assert!(number < 8192 || taken as u64 <= bytes_max * number, "{taken} for {number}");
            }
            assert!(locators.covered_by(1));
            while locators.is_sweeping() {
                locators.sweep_part(|stream| *stream == kind(77));
            }
            assert_eq!((locators.len(), locators.get(&kind(78))), (1, None));
            assert!(locators.get(&kind(77)).is_some());
            assert!(locators.heap_bytes() - empty < 1024);
        }
    }

    #[test]
    fn a_sweep_forgets_states_that_the_snapshot_holds() {
        let mut locators = Locators::new(IdHash(2), None, 10);
        for (number, last, state) in
            [(1, at(2, 0), at(1, 0)), (2, at(3, 0), at(2, 0)), (3, at(3, 0), at(3, 0))]
        {
            locators.put(&user(number), Locator { last, state, has_devices: true, ..Locator::default() });
        }
        assert!(locators.covered_by(2) && !locators.covered_by(2));
        while locators.is_sweeping() {
            locators.sweep_part(|_| false);
        }
        assert_eq!(locators.get(&user(1)), None);
        let states: Vec<_> = [2, 3].iter().map(|number| locators.get(&user(*number))).collect();
        let found: Vec<Location> = states.iter().flatten().map(|locator| locator.state).collect();
        assert_eq!(found, [Location::NONE, at(3, 0)]);
        assert!(states.iter().flatten().all(|locator| locator.has_devices));
    }
}
