//! What is committed, record by record, as the disk reports it: everything that leaves the gateway is judged by it at once.
//!
//! It is kept apart from the gateway: filled from the bytes of each batch when its sync is reported, and compared with what
//! the disk holds after every restart. So nothing can be sent before its commit, nothing committed can be missing
//! after a crash, and no sequence or number can be given twice, without the step that did it being told.

use std::collections::{BTreeMap, BTreeSet};
use tidegate_ids::{
    ClientId, ConversationId, ConversationKind, DeviceId, Location, MonotonicNs, Now, Sequence, StreamKind,
    UserId, WallMs,
};
use tidegate_schema::deliver;
use tidegate_storage_log::{RecordView, SequenceRange};
use xxhash_rust::xxh3::xxh3_64;

/// Kinds of records as docs/formats/log.md numbers them.
mod kind {
    /// Records with a sequence: message, created, added, removed, left.
    pub(super) const SEQUENCED: std::ops::RangeInclusive<u16> = 1..=5;
    pub(super) const MESSAGE: u16 = 1;
    pub(super) const CREATED: u16 = 2;
    pub(super) const ADDED: u16 = 3;
    pub(super) const REMOVED: u16 = 4;
    pub(super) const LEFT: u16 = 5;
    pub(super) const DEVICE_REGISTERED: u16 = 32;
    pub(super) const QUEUE_SET: u16 = 36;
}

/// How long after somebody asked a record may still arrive: two seconds until every shard was told, and whatever an answer
/// takes to a peer who reads nothing.
const ERASED_NS_MAX: u64 = 60 * MonotonicNs::SECOND;

/// A moment in the order of commits: what left the gateway then may rest on nothing later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CommitOrder(pub(crate) u64);

/// A committed record with a sequence.
#[derive(Clone, Debug)]
pub(crate) struct Logged {
    pub(crate) sequence: Sequence,
    /// Of the message as it is delivered.
    pub(crate) hash: u64,
    pub(crate) sender: UserId,
    pub(crate) device: DeviceId,
    pub(crate) location: Location,
    /// A bit of its body has rotted: it is not to be had any more.
    pub(crate) rotten: bool,
    /// When somebody asked to erase it.
    pub(crate) erased: Option<MonotonicNs>,
    pub(crate) is_message: bool,
    body_bytes: u32,
    number: u64,
    client_id: ClientId,
    time: WallMs,
    order: CommitOrder,
    /// The last look through the disk that found it.
    met: u64,
}

impl Logged {
    /// Whether nobody has to be given it any more: who has it has it.
    pub(crate) const fn is_gone(&self) -> bool {
        self.rotten || self.erased.is_some()
    }
}

/// A device said that it has stored everything of a conversation below this.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
    pub(crate) conversation: ConversationId,
    pub(crate) below: Sequence,
}

/// Who belonged to a group from when to when, both included.
type Stays = BTreeMap<UserId, Vec<(Sequence, Option<Sequence>)>>;

#[derive(Debug, Default)]
struct Conversation {
    records: Vec<Logged>,
    stays: Stays,
    /// The place of each author's last command, by its number.
    numbers: BTreeMap<(UserId, DeviceId), u64>,
    ids: BTreeSet<(UserId, DeviceId, ClientId)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    conversations: BTreeMap<ConversationId, Conversation>,
    order: CommitOrder,
    pass: u64,
    claims: Vec<Claim>,
    /// What is committed later than this is owed to the device's queue; what was there before is the device's to fetch.
    registered: BTreeMap<(UserId, DeviceId), CommitOrder>,
}

/// A record with a sequence as its body says it.
struct Said {
    conversation: ConversationId,
    sender: UserId,
    device: DeviceId,
    time: WallMs,
    client_id: ClientId,
    users: Vec<UserId>,
    hash: u64,
}

fn read(record: &RecordView<'_>) -> Option<Said> {
    let (stored, len) = deliver::read_stored(record.body).ok()?;
    let (client_id, users) = record.body.get(len..)?.split_first_chunk::<16>()?;
    let user = |chunk: &[u8; 8]| UserId(u64::from_le_bytes(*chunk));
    let stamp = stored.stamp;
    Some(Said {
        conversation: stamp.conversation,
        sender: stamp.sender,
        device: stamp.device,
        time: stamp.time,
        client_id: ClientId(*client_id),
        users: users.as_chunks::<8>().0.iter().map(user).collect(),
        hash: xxh3_64(stored.message),
    })
}

