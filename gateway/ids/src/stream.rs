//! A stream of the log: a conversation, a user, or a shard's own bookkeeping.

use crate::{ConversationId, UserId};
use core::fmt;

/// Sixteen bytes. A conversation's stream has the conversation's bytes; the others use first bytes that no
/// conversation has: `0x40` a user (id in the last eight bytes, big-endian), `0x60` the shard's own.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub [u8; 16]);

/// What a stream's id says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// A direct conversation or a group; records have sequences.
    Conversation(ConversationId),
    /// A user: devices, conversations, open ranges; records have no sequence.
    User(UserId),
    /// The shard's own: checkpoints.
    Shard,
}

const USER_TAG: u8 = 0x40;
const SHARD_TAG: u8 = 0x60;

impl StreamId {
    /// The stream of the shard that writes this log.
    pub const SHARD: Self = {
        let mut bytes = [0; 16];
        bytes[0] = SHARD_TAG;
        Self(bytes)
    };

    /// A conversation's stream.
    #[must_use]
    pub const fn conversation(id: ConversationId) -> Self {
        Self(id.0)
    }

    /// A user's stream.
    #[must_use]
    pub fn user(id: UserId) -> Self {
        let mut bytes = [0; 16];
        bytes[0] = USER_TAG;
        bytes[8..].copy_from_slice(&id.0.to_be_bytes());
        Self(bytes)
    }

    /// What the id says; `None` if these bytes name no stream.
    #[must_use]
    pub fn kind(&self) -> Option<StreamKind> {
        match self.0[0] {
            USER_TAG => {
                let mut half = [0; 8];
                half.copy_from_slice(&self.0[8..]);
                let sound = self.0[1..8] == [0; 7];
                sound.then(|| StreamKind::User(UserId(u64::from_be_bytes(half))))
            }
            SHARD_TAG => (*self == Self::SHARD).then_some(StreamKind::Shard),
            _ => {
                let id = ConversationId(self.0);
                id.kind().map(|_| StreamKind::Conversation(id))
            }
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            Some(StreamKind::Conversation(id)) => write!(f, "conversation {id}"),
            Some(StreamKind::User(id)) => write!(f, "user {id}"),
            Some(StreamKind::Shard) => f.write_str("shard"),
            None => self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_its_bytes() {
        let direct = ConversationId::direct(UserId(1), UserId(2));
        let group = ConversationId::group([7; 16]);
        assert_eq!(StreamId::conversation(direct).kind(), Some(StreamKind::Conversation(direct)));
        assert_eq!(StreamId::conversation(group).kind(), Some(StreamKind::Conversation(group)));
        assert_eq!(StreamId::user(UserId(77)).kind(), Some(StreamKind::User(UserId(77))));
        assert_eq!(StreamId::SHARD.kind(), Some(StreamKind::Shard));
        assert_eq!(StreamId([0x60; 16]).kind(), None);
    }
}
