//! The start: one pass over all logs finds every stream and every checkpoint; what was not fed is fed again.
//!
//! Recovery folds nothing but locators: every stream begins cold. Then each shard reads the unfed ends of all logs in
//! order, and ships the records of the conversations it owns now by the same code as live. Nobody is connected yet, so
//! being fed again opens ranges. When every shard has said that it is done, what this shard has consumed is the
//! recovered end of every log; that is a checkpoint, and with its commit the shard is ready.

use crate::commit::Waiting;
use crate::counters::Counter;
use crate::cursor::{Ship, Shipper};
use crate::limits::LOAD_BYTES_MAX;
use crate::locators::{Locator, Locators};
use crate::mesh_frame::Outcome;
use crate::output::{Output, ReadRequest};
use crate::port::Lane;
use crate::reads::ReadPurpose;
use crate::records::{RecordKind, Sequenced, read_checkpoint};
use crate::shard::{Shard, Turn};
use crate::snapshot::SnapshotPlanner;
use crate::state::read_part;
use crate::table::IdHash;
use std::collections::{BTreeMap, VecDeque};
use tidegate_domain::Route;
use tidegate_ids::{Location, LogId, Position, Sequence, ShardIndex, StreamId};
use tidegate_storage_log::{Covered, Loss, PackedRecords, PageEnd, RecordView};

/// A log and where it validly ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnd {
    /// Which log.
    pub log: LogId,
    /// Behind its last record.
    pub end: Position,
}

/// Whether a record has no body any more, and said something that is folded. What folds it needs a snapshot that did so
/// before.
#[must_use]
pub fn is_let_go(record: &RecordView<'_>) -> bool {
    let is_state = RecordKind::of(&record.head).is_some_and(|kind| kind != RecordKind::Message);
    is_state && record.is_hole()
}

/// What recovery found for one shard of this start.
#[derive(Debug)]
pub struct ShardSeed {
    epoch: u32,
    locators: Vec<(StreamId, Locator)>,
    feeds: VecDeque<Feed>,
    fed: Vec<(LogId, Position)>,
    /// The last segment whose records of this shard's streams are all in the snapshot, if there is one.
    covered: Option<u32>,
}

/// The unfed end of one log.
#[derive(Clone, Debug)]
struct Feed {
    log: LogId,
    at: Position,
    end: Position,
    /// Per target, how far it was fed.
    fed: Vec<Position>,
}

/// One pass over all logs, in the order of epochs and shards, before the shards exist.
#[derive(Debug)]
pub struct Recovery {
    route: Route,
    locators: Vec<BTreeMap<StreamId, Locator>>,
    checkpoints: BTreeMap<LogId, Vec<(LogId, Position)>>,
    /// What the snapshot holds, if there is one.
    covered: Option<BTreeMap<LogId, u32>>,
    /// The first segment of each log in this pass.
    first: BTreeMap<LogId, u32>,
    broken: bool,
    hollow: bool,
    /// States of several parts that are not whole yet, each with its next part.
    parts: BTreeMap<StreamId, u16>,
}

impl Recovery {
    /// Begins a pass for this start's number of shards over everything behind the snapshot, if there is one.
    #[must_use]
    pub fn new(route: Route, snapshot: Option<&[Covered]>) -> Self {
        let locators = (0..route.shards()).map(|_| BTreeMap::new()).collect();
        let all = snapshot.into_iter().flatten();
        let checkpoints = all.filter_map(|one| Some((one.log, read_checkpoint(&one.checkpoint)?)));
        let covered = snapshot.map(|all| all.iter().map(|one| (one.log, one.previous.end.segment)).collect());
        let checkpoints = checkpoints.filter(|(_, fed)| !fed.is_empty()).collect();
        let (first, parts) = (BTreeMap::new(), BTreeMap::new());
        Self { route, locators, checkpoints, covered, first, broken: false, hollow: false, parts }
    }

    /// Whether a record leads to a newer snapshot than the one that this pass began from: that one is lost, and has to be
    /// made again before anything is served.
    #[must_use]
    pub const fn misses_snapshot(&self) -> bool {
        self.broken
    }

