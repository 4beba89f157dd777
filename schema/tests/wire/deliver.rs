//! The canonical `Deliver` is a FlatBuffer like any other: generated accessors read it, and what a builder lays
//! out otherwise is read too.

use crate::samples::{MESSAGE, STAMP, only};
use flatbuffers::{DefaultAllocator, FlatBufferBuilder, Vector, VerifierOptions, WIPOffset};
use proptest::prelude::*;
use tidegate_ids::{PushNumber, Sequence};
use tidegate_schema::deliver::{
    PREFIX, STORED_HEAD_BYTES, frame_header, read_stored, stored_iter, stored_len, write_stored,
};
use tidegate_schema::limits::{MESSAGE_BYTES_MAX, PAYLOAD_BYTES_MAX};
use tidegate_schema::{DecodeError, Deliver, FLAG_NUMBERED, FrameHeader, FrameKind, ServerFrame, Stamp};
use tidegate_schema_generated as wire;

type Message = WIPOffset<Vector<'static, u8>>;

fn stored(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_stored(&STAMP, message, &mut out);
    assert_eq!(out.len(), stored_len(message.len()));
    assert_eq!(out.len() % 8, 0);
    out
}

/// The generated accessor, behind a verifier as strict as the gateway's, reads what was written by hand.
fn check_generated(message: &[u8]) {
    let body = [&PREFIX[..], &stored(message)].concat();
    let options = VerifierOptions {
        max_depth: 1,
        max_tables: 1,
        max_apparent_size: 2 * body.len(),
        ignore_missing_null_terminator: false,
    };
    let table = flatbuffers::root_with_opts::<wire::Deliver<'_>>(&options, &body).expect("verifies");
    assert_eq!(table.message().bytes(), message);
    let stamp = table.stamp();
    assert_eq!(stamp.conversation().0, STAMP.conversation.0);
    assert_eq!(stamp.sequence(), STAMP.sequence.0);
    assert_eq!(stamp.countable(), STAMP.countable.0);
    assert_eq!(stamp.message_id().0, STAMP.message_id.0);
    assert_eq!(stamp.time(), STAMP.time.0);
    assert_eq!(stamp.sender(), STAMP.sender.0);
    assert_eq!(stamp.device(), STAMP.device.0);
    assert_eq!(stamp.target(), STAMP.target.0);
    // Stamp and message stand on multiples of 8.
    let at = |part: &[u8]| part.as_ptr() as usize - body.as_ptr() as usize;
    assert_eq!((at(&stamp.0), at(table.message().bytes())), (16, 104));
}

#[test]
fn generated_accessors_read_the_canonical_layout() {
    for length in [0, 1, 7, 8, 9, 500, MESSAGE_BYTES_MAX] {
        check_generated(&vec![7; length]);
    }
}

/// What the generated builder writes, with the message on a multiple of 8 as `force_align` asks, which the Rust
/// builder does not do by itself; it writes back to front. `fields` adds the table's fields.
fn built(
    message: &[u8],
    fields: impl FnOnce(&mut wire::DeliverBuilder<'_, '_, DefaultAllocator>, &wire::Stamp, Message),
) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    for _ in message.len()..message.len().next_multiple_of(8) {
        builder.push(0_u8);
    }
    let message = builder.create_vector(message);
    let stamp = wire::Stamp::new(
        &wire::ConversationId(STAMP.conversation.0),
        STAMP.sequence.0,
        STAMP.countable.0,
        &wire::MessageId(STAMP.message_id.0),
        STAMP.time.0,
        STAMP.sender.0,
        STAMP.device.0,
        STAMP.target.0,
    );
    let mut table = wire::DeliverBuilder::new(&mut builder);
    fields(&mut table, &stamp, message);
    let root = table.finish();
    builder.finish_minimal(root);
    builder.finished_data().to_vec()
}

#[test]
fn the_canonical_layout_is_what_the_generated_builder_writes() {
    for length in 0..40 {
        let message = vec![7; length];
        let built = built(&message, |table, stamp, message| {
            table.add_message(message);
            table.add_stamp(stamp);
        });
        assert_eq!(built, [&PREFIX[..], &stored(&message)].concat(), "{length} bytes");
    }
}

