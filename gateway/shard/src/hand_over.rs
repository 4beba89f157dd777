//! From the shard that a socket came to, to its user's home: the descriptor by the shell, the rest by the mesh, matched by a key.

use crate::aside::Share;
use crate::connection::{Connection, Greeting, Phase};
use crate::counters::Counter;
use crate::event::{ConnectionId, TransferKey};
use crate::mesh_frame::Request;
use crate::output::Output;
use crate::port::Lane;
use crate::shard::{Shard, Turn};
use std::collections::BTreeMap;
use tidegate_domain::RateClass;
use tidegate_ids::{Generation, MonotonicNs};
use tidegate_schema::{Resync, limits::PAYLOAD_BYTES_MAX};

/// How long one part of a hand-over waits for the other.
const ADOPTION_NS_MAX: u64 = 10 * MonotonicNs::SECOND;

/// The mesh's part of a hand-over.
#[derive(Debug)]
struct HandedOver {
    greeting: Greeting,
    /// What came behind the `Hello`; `None` if there was no room for it.
    leftover: Option<Vec<u8>>,
    since: MonotonicNs,
}

/// A part of a hand-over that waits for the other, by key.
#[derive(Debug, Default)]
pub(crate) struct Adoptions {
    sockets: BTreeMap<TransferKey, ConnectionId>,
    frames: BTreeMap<TransferKey, HandedOver>,
}

impl Shard {
    /// Goes on with a greeting once nothing is in flight: here, or by a hand-over to the user's home.
    pub(crate) fn try_greet(&mut self, id: ConnectionId, turn: &mut Turn<'_>) {
        let Some(connection) = self.connections.get(id) else { return };
        let Some(greeting) = connection.greeting.as_deref().copied() else { return };
        let waits = connection.in_flight_bytes > 0 || !connection.out.is_empty();
        let begun = greeting.origin.generation != Generation(0);
        if connection.phase != Phase::Greeting || waits || begun {
            return;
        }
        let home = self.route.user(greeting.origin.user);
        if home == self.index {
            return self.greet(id, turn);
        }
        self.transfer += 1;
        let key = TransferKey((u64::from(self.index.0) << 48) | self.transfer);
        let request = Request::HandOver {
            key,
            origin: greeting.origin,
            attempt: greeting.attempt,
            credit: greeting.credit,
            active: greeting.active,
            unlimited: greeting.rate == RateClass::Unlimited,
            expires: greeting.expires,
            version: greeting.version,
            leftover: &connection.held,
        };
        let rest = request.encode(&mut self.scratch);
        if !turn.mesh.push(home, Lane::Requests, &[&self.scratch, rest]) {
            return self.refuse_connection(id, turn);
        }
        if !connection.held.is_empty() {
            self.stats.count(Counter::HandedOverWithBytes);
        }
        self.set_phase(id, Phase::Leaving(key));
        self.outputs.push_back(Output::HandOver { connection: id, to: home, key });
    }

    /// A hand-over has left, or its target has no place for it: then the peer is told to back off.
    pub(crate) fn on_handed_over(&mut self, id: ConnectionId, sent: bool, turn: &mut Turn<'_>) {
        if sent {
            self.stats.count(Counter::HandedOver);
            self.forget(id);
        } else if self.connections.get(id).is_some_and(|one| matches!(one.phase, Phase::Leaving(_))) {
            self.refuse_connection(id, turn);
        }
    }

    /// The mesh's part of a hand-over.
    pub(crate) fn on_hand_over(&mut self, request: &Request<'_>, turn: &mut Turn<'_>) {
        let &Request::HandOver {
            key,
            origin,
            attempt,
            credit,
            active,
            unlimited,
            expires,
            version,
            leftover,
        } = request
        else {
            unreachable!("the caller matched it")
        };
        let rate = if unlimited { RateClass::Unlimited } else { RateClass::Default };
        let greeting =
            Greeting { origin, attempt, credit, active, rate, expires, version, resync: Resync::None };
        let fits = leftover.len() <= self.aside.spare_bytes(Share::Devices);
        let leftover = fits.then(|| leftover.to_vec());
        self.aside.add(Share::Devices, leftover.as_ref().map_or(0, Vec::capacity));
        let part = HandedOver { greeting, leftover, since: turn.now.monotonic };
        match self.adoptions.sockets.remove(&key) {
            Some(id) => self.adopt(id, key, part, turn),
            None => {
                self.adoptions.frames.insert(key, part);
            }
        }
    }

    /// The socket's part of a hand-over.
    pub(crate) fn on_adopted(&mut self, id: ConnectionId, key: TransferKey, turn: &mut Turn<'_>) {
        let mut connection = Connection::new(Self::decoder(PAYLOAD_BYTES_MAX), turn.now.monotonic);
        connection.phase = Phase::Leaving(key);
        self.connections.insert(id, connection);
        match self.adoptions.frames.remove(&key) {
            Some(part) => self.adopt(id, key, part, turn),
            None => {
                self.adoptions.sockets.insert(key, id);
            }
        }
    }

    /// Both parts of a hand-over are there. The socket may have gone meanwhile, and its place may be another's.
    fn adopt(&mut self, id: ConnectionId, key: TransferKey, part: HandedOver, turn: &mut Turn<'_>) {
        let HandedOver { greeting, leftover, .. } = part;
        // It counts already.
        let is_full = self.connections.count() > self.limits.connections_max;
        let waits = |connection: &&mut Connection| connection.phase == Phase::Leaving(key);
        let Some(connection) = self.connections.get_mut(id).filter(waits) else {
            return self.aside.remove(Share::Devices, leftover.map_or(0, |leftover| leftover.capacity()));
        };
        let Some(leftover) = leftover else { return self.refuse_leftover(id) };
        if is_full {
            self.aside.remove(Share::Devices, leftover.capacity());
            return self.refuse_connection(id, turn);
        }
        connection.phase = Phase::Greeting;
        connection.greeting = Some(Box::new(greeting));
        connection.share = Share::Devices;
        connection.held = leftover;
        self.greet(id, turn);
    }

    /// Forgets parts of hand-overs whose other part never came.
    pub(crate) fn expire_adoptions(&mut self, now: MonotonicNs) {
        let Self { adoptions, aside, .. } = self;
        adoptions.frames.retain(|_, part| {
            let is_kept = now.since(part.since) < ADOPTION_NS_MAX;
            if !is_kept && let Some(leftover) = &part.leftover {
                aside.remove(Share::Devices, leftover.capacity());
            }
            is_kept
        });
    }
}

#[cfg(test)]
mod tests;
