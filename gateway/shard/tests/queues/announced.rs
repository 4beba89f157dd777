//! A conversation is announced to a device at most once a second, and in the end nothing of it is missing (decision 0020).

use crate::device::Device;
use crate::house::{House, STEP_NS, limits};
use crate::{SENDER, connect, create, group, home, message, open, say, sender, settle, users_at};
use std::collections::BTreeMap;
use tidegate_ids::{ConversationId, MonotonicNs, ShardIndex};
use tidegate_shard::Counter;

/// Places of a table that is swept in two seconds: 2560 of them each 25 ms.
const PLACES: u32 = 200_000;

/// A device that takes four records at once, of a user on the second shard.
fn slow_reader() -> Device {
    let mut reader = Device::new(users_at(1).next().unwrap(), 1);
    (reader.credit, reader.ack_every) = (4, 4);
    reader
}

/// The first group that has its home on a shard.
fn group_at(shard: u16) -> u64 {
    (0..).find(|number| home(&group(*number)) == ShardIndex(shard)).unwrap()
}

/// Runs a step, and gives the conversations that were announced to a device in it.
fn step(house: &mut House, device: usize) -> Vec<ConversationId> {
    let before = house.devices[device].announced.len();
    house.run_steps(1);
    house.devices[device].announced[before..].iter().map(|(conversation, ..)| *conversation).collect()
}

/// Two groups get six hundred messages a second each, for some seconds; the device takes four hundred, so each time that it is
/// behind by more than 64 there is something to announce. It was announced several times a second.
#[test]
fn a_device_that_falls_behind_is_told_so_once_a_second() {
    const SECONDS: u64 = 6;
    let mut house = open(limits());
    let reader = connect(&mut house, slow_reader());
    let user = house.devices[reader].user;
    let numbers = [group_at(0), group_at(1)];
    say(&mut house, numbers.map(|number| create(number, &[user])));
    let quiet = ConversationId::direct(sender(), user);
    let mut told: BTreeMap<ConversationId, Vec<u64>> = BTreeMap::new();
    let (mut said, mut quiet_said) = (0, 0);
    for at in 0..SECONDS * MonotonicNs::SECOND / STEP_NS {
        for _ in 0..3 {
            said += 1;
            house.devices[SENDER].sayings.extend(numbers.map(|of| message(group(of), said)));
        }
        if at % 20 == 0 {
            let waiting = house.devices[reader].next.get(&quiet).copied().unwrap_or(1);
            // The ranges of the groups are older, and asked for first: until both are held back.
            let late = quiet_said + 1 - waiting;
            assert!(late <= 10, "{late} messages of another conversation wait for these");
            quiet_said += 1;
            house.devices[SENDER].sayings.push_back(message(quiet, quiet_said));
        }
        for conversation in step(&mut house, reader) {
            told.entry(conversation).or_default().push(house.now().monotonic.0);
        }
    }
    house.run_until("acknowledgements", |house| house.devices[SENDER].is_idle());
    settle(&mut house);
    for number in numbers {
        let times = &told[&group(number)];
        let count = times.len() as u64;
        assert!((SECONDS / 2..=SECONDS).contains(&count), "{count} in {SECONDS} seconds");
        // A send that is under way may keep one of the two for a step.
        let apart_ns = times.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap();
        assert!(apart_ns + STEP_NS >= MonotonicNs::SECOND, "announced twice in {apart_ns} ns");
    }
    // The record of the creation is the first of a group.
    let owed = BTreeMap::from([
        (group(numbers[0]), said + 2),
        (group(numbers[1]), said + 2),
        (quiet, quiet_said + 1),
    ]);
    house.run_until("everything", |house| house.devices[reader].next == owed);
    assert!(house.stats(1).get(Counter::RangesHeld) > 2);
    let announced = house.devices[reader].announced.len() as u64;
    assert_eq!(house.stats(1).get(Counter::Dirty), announced);
}

/// Nobody writes any more, and nothing comes from the device: only time says that a range may be announced. Where the
/// table of connections is large, the sweep over it is late by seconds.
#[test]
fn what_was_held_back_is_announced_when_its_second_is_over() {
    let mut house = open(limits());
    house.run_until("a Welcome", |house| house.devices[SENDER].welcomed);
    house.leave_places(PLACES);
    let reader = connect(&mut house, slow_reader());
    let user = house.devices[reader].user;
    let number = group_at(0);
    say(&mut house, [create(number, &[user])]);
    let (mut said, mut first) = (0, None);
    while house.stats(1).get(Counter::RangesHeld) == 0 {
        said += 3;
        let more = (said - 2..=said).map(|number_of| message(group(number), number_of));
        house.devices[SENDER].sayings.extend(more);
        let announced = !step(&mut house, reader).is_empty();
        first = first.or(announced.then(|| house.now().monotonic));
        assert!(said < 10_000, "it is never behind twice within a second");
    }
    house.run_until("acknowledgements", |house| house.devices[SENDER].is_idle());
    settle(&mut house);
    let first = first.unwrap();
    assert!(house.now().monotonic.since(first) < MonotonicNs::SECOND * 9 / 10, "that took too long");
    house.run_until("the announcement", |house| house.devices[reader].announced.len() > 1);
    let apart_ns = house.now().monotonic.since(first);
    // A tick comes every 25 ms, and asking takes a few steps.
    let late_ns = apart_ns.checked_sub(MonotonicNs::SECOND - STEP_NS).expect("a second apart");
    assert!(late_ns < 60 * MonotonicNs::MILLISECOND, "{late_ns} ns late");
    let (of, _, head) = house.devices[reader].announced[1];
    assert_eq!((of, head.0), (group(number), said + 1), "up to the newest head");
    assert_eq!(house.devices[reader].announced.len(), 2);
}
