//! What is wrong gets PROTOCOL's code, costs its sender what PROTOCOL says, disturbs nobody else, and is counted.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use tempfile::TempDir;
use tidegate_ids::{ClientId, CommandNumber, ConversationId, DeviceId, PushNumber, Sequence, UserId};
use tidegate_schema::{
    ClientState, ErrorCode, FrameHeader, FrameKind, GetRange, Hello, RangeSpan, Refresh, Send, ServerFrame,
};
use tidegate_schema_generated as generated;
use tidegate_tests_e2e::{Gateway, NotOpen, Wire, limits::WAIT, message};
use tidegate_ws::encode;

/// Two who go on chatting whatever others do.
pub(crate) struct Bystanders {
    one: Wire,
    other: Wire,
    conversation: ConversationId,
    said: u64,
}

impl Bystanders {
    pub(crate) const COUNT: u64 = 2;

    pub(crate) fn new(gateway: &Gateway) -> Self {
        let (one, other) = (UserId(1001), UserId(1002));
        let conversation = ConversationId::direct(one, other);
        let greet = |user| Wire::greeted(gateway.ws, &gateway.token(user), DeviceId(1), 1);
        Self { one: greet(one), other: greet(other), conversation, said: 0 }
    }

    /// Over the same two connections.
    #[track_caller]
    pub(crate) fn chat(&mut self) {
        self.said += 1;
        let text = format!("undisturbed {}", self.said);
        let ack = self.one.send(self.conversation, self.said, &text);
        assert_eq!(self.other.hear(self.conversation, &text).sequence, ack.sequence);
    }
}

/// A gateway with a culprit and bystanders.
struct Scene {
    gateway: Gateway,
    bystanders: Bystanders,
    token: Vec<u8>,
    attempts: u64,
    /// What should be counted by now.
    counts: BTreeMap<String, u64>,
    _data: TempDir,
}

const CULPRIT: UserId = UserId(7);

impl Scene {
    fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let gateway = Gateway::start(data.path(), 2);
        let bystanders = Bystanders::new(&gateway);
        let token = gateway.token(CULPRIT);
        Self { gateway, bystanders, token, attempts: 0, counts: BTreeMap::new(), _data: data }
    }

    fn culprit(&mut self) -> Wire {
        self.attempts += 1;
        Wire::greeted(self.gateway.ws, &self.token, DeviceId(1), self.attempts)
    }

    /// What is counted as `path` becomes one more, and the bystanders chat on.
    #[track_caller]
    fn counted(&mut self, path: &str, act: impl FnOnce(&mut Self)) {
        act(self);
        let count = self.counts.entry(path.to_owned()).or_default();
        *count += 1;
        self.gateway.wait_for_count(path, *count);
        self.bystanders.chat();
    }

    /// A refused frame: the code, and a connection that goes on.
    #[track_caller]
    fn refused(&mut self, code: ErrorCode, what: &str, say: impl FnOnce(&mut Wire) -> u64) {
        self.counted(&format!("errors.{}", code.label()), |scene| {
            let mut wire = scene.culprit();
            let id = say(&mut wire);
            let refusal = wire.refusal(id);
            assert_eq!((refusal.code, refusal.temporary), (code, code.is_temporary()), "{what}");
            wire.ping();
            let next = wire.say_send(ConversationId::direct(CULPRIT, UserId(8)), 0, &message("next"));
            assert_eq!(wire.refusal(next).code, ErrorCode::OutOfOrder, "{what}: the connection serves on");
        });
    }

    /// A connection that is closed, with its code.
    #[track_caller]
    fn closed(&mut self, code: u16, what: &str, mut wire: Wire, say: impl FnOnce(&mut Wire)) {
        self.counted("events.protocol_errors", |_| {
            say(&mut wire);
            assert_eq!(wire.closed(), Some(code), "{what}");
        });
    }
}

