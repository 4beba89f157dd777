//! One sample of every frame, every field set to something of its own.

use tidegate_ids::{
    Attempt, ClientId, CommandNumber, ConversationId, Countable, DeviceId, Incarnation, MessageId,
    PushNumber, Sequence, UserId, UserVersion, WallMs,
};
use tidegate_schema::*;

pub const DIRECT: ConversationId = ConversationId([0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 9]);
pub const GROUP: ConversationId = ConversationId([
    0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F,
]);
pub const CLIENT_ID: ClientId = ClientId([0xC1; 16]);
pub const MESSAGE_ID: MessageId = MessageId([0xD1; 16]);
pub const TIME: WallMs = WallMs(1_800_000_000_000);
/// The largest integer that is allowed: every bit of it must survive.
pub const LARGEST: u64 = tidegate_ids::INTEGER_MAX;
/// Thirteen bytes, so that padding follows.
pub const MESSAGE: &[u8] = b"not a Message";

pub const STAMP: Stamp = Stamp {
    conversation: GROUP,
    sequence: Sequence(7),
    countable: Countable(5),
    message_id: MESSAGE_ID,
    time: TIME,
    sender: UserId(4),
    device: DeviceId(LARGEST),
    target: Sequence(3),
};

pub const MESSAGE_FIELDS: MessageFields<'static> = MessageFields {
    kind: MessageKind::Voice,
    body: "sprich, Freund".as_bytes(),
    attachments: List::new(&[
        Attachment { media: &[1, 2, 3], mime: b"audio/ogg", name: b"friend.ogg", size: 4711 },
        Attachment { media: &[4], mime: &[], name: &[], size: 0 },
    ]),
    mentions: List::new(&[UserId(4), UserId(LARGEST)]),
    reply_to: Sequence(11),
    thread_root: Sequence(10),
    forwarded_from: Some(Origin { conversation: DIRECT, sequence: Sequence(2) }),
    expiry_ms: 86_400_000,
    flags: FLAG_SILENT | FLAG_URGENT,
};

pub const GROUP_CHANGE: GroupChange<'static> = GroupChange {
    change: Change::Added,
    actor: UserId(4),
    users: List::new(&[UserId(9), UserId(10)]),
    name: b"moria",
};

const SEND: Send<'static> =
    Send { conversation: DIRECT, number: CommandNumber(1), client_id: CLIENT_ID, message: MESSAGE };

const MEMBERS_CHANGE: MembersChange<'static> = MembersChange {
    conversation: GROUP,
    number: CommandNumber(2),
    client_id: CLIENT_ID,
    member_version: 3,
    users: List::new(&[UserId(9), UserId(10), UserId(LARGEST)]),
};

