//! Which virtual shard, and which shard, a user or a conversation lives on: one pure function.

use tidegate_ids::{
    ConversationId, ConversationKind, ShardIndex, StreamId, StreamKind, UserId, VIRTUAL_SHARDS, VirtualShard,
};
use xxhash_rust::xxh3::xxh3_64;

/// The version of the hash that the manifest names: 1 is xxh3-64, seed 0, over the id's little-endian bytes, modulo
/// 1024 (DECISIONS, Identity and routing).
pub const HASH_VERSION: u32 = 1;

/// Maps virtual shards to a number of shards: shard i owns a contiguous run of virtual shards, so that another
/// number of shards takes byte ranges of a snapshot sorted by virtual shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    shards: u16,
}

impl Route {
    /// A route over `shards` shards, 1 to 1024.
    #[must_use]
    pub fn new(shards: u16) -> Self {
        assert!((1..=VIRTUAL_SHARDS).contains(&shards), "a node has 1 to 1024 shards");
        Self { shards }
    }

    /// How many shards there are.
    #[must_use]
    pub const fn shards(&self) -> u16 {
        self.shards
    }

    /// The shard that owns a virtual shard.
    #[must_use]
    pub const fn shard_of(&self, virtual_shard: VirtualShard) -> ShardIndex {
        ShardIndex((virtual_shard.0 as u32 * self.shards as u32 / VIRTUAL_SHARDS as u32) as u16)
    }

    /// A user's home.
    #[must_use]
    pub fn user(&self, user: UserId) -> ShardIndex {
        self.shard_of(user_virtual_shard(user))
    }

    /// A conversation's home.
    #[must_use]
    pub fn conversation(&self, id: &ConversationId) -> ShardIndex {
        self.shard_of(conversation_virtual_shard(id))
    }

    /// The shard that owns a stream; `None` for a shard's own stream and for bytes that name none.
    #[must_use]
    pub fn stream(&self, stream: &StreamId) -> Option<ShardIndex> {
        virtual_shard(stream).map(|place| self.shard_of(place))
    }
}

/// The virtual shard of a stream; `None` for a shard's own stream and for bytes that name none.
#[must_use]
pub fn virtual_shard(stream: &StreamId) -> Option<VirtualShard> {
    match stream.kind()? {
        StreamKind::Conversation(id) => Some(conversation_virtual_shard(&id)),
        StreamKind::User(user) => Some(user_virtual_shard(user)),
        StreamKind::Shard => None,
    }
}

fn user_virtual_shard(user: UserId) -> VirtualShard {
    VirtualShard((xxh3_64(&user.0.to_le_bytes()) % u64::from(VIRTUAL_SHARDS)) as u16)
}

/// A direct conversation lives at the home of one of the two, chosen by a bit of the pair's hash; a group at the hash
/// of its id's bytes as they stand (they have no integer form, so no other order of bytes).
fn conversation_virtual_shard(id: &ConversationId) -> VirtualShard {
    let hash = xxh3_64(id.bytes());
    match id.kind() {
        Some(ConversationKind::Direct(low, high)) => {
            user_virtual_shard(if hash >> 63 == 0 { low } else { high })
        }
        _ => VirtualShard((hash % u64::from(VIRTUAL_SHARDS)) as u16),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direct_conversation_lives_with_one_of_the_two() {
        let route = Route::new(4);
        let mut sides = [0; 2];
        for n in 0..200 {
            let (low, high) = (UserId(n), UserId(n + 1000));
            let home = route.conversation(&ConversationId::direct(low, high));
            assert!(home == route.user(low) || home == route.user(high));
            sides[usize::from(home == route.user(low))] += 1;
        }
        assert!(sides[0] > 40 && sides[1] > 40, "both sides are used: {sides:?}");
    }

    #[test]
    fn shards_own_contiguous_runs_that_cover_all() {
        for shards in [1, 2, 3, 5, 64, 1024] {
            let route = Route::new(shards);
            let owners: Vec<u16> = (0..VIRTUAL_SHARDS).map(|v| route.shard_of(VirtualShard(v)).0).collect();
            assert!(owners.is_sorted());
            assert_eq!((owners[0], owners[1023]), (0, shards - 1));
        }
    }

    #[test]
    fn the_hash_of_version_1_does_not_change() {
        assert_eq!(user_virtual_shard(UserId(1)).0, (xxh3_64(&[1, 0, 0, 0, 0, 0, 0, 0]) % 1024) as u16);
        assert_eq!(user_virtual_shard(UserId(42)), VirtualShard(USER_42));
    }

    /// Written down once from the first build; a change of it would orphan every log.
    const USER_42: u16 = 968;
}
