//! The limits of this room, each with its reason.

/// Shards of one node: a virtual shard is the smallest thing that can be owned, and there are 1024 of them.
pub const SHARDS_MAX: usize = 1024;

/// Alignment of every frame, and the unit that rings are made of: the schema's `force_align`.
pub const WORD_BYTES: usize = 8;

/// The largest ring. A frame's length is a `u32`, and no ring comes near it: a pair's rings are counted in
/// shards squared.
pub const RING_BYTES_MAX: usize = 1 << 30;

const _: () = assert!(WORD_BYTES == size_of::<u64>());
const _: () = assert!(RING_BYTES_MAX / WORD_BYTES < u32::MAX as usize);
