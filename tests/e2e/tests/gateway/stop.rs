//! A gateway that is stopped, or killed, and started again, also with another number of shards.

use crate::SHARDS;
use rustix::process::Signal;
use std::path::Path;
use std::process::Command;
use tidegate_client::Stored;
use tidegate_ids::{ConversationId, DeviceId, UserId};
use tidegate_schema::{GoAwayReason, ServerFrame};
use tidegate_tests_e2e::{Arrived, Conversation, Device, Gateway, Wire, program, user_at};

/// `tidegate-log verify` finds nothing wrong.
#[track_caller]
pub(crate) fn verify_log(data: &Path) {
    let output = Command::new(program::program("tidegate-log")).arg("verify").arg(data).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_stop_says_go_away_closes_with_4000_ends_well_and_leaves_a_whole_log() {
    for shards in SHARDS {
        let dir = tempfile::tempdir().unwrap();
        let mut gateway = Gateway::start(dir.path(), shards);
        let users: Vec<UserId> = (0..shards).map(|shard| user_at(shards, shard, 0)).collect();
        let mut wires: Vec<Wire> = users
            .iter()
            .map(|user| Wire::greeted(gateway.ws, &gateway.token(*user), DeviceId(1), 1))
            .collect();
        let mut not_yet_greeted = Wire::open(gateway.ws);
        let other = UserId(1 << 40);
        let sent = wires[0].send(ConversationId::direct(users[0], other), 1, "last words");
        gateway.signal(Signal::TERM);
        for wire in &mut wires {
            loop {
                let Arrived::Frame(frame) = wire.arrive() else { panic!("no GoAway") };
                if let ServerFrame::GoAway(away) = frame.read() {
                    assert_eq!((away.reason, away.come_back), (GoAwayReason::Shutdown, true));
                    assert!(away.delay_min_ms <= away.delay_max_ms);
                    break;
                }
            }
            assert_eq!(wire.closed(), Some(4000));
        }
        not_yet_greeted.closed();
        assert_eq!(gateway.wait(), Some(0));
        drop(gateway);
        verify_log(dir.path());
        let gateway = Gateway::start(dir.path(), shards);
        let mut wire = Wire::greeted(gateway.ws, &gateway.token(users[0]), DeviceId(1), 2);
        let read = Conversation::read(&mut wire, ConversationId::direct(users[0], other));
        assert_eq!(read.at(sent.sequence).unwrap().stamp.message_id, sent.message_id);
    }
}

#[test]
fn everything_is_there_after_restarts_with_other_numbers_of_shards() {
    let check = |shards: [u16; 5], kill: bool| {
        let dir = tempfile::tempdir().unwrap();
        let users: Vec<UserId> = (0..4).map(|shard| user_at(4, shard, 0)).collect();
        let mut stored: Vec<Option<Stored>> = vec![None; users.len()];
        let mut group = None;
        let mut said: Vec<String> = Vec::new();
        let mut sequence = 0;
        for (start, shards) in shards.into_iter().enumerate() {
            let gateway = Gateway::start(dir.path(), shards);
            let mut people: Vec<Device> = (users.iter().zip(&mut stored))
                .map(|(user, stored)| match stored.take() {
                    Some(stored) => Device::resume(&gateway, *user, stored),
                    None => Device::new(&gateway, *user),
                })
                .collect();
            let id = *group.get_or_insert_with(|| people[0].create_group(&users[1..]));
            for index in 0..people.len() {
                let text = format!("start {start} user {index}");
                let ack = people[index].say(id, &text);
                assert!(ack.sequence.0 > sequence, "{:?} was given before", ack.sequence);
                sequence = ack.sequence.0;
                people.iter_mut().enumerate().filter(|(other, _)| *other != index).for_each(|(_, person)| {
                    person.hear(id, &text);
                });
                said.push(text);
            }
            // A new device reads all of it, from the beginning.
            let mut fresh = Device::new(&gateway, users[3]);
            fresh.wait("the whole history", |fresh| fresh.texts(id).len() >= said.len());
            assert_eq!(fresh.texts(id), said);
            for (person, stored) in people.into_iter().zip(&mut stored) {
                assert_eq!(person.complaints, Vec::<String>::new());
                *stored = Some(person.close());
            }
            if kill {
                gateway.kill();
            } else {
                gateway.stop();
            }
            verify_log(dir.path());
        }
    };
    check([1, 1, 4, 4, 2], false);
    check([4, 4, 1, 3, 4], true);
}

#[test]
fn a_message_to_somebody_away_waits_through_restarts() {
    let check = |before: u16, after: u16, kill: bool| {
        let dir = tempfile::tempdir().unwrap();
        let gateway = Gateway::start(dir.path(), before);
        let mut sender = Device::new(&gateway, user_at(4, 0, 0));
        let mut away = Device::new(&gateway, user_at(4, 3, 0));
        let (user, conversation) = (away.user, sender.direct(away.user));
        sender.say(conversation, "while here");
        away.hear(conversation, "while here");
        let stored = away.close();
        gateway.wait_for_count("events.sessions_ended", 1);
        let expected: Vec<String> = (0..20).map(|index| format!("while away {index}")).collect();
        for text in &expected {
            sender.say(conversation, text);
        }
        if kill {
            gateway.kill();
        } else {
            gateway.stop();
        }
        let gateway = Gateway::start(dir.path(), after);
        let mut back = Device::resume(&gateway, user, stored);
        back.wait("what was missed", |device| device.texts(conversation).len() >= expected.len());
        assert_eq!(back.texts(conversation), expected);
    };
    check(1, 1, false);
    check(4, 4, true);
    check(4, 1, false);
    check(1, 4, true);
}
