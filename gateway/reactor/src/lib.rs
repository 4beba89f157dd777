//! io_uring for one shard: accept, receive, send, log writes, hand-over, wake-ups. Bytes in, bytes out.
//!
//! One ring per shard thread ([`Reactor`], not `Send`). The caller queues operations on [`Ops`], calls
//! [`Reactor::submit_and_wait`] and gets [`Completion`]s through one closure ([`Reactor::completions`]), which
//! may queue the next operations. Sockets are *direct descriptors*: a [`Slot`] is an index into the ring's own
//! file table, allocated by the kernel.
//!
//! - The ring owns every buffer while the kernel has it; a dropped reactor cancels and waits before it frees.
//! - A slot is reported closed only when nothing of it is in flight, and every request carries its slot's
//!   generation: a completion is never attributed to the slot's next owner.
//! - At most one receive and one send of a slot are in flight.
//! - Nothing is allocated per completion.
//! - What io_uring asks its users to repeat is repeated in here and counted: multishot requests that end, receives
//!   that found no buffer, short sends, short log writes.
//!
//! What is not here: what bytes mean, timers, back-pressure, and any decision about whom to serve.
#![allow(unsafe_code)]

mod accept;
mod buffers;
mod completion;
mod config;
mod counters;
mod error;
mod hand;
mod handle;
mod limits;
mod listen;
mod ops;
mod queue;
mod reactor;
mod receive;
mod send;
mod setup;
mod slots;
mod token;
mod writes;

pub use completion::{Completion, ReceiveEnd};
pub use config::{Config, Limits};
pub use counters::Counters;
pub use error::SetupError;
pub use handle::{RingHandle, ThreadWaker};
pub use limits::{KEY_MAX, WRITES_IN_FLIGHT_MAX};
pub use listen::listeners;
pub use ops::Ops;
pub use reactor::Reactor;
pub use slots::Slot;
pub use writes::{LogFile, SyncMode};
