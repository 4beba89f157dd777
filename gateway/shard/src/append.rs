//! What goes into the log, and which memory of it goes with it.

use crate::counters::Counter;
use crate::latch::Served;
use crate::limits::RECORDS_PER_STATE;
use crate::records::{FLAG_COUNTABLE, RecordKind, write_user};
use crate::shard::Shard;
use crate::state::{STATE_PART_BYTES, part_header, write_conversation, write_user_state};
use tidegate_domain::{Author, Change, Record, UserRecord, message_id};
use tidegate_ids::{
    ClientId, CommandNumber, ConversationId, Countable, Location, MessageId, Sequence, StreamId, UserId,
    WallMs,
};
use tidegate_schema::deliver::{self, Stamp};
use tidegate_storage_log::{AppendError, Links, NewRecord};

/// A command that was judged to be the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accepted<'a> {
    pub(crate) conversation: ConversationId,
    pub(crate) author: Author,
    pub(crate) number: CommandNumber,
    /// The device's record before.
    pub(crate) previous: Location,
    pub(crate) client_id: ClientId,
    pub(crate) change: Change<'a>,
    pub(crate) message: &'a [u8],
}

/// What the author is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) sequence: Sequence,
    pub(crate) message_id: MessageId,
    pub(crate) time: WallMs,
}

impl Shard {
    /// Appends a command to its conversation, which is hot, and folds it.
    pub(crate) fn append_command(
        &mut self,
        command: &Accepted<'_>,
        wall: WallMs,
    ) -> Result<Appended, AppendError> {
        let Self { log, streams, random, scratch, journal, .. } = self;
        let Some(hot) = streams.conversations.get_mut(&command.conversation) else {
            unreachable!("a command is appended to a hot conversation")
        };
        let conversation = &mut hot.conversation;
        let (kind, users): (RecordKind, &[UserId]) = match command.change {
            Change::Message { .. } => (RecordKind::Message, &[]),
            Change::Created { users, .. } => (RecordKind::Created, users),
            Change::Added { users } => (RecordKind::Added, users),
            Change::Removed { users } => (RecordKind::Removed, users),
            Change::Left => (RecordKind::Left, &[]),
        };
        let countable = matches!(command.change, Change::Message { countable: true });
        let stamp = Stamp {
            conversation: command.conversation,
            sequence: conversation.last.next(),
            countable: Countable(conversation.countable.0 + u64::from(countable)),
            message_id: message_id(conversation.stamp_time(wall), random),
            time: conversation.stamp_time(wall),
            sender: command.author.user,
            device: command.author.device,
            target: Sequence(0),
        };
        scratch.clear();
        deliver::write_stored(&stamp, command.message, scratch);
        scratch.extend_from_slice(&command.client_id.0);
        users.iter().for_each(|user| scratch.extend_from_slice(&user.0.to_le_bytes()));
        let stream = StreamId::conversation(command.conversation);
        let location = log.append(&NewRecord {
            stream,
            sequence: stamp.sequence,
            time: stamp.time,
            kind: kind as u16,
            flags: if countable { FLAG_COUNTABLE } else { 0 },
            number: command.number,
            device_prev: command.previous,
            links: hot.spine.links(),
            body_parts: &[scratch],
        })?;
        let record = Record {
            sequence: stamp.sequence,
            time: stamp.time,
            author: command.author,
            number: command.number,
            location,
            change: command.change,
        };
        let wants_state = hot.since_state + 1 >= RECORDS_PER_STATE;
        streams.apply(&command.conversation, &record);
        journal.note(log.appended_through(), stream, streams.known(&stream), true);
        streams.locate(&stream, |locator| (locator.last, locator.sequence) = (location, stamp.sequence));
        self.stats.count(Counter::CommandsAppended);
        if wants_state {
            self.write_conversation_state(&command.conversation);
        }
        Ok(Appended { sequence: stamp.sequence, message_id: stamp.message_id, time: stamp.time })
    }

    /// Appends a record to a user's stream, hot or cold, and folds it if hot and not folded by the caller.
    pub(crate) fn append_user(&mut self, user: UserId, record: UserRecord) {
        if self.latched {
            return;
        }
        if !self.owed.is_empty() || self.try_append_user(user, &record).is_err() {
            self.owed.push(user, record, self.no_segment);
        }
    }

