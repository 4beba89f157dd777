//! From a socket to a device's session: upgrade, `Hello`, `Welcome`.

use crate::aside::{Share, grow};
use crate::commit::Waiting;
use crate::connection::{Connection, Greeting, Phase};
use crate::counters::Counter;
use crate::edge::{ECHO_BYTES_MAX, Stop};
use crate::event::ConnectionId;
use crate::limits::{HANDSHAKE_BYTES_MAX, LEFTOVER_BYTES_MAX};
use crate::load::Waiter;
use crate::mesh_frame::Origin;
use crate::output::{Output, ReceiveMode};
use crate::port::{Claims, TokenError};
use crate::shard::{Shard, Turn};
use crate::streams::{HotUser, Session};
use tidegate_domain::{Registration, UserRecord};
use tidegate_ids::{DeviceId, Generation, RequestId, StreamId, UserId};
use tidegate_schema::{
    ClientState, CloseCode, Error, ErrorCode, Hello, Limits, Resync, Welcome,
    limits::{CREDIT_FRAMES_MAX, HELLO_BYTES_MAX, PAYLOAD_BYTES_MAX},
};
use tidegate_ws::{encode, server};

/// The subprotocol that must be offered on `/ws` and `/`.
const SUBPROTOCOL: &str = "tidegate.v1";

/// The protocol version spoken here.
const VERSION: u16 = 1;

impl Shard {
    pub(crate) fn on_accepted(&mut self, id: ConnectionId, turn: &mut Turn<'_>) {
        self.stats.count(Counter::Accepted);
        let full = self.connections.count() >= self.limits.connections_max || self.shutdown.is_begun();
        self.connections.insert(id, Connection::new(Self::decoder(HELLO_BYTES_MAX), turn.now.monotonic));
        if full {
            self.stats.count(Counter::ConnectionsRefused);
            return self.close_now(id, turn);
        }
        self.outputs.push_back(Output::Receive { connection: id, mode: ReceiveMode::Once });
    }

    /// Bytes of an upgrade request. One that comes whole, as nearly all do, is not copied aside.
    pub(crate) fn on_upgrade_bytes(&mut self, id: ConnectionId, bytes: &mut [u8], turn: &mut Turn<'_>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let mut request = std::mem::take(&mut connection.held);
        self.aside.remove(Share::Strangers, request.capacity());
        if request.is_empty() && self.try_upgrade(id, bytes, turn) {
            return;
        }
        let spare = self.aside.spare_bytes(Share::Strangers);
        if !grow(&mut request, bytes.len(), HANDSHAKE_BYTES_MAX, spare) {
            return self.refuse_upgrade(id);
        }
        request.extend_from_slice(bytes);
        if self.try_upgrade(id, &mut request, turn) {
            return;
        }
        self.aside.add(Share::Strangers, request.capacity());
        if let Some(connection) = self.connections.get_mut(id) {
            connection.held = request;
        }
    }

    /// There is no room for a request that is incomplete.
    fn refuse_upgrade(&mut self, id: ConnectionId) {
        self.stats.count(Counter::ConnectionsRefused);
        if let Some(out) = self.connections.writer(id) {
            let text = "too many requests are incomplete, come back later";
            server::reject_response(out, server::Status::ServiceUnavailable, text);
        }
        self.set_phase(id, Phase::Closing);
    }

    /// Answers an upgrade request; false if it is incomplete.
    fn try_upgrade(&mut self, id: ConnectionId, request: &mut [u8], turn: &mut Turn<'_>) -> bool {
        let echo_allowed = self.limits.echo;
        let mut answer = Vec::new();
        let upgraded = match server::parse(request) {
            Ok(None) if request.len() < HANDSHAKE_BYTES_MAX => return false,
            Ok(None) => {
                server::reject_response(
                    &mut answer,
                    server::Status::FieldsTooLarge,
                    "the request is too large",
                );
                None
            }
            Err(error) => {
                error.response(&mut answer);
                None
            }
            Ok(Some(upgrade)) => match (upgrade.path, upgrade.offers(SUBPROTOCOL)) {
                ("/echo", _) if echo_allowed => {
                    server::accept_response(&mut answer, &upgrade.key, None);
                    Some((Phase::Echo, upgrade.consumed))
                }
                ("/ws" | "/", true) => {
                    server::accept_response(&mut answer, &upgrade.key, Some(SUBPROTOCOL));
                    Some((Phase::Upgraded, upgrade.consumed))
                }
                ("/ws" | "/", false) => {
                    let text = "offer the subprotocol tidegate.v1";
                    server::reject_response(&mut answer, server::Status::BadRequest, text);
                    None
                }
                _ => {
                    server::reject_response(
                        &mut answer,
                        server::Status::NotFound,
                        "the routes are /ws and /",
                    );
                    None
                }
            },
        };
        if let Some(out) = self.connections.writer(id) {
            out.extend_from_slice(&answer);
        }
        let Some((phase, consumed)) = upgraded else {
            self.stats.count(Counter::HandshakesRefused);
            self.set_phase(id, Phase::Closing);
            return true;
        };
        self.set_phase(id, phase);
        if phase == Phase::Echo {
            if let Some(connection) = self.connections.get_mut(id) {
                connection.decoder = Self::decoder(ECHO_BYTES_MAX);
            }
            self.outputs.push_back(Output::Receive { connection: id, mode: ReceiveMode::Multishot });
        }
        if consumed < request.len() {
            self.decode(id, &mut request[consumed..], turn);
        }
        true
    }

