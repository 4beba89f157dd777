//! Whatever the network does: the application gets each record once and in order, and the gateway each command once and
//! in order.
//!
//! The gateway here keeps the rules of PROTOCOL for one direct conversation. Between it and the machine, pushes are
//! reordered, repeated and left out, answers get lost, connections break, and the process starts again from what was
//! stored.

use super::rig::{DEVICE, ME, PEER, direct};
use crate::config::{Backfill, Config};
use crate::event::Event;
use crate::machine::Machine;
use crate::random::Random;
use crate::stored::Stored;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use tidegate_ids::{ClientId, CommandNumber, Incarnation, MonotonicNs, PushNumber, Sequence};
use tidegate_schema::{
    ClientFrame, ConversationPage, ConversationRow, Deliver, Dirty, Encoder, Error, ErrorCode, FLAG_NUMBERED,
    GetRange, List, Range, RangeSpan, SendAck, ServerFrame, SkipSpan, Stamp, Welcome, deliver, frames,
};
use tidegate_ws::{Decoder, Item, Role, encode, server};

/// How often the bad things happen, in percent.
#[derive(Clone, Copy, Debug)]
struct Weather {
    lose_push: u64,
    lose_answer: u64,
    refuse: u64,
    cut: u64,
    restart: u64,
    skip: u64,
}

/// A record of the conversation; a skipped one is not to be had.
struct Record {
    own: bool,
    skipped: bool,
    text: String,
}

/// The conversation's home and the user's connection, as far as PROTOCOL speaks of them.
#[derive(Default)]
struct Gateway {
    records: Vec<Record>,
    /// By number: who took it, and the sequence.
    taken: Vec<(ClientId, u64)>,
    refused: Vec<String>,
    /// Pushes that are on their way: number and sequence (a range up to it, if it is dirty).
    on_the_way: Vec<(u64, u64, bool)>,
    pushes: u64,
    /// Sequences of the pushes of this connection that are not acknowledged.
    window: BTreeMap<u64, (u64, bool)>,
    /// What was acknowledged, over all connections.
    acknowledged_to: u64,
    /// Up to where the peer's records were pushed or announced.
    pushed_to: u64,
}

/// What the application has durably.
#[derive(Default)]
struct Application {
    texts: BTreeMap<u64, String>,
    last: u64,
    duty_to: u64,
    sent: BTreeMap<ClientId, u64>,
    refused: usize,
}

struct World {
    random: Random,
    weather: Weather,
    gateway: Gateway,
    application: Application,
    machine: Machine,
    config: Arc<Config>,
    encoder: Encoder,
    decoder: Decoder,
    held: Vec<u8>,
    now: MonotonicNs,
    online: bool,
    commands: u64,
    out: Vec<u8>,
}

impl Application {
    fn take(&mut self, event: &Event<'_>) {
        match event {
            Event::Message { stamp, message, .. } => {
                let sequence = stamp.sequence.0;
                assert!(sequence > self.last, "{sequence} after {}", self.last);
                self.last = sequence;
                let text = String::from_utf8(message.to_vec()).expect("text");
                let before = self.texts.insert(sequence, text.clone());
                // Only an own record may be there already: its acknowledgement came before.
                assert!(before.is_none_or(|before| before == text && text.starts_with("own")));
            }
            Event::Skipped { from, to, .. } => {
                assert!(from.0 > self.last && from <= to);
                self.last = to.0;
            }
            Event::Duty { to, .. } => self.duty_to = self.duty_to.max(to.0),
            Event::Sent { client_id, ack, .. } => {
                let before = self.sent.insert(*client_id, ack.sequence.0);
                assert!(before.is_none_or(|before| before == ack.sequence.0), "one command, one record");
            }
            Event::Refused { .. } => self.refused += 1,
            _ => {}
        }
    }
}

impl World {
    fn new(seed: u64, weather: Weather) -> Self {
        let config = Config { backfill: Backfill::All, reorder_max: 6, ..Config::default() };
        let config = Arc::new(config);
        Self {
            random: Random::new(seed),
            weather,
            gateway: Gateway::default(),
            application: Application::default(),
            machine: Machine::new(Arc::clone(&config), b"t", Stored::new(DEVICE), seed),
            config,
            encoder: Encoder::new(),
            decoder: Decoder::new(Role::Server, 1 << 18, 1 << 18),
            held: Vec::new(),
            now: MonotonicNs(1),
            online: false,
            commands: 0,
            out: Vec::new(),
        }
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.random.up_to(99) < percent
    }

