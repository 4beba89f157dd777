//! Limits of payloads, frames and fields: at the limit it passes, one above it is refused.

use crate::samples::{self, CLIENT_ID, DIRECT, GROUP, only};
use tidegate_ids::{Attempt, CommandNumber, DeviceId, INTEGER_MAX, Sequence, UserId};
use tidegate_schema::limits::{
    ATTACHMENTS_MAX, BATCH_ITEMS_MAX, CONVERSATION_ROWS_MAX, FRAMES_MAX, HEADER_BYTES, MEMBER_ROWS_MAX,
    MENTIONS_MAX, MESSAGE_BODY_BYTES_MAX, MESSAGE_BYTES_MAX, NAME_BYTES_MAX, PAYLOAD_BYTES_MAX,
    PLATFORM_BYTES_MAX, RANGE_RECORDS_MAX, TOKEN_BYTES_MAX, USERS_MAX,
};
use tidegate_schema::*;

fn header(body_len: u32, kind: u16, id: u64) -> [u8; HEADER_BYTES] {
    FrameHeader { body_len, kind, flags: 0, id }.to_bytes()
}

/// Splits a payload; gives how many frames came before its end or its error.
fn check(payload: &[u8], count: usize, error: Option<FrameError>) {
    let mut iter = frames(payload);
    for index in 0..count {
        assert!(matches!(iter.next(), Some(Ok(_))), "frame {index}");
    }
    assert_eq!(iter.next(), error.map(Err));
    assert_eq!(iter.next(), None, "an error ends the payload");
}

#[test]
fn a_payload_splits_or_is_refused() {
    let ping = header(0, FrameKind::Ping as u16, 0);
    check(&[], 0, Some(FrameError::Empty));
    check(&ping, 1, None);
    check(&ping[..15], 0, Some(FrameError::HeaderTruncated));
    check(&[&ping[..], &ping[..1]].concat(), 1, Some(FrameError::HeaderTruncated));
    check(&header(8, 1, 0), 0, Some(FrameError::BodyTruncated));
    check(&[&header(8, 1, 0)[..], &[0; 7]].concat(), 0, Some(FrameError::BodyTruncated));
    check(&[&header(8, 1, 0)[..], &[0; 8]].concat(), 1, None);
    check(&[&header(4, 1, 0)[..], &[0; 8]].concat(), 0, Some(FrameError::LengthUnaligned));
    check(&header(u32::MAX, 1, 0), 0, Some(FrameError::LengthUnaligned));
    check(&header(u32::MAX - 7, 1, 0), 0, Some(FrameError::BodyTruncated));
    check(&header(0, 1, INTEGER_MAX), 1, None);
    check(&header(0, 1, INTEGER_MAX + 1), 0, Some(FrameError::IdTooLarge));
    check(&ping.repeat(FRAMES_MAX), FRAMES_MAX, None);
    check(&ping.repeat(FRAMES_MAX + 1), FRAMES_MAX, Some(FrameError::TooManyFrames));
    let longest = (PAYLOAD_BYTES_MAX - HEADER_BYTES) as u32;
    let mut payload = header(longest, 1, 0).to_vec();
    payload.resize(PAYLOAD_BYTES_MAX, 0);
    check(&payload, 1, None);
    payload.resize(PAYLOAD_BYTES_MAX + 16, 0);
    check(&payload, 0, Some(FrameError::PayloadTooLarge));
}

#[test]
fn a_header_survives_its_bytes() {
    let header =
        FrameHeader { body_len: 0x0102_0308, kind: 0x0405, flags: 0x0607, id: 0x0008_090A_0B0C_0D0E };
    let bytes = header.to_bytes();
    assert_eq!(bytes, [8, 3, 2, 1, 5, 4, 7, 6, 0x0E, 0x0D, 0x0C, 0x0B, 0x0A, 9, 8, 0]);
    assert_eq!(FrameHeader::from_bytes(&bytes), header);
    let generated = tidegate_schema_generated::FrameHeader(bytes);
    assert_eq!(
        (generated.body_len(), generated.kind(), generated.flags(), generated.id()),
        (header.body_len, header.kind, header.flags, header.id)
    );
    assert_eq!(FLAG_NUMBERED, tidegate_schema_generated::FrameFlag::Numbered.bits());
}

