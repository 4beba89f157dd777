//! A warm shard takes nothing from the heap per message (DESIGN 4): two shards over rings, whose sockets and disk the test
//! is. Only what a shard does itself is counted.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may end by a panic")]

#[allow(dead_code, reason = "what is written here is never read")]
mod node;

use node::{Port, Rings, SHARDS, Sizes, Start, Started};
use tidegate_domain::{Route, group_id};
use tidegate_ids::{
    Attempt, ClientId, CommandNumber, ConversationId, DeviceId, MonotonicNs, Now, PushNumber, ShardIndex,
    UserId, WallMs,
};
use tidegate_schema::{
    Body, ClientState, Encoder, Frame, FrameHeader, FrameKind, GroupCreate, Hello, List, MessageFields, Send,
    ServerFrame, frames,
};
use tidegate_shard::{ConnectionId, Event, Lane, MeshPort, Output, Shard, ShardLimits};
use tidegate_storage_log::MemoryMedium;
use tidegate_tests_support::{CountingAllocator, allocations};
use tidegate_ws::{Decoder, Item, Role, client, encode};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const MASK: [u8; 4] = [1, 2, 3, 4];
const CREDIT: u16 = 256;
const SIZES: Sizes = Sizes {
    directory: *b"a warm shard's..",
    segment_bytes: 1 << 20,
    staging_bytes: 4 << 20,
    batch_bytes_max: 128 * 1024,
};

/// How often every device says something until all is as large as it will be for long: each buffer has been lent for the
/// largest there is, and a conversation's links have room for 65,535 records, which doubled last at 255 (`storage/log`, `Spine`).
const WARMING: u64 = 2500;
const MEASURED: u64 = 2000;

/// What a device has heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Heard {
    acknowledged: u64,
    delivered: u64,
    pongs: u64,
}

/// A device and its socket. It acknowledges what it is pushed when it is told to.
struct Device {
    id: DeviceId,
    shard: u16,
    place: ConnectionId,
    decoder: Option<Decoder>,
    welcomed: bool,
    requests: u64,
    heard: Heard,
}

