//! The watch over free space: commands are refused before the disk is full, and taken again when there is room.
//!
//! A thread asks the file system, since the question may wait for the disk; shards look at its answer. What a shard does
//! with it is its own rule.

use crate::limits::{SPACE_INTERVAL, SPACE_MARGIN_SHARE};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

/// What the watch saw last.
#[derive(Debug, Default)]
pub struct Space {
    low: AtomicBool,
    free_bytes: AtomicU64,
    stop: AtomicBool,
}

impl Space {
    /// Whether the disk is nearly full.
    #[must_use]
    pub fn is_low(&self) -> bool {
        self.low.load(Ordering::Relaxed)
    }

    /// Bytes left.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.free_bytes.load(Ordering::Relaxed)
    }
}

/// The thread. Dropping it stops and joins it.
#[derive(Debug)]
pub struct SpaceWatch {
    shared: Arc<Space>,
    thread: Option<JoinHandle<()>>,
}

struct Watcher {
    directory: PathBuf,
    free_bytes_min: u64,
    shared: Arc<Space>,
    is_silent: bool,
}

impl SpaceWatch {
    /// Looks once, then goes on on a thread. Start it before shards are pinned.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(directory: PathBuf, free_bytes_min: u64) -> io::Result<Self> {
        let shared = Arc::new(Space::default());
        let mut watcher =
            Watcher { directory, free_bytes_min, shared: Arc::clone(&shared), is_silent: false };
        watcher.look();
        let run = move || {
            while !watcher.shared.stop.load(Ordering::Acquire) {
                thread::park_timeout(SPACE_INTERVAL);
                watcher.look();
            }
        };
        let thread = thread::Builder::new().name(String::from("space")).spawn(run)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Where its answers are.
    #[must_use]
    pub const fn space(&self) -> &Arc<Space> {
        &self.shared
    }
}

impl Drop for SpaceWatch {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic there has ended the process.
            let _ = thread.join();
        }
    }
}

impl Watcher {
    fn look(&mut self) {
        let free_bytes = match tidegate_storage_files::free_bytes(&self.directory) {
            Ok(free_bytes) => free_bytes,
            Err(error) => {
                // What was true stays true; a disk that is gone shows in the log's writes.
                if !std::mem::replace(&mut self.is_silent, true) {
                    tracing::warn!(%error, "free space is not watched now");
                }
                return;
            }
        };
        self.is_silent = false;
        let was_low = self.shared.is_low();
        let low = is_low(was_low, free_bytes, self.free_bytes_min);
        self.shared.free_bytes.store(free_bytes, Ordering::Relaxed);
        self.shared.low.store(low, Ordering::Relaxed);
        let free_bytes_min = self.free_bytes_min;
        match (was_low, low) {
            (false, true) => {
                tracing::error!(free_bytes, free_bytes_min, "the disk is nearly full: commands are refused");
            }
            (true, false) => tracing::info!(free_bytes, "there is room again: commands are taken"),
            _ => {}
        }
    }
}

/// Low below the minimum; no longer low only with some more, so that what is taken meanwhile does not turn it back at once.
const fn is_low(was_low: bool, free_bytes: u64, free_bytes_min: u64) -> bool {
    let margin = if was_low { free_bytes_min / SPACE_MARGIN_SHARE } else { 0 };
    free_bytes < free_bytes_min.saturating_add(margin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_begins_at_the_minimum_and_ends_above_it() {
        let check = |was_low, free, expected| assert_eq!(is_low(was_low, free, 800), expected, "{free}");
        check(false, 800, false);
        check(false, 799, true);
        check(true, 800, true);
        check(true, 899, true);
        check(true, 900, false);
        assert!(!is_low(true, 0, 0), "a minimum of nothing is never met");
    }

    #[test]
    fn the_watch_has_looked_when_it_is_started() {
        let dir = tempfile::tempdir().unwrap();
        let check = |free_bytes_min: u64, low: bool| {
            let watch = SpaceWatch::start(dir.path().to_owned(), free_bytes_min).unwrap();
            assert_eq!(watch.space().is_low(), low);
            assert!(watch.space().free_bytes() > 0);
        };
        check(1, false);
        check(u64::MAX, true);
    }
}
