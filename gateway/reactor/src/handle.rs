//! What other threads hold of a ring: a handle to reach it through the kernel, and a waker for threads without one.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Names a ring to other rings, for [`Ops::wake`] and [`Ops::hand_over`]. Keeps the ring's descriptor open, so that
/// its number never comes to mean something else; the ring itself ends with its reactor.
///
/// [`Ops::wake`]: crate::Ops::wake
/// [`Ops::hand_over`]: crate::Ops::hand_over
#[derive(Clone, Debug)]
pub struct RingHandle(pub(crate) Arc<OwnedFd>);

impl RingHandle {
    pub(crate) fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Wakes a ring from a thread that has none, through an event descriptor.
#[derive(Clone, Debug)]
pub struct ThreadWaker(pub(crate) Arc<Event>);

/// An event descriptor and whether it has been written since the ring last read it.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) descriptor: OwnedFd,
    pub(crate) pending: AtomicBool,
}

impl ThreadWaker {
    /// Makes the ring report [`Completion::Woken`] after everything this thread did before. Wakes that the ring has not
    /// yet seen are one.
    ///
    /// [`Completion::Woken`]: crate::Completion::Woken
    pub fn wake(&self) {
        if !self.0.pending.swap(true, Ordering::SeqCst) {
            // It fails only at a count of 2^64 - 2, which one write per reading never reaches.
            let written = rustix::io::write(&self.0.descriptor, &1u64.to_ne_bytes());
            assert!(written.is_ok(), "an event descriptor takes every count below its limit");
        }
    }
}
