//! What a stranger does to the edge of a gateway: floods, drips, invents users, comes back with another token.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may end by a panic")]

mod erasing;
mod gateway;
mod lists;
mod strangers;

use gateway::{Gateway, MASK, token};
use tidegate_ids::{ClientId, CommandNumber, ConversationId, Sequence, UserId};
use tidegate_schema::{
    Encoder, FrameHeader, FrameKind, GetRange, GroupCreate, List, MembersAdd, MembersChange, MessageFields,
    RangeSpan, Refresh, Send,
};
use tidegate_shard::{ConnectionId, Counter, Event, ShardLimits};
use tidegate_ws::encode;

/// What a connection that takes nothing may at most make the gateway take: the unsent limit, and what one receive adds.
const TAKEN_BYTES_MAX: usize = 320 * 1024;
const RECEIVE_BYTES: usize = 4096;

fn pings() -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < RECEIVE_BYTES {
        encode::ping(&mut bytes, &[b'p'; 125], Some(MASK));
    }
    bytes
}

fn ranges() -> Vec<u8> {
    let mut payload = Vec::new();
    let conversation = ConversationId::direct(UserId(1), UserId(2));
    let range = GetRange { conversation, span: RangeSpan::Between(Sequence(3), Sequence(3)), limit: 1 };
    for id in 1000..1040 {
        Encoder::new().frame(&mut payload, id, 0, &range);
    }
    let mut bytes = Vec::new();
    encode::binary(&mut bytes, &payload, Some(MASK));
    bytes
}

/// A socket that sent pings and never read made the gateway remember a gigabyte of pongs in nine seconds: a connection was
/// held back when a send began, never while one was stuck, and not at all before its Hello.
fn check_flood(open: impl Fn(&mut Gateway) -> u32, bytes: &[u8]) {
    let mut gateway = Gateway::start(ShardLimits { echo: true, ..ShardLimits::default() });
    let id = open(&mut gateway);
    gateway.set_stuck(id, true);
    let before = gateway.socket(id).taken_bytes;
    let taken = (0..10_000).take_while(|_| gateway.receive(id, bytes)).count();
    assert!(taken < 10_000, "it is read for ever");
    assert_eq!(gateway.stats().get(Counter::ReadsPaused), 1);
    let taken_bytes = gateway.socket(id).taken_bytes - before;
    assert!(taken_bytes <= TAKEN_BYTES_MAX, "{taken_bytes} bytes were taken");
    // One that takes what it is sent again is read again.
    gateway.set_stuck(id, false);
    assert!(gateway.receive(id, bytes), "it is never read again");
}

#[test]
fn an_upgraded_socket_that_reads_no_pongs_is_not_read() {
    check_flood(|gateway| gateway.open("/ws"), &pings());
}

/// A socket that took no pongs and then showed its token waited for its pongs to be taken, without a deadline and without
/// being a session: one token, and neither ten devices nor a newer attempt, filled the table of sockets.
#[test]
fn a_hello_whose_socket_takes_no_pongs_has_a_deadline() {
    let mut gateway = Gateway::start(ShardLimits { connections_max: 4, ..ShardLimits::default() });
    let ids = [(); 4].map(|()| gateway.open("/ws"));
    for id in ids {
        gateway.set_stuck(id, true);
        assert!(gateway.receive(id, &pings()));
    }
    gateway.pass(9000);
    for id in ids {
        gateway.hello(id, &token(1, "default"), 1);
    }
    gateway.pass(1100);
    assert_eq!((gateway.stats().sockets, gateway.stats().get(Counter::SlowConsumers)), (0, 4));
    gateway.session(&token(1, "default"), 1);
}

