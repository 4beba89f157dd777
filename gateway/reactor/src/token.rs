//! What a request carries through the kernel: the operation, the slot's generation, and an index.
//!
//! | bits | meaning |
//! |---|---|
//! | 56..64 | [`Operation`] |
//! | 32..56 | the slot's generation; for [`Operation::Adopted`] the upper part of the key |
//! | 0..32 | slot, or index of a listener, write or insertion; for [`Operation::Adopted`] the rest of the key |

use crate::limits::{GENERATION_MAX, KEY_MAX};

/// The kind of request that a completion answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Operation {
    Accept = 1,
    Receive,
    Send,
    Close,
    /// Cancels a request; completes only if there was nothing to cancel.
    Cancel,
    /// Writes log bytes.
    Write,
    /// Makes them durable.
    Sync,
    /// Passes a slot to another ring; completes at its source.
    HandOver,
    /// Posted by another ring: a slot has come.
    Adopted,
    /// Puts one of the process's own descriptors into the table.
    Insert,
    /// Wakes another ring; completes only if that failed.
    Wake,
    /// Posted by another ring: wake up.
    Woken,
    /// A helper thread has written to the event descriptor.
    Event,
}

const OPERATIONS: [Operation; 13] = [
    Operation::Accept,
    Operation::Receive,
    Operation::Send,
    Operation::Close,
    Operation::Cancel,
    Operation::Write,
    Operation::Sync,
    Operation::HandOver,
    Operation::Adopted,
    Operation::Insert,
    Operation::Wake,
    Operation::Woken,
    Operation::Event,
];

impl Operation {
    /// Whether this ring has queued the request and it ends with a completion in any case.
    pub(crate) const fn is_outstanding(self) -> bool {
        !matches!(self, Self::Cancel | Self::Adopted | Self::Wake | Self::Woken)
    }
}

/// A request's user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token(pub(crate) u64);

impl Token {
    pub(crate) const fn new(operation: Operation, generation: u32, index: u32) -> Self {
        assert!(generation <= GENERATION_MAX, "a generation has 24 bits");
        Self((operation as u64) << 56 | (generation as u64) << 32 | index as u64)
    }

    pub(crate) const fn adopted(key: u64) -> Self {
        assert!(key <= KEY_MAX, "a key has 56 bits");
        Self((Operation::Adopted as u64) << 56 | key)
    }

    /// `None` for bytes that this room has not written.
    pub(crate) fn operation(self) -> Option<Operation> {
        OPERATIONS.get(((self.0 >> 56) as usize).wrapping_sub(1)).copied()
    }

    pub(crate) const fn generation(self) -> u32 {
        (self.0 >> 32) as u32 & GENERATION_MAX
    }

    pub(crate) const fn index(self) -> u32 {
        self.0 as u32
    }

    pub(crate) const fn key(self) -> u64 {
        self.0 & KEY_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_survives() {
        for (position, operation) in OPERATIONS.into_iter().enumerate() {
            assert_eq!(operation as usize, position + 1);
            let token = Token::new(operation, GENERATION_MAX, u32::MAX);
            assert_eq!(token.operation(), Some(operation));
            assert_eq!((token.generation(), token.index()), (GENERATION_MAX, u32::MAX));
        }
        let token = Token::adopted(KEY_MAX);
        assert_eq!((token.operation(), token.key()), (Some(Operation::Adopted), KEY_MAX));
        assert_eq!(Token(0).operation(), None);
        assert_eq!(Token(u64::MAX).operation(), None);
    }
}