    /// Whether a record has no body any more although no snapshot holds what it said: segments are made smaller only behind
    /// two snapshots, so both are lost, and what they held cannot be made again.
    #[must_use]
    pub const fn misses_bodies(&self) -> bool {
        self.hollow
    }

    /// Notes one record.
    pub fn record(&mut self, log: LogId, record: &RecordView<'_>) {
        self.first.entry(log).or_insert(record.location.segment);
        let Some(kind) = RecordKind::of(&record.head) else { return };
        // A message says nothing that is folded but its place, which its head says.
        self.hollow |= is_let_go(record);
        if kind == RecordKind::Checkpoint {
            if let Some(fed) = read_checkpoint(record.body) {
                self.checkpoints.insert(log, fed);
            }
            return;
        }
        let stream = record.head.stream;
        let Some(owner) = self.route.stream(&stream) else { return };
        let is_whole = kind.is_state() && self.ends_state(stream, record.body);
        let locator = self.locators[usize::from(owner.0)].entry(stream).or_default();
        if kind.is_state() {
            if is_whole {
                locator.state = record.location;
                if kind == RecordKind::UserState {
                    locator.last = Location::NONE;
                }
            }
            return;
        }
        // The locator that this one would have followed was dropped for a snapshot.
        self.broken |= record.placement.prev == Location::SNAPSHOT && !locator.last.is_none();
        locator.last = record.location;
        if kind.is_sequenced() {
            locator.sequence = record.head.sequence;
        }
        locator.has_devices |= kind == RecordKind::DeviceRegistered;
    }

    /// Which of the losses may have taken the newest record of a conversation: its sequence would be given again. Where the
    /// pass has a later one of the same conversation the place is known to be taken.
    pub fn unnoticed<'a>(&'a self, lost: &'a [Loss]) -> impl Iterator<Item = Loss> + 'a {
        let has_later = |stream: &StreamId, sequence: Sequence| {
            let owner = self.route.stream(stream);
            let locators = owner.map(|owner| &self.locators[usize::from(owner.0)]);
            let known = locators.and_then(|locators| locators.get(stream));
            known.is_some_and(|locator| locator.sequence >= sequence)
        };
        let is_unnoticed = move |loss: &&Loss| {
            loss.record.is_none_or(|(stream, sequence)| sequence.0 > 0 && !has_later(&stream, sequence))
        };
        lost.iter().filter(is_unnoticed).copied()
    }

    /// The logs that were consumed further than they go, with how far: what was committed is not there any more. Asked before
    /// [`Recovery::ended`]. Only checkpoints of the newest epoch that has any are believed: each start writes those anew.
    pub fn consumed_beyond<'a>(&'a self, ends: &'a [LogEnd]) -> impl Iterator<Item = LogEnd> + 'a {
        let newest = self.checkpoints.keys().map(|log| log.epoch).max();
        let own = self.checkpoints.iter().filter(move |(log, _)| Some(log.epoch) == newest);
        let end_of = |log: LogId| ends.iter().find(|end| end.log == log).map(|end| end.end);
        own.flat_map(|(_, fed)| fed)
            .filter(move |(log, at)| end_of(*log).is_some_and(|end| *at > end))
            .map(|(log, end)| LogEnd { log: *log, end: *end })
    }

    /// Whether a part is the last one of a state, and all before it were there. Parts without their last one were cut by a
    /// crash, others may have been lost from the disk: then the state before this one, and what follows that, counts.
    fn ends_state(&mut self, stream: StreamId, body: &[u8]) -> bool {
        let Some((index, count, _)) = read_part(body) else { return false };
        let next = self.parts.remove(&stream).unwrap_or(0);
        if index > 0 && index != next {
            return false;
        }
        let after = index.saturating_add(1);
        let is_last = after == count;
        if !is_last {
            self.parts.insert(stream, after);
        }
        is_last
    }

