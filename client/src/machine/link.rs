//! The connection: opening, heartbeat, ending, and when to come back (requirement 30; PROTOCOL, "Errors and closes").

use super::Machine;
use super::asks::What;
use crate::event::{ConnectionState, Event, RequestFailure, Sink, StopReason};
use crate::limits::{
    CROWDED_FAILURES, HEARTBEAT_NS, MILLISECOND, RECONNECT_BASE_NS, RECONNECT_CAP_NS, STEADY_NS,
    WELCOME_WAIT_NS,
};
use tidegate_ids::{Attempt, MonotonicNs};
use tidegate_schema::limits::{FRAMES_MAX, PAYLOAD_BYTES_MAX};
use tidegate_schema::{ClientState, CloseCode, GoAway, Welcome};
use tidegate_ws::{Decoder, Role};

/// See the module.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) phase: Phase,
    /// What happens once the socket is closed.
    pub(crate) fate: Fate,
    pub(crate) decoder: Decoder,
    /// An incomplete frame, or an incomplete handshake response.
    pub(crate) held: Vec<u8>,
    /// Ends an attempt that gets nowhere.
    pub(crate) welcome_by: MonotonicNs,
    ready_since: MonotonicNs,
    failures: u8,
    pub(crate) sent_at: MonotonicNs,
    pub(crate) received_at: MonotonicNs,
    /// When a ping is due if nothing is sent before.
    pub(crate) ping_at: MonotonicNs,
    heartbeat_active_ns: u64,
    heartbeat_background_ns: u64,
    /// All commands wait until then.
    pub(crate) throttled_until: MonotonicNs,
    /// `Hello` is to be sent.
    pub(crate) hello: bool,
    /// It was sent, and what became of it is not known.
    pub(crate) greets: bool,
    /// Frames of one payload that the gateway takes.
    pub(crate) frames_max: usize,
    /// `GetRange` without any answer, one after the other.
    pub(crate) silent_ranges: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Stopped(StopReason),
    NeedsToken,
    Waiting(MonotonicNs),
    /// The application opens the socket.
    Opening,
    /// The request of the upgrade is to be sent.
    Upgrading([u8; 16]),
    /// Its response is awaited.
    Upgraded([u8; 16]),
    /// `Hello` is to be sent, or was.
    Greeting,
    Syncing,
    Ready,
    /// Nothing is expected of this socket any more: it is to be closed.
    Ending,
}

/// What happens once the socket is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fate {
    #[default]
    Retry,
    /// After the range that the gateway gave, in milliseconds.
    Within(u32, u32),
    /// Too many connections.
    Crowded,
    Token,
    Stop(StopReason),
}

impl Phase {
    /// Whether frames are exchanged.
    pub(crate) const fn is_open(self) -> bool {
        matches!(self, Self::Greeting | Self::Syncing | Self::Ready)
    }

    /// Whether the gateway knows us.
    pub(crate) const fn is_welcome(self) -> bool {
        matches!(self, Self::Syncing | Self::Ready)
    }

    const fn has_socket(self) -> bool {
        !matches!(self, Self::Stopped(_) | Self::NeedsToken | Self::Waiting(_))
    }
}

pub(crate) const fn decoder() -> Decoder {
    Decoder::new(Role::Client, PAYLOAD_BYTES_MAX as u32, PAYLOAD_BYTES_MAX as u32)
}

impl Link {
    pub(crate) const fn new(has_token: bool) -> Self {
        Self {
            phase: if has_token { Phase::Waiting(MonotonicNs(0)) } else { Phase::NeedsToken },
            fate: Fate::Retry,
            decoder: decoder(),
            held: Vec::new(),
            welcome_by: MonotonicNs(0),
            ready_since: MonotonicNs(0),
            failures: 0,
            sent_at: MonotonicNs(0),
            received_at: MonotonicNs(0),
            ping_at: MonotonicNs(0),
            heartbeat_active_ns: HEARTBEAT_NS,
            heartbeat_background_ns: HEARTBEAT_NS,
            throttled_until: MonotonicNs(0),
            hello: false,
            greets: false,
            frames_max: FRAMES_MAX,
            silent_ranges: 0,
        }
    }

    pub(crate) fn heartbeat_ns(&self, state: ClientState) -> u64 {
        match state {
            ClientState::Active | ClientState::Inactive => self.heartbeat_active_ns,
            ClientState::Background => self.heartbeat_background_ns,
        }
    }
}

