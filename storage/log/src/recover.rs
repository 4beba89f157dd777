//! Recovery: what a log holds after whatever happened to it (DESIGN 5, "Batch").
//!
//! A bad byte at or below any later `synced_through`, or before the end that the next segment's header records, or in a
//! segment with a seal, is *damage*: reported, never given out, costing only its records. Otherwise everything from the
//! first bad batch on is an unacknowledged tail and is *cut*; the next segment's header records the end, so that the tail
//! never comes back.
//!
//! What is found valid was perhaps never synced: the caller syncs the segments before it serves or acknowledges anything.

use crate::batch::Guard;
use crate::limits::{DAMAGE_REPORTS_MAX, LOSSES_MAX, SEGMENT_BYTES_MAX};
use crate::medium::Medium;
use crate::record::RecordView;
use crate::replay::Replay;
use crate::segment::{LogIdentity, PreviousEnd};
use crate::survey::{Surveyed, Usage, survey};
use crate::window::Window;
use crate::witness::{Observe, Telling, Witness};
use core::fmt;
use tidegate_ids::{BatchNumber, Position, Sequence, StreamId};

/// What recovery found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Whose log, from the newest sound header; `None` if no segment was used.
    pub identity: Option<LogIdentity>,
    /// Where the log validly ends and its last batch: what [`crate::AppenderStart`] wants.
    pub previous: PreviousEnd,
    /// The unacknowledged tail, if there was one.
    pub cut: Option<Cut>,
    /// What is damaged, at most [`DAMAGE_REPORTS_MAX`] of it.
    pub damage: Vec<Damage>,
    /// How many times damage was found.
    pub damage_count: u64,
    /// Where records are lost that may have been acknowledged: damage, and never a tail that was cut. At most [`LOSSES_MAX`];
    /// where there are more, segments are lost as a whole.
    pub lost: Vec<Loss>,
    /// Whether the log did not end with a seal.
    pub unclean: bool,
    /// Records given out.
    pub records: u64,
    /// The used segments, oldest first, with their ends: what scanning needs.
    pub extents: Vec<SegmentExtent>,
    /// The end of each of these segments, with its last batch: what a snapshot that folds it says it covers.
    pub ends: Vec<PreviousEnd>,
}

impl Recovered {
    /// Where the log validly ends.
    #[must_use]
    pub const fn end(&self) -> Position {
        self.previous.end
    }

    /// The number of the next batch.
    #[must_use]
    pub const fn next_batch(&self) -> BatchNumber {
        self.previous.batch.next()
    }

    /// The last valid batch.
    #[must_use]
    pub const fn last_synced(&self) -> BatchNumber {
        self.previous.batch
    }

    pub(crate) fn note(&mut self, damage: Damage) {
        self.damage_count += 1;
        if self.damage.len() < DAMAGE_REPORTS_MAX {
            self.damage.push(damage);
        }
    }

    pub(crate) fn lose(&mut self, loss: Loss) {
        if self.lost.len() < LOSSES_MAX {
            return self.lost.push(loss);
        }
        let whole = Loss::whole(loss.segment);
        if self.lost.last() != Some(&whole) {
            self.lost.retain(|one| one.segment != loss.segment);
            self.lost.push(whole);
        }
    }
}

/// A stretch of a segment in which records are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The segment.
    pub segment: u32,
    /// The first byte concerned.
    pub from: u32,
    /// Behind the last byte concerned.
    pub to: u32,
    /// If it is one record whose head is sound: its stream and sequence, 0 without one. Of anything else nobody knows what it
    /// held.
    pub record: Option<(StreamId, Sequence)>,
}

impl Loss {
    /// All of a segment.
    #[must_use]
    pub const fn whole(segment: u32) -> Self {
        Self { segment, from: 0, to: u32::MAX, record: None }
    }
}

/// A used segment and where it validly ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentExtent {
    /// The segment.
    pub segment: u32,
    /// The end of its last valid batch.
    pub end: u32,
    /// Its block size.
    pub block_bytes: u32,
    /// Where its footer starts, if it is sealed.
    pub footer_offset: Option<u32>,
    /// What its batch headers are mixed with.
    pub guard: Guard,
}

