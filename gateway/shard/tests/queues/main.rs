//! Queues of open ranges at scale (DESIGN 6, decision 0014): a device that comes back to ten thousand conversations, users
//! who are away while they are written to, checkpoints and refeeding. Every limit is looked at after every turn, and what
//! a turn does is counted, not timed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may end by a panic")]

mod announced;
mod device;
mod house;
mod large_user;
#[path = "../node/mod.rs"]
mod node;

use device::{Device, Saying};
use house::{Disk, House, limits};
use node::SHARDS;
use std::collections::{BTreeMap, BTreeSet};
use tidegate_domain::{Route, group_id};
use tidegate_ids::{ClientId, ConversationId, DeviceId, ShardIndex, UserId};
use tidegate_shard::{Counter, Shard, ShardLimits};

const SENDER: usize = 0;
const SENDER_DEVICE: u64 = 77;

/// Conversations of the device that comes back.
const CONVERSATIONS: u64 = 10_000;

/// The same where another way of coming back is shown.
const CONVERSATIONS_FEW: u64 = 1500;

/// What a turn may write of queues whatever there is: a checkpoint's slice and what one ring brings.
const QUEUE_RECORDS_PER_TURN: u64 = 4096;

fn users_at(shard: u16) -> impl Iterator<Item = UserId> {
    (1..).map(UserId).filter(move |user| Route::new(SHARDS).user(*user) == ShardIndex(shard))
}

fn sender() -> UserId {
    users_at(0).next().unwrap()
}

fn client_id(number: u64) -> ClientId {
    ClientId(u128::from(number).to_be_bytes())
}

fn group(number: u64) -> ConversationId {
    group_id(sender(), DeviceId(SENDER_DEVICE), &client_id(number))
}

fn home(conversation: &ConversationId) -> ShardIndex {
    Route::new(SHARDS).conversation(conversation)
}

/// A house with the sender in it.
fn open(limits: ShardLimits) -> House {
    let mut house = House::start(Disk::default(), limits);
    house.devices.push(Device::new(sender(), SENDER_DEVICE));
    house
}

fn connect(house: &mut House, device: Device) -> usize {
    house.devices.push(device);
    let index = house.devices.len() - 1;
    house.run_until("a Welcome", |house| house.devices[index].welcomed);
    index
}

fn leave(house: &mut House, device: usize) {
    house.devices[device].online = false;
    house.cut(device);
    house.run_until("a socket that closes", |house| !house.devices[device].is_connected());
}

/// Registers a device and leaves again. Gives it.
fn visit(house: &mut House, device: Device) -> Device {
    let index = connect(house, device);
    leave(house, index);
    let mut device = house.devices.remove_last(index);
    device.online = true;
    device
}

trait RemoveLast {
    fn remove_last(&mut self, index: usize) -> Device;
}

impl RemoveLast for Vec<Device> {
    /// Places in the house name devices by their index.
    fn remove_last(&mut self, index: usize) -> Device {
        assert_eq!(index + 1, self.len());
        self.pop().unwrap()
    }
}

/// Users of nobody's conversations come and go until nobody else on their shard is in memory.
fn make_cold(house: &mut House, limits: &ShardLimits, shard: u16) {
    for user in users_at(shard).skip(500_000).take(3 * limits.hot_users_max) {
        visit(house, Device::new(user, 9));
    }
}

/// The sender says all this, and it is committed and consumed everywhere.
fn say(house: &mut House, sayings: impl IntoIterator<Item = Saying>) {
    house.devices[SENDER].sayings.extend(sayings);
    house.run_until("acknowledgements", |house| house.devices[SENDER].is_idle());
    settle(house);
}

/// Lets everything be shipped and consumed.
fn settle(house: &mut House) {
    house.run_until("rest", |house| {
        let stats = [house.stats(0), house.stats(1)];
        stats.iter().all(|stats| stats.cursor_lag_bytes == 0 && stats.pending == 0)
    });
    house.run_steps(4);
}

fn create(number: u64, users: &[UserId]) -> Saying {
    Saying::Create { client_id: client_id(number), users: users.to_vec() }
}

fn message(conversation: ConversationId, number: u64) -> Saying {
    Saying::Say { conversation, number }
}

