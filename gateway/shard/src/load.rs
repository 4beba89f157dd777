//! Cold streams become hot: the newest folded state, then what follows it. A command for a cold stream waits in a
//! bounded place; records for a cold user do not wait, they are appended to the stream unseen.

use crate::commit::Waiting;
use crate::counters::Counter;
use crate::event::ConnectionId;
use crate::limits::LOAD_BYTES_MAX;
use crate::output::ReadRequest;
use crate::reads::ReadPurpose;
use crate::records::{Sequenced, read_user};
use crate::shard::{Shard, Turn};
use crate::state::{read_conversation, read_part, read_user_state};
use crate::streams::{HotConversation, HotUser};
use crate::table::{IdHash, IdMap};
use std::collections::VecDeque;
use tidegate_domain::UserRecord;
use tidegate_ids::{ConversationId, Location, Sequence, ShardIndex, StreamId, StreamKind, UserId};
use tidegate_storage_log::{Direction, PackedRecords, PageEnd, ReadSpec, limits::PAGE_RECORDS_MAX};

/// Who waits for a stream.
#[derive(Debug)]
pub(crate) enum Waiter {
    /// A request from a shard.
    Request(ShardIndex, Vec<u8>),
    /// A connection whose `Hello` was accepted.
    Hello(ConnectionId),
}

#[derive(Debug)]
enum Building {
    Conversation(HotConversation),
    User {
        hot: HotUser,
        /// Up to here the chain is folded.
        folded: Location,
        /// Where the chain being read began: folded up to here once all its pages are.
        reading: Location,
        /// Pages of a long chain, the newest first.
        pages: Vec<Vec<u8>>,
    },
}

impl Building {
    const fn mark_partial(&mut self) {
        match self {
            Self::Conversation(hot) => hot.is_partial = true,
            Self::User { hot, .. } => hot.is_partial = true,
        }
    }
}

#[derive(Debug)]
struct Load {
    waiters: VecDeque<Waiter>,
    building: Building,
}

/// Streams that are being loaded.
#[derive(Debug)]
pub(crate) struct Loads {
    loading: IdMap<StreamId, Load>,
    parked: usize,
}

impl Loads {
    pub(crate) fn new(hash: IdHash) -> Self {
        Self { loading: IdMap::with_hasher(hash), parked: 0 }
    }

    pub(crate) const fn parked(&self) -> usize {
        self.parked
    }

    pub(crate) fn is_loading(&self, stream: &StreamId) -> bool {
        self.loading.contains_key(stream)
    }
}

impl Shard {
    /// Lets somebody wait for a cold stream, and begins to load it.
    pub(crate) fn wait_for(&mut self, stream: StreamId, waiter: Waiter, turn: &mut Turn<'_>) {
        self.loads.parked += 1;
        if let Some(load) = self.loads.loading.get_mut(&stream) {
            return load.waiters.push_back(waiter);
        }
        self.load(stream, VecDeque::from([waiter]), turn);
    }

    /// Begins to load a cold stream that nobody waits for by name: a refeed looks again each turn.
    pub(crate) fn begin_load(&mut self, stream: StreamId, turn: &mut Turn<'_>) {
        if !self.loads.loading.contains_key(&stream) {
            self.load(stream, VecDeque::new(), turn);
        }
    }

    /// Begins a load anew: what it was about to read is not there any more.
    pub(crate) fn load_again(&mut self, stream: StreamId, turn: &mut Turn<'_>) {
        if let Some(load) = self.loads.loading.remove(&stream) {
            self.load(stream, load.waiters, turn);
        }
    }

    fn load(&mut self, stream: StreamId, waiters: VecDeque<Waiter>, turn: &mut Turn<'_>) {
        let building = match stream.kind() {
            Some(StreamKind::Conversation(id)) => Building::Conversation(HotConversation::new(id)),
            Some(StreamKind::User(id)) => {
                let (folded, reading) = (Location::NONE, Location::NONE);
                Building::User { hot: HotUser::new(id), folded, reading, pages: Vec::new() }
            }
            _ => unreachable!("a shard's own stream is never loaded"),
        };
        self.loads.loading.insert(stream, Load { waiters, building });
        self.stats.count(Counter::Loads);
        let state = self.streams.locator(&stream).state;
        if state.is_none() && self.streams.locators.has_snapshot() {
            return self.read_elsewhere(ReadPurpose::LoadSnapshot(stream), ReadRequest::Snapshot { stream });
        }
        if state.is_none() {
            return self.load_more(stream, turn);
        }
        let spec = ReadSpec::Chain { stream, last: state, stop: Location::NONE, limit: PAGE_RECORDS_MAX };
        self.after_commit(Waiting::Read(ReadPurpose::LoadState(stream), spec));
    }