    /// Says where the logs end, behind the last record of the pass. A checkpoint may say that its shard was fed further: a
    /// backup takes one log after another, so the checkpoint's log may be the newer one, and a power cut may take what was
    /// read but never synced. Then it was fed all that there is, and nothing of what is appended from now on.
    pub fn ended(&mut self, logs: &[LogEnd]) {
        let ends: BTreeMap<LogId, Position> = logs.iter().map(|end| (end.log, end.end)).collect();
        for (log, fed) in self.checkpoints.values_mut().flatten() {
            *fed = ends.get(log).map_or(*fed, |end| *end.min(fed));
        }
    }

    /// What the next snapshot may hold, as far as this pass knows; the shell adds the closed segments. `held` is what the
    /// snapshot at hand holds.
    #[must_use]
    pub fn planner(&self, epochs: &[(u32, u16)], held: &[Covered]) -> SnapshotPlanner {
        let Some((epoch, shards)) = epochs.last().copied() else { unreachable!("a start has an epoch") };
        let fed = (0..shards).map(|target| fed_vector(&self.checkpoints, epochs, target)).collect();
        SnapshotPlanner::new(epoch, held, &self.checkpoints, fed)
    }

    /// Ends the pass: one seed per shard of now. `logs` are all logs with their ends, `epochs` all epochs with their
    /// numbers of shards, both rising; the last epoch is this start's.
    #[must_use]
    pub fn finish(mut self, logs: &[LogEnd], epochs: &[(u32, u16)]) -> Vec<ShardSeed> {
        self.ended(logs);
        let Some((epoch, shards)) = epochs.last().copied() else { unreachable!("a start has an epoch") };
        assert_eq!(shards, self.route.shards(), "the last epoch is this start's");
        let fed_of: Vec<BTreeMap<LogId, Position>> =
            (0..shards).map(|target| fed_vector(&self.checkpoints, epochs, target)).collect();
        let fed =
            |target: u16, log: LogId| fed_of[usize::from(target)].get(&log).copied().unwrap_or_default();
        let feed = |end: &LogEnd| {
            let fed: Vec<Position> = (0..shards).map(|target| fed(target, end.log)).collect();
            let at = fed.iter().copied().min().unwrap_or_default();
            Feed { log: end.log, at, end: end.end, fed }
        };
        let feeds: VecDeque<Feed> = logs.iter().map(feed).filter(|feed| feed.at < feed.end).collect();
        let ends: Vec<(LogId, Position)> = logs.iter().map(|end| (end.log, end.end)).collect();
        let covered: Vec<Option<u32>> = (0..shards).map(|shard| self.covered_of(epoch, shard)).collect();
        let seed = |(locators, covered): (BTreeMap<StreamId, Locator>, Option<u32>)| ShardSeed {
            epoch,
            locators: locators.into_iter().collect(),
            feeds: feeds.clone(),
            fed: ends.clone(),
            covered,
        };
        self.locators.into_iter().zip(covered).map(seed).collect()
    }

    /// Up to which segment the snapshot holds every record that may be of a shard's streams: those of its own log, and of
    /// all logs of older epochs.
    fn covered_of(&self, epoch: u32, shard: u16) -> Option<u32> {
        let held = self.covered.as_ref()?;
        let concerns = |log: &LogId| log.epoch < epoch || log.shard.0 == shard;
        let last = held.iter().filter(|(log, _)| concerns(log)).map(|(_, segment)| *segment).max();
        let first = self.first.iter().filter(|(log, _)| concerns(log)).map(|(_, segment)| segment - 1).min();
        Some(first.unwrap_or(u32::MAX).min(last.unwrap_or(0)))
    }
}

