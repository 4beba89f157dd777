//! A user's home: what comes from conversations' homes is pushed to devices, or opens a range.

use crate::bytes::UserList;
use crate::counters::Counter;
use crate::event::ConnectionId;
use crate::limits::WIDENED_MAX;
use crate::mesh_frame::{Effect, Origin, Outcome, Recipients, ReplyClass, Request, Shipped, Stays};
use crate::port::Lane;
use crate::shard::{Shard, Turn};
use crate::streams::HotUser;
use tidegate_domain::{Announcement, Answer, Consumed, Membership, QueueChange, UserRecord, WindowEntry};
use tidegate_ids::{
    ConversationId, DeviceId, MonotonicNs, Position, PushNumber, Sequence, ShardIndex, UserId,
};
use tidegate_schema::deliver::{self, PREFIX};
use tidegate_schema::{Dirty, DrainDone, FLAG_NUMBERED, limits::HEADER_BYTES};
use tidegate_ws::{Opcode, encode};

/// Bytes of a push that holds a record's stored form, as they count for the credit.
const fn push_bytes(stored_len: usize) -> usize {
    HEADER_BYTES + PREFIX.len() + stored_len
}

/// Writes a push: one WebSocket message with one `Deliver` frame.
fn write_push(out: &mut Vec<u8>, number: PushNumber, stored: &[u8]) {
    out.extend_from_slice(&encode::header(Opcode::Binary, true, push_bytes(stored.len()), None));
    out.extend_from_slice(&deliver::frame_header(number, stored.len()));
    out.extend_from_slice(&PREFIX);
    out.extend_from_slice(stored);
}

impl Shard {
    /// Takes one result. Consuming it never waits for room in a ring nor for a commit.
    pub(crate) fn on_result(&mut self, from: ShardIndex, frame: &[u8], turn: &mut Turn<'_>) {
        let Some(outcome) = Outcome::decode(frame) else {
            unreachable!("both ends of the mesh are this process")
        };
        match outcome {
            Outcome::Record(shipped) => self.on_record(from, &shipped, frame),
            Outcome::Slice { conversation, first, stays } => self.on_slice(conversation, first, &stays),
            Outcome::SliceDrop { conversation } => {
                self.slices.remove(&conversation);
            }
            Outcome::Position(position) => self.checkpoint.passed(from, position),
            Outcome::RefeedDone => self.boot.refeed_done(),
            Outcome::Reply { origin, class, frame } => self.on_reply(&origin, class, frame),
            Outcome::Answer { origin, answer, dirty, records } => {
                self.on_answer(&origin, &answer, dirty, records, turn.now.monotonic);
            }
            Outcome::Row { origin, conversation, row } => self.on_row(&origin, conversation, row, turn),
        }
    }

    fn on_record(&mut self, from: ShardIndex, shipped: &Shipped<'_>, frame: &[u8]) {
        match shipped.effect {
            Effect::None => {}
            Effect::Joined(users) => self.change_lists(users, shipped, true),
            Effect::Left(users) => self.change_lists(users, shipped, false),
        }
        match shipped.recipients {
            Recipients::Sliced => self.begin_walk(from, shipped, frame),
            Recipients::Listed(users) => {
                users.iter().for_each(|user| self.deliver(user, shipped));
                self.checkpoint.consumed(from, shipped.position_after());
            }
        }
    }

    /// Notes in users' streams that they came or went: appended without loading, folded where hot.
    fn change_lists(&mut self, users: UserList<'_>, shipped: &Shipped<'_>, joined: bool) {
        if self.latched {
            // The list is told as it is in the log. The next start feeds this record again.
            return;
        }
        let (conversation, at) = (shipped.conversation, shipped.sequence);
        for user in users.iter() {
            if self.route.user(user) != self.index {
                continue;
            }
            let record = if joined {
                UserRecord::Joined { conversation, at }
            } else {
                UserRecord::Left { conversation, at }
            };
            if let Some(hot) = self.streams.users.get_mut(&user) {
                hot.user.apply(&record);
            }
            self.append_user(user, record);
        }
    }

