//! Everything that a conversation holds, read back from the gateway, and the proof that it is what it must be.

use crate::expected::{Command, Expected, Founded};
use crate::wire::{Wire, message as encoded};
use std::collections::HashMap;
use tidegate_ids::{CommandNumber, ConversationId, DeviceId, Sequence, UserId};
use tidegate_schema::{Change, GroupChange, MessageFields, MessageKind, ServerFrame, Stamp};

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What the gateway says about it.
    pub stamp: Stamp,
    /// What was sent.
    pub message: Vec<u8>,
}

/// A conversation from its first record to its head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// Which.
    pub id: ConversationId,
    /// Sequences 1, 2, 3 …
    pub entries: Vec<Entry>,
}

impl Conversation {
    /// Reads a conversation whose first record the reader may read; sequences must be contiguous from 1 to the head.
    #[must_use]
    #[track_caller]
    pub fn read(wire: &mut Wire, id: ConversationId) -> Self {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let before = entries.len();
            let request = wire.say_range(id, Sequence(before as u64));
            let answer = wire.answer(request);
            let range = match answer.read() {
                ServerFrame::Range(range) => range,
                other => panic!("no range of {id}: {other:?}"),
            };
            assert_eq!(range.skips.iter().count(), 0, "{id} has holes");
            for stored in range.iter() {
                let stored = stored.expect("records of a range are sound");
                assert_eq!(stored.stamp.conversation, id, "a record of another conversation");
                assert_eq!(stored.stamp.sequence.0, entries.len() as u64 + 1, "{id} is not contiguous");
                entries.push(Entry { stamp: stored.stamp, message: stored.message.to_vec() });
            }
            if range.complete {
                assert_eq!(range.head.0, entries.len() as u64, "{id} does not reach its head");
                return Self { id, entries };
            }
            assert!(entries.len() > before, "a page of {id} is empty and not the last");
        }
    }

    /// The record at a sequence.
    #[must_use]
    pub fn at(&self, sequence: Sequence) -> Option<&Entry> {
        self.entries.get((sequence.0 as usize).checked_sub(1)?)
    }

    /// Everything here was sent, and everything that was acknowledged is here ([`Conversation::compare`]).
    #[track_caller]
    pub fn prove(&self, expected: &Expected) {
        if let Err(fault) = self.compare(expected) {
            panic!("{}: {fault}", self.id);
        }
    }

    /// Compares it with what was sent and acknowledged. A group begins with its founding, as it was. The records of a device are its commands 1, 2, 3 …, identical, in
    /// their order and each once: only the next number is accepted. Those that were acknowledged are there, where and as
    /// their acknowledgement said; of the others any number of the first.
    ///
    /// # Errors
    /// What is not so.
    pub fn compare(&self, expected: &Expected) -> Result<(), String> {
        let mut counts: HashMap<(UserId, DeviceId), u64> = HashMap::new();
        let mut served: HashMap<Command, Stamp> = HashMap::new();
        for Entry { stamp, message } in self.sends(expected)? {
            let Stamp { sequence, sender: user, device, .. } = *stamp;
            let count = counts.entry((user, device)).or_default();
            *count += 1;
            let command = Command { conversation: self.id, user, device, number: CommandNumber(*count) };
            let Some(text) = expected.text(&command) else {
                return Err(format!("{sequence:?} would be {command:?}, which was never sent"));
            };
            if *message != encoded(text) {
                return Err(format!("{sequence:?} is not what {command:?} said, `{text}`: {message:02x?}"));
            }
            served.insert(command, *stamp);
        }
        for said in expected.acknowledged.iter().filter(|said| said.command.conversation == self.id) {
            let Some(stamp) = served.get(&said.command) else {
                return Err(format!("{said:?} is not among {} records", self.entries.len()));
            };
            if (stamp.sequence, stamp.message_id, stamp.time) != (said.sequence, said.message_id, said.time) {
                return Err(format!("{said:?} is {stamp:?}"));
            }
        }
        Ok(())
    }

    /// Everything but the founding of a group.
    fn sends(&self, expected: &Expected) -> Result<&[Entry], String> {
        let Some(founded) = expected.founded(&self.id) else { return Ok(&self.entries) };
        let (first, sends) = self.entries.split_first().ok_or("there is not even its founding")?;
        let found = read_founding(first).ok_or_else(|| format!("its founding is {first:?}"))?;
        if found != *founded {
            return Err(format!("its founding was {founded:?} and is {found:?}"));
        }
        Ok(sends)
    }
}