impl Ledger {
    /// Now, in the order of commits.
    pub(crate) const fn order(&self) -> CommitOrder {
        self.order
    }

    /// Sequenced records so far.
    pub(crate) fn records(&self) -> u64 {
        self.conversations.values().map(|conversation| conversation.records.len() as u64).sum()
    }

    /// Every conversation with its records, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ConversationId, &[Logged])> {
        self.conversations.iter().map(|(id, conversation)| (id, &conversation.records[..]))
    }

    pub(crate) fn at(&self, conversation: &ConversationId, sequence: Sequence) -> Option<&Logged> {
        let records = &self.conversations.get(conversation)?.records;
        records.get((sequence.0 as usize).checked_sub(1)?)
    }

    /// What devices have claimed since this was asked last.
    pub(crate) fn take_claims(&mut self) -> Vec<Claim> {
        std::mem::take(&mut self.claims)
    }

    /// A record is committed.
    ///
    /// # Errors
    /// It breaks the order, takes a number twice, or takes a command twice.
    pub(crate) fn commit(&mut self, record: &RecordView<'_>) -> Result<(), String> {
        self.note_registration(record);
        if record.head.kind == kind::QUEUE_SET {
            self.claims.extend(read_claim(record));
        }
        if !kind::SEQUENCED.contains(&record.head.kind) {
            return Ok(());
        }
        let said = read(record).ok_or_else(|| format!("{} is a record without a body", record.location))?;
        self.order.0 += 1;
        let Self { conversations, order, pass, .. } = self;
        let id = said.conversation;
        let conversation = conversations.entry(id).or_default();
        let sequence = record.head.sequence;
        let due = conversation.records.len() as u64 + 1;
        if sequence.0 != due {
            return Err(format!("{id}: sequence {sequence} is committed where {due} is due"));
        }
        if conversation.records.last().is_some_and(|last| last.time > said.time) {
            return Err(format!("{id}: the time of {sequence} is before that of the record before it"));
        }
        conversation.check_command(&id, record.head.number.0, &said)?;
        conversation.note_members(record.head.kind, sequence, &said);
        conversation.records.push(Logged {
            sequence,
            hash: said.hash,
            sender: said.sender,
            device: said.device,
            location: record.location,
            rotten: false,
            erased: None,
            is_message: record.head.kind == kind::MESSAGE,
            body_bytes: record.head.body_len,
            number: record.head.number.0,
            client_id: said.client_id,
            time: said.time,
            order: *order,
            met: *pass,
        });
        Ok(())
    }

    fn note_registration(&mut self, record: &RecordView<'_>) {
        let user = match record.head.stream.kind() {
            Some(StreamKind::User(user)) if record.head.kind == kind::DEVICE_REGISTERED => user,
            _ => return,
        };
        if let Some((device, _)) = record.body.split_first_chunk::<8>() {
            let device = DeviceId(u64::from_le_bytes(*device));
            self.registered.entry((user, device)).or_insert(self.order);
        }
    }

    /// Whether a record is owed to a device's queue: committed after the device was registered.
    pub(crate) fn is_queued_for(&self, user: UserId, device: DeviceId, logged: &Logged) -> bool {
        self.registered.get(&(user, device)).is_some_and(|since| logged.order > *since)
    }

    /// Begins a look through the disk after a restart.
    pub(crate) fn begin_pass(&mut self) {
        self.pass += 1;
    }

    /// A record stands on the disk after a restart: as it was committed, or committed by the restart.
    ///
    /// # Errors
    /// Another record stands in its place.
    pub(crate) fn meet(&mut self, record: &RecordView<'_>) -> Result<(), String> {
        self.note_registration(record);
        let is_sequenced = kind::SEQUENCED.contains(&record.head.kind);
        let said = read(record).filter(|_| is_sequenced);
        let Some(said) = said else { return Ok(()) };
        let sequence = record.head.sequence;
        let place = (sequence.0 as usize).wrapping_sub(1);
        let known = self.conversations.get_mut(&said.conversation);
        let Some(known) = known.and_then(|known| known.records.get_mut(place)) else {
            return self.commit(record);
        };
        if known.hash != said.hash || known.client_id != said.client_id {
            return Err(format!(
                "{}: another record stands at {sequence} after a restart",
                said.conversation
            ));
        }
        known.met = self.pass;
        Ok(())
    }

    /// Ends the look.
    ///
    /// # Errors
    /// What was committed is not there any more.
    pub(crate) fn end_pass(&self) -> Result<(), String> {
        for (id, conversation) in &self.conversations {
            let lost = conversation.records.iter().find(|record| record.met != self.pass && !record.rotten);
            if let Some(lost) = lost {
                return Err(format!("LOST: {id} {} was committed and is gone", lost.sequence));
            }
        }
        Ok(())
    }

    /// Whether a record is owed to a user: a member from the record that added them to the one that ended it.
    pub(crate) fn is_owed(&self, id: &ConversationId, user: UserId, sequence: Sequence) -> bool {
        if let Some(ConversationKind::Direct(low, high)) = id.kind() {
            return user == low || user == high;
        }
        let stays = self.conversations.get(id).and_then(|conversation| conversation.stays.get(&user));
        let holds = |(from, to): &(Sequence, Option<Sequence>)| {
            *from <= sequence && to.is_none_or(|to| sequence <= to)
        };
        stays.is_some_and(|stays| stays.iter().any(holds))
    }

    /// Judges a record that reached an application, from bytes that left the gateway at `left`.
    ///
    /// # Errors
    /// It is not committed, was not when it left, is another, or is nobody's business there.
    pub(crate) fn judge_delivery(
        &self,
        user: UserId,
        id: &ConversationId,
        sequence: Sequence,
        hash: u64,
        left: CommitOrder,
    ) -> Result<(), String> {
        let logged = self.at(id, sequence).filter(|logged| logged.order <= left);
        let logged = logged.ok_or_else(|| format!("{id} {sequence} came before its commit"))?;
        if logged.hash != hash {
            return Err(format!("{id} {sequence} came with another content"));
        }
        if !self.is_owed(id, user, sequence) {
            return Err(format!("{id} {sequence} came and is not owed to user {user}"));
        }
        Ok(())
    }

    /// Judges a record that was read for somebody, now: what is erased is given to nobody once every shard was told, and
    /// answers that were under way have come.
    ///
    /// # Errors
    /// It is erased.
    pub(crate) fn judge_read(&self, id: &ConversationId, sequence: Sequence, now: Now) -> Result<(), String> {
        let erased = self.at(id, sequence).and_then(|logged| logged.erased);
        if erased.is_some_and(|since| now.monotonic.since(since) > ERASED_NS_MAX) {
            return Err(format!("{id} {sequence} was read for somebody after it was erased"));
        }
        Ok(())
    }

    /// Judges an acknowledgement.
    ///
    /// # Errors
    /// The command is not committed there, or was not when the acknowledgement left.
    pub(crate) fn judge_ack(
        &self,
        id: &ConversationId,
        client_id: ClientId,
        sequence: Sequence,
        left: CommitOrder,
    ) -> Result<(), String> {
        if sequence.0 == 0 {
            return Ok(());
        }
        let logged = self.at(id, sequence).filter(|logged| logged.order <= left);
        match logged {
            // Whose command it was went with the body.
            Some(logged) if logged.client_id == client_id || logged.erased.is_some() => Ok(()),
            Some(_) => Err(format!("{id} {sequence} was acknowledged to the author of another record")),
            None => Err(format!("{id} {sequence} was acknowledged before its commit")),
        }
    }

    /// Judges a head that a client was told.
    ///
    /// # Errors
    /// It is ahead of what was committed then.
    pub(crate) fn judge_head(
        &self,
        id: &ConversationId,
        head: Sequence,
        left: CommitOrder,
    ) -> Result<(), String> {
        let is_committed = self.at(id, head).is_some_and(|logged| logged.order <= left);
        if is_committed || head.0 == 0 {
            return Ok(());
        }
        Err(format!("{id}: the head {head} was told before its commit"))
    }

    /// Judges the last command number of a device that it was told.
    ///
    /// # Errors
    /// It is above what was ever committed.
    pub(crate) fn judge_number(
        &self,
        id: &ConversationId,
        author: (UserId, DeviceId),
        told: u64,
    ) -> Result<(), String> {
        let known = self.conversations.get(id).and_then(|conversation| conversation.numbers.get(&author));
        let known = known.copied().unwrap_or(0);
        if told > known {
            return Err(format!("{id}: number {told} is told as taken, {known} is"));
        }
        Ok(())
    }

    /// Some records of a conversation in a row are erased.
    pub(crate) fn erase(
        &mut self,
        pick: u64,
        count: u64,
        now: MonotonicNs,
    ) -> Option<(ConversationId, SequenceRange)> {
        let place = (pick % self.conversations.len().max(1) as u64) as usize;
        let (id, conversation) = self.conversations.iter_mut().nth(place)?;
        let records = conversation.records.len() as u64;
        let first = (pick >> 32) % records.max(1) + 1;
        let last = records.min(first + count - 1);
        let chosen = conversation.records.get_mut(first as usize - 1..last as usize)?;
        chosen.iter_mut().for_each(|record| record.erased = record.erased.or(Some(now)));
        Some((*id, SequenceRange::new(Sequence(first), Sequence(last))?))
    }

    /// A message in one of these segments whose body may rot without anybody having to give a sequence twice: not the last of
    /// its conversation. Gives its place and the length of its body.
    pub(crate) fn rot(&mut self, pick: u64, closed: &BTreeSet<u32>) -> Option<(Location, u32)> {
        let all = self.conversations.values_mut().flat_map(|conversation| {
            let count = conversation.records.len().saturating_sub(1);
            conversation.records[..count].iter_mut()
        });
        let fits =
            |one: &&mut Logged| one.is_message && !one.rotten && closed.contains(&one.location.segment);
        let mut fit: Vec<&mut Logged> = all.filter(fits).collect();
        if fit.is_empty() {
            return None;
        }
        let place = (pick % fit.len() as u64) as usize;
        let chosen = &mut fit[place];
        chosen.rotten = true;
        Some((chosen.location, chosen.body_bytes))
    }
}

