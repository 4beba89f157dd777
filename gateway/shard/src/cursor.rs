//! Fan-out without a queue: a cursor per target over this shard's own committed log.
//!
//! A full ring is a lagging cursor. A cursor that falls behind what staging holds reads the log again, so that staging
//! never waits for a peer: a peer that waits for its own staging could wait for ours.

use crate::bytes::UserList;
use crate::counters::{Counter, ShardStats};
use crate::limits::{COLD_RETRY_NS, CURSOR_RECORDS_PER_TURN, LOAD_BYTES_MAX, ShardLimits};
use crate::mesh_frame::{Effect, Outcome, Recipients, Shipped, Stays, write_stay};
use crate::output::ReadRequest;
use crate::port::{Lane, MeshPort};
use crate::reads::ReadPurpose;
use crate::records::{RecordKind, Sequenced};
use crate::shard::{Shard, Turn};
use crate::streams::{HotConversation, Streams, large_stays};
use tidegate_domain::Route;
use tidegate_ids::{
    ConversationId, ConversationKind, Location, LogId, MonotonicNs, Position, Sequence, ShardIndex, StreamId,
    UserId,
};
use tidegate_storage_log::{Appender, PackedRecords, PageEnd, RecordView};

/// Stays of one slice frame: 6 KiB, so that the smallest rings take it.
const STAYS_PER_FRAME: usize = 256;

/// What a segment between two positions counts as: more than any lag that is waited for.
const SEGMENT_LAG_BYTES: u64 = 64 * 1024 * 1024;

#[derive(Debug)]
struct Cursor {
    position: Position,
    /// What the target was told by a bare position.
    told: Position,
    /// Records read from the log, and how many bytes of them are done.
    chunk: Option<(Vec<u8>, usize, Position)>,
    reading: bool,
    /// The conversation it waits for, and since when: cold only after the log has failed.
    cold: Option<(StreamId, MonotonicNs)>,
}

/// A cursor per target, and memory for what they write.
#[derive(Debug)]
pub(crate) struct Cursors {
    cursors: Vec<Cursor>,
    pub(crate) shipping: Shipping,
}

/// Buffers for one shipped frame.
#[derive(Debug, Default)]
pub(crate) struct Shipping {
    users: Vec<u8>,
    fixed: Vec<u8>,
}

/// What became of a record on its way to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ship {
    /// It is in the ring.
    Sent,
    /// Nobody there is owed it.
    Nobody,
    /// The ring is full.
    NoRoom,
    /// Its conversation is cold.
    Cold,
}

impl Cursors {
    pub(crate) fn new(shards: u16, start: Position) -> Self {
        let cursor = |_| Cursor { position: start, told: start, chunk: None, reading: false, cold: None };
        Self { cursors: (0..shards).map(cursor).collect(), shipping: Shipping::default() }
    }

    /// Everything before this was shipped to everyone.
    pub(crate) fn slowest(&self) -> Position {
        self.cursors.iter().map(|cursor| cursor.position).min().unwrap_or_default()
    }

    /// Whether every cursor is at the last commit.
    pub(crate) fn are_done(&self, log: &Appender) -> bool {
        self.slowest() >= log.committed_end()
    }

    pub(crate) fn lag_bytes(&self, log: &Appender) -> u64 {
        lag_bytes(self.slowest(), log.committed_end())
    }
}

/// About how far apart two positions of one log are; segments between count as one each.
fn lag_bytes(from: Position, to: Position) -> u64 {
    if from.segment == to.segment {
        return u64::from(to.offset.saturating_sub(from.offset));
    }
    u64::from(to.offset) + SEGMENT_LAG_BYTES * u64::from(to.segment.saturating_sub(from.segment))
}

/// What shipping needs of a shard, beside the log that is being read.
pub(crate) struct Shipper<'a> {
    pub(crate) streams: &'a mut Streams,
    pub(crate) route: Route,
    pub(crate) limits: &'a ShardLimits,
    pub(crate) shipping: &'a mut Shipping,
    pub(crate) stats: &'a mut ShardStats,
    pub(crate) mesh: &'a mut dyn MeshPort,
}

