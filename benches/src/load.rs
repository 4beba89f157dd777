//! The generator: one thread, one ring, as many connections as are asked for.
//!
//! A [`Talk`] says what a connection sends and what answers mean; a [`Fleet`] keeps its connections busy, in a closed loop
//! (so many in flight on each) or at a rate that does not wait for answers. Latency runs from the moment a message was
//! due to the moment it arrived where it was to arrive.

mod direct;
mod echo;
mod fleet;
mod raw;
mod socket;

pub use direct::{DirectTalk, direct_sizes};
pub use echo::EchoTalk;
pub use fleet::{Fleet, Sample};
pub use raw::{RawEchoTalk, RelayTalk};

use anyhow::Result;
use std::net::TcpStream;

/// How messages come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// So many in flight on every sending connection.
    InFlight(u32),
    /// So many a second, over all connections in turn.
    PerSecond(u32),
}

/// What came out of received bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Answers that allow this connection to send so many more.
    pub answered: u32,
    /// Messages that have arrived where they were to arrive, on this connection.
    pub arrived: u32,
}

/// One way of speaking, for all connections of a server. Connections are named by their index.
pub trait Talk {
    /// Makes a connection that is ready for [`Talk::compose`].
    ///
    /// # Errors
    /// The server refuses.
    fn open(&mut self, connection: usize, stream: &mut TcpStream) -> Result<()>;

    /// Whether this connection sends messages.
    fn is_sender(&self, connection: usize) -> bool;

    /// Who sent what arrives on this connection.
    fn sender_to(&self, connection: usize) -> usize;

    /// Appends the next message of a sender.
    fn compose(&mut self, connection: usize, out: &mut Vec<u8>);

    /// Takes what has come, appends what is to be answered at once.
    ///
    /// # Errors
    /// The server has said something wrong.
    fn take(&mut self, connection: usize, bytes: &mut [u8], out: &mut Vec<u8>) -> Result<Progress>;
}