    /// Gives a record to every device of a user but its author.
    pub(crate) fn deliver(&mut self, user: UserId, shipped: &Shipped<'_>) {
        let except = (shipped.author.user == user).then_some(shipped.author.device);
        let (conversation, sequence) = (shipped.conversation, shipped.sequence);
        if !self.streams.users.contains(&user) {
            return self.widen_cold(user, except, conversation, sequence);
        }
        let Self { streams, window_pool, connections, stats, .. } = self;
        let Some(hot) = streams.users.get_mut(&user) else { return };
        let bytes = push_bytes(shipped.stored.len()) as u32;
        let entry = WindowEntry { conversation, sequence, bytes };
        let mut told: [Option<(DeviceId, QueueChange)>; tidegate_domain::DEVICES_PER_USER_MAX] =
            Default::default();
        let HotUser { user: folded, sessions, .. } = hot;
        for (place, device) in folded.devices.iter_mut().enumerate() {
            if Some(device.id) == except {
                continue;
            }
            let durable = &mut told[place];
            let tell = |change| *durable = Some((device.id, change));
            match device.queue.consume(entry, window_pool, tell) {
                Consumed::Push(number) => {
                    let session = sessions.iter().find(|session| session.device == device.id);
                    let out = session.and_then(|session| connections.writer(session.connection));
                    if let Some(out) = out {
                        write_push(out, number, shipped.stored);
                        stats.count(Counter::Pushed);
                        stats.count(Counter::FramesSent);
                    }
                }
                Consumed::Queued => {
                    if device.queue.is_connected() && !device.queue.window().has_credit(window_pool) {
                        stats.count(Counter::WithoutCredit);
                    }
                    let session = sessions.iter_mut().find(|session| session.device == device.id);
                    if let Some(session) = session.filter(|session| !session.ask_queued) {
                        session.ask_queued = true;
                        self.asks.push_back((user, device.id));
                    }
                }
            }
        }
        for (device, change) in told.into_iter().flatten() {
            self.append_user(user, UserRecord::Queue { device, change });
        }
    }

    /// Opens a range for a user who is not in memory, unless their stream has one that covers it: told once per conversation,
    /// not once per message, so a queue is bounded by conversations also while its user is cold.
    fn widen_cold(
        &mut self,
        user: UserId,
        except: Option<DeviceId>,
        conversation: ConversationId,
        from: Sequence,
    ) {
        if !self.streams.may_have_devices(user) {
            return;
        }
        let key = (user, conversation, except);
        if self.widened.get(&key).is_some_and(|lowest| *lowest <= from) {
            return;
        }
        if self.latched {
            // Nothing can be appended: this is all that knows of it until the next start feeds it again.
            return self.keep_range(key, from);
        }
        if self.widened.len() >= WIDENED_MAX {
            self.widened.clear();
        }
        self.widened.insert(key, from);
        self.append_user(user, UserRecord::WidenAll { except, conversation, from });
    }

    fn on_slice(&mut self, conversation: ConversationId, first: bool, stays: &Stays<'_>) {
        if first {
            self.slices.insert(conversation, Membership::default());
            self.stats.count(Counter::Slices);
        }
        let Some(slice) = self.slices.get_mut(&conversation) else {
            unreachable!("a slice's first part comes first")
        };
        stays.iter().for_each(|stay| slice.adopt(stay));
    }

    /// The session of an origin, if its generation is the present one.
    fn session_of(&mut self, origin: &Origin) -> Option<ConnectionId> {
        let session = self.streams.users.get(&origin.user).and_then(|hot| hot.session(origin.device));
        let current = session.filter(|session| session.generation == origin.generation);
        if current.is_none() {
            self.stats.count(Counter::StaleGenerations);
        }
        current.map(|session| session.connection)
    }

    fn on_reply(&mut self, origin: &Origin, class: ReplyClass, frame: &[u8]) {
        let Some(id) = self.session_of(origin) else { return };
        if let Some(connection) = self.connections.get_mut(id) {
            match class {
                ReplyClass::Command => connection.unanswered = connection.unanswered.saturating_sub(1),
                ReplyClass::Range => {
                    connection.ranges_in_flight = connection.ranges_in_flight.saturating_sub(1);
                }
            }
        }
        self.write_frame(id, frame);
    }

    /// Sends one frame as a WebSocket message of its own.
    pub(crate) fn write_frame(&mut self, id: ConnectionId, frame: &[u8]) {
        if let Some(out) = self.connections.writer(id) {
            encode::binary(out, frame, None);
            self.stats.count(Counter::FramesSent);
        }
    }

