//! Which log each segment belongs to: shared by everything that must find a file by its number.

use crate::layout;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tidegate_ids::LogId;
use tidegate_storage_log::IndexPlace;

/// Changes while the gateway runs: readers on other threads see a segment before its first byte is written, and learn at
/// their next refresh that one was replaced or removed.
#[derive(Debug)]
pub(crate) struct Catalog {
    root: PathBuf,
    /// Whether it follows what the owner of the directory does.
    is_live: bool,
    segments: RwLock<BTreeMap<u32, Named>>,
    /// How many times a segment was replaced or removed.
    changes: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
struct Named {
    log: LogId,
    /// What `changes` was when its file was replaced last.
    version: u64,
    /// Where its index lies, once that is known.
    index: IndexPlace,
}

impl Named {
    fn new(log: LogId, version: u64) -> Self {
        Self { log, version, index: IndexPlace::default() }
    }
}

impl Catalog {
    /// Of the owner, who tells it of every change.
    pub(crate) fn new(root: PathBuf, segments: BTreeMap<u32, LogId>) -> Self {
        let named = segments.into_iter().map(|(number, log)| (number, Named::new(log, 0)));
        Self { root, is_live: true, segments: RwLock::new(named.collect()), changes: AtomicU64::new(0) }
    }

    /// Of somebody who looks: the owner may remove a file meanwhile.
    pub(crate) fn viewed(root: PathBuf, segments: BTreeMap<u32, LogId>) -> Self {
        Self { is_live: false, ..Self::new(root, segments) }
    }

    pub(crate) const fn is_live(&self) -> bool {
        self.is_live
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The file of a segment, `None` if there is no such segment.
    pub(crate) fn path(&self, number: u32) -> Option<PathBuf> {
        self.file(number).map(|(path, _)| path)
    }

    /// The file of a segment, and which of its files that is.
    pub(crate) fn file(&self, number: u32) -> Option<(PathBuf, u64)> {
        let named = *self.read().get(&number)?;
        Some((layout::segment(&self.root, named.log, number), named.version))
    }

    /// Which of its files a segment has now; `None` if it was removed.
    pub(crate) fn version(&self, number: u32) -> Option<u64> {
        self.read().get(&number).map(|named| named.version)
    }

    /// Grows with every replacement and removal.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// The segments of a log, rising.
    pub(crate) fn segments(&self, log: LogId) -> Vec<u32> {
        self.read().iter().filter(|(_, named)| named.log == log).map(|(&number, _)| number).collect()
    }

    /// Where the index of a segment lies, if it is known to have one.
    pub(crate) fn index(&self, number: u32) -> Option<IndexPlace> {
        self.read().get(&number).map(|named| named.index).filter(|place| !place.is_none())
    }

    pub(crate) fn note_index(&self, number: u32, place: IndexPlace) {
        if let Some(named) = self.write().get_mut(&number) {
            named.index = place;
        }
    }

    pub(crate) fn insert(&self, number: u32, log: LogId) {
        let version = self.changes();
        self.write().insert(number, Named::new(log, version));
    }

    /// The segment's name leads to another file from now on.
    pub(crate) fn replaced(&self, number: u32) {
        let mut segments = self.write();
        let version = self.changes.fetch_add(1, Ordering::AcqRel) + 1;
        if let Some(named) = segments.get_mut(&number) {
            named.version = version;
        }
    }

    pub(crate) fn remove(&self, number: u32) {
        let mut segments = self.write();
        segments.remove(&number);
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<u32, Named>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<u32, Named>> {
        self.segments.write().unwrap_or_else(PoisonError::into_inner)
    }
}
