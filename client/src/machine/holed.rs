//! Conversations with holes: which may ask for what they miss, in turn, and when the others may.
//!
//! A device that was away may be told of ten thousand conversations at once, while two requests may be in flight. So
//! nothing here goes over all of them: each change of one conversation, and each request, costs a few steps.

use std::collections::{BTreeMap, BTreeSet};
use tidegate_ids::MonotonicNs;

/// What is to be known of a conversation with a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    /// When it may be asked for.
    pub(crate) due_at: MonotonicNs,
    /// A request for it is on its way.
    pub(crate) asked: bool,
    /// Whether it is known where the conversation begins.
    pub(crate) begun: bool,
    /// Whether a push is held that must not be acknowledged.
    pub(crate) holds_push: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It waits for its time.
    Waiting(MonotonicNs),
    /// It waits to be asked for since this turn; it was due at that time.
    Ready(u64, MonotonicNs),
    /// It waits to begin.
    Unbegun(MonotonicNs),
    /// It is asked for.
    Asked,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Holed {
    places: BTreeMap<u32, Place>,
    waiting: BTreeSet<(MonotonicNs, u32)>,
    ready: BTreeMap<u64, u32>,
    next_turn: u64,
    unbegun: BTreeSet<(MonotonicNs, u32)>,
    holding: BTreeSet<u32>,
}

impl Holed {
    /// A conversation has changed; without a hole it is forgotten. One that is ready keeps its turn.
    pub(crate) fn note(&mut self, index: u32, hole: Option<Hole>) {
        let before = self.places.get(&index).copied();
        if let (Some(Place::Ready(_, due_at)), Some(hole)) = (before, hole)
            && hole.begun
            && !hole.asked
            && hole.due_at <= due_at
        {
            return self.note_holding(index, hole.holds_push);
        }
        match before {
            Some(Place::Waiting(at)) => _ = self.waiting.remove(&(at, index)),
            Some(Place::Ready(turn, _)) => _ = self.ready.remove(&turn),
            Some(Place::Unbegun(at)) => _ = self.unbegun.remove(&(at, index)),
            Some(Place::Asked) | None => {}
        }
        self.note_holding(index, hole.is_some_and(|hole| hole.holds_push));
        let Some(hole) = hole else {
            self.places.remove(&index);
            return;
        };
        let place = match hole {
            Hole { asked: true, .. } => Place::Asked,
            Hole { begun: false, due_at, .. } => {
                self.unbegun.insert((due_at, index));
                Place::Unbegun(due_at)
            }
            Hole { due_at, .. } => {
                self.waiting.insert((due_at, index));
                Place::Waiting(due_at)
            }
        };
        self.places.insert(index, place);
    }

    fn note_holding(&mut self, index: u32, holds_push: bool) {
        if holds_push {
            self.holding.insert(index);
        } else {
            self.holding.remove(&index);
        }
    }

    /// The next that may be asked for now, in turn. It is noted anew once that is done.
    pub(crate) fn take_ready(&mut self, now: MonotonicNs) -> Option<u32> {
        while let Some((at, index)) = self.waiting.first().copied().filter(|(at, _)| *at <= now) {
            self.waiting.pop_first();
            self.ready.insert(self.next_turn, index);
            self.places.insert(index, Place::Ready(self.next_turn, at));
            self.next_turn += 1;
        }
        let (_, index) = self.ready.pop_first()?;
        self.places.insert(index, Place::Asked);
        Some(index)
    }

    /// One that waits to begin, and is due.
    pub(crate) fn unbegun_due(&self, now: MonotonicNs) -> Option<u32> {
        self.unbegun.first().filter(|(at, _)| *at <= now).map(|(_, index)| *index)
    }

    /// All that wait to begin.
    pub(crate) fn unbegun(&self) -> Vec<u32> {
        self.unbegun.iter().map(|(_, index)| *index).collect()
    }

    /// All with a hole.
    pub(crate) fn all(&self) -> Vec<u32> {
        self.places.keys().copied().collect()
    }

    /// Those that hold a push: as many as pushes may be unacknowledged at most.
    pub(crate) fn holding(&self) -> impl Iterator<Item = &u32> {
        self.holding.iter()
    }

    /// The earliest time after `now` at which one is due.
    pub(crate) fn wake(&self, now: MonotonicNs) -> Option<MonotonicNs> {
        let after = |set: &BTreeSet<(MonotonicNs, u32)>| {
            set.range((MonotonicNs(now.0 + 1), 0)..).next().map(|(at, _)| *at)
        };
        after(&self.waiting).into_iter().chain(after(&self.unbegun)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: MonotonicNs = MonotonicNs(100);

    fn hole(due_at: u64) -> Hole {
        Hole { due_at: MonotonicNs(due_at), asked: false, begun: true, holds_push: false }
    }

    #[test]
    fn conversations_ask_in_turn_once_they_are_due_and_keep_it_when_they_change() {
        let mut holed = Holed::default();
        for (index, due_at) in [(1, 90), (2, 300), (3, 80)] {
            holed.note(index, Some(hole(due_at)));
        }
        assert_eq!((holed.take_ready(NOW), holed.wake(NOW)), (Some(3), Some(MonotonicNs(300))));
        holed.note(1, Some(Hole { holds_push: true, ..hole(85) }));
        holed.note(4, Some(hole(1)));
        assert_eq!(holed.holding().collect::<Vec<_>>(), [&1]);
        assert_eq!((holed.take_ready(NOW), holed.take_ready(NOW)), (Some(1), Some(4)));
        assert_eq!(holed.take_ready(NOW), None);
        holed.note(1, Some(hole(150)));
        holed.note(2, None);
        assert_eq!((holed.wake(NOW), holed.take_ready(MonotonicNs(150))), (Some(MonotonicNs(150)), Some(1)));
        assert_eq!(holed.all(), [1, 3, 4]);
    }

    #[test]
    fn who_has_no_beginning_waits_apart() {
        let mut holed = Holed::default();
        holed.note(1, Some(Hole { begun: false, ..hole(50) }));
        holed.note(2, Some(Hole { begun: false, ..hole(200) }));
        assert_eq!((holed.take_ready(NOW), holed.unbegun_due(NOW)), (None, Some(1)));
        assert_eq!((holed.unbegun(), holed.wake(NOW)), (vec![1, 2], Some(MonotonicNs(200))));
        holed.note(1, Some(hole(50)));
        assert_eq!((holed.unbegun_due(NOW), holed.take_ready(NOW)), (None, Some(1)));
    }
}
