//! A device that keeps its commands until they are answered, as PROTOCOL has it, and remembers all it was told.

use std::collections::{BTreeMap, VecDeque};
use tidegate_ids::{
    Attempt, ClientId, CommandNumber, ConversationId, DeviceId, MessageId, PushNumber, Sequence, UserId,
};
use tidegate_schema::{
    Body, ClientState, Encoder, ErrorCode, Frame, FrameHeader, GetRange, GroupCreate, Hello, List,
    MembersAdd, MembersChange, MembersRemove, MessageFields, RangeSpan, Send, ServerFrame, SkipSpan, frames,
};
use tidegate_ws::{Decoder, Item, Role, client, encode};

const MASK: [u8; 4] = [0x5a, 0xa5, 0x3c, 0xc3];
const BYTES_MAX: u32 = 1 << 20;

/// What a numbered command does.
#[derive(Clone, Debug)]
pub enum Doing {
    Say(String),
    Add(UserId),
    Remove(UserId),
}

#[derive(Clone, Debug)]
struct Command {
    conversation: ConversationId,
    number: u64,
    doing: Doing,
}

/// What an answered range said.
#[derive(Clone, Debug)]
pub struct Page {
    pub head: Sequence,
    pub complete: bool,
    pub sequences: Vec<Sequence>,
    pub skips: Vec<SkipSpan>,
}

/// One device.
#[derive(Debug)]
pub struct Client {
    pub user: UserId,
    device: DeviceId,
    attempt: u64,
    /// Whether it wants to be connected.
    pub online: bool,
    place: Option<u32>,
    upgraded: bool,
    pub welcomed: bool,
    /// Whether it ever was: then it is registered.
    pub is_registered: bool,
    decoder: Decoder,
    held: Vec<u8>,
    head: Vec<u8>,
    output: Vec<u8>,
    encoder: Encoder,
    requests: u64,
    numbers: BTreeMap<ConversationId, u64>,
    unanswered: VecDeque<Command>,
    flying: BTreeMap<u64, Command>,
    creations: BTreeMap<u64, ClientId>,
    ranges: BTreeMap<u64, ConversationId>,
    /// Every record that was pushed or read: what the gateway said is in a log.
    pub told: BTreeMap<(ConversationId, Sequence), MessageId>,
    /// Every acknowledgement.
    pub acknowledged: BTreeMap<(ConversationId, u64), (Sequence, MessageId)>,
    /// Acknowledgements of duplicates whose original answer is not known any more.
    pub unknown: Vec<(ConversationId, u64)>,
    pub groups: Vec<ConversationId>,
    pub pages: BTreeMap<ConversationId, Page>,
    pub errors: Vec<ErrorCode>,
    pub closes: Vec<u16>,
}

impl Client {
    pub fn new(user: UserId, device: u64) -> Self {
        Self {
            user,
            device: DeviceId(device),
            attempt: 0,
            online: true,
            place: None,
            upgraded: false,
            welcomed: false,
            is_registered: false,
            decoder: Decoder::new(Role::Client, BYTES_MAX, BYTES_MAX),
            held: Vec::new(),
            head: Vec::new(),
            output: Vec::new(),
            encoder: Encoder::new(),
            requests: 0,
            numbers: BTreeMap::new(),
            unanswered: VecDeque::new(),
            flying: BTreeMap::new(),
            creations: BTreeMap::new(),
            ranges: BTreeMap::new(),
            told: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            unknown: Vec::new(),
            groups: Vec::new(),
            pages: BTreeMap::new(),
            errors: Vec::new(),
            closes: Vec::new(),
        }
    }

    pub fn wants_socket(&self) -> bool {
        self.online && self.place.is_none()
    }

    /// A socket is there: the upgrade request leaves.
    pub fn opened(&mut self, place: u32) {
        self.cut();
        self.place = Some(place);
        let request = client::Request {
            host: "house",
            path: "/ws",
            key: [7; 16],
            protocols: &["tidegate.v1"],
            fields: &[],
        };
        client::request(&mut self.output, &request).unwrap();
    }