/// One that takes a little now and then is never stuck in one send for long.
#[test]
fn a_hello_whose_socket_takes_pongs_slowly_has_a_deadline_from_then_on() {
    let mut gateway = Gateway::start(ShardLimits { send_stall_ns: u64::MAX, ..ShardLimits::default() });
    let ids = [gateway.open("/ws"), gateway.open("/ws")];
    gateway.pass(9000);
    for id in ids {
        gateway.set_stuck(id, true);
        assert!(gateway.receive(id, &pings()));
        gateway.hello(id, &token(u64::from(id), "default"), 1);
    }
    gateway.pass(9000);
    gateway.set_stuck(ids[0], false);
    gateway.pass(1100);
    let request = gateway.request(ids[0], &Refresh { token: token(1, "default").as_bytes() });
    assert_eq!(gateway.answer(ids[0], request), "Ok");
    assert_eq!((gateway.stats().sockets, gateway.stats().get(Counter::SlowConsumers)), (1, 1));
}

#[test]
fn a_session_that_reads_no_pongs_is_not_read() {
    check_flood(|gateway| gateway.session(&token(1, "default"), 1), &pings());
}

#[test]
fn a_session_that_reads_no_refusals_is_not_read() {
    check_flood(|gateway| gateway.session(&token(1, "default"), 1), &ranges());
}

#[test]
fn an_echo_that_is_not_read_is_not_read() {
    check_flood(|gateway| gateway.open("/echo"), &pings());
}

/// Bytes that were received before the pause took effect still come: of their pings only the newest is answered.
#[test]
fn what_still_comes_of_a_paused_connection_adds_one_pong_a_receive() {
    let mut gateway = Gateway::start(ShardLimits::default());
    let id = gateway.session(&token(1, "default"), 1);
    gateway.set_stuck(id, true);
    while gateway.receive(id, &pings()) {}
    gateway.set_stuck(id, false);
    let all = gateway.socket(id).pongs.len();
    gateway.socket(id).pongs.clear();
    gateway.set_stuck(id, true);
    while gateway.receive(id, &pings()) {}
    let late = 10;
    let mut newest = Vec::new();
    for round in 0..late {
        let mut bytes = Vec::new();
        (0..20_u8).for_each(|index| encode::ping(&mut bytes, &[round, index], Some(MASK)));
        gateway.socket(id).armed = Some(tidegate_shard::ReceiveMode::Multishot);
        assert!(gateway.receive(id, &bytes));
        newest.push(vec![round, 19]);
    }
    gateway.set_stuck(id, false);
    let pongs = &gateway.socket(id).pongs;
    assert_eq!(pongs.len(), all + usize::from(late));
    assert_eq!(pongs[all..], newest);
}

fn group(index: u64, users: &[UserId]) -> GroupCreate<'_> {
    GroupCreate {
        client_id: ClientId(u128::from(index).to_be_bytes()),
        name: b"group",
        users: List::new(users),
    }
}

fn invented(from: u64) -> Vec<UserId> {
    (from..from + 499).map(UserId).collect()
}

/// One token of the default class made thousands of groups of 500 invented users, each of them a stream, until nobody new
/// could connect: only messages were counted.
#[test]
fn inventing_users_is_limited_by_the_minute() {
    let mut gateway = Gateway::start(ShardLimits::default());
    let id = gateway.session(&token(1, "default"), 1);
    let made = |gateway: &mut Gateway, id: u32, index: u64| {
        let users = invented(1000 * index);
        let request = gateway.request(id, &group(index, &users));
        gateway.answer(id, request)
    };
    let answers: Vec<String> = (1..=4).map(|index| made(&mut gateway, id, index)).collect();
    assert_eq!(answers, ["GroupCreated", "GroupCreated", "RATE_LIMITED", "RATE_LIMITED"]);
    let streams = gateway.stats().streams;
    assert!(streams <= 1010, "{streams} streams");
    let of_group =
        tidegate_domain::group_id(UserId(1), tidegate_ids::DeviceId(5), &ClientId(1_u128.to_be_bytes()));
    let add = |gateway: &mut Gateway, number: u64, users: &[UserId]| {
        let (number, client_id) = (CommandNumber(number), ClientId(77_u128.to_be_bytes()));
        let users = List::new(users);
        let change = MembersChange { conversation: of_group, number, client_id, member_version: 0, users };
        let request = gateway.request(id, &MembersAdd(change));
        gateway.answer(id, request)
    };
    assert_eq!(add(&mut gateway, 1, &invented(9000)), "RATE_LIMITED");
    gateway.pass(300_000);
    let id = gateway.session(&token(1, "default"), 2);
    assert_eq!(made(&mut gateway, id, 5), "GroupCreated");
}

