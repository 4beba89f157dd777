//! One machine with a socket and a clock around it, on the caller's thread.
//!
//! Nothing happens between two calls: whoever has nothing else to do waits in [`BlockingClient::receive`], which reads,
//! writes, keeps the heartbeat and reconnects by itself. What one `receive` gave counts as stored when the next is called.
//!
//! ```no_run
//! use std::time::Duration;
//! use tidegate_client::shell::{BlockingClient, Options, Received, new_device};
//! use tidegate_client::{Config, Stored};
//! use tidegate_ids::{ConversationId, UserId};
//!
//! let mut client = BlockingClient::new(Options {
//!     address: "127.0.0.1:8080".to_owned(),
//!     token: b"a JSON web token".to_vec(),
//!     stored: Stored::new(new_device()),
//!     config: Config::default(),
//! });
//! client.connect(Duration::from_secs(10))?;
//! let conversation = ConversationId::direct(client.machine().user(), UserId(2));
//! client.send_text(conversation, "hello")?;
//! while let Some(received) = client.receive(Duration::from_secs(5)) {
//!     if let Received::Message(record) = received {
//!         println!("{}: {} bytes", record.stamp.sender, record.message.len());
//!     }
//! }
//! let stored = client.close(); // to be kept for the next run
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod received;
mod socket;

#[cfg(test)]
mod tests;

use crate::config::Config;
use crate::error::SendError;
use crate::event::{ConnectionState, StopReason};
use crate::machine::{Machine, StoreMark};
use crate::stored::Stored;
use core::fmt;
use core::time::Duration;
use socket::{Read, Socket};
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Instant;
use tidegate_ids::{ClientId, ConversationId, DeviceId, INTEGER_MAX, MonotonicNs};
use tidegate_schema::{Encoder, MessageFields};

pub use received::{Received, Record};

/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;

/// The longest wait of one read, so that a wait without an end still notices what the machine wants.
const READ_WAIT: Duration = Duration::from_secs(1);

/// What a [`BlockingClient`] needs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Host and port; every address that it resolves to is tried.
    pub address: String,
    /// A JSON web token.
    pub token: Vec<u8>,
    /// Of the last run, or [`Stored::new`].
    pub stored: Stored,
    /// What the application chooses.
    pub config: Config,
}

/// Why [`BlockingClient::connect`] gave up waiting. The client goes on trying in later calls, except after a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// Not in this time.
    TimedOut,
    /// The gateway does not take the token.
    NeedsToken,
    /// The gateway does not want this device.
    Stopped(StopReason),
}

/// See the module.
#[derive(Debug)]
pub struct BlockingClient {
    machine: Machine,
    encoder: Encoder,
    address: String,
    socket: Option<Socket>,
    out: Vec<u8>,
    input: Vec<u8>,
    waiting: VecDeque<(Received, Option<StoreMark>)>,
    given: Option<StoreMark>,
    started: Instant,
}

