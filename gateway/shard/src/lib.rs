//! One core's brain: sessions, homes of conversations, commit, fan-out cursors, queues, timers, back-pressure.
//!
//! The shell tells a shard what happened ([`Event`]), lets it take its turn, and does what it asks for ([`Output`]).
//! There is no clock, randomness, file, socket or thread here, so the same shard runs in the simulator and on the wire.
//!
//! Invariants:
//! - One function mutates at a time; nothing waits inside.
//! - Nothing leaves before the commit of everything appended when it was decided (`commit`).
//! - Consuming a result never waits for room in a ring nor for a commit (`recipient`, `walk`).
//! - A conversation stays hot until its records are shipped (`cursor`).
//! - Every queue has its limit in [`ShardLimits`] or `limits`, with what recovers a drop.
#![forbid(unsafe_code)]

mod append;
mod aside;
mod boot;
mod buffers;
mod building;
mod bytes;
mod checkpoint;
mod commit;
mod compact;
mod connection;
mod counters;
mod cursor;
mod edge;
mod erased;
mod event;
mod fold;
mod greet;
mod hand_over;
mod held;
mod home;
mod latch;
mod limits;
mod list;
mod load;
mod locators;
mod mesh_frame;
mod output;
mod owed;
mod port;
mod range;
mod reads;
mod recipient;
mod records;
mod shard;
mod shutdown;
mod snapshot;
mod state;
mod streams;
mod table;
mod tick;
mod unsent;
mod walk;

pub use boot::{LogEnd, Recovery, ShardSeed, is_let_go};
pub use counters::{Counter, LATENCY_BUCKETS, ShardStats, latency_bucket_ns};
pub use erased::has_content;
pub use event::{ConnectionId, Event, ReadToken, TransferKey};
pub use fold::{LargeUsers, StreamFold};
pub use limits::{MESH_FRAME_BYTES_MAX, ShardLimits, TICK_MS};
pub use output::{Output, ReadRequest, ReceiveMode};
pub use port::{Claims, Lane, MeshPort, TokenError, TokenVerifier};
pub use shard::{Shard, ShardSetup};
pub use snapshot::{ClosedSegment, SnapshotPlan, SnapshotPlanner};

/// Shards of one node: a slice's targets are the bits of a `u64`.
pub const SHARDS_MAX: usize = 64;