fn send_to(gateway: &mut Gateway, id: u32, from: u64, to: u64, number: u64) -> String {
    let mut message = Vec::new();
    let fields = MessageFields { body: b"hi", ..MessageFields::default() };
    Encoder::new().message(&mut message, &fields).unwrap();
    let conversation = ConversationId::direct(UserId(from), UserId(to));
    let (number, client_id) = (CommandNumber(number), ClientId(u128::from(number).to_be_bytes()));
    let request = gateway.request(id, &Send { conversation, number, client_id, message: &message });
    gateway.answer(id, request)
}

/// What a user has spent was the connection's: another connection, and every `Refresh`, had a full bucket.
#[test]
fn neither_a_reconnect_nor_a_refresh_gives_back_what_is_spent() {
    let mut gateway = Gateway::start(ShardLimits::default());
    let first = gateway.session(&token(1, "default"), 1);
    for number in 1..=100 {
        assert_eq!(send_to(&mut gateway, first, 1, 2, number), "SendAck");
    }
    assert_eq!(send_to(&mut gateway, first, 1, 2, 101), "RATE_LIMITED");
    let refresh = |gateway: &mut Gateway, id, class| {
        let request = gateway.request(id, &Refresh { token: token(1, class).as_bytes() });
        assert_eq!(gateway.answer(id, request), "Ok");
    };
    refresh(&mut gateway, first, "default");
    assert_eq!(send_to(&mut gateway, first, 1, 2, 101), "RATE_LIMITED");
    let second = gateway.session(&token(1, "default"), 2);
    assert_eq!(send_to(&mut gateway, second, 1, 2, 101), "RATE_LIMITED");
    // Another class is another rate, and what is spent stays spent.
    refresh(&mut gateway, second, "unlimited");
    assert_eq!(send_to(&mut gateway, second, 1, 2, 101), "SendAck");
    refresh(&mut gateway, second, "default");
    assert_eq!(send_to(&mut gateway, second, 1, 2, 102), "RATE_LIMITED");
    gateway.pass(600);
    assert_eq!(send_to(&mut gateway, second, 1, 2, 102), "SendAck");
}

/// The deadline of an incomplete message was counted from its newest byte: a byte every few seconds kept it for ever. On
/// `/echo`, whose messages have 16 MiB, there was none.
fn check_drip(open: impl Fn(&mut Gateway) -> u32) {
    let mut gateway = Gateway::start(ShardLimits { echo: true, ..ShardLimits::default() });
    let id = open(&mut gateway);
    assert!(gateway.receive(id, &[0x82, 0xff, 0, 0, 0, 0, 0, 2, 0, 0, 1, 2, 3, 4]));
    for _ in 0..4 {
        gateway.pass(2000);
        assert!(gateway.receive(id, &[0]), "it is in time yet");
    }
    gateway.pass(2500);
    assert_eq!(gateway.socket(id).closed, Some(4009));
    assert_eq!(gateway.stats().held_bytes, 0);
}

#[test]
fn dripping_bytes_of_a_message_buys_a_session_no_time() {
    check_drip(|gateway| gateway.session(&token(1, "default"), 1));
}

#[test]
fn dripping_bytes_of_a_message_buys_an_echo_no_time() {
    check_drip(|gateway| gateway.open("/echo"));
}

/// One that had asked for `/echo` kept its place for ever.
#[test]
fn an_echo_that_says_nothing_is_closed_after_three_of_the_longer_periods() {
    let limits = ShardLimits { echo: true, heartbeat_background_ms: 60_000, ..ShardLimits::default() };
    let mut gateway = Gateway::start(limits);
    let ids = [gateway.open("/echo"), gateway.open("/echo")];
    gateway.pass(100_000);
    assert!(gateway.receive(ids[0], &pings()));
    gateway.pass(81_000);
    assert_eq!(ids.map(|id| gateway.socket(id).closed), [None, Some(4009)]);
}

