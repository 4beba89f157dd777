//! One shard whose sockets the test is: it decides when bytes come, and when a send is done.

use std::collections::{BTreeMap, VecDeque};
use tidegate_domain::{HASH_VERSION, RateClass, Route};
use tidegate_ids::{
    Attempt, DeviceId, Incarnation, Location, LogId, MonotonicNs, Now, Position, ShardIndex, UserId, WallMs,
};
use tidegate_schema::{Body, ClientState, Encoder, Frame, FrameHeader, Hello, ServerFrame, frames};
use tidegate_shard::{
    Claims, ConnectionId, Event, Lane, LogEnd, MeshPort, Output, ReadRequest, ReadToken, ReceiveMode,
    Recovery, Shard, ShardLimits, ShardSetup, ShardStats, TokenError, TokenVerifier,
};
use tidegate_storage_log::{
    Appender, AppenderConfig, AppenderStart, LogIdentity, MemoryMedium, PageReader, PreviousEnd, ReadError,
};
use tidegate_ws::{Decoder, Item, Role, client, encode};

pub const MASK: [u8; 4] = [1, 2, 3, 4];
const SEGMENT_BYTES: u32 = 1 << 20;
const LOG: LogId = LogId { epoch: 1, shard: ShardIndex(0) };

/// What a shard hands itself over the mesh.
#[derive(Default)]
struct Ring([VecDeque<Vec<u8>>; 2]);

impl MeshPort for Ring {
    fn has_room(&self, _to: ShardIndex, _lane: Lane, _bytes: usize) -> bool {
        true
    }

    fn push(&mut self, _to: ShardIndex, lane: Lane, parts: &[&[u8]]) -> bool {
        self.0[usize::from(lane == Lane::Results)].push_back(parts.concat());
        true
    }

    fn peek(&mut self, _from: ShardIndex, lane: Lane) -> Option<&[u8]> {
        Some(self.0[usize::from(lane == Lane::Results)].front()?)
    }

    fn pop(&mut self, _from: ShardIndex, lane: Lane) {
        self.0[usize::from(lane == Lane::Results)].pop_front();
    }
}

/// Tokens are `user class expires`.
struct PlainTokens;

impl TokenVerifier for PlainTokens {
    fn verify(&self, token: &[u8], now: WallMs) -> Result<Claims, TokenError> {
        let text = std::str::from_utf8(token).map_err(|_| TokenError::Invalid)?;
        let mut words = text.split(' ');
        let mut word = || words.next().ok_or(TokenError::Invalid);
        let user = word()?.parse().map_err(|_| TokenError::Invalid)?;
        let rate = RateClass::by_name(word()?).ok_or(TokenError::Invalid)?;
        let expires = WallMs(word()?.parse().map_err(|_| TokenError::Invalid)?);
        if expires <= now {
            return Err(TokenError::Expired);
        }
        Ok(Claims { user: UserId(user), expires, device: None, rate })
    }
}

/// A token of a user that outlives every test.
pub fn token(user: u64, class: &str) -> String {
    format!("{user} {class} {}", u64::MAX)
}

/// The request for an upgrade.
pub fn upgrade(path: &str) -> Vec<u8> {
    let (key, protocols) = ([7; 16], &["tidegate.v1"][..]);
    let mut request = Vec::new();
    client::request(&mut request, &client::Request { host: "edge", path, key, protocols, fields: &[] })
        .unwrap();
    request
}

/// One socket, as the shell sees it.
#[derive(Default)]
pub struct Socket {
    /// Whether a receive is armed.
    pub armed: Option<ReceiveMode>,
    /// Whether the peer takes what it is sent.
    pub is_stuck: bool,
    in_flight: Option<Vec<u8>>,
    /// Bytes that were taken from it.
    pub taken_bytes: usize,
    /// What was sent, as it came: frames with the headers they had, pongs, and the close code.
    pub frames: Vec<(FrameHeader, Vec<u8>)>,
    pub pongs: Vec<Vec<u8>>,
    pub closed: Option<u16>,
    /// What came that answers no upgrade.
    pub heard: Vec<u8>,
    decoder: Option<(Decoder, Vec<u8>)>,
}

