//! Log records of this room: what stands in a record's body, by kind. `docs/formats/log.md` lists the bytes.

use crate::bytes::{Reader, UserList, Writer};
use tidegate_domain::{Author, Change, QueueChange, Record, UserRecord};
use tidegate_ids::{
    ClientId, ConversationId, DeviceId, Location, LogId, Position, Sequence, ShardIndex, UserId,
};
use tidegate_schema::deliver::{self, Stamp};
use tidegate_storage_log::{RecordHead, RecordView};

/// What a record is; the number stands in its head and is never used again for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum RecordKind {
    Message = 1,
    Created = 2,
    Added = 3,
    Removed = 4,
    Left = 5,
    ConversationState = 16,
    DeviceRegistered = 32,
    DeviceRemoved = 33,
    DeviceSeen = 34,
    QueueWiden = 35,
    QueueSet = 36,
    QueueWidenAll = 37,
    UserJoined = 38,
    UserLeft = 39,
    UserState = 40,
    Checkpoint = 48,
}

impl RecordKind {
    pub(crate) fn of(head: &RecordHead) -> Option<Self> {
        const ALL: [RecordKind; 16] = [
            RecordKind::Message,
            RecordKind::Created,
            RecordKind::Added,
            RecordKind::Removed,
            RecordKind::Left,
            RecordKind::ConversationState,
            RecordKind::DeviceRegistered,
            RecordKind::DeviceRemoved,
            RecordKind::DeviceSeen,
            RecordKind::QueueWiden,
            RecordKind::QueueSet,
            RecordKind::QueueWidenAll,
            RecordKind::UserJoined,
            RecordKind::UserLeft,
            RecordKind::UserState,
            RecordKind::Checkpoint,
        ];
        ALL.into_iter().find(|kind| *kind as u16 == head.kind)
    }

    /// Whether the record takes a sequence of its conversation, and so is shipped.
    pub(crate) const fn is_sequenced(self) -> bool {
        matches!(self, Self::Message | Self::Created | Self::Added | Self::Removed | Self::Left)
    }

    /// Whether the record holds a stream's folded state.
    pub(crate) const fn is_state(self) -> bool {
        matches!(self, Self::ConversationState | Self::UserState)
    }
}

/// Flag in a record's head: the record counts as unread.
pub(crate) const FLAG_COUNTABLE: u8 = 1;

/// A sequenced record's body: stamp and message in stored form, then what only homes read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sequenced<'a> {
    pub(crate) kind: RecordKind,
    pub(crate) stamp: Stamp,
    /// As it is delivered.
    pub(crate) stored: &'a [u8],
    pub(crate) client_id: ClientId,
    pub(crate) users: UserList<'a>,
}

impl<'a> Sequenced<'a> {
    /// Reads a record of a conversation; `None` if it is not one, or has no body any more.
    pub(crate) fn read(record: &RecordView<'a>) -> Option<Self> {
        let kind = RecordKind::of(&record.head).filter(|kind| kind.is_sequenced())?;
        let (stored, stored_len) = deliver::read_stored(record.body).ok()?;
        let (delivered, rest) = record.body.split_at_checked(stored_len)?;
        let mut from = Reader(rest);
        let client_id = from.take()?;
        Some(Self { kind, stamp: stored.stamp, stored: delivered, client_id, users: UserList(from.0) })
    }

    pub(crate) const fn author(&self) -> Author {
        Author { user: self.stamp.sender, device: self.stamp.device }
    }

    /// Gives the record as the fold sees it; the list of users is copied out of its bytes into `users`.
    pub(crate) fn fold<'b>(&self, record: &RecordView<'_>, users: &'b mut Vec<UserId>) -> Record<'b> {
        users.clear();
        users.extend(self.users.iter());
        let change = match self.kind {
            RecordKind::Created => Change::Created { client_id: self.client_id, users },
            RecordKind::Added => Change::Added { users },
            RecordKind::Removed => Change::Removed { users },
            RecordKind::Left => Change::Left,
            _ => Change::Message { countable: record.head.flags & FLAG_COUNTABLE != 0 },
        };
        Record {
            sequence: record.head.sequence,
            time: record.head.time,
            author: self.author(),
            number: record.head.number,
            location: record.location,
            change,
        }
    }
}

/// Writes a user record's body; gives its kind.
pub(crate) fn write_user(record: &UserRecord, out: &mut Vec<u8>) -> RecordKind {
    out.clear();
    let mut to = Writer(out);
    match *record {
        UserRecord::Registered { device, time } => {
            to.put(device).put(time);
            RecordKind::DeviceRegistered
        }
        UserRecord::Removed { device } => {
            to.put(device);
            RecordKind::DeviceRemoved
        }
        UserRecord::Seen { device, time } => {
            to.put(device).put(time);
            RecordKind::DeviceSeen
        }
        UserRecord::Queue { device, change: QueueChange::Widen { conversation, from } } => {
            to.put(device).put(conversation).put(from);
            RecordKind::QueueWiden
        }
        UserRecord::Queue { device, change: QueueChange::Set { conversation, from } } => {
            to.put(device).put(conversation).put(from.unwrap_or(Sequence(0)));
            RecordKind::QueueSet
        }
        UserRecord::WidenAll { except, conversation, from } => {
            to.put(except.is_some()).put(except.unwrap_or_default()).put(conversation).put(from);
            RecordKind::QueueWidenAll
        }
        UserRecord::Joined { conversation, at } => {
            to.put(conversation).put(at);
            RecordKind::UserJoined
        }
        UserRecord::Left { conversation, at } => {
            to.put(conversation).put(at);
            RecordKind::UserLeft
        }
    }
}