/// Messages that are cut anywhere, each of them complete in time, are no reason.
#[test]
fn whole_messages_that_are_cut_between_receives_are_in_time() {
    let mut gateway = Gateway::start(ShardLimits::default());
    let id = gateway.session(&token(1, "default"), 1);
    let mut bytes = Vec::new();
    (0..2).for_each(|_| encode::ping(&mut bytes, b"a ping", Some(MASK)));
    assert!(gateway.receive(id, &bytes[..5]));
    for _ in 0..20 {
        gateway.pass(1000);
        let turned = [&bytes[5..], &bytes[..5]].concat();
        assert!(gateway.receive(id, &turned));
    }
    assert_eq!(gateway.socket(id).closed, None);
}

fn small_table() -> Gateway {
    Gateway::start(ShardLimits { locators_max: 64, ..ShardLimits::default() })
}

/// Whoever invented users filled the table of streams, and nobody new could connect any more.
#[test]
fn a_full_table_of_streams_keeps_a_place_for_who_connects() {
    let mut gateway = small_table();
    let id = gateway.session(&token(1, "default"), 1);
    assert_eq!((gateway.snapshots_wanted, gateway.stats().streams_full), (0, false));
    let users = &invented(1000)[..100];
    let request = gateway.request(id, &group(1, users));
    assert_eq!(gateway.answer(id, request), "GroupCreated");
    assert_eq!((gateway.snapshots_wanted, gateway.stats().streams_full), (1, true));
    assert_eq!(send_to(&mut gateway, id, 1, 9000, 1), "OVERLOADED");
    assert_eq!(gateway.stats().get(Counter::RefusedForStreams), 1);
    for user in 10..14 {
        gateway.session(&token(user, "default"), 1);
    }
    // The reserve has an end too.
    let late = gateway.open("/ws");
    gateway.hello(late, &token(14, "default"), 1);
    assert_eq!(gateway.socket(late).closed, Some(4029));
}

/// Whoever connects and goes while their user is read waits on, and the socket's place is taken by the next: so many waited for
/// one slow read as connected meanwhile.
#[test]
fn sockets_that_come_and_go_while_their_user_is_read_wait_in_a_bounded_place() {
    let limits =
        ShardLimits { connections_max: 8, parked_max: 2, hot_users_max: 2, ..ShardLimits::default() };
    let mut gateway = Gateway::start(limits);
    let end = |gateway: &mut Gateway, id| gateway.tell(Event::Ended { connection: ConnectionId(id) });
    for user in 1..=9 {
        let id = gateway.session(&token(user, "default"), 1);
        end(&mut gateway, id);
    }
    gateway.holds_reads = true;
    let mut refused = 0;
    for attempt in 2..40 {
        gateway.open_at(5, "/ws");
        gateway.hello(5, &token(1, "default"), attempt);
        refused += u32::from(gateway.socket(5).closed == Some(4029));
        end(&mut gateway, 5);
        gateway.pass(5000);
        assert!(gateway.stats().parked <= 2 + 8, "{}", gateway.stats().parked);
    }
    assert_eq!(refused, 38 - 10);
    gateway.release_reads();
    assert_eq!(gateway.stats().parked, 0);
    gateway.session(&token(1, "default"), 50);
}

/// It was asked for when three quarters were full, and never again while they stayed so.
#[test]
fn a_snapshot_that_makes_no_room_is_followed_by_another() {
    let mut gateway = small_table();
    let id = gateway.session(&token(1, "default"), 1);
    gateway.request(id, &group(1, &invented(1000)[..100]));
    gateway.pass(10_000);
    assert_eq!((gateway.snapshots_wanted, gateway.swept), (1, 0));
    gateway.tell(tidegate_shard::Event::Snapshot { through: 0 });
    gateway.pass(10_000);
    assert_eq!((gateway.snapshots_wanted, gateway.swept), (2, 1));
    gateway.tell(tidegate_shard::Event::Snapshot { through: 0 });
    gateway.pass(10_000);
    assert_eq!((gateway.snapshots_wanted, gateway.swept), (2, 1), "nothing new was folded");
}

