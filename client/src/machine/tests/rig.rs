//! A machine and a scripted gateway on the other side of its bytes. Both sides' words become lines of text, so that a
//! test is a list of lines.

use crate::config::{Backfill, Config};
use crate::event::Event;
use crate::machine::Machine;
use crate::stored::Stored;
use std::sync::Arc;
use tidegate_ids::{
    ConversationId, DeviceId, Incarnation, MonotonicNs, PushNumber, Sequence, UserId, UserVersion,
};
use tidegate_schema::{
    ClientFrame, ConversationPage, ConversationRow, Deliver, Encoder, FLAG_NUMBERED, List, Range, RangeSpan,
    Resync, SendAck, ServerFrame, SkipSpan, Stamp, Welcome, deliver, frames,
};
use tidegate_ws::{Decoder, Item, Role, encode, server};

pub(crate) const ME: UserId = UserId(10);
pub(crate) const PEER: UserId = UserId(20);
pub(crate) const DEVICE: DeviceId = DeviceId(7);
const PAYLOAD_MAX: u32 = 256 * 1024;

/// The direct conversation of the two.
pub(crate) fn direct() -> ConversationId {
    ConversationId::direct(ME, PEER)
}

pub(crate) fn group() -> ConversationId {
    ConversationId::group([3; 16])
}

pub(crate) struct Rig {
    pub(crate) machine: Machine,
    pub(crate) now: MonotonicNs,
    pub(crate) resync: Resync,
    pub(crate) rows: Vec<ConversationRow>,
    pub(crate) close_heard: Option<u16>,
    pub(crate) attempts: u64,
    encoder: Encoder,
    decoder: Decoder,
    held: Vec<u8>,
    told: Vec<String>,
    heard: Vec<(u64, String)>,
    push: u64,
}

/// A state that has synchronised before.
pub(crate) fn seasoned() -> Stored {
    Stored { user: ME, incarnation: Incarnation(1), user_version: UserVersion(5), ..Stored::new(DEVICE) }
}

impl Rig {
    /// Connected, welcome, ready; both logs are empty.
    pub(crate) fn ready() -> Self {
        let mut rig = Self::with(seasoned(), Config { backfill: Backfill::All, ..Config::default() });
        rig.connect();
        assert!(rig.machine.is_ready());
        rig.told();
        rig.heard();
        rig
    }

    pub(crate) fn with(stored: Stored, config: Config) -> Self {
        Self {
            machine: Machine::new(Arc::new(config), b"token", stored, 42),
            now: MonotonicNs(1_000_000_000),
            resync: Resync::None,
            rows: Vec::new(),
            close_heard: None,
            attempts: 0,
            encoder: Encoder::new(),
            decoder: Decoder::new(Role::Server, PAYLOAD_MAX, PAYLOAD_MAX),
            held: Vec::new(),
            told: Vec::new(),
            heard: Vec::new(),
            push: 0,
        }
    }

    /// From an open socket to `Welcome` and through the list, as the gateway would.
    pub(crate) fn connect(&mut self) {
        self.upgrade();
        let hello = self.heard.iter().find(|(_, text)| text.starts_with("hello")).expect("hello").0;
        self.welcome(hello);
        while let Some(place) = self.heard.iter().position(|(_, text)| text.starts_with("list")) {
            let (id, _) = self.heard.remove(place);
            let rows = self.rows.clone();
            let page = ConversationPage { rows: List::new(&rows), user_version: UserVersion(6), more: false };
            self.say(id, &ServerFrame::ConversationPage(page));
        }
    }

    /// An open socket, the upgrade done, `Hello` heard.
    pub(crate) fn upgrade(&mut self) {
        let attempt = self.machine.poll_connect(self.now).expect("wants a socket");
        self.attempts = attempt.0;
        (self.push, self.held, self.close_heard) = (0, Vec::new(), None);
        self.decoder = Decoder::new(Role::Server, PAYLOAD_MAX, PAYLOAD_MAX);
        let told = &mut self.told;
        self.machine.connected(self.now, &mut |event| told.push(line(&event)));
        let mut out = Vec::new();
        self.machine.transmit(&mut self.encoder, &mut out, self.now);
        let request = server::parse(&out).expect("a request").expect("whole");
        let mut response = Vec::new();
        server::accept_response(&mut response, &request.key, Some("tidegate.v1"));
        self.bytes(&mut response);
    }

    pub(crate) fn welcome(&mut self, hello: u64) {
        let welcome = Welcome {
            version: 1,
            user: ME,
            incarnation: Incarnation(1),
            heartbeat_active_ms: 30_000,
            heartbeat_background_ms: 300_000,
            user_version: UserVersion(6),
            resync: self.resync,
            ..Welcome::default()
        };
        self.say(hello, &ServerFrame::Welcome(welcome));
    }

    /// The gateway says something under an id.
    pub(crate) fn say(&mut self, id: u64, frame: &ServerFrame<'_>) {
        self.say_flagged(id, 0, frame);
    }

