//! Command numbers: what was answered is answered the same way again, and nothing out of order is taken.

use crate::SHARDS;
use tidegate_ids::{ClientId, CommandNumber, ConversationId, DeviceId, Sequence, UserId};
use tidegate_schema::{ErrorCode, List, Send, SendAck, SendBatch};
use tidegate_tests_e2e::{Conversation, Gateway, Wire, message, user_at};

const COUNT: u64 = 300;

/// Numbers that are answered exactly again: the last 256.
const ANSWERED: u64 = 256;

struct Talk {
    conversation: ConversationId,
    acknowledged: Vec<SendAck>,
}

impl Talk {
    fn new(wire: &mut Wire, conversation: ConversationId) -> Self {
        // At most 256 may be unanswered.
        let mut acknowledged = Vec::new();
        for chunk in (1..=COUNT).collect::<Vec<_>>().chunks(100) {
            let ids: Vec<u64> = chunk
                .iter()
                .map(|number| wire.say_send(conversation, *number, &message(&number.to_string())))
                .collect();
            acknowledged.extend(ids.into_iter().map(|id| wire.acknowledged(id)));
        }
        assert!(acknowledged.iter().all(|ack| !ack.duplicate));
        Self { conversation, acknowledged }
    }

    /// Every number of the last 256 gets its own answer again, an older one only hears that it is old.
    #[track_caller]
    fn check(&self, wire: &mut Wire) {
        let oldest = COUNT - ANSWERED + 1;
        for number in [COUNT, COUNT - 1, COUNT - 100, oldest + 1, oldest] {
            let again = wire.send(self.conversation, number, &number.to_string());
            let first = self.acknowledged[number as usize - 1];
            assert_eq!(again, SendAck { duplicate: true, ..first }, "number {number}");
        }
        for number in [oldest - 1, 1] {
            let again = wire.send(self.conversation, number, &number.to_string());
            assert_eq!((again.duplicate, again.sequence), (true, Sequence(0)), "number {number}");
        }
        assert_eq!(
            Conversation::read(wire, self.conversation).entries.len() as u64,
            COUNT,
            "nothing was added"
        );
    }
}

#[test]
fn a_duplicate_gets_the_original_answer_also_after_restarts() {
    for shards in SHARDS {
        let dir = tempfile::tempdir().unwrap();
        let (user, other) = (user_at(shards, 0, 0), user_at(shards, shards - 1, 1));
        let mut gateway = Gateway::start(dir.path(), shards);
        let token = gateway.token(user);
        let mut wire = Wire::greeted(gateway.ws, &token, DeviceId(1), 1);
        let talk = Talk::new(&mut wire, ConversationId::direct(user, other));
        talk.check(&mut wire);
        gateway.stop();
        gateway = Gateway::start(dir.path(), shards);
        talk.check(&mut Wire::greeted(gateway.ws, &token, DeviceId(1), 2));
        gateway.kill();
        gateway = Gateway::start(dir.path(), 5 - shards);
        let mut wire = Wire::greeted(gateway.ws, &token, DeviceId(1), 3);
        talk.check(&mut wire);
        let next = wire.send(talk.conversation, COUNT + 1, "next");
        assert_eq!((next.sequence, next.duplicate), (Sequence(COUNT + 1), false));
    }
}

#[test]
fn only_the_next_number_is_taken_and_refusals_say_which() {
    for shards in SHARDS {
        let dir = tempfile::tempdir().unwrap();
        let gateway = Gateway::start(dir.path(), shards);
        let (user, other) = (user_at(shards, 0, 0), user_at(shards, shards - 1, 1));
        let mut wire = Wire::greeted(gateway.ws, &gateway.token(user), DeviceId(1), 1);
        let conversation = ConversationId::direct(user, other);
        let mut refused = |number: u64, code: ErrorCode, expected: u64| {
            let id = wire.say_send(conversation, number, &message("x"));
            let refusal = wire.refusal(id);
            assert_eq!((refusal.code, refusal.expected.0), (code, expected), "number {number}");
            assert_eq!(refusal.temporary, code == ErrorCode::OutOfOrder, "number {number}");
        };
        refused(2, ErrorCode::OutOfOrder, 1);
        refused(0, ErrorCode::OutOfOrder, 1);
        wire.send(conversation, 1, "one");
        wire.send(conversation, 2, "two");
        let mut refused = |number: u64, client_id: ClientId, code: ErrorCode| {
            let number = CommandNumber(number);
            let id = wire.request(&Send { conversation, number, client_id, message: &message("x") });
            let refusal = wire.refusal(id);
            assert_eq!((refusal.code, refusal.expected.0), (code, 3), "{number:?}");
        };
        refused(0, ClientId([3; 16]), ErrorCode::OutOfOrder);
        refused(4, ClientId([4; 16]), ErrorCode::OutOfOrder);
        refused(1, ClientId([5; 16]), ErrorCode::IdempotencyConflict);
        refused(2, ClientId([6; 16]), ErrorCode::IdempotencyConflict);
        assert_eq!(wire.send(conversation, 3, "three").sequence, Sequence(3));
        gateway.wait_for_count("errors.OUT_OF_ORDER", 4);
        gateway.wait_for_count("errors.IDEMPOTENCY_CONFLICT", 2);
    }
}

#[test]
fn items_of_a_batch_are_answered_one_by_one_under_their_index() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(dir.path(), 4);
    let user = UserId(1);
    let mut wire = Wire::greeted(gateway.ws, &gateway.token(user), DeviceId(1), 1);
    let conversation = ConversationId::direct(user, UserId(2));
    let message = message("in a batch");
    // The fourth number is left out: what follows it is out of order.
    let items: Vec<Send<'_>> = [1, 2, 3, 5, 6]
        .map(|number| Send {
            conversation,
            number: CommandNumber(number),
            client_id: ClientId([number as u8; 16]),
            message: &message,
        })
        .to_vec();
    let id = wire.request(&SendBatch { items: List::new(&items) });
    for index in 0..3 {
        let ack = wire.acknowledged(id);
        assert_eq!((ack.index, ack.sequence.0), (index, u64::from(index) + 1));
    }
    for _ in 3..5 {
        let refusal = wire.refusal(id);
        assert_eq!((refusal.code, refusal.expected.0), (ErrorCode::OutOfOrder, 4));
    }
}
