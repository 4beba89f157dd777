//! One device of one user, without IO.
//!
//! State is in few places: `link` (the connection and its timers), `table` (conversations: order of what comes, outbox of
//! what goes), `asks` (requests that wait for an answer), `acks` (pushes that wait for the application). Calls change
//! state and set `stirred`; [`Machine::transmit`] alone turns state into bytes. All timers are deadlines in that state;
//! `wake` is a lower bound of them.
//!
//! What is *not* here: a clock, randomness, sockets, storage. No call waits, and none panics on what the gateway says.

mod acks;
mod asks;
mod commands;
mod holed;
mod inbound;
mod link;
mod outbound;
mod requests;
mod resync;
mod timers;

#[cfg(test)]
mod tests;

use crate::config::Config;
use crate::conversation::Conversations;
use crate::order::Holes;
use crate::outbox::{Outbox, Pending};
use crate::random::Random;
use crate::stored::{Command, Stored, StoredCommand, StoredConversation};
use acks::{Acks, Marks};
use asks::Asks;
use commands::Creations;
use holed::{Hole, Holed};
use link::Link;
use requests::Notices;
use resync::Sync;
use std::sync::Arc;
use tidegate_ids::{
    Attempt, CommandNumber, ConversationId, DeviceId, Incarnation, MonotonicNs, Sequence, UserId, UserVersion,
};
use tidegate_schema::ClientState;

pub use acks::StoreMark;

/// See the module.
#[derive(Debug)]
pub struct Machine {
    config: Arc<Config>,
    random: Random,
    device: DeviceId,
    user: UserId,
    attempt: Attempt,
    incarnation: Incarnation,
    owes_sync: bool,
    user_version: UserVersion,
    token: Box<[u8]>,
    state: ClientState,
    link: Link,
    table: Conversations,
    /// Conversations with commands, in the order in which they may send.
    sending: Vec<u32>,
    /// Conversations with holes.
    holed: Holed,
    outbox_commands: usize,
    outbox_bytes: usize,
    spares: Vec<Vec<u8>>,
    creations: Creations,
    asks: Asks,
    acks: Acks,
    marks: Marks,
    notices: Notices,
    sync: Option<Box<Sync>>,
    repeats: u64,
    /// Whether `transmit` may have something to append.
    stirred: bool,
    /// Not later than the earliest deadline.
    wake: MonotonicNs,
}

impl Machine {
    /// A machine that has not connected yet and wants to at once. Without a token (empty) it asks for one first. `seed`
    /// should differ between machines: it makes client ids, jitter and masks.
    #[must_use]
    pub fn new(config: Arc<Config>, token: &[u8], stored: Stored, seed: u64) -> Self {
        let state = config.state;
        let mut machine = Self {
            config,
            random: Random::new(seed ^ stored.device.0.rotate_left(32) ^ stored.attempt.0),
            device: stored.device,
            user: stored.user,
            attempt: stored.attempt,
            incarnation: stored.incarnation,
            owes_sync: stored.owes_sync,
            user_version: stored.user_version,
            token: token.into(),
            state,
            link: Link::new(!token.is_empty()),
            table: Conversations::default(),
            sending: Vec::new(),
            holed: Holed::default(),
            outbox_commands: 0,
            outbox_bytes: 0,
            spares: Vec::new(),
            creations: Creations::restore(stored.creations),
            asks: Asks::default(),
            acks: Acks::default(),
            marks: Marks::default(),
            notices: Notices::default(),
            sync: None,
            repeats: 0,
            stirred: false,
            wake: MonotonicNs(0),
        };
        stored.conversations.into_iter().for_each(|row| machine.restore(row));
        machine
    }

    fn restore(&mut self, stored: StoredConversation) {
        let Some(index) = self.table.enter(&stored.conversation) else { return };
        let row = self.table.row(index);
        row.number = stored.number.max(CommandNumber::FIRST);
        row.next = stored.next;
        row.duty_to = stored.duty_to;
        if row.hole().is_some() && row.holes.is_none() {
            row.holes = Some(Box::new(Holes::default()));
            self.note_holes(index, false);
        }
        if stored.outbox.is_empty() {
            return;
        }
        let row = self.table.row(index);
        let outbox = row.outbox.get_or_insert_default();
        if outbox.is_empty() {
            self.sending.push(index as u32);
        }
        for StoredCommand { client_id, command } in stored.outbox {
            self.outbox_commands += 1;
            self.outbox_bytes += command.bytes();
            outbox.restore(client_id, command);
        }
    }

