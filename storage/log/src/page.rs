//! Reading by links: a page of a conversation, a chain of queue records, a command by its number, one record.
//!
//! Every link is verified by (stream, sequence) on arrival, and no walk can turn in a circle: sequences, numbers or
//! locations fall with every step. A record is read once, and packed when it is.

use crate::append::Appender;
use crate::fetch::{Fetch, FetchError, MediumFetch, Remains, StagingFetch};
use crate::index::Lead;
use crate::limits::{KEPT_BYTES_MAX, NUMBER_STEPS_MAX, PAGE_RECORDS_MAX, RESCUES_MAX};
use crate::medium::Medium;
use crate::packed::{pack, packed_len};
use crate::record::RecordView;
use core::fmt;
use tidegate_ids::{CommandNumber, Location, Sequence, StreamId};

pub(crate) mod seek;
pub(crate) mod spread;

use spread::Spread;

/// Which end of the asked range matters when the limit is too small for all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From `from` on.
    Ascending,
    /// Back from `to`.
    Descending,
}

/// What to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadSpec {
    /// Records `from` to `to` of a stream, both included.
    Range {
        /// The stream.
        stream: StreamId,
        /// Its newest record.
        last: Location,
        /// That record's sequence.
        last_sequence: Sequence,
        /// The lowest sequence wanted.
        from: Sequence,
        /// The highest sequence wanted; more than there is is fine.
        to: Sequence,
        /// The most records.
        limit: u32,
        /// The most bytes of packed records; the first record is given in any case.
        bytes_max: usize,
        /// Which end matters.
        direction: Direction,
    },
    /// The stream's records back from `last` by their `prev` links, down to `stop`, which is not given.
    Chain {
        /// The stream.
        stream: StreamId,
        /// Its newest record.
        last: Location,
        /// What was seen already; [`Location::NONE`] for all.
        stop: Location,
        /// The most records; the newest are given.
        limit: u32,
    },
    /// The record of a device's command, by the links between that device's records.
    Number {
        /// The stream.
        stream: StreamId,
        /// The device's newest record in it.
        last: Location,
        /// The command.
        number: CommandNumber,
    },
    /// One record.
    At {
        /// Where.
        location: Location,
    },
}

/// How a read ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageEnd {
    /// Records packed, holes among them: what expired or was erased has a state and no body, and is not damage.
    pub records: u32,
    /// The lowest sequence packed, 0 without any.
    pub first: Sequence,
    /// The highest sequence packed, 0 without any.
    pub last: Sequence,
    /// Whether nothing more of what was asked for is there; false if a limit ended the page.
    pub complete: bool,
    /// If part of the range was dropped by retention: the lowest sequence still there.
    pub first_available: Option<Sequence>,
    /// Records in the range that are damaged, and so were left out.
    pub damaged: u32,
    /// Where a chain goes on: [`Location::NONE`], [`Location::SNAPSHOT`], the asked `stop`, or the first record left out.
    pub next: Location,
    /// Records touched: links followed, and the few that are read again because a page is larger than what is kept.
    pub steps: u32,
    /// Times that a read had to wait for what the one before it had brought. Reads that do not need each other are one
    /// round: the medium is told of them beforehand.
    pub rounds: u32,
}

/// Why nothing could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The record that everything hangs on is damaged. Reported; the answer skips what was asked for.
    Damaged(Location),
    /// Its segment was dropped by retention.
    Dropped(Location),
    /// Staging does not hold it: read the segments.
    Elsewhere(Location),
}

/// Reads pages; keeps its buffers, so that reading does not allocate once they have grown.
#[derive(Debug, Default)]
pub struct PageReader {
    bytes: Vec<u8>,
    index_bytes: Vec<u8>,
    walk: Walk,
}

/// What a walk has found.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// The records, newest first when they are packed.
    found: Vec<Found>,
    /// Packed records, each read once.
    kept: Vec<u8>,
    damaged: u32,
    rescues: u32,
    pub(crate) steps: u32,
    pub(crate) rounds: u32,
    pub(crate) spread: Spread,
}

#[derive(Clone, Copy, Debug)]
struct Found {
    location: Location,
    sequence: Sequence,
    packed: u32,
    /// Where in `kept` it is, if there was room.
    kept_at: Option<u32>,
}

/// Reads what `spec` asks for, oldest first, and appends it to `out` as [`crate::PackedRecords`].
///
/// # Errors
/// See [`ReadError`]; `out` is as it was then.
pub fn read_page<M: Medium>(
    medium: &mut M,
    spec: &ReadSpec,
    out: &mut Vec<u8>,
) -> Result<PageEnd, ReadError> {
    PageReader::default().read(medium, spec, out)
}

