//! Nothing is allocated per delivery or per command once warm, and an idle machine is small.

use std::sync::Arc;
use tidegate_client::{Config, Encoder, Event, Machine, Stored};
use tidegate_ids::{
    ConversationId, DeviceId, Incarnation, MonotonicNs, PushNumber, Sequence, UserId, UserVersion,
};
use tidegate_schema::{ClientFrame, Deliver, SendAck, ServerFrame, Stamp, Welcome, frames};
use tidegate_tests_support::{CountingAllocator, allocations};
use tidegate_ws::{Decoder, Item, Role, encode, server};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const ME: UserId = UserId(1);

struct Pair {
    machine: Machine,
    encoder: Encoder,
    out: Vec<u8>,
    now: MonotonicNs,
}

fn stored() -> Stored {
    Stored { user: ME, incarnation: Incarnation(1), user_version: UserVersion(1), ..Stored::new(DeviceId(5)) }
}

/// A payload of the gateway as bytes on the wire.
fn wire(id: u64, frame: &ServerFrame<'_>) -> Vec<u8> {
    let (mut payload, mut bytes) = (Vec::new(), Vec::new());
    frame.encode(&mut Encoder::new(), &mut payload, id, 0);
    encode::binary(&mut bytes, &payload, None);
    bytes
}

impl Pair {
    fn ready(config: &Arc<Config>) -> Self {
        let now = MonotonicNs(1);
        let mut machine = Machine::new(Arc::clone(config), b"token", stored(), 9);
        machine.poll_connect(now).expect("at once");
        machine.connected(now, &mut |_| {});
        let mut pair = Self { machine, encoder: Encoder::new(), out: Vec::new(), now };
        let key = {
            pair.transmit();
            server::parse(&pair.out).expect("sound").expect("whole").key
        };
        let mut response = Vec::new();
        server::accept_response(&mut response, &key, Some("tidegate.v1"));
        pair.receive(&mut response);
        pair.transmit();
        let id = pair.said()[0].0;
        let welcome = Welcome { user: ME, incarnation: Incarnation(1), ..Welcome::default() };
        pair.receive(&mut wire(id, &ServerFrame::Welcome(welcome)));
        pair.transmit();
        assert!(pair.machine.is_ready());
        pair
    }

    fn transmit(&mut self) {
        self.out.clear();
        while self.machine.wants_transmit() {
            self.machine.transmit(&mut self.encoder, &mut self.out, self.now);
        }
    }

    fn receive(&mut self, bytes: &mut [u8]) -> u64 {
        let mut messages = 0;
        self.machine.received(bytes, self.now, &mut |event| {
            messages += u64::from(matches!(event, Event::Message { .. }));
        });
        self.machine.stored_all(self.now);
        messages
    }

    /// Ids and kinds of what the machine said last.
    fn said(&mut self) -> Vec<(u64, bool)> {
        let mut decoder = Decoder::new(Role::Server, 1 << 18, 1 << 18);
        let mut held = Vec::new();
        let mut said = Vec::new();
        let step = decoder.decode(&mut self.out, &mut held).expect("sound");
        let Some(Item::Binary(payload)) = step.item else { return said };
        for frame in frames(payload) {
            let frame = frame.expect("a frame");
            let body = ClientFrame::decode(&frame).expect("a client frame");
            said.push((frame.header.id, matches!(body, ClientFrame::Send(_))));
        }
        said
    }
}

fn deliver(conversation: ConversationId, sequence: u64) -> Vec<u8> {
    let stamp = Stamp { conversation, sequence: Sequence(sequence), sender: UserId(2), ..Stamp::default() };
    let message = [7; 96];
    let (mut payload, mut bytes) = (Vec::new(), Vec::new());
    Deliver { stamp, message: &message }.write_frame(&mut payload, PushNumber(sequence));
    encode::binary(&mut bytes, &payload, None);
    bytes
}

#[test]
fn deliveries_and_acknowledgements_allocate_nothing_once_warm() {
    let mut pair = Pair::ready(&Arc::new(Config::default()));
    let conversation = ConversationId::direct(ME, UserId(2));
    let mut records: Vec<Vec<u8>> = (1..=2000).map(|sequence| deliver(conversation, sequence)).collect();
    let (warm, measured) = records.split_at_mut(200);
    let mut run = |records: &mut [Vec<u8>]| {
        let mut messages = 0;
        for record in records {
            messages += pair.receive(record);
            pair.transmit();
        }
        messages
    };
    assert_eq!(run(warm), 200);
    let (taken, messages) = allocations(|| run(measured));
    assert_eq!((messages, taken.count), (1800, 0));
}

#[test]
fn a_command_and_its_answer_allocate_nothing_once_warm() {
    let mut pair = Pair::ready(&Arc::new(Config::default()));
    let conversation = ConversationId::direct(ME, UserId(2));
    let mut taken = 0;
    for sequence in 1..=300 {
        let (sending, ()) = allocations(|| {
            pair.machine.send(conversation, &[7; 96]).expect("room");
            pair.transmit();
        });
        let id = pair.said().iter().find(|(_, send)| *send).expect("sent").0;
        let ack = SendAck { sequence: Sequence(sequence), ..SendAck::default() };
        let mut answer = wire(id, &ServerFrame::SendAck(ack));
        let (answered, _) = allocations(|| pair.receive(&mut answer));
        taken += if sequence > 100 { sending.count + answered.count } else { 0 };
    }
    assert_eq!(taken, 0);
    assert_eq!(pair.machine.outbox_commands(), 0);
}

#[test]
fn an_idle_machine_is_small() {
    let config = Arc::new(Config::default());
    drop(Pair::ready(&config));
    let (taken, machine) = allocations(|| Machine::new(Arc::clone(&config), &[0; 300], stored(), 9));
    assert!(taken.bytes <= 300, "{taken:?}: the token and nothing else");
    assert!(size_of_val(&machine) <= 1024, "{} bytes", size_of_val(&machine));
}
