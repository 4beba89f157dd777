//! What must hold in the end, judged by the log itself and by what devices stored.

use crate::device::Device;
use std::collections::{BTreeMap, BTreeSet};
use tidegate_ids::{ClientId, ConversationId, ConversationKind, DeviceId, Sequence, UserId};
use tidegate_schema::deliver;
use tidegate_storage_log::RecordView;
use xxhash_rust::xxh3::xxh3_64;

/// A sequenced record as it lies in the log.
#[derive(Clone, Debug)]
struct Logged {
    sequence: Sequence,
    hash: u64,
    sender: UserId,
    device: DeviceId,
    client_id: ClientId,
    change: u16,
    users: Vec<UserId>,
}

/// Every conversation, from the log.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    conversations: BTreeMap<ConversationId, Vec<Logged>>,
}

/// Kinds of records as docs/formats/log.md numbers them.
const SEQUENCED: std::ops::RangeInclusive<u16> = 1..=5;

impl Truth {
    /// Notes one record of the log.
    pub(crate) fn record(&mut self, record: &RecordView<'_>) {
        if !SEQUENCED.contains(&record.head.kind) {
            return;
        }
        let Ok((stored, len)) = deliver::read_stored(record.body) else { return };
        let rest = &record.body[len..];
        let mut client_id = [0; 16];
        client_id.copy_from_slice(&rest[..16]);
        let id = |chunk: &[u8]| UserId(u64::from_le_bytes(chunk.try_into().unwrap_or_default()));
        let stamp = stored.stamp;
        self.conversations.entry(stamp.conversation).or_default().push(Logged {
            sequence: record.head.sequence,
            hash: xxh3_64(stored.message),
            sender: stamp.sender,
            device: stamp.device,
            client_id: ClientId(client_id),
            change: record.head.kind,
            users: rest[16..].chunks_exact(8).map(id).collect(),
        });
    }

    pub(crate) fn messages(&self) -> u64 {
        self.conversations.values().map(|records| records.len() as u64).sum()
    }

    /// Checks everything; the first thing that does not hold.
    pub(crate) fn check(&self, devices: &[Device], late: &BTreeSet<usize>) -> Result<(), String> {
        for (conversation, records) in &self.conversations {
            self.check_order(conversation, records)?;
        }
        for (place, device) in devices.iter().enumerate() {
            if let Some(wrong) = &device.notebook.wrong {
                return Err(format!("device {}: {wrong}", device.id));
            }
            self.check_sends(device)?;
            self.check_deliveries(device, late.contains(&place))?;
        }
        Ok(())
    }

    fn check_order(&self, conversation: &ConversationId, records: &[Logged]) -> Result<(), String> {
        let mut ids = BTreeSet::new();
        for (place, record) in records.iter().enumerate() {
            if record.sequence.0 != place as u64 + 1 {
                return Err(format!("{conversation}: {} stands at place {}", record.sequence, place + 1));
            }
            if !ids.insert((record.sender, record.device, record.client_id)) {
                return Err(format!("{conversation}: a command stands twice, again at {}", record.sequence));
            }
        }
        Ok(())
    }

    fn at(&self, conversation: &ConversationId, sequence: Sequence) -> Option<&Logged> {
        self.conversations.get(conversation)?.get((sequence.0 as usize).checked_sub(1)?)
    }

    /// No acknowledged send is lost, and everything submitted is settled.
    fn check_sends(&self, device: &Device) -> Result<(), String> {
        for (conversation, client_id, sequence) in &device.notebook.acknowledged {
            if sequence.0 == 0 {
                continue;
            }
            let record = self.at(conversation, *sequence);
            if record.is_none_or(|record| record.client_id != *client_id) {
                return Err(format!("LOST: device {}'s send at {conversation} {sequence}", device.id));
            }
        }
        let waiting = device.machine.outbox_commands();
        if waiting > 0 {
            return Err(format!("liveness: device {} still waits for {waiting} answers", device.id));
        }
        Ok(())
    }

    /// Whether the record is owed to the user: a member from the record that added them to the one that ended it.
    fn owed(&self, conversation: &ConversationId, user: UserId) -> Vec<bool> {
        let records = &self.conversations[conversation];
        if let Some(ConversationKind::Direct(low, high)) = conversation.kind() {
            return vec![user == low || user == high; records.len()];
        }
        let mut member = false;
        let mut owed = Vec::with_capacity(records.len());
        for record in records {
            let named = record.users.contains(&user);
            let comes = matches!(record.change, 2 | 3) && named;
            let goes = (record.change == 4 && named) || (record.change == 5 && record.sender == user);
            member |= comes;
            owed.push(member);
            member &= !goes;
        }
        owed
    }

    fn check_deliveries(&self, device: &Device, late: bool) -> Result<(), String> {
        for (conversation, records) in &self.conversations {
            let owed = self.owed(conversation, device.user);
            let empty = Vec::new();
            let seen = device.notebook.seen.get(conversation).unwrap_or(&empty);
            let mut have: BTreeMap<Sequence, u64> = seen.iter().copied().collect();
            for (sequence, hash) in seen {
                let logged = self.at(conversation, *sequence);
                if logged.is_none_or(|logged| logged.hash != *hash) {
                    return Err(format!("device {} holds another {conversation} {sequence}", device.id));
                }
                if !owed[sequence.0 as usize - 1] {
                    return Err(format!("device {} holds {conversation} {sequence}, not owed", device.id));
                }
            }
            for (own, _, sequence) in &device.notebook.acknowledged {
                if own == conversation && sequence.0 > 0 {
                    have.insert(*sequence, 0);
                }
            }
            let first =
                if late { have.keys().next().copied().unwrap_or(Sequence(u64::MAX)) } else { Sequence(1) };
            for (place, record) in records.iter().enumerate() {
                let own = record.sender == device.user && record.device == device.id;
                let expected = owed[place] && !own && record.sequence >= first;
                if expected && !have.contains_key(&record.sequence) {
                    let (device, sequence) = (device.id, record.sequence);
                    return Err(format!("LOST: device {device} never got {conversation} {sequence}"));
                }
            }
        }
        Ok(())
    }
}
