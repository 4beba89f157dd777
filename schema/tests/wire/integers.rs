//! Every `u64` of every frame is refused at 2^53, so that a browser may use plain numbers.

use crate::samples::{self, CLIENT_ID, GROUP, only};
use tidegate_ids::{
    Attempt, CommandNumber, Countable, DeviceId, INTEGER_MAX, Incarnation, Sequence, UserId, UserVersion,
    WallMs,
};
use tidegate_schema::deliver::{read_stored, write_stored};
use tidegate_schema::*;

const OVER: u64 = INTEGER_MAX + 1;

fn check_client(field: &'static str, frame: &ClientFrame<'_>) {
    let bytes = samples::client_bytes(frame, 1);
    assert_eq!(ClientFrame::decode(&only(&bytes)), Err(DecodeError::IntegerTooLarge(field)));
}

fn check_server(field: &'static str, frame: &ServerFrame<'_>) {
    let bytes = samples::server_bytes(frame, 1);
    assert_eq!(ServerFrame::decode(&only(&bytes)), Err(DecodeError::IntegerTooLarge(field)));
}

fn check_message(field: &'static str, fields: &MessageFields<'_>) {
    let mut out = Vec::new();
    Encoder::new().message(&mut out, fields).expect("small enough");
    assert_eq!(MessageFields::verify(&out), Err(DecodeError::IntegerTooLarge(field)));
}

#[test]
fn session() {
    let hello = Hello {
        protocol_min: 1,
        protocol_max: 1,
        token: &[],
        device: DeviceId(1),
        attempt: Attempt(1),
        platform: &[],
        state: ClientState::Active,
        credit_frames: 1,
    };
    check_client("device", &ClientFrame::Hello(Hello { device: DeviceId(OVER), ..hello }));
    check_client("attempt", &ClientFrame::Hello(Hello { attempt: Attempt(u64::MAX), ..hello }));
    let some = Welcome::default();
    check_server("user", &ServerFrame::Welcome(Welcome { user: UserId(OVER), ..some }));
    check_server("incarnation", &ServerFrame::Welcome(Welcome { incarnation: Incarnation(OVER), ..some }));
    check_server("server_time", &ServerFrame::Welcome(Welcome { server_time: WallMs(OVER), ..some }));
    check_server("user_version", &ServerFrame::Welcome(Welcome { user_version: UserVersion(OVER), ..some }));
    let error = Error { expected_number: CommandNumber(OVER), ..Error::new(ErrorCode::OutOfOrder) };
    check_server("expected_number", &ServerFrame::Error(error));
}

#[test]
fn messages() {
    let send = Send { conversation: GROUP, number: CommandNumber(OVER), client_id: CLIENT_ID, message: &[] };
    check_client("number", &ClientFrame::Send(send));
    let sound = Send { number: CommandNumber(1), ..send };
    check_client("number", &ClientFrame::SendBatch(SendBatch { items: List::new(&[sound, send]) }));
    check_client("user", &ClientFrame::Typing(Typing { user: UserId(OVER), ..Default::default() }));
    let range = |span| ClientFrame::GetRange(GetRange { conversation: GROUP, span, limit: 1 });
    check_client("from", &range(RangeSpan::Before(Sequence(OVER))));
    check_client("to", &range(RangeSpan::Between(Sequence(1), Sequence(OVER))));
    let list = |order| ClientFrame::ConversationList(ConversationList { order, after: None, limit: 1 });
    check_client("before", &list(ListOrder::LastActivity(WallMs(OVER))));
    check_client("changed_since", &list(ListOrder::ChangedSince(UserVersion(OVER))));

    let ack = SendAck::default();
    check_server("sequence", &ServerFrame::SendAck(SendAck { sequence: Sequence(OVER), ..ack }));
    check_server("time", &ServerFrame::SendAck(SendAck { time: WallMs(OVER), ..ack }));
    check_server("from", &ServerFrame::Dirty(Dirty { from: Sequence(OVER), ..Default::default() }));
    check_server("head", &ServerFrame::Dirty(Dirty { head: Sequence(OVER), ..Default::default() }));
    check_server("from", &ServerFrame::Skip(Skip { from: Sequence(OVER), ..Default::default() }));
    check_server("to", &ServerFrame::Skip(Skip { to: Sequence(OVER), ..Default::default() }));
    let range = Range::default();
    check_server("head", &ServerFrame::Range(Range { head: Sequence(OVER), ..range }));
    check_server("first_available", &ServerFrame::Range(Range { first_available: Sequence(OVER), ..range }));
    for span in [
        SkipSpan { from: Sequence(OVER), ..Default::default() },
        SkipSpan { to: Sequence(OVER), ..Default::default() },
    ] {
        check_server("skips", &ServerFrame::Range(Range { skips: List::new(&[span]), ..range }));
    }
}

