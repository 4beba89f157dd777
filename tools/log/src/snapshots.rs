//! The snapshots of a directory: all their bytes, and whether what they say of the logs is so.

use crate::faults::Faults;
use crate::kinds::is_message;
use std::collections::{BTreeMap, HashMap};
use tidegate_ids::{Location, LogId};
use tidegate_storage_files::{DirView, SnapshotFile};
use tidegate_storage_log::{Covered, PreviousEnd, RecordState, RecordView};

/// Where each segment of a log ends, as recovery found it.
pub(crate) type Ends = HashMap<(LogId, u32), PreviousEnd>;

/// For each log, up to which segment a snapshot must hold it: retention let go of something there.
pub(crate) type Needed = BTreeMap<LogId, u32>;

/// Whether retention let go of more than a message: only a snapshot holds what it said.
pub(crate) fn is_let_go(record: &RecordView<'_>) -> bool {
    record.placement.state == RecordState::Expired && !is_message(record.head.kind)
}

/// Notes a segment that a snapshot must hold.
pub(crate) fn note_needed(needed: &mut Needed, log: LogId, segment: u32) {
    let last = needed.entry(log).or_default();
    *last = segment.max(*last);
}

/// Whether a snapshot holds all that must be held; if there is none, whether nothing must.
pub(crate) fn holds(snapshot: Option<&SnapshotFile>, needed: &Needed) -> bool {
    needed.iter().all(|(log, segment)| {
        let covered = snapshot.iter().flat_map(|file| &file.header().covered);
        let mut of_log = covered.filter(|covered| covered.log == *log);
        of_log.any(|covered| covered.previous.end.segment >= *segment)
    })
}

/// Checks every snapshot and says how many there are.
pub(crate) fn check(view: &DirView, ends: &Ends, needed: &Needed, faults: &mut Faults) -> usize {
    let viewed = match view.snapshots() {
        Ok(viewed) => viewed,
        Err(error) => {
            faults.add(|| error.to_string());
            return 0;
        }
    };
    viewed.bad.iter().for_each(|bad| faults.add(|| bad.to_string()));
    viewed.good.iter().for_each(|file| check_one(file, ends, faults));
    if !holds(None, needed) && !viewed.good.iter().any(|file| holds(Some(file), needed)) {
        let path = view.path().display();
        faults.add(|| {
            format!("{path}: no snapshot that can be read holds what retention let go of: put a backup back")
        });
    }
    viewed.bad.len() + viewed.good.len()
}

/// How many entries of a snapshot hold, and whether the logs end where it says.
pub(crate) fn sound_entries(file: &SnapshotFile, ends: &Ends) -> (u64, bool) {
    let fits = file.header().covered.iter().all(|covered| found_end(covered, ends) == covered.previous);
    (file.verify().entries, fits)
}

fn found_end(covered: &Covered, ends: &Ends) -> PreviousEnd {
    // A segment that is gone was dropped after it was folded.
    ends.get(&(covered.log, covered.previous.end.segment)).copied().unwrap_or(covered.previous)
}

/// Checks one snapshot.
pub(crate) fn check_one(file: &SnapshotFile, ends: &Ends, faults: &mut Faults) {
    let path = file.path().display();
    for covered in &file.header().covered {
        let (log, said, found) = (covered.log, covered.previous, found_end(covered, ends));
        if found != said {
            faults.add(|| {
                format!(
                    "{path}: covers log {log} to {} (batch {}), which ends at {} (batch {})",
                    said.end, said.batch, found.end, found.batch
                )
            });
        }
    }
    let last =
        file.header().covered.iter().map(|covered| covered.previous.end).max().unwrap_or(Location::NONE);
    let mut count = 0;
    let mut entries = file.entries();
    while let Some(entry) = entries.next() {
        match entry {
            Ok(entry) => {
                count += 1;
                if entry.folded >= last {
                    let (stream, folded) = (entry.stream, entry.folded);
                    faults.add(|| format!("{path}: {stream} is folded to {folded}, behind what is covered"));
                }
            }
            Err(error) => {
                count = file.entry_count();
                faults.add(|| format!("{path}: {error}"));
            }
        }
    }
    if count < file.entry_count() {
        faults.add(|| format!("{path}: {count} entries, not the {} that it should have", file.entry_count()));
    }
}
