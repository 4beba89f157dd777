//! A connection: its socket's state, what is unsent, and the decoder of what comes.

use crate::aside::Share;
use crate::buffers::Buffers;
use crate::event::{ConnectionId, TransferKey};
use crate::mesh_frame::Origin;
use tidegate_domain::RateClass;
use tidegate_ids::{Attempt, Generation, MonotonicNs, WallMs};
use tidegate_schema::Resync;
use tidegate_ws::Decoder;

/// A device that has shown its token and waits to be welcomed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Greeting {
    /// User, device, and the id of the `Hello`; the generation is given at the home.
    pub(crate) origin: Origin,
    pub(crate) attempt: Attempt,
    pub(crate) credit: u16,
    pub(crate) active: bool,
    pub(crate) rate: RateClass,
    /// When the token does.
    pub(crate) expires: WallMs,
    pub(crate) version: u16,
    /// What the client does before it sends; known once the device is registered.
    pub(crate) resync: Resync,
}

/// What a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The upgrade request is incomplete.
    Upgrading,
    /// Upgraded; the first frame must be `Hello`.
    Upgraded,
    /// On the conformance route.
    Echo,
    /// Hello was accepted; the connection leaves for, or waits at, its user's home.
    Greeting,
    /// The descriptor is on its way to another shard.
    Leaving(TransferKey),
    /// A device's session.
    Session(Origin),
    /// A close frame is under way; the socket is closed once it is sent.
    Closing,
    /// The shell was asked to close it.
    Closed,
}

/// One connection; small, since there are a million.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) phase: Phase,
    pub(crate) decoder: Decoder,
    /// Bytes of an incomplete upgrade request, frame or message; before the Welcome, what came behind the `Hello`.
    pub(crate) held: Vec<u8>,
    /// Where these are counted.
    pub(crate) share: Share,
    /// What is to be sent: a buffer that is lent while something is.
    pub(crate) out: Vec<u8>,
    /// Bytes of the send in flight, 0 if none is.
    pub(crate) in_flight_bytes: u32,
    pub(crate) unanswered: u32,
    /// When something was last heard; before the session, when it began or said `Hello`.
    pub(crate) heard: MonotonicNs,
    /// When the send in flight began.
    pub(crate) send_began: MonotonicNs,
    /// When the message that is incomplete began.
    pub(crate) message_began: MonotonicNs,
    /// The class of limits that the token named, and when it expires.
    pub(crate) rate: RateClass,
    pub(crate) expires: WallMs,
    pub(crate) ranges_in_flight: u8,
    pub(crate) active: bool,
    pub(crate) flush_queued: bool,
    pub(crate) paused: bool,
    pub(crate) greeting: Option<Box<Greeting>>,
}

const _: () = assert!(size_of::<Option<Connection>>() <= 256);

impl Connection {
    pub(crate) fn new(decoder: Decoder, now: MonotonicNs) -> Self {
        Self {
            phase: Phase::Upgrading,
            decoder,
            held: Vec::new(),
            share: Share::Strangers,
            out: Vec::new(),
            in_flight_bytes: 0,
            unanswered: 0,
            heard: now,
            send_began: now,
            message_began: now,
            rate: RateClass::Default,
            expires: WallMs(u64::MAX),
            ranges_in_flight: 0,
            active: true,
            flush_queued: false,
            paused: false,
            greeting: None,
        }
    }

    /// The session this connection serves.
    pub(crate) const fn session(&self) -> Option<Origin> {
        match self.phase {
            Phase::Session(origin) => Some(origin),
            _ => None,
        }
    }

    /// Bytes not yet taken by the kernel.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.out.len() + self.in_flight_bytes as usize
    }

    /// Whether the socket is on its way out.
    pub(crate) const fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing | Phase::Closed)
    }

    /// Whether this is the session of that generation.
    pub(crate) fn serves(&self, generation: Generation) -> bool {
        self.session().is_some_and(|origin| origin.generation == generation)
    }
}

/// Connections by their place in the shell's table.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    places: Vec<Option<Connection>>,
    count: usize,
    /// What has bytes to send, each once.
    pub(crate) to_flush: Vec<ConnectionId>,
    pub(crate) buffers: Buffers,
    pub(crate) sweep: usize,
}

impl Connections {
    pub(crate) const fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn places(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.places.get(id.0 as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.places.get_mut(id.0 as usize)?.as_mut()
    }

    pub(crate) fn insert(&mut self, id: ConnectionId, connection: Connection) {
        let place = id.0 as usize;
        if place >= self.places.len() {
            self.places.resize_with(place + 1, || None);
        }
        assert!(self.places[place].is_none(), "a place is free before it is used again");
        self.places[place] = Some(connection);
        self.count += 1;
    }

    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        let connection = self.places.get_mut(id.0 as usize)?.take()?;
        self.count -= 1;
        Some(connection)
    }

    /// The buffer to write to, with the connection noted for the next flush; `None` if it is closing.
    pub(crate) fn writer(&mut self, id: ConnectionId) -> Option<&mut Vec<u8>> {
        let connection = self.places.get_mut(id.0 as usize)?.as_mut()?;
        if connection.is_closing() {
            return None;
        }
        if !connection.flush_queued {
            connection.flush_queued = true;
            self.to_flush.push(id);
        }
        if connection.out.capacity() == 0 {
            connection.out = self.buffers.take();
        }
        Some(&mut connection.out)
    }
}