/// Reads a user record; `None` for other kinds and for bytes that are none.
pub(crate) fn read_user(record: &RecordView<'_>) -> Option<UserRecord> {
    let mut from = Reader(record.body);
    Some(match RecordKind::of(&record.head)? {
        RecordKind::DeviceRegistered => UserRecord::Registered { device: from.take()?, time: from.take()? },
        RecordKind::DeviceRemoved => UserRecord::Removed { device: from.take()? },
        RecordKind::DeviceSeen => UserRecord::Seen { device: from.take()?, time: from.take()? },
        RecordKind::QueueWiden => UserRecord::Queue {
            device: from.take()?,
            change: QueueChange::Widen { conversation: from.take()?, from: from.take()? },
        },
        RecordKind::QueueSet => {
            let (device, conversation, at): (DeviceId, ConversationId, Sequence) =
                (from.take()?, from.take()?, from.take()?);
            let change = QueueChange::Set { conversation, from: (at.0 > 0).then_some(at) };
            UserRecord::Queue { device, change }
        }
        RecordKind::QueueWidenAll => {
            let (some, except): (bool, DeviceId) = (from.take()?, from.take()?);
            UserRecord::WidenAll {
                except: some.then_some(except),
                conversation: from.take()?,
                from: from.take()?,
            }
        }
        RecordKind::UserJoined => UserRecord::Joined { conversation: from.take()?, at: from.take()? },
        RecordKind::UserLeft => UserRecord::Left { conversation: from.take()?, at: from.take()? },
        _ => return None,
    })
}

/// Writes a checkpoint: per source log how far this shard has consumed it.
pub(crate) fn write_checkpoint(fed: impl Iterator<Item = (LogId, Position)>, out: &mut Vec<u8>) {
    out.clear();
    let mut to = Writer(out);
    for (log, position) in fed {
        to.put(log.epoch).put(log.shard.0).put(position);
    }
}

/// Reads a checkpoint.
pub(crate) fn read_checkpoint(body: &[u8]) -> Option<Vec<(LogId, Position)>> {
    let mut from = Reader(body);
    let mut fed = Vec::new();
    while !from.0.is_empty() {
        let log = LogId { epoch: from.take()?, shard: ShardIndex(from.take()?) };
        fed.push((log, from.take::<Location>()?));
    }
    Some(fed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_ids::WallMs;
    use tidegate_storage_log::Placement;

    fn check(record: UserRecord) {
        let mut body = Vec::new();
        let kind = write_user(&record, &mut body);
        let head = RecordHead { kind: kind as u16, body_len: body.len() as u32, ..RecordHead::default() };
        let view =
            RecordView { location: Location::NONE, placement: Placement::default(), head, body: &body };
        assert_eq!(read_user(&view), Some(record));
        let cut = RecordView { body: &body[..body.len() - 1], ..view };
        assert_eq!(read_user(&cut), None);
    }

    #[test]
    fn every_user_record_survives_its_bytes() {
        let (device, conversation) = (DeviceId(3), ConversationId([0x80; 16]));
        check(UserRecord::Registered { device, time: WallMs(5) });
        check(UserRecord::Removed { device });
        check(UserRecord::Seen { device, time: WallMs(6) });
        for change in [
            QueueChange::Widen { conversation, from: Sequence(4) },
            QueueChange::Set { conversation, from: Some(Sequence(4)) },
            QueueChange::Set { conversation, from: None },
        ] {
            check(UserRecord::Queue { device, change });
        }
        for except in [None, Some(device), Some(DeviceId(0))] {
            check(UserRecord::WidenAll { except, conversation, from: Sequence(9) });
        }
        check(UserRecord::Joined { conversation, at: Sequence(1) });
        check(UserRecord::Left { conversation, at: Sequence(2) });
    }

    #[test]
    fn a_checkpoint_survives_its_bytes() {
        let fed = [
            (LogId { epoch: 1, shard: ShardIndex(0) }, Location::new(3, 512)),
            (LogId { epoch: 2, shard: ShardIndex(4) }, Location::new(9, 1024)),
        ];
        let mut body = Vec::new();
        write_checkpoint(fed.into_iter(), &mut body);
        assert_eq!(read_checkpoint(&body), Some(fed.to_vec()));
        assert_eq!(read_checkpoint(&body[1..]), None);
    }
}
