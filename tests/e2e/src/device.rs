//! A device with the SDK, and what its application has stored.

use crate::gateway::Gateway;
use crate::limits::WAIT;
use crate::wire::text_of;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tidegate_client::shell::{BlockingClient, Options, Received, Record, new_device};
use tidegate_client::{Backfill, Config, Stored};
use tidegate_ids::{ClientId, ConversationId, DeviceId, Sequence, UserId};
use tidegate_schema::{GroupCreated, MessageKind, SendAck};

/// How long one look at the socket takes, so that conditions are looked at again.
const RECEIVE_WAIT: Duration = Duration::from_millis(500);

/// A device; it keeps what it hears.
#[derive(Debug)]
pub struct Device {
    client: BlockingClient,
    /// Whose it is.
    pub user: UserId,
    /// What others, and this user's other devices, said: by conversation, in the order in which it was given out.
    pub heard: BTreeMap<ConversationId, Vec<Record>>,
    /// What was answered.
    pub sent: BTreeMap<ClientId, SendAck>,
    /// Groups that this device made.
    pub created: BTreeMap<ClientId, GroupCreated>,
    /// Refusals and errors.
    pub complaints: Vec<String>,
    /// Whether the gateway said that it goes.
    pub told_to_go: bool,
}

impl Device {
    /// A new installation, connected.
    #[must_use]
    #[track_caller]
    pub fn new(gateway: &Gateway, user: UserId) -> Self {
        Self::resume(gateway, user, Stored::new(new_device()))
    }

    /// An installation with what it has stored, connected.
    #[must_use]
    #[track_caller]
    pub fn resume(gateway: &Gateway, user: UserId, stored: Stored) -> Self {
        let config = Config { backfill: Backfill::All, ..Config::default() };
        let options = Options { address: gateway.ws.to_string(), token: gateway.token(user), stored, config };
        let mut device = Self {
            client: BlockingClient::new(options),
            user,
            heard: BTreeMap::new(),
            sent: BTreeMap::new(),
            created: BTreeMap::new(),
            complaints: Vec::new(),
            told_to_go: false,
        };
        if let Err(error) = device.client.connect(WAIT) {
            panic!("{user} cannot connect: {error:?}");
        }
        device
    }

    /// The installation.
    #[must_use]
    pub const fn id(&self) -> DeviceId {
        self.client.machine().device()
    }

    /// The conversation with another user.
    #[must_use]
    pub fn direct(&self, other: UserId) -> ConversationId {
        ConversationId::direct(self.user, other)
    }

    /// Takes what comes until a condition holds.
    #[track_caller]
    pub fn wait(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + WAIT;
        while !holds(self) {
            assert!(
                Instant::now() < end,
                "{} waits in vain for {what}; heard {} in {} conversations: {:?}, complaints {:?}",
                self.user,
                self.heard.values().map(Vec::len).sum::<usize>(),
                self.heard.len(),
                self.heard.iter().take(20).map(|(id, records)| (id, records.len())).collect::<Vec<_>>(),
                self.complaints
            );
            if let Some(received) = self.client.receive(RECEIVE_WAIT) {
                self.keep(received);
            }
        }
    }

    #[track_caller]
    fn keep(&mut self, received: Received) {
        match received {
            Received::Message(record) | Received::Fetched(record) => {
                let heard = self.heard.entry(record.stamp.conversation).or_default();
                let rises = heard.last().is_none_or(|last| last.stamp.sequence < record.stamp.sequence);
                assert!(rises, "{} heard {:?} twice or late", self.user, record.stamp);
                heard.push(record);
            }
            Received::Sent { client_id, ack, .. } => {
                let again = self.sent.insert(client_id, ack);
                assert_eq!(again, None, "{} was told twice of one send", self.user);
            }
            Received::GroupCreated { client_id, created } => {
                self.created.insert(client_id, created);
            }
            Received::GoingAway(_) => self.told_to_go = true,
            Received::Refused { code, text, .. } => self.complaints.push(format!("refused: {code:?} {text}")),
            Received::Notice { code, text } => self.complaints.push(format!("notice: {code:?} {text}")),
            Received::Parked { .. } => self.complaints.push("parked".to_owned()),
            _ => {}
        }
    }