    /// The parts of the newest state have come.
    pub(crate) fn on_load_state(
        &mut self,
        stream: StreamId,
        records: &[u8],
        end: &PageEnd,
        turn: &mut Turn<'_>,
    ) {
        if end.damaged > 0 {
            return self.on_state_lost(stream, turn);
        }
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        for record in PackedRecords(records).iter() {
            let Some((_, _, part)) = read_part(record.body) else { continue };
            bytes.extend_from_slice(part);
        }
        self.begin_from(stream, &bytes, Location::NONE, turn);
        self.scratch = bytes;
    }

    /// The newest folded state cannot be read: folding begins further back, with the snapshot, or with the first record. A
    /// conversation has all its records; of a user, what was folded into that state is lost.
    pub(crate) fn on_state_lost(&mut self, stream: StreamId, turn: &mut Turn<'_>) {
        let Some(load) = self.loads.loading.get_mut(&stream) else { return };
        load.building.mark_partial();
        if self.streams.locators.has_snapshot() {
            return self.read_elsewhere(ReadPurpose::LoadSnapshot(stream), ReadRequest::Snapshot { stream });
        }
        self.load_more(stream, turn);
    }

    /// The stream's entry in the snapshot has come, or that it has none.
    pub(crate) fn on_load_snapshot(
        &mut self,
        stream: StreamId,
        state: &[u8],
        end: &PageEnd,
        turn: &mut Turn<'_>,
    ) {
        match end.records {
            0 => self.load_more(stream, turn),
            _ => {
                self.stats.count(Counter::SnapshotLoads);
                self.begin_from(stream, state, end.next, turn);
            }
        }
    }

    /// Goes on from a folded state that holds everything up to a record of the stream.
    fn begin_from(&mut self, stream: StreamId, state: &[u8], through: Location, turn: &mut Turn<'_>) {
        let Some(load) = self.loads.loading.get_mut(&stream) else { return };
        let begun = match &mut load.building {
            Building::Conversation(hot) => read_conversation(state).map(|(conversation, spine)| {
                hot.conversation = conversation;
                hot.spine = spine;
            }),
            Building::User { hot, folded, .. } => read_user_state(state).map(|user| {
                hot.user = user;
                *folded = through;
            }),
        };
        match begun {
            Some(()) => self.load_more(stream, turn),
            None => self.fail_load(stream, turn),
        }
    }

    /// Asks for what follows, or finishes.
    fn load_more(&mut self, stream: StreamId, turn: &mut Turn<'_>) {
        let locator = self.streams.locator(&stream);
        let Some(load) = self.loads.loading.get_mut(&stream) else { return };
        let spec = match &mut load.building {
            Building::Conversation(hot) => {
                let from = hot.conversation.last.next();
                (from <= locator.sequence).then_some(ReadSpec::Range {
                    stream,
                    last: locator.last,
                    last_sequence: locator.sequence,
                    from,
                    to: locator.sequence,
                    limit: PAGE_RECORDS_MAX,
                    bytes_max: LOAD_BYTES_MAX,
                    direction: Direction::Ascending,
                })
            }
            Building::User { folded, reading, .. } => {
                *reading = locator.last;
                let stop = *folded;
                (locator.last > stop).then_some(ReadSpec::Chain {
                    stream,
                    last: locator.last,
                    stop,
                    limit: PAGE_RECORDS_MAX,
                })
            }
        };
        match spec {
            Some(spec) => self.after_commit(Waiting::Read(ReadPurpose::LoadRecords(stream), spec)),
            None => self.finish_load(stream, turn),
        }
    }

    /// A page of what follows the state has come.
    pub(crate) fn on_load_records(
        &mut self,
        stream: StreamId,
        records: &[u8],
        end: &PageEnd,
        turn: &mut Turn<'_>,
    ) {
        let locator = self.streams.locator(&stream);
        let Some(load) = self.loads.loading.get_mut(&stream) else { return };
        if end.damaged > 0 {
            load.building.mark_partial();
        }
        match &mut load.building {
            Building::Conversation(hot) => {
                let before = hot.conversation.last;
                fold_conversation(hot, records);
                // How far this page reaches, whatever it holds.
                let reached = match end.records {
                    _ if end.complete => locator.sequence,
                    0 => Sequence(before.0 + u64::from(PAGE_RECORDS_MAX)).min(locator.sequence),
                    _ => end.last,
                };
                if hot.conversation.last < reached {
                    // No read gives these records any more. Their places stay taken.
                    hot.is_partial = true;
                    hot.lose_through(reached, locator.last);
                }
                self.load_more(stream, turn);
            }
            Building::User { hot, folded, reading, pages } => {
                let goes_on = end.next > *folded && end.next != Location::SNAPSHOT;
                let limited = end.records == PAGE_RECORDS_MAX && goes_on;
                if limited {
                    pages.push(records.to_vec());
                    let (last, stop) = (end.next, *folded);
                    let spec = ReadSpec::Chain { stream, last, stop, limit: PAGE_RECORDS_MAX };
                    return self.after_commit(Waiting::Read(ReadPurpose::LoadRecords(stream), spec));
                }
                fold_user(hot, records);
                while let Some(page) = pages.pop() {
                    fold_user(hot, &page);
                }
                *folded = *reading;
                self.load_more(stream, turn);
            }
        }
    }