/// How far a shard of the newest epoch was fed. With another number of shards a target begins at the first record that
/// any user now on it was not fed; users are spread by hash over all old targets, so that is the minimum over these.
fn fed_vector(
    checkpoints: &BTreeMap<LogId, Vec<(LogId, Position)>>,
    epochs: &[(u32, u16)],
    target: u16,
) -> BTreeMap<LogId, Position> {
    let Some(((epoch, _), older)) = epochs.split_last() else { return BTreeMap::new() };
    let own = checkpoints.get(&LogId { epoch: *epoch, shard: ShardIndex(target) });
    if let Some(own) = own {
        return own.iter().copied().collect();
    }
    let Some((_, shards)) = older.last() else { return BTreeMap::new() };
    let vectors: Vec<BTreeMap<LogId, Position>> =
        (0..*shards).map(|target| fed_vector(checkpoints, older, target)).collect();
    let mut least = vectors.first().cloned().unwrap_or_default();
    for (log, position) in &mut least {
        let others = vectors.iter().map(|vector| vector.get(log).copied().unwrap_or_default());
        *position = others.min().unwrap_or_default();
    }
    least
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Feeding,
    /// The own part is done; others are not.
    Waiting,
    /// The checkpoint is being committed.
    Committing,
    Ready,
}

/// The start of one shard.
#[derive(Debug)]
pub(crate) struct Boot {
    epoch: u32,
    stage: Stage,
    feeds: VecDeque<Feed>,
    chunk: Option<Chunk>,
    reading: bool,
    /// Targets told that this shard is done, and sources that said so.
    told: u16,
    done: u16,
    ends: Vec<(LogId, Position)>,
    /// Streams that could not be loaded: their records are not fed, which is counted.
    unreadable: Vec<StreamId>,
    /// The first segment that this start writes: everything before it belongs to feeds, not to cursors.
    first_segment: Option<u32>,
}

#[derive(Debug)]
struct Chunk {
    records: Vec<u8>,
    /// Bytes of records done, and the next target of the one after them.
    done: usize,
    target: u16,
    next: Position,
}

impl ShardSeed {
    /// Splits into the table of streams and the rest.
    pub(crate) fn open(self, hash: IdHash, locators_max: usize) -> (Locators, Boot) {
        let mut locators = Locators::new(hash, self.covered, locators_max);
        for (stream, locator) in self.locators {
            locators.put(&stream, locator);
        }
        let boot = Boot {
            epoch: self.epoch,
            stage: Stage::Feeding,
            feeds: self.feeds,
            chunk: None,
            reading: false,
            told: 0,
            done: 0,
            ends: self.fed,
            unreadable: Vec::new(),
            first_segment: None,
        };
        (locators, boot)
    }
}

impl Boot {
    pub(crate) const fn epoch(&self) -> u32 {
        self.epoch
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    /// Where every log ended when this start began.
    pub(crate) fn ends(&self) -> &[(LogId, Position)] {
        &self.ends
    }

    pub(crate) fn refeed_done(&mut self) {
        self.done += 1;
    }

    /// A segment was given: the first one parts feeds from cursors.
    pub(crate) fn segment(&mut self, number: u32) {
        self.first_segment.get_or_insert(number);
    }

    /// Whether a record was written before this start.
    pub(crate) fn is_before(&self, location: Location) -> bool {
        self.first_segment.is_none_or(|first| location.segment < first)
    }

    pub(crate) fn unreadable(&mut self, stream: StreamId) {
        if self.stage == Stage::Feeding {
            self.unreadable.push(stream);
        }
    }
}

impl Shard {
    /// Goes on with the start.
    pub(crate) fn run_boot(&mut self, turn: &mut Turn<'_>) {
        match self.boot.stage {
            Stage::Ready | Stage::Committing => {}
            Stage::Feeding => self.feed(turn),
            Stage::Waiting => self.tell_and_wait(turn),
        }
    }

    fn feed(&mut self, turn: &mut Turn<'_>) {
        loop {
            if self.boot.chunk.is_some() {
                if !self.feed_chunk(turn) {
                    return;
                }
                continue;
            }
            let Some(feed) = self.boot.feeds.front() else {
                self.boot.stage = Stage::Waiting;
                return self.tell_and_wait(turn);
            };
            if feed.at >= feed.end {
                self.boot.feeds.pop_front();
                continue;
            }
            if !self.boot.reading {
                self.boot.reading = true;
                let (log, from, to) = (feed.log, feed.at, feed.end);
                let request = ReadRequest::Scan { log, from, to, bytes_max: LOAD_BYTES_MAX };
                self.read_elsewhere(ReadPurpose::Refeed, request);
            }
            return;
        }
    }