    /// Appends what found no room, in order.
    pub(crate) fn append_owed(&mut self) {
        while let Some((user, record)) = self.owed.front() {
            if self.try_append_user(user, &record).is_err() {
                return;
            }
            self.owed.pop();
        }
    }

    /// Appends a record to a user's stream; nothing has changed if there is no room. It is stamped with the time of the turn,
    /// which retention counts from.
    pub(crate) fn try_append_user(&mut self, user: UserId, record: &UserRecord) -> Result<(), AppendError> {
        let stream = StreamId::user(user);
        let prev = self.streams.user_link(&stream);
        let kind = write_user(record, &mut self.scratch);
        let appended = self.log.append(&NewRecord {
            stream,
            time: self.last_wall,
            kind: kind as u16,
            links: Links { prev, jump: Location::NONE },
            body_parts: &[&self.scratch],
            ..NewRecord::default()
        });
        self.no_segment |= appended == Err(AppendError::NoSegment);
        let location = appended?;
        self.note_change(stream, record.is_served());
        self.streams.locate(&stream, |locator| {
            locator.last = location;
            locator.has_devices |= kind == RecordKind::DeviceRegistered;
        });
        if let Some(hot) = self.streams.users.get_mut(&user) {
            hot.since_state += 1;
        }
        self.stats.count(Counter::QueueRecords);
        Ok(())
    }

    /// Notes a stream's locator before it changes with the record that was appended last.
    fn note_change(&mut self, stream: StreamId, is_served: bool) {
        let before = self.streams.known(&stream);
        self.journal.note(self.log.appended_through(), stream, before, is_served);
    }

    /// Writes a conversation's folded state; false if there was no room, then nothing has changed. A failed log needs
    /// none: it has every record that was committed. Nor does one that could not be read whole.
    pub(crate) fn write_conversation_state(&mut self, id: &ConversationId) -> bool {
        if self.latched {
            return true;
        }
        let Some(hot) = self.streams.conversations.get(id) else { return false };
        if hot.is_partial {
            return true;
        }
        let (sequence, time) = (hot.conversation.last, hot.conversation.time);
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        write_conversation(&hot.conversation, &hot.spine, &mut bytes);
        let stream = StreamId::conversation(*id);
        let state = self.append_state(stream, RecordKind::ConversationState, sequence, time, &bytes);
        self.scratch = bytes;
        let Some(state) = state else { return false };
        self.note_change(stream, false);
        self.streams.locate(&stream, |locator| locator.state = state);
        if let Some(hot) = self.streams.conversations.get_mut(id) {
            hot.since_state = 0;
        }
        true
    }

    /// Writes a user's folded state; their chain of records starts anew behind it. After the log has failed, what only
    /// memory holds of their ranges is kept in memory.
    pub(crate) fn write_user_state(&mut self, id: UserId) -> bool {
        if self.latched {
            self.keep_ranges(id);
            return true;
        }
        let Some(hot) = self.streams.users.get(&id) else { return false };
        if hot.is_partial {
            return true;
        }
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        write_user_state(&hot.user, &mut bytes);
        let (stream, time) = (StreamId::user(id), self.last_wall);
        let state = self.append_state(stream, RecordKind::UserState, Sequence(0), time, &bytes);
        self.scratch = bytes;
        let Some(state) = state else { return false };
        self.note_change(stream, false);
        self.streams.locate(&stream, |locator| (locator.state, locator.last) = (state, Location::NONE));
        if let Some(hot) = self.streams.users.get_mut(&id) {
            hot.since_state = 0;
        }
        true
    }

    /// Appends a state's parts, each linked to the one before; the location of the last. Parts without their last one are
    /// never looked at.
    fn append_state(
        &mut self,
        stream: StreamId,
        kind: RecordKind,
        sequence: Sequence,
        time: WallMs,
        bytes: &[u8],
    ) -> Option<Location> {
        let count = bytes.len().div_ceil(STATE_PART_BYTES).max(1);
        let mut prev = Location::NONE;
        for index in 0..count {
            let end = bytes.len().min((index + 1) * STATE_PART_BYTES);
            let header = part_header(index, count);
            let record = NewRecord {
                stream,
                sequence,
                time,
                kind: kind as u16,
                links: Links { prev, jump: Location::NONE },
                body_parts: &[&header, &bytes[index * STATE_PART_BYTES..end]],
                ..NewRecord::default()
            };
            prev = self.log.append(&record).ok()?;
        }
        self.stats.count(Counter::States);
        Some(prev)
    }
}
