//! Commands of the application, and what the gateway answers.

use super::Machine;
use crate::error::SendError;
use crate::event::{Event, Sink};
use crate::limits::{CREATIONS_MAX, RETRIES_MAX, RETRY_BASE_NS, RETRY_CAP_NS};
use crate::outbox::{CancelError, Expected};
use crate::stored::{Command, MembersCommand, StoredCreation};
use tidegate_ids::{ClientId, CommandNumber, ConversationId, MonotonicNs, UserId};
use tidegate_schema::limits::{MESSAGE_BYTES_MAX, NAME_BYTES_MAX, USERS_MAX};
use tidegate_schema::{Error, ErrorCode, GroupCreated, SendAck};

/// Creations of groups without an answer: not numbered, so each is on its own.
#[derive(Debug, Default)]
pub(crate) struct Creations {
    list: Vec<Creation>,
}

#[derive(Debug)]
struct Creation {
    stored: StoredCreation,
    hold_until: MonotonicNs,
    tries: u8,
    asked: bool,
    parked: bool,
}

impl Creations {
    pub(crate) fn restore(stored: Vec<StoredCreation>) -> Self {
        Self { list: stored.into_iter().map(Creation::new).collect() }
    }

    pub(crate) fn stored(&self) -> Vec<StoredCreation> {
        self.list.iter().map(|creation| creation.stored.clone()).collect()
    }

    pub(crate) fn disconnected(&mut self) {
        for creation in &mut self.list {
            (creation.asked, creation.parked, creation.tries) = (false, false, 0);
            creation.hold_until = MonotonicNs(0);
        }
    }

    /// The next one that may be sent.
    pub(crate) fn take_ready(&mut self, now: MonotonicNs) -> Option<&StoredCreation> {
        let may =
            |creation: &&mut Creation| !creation.asked && !creation.parked && creation.hold_until <= now;
        let creation = self.list.iter_mut().find(may)?;
        creation.asked = true;
        Some(&creation.stored)
    }

    pub(crate) fn wake(&self, now: MonotonicNs) -> Option<MonotonicNs> {
        let waits = self.list.iter().filter(|creation| !creation.asked && !creation.parked);
        waits.map(|creation| creation.hold_until).filter(|at| *at > now).min()
    }

    fn place(&self, client_id: &ClientId) -> Option<usize> {
        self.list.iter().position(|creation| creation.stored.client_id == *client_id)
    }
}

impl Creation {
    const fn new(stored: StoredCreation) -> Self {
        Self { stored, hold_until: MonotonicNs(0), tries: 0, asked: false, parked: false }
    }
}

impl Machine {
    /// Takes an encoded `Message` into the outbox, under the conversation's next number and a new client id, which is
    /// given back. It is sent when the connection allows, also after a restart of the process.
    ///
    /// # Errors
    /// [`SendError`]; nothing was taken.
    pub fn send(&mut self, conversation: ConversationId, message: &[u8]) -> Result<ClientId, SendError> {
        let client_id = ClientId(self.random.bytes16());
        self.send_as(client_id, conversation, message).map(|()| client_id)
    }

