//! Which streams this shard knows: hot ones folded in memory, all of them by a locator.

use crate::event::ConnectionId;
use crate::limits::ShardLimits;
use crate::table::{HotTable, IdHash, IdMap};
use tidegate_domain::{Conversation, User};
use tidegate_ids::{Attempt, ConversationId, DeviceId, Generation, Location, Sequence, StreamId, UserId};
use tidegate_storage_log::Spine;

/// Where a stream's records are (DECISIONS, Log): 40 bytes with its key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Locator {
    /// The last record that is linked: of a conversation the last sequenced one, of a user the last since the state.
    pub(crate) last: Location,
    /// The last part of the newest folded state.
    pub(crate) state: Location,
    /// The sequence of `last`, 0 in a user's stream.
    pub(crate) sequence: Sequence,
    /// A user's stream: whether a device ever registered; without one nothing is queued.
    pub(crate) has_devices: bool,
}

const _: () = assert!(size_of::<(StreamId, Locator)>() <= 64);

/// A conversation in memory.
#[derive(Debug)]
pub(crate) struct HotConversation {
    pub(crate) conversation: Conversation,
    pub(crate) spine: Spine,
    /// Records since the newest state.
    pub(crate) since_state: u64,
    /// Recipients are walked by slices; stays so while the conversation is hot.
    pub(crate) sliced: bool,
    /// Shards that have their slice, a bit each.
    pub(crate) slices_sent: u64,
}

impl HotConversation {
    pub(crate) fn new(id: ConversationId) -> Self {
        Self {
            conversation: Conversation::new(id),
            spine: Spine::new(),
            since_state: 0,
            sliced: false,
            slices_sent: 0,
        }
    }
}

/// A device's connection at its user's home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) device: DeviceId,
    pub(crate) connection: ConnectionId,
    pub(crate) generation: Generation,
    pub(crate) attempt: Attempt,
    /// The device stands in the queue of those that may ask for a range.
    pub(crate) ask_queued: bool,
}

/// A user in memory.
#[derive(Debug)]
pub(crate) struct HotUser {
    pub(crate) user: User,
    pub(crate) sessions: Vec<Session>,
    /// Records since the newest state.
    pub(crate) since_state: u64,
}

impl HotUser {
    pub(crate) fn new(id: UserId) -> Self {
        Self { user: User::new(id), sessions: Vec::new(), since_state: 0 }
    }

    pub(crate) fn session(&self, device: DeviceId) -> Option<&Session> {
        self.sessions.iter().find(|session| session.device == device)
    }

    pub(crate) fn session_mut(&mut self, device: DeviceId) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|session| session.device == device)
    }
}

/// Hot and cold streams of one shard.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) users: HotTable<UserId, HotUser>,
    pub(crate) conversations: HotTable<ConversationId, HotConversation>,
    pub(crate) locators: IdMap<StreamId, Locator>,
    locators_max: usize,
}

impl Streams {
    pub(crate) fn new(limits: &ShardLimits, hash: IdHash, locators: IdMap<StreamId, Locator>) -> Self {
        Self {
            users: HotTable::new(limits.hot_users_max, hash),
            conversations: HotTable::new(limits.hot_conversations_max, hash),
            locators,
            locators_max: limits.locators_max,
        }
    }

    pub(crate) fn locator(&self, stream: &StreamId) -> Locator {
        self.locators.get(stream).copied().unwrap_or_default()
    }

    /// Whether a stream that has no locator could get one.
    pub(crate) fn knows_or_has_place(&self, stream: &StreamId) -> bool {
        self.locators.len() < self.locators_max || self.locators.contains_key(stream)
    }

    /// The locator of a stream that has one.
    pub(crate) fn known(&self, stream: &StreamId) -> Option<Locator> {
        self.locators.get(stream).copied()
    }

    /// Gives a stream the locator it had, or none as it had none.
    pub(crate) fn put_back(&mut self, stream: StreamId, before: Option<Locator>) {
        match before {
            Some(before) => drop(self.locators.insert(stream, before)),
            None => drop(self.locators.remove(&stream)),
        }
    }

    pub(crate) fn locate(&mut self, stream: StreamId) -> &mut Locator {
        self.locators.entry(stream).or_default()
    }
}