impl Conversation {
    /// Each device's commands are numbered 1, 2, 3 …, and none is taken twice. What has rotted is not known to the gateway:
    /// it may be taken again.
    fn check_command(&mut self, id: &ConversationId, number: u64, said: &Said) -> Result<(), String> {
        let author = (said.sender, said.device);
        let of = |one: &&Logged| (one.sender, one.device) == author;
        let is_rotten = || {
            let same = |one: &&Logged| one.number == number || one.client_id == said.client_id;
            self.records.iter().filter(of).filter(same).all(|one| one.rotten)
        };
        let is_new = !self.ids.contains(&(said.sender, said.device, said.client_id));
        if !is_new && !is_rotten() {
            let before = self.records.iter().filter(of).find(|one| one.client_id == said.client_id);
            let before = before.map(|one| (one.sequence, one.number));
            return Err(format!(
                "{id}: number {number} of device {} was taken before: {before:?}",
                said.device
            ));
        }
        if number > 0 {
            let last = self.numbers.get(&author).copied().unwrap_or(0);
            if number != last + 1 && !is_rotten() {
                return Err(format!("{id}: number {number} of device {} follows {last}", said.device));
            }
            self.numbers.insert(author, number.max(last));
        }
        self.ids.insert((said.sender, said.device, said.client_id));
        Ok(())
    }

