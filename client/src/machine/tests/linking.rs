//! Connecting, heartbeat, closing, coming back.

use super::rig::{DEVICE, Rig, direct, seasoned};
use crate::config::Config;
use crate::event::{ConnectionState, StopReason};
use crate::machine::Machine;
use std::sync::Arc;
use tidegate_ids::{MonotonicNs, Sequence};
use tidegate_schema::{ClientState, GoAway, GroupCreated, RangeSpan, ServerFrame};
use tidegate_ws::server;

fn offline_ms(rig: &Rig) -> Option<u64> {
    match rig.machine.connection() {
        ConnectionState::Offline(at) => Some(at.since(rig.now) / MonotonicNs::MILLISECOND),
        _ => None,
    }
}

#[test]
fn attempts_rise_with_every_connect() {
    let mut rig = Rig::ready();
    assert_eq!(rig.attempts, 1);
    rig.drop_socket();
    rig.wait_ms(60_000);
    rig.connect();
    assert_eq!(rig.attempts, 2);
    assert!(rig.heard().contains(&"hello attempt 2 token token".to_owned()));
}

/// A device was closed, resumed while the gateway was being started again, and found nobody there: it took the failed
/// attempt for the end it had asked for before, and never came back.
#[test]
fn an_attempt_that_fails_is_not_judged_by_what_ended_the_connection_before() {
    for code in [None, Some(4001), Some(4002)] {
        let mut rig = Rig::ready();
        match code {
            Some(code) => rig.close_with(code),
            None => {
                rig.machine.close(&mut |_| {});
                rig.drop_socket();
            }
        }
        rig.machine.set_token(b"new", rig.now);
        rig.machine.resume(rig.now);
        assert!(rig.machine.poll_connect(rig.now).is_some(), "{code:?}");
        rig.machine.disconnected(rig.now, &mut |_| {});
        assert!(offline_ms(&rig).is_some_and(|ms| ms <= 60_000), "{code:?}");
    }
}

/// What a close code means: none, it comes back by itself.
fn check_close(code: u16, state: Option<ConnectionState>) {
    let mut rig = Rig::ready();
    rig.close_with(code);
    match state {
        Some(state) => {
            assert_eq!(rig.machine.connection(), state, "{code}");
            rig.wait_ms(120_000);
            assert_eq!(rig.machine.poll_connect(rig.now), None, "{code}");
            rig.machine.set_token(b"new", rig.now);
            rig.machine.resume(rig.now);
            rig.connect();
            assert!(rig.machine.is_ready(), "{code}");
        }
        None => {
            assert!(offline_ms(&rig).is_some_and(|ms| ms <= 60_000), "{code}");
            rig.wait_ms(60_000);
            rig.connect();
        }
    }
}

#[test]
fn close_codes_say_whether_to_come_back() {
    let stopped = |reason| Some(ConnectionState::Stopped(reason));
    check_close(1001, None);
    check_close(4000, None);
    check_close(4001, Some(ConnectionState::NeedsToken));
    check_close(4002, stopped(StopReason::Replaced));
    check_close(4008, None);
    check_close(4009, None);
    check_close(4029, None);
    check_close(4100, stopped(StopReason::Protocol));
    check_close(4101, stopped(StopReason::VersionTooOld));
    check_close(4103, stopped(StopReason::Suspended));
}

#[test]
fn failures_widen_the_window_up_to_a_minute() {
    let mut highest_ms = [0; 9];
    for seed in 0..200 {
        let mut machine = Machine::new(Arc::new(Config::default()), b"token", seasoned(), seed);
        let mut now = MonotonicNs(0);
        for highest in &mut highest_ms {
            assert!(machine.poll_connect(now).is_some());
            machine.disconnected(now, &mut |_| {});
            let ConnectionState::Offline(at) = machine.connection() else { panic!("offline") };
            *highest = (*highest).max(at.since(now) / MonotonicNs::MILLISECOND);
            now = at;
        }
    }
    for (highest, window) in highest_ms.into_iter().zip([1, 2, 4, 8, 16, 32, 60, 60, 60]) {
        assert!(highest <= window * 1000 && highest > window * 900, "{highest} ms of {window} s");
    }
}

