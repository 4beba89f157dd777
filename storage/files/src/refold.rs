//! What has to be folded again when a snapshot is lost under a running gateway: the segments between what the one before
//! holds, or nothing, and what the lost one held.

use crate::reader::SegmentReader;
use crate::snapshots::Snapshots;
use std::sync::Arc;
use tidegate_ids::LogId;
use tidegate_storage_log::{
    Covered, PreviousEnd, RecordView, RecoverError, SegmentExtent, recover_after, segment_header,
};

/// A segment to fold again: its log, what of it is read, and its end with its last batch.
pub type Refolded = (LogId, SegmentExtent, PreviousEnd);

/// Why a lost snapshot cannot be made again.
#[derive(Debug, thiserror::Error)]
pub enum RefoldError {
    /// The log makes no sense as a whole. Recovered from a backup.
    #[error("log {log}: {source}")]
    Log {
        /// The log.
        log: LogId,
        /// Why.
        source: RecoverError,
    },
    /// Its first segments were let go, behind snapshots that are lost now. Recovered from a backup.
    #[error("the beginning of log {0} was let go, and no snapshot holds it any more")]
    Gone(LogId),
    /// It does not reach where the lost snapshot did. Recovered by the next start, which judges it.
    #[error("log {0} does not end where the lost snapshot says")]
    Elsewhere(LogId),
}

impl Snapshots {
    /// The segments that `newer` covers and `older` does not, of each log in order, with every record of them given to
    /// `each`. Reads all of them; for a helper thread.
    ///
    /// # Errors
    /// See [`RefoldError`].
    pub fn between(
        &self,
        older: &[Covered],
        newer: &[Covered],
        mut each: impl FnMut(&RecordView<'_>),
    ) -> Result<Vec<Refolded>, RefoldError> {
        let mut reader = SegmentReader::new(Arc::clone(self.owned.catalog()));
        let mut between = Vec::new();
        for covered in newer {
            let (log, to) = (covered.log, covered.previous);
            let from = older.iter().find(|one| one.log == log);
            let from = from.map_or_else(PreviousEnd::default, |one| one.previous);
            if from == to {
                continue;
            }
            let listed = self.listed(log, from, to);
            if from == PreviousEnd::default() && begins_later(&mut reader, &listed) {
                return Err(RefoldError::Gone(log));
            }
            let directory = Some(self.identity.directory);
            let found = recover_after(&mut reader, &listed, directory, from, |record| each(&record))
                .map_err(|source| RefoldError::Log { log, source })?;
            let both = found.extents.into_iter().zip(found.ends);
            let own = both.take_while(|(extent, _)| extent.segment <= to.end.segment);
            let own: Vec<Refolded> = own.map(|(extent, end)| (log, extent, end)).collect();
            if own.last().is_none_or(|(.., end)| *end != to) {
                return Err(RefoldError::Elsewhere(log));
            }
            between.extend(own);
        }
        Ok(between)
    }

    /// The segments of a log behind one end, up to another, and the one behind it, which says where that is.
    fn listed(&self, log: LogId, from: PreviousEnd, to: PreviousEnd) -> Vec<u32> {
        let all = self.owned.catalog().segments(log);
        let behind = all.iter().copied().find(|number| *number > to.end.segment);
        let own = all.into_iter().filter(|number| (from.end.segment + 1..=to.end.segment).contains(number));
        own.chain(behind).collect()
    }
}

/// Whether the log had segments before the first of these.
fn begins_later(reader: &mut SegmentReader, listed: &[u32]) -> bool {
    let first = listed.first().and_then(|first| segment_header(reader, *first).ok().flatten());
    first.is_some_and(|header| header.previous != PreviousEnd::default())
}
