use super::*;
use crate::{QueueChange, UserRecord};
use tidegate_ids::{Sequence, UserId, UserVersion, WallMs};

const EACH: UserStateBytes = UserStateBytes { user: 24, device: 28, range: 24, conversation: 40 };

fn conversation(number: u64) -> ConversationId {
    let mut id = [0x80; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    ConversationId(id)
}

/// A user with devices 1, 2, … that have so many ranges and were seen at these times, and so many conversations.
fn user(devices: &[(u64, u64)], conversations: u64) -> User {
    let mut user = User::new(UserId(1));
    for (id, (ranges, seen)) in (1..).map(DeviceId).zip(devices) {
        user.apply(&UserRecord::Registered { device: id, time: WallMs(*seen) });
        for number in 0..*ranges {
            let change =
                QueueChange::Widen { conversation: conversation(number), from: Sequence(number + 1) };
            user.apply(&UserRecord::Queue { device: id, change });
        }
    }
    for number in 0..conversations {
        user.apply(&UserRecord::Joined { conversation: conversation(number), at: Sequence(1) });
    }
    user
}

fn leave(user: &mut User, number: u64) {
    user.apply(&UserRecord::Left { conversation: conversation(number), at: Sequence(5) });
}

fn listed(user: &User) -> Vec<ConversationId> {
    user.changed_after(UserVersion(0)).map(|(id, _)| id).collect()
}

fn make_fit(user: &mut User, bytes_max: usize) -> GivenUp {
    let mut given_up = GivenUp::default();
    user.make_fit(bytes_max, &EACH, &mut given_up);
    assert!(user.state_bytes(&EACH) <= bytes_max);
    user.devices.iter().for_each(|device| device.queue.assert_invariants());
    given_up
}

/// Which devices go, in which order, at a limit of so many ranges.
fn check(devices: &[(u64, u64)], ranges_max: u64, gone: &[u64]) {
    let mut user = user(devices, 3);
    let rest = EACH.user + devices.len() * EACH.device + 3 * EACH.conversation;
    let bytes_max = rest + ranges_max as usize * EACH.range;
    let before = user.clone();
    let given_up = make_fit(&mut user, bytes_max);
    let expected: Vec<DeviceId> = gone.iter().copied().map(DeviceId).collect();
    assert_eq!(given_up.devices, expected, "{devices:?}");
    let ranges: u64 = gone.iter().map(|id| devices[*id as usize - 1].0).sum();
    assert_eq!((given_up.ranges as u64, given_up.conversations), (ranges, 0));
    assert_eq!((listed(&user), user.version), (listed(&before), before.version), "the list stands");
    for device in before.devices.iter().filter(|device| !gone.contains(&device.id.0)) {
        let kept = user.devices.get(device.id).map(|kept| kept.queue.ranges().collect::<Vec<_>>());
        assert_eq!(kept, Some(device.queue.ranges().collect()), "who stays keeps every range");
    }
}

#[test]
fn the_device_with_the_most_ranges_goes_first_and_of_equal_ones_the_one_unseen_longest() {
    check(&[(100, 5), (100, 5)], 200, &[]);
    check(&[(100, 9), (101, 9)], 200, &[2]);
    check(&[(80, 9), (80, 7), (80, 8)], 220, &[2]);
    check(&[(80, 9), (80, 9), (80, 9)], 220, &[1]);
    check(&[(10, 1), (60, 9), (300, 9), (60, 2), (0, 1)], 100, &[3, 4]);
    // A device without a range gives nothing.
    check(&[(0, 1), (300, 9), (0, 1)], 100, &[2]);
}

#[test]
fn a_quarter_stays_free_where_ranges_can_go_for_it() {
    let mut user = user(&[(150, 1), (30, 2), (20, 3)], 0);
    let bytes_max = user.state_bytes(&EACH) - 1;
    assert_eq!(make_fit(&mut user, bytes_max).devices, [DeviceId(1)]);
    assert!(user.state_bytes(&EACH) <= bytes_max / 4 * 3);
    assert_eq!(make_fit(&mut user, bytes_max), GivenUp::default(), "not again at once");
}

#[test]
fn a_list_that_leaves_less_than_a_quarter_costs_queues_and_no_conversation() {
    let mut user = user(&[(30, 1), (20, 2)], 90);
    let bytes_max = 24 + 2 * 28 + 100 * 40;
    let given_up = make_fit(&mut user, bytes_max);
    assert_eq!((given_up.devices, given_up.conversations), (vec![DeviceId(1), DeviceId(2)], 0));
    assert_eq!(user.conversations().len(), 90);
    assert!(user.devices.count() == 0 && user.state_bytes(&EACH) > bytes_max / 4 * 3);
}

#[test]
fn a_list_too_large_loses_what_the_user_left_then_the_oldest_changes() {
    let bytes_max = 24 + 2 * 28 + 100 * 40;
    let check = |count: u64, left: &[u64], kept: &[u64]| {
        let mut user = user(&[(5, 1), (0, 2)], count);
        left.iter().for_each(|number| leave(&mut user, *number));
        let (before, version) = (listed(&user), user.version);
        let given_up = make_fit(&mut user, bytes_max);
        let expected: Vec<ConversationId> = kept.iter().copied().map(conversation).collect();
        assert_eq!(listed(&user), expected);
        assert_eq!(user.conversations().len(), kept.len(), "by id and by change they are the same");
        assert!(user.state_bytes(&EACH) <= bytes_max / 4 * 3);
        assert_eq!(given_up.devices, [DeviceId(1)], "what holds no range stays");
        let gone = before.len() - kept.len();
        assert_eq!((given_up.conversations, given_up.conversations_left), (gone, left.len().min(gone)));
        assert_eq!(user.version.0, version.0 + gone as u64, "each is a change of the list");
    };
    // 75 % are 3,057 bytes, beside the user and a device 75 conversations.
    check(120, &[], &(45..120).collect::<Vec<_>>());
    // Those that were left changed last, so what stays is in the order of joining.
    let left: Vec<u64> = (60..80).collect();
    let kept: Vec<u64> = (25..60).chain(80..120).collect();
    check(120, &left, &kept);
    // More are left than have to go: the first of them go.
    let left: Vec<u64> = (0..60).rev().collect();
    let kept: Vec<u64> = (60..120).chain((0..15).rev()).collect();
    check(120, &left, &kept);
}

/// A snapshot listed a conversation no more, and the user left it while they were in memory: that counted as a change there
/// and not in the stream, so that after a start the list was a version behind what clients had been told, and the next
/// conversation that they joined was not among the changes they asked for.
#[test]
fn versions_do_not_fall_behind_what_memory_has_told() {
    let bytes_max = 24 + 100 * 40;
    let mut memory = user(&[], 120);
    let mut stream = memory.clone();
    let gone = make_fit(&mut stream, bytes_max).conversations as u64;
    let records: Vec<UserRecord> = (0..gone)
        .flat_map(|number| {
            let conversation = conversation(number);
            let left = UserRecord::Left { conversation, at: Sequence(9) };
            let again = UserRecord::Joined { conversation, at: Sequence(12 + number % 2) };
            [left, left].into_iter().chain((number % 3 == 0).then_some(again))
        })
        .collect();
    for record in &records {
        memory.apply(record);
        stream.apply(record);
        assert!(stream.version >= memory.version);
    }
    let told = memory.version;
    let new = UserRecord::Joined { conversation: conversation(500), at: Sequence(1) };
    stream.apply(&new);
    let changes: Vec<ConversationId> = stream.changed_after(told).map(|(id, _)| id).collect();
    assert!(changes.contains(&conversation(500)));
}

/// The shard still has the queue of a device that a snapshot knows no more. What it writes of it must not bring back half a
/// queue: a device that is known and lacks ranges would be told nothing when it comes.
#[test]
fn records_of_a_device_that_went_do_not_bring_it_back() {
    let mut user = user(&[(100, 1), (90, 2)], 3);
    let given_up = make_fit(&mut user, 4000);
    assert_eq!(given_up.devices, [DeviceId(1)]);
    let device = DeviceId(1);
    for change in [
        QueueChange::Widen { conversation: conversation(1), from: Sequence(4) },
        QueueChange::Set { conversation: conversation(2), from: Some(Sequence(4)) },
        QueueChange::Set { conversation: conversation(3), from: None },
    ] {
        user.apply(&UserRecord::Queue { device, change });
    }
    user.apply(&UserRecord::Seen { device, time: WallMs(50) });
    let from = Sequence(1);
    user.apply(&UserRecord::WidenAll { except: None, conversation: conversation(700), from });
    assert!(user.devices.get(device).is_none());
    assert_eq!(user.devices.get(DeviceId(2)).map(|device| device.queue.range_count()), Some(91));
    let limits = crate::DomainLimits::default();
    let comes = user.devices.decide_register(device, WallMs(60), &limits);
    assert_eq!(comes, Ok(crate::Registration::New { evicted: None }), "it is told to synchronise");
}

/// A snapshot that was begun again must come out the same.
#[test]
fn what_goes_depends_on_the_state_only() {
    let devices: Vec<(u64, u64)> = (0..10).map(|place| (40 + place % 3, 7 - place % 4)).collect();
    let make = || {
        let mut user = user(&devices, 200);
        (0..50).for_each(|number| leave(&mut user, number * 3));
        let given_up = make_fit(&mut user, 24 + 280 + 150 * 40);
        let ids: Vec<DeviceId> = user.devices.iter().map(|device| device.id).collect();
        (given_up, ids, listed(&user))
    };
    assert_eq!(make(), make());
}