fn read_founding(entry: &Entry) -> Option<Founded> {
    let message = MessageFields::verify(&entry.message).ok()?;
    let told = GroupChange::verify(message.body).ok()?;
    let Stamp { sender: user, device, .. } = entry.stamp;
    let is_one = message.kind == MessageKind::System && told.change == Change::Created && told.actor == user;
    let mut members: Vec<UserId> = told.users.iter().collect();
    members.sort_unstable();
    is_one.then_some(Founded { user, device, members })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_ids::{MessageId, WallMs};
    use tidegate_schema::{Encoder, List};

    const ID: ConversationId = ConversationId::group([5; 16]);

    /// The nth record of a conversation, with a text of a device.
    fn entry(sequence: u64, device: u64, text: &str) -> Entry {
        let stamp = Stamp {
            conversation: ID,
            sequence: Sequence(sequence),
            message_id: MessageId([sequence as u8; 16]),
            time: WallMs(1000 + sequence),
            sender: UserId(7),
            device: DeviceId(device),
            ..Stamp::default()
        };
        Entry { stamp, message: encoded(text) }
    }

    fn founding(members: &[UserId]) -> Entry {
        let (mut body, mut message) = (Vec::new(), Vec::new());
        let users = List::new(members);
        let told = GroupChange { change: Change::Created, actor: UserId(7), users, name: b"group" };
        Encoder::new().group_change(&mut body, &told).unwrap();
        let fields = MessageFields { kind: MessageKind::System, body: &body, ..MessageFields::default() };
        Encoder::new().message(&mut message, &fields).unwrap();
        Entry { message, ..entry(1, 9, "") }
    }

    /// A group of two, in which one of them sends on two devices.
    fn conversation() -> Conversation {
        let mut entries = vec![founding(&[UserId(7), UserId(8)])];
        let said = [(1, "a1"), (2, "b1"), (1, "a2"), (1, "a3"), (2, "b2")];
        entries.extend((2..).zip(said).map(|(sequence, (device, text))| entry(sequence, device, text)));
        Conversation { id: ID, entries }
    }

    /// Two devices sent three and four times. Of each the first two are acknowledged.
    fn expected() -> Expected {
        let place = format!("{:032x}", u128::from_be_bytes(ID.0));
        let mut text = format!("founded {place} 7 9 0 7 8\n");
        let sends = [(1, "a", 3), (2, "b", 4)];
        for (device, name, count) in sends {
            (1..=count)
                .for_each(|number| text += &format!("sent {place} 7 {device} {number} {name}{number}\n"));
        }
        let acknowledged = [(1, 1, 2), (2, 1, 3), (1, 2, 4), (2, 2, 6)];
        for (device, number, sequence) in acknowledged {
            let id = format!("{sequence:02x}").repeat(16);
            let time = 1000 + sequence;
            text += &format!("acknowledged {place} 7 {device} {number} {sequence} {id} {time}\n");
        }
        Expected::parse(&text).unwrap()
    }

    #[test]
    fn what_was_sent_and_acknowledged_is_proven() {
        conversation().prove(&expected());
        let mut more = conversation();
        more.entries.push(entry(7, 2, "b3"));
        more.prove(&expected());
    }

    /// A record that was never acknowledged could say anything at all.
    #[test]
    fn whatever_is_otherwise_is_found() {
        let check = |fault: &str, change: fn(&mut Conversation)| {
            let mut changed = conversation();
            change(&mut changed);
            let found = changed.compare(&expected());
            assert!(found.as_ref().is_err_and(|found| found.contains(fault)), "{found:?}");
        };
        check("founding", |it| it.entries[0] = founding(&[UserId(7), UserId(9)]));
        check("founding", |it| it.entries[0].stamp.device = DeviceId(1));
        check("founding", |it| it.entries[0] = entry(1, 9, "group"));
        check("founding", |it| it.entries.clear());
        // This one was sent and never acknowledged.
        check("is not what", |it| it.entries[4].message[0] ^= 1);
        check("is not what", |it| it.entries[4].message = encoded("a4"));
        check("is not what", |it| it.entries[4].message = encoded("a2"));
        check("is not what", |it| it.entries[4].stamp.device = DeviceId(2));
        check("never sent", |it| it.entries[4].stamp.sender = UserId(8));
        check("never sent", |it| it.entries[4].stamp.device = DeviceId(3));
        check("never sent", |it| it.entries.push(entry(7, 1, "a4")));
        check("never sent", |it| it.entries.push(entry(7, 1, "a3")));
        check("is not what", |it| it.entries.push(entry(7, 2, "b4")));
        // The others were acknowledged.
        check("is not what", |it| it.entries[2].message = encoded("b2"));
        check("is not what", |it| _ = it.entries.remove(1));
        check("is not among", |it| _ = it.entries.pop());
        check("is Stamp", |it| it.entries[5].stamp.sequence = Sequence(7));
        check("is Stamp", |it| it.entries[5].stamp.message_id = MessageId([9; 16]));
        check("is Stamp", |it| it.entries[5].stamp.time = WallMs(1));
    }
}