impl Device {
    fn hear(&mut self, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        let Some(decoder) = &mut self.decoder else {
            let parsed = client::parse_response(&bytes, &[7; 16], &["tidegate.v1"]);
            assert_eq!(parsed.unwrap().expect("it comes at once").consumed, bytes.len());
            self.decoder = Some(Decoder::new(Role::Client, 1 << 20, 1 << 20));
            return;
        };
        let (mut at, mut held) = (0, Vec::new());
        loop {
            let step = decoder.decode(&mut bytes[at..], &mut held).unwrap();
            at += step.consumed;
            let Some(Item::Binary(payload)) = step.item else { break };
            for frame in frames(payload) {
                let Frame { header, body } = frame.unwrap();
                match ServerFrame::decode(&Frame { header, body }).unwrap() {
                    ServerFrame::Welcome(_) => self.welcomed = true,
                    ServerFrame::SendAck(ack) => {
                        assert!(!ack.duplicate);
                        self.heard.acknowledged += 1;
                    }
                    ServerFrame::GroupCreated(_) => self.heard.acknowledged += 1,
                    ServerFrame::Deliver(_) => {
                        self.heard.delivered += 1;
                        assert_eq!(header.id, self.heard.delivered, "pushes are numbered without a gap");
                    }
                    ServerFrame::Pong => self.heard.pongs += 1,
                    ServerFrame::DrainDone => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

/// Two shards and their shell.
struct Shell {
    shards: Vec<Shard>,
    rings: Rings,
    now: Now,
    segments: u32,
    devices: Vec<Device>,
    /// How often the shards took something from the heap.
    taken: u64,
    encoder: Encoder,
}

impl Shell {
    fn start(limits: &ShardLimits) -> Self {
        let start = Start { segments: [Vec::new(), Vec::new()], held: None, limits, sizes: &SIZES, seed: 7 };
        let Started { shards, .. } = start.read(&mut MemoryMedium::new());
        let mut shell = Self {
            shards,
            rings: Rings::new(usize::MAX, 1 << 20),
            now: Now { monotonic: MonotonicNs(1), wall: WallMs(1_700_000_000_000) },
            segments: 0,
            devices: Vec::new(),
            taken: 0,
            encoder: Encoder::new(),
        };
        for shard in 0..SHARDS {
            let mut port = Port { rings: &mut shell.rings, me: shard };
            shell.shards[usize::from(shard)].start(shell.now, &mut port);
        }
        shell.run();
        assert!(shell.shards.iter().all(Shard::is_ready));
        shell
    }

    /// What a shard does, with what it takes from the heap.
    fn counted<R>(&mut self, shard: u16, work: impl FnOnce(&mut Shard, Now, &mut Port<'_>) -> R) -> R {
        let mut port = Port { rings: &mut self.rings, me: shard };
        let (taken, result) = allocations(|| work(&mut self.shards[usize::from(shard)], self.now, &mut port));
        self.taken += taken.count;
        result
    }

    fn handle(&mut self, shard: u16, event: Event<'_>) {
        self.counted(shard, |shard, now, port| shard.handle(event, now, port));
    }

    /// Turns until nothing more happens.
    fn run(&mut self) {
        loop {
            let mut is_quiet = true;
            for shard in 0..SHARDS {
                is_quiet &= !self.counted(shard, |shard, now, port| shard.turn(now, port));
                while let Some(output) = self.counted(shard, |shard, _, _| shard.poll_output()) {
                    self.perform(shard, output);
                    is_quiet = false;
                }
            }
            if is_quiet && self.are_rings_empty() {
                return;
            }
        }
    }

    fn are_rings_empty(&mut self) -> bool {
        (0..SHARDS).all(|me| {
            let mut port = Port { rings: &mut self.rings, me };
            let mut has_none = |lane| (0..SHARDS).all(|from| port.peek(ShardIndex(from), lane).is_none());
            has_none(Lane::Requests) && has_none(Lane::Results)
        })
    }

    fn perform(&mut self, shard: u16, output: Output) {
        match output {
            Output::Send { connection, buffer } => {
                let at = |device: &&mut Device| device.shard == shard && device.place == connection;
                self.devices.iter_mut().find(at).unwrap().hear(&buffer);
                self.handle(shard, Event::SendDone { connection, buffer, sent: true });
            }
            Output::Append { batch } => {
                let number = batch.number;
                drop(batch);
                self.handle(shard, Event::Written { batch: number });
            }
            Output::NeedSegment => {
                self.segments += 1;
                self.handle(shard, Event::Segment { number: self.segments });
            }
            Output::Receive { .. } | Output::Checkpointed { .. } | Output::Ready => {}
            other => panic!("nobody leaves and nothing is cold: {other:?}"),
        }
    }

    fn receive(&mut self, device: usize, mut bytes: Vec<u8>) {
        let Device { shard, place: connection, .. } = self.devices[device];
        self.handle(shard, Event::Bytes { connection, bytes: &mut bytes });
    }

    fn say(&mut self, device: usize, body: &impl Body) {
        let mut payload = Vec::new();
        self.devices[device].requests += 1;
        self.encoder.frame(&mut payload, self.devices[device].requests, 0, body);
        let mut bytes = Vec::new();
        encode::binary(&mut bytes, &payload, Some(MASK));
        self.receive(device, bytes);
    }

    /// A frame that is its header alone.
    fn say_header(&mut self, device: usize, header: FrameHeader) {
        let mut bytes = Vec::new();
        encode::binary(&mut bytes, &header.to_bytes(), Some(MASK));
        self.receive(device, bytes);
    }

    /// A device whose socket its user's home has accepted. Gives its place among the devices.
    fn connect(&mut self, user: UserId) -> usize {
        let (shard, device) = (Route::new(SHARDS).user(user).0, self.devices.len());
        let (id, place) = (DeviceId(device as u64 + 1), ConnectionId(device as u32));
        let (heard, decoder) = (Heard::default(), None);
        self.devices.push(Device { id, shard, place, decoder, welcomed: false, requests: 0, heard });
        self.handle(shard, Event::Accepted { connection: place });
        let mut request = Vec::new();
        let (key, protocols) = ([7; 16], &["tidegate.v1"][..]);
        let upgrade = client::Request { host: "warm", path: "/ws", key, protocols, fields: &[] };
        client::request(&mut request, &upgrade).unwrap();
        self.receive(device, request);
        self.run();
        let token = format!("user:{}", user.0);
        let hello = Hello {
            protocol_min: 1,
            protocol_max: 1,
            token: token.as_bytes(),
            device: id,
            attempt: Attempt(1),
            platform: b"warm",
            state: ClientState::Active,
            credit_frames: CREDIT,
        };
        self.say(device, &hello);
        self.run();
        assert!(self.devices[device].welcomed);
        device
    }

    /// Says the message of this number, which is its client id too, with a body of some size.
    fn send(&mut self, device: usize, conversation: ConversationId, number: u64) {
        let body = [b'm'; 400];
        let body = &body[..20 + (number * 37 % 380) as usize];
        let mut message = Vec::new();
        let fields = MessageFields { body, ..MessageFields::default() };
        self.encoder.message(&mut message, &fields).unwrap();
        let client_id = ClientId(u128::from(number).to_be_bytes());
        self.say(device, &Send { conversation, number: CommandNumber(number), client_id, message: &message });
    }

    /// Acknowledges all that a device was pushed.
    fn acknowledge(&mut self, device: usize) {
        self.say_header(device, FrameHeader::ack(PushNumber(self.devices[device].heard.delivered)));
    }
}

/// Users of a shard, each once.
fn users_at(shard: u16) -> impl Iterator<Item = UserId> {
    (1..).map(UserId).filter(move |user| Route::new(SHARDS).user(*user) == ShardIndex(shard))
}

/// Users of these shards whose conversation has its home on that one.
fn pair(one: u16, other: u16, home: u16) -> (UserId, UserId) {
    let first = users_at(one).next().unwrap();
    let lives_there =
        |user: &UserId| Route::new(SHARDS).conversation(&ConversationId::direct(first, *user)).0 == home;
    (first, users_at(other).skip(1).find(lives_there).unwrap())
}

/// All devices say something at once, and acknowledge what they were pushed, again and again. Time does not pass, so no
/// checkpoint comes between: what one takes, it takes once for all that was said in some seconds.
fn check(limits: &ShardLimits, open: impl FnOnce(&mut Shell) -> (Vec<usize>, ConversationId)) {
    let mut shell = Shell::start(limits);
    let (devices, conversation) = open(&mut shell);
    let (others, mut said) = (devices.len() as u64 - 1, 0);
    let mut exchange = |shell: &mut Shell, rounds: u64| {
        let taken = shell.taken;
        for _ in 0..rounds {
            said += 1;
            devices.iter().for_each(|device| shell.send(*device, conversation, said));
            shell.run();
            devices.iter().for_each(|device| shell.acknowledge(*device));
            shell.run();
        }
        let heard = |device: &usize| {
            let Heard { acknowledged, delivered, .. } = shell.devices[*device].heard;
            (acknowledged >= said, delivered >= said * others)
        };
        assert!(devices.iter().all(|device| heard(device) == (true, true)), "everything is answered");
        shell.taken - taken
    };
    assert!(exchange(&mut shell, WARMING) > 0, "the allocator counts");
    let (taken, segments) = (exchange(&mut shell, MEASURED), shell.segments);
    assert_eq!(taken, 0, "{taken} allocations for {MEASURED} messages of each device");
    assert!(segments > 4, "segments were filled meanwhile: {segments}");
}

fn check_direct(one: u16, other: u16, home: u16) {
    check(&ShardLimits::default(), |shell| {
        let (first, second) = pair(one, other, home);
        let devices = vec![shell.connect(first), shell.connect(second)];
        (devices, ConversationId::direct(first, second))
    });
}

/// Every first write to an idle connection took a buffer from the heap and grew it.
#[test]
fn a_message_between_two_of_one_shard_takes_nothing() {
    check_direct(0, 0, 0);
}

#[test]
fn a_message_by_way_of_another_shard_takes_nothing() {
    check_direct(0, 1, 0);
    check_direct(0, 1, 1);
}

fn check_group(limits: &ShardLimits) {
    check(limits, |shell| {
        let users: Vec<UserId> = users_at(0).take(2).chain(users_at(1).take(2)).collect();
        let devices: Vec<usize> = users.iter().map(|user| shell.connect(*user)).collect();
        let client_id = ClientId([9; 16]);
        let (creator, device) = (users[0], shell.devices[devices[0]].id);
        let create = GroupCreate { client_id, name: b"warm", users: List::new(&users) };
        shell.say(devices[0], &create);
        shell.run();
        devices.iter().for_each(|device| shell.acknowledge(*device));
        (devices, group_id(creator, device, &client_id))
    });
}

#[test]
fn a_message_to_a_group_takes_nothing_whether_it_is_listed_or_walked() {
    check_group(&ShardLimits::default());
    check_group(&ShardLimits { listed_members_max: 2, ..ShardLimits::default() });
}

/// More connections than the buffers that were once kept for reuse: what was above was given back, and taken again.
#[test]
fn sends_to_many_at_once_take_nothing_and_an_idle_connection_keeps_none() {
    let mut shell = Shell::start(&ShardLimits::default());
    let users: Vec<UserId> = users_at(0).take(1500).collect();
    let devices: Vec<usize> = users.iter().map(|user| shell.connect(*user)).collect();
    let ping = FrameHeader::alone(FrameKind::Ping, 1);
    let rounds = |shell: &mut Shell, at_once: bool| {
        let taken = shell.taken;
        for device in &devices {
            shell.say_header(*device, ping);
            if !at_once {
                shell.run();
            }
        }
        shell.run();
        shell.taken - taken
    };
    assert_eq!(rounds(&mut shell, false), 0, "one buffer goes round");
    assert!(rounds(&mut shell, true) >= 1400, "each has one now");
    assert_eq!(rounds(&mut shell, true), 0);
    assert!(shell.devices.iter().all(|device| device.heard.pongs == 3));
}