    /// The gateway pushes something under the next number.
    pub(crate) fn push(&mut self, frame: &ServerFrame<'_>) {
        self.push += 1;
        self.say_flagged(self.push, FLAG_NUMBERED, frame);
    }

    pub(crate) fn say_flagged(&mut self, id: u64, flags: u16, frame: &ServerFrame<'_>) {
        let mut payload = Vec::new();
        frame.encode(&mut self.encoder, &mut payload, id, flags);
        let mut out = Vec::new();
        encode::binary(&mut out, &payload, None);
        self.bytes(&mut out);
    }

    pub(crate) fn close_with(&mut self, code: u16) {
        let mut out = Vec::new();
        encode::close(&mut out, tidegate_ws::CloseCode::new(code), "", None);
        self.bytes(&mut out);
        assert!(self.machine.wants_close());
        self.drop_socket();
    }

    pub(crate) fn drop_socket(&mut self) {
        let told = &mut self.told;
        self.machine.disconnected(self.now, &mut |event| told.push(line(&event)));
    }

    pub(crate) fn bytes(&mut self, bytes: &mut [u8]) {
        let told = &mut self.told;
        self.machine.received(bytes, self.now, &mut |event| told.push(line(&event)));
        self.listen();
    }

    /// What the machine says now goes to the log of what was heard.
    pub(crate) fn listen(&mut self) {
        let mut out = Vec::new();
        let mut rounds = 0;
        while self.machine.wants_transmit() {
            self.machine.transmit(&mut self.encoder, &mut out, self.now);
            rounds += 1;
            assert!(rounds < 1000, "transmit does not come to an end");
        }
        let mut at = 0;
        loop {
            let step = self.decoder.decode(&mut out[at..], &mut self.held).expect("sound bytes");
            at += step.consumed;
            match step.item {
                None => return,
                Some(Item::Binary(payload)) => {
                    for frame in frames(payload) {
                        let frame = frame.expect("a frame");
                        let body = ClientFrame::decode(&frame).expect("a client frame");
                        self.heard.push((frame.header.id, said(&body)));
                    }
                }
                Some(Item::Close { code, .. }) => self.close_heard = code.map(|code| code.get()),
                Some(Item::Pong(payload)) => {
                    self.heard.push((0, format!("socket pong {}", text(payload))));
                }
                Some(item) => panic!("a client does not say {item:?}"),
            }
        }
    }

    /// Time passes, with every tick that is due.
    pub(crate) fn wait_ms(&mut self, ms: u64) {
        let end = self.now.after(ms * MonotonicNs::MILLISECOND);
        let mut ticks = 0;
        while let Some(at) = self.machine.next_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            let told = &mut self.told;
            self.machine.tick(self.now, &mut |event| told.push(line(&event)));
            self.listen();
            ticks += 1;
            assert!(ticks < 1000, "ticks without end at {:?}", self.now);
            if self.machine.wants_close()
                || matches!(self.machine.connection(), crate::ConnectionState::Offline(_))
            {
                break;
            }
        }
        self.now = self.now.max(end);
    }

    /// Everything told is durable.
    pub(crate) fn store(&mut self) {
        self.machine.stored_all(self.now);
        self.listen();
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.machine.send(direct(), text.as_bytes()).expect("taken");
        self.listen();
    }

    pub(crate) fn told(&mut self) -> Vec<String> {
        core::mem::take(&mut self.told)
    }

    pub(crate) fn heard(&mut self) -> Vec<String> {
        core::mem::take(&mut self.heard).into_iter().map(|(_, text)| text).collect()
    }

    /// The ids of what was heard, with the text; the log stays.
    pub(crate) fn ids(&self, begins: &str) -> Vec<u64> {
        self.heard.iter().filter(|(_, text)| text.starts_with(begins)).map(|(id, _)| *id).collect()
    }

    /// The gateway pushes the peer's record.
    pub(crate) fn deliver(&mut self, conversation: ConversationId, sequence: u64) {
        let text = format!("m{sequence}");
        let stamp = stamp(conversation, sequence);
        self.push(&ServerFrame::Deliver(Deliver { stamp, message: text.as_bytes() }));
    }

    pub(crate) fn acknowledge(&mut self, id: u64, sequence: u64, duplicate: bool) {
        let ack = SendAck { sequence: Sequence(sequence), duplicate, ..SendAck::default() };
        self.say(id, &ServerFrame::SendAck(ack));
    }

    pub(crate) fn refuse(&mut self, id: u64, code: u16, expected: u64, retry_after_ms: u32) {
        let error = tidegate_schema::Error {
            expected_number: tidegate_ids::CommandNumber(expected),
            retry_after_ms,
            ..tidegate_schema::Error::new(code.into())
        };
        self.say(id, &ServerFrame::Error(error));
    }

    /// Answers a `GetRange` with these records and skips.
    pub(crate) fn range(&mut self, id: u64, answer: &Answer<'_>) {
        let mut records = Vec::new();
        for sequence in answer.records {
            let text = format!("m{sequence}");
            deliver::write_stored(&stamp(direct(), *sequence), text.as_bytes(), &mut records);
        }
        let skips: Vec<SkipSpan> = answer
            .skips
            .iter()
            .map(|(from, to)| SkipSpan { from: Sequence(*from), to: Sequence(*to), ..SkipSpan::default() })
            .collect();
        let range = Range {
            conversation: direct(),
            head: Sequence(answer.head),
            first_available: Sequence(answer.first),
            complete: answer.complete,
            skips: List::new(&skips),
            records: &records,
        };
        self.say(id, &ServerFrame::Range(range));
    }
}

