//! A disk with a write-back cache: what was not synced is torn or lost at a crash, sector by sector.

use crate::clock::Chance;
use std::collections::BTreeMap;
use tidegate_ids::LogId;
use tidegate_storage_log::{Medium, MediumError, StagedBatch};

/// What a device writes atomically (DESIGN 8).
const SECTOR_BYTES: usize = 512;

#[derive(Debug)]
struct Segment {
    log: LogId,
    /// As a reader sees it: cache and device.
    seen: Vec<u8>,
    /// As the device holds it.
    durable: Vec<u8>,
}

/// All segments of a data directory.
#[derive(Debug)]
pub(crate) struct Disk {
    segments: BTreeMap<u32, Segment>,
    next: u32,
    segment_bytes: u32,
    chance: Chance,
    /// A planted bug: syncs are reported and not done.
    pub(crate) lies: bool,
}

impl Disk {
    pub(crate) fn new(segment_bytes: u32, chance: Chance) -> Self {
        Self { segments: BTreeMap::new(), next: 1, segment_bytes, chance, lies: false }
    }

    /// Makes a zeroed, synced segment for a log.
    pub(crate) fn make_segment(&mut self, log: LogId) -> u32 {
        let number = self.next;
        self.next += 1;
        let zeroed = vec![0; self.segment_bytes as usize];
        self.segments.insert(number, Segment { log, seen: zeroed.clone(), durable: zeroed });
        number
    }

    /// Segments of a log, oldest first.
    pub(crate) fn segments_of(&self, log: LogId) -> Vec<u32> {
        self.segments.iter().filter(|(_, segment)| segment.log == log).map(|(number, _)| *number).collect()
    }

    /// Writes into the cache.
    pub(crate) fn write(&mut self, batch: &StagedBatch) {
        self.write_part(batch, batch.bytes.len());
    }

    /// Writes the first bytes of a batch into the cache.
    pub(crate) fn write_part(&mut self, batch: &StagedBatch, len: usize) {
        let Some(segment) = self.segments.get_mut(&batch.segment) else { panic!("a batch for no segment") };
        let at = batch.offset as usize;
        segment.seen[at..at + len].copy_from_slice(&batch.bytes[..len]);
    }

    /// Syncs one segment.
    pub(crate) fn sync(&mut self, number: u32) {
        if self.lies {
            return;
        }
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.durable.copy_from_slice(&segment.seen);
        }
    }

    /// The power goes: every sector in the cache reaches the device or does not.
    pub(crate) fn crash(&mut self) {
        for segment in self.segments.values_mut() {
            let Segment { seen, durable, .. } = segment;
            let sectors = seen.chunks_mut(SECTOR_BYTES).zip(durable.chunks_mut(SECTOR_BYTES));
            for (seen, durable) in sectors {
                if seen != durable {
                    if self.chance.percent(50) {
                        durable.copy_from_slice(seen);
                    } else {
                        seen.copy_from_slice(durable);
                    }
                }
            }
        }
    }

    /// The process is killed, the machine goes on: the cache stays, and reaches the device.
    pub(crate) fn settle(&mut self) {
        for segment in self.segments.values_mut() {
            segment.durable.copy_from_slice(&segment.seen);
        }
    }
}

impl Medium for Disk {
    fn segment_len(&self, segment: u32) -> Result<u64, MediumError> {
        let found = self.segments.get(&segment).ok_or(MediumError::Missing(segment))?;
        Ok(found.seen.len() as u64)
    }

    fn read(&mut self, segment: u32, offset: u64, into: &mut [u8]) -> Result<usize, MediumError> {
        let found = self.segments.get(&segment).ok_or(MediumError::Missing(segment))?;
        let rest = found.seen.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}
