//! A device that keeps books: what it was pushed, in which order, and what came although it had it.

use std::collections::{BTreeMap, VecDeque};
use tidegate_ids::{
    Attempt, ClientId, CommandNumber, ConversationId, DeviceId, PushNumber, RequestId, Sequence, UserId,
};
use tidegate_schema::{
    Body, ClientState, ConversationList, ConversationPage, Encoder, Frame, FrameHeader, GetRange,
    GroupCreate, Hello, List, ListOrder, MessageFields, RangeSpan, Resync, Send, ServerFrame, frames,
};
use tidegate_ws::{Decoder, Item, Role, client, encode};

const MASK: [u8; 4] = [0x5a, 0xa5, 0x3c, 0xc3];
const BYTES_MAX: u32 = 1 << 20;

/// Commands on their way.
const FLYING_MAX: usize = 128;

/// What a device says.
#[derive(Clone, Debug)]
pub enum Saying {
    Create { client_id: ClientId, users: Vec<UserId> },
    Say { conversation: ConversationId, number: u64 },
}

/// One device.
pub struct Device {
    pub user: UserId,
    pub device: DeviceId,
    pub online: bool,
    pub welcomed: bool,
    /// What the last Welcome said.
    pub ranges_waiting: u32,
    /// And what to do before anything else.
    pub resync: Resync,
    /// It does so, and is synchronised then.
    pub synchronises: bool,
    pub synchronised: bool,
    /// How far conversations go that the list has shown, while it has not fetched all of that.
    to_fetch: VecDeque<(ConversationId, u64)>,
    pub drained: bool,
    pub credit: u16,
    /// Pushes after which it acknowledges; fewer only when nothing came for a step.
    pub ack_every: u64,
    /// It takes what it is pushed and never says so.
    pub is_silent: bool,
    /// By conversation, the next sequence that it does not have.
    pub next: BTreeMap<ConversationId, u64>,
    /// Conversations in the order of their first push.
    pub order: Vec<ConversationId>,
    /// Records pushed for the first time, and again.
    pub fresh: usize,
    pub repeats: usize,
    pub announced: Vec<(ConversationId, Sequence, Sequence)>,
    pub sayings: VecDeque<Saying>,
    pub acknowledged: usize,
    pub closes: Vec<u16>,
    flying: usize,
    attempt: u64,
    place: Option<u32>,
    upgraded: bool,
    decoder: Decoder,
    held: Vec<u8>,
    output: Vec<u8>,
    encoder: Encoder,
    requests: u64,
    received: u64,
    told: u64,
    heard: bool,
}

impl Device {
    pub fn new(user: UserId, device: u64) -> Self {
        Self {
            user,
            device: DeviceId(device),
            online: true,
            welcomed: false,
            ranges_waiting: 0,
            resync: Resync::None,
            synchronises: false,
            synchronised: true,
            to_fetch: VecDeque::new(),
            drained: false,
            credit: 16,
            ack_every: 5,
            is_silent: false,
            next: BTreeMap::new(),
            order: Vec::new(),
            fresh: 0,
            repeats: 0,
            announced: Vec::new(),
            sayings: VecDeque::new(),
            acknowledged: 0,
            closes: Vec::new(),
            flying: 0,
            attempt: 0,
            place: None,
            upgraded: false,
            decoder: Decoder::new(Role::Client, BYTES_MAX, BYTES_MAX),
            held: Vec::new(),
            output: Vec::new(),
            encoder: Encoder::new(),
            requests: 0,
            received: 0,
            told: 0,
            heard: false,
        }
    }

    pub fn wants_socket(&self) -> bool {
        self.online && self.place.is_none()
    }

    pub fn is_connected(&self) -> bool {
        self.place.is_some()
    }

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

    pub fn cut(&mut self) {
        self.place = None;
        (self.upgraded, self.welcomed, self.drained) = (false, false, false);
        self.decoder = Decoder::new(Role::Client, BYTES_MAX, BYTES_MAX);
        self.held.clear();
        self.output.clear();
        (self.received, self.told, self.flying) = (0, 0, 0);
    }

    /// Whether it has nothing to do.
    pub fn is_idle(&self) -> bool {
        self.sayings.is_empty() && self.flying == 0 && self.received == self.told
    }

    /// What it says in this step.
    pub fn take_output(&mut self) -> Vec<u8> {
        if self.welcomed {
            while self.flying < FLYING_MAX {
                let Some(saying) = self.sayings.pop_front() else { break };
                self.say(&saying);
            }
            let count = self.received - self.told;
            let is_due = count >= self.ack_every || (count > 0 && !self.heard);
            if is_due && !self.is_silent {
                self.told = self.received;
                let ack = FrameHeader::ack(PushNumber(self.received));
                encode::binary(&mut self.output, &ack.to_bytes(), Some(MASK));
            }
            self.heard = false;
        }
        std::mem::take(&mut self.output)
    }

