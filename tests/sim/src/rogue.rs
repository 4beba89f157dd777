//! Those who misbehave: they take no notice of credit, acknowledge nothing or too much, flood, repeat and lie about numbers,
//! and send bytes that are no frames. What they are answered is judged; everybody else must not notice them.

use crate::clock::Chance;
use crate::ledger::{CommitOrder, Ledger, Logged};
use crate::network::Wire;
use std::collections::BTreeMap;
use tidegate_ids::{
    Attempt, ClientId, CommandNumber, ConversationId, DeviceId, PushNumber, Sequence, UserId,
};
use tidegate_schema::{
    Body, ClientState, Encoder, Error, Frame, FrameHeader, GetRange, Hello, MessageFields, RangeSpan, Send,
    SendAck, ServerFrame, frames,
};
use tidegate_ws::{Decoder, Item, Role, client, encode};

const MASK: [u8; 4] = [0x5a, 0xa5, 0x3c, 0xc3];
const KEY: [u8; 16] = [7; 16];
const PROTOCOLS: [&str; 1] = ["tidegate.v1"];
const BYTES_MAX: u32 = 1 << 20;

/// How somebody misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Takes everything and acknowledges nothing.
    Mute,
    /// Sends far more than it may, and reads little.
    Flood,
    /// Repeats commands, leaves numbers out, acknowledges what was never pushed.
    Liar,
    /// Sends bytes that are no request, no frame or no body.
    Vandal,
}

impl Mood {
    pub(crate) const ALL: [Self; 4] = [Self::Mute, Self::Flood, Self::Liar, Self::Vandal];
}

#[derive(Clone, Copy, Debug)]
struct Command {
    conversation: ConversationId,
    number: u64,
    client_id: ClientId,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Rogue {
    pub(crate) user: UserId,
    device: DeviceId,
    pub(crate) mood: Mood,
    pub(crate) wire: Option<Wire>,
    attempt: u64,
    upgraded: bool,
    pub(crate) welcomed: bool,
    /// The gateway said good-bye.
    pub(crate) dismissed: bool,
    decoder: Decoder,
    held: Vec<u8>,
    head: Vec<u8>,
    out: Vec<u8>,
    encoder: Encoder,
    requests: u64,
    pushed: u64,
    next: BTreeMap<ConversationId, u64>,
    flying: BTreeMap<u64, Command>,
    settled: BTreeMap<(ConversationId, u64), (ClientId, Sequence)>,
    /// The first answer that must not be.
    pub(crate) wrong: Option<String>,
}

impl Rogue {
    pub(crate) fn new(user: UserId, device: DeviceId, mood: Mood) -> Self {
        Self {
            user,
            device,
            mood,
            wire: None,
            attempt: 0,
            upgraded: false,
            welcomed: false,
            dismissed: false,
            decoder: Decoder::new(Role::Client, BYTES_MAX, BYTES_MAX),
            held: Vec::new(),
            head: Vec::new(),
            out: Vec::new(),
            encoder: Encoder::new(),
            requests: 0,
            pushed: 0,
            next: BTreeMap::new(),
            flying: BTreeMap::new(),
            settled: BTreeMap::new(),
            wrong: None,
        }
    }

    /// A socket is there. A vandal does not always ask for the upgrade as it should.
    pub(crate) fn opened(&mut self, wire: Wire, chance: &mut Chance) {
        self.closed();
        self.wire = Some(wire);
        if self.mood == Mood::Vandal && chance.percent(20) {
            return self.garbage(chance);
        }
        let request =
            client::Request { host: "sim", path: "/ws", key: KEY, protocols: &PROTOCOLS, fields: &[] };
        if client::request(&mut self.out, &request).is_err() {
            self.wrong.get_or_insert("an upgrade request cannot be written".to_owned());
        }
    }

    /// The socket is gone, and with it what was not answered.
    pub(crate) fn closed(&mut self) {
        self.wire = None;
        self.upgraded = false;
        self.welcomed = false;
        self.dismissed = false;
        self.decoder = Decoder::new(Role::Client, BYTES_MAX, BYTES_MAX);
        self.held.clear();
        self.head.clear();
        self.out.clear();
        self.pushed = 0;
        self.flying.clear();
    }

    pub(crate) fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    fn request<B: Body>(&mut self, body: &B) -> u64 {
        self.requests += 1;
        let mut payload = Vec::new();
        self.encoder.frame(&mut payload, self.requests, 0, body);
        encode::binary(&mut self.out, &payload, Some(MASK));
        self.requests
    }

