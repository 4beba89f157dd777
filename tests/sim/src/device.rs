//! A device: the SDK's machine, and what its application has stored.

use crate::ledger::{Claim, CommitOrder, Ledger};
use crate::network::Wire;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tidegate_client::{Backfill, Config, Encoder, Event, Machine, Source, Stored};
use tidegate_ids::{ConversationId, DeviceId, Now, Sequence, UserId};
use tidegate_schema::SkipReason;
use xxhash_rust::xxh3::xxh3_64;

/// What a device's application knows.
#[derive(Debug, Default)]
pub(crate) struct Notebook {
    /// Records given out, in the order they came.
    pub(crate) seen: BTreeMap<ConversationId, Vec<Sequence>>,
    /// Acknowledged commands.
    pub(crate) acknowledged: BTreeMap<ConversationId, BTreeSet<Sequence>>,
    pub(crate) refused: u64,
    /// Sequences that will never come.
    pub(crate) skipped: BTreeMap<ConversationId, Vec<(Sequence, Sequence)>>,
    /// What it has taken upon itself to fetch.
    duties: BTreeMap<ConversationId, Vec<(Sequence, Sequence)>>,
    /// The highest head that it was told.
    heads: BTreeMap<ConversationId, Sequence>,
    /// Claims were found true up to here.
    claimed: BTreeMap<ConversationId, Sequence>,
    pub(crate) groups: Vec<ConversationId>,
    pub(crate) told_of_erasure: u64,
    /// Pages of history that it asked for and got.
    pub(crate) pages: u64,
    /// The first thing that must not happen.
    pub(crate) wrong: Option<String>,
}

/// Whose notebook it is, and by what its entries are judged.
struct Judge<'a> {
    user: UserId,
    device: DeviceId,
    ledger: &'a Ledger,
    /// When the bytes left the gateway that the events rest on.
    left: CommitOrder,
    now: Now,
    /// Whether everything is printed.
    is_narrated: bool,
}

/// Of an event that is told, so many characters: a message may be long.
const NARRATED_CHARS_MAX: usize = 240;

fn hold(
    spans: &BTreeMap<ConversationId, Vec<(Sequence, Sequence)>>,
    id: &ConversationId,
    at: Sequence,
) -> bool {
    spans.get(id).is_some_and(|spans| spans.iter().any(|(from, to)| (*from..=*to).contains(&at)))
}

impl Notebook {
    fn note(&mut self, event: &Event<'_>, judge: &Judge<'_>) {
        if judge.is_narrated {
            let text: String = format!("{event:?}").chars().take(NARRATED_CHARS_MAX).collect();
            println!("{:>10.6} device {} {text}", seconds(judge.now), judge.device);
        }
        if let Err(wrong) = self.judge(event, judge) {
            self.wrong.get_or_insert(wrong);
        }
    }

