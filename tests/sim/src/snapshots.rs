//! The snapshots of the simulated directory: made of what every shard has consumed, two of them kept, the newest lost now
//! and then.

use crate::disk::Disk;
use crate::gateway::DIRECTORY;
use tidegate_domain::{HASH_VERSION, virtual_shard};
use tidegate_ids::{Incarnation, Location, StreamId};
use tidegate_shard::{LargeUsers, SnapshotPlan, StreamFold};
use tidegate_storage_log::{
    Covered, MemoryRuns, Merger, PageEnd, ReadError, Snapshot, SnapshotHeader, SnapshotWriter,
};

/// Memory of a merge: so little that records are sorted in many runs.
const MERGE_BYTES: usize = 64 * 1024;

/// How many are kept.
const KEPT: usize = 2;

/// The largest state of a user where that is met, the first of these that holds everybody's list: beside it there is room for
/// a few dozen ranges at most.
const SMALL_USER_STATE_BYTES: [usize; 4] = [300, 450, 600, 900];

/// Snapshots, the newest last.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    kept: Vec<Snapshot<Vec<u8>>>,
    made: u64,
    /// A planted bug: the last segment is said to be held, and is not folded.
    pub(crate) hollow: bool,
    /// Entries are too small for the queues of some users.
    pub(crate) are_small: bool,
    /// Devices whose queues were too large for it.
    pub(crate) devices_forgotten: u64,
}

impl Snapshots {
    /// What the newest one holds.
    pub(crate) fn covered(&self) -> Option<&[Covered]> {
        self.kept.last().map(|newest| &newest.header().covered[..])
    }

    /// The newest one turns out to be bad, and with it all that it held beyond the one before.
    pub(crate) fn lose_newest(&mut self) -> bool {
        self.kept.pop().is_some()
    }

    /// Folds what is planned into the newest snapshot, which this one follows.
    pub(crate) fn make(&mut self, disk: &mut Disk, plan: &SnapshotPlan) -> Result<(), String> {
        self.made += 1;
        let header = SnapshotHeader {
            number: self.made,
            directory: DIRECTORY,
            incarnation: Incarnation(1),
            hash_version: HASH_VERSION as u16,
            covered: plan.covered.clone(),
        };
        // Who has a list too large by itself is not shown all of it, and the ledger wants everybody to have everything.
        let small = SMALL_USER_STATE_BYTES.iter().filter(|_| self.are_small).copied();
        let mut folds = small.map(StreamFold::with_user_state_bytes_max);
        let (bytes, large) = loop {
            let fold = folds.next();
            let is_last = fold.is_none();
            let (bytes, large) = self.fold(disk, plan, &header, fold.unwrap_or_default())?;
            if is_last || large.conversations == 0 {
                break (bytes, large);
            }
        };
        self.devices_forgotten += large.devices;
        self.kept.push(Snapshot::open(bytes).map_err(|error| format!("{error:?}"))?);
        if self.kept.len() > KEPT {
            self.kept.remove(0);
        }
        Ok(())
    }

    fn fold(
        &self,
        disk: &mut Disk,
        plan: &SnapshotPlan,
        header: &SnapshotHeader,
        mut fold: StreamFold,
    ) -> Result<(Vec<u8>, LargeUsers), String> {
        let mut merger = Merger::new(MERGE_BYTES, MemoryRuns::default());
        let count = plan.segments.len() - usize::from(self.hollow && plan.segments.len() > 1);
        for (_, extent) in &plan.segments[..count] {
            let fed = merger.feed_segment(&fold, disk, extent).map_err(|error| format!("{error:?}"))?;
            if !disk.explains(&fed.damage) {
                return Err(format!("damage in segment {}: {:?}", extent.segment, fed.damage));
            }
        }
        let writer = SnapshotWriter::new(Vec::new(), header).map_err(|error| format!("{error:?}"))?;
        let previous = self.kept.last().map(Snapshot::entries);
        let (bytes, _) = merger.finish(&mut fold, previous, writer).map_err(|error| format!("{error:?}"))?;
        Ok((bytes, fold.into_large_users()))
    }

    /// Reads a stream's entry as a reader thread would.
    pub(crate) fn read(&self, stream: &StreamId) -> (Vec<u8>, Result<PageEnd, ReadError>) {
        let mut state = Vec::new();
        let (Some(newest), Some(place)) = (self.kept.last(), virtual_shard(stream)) else {
            return (state, Ok(PageEnd::default()));
        };
        let found = newest.load(place, stream, &mut state);
        let end = match found {
            Ok(Some(next)) => Ok(PageEnd { records: 1, next, ..PageEnd::default() }),
            Ok(None) => Ok(PageEnd::default()),
            Err(_) => Err(ReadError::Damaged(Location::SNAPSHOT)),
        };
        (state, end)
    }
}