#[test]
fn a_crowded_gateway_gets_a_longer_pause() {
    for _ in 0..20 {
        let mut rig = Rig::ready();
        rig.close_with(4029);
        assert!(offline_ms(&rig).is_some_and(|ms| (4_000..=8_000).contains(&ms)));
    }
}

#[test]
fn a_gateway_that_goes_away_says_when_to_come_back() {
    let mut rig = Rig::ready();
    let go_away = GoAway { delay_min_ms: 3_000, delay_max_ms: 9_000, come_back: true, ..GoAway::default() };
    rig.say(0, &ServerFrame::GoAway(go_away));
    rig.close_with(4000);
    assert!(offline_ms(&rig).is_some_and(|ms| (3_000..=9_000).contains(&ms)));
    let mut rig = Rig::ready();
    rig.say(0, &ServerFrame::GoAway(GoAway { come_back: false, ..go_away }));
    rig.close_with(4000);
    assert_eq!(rig.machine.connection(), ConnectionState::Stopped(StopReason::GoneAway));
}

#[test]
fn an_expired_token_at_hello_waits_for_a_new_one() {
    let mut rig = Rig::with(seasoned(), Config::default());
    rig.upgrade();
    let hello = rig.ids("hello")[0];
    rig.refuse(hello, 301, 0, 0);
    assert!(rig.machine.wants_close());
    rig.drop_socket();
    assert_eq!(rig.told(), ["connecting", "notice TOKEN_EXPIRED", "needstoken", "TokenNeeded"]);
    rig.heard();
    rig.machine.set_token(b"new", rig.now);
    rig.connect();
    assert_eq!(rig.heard(), ["hello attempt 2 token new"]);
}

#[test]
fn a_token_is_refreshed_without_a_reconnect() {
    let mut rig = Rig::ready();
    rig.machine.set_token(b"new", rig.now);
    rig.listen();
    let id = rig.ids("refresh")[0];
    assert_eq!(rig.heard(), ["refresh new"]);
    rig.say(id, &ServerFrame::Ok);
    assert_eq!(rig.told(), ["TokenTaken"]);
}

#[test]
fn a_quiet_client_pings_within_a_fifth_of_the_period() {
    for (state, period_ms) in [(ClientState::Active, 30_000), (ClientState::Background, 300_000)] {
        let mut rig = Rig::ready();
        rig.machine.set_state(state);
        rig.listen();
        rig.heard();
        rig.wait_ms(period_ms * 4 / 5 - 1);
        assert!(rig.heard().is_empty(), "{state:?}");
        rig.wait_ms(period_ms * 2 / 5 + 1);
        assert_eq!(rig.heard(), ["ping"], "{state:?}");
    }
}

#[test]
fn three_silent_periods_end_the_connection() {
    let mut rig = Rig::ready();
    rig.wait_ms(89_999);
    assert!(!rig.machine.wants_close());
    rig.wait_ms(1);
    assert!(rig.machine.wants_close());
}

#[test]
fn pings_are_answered() {
    let mut rig = Rig::ready();
    rig.say(0, &ServerFrame::Ping);
    assert_eq!(rig.heard(), ["pong"]);
    let mut bytes = Vec::new();
    tidegate_ws::encode::ping(&mut bytes, b"there?", None);
    rig.bytes(&mut bytes);
    assert_eq!(rig.heard(), ["socket pong there?"]);
}

#[test]
fn an_upgrade_may_come_byte_by_byte_and_with_frames_behind() {
    let mut machine = Machine::new(Arc::new(Config::default()), b"token", seasoned(), 1);
    let now = MonotonicNs(5);
    let mut encoder = crate::Encoder::new();
    machine.poll_connect(now).expect("at once");
    machine.connected(now, &mut |_| {});
    let mut out = Vec::new();
    machine.transmit(&mut encoder, &mut out, now);
    let request = server::parse(&out).expect("sound").expect("whole");
    let mut response = Vec::new();
    server::accept_response(&mut response, &request.key, Some("tidegate.v1"));
    tidegate_ws::encode::ping(&mut response, b"p", None);
    for byte in &mut response {
        machine.received(core::slice::from_mut(byte), now, &mut |_| {});
    }
    out.clear();
    machine.transmit(&mut encoder, &mut out, now);
    assert!(!out.is_empty() && !machine.wants_close());
}

