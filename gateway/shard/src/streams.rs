//! Which streams this shard knows: hot ones folded in memory, all of them by a locator.

use crate::event::ConnectionId;
use crate::limits::{LOCATORS_RESERVE_SHARE, ShardLimits};
use crate::locators::{Locator, Locators};
use crate::table::{HotTable, IdHash};
use tidegate_domain::{Conversation, Quota, Record, User};
use tidegate_ids::{
    Attempt, ConversationId, DeviceId, Generation, Location, Sequence, StreamId, StreamKind, UserId,
};
use tidegate_storage_log::Spine;

/// A conversation in memory.
#[derive(Debug)]
pub(crate) struct HotConversation {
    pub(crate) conversation: Conversation,
    pub(crate) spine: Spine,
    /// Records since the newest state.
    pub(crate) since_state: u64,
    /// Part of it could not be read when it was loaded. No state of it is written: that would make the loss last, even if
    /// the disk gives it again.
    pub(crate) is_partial: bool,
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
            is_partial: false,
            sliced: false,
            slices_sent: 0,
        }
    }

    /// Folds a record that was read again; `prev` is the link that it has. Behind a gap, what lay there is lost: its places in
    /// the order stay taken, and links to it lead to about where it was.
    pub(crate) fn fold(&mut self, record: &Record<'_>, prev: Location) {
        let missing = record.sequence.0.saturating_sub(self.conversation.last.0 + 1);
        if record.sequence <= self.conversation.last {
            return;
        }
        self.lose(missing, prev);
        self.conversation.apply(record);
        self.spine.push(record.location);
        self.since_state += 1;
    }

    /// What follows up to this sequence is lost, though there may be more behind it.
    pub(crate) fn lose_through(&mut self, last: Sequence, near: Location) {
        self.lose(last.0.saturating_sub(self.conversation.last.0), near);
    }

    fn lose(&mut self, missing: u64, near: Location) {
        self.conversation.lose(missing);
        (0..missing).for_each(|_| self.spine.push(near));
    }
}

/// Stays of a group that has more than a home lists: those that are copied to other shards.
pub(crate) fn large_stays(conversation: &Conversation, listed_members_max: usize) -> usize {
    let count = conversation.membership.stays().len();
    if count > listed_members_max { count } else { 0 }
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
    /// What they have spent of their class's limits; forgotten only when the table of users is full and they are away.
    pub(crate) quota: Quota,
    pub(crate) sessions: Vec<Session>,
    /// Records since the newest state.
    pub(crate) since_state: u64,
    /// As of a conversation.
    pub(crate) is_partial: bool,
}

impl HotUser {
    pub(crate) fn new(id: UserId) -> Self {
        Self {
            user: User::new(id),
            quota: Quota::default(),
            sessions: Vec::new(),
            since_state: 0,
            is_partial: false,
        }
    }

    /// What a state of them lists, about.
    pub(crate) fn entries(&self) -> usize {
        let ranges: usize = self.user.devices.iter().map(|device| device.queue.range_count()).sum();
        ranges + self.user.conversations().len()
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
    pub(crate) locators: Locators,
    /// Stays of the large groups in memory: the shards of their members have slices of as many again.
    hot_stays: usize,
    listed_members_max: usize,
    locators_max: usize,
    /// How many users got a place above that.
    reserve_used: usize,
}

impl Streams {
    pub(crate) fn new(limits: &ShardLimits, hash: IdHash, locators: Locators) -> Self {
        Self {
            users: HotTable::new(limits.hot_users_max, hash),
            conversations: HotTable::new(limits.hot_conversations_max, hash),
            locators,
            hot_stays: 0,
            listed_members_max: limits.listed_members_max,
            locators_max: limits.locators_max,
            reserve_used: 0,
        }
    }

    /// Stays of the large groups in memory, with a conversation that becomes hot.
    pub(crate) fn stays_with(&self, hot: &HotConversation) -> usize {
        self.hot_stays + large_stays(&hot.conversation, self.listed_members_max)
    }

    /// Puts a conversation into memory; the caller has made room.
    pub(crate) fn insert_conversation(&mut self, hot: HotConversation) {
        self.hot_stays = self.stays_with(&hot);
        self.conversations.insert(hot.conversation.id, hot);
    }