/// Every frame that a client sends, with its request id.
pub fn client() -> Vec<(&'static str, u64, ClientFrame<'static>)> {
    let hello = Hello {
        protocol_min: 1,
        protocol_max: 2,
        token: b"header.claims.signature",
        device: DeviceId(LARGEST),
        attempt: Attempt(3),
        platform: b"linux",
        state: ClientState::Inactive,
        credit_frames: 128,
    };
    let batch = SendBatch {
        items: List::new(&[
            SEND,
            Send { conversation: GROUP, number: CommandNumber(2), client_id: CLIENT_ID, message: &[] },
            Send {
                conversation: DIRECT,
                number: CommandNumber(LARGEST),
                client_id: CLIENT_ID,
                message: &[7; 8],
            },
        ]),
    };
    let range = |span| ClientFrame::GetRange(GetRange { conversation: GROUP, span, limit: 100 });
    let list = |order, after| ClientFrame::ConversationList(ConversationList { order, after, limit: 200 });
    let group =
        GroupCreate { client_id: CLIENT_ID, name: b"moria", users: List::new(&[UserId(9), UserId(10)]) };
    vec![
        ("hello", 1, ClientFrame::Hello(hello)),
        ("refresh", 2, ClientFrame::Refresh(Refresh { token: b"header.claims.signature" })),
        ("ack", 77, ClientFrame::Ack(PushNumber(77))),
        ("client_ping", 3, ClientFrame::Ping),
        ("client_pong", 4, ClientFrame::Pong),
        ("client_state", 5, ClientFrame::ClientState(ClientState::Background)),
        ("send", LARGEST, ClientFrame::Send(SEND)),
        ("send_batch", 7, ClientFrame::SendBatch(batch)),
        ("get_range_before", 8, range(RangeSpan::Before(Sequence(9)))),
        ("get_range_after", 9, range(RangeSpan::After(Sequence(9)))),
        ("get_range_between", 10, range(RangeSpan::Between(Sequence(9), Sequence(12)))),
        ("conversation_list_activity", 11, list(ListOrder::LastActivity(TIME), Some(DIRECT))),
        ("conversation_list_changes", 12, list(ListOrder::ChangedSince(UserVersion(6)), None)),
        (
            "client_typing",
            0,
            ClientFrame::Typing(Typing { conversation: DIRECT, user: UserId(0), active: true }),
        ),
        ("group_create", 13, ClientFrame::GroupCreate(group)),
        ("members_add", 14, ClientFrame::MembersAdd(MEMBERS_CHANGE)),
        ("members_remove", 15, ClientFrame::MembersRemove(MEMBERS_CHANGE)),
        (
            "leave",
            16,
            ClientFrame::Leave(Leave { conversation: GROUP, number: CommandNumber(3), client_id: CLIENT_ID }),
        ),
        (
            "members_get",
            17,
            ClientFrame::MembersGet(MembersGet { conversation: GROUP, after: Some(UserId(0)), limit: 1000 }),
        ),
        (
            "mark",
            18,
            ClientFrame::Mark(Mark { conversation: GROUP, delivered: Sequence(9), read: Sequence(8) }),
        ),
    ]
}

/// Every frame that the gateway sends, with its id.
pub fn server() -> Vec<(&'static str, u64, ServerFrame<'static>)> {
    let mut frames = server_session();
    frames.extend(server_messages());
    frames.extend(server_groups());
    frames
}

fn server_session() -> Vec<(&'static str, u64, ServerFrame<'static>)> {
    let welcome = Welcome {
        version: 1,
        user: UserId(4),
        incarnation: Incarnation(2),
        limits: Limits::default(),
        heartbeat_active_ms: 30_000,
        heartbeat_background_ms: 300_000,
        server_time: TIME,
        user_version: UserVersion(6),
        ranges_waiting: 12,
        resync: Resync::QueueExpired,
    };
    let throttle =
        Throttle { scope: ThrottleScope::Conversation, retry_after_ms: 1500, conversation: Some(GROUP) };
    let go_away =
        GoAway { reason: GoAwayReason::Shutdown, delay_min_ms: 500, delay_max_ms: 5000, come_back: true };
    let error = Error {
        code: ErrorCode::OutOfOrder,
        temporary: true,
        retry_after_ms: 250,
        text: b"Not the next number.",
        detail: b"number",
        expected_number: CommandNumber(4),
        index: 2,
    };
    vec![
        ("welcome", 1, ServerFrame::Welcome(welcome)),
        ("ok", 2, ServerFrame::Ok),
        ("server_ping", 3, ServerFrame::Ping),
        ("server_pong", 4, ServerFrame::Pong),
        ("drain_done", 0, ServerFrame::DrainDone),
        ("throttle", 0, ServerFrame::Throttle(throttle)),
        ("go_away", 0, ServerFrame::GoAway(go_away)),
        ("error", 6, ServerFrame::Error(error)),
    ]
}

