//! The fold of streams into a snapshot: the same `apply` as live and as in a load (DESIGN 1.2).
//!
//! A conversation's records are folded without their messages, so that a merge sorts little. A user's state is made to fit
//! into an entry (decision 0021), a conversation's always does.

use crate::bytes::{Reader, UserList, Writer};
use crate::limits::{FOLDING_STATES, LARGE_USERS_NAMED_MAX};
use crate::records::{FLAG_COUNTABLE, RecordKind, Sequenced, read_user};
use crate::state::{
    USER_STATE_BYTES, read_conversation, read_part, read_user_state, write_conversation, write_user_state,
};
use crate::streams::HotConversation;
use tidegate_domain::{Author, Change, GivenUp, Record, User, virtual_shard};
use tidegate_ids::{Location, Sequence, StreamId, StreamKind, UserId, VirtualShard};
use tidegate_storage_log::limits::SNAPSHOT_STATE_BYTES_MAX;
use tidegate_storage_log::{Fold, RecordHead, RecordView};

/// Stands for the kind of a record where a conversation is known to have gone further than its sound records.
const LOST: u16 = u16::MAX;

/// Folds streams for snapshots.
#[derive(Debug)]
pub struct StreamFold {
    folding: Option<Folding>,
    /// Parts of a folded state that is not whole yet.
    parts: Vec<u8>,
    users: Vec<UserId>,
    /// A user's state may be as large.
    user_state_bytes_max: usize,
    large: LargeUsers,
}

/// Users whose states would have been larger than an entry holds, and what they gave up for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LargeUsers {
    /// How many there were.
    pub users: u64,
    /// Devices that have to synchronise from heads.
    pub devices: u64,
    /// Ranges that their queues had.
    pub ranges: u64,
    /// Conversations that are not listed any more.
    pub conversations: u64,
    /// The first of these users, each with what they gave up: 100 at most.
    pub named: Vec<(UserId, GivenUp)>,
}

impl LargeUsers {
    fn add(&mut self, user: UserId, given_up: GivenUp) {
        self.users += 1;
        self.devices += given_up.devices.len() as u64;
        self.ranges += given_up.ranges as u64;
        self.conversations += given_up.conversations as u64;
        if self.named.len() < LARGE_USERS_NAMED_MAX {
            self.named.push((user, given_up));
        }
    }
}

#[derive(Debug)]
enum Folding {
    Conversation(Box<HotConversation>),
    User(Box<User>, GivenUp),
}

impl Default for StreamFold {
    fn default() -> Self {
        Self::new()
    }
}

impl Folding {
    fn new(stream: &StreamId) -> Option<Self> {
        match stream.kind()? {
            StreamKind::Conversation(id) => Some(Self::Conversation(Box::new(HotConversation::new(id)))),
            StreamKind::User(id) => Some(Self::User(Box::new(User::new(id)), GivenUp::default())),
            _ => None,
        }
    }
}

impl StreamFold {
    /// A fold that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self::with_user_state_bytes_max(SNAPSHOT_STATE_BYTES_MAX)
    }

    /// A fold whose users have smaller states than an entry holds, for tests.
    #[must_use]
    pub fn with_user_state_bytes_max(user_state_bytes_max: usize) -> Self {
        assert!(user_state_bytes_max <= SNAPSHOT_STATE_BYTES_MAX, "an entry holds no more");
        let (folding, parts, users) = (None, Vec::new(), Vec::new());
        Self { folding, parts, users, user_state_bytes_max, large: LargeUsers::default() }
    }

    /// Whose states have been made to fit until now.
    #[must_use]
    pub const fn large_users(&self) -> &LargeUsers {
        &self.large
    }

    /// The same, once the fold has done its work.
    #[must_use]
    pub fn into_large_users(self) -> LargeUsers {
        self.large
    }

    fn take_state(&mut self, kind: RecordKind, part: &[u8]) -> Option<()> {
        let (index, count, bytes) = read_part(part)?;
        if index == 0 {
            self.parts.clear();
        }
        self.parts.extend_from_slice(bytes);
        if index + 1 < count {
            return Some(());
        }
        match (self.folding.as_mut()?, kind) {
            (Folding::Conversation(hot), RecordKind::ConversationState) => {
                let (conversation, spine) = read_conversation(&self.parts)?;
                if conversation.last > hot.conversation.last {
                    (hot.conversation, hot.spine) = (conversation, spine);
                }
            }
            (Folding::User(user, given_up), RecordKind::UserState) => {
                // Memory has lost nothing.
                (**user, *given_up) = (read_user_state(&self.parts)?, GivenUp::default());
            }
            _ => return None,
        }
        Some(())
    }

    fn take_record(&mut self, kind: RecordKind, location: Location, bytes: &[u8]) -> Option<()> {
        let Self { folding, users, user_state_bytes_max, .. } = self;
        match folding.as_mut()? {
            Folding::Conversation(hot) => {
                let (record, prev) = read_reduced(kind, location, bytes, users)?;
                hot.fold(&record, prev);
            }
            Folding::User(user, given_up) => {
                let head = RecordHead { kind: kind as u16, ..RecordHead::default() };
                let view = RecordView { location, placement: Default::default(), head, body: bytes };
                user.apply(&read_user(&view)?);
                // What a user collects between two snapshots is bounded by the logs only, and memory is not as large.
                if user.state_bytes(&USER_STATE_BYTES) > *user_state_bytes_max * FOLDING_STATES {
                    user.make_fit(*user_state_bytes_max, &USER_STATE_BYTES, given_up);
                }
            }
        }
        Some(())
    }
}

