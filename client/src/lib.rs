//! The client SDK of Tidegate.
//!
//! [`Machine`] is all of the protocol and no IO: bytes, times and a seed go in, bytes and [`Event`]s come out. Thousands
//! run in one process, and the simulator runs it as it is. [`shell`] puts a socket and a clock around one machine;
//! nothing else here knows of either.
//!
//! # Driving a machine
//! 1. [`Machine::poll_connect`] says when to open a socket. Tell [`Machine::connected`] or [`Machine::disconnected`].
//! 2. Received bytes go to [`Machine::received`], which tells its events to a closure.
//! 3. After every call, [`Machine::transmit`] appends what is to be written; [`Machine::wants_close`] says when the socket
//!    is to be closed after that.
//! 4. At [`Machine::next_timeout`], call [`Machine::tick`].
//!
//! # What must be durable before what
//! - The attempt that `poll_connect` gives: before [`Machine::connected`].
//! - A command that was taken by a `send`, and what [`Event::Refused`] and [`Event::Renumbered`] say: before the next
//!   [`Machine::transmit`].
//! - What the events marked *store* say: before [`Machine::stored`]. The gateway forgets what is acknowledged then.
//! - What [`Event::Sent`] says: whenever it suits; what is lost is sent again, and answered as a duplicate.
//!
//! [`Machine::snapshot`] gives the whole durable state at any time; an application with a database writes what each event
//! says instead, see [`Stored`].
#![forbid(unsafe_code)]

mod config;
mod conversation;
mod error;
mod event;
pub mod limits;
mod machine;
mod order;
mod outbox;
mod random;
mod request;
pub mod shell;
mod stored;

pub use config::{Backfill, Config};
pub use error::{RequestError, SendError};
pub use event::{ConnectionState, Event, RequestFailure, RequestHandle, Sink, Source, StopReason};
pub use machine::{Machine, StoreMark};
pub use outbox::{CancelError, Pending, PendingState};
pub use stored::{Command, MembersCommand, Stored, StoredCommand, StoredConversation, StoredCreation};
pub use tidegate_schema::Encoder;
