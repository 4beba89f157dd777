//! The ring of one shard: waiting, and giving out completions.

use crate::buffers::Buffers;
use crate::completion::Completion;
use crate::config::Config;
use crate::counters::Counters;
use crate::error::SetupError;
use crate::limits::{ACCEPT_REST_MS, COMPLETIONS_AT_ONCE, DRAIN_STEP_MS, DRAIN_STEPS_MAX};
use crate::ops::Ops;
use crate::receive::Received;
use crate::setup;
use crate::token::{Operation, Token};
use io_uring::cqueue::{self, Entry};
use io_uring::types::{CancelBuilder, Timespec};
use rustix::thread::sched_yield;
use std::io;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::Deref;
use std::time::Duration;

/// One ring. Belongs to the thread that made it.
///
/// Dropping it cancels everything, waits for the kernel to let go of all memory, and closes every slot.
pub struct Reactor<B: Deref<Target = [u8]> = Vec<u8>> {
    ops: ManuallyDrop<Ops<B>>,
    buffers: ManuallyDrop<Buffers>,
    /// The kernel takes submissions from one thread only.
    _thread: PhantomData<*const ()>,
}

impl<B: Deref<Target = [u8]>> Reactor<B> {
    /// Makes a ring for the calling thread.
    ///
    /// # Errors
    /// What the machine refuses or lacks, in words for its operator.
    pub fn new(config: &Config) -> Result<Self, SetupError> {
        let (ring, buffers) = setup::make(config)?;
        let ops = ManuallyDrop::new(Ops::new(config, ring)?);
        Ok(Self { ops, buffers: ManuallyDrop::new(buffers), _thread: PhantomData })
    }

    /// The operations of this ring.
    pub fn ops(&mut self) -> &mut Ops<B> {
        &mut self.ops
    }