impl Shipper<'_> {
    /// Ships one record to one target, if somebody there is owed it.
    pub(crate) fn ship(&mut self, record: &RecordView<'_>, position: Position, target: ShardIndex) -> Ship {
        let Some(sequenced) = Sequenced::read(record) else { return Ship::Nobody };
        let conversation = sequenced.stamp.conversation;
        let Some(hot) = self.streams.conversations.get_mut(&conversation) else { return Ship::Cold };
        let sequence = record.head.sequence;
        let group = conversation.is_group();
        hot.sliced |= group && hot.conversation.membership.current_count() > self.limits.listed_members_max;
        if hot.sliced {
            let has_slice = hot.slices_sent & (1 << target.0) != 0;
            if !has_slice && !send_slice(hot, target, self.route, self.shipping, self.mesh) {
                return Ship::NoRoom;
            }
        }
        let Shipping { users, fixed } = &mut *self.shipping;
        users.clear();
        if !hot.sliced {
            list_recipients(hot, sequence, target, self.route, users);
            if users.is_empty() {
                return Ship::Nobody;
            }
        }
        let recipients = if hot.sliced { Recipients::Sliced } else { Recipients::Listed(UserList(users)) };
        let author = sequenced.author();
        let (mut both, alone) = ([0; 16], author.user.0.to_le_bytes());
        let effect = effect_of(&sequenced, &conversation, sequence, &mut both, &alone);
        let stored = sequenced.stored;
        let shipped = Shipped { position, conversation, sequence, author, recipients, effect, stored };
        let rest = Outcome::Record(shipped).encode(fixed);
        if self.mesh.push(target, Lane::Results, &[fixed, rest]) {
            self.stats.count(Counter::Shipped);
            Ship::Sent
        } else {
            Ship::NoRoom
        }
    }
}

/// Writes the recipients of a record that live on a shard.
fn list_recipients(
    hot: &HotConversation,
    sequence: Sequence,
    target: ShardIndex,
    route: Route,
    users: &mut Vec<u8>,
) {
    let mut list = |user: UserId| {
        if route.user(user) == target {
            users.extend_from_slice(&user.0.to_le_bytes());
        }
    };
    match hot.conversation.id.kind() {
        Some(ConversationKind::Direct(low, high)) => {
            list(low);
            if high != low {
                list(high);
            }
        }
        _ => hot.conversation.membership.recipients(sequence).for_each(list),
    }
}

/// Whose list of conversations a record changes. The first message of a direct conversation puts it into both lists.
fn effect_of<'a>(
    sequenced: &Sequenced<'a>,
    conversation: &ConversationId,
    sequence: Sequence,
    both: &'a mut [u8; 16],
    alone: &'a [u8; 8],
) -> Effect<'a> {
    match (sequenced.kind, conversation.kind()) {
        (RecordKind::Created | RecordKind::Added, _) => Effect::Joined(sequenced.users),
        (RecordKind::Removed, _) => Effect::Left(sequenced.users),
        (RecordKind::Left, _) => Effect::Left(UserList(alone)),
        (_, Some(ConversationKind::Direct(low, high))) if sequence == Sequence::FIRST => {
            both[..8].copy_from_slice(&low.0.to_le_bytes());
            both[8..].copy_from_slice(&high.0.to_le_bytes());
            Effect::Joined(UserList(both))
        }
        _ => Effect::None,
    }
}