impl BlockingClient {
    /// A client that has not connected yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let Options { address, token, stored, config } = options;
        Self {
            machine: Machine::new(Arc::new(config), &token, stored, random()),
            encoder: Encoder::new(),
            address,
            socket: None,
            out: Vec::new(),
            input: vec![0; READ_BYTES],
            waiting: VecDeque::new(),
            given: None,
            started: Instant::now(),
        }
    }

    /// Waits until commands are sent. Events that come meanwhile wait for [`BlockingClient::receive`].
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect(&mut self, timeout: Duration) -> Result<(), ConnectError> {
        let end = Instant::now() + timeout;
        loop {
            match self.machine.connection() {
                ConnectionState::Ready => return Ok(()),
                ConnectionState::NeedsToken => return Err(ConnectError::NeedsToken),
                ConnectionState::Stopped(reason) => return Err(ConnectError::Stopped(reason)),
                ConnectionState::Offline(_) | ConnectionState::Connecting | ConnectionState::Syncing => {}
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ConnectError::TimedOut);
            }
            self.turn(left);
        }
    }

    /// Sends a message, also while there is no connection: then it waits in the outbox.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send(
        &mut self,
        conversation: ConversationId,
        fields: &MessageFields<'_>,
    ) -> Result<ClientId, SendError> {
        let mut message = Vec::new();
        self.encoder.message(&mut message, fields).map_err(|_| SendError::TooLarge)?;
        let client_id = self.machine.send(conversation, &message)?;
        self.write();
        Ok(client_id)
    }

    /// [`BlockingClient::send`] of a text.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send_text(&mut self, conversation: ConversationId, text: &str) -> Result<ClientId, SendError> {
        self.send(conversation, &MessageFields { body: text.as_bytes(), ..MessageFields::default() })
    }

    /// Waits for the next event, at most so long; none if nothing came, or never will because the client is stopped.
    /// What the call before gave counts as stored now.
    pub fn receive(&mut self, timeout: Duration) -> Option<Received> {
        if let Some(mark) = self.given.take() {
            let now = self.now();
            self.machine.stored(mark, now);
        }
        let end = Instant::now() + timeout;
        loop {
            if let Some((received, mark)) = self.waiting.pop_front() {
                self.given = mark.or(self.given);
                return Some(received);
            }
            let left = end.saturating_duration_since(Instant::now());
            self.turn(left);
            let silent = self.waiting.is_empty();
            if silent && (left.is_zero() || self.is_stopped()) {
                return None;
            }
        }
    }

    /// Does something with the machine, such as `create_group` or `mark_read`, and writes what that leads to.
    pub fn with<T>(&mut self, act: impl FnOnce(&mut Machine, MonotonicNs) -> T) -> T {
        let now = self.now();
        let result = act(&mut self.machine, now);
        self.write();
        result
    }

    /// The machine: what waits, who this is.
    #[must_use]
    pub const fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Closes the connection; gives what is to be kept. Events that were not received are not in it, nor acknowledged:
    /// keep them apart, or receive them first.
    #[must_use]
    pub fn close(mut self) -> Stored {
        if let Some(mark) = self.given.take() {
            let now = self.now();
            self.machine.stored(mark, now);
        }
        let waiting = &mut self.waiting;
        self.machine
            .close(&mut |event| waiting.extend(Received::from_event(&event).map(|event| (event, None))));
        self.write();
        self.machine.snapshot()
    }

    fn is_stopped(&self) -> bool {
        let state = self.machine.connection();
        matches!(state, ConnectionState::Stopped(_) | ConnectionState::NeedsToken)
    }

    /// One round: timers, connecting, writing, reading for at most so long.
    fn turn(&mut self, wait: Duration) {
        let now = self.now();
        self.tell(|machine, sink| machine.tick(now, sink));
        if self.socket.is_none() {
            self.open();
        }
        self.write();
        let next = self.machine.next_timeout().map(|at| Duration::from_nanos(at.since(self.now())));
        let wait = wait.min(READ_WAIT).min(next.unwrap_or(READ_WAIT));
        let Some(socket) = &mut self.socket else {
            if self.waiting.is_empty() && !self.is_stopped() {
                std::thread::sleep(wait);
            }
            return;
        };
        match socket.read(&mut self.input, wait) {
            Read::Nothing => {}
            Read::Bytes(count) => self.take(count),
            Read::End => self.drop_socket(),
        }
        self.write();
    }

    fn open(&mut self) {
        let now = self.now();
        if self.machine.poll_connect(now).is_none() {
            return;
        }
        self.socket = Socket::open(&self.address).ok();
        let now = self.now();
        if self.socket.is_some() {
            self.tell(|machine, sink| machine.connected(now, sink));
        } else {
            self.drop_socket();
        }
    }

    fn take(&mut self, count: usize) {
        let now = self.now();
        let mut input = core::mem::take(&mut self.input);
        self.tell(|machine, sink| machine.received(&mut input[..count], now, sink));
        self.input = input;
        let mark = self.machine.store_mark();
        match self.waiting.back_mut() {
            Some((_, last)) => *last = Some(mark),
            None => self.machine.stored(mark, now),
        }
    }

    /// Writes what the machine has to say, and closes when it wants that.
    fn write(&mut self) {
        while self.machine.wants_transmit() {
            let now = self.now();
            self.out.clear();
            self.machine.transmit(&mut self.encoder, &mut self.out, now);
            let Some(socket) = &mut self.socket else { break };
            if socket.write(&self.out).is_err() {
                return self.drop_socket();
            }
        }
        if self.machine.wants_close() {
            self.drop_socket();
        }
    }

    fn drop_socket(&mut self) {
        self.socket = None;
        let now = self.now();
        self.tell(|machine, sink| machine.disconnected(now, sink));
    }

    /// Calls the machine; its events go to those that wait.
    fn tell(&mut self, call: impl FnOnce(&mut Machine, &mut crate::event::Sink<'_>)) {
        let waiting = &mut self.waiting;
        call(&mut self.machine, &mut |event| {
            waiting.extend(Received::from_event(&event).map(|event| (event, None)));
        });
    }

    fn now(&self) -> MonotonicNs {
        // One second more, because zero means nothing.
        MonotonicNs(MonotonicNs::SECOND + self.started.elapsed().as_nanos() as u64)
    }
}

/// A device id for a new installation.
#[must_use]
pub fn new_device() -> DeviceId {
    DeviceId((random() & INTEGER_MAX).max(1))
}

/// The standard library seeds its hashers from the system's entropy; that is all that is needed here.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("no connection in time"),
            Self::NeedsToken => f.write_str("the gateway does not take the token"),
            Self::Stopped(reason) => write!(f, "the gateway does not want this device: {reason:?}"),
        }
    }
}

impl core::error::Error for ConnectError {}
