//! Every limit of this room, each with its reason.

use crate::descriptor::{BATCH_HEADER_BYTES, FOOTER_ENTRY_BYTES, RECORD_HEADER_BYTES};

/// The smallest block: what a device writes atomically (DESIGN 8).
pub const BLOCK_BYTES_MIN: u32 = 512;
/// The largest block. Memory handed to the kernel is aligned to this.
pub const BLOCK_BYTES_MAX: u32 = 4096;

/// A stored record with its header and padding. A message is at most 72 KiB encoded, its stamp less than 1 KiB;
/// the rest is room for records of state, which are split above it.
pub const RECORD_BYTES_MAX: usize = 128 * 1024;
/// A record's body.
pub const BODY_BYTES_MAX: usize = RECORD_BYTES_MAX - RECORD_HEADER_BYTES;

/// The smallest batch limit that still makes progress: a record of a few hundred bytes.
pub const BATCH_BYTES_MIN: u32 = 4096;
/// The largest batch limit: what one write may hold up, and what recovery reads at once.
pub const BATCH_BYTES_MAX: u32 = 8 * 1024 * 1024;
/// The default: 1 MiB costs this disk about a millisecond.
pub const BATCH_BYTES_DEFAULT: u32 = 1024 * 1024;

/// The smallest segment: a header, one small batch, an index, a seal. Small ones are for tests that roll often.
pub const SEGMENT_BYTES_MIN: u32 = 8 * 1024;
/// The largest segment: offsets are `u32`, and a helper thread zeroes a whole one ahead.
pub const SEGMENT_BYTES_MAX: u32 = 1024 * 1024 * 1024;
/// The default (DESIGN 5).
pub const SEGMENT_BYTES_DEFAULT: u32 = 64 * 1024 * 1024;

/// A footer lists at most one stream per so many bytes of segment; a segment with more streams rolls early.
/// 64 MiB / 512 B = 131,072 streams, whose footer is 4 MiB.
pub const SEGMENT_BYTES_PER_STREAM: u32 = 512;
/// The most streams in one segment, whatever its size: bounds the appender's table (10 MiB, and 8 bytes for
/// each record with a sequence) and the footer (4 MiB).
pub const SEGMENT_STREAMS_MAX: u32 = 131_072;

/// Records of a stream whose places the index of a segment tells: more than the latest page of any client has.
pub const INDEX_OFFSETS_MAX: usize = 64;
/// What is read of an index to find a stream: its entry lies no further behind its home than this. With a quarter of the
/// index empty, one entry in ten million of the largest would not find room there, and is left out.
pub const INDEX_WINDOW_BYTES: usize = 16 * 1024;
/// Streams whose records are listed side by side: as many reads of memory at once as a core has going, more or less.
pub(crate) const STREAMS_SIDE_BY_SIDE: usize = 8;
/// What the room for an index grows by, as a part of the segment: so an append seldom computes it.
pub const INDEX_ROOM_PARTS: usize = 1024;

/// Spare segments an appender keeps; the factory makes one or two ahead.
pub const SPARE_SEGMENTS_MAX: usize = 8;

/// Damage is counted without limit but described only so often: a dead disk must not fill memory.
pub const DAMAGE_REPORTS_MAX: usize = 1024;

/// Lost stretches that one recovery tells apart. With more of them a segment counts as lost as a whole, which is said
/// once: there may be one of these for each segment above this.
pub const LOSSES_MAX: usize = 1024;

/// What recovery and scanning read at once.
pub const WINDOW_BYTES: usize = 256 * 1024;
/// How far into a segment without a sound header recovery looks for batches: its first ones are there, if it was used.
pub const HEADERLESS_SCAN_BYTES: u32 = 2 * BATCH_BYTES_DEFAULT;
/// What following a link reads from the record on: one of ordinary size in one read.
pub const LINK_READ_BYTES: usize = 4096;
/// What following a link reads before the record: the one before it in a busy stream is often there.
pub const LINK_READ_BEFORE_BYTES: usize = 4096;

/// Segments looked through for the record before one whose links are lost. Most cost their footer; 16 of 64 MiB read
/// whole would take a reader thread a second.
pub const RESCUE_SEGMENTS_MAX: u32 = 16;
/// Records with lost links that one page or chain looks past; beyond, what no other link reaches counts as damaged.
pub const RESCUES_MAX: u32 = 8;

