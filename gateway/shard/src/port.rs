//! What the shard needs from its shell while it decides (decision 0002).

use tidegate_domain::RateClass;
use tidegate_ids::{DeviceId, ShardIndex, UserId, WallMs};

/// One of the two rings of a pair of shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// May be refused at the edge; taken only if the home has a place to hold the answer.
    Requests,
    /// Always consumed; consuming one never waits for room in any ring nor for a commit.
    Results,
}

/// The byte rings between this shard and every shard, itself included.
pub trait MeshPort {
    /// Whether a frame of this many bytes would be taken now.
    fn has_room(&self, to: ShardIndex, lane: Lane, bytes: usize) -> bool;

    /// Puts a frame, made of these parts in order, into a ring; `false` if there is no room, then nothing happened.
    fn push(&mut self, to: ShardIndex, lane: Lane, parts: &[&[u8]]) -> bool;

    /// The oldest frame from a shard, if there is one.
    fn peek(&mut self, from: ShardIndex, lane: Lane) -> Option<&[u8]>;

    /// Drops the oldest frame from a shard.
    fn pop(&mut self, from: ShardIndex, lane: Lane);
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Who.
    pub user: UserId,
    /// Until when.
    pub expires: WallMs,
    /// The only device it is for, if it names one.
    pub device: Option<DeviceId>,
    /// The class of limits.
    pub rate: RateClass,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// Not a token, a wrong signature, or a claim that makes no sense.
    Invalid,
    /// It was valid once.
    Expired,
}

/// Checks tokens; the node does it with a JWT library, the simulator with plain bytes.
pub trait TokenVerifier: Send {
    /// Checks a token.
    ///
    /// # Errors
    /// Why it is refused.
    fn verify(&self, token: &[u8], now: WallMs) -> Result<Claims, TokenError>;
}
