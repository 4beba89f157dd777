//! Receiving: one request per slot, single-shot or multishot, into a buffer that the kernel picks when bytes come.

use crate::buffers::GROUP;
use crate::completion::ReceiveEnd;
use crate::ops::Ops;
use crate::slots::{Life, Receiving, Slot};
use crate::token::{Operation, Token};
use io_uring::opcode;
use io_uring::squeue::Flags;
use io_uring::types::Fixed;
use rustix::io::Errno;
use std::io;
use std::ops::Deref;
use std::ptr;

/// What a receive completion means to the caller.
pub(crate) enum Received {
    /// Bytes.
    Bytes(Slot),
    /// Nothing will come any more.
    End(Slot, ReceiveEnd),
    /// Nothing: repeated in here, cancelled, or of a slot that is being closed.
    Nothing,
}

impl<B: Deref<Target = [u8]>> Ops<B> {
    /// Receives once: after one [`Completion::Received`](crate::Completion::Received) nothing is armed. The slot must not
    /// be receiving.
    pub fn receive_once(&mut self, slot: Slot) {
        self.start_receiving(slot, Receiving::Once);
    }

    /// Receives until [`Ops::stop_receiving`], the end of the stream, an error or the close. The slot must not be
    /// receiving.
    pub fn receive_multishot(&mut self, slot: Slot) {
        self.start_receiving(slot, Receiving::Multishot);
    }

    /// Takes no more bytes: they wait in the socket. Those on their way are still reported. May be followed by
    /// [`Ops::receive_multishot`] at any time.
    pub fn stop_receiving(&mut self, slot: Slot) {
        let state = self.slots.get(slot);
        if state.receiving == Receiving::Off {
            return;
        }
        state.receiving = Receiving::Off;
        if state.armed {
            let token = self.slots.token(Operation::Receive, slot);
            self.queue.cancel(token);
        }
    }

    /// Whether the owner of a slot wants bytes: from a start of receiving to its end.
    #[must_use]
    pub fn is_receiving(&mut self, slot: Slot) -> bool {
        self.slots.get(slot).receiving != Receiving::Off
    }

    fn start_receiving(&mut self, slot: Slot, receiving: Receiving) {
        let state = self.slots.get(slot);
        assert!(state.life == Life::Open && !state.handing, "{slot:?} is being closed or handed over");
        assert!(state.receiving == Receiving::Off, "{slot:?} is receiving already");
        state.receiving = receiving;
        // One that is being cancelled is armed again when it has ended, a starved one when there are buffers.
        if !state.armed && !state.starved {
            self.arm_receive(slot);
        }
    }

    fn arm_receive(&mut self, slot: Slot) {
        let state = self.slots.get(slot);
        assert!(!state.armed && state.life == Life::Open, "one receive of {slot:?} at a time");
        state.armed = true;
        let entry = match state.receiving {
            Receiving::Off => unreachable!("nothing is armed for {slot:?}, which does not receive"),
            Receiving::Once => opcode::Recv::new(Fixed(slot.0), ptr::null_mut(), 0)
                .buf_group(GROUP)
                .build()
                .flags(Flags::BUFFER_SELECT),
            Receiving::Multishot => opcode::RecvMulti::new(Fixed(slot.0), GROUP).build(),
        };
        let token = self.slots.token(Operation::Receive, slot);
        self.queue.push(entry, token);
    }

    /// A receive has completed.
    pub(crate) fn received(&mut self, token: Token, result: i32, more: bool) -> Received {
        let Some((slot, state)) = self.slots.of(token) else {
            self.queue.counters.stale += 1;
            return Received::Nothing;
        };
        state.armed = more;
        if state.life != Life::Open {
            self.close_if_quiet(slot);
            return Received::Nothing;
        }
        if result > 0 {
            if state.receiving == Receiving::Once && !more {
                state.receiving = Receiving::Off;
            }
            self.queue.counters.receives += 1;
            self.queue.counters.receive_bytes += u64::from(result.unsigned_abs());
            return Received::Bytes(slot);
        }
        assert!(!more, "a multishot receive ends with the end of its stream and with every error");
        if result == 0 {
            state.receiving = Receiving::Off;
            return Received::End(slot, ReceiveEnd::Eof);
        }
        self.receive_failed(slot, Errno::from_raw_os_error(-result))
    }

    fn receive_failed(&mut self, slot: Slot, errno: Errno) -> Received {
        let state = self.slots.get(slot);
        let wanted = state.receiving != Receiving::Off;
        match errno {
            Errno::NOBUFS => {
                self.queue.counters.no_buffers += 1;
                if wanted {
                    state.starved = true;
                    let generation = state.generation;
                    self.starved.push_back((slot, generation));
                }
            }
            Errno::CANCELED | Errno::INTR | Errno::AGAIN => {
                if wanted {
                    self.arm_receive(slot);
                }
            }
            errno => {
                state.receiving = Receiving::Off;
                return Received::End(slot, ReceiveEnd::Error(io::Error::from(errno)));
            }
        }
        Received::Nothing
    }

    /// The caller has seen a slot's bytes: a multishot receive that ended with them goes on.
    pub(crate) fn receive_again(&mut self, token: Token) {
        let Some((slot, state)) = self.slots.of(token) else {
            return;
        };
        let idle = !state.armed && !state.starved && state.life == Life::Open;
        if idle && state.receiving == Receiving::Multishot {
            self.queue.counters.rearms += 1;
            self.arm_receive(slot);
        }
    }

    /// Arms the longest-waiting slots that found no buffer, as many as there are buffers; the rest follows at the next
    /// wait, which does not sleep until then.
    pub(crate) fn feed_starved(&mut self, buffers: u16) {
        for _ in 0..buffers {
            let Some((slot, generation)) = self.starved.pop_front() else {
                return;
            };
            let Some((slot, state)) = self.slots.of(Token::new(Operation::Receive, generation, slot.0))
            else {
                continue;
            };
            state.starved = false;
            if state.life == Life::Open && state.receiving != Receiving::Off && !state.armed {
                self.queue.counters.rearms += 1;
                self.arm_receive(slot);
            }
        }
    }
}