/// A cold user's stream is appended to and never read, whoever walks to them: as one who is listed, in a slice, or in a
/// direct conversation, and whether a snapshot holds their stream or not.
#[test]
fn a_message_to_who_is_away_loads_nothing_of_theirs() {
    // One of the large groups fits into memory, and the one that is created last.
    let limits =
        ShardLimits { listed_members_max: 8, hot_conversations_max: 256, hot_stays_max: 40, ..limits() };
    let mut house = open(limits.clone());
    let away: Vec<UserId> = users_at(1).take(30).collect();
    for user in &away {
        visit(&mut house, Device::new(*user, 1));
    }
    make_cold(&mut house, &limits, 1);
    let at_sender = |conversation: &ConversationId| home(conversation) == ShardIndex(0);
    let groups: Vec<u64> = (0..).filter(|number| at_sender(&group(*number))).take(8).collect();
    let directs = away.iter().map(|user| ConversationId::direct(sender(), *user));
    let directs: Vec<ConversationId> = directs.filter(at_sender).collect();
    assert!(directs.len() > 5);
    let mut told = 1;
    for with_snapshot in [false, true] {
        if with_snapshot {
            fill_segments(&mut house, &mut told);
            assert!(house.make_snapshot());
            house.run_steps(4096);
            let stats = house.stats(1);
            let open_segment = stats.streams - stats.hot_users - stats.hot_conversations;
            assert!(open_segment < 10, "{open_segment} more than who is in memory have a locator");
        }
        let (reads, before) = (house.user_reads, house.stats(1));
        let groups = if with_snapshot { &groups[4..] } else { &groups[..4] };
        for (place, number) in groups.iter().enumerate() {
            // Two of the groups are above what a home lists.
            let members = if place % 2 == 0 { &away[..] } else { &away[..6] };
            let creates = create(*number, members);
            say(&mut house, [creates]);
        }
        for round in 1..=3 {
            let direct = if with_snapshot { 3 + round } else { round };
            say(&mut house, groups.iter().map(|number| message(group(*number), round)));
            say(&mut house, directs.iter().map(|conversation| message(*conversation, direct)));
            let stays: usize = house.shards.iter().map(Shard::slice_stays).sum();
            assert!((31..=70).contains(&stays), "{stays} stays in slices");
        }
        let after = house.stats(1);
        assert_eq!(house.user_reads, reads, "nobody's stream was read");
        let loads = after.get(Counter::Loads) - before.get(Counter::Loads);
        assert_eq!(loads, 0, "nothing was loaded, out of staging neither");
        let records = after.get(Counter::QueueRecords) - before.get(Counter::QueueRecords);
        // The ranges of the direct conversations are open since the first round.
        let ranges = 2 * away.len() + 2 * 6 + if with_snapshot { 0 } else { directs.len() };
        let text = "one each for joining and for the range, however many messages came";
        assert_eq!(records, 2 * ranges as u64, "{text}");
        assert_eq!(after.hot_users, before.hot_users);
    }
    let mut back = Device::new(away[0], 1);
    back.credit = 8;
    let index = connect(&mut house, back);
    house.run_until("a drain", |house| house.devices[index].drained);
    let direct = usize::from(directs.contains(&ConversationId::direct(sender(), away[0])));
    assert_eq!(house.devices[index].fresh, 8 * 4 + direct * 6);
    assert!(house.stats(1).get(Counter::SnapshotLoads) > 0, "it was cold, and in the snapshot");
}

/// Writes until every log has gone on to another segment behind what is there, and checkpoints have passed it.
fn fill_segments(house: &mut House, told: &mut u64) {
    let fillers: Vec<ConversationId> = users_at(0)
        .zip(users_at(1))
        .skip(1_000_000)
        .flat_map(|(one, other)| [one, other])
        .map(|user| ConversationId::direct(sender(), user))
        .take(40)
        .collect();
    assert!((0..SHARDS).all(|shard| fillers.iter().any(|id| home(id) == ShardIndex(shard))));
    let segments = [house.segments(0), house.segments(1)];
    while (0..SHARDS).any(|shard| house.segments(shard) == segments[usize::from(shard)]) {
        say(house, fillers.iter().map(|conversation| message(*conversation, *told)));
        *told += 1;
    }
    house.run_steps(200);
}

/// What a conversation has when it is created: the record that says so, and these messages.
const fn messages_of(number: u64) -> u64 {
    1 + number % 2
}

/// Everything that `returning` is owed, for each conversation the next sequence once all of it is there.
fn owed(count: u64, more: &BTreeSet<u64>) -> BTreeMap<ConversationId, u64> {
    let next = |number| 2 + messages_of(number) + u64::from(more.contains(&number));
    (0..count).map(|number| (group(number), next(number))).collect()
}