impl PageReader {
    /// A reader without buffers yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Like [`read_page`].
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read<M: Medium>(
        &mut self,
        medium: &mut M,
        spec: &ReadSpec,
        out: &mut Vec<u8>,
    ) -> Result<PageEnd, ReadError> {
        self.read_led(medium, spec, None, out)
    }

    /// Like [`read_page`], with what the writer of a segment without an index knows of the stream in it.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read_led<M: Medium>(
        &mut self,
        medium: &mut M,
        spec: &ReadSpec,
        lead: Option<&Lead>,
        out: &mut Vec<u8>,
    ) -> Result<PageEnd, ReadError> {
        let mut fetch = MediumFetch::new(medium, lead, &mut self.bytes, &mut self.index_bytes);
        read(&mut self.walk, &mut fetch, spec, out)
    }

    /// Like [`read_page`] from staging memory alone, durable or not; nothing waits for a device.
    ///
    /// # Errors
    /// [`ReadError::Elsewhere`] if any record on the way is no longer there.
    pub fn read_staging(
        &mut self,
        appender: &Appender,
        spec: &ReadSpec,
        out: &mut Vec<u8>,
    ) -> Result<PageEnd, ReadError> {
        read(&mut self.walk, &mut StagingFetch(appender), spec, out)
    }
}

fn read(
    walk: &mut Walk,
    fetch: &mut impl Fetch,
    spec: &ReadSpec,
    out: &mut Vec<u8>,
) -> Result<PageEnd, ReadError> {
    let before = out.len();
    walk.found.clear();
    walk.kept.clear();
    (walk.damaged, walk.rescues, walk.steps, walk.rounds) = (0, 0, 0, 0);
    let end = match *spec {
        ReadSpec::Range { .. } => seek::range(walk, fetch, spec),
        ReadSpec::Chain { stream, last, stop, limit } => chain(walk, fetch, stream, last, stop, limit),
        ReadSpec::Number { stream, last, number } => by_number(walk, fetch, stream, last, number),
        ReadSpec::At { location } => at(walk, fetch, location),
    };
    let packed = end.and_then(|end| walk.pack(fetch, end, out));
    if packed.is_err() {
        out.truncate(before);
    }
    packed
}

fn chain(
    walk: &mut Walk,
    fetch: &mut impl Fetch,
    stream: StreamId,
    last: Location,
    stop: Location,
    limit: u32,
) -> Result<PageEnd, ReadError> {
    let mut next = last;
    let mut broken = false;
    while is_record(next) && next > stop && (walk.found.len() as u32) < limit.min(PAGE_RECORDS_MAX) {
        walk.step(fetch, next);
        let prev = match fetch.fetch(next) {
            Ok((record, links_sound)) if record.head.stream == stream => {
                walk.collect(&record);
                links_sound.then_some(record.placement.prev)
            }
            // Another stream's record: the link is wrong.
            Ok(_) => {
                walk.damaged += 1;
                Some(next)
            }
            Err(FetchError::Damaged(remains)) => {
                let ours = remains.head.is_none_or(|head| head.stream == stream);
                walk.damaged += 1;
                if ours { remains.placement.map(|placement| placement.prev) } else { Some(next) }
            }
            Err(FetchError::Dropped) => break,
            Err(FetchError::Elsewhere) => return Err(ReadError::Elsewhere(next)),
        };
        // Where nothing is found, the chain is broken.
        let prev = match prev {
            Some(prev) => prev,
            None if walk.may_rescue() => fetch.before(&stream, next).map_or(next, |(before, _)| before),
            None => next,
        };
        if prev >= next && prev != Location::SNAPSHOT {
            broken = true;
            break;
        }
        next = prev;
    }
    let limited = is_record(next) && next > stop && walk.found.len() as u32 >= limit.min(PAGE_RECORDS_MAX);
    Ok(PageEnd { complete: !limited && !broken, next, ..PageEnd::default() })
}

fn by_number(
    walk: &mut Walk,
    fetch: &mut impl Fetch,
    stream: StreamId,
    last: Location,
    number: CommandNumber,
) -> Result<PageEnd, ReadError> {
    let mut next = last;
    while is_record(next) {
        if walk.steps >= NUMBER_STEPS_MAX {
            return Ok(PageEnd { next, ..PageEnd::default() });
        }
        walk.step(fetch, next);
        let head = match fetch.fetch(next) {
            Ok((record, _)) if record.head.stream == stream && record.head.number == number => {
                walk.collect(&record);
                break;
            }
            Ok((record, _)) => record.head,
            // The head leads on past a broken body, unless it is this body that is wanted.
            Err(FetchError::Damaged(Remains { head: Some(head), .. })) if head.number != number => head,
            Err(error) => return Err(error.at(next)),
        };
        if head.stream != stream || head.number < number {
            break;
        }
        if head.device_prev >= next && head.device_prev != Location::SNAPSHOT {
            return Err(ReadError::Damaged(next));
        }
        next = head.device_prev;
    }
    Ok(PageEnd { complete: true, next, ..PageEnd::default() })
}