#[test]
fn kinds_of_the_other_direction_are_unsupported() {
    let refused = |bytes: &[u8]| DecodeError::Unsupported(only(bytes).header.kind);
    for (name, id, frame) in samples::server() {
        let bytes = samples::server_bytes(&frame, id);
        if !matches!(frame, ServerFrame::Ping | ServerFrame::Pong | ServerFrame::Typing(_)) {
            assert_eq!(ClientFrame::decode(&only(&bytes)), Err(refused(&bytes)), "{name}");
        }
    }
    for (name, id, frame) in samples::client() {
        let bytes = samples::client_bytes(&frame, id);
        if !matches!(frame, ClientFrame::Ping | ClientFrame::Pong | ClientFrame::Typing(_)) {
            assert_eq!(ServerFrame::decode(&only(&bytes)), Err(refused(&bytes)), "{name}");
        }
    }
    for kind in [0, FrameKind::Edit as u16, FrameKind::Pin as u16, 0x0400, u16::MAX] {
        let bytes = header(0, kind, 1);
        assert_eq!(ClientFrame::decode(&only(&bytes)), Err(DecodeError::Unsupported(kind)));
        assert_eq!(ServerFrame::decode(&only(&bytes)), Err(DecodeError::Unsupported(kind)));
    }
}

#[test]
fn a_header_that_stands_alone_has_no_body() {
    for kind in [FrameKind::Ack, FrameKind::Ping, FrameKind::Pong] {
        let bytes = [&header(8, kind as u16, 1)[..], &[0; 8]].concat();
        assert_eq!(ClientFrame::decode(&only(&bytes)), Err(DecodeError::Malformed));
    }
}

fn check_field(at: &ClientFrame<'_>, above: &ClientFrame<'_>, error: DecodeError) {
    assert_eq!(ClientFrame::decode(&only(&samples::client_bytes(at, 1))), Ok(*at));
    assert_eq!(ClientFrame::decode(&only(&samples::client_bytes(above, 1))), Err(error));
}

#[test]
fn fields_of_bytes() {
    let hello = |token, platform| {
        ClientFrame::Hello(Hello {
            protocol_min: 1,
            protocol_max: 1,
            token,
            device: DeviceId(1),
            attempt: Attempt(1),
            platform,
            state: ClientState::Active,
            credit_frames: 1,
        })
    };
    let bytes = vec![7; MESSAGE_BYTES_MAX + 1];
    let upto = |length: usize| &bytes[..length];
    check_field(
        &hello(upto(TOKEN_BYTES_MAX), upto(PLATFORM_BYTES_MAX)),
        &hello(upto(TOKEN_BYTES_MAX + 1), &[]),
        DecodeError::TooLarge("token"),
    );
    check_field(
        &hello(&[], &[]),
        &hello(&[], upto(PLATFORM_BYTES_MAX + 1)),
        DecodeError::TooLarge("platform"),
    );
    let refresh = |token| ClientFrame::Refresh(Refresh { token });
    check_field(
        &refresh(upto(TOKEN_BYTES_MAX)),
        &refresh(upto(TOKEN_BYTES_MAX + 1)),
        DecodeError::TooLarge("token"),
    );
    let send =
        |message| Send { conversation: DIRECT, number: CommandNumber(1), client_id: CLIENT_ID, message };
    check_field(
        &ClientFrame::Send(send(upto(MESSAGE_BYTES_MAX))),
        &ClientFrame::Send(send(upto(MESSAGE_BYTES_MAX + 1))),
        DecodeError::TooLarge("message"),
    );
    let group =
        |name| ClientFrame::GroupCreate(GroupCreate { client_id: CLIENT_ID, name, users: List::default() });
    check_field(
        &group(upto(NAME_BYTES_MAX)),
        &group(upto(NAME_BYTES_MAX + 1)),
        DecodeError::TooLarge("name"),
    );
}

#[test]
fn fields_of_lists() {
    let item = Send { conversation: DIRECT, number: CommandNumber(1), client_id: CLIENT_ID, message: &[] };
    let items = vec![item; BATCH_ITEMS_MAX + 1];
    let batch = |count: usize| ClientFrame::SendBatch(SendBatch { items: List::new(&items[..count]) });
    check_field(&batch(BATCH_ITEMS_MAX), &batch(BATCH_ITEMS_MAX + 1), DecodeError::TooLarge("items"));
    check_field(&batch(1), &batch(0), DecodeError::BadValue("items"));

    let users = vec![UserId(1); USERS_MAX + 1];
    let change = |count: usize| MembersChange {
        conversation: GROUP,
        number: CommandNumber(1),
        client_id: CLIENT_ID,
        member_version: 0,
        users: List::new(&users[..count]),
    };
    for frame in [ClientFrame::MembersAdd, ClientFrame::MembersRemove] {
        let at = frame(change(USERS_MAX));
        check_field(&at, &frame(change(USERS_MAX + 1)), DecodeError::TooLarge("users"));
        check_field(&frame(change(1)), &frame(change(0)), DecodeError::BadValue("users"));
    }
    let group = |count: usize| {
        ClientFrame::GroupCreate(GroupCreate {
            client_id: CLIENT_ID,
            name: &[],
            users: List::new(&users[..count]),
        })
    };
    check_field(&group(0), &group(USERS_MAX + 1), DecodeError::TooLarge("users"));
}

