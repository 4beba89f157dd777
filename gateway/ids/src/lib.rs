//! Identifiers, sequences, locations and times: the newtypes that every room shares.
//!
//! This room knows no bytes on the wire and none on disk; it only keeps two integers of one type from
//! being mistaken for each other. All integers named `u64` on the wire stay below 2^53
//! ([`INTEGER_MAX`], PROTOCOL "Framing"), so that a browser can hold them as plain numbers.
#![forbid(unsafe_code)]

mod conversation;
mod location;
mod number;
mod stream;
mod time;

pub use conversation::{ConversationId, ConversationKind};
pub use location::{Location, LogId, Position};
pub use number::{
    Attempt, BatchNumber, ClientId, CommandNumber, Countable, DeviceId, Generation, INTEGER_MAX, Incarnation,
    MessageId, PushNumber, RequestId, Sequence, ShardIndex, UserId, UserVersion, VIRTUAL_SHARDS,
    VirtualShard,
};
pub use stream::{StreamId, StreamKind};
pub use time::{MonotonicNs, Now, WallMs};