/// Copies a group's stays of one shard's users to it. False if the ring is full: the next try begins anew.
fn send_slice(
    hot: &mut HotConversation,
    target: ShardIndex,
    route: Route,
    shipping: &mut Shipping,
    mesh: &mut dyn MeshPort,
) -> bool {
    let Shipping { users, fixed } = shipping;
    let conversation = hot.conversation.id;
    let mut first = true;
    let mut count = 0;
    users.clear();
    let mut send = |users: &mut Vec<u8>, first: bool| {
        let rest = Outcome::Slice { conversation, first, stays: Stays(users) }.encode(fixed);
        let sent = mesh.push(target, Lane::Results, &[fixed, rest]);
        users.clear();
        sent
    };
    for stay in hot.conversation.membership.stays() {
        if route.user(stay.user) != target {
            continue;
        }
        write_stay(users, stay);
        count += 1;
        if count % STAYS_PER_FRAME == 0 {
            if !send(users, first) {
                return false;
            }
            first = false;
        }
    }
    if (first || !users.is_empty()) && !send(users, first) {
        return false;
    }
    hot.slices_sent |= 1 << target.0;
    true
}

impl Shard {
    /// Moves every cursor on within its budget; true if one stopped for its budget.
    pub(crate) fn run_cursors(&mut self, turn: &mut Turn<'_>) -> bool {
        let mut more = false;
        for target in 0..self.cursors.cursors.len() {
            more |= self.run_cursor(target, turn);
        }
        let slowest = self.cursors.slowest();
        let end = self.log.committed_end();
        let lagging = lag_bytes(slowest, end) > self.limits.cursor_lag_bytes_max;
        self.log.release(if lagging { end } else { slowest });
        more
    }

    fn run_cursor(&mut self, target: usize, turn: &mut Turn<'_>) -> bool {
        let end = self.log.committed_end();
        let cursor = &self.cursors.cursors[target];
        if cursor.position >= end || cursor.reading {
            return false;
        }
        if cursor.chunk.is_some() {
            return self.run_chunk(target, turn);
        }
        if cursor.position < self.log.staging_start() {
            self.read_for_cursor(target, end);
            return false;
        }
        let Self { log, streams, route, limits, cursors, stats, .. } = self;
        let Cursors { cursors, shipping } = cursors;
        let cursor = &mut cursors[target];
        let mut shipper = Shipper { streams, route: *route, limits, shipping, stats, mesh: turn.mesh };
        let mut records = log.committed(cursor.position);
        let mut cold = None;
        for _ in 0..CURSOR_RECORDS_PER_TURN {
            let Some(record) = records.next() else { break };
            match shipper.ship(&record, record.location, ShardIndex(target as u16)) {
                Ship::NoRoom => {
                    shipper.stats.count(Counter::CursorLagging);
                    return false;
                }
                Ship::Cold => {
                    cold = Some(record.head.stream);
                    break;
                }
                Ship::Sent | Ship::Nobody => cursor.position = records.position(),
            }
        }
        if let Some(stream) = cold {
            self.wait_for_cold(target, stream, turn);
            return false;
        }
        let done = records.next().is_none();
        if done {
            cursor.position = end;
        }
        !done
    }

    /// A record's conversation was dropped when the log failed: it is folded again up to the last commit.
    fn wait_for_cold(&mut self, target: usize, stream: StreamId, turn: &mut Turn<'_>) {
        assert!(self.latched, "a conversation stays hot until its records are shipped");
        let now = turn.now.monotonic;
        let cursor = &mut self.cursors.cursors[target];
        let waits =
            |(other, since): (StreamId, MonotonicNs)| other == stream && now.since(since) < COLD_RETRY_NS;
        if cursor.cold.is_some_and(waits) {
            return;
        }
        cursor.cold = Some((stream, now));
        self.begin_load(stream, turn);
    }

    fn read_for_cursor(&mut self, target: usize, to: Position) {
        let cursor = &mut self.cursors.cursors[target];
        cursor.reading = true;
        let from = cursor.position;
        let log = LogId { epoch: self.boot.epoch(), shard: self.index };
        self.stats.count(Counter::CursorReads);
        let request = ReadRequest::Scan { log, from, to, bytes_max: LOAD_BYTES_MAX };
        self.read_elsewhere(ReadPurpose::Cursor(ShardIndex(target as u16)), request);
    }