/// An answer to `GetRange` about the direct conversation.
#[derive(Clone, Copy, Default)]
pub(crate) struct Answer<'a> {
    pub(crate) records: &'a [u64],
    pub(crate) skips: &'a [(u64, u64)],
    pub(crate) head: u64,
    pub(crate) first: u64,
    pub(crate) complete: bool,
}

pub(crate) fn stamp(conversation: ConversationId, sequence: u64) -> Stamp {
    Stamp { conversation, sequence: Sequence(sequence), sender: PEER, ..Stamp::default() }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn name(conversation: &ConversationId) -> String {
    match () {
        () if *conversation == direct() => "direct".to_owned(),
        () if *conversation == group() => "group".to_owned(),
        () => conversation.to_string(),
    }
}

/// A client frame as a line.
fn said(frame: &ClientFrame<'_>) -> String {
    match frame {
        ClientFrame::Hello(hello) => format!("hello attempt {} token {}", hello.attempt, text(hello.token)),
        ClientFrame::Refresh(refresh) => format!("refresh {}", text(refresh.token)),
        ClientFrame::Ack(PushNumber(push)) => format!("ack {push}"),
        ClientFrame::Ping => "ping".to_owned(),
        ClientFrame::Pong => "pong".to_owned(),
        ClientFrame::ClientState(state) => format!("state {state:?}"),
        ClientFrame::Send(send) => {
            format!("send {} n{} {}", name(&send.conversation), send.number, text(send.message))
        }
        ClientFrame::SendBatch(_) => "batch".to_owned(),
        ClientFrame::GetRange(range) => match range.span {
            RangeSpan::Between(from, to) => format!("range {} {from}..{to}", name(&range.conversation)),
            span => format!("range {} {span:?}", name(&range.conversation)),
        },
        ClientFrame::ConversationList(list) => format!("list {:?}", list.order),
        ClientFrame::Typing(typing) => format!("typing {}", typing.active),
        ClientFrame::GroupCreate(create) => format!("create {}", text(create.name)),
        ClientFrame::MembersAdd(change) => format!("add n{} {}", change.number, change.users.len()),
        ClientFrame::MembersRemove(change) => format!("remove n{} {}", change.number, change.users.len()),
        ClientFrame::Leave(leave) => format!("leave n{}", leave.number),
        ClientFrame::MembersGet(get) => format!("members {}", name(&get.conversation)),
        ClientFrame::Mark(mark) => {
            format!("mark {} delivered {} read {}", name(&mark.conversation), mark.delivered, mark.read)
        }
    }
}

/// An event as a line.
fn line(event: &Event<'_>) -> String {
    match event {
        Event::State(crate::ConnectionState::Offline(_)) => "offline".to_owned(),
        Event::State(state) => format!("{state:?}").to_lowercase(),
        Event::Welcomed(welcome) => format!("welcomed {:?}", welcome.resync),
        Event::Message { stamp, message, .. } => {
            assert!(message.starts_with(b"m") || stamp.conversation.is_group(), "{}", text(message));
            format!("{} {}", name(&stamp.conversation), stamp.sequence)
        }
        Event::Skipped { conversation, from, to, .. } => {
            format!("{} skipped {from}..{to}", name(conversation))
        }
        Event::Duty { conversation, from, to, .. } => format!("{} duty {from}..{to}", name(conversation)),
        Event::Begins { conversation, next } => format!("{} begins {next}", name(conversation)),
        Event::DropAbove { conversation, head } => format!("{} drop above {head}", name(conversation)),
        Event::Sent { number, ack, .. } => {
            format!("sent n{number} at {}{}", ack.sequence, if ack.duplicate { " again" } else { "" })
        }
        Event::Refused { error, .. } => format!("refused {}", error.code.label()),
        Event::Parked { .. } => "parked".to_owned(),
        Event::Renumbered { number, .. } => format!("renumbered n{number}"),
        Event::GroupCreated { created, .. } => format!("created at {}", created.sequence),
        Event::History { range, .. } => format!("history {}", range.iter().count()),
        Event::Members { page, .. } => format!("members {}", page.members.len()),
        Event::Conversation(row) => format!("row {}", name(&row.conversation)),
        Event::RequestFailed { failure, .. } => format!("failed {failure:?}"),
        Event::Throttled(_) => "throttled".to_owned(),
        Event::GoingAway(_) => "going away".to_owned(),
        Event::Notice(error) => format!("notice {}", error.code.label()),
        other => format!("{other:?}"),
    }
}
