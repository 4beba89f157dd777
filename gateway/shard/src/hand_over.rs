//! From the shard that a socket came to, to its user's home: the descriptor by the shell, the rest by the mesh, matched by a key.

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
use tidegate_schema::Resync;

/// How long one part of a hand-over waits for the other.
const ADOPTION_NS_MAX: u64 = 10 * MonotonicNs::SECOND;

/// A part of a hand-over that waits for the other, by key.
#[derive(Debug, Default)]
pub(crate) struct Adoptions {
    sockets: BTreeMap<TransferKey, ConnectionId>,
    frames: BTreeMap<TransferKey, (Greeting, Vec<u8>, MonotonicNs)>,
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

    pub(crate) fn on_handed_over(&mut self, id: ConnectionId, sent: bool) {
        if sent {
            self.stats.count(Counter::HandedOver);
            self.forget(id);
        } else if self.connections.get(id).is_some() {
            self.set_phase(id, Phase::Closed);
            self.outputs.push_back(Output::Close { connection: id });
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
        match self.adoptions.sockets.remove(&key) {
            Some(id) => self.adopt(id, key, greeting, leftover.to_vec(), turn),
            None => {
                let part = (greeting, leftover.to_vec(), turn.now.monotonic);
                self.adoptions.frames.insert(key, part);
            }
        }
    }

    /// The socket's part of a hand-over.
    pub(crate) fn on_adopted(&mut self, id: ConnectionId, key: TransferKey, turn: &mut Turn<'_>) {
        let mut connection = Connection::new(Self::decoder(false), turn.now.monotonic);
        connection.phase = Phase::Leaving(key);
        self.connections.insert(id, connection);
        match self.adoptions.frames.remove(&key) {
            Some((greeting, leftover, _)) => self.adopt(id, key, greeting, leftover, turn),
            None => {
                self.adoptions.sockets.insert(key, id);
            }
        }
    }

    /// Both parts of a hand-over are there. The socket may have gone meanwhile, and its place may be another's.
    fn adopt(
        &mut self,
        id: ConnectionId,
        key: TransferKey,
        greeting: Greeting,
        leftover: Vec<u8>,
        turn: &mut Turn<'_>,
    ) {
        let waits = |connection: &&mut Connection| connection.phase == Phase::Leaving(key);
        let Some(connection) = self.connections.get_mut(id).filter(waits) else { return };
        connection.phase = Phase::Greeting;
        connection.greeting = Some(Box::new(greeting));
        self.held_bytes += leftover.capacity();
        connection.held = leftover;
        self.greet(id, turn);
    }

    /// Forgets parts of hand-overs whose other part never came.
    pub(crate) fn expire_adoptions(&mut self, now: MonotonicNs) {
        self.adoptions.frames.retain(|_, (_, _, since)| now.since(*since) < ADOPTION_NS_MAX);
    }
}

#[cfg(test)]
mod tests;