    /// The socket is gone. What has no answer is sent again on the next.
    pub fn cut(&mut self) {
        let flying = std::mem::take(&mut self.flying);
        let mut left: Vec<Command> = flying.into_values().chain(self.unanswered.drain(..)).collect();
        left.sort_by_key(|command| (command.conversation, command.number));
        self.unanswered = left.into();
        self.place = None;
        self.upgraded = false;
        self.welcomed = false;
        self.decoder = Decoder::new(Role::Client, BYTES_MAX, BYTES_MAX);
        self.held.clear();
        self.head.clear();
        self.output.clear();
        self.creations.clear();
        self.ranges.clear();
    }

    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Whether every command was acknowledged.
    pub fn is_settled(&self) -> bool {
        self.unanswered.is_empty() && self.flying.is_empty()
    }

    fn request<B: Body>(&mut self, body: &B) -> u64 {
        self.requests += 1;
        let mut payload = Vec::new();
        self.encoder.frame(&mut payload, self.requests, 0, body);
        encode::binary(&mut self.output, &payload, Some(MASK));
        self.requests
    }

    /// Queues a numbered command.
    pub fn command(&mut self, conversation: ConversationId, doing: Doing) {
        let number = self.numbers.entry(conversation).or_insert(0);
        *number += 1;
        let command = Command { conversation, number: *number, doing };
        self.unanswered.push_back(command);
        self.send_unanswered();
    }

    /// Sends everything again that has no acknowledgement.
    pub fn send_unanswered(&mut self) {
        while self.welcomed {
            let Some(command) = self.unanswered.pop_front() else { return };
            let (conversation, number) = (command.conversation, CommandNumber(command.number));
            let client_id = ClientId(u128::from(command.number).to_be_bytes());
            let change = |users| MembersChange { conversation, number, client_id, member_version: 0, users };
            let id = match &command.doing {
                Doing::Say(text) => {
                    let mut message = Vec::new();
                    let fields = MessageFields { body: text.as_bytes(), ..MessageFields::default() };
                    Encoder::new().message(&mut message, &fields).unwrap();
                    self.request(&Send { conversation, number, client_id, message: &message })
                }
                Doing::Add(user) => self.request(&MembersAdd(change(List::new(&[*user])))),
                Doing::Remove(user) => self.request(&MembersRemove(change(List::new(&[*user])))),
            };
            self.flying.insert(id, command);
        }
    }

    /// Sends a command again that was acknowledged long ago.
    pub fn repeat(&mut self, conversation: ConversationId, number: u64, text: &str) {
        self.unanswered.push_front(Command { conversation, number, doing: Doing::Say(text.to_owned()) });
        self.send_unanswered();
    }

    pub fn create_group(&mut self, users: &[UserId]) {
        if self.welcomed {
            let client_id = ClientId([9; 16]);
            let id = self.request(&GroupCreate { client_id, name: b"group", users: List::new(users) });
            self.creations.insert(id, client_id);
        }
    }

    /// Asks for a conversation from its beginning.
    pub fn read(&mut self, conversation: ConversationId) {
        if self.welcomed {
            let span = RangeSpan::After(Sequence(0));
            let id = self.request(&GetRange { conversation, span, limit: 100 });
            self.ranges.insert(id, conversation);
        }
    }

    /// Bytes from the gateway.
    pub fn hear(&mut self, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        if !self.upgraded {
            self.head.extend_from_slice(&bytes);
            let Ok(Some(accepted)) = client::parse_response(&self.head, &[7; 16], &["tidegate.v1"]) else {
                return;
            };
            bytes = self.head[accepted.consumed..].to_vec();
            self.upgraded = true;
            self.attempt += 1;
            let token = format!("user:{}", self.user.0);
            self.request(&Hello {
                protocol_min: 1,
                protocol_max: 1,
                token: token.as_bytes(),
                device: self.device,
                attempt: Attempt(self.attempt),
                platform: b"house",
                state: ClientState::Active,
                credit_frames: 4,
            });
        }
        let mut arrived = Vec::new();
        let mut at = 0;
        loop {
            let step = self.decoder.decode(&mut bytes[at..], &mut self.held).unwrap();
            at += step.consumed;
            match step.item {
                None => break,
                Some(Item::Binary(payload)) => {
                    let owned = frames(payload).map(|frame| frame.unwrap());
                    arrived.extend(owned.map(|frame| (frame.header, frame.body.to_vec())));
                }
                Some(Item::Close { code, .. }) => {
                    let code = code.map_or(0, tidegate_ws::CloseCode::get);
                    self.closes.push(code);
                    // Told to back off.
                    self.online &= code != 4029;
                }
                Some(_) => {}
            }
        }
        for (header, body) in arrived {
            self.take(header, &body);
        }
    }

