//! The sleep flag of one shard, and why no wake-up is lost.
//!
//! The sleeper stores the flag, then looks at its rings. A peer publishes to a ring, then looks at the flag.
//! Each has a sequentially consistent fence between its store and its load, so at least one of the two sees
//! the other's store: either the sleeper finds the frame, or the peer finds the flag and wakes it. The peer
//! takes the flag by exchange, so that one sleep is woken at most once.

#[cfg(all(test, loom))]
use loom::sync::atomic::{AtomicBool, Ordering, fence};
#[cfg(not(all(test, loom)))]
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// Alone on its cache lines (two: adjacent lines are fetched in pairs), because peers read it once per batch.
#[repr(align(128))]
pub(crate) struct SleepFlag(AtomicBool);

impl SleepFlag {
    pub(crate) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Publishes the flag and looks again. True: nothing was found and the caller may sleep. False: something
    /// was found, and the flag is down again.
    pub(crate) fn announce(&self, found: impl FnOnce() -> bool) -> bool {
        // Released, so that a wake for this sleep comes after whatever wake the sleeper took before it.
        self.0.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        if found() {
            self.awake();
            return false;
        }
        true
    }

    /// Takes the flag down after sleeping, however the sleep ended. A swap, because peers exchange it: all
    /// takings of this sleep's flag stand in one order, before the next sleep raises it.
    pub(crate) fn awake(&self) {
        self.0.swap(false, Ordering::Relaxed);
    }

    /// Whether the shard sleeps and this caller is the one to wake it. The caller has called [`published`]
    /// since it pushed.
    pub(crate) fn take(&self) -> bool {
        let asleep = self.0.load(Ordering::Relaxed);
        asleep && self.0.compare_exchange(true, false, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }
}

/// What a ring's reader sees of a writer that sleeps until there is room. Only the writer changes it, before it raises
/// its sleep flag and after it has taken that down: a reader that took it down itself could do so for an older sleep,
/// and leave the next one without a wake.
pub(crate) struct Starved(AtomicBool);

impl Starved {
    pub(crate) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// The writer is about to sleep, or has slept.
    pub(crate) fn set(&self, starved: bool) {
        self.0.store(starved, Ordering::Relaxed);
    }

    /// Whether a pop is what the writer waits for. The caller has called [`published`] since it popped.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Orders everything published to rings before the flags that are read after it: once per batch.
pub(crate) fn published() {
    fence(Ordering::SeqCst);
}

#[cfg(all(test, loom))]
#[path = "sleep_tests.rs"]
mod tests;
