//! The limits of this room, each with its reason.

/// Log writes of one ring in flight. Group commit has one batch at a time in flight; a roll adds the old segment's
/// seal. A bug of the caller above that.
pub const WRITES_IN_FLIGHT_MAX: usize = 64;

/// The largest key of a hand-over: a completion's user data keeps 8 of its 64 bits for the kind of operation.
pub const KEY_MAX: u64 = (1 << 56) - 1;

/// Slots of one ring: an index of the kernel's file table, well below the 32 bits that user data has for it.
pub(crate) const SLOTS_MAX: u32 = 1 << 20;

/// Generations of a slot before they repeat: what user data has left. A slot must be closed and opened sixteen
/// million times while one completion waits before it could be mistaken.
pub(crate) const GENERATION_MAX: u32 = (1 << 24) - 1;

/// The kernel's own bounds (`IORING_MAX_ENTRIES`, `IORING_MAX_CQ_ENTRIES`, and 2^15 buffers of a ring).
pub(crate) const SUBMISSION_ENTRIES_MAX: u32 = 1 << 15;
/// See above.
pub(crate) const COMPLETION_ENTRIES_MAX: u32 = 1 << 16;
/// See above.
pub(crate) const BUFFERS_MAX: u16 = 1 << 15;

/// Below this a ring is refused rather than made smaller: a turn would spend itself in system calls.
pub(crate) const SUBMISSION_ENTRIES_MIN: u32 = 512;
/// See above; four completions per submission, because a multishot request has many.
pub(crate) const COMPLETION_ENTRIES_MIN: u32 = 2048;
/// See above.
pub(crate) const BUFFERS_MIN: u16 = 512;

/// The largest receive buffer: a larger one only holds memory, TCP delivers less at once.
pub(crate) const BUFFER_BYTES_MAX: u32 = 1 << 20;

/// Completions copied out of the ring at once: 16 bytes each on the stack.
pub(crate) const COMPLETIONS_AT_ONCE: usize = 64;

/// The most one send or write passes to the kernel, whose lengths are 31 bits; a longer buffer takes several.
pub(crate) const TRANSFER_BYTES_MAX: usize = 1 << 30;

/// What a direct write's length and offset are multiples of: the smallest logical block.
pub(crate) const BLOCK_BYTES: usize = 512;

/// How long accepting rests after an error that consumed no connection (no memory, for example), so that it does
/// not spin.
pub(crate) const ACCEPT_REST_MS: u64 = 100;

/// How long a dropped reactor waits for the kernel to give back its memory, in steps of
/// [`DRAIN_STEP_MS`]; after that the memory is leaked rather than freed under the kernel.
pub(crate) const DRAIN_STEPS_MAX: u32 = 100;
/// See above.
pub(crate) const DRAIN_STEP_MS: u64 = 50;

const _: () = assert!(KEY_MAX >> 32 == GENERATION_MAX as u64);
const _: () = assert!(SLOTS_MAX as u64 <= u32::MAX as u64);
const _: () = assert!(SUBMISSION_ENTRIES_MIN <= SUBMISSION_ENTRIES_MAX);

/// Connections that may wait to be accepted: with 128, ten thousand connects took 10.9 s instead of 1.8 s. The kernel cuts
/// it to `net.core.somaxconn`.
pub(crate) const BACKLOG: i32 = 4096;
