//! The edge: bytes become WebSocket messages, frames and requests; each frame is verified once, here.

use crate::aside::grow;
use crate::bytes::UserList;
use crate::connection::Phase;
use crate::counters::Counter;
use crate::event::ConnectionId;
use crate::limits::{RANGES_PER_CONNECTION_MAX, UNANSWERED_PER_CONNECTION_MAX};
use crate::mesh_frame::{MemberCommand, Origin, Request, Span};
use crate::port::Lane;
use crate::shard::{Shard, Turn};
use crate::unsent::LatePong;
use tidegate_domain::{QueueChange, UserRecord, group_id};
use tidegate_ids::{CommandNumber, ConversationKind, PushNumber, RequestId, Sequence, UserId};
use tidegate_schema::{
    ClientFrame, ClientState, CloseCode, Error, ErrorCode, FrameKind, GetRange, GroupCreate, Leave, List,
    MembersChange, MessageFields, MessageKind, Okay, RangeSpan, Send, frames,
};
use tidegate_ws::{CloseError, Decoder, Item, Role, encode};

/// The largest message on the conformance route.
pub(crate) const ECHO_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Whether a request has left for its home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Yes,
    RingFull,
    /// Neither it nor its record would ever fit the mesh.
    TooLarge,
}

/// Why the frames of a message stop being looked at.
pub(crate) struct Stop;

impl Shard {
    /// A decoder of messages of so many bytes at most.
    pub(crate) const fn decoder(message_bytes_max: usize) -> Decoder {
        let bytes_max = message_bytes_max as u32;
        Decoder::new(Role::Server, bytes_max, bytes_max)
    }

    /// Bytes have come. What is incomplete is copied aside before the turn ends, under a limit of the whole shard.
    pub(crate) fn on_bytes(&mut self, id: ConnectionId, bytes: &mut [u8], turn: &mut Turn<'_>) {
        self.stats.add(Counter::BytesReceived, bytes.len() as u64);
        let Some(connection) = self.connections.get_mut(id) else { return };
        match connection.phase {
            Phase::Upgrading => self.on_upgrade_bytes(id, bytes, turn),
            Phase::Upgraded | Phase::Echo | Phase::Session(_) => {
                if connection.phase != Phase::Upgraded {
                    connection.heard = turn.now.monotonic;
                }
                self.decode(id, bytes, turn);
            }
            Phase::Greeting => self.hold_leftover(id, bytes, turn),
            Phase::Leaving(_) | Phase::Closing | Phase::Closed => {}
        }
        self.rearm(id);
    }