    fn say(&mut self, saying: &Saying) {
        self.flying += 1;
        match saying {
            Saying::Create { client_id, users } => {
                let body = GroupCreate { client_id: *client_id, name: b"group", users: List::new(users) };
                self.request(&body);
            }
            Saying::Say { conversation, number } => {
                let mut message = Vec::new();
                let fields = MessageFields { body: b"hello", ..MessageFields::default() };
                self.encoder.message(&mut message, &fields).unwrap();
                let (conversation, client_id) = (*conversation, ClientId(u128::from(*number).to_be_bytes()));
                let number = CommandNumber(*number);
                self.request(&Send { conversation, number, client_id, message: &message });
            }
        }
    }

    fn request<B: Body>(&mut self, body: &B) -> RequestId {
        self.requests += 1;
        let mut payload = Vec::new();
        self.encoder.frame(&mut payload, self.requests, 0, body);
        encode::binary(&mut self.output, &payload, Some(MASK));
        RequestId(self.requests)
    }

    pub fn hear(&mut self, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        if !self.upgraded {
            let parsed = client::parse_response(&bytes, &[7; 16], &["tidegate.v1"]);
            let accepted = parsed.unwrap().expect("a small response comes at once");
            bytes.drain(..accepted.consumed);
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
                credit_frames: self.credit,
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
                    self.closes.push(code.map_or(0, tidegate_ws::CloseCode::get));
                }
                Some(_) => {}
            }
        }
        arrived.iter().for_each(|(header, body)| self.take(*header, body));
    }

    fn take(&mut self, header: FrameHeader, body: &[u8]) {
        self.heard = true;
        if header.is_numbered() {
            self.received += 1;
            assert_eq!(header.id, self.received, "pushes are numbered without a gap");
            let open = self.received - self.told;
            assert!(open <= u64::from(self.credit), "{open} pushes without credit");
        }
        match ServerFrame::decode(&Frame { header, body }).unwrap() {
            ServerFrame::Welcome(welcome) => {
                self.welcomed = true;
                self.ranges_waiting = welcome.ranges_waiting;
                self.resync = welcome.resync;
                self.synchronised = !self.synchronises || self.resync == Resync::None;
                self.to_fetch.clear();
                if !self.synchronised {
                    self.list_after(None);
                }
            }
            ServerFrame::ConversationPage(page) => self.take_rows(&page),
            ServerFrame::Range(range) => {
                range.iter().for_each(|record| {
                    let stamp = record.unwrap().stamp;
                    self.store(stamp.conversation, stamp.sequence.0);
                });
                self.fetch();
            }
            ServerFrame::Deliver(record) => self.store(record.stamp.conversation, record.stamp.sequence.0),
            ServerFrame::Dirty(dirty) => {
                let next = self.next.get(&dirty.conversation).copied().unwrap_or(1);
                assert!(dirty.from.0 <= next, "what lies between is neither pushed nor announced");
                self.announced.push((dirty.conversation, dirty.from, dirty.head));
                self.next.insert(dirty.conversation, dirty.head.0 + 1);
            }
            ServerFrame::SendAck(_) | ServerFrame::GroupCreated(_) => {
                self.flying -= 1;
                self.acknowledged += 1;
            }
            ServerFrame::DrainDone => self.drained = true,
            ServerFrame::Error(error) => panic!("a command was refused: {:?}", error.code),
            _ => {}
        }
    }

    /// Asks for the page of the list behind a conversation.
    fn list_after(&mut self, after: Option<ConversationId>) {
        let order = ListOrder::LastActivity(Default::default());
        self.request(&ConversationList { order, after, limit: 50 });
    }

    fn take_rows(&mut self, page: &ConversationPage<'_>) {
        let mut last = None;
        for row in page.rows {
            self.to_fetch.push_back((row.conversation, row.head.0));
            last = Some(row.conversation);
        }
        if page.more {
            self.list_after(last);
        } else {
            self.fetch();
        }
    }

    /// Asks for what it does not have of the first conversation that lacks something.
    fn fetch(&mut self) {
        while let Some((conversation, head)) = self.to_fetch.front().copied() {
            let next = self.next.get(&conversation).copied().unwrap_or(1);
            if next <= head {
                let span = RangeSpan::Between(Sequence(next), Sequence(head));
                self.request(&GetRange { conversation, span, limit: 100 });
                return;
            }
            self.to_fetch.pop_front();
        }
        self.synchronised = true;
    }

    /// A record is stored: the next of its conversation, or one that was pushed already.
    fn store(&mut self, conversation: ConversationId, sequence: u64) {
        let next = self.next.entry(conversation).or_insert_with(|| {
            self.order.push(conversation);
            1
        });
        assert!(sequence <= *next, "{conversation}: {sequence} came before {next}");
        if sequence == *next {
            *next += 1;
            self.fresh += 1;
        } else {
            self.repeats += 1;
        }
    }
}