#[test]
fn pages() {
    let row = ConversationRow::default();
    for (field, row) in [
        ("rows.head", ConversationRow { head: Sequence(OVER), ..row }),
        ("rows.first_available", ConversationRow { first_available: Sequence(OVER), ..row }),
        ("rows.last_number", ConversationRow { last_number: CommandNumber(OVER), ..row }),
        ("rows.last_activity", ConversationRow { last_activity: WallMs(OVER), ..row }),
        ("rows.joined", ConversationRow { joined: Sequence(OVER), ..row }),
        ("rows.left", ConversationRow { left: Sequence(OVER), ..row }),
        ("rows.delivered", ConversationRow { delivered: Sequence(OVER), ..row }),
        ("rows.read", ConversationRow { read: Sequence(OVER), ..row }),
    ] {
        let rows = [ConversationRow::default(), row];
        let page = ConversationPage { rows: List::new(&rows), ..Default::default() };
        check_server(field, &ServerFrame::ConversationPage(page));
    }
    let page = ConversationPage { user_version: UserVersion(OVER), ..Default::default() };
    check_server("user_version", &ServerFrame::ConversationPage(page));
    let member = Member::default();
    for (field, member) in [
        ("members.user", Member { user: UserId(OVER), ..member }),
        ("members.joined", Member { joined: Sequence(OVER), ..member }),
        ("members.left", Member { left: Sequence(OVER), ..member }),
    ] {
        let rows = [Member::default(), member];
        let page = MembersPage { members: List::new(&rows), ..Default::default() };
        check_server(field, &ServerFrame::MembersPage(page));
    }
    let page = MembersPage { member_version: OVER, ..Default::default() };
    check_server("member_version", &ServerFrame::MembersPage(page));
}

#[test]
fn groups_and_receipts() {
    let users = [UserId(1), UserId(OVER)];
    let group = GroupCreate { client_id: CLIENT_ID, name: &[], users: List::new(&users) };
    check_client("users", &ClientFrame::GroupCreate(group));
    let change = MembersChange {
        conversation: GROUP,
        number: CommandNumber(1),
        client_id: CLIENT_ID,
        member_version: 1,
        users: List::new(&users[..1]),
    };
    for frame in [ClientFrame::MembersAdd, ClientFrame::MembersRemove] {
        check_client("users", &frame(MembersChange { users: List::new(&users), ..change }));
        check_client("number", &frame(MembersChange { number: CommandNumber(OVER), ..change }));
        check_client("member_version", &frame(MembersChange { member_version: OVER, ..change }));
    }
    check_client("number", &ClientFrame::Leave(Leave { number: CommandNumber(OVER), ..Default::default() }));
    let get = MembersGet { conversation: GROUP, after: Some(UserId(OVER)), limit: 1 };
    check_client("after", &ClientFrame::MembersGet(get));
    let created = GroupCreated::default();
    check_server(
        "member_version",
        &ServerFrame::GroupCreated(GroupCreated { member_version: OVER, ..created }),
    );
    check_server(
        "sequence",
        &ServerFrame::GroupCreated(GroupCreated { sequence: Sequence(OVER), ..created }),
    );

    check_client("delivered", &ClientFrame::Mark(Mark { delivered: Sequence(OVER), ..Default::default() }));
    check_client("read", &ClientFrame::Mark(Mark { read: Sequence(OVER), ..Default::default() }));
    check_server("read", &ServerFrame::ReadSync(ReadSync { read: Sequence(OVER), ..Default::default() }));
    check_server("time", &ServerFrame::ReadSync(ReadSync { time: WallMs(OVER), ..Default::default() }));
    let receipt = Receipt::default();
    for (field, row) in [
        ("rows.user", Receipt { user: UserId(OVER), ..receipt }),
        ("rows.delivered", Receipt { delivered: Sequence(OVER), ..receipt }),
        ("rows.read", Receipt { read: Sequence(OVER), ..receipt }),
        ("rows.time", Receipt { time: WallMs(OVER), ..receipt }),
    ] {
        let rows = [receipt, row];
        let receipts = Receipts { conversation: GROUP, rows: List::new(&rows) };
        check_server(field, &ServerFrame::Receipts(receipts));
    }
}

#[test]
fn roots_that_travel_as_bytes() {
    let some = MessageFields::default();
    let users = [UserId(OVER)];
    let attachments = [Attachment { size: OVER, ..Default::default() }];
    let origin = Origin { sequence: Sequence(OVER), ..Default::default() };
    check_message("mentions", &MessageFields { mentions: List::new(&users), ..some });
    check_message("attachments.size", &MessageFields { attachments: List::new(&attachments), ..some });
    check_message("reply_to", &MessageFields { reply_to: Sequence(OVER), ..some });
    check_message("thread_root", &MessageFields { thread_root: Sequence(OVER), ..some });
    check_message("forwarded_from", &MessageFields { forwarded_from: Some(origin), ..some });
    check_message("expiry_ms", &MessageFields { expiry_ms: OVER, ..some });
    for (field, change) in [
        ("actor", GroupChange { actor: UserId(OVER), ..Default::default() }),
        ("users", GroupChange { users: List::new(&users), ..Default::default() }),
    ] {
        let mut out = Vec::new();
        Encoder::new().group_change(&mut out, &change).expect("small enough");
        assert_eq!(GroupChange::verify(&out), Err(DecodeError::IntegerTooLarge(field)));
    }
}

#[test]
fn stamps() {
    let some = samples::STAMP;
    for (field, stamp) in [
        ("stamp.sequence", Stamp { sequence: Sequence(OVER), ..some }),
        ("stamp.countable", Stamp { countable: Countable(OVER), ..some }),
        ("stamp.time", Stamp { time: WallMs(OVER), ..some }),
        ("stamp.sender", Stamp { sender: UserId(OVER), ..some }),
        ("stamp.device", Stamp { device: DeviceId(OVER), ..some }),
        ("stamp.target", Stamp { target: Sequence(OVER), ..some }),
    ] {
        let mut out = Vec::new();
        write_stored(&stamp, &[], &mut out);
        assert_eq!(read_stored(&out), Err(DecodeError::IntegerTooLarge(field)));
        check_server(field, &ServerFrame::Deliver(Deliver { stamp, message: &[] }));
    }
}