    /// The durable state as it is now. What was given out as an event counts as stored in it.
    #[must_use]
    pub fn snapshot(&self) -> Stored {
        Stored {
            device: self.device,
            attempt: self.attempt,
            user: self.user,
            incarnation: self.incarnation,
            owes_sync: self.owes_sync || self.link.greets,
            user_version: self.user_version,
            conversations: (0..self.table.len()).filter_map(|index| self.stored_row(index)).collect(),
            creations: self.creations.stored(),
        }
    }

    /// The durable state of one conversation.
    #[must_use]
    pub fn stored_conversation(&self, conversation: &ConversationId) -> Option<StoredConversation> {
        self.table.find(conversation).and_then(|index| self.stored_row(index))
    }

    fn stored_row(&self, index: usize) -> Option<StoredConversation> {
        let row = self.table.get(index)?;
        let outbox = row.numbered();
        Some(StoredConversation {
            conversation: row.id,
            number: row.number,
            next: row.next,
            duty_to: row.duty_to,
            outbox: outbox
                .map(|(client_id, command)| StoredCommand { client_id, command: command.clone() })
                .collect(),
        })
    }

    /// The installation.
    #[must_use]
    pub const fn device(&self) -> DeviceId {
        self.device
    }

    /// Who the last `Welcome` said it is; 0: none yet.
    #[must_use]
    pub const fn user(&self) -> UserId {
        self.user
    }

    /// Of the last connect.
    #[must_use]
    pub const fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// Records that came although the application had them: pushed again after a reconnect, say. They were dropped.
    #[must_use]
    pub const fn repeats(&self) -> u64 {
        self.repeats
    }

    /// Commands without an answer, over all conversations.
    #[must_use]
    pub const fn outbox_commands(&self) -> usize {
        self.outbox_commands
    }

    /// What waits in a conversation, in order: "pending sync" and the failed list.
    pub fn pending(&self, conversation: &ConversationId) -> impl Iterator<Item = Pending<'_>> {
        let row = self.table.find(conversation).and_then(|index| self.table.get(index));
        row.into_iter().flat_map(|row| row.pending())
    }

    /// Everything that waits, conversation by conversation.
    pub fn all_pending(&self) -> impl Iterator<Item = (ConversationId, Pending<'_>)> {
        self.table.iter().flat_map(|row| row.pending().map(|pending| (row.id, pending)))
    }

    /// Conversations with the lowest sequence not yet given out (0: not known), in no particular order.
    pub fn conversations(&self) -> impl Iterator<Item = (ConversationId, Sequence)> {
        self.table.iter().map(|row| (row.id, row.next))
    }

    /// Whether something is known to be missing in a conversation.
    #[must_use]
    pub fn is_catching_up(&self, conversation: &ConversationId) -> bool {
        let row = self.table.find(conversation).and_then(|index| self.table.get(index));
        row.is_some_and(|row| row.is_waiting())
    }

    /// A deadline has come into being.
    fn wake_at(&mut self, at: MonotonicNs) {
        self.wake = self.wake.min(at);
    }

    /// Keeps the list of conversations with holes.
    fn note_holes(&mut self, index: usize, was_waiting: bool) {
        let row = self.table.row(index);
        let begun = row.next.0 > 0;
        let Some(holes) = &row.holes else {
            if was_waiting {
                self.holed.note(index as u32, None);
            }
            return;
        };
        let (due_at, asked, holds_push) = (holes.due_at, holes.asked, holes.lowest_push().is_some());
        self.holed.note(index as u32, Some(Hole { due_at, asked, begun, holds_push }));
        self.wake_at(due_at);
        self.stirred = true;
    }

    /// Keeps the list of conversations with commands.
    fn note_outbox(&mut self, index: usize) {
        let empty = self.table.row(index).outbox.as_deref().is_none_or(Outbox::is_empty);
        if empty {
            self.sending.retain(|sending| *sending != index as u32);
        } else if !self.sending.contains(&(index as u32)) {
            self.sending.push(index as u32);
        }
        self.stirred = true;
    }

    /// A command has left the outbox.
    fn forget(&mut self, command: Command) {
        self.outbox_commands -= 1;
        self.outbox_bytes -= command.bytes();
        let Command::Send(mut message) = command else { return };
        let keep = self.spares.len() < crate::limits::SPARES_MAX;
        if keep && message.capacity() <= crate::limits::SPARE_BYTES_MAX {
            message.clear();
            self.spares.push(message);
        }
    }
}
