//! A user whose state was too large for a snapshot (decision 0021): who is connected goes on as if nothing had happened, and
//! whoever comes after a restart gets everything, by their queue or from the heads of all conversations.

use super::*;
use tidegate_schema::Resync;

/// Groups before the third device registers, and behind that.
const BEFORE: u64 = 120;
const BEHIND: u64 = 30;
const GROUPS: u64 = BEFORE + BEHIND;

/// The list of 150 conversations and three devices with 330 ranges are 14,028 bytes; with the third one alone 6,772.
const STATE_BYTES_MAX: usize = 12_000;

/// A house after a snapshot that has dropped two of the three devices of a user, the first of which is connected and has
/// acknowledged nothing: its place, and the two that are away; and the next number in conversations that fill segments.
fn with_snapshot(limits: &ShardLimits) -> (House, usize, [Device; 2], u64) {
    let mut house = open(limits.clone());
    let user = users_at(1).next().unwrap();
    let synchronising = |device| {
        let mut device = Device::new(user, device);
        device.synchronises = true;
        device
    };
    let second = visit(&mut house, synchronising(2));
    let mut silent = synchronising(1);
    silent.is_silent = true;
    let first = connect(&mut house, silent);
    write_to(&mut house, user, BEFORE);
    let third = connect(&mut house, synchronising(3));
    assert_eq!(house.devices[third].resync, Resync::NewDevice);
    house.run_until("all of the list", |house| house.devices[third].synchronised);
    leave(&mut house, third);
    let mut third = house.devices.remove_last(third);
    third.online = true;
    for number in BEFORE..GROUPS {
        say(&mut house, [create(number, &[user])]);
        say(&mut house, (1..=messages_of(number)).map(|one| message(group(number), one)));
    }
    house.run_steps(200);
    let mut told = 1;
    fill_segments(&mut house, &mut told);
    house.disk.user_state_bytes_max = Some(STATE_BYTES_MAX);
    assert!(house.make_snapshot());
    house.run_steps(4096);
    let large = house.disk.large_users.clone();
    let (of, given_up) = &large.named[0];
    assert_eq!((large.users, *of, given_up.conversations), (1, user, 0));
    // Both have every range; the second is unseen longer.
    assert_eq!(given_up.devices, [2, 1].map(DeviceId));
    assert_eq!(given_up.ranges as u64, 2 * GROUPS);
    (house, first, [second, third], told)
}

fn welcome_again(house: &mut House, device: usize) -> Resync {
    house.cut(device);
    house.run_until("a socket that closes", |house| !house.devices[device].is_connected());
    house.run_until("another connection", |house| house.devices[device].welcomed);
    house.devices[device].resync
}

/// The device has everything, once.
fn has_all(house: &mut House, device: usize, more: &BTreeSet<u64>) {
    let owed = owed(GROUPS, more);
    house.run_until("the last message", |house| house.devices[device].next == owed);
    house.run_until("DrainDone", |house| house.devices[device].drained);
    house.run_steps(50);
    let total: u64 = owed.values().map(|next| next - 1).sum();
    assert_eq!(house.devices[device].fresh as u64, total);
}

#[test]
fn a_connected_device_whose_queue_was_dropped_loses_nothing() {
    let limits = limits();
    let (mut house, first, [second, third], mut told) = with_snapshot(&limits);
    // Memory has its queue, also for the next connections.
    house.devices[first].is_silent = false;
    house.run_until("half of it", |house| house.devices[first].fresh as u64 > GROUPS);
    assert_eq!(welcome_again(&mut house, first), Resync::None);
    has_all(&mut house, first, &BTreeSet::new());
    say(&mut house, [message(group(7), messages_of(7) + 1)]);
    has_all(&mut house, first, &BTreeSet::from([7]));
    let second = connect(&mut house, second);
    assert_eq!((house.devices[second].resync, house.devices[second].ranges_waiting), (Resync::None, 150));
    has_all(&mut house, second, &BTreeSet::from([7]));
    // What was written of both since means nothing to the next snapshot.
    fill_segments(&mut house, &mut told);
    assert!(house.make_snapshot());
    assert_eq!(house.disk.large_users.users, 0);
    // After a start they are told to synchronise, and lack nothing.
    let mut house = killed(house, &limits);
    for device in [first, second] {
        assert_eq!(house.devices[device].resync, Resync::NewDevice);
        house.run_until("all of the list", |house| house.devices[device].synchronised);
        has_all(&mut house, device, &BTreeSet::from([7]));
    }
    say(&mut house, [message(group(8), messages_of(8) + 1)]);
    let third = connect(&mut house, third);
    assert_eq!(house.devices[third].resync, Resync::None, "its queue was kept");
    for device in [first, second, third] {
        has_all(&mut house, device, &BTreeSet::from([7, 8]));
    }
}

