//! What a gateway does with clients that do not keep up, or say nothing.

use crate::SHARDS;
use std::io::Read;
use std::net::TcpStream;
use std::time::Instant;
use tidegate_ids::{ConversationId, DeviceId, PushNumber, Sequence};
use tidegate_schema::ServerFrame;
use tidegate_tests_e2e::limits::{LOOK_INTERVAL, WAIT};
use tidegate_tests_e2e::{Arrived, Gateway, Setup, Wire, message, user_at};

/// Pushes that may be unacknowledged.
const CREDIT: u64 = 256;

#[test]
fn without_acknowledgements_the_credit_is_pushed_and_nothing_more() {
    for shards in SHARDS {
        let dir = tempfile::tempdir().unwrap();
        let gateway = Gateway::start(dir.path(), shards);
        let (user, other) = (user_at(shards, 0, 0), user_at(shards, shards - 1, 1));
        let conversation = ConversationId::direct(user, other);
        let mut sender = Wire::greeted(gateway.ws, &gateway.token(user), DeviceId(1), 1);
        let mut reader = Wire::greeted(gateway.ws, &gateway.token(other), DeviceId(1), 1);
        let count = CREDIT + 40;
        for number in 1..=count {
            sender.send(conversation, number, &number.to_string());
        }
        let mut expected = 1;
        let mut next = |reader: &mut Wire| loop {
            let Arrived::Frame(frame) = reader.arrive() else { panic!("the reader is let go") };
            if !frame.header.is_numbered() {
                continue;
            }
            match frame.read() {
                ServerFrame::Deliver(record) => {
                    assert_eq!(record.stamp.sequence, Sequence(expected), "in order, without a hole");
                    expected += 1;
                    return expected - 1;
                }
                other => panic!("not a record: {other:?}"),
            }
        };
        while next(&mut reader) < CREDIT {}
        // What would be pushed beyond the credit would come before the Pong.
        gateway.wait_for_count("events.commands_appended", count);
        reader.ping();
        assert_eq!(reader.pushed(), PushNumber(CREDIT));
        reader.acknowledge();
        while next(&mut reader) < count {}
        reader.acknowledge();
        reader.ping();
    }
}

#[test]
fn silence_closes_with_4009_and_a_heartbeat_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new(dir.path(), 2).with("TIDEGATE_LIMITS__HEARTBEAT_ACTIVE_MS", "1000");
    let gateway = setup.start();
    let mut silent = Wire::greeted(gateway.ws, &gateway.token(user_at(2, 0, 0)), DeviceId(1), 1);
    let mut lively = Wire::greeted(gateway.ws, &gateway.token(user_at(2, 1, 0)), DeviceId(1), 1);
    let end = Instant::now() + WAIT;
    while gateway.stats().total("events.heartbeats_missed") == 0 {
        assert!(Instant::now() < end, "silence is not noticed");
        lively.ping();
        std::thread::sleep(LOOK_INTERVAL);
    }
    assert_eq!(silent.closed(), Some(4009));
    lively.ping();
    gateway.wait_for_count("events.heartbeats_missed", 1);
}

#[test]
fn who_never_says_hello_is_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new(dir.path(), 1).with("TIDEGATE_LIMITS__HELLO_DEADLINE_MS", "200");
    let gateway = setup.start();
    let mut mute = TcpStream::connect(gateway.ws).unwrap();
    mute.set_read_timeout(Some(WAIT)).unwrap();
    let mut upgraded = Wire::open(gateway.ws);
    assert_eq!(mute.read(&mut [0; 16]).unwrap_or(0), 0, "nothing is said to it");
    assert_eq!(upgraded.closed(), None);
    gateway.wait_for_gauge("sockets", 0);
}

#[test]
fn who_asks_and_does_not_read_is_let_go_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new(dir.path(), 2).with("TIDEGATE_LIMITS__SEND_STALL_MS", "500");
    let gateway = setup.start();
    let (user, other) = (user_at(2, 0, 0), user_at(2, 1, 0));
    let conversation = ConversationId::direct(user, other);
    let mut reader = Wire::greeted(gateway.ws, &gateway.token(other), DeviceId(1), 1);
    let mut greedy = Wire::greeted(gateway.ws, &gateway.token(user), DeviceId(1), 1);
    let large = message(&"x".repeat(60_000));
    let id = greedy.say_send(conversation, 1, &large);
    greedy.acknowledged(id);
    reader.pushed_record();
    // Until the buffers of both ends are full.
    let end = Instant::now() + WAIT;
    while gateway.stats().total("events.slow_consumers") == 0 {
        assert!(Instant::now() < end, "a full socket is not noticed");
        for _ in 0..4 {
            greedy.say_range(conversation, Sequence(0));
        }
    }
    gateway.wait_for_count("events.slow_consumers", 1);
    reader.send(conversation, 1, "undisturbed");
}
