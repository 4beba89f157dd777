//! End-to-end tests against the real binary.
//!
//! The tests are in `tests/gateway`; here is what drives them. A test starts the programs that operators start
//! ([`program`], [`Gateway`]), and talks to them over real sockets in one of two ways: [`Device`] is the SDK, [`Wire`]
//! says exactly the bytes that a test wants said and waits for exactly one answer. [`Sender`] is load, which an
//! [`ExpectedFile`] tells of, [`Conversation`] is everything that a conversation holds, read back and compared with it.
//!
//! Nothing here asserts on time: waits are long and only bound a test that would hang. Whatever is not as it should be
//! panics, since only tests use this crate.
#![forbid(unsafe_code)]

mod admin;
mod conversation;
mod device;
pub mod disk;
mod expected;
mod frame;
mod gateway;
pub mod limits;
pub mod program;
mod scene;
mod sender;
mod wire;

pub use admin::{Answer, Stats, get};
pub use conversation::{Conversation, Entry};
pub use device::Device;
pub use expected::{Acknowledged, Command, Expected, ExpectedFile, Founded};
pub use frame::{Arrived, OwnedFrame};
pub use gateway::{Ended, Gateway, Setup, Start, Starting};
pub use scene::Scene;
pub use sender::Sender;
pub use wire::{NotOpen, Refused, Wire, message, text_of, user_at};