    /// As [`Machine::send`] with a client id of the caller's own, which must be new.
    ///
    /// # Errors
    /// [`SendError`]; nothing was taken.
    pub fn send_as(
        &mut self,
        client_id: ClientId,
        conversation: ConversationId,
        message: &[u8],
    ) -> Result<(), SendError> {
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(SendError::TooLarge);
        }
        self.check_room(message.len())?;
        let mut bytes = self.spares.pop().unwrap_or_default();
        bytes.extend_from_slice(message);
        self.submit(client_id, conversation, Command::Send(bytes))
    }

    /// Adds users to a group. `member_version` is the version that was seen, or 0.
    ///
    /// # Errors
    /// [`SendError`]; nothing was taken.
    pub fn members_add(
        &mut self,
        group: ConversationId,
        member_version: u64,
        users: &[UserId],
    ) -> Result<ClientId, SendError> {
        self.change_members(group, users, |users| {
            Command::MembersAdd(MembersCommand { member_version, users })
        })
    }

    /// Removes users from a group.
    ///
    /// # Errors
    /// [`SendError`]; nothing was taken.
    pub fn members_remove(
        &mut self,
        group: ConversationId,
        member_version: u64,
        users: &[UserId],
    ) -> Result<ClientId, SendError> {
        self.change_members(group, users, |users| {
            Command::MembersRemove(MembersCommand { member_version, users })
        })
    }

    /// Leaves a group.
    ///
    /// # Errors
    /// [`SendError`]; nothing was taken.
    pub fn leave(&mut self, group: ConversationId) -> Result<ClientId, SendError> {
        if !group.is_group() {
            return Err(SendError::BadConversation);
        }
        let client_id = ClientId(self.random.bytes16());
        self.submit(client_id, group, Command::Leave).map(|()| client_id)
    }

    /// Creates a group. `GroupCreated` says its id.
    ///
    /// # Errors
    /// [`SendError`]; nothing was taken.
    pub fn create_group(&mut self, name: &[u8], users: &[UserId]) -> Result<ClientId, SendError> {
        let client_id = ClientId(self.random.bytes16());
        self.create_group_as(client_id, name, users).map(|()| client_id)
    }

    /// As [`Machine::create_group`] with a client id of the caller's own.
    ///
    /// # Errors
    /// [`SendError`]; nothing was taken.
    pub fn create_group_as(
        &mut self,
        client_id: ClientId,
        name: &[u8],
        users: &[UserId],
    ) -> Result<(), SendError> {
        if self.creations.list.len() >= CREATIONS_MAX {
            return Err(SendError::OutboxFull);
        }
        if users.len() > USERS_MAX || name.len() > NAME_BYTES_MAX {
            return Err(SendError::TooLarge);
        }
        if self.creations.place(&client_id).is_some() {
            return Err(SendError::DuplicateClientId);
        }
        let stored = StoredCreation { client_id, name: name.to_vec(), users: users.to_vec() };
        self.creations.list.push(Creation::new(stored));
        self.stirred = true;
        Ok(())
    }

    fn change_members(
        &mut self,
        group: ConversationId,
        users: &[UserId],
        command: impl FnOnce(Vec<UserId>) -> Command,
    ) -> Result<ClientId, SendError> {
        if !group.is_group() || users.is_empty() {
            return Err(SendError::BadConversation);
        }
        if users.len() > USERS_MAX {
            return Err(SendError::TooLarge);
        }
        let client_id = ClientId(self.random.bytes16());
        self.submit(client_id, group, command(users.to_vec())).map(|()| client_id)
    }

    fn check_room(&self, bytes: usize) -> Result<(), SendError> {
        let full = self.outbox_commands >= self.config.outbox_commands_max
            || self.outbox_bytes + bytes > self.config.outbox_bytes_max;
        if full { Err(SendError::OutboxFull) } else { Ok(()) }
    }

    fn submit(
        &mut self,
        client_id: ClientId,
        conversation: ConversationId,
        command: Command,
    ) -> Result<(), SendError> {
        self.check_room(command.bytes())?;
        conversation.kind().ok_or(SendError::BadConversation)?;
        let index = self.table.enter(&conversation).ok_or(SendError::TooManyConversations)?;
        let outbox = self.table.row(index).outbox.get_or_insert_default();
        if outbox.holds(&client_id) {
            return Err(SendError::DuplicateClientId);
        }
        self.outbox_commands += 1;
        self.outbox_bytes += command.bytes();
        outbox.push(client_id, command);
        self.note_outbox(index);
        Ok(())
    }

    /// Takes a command back that was never on the wire.
    ///
    /// # Errors
    /// [`CancelError`]; the command stays.
    pub fn cancel(&mut self, conversation: &ConversationId, client_id: &ClientId) -> Result<(), CancelError> {
        let index = self.table.find(conversation).ok_or(CancelError::Unknown)?;
        let command = self.table.row(index).cancel(client_id)?;
        self.forget(command);
        self.note_outbox(index);
        Ok(())
    }

    /// Sends again what is on the failed list, without waiting for a reconnect.
    pub fn retry(&mut self) {
        for index in &self.sending {
            self.table.row(*index as usize).retry();
        }
        for creation in &mut self.creations.list {
            (creation.parked, creation.tries) = (false, 0);
        }
        self.stirred = true;
    }

    /// A command is synced.
    pub(crate) fn command_acknowledged(
        &mut self,
        conversation: usize,
        (flight, number_low): (u16, u16),
        ack: &SendAck,
        now: MonotonicNs,
        sink: &mut Sink<'_>,
    ) {
        let hole_at = now.after(self.config.hole_wait_ns);
        if self.table.get(conversation).is_none() {
            return;
        }
        let row = self.table.row(conversation);
        let Some(index) = row.answered(flight, number_low) else { return };
        let mut left = [None];
        let mut more = Vec::new();
        let acknowledged = row.acknowledged(index, now, |command| match &mut left[0] {
            empty @ None => *empty = Some(command),
            Some(_) => more.push(command),
        });
        let Some((client_id, number)) = acknowledged else { return };
        let was_waiting = row.is_waiting();
        let id = row.id;
        // Only a direct conversation begins at 1 for everyone; where a group does is told by what comes.
        if row.next.0 == 0 && !id.is_group() && self.sync.is_none() {
            self.table.row(conversation).next = tidegate_ids::Sequence::FIRST;
        }
        self.table.row(conversation).fill_own(ack.sequence, hole_at, sink);
        self.note_holes(conversation, was_waiting);
        left.into_iter().flatten().chain(more).for_each(|command| self.forget(command));
        self.note_outbox(conversation);
        sink(Event::Sent { conversation: id, client_id, number, ack });
    }

    /// A command was refused.
    pub(crate) fn command_refused(
        &mut self,
        conversation: usize,
        (flight, number_low): (u16, u16),
        error: &Error<'_>,
        now: MonotonicNs,
        sink: &mut Sink<'_>,
    ) {
        if self.table.get(conversation).is_none() {
            return;
        }
        let row = self.table.row(conversation);
        let Some(index) = row.answered(flight, number_low).filter(|_| row.is_news(flight)) else { return };
        match error.code {
            ErrorCode::OutOfOrder | ErrorCode::IdempotencyConflict => {
                let expected = row.expected(index, error.expected_number, now);
                self.told_expected(conversation, expected, sink);
            }
            ErrorCode::TokenExpired => {
                row.refused_for_now(index, 0, now);
                sink(Event::TokenNeeded);
            }
            code if code.is_temporary() || error.temporary => {
                row.refused_for_now(index, wait_ns(error), now);
                // A rate is the device's, whatever the conversation.
                if code == ErrorCode::RateLimited {
                    let until = now.after(wait_ns(error));
                    self.link.throttled_until = self.link.throttled_until.max(until);
                }
            }
            _ => {
                let Some((client_id, command)) = row.refused(index) else { return };
                let (id, number, empty) = (row.id, row.number, row.pending().next().is_none());
                self.forget(command);
                sink(Event::Refused { conversation: Some(id), client_id, error });
                if !empty {
                    sink(Event::Renumbered { conversation: id, number });
                }
            }
        }
        self.note_outbox(conversation);
        self.wake = now;
    }

    fn told_expected(&mut self, conversation: usize, expected: Expected, sink: &mut Sink<'_>) {
        let row = self.table.row(conversation);
        match expected {
            Expected::Resent => {}
            Expected::Renumbered => {
                sink(Event::Renumbered { conversation: row.id, number: row.number });
            }
            Expected::Parked => self.told_parked(conversation, sink),
        }
    }

    /// Everything of a conversation is on the failed list now.
    pub(crate) fn told_parked(&mut self, conversation: usize, sink: &mut Sink<'_>) {
        let Some(row) = self.table.get(conversation) else { return };
        for client_id in row.outbox.iter().flat_map(|outbox| outbox.ids()) {
            sink(Event::Parked { conversation: Some(row.id), client_id });
        }
    }

    pub(crate) fn group_created(
        &mut self,
        client_id: ClientId,
        created: &GroupCreated,
        now: MonotonicNs,
        sink: &mut Sink<'_>,
    ) {
        let Some(place) = self.creations.place(&client_id) else { return };
        self.creations.list.remove(place);
        let hole_at = now.after(self.config.hole_wait_ns);
        if let Some(index) = self.table.enter(&created.conversation) {
            let row = self.table.row(index);
            let was_waiting = row.is_waiting();
            if row.next.0 == 0 && created.sequence.0 > 0 {
                row.begin(created.sequence, now, sink);
            }
            row.fill_own(created.sequence, hole_at, sink);
            self.note_holes(index, was_waiting);
        }
        sink(Event::GroupCreated { client_id, created });
    }

    pub(crate) fn creation_refused(
        &mut self,
        client_id: ClientId,
        error: &Error<'_>,
        now: MonotonicNs,
        sink: &mut Sink<'_>,
    ) {
        let Some(place) = self.creations.place(&client_id) else { return };
        if !(error.code.is_temporary() || error.temporary) {
            self.creations.list.remove(place);
            return sink(Event::Refused { conversation: None, client_id, error });
        }
        let creation = &mut self.creations.list[place];
        let backoff = (RETRY_BASE_NS << creation.tries.min(6)).min(RETRY_CAP_NS);
        creation.asked = false;
        creation.hold_until = now.after(if error.retry_after_ms > 0 { wait_ns(error) } else { backoff });
        self.wake = now;
    }

    /// No answer in time.
    pub(crate) fn creation_expired(&mut self, client_id: ClientId, now: MonotonicNs, sink: &mut Sink<'_>) {
        let Some(place) = self.creations.place(&client_id) else { return };
        let creation = &mut self.creations.list[place];
        creation.asked = false;
        if creation.tries == RETRIES_MAX {
            creation.parked = true;
            return sink(Event::Parked { conversation: None, client_id });
        }
        creation.hold_until = now.after(RETRY_BASE_NS << creation.tries);
        creation.tries += 1;
        self.wake = now;
    }

    /// The number that the outbox of a conversation starts at is known from the gateway.
    pub(crate) fn number_from_row(
        &mut self,
        index: usize,
        last_number: CommandNumber,
        trust: bool,
        sink: &mut Sink<'_>,
    ) {
        let row = self.table.row(index);
        let expected = last_number.next();
        let empty = row.pending().next().is_none();
        // What waits in an outbox may have been taken: it is asked under its own numbers, and answered as a duplicate.
        let moves = if empty { expected > row.number || trust } else { trust && expected < row.number };
        if moves && expected != row.number {
            row.renumber(expected);
            let (conversation, number) = (row.id, row.number);
            sink(Event::Renumbered { conversation, number });
        }
    }
}

fn wait_ns(error: &Error<'_>) -> u64 {
    u64::from(error.retry_after_ms) * crate::limits::MILLISECOND
}
