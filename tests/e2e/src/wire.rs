//! A client that says exactly what a test wants said: bytes, WebSocket messages, or frames.

use crate::frame::{Arrived, OwnedFrame};
use crate::limits::WAIT;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use tidegate_domain::Route;
use tidegate_ids::{
    Attempt, ClientId, CommandNumber, ConversationId, DeviceId, PushNumber, Sequence, ShardIndex, UserId,
};
use tidegate_schema::{
    Body, ClientState, Encoder, ErrorCode, FrameHeader, FrameKind, GetRange, GroupCreate, Hello, List,
    MessageFields, RangeSpan, Send, SendAck, ServerFrame, Stamp, Welcome, frames,
};
use tidegate_ws::{Decoder, Item, Role, client, encode};

/// What this client takes at once; larger than anything that the gateway sends.
const MESSAGE_BYTES_MAX: u32 = 1 << 20;

/// Masks need not be secret here.
const MASK: [u8; 4] = [0x5a, 0xa5, 0x3c, 0xc3];

/// The most bytes that a refused upgrade says.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// An encoded message with a text.
#[must_use]
pub fn message(text: &str) -> Vec<u8> {
    let mut encoded = Vec::new();
    let fields = MessageFields { body: text.as_bytes(), ..MessageFields::default() };
    Encoder::new().message(&mut encoded, &fields).expect("tests write short texts");
    encoded
}

/// The text of an encoded message.
#[must_use]
#[track_caller]
pub fn text_of(message: &[u8]) -> String {
    let fields = MessageFields::verify(message).expect("the gateway passes on what verifies");
    String::from_utf8_lossy(fields.body).into_owned()
}

/// The nth user whose home is a shard, from 0.
#[must_use]
pub fn user_at(shards: u16, shard: u16, nth: usize) -> UserId {
    let route = Route::new(shards);
    let lives_there = |user: &UserId| route.user(*user) == ShardIndex(shard);
    (1..).map(UserId).filter(lives_there).nth(nth).expect("ids do not end")
}

/// An error, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub code: ErrorCode,
    /// Whether trying again may help.
    pub temporary: bool,
    /// When.
    pub retry_after_ms: u32,
    /// For people.
    pub text: String,
    /// The number that is expected.
    pub expected: CommandNumber,
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOpen {
    /// With an HTTP status.
    Refused(u16),
    /// Nobody listens, or who listened went away.
    Gone,
}

/// A connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    decoder: Decoder,
    held: Vec<u8>,
    encoder: Encoder,
    arrived: VecDeque<Arrived>,
    answers: VecDeque<OwnedFrame>,
    pushes: VecDeque<OwnedFrame>,
    requests: u64,
    pushed: PushNumber,
}

impl Wire {
    /// Upgrades to WebSocket.
    ///
    /// # Errors
    /// The upgrade was refused, or nobody is there any more.
    pub fn upgrade(address: SocketAddr, path: &str, protocols: &[&str]) -> Result<Self, NotOpen> {
        let mut stream = TcpStream::connect(address).map_err(|error| gone(&error))?;
        stream.set_read_timeout(Some(WAIT)).expect("a wait can be set");
        stream.set_write_timeout(Some(WAIT)).expect("a wait can be set");
        stream.set_nodelay(true).expect("a socket can be told so");
        let key = [7; 16];
        let host = address.to_string();
        let mut out = Vec::new();
        let request = client::Request { host: &host, path, key, protocols, fields: &[] };
        client::request(&mut out, &request).expect("the request is sound");
        stream.write_all(&out).map_err(|error| gone(&error))?;
        let mut head = Vec::new();
        let mut arrived = VecDeque::new();
        loop {
            match client::parse_response(&head, &key, protocols) {
                Ok(Some(accepted)) => {
                    let rest = head.split_off(accepted.consumed);
                    let decoder = Decoder::new(Role::Client, MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX);
                    let (held, answers, pushes) = (Vec::new(), VecDeque::new(), VecDeque::new());
                    let (encoder, pushed) = (Encoder::new(), PushNumber(0));
                    arrived.clear();
                    let mut wire = Self {
                        stream,
                        decoder,
                        held,
                        encoder,
                        arrived,
                        answers,
                        pushes,
                        requests: 0,
                        pushed,
                    };
                    wire.decode(rest);
                    return Ok(wire);
                }
                Ok(None) => {}
                Err(client::ResponseError::Refused(status)) => return Err(NotOpen::Refused(status)),
                Err(error) => panic!("not an answer to an upgrade: {error:?}"),
            }
            let mut bytes = [0; 1024];
            let count = stream.read(&mut bytes).map_err(|error| gone(&error))?;
            if count == 0 {
                return Err(NotOpen::Gone);
            }
            assert!(head.len() < HEAD_BYTES_MAX, "the answer to an upgrade has no end");
            head.extend_from_slice(&bytes[..count]);
        }
    }