fn at(walk: &mut Walk, fetch: &mut impl Fetch, location: Location) -> Result<PageEnd, ReadError> {
    if !is_record(location) {
        return Ok(PageEnd { complete: true, next: location, ..PageEnd::default() });
    }
    walk.step(fetch, location);
    let (record, _) = fetch.fetch(location).map_err(|error| error.at(location))?;
    walk.collect(&record);
    Ok(PageEnd { complete: true, next: record.placement.prev, ..PageEnd::default() })
}

fn is_record(location: Location) -> bool {
    !location.is_none() && location != Location::SNAPSHOT
}

impl Walk {
    /// Counts a record that is about to be fetched because the one before it said so.
    pub(crate) fn step(&mut self, fetch: &impl Fetch, at: Location) {
        self.steps += 1;
        self.rounds += u32::from(!fetch.holds(at));
    }

    pub(crate) fn collect(&mut self, record: &RecordView<'_>) {
        let packed = packed_len(record.placement.state, record.stored_len());
        let at = self.kept.len();
        let is_kept = at + packed <= KEPT_BYTES_MAX;
        if is_kept {
            pack(record, &mut self.kept);
        }
        self.found.push(Found {
            location: record.location,
            sequence: record.head.sequence,
            packed: packed as u32,
            kept_at: is_kept.then_some(at as u32),
        });
    }

    pub(crate) const fn note_damaged(&mut self, records: u32) {
        self.damaged += records;
    }

    /// Whether the segments may be looked through once more.
    pub(crate) const fn may_rescue(&mut self) -> bool {
        self.rescues += 1;
        self.rescues <= RESCUES_MAX
    }

    pub(crate) fn newest_first_bytes(&self) -> impl DoubleEndedIterator<Item = usize> + ExactSizeIterator {
        self.found.iter().map(|one| one.packed as usize)
    }

    /// Brings what was found in any order into that of a page, without what is not above `gone`.
    pub(crate) fn sort_newest_first(&mut self, gone: Sequence) {
        self.found.retain(|one| one.sequence > gone);
        self.found.sort_unstable_by_key(|one| core::cmp::Reverse(one.sequence));
    }

    /// Keeps the oldest `count` records.
    pub(crate) fn keep_oldest(&mut self, count: usize) {
        self.found.drain(..self.found.len() - count);
    }

    /// Keeps the newest `count` records.
    pub(crate) fn keep_newest(&mut self, count: usize) {
        self.found.truncate(count);
    }

    /// Gives the records out, oldest first; those that were not kept are read again.
    fn pack(
        &mut self,
        fetch: &mut impl Fetch,
        mut end: PageEnd,
        out: &mut Vec<u8>,
    ) -> Result<PageEnd, ReadError> {
        while let Some(one) = self.found.pop() {
            if let Some(at) = one.kept_at {
                out.extend_from_slice(&self.kept[at as usize..][..one.packed as usize]);
            } else {
                self.step(fetch, one.location);
                match fetch.fetch(one.location) {
                    Ok((record, _)) => pack(&record, out),
                    Err(FetchError::Elsewhere) => return Err(ReadError::Elsewhere(one.location)),
                    // It was there a moment ago: the medium changes under us, as retention may do.
                    Err(_) => {
                        self.damaged += 1;
                        continue;
                    }
                }
            }
            end.records += 1;
            end.first = if end.records == 1 { one.sequence } else { end.first.min(one.sequence) };
            end.last = end.last.max(one.sequence);
        }
        end.damaged += self.damaged;
        (end.steps, end.rounds) = (self.steps, self.rounds);
        Ok(end)
    }
}

impl FetchError {
    pub(crate) const fn at(self, location: Location) -> ReadError {
        match self {
            Self::Dropped => ReadError::Dropped(location),
            Self::Damaged(_) => ReadError::Damaged(location),
            Self::Elsewhere => ReadError::Elsewhere(location),
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(at) => write!(f, "the record at {at} is damaged"),
            Self::Dropped(at) => write!(f, "the segment of {at} was dropped"),
            Self::Elsewhere(at) => write!(f, "the record at {at} is not in memory"),
        }
    }
}

impl core::error::Error for ReadError {}