/// A stream that the snapshot holds is counted only while it is in memory, so what is in memory taken from this count says
/// nothing of how many are not.
#[test]
fn the_count_of_streams_is_that_of_the_table_and_a_snapshot_empties_it() {
    let mut gateway = Gateway::start(ShardLimits { locators_max: 1024, ..ShardLimits::default() });
    let id = gateway.session(&token(1, "default"), 1);
    let request = gateway.request(id, &group(1, &invented(1000)[..100]));
    assert_eq!(gateway.answer(id, request), "GroupCreated");
    let counted = |gateway: &mut Gateway| {
        let stats = gateway.stats();
        (stats.streams, stats.hot_users, stats.hot_conversations)
    };
    assert_eq!(counted(&mut gateway), (102, 1, 1));
    gateway.tell(Event::CloseSegment);
    let through = *gateway.sealed.last().unwrap();
    gateway.tell(Event::Snapshot { through });
    assert_eq!(gateway.swept, 1);
    assert_eq!(counted(&mut gateway), (2, 1, 1));
}

fn brief_token(gateway: &Gateway, user: u64, seconds: u64) -> String {
    format!("{user} default {}", gateway.now.wall.0 + 1000 * seconds)
}

/// A token was looked at once, in the `Hello`: the session went on for ever.
#[test]
fn a_session_ends_with_its_token_unless_it_shows_another() {
    let mut gateway = Gateway::start(ShardLimits::default());
    let brief = [1, 2].map(|user| brief_token(&gateway, user, 5));
    let [renewed, silent] = brief.map(|token| gateway.session(&token, 1));
    assert_eq!(send_to(&mut gateway, renewed, 1, 3, 1), "SendAck");
    gateway.pass(5100);
    assert_eq!(send_to(&mut gateway, renewed, 1, 3, 2), "TOKEN_EXPIRED");
    assert_eq!(send_to(&mut gateway, silent, 2, 3, 1), "TOKEN_EXPIRED");
    let another = brief_token(&gateway, 1, 200);
    let request = gateway.request(renewed, &Refresh { token: another.as_bytes() });
    assert_eq!(gateway.answer(renewed, request), "Ok");
    // The number was not consumed.
    assert_eq!(send_to(&mut gateway, renewed, 1, 3, 2), "SendAck");
    gateway.pass(58_000);
    assert_eq!(gateway.socket(silent).closed, None);
    gateway.pass(3000);
    assert_eq!(gateway.socket(silent).closed, Some(4001));
    assert_eq!(send_to(&mut gateway, renewed, 1, 3, 3), "SendAck");
}

/// A `Hello` that was at fault was answered with 4100 and no word.
#[test]
fn a_hello_at_fault_is_told_so_and_may_be_followed_by_a_better_one() {
    let mut gateway = Gateway::start(ShardLimits::default());
    let id = gateway.open("/ws");
    let request = gateway.hello(id, &"x".repeat(9000), 1);
    assert_eq!(gateway.answer(id, request), "TOO_LARGE");
    let request = gateway.hello_of(id, &token(1, "default"), 1, 1 << 53);
    assert_eq!(gateway.answer(id, request), "BAD_ARGUMENT");
    let header = FrameHeader { body_len: 64, kind: FrameKind::Hello as u16, flags: 0, id: 777 };
    gateway.say(id, &[&header.to_bytes()[..], &[0xff; 64]].concat());
    assert_eq!(gateway.answer(id, 777), "BAD_FRAME");
    let request = gateway.hello(id, &token(1, "default"), 1);
    assert_eq!(gateway.answer(id, request), "Welcome");
}

#[test]
fn nobody_is_no_user() {
    let mut gateway = Gateway::start(ShardLimits::default());
    let id = gateway.session(&token(1, "default"), 1);
    assert_eq!(send_to(&mut gateway, id, 0, 1, 1), "BAD_ARGUMENT");
    let request = gateway.request(id, &group(1, &[UserId(0), UserId(2)]));
    assert_eq!(gateway.answer(id, request), "BAD_ARGUMENT");
}