#[test]
fn tokens_that_are_not_good_are_refused_with_4001() {
    let mut scene = Scene::new();
    let check = |scene: &mut Scene, token: &[u8], device: u64, code: ErrorCode, what: &str| {
        scene.counted("events.tokens_refused", |scene| {
            let mut wire = Wire::open(scene.gateway.ws);
            let id = wire.say_hello(token, DeviceId(device), 1);
            let refusal = wire.refusal(id);
            assert_eq!((refusal.code, refusal.temporary), (code, code.is_temporary()), "{what}");
            assert_eq!(wire.closed(), Some(4001), "{what}");
        });
    };
    check(&mut scene, b"nonsense", 1, ErrorCode::Unauthenticated, "nonsense");
    check(&mut scene, b"", 1, ErrorCode::Unauthenticated, "nothing");
    let mut forged = scene.token.clone();
    let last = forged.len() - 5;
    forged[last] = if forged[last] == b'A' { b'B' } else { b'A' };
    check(&mut scene, &forged, 1, ErrorCode::Unauthenticated, "another signature");
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Gateway::start(elsewhere.path(), 1);
    check(&mut scene, &other.token(CULPRIT), 1, ErrorCode::Unauthenticated, "of another gateway");
    let bound = scene.gateway.token_with(CULPRIT, &["--device", "5"]);
    check(&mut scene, &bound, 6, ErrorCode::Unauthenticated, "of another device");
    let expired = scene.gateway.token_with(CULPRIT, &["--ttl", "0s"]);
    // Its time is told in whole seconds, rounded up.
    std::thread::sleep(Duration::from_millis(1100));
    check(&mut scene, &expired, 1, ErrorCode::TokenExpired, "expired");
    Wire::greeted(scene.gateway.ws, &bound, DeviceId(5), 1).ping();
}

/// The session of a token went on for ever once it had been accepted.
#[test]
fn a_session_whose_token_has_expired_goes_on_with_a_refresh() {
    let mut scene = Scene::new();
    let brief = scene.gateway.token_with(CULPRIT, &["--ttl", "2s"]);
    let mut wire = Wire::greeted(scene.gateway.ws, &brief, DeviceId(1), 1);
    let conversation = ConversationId::direct(CULPRIT, UserId(8));
    wire.send(conversation, 1, "in time");
    // Its time is told in whole seconds, rounded up.
    std::thread::sleep(Duration::from_millis(3100));
    let id = wire.say_send(conversation, 2, &message("too late"));
    let refusal = wire.refusal(id);
    assert_eq!((refusal.code, refusal.text.as_str()), (ErrorCode::TokenExpired, "The token has expired."));
    let id = wire.request(&Refresh { token: &scene.token });
    assert!(matches!(wire.answer(id).read(), ServerFrame::Ok));
    wire.send(conversation, 2, "in time again");
    scene.bystanders.chat();
}

/// A socket that sent pings and never read cost the gateway a gigabyte in nine seconds.
#[test]
fn a_socket_that_takes_no_pongs_is_not_read() {
    let mut scene = Scene::new();
    let mut pings = Vec::new();
    (0..500).for_each(|_| encode::ping(&mut pings, &[b'p'; 125], Some([1, 2, 3, 4])));
    for greets in [false, true] {
        let mut wire = if greets { scene.culprit() } else { Wire::open(scene.gateway.ws) };
        // What sockets of both ends hold is some megabytes; all of it would be a hundred.
        let sent = (0..1600).take_while(|_| wire.try_say_raw(&pings, Duration::from_millis(500))).count();
        assert!(sent < 1600, "it is read for ever");
        scene.bystanders.chat();
    }
}

#[test]
fn frames_that_are_wrong_are_refused_and_the_connection_is_kept() {
    let mut scene = Scene::new();
    let mine = ConversationId::direct(CULPRIT, UserId(8));
    let frame = |kind: u16, id: u64, body: &[u8]| {
        let header = FrameHeader { body_len: body.len() as u32, kind, flags: 0, id };
        [&header.to_bytes()[..], body].concat()
    };
    for kind in [0x0fff, 0xffff, 0x0100 + 0x7f] {
        scene.refused(ErrorCode::Unsupported, "an unknown kind", |wire| {
            wire.say(&frame(kind, 77, &[0; 16]));
            77
        });
    }
    for byte in [0x00, 0xff, 0x5a] {
        scene.refused(ErrorCode::BadFrame, "a body that does not verify", |wire| {
            wire.say(&frame(FrameKind::Send as u16, 77, &[byte; 64]));
            77
        });
    }
    scene.refused(ErrorCode::BadFrame, "a message inside that does not verify", |wire| {
        wire.say_send(mine, 1, &[0xff; 64])
    });
    scene.refused(ErrorCode::BadArgument, "no conversation's id", |wire| {
        wire.say_send(ConversationId([0x7f; 16]), 1, &message("x"))
    });
    scene.refused(ErrorCode::BadArgument, "a range of no records", |wire| {
        let span = RangeSpan::After(Sequence(0));
        wire.request(&GetRange { conversation: mine, span, limit: 0 })
    });
    scene.refused(ErrorCode::BadArgument, "an acknowledgement of what was never pushed", |wire| {
        wire.say(&FrameHeader::ack(PushNumber(1000)).to_bytes());
        1000
    });
    scene.refused(ErrorCode::TooLarge, "a body of more than 64 KiB", |wire| {
        wire.say_send(mine, 1, &message_with_body(64 * 1024 + 1))
    });
}

