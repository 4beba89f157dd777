//! One write at a time through the gateway's reactor.

use crate::disk::ring_config;
use anyhow::{Context, Result};
use std::ops::Deref;
use std::time::{Duration, Instant};
use tidegate_reactor::{Completion, LogFile, Reactor, SyncMode};

/// A ring with at most one write in flight.
pub struct Ring<B: Deref<Target = [u8]>> {
    reactor: Reactor<B>,
    mode: SyncMode,
    began: Option<Instant>,
}

impl<B: Deref<Target = [u8]>> Ring<B> {
    /// For a thread on this core.
    ///
    /// # Errors
    /// The kernel refuses a ring.
    pub fn new(core: usize, mode: SyncMode) -> Result<Self> {
        Ok(Self { reactor: Reactor::new(&ring_config(Some(core)))?, mode, began: None })
    }

    /// Whether nothing is being written.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.began.is_none()
    }

    /// Begins a write.
    ///
    /// # Panics
    /// If one is in flight.
    pub fn write(&mut self, file: &LogFile, offset: u64, bytes: B) {
        assert!(self.is_idle(), "one write at a time");
        self.began = Some(Instant::now());
        self.reactor.ops().write_sync(1, file, offset, bytes, self.mode);
    }

    /// Waits for the write, or for so long; how long the write took if it is done.
    ///
    /// # Errors
    /// The ring or the disk failed.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<Duration>> {
        self.reactor.submit_and_wait(timeout).context("the ring failed")?;
        let mut done = None;
        self.reactor.completions(usize::MAX, |_, completion| {
            if let Completion::WriteDone { result, .. } = completion {
                done = Some(result);
            }
        });
        let Some(result) = done else { return Ok(None) };
        result.context("the disk failed")?;
        Ok(self.began.take().map(|began| began.elapsed()))
    }
}