    pub(crate) fn on_cursor_chunk(&mut self, target: ShardIndex, records: &[u8], end: &PageEnd) {
        let cursor = &mut self.cursors.cursors[usize::from(target.0)];
        cursor.reading = false;
        cursor.chunk = Some((records.to_vec(), 0, end.next));
    }

    /// Ships from a chunk that was read.
    fn run_chunk(&mut self, target: usize, turn: &mut Turn<'_>) -> bool {
        let Self { streams, route, limits, cursors, stats, .. } = self;
        let Cursors { cursors, shipping } = cursors;
        let cursor = &mut cursors[target];
        let Some((records, done, next)) = cursor.chunk.take() else { return false };
        let mut shipper = Shipper { streams, route: *route, limits, shipping, stats, mesh: turn.mesh };
        let mut rest = PackedRecords(&records[done..]).iter();
        for shipped in 0.. {
            let done = records.len() - rest.rest_bytes();
            if shipped == CURSOR_RECORDS_PER_TURN {
                cursor.chunk = Some((records, done, next));
                return true;
            }
            let Some(record) = rest.next() else { break };
            let ship = shipper.ship(&record, record.location, ShardIndex(target as u16));
            if ship == Ship::NoRoom {
                shipper.stats.count(Counter::CursorLagging);
                cursor.chunk = Some((records, done, next));
                return false;
            }
            if ship == Ship::Cold {
                let stream = record.head.stream;
                cursor.chunk = Some((records, done, next));
                self.wait_for_cold(target, stream, turn);
                return false;
            }
            cursor.position = Location::new(record.location.segment, record.location.offset + 1);
        }
        cursor.position = next;
        true
    }

    /// Once a second: tells targets how far an idle cursor has come, so that their checkpoints move on.
    pub(crate) fn tell_positions(&mut self, turn: &mut Turn<'_>) {
        let end = self.log.committed_end();
        for (target, cursor) in self.cursors.cursors.iter_mut().enumerate() {
            if cursor.position < end || cursor.told == cursor.position {
                continue;
            }
            Outcome::Position(cursor.position).encode(&mut self.scratch);
            if turn.mesh.push(ShardIndex(target as u16), Lane::Results, &[&self.scratch]) {
                cursor.told = cursor.position;
            }
        }
    }

    /// Evicts a conversation whose records are shipped; its slices are dropped with it. `is_large`: one of the large groups.
    pub(crate) fn evict_conversation(&mut self, mesh: &mut dyn MeshPort, is_large: bool) -> bool {
        let slowest = self.cursors.slowest();
        let boot = &self.boot;
        let shipped = |last: Location| last < slowest || boot.is_before(last);
        let listed_max = self.limits.listed_members_max;
        let fits = |hot: &HotConversation| !is_large || large_stays(&hot.conversation, listed_max) > 0;
        let victim = self.streams.conversations.victim(|hot| shipped(hot.spine.last()) && fits(hot));
        let Some(id) = victim else { return false };
        let Some(hot) = self.streams.conversations.get(&id) else { return false };
        let (changed, slices) = (hot.since_state > 0, hot.slices_sent);
        Outcome::SliceDrop { conversation: id }.encode(&mut self.scratch);
        let bytes = self.scratch.len();
        let shards = self.route.shards();
        let targets = || (0..shards).map(ShardIndex).filter(|target| slices & (1 << target.0) != 0);
        if !targets().all(|target| mesh.has_room(target, Lane::Results, bytes)) {
            return false;
        }
        if changed {
            // Without room for it the conversation goes all the same: its next load only reads more.
            self.write_conversation_state(&id);
        }
        Outcome::SliceDrop { conversation: id }.encode(&mut self.scratch);
        for target in targets() {
            let pushed = mesh.push(target, Lane::Results, &[&self.scratch]);
            assert!(pushed, "there was room");
        }
        self.streams.remove_conversation(&id);
        self.stats.count(Counter::Evictions);
        true
    }
}
