//! Every write of a scripted run fails once, in each way that a disk fails: the promises of DESIGN 7 hold each time.
//!
//! The shards are real and the disk is in memory; what a shard was told is synced is kept apart from what arrived. While
//! a shard is read-only, nothing that it says may rest on anything else; after a restart from what arrived, or from what
//! was promised alone, every acknowledged send is there once, and what is resent is taken.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may end by a panic")]

mod client;
mod disk;
mod house;
#[path = "../node/mod.rs"]
mod node;
mod reads;

use client::{Client, Doing};
use disk::{Disk, Harm};
use house::House;
use node::SHARDS;
use std::collections::{BTreeMap, BTreeSet};
use tidegate_domain::Route;
use tidegate_ids::{ConversationId, DeviceId, MessageId, Sequence, ShardIndex, UserId};
use tidegate_schema::{ErrorCode, SkipReason, SkipSpan, deliver};
use tidegate_shard::{Counter, Event};

/// The nth user whose home is a shard.
fn user_at(shard: u16, nth: usize) -> UserId {
    let lives_there = |user: &UserId| Route::new(SHARDS).user(*user) == ShardIndex(shard);
    (1..).map(UserId).filter(lives_there).nth(nth).unwrap()
}

/// Ann and Cid live on the first shard, Ben and Dora on the second.
fn people() -> [UserId; 4] {
    [user_at(0, 0), user_at(1, 0), user_at(0, 1), user_at(1, 1)]
}

const ANN: usize = 0;
const BEN: usize = 1;
const CID: usize = 2;

/// Direct conversations of Ann with others, whose homes are both shards.
fn pairs() -> [ConversationId; 3] {
    let [ann, ben, cid, dora] = people();
    [ConversationId::direct(ann, ben), ConversationId::direct(ann, cid), ConversationId::direct(ann, dora)]
}

fn say(house: &mut House, client: usize, conversation: ConversationId, text: &str) {
    house.clients[client].command(conversation, Doing::Say(text.to_owned()));
}

/// Group, messages, comings and goings, a device that registers late, one that is away.
fn script(house: &mut House) {
    let [ann, ben, cid, dora] = people();
    house.clients.extend([Client::new(ann, 1), Client::new(ben, 2)]);
    house.settle();
    house.clients[ANN].create_group(&[ben, cid]);
    for pair in pairs() {
        (0..3).for_each(|index| say(house, ANN, pair, &format!("{index}")));
        house.run_step();
    }
    say(house, BEN, pairs()[0], "back");
    house.settle();
    if house.clients[ANN].groups.is_empty() {
        house.clients[ANN].create_group(&[ben, cid]);
        house.settle();
    }
    let group = house.clients[ANN].groups.first().copied();
    house.clients.push(Client::new(cid, 3));
    house.clients[BEN].online = false;
    house.run_step();
    for index in 0..4 {
        group.into_iter().for_each(|group| say(house, ANN, group, &format!("group {index}")));
        house.run_step();
    }
    house.settle();
    house.clients.push(Client::new(dora, 4));
    if let Some(group) = group {
        house.clients[ANN].command(group, Doing::Add(dora));
        say(house, ANN, group, "welcome");
        house.run_step();
        house.clients[ANN].command(group, Doing::Remove(cid));
        say(house, ANN, group, "and farewell");
    }
    house.settle();
    say(house, ANN, pairs()[2], "hello");
    house.settle();
}

#[derive(Default)]
struct Truth {
    records: BTreeMap<ConversationId, BTreeMap<Sequence, MessageId>>,
    /// Whose device said it, with its number.
    authors: BTreeMap<(UserId, DeviceId, ConversationId, u64), Sequence>,
}

impl Truth {
    /// The last of every conversation.
    fn heads(&self) -> BTreeSet<(ConversationId, Sequence)> {
        let last = |(id, records): (&ConversationId, &BTreeMap<Sequence, MessageId>)| {
            records.last_key_value().map(|(at, _)| (*id, *at))
        };
        self.records.iter().filter_map(last).collect()
    }
}