#[test]
fn another_layout_is_read_too() {
    let mut body = built(MESSAGE, |table, stamp, message| {
        table.add_stamp(stamp);
        table.add_message(message);
    });
    assert!(!body.starts_with(&PREFIX), "another layout than ours");
    body.resize(body.len().next_multiple_of(8), 0);
    let header = FrameHeader {
        body_len: body.len() as u32,
        kind: FrameKind::Deliver as u16,
        flags: FLAG_NUMBERED,
        id: 1,
    };
    let payload = [&header.to_bytes()[..], &body].concat();
    let expected = Deliver { stamp: STAMP, message: MESSAGE };
    assert_eq!(ServerFrame::decode(&only(&payload)), Ok(ServerFrame::Deliver(expected)));
}

#[test]
fn a_frame_is_header_prefix_and_stored_form() {
    let mut out = Vec::new();
    let length = Deliver { stamp: STAMP, message: MESSAGE }.write_frame(&mut out, PushNumber(41));
    let stored = stored(MESSAGE);
    let parts = [&frame_header(PushNumber(41), stored.len())[..], &PREFIX, &stored].concat();
    assert_eq!((out.len(), &out), (length, &parts));
    let header = only(&out).header;
    assert_eq!((header.kind, header.flags, header.id), (FrameKind::Deliver as u16, FLAG_NUMBERED, 41));
}

#[test]
fn stored_forms_are_read_one_after_the_other() {
    let mut packed = Vec::new();
    let stamps: Vec<Stamp> = (1..=5).map(|n| Stamp { sequence: Sequence(n), ..STAMP }).collect();
    for (index, stamp) in stamps.iter().enumerate() {
        write_stored(stamp, &MESSAGE[..index], &mut packed);
    }
    let read: Vec<_> = stored_iter(&packed).map(|stored| stored.expect("sound")).collect();
    assert_eq!(read.len(), stamps.len());
    for (index, stored) in read.iter().enumerate() {
        assert_eq!((stored.stamp, stored.message), (stamps[index], &MESSAGE[..index]));
    }
    // Cut anywhere but between two, the last one is an error and the end.
    let ends: Vec<usize> = (0..=5).map(|count| (0..count).map(stored_len).sum()).collect();
    for length in 0..packed.len() {
        let read: Vec<_> = stored_iter(&packed[..length]).collect();
        let whole = ends.iter().filter(|end| **end <= length && **end > 0).count();
        assert_eq!(read.iter().filter(|stored| stored.is_ok()).count(), whole, "cut at {length}");
        assert_eq!(read.len(), whole + usize::from(!ends.contains(&length)), "cut at {length}");
    }
}

#[test]
fn only_the_canonical_stored_form_is_read() {
    let sound = stored(MESSAGE);
    assert_eq!(read_stored(&sound), Ok((Deliver { stamp: STAMP, message: MESSAGE }, sound.len())));
    let check = |at: usize, value: u8, error: DecodeError| {
        let mut bytes = sound.clone();
        bytes[at] = value;
        assert_eq!(read_stored(&bytes), Err(error), "byte {at}");
    };
    check(80, 5, DecodeError::Malformed);
    check(84, 255, DecodeError::Malformed);
    check(87, 1, DecodeError::TooLarge("message"));
    check(STORED_HEAD_BYTES + MESSAGE.len(), 1, DecodeError::Malformed);
    check(sound.len() - 1, 1, DecodeError::Malformed);
    // A length one above the limit is refused although the bytes are there.
    let mut long = stored(&vec![7; MESSAGE_BYTES_MAX]);
    long[84..88].copy_from_slice(&(MESSAGE_BYTES_MAX as u32 + 1).to_le_bytes());
    long.extend_from_slice(&[0; 8]);
    assert_eq!(read_stored(&long), Err(DecodeError::TooLarge("message")));
    // Bytes behind the stored form belong to the next one, but not in a frame of its own.
    let longer = [&sound[..], &[0; 8]].concat();
    assert_eq!(read_stored(&longer).map(|(_, consumed)| consumed), Ok(sound.len()));
    let mut payload = frame_header(PushNumber(1), longer.len()).to_vec();
    payload.extend_from_slice(&PREFIX);
    payload.extend_from_slice(&longer);
    assert_eq!(ServerFrame::decode(&only(&payload)), Err(DecodeError::Malformed));
}

#[test]
fn the_largest_stored_form_fits_a_payload() {
    let frame_bytes = 16 + PREFIX.len() + tidegate_schema::deliver::STORED_BYTES_MAX;
    assert!(3 * frame_bytes <= PAYLOAD_BYTES_MAX);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_message_survives(message in proptest::collection::vec(any::<u8>(), 0..300)) {
        check_generated(&message);
        let bytes = stored(&message);
        prop_assert_eq!(read_stored(&bytes), Ok((Deliver { stamp: STAMP, message: &message }, bytes.len())));
    }
}
