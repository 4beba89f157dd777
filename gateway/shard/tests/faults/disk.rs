//! The disk of a node in memory: what reads see, what the shards were told is synced, and what fails.

use crate::node::SHARDS;
use std::collections::{BTreeMap, BTreeSet};
use tidegate_ids::{ConversationId, Location, LogId, Sequence, ShardIndex, StreamId};
use tidegate_shard::ReadRequest;
use tidegate_storage_log::{
    IndexPlace, Medium, MediumError, MemoryMedium, RecordView, Snapshot, StagedBatch, recover,
};

pub const DIRECTORY: [u8; 16] = *b"a disk in memory";
pub const SEGMENT_BYTES: u32 = 128 * 1024;

/// What a write that is reported as failed did to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// Nothing arrived.
    Nothing,
    /// A short write: the first half.
    Half,
    /// All of it, but the sync failed.
    Unsynced,
}

/// What becomes of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadHarm {
    /// The device refuses: EIO.
    Refused,
    /// Bits are flipped.
    Garbled,
    /// Fewer bytes come than were asked for, and none when the rest is asked for.
    Short,
    /// The file is not there, though it was not let go.
    Gone,
}

/// What a read is for, as far as its request says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReadKind {
    Range,
    Chain,
    Number,
    Scan,
    Snapshot,
}

impl ReadKind {
    fn of(request: &ReadRequest) -> Self {
        use tidegate_storage_log::ReadSpec;
        match request {
            ReadRequest::Page(ReadSpec::Range { .. }, _) => Self::Range,
            ReadRequest::Page(ReadSpec::Chain { .. }, _) => Self::Chain,
            ReadRequest::Page(ReadSpec::Number { .. } | ReadSpec::At { .. }, _) => Self::Number,
            ReadRequest::Scan { .. } => Self::Scan,
            ReadRequest::Snapshot { .. } => Self::Snapshot,
        }
    }
}

/// The disk: what reads see, and what the shards were told is synced.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub seen: MemoryMedium,
    pub promised: MemoryMedium,
    pub logs: BTreeMap<u32, LogId>,
    /// Writes so far, and the one that fails.
    pub writes: u64,
    pub fails: Option<(u64, Harm)>,
    /// A planted lie: this write is reported as done, and is not.
    pub lost: Option<u64>,
    /// Whether there is room for segments.
    pub is_full: bool,
    /// How many records are damaged.
    pub damaged: u64,
    /// The newest snapshot, as it was written.
    pub snapshot: Option<Vec<u8>>,
    /// Nothing can be read in it.
    pub is_snapshot_bad: bool,
    /// Reads that shards asked for so far, by kind, and the one that fails.
    pub reads: u64,
    pub kinds: BTreeMap<ReadKind, u64>,
    pub read_fails: Option<(u64, ReadHarm)>,
    /// The harm that is done to the read at hand.
    pub harm: Option<ReadHarm>,
    /// Whether a part of it was read.
    pub was_short: bool,
    /// What is bad for ever: 512 bytes from each of these on are refused, or read with flipped bits.
    pub bad: BTreeMap<Location, ReadHarm>,
    /// Segments that are gone, and those that end early.
    pub gone: BTreeSet<u32>,
    pub cut: BTreeMap<u32, u64>,
}

impl Disk {
    /// Whether anything that was promised cannot be read any more.
    pub fn has_losses(&self) -> bool {
        self.damaged > 0 || !self.bad.is_empty() || !self.gone.is_empty() || !self.cut.is_empty()
    }

    pub fn make_segment(&mut self, log: LogId) -> u32 {
        let number = self.logs.len() as u32 + 1;
        self.seen.add(number, SEGMENT_BYTES);
        self.promised.add(number, SEGMENT_BYTES);
        self.logs.insert(number, log);
        number
    }

    pub fn segments_of(&self, log: LogId) -> Vec<u32> {
        self.logs.iter().filter(|(_, of)| **of == log).map(|(number, _)| *number).collect()
    }

    /// Writes a batch; false if it is reported as failed.
    pub fn write(&mut self, batch: &StagedBatch) -> bool {
        let index = self.writes;
        self.writes += 1;
        let (segment, at) = (batch.segment, u64::from(batch.offset));
        match self.fails {
            Some((failing, harm)) if failing == index => {
                let arrives = match harm {
                    Harm::Nothing => 0,
                    Harm::Half => batch.bytes.len() / 2,
                    Harm::Unsynced => batch.bytes.len(),
                };
                self.seen.write(segment, at, &batch.bytes[..arrives]);
                false
            }
            _ => {
                if self.lost != Some(index) {
                    self.seen.write(segment, at, &batch.bytes);
                    self.promised.write(segment, at, &batch.bytes);
                }
                true
            }
        }
    }