    fn say(&mut self, id: u64, flags: u16, frame: &ServerFrame<'_>) {
        let mut payload = Vec::new();
        frame.encode(&mut self.encoder, &mut payload, id, flags);
        let mut bytes = Vec::new();
        encode::binary(&mut bytes, &payload, None);
        self.feed(&mut bytes);
    }

    fn feed(&mut self, bytes: &mut [u8]) {
        let application = &mut self.application;
        self.machine.received(bytes, self.now, &mut |event| application.take(&event));
        assert!(!self.machine.wants_close(), "the gateway keeps the rules");
    }

    fn connect(&mut self) {
        if self.machine.poll_connect(self.now).is_none() {
            return;
        }
        self.machine.connected(self.now, &mut |_| {});
        self.decoder = Decoder::new(Role::Server, 1 << 18, 1 << 18);
        self.held.clear();
        self.online = true;
        self.gateway.connected();
        let mut out = Vec::new();
        self.machine.transmit(&mut self.encoder, &mut out, self.now);
        let request = server::parse(&out).expect("sound").expect("whole");
        let mut response = Vec::new();
        server::accept_response(&mut response, &request.key, Some("tidegate.v1"));
        self.feed(&mut response);
    }

    fn cut(&mut self) {
        if core::mem::take(&mut self.online) {
            let application = &mut self.application;
            self.machine.disconnected(self.now, &mut |event| application.take(&event));
        }
    }

    /// The process ends; the next one has what was stored, which is everything told so far and everything submitted.
    fn restart(&mut self) {
        self.online = false;
        let stored = self.machine.snapshot();
        let seed = self.random.next();
        self.machine = Machine::new(Arc::clone(&self.config), b"t", stored, seed);
    }

    /// What the machine says reaches the gateway, whose answers come back or get lost.
    fn exchange(&mut self) {
        while self.online && self.machine.wants_transmit() {
            let mut out = core::mem::take(&mut self.out);
            out.clear();
            self.machine.transmit(&mut self.encoder, &mut out, self.now);
            let mut at = 0;
            loop {
                let mut held = core::mem::take(&mut self.held);
                let step = self.decoder.decode(&mut out[at..], &mut held).expect("sound");
                at += step.consumed;
                let Some(Item::Binary(payload)) = step.item else { break };
                let payload = payload.to_vec();
                self.held = held;
                for frame in frames(&payload).map(|frame| frame.expect("a frame")) {
                    let body = ClientFrame::decode(&frame).expect("a client frame");
                    self.hear(frame.header.id, &body);
                }
            }
            self.out = out;
        }
    }

    fn hear(&mut self, id: u64, frame: &ClientFrame<'_>) {
        match frame {
            ClientFrame::Hello(_) => {
                let incarnation = Incarnation(1);
                let welcome = Welcome { version: 1, user: ME, incarnation, ..Welcome::default() };
                self.say(id, 0, &ServerFrame::Welcome(welcome));
            }
            ClientFrame::ConversationList(_) => self.list(id),
            ClientFrame::Ack(PushNumber(push)) => self.gateway.acknowledged(*push, &self.application),
            ClientFrame::Ping => self.say(id, 0, &ServerFrame::Pong),
            ClientFrame::GetRange(range) => self.range(id, range),
            ClientFrame::Send(send) => self.command(id, send),
            _ => {}
        }
    }

    fn list(&mut self, id: u64) {
        let head = Sequence(self.gateway.records.len() as u64);
        let row = ConversationRow {
            conversation: direct(),
            head,
            first_available: Sequence::FIRST,
            last_number: CommandNumber(self.gateway.taken.len() as u64),
            joined: Sequence::FIRST,
            ..ConversationRow::default()
        };
        let rows = [row];
        let rows = if head.0 > 0 { List::new(&rows[..]) } else { List::default() };
        self.say(id, 0, &ServerFrame::ConversationPage(ConversationPage { rows, ..Default::default() }));
    }

    fn command(&mut self, id: u64, send: &tidegate_schema::Send<'_>) {
        let taken = self.gateway.taken.len() as u64;
        let expected = CommandNumber(taken + 1);
        let text = String::from_utf8_lossy(send.message).into_owned();
        let answer = if send.number < expected && send.number.0 > 0 {
            let (client_id, sequence) = self.gateway.taken[send.number.0 as usize - 1];
            if client_id == send.client_id {
                let ack = SendAck { sequence: Sequence(sequence), duplicate: true, ..SendAck::default() };
                ServerFrame::SendAck(ack)
            } else {
                refusal(ErrorCode::IdempotencyConflict, expected)
            }
        } else if send.number != expected {
            refusal(ErrorCode::OutOfOrder, expected)
        } else if self.chance(self.weather.refuse) {
            refusal(ErrorCode::Overloaded, CommandNumber(0))
        } else if text.ends_with("bad") {
            if !self.gateway.refused.contains(&text) {
                self.gateway.refused.push(text);
            }
            refusal(ErrorCode::Moderated, CommandNumber(0))
        } else {
            let sequence = self.gateway.append(true, false, text);
            self.gateway.taken.push((send.client_id, sequence));
            ServerFrame::SendAck(SendAck { sequence: Sequence(sequence), ..SendAck::default() })
        };
        if !self.chance(self.weather.lose_answer) {
            self.say(id, 0, &answer);
        }
    }