fn truth(disk: &Disk) -> Truth {
    let mut truth = Truth::default();
    disk.promised_records(|record| {
        if !(1..=5).contains(&record.head.kind) {
            return;
        }
        let (stored, _) = deliver::read_stored(record.body).unwrap();
        let stamp = stored.stamp;
        let records = truth.records.entry(stamp.conversation).or_default();
        assert_eq!(stamp.sequence.0, records.len() as u64 + 1, "sequences are contiguous");
        records.insert(stamp.sequence, stamp.message_id);
        if record.head.number.0 > 0 {
            let author = (stamp.sender, stamp.device, stamp.conversation, record.head.number.0);
            let before = truth.authors.insert(author, stamp.sequence);
            // The number of a command that is lost goes to the device's next one.
            assert!(before.is_none() || disk.has_losses(), "a command stands twice");
        }
    });
    truth
}

/// Everything that any client was told is in the promised log, as it was told.
fn prove_told(house: &House) -> Result<(), String> {
    let truth = truth(&house.disk);
    for client in &house.clients {
        let acknowledged = client.acknowledged.iter().map(|((conversation, _), told)| (*conversation, *told));
        let told = client.told.iter().map(|((conversation, sequence), id)| (*conversation, (*sequence, *id)));
        for (conversation, (sequence, id)) in acknowledged.chain(told) {
            let found = truth.records.get(&conversation).and_then(|records| records.get(&sequence));
            if found != Some(&id) {
                return Err(format!("user {} was told {conversation} {sequence}: {found:?}", client.user));
            }
        }
    }
    Ok(())
}

/// What a read-only shard still does, and what it does not.
fn prove_latched(house: &mut House, latched: u16) {
    assert_eq!(house.stats(latched).get(Counter::WritesFailed), 1);
    for client in 0..house.clients.len() {
        house.clients[client].online = true;
    }
    house.settle();
    let before = truth(&house.disk);
    let conversations = pairs();
    for client in [ANN, BEN] {
        for conversation in
            conversations.iter().filter(|id| is_in([people()[ANN], people()[BEN]][client], **id))
        {
            house.clients[client].pages.remove(conversation);
            house.clients[client].read(*conversation);
            house.settle();
            if !house.clients[client].welcomed {
                // Their registration was lost with the batch, and no new one is taken.
                assert!(house.clients[client].closes.contains(&4029), "{:?}", house.clients[client].closes);
                continue;
            }
            let records = before.records.get(conversation);
            let page = house.clients[client].pages.get(conversation);
            let found = page.map_or(0, |page| page.sequences.len());
            assert_eq!(found, records.map_or(0, BTreeMap::len), "{conversation} of {client}");
            assert!(page.is_none_or(|page| page.complete && page.head.0 == found as u64), "{page:?}");
        }
    }
    for conversation in conversations.iter() {
        if !house.clients[ANN].welcomed {
            break;
        }
        let home = Route::new(SHARDS).conversation(conversation);
        house.clients[ANN].errors.clear();
        say(house, ANN, *conversation, "late");
        house.settle();
        let ann = &house.clients[ANN];
        if home == ShardIndex(latched) {
            assert!(!ann.errors.is_empty(), "a send to a shard that is read-only");
            assert!(ann.errors.iter().all(|code| *code == ErrorCode::Unavailable), "{:?}", ann.errors);
        }
    }
    let stranger = Client::new(user_at(latched, 9), 77);
    house.clients.push(stranger);
    house.settle();
    let stranger = house.clients.pop().unwrap();
    assert!(!stranger.welcomed && stranger.closes.contains(&4029), "{:?}", stranger.closes);
}

fn is_in(user: UserId, conversation: ConversationId) -> bool {
    use tidegate_ids::ConversationKind::Direct;
    matches!(conversation.kind(), Some(Direct(low, high)) if low == user || high == user)
}

