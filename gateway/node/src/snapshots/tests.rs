//! A snapshot of a real directory in which one user is in too many conversations.

#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

use super::*;
use std::path::Path;
use tidegate_domain::virtual_shard;
use tidegate_ids::{Location, StreamId, UserId};
use tidegate_storage_files::{
    DataDir, FactoryOptions, OpenOptions, RecoveredLog, SegmentFactory, recover_all,
};
use tidegate_storage_log::{AppendError, Appender, AppenderConfig, Covered, Links, NewRecord};

const SEGMENT_BYTES: u32 = 64 << 10;

/// Kinds of records of a user's stream (docs/formats/log.md).
const DEVICE_REGISTERED: u16 = 32;
const QUEUE_WIDEN_ALL: u16 = 37;
const USER_JOINED: u16 = 38;

const LARGE: UserId = UserId(500);
const DEVICES: u64 = 4;

fn options() -> OpenOptions {
    OpenOptions { segment_bytes: SEGMENT_BYTES, ..OpenOptions::new(1) }
}

fn recovered(dir: &DataDir) -> Vec<RecoveredLog> {
    recover_all(dir, |_| {}, |_, _| {}).unwrap()
}

/// Records of users, written as a shard writes them.
struct Written {
    records: Vec<(UserId, u16, Vec<u8>)>,
}

impl Written {
    fn register(&mut self, user: UserId, devices: u64) {
        for device in 1..=devices {
            let fields = [device.to_le_bytes(), (1000 - device).to_le_bytes()];
            self.records.push((user, DEVICE_REGISTERED, fields.concat()));
        }
    }

    /// The user is in these groups, and every device is owed their first record.
    fn join(&mut self, user: UserId, groups: std::ops::Range<u64>) {
        for number in groups {
            let mut id = [0x80; 16];
            id[8..].copy_from_slice(&number.to_be_bytes());
            let first = 1_u64.to_le_bytes();
            self.records.push((user, USER_JOINED, [&id[..], &first].concat()));
            // No device is left out.
            let of_all = [&[0][..], &[0; 8], &id, &first].concat();
            self.records.push((user, QUEUE_WIDEN_ALL, of_all));
        }
    }

    /// Appends all of it to the directory's log, and goes on to another segment.
    fn write(&self, root: &Path) {
        let dir = DataDir::open(root, &options()).unwrap();
        let logs = recovered(&dir);
        let log = logs.iter().find(|log| log.log.epoch == dir.epoch()).unwrap();
        let config = AppenderConfig {
            segment_bytes: SEGMENT_BYTES,
            block_bytes: dir.block_bytes(),
            staging_bytes: 4 << 20,
            batch_bytes_max: 16 << 10,
        };
        let mut appender = Appender::new(&config, log.appender_start(&dir)).unwrap();
        let spares = FactoryOptions { spares: 1, reserve_bytes: 0, ..FactoryOptions::default() };
        let (_factory, mut spares) = SegmentFactory::start(&dir, spares, vec![Box::new(|| {})]).unwrap();
        let mut files = BTreeMap::new();
        let mut last: BTreeMap<UserId, Location> = BTreeMap::new();
        for (user, kind, body) in &self.records {
            let links = Links { prev: last.get(user).copied().unwrap_or(Location::NONE), ..Links::default() };
            let stream = StreamId::user(*user);
            let record =
                NewRecord { stream, kind: *kind, links, body_parts: &[body], ..NewRecord::default() };
            let location = loop {
                match appender.append(&record) {
                    Ok(location) => break location,
                    Err(AppendError::NoSegment) => {
                        let file = spares[0].wait().unwrap();
                        appender.add_segment(file.number());
                        files.insert(file.number(), file);
                    }
                    Err(error) => panic!("{error}"),
                }
            };
            last.insert(*user, location);
        }
        appender.seal();
        while let Some(batch) = appender.take_batch() {
            files[&batch.segment].write_sync(batch.offset, &batch.bytes).unwrap();
            appender.synced(batch.number);
        }
    }
}

/// Makes the next snapshot of every segment that the newest one does not hold.
fn make(root: &Path, fold: StreamFold) -> (Arc<SnapshotFile>, LargeUsers) {
    let dir = DataDir::open(root, &options()).unwrap();
    let mut snapshots = Snapshots::open(&dir).unwrap();
    let held = snapshots.newest().map_or(0, |file| file.header().covered[0].previous.end.segment);
    let logs = recovered(&dir);
    let (log, found) = (logs[0].log, &logs[0].recovered);
    let segments = found.extents.iter().filter(|extent| extent.segment > held);
    let covered = Covered { log, previous: *found.ends.last().unwrap(), checkpoint: Vec::new() };
    let plan = tidegate_shard::SnapshotPlan {
        segments: segments.map(|extent| (log, *extent)).collect(),
        covered: vec![covered],
        bytes: 0,
    };
    assert!(!plan.segments.is_empty());
    let (built, large) = build(&mut snapshots, &plan, &[], &[], &AtomicBool::new(false), fold).unwrap();
    assert!(built.file.verify().is_sound());
    (built.file, large)
}

fn state_of(file: &SnapshotFile, user: UserId) -> Vec<u8> {
    let stream = StreamId::user(user);
    let mut state = Vec::new();
    let found = file.read_entry(virtual_shard(&stream).unwrap(), &stream, &mut state).unwrap();
    assert!(found.is_some(), "{user} is in the snapshot");
    state
}

/// One user was put into so many groups that an entry could not hold their state, and no snapshot of the whole node was
/// made any more: logs and locators grew until every command was refused.
#[test]
fn one_user_of_too_many_conversations_does_not_end_snapshots() {
    let temp = tempfile::tempdir().unwrap();
    let others = (1..=40).map(UserId);
    let mut written = Written { records: Vec::new() };
    written.register(LARGE, DEVICES);
    for (user, first) in others.clone().zip((0..).step_by(10)) {
        written.register(user, 1 + user.0 % 3);
        written.join(user, first..first + user.0 % 7);
        written.join(LARGE, first..first + 10);
    }
    written.write(temp.path());
    let copy = tempfile::tempdir().unwrap();
    written.write(copy.path());
    // The list and four devices with 400 ranges each are 54 KB: with two of them it is three quarters of the limit.
    let state_bytes_max = 50_000;
    let small = || StreamFold::with_user_state_bytes_max(state_bytes_max);
    let (whole, nobody) = make(copy.path(), StreamFold::new());
    assert_eq!(nobody, LargeUsers::default());
    assert!(state_of(&whole, LARGE).len() > state_bytes_max);
    let (made, large) = make(temp.path(), small());
    assert_eq!((large.users, large.devices, large.ranges), (1, 2, 800));
    assert!(state_of(&made, LARGE).len() <= state_bytes_max / 4 * 3);
    assert_eq!(made.entry_count(), 41);
    for user in others {
        assert_eq!(state_of(&made, user), state_of(&whole, user), "{user}");
    }
    // What comes next is folded into that, and gives up nothing again.
    let mut written = Written { records: Vec::new() };
    written.join(LARGE, 400..420);
    written.join(UserId(3), 400..401);
    written.write(temp.path());
    let (next, nobody) = make(temp.path(), small());
    assert_eq!((nobody, next.number()), (LargeUsers::default(), 2));
    let grown = state_of(&next, LARGE).len() - state_of(&made, LARGE).len();
    assert_eq!(grown, 20 * (40 + 2 * 24), "a conversation and a range on both devices that stayed");
}
