//! Every read of a scripted run fails once, in each way that reads fail: then nothing is missing in the end. And every block
//! that holds a record is bad for ever: then only what lay in it is missing, and readers are told so.

use crate::client::Client;
use crate::disk::{Disk, ReadHarm, ReadKind};
use crate::house::{House, limits};
use crate::node::SHARDS;
use crate::{ANN, BEN, pairs, people, prove_drained, prove_told, run, say};
use std::collections::BTreeSet;
use std::ops::Range;
use tidegate_ids::{ConversationId, Location, Sequence, StreamKind, UserId};
use tidegate_schema::{ErrorCode, SkipReason};
use tidegate_shard::{Counter, ShardLimits};
use tidegate_storage_log::stored_len;

/// Kinds of records that are messages or come and go in groups.
const MESSAGE: u16 = 1;
const SEQUENCED: std::ops::RangeInclusive<u16> = 1..=5;

/// Steps of time in which a node at rest reads next to nothing: three seconds.
const REST_STEPS: u64 = 100;

/// Reads in that time that are no hurry: what is asked for again, if anything is, waits half a second.
const REST_READS_MAX: u64 = 16;

/// So little is kept hot, and cursors lag so soon, that everything is read from the disk again and again.
fn tight() -> ShardLimits {
    ShardLimits { hot_users_max: 2, hot_conversations_max: 2, cursor_lag_bytes_max: 256, ..limits() }
}

/// A second life: fed again, cold conversations, a snapshot, devices that were away, a cursor that lags, a duplicate, ranges.
fn read_everything(house: &mut House, clients: Vec<Client>) {
    house.clients = clients;
    for (at, client) in house.clients.iter_mut().enumerate() {
        client.online = at == ANN;
    }
    house.settle();
    speak(house, "cold");
    house.make_snapshot();
    house.settle();
    speak(house, "from the snapshot");
    house.clients[BEN].online = true;
    house.settle();
    house.block(Some((0, 1)));
    for round in 0..4 {
        speak(house, &format!("behind a full ring {round}"));
    }
    house.block(None);
    house.settle();
    for pair in pairs() {
        house.clients[ANN].repeat(pair, 1, "0");
        house.settle();
    }
    house.clients.iter_mut().for_each(|client| client.online = true);
    house.settle();
    read_pages(house);
}

fn speak(house: &mut House, text: &str) {
    for conversation in conversations(house) {
        say(house, ANN, conversation, text);
        for _ in 0..40 {
            house.run_step();
        }
        house.clients[ANN].send_unanswered();
    }
}

fn conversations(house: &House) -> Vec<ConversationId> {
    pairs().into_iter().chain(house.clients[ANN].groups.first().copied()).collect()
}

fn read_pages(house: &mut House) {
    for conversation in conversations(house) {
        house.clients[ANN].pages.remove(&conversation);
        house.clients[ANN].read(conversation);
        house.settle();
    }
}

/// The first life, and what it leaves.
fn first_life() -> (Disk, Vec<Client>) {
    let (disk, clients) = run(None, None).kill();
    (Disk { reads: 0, kinds: Default::default(), ..disk }, clients)
}

fn count(house: &mut House, counter: Counter) -> u64 {
    (0..SHARDS).map(|shard| house.stats(shard).get(counter)).sum()
}

fn owed(clients: &[Client]) -> Vec<bool> {
    clients.iter().map(|client| [ANN, BEN].map(|at| people()[at]).contains(&client.user)).collect()
}

/// A second life over what the first one left.
pub fn live_again(disk: Disk, clients: Vec<Client>) -> House {
    let mut house = House::start_with(disk, &tight());
    read_everything(&mut house, clients);
    house
}

fn second_life(fails: Option<(u64, ReadHarm)>) -> House {
    let (disk, clients) = first_life();
    live_again(Disk { read_fails: fails, ..disk }, clients)
}

#[test]
fn the_script_reads_in_every_way() {
    let mut house = second_life(None);
    for kind in [ReadKind::Range, ReadKind::Chain, ReadKind::Number, ReadKind::Scan, ReadKind::Snapshot] {
        assert!(
            house.disk.kinds.get(&kind).is_some_and(|count| *count > 1),
            "{kind:?}: {:?}",
            house.disk.kinds
        );
    }
    assert!(count(&mut house, Counter::CursorReads) > 1);
    assert_eq!(count(&mut house, Counter::ReadsFailed), 0);
    let owed = owed(&house.clients);
    prove_drained(&mut house, &owed, &BTreeSet::new());
}

