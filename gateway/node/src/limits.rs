//! Limits of the shell, each with its reason.

use std::time::Duration;

/// Shards of a node: the shard crate's own bound.
pub const SHARDS_MAX: u16 = tidegate_shard::SHARDS_MAX as u16;

/// Bytes of a token. A JWT of ours is below 400; more is refused before anything is decoded.
pub const TOKEN_BYTES_MAX: usize = 4096;

/// Bytes of a token's id: a UUID has 36, other issuers use up to 64.
pub const TOKEN_ID_BYTES_MAX: usize = 128;

/// The shortest configured secret: as many bytes as the output of HMAC-SHA-256 (RFC 7518, section 3.2).
pub const SECRET_BYTES_MIN: usize = 32;

/// The longest secret file; more is surely another file.
pub const SECRET_FILE_BYTES_MAX: u64 = 4096;

/// How often a shard publishes its counters. A scrape is never more than this behind.
pub const PUBLISH_INTERVAL_MS: u64 = 100;

/// How long a start waits for the memory of the gateway that was stopped before it.
pub const RING_MEMORY_WAIT: Duration = Duration::from_secs(3);

/// How long a start waits for the address of a gateway that was killed: its rings hold their listening sockets until the
/// kernel has wound them up, which takes it some hundred milliseconds after the process is gone.
pub const LISTEN_WAIT: Duration = Duration::from_secs(3);

/// How often it looks meanwhile.
pub const RING_MEMORY_RETRY: Duration = Duration::from_millis(50);

/// How often it tries the address meanwhile.
pub const LISTEN_RETRY: Duration = Duration::from_millis(50);

/// Slots of a ring beyond the connections it serves, in parts of these: room for those that are being closed, or are
/// told that there is no place (4029): one in sixteen, and at least [`SPARE_SLOTS_MIN`].
pub const SPARE_SLOTS_SHARE: usize = 16;
/// See above.
pub const SPARE_SLOTS_MIN: usize = 64;

/// How often free space is looked at: a disk of this class takes about a gigabyte in this time, of which shards write only
/// into segments that are there already, and making more asks for itself.
pub const SPACE_INTERVAL: Duration = Duration::from_secs(1);

/// There is room again with one part in so many above the minimum.
pub const SPACE_MARGIN_SHARE: u64 = 8;

/// How often segments are looked at whose messages may have expired: what days decide can wait a minute.
pub const RETENTION_INTERVAL: Duration = Duration::from_secs(60);

/// How often the list of erasures is looked at: a look at one name, and few operators wait for less.
pub const ERASURES_INTERVAL: Duration = Duration::from_secs(2);

/// How long after it was told to end its open segment a shard is told so again: each time costs a segment that is not full
/// and two snapshots, so requests that come meanwhile wait for each other.
pub const CLOSE_INTERVAL: Duration = Duration::from_secs(60);

/// How much longer than its days a message may stay while there is more in its segment: one part in so many, so that a segment
/// is rewritten at most so often for one number of days, however long it took to fill.
pub const GRACE_SHARE: u32 = 30;

/// Days that it may stay longer at least: a segment that took a day to fill is rewritten once or twice for them.
pub const GRACE_DAYS_MIN: u32 = 1;

/// Days that it may stay longer at most, from seven months on: of five years' messages a log rewrites one segment in a week.
pub const GRACE_DAYS_MAX: u32 = 7;

/// Days that records of state stay in the log behind the snapshot that holds them: time to look into what happened.
pub const STATE_KEPT_DAYS: u32 = 7;

/// How long a peer of the admin endpoint may take from answer to answer: longer than from scrape to scrape as a rule, so that
/// their connection is kept.
pub const ADMIN_REQUEST_WAIT: Duration = Duration::from_secs(60);

/// Signals that come within this time are one: a supervisor and a terminal both send theirs.
pub const SIGNALS_ARE_ONE: Duration = Duration::from_millis(100);

/// The stack of a shard's thread: the shard itself and one turn of it.
pub const SHARD_STACK_BYTES: usize = 8 << 20;

/// Completions taken in one turn, so that sockets do not starve the mesh. The rest waits in the ring.
pub const COMPLETIONS_PER_TURN: usize = 512;

/// How often a shard says at most that its reads meet damage: a bad disk must not fill the other one with lines.
pub const DAMAGE_LINE_INTERVAL_NS: u64 = 10_000_000_000;

/// How often a shard tells at most that its snapshot cannot be read: all of it is read for that.
pub const SUSPICION_INTERVAL_NS: u64 = 10_000_000_000;

/// Buffers of reads kept for reuse by a shard: as many reads as are usual at once. Others are freed.
pub const READ_BUFFERS_KEPT: usize = 16;

/// Bytes of segments that one snapshot folds at most, so that sorting them takes few runs. What is left makes the next one.
pub const SNAPSHOT_PASS_BYTES_MAX: u64 = 4 << 30;

/// After a failure, and where nobody tells anything, the snapshot thread looks again after so long.
pub const SNAPSHOT_RETRY: Duration = Duration::from_secs(30);

/// How often a segment is read before a snapshot is made without what is damaged in it.
pub const SNAPSHOT_DAMAGE_READS: u8 = 3;

/// How long the terminal chat tries to connect.
pub const CHAT_CONNECT_WAIT: Duration = Duration::from_secs(10);

/// How long the terminal chat waits for the gateway before it looks at what was typed: not noticed by who types.
pub const CHAT_RECEIVE_WAIT: Duration = Duration::from_millis(50);

/// Messages that the terminal chat begins with: a screen of them.
pub const CHAT_HISTORY: u16 = 20;

/// Lines read ahead of what the outbox takes; a full channel holds the reader back.
pub const CHAT_LINES_AHEAD: usize = 64;

// Between two looks at a segment that is written to, no message can come and become too old: it is kept for a day at least.
const _: () =
    assert!(tidegate_storage_files::limits::LOOK_AGAIN_MS <= GRACE_DAYS_MIN as u64 * 24 * 3_600_000);
const _: () = assert!(GRACE_DAYS_MIN <= GRACE_DAYS_MAX && GRACE_SHARE > 0);