fn write_to(house: &mut House, user: UserId, count: u64) {
    for first in (0..count).step_by(500) {
        let numbers = first..count.min(first + 500);
        say(house, numbers.clone().map(|number| create(number, &[user])));
        let messages = numbers.flat_map(|number| (1..=messages_of(number)).map(move |one| (number, one)));
        say(house, messages.map(|(number, one)| message(group(number), one)));
    }
}

/// Conversations of one home are drained in the order in which their ranges opened; two homes' come in between each other.
fn check_order(order: &[ConversationId]) {
    let number_of: BTreeMap<ConversationId, u64> =
        (0..CONVERSATIONS).map(|number| (group(number), number)).collect();
    for shard in (0..SHARDS).map(ShardIndex) {
        let of_home = order.iter().filter(|id| home(id) == shard);
        let numbers: Vec<u64> = of_home.map(|id| number_of[id]).collect();
        assert!(numbers.is_sorted(), "not the oldest first at {shard:?}: {numbers:?}");
    }
}

/// The sender writes to somebody on the shard that loads and drains: nobody waits for that.
fn chat_with(house: &mut House, stranger: usize, numbers: std::ops::RangeInclusive<u64>) {
    let direct = ConversationId::direct(sender(), house.devices[stranger].user);
    for number in numbers {
        let before = house.devices[stranger].fresh;
        house.devices[SENDER].sayings.push_back(message(direct, number));
        let steps = house.run_until("a message", |house| house.devices[stranger].fresh > before);
        assert!(steps <= 12, "message {number} took {steps} steps");
    }
}

fn check_work(house: &House) {
    let most = house.most;
    assert!(most.queue_records <= QUEUE_RECORDS_PER_TURN, "{most:?}");
    assert!(most.load_entries <= 2048, "a load holds up a turn: {most:?}");
    assert!(most.outputs <= 512, "{most:?}");
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    /// In memory when the device comes back.
    Hot,
    /// In the log only.
    Cold,
    /// In a snapshot, with nothing behind it.
    Snapshot,
}

/// A user of three devices was written to while all of them were away.
fn written_to(stream: Stream, count: u64, limits: &ShardLimits) -> (House, Vec<Device>) {
    let mut house = open(limits.clone());
    let user = users_at(1).next().unwrap();
    let devices: Vec<Device> = (1..=3).map(|device| visit(&mut house, Device::new(user, device))).collect();
    if stream != Stream::Hot {
        make_cold(&mut house, limits, 1);
    }
    write_to(&mut house, user, count);
    if stream == Stream::Snapshot {
        house.run_steps(200);
        fill_segments(&mut house, &mut 1);
        assert!(house.make_snapshot());
        house.run_steps(4096);
    }
    (house, devices)
}

/// A device comes back to ten thousand conversations: it gets every message once, in order, the oldest range first, and
/// no limit is passed in any turn. It loses its connection three times in the middle, and the process is killed once. A
/// second device of the user comes a little later, a third when all is over; the sender chats with somebody on the same
/// shard meanwhile, and none of these messages takes more than a few steps.
fn comes_back(stream: Stream, count: u64) {
    let limits = limits();
    let (mut house, mut others) = written_to(stream, count, &limits);
    check_work(&house);
    house.most = Default::default();
    let third = others.pop().unwrap();
    let (second, first) = (others.pop().unwrap(), others.pop().unwrap());
    let stranger = connect(&mut house, Device::new(users_at(1).nth(1).unwrap(), 1));
    house.devices.push(first);
    let index = house.devices.len() - 1;
    chat_with(&mut house, stranger, 1..=60);
    house.run_until("a Welcome", |house| house.devices[index].welcomed);
    let loaded = house.stats(1).get(Counter::LoadEntries);
    match stream {
        Stream::Hot => assert_eq!(loaded, 0, "it was in memory"),
        // A state of what is Joined, and three devices' ranges, or a record each for both.
        Stream::Cold => assert!(loaded >= 2 * count && loaded < 4 * count, "{loaded}"),
        Stream::Snapshot => assert!(loaded >= 4 * count, "{loaded}"),
    }
    assert_eq!(u64::from(house.devices[index].ranges_waiting), count);
    let second = connect(&mut house, second);
    chat_with(&mut house, stranger, 61..=100);
    let mut more = BTreeSet::new();
    for quarter in 1..=3 {
        let total = (quarter * count * 5 / 2 / 4) as usize;
        house.run_until("a quarter", |house| house.devices[index].fresh >= total);
        // A message to a conversation that is drained already, and one to a conversation that is not.
        for number in [quarter, count - quarter] {
            house.devices[SENDER].sayings.push_back(message(group(number), messages_of(number) + 1));
            more.insert(number);
        }
        let (begun, repeats) = (house.devices[index].order.len(), house.devices[index].repeats);
        house.cut(index);
        house.run_until("another connection", |house| house.devices[index].welcomed);
        house.run_until("some pushes", |house| house.devices[index].order.len() > begun + 50);
        let again = house.devices[index].repeats - repeats;
        assert!(again <= usize::from(house.devices[index].credit), "{again} of a window came again");
        if quarter == 2 {
            house = killed(house, &limits);
        }
    }
    let owed = owed(count, &more);
    let total: u64 = owed.values().map(|next| next - 1).sum();
    for device in [index, second] {
        house.run_until("the last message", |house| house.devices[device].fresh as u64 == total);
        assert_eq!(house.devices[device].next, owed);
        house.run_until("DrainDone", |house| house.devices[device].drained);
        check_order(&house.devices[device].order);
        assert!(house.devices[device].announced.is_empty());
    }
    comes_last(house, third, &owed, [index, second]);
}