/// A disk that refused one read, or gave it garbled, cost what lay there: a scan went on behind it, a fold counted it as
/// lost and wrote that down, a queue counted it as delivered.
fn check_once(harm: ReadHarm) {
    let reads = second_life(None).disk.reads;
    for failing in 0..reads {
        let mut house = second_life(Some((failing, harm)));
        prove_told(&house).unwrap_or_else(|wrong| panic!("read {failing}, {harm:?}: {wrong}"));
        assert_eq!(count(&mut house, Counter::ReadsDamaged), 0, "read {failing}, {harm:?}");
        let owed = owed(&house.clients);
        prove_drained(&mut house, &owed, &BTreeSet::new());
        for conversation in conversations(&house) {
            let page = &house.clients[ANN].pages[&conversation];
            assert!(page.skips.is_empty() && page.complete, "read {failing}, {harm:?}: {page:?}");
        }
        let (disk, clients) = house.kill();
        crate::prove_restarted(disk, clients);
    }
}

#[test]
fn every_read_is_refused_once() {
    check_once(ReadHarm::Refused);
}

#[test]
fn every_read_is_garbled_once() {
    check_once(ReadHarm::Garbled);
}

#[test]
fn every_read_is_short_once() {
    check_once(ReadHarm::Short);
}

#[test]
fn every_read_misses_its_segment_once() {
    check_once(ReadHarm::Gone);
}

/// A record as it lies in the log.
struct Written {
    segment: u32,
    range: Range<u32>,
    /// A place in a conversation, and whether it says who is a member.
    place: Option<((ConversationId, Sequence), bool)>,
    /// Whose stream it is in.
    user: Option<UserId>,
}

fn written(disk: &Disk) -> Vec<Written> {
    let mut all = Vec::new();
    disk.promised_records(|record| {
        let at = record.location;
        let range = at.offset..at.offset + stored_len(record.body.len()) as u32;
        let (mut place, mut user) = (None, None);
        match record.head.stream.kind() {
            Some(StreamKind::Conversation(id)) if SEQUENCED.contains(&record.head.kind) => {
                place = Some(((id, record.head.sequence), record.head.kind != MESSAGE));
            }
            Some(StreamKind::User(id)) => user = Some(id),
            _ => {}
        }
        all.push(Written { segment: at.segment, range, place, user });
    });
    all
}

/// A stretch of the log that goes bad, and what lies in it.
struct Place {
    at: Location,
    lost: BTreeSet<(ConversationId, Sequence)>,
    has_change: bool,
    users: BTreeSet<UserId>,
}

fn place(all: &[Written], at: Location, length: u32) -> Place {
    let bad = at.offset..at.offset.saturating_add(length);
    let is_hit =
        |one: &&Written| one.segment == at.segment && one.range.start < bad.end && one.range.end > bad.start;
    let mut found = Place { at, lost: BTreeSet::new(), has_change: false, users: BTreeSet::new() };
    for one in all.iter().filter(is_hit) {
        found.lost.extend(one.place.map(|(place, _)| place));
        found.has_change |= one.place.is_some_and(|(_, is_change)| is_change);
        found.users.extend(one.user);
    }
    found
}

/// Every sector up to the last record of each segment.
fn sectors(all: &[Written]) -> Vec<Place> {
    let offsets = |one: &Written| {
        let segment = one.segment;
        (0..one.range.end).step_by(512).map(move |at| Location::new(segment, at))
    };
    let sectors: BTreeSet<Location> = all.iter().flat_map(offsets).collect();
    sectors.into_iter().map(|at| place(all, at, 512)).collect()
}

fn reads_at_rest(house: &mut House) -> u64 {
    house.settle();
    let before = house.disk.reads;
    for _ in 0..REST_STEPS {
        house.run_step();
    }
    house.disk.reads - before
}