    /// Does what it should not. `known` are conversations it may have heard of.
    pub(crate) fn act(&mut self, known: &[ConversationId], chance: &mut Chance) {
        if !self.welcomed || known.is_empty() {
            return;
        }
        let conversation = known[chance.below(known.len() as u64) as usize];
        match self.mood {
            Mood::Mute => self.say(conversation, 0, chance),
            Mood::Flood if chance.percent(30) => {
                let count = chance.between(100, 2500);
                (0..count).for_each(|_| encode::ping(&mut self.out, &[b'.'; 125], Some(MASK)));
            }
            Mood::Flood => {
                let count = chance.between(20, 120);
                (0..count).for_each(|place| self.say(conversation, place, chance));
            }
            Mood::Liar => self.lie(conversation, chance),
            Mood::Vandal => self.vandalise(conversation, chance),
        }
    }

    /// Sends a message with the next number, and some beyond.
    fn say(&mut self, conversation: ConversationId, ahead: u64, chance: &mut Chance) {
        let number = self.next.get(&conversation).copied().unwrap_or(1) + ahead;
        let client_id = ClientId(u128::from(chance.bits()).to_be_bytes());
        self.command(Command { conversation, number, client_id });
    }

    fn command(&mut self, command: Command) {
        let Command { conversation, number, client_id } = command;
        let text = format!("{number} of rogue {} in {conversation}", self.device);
        let fields = MessageFields { body: text.as_bytes(), ..MessageFields::default() };
        let mut message = Vec::new();
        if Encoder::new().message(&mut message, &fields).is_ok() {
            let number = CommandNumber(number);
            let id = self.request(&Send { conversation, number, client_id, message: &message });
            self.flying.insert(id, command);
        }
    }

    /// Repeats, conflicts, gaps, an acknowledgement of what was never pushed, ranges of strangers.
    fn lie(&mut self, conversation: ConversationId, chance: &mut Chance) {
        let settled = self.settled.len() as u64;
        let old = (settled > 0).then(|| chance.below(settled) as usize).and_then(|place| {
            let (&(conversation, number), &(client_id, _)) = self.settled.iter().nth(place)?;
            Some(Command { conversation, number, client_id })
        });
        match (chance.below(7), old) {
            (0 | 1, Some(old)) => self.command(old),
            (2, Some(old)) => {
                let client_id = ClientId(u128::from(chance.bits()).to_be_bytes());
                self.command(Command { client_id, ..old });
            }
            (3, _) => self.say(conversation, chance.between(1, 300), chance),
            (4, _) => {
                let above = FrameHeader::ack(PushNumber(self.pushed + chance.below(3)));
                encode::binary(&mut self.out, &above.to_bytes(), Some(MASK));
            }
            (5, _) => {
                let span = RangeSpan::After(Sequence(chance.below(50)));
                let limit = chance.between(1, 100) as u16;
                self.request(&GetRange { conversation, span, limit });
            }
            _ => self.say(conversation, 0, chance),
        }
    }

    fn garbage(&mut self, chance: &mut Chance) {
        let count = chance.between(1, 400);
        self.out.extend((0..count).map(|_| chance.bits() as u8));
    }

    /// Bytes that are no WebSocket frame, no frame of the protocol, or a body that was tampered with.
    fn vandalise(&mut self, conversation: ConversationId, chance: &mut Chance) {
        let before = self.out.len();
        match chance.below(6) {
            0 => self.garbage(chance),
            1 => encode::text(&mut self.out, "text", Some(MASK)),
            2 => encode::binary(&mut self.out, &[0xee; 24], Some(MASK)),
            3 => {
                let kind = chance.bits() as u16;
                let header = FrameHeader { body_len: 0, kind, flags: 0, id: chance.below(1 << 40) };
                encode::binary(&mut self.out, &header.to_bytes(), Some(MASK));
            }
            _ => {
                self.say(conversation, 0, chance);
                // Behind the WebSocket header and the mask: frame header and body.
                let at = before + chance.between(8, (self.out.len() - before) as u64 - 1) as usize;
                self.out[at] ^= 1 << chance.below(8);
                // It may be another command now, also one of another conversation: nothing is known of its answer.
                self.flying.remove(&self.requests);
                if chance.percent(30) {
                    let end = self.out.len() - chance.below(20) as usize;
                    self.out.truncate(end);
                }
            }
        }
    }