/// A third device comes when all is over, and then all of them once more: nothing waits for anybody.
fn comes_last(
    mut house: House,
    third: Device,
    owed: &BTreeMap<ConversationId, u64>,
    [index, second]: [usize; 2],
) {
    settle(&mut house);
    house.devices.push(third);
    let third = house.devices.len() - 1;
    house.run_until("the third device", |house| house.devices[third].drained);
    assert_eq!(&house.devices[third].next, owed);
    assert_eq!(house.devices[third].repeats, 0);
    for device in [index, second, third] {
        house.run_until("an acknowledgement", |house| house.devices[device].is_idle());
        house.cut(device);
        house.run_until("a Welcome again", |house| house.devices[device].welcomed);
        assert_eq!(house.devices[device].ranges_waiting, 0, "all was acknowledged");
    }
    check_work(&house);
}

/// The process is killed in the middle of everything, and another goes on with its disk and its clients.
fn killed(house: House, limits: &ShardLimits) -> House {
    let most = house.most;
    let (disk, devices) = house.kill();
    let repeats: usize = devices.iter().map(|device| device.repeats).sum();
    let mut house = House::start(disk, limits.clone());
    house.devices = devices;
    house.most.queue_records = house.most.queue_records.max(most.queue_records);
    house.most.load_entries = house.most.load_entries.max(most.load_entries);
    house.run_until("a Welcome after the kill", |house| house.devices.iter().all(|one| one.welcomed));
    house.run_steps(300);
    let again: usize = house.devices.iter().map(|device| device.repeats).sum::<usize>() - repeats;
    // Two windows, and acknowledgements that were in no committed batch.
    assert!(again <= 200, "{again} came again after a kill");
    house
}

#[test]
fn a_user_in_memory_comes_back_to_fifteen_hundred_ranges() {
    comes_back(Stream::Hot, CONVERSATIONS_FEW);
}

#[test]
fn a_cold_user_comes_back_to_fifteen_hundred_ranges() {
    comes_back(Stream::Cold, CONVERSATIONS_FEW);
}

#[test]
fn a_user_of_a_snapshot_comes_back_to_ten_thousand_ranges() {
    comes_back(Stream::Snapshot, CONVERSATIONS);
}

/// So many users come, register and go, and are written to in ten groups each, a hundred in a group.
fn fill(house: &mut House, count: usize) -> Vec<UserId> {
    let users: Vec<UserId> = users_at(1).take(count).collect();
    for some in users.chunks(20) {
        let first = house.devices.len();
        house.devices.extend(some.iter().map(|user| Device::new(*user, 1)));
        house.run_until("Welcomes", |house| house.devices[first..].iter().all(|one| one.welcomed));
        (first..house.devices.len()).for_each(|index| house.devices[index].online = false);
        (first..house.devices.len()).for_each(|index| house.cut(index));
        house.run_until("a close", |house| house.devices[first..].iter().all(|one| !one.is_connected()));
        house.devices.truncate(first);
    }
    for (place, some) in users.chunks(100).enumerate() {
        let numbers = (place as u64 * 10)..(place as u64 * 10 + 10);
        say(house, numbers.clone().map(|number| create(number, some)));
        say(house, numbers.map(|number| message(group(number), 1)));
    }
    users
}