    /// Takes messages out of the bytes, one after another, until they end or the connection changes its phase.
    pub(crate) fn decode(&mut self, id: ConnectionId, bytes: &mut [u8], turn: &mut Turn<'_>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let mut decoder = connection.decoder.clone();
        let mut held = std::mem::take(&mut connection.held);
        let (share, held_before) = (connection.share, held.capacity());
        let needed_max = decoder.held_bytes_max();
        let allowed_max = held_before + self.aside.spare_bytes(share);
        let (mut at, mut failed, mut late) = (0, None, LatePong::default());
        // Whether what is incomplete in the end began in these bytes.
        let mut begins_here = decoder.is_idle();
        loop {
            let step = decoder.decode_growing(&mut bytes[at..], &mut held, |held, additional| {
                grow(held, additional, needed_max, allowed_max)
            });
            match step {
                Ok(step) => {
                    at += step.consumed;
                    let Some(item) = step.item else { break };
                    if self.on_item(id, item, &mut late, turn).is_err() {
                        break;
                    }
                    begins_here |= decoder.is_idle();
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        if decoder.is_idle() {
            held = Vec::new();
        }
        self.aside.remove(share, held_before);
        if let Some(connection) = self.connections.get_mut(id) {
            self.aside.add(connection.share, held.capacity());
            connection.decoder = decoder;
            connection.held = held;
            if begins_here {
                connection.message_began = turn.now.monotonic;
            }
        }
        self.pong_late(id, &late);
        if let Some(error) = failed {
            let is_at_fault = error != CloseError::NoRoom;
            self.stats.count(if is_at_fault { Counter::ProtocolErrors } else { Counter::ConnectionsRefused });
            self.close(id, CloseCode(error.code().get()), error.reason());
        }
        let greeting = self.connections.get(id).is_some_and(|connection| connection.phase == Phase::Greeting);
        if greeting {
            self.hold_leftover(id, &bytes[at..], turn);
            self.try_greet(id, turn);
        }
    }

    fn on_item(
        &mut self,
        id: ConnectionId,
        item: Item<'_>,
        late: &mut LatePong,
        turn: &mut Turn<'_>,
    ) -> Result<(), Stop> {
        let Some(phase) = self.connections.get(id).map(|connection| connection.phase) else {
            return Err(Stop);
        };
        match item {
            Item::Ping(payload) => {
                self.pong(id, payload, late);
                Ok(())
            }
            Item::Pong(_) => Ok(()),
            Item::Close { code, .. } => {
                let code = code.map_or(CloseCode::NORMAL, |code| CloseCode(code.get()));
                self.close(id, code, "");
                Err(Stop)
            }
            Item::Text(payload) if phase == Phase::Echo => {
                self.echo(id, true, payload);
                Ok(())
            }
            Item::Binary(payload) if phase == Phase::Echo => {
                self.echo(id, false, payload);
                Ok(())
            }
            Item::Text(_) => {
                self.stats.count(Counter::ProtocolErrors);
                self.close(id, CloseCode::UNSUPPORTED_DATA, "binary messages only");
                Err(Stop)
            }
            Item::Binary(payload) => self.on_message(id, payload, turn),
        }
    }

    fn echo(&mut self, id: ConnectionId, text: bool, payload: &[u8]) {
        let opcode = if text { tidegate_ws::Opcode::Text } else { tidegate_ws::Opcode::Binary };
        if let Some(out) = self.connections.writer(id) {
            encode::frame(out, opcode, true, payload, None);
            self.stats.count(Counter::FramesReceived);
            self.stats.count(Counter::FramesSent);
        }
    }

    fn on_message(&mut self, id: ConnectionId, payload: &[u8], turn: &mut Turn<'_>) -> Result<(), Stop> {
        for frame in frames(payload) {
            let Ok(frame) = frame else {
                self.protocol_error(id, "a frame's header is not sound");
                return Err(Stop);
            };
            self.stats.count(Counter::FramesReceived);
            let request = RequestId(frame.header.id);
            let decoded = ClientFrame::decode(&frame);
            let Some(connection) = self.connections.get(id) else { return Err(Stop) };
            match (connection.phase, decoded) {
                (Phase::Upgraded, Ok(ClientFrame::Hello(hello))) if payload.len() == frame_len(&frame) => {
                    return self.on_hello(id, request, &hello, turn);
                }
                // What is wrong with a body is said, and the next may be better, within the deadline.
                (Phase::Upgraded, Err(error)) if frame.header.kind == FrameKind::Hello as u16 => {
                    self.stats.count(Counter::ProtocolErrors);
                    self.refuse_frame(id, request, 0, error.code(), error.field().as_bytes());
                }
                (Phase::Upgraded, _) => {
                    self.protocol_error(id, "the first message is one Hello");
                    return Err(Stop);
                }
                (Phase::Session(origin), Ok(decoded)) => {
                    let origin = Origin { request, ..origin };
                    self.on_frame(id, &origin, &decoded, turn)?;
                }
                (Phase::Session(_), Err(error)) => {
                    self.refuse_frame(id, request, 0, error.code(), error.field().as_bytes());
                }
                _ => return Err(Stop),
            }
        }
        Ok(())
    }

    fn on_frame(
        &mut self,
        id: ConnectionId,
        origin: &Origin,
        frame: &ClientFrame<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Stop> {
        if self.refuse_expired(id, origin, frame, turn) {
            return Ok(());
        }
        match *frame {
            ClientFrame::Ack(number) => self.on_ack(id, origin, number),
            ClientFrame::Ping => {
                if let Some(out) = self.connections.writer(id) {
                    let mut frame = [0; 16];
                    let header = tidegate_schema::FrameHeader::alone(FrameKind::Pong, origin.request.0);
                    frame.copy_from_slice(&header.to_bytes());
                    encode::binary(out, &frame, None);
                    self.stats.count(Counter::FramesSent);
                }
            }
            ClientFrame::Pong => {}
            ClientFrame::ClientState(state) => {
                if let Some(connection) = self.connections.get_mut(id) {
                    connection.active = state != ClientState::Background;
                }
            }
            ClientFrame::Send(send) => self.on_send(id, origin, &send, turn),
            ClientFrame::SendBatch(batch) => {
                for (index, send) in batch.items.iter().enumerate() {
                    let origin = Origin { index: index as u16, ..*origin };
                    self.on_send(id, &origin, &send, turn);
                }
            }
            ClientFrame::GetRange(range) => self.on_get_range(id, origin, &range, turn),
            ClientFrame::ConversationList(list) => self.on_conversation_list(id, origin, &list),
            ClientFrame::GroupCreate(create) => self.on_group_create(id, origin, &create, turn),
            ClientFrame::MembersAdd(change) => self.on_members_change(id, origin, &change, true, turn),
            ClientFrame::MembersRemove(change) => self.on_members_change(id, origin, &change, false, turn),
            ClientFrame::Leave(leave) => self.on_leave(id, origin, &leave, turn),
            ClientFrame::MembersGet(get) => {
                let (conversation, after) = (get.conversation, get.after.unwrap_or(UserId(0)));
                let limit = get.limit;
                let request = Request::MembersGet { origin: *origin, conversation, after, limit };
                self.send_range(id, &request, turn);
            }
            ClientFrame::Refresh(refresh) => self.on_refresh(id, origin, refresh.token, turn),
            ClientFrame::Hello(_) => {
                self.protocol_error(id, "a second Hello");
                return Err(Stop);
            }
            ClientFrame::Typing(_) | ClientFrame::Mark(_) => {
                self.refuse_frame(id, origin.request, 0, ErrorCode::Unsupported, b"kind");
            }
        }
        Ok(())
    }

    /// Refuses a command of a session whose token has expired; it goes on with a `Refresh`, and is closed after a grace.
    fn refuse_expired(
        &mut self,
        id: ConnectionId,
        origin: &Origin,
        frame: &ClientFrame<'_>,
        turn: &Turn<'_>,
    ) -> bool {
        let valid = self.connections.get(id).is_some_and(|connection| turn.now.wall < connection.expires);
        let answers = match frame {
            _ if valid => return false,
            ClientFrame::Ack(_) | ClientFrame::Ping | ClientFrame::Pong | ClientFrame::ClientState(_) => {
                return false;
            }
            ClientFrame::Refresh(_) | ClientFrame::Hello(_) => return false,
            ClientFrame::SendBatch(batch) => batch.items.iter().count(),
            _ => 1,
        };
        for index in 0..answers {
            self.refuse_frame(id, origin.request, index as u16, ErrorCode::TokenExpired, b"");
        }
        true
    }

    fn on_group_create(
        &mut self,
        id: ConnectionId,
        origin: &Origin,
        create: &GroupCreate<'_>,
        turn: &mut Turn<'_>,
    ) {
        if create.name.len() > tidegate_domain::GROUP_NAME_BYTES_MAX {
            return self.refuse_frame(id, origin.request, 0, ErrorCode::TooLarge, b"name");
        }
        if names_nobody(create.users) {
            return self.refuse_frame(id, origin.request, 0, ErrorCode::BadArgument, b"users");
        }
        if !self.take_quota(id, origin, create.users.iter().count(), turn) {
            return;
        }
        let conversation = group_id(origin.user, origin.device, &create.client_id);
        let users = user_bytes(create.users);
        let (client_id, name, users) = (create.client_id, create.name, UserList(&users));
        let request = Request::Create { origin: *origin, conversation, client_id, name, users };
        self.send_command(id, &request, turn);
    }

    /// Whether the user may cause one more record, and add so many users; if not, it is refused here. What is spent is the
    /// user's, kept at their home: another connection, or a token of another class, gives nothing back.
    fn take_quota(&mut self, id: ConnectionId, origin: &Origin, invited: usize, turn: &mut Turn<'_>) -> bool {
        let Some(rate) = self.connections.get(id).map(|connection| connection.rate) else { return false };
        let Some(hot) = self.streams.users.get_mut(&origin.user) else { return false };
        let Err(retry_after_ms) = hot.quota.take(rate, turn.now.monotonic, invited) else { return true };
        let error = Error { retry_after_ms, index: origin.index, ..Error::new(ErrorCode::RateLimited) };
        self.write_error(id, origin.request, &error);
        false
    }

    fn on_ack(&mut self, id: ConnectionId, origin: &Origin, number: PushNumber) {
        let Self { streams, window_pool, .. } = self;
        let hot = streams.users.get_mut(&origin.user);
        let Some(device) = hot.and_then(|hot| hot.user.devices.get_mut(origin.device)) else { return };
        let mut changes: Vec<QueueChange> = Vec::new();
        let acknowledged = device.queue.acknowledge(number, window_pool, |change| changes.push(change));
        if acknowledged.is_err() {
            return self.refuse_frame(id, RequestId(number.0), 0, ErrorCode::BadArgument, b"id");
        }
        for change in changes {
            self.append_user(origin.user, UserRecord::Queue { device: origin.device, change });
        }
        let waits = self.streams.users.get(&origin.user).and_then(|hot| hot.user.devices.get(origin.device));
        if waits.is_some_and(|device| device.queue.range_count() > 0) {
            self.queue_ask(origin.user, origin.device);
        }
    }

    fn on_send(&mut self, id: ConnectionId, origin: &Origin, send: &Send<'_>, turn: &mut Turn<'_>) {
        let message = match MessageFields::verify(send.message) {
            Ok(message) => message,
            Err(error) => {
                let field = error.field().as_bytes();
                return self.refuse_frame(id, origin.request, origin.index, error.code(), field);
            }
        };
        if message.kind == MessageKind::System {
            return self.refuse_frame(id, origin.request, origin.index, ErrorCode::Forbidden, b"kind");
        }
        let is_nobody = matches!(send.conversation.kind(), Some(ConversationKind::Direct(UserId(0), _)));
        if is_nobody || send.conversation.kind().is_none() {
            return self.refuse_frame(
                id,
                origin.request,
                origin.index,
                ErrorCode::BadArgument,
                b"conversation",
            );
        }
        if !self.take_quota(id, origin, 0, turn) {
            return;
        }
        let request = Request::Send {
            origin: *origin,
            conversation: send.conversation,
            number: send.number,
            client_id: send.client_id,
            countable: true,
            message: send.message,
        };
        self.send_command(id, &request, turn);
    }

    fn on_members_change(
        &mut self,
        id: ConnectionId,
        origin: &Origin,
        change: &MembersChange<'_>,
        add: bool,
        turn: &mut Turn<'_>,
    ) {
        if names_nobody(change.users) {
            return self.refuse_frame(id, origin.request, 0, ErrorCode::BadArgument, b"users");
        }
        let invited = if add { change.users.iter().count() } else { 0 };
        if !self.take_quota(id, origin, invited, turn) {
            return;
        }
        let users = user_bytes(change.users);
        let (version, users) = (Sequence(change.member_version), UserList(&users));
        let command = if add {
            MemberCommand::Add { version, users }
        } else {
            MemberCommand::Remove { version, users }
        };
        let request = Request::Members {
            origin: *origin,
            conversation: change.conversation,
            number: change.number,
            client_id: change.client_id,
            command,
        };
        self.send_command(id, &request, turn);
    }

    fn on_leave(&mut self, id: ConnectionId, origin: &Origin, leave: &Leave, turn: &mut Turn<'_>) {
        if self.take_quota(id, origin, 0, turn) {
            let request = Request::Members {
                origin: *origin,
                conversation: leave.conversation,
                number: leave.number,
                client_id: leave.client_id,
                command: MemberCommand::Leave,
            };
            self.send_command(id, &request, turn);
        }
    }

    fn on_get_range(&mut self, id: ConnectionId, origin: &Origin, range: &GetRange, turn: &mut Turn<'_>) {
        let span = match range.span {
            RangeSpan::Before(at) => Span::Before(at),
            RangeSpan::After(at) => Span::After(at),
            RangeSpan::Between(from, to) => Span::Between(from, to),
        };
        let (conversation, limit) = (range.conversation, range.limit);
        self.send_range(id, &Request::Range { origin: *origin, conversation, span, limit }, turn);
    }

    /// Sends a command to its home; refused if too many are unanswered or the ring is full.
    fn send_command(&mut self, id: ConnectionId, request: &Request<'_>, turn: &mut Turn<'_>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.unanswered >= UNANSWERED_PER_CONNECTION_MAX {
            return self.refuse_full(id, request.origin());
        }
        match self.send_request(request, turn) {
            Sent::Yes => {
                if let Some(connection) = self.connections.get_mut(id) {
                    connection.unanswered += 1;
                }
            }
            Sent::RingFull => self.refuse_full(id, request.origin()),
            Sent::TooLarge => {
                let Origin { request, index, .. } = *request.origin();
                self.refuse_frame(id, request, index, ErrorCode::TooLarge, b"larger than this gateway takes");
            }
        }
    }

    fn send_range(&mut self, id: ConnectionId, request: &Request<'_>, turn: &mut Turn<'_>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let allowed = connection.ranges_in_flight < RANGES_PER_CONNECTION_MAX;
        if allowed && self.send_request(request, turn) == Sent::Yes {
            if let Some(connection) = self.connections.get_mut(id) {
                connection.ranges_in_flight += 1;
            }
        } else {
            self.refuse_full(id, request.origin());
        }
    }

    /// Puts a request into its home's ring.
    pub(crate) fn send_request(&mut self, request: &Request<'_>, turn: &mut Turn<'_>) -> Sent {
        let Some(conversation) = request.conversation().copied() else { return Sent::TooLarge };
        let home = self.route.conversation(&conversation);
        let rest = request.encode(&mut self.scratch);
        let names_users = matches!(request, Request::Create { .. } | Request::Members { .. });
        if !self.limits.fits_mesh(self.scratch.len() + rest.len(), names_users) {
            return Sent::TooLarge;
        }
        if turn.mesh.push(home, Lane::Requests, &[&self.scratch, rest]) { Sent::Yes } else { Sent::RingFull }
    }

    fn refuse_full(&mut self, id: ConnectionId, origin: &Origin) {
        self.stats.count(Counter::RingFull);
        let error = Error { retry_after_ms: 100, index: origin.index, ..Error::new(ErrorCode::Overloaded) };
        self.write_error(id, origin.request, &error);
    }

    /// Refuses a frame at the edge: nothing of it went anywhere.
    pub(crate) fn refuse_frame(
        &mut self,
        id: ConnectionId,
        request: RequestId,
        index: u16,
        code: ErrorCode,
        detail: &[u8],
    ) {
        let error = Error { detail, index, expected_number: CommandNumber(0), ..Error::new(code) };
        self.write_error(id, request, &error);
    }

    pub(crate) fn write_error(&mut self, id: ConnectionId, request: RequestId, error: &Error<'_>) {
        self.stats.count(Counter::Refused);
        self.stats.error(error.code);
        let mut frame = std::mem::take(&mut self.scratch);
        frame.clear();
        self.encoder.frame(&mut frame, request.0, 0, error);
        self.write_frame(id, &frame);
        self.scratch = frame;
    }

    pub(crate) fn write_ok(&mut self, id: ConnectionId, request: RequestId) {
        let mut frame = std::mem::take(&mut self.scratch);
        frame.clear();
        self.encoder.frame(&mut frame, request.0, 0, &Okay);
        self.write_frame(id, &frame);
        self.scratch = frame;
    }

    fn protocol_error(&mut self, id: ConnectionId, reason: &str) {
        self.stats.count(Counter::ProtocolErrors);
        self.close(id, CloseCode::PROTOCOL_ERROR, reason);
    }
}

fn frame_len(frame: &tidegate_schema::Frame<'_>) -> usize {
    tidegate_schema::limits::HEADER_BYTES + frame.body.len()
}

/// Whether the list has an id that no user can have.
fn names_nobody(users: List<'_, UserId>) -> bool {
    users.iter().any(|user| user.0 == 0)
}

fn user_bytes(users: List<'_, UserId>) -> Vec<u8> {
    users.iter().flat_map(|user| user.0.to_le_bytes()).collect()
}
