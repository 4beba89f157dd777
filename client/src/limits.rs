//! Every limit and period of the client, with its reason.

use tidegate_ids::MonotonicNs;

/// One millisecond.
pub(crate) const MILLISECOND: u64 = MonotonicNs::MILLISECOND;
/// One second.
pub(crate) const SECOND: u64 = MonotonicNs::SECOND;

/// Subprotocol of the upgrade.
pub const SUBPROTOCOL: &str = "tidegate.v1";

/// The one protocol version that is spoken.
pub const PROTOCOL_VERSION: u16 = 1;

/// From the open socket to `Welcome`: a slow mobile link and one full queue at the gateway.
pub const WELCOME_WAIT_NS: u64 = 15 * SECOND;

/// A request without an answer is given up after this long (PROTOCOL, requirement 17).
pub const ANSWER_WAIT_NS: u64 = 5 * SECOND;

/// How often an unanswered command is sent again before it is parked: 1 + 2 + 4 + 8 + 16 s of pauses and six waits of
/// 5 s make a minute.
pub const RETRIES_MAX: u8 = 5;

/// The first pause before an unanswered command is sent again; it doubles.
pub const RETRY_BASE_NS: u64 = SECOND;

/// The longest pause after a temporary refusal that names none.
pub const RETRY_CAP_NS: u64 = 60 * SECOND;

/// Reconnect: the first window of the full jitter.
pub const RECONNECT_BASE_NS: u64 = SECOND;

/// Reconnect: the widest window.
pub const RECONNECT_CAP_NS: u64 = 60 * SECOND;

/// Reconnect: with how many failures a "too many connections" counts at least, so that its window is 8 s and more.
pub const CROWDED_FAILURES: u8 = 3;

/// A connection that held this long wipes the count of failures; one that is closed at once does not.
pub const STEADY_NS: u64 = 10 * SECOND;

/// A hole is asked for after this long (PROTOCOL, "Order and dedupe").
pub const HOLE_WAIT_NS: u64 = 200 * MILLISECOND;

/// `GetRange` in flight on a connection (PROTOCOL, "Messages").
pub const RANGES_IN_FLIGHT_MAX: usize = 2;

/// Answers without progress before what is missing counts as not to be had.
pub const FRUITLESS_MAX: u8 = 3;

/// `GetRange` requests without any answer, one after the other, before the connection counts as dead.
pub const SILENT_RANGES_MAX: u8 = 3;

/// Pushes that are acknowledged at once (PROTOCOL, "Receipts").
pub const ACK_FRAMES: u64 = 64;

/// Fewer pushes are acknowledged after this long.
pub const ACK_WAIT_NS: u64 = 50 * MILLISECOND;

/// Silent heartbeat periods after which the connection counts as dead: the gateway's own rule.
pub const SILENT_PERIODS: u64 = 3;

/// The heartbeat before `Welcome` says another, and the longest that is believed.
pub const HEARTBEAT_NS: u64 = 30 * SECOND;

/// Out-of-order records held per conversation; what is above becomes a duty to fetch. A quarter of the credit, so
/// that one conversation with a hole does not stop the others.
pub const REORDER_MAX: usize = 64;

/// Conversations of one device: the index has 20 bits in a request id.
pub const CONVERSATIONS_MAX: usize = 1 << 20;

/// The highest sequence or number of the gateway's that is believed: far enough below 2^53 − 1 that what is counted on
/// from there can still be said.
pub(crate) const COUNT_MAX: u64 = tidegate_ids::INTEGER_MAX - (1 << 32);

/// Commands that wait for an answer or to be sent, over all conversations.
pub const OUTBOX_COMMANDS_MAX: usize = 4096;

/// Bytes of these commands.
pub const OUTBOX_BYTES_MAX: usize = 16 << 20;

/// Commands on their way over one connection, whatever the conversations: the gateway refuses above 1024.
pub const UNANSWERED_TOTAL_MAX: usize = 1000;

/// Creations of groups that wait.
pub const CREATIONS_MAX: usize = 16;

/// Requests of the application (history, members, list) that wait for their answer.
pub const REQUESTS_MAX: usize = 32;

/// Marks remembered to be told again after a reconnect, because nothing answers them.
pub const MARKS_MAX: usize = 256;

/// `Typing` frames that wait for the next transmission; the oldest goes first.
pub const TYPING_MAX: usize = 8;

/// One call of `transmit` appends about this much at most: one full payload.
pub const TRANSMIT_BYTES: usize = 64 * 1024;

/// Spare message buffers kept for the next command, and the largest that is kept.
pub const SPARES_MAX: usize = 8;
/// See [`SPARES_MAX`].
pub const SPARE_BYTES_MAX: usize = 1024;

const _: () = assert!(CONVERSATIONS_MAX <= 1 << crate::request::CONVERSATION_BITS);
const _: () = assert!(REORDER_MAX < tidegate_schema::limits::CREDIT_FRAMES_MAX as usize);
const _: () = assert!(
    TRANSMIT_BYTES + tidegate_schema::limits::MESSAGE_BYTES_MAX < tidegate_schema::limits::PAYLOAD_BYTES_MAX
);
