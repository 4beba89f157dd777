//! Snapshots: the folded state of every stream up to a position of every log, in one file (DESIGN 5,
//! `docs/formats/snapshot.md`).
//!
//! A [`Merger`] takes the records of newly covered segments in any order, sorts them outside of memory, and merges them
//! with the previous snapshot, stream by stream, through a [`Fold`]; a [`SnapshotWriter`] writes what comes out in one
//! pass; a [`Snapshot`] finds one stream with one read. What a state means is the caller's.
//!
//! Invariants:
//! - Entries rise by (virtual shard, stream); a stream has at most one.
//! - Memory is bounded whatever the number of streams, but for the index: 32 bytes per block of 16 KiB.
//! - Every byte of the file is under one checksum; what does not hold is never given out.
//! - A merge that meets a bad byte anywhere ends with an error: a snapshot is whole or it is not there.

mod block;
mod entries;
mod fold;
mod format;
mod index;
mod merge;
mod run;
mod sorter;
mod source;
mod writer;

pub use entries::SnapshotEntries;
pub use fold::Fold;
pub use format::{Covered, SNAPSHOT_FORMAT_VERSION, SnapshotHeader};
pub use index::{Snapshot, SnapshotEntry, SnapshotError, SnapshotPart};
pub use merge::{MergeError, MergeSummary, Merger, SegmentFed};
pub use run::{MemoryRuns, RunStore};
pub use source::{OsError, SnapshotSink, SnapshotSource};
pub use writer::{SnapshotSummary, SnapshotWriter, WriteError};