/// Packed records that a reader keeps of one walk, so that it reads each once: more than any page that is asked for by bytes.
/// What does not fit is read again when it is given out.
pub const KEPT_BYTES_MAX: usize = 1024 * 1024;

/// Blocks of rewritten segments that one reader holds inflated: 4 MiB. A page of 50 records that all lie apart has as many.
pub const INFLATED_BLOCKS_MAX: usize = 64;
/// Tables of rewritten segments that one reader holds: 12 KiB each for 64 MiB, as many as files it keeps open.
pub const TABLES_MAX: usize = 64;

/// How hard blocks are compressed. Nobody waits for it, and inflating costs the same at any level.
pub const COMPRESSION_LEVEL: i32 = 6;

/// Records in one page or chain, whatever is asked for: bounds the walk that one request can cause.
pub const PAGE_RECORDS_MAX: u32 = 4096;
/// Links followed by one request for a command number before it gives up.
pub const NUMBER_STEPS_MAX: u32 = 65_536;

/// Roots in a spine: a stream of 2^53 records has at most 54.
pub const SPINE_ROOTS_MAX: usize = 54;

const _: () = assert!(BLOCK_BYTES_MIN as usize >= BATCH_HEADER_BYTES + RECORD_HEADER_BYTES);
const _: () = assert!(RECORD_BYTES_MAX.is_multiple_of(8));
const _: () = assert!(BATCH_BYTES_MIN.is_multiple_of(BLOCK_BYTES_MAX));
const _: () = assert!(SEGMENT_BYTES_MIN >= 2 * BATCH_BYTES_MIN);
const _: () = assert!(SEGMENT_BYTES_PER_STREAM as usize >= 4 * FOOTER_ENTRY_BYTES);
const _: () = assert!(BATCH_BYTES_DEFAULT as usize > 2 * RECORD_BYTES_MAX);

/// A snapshot's block of entries: what a cold stream costs to read. Four pages, some eighty entries of ordinary size.
pub const SNAPSHOT_BLOCK_BYTES: usize = 16 * 1024;
/// The state of one stream: a user with ten devices of 10,000 ranges each, at 24 bytes, is 3 MB. A larger one ends the
/// snapshot with an error, and the logs are kept; so the fold gives none (decision 0021).
pub const SNAPSHOT_STATE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A block that holds one entry of the largest state.
pub const SNAPSHOT_BLOCK_LENGTH_MAX: u32 = SNAPSHOT_STATE_BYTES_MAX as u32 + 64;
/// Blocks of a snapshot, each 32 bytes of index in memory: 16 million are 256 GiB of states and 512 MiB of index.
pub const SNAPSHOT_BLOCKS_MAX: usize = 16 * 1024 * 1024;
/// Entries in a block of the index: 64 KiB at a time are checked at the opening.
pub const SNAPSHOT_INDEX_BLOCK_ENTRIES: usize = 2048;
/// The list of covered logs with their checkpoints: 1024 logs with 64 KiB each.
pub const SNAPSHOT_COVERED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What the records of a merge may take in memory before they are sorted and written out as a run: two million of them.
pub const MERGE_BYTES_DEFAULT: usize = 128 * 1024 * 1024;
/// The smallest such memory: a few records at a time, for tests.
pub const MERGE_BYTES_MIN: usize = 1024;
/// What folding needs of one record; `Fold::reduce` drops bodies, so no more than a record.
pub const REDUCED_BYTES_MAX: usize = RECORD_BYTES_MAX;
/// Runs merged at a time, and held on one level before they become one of the next: as many buffers of
/// [`RUN_CHUNK_BYTES`], so 4 MiB. Two levels of 32 runs of 128 MiB are 128 GiB of records.
pub const MERGE_RUNS_MAX: usize = 32;
/// What is read and written of a run at once, under one checksum. A chunk is larger only if one record is.
pub const RUN_CHUNK_BYTES: usize = 64 * 1024;

const _: () = assert!(SNAPSHOT_INDEX_BLOCK_ENTRIES <= u16::MAX as usize);
const _: () = assert!(SNAPSHOT_BLOCK_BYTES / 32 <= u16::MAX as usize);
const _: () = assert!(MERGE_RUNS_MAX >= 2 && SNAPSHOT_BLOCKS_MAX <= u32::MAX as usize);