    fn judge(&mut self, event: &Event<'_>, judge: &Judge<'_>) -> Result<(), String> {
        let Judge { ledger, left, .. } = *judge;
        match event {
            Event::Message { stamp, message, source } => {
                let records = self.seen.entry(stamp.conversation).or_default();
                if records.last().is_some_and(|last| *last >= stamp.sequence) {
                    return Err(format!("{} at {} came out of order", stamp.conversation, stamp.sequence));
                }
                records.push(stamp.sequence);
                let hash = xxh3_64(message);
                ledger.judge_delivery(judge.user, &stamp.conversation, stamp.sequence, hash, left)?;
                // A push may be of a record that was on its way before.
                if *source == Source::Fetch {
                    ledger.judge_read(&stamp.conversation, stamp.sequence, judge.now)?;
                }
            }
            Event::Sent { conversation, client_id, ack, .. } => {
                self.acknowledged.entry(*conversation).or_default().insert(ack.sequence);
                ledger.judge_ack(conversation, *client_id, ack.sequence, left)?;
            }
            Event::Refused { .. } => self.refused += 1,
            Event::Skipped { conversation, from, to, reason } => {
                self.told_of_erasure += u64::from(*reason == SkipReason::Erased);
                self.skipped.entry(*conversation).or_default().push((*from, *to));
            }
            Event::Duty { conversation, from, to, .. } => {
                self.duties.entry(*conversation).or_default().push((*from, *to));
                ledger.judge_head(conversation, *to, left)?;
            }
            Event::Conversation(row) => {
                let before = self.heads.insert(row.conversation, row.head).unwrap_or_default();
                if row.head < before {
                    return Err(format!("{}: the head fell from {before} to {}", row.conversation, row.head));
                }
                ledger.judge_head(&row.conversation, row.head, left)?;
                let author = (judge.user, judge.device);
                ledger.judge_number(&row.conversation, author, row.last_number.0)?;
            }
            Event::History { range, .. } => {
                ledger.judge_head(&range.conversation, range.head, left)?;
                for record in range.iter() {
                    let record = record.map_err(|error| format!("a page that cannot be read: {error:?}"))?;
                    let (id, sequence) = (record.stamp.conversation, record.stamp.sequence);
                    ledger.judge_delivery(judge.user, &id, sequence, xxh3_64(record.message), left)?;
                    ledger.judge_read(&id, sequence, judge.now)?;
                }
                self.pages += 1;
            }
            Event::GroupCreated { created, .. } => {
                self.groups.push(created.conversation);
                ledger.judge_head(&created.conversation, created.sequence, left)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Conversations that it was told of.
    pub(crate) fn conversations(&self) -> impl Iterator<Item = &ConversationId> {
        self.heads.keys().chain(self.seen.keys().filter(|id| !self.heads.contains_key(id)))
    }

    /// Whether the application has a record, was told that it cannot have it, or has the duty to fetch it.
    pub(crate) fn has(&self, id: &ConversationId, sequence: Sequence) -> bool {
        self.is_seen(id, sequence)
            || self.acknowledged.get(id).is_some_and(|own| own.contains(&sequence))
            || self.is_skipped(id, sequence)
    }

    pub(crate) fn is_seen(&self, id: &ConversationId, sequence: Sequence) -> bool {
        self.seen.get(id).is_some_and(|seen| seen.binary_search(&sequence).is_ok())
    }

    pub(crate) fn is_skipped(&self, id: &ConversationId, sequence: Sequence) -> bool {
        hold(&self.skipped, id, sequence)
    }

    /// The first record of a conversation that the application has.
    pub(crate) fn first(&self, id: &ConversationId) -> Option<Sequence> {
        let seen = self.seen.get(id).and_then(|seen| seen.first()).copied();
        let own =
            self.acknowledged.get(id).and_then(|own| own.iter().find(|sequence| sequence.0 > 0)).copied();
        seen.into_iter().chain(own).min()
    }
}

/// The time of a narrated line.
pub(crate) fn seconds(now: Now) -> f64 {
    now.monotonic.0 as f64 / 1e9
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
    /// Whether everything that it is told is printed.
    pub(crate) narrates: bool,
    /// It came after its user's conversations had begun.
    pub(crate) late: bool,
    /// Bodies sent so far.
    sent: u64,
    /// When the newest bytes that it received left the gateway.
    left: CommitOrder,
}

impl Device {
    pub(crate) fn new(user: UserId, id: DeviceId, seed: u64, late: bool) -> Self {
        // Some devices take little at once, and some hold little that is out of order.
        let (credit_frames, reorder_max) = match seed % 4 {
            0 => (4, 8),
            1 => (32, 64),
            _ => (256, 1024),
        };
        let config = Config { backfill: Backfill::All, credit_frames, reorder_max, ..Config::default() };
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
            narrates: false,
            late,
            sent: 0,
            left: CommitOrder::default(),
        }
    }

    /// Lets the machine do something; what it tells is noted and judged.
    fn drive(
        &mut self,
        now: Now,
        ledger: &Ledger,
        act: impl FnOnce(&mut Machine, &mut dyn FnMut(Event<'_>)),
    ) {
        let Self { machine, notebook, user, id, left, narrates, .. } = self;
        let judge = Judge { user: *user, device: *id, ledger, left: *left, now, is_narrated: *narrates };
        act(machine, &mut |event| notebook.note(&event, &judge));
        machine.stored_all(now.monotonic);
    }

    pub(crate) fn received(&mut self, bytes: &mut [u8], left: CommitOrder, now: Now, ledger: &Ledger) {
        self.left = self.left.max(left);
        self.drive(now, ledger, |machine, sink| machine.received(bytes, now.monotonic, sink));
    }

    pub(crate) fn connected(&mut self, now: Now, ledger: &Ledger) {
        self.drive(now, ledger, |machine, sink| machine.connected(now.monotonic, sink));
    }

    pub(crate) fn disconnected(&mut self, now: Now, ledger: &Ledger) {
        self.drive(now, ledger, |machine, sink| machine.disconnected(now.monotonic, sink));
    }

    pub(crate) fn tick(&mut self, now: Now, ledger: &Ledger) {
        self.drive(now, ledger, |machine, sink| machine.tick(now.monotonic, sink));
    }

    /// Submits a message nobody else ever sent.
    pub(crate) fn send(&mut self, conversation: ConversationId, body_bytes: usize, encoder: &mut Encoder) {
        self.sent += 1;
        let mut text = format!("{} of {} for {conversation}", self.sent, self.id).into_bytes();
        text.resize(text.len().max(body_bytes), b'.');
        let fields = tidegate_schema::MessageFields { body: &text, ..Default::default() };
        let mut message = Vec::new();
        if encoder.message(&mut message, &fields).is_ok() {
            // A full outbox refuses; then there is one message less.
            self.machine.send(conversation, &message).ok();
        }
    }

    /// Judges a durable claim that this device has stored everything of a conversation below some sequence.
    ///
    /// # Errors
    /// It has not.
    pub(crate) fn judge_claim(&mut self, claim: &Claim, ledger: &Ledger) -> Result<(), String> {
        let Self { notebook, user, id, .. } = self;
        let conversation = &claim.conversation;
        let mut at = notebook.claimed.get(conversation).copied().unwrap_or(Sequence::FIRST);
        while at < claim.below {
            let Some(logged) = ledger.at(conversation, at) else {
                return Err(format!("{conversation} is claimed below {}, ahead of its head", claim.below));
            };
            let own = logged.sender == *user && logged.device == *id;
            let owed = !own
                && !logged.is_gone()
                && ledger.is_owed(conversation, *user, at)
                && ledger.is_queued_for(*user, *id, logged);
            if owed && !notebook.has(conversation, at) && !hold(&notebook.duties, conversation, at) {
                return Err(format!("{conversation} is claimed below {}, {at} is not stored", claim.below));
            }
            at = at.next();
        }
        notebook.claimed.insert(*conversation, at);
        Ok(())
    }
}