#[test]
fn fields_of_values() {
    let range = |span, limit| ClientFrame::GetRange(GetRange { conversation: GROUP, span, limit });
    let after = RangeSpan::After(Sequence(1));
    check_field(
        &range(after, RANGE_RECORDS_MAX),
        &range(after, RANGE_RECORDS_MAX + 1),
        DecodeError::BadValue("limit"),
    );
    check_field(&range(after, 1), &range(after, 0), DecodeError::BadValue("limit"));
    let between = |from, to| range(RangeSpan::Between(Sequence(from), Sequence(to)), 1);
    check_field(&between(5, 5), &between(5, 4), DecodeError::BadValue("to"));
    let order = ListOrder::LastActivity(samples::TIME);
    let list = |limit| ClientFrame::ConversationList(ConversationList { order, after: None, limit });
    check_field(
        &list(CONVERSATION_ROWS_MAX),
        &list(CONVERSATION_ROWS_MAX + 1),
        DecodeError::BadValue("limit"),
    );
    check_field(&list(1), &list(0), DecodeError::BadValue("limit"));
    let get = |limit| ClientFrame::MembersGet(MembersGet { conversation: GROUP, after: None, limit });
    check_field(&get(MEMBER_ROWS_MAX), &get(MEMBER_ROWS_MAX + 1), DecodeError::BadValue("limit"));
    check_field(&get(1), &get(0), DecodeError::BadValue("limit"));
}

#[test]
fn limits_of_a_message() {
    let mut encoder = Encoder::new();
    let mut out = vec![1, 2, 3];
    let body = vec![7; MESSAGE_BODY_BYTES_MAX + 1];
    let above = encoder.message(&mut out, &MessageFields { body: &body, ..Default::default() });
    assert_eq!(above, Err(TooLarge { bytes: MESSAGE_BODY_BYTES_MAX + 1, bytes_max: MESSAGE_BODY_BYTES_MAX }));
    assert_eq!(out, [1, 2, 3], "nothing was appended");
    out.clear();
    let body = &body[..MESSAGE_BODY_BYTES_MAX];
    let length = encoder.message(&mut out, &MessageFields { body, ..Default::default() });
    assert_eq!(length, Ok(out.len()));
    assert_eq!(MessageFields::verify(&out).map(|read| read.body), Ok(body));
    let attachment = Attachment { media: &body[..4096], ..Default::default() };
    let attachments = [attachment; 3];
    let fields = MessageFields { body, attachments: List::new(&attachments), ..Default::default() };
    assert!(matches!(encoder.message(&mut out, &fields), Err(TooLarge { bytes_max: MESSAGE_BYTES_MAX, .. })));

    let verify = |fields: &MessageFields<'_>| {
        let mut out = Vec::new();
        Encoder::new().message(&mut out, fields).expect("small enough");
        MessageFields::verify(&out).map(|_| ())
    };
    let users = vec![UserId(1); MENTIONS_MAX + 1];
    let mentions =
        |count: usize| MessageFields { mentions: List::new(&users[..count]), ..Default::default() };
    assert_eq!(verify(&mentions(MENTIONS_MAX)), Ok(()));
    assert_eq!(verify(&mentions(MENTIONS_MAX + 1)), Err(DecodeError::TooLarge("mentions")));
    let many = vec![Attachment::default(); ATTACHMENTS_MAX + 1];
    let attachments =
        |count: usize| MessageFields { attachments: List::new(&many[..count]), ..Default::default() };
    assert_eq!(verify(&attachments(ATTACHMENTS_MAX)), Ok(()));
    assert_eq!(verify(&attachments(ATTACHMENTS_MAX + 1)), Err(DecodeError::TooLarge("attachments")));
    let long = vec![0; MESSAGE_BYTES_MAX + 8];
    assert_eq!(MessageFields::verify(&long), Err(DecodeError::TooLarge("message")));
}

#[test]
fn errors_are_answered_with_their_codes() {
    for (error, code) in [
        (DecodeError::Unsupported(9), ErrorCode::Unsupported),
        (DecodeError::Malformed, ErrorCode::BadFrame),
        (DecodeError::IntegerTooLarge("number"), ErrorCode::BadArgument),
        (DecodeError::BadValue("limit"), ErrorCode::BadArgument),
        (DecodeError::TooLarge("message"), ErrorCode::TooLarge),
    ] {
        assert_eq!(error.code(), code, "{error}");
    }
}
