//! Walking a slice: a large group's members on this shard, at most 1000 a turn, each exactly once.
//!
//! One walk per source at a time: the frames behind it stay in their ring, so walks of one conversation run one after
//! another, and what a shard has consumed is the lowest position of an unfinished walk. A walk waits for nothing but
//! this shard's own time, so the ring is always emptied in the end.

use crate::counters::Counter;
use crate::limits::WALK_MEMBERS_PER_TURN;
use crate::mesh_frame::{Effect, Outcome, Shipped};
use crate::shard::Shard;
use tidegate_ids::{ShardIndex, UserId};

/// A record whose recipients are being walked.
#[derive(Debug, Default)]
struct Walk {
    /// The shipped frame; empty when no walk is under way.
    frame: Vec<u8>,
    /// Who gets it: the connected first, as decided at the start.
    members: Vec<UserId>,
    done: usize,
}

/// At most one walk per source.
#[derive(Debug)]
pub(crate) struct Walks {
    walks: Vec<Walk>,
    /// Members walked in this turn.
    walked: usize,
}

impl Walks {
    pub(crate) fn new(shards: u16) -> Self {
        let walks = (0..shards).map(|_| Walk::default()).collect();
        Self { walks, walked: 0 }
    }

    /// A turn begins.
    pub(crate) const fn begin_turn(&mut self) {
        self.walked = 0;
    }

    /// Whether a walk is under way.
    pub(crate) fn are_under_way(&self) -> bool {
        self.walks.iter().any(|walk| !walk.frame.is_empty())
    }
}

impl Shard {
    /// Begins a walk. The membership record itself changes the slice first, when it is consumed, never at its append.
    pub(crate) fn begin_walk(&mut self, from: ShardIndex, shipped: &Shipped<'_>, frame: &[u8]) {
        let Some(slice) = self.slices.get_mut(&shipped.conversation) else {
            unreachable!("a slice is copied before its first record is shipped")
        };
        let (route, index, at) = (self.route, self.index, shipped.sequence);
        match shipped.effect {
            Effect::None => {}
            Effect::Joined(users) => {
                users.iter().filter(|user| route.user(*user) == index).for_each(|user| slice.add(user, at));
            }
            Effect::Left(users) => {
                users
                    .iter()
                    .filter(|user| route.user(*user) == index)
                    .for_each(|user| slice.remove(user, at));
            }
        }
        let walk = &mut self.walks.walks[usize::from(from.0)];
        assert!(walk.frame.is_empty(), "the frames behind a walk stay in their ring");
        walk.frame.extend_from_slice(frame);
        walk.done = 0;
        walk.members.clear();
        let connected =
            |user: &UserId| self.streams.users.get(user).is_some_and(|hot| !hot.sessions.is_empty());
        walk.members.extend(slice.recipients(at).filter(connected));
        walk.members.extend(slice.recipients(at).filter(|user| !connected(user)));
    }

    /// Goes on with the walk of one source; true if none is under way there any more.
    pub(crate) fn continue_walk(&mut self, from: ShardIndex) -> bool {
        let place = usize::from(from.0);
        if self.walks.walks[place].frame.is_empty() {
            return true;
        }
        let mut walk = std::mem::take(&mut self.walks.walks[place]);
        let Some(Outcome::Record(shipped)) = Outcome::decode(&walk.frame) else {
            unreachable!("a walk keeps a record")
        };
        while walk.done < walk.members.len()
            && self.walks.walked < WALK_MEMBERS_PER_TURN
            && self.owed.has_place()
        {
            self.deliver(walk.members[walk.done], &shipped);
            walk.done += 1;
            self.walks.walked += 1;
            self.stats.count(Counter::Walked);
        }
        let finished = walk.done == walk.members.len();
        if finished {
            self.checkpoint.consumed(from, shipped.position_after());
            walk.frame.clear();
        }
        self.walks.walks[place] = walk;
        finished
    }
}