    fn range(&mut self, id: u64, range: &GetRange) {
        if self.chance(self.weather.refuse) {
            return self.say(id, 0, &refusal(ErrorCode::Overloaded, CommandNumber(0)));
        }
        let RangeSpan::Between(Sequence(from), Sequence(to)) = range.span else {
            panic!("a hole has two ends")
        };
        let head = self.gateway.records.len() as u64;
        let limit = 1 + self.random.up_to(9);
        let end = to.min(head).min(from + limit - 1);
        let (mut records, mut skips) = (Vec::new(), Vec::new());
        for sequence in from..=end {
            let record = &self.gateway.records[sequence as usize - 1];
            if record.skipped {
                let sequence = Sequence(sequence);
                skips.push(SkipSpan { from: sequence, to: sequence, ..SkipSpan::default() });
            } else {
                deliver::write_stored(&stamp(sequence, record.own), record.text.as_bytes(), &mut records);
            }
        }
        let answer = Range {
            conversation: direct(),
            head: Sequence(head),
            first_available: Sequence::FIRST,
            complete: end == to.min(head),
            skips: List::new(&skips),
            records: &records,
        };
        if !self.chance(self.weather.lose_answer) {
            self.say(id, 0, &ServerFrame::Range(answer));
        }
    }

    /// One of the pushes on the way arrives, not always the oldest, perhaps twice.
    fn arrive(&mut self) {
        if !self.online || !self.machine.is_ready() || self.gateway.on_the_way.is_empty() {
            return;
        }
        let (push, sequence, dirty) = self.gateway.on_the_way.remove(0);
        let times = 1 + u64::from(self.chance(10));
        for _ in 0..times {
            if dirty {
                let (from, head) = (Sequence::FIRST, Sequence(sequence));
                let dirty = Dirty { conversation: direct(), from, head, mentions: 0 };
                self.say(push, FLAG_NUMBERED, &ServerFrame::Dirty(dirty));
            } else {
                let record = &self.gateway.records[sequence as usize - 1];
                let text = record.text.clone();
                let deliver = Deliver { stamp: stamp(sequence, record.own), message: text.as_bytes() };
                self.say(push, FLAG_NUMBERED, &ServerFrame::Deliver(deliver));
            }
        }
        self.machine.stored_all(self.now);
    }

    /// What is not pushed yet leaves; some of it in another order, some not at all.
    fn push(&mut self) {
        if !self.online || !self.machine.is_ready() {
            return;
        }
        let head = self.gateway.records.len() as u64;
        let mut sequences: Vec<u64> = (self.gateway.pushed_to + 1..=head).collect();
        self.gateway.pushed_to = head;
        sequences.retain(|sequence| {
            let record = &self.gateway.records[*sequence as usize - 1];
            !record.own && !record.skipped && self.random.up_to(99) >= self.weather.lose_push
        });
        for place in (1..sequences.len()).rev() {
            let other = self.random.up_to(place as u64) as usize;
            sequences.swap(place, other);
        }
        for sequence in sequences {
            self.gateway.number(sequence, false);
        }
    }

    fn announce(&mut self) {
        let head = self.gateway.records.len() as u64;
        if self.online && self.machine.is_ready() && head > 0 {
            self.gateway.number(head, true);
        }
    }

    fn tick(&mut self, ms: u64) {
        self.now = self.now.after(ms * MonotonicNs::MILLISECOND);
        if self.machine.next_timeout().is_some_and(|at| at <= self.now) {
            let application = &mut self.application;
            self.machine.tick(self.now, &mut |event| application.take(&event));
        }
        if self.machine.wants_close() {
            self.cut();
        }
    }

