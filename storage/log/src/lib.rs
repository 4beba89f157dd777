//! The append-only log: batches, records, segments, links, recovery (DESIGN 5, `docs/formats/log.md`).
//!
//! This room knows bytes and positions, never a file: an [`Appender`] fills memory that somebody else writes, and
//! recovery and reading see segments through a [`Medium`]. A record's body is opaque here.
//!
//! Invariants:
//! - Batches start on block boundaries and are zero-padded under their checksum; no synced block is written again.
//! - A location never moves, and within one log locations rise in the order of the appends.
//! - An append reads nothing: its links come from the stream's [`Spine`], which lives in the stream's fold.
//! - A rewritten segment is read as the uncompressed one through [`Inflated`]; under every offset lies the same record, or
//!   its head and no body.
//! - What is damaged is reported and never given out; what was never acknowledged is cut and never comes back.
#![forbid(unsafe_code)]

pub mod descriptor;
pub mod limits;

mod append;
mod batch;
mod block_table;
mod buffer;
mod check;
mod checksum;
mod config;
mod erased;
mod fetch;
mod footer;
mod index;
mod inflate;
mod judge;
mod medium;
mod packed;
mod page;
mod record;
mod recover;
mod repair;
mod replay;
mod rescue;
mod rewrite;
mod roll;
mod room;
mod salvage;
mod scan;
mod segment;
mod snapshot;
mod spine;
mod staging;
mod stream_index;
mod survey;
mod window;
mod witness;

pub use append::{AppendError, Appender, NewRecord, StagedBatch};
pub use batch::{BatchHeader, BatchKind, Guard};
pub use buffer::BatchBytes;
pub use check::check_rewritten;
pub use checksum::crc32c;
pub use config::{AppenderConfig, AppenderStart, ConfigError};
pub use erased::{ErasedRanges, SequenceRange};
pub use footer::{FooterEntry, index_of, read_footer};
pub use index::{IndexEntry, IndexPlace, Lead};
pub use inflate::Inflated;
pub use judge::{JudgeError, JudgedLog, JudgedSegment, LogFacts, SegmentState, judge};
pub use medium::{Medium, MediumError, MemoryMedium};
pub use packed::{PackedIter, PackedRecords};
pub use page::{Direction, PageEnd, PageReader, ReadError, ReadSpec, read_page};
pub use record::{Links, Placement, RecordHead, RecordState, RecordView, stored_len};
pub use recover::{
    Cut, Damage, DamageKind, Loss, RecoverError, Recovered, SegmentExtent, recover, recover_after,
    recover_telling,
};
pub use repair::{RepairError, Repaired, repair};
pub use rewrite::{
    ClosedSegment, Keep, RewriteError, RewriteSink, Rewrote, Tally, closed_segment, rewrite, segment_header,
    tally,
};
pub use scan::{Scanned, scan_chunk};
pub use segment::{ENCODING_PLAIN, ENCODING_REWRITTEN, LogIdentity, PreviousEnd, Rewritten, SegmentHeader};
pub use snapshot::{
    Covered, Fold, MemoryRuns, MergeError, MergeSummary, Merger, OsError, RunStore, SNAPSHOT_FORMAT_VERSION,
    SegmentFed, Snapshot, SnapshotEntries, SnapshotEntry, SnapshotError, SnapshotHeader, SnapshotPart,
    SnapshotSink, SnapshotSource, SnapshotSummary, SnapshotWriter, WriteError,
};
pub use spine::{Spine, jump_sequence};
pub use staging::Committed;
pub use witness::{Lost, LostWhat, Remnant, Witness};