    /// Takes a conversation out of memory.
    pub(crate) fn remove_conversation(&mut self, id: &ConversationId) {
        let removed = self.conversations.remove(id);
        self.hot_stays -= removed.map_or(0, |hot| large_stays(&hot.conversation, self.listed_members_max));
    }

    /// Folds a record into a conversation in memory.
    pub(crate) fn apply(&mut self, id: &ConversationId, record: &Record<'_>) {
        let Some(hot) = self.conversations.get_mut(id) else { return };
        let before = large_stays(&hot.conversation, self.listed_members_max);
        hot.conversation.apply(record);
        hot.spine.push(record.location);
        hot.since_state += 1;
        self.hot_stays = self.hot_stays + large_stays(&hot.conversation, self.listed_members_max) - before;
    }

    pub(crate) fn locator(&self, stream: &StreamId) -> Locator {
        self.locators.get(stream).unwrap_or_default()
    }

    /// Whether a stream that has no locator could get one.
    pub(crate) fn knows_or_has_place(&self, stream: &StreamId) -> bool {
        self.locators.len() < self.locators_max || self.locators.get(stream).is_some()
    }

    /// Whether a user who connects gets a place in the table: when it is full, out of a reserve that commands have no part
    /// in, so that nobody is locked out by what others wrote.
    pub(crate) fn admit(&mut self, user: UserId) -> bool {
        if self.locators.get(&StreamId::user(user)).is_some() {
            return true;
        }
        if !self.is_table_full() {
            self.reserve_used = 0;
            return true;
        }
        let has_place = self.reserve_used < self.locators_max.div_ceil(LOCATORS_RESERVE_SHARE);
        self.reserve_used += usize::from(has_place);
        has_place
    }

    /// Whether commands that need another place in the table are refused.
    pub(crate) const fn is_table_full(&self) -> bool {
        self.locators.len() >= self.locators_max
    }

    /// Whether there may be records of a stream, so that it must be loaded before it is known.
    pub(crate) fn may_exist(&self, stream: &StreamId) -> bool {
        let locator = self.locator(stream);
        !locator.last.is_none() || !locator.state.is_none() || self.locators.has_snapshot()
    }

    /// Whether a user's stream may have devices: without one nothing is queued.
    pub(crate) fn may_have_devices(&self, user: UserId) -> bool {
        self.locator(&StreamId::user(user)).has_devices || self.locators.has_snapshot()
    }

    /// What a user record that is appended next links to.
    pub(crate) fn user_link(&self, stream: &StreamId) -> Location {
        let unknown = if self.locators.has_snapshot() { Location::SNAPSHOT } else { Location::NONE };
        self.locators.get(stream).map_or(unknown, |locator| locator.last)
    }

    /// Sweeps a part of the table of locators after a snapshot. True if there is more.
    pub(crate) fn sweep_locators(&mut self, is_loading: impl Fn(&StreamId) -> bool) -> bool {
        if !self.locators.is_sweeping() {
            return false;
        }
        let Self { users, conversations, locators, .. } = self;
        locators.sweep_part(|stream| match stream.kind() {
            Some(StreamKind::User(id)) => users.contains(&id) || is_loading(stream),
            Some(StreamKind::Conversation(id)) => conversations.contains(&id) || is_loading(stream),
            _ => true,
        });
        locators.is_sweeping()
    }

    /// The locator of a stream that has one.
    pub(crate) fn known(&self, stream: &StreamId) -> Option<Locator> {
        self.locators.get(stream)
    }

    /// Gives a stream the locator it had, or none as it had none.
    pub(crate) fn put_back(&mut self, stream: StreamId, before: Option<Locator>) {
        match before {
            Some(before) => self.locators.put(&stream, before),
            None => self.locators.remove(&stream),
        }
    }

    /// Changes where a stream's records are, of one that had none too.
    pub(crate) fn locate(&mut self, stream: &StreamId, change: impl FnOnce(&mut Locator)) {
        let mut locator = self.locator(stream);
        change(&mut locator);
        self.locators.put(stream, locator);
    }
}
