//! A conversation's id: the sorted pair of two users, or a tagged hash (DECISIONS, Identity and routing).

use crate::{INTEGER_MAX, UserId};
use core::fmt;

/// Sixteen bytes. Direct: two big-endian user ids, smaller first, so the top 11 bits are zero. Group: top bit 1.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConversationId(pub [u8; 16]);

/// What a conversation's id says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConversationKind {
    /// Between two users, smaller id first; the two may be the same.
    Direct(UserId, UserId),
    /// A group: its members are in its stream.
    Group,
}

impl ConversationId {
    /// The direct conversation of two users, in any order.
    #[must_use]
    pub fn direct(one: UserId, other: UserId) -> Self {
        let (low, high) = if one <= other { (one, other) } else { (other, one) };
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&low.0.to_be_bytes());
        bytes[8..].copy_from_slice(&high.0.to_be_bytes());
        Self(bytes)
    }

    /// A group's id from a hash: the top bit is set, the other 127 are the hash's.
    #[must_use]
    pub const fn group(mut hash: [u8; 16]) -> Self {
        hash[0] |= 0x80;
        Self(hash)
    }

    /// What the id says; `None` if these bytes name no conversation.
    #[must_use]
    pub fn kind(&self) -> Option<ConversationKind> {
        if self.0[0] & 0x80 != 0 {
            return Some(ConversationKind::Group);
        }
        let mut half = [0; 8];
        half.copy_from_slice(&self.0[..8]);
        let low = u64::from_be_bytes(half);
        half.copy_from_slice(&self.0[8..]);
        let high = u64::from_be_bytes(half);
        let sound = low <= high && high <= INTEGER_MAX;
        sound.then_some(ConversationKind::Direct(UserId(low), UserId(high)))
    }

    /// Whether this is a group's id.
    #[must_use]
    pub const fn is_group(&self) -> bool {
        self.0[0] & 0x80 != 0
    }

    /// The sixteen bytes, as they stand on the wire.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            Some(ConversationKind::Direct(low, high)) => write!(f, "{low}:{high}"),
            _ => self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}

impl fmt::Debug for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConversationId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direct_id_is_the_sorted_pair() {
        let id = ConversationId::direct(UserId(9), UserId(4));
        assert_eq!(id, ConversationId::direct(UserId(4), UserId(9)));
        assert_eq!(id.kind(), Some(ConversationKind::Direct(UserId(4), UserId(9))));
        assert_eq!(id.0[0] >> 5, 0);
    }

    #[test]
    fn bytes_that_name_no_conversation_have_no_kind() {
        let mut unsorted = [0; 16];
        unsorted[7] = 9;
        unsorted[15] = 4;
        assert_eq!(ConversationId(unsorted).kind(), None);
        let mut too_large = [0; 16];
        too_large[8] = 0x20;
        assert_eq!(ConversationId(too_large).kind(), None);
        assert_eq!(ConversationId::group([0; 16]).kind(), Some(ConversationKind::Group));
    }
}