/// The next start: all that was acknowledged is there, all that was not is taken now, and everybody gets everything.
fn prove_restarted(disk: Disk, clients: Vec<Client>) {
    // Who registered before the first message is owed all of them; later ones are owed what came later.
    let first =
        |client: &Client| client.is_registered && [ANN, BEN].map(|at| people()[at]).contains(&client.user);
    let owed: Vec<bool> = clients.iter().map(first).collect();
    let mut house = House::start(disk);
    house.clients = clients;
    prove_drained(&mut house, &owed, &BTreeSet::new());
}

/// Everybody connects, all that waits is taken, and everybody who is owed a message gets it, but what is lost.
fn prove_drained(house: &mut House, owed: &[bool], lost: &BTreeSet<(ConversationId, Sequence)>) {
    house.clients.iter_mut().for_each(|client| client.online = true);
    house.settle();
    for _ in 0..8 {
        house.clients.iter_mut().for_each(Client::send_unanswered);
        house.settle();
    }
    prove_told(house).unwrap();
    let truth = truth(&house.disk);
    for (client, is_owed) in house.clients.iter().zip(owed) {
        assert!(client.is_settled(), "user {} still waits: {client:?}", client.user);
        for ((conversation, number), (sequence, _)) in &client.acknowledged {
            let found = truth
                .authors
                .iter()
                .find(|((user, _, of, at), _)| (*user, *of, *at) == (client.user, *conversation, *number));
            assert_eq!(found.map(|(_, at)| at), Some(sequence), "user {}'s {number}", client.user);
        }
        for (conversation, records) in truth.records.iter().filter(|(id, _)| is_in(client.user, **id)) {
            let own = |at: &Sequence| {
                client
                    .acknowledged
                    .iter()
                    .any(|((of, _), (sequence, _))| of == conversation && sequence == at)
            };
            let is_missing = |at: &&Sequence| {
                let place = (*conversation, **at);
                !client.told.contains_key(&place) && !own(at) && !lost.contains(&place)
            };
            let missing: Vec<&Sequence> = records.keys().filter(is_missing).collect();
            assert!(
                !is_owed || missing.is_empty(),
                "user {} never got {conversation} {missing:?}",
                client.user
            );
        }
    }
}

fn run(fails: Option<(u64, Harm)>, lost: Option<u64>) -> House {
    let mut house = House::begin(Disk { fails, lost, ..Disk::default() });
    house.settle();
    script(&mut house);
    house
}

fn latched(house: &mut House) -> Vec<u16> {
    (0..SHARDS).filter(|shard| house.stats(*shard).latched).collect()
}

/// How a node ends whose write has failed.
#[derive(Clone, Copy, Debug)]
enum End {
    /// Killed: what arrived is there.
    Kill,
    /// A power cut: only what was promised is there.
    PowerCut,
}

fn restart(house: House, end: End) {
    let (disk, clients) = house.kill();
    let mut disk = Disk { fails: None, ..disk };
    if matches!(end, End::PowerCut) {
        disk.seen = disk.promised.clone();
    }
    prove_restarted(disk, clients);
}

fn check(harm: Harm) {
    let writes = run(None, None).disk.writes;
    assert!(writes > 20, "the script writes {writes} batches");
    for failing in 0..writes {
        for end in [End::Kill, End::PowerCut] {
            let mut house = run(Some((failing, harm)), None);
            let latched = latched(&mut house);
            assert_eq!(latched.len(), 1, "write {failing} fails one shard");
            prove_told(&house).unwrap_or_else(|wrong| panic!("write {failing}, {harm:?}: {wrong}"));
            prove_latched(&mut house, latched[0]);
            prove_told(&house).unwrap_or_else(|wrong| panic!("write {failing}, {harm:?}, later: {wrong}"));
            restart(house, end);
        }
    }
}

