//! Sending: one buffer per slot in flight, owned by the ring until the kernel has taken all of it.

use crate::completion::Completion;
use crate::limits::TRANSFER_BYTES_MAX;
use crate::ops::Ops;
use crate::slots::{Life, Slot, SlotState};
use crate::token::{Operation, Token};
use io_uring::opcode;
use io_uring::types::Fixed;
use rustix::io::Errno;
use std::io;
use std::ops::Deref;

/// `MSG_NOSIGNAL`: a closed peer is an error, not a signal.
const NO_SIGNAL: i32 = rustix::net::SendFlags::NOSIGNAL.bits() as i32;

impl<B: Deref<Target = [u8]>> Ops<B> {
    /// Sends a buffer, all of it: what the kernel takes only in part is continued. The buffer comes back with
    /// [`Completion::Sent`]. A second send before that, or an empty one, is a bug of the caller.
    pub fn send(&mut self, slot: Slot, buffer: Vec<u8>) {
        let state = self.slots.get(slot);
        assert!(state.life == Life::Open && !state.handing, "{slot:?} is being closed or handed over");
        assert!(!state.sending, "one send of {slot:?} at a time");
        assert!(!buffer.is_empty(), "an empty send never completes with progress");
        state.sending = true;
        state.buffer = buffer;
        state.progress = 0;
        self.push_send(slot);
    }

    /// Whether a send of a slot is in flight.
    #[must_use]
    pub fn is_sending(&mut self, slot: Slot) -> bool {
        self.slots.get(slot).sending
    }

    fn push_send(&mut self, slot: Slot) {
        let rest = self.slots.get(slot).rest();
        let len = rest.len().min(TRANSFER_BYTES_MAX) as u32;
        let entry = opcode::Send::new(Fixed(slot.0), rest.as_ptr(), len).flags(NO_SIGNAL).build();
        let token = self.slots.token(Operation::Send, slot);
        self.queue.push(entry, token);
    }

    /// A send has completed.
    pub(crate) fn sent(&mut self, token: Token, result: i32) -> Option<Completion<'static>> {
        let Some((slot, state)) = self.slots.of(token) else {
            self.queue.counters.stale += 1;
            return None;
        };
        assert!(state.sending, "a send of {slot:?} completes once");
        let open = state.life == Life::Open;
        let result = match u64::try_from(result) {
            Ok(0) => Err(Errno::PIPE),
            Ok(taken) => {
                state.progress += taken;
                self.queue.counters.send_bytes += taken;
                let all = state.progress >= state.buffer.len() as u64;
                if !all && open {
                    self.queue.counters.short_sends += 1;
                    self.push_send(slot);
                    return None;
                }
                if all { Ok(()) } else { Err(Errno::CANCELED) }
            }
            Err(_) => Err(Errno::from_raw_os_error(-result)),
        };
        if open && matches!(result, Err(Errno::INTR | Errno::AGAIN)) {
            self.push_send(slot);
            return None;
        }
        let state = self.slots.get(slot);
        state.sending = false;
        let buffer = std::mem::take(&mut state.buffer);
        self.queue.counters.sends += 1;
        self.close_if_quiet(slot);
        Some(Completion::Sent { slot, buffer, result: result.map_err(io::Error::from) })
    }
}

impl SlotState {
    /// What the kernel has not taken of the buffer.
    fn rest(&self) -> &[u8] {
        &self.buffer[self.progress as usize..]
    }
}