/// The shard and its shell.
pub struct Gateway {
    pub shard: Shard,
    ring: Ring,
    /// What was written.
    medium: MemoryMedium,
    pub now: Now,
    sockets: BTreeMap<u32, Socket>,
    next: u32,
    requests: u64,
    segments: u32,
    pub snapshots_wanted: u32,
    pub swept: u32,
    /// Whether reads take their time, and those that do.
    pub holds_reads: bool,
    held_reads: Vec<(ReadToken, ReadRequest)>,
    /// Segments that were sealed, and how far each checkpoint says that this shard has consumed its own log.
    pub sealed: Vec<u32>,
    pub consumed: Vec<Position>,
}

impl Gateway {
    pub fn start(limits: ShardLimits) -> Self {
        let seeds = Recovery::new(Route::new(1), None)
            .finish(&[LogEnd { log: LOG, end: Default::default() }], &[(1, 1)]);
        let identity = LogIdentity {
            log: LOG,
            directory: *b"an edge's sample",
            incarnation: Incarnation(1),
            hash_version: HASH_VERSION as u16,
        };
        let config = AppenderConfig {
            segment_bytes: SEGMENT_BYTES,
            block_bytes: 512,
            staging_bytes: 1 << 20,
            batch_bytes_max: 128 * 1024,
        };
        let shard = Shard::new(ShardSetup {
            index: ShardIndex(0),
            route: Route::new(1),
            limits,
            tokens: Box::new(PlainTokens),
            seed: 7,
            incarnation: Incarnation(1),
            appender: Appender::new(&config, AppenderStart { identity, previous: PreviousEnd::default() })
                .unwrap(),
            seed_of_logs: seeds.into_iter().next().unwrap(),
        });
        let now = Now { monotonic: MonotonicNs(1), wall: WallMs(1_700_000_000_000) };
        let mut gateway = Self {
            shard,
            ring: Ring::default(),
            medium: MemoryMedium::new(),
            now,
            sockets: BTreeMap::new(),
            next: 0,
            requests: 0,
            segments: 1,
            snapshots_wanted: 0,
            swept: 0,
            holds_reads: false,
            held_reads: Vec::new(),
            sealed: Vec::new(),
            consumed: Vec::new(),
        };
        gateway.shard.start(now, &mut gateway.ring);
        gateway.medium.add(1, SEGMENT_BYTES);
        gateway.tell(Event::Segment { number: 1 });
        assert!(gateway.shard.is_ready());
        gateway
    }

    pub fn stats(&mut self) -> ShardStats {
        self.shard.stats().clone()
    }

    pub fn socket(&mut self, id: u32) -> &mut Socket {
        self.sockets.get_mut(&id).unwrap()
    }

    /// Time passes, with its ticks.
    pub fn pass(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(25) {
            self.now.monotonic = self.now.monotonic.after(25 * MonotonicNs::MILLISECOND);
            self.now.wall.0 += 25;
            self.tell(Event::Tick);
        }
    }

    pub fn tell(&mut self, event: Event<'_>) {
        self.shard.handle(event, self.now, &mut self.ring);
        self.run();
    }

