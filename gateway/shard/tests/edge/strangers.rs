//! What sockets without a token hold: they have a share of their own, and disturb no session.

use crate::gateway::{Gateway, MASK, token, upgrade};
use tidegate_ids::{Attempt, DeviceId};
use tidegate_schema::{ClientState, Encoder, Hello, limits::HELLO_BYTES_MAX};
use tidegate_shard::{Counter, ShardLimits};
use tidegate_ws::encode;

const HELD_BYTES_MAX: usize = 512 * 1024;
const STRANGERS_BYTES_MAX: u64 = HELD_BYTES_MAX as u64 / 4;

fn gateway() -> Gateway {
    Gateway::start(ShardLimits { held_bytes_max: HELD_BYTES_MAX, ..ShardLimits::default() })
}

/// The bytes of a binary message.
fn message(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::binary(&mut bytes, payload, Some(MASK));
    bytes
}

/// Several frames of a kind that nobody knows, in one message.
fn unknown_frames(payload_bytes: usize) -> (Vec<u8>, u64) {
    let header = tidegate_schema::FrameHeader { body_len: 16_368, kind: 0x7777, flags: 0, id: 900 };
    let frame = [&header.to_bytes()[..], &[0; 16_368]].concat();
    (message(&frame.repeat(payload_bytes / frame.len())), 900)
}

/// A session whose message is cut between two receives, and somebody who comes with a whole request and `Hello`.
fn check_undisturbed(gateway: &mut Gateway, session: u32) {
    let (bytes, request) = unknown_frames(128 * 1024);
    let (first, rest) = bytes.split_at(bytes.len() - 1);
    assert!(gateway.receive(session, first));
    assert!(gateway.stats().held_bytes > 128 * 1024);
    assert!(gateway.receive(session, rest));
    assert_eq!(gateway.answer(session, request), "UNSUPPORTED");
    assert_eq!(gateway.socket(session).closed, None);
    gateway.session(&token(2, "default"), 1);
}

/// Sockets that had shown no token held a quarter of a megabyte each, out of what sessions may hold: from then on each
/// session whose message was cut between two receives was closed.
#[test]
fn incomplete_messages_of_strangers_disturb_no_session() {
    let mut gateway = gateway();
    let session = gateway.session(&token(1, "default"), 1);
    let most = &message(&[0; HELLO_BYTES_MAX])[..12 * 1024];
    for _ in 0..64 {
        let id = gateway.open("/ws");
        assert!(gateway.receive(id, most));
    }
    assert!(gateway.stats().held_bytes <= STRANGERS_BYTES_MAX, "{}", gateway.stats().held_bytes);
    let taken = STRANGERS_BYTES_MAX / (12 * 1024);
    assert_eq!(gateway.stats().get(Counter::ConnectionsRefused), 64 - taken);
    assert_eq!(gateway.stats().get(Counter::ProtocolErrors), 0);
    check_undisturbed(&mut gateway, session);
    // The newest is who is turned away.
    let closes = [2, 65].map(|id| gateway.socket(id).closed);
    assert_eq!(closes, [None, Some(1013)]);
}

/// The bytes of upgrade requests were added to what is held without a look at its limit.
#[test]
fn incomplete_upgrade_requests_are_refused_at_the_limit_and_disturb_no_session() {
    let mut gateway = gateway();
    let session = gateway.session(&token(1, "default"), 1);
    let request = upgrade("/ws");
    let (line, fields) = request.split_at(request.iter().position(|&byte| byte == b'\n').unwrap() + 1);
    let most = [line, b"X: ", &[b'x'; 6 * 1024]].concat();
    let ids = [(); 64].map(|()| gateway.accept());
    for id in ids {
        assert!(gateway.receive(id, &most));
    }
    assert!(gateway.stats().held_bytes <= STRANGERS_BYTES_MAX, "{}", gateway.stats().held_bytes);
    let refused = gateway.stats().get(Counter::ConnectionsRefused);
    assert_eq!(refused, 64 - STRANGERS_BYTES_MAX / most.len() as u64);
    assert!(gateway.socket(ids[63]).heard.starts_with(b"HTTP/1.1 503 "));
    check_undisturbed(&mut gateway, session);
    // One of the others is complete in time.
    assert!(gateway.receive(ids[0], &[b"\r\n", fields].concat()));
    let hello = gateway.hello(ids[0], &token(3, "default"), 1);
    assert_eq!(gateway.answer(ids[0], hello), "Welcome");
}

/// Before its `Hello` nobody sends more than a `Hello` needs, and from the Welcome on everybody as much as the protocol allows.
#[test]
fn a_message_before_the_session_has_room_for_the_largest_hello_only() {
    let mut gateway = gateway();
    let id = gateway.open("/ws");
    gateway.say(id, &[0; HELLO_BYTES_MAX + 1]);
    assert_eq!(gateway.socket(id).closed, Some(1009));
    let (id, token) = (gateway.open("/ws"), token(1, "default"));
    let longest = format!("{}{token}", "0".repeat(8 * 1024 - token.len()));
    let bytes = hello(&longest, &[b'p'; 128]);
    for part in bytes.chunks(1000) {
        assert!(gateway.receive(id, part));
    }
    assert_eq!(gateway.answer(id, 1), "Welcome");
    let (bytes, request) = unknown_frames(256 * 1024);
    for part in bytes.chunks(4096) {
        assert!(gateway.receive(id, part));
    }
    assert_eq!(gateway.answer(id, request), "UNSUPPORTED");
    assert_eq!(gateway.stats().held_bytes, 0);
}

fn hello(token: &str, platform: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    let hello = Hello {
        protocol_min: 1,
        protocol_max: 1,
        token: token.as_bytes(),
        device: DeviceId(5),
        attempt: Attempt(1),
        platform,
        state: ClientState::Active,
        credit_frames: 4,
    };
    Encoder::new().frame(&mut payload, 1, 0, &hello);
    message(&payload)
}

/// What came behind a `Hello` was added to what is held without a look at its limit.
#[test]
fn what_comes_behind_a_hello_is_refused_at_the_limit() {
    let limits = ShardLimits { held_bytes_max: 64 * 1024, ..ShardLimits::default() };
    let mut gateway = Gateway::start(limits);
    let ids = [gateway.open("/ws"), gateway.open("/ws")];
    for (id, user, behind_bytes) in [(ids[0], 1, 40 * 1024), (ids[1], 2, 50 * 1024)] {
        let behind = vec![0; behind_bytes];
        gateway.receive(id, &[hello(&token(user, "default"), b""), message(&behind)].concat());
    }
    assert_eq!(gateway.answer(ids[0], 1), "Welcome");
    assert_eq!(gateway.answer(ids[1], 1), "nothing");
    assert_eq!(gateway.socket(ids[1]).closed, Some(1013));
    assert_eq!(gateway.stats().get(Counter::ConnectionsRefused), 1);
    assert_eq!(gateway.stats().held_bytes, 0);
}