/// What the status of a refused upgrade means.
#[test]
fn a_refused_upgrade_backs_off_or_asks_for_a_token() {
    for (status, token) in [(401, true), (403, true), (400, false), (429, false), (503, false)] {
        let mut machine = Machine::new(Arc::new(Config::default()), b"token", seasoned(), 1);
        let now = MonotonicNs(5);
        machine.poll_connect(now).expect("at once");
        machine.connected(now, &mut |_| {});
        machine.transmit(&mut crate::Encoder::new(), &mut Vec::new(), now);
        let mut response = format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n").into_bytes();
        machine.received(&mut response, now, &mut |_| {});
        assert!(machine.wants_close());
        machine.disconnected(now, &mut |_| {});
        assert_eq!(machine.connection() == ConnectionState::NeedsToken, token, "{status}");
    }
}

#[test]
fn a_gateway_that_says_nothing_is_left() {
    let mut rig = Rig::with(seasoned(), Config::default());
    rig.upgrade();
    rig.wait_ms(5_000);
    assert!(rig.machine.wants_close());
}

#[test]
fn broken_frames_end_the_connection_and_are_told() {
    let mut rig = Rig::ready();
    let mut bytes = Vec::new();
    tidegate_ws::encode::binary(&mut bytes, &[1, 2, 3], None);
    rig.bytes(&mut bytes);
    assert_eq!(rig.close_heard, Some(4100));
    assert!(rig.machine.wants_close());
    let mut rig = Rig::ready();
    bytes.clear();
    tidegate_ws::encode::text(&mut bytes, "hello", None);
    rig.bytes(&mut bytes);
    assert_eq!(rig.close_heard, Some(1003));
}

#[test]
fn the_application_closes_and_resumes() {
    let mut rig = Rig::ready();
    rig.machine.close(&mut |_| {});
    rig.listen();
    assert_eq!(rig.close_heard, Some(1000));
    rig.drop_socket();
    assert_eq!(rig.machine.connection(), ConnectionState::Stopped(StopReason::Closed));
    rig.machine.resume(rig.now);
    rig.connect();
    assert!(rig.machine.is_ready());
}

#[test]
fn requests_are_answered_once_or_fail() {
    let mut rig = Rig::ready();
    rig.machine.history(direct(), RangeSpan::Before(Sequence(0)), 10, rig.now).expect("taken");
    rig.machine.members(super::rig::group(), None, 10, rig.now).expect("taken");
    rig.machine.history(direct(), RangeSpan::Before(Sequence(0)), 10, rig.now).expect("taken");
    rig.listen();
    let (ranges, members) = (rig.ids("range"), rig.ids("members"));
    assert_eq!((ranges.len(), members.len()), (1, 1), "two at a time");
    rig.range(ranges[0], &super::rig::Answer { records: &[4, 5], ..Default::default() });
    assert_eq!(rig.ids("range").len(), 2);
    rig.refuse(members[0], 401, 0, 0);
    rig.wait_ms(5_000);
    assert_eq!(rig.told(), ["history 2", "failed Refused(NotMember)", "failed NoAnswer"]);
    rig.machine.history(direct(), RangeSpan::Before(Sequence(0)), 10, rig.now).expect("taken");
    rig.drop_socket();
    assert_eq!(rig.told(), ["failed Disconnected", "offline"]);
    assert!(rig.machine.history(direct(), RangeSpan::Before(Sequence(0)), 10, rig.now).is_err());
}

