//! Between rings: wakes, descriptors handed over, and the process's own descriptors put into the table.

use crate::completion::Completion;
use crate::handle::RingHandle;
use crate::limits::KEY_MAX;
use crate::ops::Ops;
use crate::slots::{Life, Receiving, Slot};
use crate::token::{Operation, Token};
use io_uring::opcode;
use io_uring::types::{DestinationSlot, Fd, Fixed};
use std::cell::UnsafeCell;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// `IORING_FILE_INDEX_ALLOC`: the kernel picks the slot.
const ANY_SLOT: i32 = -1;

/// A descriptor on its way into the table.
pub(crate) struct Insertion {
    /// Open until the table has it.
    _descriptor: OwnedFd,
    /// The descriptor's number; the kernel writes the slot's index over it.
    index: UnsafeCell<RawFd>,
    key: u64,
}

impl<B: Deref<Target = [u8]>> Ops<B> {
    /// Wakes another ring: its next completions begin with or contain [`Completion::Woken`]. Nothing is reported here; if
    /// that ring is gone, nobody hears it.
    pub fn wake(&mut self, target: &RingHandle) {
        self.queue.counters.wakes_sent += 1;
        let woken = Token::new(Operation::Woken, 0, 0);
        let entry = opcode::MsgRingData::new(Fd(target.raw()), 0, woken.0, None).build();
        self.queue.push_silent(entry, Token::new(Operation::Wake, 0, 0));
    }

    /// Passes a slot to another ring, which allocates the index and reports [`Completion::Adopted`] with the same key, at
    /// most [`KEY_MAX`](crate::KEY_MAX). Nothing of the slot may be armed or in flight. This ring reports
    /// [`Completion::HandedOver`] and closes its own slot if that succeeded.
    pub fn hand_over(&mut self, slot: Slot, target: &RingHandle, key: u64) {
        assert!(key <= KEY_MAX, "a key has 56 bits");
        let state = self.slots.get(slot);
        assert!(
            state.life == Life::Open && state.is_quiet(),
            "{slot:?} is handed over with requests in flight"
        );
        assert!(state.receiving == Receiving::Off, "{slot:?} is handed over while it receives");
        state.handing = true;
        state.progress = key;
        let adopted = Token::adopted(key).0;
        let any = DestinationSlot::auto_target();
        let entry = opcode::MsgRingSendFd::new(Fd(target.raw()), Fixed(slot.0), any, adopted).build();
        let token = self.slots.token(Operation::HandOver, slot);
        self.queue.push(entry, token);
    }

    /// Whether nothing of a slot is armed or in flight, so that [`Ops::hand_over`] may be called.
    #[must_use]
    pub fn is_quiet(&mut self, slot: Slot) -> bool {
        let state = self.slots.get(slot);
        state.life == Life::Open && state.is_quiet() && state.receiving == Receiving::Off
    }

    /// Puts a descriptor of the process, a connected socket for example, into the table. [`Completion::Adopted`] names
    /// its slot, or [`Completion::InsertFailed`] says why there is none.
    pub fn insert(&mut self, descriptor: OwnedFd, key: u64) {
        let index = UnsafeCell::new(descriptor.as_raw_fd());
        let insertion = Box::new(Insertion { _descriptor: descriptor, index, key });
        let entry = opcode::FilesUpdate::new(insertion.index.get(), 1).offset(ANY_SLOT).build();
        let place = match self.insertions.iter().position(Option::is_none) {
            Some(place) => place,
            None => {
                self.insertions.push(None);
                self.insertions.len() - 1
            }
        };
        self.insertions[place] = Some(insertion);
        self.queue.push(entry, Token::new(Operation::Insert, 0, place as u32));
    }

    /// An insertion has completed.
    pub(crate) fn inserted(&mut self, token: Token, result: i32) -> Option<Completion<'static>> {
        let insertion = self.insertions[token.index() as usize].take()?;
        let key = insertion.key;
        if result < 1 {
            let error = io::Error::from_raw_os_error(-result);
            return Some(Completion::InsertFailed { key, error });
        }
        let index = insertion.index.into_inner();
        let Ok(index) = u32::try_from(index) else {
            unreachable!("the kernel wrote the index of a slot");
        };
        Some(Completion::Adopted { slot: self.slots.occupy(index), key })
    }

    /// Another ring has sent a slot.
    pub(crate) fn adopted(&mut self, token: Token, result: i32) -> Option<Completion<'static>> {
        let Ok(index) = u32::try_from(result) else {
            unreachable!("a hand-over that fails is reported to its source");
        };
        self.queue.counters.adopted += 1;
        Some(Completion::Adopted { slot: self.slots.occupy(index), key: token.key() })
    }

    /// A hand-over has completed at its source.
    pub(crate) fn handed_over(&mut self, token: Token, result: i32) -> Option<Completion<'static>> {
        let Some((slot, state)) = self.slots.of(token) else {
            self.queue.counters.stale += 1;
            return None;
        };
        assert!(state.handing, "a hand-over completes once");
        state.handing = false;
        let (key, open) = (state.progress, state.life == Life::Open);
        let result = if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(()) };
        self.queue.counters.handed_over += u64::from(result.is_ok());
        match (&result, open) {
            (Ok(()), true) => self.begin_close(slot),
            _ => self.close_if_quiet(slot),
        }
        Some(Completion::HandedOver { slot, key, result })
    }
}
