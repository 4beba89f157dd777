//! What time alone causes: deadlines, heartbeats, stalled sockets. No connection has a timer; the table is swept.

use crate::connection::{Connection, Phase};
use crate::counters::Counter;
use crate::event::ConnectionId;
use crate::limits::{SWEEP_CONNECTIONS_PER_TICK, TOKEN_GRACE_MS};
use crate::shard::{Shard, Turn};
use tidegate_ids::MonotonicNs;
use tidegate_schema::CloseCode;

/// Silent periods after which a connection is closed (PROTOCOL, `Ping`).
const SILENT_PERIODS_MAX: u64 = 3;

/// How long a close frame may take to be sent.
const CLOSE_NS_MAX: u64 = 2 * MonotonicNs::SECOND;

impl Shard {
    pub(crate) fn on_tick(&mut self, turn: &mut Turn<'_>) {
        self.sweep(turn);
        self.ask_for_held(turn.now.monotonic);
        if turn.now.monotonic.since(self.last_second) >= MonotonicNs::SECOND {
            self.last_second = turn.now.monotonic;
            self.tell_positions(turn);
            self.expire_adoptions(turn.now.monotonic);
        }
    }

    /// Looks at a slice of the table of connections.
    fn sweep(&mut self, turn: &mut Turn<'_>) {
        let places = self.connections.places();
        if places == 0 {
            return;
        }
        for _ in 0..places.min(SWEEP_CONNECTIONS_PER_TICK) {
            self.connections.sweep =
                if self.connections.sweep + 1 >= places { 0 } else { self.connections.sweep + 1 };
            self.look_at(ConnectionId(self.connections.sweep as u32), turn);
        }
    }

    fn look_at(&mut self, id: ConnectionId, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic;
        let Some(connection) = self.connections.get(id) else { return };
        let stalled =
            connection.in_flight_bytes > 0 && now.since(connection.send_began) >= self.limits.send_stall_ns;
        let silent_ns = now.since(connection.heard);
        match connection.phase {
            Phase::Upgrading | Phase::Upgraded | Phase::Leaving(_) => {
                if silent_ns >= self.limits.hello_deadline_ns {
                    self.close_now(id, turn);
                }
            }
            // What else it waits for is the shard's: a load or a commit. Its peer cannot make that longer.
            Phase::Greeting => {
                let waits = connection.unsent_bytes() > 0 && silent_ns >= self.limits.hello_deadline_ns;
                if stalled || waits {
                    self.close_slow(id, turn);
                }
            }
            Phase::Closed => {}
            Phase::Closing => {
                // The close frame may have been written in this very turn: it leaves with the turn's flush.
                let sent_ns = now.since(connection.send_began);
                let stuck = connection.in_flight_bytes > 0 && sent_ns >= CLOSE_NS_MAX;
                let done = connection.in_flight_bytes == 0 && connection.out.is_empty();
                if stuck || done {
                    self.close_now(id, turn);
                }
            }
            // Nobody told it a period: it has the longer one.
            Phase::Echo => {
                if stalled {
                    self.close_slow(id, turn);
                } else if self.is_silent(connection, self.limits.heartbeat_background_ms, now) {
                    self.close_silent(id);
                }
            }
            Phase::Session(origin) => {
                let (active_ms, background_ms) =
                    (self.limits.heartbeat_active_ms, self.limits.heartbeat_background_ms);
                let period_ms = if connection.active { active_ms } else { background_ms };
                let silent = self.is_silent(connection, period_ms, now);
                let expired_ms = turn.now.wall.0.saturating_sub(connection.expires.0);
                if stalled {
                    self.close_slow(id, turn);
                } else if expired_ms >= TOKEN_GRACE_MS {
                    self.stats.count(Counter::TokensExpired);
                    self.close(id, CloseCode::UNAUTHORIZED, "the token has expired");
                } else if silent {
                    self.close_silent(id);
                } else {
                    // Credit that came back by another device's acknowledgement is nobody's event.
                    self.queue_ask_if_waiting(&origin, now);
                }
            }
        }
    }

    /// Whether nothing has come for too long, or no more than a part of a message.
    fn is_silent(&self, connection: &Connection, period_ms: u32, now: MonotonicNs) -> bool {
        let silence_ns_max = u64::from(period_ms) * MonotonicNs::MILLISECOND * SILENT_PERIODS_MAX;
        // From the message's first byte: dripping bytes buys no time.
        let incomplete = !connection.decoder.is_idle()
            && !connection.paused
            && now.since(connection.message_began) >= self.limits.hello_deadline_ns;
        incomplete || now.since(connection.heard) >= silence_ns_max
    }

    fn close_silent(&mut self, id: ConnectionId) {
        self.stats.count(Counter::HeartbeatsMissed);
        self.close(id, CloseCode::HEARTBEAT, "silent for too long");
    }

    /// Closes a socket that stays full: nobody waits until it takes the close frame.
    fn close_slow(&mut self, id: ConnectionId, turn: &mut Turn<'_>) {
        self.stats.count(Counter::SlowConsumers);
        self.close(id, CloseCode::SLOW_CONSUMER, "the socket stayed full");
        self.close_now(id, turn);
    }

    fn queue_ask_if_waiting(&mut self, origin: &crate::mesh_frame::Origin, now: MonotonicNs) {
        let hot = self.streams.users.get_mut(&origin.user);
        let Some(device) = hot.and_then(|hot| hot.user.devices.get_mut(origin.device)) else { return };
        // An idle device keeps no heap for what it was announced long ago.
        device.queue.forget_announced(now);
        if device.queue.range_count() > 0 {
            self.queue_ask(origin.user, origin.device);
        }
    }

    /// Lets the devices ask whose announcements were held back for long enough.
    fn ask_for_held(&mut self, now: MonotonicNs) {
        let mut held = std::mem::take(&mut self.held);
        held.take_due(now, |user, device| self.queue_ask(user, device));
        self.held = held;
    }
}
