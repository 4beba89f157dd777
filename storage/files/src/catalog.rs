//! Which log each segment belongs to: shared by everything that must find a file by its number.

use crate::layout;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use tidegate_ids::LogId;

/// Grows while the gateway runs; readers on other threads see a segment before its first byte is written.
#[derive(Debug)]
pub(crate) struct Catalog {
    root: PathBuf,
    segments: RwLock<BTreeMap<u32, LogId>>,
}

impl Catalog {
    pub(crate) fn new(root: PathBuf, segments: BTreeMap<u32, LogId>) -> Self {
        Self { root, segments: RwLock::new(segments) }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The file of a segment, `None` if there is no such segment.
    pub(crate) fn path(&self, number: u32) -> Option<PathBuf> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        segments.get(&number).map(|&log| layout::segment(&self.root, log, number))
    }

    pub(crate) fn insert(&self, number: u32, log: LogId) {
        self.segments.write().unwrap_or_else(PoisonError::into_inner).insert(number, log);
    }
}
