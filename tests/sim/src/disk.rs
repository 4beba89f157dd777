//! A disk with a write-back cache: what was not synced is torn or lost at a crash, sector by sector. Segments run out, and
//! bits rot.

use crate::clock::Chance;
use std::collections::{BTreeMap, BTreeSet};
use tidegate_ids::LogId;
use tidegate_storage_log::{Damage, IndexPlace, Medium, MediumError, SegmentHeader, StagedBatch};

/// What a device writes atomically (DESIGN 8).
const SECTOR_BYTES: usize = 512;

#[derive(Debug)]
struct Segment {
    log: LogId,
    /// As a reader sees it: cache and device.
    seen: Vec<u8>,
    /// What the device still holds under sectors that are newer in the cache, by their offsets.
    unsynced: BTreeMap<usize, [u8; SECTOR_BYTES]>,
}

impl Segment {
    fn write(&mut self, at: usize, bytes: &[u8]) {
        let first = at / SECTOR_BYTES * SECTOR_BYTES;
        for sector in (first..at + bytes.len()).step_by(SECTOR_BYTES) {
            let seen = &self.seen[sector..sector + SECTOR_BYTES];
            self.unsynced.entry(sector).or_insert_with(|| seen.try_into().unwrap_or([0; SECTOR_BYTES]));
        }
        self.seen[at..at + bytes.len()].copy_from_slice(bytes);
    }
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
    /// A planted bug: the newest segment of a log is not seen at a start.
    pub(crate) forgets: bool,
    /// Sectors that a crash took back.
    pub(crate) sectors_lost: u64,
    rotten: BTreeSet<u32>,
}

impl Disk {
    pub(crate) fn new(segment_bytes: u32, chance: Chance) -> Self {
        assert_eq!(segment_bytes as usize % SECTOR_BYTES, 0, "a segment is whole sectors");
        Self {
            segments: BTreeMap::new(),
            next: 1,
            segment_bytes,
            chance,
            lies: false,
            forgets: false,
            sectors_lost: 0,
            rotten: BTreeSet::new(),
        }
    }

    /// Makes a zeroed, synced segment for a log.
    pub(crate) fn make_segment(&mut self, log: LogId) -> u32 {
        let number = self.next;
        self.next += 1;
        let seen = vec![0; self.segment_bytes as usize];
        self.segments.insert(number, Segment { log, seen, unsynced: BTreeMap::new() });
        number
    }

    /// Segments of a log, oldest first.
    pub(crate) fn segments_of(&self, log: LogId) -> Vec<u32> {
        let used = |segment: &Segment| segment.seen.iter().any(|byte| *byte != 0);
        let of_log = self.segments.iter().filter(|(_, segment)| segment.log == log);
        if self.forgets {
            let mut seen: Vec<u32> = of_log.filter(|(_, one)| used(one)).map(|(number, _)| *number).collect();
            seen.pop();
            return seen;
        }
        of_log.map(|(number, _)| *number).collect()
    }

    /// Whether all that is found damaged lies in segments in which a bit has rotted.
    pub(crate) fn explains<'d>(&self, damage: impl IntoIterator<Item = &'d Damage>) -> bool {
        damage.into_iter().all(|one| self.rotten.contains(&one.segment))
    }

    /// Writes into the cache.
    pub(crate) fn write(&mut self, batch: &StagedBatch) {
        self.write_part(batch, batch.bytes.len());
    }

    /// Writes the first bytes of a batch into the cache.
    pub(crate) fn write_part(&mut self, batch: &StagedBatch, len: usize) {
        let Some(segment) = self.segments.get_mut(&batch.segment) else { panic!("a batch for no segment") };
        segment.write(batch.offset as usize, &batch.bytes[..len]);
    }

    /// Syncs one segment.
    pub(crate) fn sync(&mut self, number: u32) {
        if self.lies {
            return;
        }
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.unsynced.clear();
        }
    }

    /// The power goes: every sector in the cache reaches the device or does not.
    pub(crate) fn crash(&mut self) {
        let Self { segments, chance, sectors_lost, .. } = self;
        for segment in segments.values_mut() {
            for (sector, durable) in std::mem::take(&mut segment.unsynced) {
                let seen = &mut segment.seen[sector..sector + SECTOR_BYTES];
                if *seen != durable && chance.percent(50) {
                    seen.copy_from_slice(&durable);
                    *sectors_lost += 1;
                }
            }
        }
    }

    /// The process is killed, the machine goes on: the cache stays, and reaches the device.
    pub(crate) fn settle(&mut self) {
        self.segments.values_mut().for_each(|segment| segment.unsynced.clear());
    }

    /// A bit rots, in the cache's copy and on the device.
    pub(crate) fn rot(&mut self, number: u32, offset: u32, bit: u8) {
        let Some(segment) = self.segments.get_mut(&number) else { return };
        self.rotten.insert(number);
        segment.seen[offset as usize] ^= 1 << bit;
        let sector = offset as usize / SECTOR_BYTES * SECTOR_BYTES;
        if let Some(durable) = segment.unsynced.get_mut(&sector) {
            durable[offset as usize % SECTOR_BYTES] ^= 1 << bit;
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

    fn index(&mut self, segment: u32) -> Option<IndexPlace> {
        let headers =
            self.segments.values().filter_map(|held| SegmentHeader::decode(held.seen.first_chunk()?));
        IndexPlace::among(headers, segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_ids::ShardIndex;

    fn disk() -> (Disk, u32) {
        let mut disk = Disk::new(8192, Chance::new(1, 1));
        let number = disk.make_segment(LogId { epoch: 1, shard: ShardIndex(0) });
        (disk, number)
    }

    fn write(disk: &mut Disk, number: u32, at: usize, bytes: &[u8]) {
        disk.segments.get_mut(&number).expect("a segment").write(at, bytes);
    }

    fn read(disk: &mut Disk, number: u32) -> Vec<u8> {
        let mut bytes = vec![0; 8192];
        disk.read(number, 0, &mut bytes).expect("a segment");
        bytes
    }

    #[test]
    fn a_crash_takes_some_sectors_of_what_was_not_synced_and_none_of_what_was() {
        let (mut disk, number) = disk();
        write(&mut disk, number, 0, &[1; 2048]);
        disk.sync(number);
        write(&mut disk, number, 1024, &[2; 7168]);
        disk.crash();
        let bytes = read(&mut disk, number);
        assert!(bytes[..1024].iter().all(|byte| *byte == 1), "synced and not written again");
        let lost = bytes[2048..].chunks(SECTOR_BYTES).filter(|sector| sector[0] == 0).count();
        assert!(lost > 0 && lost < 12, "of twelve sectors some are lost, some are not: {lost}");
        for sector in bytes.chunks(SECTOR_BYTES) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "no sector is torn");
        }
    }

    #[test]
    fn what_a_killed_process_wrote_stays() {
        let (mut disk, number) = disk();
        write(&mut disk, number, 512, &[7; 1024]);
        disk.settle();
        disk.crash();
        assert_eq!(read(&mut disk, number)[512..1536], [7; 1024]);
    }

    #[test]
    fn rot_is_in_the_cache_and_on_the_device() {
        let (mut disk, number) = disk();
        write(&mut disk, number, 0, &[0xff; 512]);
        disk.rot(number, 3, 0);
        assert_eq!(read(&mut disk, number)[3], 0xfe);
        assert_eq!(disk.segments[&number].unsynced[&0][3], 1, "what the device holds has rotted too");
    }
}
