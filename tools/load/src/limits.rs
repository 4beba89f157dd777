//! Every limit and period of the tool, with its reason.

use std::time::Duration;
use tidegate_ids::MonotonicNs;

const SECOND: u64 = MonotonicNs::SECOND;
const MILLISECOND: u64 = MonotonicNs::MILLISECOND;

/// Devices of one run: more than the 15,733 people of all the chat logs there are, and as many descriptors.
pub const DEVICES_MAX: usize = 20_000;

/// Descriptors besides those of the devices: standard streams, files, the poll.
pub const DESCRIPTORS_SPARE: u64 = 64;

/// Members of one group (PROTOCOL, "Groups").
pub const MEMBERS_MAX: usize = 500;

/// A log after decompression: two thousand times what a day has.
pub const LOG_BYTES_MAX: u64 = 256 << 20;

/// Sockets that are being opened at a time: well below the gateway's backlog of 4096 per shard.
pub const OPENING_MAX: usize = 256;

/// A connect without an answer is given up after this long.
pub const DIAL_WAIT_NS: u64 = 10 * SECOND;

/// What one read takes: as much as a socket's receive buffer holds as a rule.
pub const READ_BYTES: usize = 256 * 1024;

/// Reads of one socket before it is the others' turn.
pub const READS_MAX: usize = 4;

/// Events taken from the kernel at once.
pub const EVENTS_MAX: usize = 1024;

/// The longest wait of one turn, so that progress is shown and limits are looked at.
pub const TURN_WAIT: Duration = Duration::from_millis(50);

/// Source addresses of 127.0.0.0/8 that are tried when ports run out; each has 28,000.
pub const SOURCE_ADDRESSES_MAX: u8 = 8;

/// How long a person stays offline, at least and at most. Long enough that conversations move on meanwhile, short
/// enough that it happens again and again.
pub const OUTAGE_NS_MIN: u64 = SECOND / 2;
/// See [`OUTAGE_NS_MIN`].
pub const OUTAGE_NS_MAX: u64 = 12 * SECOND;

/// Random picks for one outage, so that a run in which almost nobody is free does not search for ever.
pub const OUTAGE_PICKS_MAX: usize = 16;

/// A replay without any progress for this long has failed. The SDK's longest pause before a reconnect is 60 s.
pub const STALL_NS: u64 = 120 * SECOND;

/// The same while nothing is connected at all: an operator may take a few minutes to start the gateway again.
pub const STALL_OFFLINE_NS: u64 = 300 * SECOND;

/// Where nobody ever answered the address is wrong, or no gateway runs: enough for one that is just being started.
pub const NEVER_ANSWERED_NS: u64 = 30 * SECOND;

/// Everything has arrived, and so long nothing may follow: then it ends. Twenty times the wait of an acknowledgement.
pub const LINGER_NS: u64 = SECOND;

/// Between two flushes of the file of acknowledged sends; whoever watches it sees lines no older.
pub const ACKS_FLUSH_NS: u64 = 50 * MILLISECOND;

/// The longest line of that file: three ids or hashes of 32 digits, two numbers of at most 20, four blanks, its end.
pub const ACKS_LINE_BYTES_MAX: usize = 3 * 32 + 2 * 20 + 4 + 1;

/// What gathers between two flushes before it is written: some 500 lines.
pub const ACKS_BUFFER_BYTES: usize = 64 * 1024;

/// Between two lines of progress where there is no terminal, and two steps of the bar where there is one.
pub const PROGRESS_LINE_NS: u64 = 5 * SECOND;
/// See [`PROGRESS_LINE_NS`].
pub const PROGRESS_BAR_NS: u64 = 100 * MILLISECOND;

/// Devices that a failure names.
pub const NAMED_MAX: usize = 20;

/// The longest latency that is told apart, in microseconds: an hour.
pub const LATENCY_US_MAX: u64 = 3_600_000_000;

/// Tokens that the gateway refuses before the replay gives up.
pub const TOKENS_REFUSED_MAX: u64 = 100;

/// How long a token is valid, in seconds: a week, longer than any replay.
pub const TOKEN_SECONDS: u64 = 7 * 24 * 3600;

const _: () = assert!(OUTAGE_NS_MIN < OUTAGE_NS_MAX && OUTAGE_NS_MAX < STALL_NS);
const _: () = assert!(ACKS_LINE_BYTES_MAX < ACKS_BUFFER_BYTES);
const _: () = assert!(NEVER_ANSWERED_NS < STALL_NS && STALL_NS < STALL_OFFLINE_NS);