/// An unacknowledged tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment.
    pub segment: u32,
    /// Where the first bad batch starts.
    pub from: u32,
    /// Behind the last byte that is not zero, up to the block.
    pub to: u32,
    /// The number that the first bad batch would have.
    pub first_batch: BatchNumber,
}

/// Bytes that were durable once and are not what they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What it hit.
    pub kind: DamageKind,
    /// The segment.
    pub segment: u32,
    /// The first byte concerned.
    pub from: u32,
    /// Behind the last byte concerned.
    pub to: u32,
    /// If it is one record whose head is sound, lost or not: its stream and sequence, 0 without one.
    pub record: Option<(StreamId, Sequence)>,
}

impl Damage {
    /// Of what is no record, or nobody knows which.
    #[must_use]
    pub const fn new(kind: DamageKind, segment: u32, from: u32, to: u32) -> Self {
        Self { kind, segment, from, to, record: None }
    }

    /// What a sentence calls the record that was hit: `a record of conversation 3:1003 (sequence 5)`, as far as it is known.
    #[must_use]
    pub fn record_name(&self) -> impl fmt::Display + use<> {
        let record = self.record;
        fmt::from_fn(move |f| match record {
            Some((stream, Sequence(0))) => write!(f, "a record of {stream}"),
            Some((stream, sequence)) => write!(f, "a record of {stream} (sequence {sequence})"),
            None => f.write_str("a record"),
        })
    }
}

/// What damage hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// A segment's header; its batches are still read.
    SegmentHeader,
    /// A batch whose checksum fails; its sound records were given out, each lost one is a `Record`.
    Batch,
    /// A record, lost.
    Record,
    /// A record's links; the record itself was given out, without any.
    Links,
    /// Bytes that belong to batches of which neither header nor trailer is left; all their records are lost.
    Batches {
        /// The first batch lost.
        first: BatchNumber,
        /// The last batch lost.
        last: BatchNumber,
    },
    /// An index, a footer or a seal; no record is lost.
    Footer,
    /// Sectors that the device refuses to read, or a block of a rewritten segment that fails its checksum.
    Unreadable,
    /// A whole segment is gone.
    Segment,
    /// The header or the table of blocks of a rewritten segment, one of two copies: nothing is lost. The bytes are those of
    /// the file. See [`crate::check_rewritten`].
    Copy,
}

/// Why a log cannot be recovered at all. The operator's to mend; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoverError {
    /// The list of segments does not rise at this one.
    Order(u32),
    /// A segment is written by another version of the format.
    Version {
        /// The segment.
        segment: u32,
        /// Its version.
        version: u16,
    },
    /// A segment is rewritten in a way that this version cannot read.
    Encoding {
        /// The segment.
        segment: u32,
        /// Its encoding.
        encoding: u16,
    },
    /// A segment is of another log.
    MixedLogs(u32),
    /// The log did not go on from where a snapshot says it was folded to: the snapshot is of another history. Recovered by
    /// another snapshot, or by none.
    Covered {
        /// The segment that says otherwise.
        segment: u32,
        /// What it says came before.
        found: PreviousEnd,
    },
}

