//! People chat: in pairs, in groups, with several devices, away and back.

use crate::SHARDS;
use tidegate_ids::{ConversationId, UserId};
use tidegate_tests_e2e::{Device, Gateway, Setup, user_at};

/// One user whose home is each shard.
fn one_each(shards: u16) -> Vec<UserId> {
    (0..shards).map(|shard| user_at(shards, shard, 0)).collect()
}

/// Two users whose homes differ where there is more than one shard.
fn pair(shards: u16) -> (UserId, UserId) {
    (user_at(shards, 0, 0), user_at(shards, shards - 1, 1))
}

#[test]
fn two_devices_chat_both_ways() {
    for shards in SHARDS {
        let dir = tempfile::tempdir().unwrap();
        let gateway = Gateway::start(dir.path(), shards);
        let (one, other) = pair(shards);
        let mut one = Device::new(&gateway, one);
        let mut other = Device::new(&gateway, other);
        let conversation = one.direct(other.user);
        for round in 0..20 {
            let (question, answer) = (format!("question {round}"), format!("answer {round}"));
            let asked = one.say(conversation, &question);
            other.hear(conversation, &question);
            let answered = other.say(conversation, &answer);
            one.hear(conversation, &answer);
            assert_eq!((asked.sequence.0, answered.sequence.0), (2 * round + 1, 2 * round + 2));
        }
        assert_eq!(one.texts(conversation).len(), 20, "a device is not told what it said itself");
        assert_eq!(one.complaints, Vec::<String>::new());
        gateway.stop();
    }
}

/// Everyone says something, and everyone else hears all of it in one order.
#[track_caller]
fn talk(people: &mut [Device], conversation: ConversationId, rounds: usize) {
    let texts: Vec<String> = (0..rounds * people.len()).map(|index| format!("line {index}")).collect();
    for (index, text) in texts.iter().enumerate() {
        let speaker = index % people.len();
        people[speaker].say(conversation, text);
    }
    let count = people.len();
    for (index, person) in people.iter_mut().enumerate() {
        let of_others = texts.iter().enumerate().filter(|(line, _)| line % count != index);
        let expected: Vec<String> = of_others.map(|(_, text)| text.clone()).collect();
        person.wait("the whole talk", |person| person.texts(conversation).len() >= expected.len());
        assert_eq!(person.texts(conversation), expected, "{} heard something else", person.user);
    }
}

#[test]
fn a_group_with_members_on_every_shard_hears_one_order() {
    for shards in SHARDS {
        // Listed recipients, and slices that are walked.
        for listed_members_max in ["64", "1"] {
            let dir = tempfile::tempdir().unwrap();
            let setup = Setup::new(dir.path(), shards)
                .with("TIDEGATE_LIMITS__LISTED_MEMBERS_MAX", listed_members_max);
            let gateway = setup.start();
            let mut users = one_each(shards);
            users.extend([user_at(shards, 0, 1), user_at(shards, shards - 1, 2)]);
            let mut people: Vec<Device> = users.iter().map(|user| Device::new(&gateway, *user)).collect();
            let conversation = people[0].create_group(&users[1..]);
            talk(&mut people, conversation, 6);
            for person in &people {
                assert_eq!(person.complaints, Vec::<String>::new(), "{}", person.user);
            }
            gateway.stop();
        }
    }
}

#[test]
fn who_leaves_hears_nothing_more_and_who_joins_hears_from_there() {
    for shards in SHARDS {
        let dir = tempfile::tempdir().unwrap();
        let gateway = Gateway::start(dir.path(), shards);
        let (owner, leaver) = pair(shards);
        let joiner = user_at(shards, shards / 2, 3);
        let mut owner = Device::new(&gateway, owner);
        let mut leaver = Device::new(&gateway, leaver);
        let mut joiner = Device::new(&gateway, joiner);
        let group = owner.create_group(&[leaver.user]);
        owner.say(group, "for two");
        leaver.hear(group, "for two");
        let left = leaver.change(|machine| machine.leave(group));
        owner.say(group, "for nobody");
        let joined = owner.change(|machine| machine.members_add(group, 0, &[joiner.user]));
        assert!(joined.sequence > left.sequence);
        owner.say(group, "for the newcomer");
        joiner.hear(group, "for the newcomer");
        assert_eq!(joiner.texts(group), ["for the newcomer"]);
        assert_eq!(joiner.sequences(group).first(), Some(&joined.sequence), "from the join on");
        // What the leaver is told next comes after all that they must not hear.
        let direct = owner.direct(leaver.user);
        owner.say(direct, "do you hear?");
        leaver.hear(direct, "do you hear?");
        assert_eq!(leaver.texts(group), ["for two"]);
        gateway.stop();
    }
}

#[test]
fn a_device_that_was_away_gets_everything_in_order() {
    for shards in SHARDS {
        // Few are pushed when it comes back; many are announced and fetched.
        for count in [10, 200] {
            let dir = tempfile::tempdir().unwrap();
            let gateway = Gateway::start(dir.path(), shards);
            let (one, other) = pair(shards);
            let mut here = Device::new(&gateway, one);
            let mut away = Device::new(&gateway, other);
            let user = away.user;
            let conversation = here.direct(user);
            here.say(conversation, "before");
            away.hear(conversation, "before");
            let stored = away.close();
            gateway.wait_for_count("events.sessions_ended", 1);
            let expected: Vec<String> = (0..count).map(|index| format!("missed {index}")).collect();
            for text in &expected {
                here.say(conversation, text);
            }
            let mut back = Device::resume(&gateway, user, stored);
            back.wait("what was missed", |device| device.texts(conversation).len() >= count);
            assert_eq!(back.texts(conversation), expected);
            here.say(conversation, "after");
            back.hear(conversation, "after");
            gateway.stop();
        }
    }
}

#[test]
fn another_device_of_the_sender_hears_it_and_the_sending_one_does_not() {
    for shards in SHARDS {
        let dir = tempfile::tempdir().unwrap();
        let gateway = Gateway::start(dir.path(), shards);
        let (sender, reader) = pair(shards);
        let mut phone = Device::new(&gateway, sender);
        let mut laptop = Device::new(&gateway, sender);
        let mut reader = Device::new(&gateway, reader);
        assert_ne!(phone.id(), laptop.id());
        let conversation = phone.direct(reader.user);
        let sent = phone.say(conversation, "from the phone");
        laptop.hear(conversation, "from the phone");
        reader.hear(conversation, "from the phone");
        assert_eq!(laptop.sequences(conversation), [sent.sequence]);
        laptop.say(conversation, "from the laptop");
        // The phone hears the laptop, so it would have heard itself by now.
        phone.hear(conversation, "from the laptop");
        assert_eq!(phone.texts(conversation), ["from the laptop"]);
        reader.hear(conversation, "from the laptop");
        assert_eq!(reader.texts(conversation), ["from the phone", "from the laptop"]);
        gateway.stop();
    }
}
