//! One device, several sockets: the newest stays.

use crate::SHARDS;
use tidegate_ids::{ConversationId, DeviceId};
use tidegate_tests_e2e::{Arrived, Gateway, Wire, user_at};

#[test]
fn a_newer_socket_replaces_the_older_and_gets_what_it_left() {
    for shards in SHARDS {
        let dir = tempfile::tempdir().unwrap();
        let gateway = Gateway::start(dir.path(), shards);
        let (user, other) = (user_at(shards, shards - 1, 0), user_at(shards, 0, 1));
        let conversation = ConversationId::direct(user, other);
        let (token, other_token) = (gateway.token(user), gateway.token(other));
        let mut sender = Wire::greeted(gateway.ws, &other_token, DeviceId(1), 1);
        let mut older = Wire::greeted(gateway.ws, &token, DeviceId(1), 1);
        // The kernel picks the shard that accepts: over so many, every way of getting home is taken.
        for attempt in 2..=24 {
            let mut newer = Wire::greeted(gateway.ws, &token, DeviceId(1), attempt);
            assert_eq!(older.closed(), Some(4002), "attempt {attempt}");
            let text = format!("to attempt {attempt}");
            sender.send(conversation, attempt - 1, &text);
            newer.hear(conversation, &text);
            older = newer;
        }
        gateway.wait_for_count("events.sessions_opened", 25);
        gateway.wait_for_gauge("sessions", 2);
        let stats = gateway.stats();
        if shards > 1 {
            assert!(stats.total("events.connections_handed_over") > 0, "every socket landed at its home");
        }
        gateway.stop();
    }
}

#[test]
fn an_older_attempt_that_comes_later_is_the_one_that_goes() {
    for shards in SHARDS {
        let dir = tempfile::tempdir().unwrap();
        let gateway = Gateway::start(dir.path(), shards);
        let user = user_at(shards, shards - 1, 0);
        let token = gateway.token(user);
        let mut newest = Wire::greeted(gateway.ws, &token, DeviceId(1), 100);
        for attempt in 1..=12 {
            let mut late = Wire::open(gateway.ws);
            late.say_hello(&token, DeviceId(1), attempt);
            assert_eq!(late.closed(), Some(4002), "attempt {attempt}");
        }
        newest.ping();
        let mut other_device = Wire::greeted(gateway.ws, &token, DeviceId(2), 1);
        other_device.ping();
        newest.ping();
    }
}

#[test]
fn sockets_that_race_leave_exactly_the_newest() {
    for shards in SHARDS {
        let dir = tempfile::tempdir().unwrap();
        let gateway = Gateway::start(dir.path(), shards);
        let token = gateway.token(user_at(shards, 0, 0));
        let mut wires: Vec<Wire> = (0..16).map(|_| Wire::open(gateway.ws)).collect();
        for (attempt, wire) in wires.iter_mut().enumerate() {
            wire.say_hello(&token, DeviceId(1), attempt as u64 + 1);
        }
        let mut newest = wires.pop().unwrap();
        for wire in &mut wires {
            assert_eq!(wire.closed(), Some(4002));
        }
        let Arrived::Frame(welcome) = newest.arrive() else { panic!("the newest is not welcome") };
        assert!(matches!(welcome.read(), tidegate_schema::ServerFrame::Welcome(_)));
        newest.ping();
        gateway.wait_for_gauge("sessions", 1);
    }
}