    fn note_members(&mut self, kind: u16, sequence: Sequence, said: &Said) {
        let leaver = [said.sender];
        let (comes, goes): (&[UserId], &[UserId]) = match kind {
            kind::CREATED | kind::ADDED => (&said.users, &[]),
            kind::REMOVED => (&[], &said.users),
            kind::LEFT => (&[], &leaver),
            _ => (&[], &[]),
        };
        for user in comes {
            let stays = self.stays.entry(*user).or_default();
            if stays.last().is_none_or(|(_, to)| to.is_some()) {
                stays.push((sequence, None));
            }
        }
        for user in goes {
            let last = self.stays.get_mut(user).and_then(|stays| stays.last_mut());
            if let Some((_, to @ None)) = last {
                *to = Some(sequence);
            }
        }
    }
}

fn read_claim(record: &RecordView<'_>) -> Option<Claim> {
    let Some(StreamKind::User(user)) = record.head.stream.kind() else { return None };
    let (device, rest) = record.body.split_first_chunk::<8>()?;
    let (conversation, rest) = rest.split_first_chunk::<16>()?;
    let (below, _) = rest.split_first_chunk::<8>()?;
    let below = Sequence(u64::from_le_bytes(*below));
    let device = DeviceId(u64::from_le_bytes(*device));
    // 0: the range is removed, which says nothing of how far.
    (below.0 > 0).then_some(Claim { user, device, conversation: ConversationId(*conversation), below })
}
