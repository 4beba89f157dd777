//! Bytes copied aside until the rest has come: of upgrade requests, of messages, and what came behind a `Hello`.
//!
//! Who has shown a token and who has not have a share each, so that nobody without one takes the room of sessions. In each
//! the newest who wants more than is left is turned away.

use crate::limits::ShardLimits;

#[cfg(test)]
mod tests;

/// In whose share a connection's bytes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// Of those who have shown no token.
    Strangers,
    /// Of those who have.
    Devices,
}

/// How much is held of all connections, in bytes of capacity.
#[derive(Debug)]
pub(crate) struct Aside {
    /// By [`Share`].
    held_bytes: [usize; 2],
    held_bytes_max: [usize; 2],
}

impl Aside {
    pub(crate) const fn new(limits: &ShardLimits) -> Self {
        let strangers = limits.strangers_held_bytes_max();
        Self { held_bytes: [0; 2], held_bytes_max: [strangers, limits.held_bytes_max - strangers] }
    }

    /// Bytes of both shares.
    pub(crate) const fn held_bytes(&self) -> usize {
        let [strangers, devices] = self.held_bytes;
        strangers + devices
    }

    /// What is left of a share.
    pub(crate) const fn spare_bytes(&self, share: Share) -> usize {
        self.held_bytes_max[share as usize] - self.held_bytes[share as usize]
    }

    /// So much more is held, which was left.
    pub(crate) fn add(&mut self, share: Share, bytes: usize) {
        assert!(bytes <= self.spare_bytes(share), "what is copied aside has a place in its share");
        self.held_bytes[share as usize] += bytes;
    }

    /// So much less is held.
    pub(crate) fn remove(&mut self, share: Share, bytes: usize) {
        assert!(bytes <= self.held_bytes[share as usize], "what is let go of was held");
        self.held_bytes[share as usize] -= bytes;
    }
}

/// Makes place for more bytes behind those in `held`, by doubling up to the capacity that it ever needs. False, and nothing
/// changed, if that takes more capacity than it may have.
pub(crate) fn grow(held: &mut Vec<u8>, additional: usize, needed_max: usize, allowed_max: usize) -> bool {
    let needed = held.len() + additional;
    let doubled = (2 * held.capacity()).min(needed_max);
    let capacity = needed.max(doubled).min(allowed_max);
    if capacity < needed {
        return false;
    }
    held.reserve_exact(capacity - held.len());
    true
}