    fn take(&mut self, header: FrameHeader, body: &[u8]) {
        let frame = Frame { header, body };
        match ServerFrame::decode(&frame).unwrap() {
            ServerFrame::Welcome(_) => {
                self.welcomed = true;
                self.is_registered = true;
                self.send_unanswered();
            }
            ServerFrame::Deliver(record) => {
                self.tell((record.stamp.conversation, record.stamp.sequence), record.stamp.message_id);
            }
            ServerFrame::SendAck(ack) => {
                let command = self.flying.remove(&header.id).expect("an acknowledgement of a command");
                let key = (command.conversation, command.number);
                if ack.duplicate && ack.sequence.0 == 0 {
                    return self.unknown.push(key);
                }
                let before = self.acknowledged.insert(key, (ack.sequence, ack.message_id));
                assert!(
                    before.is_none_or(|before| before == (ack.sequence, ack.message_id)),
                    "answered anew"
                );
            }
            ServerFrame::GroupCreated(created) => self.groups.push(created.conversation),
            ServerFrame::Range(range) => {
                let conversation = self.ranges.remove(&header.id).expect("a range that was asked for");
                let records: Vec<_> = range.iter().map(|record| record.unwrap().stamp).collect();
                for stamp in &records {
                    self.tell((conversation, stamp.sequence), stamp.message_id);
                }
                let sequences = records.iter().map(|stamp| stamp.sequence).collect();
                let skips = range.skips.into_iter().collect();
                let page = Page { head: range.head, complete: range.complete, sequences, skips };
                self.pages.insert(conversation, page);
            }
            ServerFrame::Error(error) => {
                self.errors.push(error.code);
                if let Some(command) = self.flying.remove(&header.id) {
                    assert!(error.code.is_temporary(), "{command:?} is refused for good: {:?}", error.code);
                    self.unanswered.push_back(command.clone());
                    self.unanswered.make_contiguous().sort_by_key(|one| (one.conversation, one.number));
                    let conversation = command.conversation;
                    self.go_on_from(conversation, command.number, error.expected_number.0);
                }
            }
            _ => {}
        }
        if header.is_numbered() {
            let ack = FrameHeader::ack(PushNumber(header.id));
            encode::binary(&mut self.output, &ack.to_bytes(), Some(MASK));
        }
    }

    /// The gateway expects a lower number than that of the first command without an answer: what had the numbers between is
    /// lost there, and they go to the next commands.
    fn go_on_from(&mut self, conversation: ConversationId, number: u64, expected: u64) {
        let waiting = self.unanswered.iter().chain(self.flying.values());
        let first = waiting.filter(|one| one.conversation == conversation).map(|one| one.number).min();
        if expected == 0 || expected >= number || first != Some(number) {
            return;
        }
        let of = |one: &&mut Command| one.conversation == conversation;
        self.unanswered.iter_mut().filter(of).for_each(|one| one.number -= number - expected);
        self.flying.values_mut().filter(of).for_each(|one| one.number -= number - expected);
        self.numbers.entry(conversation).and_modify(|last| *last -= number - expected);
        for lost in expected..number {
            self.acknowledged.remove(&(conversation, lost));
        }
        self.send_unanswered();
    }

    fn tell(&mut self, key: (ConversationId, Sequence), message: MessageId) {
        let before = self.told.insert(key, message);
        assert!(before.is_none_or(|before| before == message), "another record under the same sequence");
    }
}
