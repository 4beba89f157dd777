//! The bounds of this room, each with its reason and with what recovers what it refuses.

use std::time::Duration;

/// Shards of an epoch: never more than virtual shards, or some would own nothing.
pub const SHARDS_MAX: u16 = tidegate_ids::VIRTUAL_SHARDS;

/// Epochs of a directory: one per change of the number of shards. A refusal is recovered by starting with the
/// number of shards that the last epoch has.
pub const EPOCHS_MAX: usize = 4096;

/// Segment numbers end below `u32::MAX`, which `Location::SNAPSHOT` uses: 4 billion segments of 64 MiB are 256 PiB.
pub const SEGMENT_NUMBER_MAX: u32 = u32::MAX - 1;

/// A manifest is read whole; 64 MiB lists more than six million segments (at most 11 bytes each).
pub const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// Stretches of one segment that the manifest remembers as lost; more, and the segment counts as lost as a whole.
pub const LOST_PLACES_PER_SEGMENT_MAX: usize = 1024;

/// Stretches of all segments together: at most 22 bytes each, so 90 KB of a manifest that is written at every new segment.
pub const LOST_PLACES_MAX: usize = 4096;

/// Spares kept per shard: one to roll into while the next is zeroed.
pub const SPARES_DEFAULT: usize = 2;

/// The most spares per shard: each is a zeroed segment that takes its room on the disk.
pub const SPARES_MAX: usize = 64;

/// Notices (no space, failure, passed over) that a shard may leave unread in its channel. A notice that finds no room
/// is offered again at the next attempt.
pub const SPARE_NOTICES: usize = 4;

/// Zeros are written and checked in pieces of 1 MiB, so that a stop waits for one piece only.
pub const ZERO_CHUNK_BYTES: usize = 1 << 20;

/// Room on the disk that zeroing leaves for the manifest, seals and everything else.
pub const RESERVE_BYTES_DEFAULT: u64 = 64 << 20;

/// How long the factory waits after a failure before it tries again, in milliseconds.
pub const RETRY_MS: u64 = 1000;

/// How often the factory says that it still fails, so that who looks at the last lines of a log sees it.
pub const SAY_AGAIN_DEFAULT: Duration = Duration::from_secs(10);

/// Files that one reader keeps open. A process may have 20,000 descriptors (FINDINGS, Traps 1), most of them sockets.
pub const OPEN_FILES_MAX: usize = 64;

/// The most requests a pool may owe answers for. A full pool gives the request back; its caller holds or refuses it.
pub const READS_IN_FLIGHT_MAX: usize = 65_536;

/// Bytes of a token secret: as many as the output of the HMAC-SHA-256 it is for (RFC 7518, section 3.2).
pub const SECRET_BYTES: usize = 32;

/// Bytes that rewriting reads and writes in a second: a tenth of what a plain disk does, so that commits hardly notice.
pub const REWRITE_BYTES_PER_SECOND: u64 = 16 << 20;

/// Of a segment's bytes, how many must have expired before it is rewritten to make room: each byte is written about four
/// times in its life at worst for that. What must be gone goes before, however little it is.
pub const EXPIRED_PERCENT_MIN: u8 = 25;

/// A segment without a record younger than a week is cold: hardly a page is read from it, so it is compressed.
pub const COMPRESS_AFTER_MS: u64 = 7 * 24 * 3_600_000;

/// A segment that was looked at and left is looked at again a day later, or when the next of its records must be gone: what
/// days decide is not needed sooner. For one that is written to this must be less than any record may stay.
pub const LOOK_AGAIN_MS: u64 = 24 * 3_600_000;

/// How often the segment that is written to is read again when a batch in it looks damaged: it does so once.
pub const OPEN_READS_MAX: usize = 3;

/// How often a view reads the manifest again when a running gateway removes spares under it.
pub const VIEW_ATTEMPTS_MAX: usize = 4;

/// How often a backup looks at a directory again that a running gateway changes under it.
pub const BACKUP_ATTEMPTS_MAX: u32 = 8;

/// Bytes copied at a time; as many zeroes in a row are left out as a hole.
pub const TRANSFER_BYTES: usize = 64 << 10;

/// Good snapshots that are kept: the newest, and the one to fall back to if that is damaged.
pub const SNAPSHOTS_KEPT: usize = 2;

/// Damage of a snapshot is counted without limit but described only so often.
pub const SNAPSHOT_PROBLEMS_MAX: usize = 64;

/// Bytes of a snapshot gathered before they are written.
pub const SNAPSHOT_WRITE_BYTES: usize = 1 << 20;

/// A snapshot being written is synced after every so many bytes, so that the disk never owes more than this when a shard
/// syncs a batch beside it.
pub const SNAPSHOT_SYNC_BYTES: u64 = 8 << 20;

/// Ranges that may be pending: what one operator asks for in a day, with some to spare. Requests that touch are one. A
/// refusal is recovered by letting a gateway run, or by wider ranges.
pub const ERASURES_PENDING_MAX: usize = 4096;

/// Ranges that are done and still listed; the oldest are forgotten. Nothing depends on them.
pub const ERASURES_DONE_MAX: usize = 1024;

/// Lines that a list of erasures may have: a copy has both kinds of its original twice at most, all of them pending.
pub const ERASURES_LISTED_MAX: usize = 2 * (ERASURES_PENDING_MAX + ERASURES_DONE_MAX);

/// Bytes of the reason of a request: a sentence, and the number of a case.
pub const ERASURE_REASON_BYTES_MAX: usize = 200;

/// The list is read whole. A line has at most 5 + 33 + 5 x 17 + 1 + 200 + 1 bytes.
pub const ERASURES_BYTES_MAX: u64 = 8 << 20;

/// How long a tool waits for another one, or for the gateway, to let go of the list: each holds it for two syncs.
pub const ERASURES_LOCK_WAIT: Duration = Duration::from_secs(5);

/// How often it tries meanwhile.
pub const ERASURES_LOCK_RETRY: Duration = Duration::from_millis(20);

const _: () = assert!(ERASURES_LISTED_MAX as u64 * 325 + 64 <= ERASURES_BYTES_MAX);
const _: () = assert!(SPARES_DEFAULT >= 1 && SPARES_DEFAULT <= SPARES_MAX);