/// What the SDK's encoder refuses to write.
fn message_with_body(bytes: usize) -> Vec<u8> {
    let mut builder = flatbuffers::FlatBufferBuilder::new();
    let body = Some(builder.create_vector(&vec![b'x'; bytes]));
    let root =
        generated::Message::create(&mut builder, &generated::MessageArgs { body, ..Default::default() });
    builder.finish_minimal(root);
    let mut encoded = builder.finished_data().to_vec();
    encoded.resize(encoded.len().next_multiple_of(8), 0);
    encoded
}

#[test]
fn the_largest_body_is_taken() {
    let mut scene = Scene::new();
    let mut wire = scene.culprit();
    let conversation = ConversationId::direct(CULPRIT, UserId(8));
    let id = wire.say_send(conversation, 1, &message_with_body(64 * 1024));
    assert_eq!(wire.acknowledged(id).sequence, Sequence(1));
}

#[test]
fn conversations_of_others_stay_theirs() {
    let mut scene = Scene::new();
    let ws = scene.gateway.ws;
    let mut owner = Wire::greeted(ws, &scene.gateway.token(UserId(20)), DeviceId(1), 1);
    let mut member = Wire::greeted(ws, &scene.gateway.token(UserId(21)), DeviceId(1), 1);
    let foreign = owner.create_group(ClientId([2; 16]), &[UserId(21)]);
    owner.send(foreign, 1, "among us");
    member.hear(foreign, "among us");
    let unknown = ConversationId::group([0x33; 16]);
    let theirs = ConversationId::direct(UserId(20), UserId(21));
    let range = |conversation| GetRange { conversation, span: RangeSpan::After(Sequence(0)), limit: 10 };
    let not_member = ErrorCode::NotMember;
    scene.refused(not_member, "a foreign group", |wire| wire.say_send(foreign, 1, &message("x")));
    scene.refused(not_member, "a foreign group's history", |wire| wire.request(&range(foreign)));
    scene.refused(not_member, "two others", |wire| wire.say_send(theirs, 1, &message("x")));
    let no_conversation = ErrorCode::NoConversation;
    scene.refused(no_conversation, "no group", |wire| wire.say_send(unknown, 1, &message("x")));
    scene.refused(no_conversation, "no group's history", |wire| wire.request(&range(unknown)));
    let ack = owner.send(foreign, 2, "still among us");
    assert_eq!(ack.sequence, Sequence(3), "nobody else's record is in between");
    member.hear(foreign, "still among us");
}

#[test]
fn breaking_the_protocol_closes_with_its_code() {
    let mut scene = Scene::new();
    let header = |body_len: u32, id: u64| {
        FrameHeader { body_len, kind: FrameKind::Send as u16, flags: 0, id }.to_bytes().to_vec()
    };
    let ping = FrameHeader::alone(FrameKind::Ping, 1).to_bytes();
    let payloads: [(&str, Vec<u8>); 7] = [
        ("half a header", vec![0; 8]),
        ("no frame", vec![]),
        ("a body that is not there", header(64, 1)),
        ("a length that is not padded", [header(12, 1), vec![0; 12]].concat()),
        ("a body of four gigabytes", header(!7, 1)),
        ("an id above 2^53", header(0, 1 << 53)),
        ("513 frames", ping.repeat(513)),
    ];
    for (what, payload) in payloads {
        let wire = scene.culprit();
        scene.closed(4100, what, wire, |wire| wire.say(&payload));
    }
    let wire = scene.culprit();
    scene.closed(4100, "a second Hello", wire, |wire| {
        wire.say_hello(b"whatever", DeviceId(1), 99);
    });
    let wire = Wire::open(scene.gateway.ws);
    scene.closed(4100, "a Ping before Hello", wire, |wire| wire.say(&ping));
    let wire = Wire::open(scene.gateway.ws);
    scene.closed(4100, "a Send before Hello", wire, |wire| {
        wire.say_send(ConversationId::direct(CULPRIT, UserId(8)), 1, &message("x"));
    });
    let wire = scene.culprit();
    scene.closed(1003, "a text message", wire, |wire| wire.say_text("hello"));
    let wire = Wire::open(scene.gateway.ws);
    scene.closed(1003, "a text message before Hello", wire, |wire| wire.say_text("hello"));
    let wire = scene.culprit();
    scene.closed(1009, "more than 256 KiB", wire, |wire| wire.say(&vec![0; 256 * 1024 + 1]));
    let wire = scene.culprit();
    scene.closed(1002, "a frame without a mask", wire, |wire| wire.say_raw(&[0x82, 1, 0]));
    let wire = scene.culprit();
    scene.closed(1002, "a reserved opcode", wire, |wire| wire.say_raw(&[0x83, 0x80, 0, 0, 0, 0]));
}

