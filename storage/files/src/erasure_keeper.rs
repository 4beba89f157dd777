//! The list of erasures as the gateway keeps it: noticed, taken, worked off by retention, and written down again.
//!
//! Invariants. A request counts as done only after a whole pass that knew it and left none of its records anywhere. What is
//! written down is judged against the list as it is then: a request that was widened meanwhile is not done.

use crate::directory::DataDir;
use crate::erasure_file::{ErasureError, ErasuresWatch, change_erasures, load_erasures};
use crate::erasures::{Erasure, ErasureState, Erasures};
use crate::retention::Retention;
use std::path::PathBuf;
use std::time::Duration;
use tidegate_ids::WallMs;
use tidegate_storage_log::ErasedRanges;

/// Who else changes the list holds it for a moment only, and the next look is seconds away.
const NO_WAIT: Duration = Duration::ZERO;

/// What was written down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErasuresSettled {
    /// Requests that are done.
    pub done: Vec<Erasure>,
    /// Records that were erased since the last time.
    pub records: u64,
}

/// One for a directory.
#[derive(Debug)]
pub struct ErasureKeeper {
    directory: PathBuf,
    watch: ErasuresWatch,
    list: Erasures,
    /// Rises when something is pending that was not.
    version: u64,
    /// Records that were erased and are not written down yet.
    erased: ErasedRanges,
}

impl ErasureKeeper {
    /// Reads the list of a directory.
    ///
    /// # Errors
    /// See [`ErasureError`]: without the list nobody knows what may be given out.
    pub fn open(dir: &DataDir) -> Result<Self, ErasureError> {
        let directory = dir.path().to_path_buf();
        let mut watch = ErasuresWatch::new(&directory);
        watch.is_changed()?;
        let list = load_erasures(&directory)?;
        let version = u64::from(!list.pending().is_empty());
        Ok(Self { directory, watch, list, version, erased: ErasedRanges::new() })
    }

    /// The list as it was read last.
    #[must_use]
    pub const fn list(&self) -> &Erasures {
        &self.list
    }

    /// For `RetentionPolicy::erasing`: 0 if nothing is pending.
    #[must_use]
    pub fn version(&self) -> u64 {
        if self.list.pending().is_empty() { 0 } else { self.version }
    }

    /// Whether something is pending that no gateway has said yet it gives out no more.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.list.pending().iter().any(|one| one.state == ErasureState::Asked)
    }

    /// Reads the list again if it was replaced; whether it says something else now. Then the shards have to be told, and
    /// [`ErasureKeeper::taken`] says so.
    ///
    /// # Errors
    /// See [`ErasureError`]; what was known stays, and the next look reads again only what was replaced once more.
    pub fn look(&mut self) -> Result<bool, ErasureError> {
        if !self.watch.is_changed()? {
            return Ok(false);
        }
        let list = load_erasures(&self.directory)?;
        Ok(self.adopt(list))
    }

    /// Every shard was told of everything in the list.
    ///
    /// # Errors
    /// See [`ErasureError`]; it is taken all the same.
    pub fn taken(&mut self) -> Result<(), ErasureError> {
        let told = self.list.clone();
        let list = change_erasures(&self.directory, NO_WAIT, |list| {
            // Something was asked meanwhile: the next look finds it.
            if *list == told {
                list.take();
            }
            Ok(list.clone())
        })?;
        // What is new in it is not adopted here: the shards have not been told of it.
        if list.all_ranges() == self.list.all_ranges() {
            self.list = list;
        }
        Ok(())
    }

    /// Writes down what a pass has done; gives the requests that are done with it. `whole` is what the pass was told to erase,
    /// if it came to its end: what was asked meanwhile it knew nothing of.
    ///
    /// # Errors
    /// See [`ErasureError`]; the next call tries again.
    pub fn settle(
        &mut self,
        retention: &mut Retention,
        whole: Option<&ErasedRanges>,
        now: WallMs,
    ) -> Result<ErasuresSettled, ErasureError> {
        let erased = retention.take_erased();
        erased.iter().for_each(|(stream, range)| self.erased.insert(stream, range));
        let left = retention.left_to_erase();
        let is_gone = |one: &&Erasure| {
            let is_known = whole.is_some_and(|whole| is_within(whole, one));
            is_known && !left.iter().any(|left| left.may_hold(&one.stream, one.range))
        };
        let gone: Vec<&Erasure> = self.list.pending().iter().filter(is_gone).collect();
        if gone.is_empty() && self.erased.is_empty() {
            return Ok(ErasuresSettled::default());
        }
        let (list, done) = change_erasures(&self.directory, NO_WAIT, |list| {
            list.count(&self.erased);
            let done = gone.iter().filter(|one| list.finish(&one.stream, one.range, now));
            let done: Vec<Erasure> = done.map(|one| Erasure::clone(one)).collect();
            Ok((list.clone(), done))
        })?;
        let records = self.erased.iter().map(|(_, range)| range.count()).sum();
        self.erased = ErasedRanges::new();
        if list.all_ranges() == self.list.all_ranges() {
            self.list = list;
        }
        Ok(ErasuresSettled { done, records })
    }

    fn adopt(&mut self, list: Erasures) -> bool {
        let known = self.list.pending_ranges();
        if !list.pending().iter().all(|one| is_within(&known, one)) {
            self.version += 1;
        }
        let is_new =
            list.all_ranges() != self.list.all_ranges() || list.pending().len() != self.list.pending().len();
        self.list = list;
        is_new
    }
}

/// Whether all of a request is among these records.
fn is_within(ranges: &ErasedRanges, one: &Erasure) -> bool {
    ranges.count_in(&one.stream, one.range) == one.range.count()
}
