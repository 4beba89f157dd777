//! What is written is what is read: samples, generated values, and frames at their limits.

use crate::samples::{self, CLIENT_ID, GROUP, only};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tidegate_ids::{
    Attempt, ClientId, CommandNumber, ConversationId, DeviceId, INTEGER_MAX, Sequence, UserId, UserVersion,
    WallMs,
};
use tidegate_schema::limits::{
    ATTACHMENTS_MAX, BATCH_ITEMS_MAX, CONVERSATION_ROWS_MAX, MEMBER_ROWS_MAX, MENTIONS_MAX, RECEIPT_ROWS_MAX,
    USERS_MAX,
};
use tidegate_schema::*;

fn check_client(frame: &ClientFrame<'_>) {
    assert_eq!(ClientFrame::decode(&only(&samples::client_bytes(frame, 1))), Ok(*frame));
}

fn check_server(frame: &ServerFrame<'_>) {
    assert_eq!(ServerFrame::decode(&only(&samples::server_bytes(frame, 1))), Ok(*frame));
}

fn check_message(fields: &MessageFields<'_>) {
    let mut out = Vec::new();
    let length = Encoder::new().message(&mut out, fields).expect("small enough");
    assert_eq!((length, length % 8), (out.len(), 0));
    assert_eq!(MessageFields::verify(&out), Ok(*fields));
}

#[test]
fn an_encoder_that_is_used_again_writes_the_same_bytes() {
    let mut encoder = Encoder::new();
    for _ in 0..2 {
        for (name, id, frame) in samples::client() {
            let mut out = Vec::new();
            frame.encode(&mut encoder, &mut out, id);
            assert_eq!(out, samples::client_bytes(&frame, id), "{name}");
        }
    }
}

#[test]
fn frames_in_one_payload_come_out_in_order() {
    let mut encoder = Encoder::new();
    let mut payload = Vec::new();
    let sent = samples::server();
    for (_, id, frame) in &sent {
        frame.encode(&mut encoder, &mut payload, *id, 0);
        assert_eq!(payload.len() % 8, 0);
    }
    let read: Vec<_> = frames(&payload).map(|frame| frame.expect("sound")).collect();
    assert_eq!(read.len(), sent.len());
    for (frame, (name, id, expected)) in read.iter().zip(&sent) {
        assert_eq!(frame.header.id, *id, "{name}");
        assert_eq!(ServerFrame::decode(frame), Ok(*expected), "{name}");
    }
}

#[test]
fn the_longest_lists_pass_the_verifier() {
    let rows =
        vec![ConversationRow { conversation: GROUP, ..Default::default() }; CONVERSATION_ROWS_MAX.into()];
    let page = ConversationPage { rows: List::new(&rows), user_version: UserVersion(1), more: false };
    check_server(&ServerFrame::ConversationPage(page));

    let members = vec![Member::default(); MEMBER_ROWS_MAX.into()];
    let page = MembersPage { members: List::new(&members), ..Default::default() };
    check_server(&ServerFrame::MembersPage(page));

    let rows = vec![Receipt::default(); RECEIPT_ROWS_MAX];
    check_server(&ServerFrame::Receipts(Receipts { conversation: GROUP, rows: List::new(&rows) }));

    let users = vec![UserId(INTEGER_MAX); USERS_MAX];
    let group = GroupCreate { client_id: CLIENT_ID, name: &[], users: List::new(&users) };
    check_client(&ClientFrame::GroupCreate(group));

    let item = Send { conversation: GROUP, number: CommandNumber(0), client_id: CLIENT_ID, message: &[] };
    let items = vec![item; BATCH_ITEMS_MAX];
    check_client(&ClientFrame::SendBatch(SendBatch { items: List::new(&items) }));

    let attachments = vec![Attachment { media: &[], ..Default::default() }; ATTACHMENTS_MAX];
    let mentions = &users[..MENTIONS_MAX];
    check_message(&MessageFields {
        attachments: List::new(&attachments),
        mentions: List::new(mentions),
        ..Default::default()
    });
}