    /// A piece of a range has come.
    fn on_answer(&mut self, origin: &Origin, answer: &Answer, dirty: bool, records: &[u8], now: MonotonicNs) {
        let Some(id) = self.session_of(origin) else { return };
        let Self { streams, window_pool, connections, stats, encoder, scratch, .. } = self;
        let hot = streams.users.get_mut(&origin.user);
        let Some(device) = hot.and_then(|hot| hot.user.devices.get_mut(origin.device)) else { return };
        let queue = &mut device.queue;
        queue.answered();
        let mut change: Option<QueueChange> = None;
        if queue.accepts(answer) && dirty {
            scratch.clear();
            let body = Dirty {
                conversation: answer.conversation,
                from: answer.from,
                head: answer.covered,
                mentions: 0,
            };
            match queue.push_dirty(answer, HEADER_BYTES as u32, window_pool, now) {
                Announcement::Push(number) => {
                    encoder.frame(scratch, number.0, FLAG_NUMBERED, &body);
                    if let Some(out) = connections.writer(id) {
                        encode::binary(out, scratch, None);
                    }
                    stats.count(Counter::Dirty);
                }
                Announcement::Held => stats.count(Counter::RangesHeld),
                Announcement::Nothing => {}
            }
        } else if queue.accepts(answer) {
            let mut rest = records;
            let mut cut = false;
            while let Ok((stored, len)) = deliver::read_stored(rest) {
                let (bytes, after) = rest.split_at(len);
                rest = after;
                let stamp = &stored.stamp;
                let own = stamp.sender == origin.user && stamp.device == origin.device;
                let (conversation, sequence) = (answer.conversation, stamp.sequence);
                let entry = WindowEntry { conversation, sequence, bytes: push_bytes(len) as u32 };
                match queue.push_answered(entry, own, window_pool) {
                    Ok(None) => {}
                    Ok(Some(push)) => {
                        if let Some(out) = connections.writer(id) {
                            write_push(out, push.number, bytes);
                            stats.count(Counter::Pushed);
                            stats.count(Counter::FramesSent);
                        }
                    }
                    Err(_) => {
                        cut = true;
                        break;
                    }
                }
            }
            let tell = |told| change = Some(told);
            if cut {
                queue.cut_answer(answer, window_pool, tell);
            } else {
                queue.finish_answer(answer, window_pool, tell);
            }
        }
        if let Some(change) = change {
            self.append_user(origin.user, UserRecord::Queue { device: origin.device, change });
        }
        self.queue_ask(origin.user, origin.device);
    }

    /// Notes that a device may have something to ask for.
    pub(crate) fn queue_ask(&mut self, user: UserId, device: DeviceId) {
        let session = self.streams.users.get_mut(&user).and_then(|hot| hot.session_mut(device));
        if let Some(session) = session.filter(|session| !session.ask_queued) {
            session.ask_queued = true;
            self.asks.push_back((user, device));
        }
    }

    /// Asks for the next pieces of ranges: computed from state; a request that finds no room leaves it as it was.
    pub(crate) fn run_asks(&mut self, turn: &mut Turn<'_>) {
        for _ in 0..self.asks.len() {
            let Some((user, device)) = self.asks.pop_front() else { return };
            let Some(hot) = self.streams.users.get_mut(&user) else { continue };
            let Some(session) = hot.session_mut(device) else { continue };
            session.ask_queued = false;
            let (generation, connection) = (session.generation, session.connection);
            let Some(queue) = hot.user.devices.get_mut(device).map(|device| &mut device.queue) else {
                continue;
            };
            let ask = queue.next_ask(&self.window_pool, turn.now.monotonic);
            if let Some(due) = queue.held_until() {
                self.held.note(user, device, due);
            }
            let Some(ask) = ask else {
                if queue.take_drain_done() {
                    self.write_drain_done(connection);
                }
                continue;
            };
            let origin = Origin { user, device, generation, ..Origin::default() };
            let request = Request::Drain { origin, conversation: ask.conversation, from: ask.from };
            request.encode(&mut self.scratch);
            let home = self.route.conversation(&ask.conversation);
            if turn.mesh.push(home, Lane::Requests, &[&self.scratch]) {
                queue.asked(&ask);
                self.stats.count(Counter::Asked);
            } else {
                self.queue_ask(user, device);
            }
        }
    }

    fn write_drain_done(&mut self, id: ConnectionId) {
        let mut frame = std::mem::take(&mut self.scratch);
        frame.clear();
        self.encoder.frame(&mut frame, 0, 0, &DrainDone);
        self.write_frame(id, &frame);
        self.scratch = frame;
    }
}

impl Shipped<'_> {
    /// Everything up to and with this record.
    pub(crate) const fn position_after(&self) -> Position {
        Position { segment: self.position.segment, offset: self.position.offset + 1 }
    }
}