#[test]
fn a_group_is_created_once_although_the_answer_got_lost() {
    let mut rig = Rig::ready();
    rig.machine.create_group(b"us", &[]).expect("taken");
    rig.listen();
    assert_eq!(rig.heard(), ["create us"]);
    rig.wait_ms(6_000);
    let id = rig.ids("create")[0];
    let conversation = super::rig::group();
    let created = GroupCreated { conversation, sequence: Sequence(1), duplicate: true, member_version: 1 };
    rig.say(id, &ServerFrame::GroupCreated(created));
    assert_eq!(rig.told(), ["group begins 1", "created at 1"]);
    rig.deliver(conversation, 2);
    assert_eq!(rig.told(), ["group 2"]);
    assert!(rig.machine.snapshot().creations.is_empty());
    rig.machine.members_add(conversation, 0, &[super::rig::PEER]).expect("taken");
    rig.machine.leave(conversation).expect("taken");
    rig.heard();
    rig.listen();
    assert_eq!(rig.heard(), ["add n1 1", "leave n2"]);
}

#[test]
fn marks_are_told_again_after_a_reconnect() {
    let mut rig = Rig::ready();
    rig.machine.mark_read(&direct(), Sequence(4));
    rig.listen();
    assert_eq!(rig.heard(), ["mark direct delivered 0 read 4"]);
    rig.machine.mark_read(&direct(), Sequence(3));
    rig.listen();
    assert!(rig.heard().is_empty(), "a lower mark changes nothing");
    rig.drop_socket();
    rig.wait_ms(60_000);
    rig.connect();
    assert_eq!(rig.heard()[1..], ["mark direct delivered 0 read 4"]);
}

#[test]
fn what_a_gateway_does_not_support_and_nobody_waits_for_is_not_told() {
    let mut rig = Rig::ready();
    rig.machine.mark_read(&direct(), Sequence(4));
    rig.machine.typing(direct(), true);
    rig.listen();
    let ids: Vec<u64> = ["mark", "typing"].into_iter().flat_map(|begins| rig.ids(begins)).collect();
    assert_eq!(ids.len(), 2);
    ids.into_iter().for_each(|id| rig.refuse(id, 201, 0, 0));
    assert!(rig.told().is_empty());
    rig.refuse(0, 101, 0, 0);
    assert_eq!(rig.told(), ["notice UNAVAILABLE"]);
}

#[test]
fn changes_are_paged_after_the_drain() {
    let mut rig = Rig::ready();
    let row = tidegate_schema::ConversationRow { conversation: direct(), ..Default::default() };
    for (more, version) in [(true, 9), (false, 9)] {
        if more {
            rig.say(0, &ServerFrame::DrainDone);
        }
        let id = *rig.ids("list").last().expect("asked");
        assert_eq!(rig.machine.snapshot().user_version.0, 5);
        let rows = [row];
        let user_version = tidegate_ids::UserVersion(version);
        let rows = if more { tidegate_schema::List::new(&rows[..]) } else { Default::default() };
        let page = tidegate_schema::ConversationPage { rows, user_version, more };
        rig.say(id, &ServerFrame::ConversationPage(page));
    }
    assert_eq!(rig.machine.snapshot().user_version.0, 9);
    assert_eq!(rig.ids("list").len(), 2);
    assert_eq!(rig.told(), ["DrainDone", "row direct"]);
}

#[test]
fn a_state_is_not_mixed_with_another_users() {
    let mut rig = Rig::with(crate::Stored { user: super::rig::PEER, ..seasoned() }, Config::default());
    rig.upgrade();
    let hello = rig.ids("hello")[0];
    rig.welcome(hello);
    rig.drop_socket();
    assert_eq!(rig.machine.connection(), ConnectionState::Stopped(StopReason::AnotherUser));
}

#[test]
fn a_machine_without_a_token_asks_for_one() {
    let mut machine = Machine::new(Arc::new(Config::default()), b"", crate::Stored::new(DEVICE), 1);
    assert_eq!(machine.connection(), ConnectionState::NeedsToken);
    assert_eq!(machine.poll_connect(MonotonicNs(9)), None);
    machine.set_token(b"t", MonotonicNs(9));
    assert!(machine.poll_connect(MonotonicNs(9)).is_some());
}