fn server_messages() -> Vec<(&'static str, u64, ServerFrame<'static>)> {
    let ack =
        SendAck { sequence: Sequence(7), message_id: MESSAGE_ID, time: TIME, duplicate: true, index: 2 };
    let range = Range {
        conversation: GROUP,
        head: Sequence(20),
        first_available: Sequence(3),
        complete: true,
        skips: List::new(&[
            SkipSpan { from: Sequence(3), to: Sequence(6), reason: SkipReason::NotMember },
            SkipSpan { from: Sequence(8), to: Sequence(8), reason: SkipReason::Damaged },
        ]),
        records: records(),
    };
    let page = ConversationPage {
        rows: List::new(&[
            ConversationRow {
                conversation: GROUP,
                head: Sequence(20),
                first_available: Sequence(3),
                last_number: CommandNumber(5),
                last_activity: TIME,
                joined: Sequence(2),
                left: Sequence(19),
                delivered: Sequence(18),
                read: Sequence(17),
            },
            ConversationRow {
                conversation: DIRECT,
                head: Sequence(0),
                first_available: Sequence(0),
                last_number: CommandNumber(0),
                last_activity: WallMs(0),
                joined: Sequence(0),
                left: Sequence(0),
                delivered: Sequence(0),
                read: Sequence(0),
            },
        ]),
        user_version: UserVersion(6),
        more: true,
    };
    let dirty = Dirty { conversation: GROUP, from: Sequence(3), head: Sequence(900), mentions: 2 };
    let skip = Skip { conversation: GROUP, from: Sequence(3), to: Sequence(6), reason: SkipReason::Expired };
    vec![
        ("send_ack", 5, ServerFrame::SendAck(ack)),
        ("deliver", 41, ServerFrame::Deliver(Deliver { stamp: STAMP, message: MESSAGE })),
        ("dirty", 42, ServerFrame::Dirty(dirty)),
        ("skip", 43, ServerFrame::Skip(skip)),
        ("range", 8, ServerFrame::Range(range)),
        ("conversation_page", 11, ServerFrame::ConversationPage(page)),
        (
            "server_typing",
            0,
            ServerFrame::Typing(Typing { conversation: DIRECT, user: UserId(9), active: false }),
        ),
    ]
}

fn server_groups() -> Vec<(&'static str, u64, ServerFrame<'static>)> {
    let created =
        GroupCreated { conversation: GROUP, member_version: 1, sequence: Sequence(1), duplicate: true };
    let page = MembersPage {
        conversation: GROUP,
        member_version: 3,
        members: List::new(&[
            Member { user: UserId(4), role: Role::Owner, joined: Sequence(1), left: Sequence(0) },
            Member { user: UserId(9), role: Role::Member, joined: Sequence(2), left: Sequence(8) },
        ]),
        more: true,
    };
    let receipts = Receipts {
        conversation: GROUP,
        rows: List::new(&[
            Receipt { user: UserId(4), delivered: Sequence(9), read: Sequence(8), time: TIME },
            Receipt { user: UserId(9), delivered: Sequence(7), read: Sequence(0), time: TIME },
        ]),
    };
    vec![
        ("group_created", 13, ServerFrame::GroupCreated(created)),
        ("members_page", 17, ServerFrame::MembersPage(page)),
        ("receipts", 0, ServerFrame::Receipts(receipts)),
        (
            "read_sync",
            0,
            ServerFrame::ReadSync(ReadSync { conversation: GROUP, read: Sequence(8), time: TIME }),
        ),
    ]
}

/// Two stored forms one after the other.
fn records() -> &'static [u8] {
    static RECORDS: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    RECORDS.get_or_init(|| {
        let mut out = Vec::new();
        deliver::write_stored(&STAMP, MESSAGE, &mut out);
        deliver::write_stored(&Stamp { sequence: Sequence(9), ..STAMP }, &[], &mut out);
        out
    })
}

/// The bytes of a client's frame.
pub fn client_bytes(frame: &ClientFrame<'_>, id: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let length = frame.encode(&mut Encoder::new(), &mut out, id);
    assert_eq!(length, out.len());
    out
}

/// The bytes of a gateway's frame; a push is numbered.
pub fn server_bytes(frame: &ServerFrame<'_>, id: u64) -> Vec<u8> {
    let numbered = matches!(frame, ServerFrame::Deliver(_) | ServerFrame::Dirty(_) | ServerFrame::Skip(_));
    let mut out = Vec::new();
    let length = frame.encode(&mut Encoder::new(), &mut out, id, if numbered { FLAG_NUMBERED } else { 0 });
    assert_eq!(length, out.len());
    out
}

/// The only frame in a payload.
pub fn only(payload: &[u8]) -> Frame<'_> {
    let mut iter = frames(payload);
    let frame = iter.next().expect("a frame").expect("a sound one");
    assert_eq!(iter.next(), None);
    frame
}