    /// Bytes from the gateway, which left it at `left`.
    pub(crate) fn hear(&mut self, bytes: &[u8], left: CommitOrder, ledger: &Ledger, chance: &mut Chance) {
        let mut bytes = bytes.to_vec();
        if !self.upgraded {
            self.head.extend_from_slice(&bytes);
            let Ok(Some(accepted)) = client::parse_response(&self.head, &KEY, &PROTOCOLS) else { return };
            bytes = self.head[accepted.consumed..].to_vec();
            self.upgraded = true;
            self.greet(chance);
        }
        let mut arrived: Vec<(FrameHeader, Vec<u8>)> = Vec::new();
        let mut at = 0;
        loop {
            let Ok(step) = self.decoder.decode(&mut bytes[at..], &mut self.held) else {
                self.wrong.get_or_insert("the gateway sent bytes that are no WebSocket frame".to_owned());
                return;
            };
            at += step.consumed;
            match step.item {
                None => break,
                Some(Item::Binary(payload)) => {
                    let sound = frames(payload).filter_map(Result::ok);
                    arrived.extend(sound.map(|frame| (frame.header, frame.body.to_vec())));
                }
                Some(Item::Close { .. }) => self.dismissed = true,
                Some(_) => {}
            }
        }
        for (header, body) in arrived {
            if let Err(wrong) = self.take(header, &body, left, ledger) {
                self.wrong.get_or_insert(format!("rogue {}: {wrong}", self.device));
            }
        }
    }

    fn greet(&mut self, chance: &mut Chance) {
        self.attempt += 1;
        let lies = self.mood == Mood::Vandal && chance.percent(10);
        let token = if lies { "nobody".to_owned() } else { format!("rogue:{}", self.user) };
        self.request(&Hello {
            protocol_min: 1,
            protocol_max: 1,
            token: token.as_bytes(),
            device: self.device,
            attempt: Attempt(self.attempt),
            platform: b"rogue",
            state: ClientState::Active,
            credit_frames: 256,
        });
        if chance.percent(30) {
            // More than a Hello, before it is welcome: it travels with a hand-over.
            encode::ping(&mut self.out, b"early", Some(MASK));
        }
    }

    fn take(
        &mut self,
        header: FrameHeader,
        body: &[u8],
        left: CommitOrder,
        ledger: &Ledger,
    ) -> Result<(), String> {
        let frame = Frame { header, body };
        let Ok(body) = ServerFrame::decode(&frame) else {
            return Err(format!("the gateway sent a body that is none: {header:?}"));
        };
        if header.is_numbered() {
            self.pushed = self.pushed.max(header.id);
        }
        match body {
            ServerFrame::Welcome(_) => self.welcomed = true,
            ServerFrame::SendAck(ack) => self.acknowledged(header.id, &ack, left, ledger)?,
            ServerFrame::Error(error) => self.refused(header.id, &error),
            _ => {}
        }
        Ok(())
    }

    /// An acknowledgement is of a command that is committed, and of the first that took its number.
    fn acknowledged(
        &mut self,
        request: u64,
        ack: &SendAck,
        left: CommitOrder,
        ledger: &Ledger,
    ) -> Result<(), String> {
        // Of what it tampered with itself nothing is known.
        let Some(command) = self.flying.remove(&request) else { return Ok(()) };
        let Command { conversation, number, client_id } = command;
        self.next.insert(conversation, self.next.get(&conversation).copied().unwrap_or(1).max(number + 1));
        let before = self.settled.get(&(conversation, number)).copied();
        if let Some((before_id, before_at)) = before {
            let is_gone = ledger.at(&conversation, before_at).is_some_and(Logged::is_gone);
            if client_id != before_id && ack.sequence.0 > 0 && !is_gone {
                return Err(format!("{conversation}: number {number} was taken for another command"));
            }
            if ack.sequence.0 > 0 && ack.sequence != before_at && !is_gone {
                return Err(format!(
                    "{conversation}: number {number} stands at {before_at} and {}",
                    ack.sequence
                ));
            }
        }
        if self.mood != Mood::Vandal {
            ledger.judge_ack(&conversation, client_id, ack.sequence, left)?;
        }
        if ack.sequence.0 > 0 {
            self.settled.insert((conversation, number), (client_id, ack.sequence));
        }
        Ok(())
    }

    fn refused(&mut self, request: u64, error: &Error<'_>) {
        if let Some(command) = self.flying.remove(&request)
            && error.expected_number.0 > 0
        {
            self.next.insert(command.conversation, error.expected_number.0);
        }
    }
}