impl Machine {
    /// Where the connection stands.
    #[must_use]
    pub fn connection(&self) -> ConnectionState {
        match self.link.phase {
            Phase::Stopped(reason) => ConnectionState::Stopped(reason),
            Phase::NeedsToken => ConnectionState::NeedsToken,
            Phase::Waiting(at) => ConnectionState::Offline(at),
            Phase::Opening | Phase::Upgrading(_) | Phase::Upgraded(_) | Phase::Greeting => {
                ConnectionState::Connecting
            }
            Phase::Syncing => ConnectionState::Syncing,
            Phase::Ready => ConnectionState::Ready,
            Phase::Ending => ConnectionState::Offline(MonotonicNs(0)),
        }
    }

    /// Whether commands are sent.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.link.phase == Phase::Ready
    }

    /// Says once, with the number of the attempt, that a socket is wanted. The answer is [`Machine::connected`], once that
    /// number is durable, or [`Machine::disconnected`].
    pub fn poll_connect(&mut self, now: MonotonicNs) -> Option<Attempt> {
        let Phase::Waiting(at) = self.link.phase else { return None };
        if now < at {
            return None;
        }
        self.link.phase = Phase::Opening;
        // Why the last connection ended says nothing about this one, even if it never opens.
        self.link.fate = Fate::Retry;
        self.attempt = Attempt(self.attempt.0 + 1);
        Some(self.attempt)
    }

    /// The socket is open.
    pub fn connected(&mut self, now: MonotonicNs, sink: &mut Sink<'_>) {
        if self.link.phase != Phase::Opening {
            return;
        }
        let link = &mut self.link;
        link.phase = Phase::Upgrading(self.random.bytes16());
        link.decoder = decoder();
        link.held.clear();
        link.welcome_by = now.after(WELCOME_WAIT_NS);
        (link.sent_at, link.received_at) = (now, now);
        link.throttled_until = MonotonicNs(0);
        link.silent_ranges = 0;
        let welcome_by = link.welcome_by;
        self.acks.connected();
        self.asks.connected();
        self.stirred = true;
        self.wake_at(welcome_by);
        sink(Event::State(ConnectionState::Connecting));
    }

    /// The socket is closed, by either side, or could not be opened. Without one this does nothing.
    pub fn disconnected(&mut self, now: MonotonicNs, sink: &mut Sink<'_>) {
        if !self.link.phase.has_socket() {
            return;
        }
        if self.link.phase == Phase::Ready && now.since(self.link.ready_since) >= STEADY_NS {
            self.link.failures = 0;
        }
        // A `Welcome` that is lost may have been the one that asks for a synchronisation.
        self.owes_sync |= core::mem::take(&mut self.link.greets);
        self.link.held = Vec::new();
        self.link.phase = self.next_phase(now);
        if let Phase::Waiting(at) = self.link.phase {
            self.wake_at(at);
        }
        self.drop_connection_state(sink);
        sink(Event::State(self.connection()));
        if self.link.phase == Phase::NeedsToken {
            sink(Event::TokenNeeded);
        }
    }

    fn next_phase(&mut self, now: MonotonicNs) -> Phase {
        let failures = self.link.failures;
        let delay_ns = match self.link.fate {
            Fate::Stop(reason) => return Phase::Stopped(reason),
            Fate::Token => return Phase::NeedsToken,
            Fate::Within(min_ms, max_ms) => {
                let (min, max) = (u64::from(min_ms), u64::from(max_ms.max(min_ms)));
                (min * MILLISECOND) + self.random.up_to((max - min) * MILLISECOND)
            }
            Fate::Retry => {
                self.link.failures = failures.saturating_add(1);
                self.random.up_to(window_ns(failures))
            }
            Fate::Crowded => {
                self.link.failures = failures.saturating_add(1);
                let window = window_ns(failures.max(CROWDED_FAILURES));
                window / 2 + self.random.up_to(window / 2)
            }
        };
        Phase::Waiting(now.after(delay_ns))
    }

    /// What belonged to the connection is gone; commands, duties and what is held stay.
    fn drop_connection_state(&mut self, sink: &mut Sink<'_>) {
        self.sync = None;
        self.acks.connected();
        self.notices.disconnected();
        self.creations.disconnected();
        for index in self.holed.all() {
            if let Some(holes) = &mut self.table.row(index as usize).holes {
                holes.disconnected();
            }
            self.note_holes(index as usize, true);
        }
        for index in &self.sending {
            if let Some(outbox) = &mut self.table.row(*index as usize).outbox {
                outbox.restart();
            }
        }
        while let Some(what) = self.asks.take_any() {
            let (What::History(request, _) | What::Members(request, _)) = what else { continue };
            sink(Event::RequestFailed { request, failure: RequestFailure::Disconnected });
        }
    }

    /// Nothing is expected of this socket any more.
    pub(crate) fn end(&mut self, fate: Fate) {
        if self.link.phase.has_socket() {
            self.link.phase = Phase::Ending;
            self.link.fate = fate;
            self.stirred = true;
        }
    }

    /// Whether the socket is to be closed, after what [`Machine::transmit`] appends is written. Then call
    /// [`Machine::disconnected`].
    #[must_use]
    pub fn wants_close(&self) -> bool {
        self.link.phase == Phase::Ending
    }

    /// Ends the connection for good, until [`Machine::resume`]. What waits stays in the outbox.
    pub fn close(&mut self, sink: &mut Sink<'_>) {
        if self.link.phase.is_open() {
            self.notices.close(CloseCode::NORMAL);
        }
        if self.link.phase.has_socket() {
            return self.end(Fate::Stop(StopReason::Closed));
        }
        self.link.phase = Phase::Stopped(StopReason::Closed);
        sink(Event::State(self.connection()));
    }

    /// Connects again after a stop, or at once instead of after the pause.
    pub fn resume(&mut self, now: MonotonicNs) {
        if self.token.is_empty() {
            return;
        }
        if matches!(self.link.phase, Phase::Stopped(_) | Phase::Waiting(_)) {
            self.link.failures = 0;
            self.link.phase = Phase::Waiting(now);
            self.wake_at(now);
        }
    }

    /// A new token: told to the gateway without a reconnect, or the reconnect that waited for it.
    pub fn set_token(&mut self, token: &[u8], now: MonotonicNs) {
        self.token = token.into();
        if self.link.phase == Phase::NeedsToken {
            self.link.phase = Phase::Waiting(now);
            self.wake_at(now);
        } else if self.link.phase.is_welcome() {
            self.notices.refresh = true;
            self.stirred = true;
        } else if self.link.fate == Fate::Token {
            self.link.fate = Fate::Retry;
        }
    }

    pub(crate) fn welcomed(&mut self, welcome: &Welcome, now: MonotonicNs) {
        let believed = |ms: u32| match u64::from(ms) * MILLISECOND {
            0 => HEARTBEAT_NS,
            ns => ns,
        };
        self.link.heartbeat_active_ns = believed(welcome.heartbeat_active_ms);
        self.link.heartbeat_background_ns = believed(welcome.heartbeat_background_ms);
        self.link.frames_max = usize::from(welcome.limits.frames_max).clamp(1, FRAMES_MAX);
        self.link.sent_at = now;
        self.schedule_ping();
    }

    pub(crate) fn ready(&mut self, now: MonotonicNs, sink: &mut Sink<'_>) {
        self.link.phase = Phase::Ready;
        self.link.ready_since = now;
        self.stirred = true;
        self.wake = now;
        sink(Event::State(ConnectionState::Ready));
    }

    /// The next ping: the period after the last byte sent, give or take a fifth.
    pub(crate) fn schedule_ping(&mut self) {
        let period = self.link.heartbeat_ns(self.state);
        let jittered = period - period / 5 + self.random.up_to(2 * (period / 5));
        self.link.ping_at = self.link.sent_at.after(jittered);
        self.wake_at(self.link.ping_at);
    }

    /// What a close frame of the gateway means for coming back.
    pub(crate) fn closed_with(&mut self, code: Option<u16>) {
        let code = CloseCode(code.unwrap_or(0));
        let fate = match code {
            CloseCode::UNAUTHORIZED => Fate::Token,
            CloseCode::REPLACED => Fate::Stop(StopReason::Replaced),
            CloseCode::PROTOCOL_ERROR => Fate::Stop(StopReason::Protocol),
            CloseCode::VERSION_TOO_OLD => Fate::Stop(StopReason::VersionTooOld),
            CloseCode::SUSPENDED => Fate::Stop(StopReason::Suspended),
            CloseCode::TOO_MANY_CONNECTIONS | CloseCode::TRY_AGAIN => Fate::Crowded,
            _ => self.link.fate,
        };
        // Only a gateway that goes away may have taken the `Hello` before it said so.
        self.link.greets &= fate == self.link.fate;
        self.end(fate);
    }

    pub(crate) fn going_away(&mut self, go_away: &GoAway, sink: &mut Sink<'_>) {
        self.link.fate = if go_away.come_back {
            Fate::Within(go_away.delay_min_ms, go_away.delay_max_ms)
        } else {
            Fate::Stop(StopReason::GoneAway)
        };
        sink(Event::GoingAway(go_away));
    }
}

/// The window of the full jitter after so many failures: 1, 2, 4 … 60 s.
fn window_ns(failures: u8) -> u64 {
    (RECONNECT_BASE_NS << failures.min(6)).min(RECONNECT_CAP_NS)
}