    /// Flips a byte in the body of a conversation's record.
    pub fn damage(&mut self, conversation: ConversationId, sequence: Sequence) {
        let mut found = None;
        self.promised_records(|record| {
            let wanted = record.head.stream == StreamId::conversation(conversation);
            if wanted && record.head.sequence == sequence && record.head.kind < 16 {
                found = Some((record.location, record.body.to_vec()));
            }
        });
        let (location, mut body) = found.expect("a record to damage");
        body[30] ^= 1;
        self.seen.write(location.segment, u64::from(location.offset) + 96, &body);
        self.damaged += 1;
    }

    /// Every record of every log that is promised, in order.
    pub fn promised_records(&self, mut each: impl FnMut(RecordView<'_>)) {
        let mut medium = self.promised.clone();
        for shard in (0..SHARDS).map(ShardIndex) {
            let segments = self.segments_of(LogId { epoch: 1, shard });
            let found = recover(&mut medium, &segments, Some(DIRECTORY), &mut each).unwrap();
            assert_eq!(found.damage_count, 0, "{:?}", found.damage);
        }
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Option<Snapshot<Vec<u8>>> {
        self.snapshot.clone().map(|bytes| Snapshot::open(bytes).unwrap())
    }

    /// A shard asks for something.
    pub fn begin_read(&mut self, request: &ReadRequest) {
        let failing = self.read_fails.filter(|(failing, _)| *failing == self.reads);
        self.harm = failing.map(|(_, harm)| harm);
        self.was_short = false;
        self.reads += 1;
        *self.kinds.entry(ReadKind::of(request)).or_default() += 1;
    }

    pub const fn end_read(&mut self) {
        self.harm = None;
    }

    /// Whether the read at hand finds its snapshot bad; of a snapshot, all that can happen is that a block does not hold.
    pub const fn refuses_snapshots(&self) -> bool {
        self.harm.is_some() || self.is_snapshot_bad
    }

    /// Whether something stays bad.
    pub fn is_bad(&self) -> bool {
        !self.bad.is_empty() || !self.gone.is_empty() || !self.cut.is_empty()
    }

    /// What reads see, with all that fails.
    pub const fn reading(&mut self) -> Reading<'_> {
        Reading(self)
    }
}

/// The disk as it is read.
pub struct Reading<'a>(&'a mut Disk);

impl Medium for Reading<'_> {
    fn segment_len(&self, segment: u32) -> Result<u64, MediumError> {
        let Self(disk) = self;
        if disk.harm == Some(ReadHarm::Gone) || disk.gone.contains(&segment) {
            // It is named and not there: that is no retention.
            return Err(MediumError::Unreadable { segment, offset: 0, os_error: 2 });
        }
        let len = disk.seen.segment_len(segment)?;
        Ok(disk.cut.get(&segment).map_or(len, |cut| len.min(*cut)))
    }

    fn index(&mut self, segment: u32) -> Option<IndexPlace> {
        self.0.seen.index(segment)
    }

    fn read(&mut self, segment: u32, offset: u64, into: &mut [u8]) -> Result<usize, MediumError> {
        let len = self.segment_len(segment)?;
        let Self(disk) = self;
        let left = len.saturating_sub(offset).min(into.len() as u64) as usize;
        let wanted = match disk.harm {
            Some(ReadHarm::Refused) => {
                return Err(MediumError::Unreadable { segment, offset, os_error: 5 });
            }
            Some(ReadHarm::Short) if disk.was_short => 0,
            Some(ReadHarm::Short) => left / 2,
            _ => left,
        };
        disk.was_short = true;
        let into = &mut into[..wanted];
        let count = disk.seen.read(segment, offset, into)?;
        if disk.harm == Some(ReadHarm::Garbled) {
            into.iter_mut().step_by(97).for_each(|byte| *byte ^= 0x10);
        }
        for (at, harm) in &disk.bad {
            let block = u64::from(at.offset)..u64::from(at.offset) + 512;
            let end = offset + count as u64;
            if at.segment != segment || block.end <= offset || block.start >= end {
                continue;
            }
            if *harm == ReadHarm::Refused {
                return Err(MediumError::Unreadable { segment, offset, os_error: 5 });
            }
            let hit = block.start.max(offset)..block.end.min(end);
            into[(hit.start - offset) as usize..(hit.end - offset) as usize]
                .iter_mut()
                .for_each(|b| *b ^= 0x10);
        }
        Ok(count)
    }
}
