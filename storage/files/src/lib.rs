//! The data directory: what of the log is files (DESIGN 5, DECISIONS "Log").
//!
//! - [`DataDir`] owns a directory: its `LOCK`, its `MANIFEST` (docs/formats/manifest.md) and the list of segments.
//! - [`SegmentFactory`] keeps zeroed segments ready, on a thread of its own; a shard takes them from [`Spares`].
//! - [`SegmentReader`] reads segments by `pread` (docs/decisions/0004-sealed-segments-by-pread.md), [`ReadPool`]
//!   does so on a thread, and [`recover_all`] walks every log at a start.
//! - [`Snapshots`] are the folded states of all streams, built on a helper thread; [`SnapshotFile`] reads one.
//! - [`Retention`] rewrites segments so that old records go, and removes those in which nothing lives.
//! - [`Erasures`] is what operators asked to erase (docs/formats/erasures.md); [`change_erasures`] replaces the list.
//! - [`DirView`] looks at a directory without owning it, for tools; [`backup`] copies one.
//! - [`RepairSource`] looks at one that may be damaged in any way, [`write_copy`] writes a sound copy of it.
//! - [`secret`] is the file that tokens are signed with, where none is configured; [`find_secret`] only reads it.
//!
//! Invariants. One process owns a directory. A segment's number is never given twice for two segments that were
//! written. The manifest names a segment before a byte is appended to it, and no longer names it before it is
//! removed: so a segment that is named and not there is a loss, and start refuses. Live appends do not pass through
//! this crate: the reactor writes to [`SegmentFile::raw_fd`]. There is no map here, and the one
//! `unsafe` call is in `heap`.
#![deny(unsafe_code)]

mod backup;
mod catalog;
mod directory;
mod erasure_file;
mod erasure_keeper;
mod erasures;
mod error;
mod factory;
mod heap;
mod holdings;
mod indexes;
mod layout;
pub mod limits;
mod lock;
mod lost;
mod manifest;
mod pool;
mod prepare;
mod read_at;
mod reader;
mod recovery;
mod refold;
mod repair;
mod repair_source;
mod replace;
mod retention;
mod run_files;
mod secret;
mod segment;
mod snapshot_build;
mod snapshot_file;
mod snapshots;
mod space;
mod survey;
mod tails;
mod text;
mod transfer;
mod view;

pub use backup::{BackedUp, BackupError, BackupStep, backup};
pub use directory::{DataDir, OpenOptions, Opened, mark_restored};
pub use erasure_file::{
    ErasureAsked, ErasureError, ErasureScope, ErasuresWatch, ask_erasure, change_erasures, load_erasures,
};
pub use erasure_keeper::{ErasureKeeper, ErasuresSettled};
pub use erasures::{ERASURES_VERSION, Erasure, ErasureRefused, ErasureState, Erasures, ErasuresFormatError};
pub use error::{FileError, OpenError};
pub use factory::{FactoryOptions, SegmentFactory, SpareEvent, Spares, Wake};
pub use heap::return_free_memory;
pub use indexes::SealedIndexes;
pub use manifest::{Epoch, FORMAT_VERSION, HASH_VERSION, ManifestError};
pub use pool::{ReadPool, ReadReply, ReadRequest, ReadWhat};
pub use prepare::PrepareError;
pub use reader::SegmentReader;
pub use recovery::{Progress, RecoverError, RecoveredLog, recover_after, recover_all, recover_log};
pub use refold::{RefoldError, Refolded};
pub use repair::{Copied, CopyError, CopyPlan, CopyStep, withdraw_copy, write_copy};
pub use repair_source::{RepairSnapshots, RepairSource, SourceError};
pub use retention::{
    CoveredSegments, LeftToGo, Retention, RetentionCounters, RetentionError, RetentionFigures,
    RetentionOptions, RetentionPolicy, RetentionStep, WhyLeft,
};
pub use secret::{Secret, SecretError, find_secret, secret};
pub use segment::{SegmentFile, WriteMode};
pub use snapshot_build::{BuildError, SnapshotBuilt, SnapshotPlan};
pub use snapshot_file::{SnapshotFile, SnapshotReadError, SnapshotVerified};
pub use snapshots::{BadSnapshot, SnapshotFlaw, Snapshots, SnapshotsError};
pub use space::free_bytes;
pub use tails::SegmentTails;
pub use transfer::Transferred;
pub use view::{DirView, LogSegments, Problem, SegmentProblem, ViewedSnapshots};