    /// Sends a text and waits for its acknowledgement.
    #[track_caller]
    pub fn say(&mut self, conversation: ConversationId, text: &str) -> SendAck {
        let client_id = self.client.send_text(conversation, text).expect("the outbox has room");
        self.wait(text, |device| device.sent.contains_key(&client_id));
        self.sent[&client_id]
    }

    /// Waits for a text of somebody else.
    #[track_caller]
    pub fn hear(&mut self, conversation: ConversationId, text: &str) {
        self.wait(text, |device| device.texts(conversation).iter().any(|heard| heard == text));
    }

    /// Texts that were heard in a conversation; records of the gateway itself apart.
    #[must_use]
    pub fn texts(&self, conversation: ConversationId) -> Vec<String> {
        let heard = self.heard.get(&conversation).map_or(&[][..], Vec::as_slice);
        heard.iter().filter(|record| !is_system(record)).map(|record| text_of(&record.message)).collect()
    }

    /// Sequences that were heard in a conversation.
    #[must_use]
    pub fn sequences(&self, conversation: ConversationId) -> Vec<Sequence> {
        let heard = self.heard.get(&conversation).map_or(&[][..], Vec::as_slice);
        heard.iter().map(|record| record.stamp.sequence).collect()
    }

    /// Creates a group with others.
    #[track_caller]
    pub fn create_group(&mut self, users: &[UserId]) -> ConversationId {
        let client_id = self.client.with(|machine, _| machine.create_group(b"group", users));
        let client_id = client_id.expect("the outbox has room");
        self.wait("the group", |device| device.created.contains_key(&client_id));
        self.created[&client_id].conversation
    }

    /// Creates many groups with the same users, as many at a time as the client takes.
    #[track_caller]
    pub fn create_groups(&mut self, count: usize, users: &[UserId]) -> Vec<ConversationId> {
        let mut ids = Vec::new();
        while ids.len() < count {
            match self.client.with(|machine, _| machine.create_group(b"group", users)) {
                Ok(client_id) => ids.push(client_id),
                Err(_) => {
                    let created = self.created.len();
                    self.wait("a group", |device| device.created.len() > created);
                }
            }
        }
        for some in ids.chunks(64) {
            self.wait("groups", |device| some.iter().all(|id| device.created.contains_key(id)));
        }
        ids.iter().map(|id| self.created[id].conversation).collect()
    }

    /// Sends all these texts, as many at a time as the client takes, and waits for the acknowledgements.
    #[track_caller]
    pub fn say_all<'a>(&mut self, texts: impl Iterator<Item = (ConversationId, &'a str)>) {
        for (conversation, text) in texts {
            while self.client.send_text(conversation, text).is_err() {
                let sent = self.sent.len();
                self.wait("an acknowledgement", |device| device.sent.len() > sent);
            }
        }
        while self.client.machine().outbox_commands() > 0 {
            let sent = self.sent.len();
            self.wait("an acknowledgement", |device| device.sent.len() > sent);
        }
    }

    /// Adds somebody to a group, or removes them, or leaves.
    #[track_caller]
    pub fn change(
        &mut self,
        what: impl FnOnce(&mut tidegate_client::Machine) -> Result<ClientId, tidegate_client::SendError>,
    ) -> SendAck {
        let client_id = self.client.with(|machine, _| what(machine)).expect("the outbox has room");
        self.wait("the change", |device| device.sent.contains_key(&client_id));
        self.sent[&client_id]
    }

    /// Takes what has come by now: what was not received would be in nobody's store after a close.
    #[track_caller]
    pub fn take_all(&mut self) {
        while let Some(received) = self.client.receive(Duration::ZERO) {
            self.keep(received);
        }
    }

    /// Closes the connection; gives what the device keeps.
    #[must_use]
    pub fn close(self) -> Stored {
        self.client.close()
    }
}

fn is_system(record: &Record) -> bool {
    tidegate_schema::MessageFields::verify(&record.message)
        .is_ok_and(|fields| fields.kind == MessageKind::System)
}