    fn step(&mut self) {
        match self.random.up_to(9) {
            0 | 1 => {
                let skipped = self.chance(self.weather.skip);
                let text = format!("peer {}", self.gateway.records.len());
                self.gateway.append(false, skipped, text);
            }
            2 => {
                self.commands += 1;
                let bad = if self.chance(10) { "bad" } else { "" };
                let text = format!("own {} {bad}", self.commands);
                self.machine.send(direct(), text.trim().as_bytes()).expect("room");
            }
            3 if self.chance(self.weather.cut) => self.cut(),
            4 if self.chance(self.weather.restart) => self.restart(),
            5 => self.push(),
            6 if self.chance(10) => self.announce(),
            7 => {
                let ms = 1 + self.random.up_to(600);
                self.tick(ms);
            }
            _ => self.arrive(),
        }
        self.connect();
        self.exchange();
    }

    /// The weather clears; everything comes to its end.
    fn settle(&mut self) {
        self.weather = Weather { lose_push: 0, lose_answer: 0, refuse: 0, cut: 0, restart: 0, skip: 0 };
        for _ in 0..2_000 {
            self.connect();
            self.exchange();
            self.push();
            if self.random.up_to(20) == 0 {
                self.announce();
            }
            while self.online && !self.gateway.on_the_way.is_empty() {
                self.arrive();
                self.exchange();
            }
            self.tick(100);
            self.exchange();
        }
    }

    fn check(&self) {
        let head = self.gateway.records.len() as u64;
        assert_eq!(self.machine.outbox_commands(), 0, "everything is answered");
        let next = self.machine.conversations().next().map_or(1, |(_, next)| next.0.max(1));
        assert_eq!(next, head + 1, "everything has come");
        for (place, record) in self.gateway.records.iter().enumerate() {
            let sequence = place as u64 + 1;
            let got = self.application.texts.get(&sequence);
            if record.own {
                assert!(got.is_none_or(|text| *text == record.text));
            } else {
                assert_eq!(got, (!record.skipped).then_some(&record.text), "{sequence}");
            }
        }
        let own = self.gateway.records.iter().filter(|record| record.own);
        let numbers: Vec<u64> = own
            .map(|record| record.text.split(' ').nth(1).and_then(|number| number.parse().ok()).expect("own"))
            .collect();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "each once, in order: {numbers:?}");
        assert_eq!(numbers.len() + self.gateway.refused.len(), self.commands as usize);
        for (client_id, sequence) in &self.gateway.taken {
            assert_eq!(self.application.sent.get(client_id), Some(sequence), "the sender knows");
        }
    }
}

impl Gateway {
    fn append(&mut self, own: bool, skipped: bool, text: String) -> u64 {
        self.records.push(Record { own, skipped, text });
        self.records.len() as u64
    }

    fn connected(&mut self) {
        self.on_the_way.clear();
        self.window.clear();
        self.pushes = 0;
        self.pushed_to = self.acknowledged_to;
    }

    fn number(&mut self, sequence: u64, dirty: bool) {
        self.pushes += 1;
        self.on_the_way.push((self.pushes, sequence, dirty));
        self.window.insert(self.pushes, (sequence, dirty));
    }

    /// What is acknowledged, the application has, or the duty to fetch it.
    fn acknowledged(&mut self, push: u64, application: &Application) {
        assert!(push <= self.pushes, "nothing is acknowledged that was not pushed");
        assert!(self.on_the_way.iter().all(|(number, ..)| *number > push), "nor what has not come");
        let above = self.window.split_off(&(push + 1));
        let covered = core::mem::replace(&mut self.window, above);
        for (sequence, dirty) in covered.into_values() {
            let has = sequence <= application.last.max(application.duty_to);
            let own_only = self.records[application.last.min(sequence) as usize..sequence as usize]
                .iter()
                .all(|record| record.own);
            assert!(has || dirty || own_only, "{sequence} is acknowledged and not there");
        }
    }
}

fn refusal(code: ErrorCode, expected_number: CommandNumber) -> ServerFrame<'static> {
    ServerFrame::Error(Error { expected_number, ..Error::new(code) })
}

fn stamp(sequence: u64, own: bool) -> Stamp {
    let sender = if own { ME } else { PEER };
    Stamp { conversation: direct(), sequence: Sequence(sequence), sender, ..Stamp::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_record_comes_once_and_every_command_is_taken_once(
        seed in any::<u64>(),
        steps in 50_usize..400,
        lose_push in 0_u64..40,
        lose_answer in 0_u64..30,
        refuse in 0_u64..30,
        cut in 0_u64..30,
        restart in 0_u64..20,
        skip in 0_u64..20,
    ) {
        let weather = Weather { lose_push, lose_answer, refuse, cut, restart, skip };
        let mut world = World::new(seed, weather);
        for _ in 0..steps {
            world.step();
        }
        world.settle();
        world.check();
    }
}