#[test]
fn lists_are_read_from_both_ends() {
    let users = [UserId(1), UserId(2), UserId(3)];
    let group =
        ClientFrame::GroupCreate(GroupCreate { client_id: CLIENT_ID, name: &[], users: List::new(&users) });
    let bytes = samples::client_bytes(&group, 1);
    let Ok(ClientFrame::GroupCreate(read)) = ClientFrame::decode(&only(&bytes)) else {
        panic!("another frame")
    };
    for list in [read.users, List::new(&users)] {
        assert!(list.iter().eq(users));
        assert!(list.iter().rev().eq(users.into_iter().rev()));
        assert_eq!((list.len(), list.is_empty(), list.get(3)), (3, false, None));
        let mut iter = list.iter();
        assert_eq!((iter.next(), iter.next_back(), iter.len()), (Some(UserId(1)), Some(UserId(3)), 1));
        assert_eq!((iter.next_back(), iter.next(), iter.next_back()), (Some(UserId(2)), None, None));
    }
}

#[test]
fn a_message_with_nothing_in_it_and_one_of_an_unknown_kind() {
    check_message(&MessageFields::default());
    check_message(&MessageFields { kind: MessageKind::Other(900), body: &[0], ..Default::default() });
}

fn integer() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(INTEGER_MAX), 0..=INTEGER_MAX]
}

fn users() -> impl Strategy<Value = Vec<UserId>> {
    vec(integer().prop_map(UserId), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_send(conversation: [u8; 16], number in integer(), client_id: [u8; 16], message in vec(any::<u8>(), 0..200)) {
        let send = Send {
            conversation: ConversationId(conversation),
            number: CommandNumber(number),
            client_id: ClientId(client_id),
            message: &message,
        };
        check_client(&ClientFrame::Send(send));
        check_client(&ClientFrame::SendBatch(SendBatch { items: List::new(&[send, send]) }));
        // The message stands on a multiple of 8 (`force_align`).
        let bytes = samples::client_bytes(&ClientFrame::Send(send), 1);
        if message.len() >= 8 {
            let at = bytes.windows(message.len()).position(|window| window == message).expect("it is there");
            prop_assert_eq!(at % 8, 0);
        }
    }

    #[test]
    fn any_hello(device in integer(), attempt in integer(), token in vec(any::<u8>(), 0..300), platform in vec(any::<u8>(), 0..128), versions: (u16, u16), credit_frames: u16) {
        check_client(&ClientFrame::Hello(Hello {
            protocol_min: versions.0,
            protocol_max: versions.1,
            token: &token,
            device: DeviceId(device),
            attempt: Attempt(attempt),
            platform: &platform,
            state: ClientState::Active,
            credit_frames,
        }));
    }

    #[test]
    fn any_change_of_members(number in integer(), member_version in integer(), users in users()) {
        let change = MembersChange {
            conversation: GROUP,
            number: CommandNumber(number),
            client_id: CLIENT_ID,
            member_version,
            users: List::new(&users),
        };
        check_client(&ClientFrame::MembersAdd(change));
        check_client(&ClientFrame::MembersRemove(change));
    }

    #[test]
    fn any_message(kind in 0_u16..20, body in vec(any::<u8>(), 0..300), users in users(), links: (u16, u16), origin in option::of(integer()), expiry_ms in integer(), flags: u16) {
        check_message(&MessageFields {
            kind: MessageKind::from(kind),
            body: &body,
            attachments: List::new(&[Attachment { media: &body, mime: &[], name: b"a", size: expiry_ms }]),
            mentions: List::new(&users),
            reply_to: Sequence(links.0.into()),
            thread_root: Sequence(links.1.into()),
            forwarded_from: origin.map(|sequence| Origin { conversation: GROUP, sequence: Sequence(sequence) }),
            expiry_ms,
            flags,
        });
    }

    #[test]
    fn any_page(head in integer(), time in integer(), count in 0_usize..50) {
        let row = ConversationRow {
            conversation: GROUP,
            head: Sequence(head),
            last_activity: WallMs(time),
            ..Default::default()
        };
        let rows = vec![row; count];
        let page = ConversationPage { rows: List::new(&rows), user_version: UserVersion(head), more: true };
        check_server(&ServerFrame::ConversationPage(page));
    }
}
