//! Byte rings between shards: the only thing that two shards share (DESIGN 1 and 2).
//!
//! For every ordered pair of shards, a shard with itself included, there are two rings, one per [`Lane`]. A
//! ring is written by one shard and read by one: no locks. It carries frames, each contiguous and 8-aligned;
//! where a frame would reach over the ring's end, the rest is padded and the frame starts again at the front.
//! Nothing but bytes crosses, never a pointer.
//!
//! **Sleeping.** A shard that wants to sleep publishes a flag and looks once more
//! ([`MeshEnd::announce_sleep`]); a shard that has pushed, or has taken what another waited to have room for,
//! looks at the flags of those it touched once per batch and wakes whom it finds asleep
//! ([`MeshEnd::take_wakes`]). How a sleeper is woken is the caller's: this room makes no system call.
//!
//! What is not here: what frames mean, when to push, and what to do when a ring is full.
#![allow(unsafe_code)]

mod end;
mod limits;
mod ring;
mod sleep;

pub use end::{Counters, Lane, MeshConfigError, MeshEnd, build};
pub use limits::{RING_BYTES_MAX, SHARDS_MAX, WORD_BYTES};
