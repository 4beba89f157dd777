//! What can be asked of a ring. Requests are queued here and reach the kernel with the next submission.

use crate::accept::Listener;
use crate::config::Config;
use crate::counters::Counters;
use crate::error::SetupError;
use crate::hand::Insertion;
use crate::handle::{Event, RingHandle, ThreadWaker};
use crate::queue::Queue;
use crate::slots::{Life, Slot, Slots};
use crate::token::{Operation, Token};
use crate::writes::Writes;
use io_uring::types::{Fd, Fixed};
use io_uring::{IoUring, opcode};
use rustix::event::{EventfdFlags, eventfd};
use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// The operations of one ring. `B` is what owns the bytes of a log write, a reference-counted batch for example.
///
/// Naming a slot that is not open is a bug of the caller and panics.
pub struct Ops<B = Vec<u8>> {
    pub(crate) queue: Queue,
    pub(crate) slots: Slots,
    pub(crate) listeners: Vec<Listener>,
    /// When accepting goes on after an error that would repeat at once.
    pub(crate) accept_after: Option<Instant>,
    /// Slots whose receive found no buffer, with their generation, oldest first.
    pub(crate) starved: VecDeque<(Slot, u32)>,
    pub(crate) writes: Writes<B>,
    pub(crate) insertions: Vec<Option<Box<Insertion>>>,
    event: Arc<Event>,
    /// Where the kernel writes the event descriptor's count.
    event_count: Box<UnsafeCell<u64>>,
    handle: RingHandle,
}

impl<B: Deref<Target = [u8]>> Ops<B> {
    pub(crate) fn new(config: &Config, ring: IoUring) -> Result<Self, SetupError> {
        let step = |step| move |error: io::Error| SetupError::Step { step, error };
        // SAFETY: the ring owns its descriptor and lives through this statement.
        let descriptor = unsafe { BorrowedFd::borrow_raw(ring.as_raw_fd()) };
        let handle = rustix::io::fcntl_dupfd_cloexec(descriptor, 0)
            .map_err(|errno| step("duplicate the ring's descriptor")(errno.into()))?;
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC)
            .map_err(|errno| step("make an event descriptor")(errno.into()))?;
        let mut ops = Self {
            queue: Queue::new(ring),
            slots: Slots::new(config.slots),
            listeners: Vec::new(),
            accept_after: None,
            starved: VecDeque::new(),
            writes: Writes::new(),
            insertions: Vec::new(),
            event: Arc::new(Event { descriptor, pending: AtomicBool::new(false) }),
            event_count: Box::new(UnsafeCell::new(0)),
            handle: RingHandle(Arc::new(handle)),
        };
        ops.arm_event();
        Ok(ops)
    }

    /// What this ring has done.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.queue.counters
    }

    /// Slots in use, those being closed included.
    #[must_use]
    pub fn slots_open(&self) -> u32 {
        self.slots.open()
    }

    /// Slots that there are.
    #[must_use]
    pub fn slots_max(&self) -> u32 {
        self.slots.len()
    }

    /// What other rings need to reach this one.
    #[must_use]
    pub fn handle(&self) -> RingHandle {
        self.handle.clone()
    }

    /// What a thread without a ring needs to wake this one.
    #[must_use]
    pub fn waker(&self) -> ThreadWaker {
        ThreadWaker(Arc::clone(&self.event))
    }

    /// Closes a slot: cancels what is in flight, gives its buffers back (a cancelled send still reports
    /// [`Completion::Sent`]), and reports [`Completion::SlotClosed`] when nothing is left. No bytes are reported from now
    /// on. Closing a slot that is being closed does nothing.
    ///
    /// [`Completion::Sent`]: crate::Completion::Sent
    /// [`Completion::SlotClosed`]: crate::Completion::SlotClosed
    pub fn close(&mut self, slot: Slot) {
        if self.slots.get(slot).life != Life::Open {
            return;
        }
        self.begin_close(slot);
        let state = self.slots.get(slot);
        let (armed, sending) = (state.armed, state.sending);
        for (in_flight, operation) in [(armed, Operation::Receive), (sending, Operation::Send)] {
            if in_flight {
                let token = self.slots.token(operation, slot);
                self.queue.cancel(token);
            }
        }
    }

    /// Takes no new requests for a slot, and closes it when nothing is in flight.
    pub(crate) fn begin_close(&mut self, slot: Slot) {
        let state = self.slots.get(slot);
        assert!(state.life == Life::Open, "a slot is closed once");
        state.life = Life::Closing;
        state.receiving = crate::slots::Receiving::Off;
        self.close_if_quiet(slot);
    }

    /// A request of a slot has completed: if it was the last one of a closing slot, the descriptor goes.
    pub(crate) fn close_if_quiet(&mut self, slot: Slot) {
        let state = self.slots.get(slot);
        if state.life != Life::Closing || !state.is_quiet() {
            return;
        }
        state.life = Life::Closed;
        let token = self.slots.token(Operation::Close, slot);
        self.queue.push(opcode::Close::new(Fixed(slot.0)).build(), token);
    }

    /// The descriptor is out of the table.
    pub(crate) fn closed(&mut self, token: Token, result: i32) -> Option<Slot> {
        let Some((slot, _)) = self.slots.of(token) else {
            self.queue.counters.stale += 1;
            return None;
        };
        assert!(
            result >= 0,
            "closing {slot:?}, which was open, failed: {}",
            io::Error::from_raw_os_error(-result)
        );
        self.slots.release(slot);
        self.queue.counters.closes += 1;
        Some(slot)
    }

    /// Reads the event descriptor, which completes at the next wake from a thread.
    fn arm_event(&mut self) {
        let entry = opcode::Read::new(
            Fd(self.event.descriptor.as_raw_fd()),
            self.event_count.get().cast::<u8>(),
            size_of::<u64>() as u32,
        );
        self.queue.push(entry.build(), Token::new(Operation::Event, 0, 0));
    }

    /// A thread has woken this ring. What it did before is seen by whoever looks after this.
    pub(crate) fn event(&mut self) {
        self.event.pending.store(false, Ordering::SeqCst);
        self.queue.counters.wakes_received += 1;
        self.arm_event();
    }
}
