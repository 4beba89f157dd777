//! Bytes of an enemy: nothing panics, and what is let through can be read to its last item.

use crate::samples;
use flatbuffers::FlatBufferBuilder;
use proptest::prelude::*;
use std::hint::black_box;
use tidegate_schema::deliver::{PREFIX, read_stored, stored_iter};
use tidegate_schema::*;
use tidegate_schema_generated as wire;

/// Reads a payload as both sides would, and everything in it.
fn consume(payload: &[u8]) {
    for frame in frames(payload).flatten() {
        consume_body(frame.header.kind, frame.body);
    }
    for stored in stored_iter(payload).flatten() {
        consume_message(stored.message);
    }
    consume_message(payload);
}

/// Reads a body as every direction's kind; formatting walks through every list.
fn consume_body(kind: u16, body: &[u8]) {
    let header = FrameHeader { body_len: body.len() as u32, kind, flags: 0, id: 1 };
    let frame = Frame { header, body };
    if let Ok(read) = ClientFrame::decode(&frame) {
        black_box(format!("{read:?}"));
        if let ClientFrame::Send(send) = read {
            consume_message(send.message);
        }
    }
    if let Ok(read) = ServerFrame::decode(&frame) {
        black_box(format!("{read:?}"));
        if let ServerFrame::Range(range) = read {
            range.iter().flatten().for_each(|stored| consume_message(stored.message));
        }
    }
}

fn consume_message(bytes: &[u8]) {
    if let Ok(message) = MessageFields::verify(bytes) {
        black_box(format!("{message:?}"));
        consume_change(message.body);
    }
    consume_change(bytes);
}

fn consume_change(bytes: &[u8]) {
    if let Ok(change) = GroupChange::verify(bytes) {
        black_box(format!("{change:?}"));
    }
}

/// All samples as payloads.
fn payloads() -> Vec<Vec<u8>> {
    let clients = samples::client().into_iter().map(|(_, id, frame)| samples::client_bytes(&frame, id));
    let servers = samples::server().into_iter().map(|(_, id, frame)| samples::server_bytes(&frame, id));
    clients.chain(servers).collect()
}

/// All roots that travel without a header.
fn roots() -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new();
    let mut message = Vec::new();
    encoder.message(&mut message, &samples::MESSAGE_FIELDS).expect("small enough");
    let mut change = Vec::new();
    encoder.group_change(&mut change, &samples::GROUP_CHANGE).expect("small enough");
    vec![message, change]
}

#[test]
fn every_byte_of_every_sample_may_be_wrong() {
    for mut bytes in payloads().into_iter().chain(roots()) {
        for at in 0..bytes.len() {
            let sound = bytes[at];
            for value in [0, 1, 2, 4, 0x7F, 0x80, 0xFC, 0xFF, sound ^ 1, sound.wrapping_add(4)] {
                bytes[at] = value;
                consume(&bytes);
            }
            bytes[at] = sound;
        }
    }
}

#[test]
fn every_sample_may_be_cut_anywhere() {
    for payload in payloads() {
        for length in 0..payload.len() {
            consume(&payload[..length]);
            if let Some(body) = payload.get(16..length) {
                let kind = u16::from_le_bytes([payload[4], payload[5]]);
                consume_body(kind, body);
            }
        }
    }
}

#[test]
fn every_body_may_come_under_every_kind() {
    for payload in payloads() {
        for kind in FrameKind::ALL {
            consume_body(*kind as u16, &payload[16..]);
        }
    }
}

/// A vector of offsets that all point at one table looks small and unfolds into much.
#[test]
fn rows_that_share_one_large_table_are_refused() {
    let large = [7_u8; 64];
    let decode = |count: usize| {
        let mut builder = FlatBufferBuilder::new();
        let media = builder.create_vector(&large);
        let args = wire::AttachmentArgs { media: Some(media), ..Default::default() };
        let attachment = wire::Attachment::create(&mut builder, &args);
        let attachments = builder.create_vector(&vec![attachment; count]);
        let args = wire::MessageArgs { attachments: Some(attachments), ..Default::default() };
        let root = wire::Message::create(&mut builder, &args);
        builder.finish_minimal(root);
        MessageFields::verify(builder.finished_data()).map(|message| message.attachments.len())
    };
    assert_eq!(decode(2), Ok(2));
    // Thirty offsets have 120 bytes, what they unfold to has 30 times 64: above 4 times the whole.
    assert_eq!(decode(30), Err(DecodeError::Malformed));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        consume(&bytes);
        black_box(read_stored(&bytes).is_ok());
        for kind in FrameKind::ALL {
            consume_body(*kind as u16, &bytes);
        }
        consume_body(FrameKind::Deliver as u16, &[&PREFIX[..], &bytes].concat());
    }

    #[test]
    fn any_words(words in proptest::collection::vec(prop_oneof![0_u32..64, any::<u32>(), (u32::MAX - 64)..=u32::MAX], 0..64)) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        consume(&bytes);
        for kind in FrameKind::ALL {
            consume_body(*kind as u16, &bytes);
        }
    }

    #[test]
    fn any_few_bytes_of_a_sample(index: prop::sample::Index, edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let all = payloads();
        let mut bytes = all[index.index(all.len())].clone();
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        consume(&bytes);
    }
}
