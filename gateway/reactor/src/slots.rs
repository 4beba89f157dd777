//! The table of slots: what each direct descriptor is doing.

use crate::limits::GENERATION_MAX;
use crate::token::{Operation, Token};

/// A direct descriptor of one ring: an index into its file table. Valid from [`Completion::Accepted`] or
/// [`Completion::Adopted`] to [`Completion::SlotClosed`]; then the kernel gives the same index to another.
///
/// [`Completion::Accepted`]: crate::Completion::Accepted
/// [`Completion::Adopted`]: crate::Completion::Adopted
/// [`Completion::SlotClosed`]: crate::Completion::SlotClosed
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

impl Slot {
    /// The slot as an index, from 0 to below the configured number of slots.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// How bytes are received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Receiving {
    /// Not at all.
    #[default]
    Off,
    /// One buffer, then nothing is armed.
    Once,
    /// Until it is stopped.
    Multishot,
}

/// Where a slot is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Life {
    /// The kernel may give it to somebody.
    #[default]
    Free,
    /// In use.
    Open,
    /// No new request is taken; those in flight are being cancelled.
    Closing,
    /// The close itself is in flight.
    Closed,
}

/// One slot. Kept small: there is one per connection.
#[derive(Debug, Default)]
pub(crate) struct SlotState {
    pub(crate) generation: u32,
    pub(crate) life: Life,
    /// What the owner wants.
    pub(crate) receiving: Receiving,
    /// A receive is in flight.
    pub(crate) armed: bool,
    /// The slot waits in the queue of those that found no buffer.
    pub(crate) starved: bool,
    /// A send is in flight.
    pub(crate) sending: bool,
    /// A hand-over is in flight.
    pub(crate) handing: bool,
    /// Bytes of the buffer that the kernel has taken, or the key of the hand-over.
    pub(crate) progress: u64,
    /// What is being sent.
    pub(crate) buffer: Vec<u8>,
}

const _: () = assert!(size_of::<SlotState>() <= 48);

impl SlotState {
    /// Whether the kernel has nothing of this slot.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.armed && !self.sending && !self.handing
    }
}

/// All slots of a ring.
pub(crate) struct Slots {
    states: Box<[SlotState]>,
    open: u32,
}

impl Slots {
    pub(crate) fn new(count: u32) -> Self {
        Self { states: (0..count).map(|_| SlotState::default()).collect(), open: 0 }
    }

    pub(crate) fn len(&self) -> u32 {
        self.states.len() as u32
    }

    /// Slots in use, closing ones included.
    pub(crate) fn open(&self) -> u32 {
        self.open
    }

    /// The state of a slot in use. Asking for another one is a bug of the caller.
    pub(crate) fn get(&mut self, slot: Slot) -> &mut SlotState {
        let state = &mut self.states[slot.index()];
        assert!(state.life != Life::Free, "{slot:?} is not open");
        state
    }

    /// The slot that a completion belongs to; `None` if that one has been closed since.
    pub(crate) fn of(&mut self, token: Token) -> Option<(Slot, &mut SlotState)> {
        let slot = Slot(token.index());
        let state = self.states.get_mut(slot.index())?;
        let same = state.life != Life::Free && state.generation == token.generation();
        same.then_some((slot, state))
    }

    /// The kernel has put a connection into a slot.
    pub(crate) fn occupy(&mut self, index: u32) -> Slot {
        let state = &mut self.states[index as usize];
        assert!(state.life == Life::Free, "the kernel gave away slot {index}, which is in use");
        assert!(state.is_quiet() && !state.starved, "a free slot has nothing in flight");
        state.life = Life::Open;
        state.generation = if state.generation == GENERATION_MAX { 0 } else { state.generation + 1 };
        self.open += 1;
        Slot(index)
    }

    /// The kernel has taken the descriptor out of the table.
    pub(crate) fn release(&mut self, slot: Slot) {
        let state = self.get(slot);
        assert!(
            state.life == Life::Closed && state.is_quiet(),
            "{slot:?} is released with requests in flight"
        );
        *state = SlotState { generation: state.generation, ..SlotState::default() };
        self.open -= 1;
    }

    pub(crate) fn token(&mut self, operation: Operation, slot: Slot) -> Token {
        Token::new(operation, self.get(slot).generation, slot.0)
    }
}