    fn finish_load(&mut self, stream: StreamId, turn: &mut Turn<'_>) {
        let Some(load) = self.loads.loading.remove(&stream) else { return };
        let inserted = match load.building {
            Building::Conversation(hot) => self.insert_conversation(hot, turn),
            Building::User { hot, .. } => self.insert_user(hot),
        };
        self.loads.parked -= load.waiters.len();
        self.resume(load.waiters, inserted, turn);
    }

    /// A stream could not be read: those who wait are refused, and may try again.
    pub(crate) fn fail_load(&mut self, stream: StreamId, turn: &mut Turn<'_>) {
        let Some(load) = self.loads.loading.remove(&stream) else { return };
        self.loads.parked -= load.waiters.len();
        self.boot.unreadable(stream);
        self.resume(load.waiters, false, turn);
    }

    /// Lets those who waited go on, or refuses them.
    fn resume(&mut self, waiters: VecDeque<Waiter>, loaded: bool, turn: &mut Turn<'_>) {
        for waiter in waiters {
            match waiter {
                Waiter::Request(from, frame) => {
                    if loaded {
                        self.on_request(from, &frame, turn);
                    } else {
                        self.refuse_request(from, &frame);
                    }
                    self.recycle(frame);
                }
                Waiter::Hello(connection) if loaded => self.greet(connection, turn),
                Waiter::Hello(connection) => self.refuse_connection(connection, turn),
            }
        }
    }

    /// Puts a conversation into the table of hot ones, evicting another if it is full.
    pub(crate) fn insert_conversation(&mut self, hot: HotConversation, turn: &mut Turn<'_>) -> bool {
        if self.streams.conversations.is_full() && !self.evict_conversation(turn.mesh) {
            return false;
        }
        self.streams.conversations.insert(hot.conversation.id, hot);
        true
    }

    /// Puts a user into the table of hot ones, evicting another if it is full.
    pub(crate) fn insert_user(&mut self, mut hot: HotUser) -> bool {
        if self.streams.users.is_full() && !self.evict_user() {
            return false;
        }
        self.take_widened(&mut hot);
        self.streams.users.insert(hot.user.id, hot);
        true
    }

    /// A hot user's ranges may be narrowed: what their stream covered while they were cold counts no more. After the log
    /// failed their stream lacks the newest.
    fn take_widened(&mut self, hot: &mut HotUser) {
        let user = hot.user.id;
        let lowest = (user, ConversationId([0; 16]), None);
        while let Some((key, from)) = self.widened.range(lowest..).next() {
            let (key, from) = (*key, *from);
            let (of, conversation, except) = key;
            if of != user {
                return;
            }
            if self.latched {
                hot.user.apply(&UserRecord::WidenAll { except, conversation, from });
            }
            self.widened.remove(&key);
        }
    }

    fn evict_user(&mut self) -> bool {
        let Some(id) = self.streams.users.victim(|hot| hot.sessions.is_empty()) else { return false };
        let changed = self.streams.users.get(&id).is_some_and(|hot| hot.since_state > 0);
        if changed && !self.write_user_state(id, tidegate_ids::WallMs(0)) {
            return false;
        }
        self.streams.users.remove(&id);
        self.stats.count(Counter::Evictions);
        true
    }
}

fn fold_conversation(hot: &mut HotConversation, records: &[u8]) {
    let mut users: Vec<UserId> = Vec::new();
    for view in PackedRecords(records).iter() {
        let Some(sequenced) = Sequenced::read(&view) else { continue };
        hot.fold(&sequenced.fold(&view, &mut users), view.placement.prev);
    }
}

fn fold_user(hot: &mut HotUser, records: &[u8]) {
    for view in PackedRecords(records).iter() {
        if let Some(record) = read_user(&view) {
            hot.user.apply(&record);
            hot.since_state += 1;
        }
    }
}