#[test]
fn a_device_whose_queue_was_dropped_synchronises_after_a_crash_and_gets_everything() {
    let limits = limits();
    let (house, first, [second, third], mut told) = with_snapshot(&limits);
    let had = house.devices[first].fresh;
    assert!(had > 0 && (had as u64) < GROUPS, "a window of it");
    let (disk, mut devices) = house.kill();
    let mut house = House::start(disk, limits);
    (devices[first].is_silent, devices[first].online) = (false, false);
    house.devices = devices;
    house.run_until("the sender", |house| house.devices[SENDER].welcomed);
    // One that is written to before they come.
    say(&mut house, [message(group(3), messages_of(3) + 1)]);
    let more = BTreeSet::from([3]);
    house.devices[first].online = true;
    house.run_until("a Welcome", |house| house.devices[first].welcomed);
    let second = connect(&mut house, second);
    for device in [first, second] {
        assert_eq!(
            (house.devices[device].resync, house.devices[device].ranges_waiting),
            (Resync::NewDevice, 0)
        );
        house.run_until("all of the list", |house| house.devices[device].synchronised);
        has_all(&mut house, device, &more);
    }
    // From then on they have a queue again, in the next snapshot too.
    fill_segments(&mut house, &mut told);
    assert!(house.make_snapshot());
    assert_eq!(house.disk.large_users.users, 0);
    leave(&mut house, second);
    say(&mut house, [message(group(9), messages_of(9) + 1)]);
    house.devices[second].online = true;
    house.run_until("a Welcome", |house| house.devices[second].welcomed);
    assert_eq!(house.devices[second].resync, Resync::None);
    has_all(&mut house, second, &BTreeSet::from([3, 9]));
    // The third one's queue was kept.
    let third = connect(&mut house, third);
    assert_eq!(house.devices[third].resync, Resync::None);
    assert_eq!(u64::from(house.devices[third].ranges_waiting), BEHIND + 2);
    has_all(&mut house, third, &BTreeSet::from([3, 9]));
}

/// Half a million ranges were freed in the turn in which somebody else needed the place, and everybody on the shard waited.
#[test]
fn somebody_large_leaves_memory_over_many_turns() {
    let limits = limits();
    // 1,500 conversations, with a range each on three devices.
    let (mut house, mut devices) = written_to(Stream::Hot, CONVERSATIONS_FEW, &limits);
    let before = house.stats(1);
    let mut turns = 0;
    for user in users_at(1).skip(500_000).take(3 * limits.hot_users_max) {
        house.devices.push(Device::new(user, 9));
        let index = house.devices.len() - 1;
        while !house.devices[index].welcomed {
            house.run_step();
            turns += house.shards[1].leaving_users();
        }
        leave(&mut house, index);
        house.devices.pop();
    }
    assert_eq!(turns, 6000 / 2048, "and in the last one the rest");
    assert_eq!(house.shards[1].leaving_users(), 0);
    assert!(house.stats(1).get(Counter::Evictions) > before.get(Counter::Evictions));
    let index = connect(&mut house, devices.remove(0));
    assert_eq!(u64::from(house.devices[index].ranges_waiting), CONVERSATIONS_FEW, "it is read again");
}
