//! Cold streams become hot: the newest folded state, then what follows it. A command for a cold stream waits in a
//! bounded place; records for a cold user do not wait, they are appended to the stream unseen.

use crate::building::{BuildingUser, Folding, Next};
use crate::commit::Waiting;
use crate::counters::Counter;
use crate::event::ConnectionId;
use crate::limits::{
    EVICTIONS_PER_INSERTION, LEAVING_ENTRIES_PER_TURN, LEAVING_USERS_MAX, LOAD_BYTES_MAX,
    LOAD_ENTRIES_PER_TURN, STATE_ENTRIES_MAX, USER_RECORDS_PER_STATE,
};
use crate::output::ReadRequest;
use crate::reads::ReadPurpose;
use crate::records::Sequenced;
use crate::shard::{Shard, Turn};
use crate::state::{read_conversation, read_part};
use crate::streams::{HotConversation, HotUser};
use crate::table::{IdHash, IdMap};
use std::collections::VecDeque;
use tidegate_domain::{User, UserRecord};
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
    Conversation(Box<HotConversation>),
    User(Box<BuildingUser>),
}

impl Building {
    const fn mark_partial(&mut self) {
        match self {
            Self::Conversation(hot) => hot.is_partial = true,
            Self::User(user) => user.hot.is_partial = true,
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
    folding: Folding,
    /// Large users who have left memory, with what is not forgotten of them yet.
    leaving: Vec<User>,
}

impl Loads {
    pub(crate) fn new(hash: IdHash) -> Self {
        Self {
            loading: IdMap::with_hasher(hash),
            parked: 0,
            folding: Folding::default(),
            leaving: Vec::new(),
        }
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
            Some(StreamKind::Conversation(id)) => Building::Conversation(Box::new(HotConversation::new(id))),
            Some(StreamKind::User(id)) => Building::User(Box::new(BuildingUser::new(id))),
            _ => unreachable!("a shard's own stream is never loaded"),
        };
        self.loads.loading.insert(stream, Load { waiters, building });
        self.stats.count(Counter::Loads);
        let state = self.streams.locator(&stream).state;
        if state.is_none() && self.streams.locators.has_snapshot() {
            self.note_read(&stream, None);
            return self.read_elsewhere(ReadPurpose::LoadSnapshot(stream), ReadRequest::Snapshot { stream });
        }
        if state.is_none() {
            return self.load_more(stream, turn);
        }
        let spec = ReadSpec::Chain { stream, last: state, stop: Location::NONE, limit: PAGE_RECORDS_MAX };
        self.note_read(&stream, None);
        self.after_commit(Waiting::Read(ReadPurpose::LoadState(stream), spec));
    }

    /// A read of a user's stream is asked for.
    fn note_read(&mut self, stream: &StreamId, chain: Option<Location>) {
        if let Some(Building::User(user)) = self.building(stream) {
            user.reads(chain);
        }
    }

    fn building(&mut self, stream: &StreamId) -> Option<&mut Building> {
        self.loads.loading.get_mut(stream).map(|load| &mut load.building)
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
        self.begin_from(stream, &mut bytes, Location::NONE, turn);
        self.scratch = bytes;
    }

    /// The newest folded state cannot be read: folding begins further back, with the snapshot, or with the first record. A
    /// conversation has all its records; of a user, what was folded into that state is lost.
    pub(crate) fn on_state_lost(&mut self, stream: StreamId, turn: &mut Turn<'_>) {
        let has_snapshot = self.streams.locators.has_snapshot();
        let Some(building) = self.building(&stream) else { return };
        building.mark_partial();
        if has_snapshot {
            return self.read_elsewhere(ReadPurpose::LoadSnapshot(stream), ReadRequest::Snapshot { stream });
        }
        self.begin_from_nothing(stream, turn);
    }

    /// There is no folded state: what follows begins with the first record.
    fn begin_from_nothing(&mut self, stream: StreamId, turn: &mut Turn<'_>) {
        if let Some(Building::User(user)) = self.building(&stream) {
            user.has_nothing();
        }
        self.load_more(stream, turn);
    }

    /// The stream's entry in the snapshot has come, or that it has none.
    pub(crate) fn on_load_snapshot(
        &mut self,
        stream: StreamId,
        state: &mut Vec<u8>,
        end: &PageEnd,
        turn: &mut Turn<'_>,
    ) {
        match end.records {
            0 => self.begin_from_nothing(stream, turn),
            _ => {
                self.stats.count(Counter::SnapshotLoads);
                self.begin_from(stream, state, end.next, turn);
            }
        }
    }

    /// Goes on from a folded state that holds everything up to a record of the stream.
    fn begin_from(&mut self, stream: StreamId, state: &mut Vec<u8>, through: Location, turn: &mut Turn<'_>) {
        let Some(building) = self.building(&stream) else { return };
        let begun = match building {
            Building::Conversation(hot) => read_conversation(state).map(|(conversation, spine)| {
                hot.conversation = conversation;
                hot.spine = spine;
            }),
            Building::User(user) => user.take_state(state, through).then_some(()),
        };
        match begun {
            Some(()) => self.load_more(stream, turn),
            None => self.fail_load(stream, turn),
        }
    }

    /// Asks for what follows, or finishes.
    fn load_more(&mut self, stream: StreamId, turn: &mut Turn<'_>) {
        let locator = self.streams.locator(&stream);
        let Some(building) = self.building(&stream) else { return };
        let spec = match building {
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
            Building::User(_) => return self.fold_user(stream, turn),
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
        let Some(building) = self.building(&stream) else { return };
        if end.damaged > 0 {
            building.mark_partial();
        }
        match building {
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
            Building::User(user) => {
                let stop = user.folded();
                let goes_on = end.next > stop && end.next != Location::SNAPSHOT;
                let limited = end.records == PAGE_RECORDS_MAX && goes_on;
                user.take_page(records, limited);
                if limited {
                    let spec = ReadSpec::Chain { stream, last: end.next, stop, limit: PAGE_RECORDS_MAX };
                    return self.after_commit(Waiting::Read(ReadPurpose::LoadRecords(stream), spec));
                }
                self.fold_user(stream, turn);
            }
        }
    }

    /// Folds what was read of users' streams, so many entries a turn.
    pub(crate) fn run_loads(&mut self, turn: &mut Turn<'_>) -> bool {
        self.loads.folding.entries_left = LOAD_ENTRIES_PER_TURN;
        for _ in 0..self.loads.folding.queue.len() {
            let Some(stream) = self.loads.folding.queue.pop_front() else { break };
            self.fold_user(stream, turn);
        }
        !self.loads.folding.queue.is_empty() | self.forget_leaving()
    }

    /// Forgets a part of who has left. True if there is more.
    fn forget_leaving(&mut self) -> bool {
        let leaving = &mut self.loads.leaving;
        if leaving.last_mut().is_some_and(|user| user.forget_entries(LEAVING_ENTRIES_PER_TURN)) {
            leaving.pop();
        }
        !leaving.is_empty()
    }

    /// Large users who have left memory and are not forgotten yet.
    #[must_use]
    pub const fn leaving_users(&self) -> usize {
        self.loads.leaving.len()
    }

    /// Goes on with a user: folds what was read, asks for what follows, or finishes.
    fn fold_user(&mut self, stream: StreamId, turn: &mut Turn<'_>) {
        let before = self.loads.folding.entries_left;
        let mut left = before;
        let next = match self.building(&stream) {
            Some(Building::User(user)) => user.fold(&mut left),
            _ => return,
        };
        self.stats.add(Counter::LoadEntries, (before - left) as u64);
        self.loads.folding.entries_left = left;
        match next {
            Next::Wait => {}
            Next::Unreadable => self.fail_load(stream, turn),
            Next::Fold => self.loads.folding.queue.push_back(stream),
            Next::Folded(stop) => {
                let last = self.streams.locator(&stream).last;
                if last > stop {
                    self.note_read(&stream, Some(last));
                    let spec = ReadSpec::Chain { stream, last, stop, limit: PAGE_RECORDS_MAX };
                    self.after_commit(Waiting::Read(ReadPurpose::LoadRecords(stream), spec));
                    return;
                }
                // Room first: what is taken from `widened` is kept nowhere else after the log failed.
                let has_room = !self.streams.users.is_full() || self.evict_user();
                if !has_room || self.take_widened(&stream) {
                    self.finish_load(stream, turn);
                } else {
                    self.loads.folding.queue.push_back(stream);
                }
            }
        }
    }

    fn finish_load(&mut self, stream: StreamId, turn: &mut Turn<'_>) {
        let Some(load) = self.loads.loading.remove(&stream) else { return };
        let inserted = match load.building {
            Building::Conversation(hot) => self.insert_conversation(*hot, turn),
            Building::User(user) => self.insert_user(user.hot),
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

    /// Puts a conversation into the table of hot ones, evicting others if it is full, or if large groups among them
    /// hold too many stays.
    pub(crate) fn insert_conversation(&mut self, hot: HotConversation, turn: &mut Turn<'_>) -> bool {
        for _ in 0..EVICTIONS_PER_INSERTION {
            // A group is new before it has members, so the limit is passed by one until the next comes.
            let has_too_many_stays = self.streams.stays_with(&hot) > self.limits.hot_stays_max;
            if !has_too_many_stays && !self.streams.conversations.is_full() {
                break;
            }
            if !self.evict_conversation(turn.mesh, has_too_many_stays) {
                break;
            }
        }
        if self.streams.conversations.is_full() {
            return false;
        }
        self.streams.insert_conversation(hot);
        true
    }

    /// Puts a user into the table of hot ones, evicting another if it is full.
    pub(crate) fn insert_user(&mut self, hot: HotUser) -> bool {
        if self.streams.users.is_full() && !self.evict_user() {
            return false;
        }
        self.streams.users.insert(hot.user.id, hot);
        true
    }

    /// A hot user's ranges may be narrowed: what their stream covered while they were cold counts no more. After the log
    /// failed their stream lacks the newest, all of which is taken at once. False if there is more than this turn has
    /// entries for.
    fn take_widened(&mut self, stream: &StreamId) -> bool {
        let Self { loads, widened, latched, stats, .. } = self;
        let Loads { loading, folding, .. } = loads;
        let Some(Load { building: Building::User(user), .. }) = loading.get_mut(stream) else { return true };
        let hot = &mut user.hot.user;
        let lowest = (hot.id, ConversationId([0; 16]), None);
        while let Some((key, from)) = widened.range(lowest..).next() {
            let (key, from) = (*key, *from);
            let (of, conversation, except) = key;
            if of != hot.id {
                return true;
            }
            if folding.entries_left == 0 && !*latched {
                return false;
            }
            folding.entries_left = folding.entries_left.saturating_sub(1);
            stats.count(Counter::LoadEntries);
            if *latched {
                hot.apply(&UserRecord::WidenAll { except, conversation, from });
            }
            widened.remove(&key);
        }
        true
    }

    fn evict_user(&mut self) -> bool {
        let has_place = self.loads.leaving.len() < LEAVING_USERS_MAX;
        let is_large = |hot: &HotUser| hot.entries() > STATE_ENTRIES_MAX;
        let may_go = |hot: &HotUser| hot.sessions.is_empty() && (has_place || !is_large(hot));
        let Some(id) = self.streams.users.victim(may_go) else { return false };
        if self.needs_state(id) && !self.write_user_state(id) {
            return false;
        }
        let gone = self.streams.users.remove(&id);
        self.loads.leaving.extend(gone.filter(is_large).map(|hot| hot.user));
        self.stats.count(Counter::Evictions);
        true
    }

    /// Whether a user who leaves memory needs a state in the log. Who is away has everything in their stream, so it only
    /// spares the next load a long chain; a large one is left to the next snapshot, off this thread.
    fn needs_state(&self, id: UserId) -> bool {
        let Some(hot) = self.streams.users.get(&id) else { return false };
        // What the log was not told is in memory only.
        let only_here = self.latched || !self.owed.is_empty();
        let is_long = hot.since_state >= USER_RECORDS_PER_STATE && hot.entries() <= STATE_ENTRIES_MAX;
        is_long || (only_here && hot.since_state > 0)
    }
}

fn fold_conversation(hot: &mut HotConversation, records: &[u8]) {
    let mut users: Vec<UserId> = Vec::new();
    for view in PackedRecords(records).iter() {
        let Some(sequenced) = Sequenced::read(&view) else { continue };
        hot.fold(&sequenced.fold(&view, &mut users), view.placement.prev);
    }
}
