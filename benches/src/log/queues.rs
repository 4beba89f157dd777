//! What users cost who are away: a shard's memory before and after a million of them got ten open ranges each.
//!
//! The users register, leave, and are written to in groups; nothing of theirs is loaded. Measured is what the process has
//! resident and what the shard's thread has of the heap, all of it: the table of streams, ranges known to be in streams,
//! members of groups in memory. Then a snapshot holds all of it.

use super::shard::Running;
use super::table::Table;
use crate::limits::{QUEUES_HOT_USERS, QUEUES_SOCKETS};
use anyhow::{Context, Result, ensure};
use std::hint::black_box;
use std::path::Path;
use tidegate_ids::{Attempt, ClientId, DeviceId, Location, MonotonicNs, UserId};
use tidegate_schema::{Body, ClientState, Encoder, GroupCreate, Hello, List, ServerFrame, frames};
use tidegate_shard::{ConnectionId, Counter, Event, ShardLimits};
use tidegate_tests_support::{held_bytes, resident_bytes};
use tidegate_ws::{Decoder, Item, Role, client, encode};

const MASK: [u8; 4] = [0x5a, 0xa5, 0x3c, 0xc3];

/// How often a user's ranges go to groups of others: each time the users are counted through in steps of another number.
const STEPS: [u64; 8] =
    [7919, 104_729, 15_485_863, 32_452_843, 49_979_687, 67_867_967, 86_028_121, 104_395_301];

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Users who are away.
    pub users: u64,
    /// Open ranges of each.
    pub ranges: u64,
    /// Members of a group beside its creator.
    pub members: u64,
    /// Bytes of a segment.
    pub segment_bytes: u32,
}

/// Memory at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    /// Bytes that the process has resident.
    pub resident: u64,
    /// Bytes that the shard's thread has of the heap.
    pub live: i64,
    /// Bytes of the table of streams.
    pub locators: u64,
    /// Members in slices of groups, with those who were.
    pub slice_stays: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueuesResult {
    /// How many users.
    pub users: u64,
    /// Ranges that were opened.
    pub ranges: u64,
    /// Nobody is known.
    pub empty: Memory,
    /// The users have registered and left.
    pub registered: Memory,
    /// Each has the ranges.
    pub owed: Memory,
    /// As many bytes resident for an array of the users' numbers and where their last record is.
    pub control: u64,
    /// A snapshot holds it.
    pub folded: Memory,
    /// Records of users' streams, and reads of them, while ranges were opened.
    pub records: u64,
    /// See `records`.
    pub reads: u64,
    /// Streams in the snapshot.
    pub entries: u64,
}

/// A client that says a frame at a time.
struct Sender {
    encoder: Encoder,
    requests: u64,
}

impl Sender {
    fn frame<B: Body>(&mut self, body: &B) -> Vec<u8> {
        self.requests += 1;
        let (mut payload, mut bytes) = (Vec::new(), Vec::new());
        self.encoder.frame(&mut payload, self.requests, 0, body);
        encode::binary(&mut bytes, &payload, Some(MASK));
        bytes
    }

    fn hello(&mut self, user: UserId, attempt: u64) -> Vec<u8> {
        let token = user.0.to_string();
        self.frame(&Hello {
            protocol_min: 1,
            protocol_max: 1,
            token: token.as_bytes(),
            device: DeviceId(1),
            attempt: Attempt(attempt),
            platform: b"bench",
            state: ClientState::Active,
            credit_frames: 16,
        })
    }
}

fn upgrade() -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let request = client::Request {
        host: "bench",
        path: "/ws",
        key: [7; 16],
        protocols: &["tidegate.v1"],
        fields: &[],
    };
    client::request(&mut bytes, &request).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    Ok(bytes)
}

/// Connects users, as many at once as there are sockets; what each Welcome said of ranges that wait.
fn connect(running: &mut Running, sender: &mut Sender, users: &[UserId], attempt: u64) -> Result<Vec<u32>> {
    let upgrade = upgrade()?;
    for place in 0..users.len() {
        let connection = ConnectionId(place as u32 + 1);
        running.tell(Event::Accepted { connection });
        running.tell(Event::Bytes { connection, bytes: &mut upgrade.clone() });
    }
    running.settle()?;
    running.sent.clear();
    for (place, user) in users.iter().enumerate() {
        let connection = ConnectionId(place as u32 + 1);
        running.tell(Event::Bytes { connection, bytes: &mut sender.hello(*user, attempt) });
    }
    running.settle()?;
    let mut waiting = vec![None; users.len()];
    for (connection, mut bytes) in running.sent.drain(..) {
        let (mut decoder, mut held) = (Decoder::new(Role::Client, 1 << 20, 1 << 20), Vec::new());
        let step = decoder.decode(&mut bytes, &mut held).map_err(|error| anyhow::anyhow!("{error:?}"))?;
        let Some(Item::Binary(payload)) = step.item else { continue };
        let Some(Ok(frame)) = frames(payload).next() else { continue };
        if let Ok(ServerFrame::Welcome(welcome)) = ServerFrame::decode(&frame) {
            waiting[connection.0 as usize - 1] = Some(welcome.ranges_waiting);
        }
    }
    waiting.into_iter().map(|waiting| waiting.context("a device was not welcome")).collect()
}

