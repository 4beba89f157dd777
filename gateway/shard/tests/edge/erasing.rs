//! Records that somebody asked to erase, while the log still holds them: nobody is given them any more.

use crate::gateway::{Gateway, token};
use tidegate_ids::{ClientId, CommandNumber, ConversationId, Sequence, StreamId, UserId};
use tidegate_schema::{
    Encoder, Frame, GetRange, MessageFields, RangeSpan, Send, ServerFrame, SkipReason, SkipSpan,
};
use tidegate_shard::{ConnectionId, Event, ShardLimits};
use tidegate_storage_log::{ErasedRanges, SequenceRange};

fn conversation() -> ConversationId {
    ConversationId::direct(UserId(1), UserId(2))
}

fn send(gateway: &mut Gateway, id: u32, number: u64, client_id: u8) -> String {
    let mut message = Vec::new();
    let body = format!("message {number}");
    let fields = MessageFields { body: body.as_bytes(), ..MessageFields::default() };
    Encoder::new().message(&mut message, &fields).unwrap();
    let request = gateway.request(
        id,
        &Send {
            conversation: conversation(),
            number: CommandNumber(number),
            client_id: ClientId([client_id; 16]),
            message: &message,
        },
    );
    gateway.answer(id, request)
}

/// Five messages of user 1 to user 2.
fn written() -> (Gateway, u32) {
    let mut gateway = Gateway::start(ShardLimits::default());
    let id = gateway.session(&token(1, "unlimited"), 1);
    for number in 1..=5 {
        assert_eq!(send(&mut gateway, id, number, number as u8), "SendAck");
    }
    (gateway, id)
}

fn erase(gateway: &mut Gateway, from: u64, to: u64) {
    let mut ranges = ErasedRanges::new();
    let range = SequenceRange::new(Sequence(from), Sequence(to)).unwrap();
    ranges.insert(StreamId::conversation(conversation()), range);
    gateway.tell(Event::Erased { ranges });
}

/// Sequences and skips of the whole conversation, as a page gives them.
fn page(gateway: &mut Gateway, id: u32, span: RangeSpan) -> (Vec<u64>, Vec<SkipSpan>) {
    let request = gateway.request(id, &GetRange { conversation: conversation(), span, limit: 100 });
    let frames = &gateway.socket(id).frames;
    let (header, body) =
        frames.iter().find(|(header, _)| header.id == request && !header.is_numbered()).unwrap();
    let ServerFrame::Range(range) = ServerFrame::decode(&Frame { header: *header, body }).unwrap() else {
        panic!("no range")
    };
    assert!(range.complete);
    let records = range.iter().map(|stored| stored.unwrap().stamp.sequence.0).collect();
    (records, range.skips.iter().collect())
}

fn skip(from: u64, to: u64) -> SkipSpan {
    SkipSpan { from: Sequence(from), to: Sequence(to), reason: SkipReason::Erased }
}

/// Records that were still in memory, or in the segment that is being written, were paged out for hours after somebody had
/// asked to erase them: only a rewritten segment had holes.
#[test]
fn a_page_has_holes_as_soon_as_the_shard_is_told() {
    let (mut gateway, id) = written();
    let all = RangeSpan::After(Sequence(0));
    assert_eq!(page(&mut gateway, id, all), (vec![1, 2, 3, 4, 5], vec![]));
    erase(&mut gateway, 2, 3);
    assert_eq!(page(&mut gateway, id, all), (vec![1, 4, 5], vec![skip(2, 3)]));
    assert_eq!(page(&mut gateway, id, RangeSpan::Before(Sequence(4))), (vec![1], vec![skip(2, 3)]));
    let one = RangeSpan::Between(Sequence(3), Sequence(3));
    assert_eq!(page(&mut gateway, id, one), (vec![], vec![skip(3, 3)]));
    // What comes later is not meant, whatever the range.
    assert_eq!(send(&mut gateway, id, 6, 6), "SendAck");
    assert_eq!(page(&mut gateway, id, all), (vec![1, 4, 5, 6], vec![skip(2, 3)]));
}

#[test]
fn a_device_that_comes_back_is_not_pushed_what_was_erased_meanwhile() {
    let mut gateway = Gateway::start(ShardLimits::default());
    let id = gateway.session(&token(2, "unlimited"), 1);
    gateway.tell(Event::Ended { connection: ConnectionId(id) });
    let id = gateway.session(&token(1, "unlimited"), 1);
    for number in 1..=5 {
        assert_eq!(send(&mut gateway, id, number, number as u8), "SendAck");
    }
    erase(&mut gateway, 2, 4);
    let id = gateway.session(&token(2, "unlimited"), 2);
    let mut pushed = Vec::new();
    for (header, body) in &gateway.socket(id).frames {
        if let Ok(ServerFrame::Deliver(deliver)) = ServerFrame::decode(&Frame { header: *header, body }) {
            pushed.push(deliver.stamp.sequence.0);
        }
    }
    assert_eq!(pushed, [1, 5]);
}

/// A command that is sent again is answered as taken, and nobody learns any more whether it said the same.
#[test]
fn a_duplicate_of_an_erased_command_is_acknowledged() {
    let (mut gateway, id) = written();
    assert_eq!(send(&mut gateway, id, 2, 99), "IDEMPOTENCY_CONFLICT");
    erase(&mut gateway, 2, 2);
    assert_eq!(send(&mut gateway, id, 2, 99), "SendAck");
    assert_eq!(send(&mut gateway, id, 3, 99), "IDEMPOTENCY_CONFLICT");
}

/// In a quiet gateway the open segment is not full for weeks, and no snapshot could hold it: what was to be erased stayed on
/// the disk.
#[test]
fn an_open_segment_ends_when_it_is_told_to_and_is_consumed() {
    let (mut gateway, id) = written();
    assert_eq!(gateway.sealed, []);
    gateway.tell(Event::CloseSegment);
    assert_eq!(gateway.sealed, [1]);
    assert_eq!(send(&mut gateway, id, 6, 6), "SendAck");
    let limits = ShardLimits::default();
    gateway.pass(2000 + limits.checkpoint_interval_ns / 1_000_000);
    let consumed = gateway.consumed.last().copied().unwrap();
    assert!(consumed.segment > 1, "{consumed} is in the segment that was ended");
    assert_eq!(page(&mut gateway, id, RangeSpan::After(Sequence(0))).0, [1, 2, 3, 4, 5, 6]);
}