    /// Turns until nothing more happens.
    fn run(&mut self) {
        for _ in 0..1000 {
            self.shard.turn(self.now, &mut self.ring);
            let mut quiet = true;
            while let Some(output) = self.shard.poll_output() {
                quiet &= !self.perform(output);
            }
            if quiet && self.ring.0.iter().all(VecDeque::is_empty) {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    /// Whether it was answered with an event.
    fn perform(&mut self, output: Output) -> bool {
        match output {
            Output::Receive { connection, mode } => {
                self.socket(connection.0).armed = (mode != ReceiveMode::Pause).then_some(mode);
            }
            Output::Send { connection, buffer } => {
                let socket = self.socket(connection.0);
                assert!(socket.in_flight.is_none(), "one send at a time");
                socket.in_flight = Some(buffer);
                return self.take_sent(connection.0);
            }
            Output::Close { connection } => {
                self.socket(connection.0).armed = None;
                self.shard.handle(Event::Closed { connection }, self.now, &mut self.ring);
                return true;
            }
            Output::Append { batch } => {
                self.medium.write(batch.segment, u64::from(batch.offset), &batch.bytes);
                if batch.seals {
                    self.sealed.push(batch.segment);
                }
                self.shard.handle(Event::Written { batch: batch.number }, self.now, &mut self.ring);
                return true;
            }
            Output::NeedSegment => {
                self.segments += 1;
                let number = self.segments;
                self.medium.add(number, SEGMENT_BYTES);
                self.shard.handle(Event::Segment { number }, self.now, &mut self.ring);
                return true;
            }
            Output::WantSnapshot => self.snapshots_wanted += 1,
            Output::Swept => self.swept += 1,
            Output::Checkpointed { fed } => self.consumed.extend(fed.into_iter().map(|(_, at)| at)),
            Output::Read { token, request } if self.holds_reads => self.held_reads.push((token, request)),
            Output::Read { token, request: ReadRequest::Page(spec, lead) } => {
                let mut records = Vec::new();
                let result =
                    PageReader::new().read_led(&mut self.medium, &spec, lead.as_deref(), &mut records);
                self.shard.handle(Event::ReadDone { token, records, result }, self.now, &mut self.ring);
                return true;
            }
            Output::HandOver { .. } | Output::Read { .. } => panic!("one shard, and nothing is cold"),
            _ => {}
        }
        false
    }

    fn take_sent(&mut self, id: u32) -> bool {
        let socket = self.socket(id);
        if socket.is_stuck {
            return false;
        }
        let Some(buffer) = socket.in_flight.take() else { return false };
        socket.hear(&buffer);
        let event = Event::SendDone { connection: ConnectionId(id), buffer, sent: true };
        self.shard.handle(event, self.now, &mut self.ring);
        true
    }

    /// The peer takes what it is sent, or stops to.
    pub fn set_stuck(&mut self, id: u32, is_stuck: bool) {
        self.socket(id).is_stuck = is_stuck;
        self.take_sent(id);
        self.run();
    }

    /// Bytes come, if a receive is armed; whether they were taken.
    pub fn receive(&mut self, id: u32, bytes: &[u8]) -> bool {
        let socket = self.socket(id);
        let Some(mode) = socket.armed else { return false };
        socket.taken_bytes += bytes.len();
        if mode == ReceiveMode::Once {
            socket.armed = None;
        }
        self.tell(Event::Bytes { connection: ConnectionId(id), bytes: &mut bytes.to_vec() });
        true
    }

    /// The entries of the snapshot whose reads are held are damaged.
    pub fn fail_reads(&mut self) {
        for (token, request) in std::mem::take(&mut self.held_reads) {
            assert!(matches!(request, ReadRequest::Snapshot { .. }), "{request:?}");
            let result = Err(ReadError::Damaged(Location::SNAPSHOT));
            self.tell(Event::ReadDone { token, records: Vec::new(), result });
        }
    }

    /// Reads are done from now on, those that were held first.
    pub fn release_reads(&mut self) {
        self.holds_reads = false;
        for (token, request) in std::mem::take(&mut self.held_reads) {
            let ReadRequest::Page(spec, lead) = request else { panic!("there is no snapshot") };
            let mut records = Vec::new();
            let result = PageReader::new().read_led(&mut self.medium, &spec, lead.as_deref(), &mut records);
            self.tell(Event::ReadDone { token, records, result });
        }
    }

    /// A socket that has asked for the upgrade.
    pub fn open(&mut self, path: &str) -> u32 {
        self.next += 1;
        self.open_at(self.next, path)
    }

    /// The same, in the place of one that is closed.
    pub fn open_at(&mut self, id: u32, path: &str) -> u32 {
        self.accept_at(id);
        assert!(self.receive(id, &upgrade(path)));
        id
    }

    /// A socket that has asked for nothing yet.
    pub fn accept(&mut self) -> u32 {
        self.next += 1;
        self.accept_at(self.next);
        self.next
    }

    fn accept_at(&mut self, id: u32) {
        self.sockets.insert(id, Socket::default());
        self.tell(Event::Accepted { connection: ConnectionId(id) });
    }

    /// A frame in a message of its own.
    pub fn request<B: Body>(&mut self, id: u32, body: &B) -> u64 {
        self.requests += 1;
        let mut payload = Vec::new();
        Encoder::new().frame(&mut payload, self.requests, 0, body);
        self.say(id, &payload);
        self.requests
    }

    /// A binary message.
    pub fn say(&mut self, id: u32, payload: &[u8]) -> bool {
        let mut bytes = Vec::new();
        encode::binary(&mut bytes, payload, Some(MASK));
        self.receive(id, &bytes)
    }

    pub fn hello(&mut self, id: u32, token: &str, attempt: u64) -> u64 {
        self.hello_of(id, token, attempt, 5)
    }

    pub fn hello_of(&mut self, id: u32, token: &str, attempt: u64, device: u64) -> u64 {
        self.request(
            id,
            &Hello {
                protocol_min: 1,
                protocol_max: 1,
                token: token.as_bytes(),
                device: DeviceId(device),
                attempt: Attempt(attempt),
                platform: b"edge",
                state: ClientState::Active,
                credit_frames: 4,
            },
        )
    }

    /// A session of a user.
    pub fn session(&mut self, token: &str, attempt: u64) -> u32 {
        let id = self.open("/ws");
        let request = self.hello(id, token, attempt);
        assert_eq!(self.answer(id, request), "Welcome");
        id
    }

    /// What a request was answered with: the frame's name, for an error its code's.
    pub fn answer(&mut self, id: u32, request: u64) -> String {
        let frames = &self.socket(id).frames;
        let of = |(header, _): &&(FrameHeader, Vec<u8>)| header.id == request && !header.is_numbered();
        let Some((header, body)) = frames.iter().find(of) else { return String::from("nothing") };
        match ServerFrame::decode(&Frame { header: *header, body }).unwrap() {
            ServerFrame::Error(error) => {
                let text = std::str::from_utf8(error.text).unwrap();
                let is_sentence = text.starts_with(char::is_uppercase) && text.ends_with('.');
                assert!(is_sentence, "{} says {text:?}", error.code.label());
                error.code.label().to_owned()
            }
            other => format!("{other:?}").split(['(', ' ']).next().unwrap_or_default().to_owned(),
        }
    }
}

impl Socket {
    fn hear(&mut self, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        if self.decoder.is_none() {
            self.heard.append(&mut bytes);
            let parsed = client::parse_response(&self.heard, &[7; 16], &["tidegate.v1"]);
            let Ok(Some(accepted)) = parsed else { return };
            bytes = self.heard.split_off(accepted.consumed);
            self.decoder = Some((Decoder::new(Role::Client, 1 << 24, 1 << 24), Vec::new()));
        }
        let Some((decoder, held)) = &mut self.decoder else { return };
        let mut at = 0;
        loop {
            let step = decoder.decode(&mut bytes[at..], held).unwrap();
            at += step.consumed;
            match step.item {
                None => return,
                Some(Item::Binary(payload)) => {
                    let decoded = frames(payload).map(|frame| frame.unwrap());
                    self.frames.extend(decoded.map(|frame| (frame.header, frame.body.to_vec())));
                }
                Some(Item::Pong(payload)) => self.pongs.push(payload.to_vec()),
                Some(Item::Close { code, .. }) => self.closed = code.map(tidegate_ws::CloseCode::get),
                Some(_) => {}
            }
        }
    }
}
