//! Every limit of this room, with its reason.

/// Longest opening handshake accepted, request line and fields together, in bytes. Browsers send about 600 bytes, a long
/// cookie 4 KiB; 8 KiB is what proxies commonly allow.
pub const HANDSHAKE_BYTES_MAX: usize = 8 * 1024;

/// Most header fields in an opening handshake. Browsers send about 20, proxies add a handful. They are parsed on the
/// stack: 64 × 32 bytes.
pub const HANDSHAKE_FIELDS_MAX: usize = 64;

/// Most subprotocols offered in one handshake. Clients offer one to three; each is compared with all before it.
pub const PROTOCOLS_MAX: usize = 16;

/// Longest payload of a control frame in bytes (RFC 6455, 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// Longest reason in a close frame in bytes: a control payload less its two-byte code.
pub const CLOSE_REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// Longest frame header in bytes: two, an eight-byte length, a four-byte mask (RFC 6455, 5.2).
pub const HEADER_BYTES_MAX: usize = 14;

/// Longest body of a refused handshake's response in bytes; it is one sentence for a human.
pub const REJECT_TEXT_BYTES_MAX: usize = 512;

/// Capacity in bytes that [`crate::Decoder::decode`] leaves in `held` between messages. What is larger is given back, so
/// that one large message does not pin its memory for the life of the connection.
pub const HELD_KEPT_BYTES_MAX: usize = 64 * 1024;

/// First reservation of `held` in bytes when [`crate::Decoder::decode`] grows it, so that a message coming in single
/// bytes does not reallocate at each of its first.
pub const HELD_FIRST_BYTES: usize = 256;

const _: () = assert!(HELD_FIRST_BYTES <= HELD_KEPT_BYTES_MAX);
const _: () = assert!(HELD_FIRST_BYTES > CONTROL_BYTES_MAX);
// The three digits of the Content-Length of a refusal, its final line feed included.
const _: () = assert!(REJECT_TEXT_BYTES_MAX < 999);