/// The same in a second life, from the first write of its start on: what it feeds again, its first checkpoints.
fn check_second_life(harm: Harm) {
    let second = |failing: Option<u64>| {
        let (disk, clients) = run(None, None).kill();
        let first = disk.writes;
        let fails = failing.map(|failing| (first + failing, harm));
        (first, reads::live_again(Disk { fails, ..disk }, clients))
    };
    let (first, house) = second(None);
    for failing in 0..house.disk.writes - first {
        let (_, mut house) = second(Some(failing));
        assert_eq!(latched(&mut house).len(), 1, "write {failing} fails one shard");
        prove_told(&house).unwrap_or_else(|wrong| panic!("write {failing}, {harm:?}: {wrong}"));
        restart(house, if failing % 2 == 0 { End::PowerCut } else { End::Kill });
    }
}

#[test]
fn every_write_of_a_second_life_is_lost_once() {
    check_second_life(Harm::Nothing);
}

#[test]
fn every_sync_of_a_second_life_fails_once() {
    check_second_life(Harm::Unsynced);
}

#[test]
fn every_write_is_lost_once() {
    check(Harm::Nothing);
}

#[test]
fn every_write_stays_short_once() {
    check(Harm::Half);
}

#[test]
fn every_sync_fails_once() {
    check(Harm::Unsynced);
}

#[test]
fn nothing_is_latched_where_nothing_fails() {
    let mut house = run(None, None);
    assert_eq!(latched(&mut house), Vec::<u16>::new());
    prove_told(&house).unwrap();
    assert!(house.clients.iter().all(Client::is_settled));
    let (disk, clients) = house.kill();
    prove_restarted(disk, clients);
}

/// A write that is reported as done and is not: what these tests look for is found.
#[test]
fn a_disk_that_lies_is_found_out() {
    let writes = run(None, None).disk.writes;
    let found = |lost: &u64| prove_told(&run(None, Some(*lost))).is_err();
    let count = (0..writes).filter(|lost| std::panic::catch_unwind(|| found(lost)).unwrap_or(true)).count();
    assert!(count as u64 > writes / 4, "{count} of {writes} lies were noticed");
}

/// A shard that stops while it is read-only ends, and does not wait for what will not come.
#[test]
fn a_read_only_shard_stops() {
    let mut house = run(Some((10, Harm::Nothing)), None);
    (0..SHARDS).for_each(|shard| house.tell(shard, Event::Shutdown));
    house.clients.iter_mut().for_each(|client| client.online = false);
    house.settle();
    assert_eq!(house.stopped, usize::from(SHARDS));
}

/// Nearly full: commands wait, duplicates are answered, reads and deliveries go on; then there is room.
#[test]
fn a_disk_that_is_nearly_full_refuses_commands_until_there_is_room() {
    let mut house = run(None, None);
    (0..SHARDS).for_each(|shard| house.tell(shard, Event::Space { low: true }));
    house.clients[ANN].errors.clear();
    say(&mut house, ANN, pairs()[0], "later");
    house.clients[ANN].read(pairs()[0]);
    house.settle();
    assert_eq!(house.clients[ANN].errors, [ErrorCode::Overloaded]);
    assert!(house.clients[ANN].pages[&pairs()[0]].complete);
    let refused: u64 = (0..SHARDS).map(|shard| house.stats(shard).get(Counter::RefusedForSpace)).sum();
    assert_eq!(refused, 1);
    (0..SHARDS).for_each(|shard| house.tell(shard, Event::Space { low: false }));
    house.clients[ANN].send_unanswered();
    house.settle();
    assert!(house.clients[ANN].is_settled());
}