    /// What this ring has done.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        self.ops.counters()
    }

    /// Submits what is queued and waits for a completion, at most for the timeout (`None`: for ever; zero: not at all).
    /// Returns early without any, after a signal for example. While a log write is in flight, a call that may not have slept
    /// offers the core to other threads.
    ///
    /// # Errors
    /// The ring is unusable: a bug, or the machine is out of memory.
    pub fn submit_and_wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let mut timeout = timeout;
        if self.ops.accept_after.is_some() {
            self.ops.arm_accepts();
            let rest = Duration::from_millis(ACCEPT_REST_MS);
            timeout = Some(timeout.map_or(rest, |timeout| timeout.min(rest)));
        }
        if !self.ops.starved.is_empty() {
            self.ops.feed_starved(self.buffers.count());
            if !self.ops.starved.is_empty() {
                timeout = Some(Duration::ZERO);
            }
        }
        let has_slept = self.ops.queue.submit_and_wait(timeout)?;
        if !has_slept && !self.ops.writes.is_empty() {
            self.offer_core();
        }
        Ok(())
    }

    /// Lets in who waits for this core. A direct write is completed by a worker of the kernel that is bound to it and has the priority
    /// of this thread, so it would wait for a tick of the scheduler, milliseconds (decision 0029); an `fdatasync` by one that may
    /// be on the core of any shard.
    fn offer_core(&mut self) {
        sched_yield();
        self.ops.queue.counters.yields += 1;
    }

    /// Gives out what is there, at most `max` completions of the kernel, and returns how many it took. The closure may
    /// queue operations, on the slot it was called for too.
    pub fn completions(&mut self, max: usize, mut each: impl FnMut(&mut Ops<B>, Completion<'_>)) -> usize {
        let mut entries = [const { MaybeUninit::<Entry>::uninit() }; COMPLETIONS_AT_ONCE];
        let mut taken = 0;
        while taken < max {
            let room = COMPLETIONS_AT_ONCE.min(max - taken);
            let batch = self.ops.queue.ring.completion().fill(&mut entries[..room]);
            if batch.is_empty() {
                break;
            }
            taken += batch.len();
            for entry in batch.iter() {
                self.complete(entry, &mut each);
            }
        }
        taken
    }

    fn complete(&mut self, entry: &Entry, each: &mut impl FnMut(&mut Ops<B>, Completion<'_>)) {
        let token = Token(entry.user_data());
        let result = entry.result();
        let more = cqueue::more(entry.flags());
        let Some(operation) = token.operation() else {
            unreachable!("a completion that nobody asked for: {token:?}");
        };
        if operation.is_outstanding() && !more {
            self.ops.queue.outstanding -= 1;
        }
        let ops = &mut *self.ops;
        let completion = match operation {
            Operation::Receive => return self.complete_receive(entry, token, more, each),
            Operation::Accept => ops.accepted(token, result, more),
            Operation::Send => ops.sent(token, result),
            Operation::Close => ops.closed(token, result).map(|slot| Completion::SlotClosed { slot }),
            Operation::Write => ops.written(token, result, false),
            Operation::Sync => ops.written(token, result, true),
            Operation::HandOver => ops.handed_over(token, result),
            Operation::Adopted => ops.adopted(token, result),
            Operation::Insert => ops.inserted(token, result),
            Operation::Event => {
                ops.event();
                Some(Completion::Woken)
            }
            Operation::Woken => {
                ops.queue.counters.wakes_received += 1;
                Some(Completion::Woken)
            }
            Operation::Wake => {
                ops.queue.counters.wakes_failed += 1;
                None
            }
            // There was nothing left to cancel: the request has completed.
            Operation::Cancel => None,
        };
        if let Some(completion) = completion {
            each(ops, completion);
        }
    }

    fn complete_receive(
        &mut self,
        entry: &Entry,
        token: Token,
        more: bool,
        each: &mut impl FnMut(&mut Ops<B>, Completion<'_>),
    ) {
        let buffer = cqueue::buffer_select(entry.flags());
        if buffer.is_some() {
            self.buffers.taken();
        }
        match (self.ops.received(token, entry.result(), more), buffer) {
            (Received::Bytes(slot), Some(buffer)) => {
                let bytes = self.buffers.lend(buffer, entry.result().unsigned_abs() as usize);
                each(&mut self.ops, Completion::Received { slot, bytes });
                self.ops.receive_again(token);
            }
            (Received::Bytes(slot), None) => unreachable!("the bytes of {slot:?} are in a buffer"),
            (Received::End(slot, end), _) => each(&mut self.ops, Completion::ReceiveEnded { slot, end }),
            (Received::Nothing, _) => {}
        }
        if let Some(buffer) = buffer {
            self.buffers.give_back(buffer);
        }
    }

    /// Cancels everything and waits until the kernel has nothing of ours. False: it did not let go.
    fn drain(&mut self) -> bool {
        let queue = &mut self.ops.queue;
        if !queue.submit_all() {
            return false;
        }
        let step = Timespec::new().nsec((DRAIN_STEP_MS * 1_000_000) as u32);
        for _ in 0..DRAIN_STEPS_MAX {
            // It fails if there is nothing to cancel, or if that takes longer than a step: the count tells which.
            let _ = queue.ring.submitter().register_sync_cancel(Some(step), CancelBuilder::any());
            queue.count_off();
            if queue.outstanding == 0 {
                return true;
            }
            if queue.submit_and_wait(Some(Duration::from_millis(DRAIN_STEP_MS))).is_err() {
                return false;
            }
            queue.count_off();
        }
        queue.outstanding == 0
    }
}

impl<B: Deref<Target = [u8]>> Drop for Reactor<B> {
    fn drop(&mut self) {
        if !self.drain() {
            // The kernel may still use the buffers: they are leaked, not freed.
            return;
        }
        // Handles keep the ring's descriptor open, so its table is emptied here: this closes the connections.
        let submitter = self.ops.queue.ring.submitter();
        let _ = submitter.unregister_files();
        let _ = submitter.unregister_buf_ring(crate::buffers::GROUP);
        // SAFETY: dropped once, here, and used nowhere after; the ring goes before the memory that was registered with it
        // (`loopback::a_reactor_dropped_with_everything_in_flight`).
        unsafe {
            ManuallyDrop::drop(&mut self.ops);
            ManuallyDrop::drop(&mut self.buffers);
        }
    }
}