impl Fold for StreamFold {
    fn place(&self, stream: &StreamId) -> Option<VirtualShard> {
        virtual_shard(stream)
    }

    fn reduce(&self, record: &RecordView<'_>, out: &mut Vec<u8>) -> bool {
        let Some(kind) = RecordKind::of(&record.head) else { return false };
        out.extend_from_slice(&(kind as u16).to_le_bytes());
        if kind.is_sequenced() {
            let Some(sequenced) = Sequenced::read(record) else { return false };
            write_reduced(&sequenced, record, out);
        } else {
            out.extend_from_slice(record.body);
        }
        kind != RecordKind::Checkpoint
    }

    fn reduce_lost(&self, stream: &StreamId, through: Sequence, out: &mut Vec<u8>) -> bool {
        let is_conversation = matches!(stream.kind(), Some(StreamKind::Conversation(_)));
        if is_conversation {
            out.extend_from_slice(&LOST.to_le_bytes());
            Writer(out).put(through);
        }
        is_conversation
    }

    fn begin(&mut self, stream: &StreamId, base: Option<&[u8]>) {
        self.parts.clear();
        self.folding = Folding::new(stream);
        let Some(base) = base else { return };
        let begun = match &mut self.folding {
            Some(Folding::Conversation(hot)) => read_conversation(base).map(|(conversation, spine)| {
                (hot.conversation, hot.spine) = (conversation, spine);
            }),
            Some(Folding::User(user, _)) => read_user_state(base).map(|known| **user = known),
            None => None,
        };
        // Its checksum holds and so does its version: going on would write a snapshot that has forgotten a stream.
        assert!(begun.is_some(), "the state of {stream:?} in a sound snapshot cannot be read");
    }

    fn apply(&mut self, location: Location, reduced: &[u8]) {
        let Some((kind, bytes)) = reduced.split_first_chunk::<2>() else { return };
        if u16::from_le_bytes(*kind) == LOST {
            if let (Some(Folding::Conversation(hot)), Some(through)) =
                (&mut self.folding, Reader(bytes).take())
            {
                hot.lose_through(through, location);
            }
            return;
        }
        let head = RecordHead { kind: u16::from_le_bytes(*kind), ..RecordHead::default() };
        let Some(kind) = RecordKind::of(&head) else { return };
        // What has no body any more, or is of no kind that is folded, changes nothing, as in a load.
        let _ = if kind.is_state() {
            self.take_state(kind, bytes)
        } else {
            self.take_record(kind, location, bytes)
        };
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> bool {
        match self.folding.take() {
            Some(Folding::Conversation(hot)) => {
                let known = hot.conversation.last.0 > 0;
                if known {
                    write_conversation(&hot.conversation, &hot.spine, out);
                }
                known
            }
            Some(Folding::User(mut user, mut given_up)) => {
                user.make_fit(self.user_state_bytes_max, &USER_STATE_BYTES, &mut given_up);
                if !given_up.is_nothing() {
                    self.large.add(user.id, given_up);
                }
                let known = user.devices.count() > 0 || !user.conversations().is_empty();
                if known {
                    write_user_state(&user, out);
                }
                known
            }
            None => false,
        }
    }
}

/// What folding needs of a sequenced record.
fn write_reduced(sequenced: &Sequenced<'_>, record: &RecordView<'_>, out: &mut Vec<u8>) {
    let author = sequenced.author();
    let mut to = Writer(out);
    to.put(record.head.sequence).put(record.head.time).put(record.head.number);
    to.put(author.user).put(author.device).put(record.placement.prev);
    match sequenced.kind {
        RecordKind::Message => _ = to.put(record.head.flags & FLAG_COUNTABLE != 0),
        RecordKind::Created => _ = to.put(sequenced.client_id).bytes(sequenced.users.0),
        _ => _ = to.bytes(sequenced.users.0),
    }
}

fn read_reduced<'a>(
    kind: RecordKind,
    location: Location,
    bytes: &[u8],
    users: &'a mut Vec<UserId>,
) -> Option<(Record<'a>, Location)> {
    let mut from = Reader(bytes);
    let (sequence, time, number) = (from.take()?, from.take()?, from.take()?);
    let author = Author { user: from.take()?, device: from.take()? };
    let prev = from.take()?;
    let countable = kind == RecordKind::Message && from.take()?;
    let client_id = if kind == RecordKind::Created { from.take()? } else { Default::default() };
    users.clear();
    users.extend(UserList(from.0).iter());
    let change = match kind {
        RecordKind::Message => Change::Message { countable },
        RecordKind::Created => Change::Created { client_id, users },
        RecordKind::Added => Change::Added { users },
        RecordKind::Removed => Change::Removed { users },
        RecordKind::Left => Change::Left,
        _ => return None,
    };
    Some((Record { sequence, time, author, number, location, change }, prev))
}

#[cfg(test)]
#[path = "fold/tests.rs"]
mod tests;