/// The disk is full: there is no segment any more, and user records wait for one. Commands are refused, reads are served,
/// nobody turns without end; when there is room everything goes on, and nothing is missing.
#[test]
fn a_shard_without_a_segment_reads_refuses_and_rests() {
    let mut house = run(None, None);
    house.disk.is_full = true;
    let long = "x".repeat(16_000);
    for round in 0.. {
        assert!(round < 100, "segments end");
        for pair in pairs() {
            say(&mut house, ANN, pair, &long);
        }
        house.settle();
        if (0..SHARDS).all(|shard| house.stats(shard).no_segment) {
            break;
        }
        house.clients[ANN].send_unanswered();
    }
    for _ in 0..5 {
        house.clients[BEN].online = !house.clients[BEN].online;
        house.clients[CID].online = !house.clients[CID].online;
        house.settle();
    }
    house.clients[BEN].online = true;
    house.settle();
    assert!(house.clients[BEN].welcomed, "a registered device connects");
    assert!((0..SHARDS).all(|shard| !house.shards[usize::from(shard)].is_held()));
    house.clients[ANN].errors.clear();
    house.clients[ANN].send_unanswered();
    house.clients[ANN].read(pairs()[0]);
    house.settle();
    assert!(house.clients[ANN].errors.contains(&ErrorCode::Overloaded));
    assert!(
        house.clients[ANN].errors.iter().all(|code| code.is_temporary()),
        "{:?}",
        house.clients[ANN].errors
    );
    assert!(house.clients[ANN].pages.contains_key(&pairs()[0]));
    house.disk.is_full = false;
    house.clients.iter_mut().for_each(|client| client.online = true);
    for _ in 0..200 {
        house.clients.iter_mut().for_each(Client::send_unanswered);
        house.settle();
        if house.clients.iter().all(Client::is_settled) {
            break;
        }
    }
    assert!((0..SHARDS).all(|shard| !house.stats(shard).no_segment));
    let (disk, clients) = house.kill();
    prove_restarted(disk, clients);
}

/// A device went away while its user was being loaded, and came back in the same place: who had waited there before called
/// for it once more: it was told that a newer socket, itself, had replaced it, or the process ended by an assertion.
#[test]
fn a_device_that_comes_back_to_its_place_is_greeted_once() {
    let (disk, mut clients) = run(None, None).kill();
    let mut house = House::start(disk);
    house.holds_reads = true;
    house.clients.push(clients.swap_remove(ANN));
    for _ in 0..20 {
        house.run_step();
    }
    house.end_and_reuse(ANN);
    for _ in 0..20 {
        house.run_step();
    }
    assert!(!house.clients[ANN].welcomed, "the user is still being loaded");
    house.holds_reads = false;
    house.settle();
    assert!(house.clients[ANN].welcomed);
    assert_eq!(house.clients[ANN].closes, Vec::<u16>::new());
}

/// One flipped bit: the record is skipped with its reason, its place and number stay taken, and everybody goes on.
#[test]
fn a_damaged_record_costs_itself() {
    let pair = pairs()[0];
    let last = truth(&run(None, None).kill().0).records[&pair].len() as u64;
    for lost in (1..last).map(Sequence) {
        let (mut disk, clients) = run(None, None).kill();
        disk.damage(pair, lost);
        let mut house = House::start(disk);
        house.clients.extend(clients.into_iter().take(2));
        house.clients[BEN].online = true;
        house.settle();
        house.clients[ANN].pages.clear();
        house.clients[ANN].read(pair);
        house.settle();
        let page = house.clients[ANN].pages[&pair].clone();
        let sound: Vec<Sequence> = (1..=last).map(Sequence).filter(|sequence| *sequence != lost).collect();
        let skip = SkipSpan { from: lost, to: lost, reason: SkipReason::Damaged };
        assert_eq!((page.sequences, page.skips, page.complete), (sound, vec![skip], true));
        for client in [ANN, BEN] {
            house.clients[client].errors.clear();
            say(&mut house, client, pair, "still here");
            house.settle();
            let one = &house.clients[client];
            assert!(one.is_settled(), "{lost} {client}: {:?} {} {:?}", one.errors, one.welcomed, one.closes);
        }
        let heads = house.clients[BEN].told.keys().filter(|(id, _)| *id == pair).map(|(_, at)| *at).max();
        assert_eq!(heads, Some(Sequence(last + 1)), "Ben got what Ann said");
    }
}
