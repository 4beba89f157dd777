//! A device: the SDK's machine, and what its application has stored.

use crate::network::Wire;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tidegate_client::{Backfill, Config, Encoder, Event, Machine, Stored};
use tidegate_ids::{ClientId, ConversationId, DeviceId, Now, Sequence, UserId};
use xxhash_rust::xxh3::xxh3_64;

/// What a device's application knows.
#[derive(Debug, Default)]
pub(crate) struct Notebook {
    /// Records given out, in the order they came: sequence and hash of the message.
    pub(crate) seen: BTreeMap<ConversationId, Vec<(Sequence, u64)>>,
    /// Acknowledged commands.
    pub(crate) acknowledged: Vec<(ConversationId, ClientId, Sequence)>,
    pub(crate) refused: BTreeSet<ClientId>,
    /// Sequences that will never come.
    pub(crate) skipped: Vec<(ConversationId, Sequence, Sequence)>,
    pub(crate) groups: Vec<ConversationId>,
    /// The first thing that must not happen.
    pub(crate) wrong: Option<String>,
    pub(crate) welcomed: bool,
}

impl Notebook {
    fn note(&mut self, event: &Event<'_>) {
        match event {
            Event::Message { stamp, message, .. } => {
                let records = self.seen.entry(stamp.conversation).or_default();
                let disordered = records.last().is_some_and(|(last, _)| *last >= stamp.sequence);
                if disordered {
                    let text = format!("{} at {} came out of order", stamp.conversation, stamp.sequence);
                    self.wrong.get_or_insert(text);
                }
                records.push((stamp.sequence, xxh3_64(message)));
            }
            Event::Sent { conversation, client_id, ack, .. } => {
                self.acknowledged.push((*conversation, *client_id, ack.sequence));
            }
            Event::Refused { client_id, .. } => {
                self.refused.insert(*client_id);
            }
            Event::Skipped { conversation, from, to, .. } => self.skipped.push((*conversation, *from, *to)),
            Event::GroupCreated { created, .. } => self.groups.push(created.conversation),
            Event::Welcomed(_) => self.welcomed = true,
            _ => {}
        }
    }
}

/// One device.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) user: UserId,
    pub(crate) id: DeviceId,
    pub(crate) machine: Machine,
    pub(crate) notebook: Notebook,
    pub(crate) wire: Option<Wire>,
    /// Whether it connects at all.
    pub(crate) online: bool,
    /// When it was last put on the agenda.
    pub(crate) wake_at: u64,
    /// Bodies sent so far.
    pub(crate) sent: u64,
    /// Hashes of what it submitted.
    pub(crate) submitted: BTreeMap<ClientId, u64>,
}

impl Device {
    pub(crate) fn new(user: UserId, id: DeviceId, seed: u64) -> Self {
        let config = Config { backfill: Backfill::All, ..Config::default() };
        let token = format!("user:{user}");
        let machine = Machine::new(Arc::new(config), token.as_bytes(), Stored::new(id), seed);
        Self {
            user,
            id,
            machine,
            notebook: Notebook::default(),
            wire: None,
            online: true,
            wake_at: 0,
            sent: 0,
            submitted: BTreeMap::new(),
        }
    }

    pub(crate) fn received(&mut self, bytes: &mut [u8], now: Now) {
        let notebook = &mut self.notebook;
        self.machine.received(bytes, now.monotonic, &mut |event| notebook.note(&event));
        self.machine.stored_all(now.monotonic);
    }

    pub(crate) fn connected(&mut self, now: Now) {
        let notebook = &mut self.notebook;
        self.machine.connected(now.monotonic, &mut |event| notebook.note(&event));
    }

    pub(crate) fn disconnected(&mut self, now: Now) {
        let notebook = &mut self.notebook;
        self.machine.disconnected(now.monotonic, &mut |event| notebook.note(&event));
    }

    pub(crate) fn tick(&mut self, now: Now) {
        let notebook = &mut self.notebook;
        self.machine.tick(now.monotonic, &mut |event| notebook.note(&event));
        self.machine.stored_all(now.monotonic);
    }

    /// Submits a message nobody else ever sent.
    pub(crate) fn send(&mut self, conversation: ConversationId, encoder: &mut Encoder) {
        self.sent += 1;
        let text = format!("{} of {} for {conversation}", self.sent, self.id);
        let fields = tidegate_schema::MessageFields { body: text.as_bytes(), ..Default::default() };
        let mut message = Vec::new();
        if encoder.message(&mut message, &fields).is_err() {
            return;
        }
        if let Ok(client_id) = self.machine.send(conversation, &message) {
            self.submitted.insert(client_id, xxh3_64(&message));
        }
    }
}