fn disconnect(running: &mut Running, count: usize) -> Result<()> {
    for place in 0..count {
        running.tell(Event::Ended { connection: ConnectionId(place as u32 + 1) });
    }
    running.settle()?;
    running.sent.clear();
    Ok(())
}

/// The members of a round's group: a part of all users, other neighbours in every round.
fn members(work: &Work, round: u64, group: u64) -> Vec<UserId> {
    let step = STEPS.iter().cycle().skip(round as usize).find(|step| !work.users.is_multiple_of(**step));
    let step = step.copied().unwrap_or(1);
    let (first, end) = (group * work.members, ((group + 1) * work.members).min(work.users));
    (first..end).map(|index| UserId(1 + (index + round * work.members / 2) * step % work.users)).collect()
}

fn measure(running: &Running) -> Result<Memory> {
    Ok(Memory {
        resident: resident_bytes(),
        live: held_bytes(),
        locators: running.shard.locator_bytes() as u64,
        slice_stays: running.shard.slice_stays() as u64,
    })
}

/// Runs a shard below `path`.
///
/// # Errors
/// What the system says, and a user who has not the ranges that they should.
pub fn run(path: &Path, work: &Work) -> Result<QueuesResult> {
    ensure!(work.members > 0 && work.users >= work.members, "a group has members, and they are users");
    let limits = ShardLimits {
        // Nearly all are away, also where there are few.
        hot_users_max: (work.users as usize / 32).clamp(QUEUES_SOCKETS + 64, QUEUES_HOT_USERS),
        connections_max: QUEUES_SOCKETS + 1,
        window_entries_max: 4096,
        ..ShardLimits::default()
    };
    ensure!(work.users < limits.locators_max as u64 / 4 * 3, "so many would ask for a snapshot");
    let mut running = Running::start(path, work.segment_bytes, &limits)?;
    let mut sender = Sender { encoder: Encoder::new(), requests: 0 };
    let mut result = QueuesResult { users: work.users, empty: measure(&running)?, ..QueuesResult::default() };
    register(&mut running, &mut sender, work)?;
    result.registered = measure(&running)?;
    let (records, reads) = (running.shard.stats().get(Counter::QueueRecords), running.user_reads);
    result.ranges = owe(&mut running, &mut sender, work)?;
    result.records = running.shard.stats().get(Counter::QueueRecords) - records;
    result.reads = running.user_reads - reads;
    running.wait(10 * MonotonicNs::SECOND)?;
    result.owed = measure(&running)?;
    result.control = control(work.users)?;
    come_back(&mut running, &mut sender, work, 2)?;
    running.wait(10 * MonotonicNs::SECOND)?;
    result.entries = running.make_snapshot()?;
    result.folded = measure(&running)?;
    come_back(&mut running, &mut sender, work, 3)?;
    Ok(result)
}

fn register(running: &mut Running, sender: &mut Sender, work: &Work) -> Result<()> {
    let users: Vec<UserId> = (1..=work.users).map(UserId).collect();
    for (place, some) in users.chunks(QUEUES_SOCKETS).enumerate() {
        connect(running, sender, some, 1)?;
        disconnect(running, some.len())?;
        tell_progress("registered", (place * QUEUES_SOCKETS) as u64, QUEUES_SOCKETS as u64, work.users);
    }
    Ok(())
}

/// Somebody makes groups until every user is in as many as there are to be ranges; how many ranges that made.
fn owe(running: &mut Running, sender: &mut Sender, work: &Work) -> Result<u64> {
    let creator = UserId(work.users + 1);
    connect(running, sender, &[creator], 1)?;
    let groups = work.users.div_ceil(work.members);
    let mut ranges = 0;
    for round in 0..work.ranges {
        for group in 0..groups {
            let users = members(work, round, group);
            ranges += users.len() as u64;
            let client_id = ClientId(u128::from(round * groups + group).to_be_bytes());
            let body = GroupCreate { client_id, name: b"group", users: List::new(&users) };
            let mut bytes = sender.frame(&body);
            running.tell(Event::Bytes { connection: ConnectionId(1), bytes: &mut bytes });
            running.settle()?;
            running.sent.clear();
            tell_progress("ranges", ranges, work.members, work.users * work.ranges);
        }
    }
    let refused = running.shard.stats().get(Counter::Refused);
    ensure!(refused == 0, "{refused} groups were refused");
    disconnect(running, 1)?;
    Ok(ranges)
}