/// A turn's work is bounded by what it takes in, never by how many users there are.
#[test]
fn no_turn_does_more_for_four_thousand_users_than_for_a_thousand() {
    let limits = ShardLimits { hot_users_max: 64, checkpoint_interval_ns: 1, ..limits() };
    let mut most = Vec::new();
    for count in [1000, 4000] {
        let mut house = open(limits.clone());
        fill(&mut house, count);
        let records = house.stats(1).get(Counter::QueueRecords);
        assert!(records >= 20 * count as u64, "{records}");
        house.run_steps(300);
        assert!(house.stats(1).get(Counter::Checkpoints) > 5);
        house = killed_cold(house, &limits);
        most.push(house.most);
        check_work(&house);
    }
    assert!(2 * most[1].queue_records < 3 * most[0].queue_records, "{most:?}");
}

fn killed_cold(house: House, limits: &ShardLimits) -> House {
    let most = house.most;
    let (disk, _) = house.kill();
    let mut house = House::start(disk, limits.clone());
    house.most.queue_records = house.most.queue_records.max(most.queue_records);
    house.most.outputs = house.most.outputs.max(most.outputs);
    house
}

/// A checkpoint wrote all ranges and windows of 256 users in one turn, whatever they had.
#[test]
fn a_checkpoint_of_many_full_windows_takes_many_turns() {
    const DEVICES: usize = 400;
    const CREDIT: u16 = 16;
    let limits = ShardLimits {
        hot_users_max: 500,
        window_entries_max: 10_000,
        checkpoint_interval_ns: 15_000_000_000,
        ..limits()
    };
    let mut house = open(limits);
    let users: Vec<UserId> = users_at(1).take(DEVICES).collect();
    for user in &users {
        let mut silent = Device::new(*user, 1);
        (silent.is_silent, silent.credit) = (true, CREDIT);
        house.devices.push(silent);
    }
    house.run_until("Welcomes", |house| house.devices.iter().all(|one| one.welcomed));
    // A window of as many conversations, and as many again for which there is no credit.
    for number in 0..u64::from(CREDIT) {
        say(&mut house, [create(number, &users)]);
    }
    let before = house.stats(1).get(Counter::QueueRecords);
    house.most = Default::default();
    for number in 0..u64::from(CREDIT) {
        say(&mut house, [message(group(number), 1)]);
    }
    assert_eq!(
        house.stats(1).get(Counter::QueueRecords),
        before,
        "ranges of the connected are in memory only"
    );
    let full = house.stats(1);
    assert_eq!(full.window_entries, DEVICES as u64 * u64::from(CREDIT));
    let checkpoints = full.get(Counter::Checkpoints);
    house.run_until("a checkpoint", |house| house.stats(1).get(Counter::Checkpoints) > checkpoints);
    let written = house.stats(1).get(Counter::QueueRecords) - before;
    assert_eq!(
        written,
        DEVICES as u64 * 2 * u64::from(CREDIT),
        "a record for each push, and one for each range"
    );
    assert!(house.most.queue_records < 1024 + 2 * u64::from(CREDIT), "in one turn: {:?}", house.most);
}

/// What a crash takes is fed again, and again if that is cut short too: every user's stream says the same each time.
#[test]
fn feeding_again_twice_changes_nothing_of_any_user() {
    // No checkpoint is due: everything is fed again at each start.
    let limits = ShardLimits { hot_users_max: 64, checkpoint_interval_ns: u64::MAX, ..limits() };
    let mut house = open(limits.clone());
    let count = 1000;
    fill(&mut house, count);
    house.run_steps(50);
    let folded = house.folded_users();
    assert!(folded.len() > count);
    let mut disk = house.kill().0;
    for start in 0..3 {
        let mut house = House::begin(disk, limits.clone());
        // The batch with the checkpoint that follows the feeding is lost.
        house.run_until("the end of feeding", |house| {
            for shard in 0..SHARDS {
                house.loses_writes[usize::from(shard)] |= house.stats(shard).get(Counter::Checkpoints) > 0;
            }
            house.loses_writes == [true; SHARDS as usize]
        });
        assert_eq!(house.count(Counter::Refed), 400, "two records of a hundred groups to each shard");
        assert!(!house.is_ready());
        let records = house.stats(1).get(Counter::QueueRecords);
        assert_eq!(records, 20 * count as u64, "joined, and a range, in ten groups each");
        assert_eq!(house.folded_users(), folded, "start {start}");
        check_work(&house);
        disk = house.kill().0;
    }
}