    pub(crate) fn set_phase(&mut self, id: ConnectionId, phase: Phase) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.phase = phase;
        }
    }

    /// The first frame: a token is shown. The rest of the way is the same on this shard and on another.
    pub(crate) fn on_hello(
        &mut self,
        id: ConnectionId,
        request: RequestId,
        hello: &Hello<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Stop> {
        if !(hello.protocol_min..=hello.protocol_max).contains(&VERSION) {
            self.close(id, CloseCode::VERSION_TOO_OLD, "this gateway speaks version 1");
            return Err(Stop);
        }
        let claims = match self.claims(hello.token, hello.device, turn) {
            Ok(claims) => claims,
            Err(error) => {
                self.refuse_token(id, request, error);
                return Err(Stop);
            }
        };
        let origin = Origin { user: claims.user, device: hello.device, request, ..Origin::default() };
        let credit = if hello.credit_frames == 0 { CREDIT_FRAMES_MAX } else { hello.credit_frames };
        let greeting = Greeting {
            origin,
            attempt: hello.attempt,
            credit,
            active: hello.state != ClientState::Background,
            rate: claims.rate,
            expires: claims.expires,
            version: VERSION,
            resync: Resync::None,
        };
        if let Some(connection) = self.connections.get_mut(id) {
            connection.phase = Phase::Greeting;
            connection.greeting = Some(Box::new(greeting));
            connection.share = Share::Devices;
            // What it waits for from here on has the deadline anew.
            connection.heard = turn.now.monotonic;
        }
        Err(Stop)
    }

    fn claims(&self, token: &[u8], device: DeviceId, turn: &Turn<'_>) -> Result<Claims, TokenError> {
        let claims = self.tokens.verify(token, turn.now.wall)?;
        let other = claims.device.is_some_and(|named| named != device);
        if other { Err(TokenError::Invalid) } else { Ok(claims) }
    }

    fn refuse_token(&mut self, id: ConnectionId, request: RequestId, error: TokenError) {
        self.stats.count(Counter::TokensRefused);
        let code = match error {
            TokenError::Invalid => ErrorCode::Unauthenticated,
            TokenError::Expired => ErrorCode::TokenExpired,
        };
        self.write_error(id, request, &Error::new(code));
        self.close(id, CloseCode::UNAUTHORIZED, code.label());
    }

    /// A session shows a new token.
    pub(crate) fn on_refresh(
        &mut self,
        id: ConnectionId,
        origin: &Origin,
        token: &[u8],
        turn: &mut Turn<'_>,
    ) {
        match self.claims(token, origin.device, turn) {
            Ok(claims) if claims.user == origin.user => {
                if let Some(connection) = self.connections.get_mut(id) {
                    connection.rate = claims.rate;
                    connection.expires = claims.expires;
                }
                self.write_ok(id, origin.request);
            }
            Ok(_) => self.refuse_token(id, origin.request, TokenError::Invalid),
            Err(error) => self.refuse_token(id, origin.request, error),
        }
    }

    /// Keeps what came behind a `Hello` until the Welcome.
    pub(crate) fn hold_leftover(&mut self, id: ConnectionId, bytes: &[u8], _turn: &mut Turn<'_>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if bytes.is_empty() {
            return;
        }
        let leftover_max = LEFTOVER_BYTES_MAX.min(self.limits.mesh_frame_bytes_max / 2);
        if connection.held.len() + bytes.len() > leftover_max {
            self.stats.count(Counter::ConnectionsRefused);
            return self.close(id, CloseCode::TOO_MANY_CONNECTIONS, "too much behind the Hello");
        }
        let (share, before) = (connection.share, connection.held.capacity());
        let allowed_max = before + self.aside.spare_bytes(share);
        if !grow(&mut connection.held, bytes.len(), leftover_max, allowed_max) {
            return self.refuse_leftover(id);
        }
        connection.held.extend_from_slice(bytes);
        self.aside.remove(share, before);
        self.aside.add(share, connection.held.capacity());
    }

    /// There is no room for what came behind a `Hello`.
    pub(crate) fn refuse_leftover(&mut self, id: ConnectionId) {
        self.stats.count(Counter::ConnectionsRefused);
        self.close(id, CloseCode::TRY_AGAIN, "no room for what came behind the Hello");
    }

    /// At the user's home: registers the device if it is new, and lets the Welcome leave with its commit.
    pub(crate) fn greet(&mut self, id: ConnectionId, turn: &mut Turn<'_>) {
        let Some(connection) = self.connections.get(id).filter(|one| one.phase == Phase::Greeting) else {
            return;
        };
        let Some(greeting) = connection.greeting.as_deref().copied() else { return };
        let Origin { user, device, generation, .. } = greeting.origin;
        if generation != Generation(0) {
            // It waits for its commit: who waited in this place before it has called for it once more.
            return;
        }
        if self.shutdown.is_begun() {
            return self.close(id, CloseCode::GOING_AWAY, "");
        }
        if !self.streams.users.contains(&user) {
            let stream = StreamId::user(user);
            if self.streams.may_exist(&stream) || self.loads.is_loading(&stream) {
                // Sockets that have gone wait on in their places until the load is done, and their places are taken again.
                if self.loads.parked() >= self.limits.parked_max + self.limits.connections_max {
                    return self.refuse_connection(id, turn);
                }
                return self.wait_for(stream, Waiter::Hello(id), turn);
            }
            if !self.streams.admit(user) || !self.insert_user(HotUser::new(user)) {
                return self.refuse_connection(id, turn);
            }
        }
        let before = self.streams.users.get(&user).and_then(|hot| hot.session(device)).copied();
        if let Some(before) = before {
            if greeting.attempt < before.attempt {
                return self.close(id, CloseCode::REPLACED, "a newer socket of this device is open");
            }
            self.stats.count(Counter::SessionsReplaced);
            self.close(before.connection, CloseCode::REPLACED, "a newer socket of this device is open");
        }
        match self.register(user, device, turn) {
            Some(resync) => self.open_session(id, Greeting { resync, ..greeting }),
            None => self.refuse_registration(id),
        }
    }

    /// Registers a device where it is new or was away too long; `None` if there is no place.
    fn register(&mut self, user: UserId, device: DeviceId, turn: &mut Turn<'_>) -> Option<Resync> {
        let hot = self.streams.users.get(&user)?;
        let decided = hot.user.devices.decide_register(device, turn.now.wall, &self.limits.domain).ok()?;
        let (resync, evicted) = match decided {
            Registration::Known => return Some(Resync::None),
            Registration::Expired => (Resync::QueueExpired, None),
            Registration::New { evicted } => (Resync::NewDevice, evicted),
        };
        // The Welcome waits for the commit of what is appended: a registration must not be owed to the log.
        if let Some(device) = evicted {
            self.append_at_once(user, UserRecord::Removed { device })?;
        }
        self.append_at_once(user, UserRecord::Registered { device, time: turn.now.wall })?;
        Some(resync)
    }

    /// Appends and folds a record now; `None` if the log takes nothing at the moment.
    fn append_at_once(&mut self, user: UserId, record: UserRecord) -> Option<()> {
        if self.latched || !self.owed.is_empty() {
            return None;
        }
        self.try_append_user(user, &record).ok()?;
        let hot = self.streams.users.get_mut(&user)?;
        hot.user.apply(&record);
        Some(())
    }

    fn append_and_apply(&mut self, user: UserId, record: UserRecord) {
        if let Some(hot) = self.streams.users.get_mut(&user) {
            hot.user.apply(&record);
        }
        self.append_user(user, record);
    }

    fn open_session(&mut self, id: ConnectionId, mut greeting: Greeting) {
        self.generation = self.generation.next();
        let generation = self.generation;
        greeting.origin.generation = generation;
        let Origin { user, device, .. } = greeting.origin;
        let Some(hot) = self.streams.users.get_mut(&user) else { return };
        let attempt = greeting.attempt;
        hot.sessions.push(Session { device, connection: id, generation, attempt, ask_queued: false });
        if let Some(device) = hot.user.devices.get_mut(device) {
            device.queue.connect(greeting.credit);
        }
        if let Some(connection) = self.connections.get_mut(id) {
            connection.greeting = Some(Box::new(greeting));
        }
        self.stats.count(Counter::Greeted);
        self.after_commit(Waiting::Welcome { user, device, generation });
    }

    /// The registration is committed: the device is welcome, and what it sent behind its `Hello` is looked at.
    pub(crate) fn welcome(
        &mut self,
        user: UserId,
        device: DeviceId,
        generation: Generation,
        turn: &mut Turn<'_>,
    ) {
        let Some(hot) = self.streams.users.get_mut(&user) else { return };
        let session = hot.session(device).filter(|session| session.generation == generation);
        let Some(id) = session.map(|session| session.connection) else { return };
        let version = hot.user.version;
        let Some(queue) = hot.user.devices.get_mut(device).map(|device| &mut device.queue) else { return };
        queue.welcomed();
        let ranges_waiting = queue.range_count() as u32;
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Some(greeting) = connection.greeting.take() else { return };
        connection.phase = Phase::Session(greeting.origin);
        connection.active = greeting.active;
        connection.heard = turn.now.monotonic;
        connection.rate = greeting.rate;
        connection.expires = greeting.expires;
        let mut leftover = std::mem::take(&mut connection.held);
        self.aside.remove(connection.share, leftover.capacity());
        connection.decoder = Self::decoder(PAYLOAD_BYTES_MAX);
        let limits = Limits { members_max: self.limits.domain.group_members_max as u32, ..Limits::default() };
        let welcome = Welcome {
            version: greeting.version,
            user,
            incarnation: self.incarnation,
            limits,
            heartbeat_active_ms: self.limits.heartbeat_active_ms,
            heartbeat_background_ms: self.limits.heartbeat_background_ms,
            server_time: turn.now.wall,
            user_version: version,
            ranges_waiting,
            resync: greeting.resync,
        };
        let mut frame = std::mem::take(&mut self.scratch);
        frame.clear();
        self.encoder.frame(&mut frame, greeting.origin.request.0, 0, &welcome);
        self.write_frame(id, &frame);
        self.scratch = frame;
        self.outputs.push_back(Output::Receive { connection: id, mode: ReceiveMode::Multishot });
        self.queue_ask(user, device);
        if !leftover.is_empty() {
            self.decode(id, &mut leftover, turn);
        }
    }

    /// Refuses a connection for want of a place.
    pub(crate) fn refuse_connection(&mut self, id: ConnectionId, _turn: &mut Turn<'_>) {
        self.stats.count(Counter::ConnectionsRefused);
        self.close(id, CloseCode::TOO_MANY_CONNECTIONS, "too many connections, back off");
    }

    /// Refuses a device that the log cannot be told of.
    fn refuse_registration(&mut self, id: ConnectionId) {
        self.stats.count(Counter::ConnectionsRefused);
        self.close(id, CloseCode::TOO_MANY_CONNECTIONS, "no new device can be registered now, back off");
    }

    /// Closes with a code: the session ends now, the socket once the close frame is sent.
    pub(crate) fn close(&mut self, id: ConnectionId, code: CloseCode, reason: &str) {
        self.end_session(id);
        if let Some(out) = self.connections.writer(id) {
            encode::close(out, tidegate_ws::CloseCode::new(code.0), reason, None);
            self.set_phase(id, Phase::Closing);
        }
    }

    /// Closes the socket without a word.
    pub(crate) fn close_now(&mut self, id: ConnectionId, _turn: &mut Turn<'_>) {
        self.end_session(id);
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.phase != Phase::Closed {
            connection.phase = Phase::Closed;
            self.outputs.push_back(Output::Close { connection: id });
        }
    }

    pub(crate) fn on_ended(&mut self, id: ConnectionId, turn: &mut Turn<'_>) {
        self.close_now(id, turn);
    }

    pub(crate) fn on_closed(&mut self, id: ConnectionId, _turn: &mut Turn<'_>) {
        self.end_session(id);
        self.forget(id);
    }

    pub(crate) fn forget(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.remove(id) {
            self.aside.remove(connection.share, connection.held.capacity());
            self.recycle(connection.out);
        }
    }

    /// A connection is over for its user: its window becomes ranges, written to the user's stream.
    pub(crate) fn end_session(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let origin = match connection.phase {
            Phase::Session(origin) => origin,
            Phase::Greeting => match connection.greeting.take() {
                Some(greeting) => greeting.origin,
                None => return,
            },
            _ => return,
        };
        let Origin { user, device, generation, .. } = origin;
        let Self { streams, window_pool, stats, .. } = self;
        let Some(hot) = streams.users.get_mut(&user) else { return };
        let place = hot.sessions.iter().position(|session| session.generation == generation);
        let Some(place) = place.filter(|_| generation != Generation(0)) else { return };
        hot.sessions.remove(place);
        let mut changes = Vec::new();
        if let Some(device) = hot.user.devices.get_mut(device) {
            stats.add(Counter::WindowsToRanges, u64::from(device.queue.window().count()));
            device.queue.disconnect(window_pool, |change| changes.push(change));
        }
        for change in changes {
            self.append_user(user, UserRecord::Queue { device, change });
        }
        let time = self.last_wall;
        self.append_and_apply(user, UserRecord::Seen { device, time });
        self.stats.count(Counter::SessionsEnded);
    }
}