#[test]
fn a_version_that_is_not_spoken_closes_with_4101() {
    let mut scene = Scene::new();
    let mut wire = Wire::open(scene.gateway.ws);
    wire.request(&Hello {
        protocol_min: 2,
        protocol_max: 3,
        token: &scene.token,
        device: DeviceId(1),
        attempt: tidegate_ids::Attempt(1),
        platform: b"",
        state: ClientState::Active,
        credit_frames: 0,
    });
    assert_eq!(wire.closed(), Some(4101));
    scene.bystanders.chat();
}

#[test]
fn upgrades_that_are_wrong_get_their_status() {
    let mut scene = Scene::new();
    let check = |scene: &mut Scene, path: &str, protocols: &[&str], status: u16| {
        scene.counted("events.handshakes_refused", |scene| {
            let refused = Wire::upgrade(scene.gateway.ws, path, protocols).map(drop);
            assert_eq!(refused, Err(NotOpen::Refused(status)), "{path} {protocols:?}");
        });
    };
    check(&mut scene, "/ws", &[], 400);
    check(&mut scene, "/", &[], 400);
    check(&mut scene, "/ws", &["tidegate.v2"], 400);
    check(&mut scene, "/elsewhere", &["tidegate.v1"], 404);
    check(&mut scene, "/echo", &["tidegate.v1"], 404);
    for path in ["/", "/ws"] {
        let mut wire = Wire::upgrade(scene.gateway.ws, path, &["tidegate.v2", "tidegate.v1"]).unwrap();
        wire.hello(&scene.token, DeviceId(1), 1);
        drop(wire);
    }
    let requests: [(&str, &str); 3] = [
        ("GET /ws HTTP/1.1\r\nHost: x\r\n\r\n", "no upgrade"),
        ("POST /ws HTTP/1.1\r\nHost: x\r\n\r\n", "a method"),
        ("\u{1}\u{2}\u{3}\r\n\r\n", "no HTTP"),
    ];
    for (request, what) in requests {
        scene.counted("events.handshakes_refused", |scene| {
            let mut stream = TcpStream::connect(scene.gateway.ws).unwrap();
            stream.set_read_timeout(Some(WAIT)).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            assert!(answer.starts_with(b"HTTP/1.1 4"), "{what}: {}", String::from_utf8_lossy(&answer));
        });
    }
}

#[test]
fn the_message_after_a_hundred_in_a_minute_is_refused_with_the_wait() {
    let mut scene = Scene::new();
    let token = scene.gateway.token_with(CULPRIT, &[]);
    let conversation = ConversationId::direct(CULPRIT, UserId(8));
    scene.counted("errors.RATE_LIMITED", |scene| {
        let mut wire = Wire::greeted(scene.gateway.ws, &token, DeviceId(1), 1);
        let message = message("quick");
        // In one WebSocket message, so that no time passes between them.
        let mut payload = Vec::new();
        let ids: Vec<u64> = (1..=101)
            .map(|number| {
                let client_id = ClientId([number as u8; 16]);
                let number = CommandNumber(number);
                wire.append(&mut payload, &Send { conversation, number, client_id, message: &message })
            })
            .collect();
        wire.say(&payload);
        for (index, id) in ids[..100].iter().enumerate() {
            assert_eq!(wire.acknowledged(*id).sequence.0, index as u64 + 1);
        }
        let refusal = wire.refusal(ids[100]);
        assert_eq!((refusal.code, refusal.temporary), (ErrorCode::RateLimited, true));
        assert_eq!(refusal.text, "Rate limit exceeded. Please slow down.");
        assert!(refusal.retry_after_ms > 0);
        wire.ping();
        // It was not taken: its number is still the next one. What is spent is the user's, also on another connection.
        let token = scene.gateway.token_with(CULPRIT, &["--rate", "unlimited"]);
        let mut wire = Wire::greeted(scene.gateway.ws, &token, DeviceId(1), 2);
        let id = wire.say_send(conversation, 0, &message);
        let refusal = wire.refusal(id);
        assert_eq!((refusal.code, refusal.expected), (ErrorCode::OutOfOrder, CommandNumber(101)));
    });
}
