//! Not faster than allowed: the disk belongs to the shards.

use super::RetentionError;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tidegate_storage_log::{Medium, MediumError};

/// How long one sleep lasts at most, so that a stop does not wait.
const SLEEP_MAX: Duration = Duration::from_millis(50);
/// What was not used for this long is not saved up.
const SAVED_MAX: Duration = Duration::from_secs(1);

/// Counts bytes and sleeps when there were too many.
#[derive(Debug)]
pub(super) struct Pace<'a> {
    bytes_per_second: u64,
    stop: &'a AtomicBool,
    since: Cell<Instant>,
    taken: Cell<u64>,
}

impl<'a> Pace<'a> {
    /// 0 bytes in a second: as fast as it goes.
    pub(super) fn new(bytes_per_second: u64, stop: &'a AtomicBool) -> Self {
        Self { bytes_per_second, stop, since: Cell::new(Instant::now()), taken: Cell::new(0) }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(super) fn stop_if_asked(&self) -> Result<(), RetentionError> {
        if self.is_stopped() { Err(RetentionError::Stopped) } else { Ok(()) }
    }

    /// Takes note of bytes read or written, and waits until they were allowed.
    pub(super) fn take(&self, bytes: u64) {
        if self.bytes_per_second == 0 {
            return;
        }
        self.taken.set(self.taken.get() + bytes);
        let due = Duration::from_secs_f64(self.taken.get() as f64 / self.bytes_per_second as f64);
        loop {
            let elapsed = self.since.get().elapsed();
            if elapsed >= due {
                if elapsed > due + SAVED_MAX || elapsed > SAVED_MAX {
                    self.since.set(Instant::now());
                    self.taken.set(0);
                }
                return;
            }
            if self.is_stopped() {
                return;
            }
            thread::sleep((due - elapsed).min(SLEEP_MAX));
        }
    }
}

/// A medium read at a pace.
pub(super) struct Paced<'m, 'p, M> {
    pub(super) medium: &'m mut M,
    pub(super) pace: &'m Pace<'p>,
}

impl<M: Medium> Medium for Paced<'_, '_, M> {
    fn segment_len(&self, segment: u32) -> Result<u64, MediumError> {
        self.medium.segment_len(segment)
    }

    fn read(&mut self, segment: u32, offset: u64, into: &mut [u8]) -> Result<usize, MediumError> {
        let count = self.medium.read(segment, offset, into)?;
        self.pace.take(count as u64);
        Ok(count)
    }

    fn generation(&mut self, segment: u32) -> Result<u64, MediumError> {
        self.medium.generation(segment)
    }

    fn inflates(&self) -> bool {
        self.medium.inflates()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_ends_every_wait() {
        let stop = AtomicBool::new(true);
        let pace = Pace::new(1, &stop);
        // At a byte in a second this would take a day.
        pace.take(100_000);
        assert!(pace.stop_if_asked().is_err());
    }

    #[test]
    fn bytes_wait_until_they_were_allowed() {
        let stop = AtomicBool::new(false);
        let pace = Pace::new(1_000_000, &stop);
        let began = Instant::now();
        (0..20).for_each(|_| pace.take(5_000));
        assert!(began.elapsed() >= Duration::from_millis(100), "100 kB at 1 MB/s");
    }
}