/// With a bad block only what lay in it is missing. Readers are told that it is, those who send go on, and nobody asks for it
/// without end.
fn prove_lost_only(mut house: House, place: &Place, harm: ReadHarm) {
    let what = format!("{:?} {harm:?}", place.at);
    prove_told(&house).unwrap_or_else(|wrong| panic!("{what}: {wrong}"));
    let mut owed = owed(&house.clients);
    for (owed, client) in owed.iter_mut().zip(&house.clients) {
        // A device whose registration is lost registers anew, and is owed what comes from then on.
        *owed &= !place.users.contains(&client.user);
    }
    prove_drained(&mut house, &owed, &place.lost);
    read_pages(&mut house);
    for conversation in conversations(&house) {
        let page = &house.clients[ANN].pages[&conversation];
        let skipped: Vec<Sequence> = page
            .skips
            .iter()
            .inspect(|span| assert_eq!(span.reason, SkipReason::Damaged, "{what}"))
            .flat_map(|span| (span.from.0..=span.to.0).map(Sequence))
            .collect();
        assert!(skipped.iter().all(|at| place.lost.contains(&(conversation, *at))), "{what}: {page:?}");
        let all: BTreeSet<Sequence> = page.sequences.iter().chain(&skipped).copied().collect();
        assert_eq!(all, (1..=page.head.0).map(Sequence).collect(), "{what}: {page:?}");
        assert!(page.complete, "{what}: {page:?}");
    }
    let reads = reads_at_rest(&mut house);
    assert!(reads <= REST_READS_MAX, "{what}: {reads} reads while nothing happens");
}

/// When something goes bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// While the node runs.
    Running,
    /// Before it starts.
    Stopped,
}

fn check_lost_only(place: &Place, harm: ReadHarm, when: When, spoil: impl Fn(&mut Disk)) {
    let (mut disk, clients) = first_life();
    if when == When::Stopped {
        spoil(&mut disk);
    }
    let mut house = House::start_with(disk, &tight());
    if when == When::Running {
        spoil(&mut house.disk);
    }
    read_everything(&mut house, clients);
    prove_lost_only(house, place, harm);
}

/// A cursor, a refeed or a queue that met a bad block asked for it for ever; a conversation whose newest record was in it
/// could not be loaded any more, and a duplicate of a command in it was never answered.
fn check_for_ever(harm: ReadHarm, when: When) {
    let (disk, _) = first_life();
    let heads = crate::truth(&disk).heads();
    let places = sectors(&written(&disk));
    assert!(places.len() > 40, "{} places", places.len());
    for place in &places {
        // Who joined by a record that is lost is refused. And a start that misses the end of a conversation begins a new
        // incarnation, which is shown elsewhere.
        let has_end = when == When::Stopped && !place.lost.is_disjoint(&heads);
        if !place.has_change && !has_end {
            check_lost_only(place, harm, when, |disk| _ = disk.bad.insert(place.at, harm));
        }
    }
}

#[test]
fn a_block_that_is_refused_for_ever_costs_itself() {
    check_for_ever(ReadHarm::Refused, When::Running);
}

#[test]
fn a_block_that_is_garbled_for_ever_costs_itself() {
    check_for_ever(ReadHarm::Garbled, When::Running);
}

#[test]
fn a_block_that_a_start_is_refused_costs_itself() {
    check_for_ever(ReadHarm::Refused, When::Stopped);
}

#[test]
fn a_block_that_a_start_reads_garbled_costs_itself() {
    check_for_ever(ReadHarm::Garbled, When::Stopped);
}

/// A file is cut under a node that runs: conversations whose newest records were in it could not be loaded any more.
#[test]
fn a_segment_that_is_cut_costs_what_is_cut() {
    let (disk, _) = first_life();
    let all = written(&disk);
    // Behind the creation of the group; Ann, who sends, is a member all the time.
    let from = all.iter().find(|one| one.place.is_some_and(|(_, is_change)| is_change)).unwrap();
    let ends = all.iter().filter(|one| one.segment == from.segment).map(|one| one.range.end);
    for cut in (from.range.end..ends.max().unwrap()).step_by(700) {
        let place = place(&all, Location::new(from.segment, cut), u32::MAX);
        check_lost_only(&place, ReadHarm::Short, When::Running, |disk| {
            _ = disk.cut.insert(from.segment, cut.into());
        });
    }
}

/// A snapshot in which nothing can be read any more: what it held waits for another one, and nobody hurries.
#[test]
fn a_snapshot_that_is_bad_is_waited_for() {
    let (disk, clients) = first_life();
    let mut house = House::start_with(disk, &tight());
    house.clients = clients;
    house.settle();
    assert!(house.make_snapshot());
    house.settle();
    house.disk.is_snapshot_bad = true;
    house.clients[BEN].online = true;
    speak(&mut house, "what was held is not read");
    let reads = reads_at_rest(&mut house);
    assert!(reads <= 4 * REST_READS_MAX, "{reads} reads while nothing can be had");
    assert!(house.clients[ANN].errors.contains(&ErrorCode::Unavailable), "{:?}", house.clients[ANN].errors);
    house.disk.is_snapshot_bad = false;
    let owed = owed(&house.clients);
    prove_drained(&mut house, &owed, &BTreeSet::new());
}