/// Some of the users come back: each has as many ranges as they should.
fn come_back(running: &mut Running, sender: &mut Sender, work: &Work, attempt: u64) -> Result<()> {
    // Others each time, since who came back stays in memory for a while.
    let user = |place| UserId(1 + place * work.users / 100 + 7 * attempt);
    let some: Vec<UserId> = (0..100).map(user).collect();
    let before = running.shard.stats().get(Counter::Loads);
    let waiting = connect(running, sender, &some, attempt)?;
    let loads = running.shard.stats().get(Counter::Loads) - before;
    ensure!(loads >= 80, "{} of {} were in memory: {loads} loads", some.len() as u64 - loads, some.len());
    ensure!(waiting.iter().all(|ranges| u64::from(*ranges) == work.ranges), "ranges: {waiting:?}");
    disconnect(running, some.len())
}

fn tell_progress(what: &str, done: u64, step: u64, of: u64) {
    let part = (of / 10).max(1);
    if done / part > done.saturating_sub(step) / part {
        eprintln!("{what}: {done} of {of}");
    }
}

/// Bytes resident for what a user takes at least: who, and where the last record of their stream is.
fn control(users: u64) -> Result<u64> {
    let before = resident_bytes();
    let array: Vec<(UserId, Location)> =
        (1..=users).map(|user| (UserId(user), Location::new(1, user as u32))).collect();
    let after = resident_bytes();
    black_box(&array);
    Ok(after.saturating_sub(before))
}

/// As a table of Markdown.
#[must_use]
pub fn table(result: &QueuesResult) -> String {
    let mut table =
        Table::new(&["what", "resident", "× control", "heap", "table of streams", "members in slices"]);
    let users = result.users as f64;
    let control = result.control as f64 / users;
    table.row(&[
        String::from("control: an array of user and location"),
        format!("{control:.1}"),
        String::from("1.00"),
        String::from("16.0"),
        String::from("–"),
        String::from("–"),
    ]);
    let rows = [
        ("registered and away", &result.registered),
        ("with their ranges", &result.owed),
        ("a snapshot holds them", &result.folded),
    ];
    for (what, memory) in rows {
        let resident = memory.resident.saturating_sub(result.empty.resident) as f64 / users;
        table.row(&[
            what.to_owned(),
            format!("{resident:.1}"),
            format!("{:.2}", if control > 0.0 { resident / control } else { 0.0 }),
            format!("{:.1}", (memory.live - result.empty.live) as f64 / users),
            format!("{:.1}", (memory.locators.saturating_sub(result.empty.locators)) as f64 / users),
            memory.slice_stays.to_string(),
        ]);
    }
    format!(
        "{} users, {} ranges: {} records, {} reads of users' streams; {} streams in the snapshot. Bytes per user, beyond those \
         of the empty shard ({:.0} MB resident):\n\n{}",
        result.users,
        result.ranges,
        result.records,
        result.reads,
        result.entries,
        result.empty.resident as f64 / 1e6,
        table.text()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_who_are_away_have_their_ranges_and_are_not_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let work = Work { users: 3000, ranges: 4, members: 100, segment_bytes: 256 << 10 };
        let result = run(&directory.path().join("data"), &work).expect("a run");
        assert_eq!((result.ranges, result.reads), (12_000, 0));
        // Of each user that they joined and a range; of the creator that they registered, joined 120 groups, and were seen.
        assert_eq!(result.records, 2 * result.ranges + 1 + 120 + 1);
        assert!(result.entries >= work.users);
        assert!(result.owed.locators > result.empty.locators + 25 * work.users);
        // What is in the open segment keeps its locator.
        let beyond_empty = |memory: &Memory| memory.locators - result.empty.locators;
        assert!(2 * beyond_empty(&result.folded) < beyond_empty(&result.owed), "{result:?}");
        assert_eq!(table(&result).lines().count(), 8);
    }

    #[test]
    fn every_user_is_in_one_group_of_each_round() {
        let work = Work { users: 1003, ranges: 3, members: 100, segment_bytes: 0 };
        for round in 0..9 {
            let mut all: Vec<UserId> = (0..11).flat_map(|group| members(&work, round, group)).collect();
            all.sort_unstable();
            assert_eq!(all, (1..=1003).map(UserId).collect::<Vec<_>>(), "round {round}");
        }
    }
}
