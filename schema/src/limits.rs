//! Every limit of the wire contract, with its reason.

/// Bytes of the header before every body.
pub const HEADER_BYTES: usize = 16;

/// Frames in one WebSocket message: 512 acknowledgements fill half a page; more would be a turn of their own.
pub const FRAMES_MAX: usize = 512;

/// Bytes of one WebSocket message, headers included: three of the largest sends, or a page of records.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024;

/// Bytes of what a message says.
pub const MESSAGE_BODY_BYTES_MAX: usize = 64 * 1024;

/// Bytes of an encoded `Message`: its body and 8 KiB for attachments, mentions and layout.
pub const MESSAGE_BYTES_MAX: usize = 72 * 1024;

/// Attachments of one message: an album.
pub const ATTACHMENTS_MAX: usize = 32;

/// Users that one message mentions; each opens a look-up at their home.
pub const MENTIONS_MAX: usize = 256;

/// Items of one `SendBatch`, each answered by a frame of its own.
pub const BATCH_ITEMS_MAX: usize = 64;

/// Users named by one group frame: eight groups of the default size of 500, 32 KiB.
pub const USERS_MAX: usize = 4096;

/// Bytes of a group's name.
pub const NAME_BYTES_MAX: usize = 1024;

/// Bytes of a token: a JWT with a few claims has under 1 KiB.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Bytes of a client's platform text.
pub const PLATFORM_BYTES_MAX: usize = 128;

/// Bytes of the message that is a `Hello`, and of any message before the session: its token and platform, and as much again
/// for the rest, so that a token which is too long is told so.
pub const HELLO_BYTES_MAX: usize = 16 * 1024;

/// Commands of a device in one conversation that may be unanswered at once.
pub const UNANSWERED_MAX: u16 = 256;

/// Pushes that a connection may hold unacknowledged.
pub const CREDIT_FRAMES_MAX: u16 = 256;

/// Bytes of pushes that a connection may hold unacknowledged.
pub const CREDIT_BYTES_MAX: u32 = 256 * 1024;

/// Members of a group, unless configured otherwise.
pub const MEMBERS_MAX: u32 = 500;

/// Bytes of an error's text or detail, as a client takes them.
pub const TEXT_BYTES_MAX: usize = 4096;

/// Records that a `GetRange` may ask for.
pub const RANGE_RECORDS_MAX: u16 = 100;

/// Bytes after which a `Range` ends early (or after one record).
pub const RANGE_BYTES_MAX: usize = 64 * 1024;

/// Holes that a `Range` names: one between every two of its records, and one at each end.
pub const SKIPS_MAX: usize = RANGE_RECORDS_MAX as usize + 1;

/// Rows that a `ConversationList` may ask for: 200 rows have 24 KiB.
pub const CONVERSATION_ROWS_MAX: u16 = 200;

/// Rows that a `MembersGet` may ask for: 1000 rows have 40 KiB.
pub const MEMBER_ROWS_MAX: u16 = 1000;

/// Users in one `Receipts` frame.
pub const RECEIPT_ROWS_MAX: usize = 1000;

/// How deep tables may nest in a body; the deepest of ours is 3.
pub const VERIFIER_DEPTH_MAX: usize = 16;

/// Tables in one body; the largest of ours is a page of 1000 members.
pub const VERIFIER_TABLES_MAX: usize = 4096;

/// How much larger than its bytes a body may look when what it shares is counted again. A page's rows share one
/// vtable, which counts once a row: that stays below 3.
pub const VERIFIER_APPARENT_FACTOR: usize = 4;

const _: () = assert!(MESSAGE_BODY_BYTES_MAX < MESSAGE_BYTES_MAX);
const _: () = assert!(HEADER_BYTES + TOKEN_BYTES_MAX + PLATFORM_BYTES_MAX + 1024 < HELLO_BYTES_MAX);
const _: () = assert!(3 * MESSAGE_BYTES_MAX < PAYLOAD_BYTES_MAX);
const _: () = assert!(RANGE_BYTES_MAX + MESSAGE_BYTES_MAX < PAYLOAD_BYTES_MAX);
const _: () = assert!(FRAMES_MAX * HEADER_BYTES < PAYLOAD_BYTES_MAX);
const _: () = assert!((MEMBER_ROWS_MAX as usize) < VERIFIER_TABLES_MAX);
const _: () = assert!((CONVERSATION_ROWS_MAX as usize) < VERIFIER_TABLES_MAX);
const _: () = assert!(MENTIONS_MAX * 8 < MESSAGE_BYTES_MAX - MESSAGE_BODY_BYTES_MAX);
