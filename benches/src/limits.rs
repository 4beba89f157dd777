//! The sizes of the benchmarks, each with its reason.

use std::time::Duration;

/// Bytes of an echoed message and of what a chat message says: a short line of chat, as in the first measurements.
pub const MESSAGE_BYTES: usize = 96;

/// Messages of one connection in flight at most. Tidegate grants a device 256 pushes.
pub const IN_FLIGHT_MAX: u32 = 128;

/// Messages before the first sample of a series: tables and buffer pools are warm after one per connection and some.
pub const WARM_UP_PER_CONNECTION: u64 = 2;

/// A sample that takes longer has lost a message or measures a machine that does something else.
pub const SAMPLE_TIME_MAX: Duration = Duration::from_secs(120);

/// How long one answer of the opening handshake may take.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(20);

/// How long a server may take to say that it is ready; Tidegate zeroes its first segments.
pub const START_TIME_MAX: Duration = Duration::from_secs(60);

/// Below this wait the generator looks again at once: a timer of the kernel wakes later than that.
pub const SPIN_BELOW: Duration = Duration::from_micros(80);

/// Connections put into the generator's ring at once: each holds a descriptor of the process until it is there.
pub const INSERTED_AT_ONCE: usize = 512;

/// Slots beside the connections of a ring.
pub const SPARE_SLOTS: u32 = 64;

/// Slots of a control server.
pub const CONTROL_SLOTS: u32 = 12_000;

/// Receive buffers and their bytes, as the gateway's own defaults are.
pub const RECEIVE_BUFFERS: u16 = 1024;
/// See above.
pub const RECEIVE_BUFFER_BYTES: u32 = 4096;

/// Bytes of the file that controls and the commit benchmark write to: one segment.
pub const SEGMENT_BYTES: u64 = 64 << 20;

/// The gateway's largest batch.
pub const BATCH_BYTES_MAX: usize = 1 << 20;

/// What a direct write is aligned to: the largest logical block.
pub const BLOCK_BYTES: usize = 4096;

/// What a batch is padded to.
pub const BATCH_PADDING_BYTES: usize = 512;

/// Records of a batch of a log that is made to be read: what gathers during a commit at a few hundred thousand a second.
pub const CORPUS_BATCH_RECORDS: u64 = 256;

/// How often the maker of a log says how far it is.
pub const CORPUS_TELL_RECORDS: u64 = 1_000_000;

/// Bytes of a message's record beside the message: stamp, its offset and length, the client's id.
pub const RECORD_BODY_EXTRA_BYTES: usize = 80 + 8 + 16;

/// Bytes of a stored record beside its body, with its place in the batch's table and padding.
pub const RECORD_OVERHEAD_BYTES: usize = 96 + 4 + 7;

/// What a control reads or writes at once.
pub const CONTROL_READ_BYTES: usize = 1 << 20;

/// Records appended between two looks at the ring when all are due: some ten microseconds.
pub const RECORDS_BETWEEN_POLLS: u64 = 64;

/// Bytes of a ring of the shard that runs in the benchmark: the default of the gateway.
pub const SHARD_RING_BYTES: usize = 1 << 20;

/// Sockets of that shard at once: as many users register with one commit.
pub const QUEUES_SOCKETS: usize = 256;

/// Users that it keeps in memory: few, since what is measured is who is away.
pub const QUEUES_HOT_USERS: usize = 1024;

const _: () = assert!(BATCH_BYTES_MAX.is_multiple_of(BLOCK_BYTES));
const _: () = assert!(SEGMENT_BYTES.is_multiple_of(BATCH_BYTES_MAX as u64));