    pub(crate) fn on_refeed_chunk(&mut self, records: &[u8], end: &PageEnd) {
        self.boot.reading = false;
        self.boot.chunk = Some(Chunk { records: records.to_vec(), done: 0, target: 0, next: end.next });
    }

    /// Ships a chunk's records; false if it must wait for room or for a cold conversation.
    fn feed_chunk(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(mut chunk) = self.boot.chunk.take() else { return true };
        let records = std::mem::take(&mut chunk.records);
        let mut rest = PackedRecords(&records[chunk.done..]).iter();
        while let Some(record) = rest.next() {
            let fed = self.feed_record(&record, &mut chunk.target, turn);
            if !fed {
                chunk.records = records;
                self.boot.chunk = Some(chunk);
                return false;
            }
            chunk.done = records.len() - rest.rest_bytes();
            chunk.target = 0;
        }
        if let Some(feed) = self.boot.feeds.front_mut() {
            // A scan that gives nothing more has reached the end.
            feed.at = if chunk.next > feed.at { chunk.next } else { feed.end };
        }
        true
    }

    fn feed_record(&mut self, record: &RecordView<'_>, target: &mut u16, turn: &mut Turn<'_>) -> bool {
        let Some(sequenced) = Sequenced::read(record) else { return true };
        let conversation = sequenced.stamp.conversation;
        if self.route.conversation(&conversation) != self.index {
            return true;
        }
        let stream = StreamId::conversation(conversation);
        if self.boot.unreadable.contains(&stream) {
            self.stats.count(Counter::Unfed);
            return true;
        }
        if !self.streams.conversations.contains(&conversation) {
            self.begin_load(stream, turn);
            if !self.streams.conversations.contains(&conversation) {
                return false;
            }
        }
        let Some(feed) = self.boot.feeds.front() else { return true };
        while *target < self.route.shards() {
            if record.location >= feed.fed[usize::from(*target)] {
                let Self { streams, route, limits, cursors, stats, .. } = self;
                let shipping = &mut cursors.shipping;
                let mut shipper =
                    Shipper { streams, route: *route, limits, shipping, stats, mesh: turn.mesh };
                match shipper.ship(record, Position::default(), ShardIndex(*target)) {
                    Ship::NoRoom | Ship::Cold => return false,
                    Ship::Sent => self.stats.count(Counter::Refed),
                    Ship::Nobody => {}
                }
            }
            *target += 1;
        }
        true
    }

    /// Tells every target that all was fed, and waits for all sources to say the same.
    fn tell_and_wait(&mut self, turn: &mut Turn<'_>) {
        while self.boot.told < self.route.shards() {
            Outcome::RefeedDone.encode(&mut self.scratch);
            if !turn.mesh.push(ShardIndex(self.boot.told), Lane::Results, &[&self.scratch]) {
                return;
            }
            self.boot.told += 1;
        }
        let all_done = self.boot.done == self.route.shards() && !self.walks.are_under_way();
        // A log that failed takes no checkpoint: the shard serves what there is, and the next start feeds it all again.
        let settled = all_done && self.owed.is_empty();
        if settled && (self.latched || self.write_boot_checkpoint()) {
            self.boot.stage = Stage::Committing;
            self.after_commit(Waiting::Ready);
        }
    }

    fn write_boot_checkpoint(&mut self) -> bool {
        let ends = std::mem::take(&mut self.boot.ends);
        let written = self.write_checkpoint(&ends);
        self.boot.ends = ends;
        written
    }

    /// The start's checkpoint is committed.
    pub(crate) fn on_boot_checkpoint(&mut self) {
        self.boot.stage = Stage::Ready;
        self.outputs.push_back(Output::Ready);
    }
}

#[cfg(test)]
mod tests;