    /// Upgrades as a client does.
    #[must_use]
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        Self::upgrade(address, "/ws", &["tidegate.v1"]).expect("the upgrade is accepted")
    }

    /// Upgrades as a client does, if the gateway still lives.
    #[must_use]
    #[track_caller]
    pub fn try_open(address: SocketAddr) -> Option<Self> {
        match Self::upgrade(address, "/ws", &["tidegate.v1"]) {
            Ok(wire) => Some(wire),
            Err(NotOpen::Gone) => None,
            Err(NotOpen::Refused(status)) => panic!("the upgrade is refused with {status}"),
        }
    }

    /// A device that was welcomed.
    #[must_use]
    #[track_caller]
    pub fn greeted(address: SocketAddr, token: &[u8], device: DeviceId, attempt: u64) -> Self {
        let mut wire = Self::open(address);
        wire.hello(token, device, attempt);
        wire
    }

    /// Says `Hello`; the gateway must welcome.
    #[track_caller]
    pub fn hello(&mut self, token: &[u8], device: DeviceId, attempt: u64) -> Welcome {
        let id = self.say_hello(token, device, attempt);
        let answer = self.answer(id);
        match answer.read() {
            ServerFrame::Welcome(welcome) => welcome,
            other => panic!("not welcome: {other:?}"),
        }
    }

    /// Says `Hello` and does not wait.
    pub fn say_hello(&mut self, token: &[u8], device: DeviceId, attempt: u64) -> u64 {
        self.request(&Hello {
            protocol_min: 1,
            protocol_max: 1,
            token,
            device,
            attempt: Attempt(attempt),
            platform: b"e2e",
            state: ClientState::Active,
            credit_frames: 256,
        })
    }

    /// Sends one frame as one message; gives its request id.
    pub fn request<B: Body>(&mut self, body: &B) -> u64 {
        let mut payload = Vec::new();
        let id = self.append(&mut payload, body);
        self.say(&payload);
        id
    }

    /// Appends a frame to a payload that is sent later; gives its request id.
    pub fn append<B: Body>(&mut self, payload: &mut Vec<u8>, body: &B) -> u64 {
        self.requests += 1;
        self.encoder.frame(payload, self.requests, 0, body);
        self.requests
    }

    /// Sends a binary message. The gateway may have closed already: what it said is still to be read.
    pub fn say(&mut self, payload: &[u8]) {
        let mut out = Vec::new();
        encode::binary(&mut out, payload, Some(MASK));
        self.say_raw(&out);
    }

    /// Sends a text message.
    pub fn say_text(&mut self, text: &str) {
        let mut out = Vec::new();
        encode::text(&mut out, text, Some(MASK));
        self.say_raw(&out);
    }

    /// Sends bytes as they are.
    pub fn say_raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends bytes as they are; false if they were not all taken within `wait`.
    pub fn try_say_raw(&mut self, bytes: &[u8], wait: Duration) -> bool {
        let set = |stream: &TcpStream, wait| stream.set_write_timeout(wait).expect("no zero is set");
        set(&self.stream, Some(wait));
        let taken = self.stream.write_all(bytes).is_ok();
        set(&self.stream, Some(WAIT));
        taken
    }

    /// Acknowledges everything that was pushed.
    pub fn acknowledge(&mut self) {
        let header = FrameHeader::ack(self.pushed);
        self.say(&header.to_bytes());
    }

    /// The highest push that has come.
    #[must_use]
    pub const fn pushed(&self) -> PushNumber {
        self.pushed
    }

    /// What comes next.
    #[track_caller]
    pub fn arrive(&mut self) -> Arrived {
        loop {
            if let Some(arrived) = self.arrived.pop_front() {
                if let Arrived::Frame(frame) = &arrived
                    && frame.header.is_numbered()
                {
                    self.pushed = PushNumber(frame.header.id);
                }
                return arrived;
            }
            let mut bytes = vec![0; 64 * 1024];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Arrived::Ended,
                Ok(count) => {
                    bytes.truncate(count);
                    self.decode(bytes);
                }
                Err(error) if is_reset(&error) => return Arrived::Ended,
                // The kernel does not go on with a read that has a timeout after the process was stopped, or the machine frozen.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => panic!("nothing came for long: {error}"),
            }
        }
    }

    fn decode(&mut self, mut bytes: Vec<u8>) {
        let mut at = 0;
        loop {
            let step = self.decoder.decode(&mut bytes[at..], &mut self.held);
            let step = step.expect("the gateway speaks WebSocket");
            at += step.consumed;
            match step.item {
                None => return,
                Some(Item::Binary(payload)) => {
                    for frame in frames(payload) {
                        let frame = frame.expect("the gateway's frames are sound");
                        let frame = OwnedFrame { header: frame.header, body: frame.body.to_vec() };
                        self.arrived.push_back(Arrived::Frame(frame));
                    }
                }
                Some(Item::Close { code, .. }) => {
                    self.arrived.push_back(Arrived::Closed(code.map(tidegate_ws::CloseCode::get)));
                }
                Some(Item::Text(text)) => panic!("a text message: {}", String::from_utf8_lossy(text)),
                Some(Item::Ping(_) | Item::Pong(_)) => {}
            }
        }
    }

    /// The next frame; pushes and answers to others are kept for whoever asks for them.
    #[track_caller]
    fn sort_next(&mut self, wanted: &str) {
        match self.arrive() {
            Arrived::Frame(frame) if frame.header.is_numbered() => self.pushes.push_back(frame),
            Arrived::Frame(frame) if frame.header.id != 0 => self.answers.push_back(frame),
            // Nobody asked: DrainDone, Ping.
            Arrived::Frame(_) => {}
            Arrived::Closed(code) => panic!("closed with {code:?} instead of {wanted}"),
            Arrived::Ended => panic!("the socket ended instead of {wanted}"),
        }
    }

    /// The answer to a request.
    #[track_caller]
    pub fn answer(&mut self, id: u64) -> OwnedFrame {
        loop {
            if let Some(at) = self.answers.iter().position(|answer| answer.header.id == id) {
                return self.answers.remove(at).expect("it was found there");
            }
            self.sort_next("an answer");
        }
    }

    /// The refusal of a request.
    #[track_caller]
    pub fn refusal(&mut self, id: u64) -> Refused {
        let answer = self.answer(id);
        match answer.read() {
            ServerFrame::Error(error) => Refused {
                code: error.code,
                temporary: error.temporary,
                retry_after_ms: error.retry_after_ms,
                text: String::from_utf8_lossy(error.text).into_owned(),
                expected: error.expected_number,
            },
            other => panic!("not refused: {other:?}"),
        }
    }

    /// The acknowledgement of a command.
    #[track_caller]
    pub fn acknowledged(&mut self, id: u64) -> SendAck {
        let answer = self.answer(id);
        match answer.read() {
            ServerFrame::SendAck(ack) => ack,
            other => panic!("not acknowledged: {other:?}"),
        }
    }

    /// Sends a message and does not wait. The client id is the number.
    pub fn say_send(&mut self, conversation: ConversationId, number: u64, message: &[u8]) -> u64 {
        self.request(&Send {
            conversation,
            number: CommandNumber(number),
            client_id: client_id(number),
            message,
        })
    }

    /// Sends a text under a number, and waits for its acknowledgement.
    #[track_caller]
    pub fn send(&mut self, conversation: ConversationId, number: u64, text: &str) -> SendAck {
        let id = self.say_send(conversation, number, &message(text));
        self.acknowledged(id)
    }

    /// Creates a group.
    #[track_caller]
    pub fn create_group(&mut self, client_id: ClientId, users: &[UserId]) -> ConversationId {
        let id = self.request(&GroupCreate { client_id, name: b"group", users: List::new(users) });
        let answer = self.answer(id);
        match answer.read() {
            ServerFrame::GroupCreated(created) => created.conversation,
            other => panic!("no group: {other:?}"),
        }
    }

    /// The next record that is pushed; it is acknowledged.
    #[track_caller]
    pub fn pushed_record(&mut self) -> (Stamp, Vec<u8>) {
        loop {
            if let Some(frame) = self.pushes.pop_front() {
                self.acknowledge();
                match frame.read() {
                    ServerFrame::Deliver(record) => return (record.stamp, record.message.to_vec()),
                    other => panic!("not a record: {other:?}"),
                }
            }
            self.sort_next("a record");
        }
    }

    /// Waits for a text in a conversation; what else is pushed before is passed over.
    #[track_caller]
    pub fn hear(&mut self, conversation: ConversationId, text: &str) -> Stamp {
        loop {
            let (stamp, message) = self.pushed_record();
            if stamp.conversation == conversation && text_of(&message) == text {
                return stamp;
            }
        }
    }

    /// Asks for records.
    pub fn say_range(&mut self, conversation: ConversationId, after: Sequence) -> u64 {
        self.request(&GetRange { conversation, span: RangeSpan::After(after), limit: 100 })
    }

    /// Sends a `Ping` and waits for its `Pong`: everything that was sent before has been looked at.
    #[track_caller]
    pub fn ping(&mut self) {
        self.requests += 1;
        let id = self.requests;
        self.say(&FrameHeader::alone(FrameKind::Ping, id).to_bytes());
        let answer = self.answer(id);
        assert!(matches!(answer.read(), ServerFrame::Pong), "not a Pong: {answer:?}");
    }

    /// Waits for the end; gives the code of the close frame, if one came before. Answers that come meanwhile are kept.
    #[track_caller]
    pub fn closed(&mut self) -> Option<u16> {
        let mut found = None;
        loop {
            match self.arrive() {
                Arrived::Frame(frame) if frame.header.is_numbered() => self.pushes.push_back(frame),
                Arrived::Frame(frame) => self.answers.push_back(frame),
                Arrived::Closed(code) => found = code,
                Arrived::Ended => return found,
            }
        }
    }
}

/// A client id that is a number.
pub(crate) fn client_id(number: u64) -> ClientId {
    ClientId(u128::from(number).to_be_bytes())
}

fn gone(error: &std::io::Error) -> NotOpen {
    let is_gone = is_reset(error) || error.kind() == std::io::ErrorKind::ConnectionRefused;
    assert!(is_gone, "an upgrade has no answer: {error}");
    NotOpen::Gone
}

/// Whether this is how the other end's close, or its death, looks.
fn is_reset(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(error.kind(), ConnectionReset | ConnectionAborted | BrokenPipe)
}
