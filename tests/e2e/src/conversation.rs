//! Everything that a conversation holds, read back from the gateway.

use crate::sender::Acknowledged;
use crate::wire::Wire;
use std::collections::HashSet;
use tidegate_ids::{ConversationId, Sequence};
use tidegate_schema::{ServerFrame, Stamp};

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

    /// Every send that was acknowledged must be there, identical, where its acknowledgement said; no send twice.
    #[track_caller]
    pub fn prove(&self, acknowledged: &[Acknowledged]) {
        for sent in acknowledged.iter().filter(|sent| sent.conversation == self.id) {
            let sequence = sent.ack.sequence;
            let Some(entry) = self.at(sequence) else {
                panic!("{}: {sequence:?} was acknowledged; {} are there", self.id, self.entries.len())
            };
            assert_eq!(
                entry.stamp.message_id, sent.ack.message_id,
                "{}: {sequence:?} has another id",
                self.id
            );
            assert_eq!(entry.stamp.time, sent.ack.time, "{}: {sequence:?} has another time", self.id);
            assert!(entry.message == sent.message, "{}: {sequence:?} says something else", self.id);
        }
        let mut messages = HashSet::new();
        for entry in &self.entries {
            let first = messages.insert((entry.stamp.sender, entry.stamp.device, &entry.message));
            assert!(first, "{}: {:?} is there twice", self.id, entry.stamp.sequence);
        }
    }
}