/// Reads the log whose segments are listed, oldest first, and gives every record of it to `on_record`, in order.
/// `directory` is the id of the data directory, if it is known from elsewhere: then damaged headers do no harm.
///
/// # Errors
/// What no amount of skipping could make sense of; damage is not an error.
pub fn recover<M: Medium>(
    medium: &mut M,
    segments: &[u32],
    directory: Option<[u8; 16]>,
    on_record: impl FnMut(RecordView<'_>),
) -> Result<Recovered, RecoverError> {
    recover_after(medium, segments, directory, PreviousEnd::default(), on_record)
}

/// Like [`recover`], but everything before `covered` is known from a snapshot: only segments behind it are read, and only
/// they are among the extents. `covered` is the end of a sealed segment, or the default for nothing.
///
/// # Errors
/// Those of [`recover`], and [`RecoverError::Covered`] if the log says that it went on from elsewhere.
pub fn recover_after<M: Medium>(
    medium: &mut M,
    segments: &[u32],
    directory: Option<[u8; 16]>,
    covered: PreviousEnd,
    on_record: impl FnMut(RecordView<'_>),
) -> Result<Recovered, RecoverError> {
    observe(medium, segments, directory, covered, on_record)
}

/// Like [`recover`], and tells `witness` of what is lost, too.
///
/// # Errors
/// Those of [`recover`].
pub fn recover_telling<M: Medium, W: Witness>(
    medium: &mut M,
    segments: &[u32],
    directory: Option<[u8; 16]>,
    witness: &mut W,
) -> Result<Recovered, RecoverError> {
    observe(medium, segments, directory, PreviousEnd::default(), Telling(witness))
}

fn observe<M: Medium>(
    medium: &mut M,
    segments: &[u32],
    directory: Option<[u8; 16]>,
    covered: PreviousEnd,
    observer: impl Observe,
) -> Result<Recovered, RecoverError> {
    let behind = segments.iter().copied().filter(|segment| *segment > covered.end.segment);
    let lengths = lengths_of(medium, behind);
    let guard = Guard::new(&directory.unwrap_or_default());
    let mut window = Window::new(medium, guard);
    let all = survey(&mut window, &lengths, directory)?;
    let identity = all.iter().rev().find_map(|one| one.header).map(|header| header.identity);
    check_covered(&all, covered)?;
    let out = Recovered { identity, previous: covered, ..Recovered::default() };
    let mut replay = Replay::new(window, observer, out);
    let mut last_used = covered.end.segment;
    for one in all.iter().filter(|one| one.usage == Usage::Used) {
        replay.segment(one);
        last_used = one.segment;
    }
    for one in &all {
        match one.usage {
            Usage::Torn if one.segment > last_used => replay.cut_whole(one),
            Usage::Spare if one.is_refused && one.segment > last_used => replay.note_refused(one),
            Usage::Missing => replay.note_missing(one.segment),
            _ => {}
        }
    }
    Ok(replay.finish())
}

/// Each segment with its bytes; `None` if it is not there.
pub(crate) fn lengths_of<M: Medium>(
    medium: &M,
    segments: impl Iterator<Item = u32>,
) -> Vec<(u32, Option<u32>)> {
    let len = |segment: u32| {
        let len = medium.segment_len(segment).ok();
        (segment, len.map(|len| len.min(u64::from(SEGMENT_BYTES_MAX)) as u32))
    };
    segments.map(len).collect()
}

/// Holds a snapshot's word against that of the first segment behind it.
fn check_covered(all: &[Surveyed], covered: PreviousEnd) -> Result<(), RecoverError> {
    if covered == PreviousEnd::default() {
        return Ok(());
    }
    let first = all.iter().filter(|one| one.usage == Usage::Used).find_map(|one| one.header);
    match first {
        // A segment in between is missing or has lost its header; recovery says so.
        Some(header) if header.previous.end.segment > covered.end.segment => Ok(()),
        Some(header) if header.previous != covered => {
            Err(RecoverError::Covered { segment: header.segment, found: header.previous })
        }
        _ => Ok(()),
    }
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Order(segment) => write!(f, "segment {segment} is listed out of order"),
            Self::Version { segment, version } => {
                write!(f, "segment {segment} has format version {version}, which this program does not know")
            }
            Self::Encoding { segment, encoding } => {
                write!(f, "segment {segment} has encoding {encoding}, which this program does not know")
            }
            Self::MixedLogs(segment) => write!(f, "segment {segment} belongs to another log"),
            Self::Covered { segment, found } => write!(
                f,
                "segment {segment} went on from {} after batch {}, which is not where the snapshot ends",
                found.end, found.batch
            ),
        }
    }
}

impl core::error::Error for RecoverError {}
