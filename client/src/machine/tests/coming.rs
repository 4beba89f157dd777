//! Records, holes, duties, acknowledgements.

use super::rig::{Answer, DEVICE, ME, Rig, direct, group, seasoned, stamp};
use crate::config::{Backfill, Config};
use crate::stored::{Stored, StoredConversation};
use tidegate_ids::{CommandNumber, PushNumber, Sequence};
use tidegate_schema::{
    Change, ConversationRow, Deliver, Dirty, Encoder, GroupChange, List, MessageFields, MessageKind, Resync,
    ServerFrame, Skip, SkipReason,
};

fn dirty(from: u64, head: u64) -> ServerFrame<'static> {
    let (from, head) = (Sequence(from), Sequence(head));
    ServerFrame::Dirty(Dirty { conversation: direct(), from, head, mentions: 0 })
}

/// Delivers these sequences and then waits so long; what is told and heard.
fn check(arrivals: &[u64], wait_ms: u64, told: &[&str], heard: &[&str]) {
    let mut rig = Rig::ready();
    for sequence in arrivals {
        rig.deliver(direct(), *sequence);
        rig.store();
    }
    rig.wait_ms(wait_ms);
    assert_eq!(rig.told(), told, "{arrivals:?}");
    assert_eq!(rig.heard(), heard, "{arrivals:?}");
}

#[test]
fn records_are_given_in_order_and_once_and_acknowledged_when_given() {
    check(&[1, 2], 49, &["direct 1", "direct 2"], &[]);
    check(&[1, 2], 50, &["direct 1", "direct 2"], &["ack 2"]);
    check(&[1, 1, 2], 50, &["direct 1", "direct 2"], &["ack 3"]);
    // A hole holds back both what is above it and the acknowledgement.
    check(&[1, 3], 199, &["direct 1"], &["ack 1"]);
    check(&[1, 3], 200, &["direct 1"], &["ack 1", "range direct 2..2"]);
    check(&[1, 3, 2], 50, &["direct 1", "direct 2", "direct 3"], &["ack 3"]);
    check(&[1, 3, 3, 2], 50, &["direct 1", "direct 2", "direct 3"], &["ack 4"]);
    check(&[3, 2], 200, &[], &["range direct 1..1"]);
    check(&[2, 5], 200, &[], &["range direct 1..1"]);
}

#[test]
fn a_record_that_came_before_is_counted() {
    let mut rig = Rig::ready();
    [1, 2, 1, 3, 2].iter().for_each(|sequence| rig.deliver(direct(), *sequence));
    assert_eq!(rig.machine.repeats(), 2);
    assert_eq!(rig.told(), ["direct 1", "direct 2", "direct 3"]);
}

#[test]
fn sixty_four_pushes_are_acknowledged_at_once() {
    let arrivals: Vec<u64> = (1..=64).collect();
    let told: Vec<String> = arrivals.iter().map(|sequence| format!("direct {sequence}")).collect();
    let told: Vec<&str> = told.iter().map(String::as_str).collect();
    check(&arrivals, 0, &told, &["ack 64"]);
}

#[test]
fn nothing_is_acknowledged_that_is_not_stored() {
    let mut rig = Rig::ready();
    rig.deliver(direct(), 1);
    let mark = rig.machine.store_mark();
    rig.deliver(direct(), 2);
    rig.wait_ms(1000);
    assert!(rig.heard().is_empty());
    rig.machine.stored(mark, rig.now);
    rig.wait_ms(1000);
    assert_eq!(rig.heard(), ["ack 1"]);
}

#[test]
fn a_mark_of_an_earlier_connection_acknowledges_nothing() {
    let mut rig = Rig::ready();
    rig.deliver(direct(), 1);
    let mark = rig.machine.store_mark();
    rig.drop_socket();
    rig.wait_ms(60_000);
    rig.connect();
    rig.deliver(direct(), 1);
    rig.heard();
    rig.machine.stored(mark, rig.now);
    rig.wait_ms(1000);
    assert!(rig.heard().is_empty());
    rig.store();
    rig.wait_ms(50);
    assert_eq!(rig.heard(), ["ack 1"]);
}

/// What one answer to `range direct 1..4` (5 is held) leads to.
fn check_answer(answer: Answer<'_>, told: &[&str], heard: &[&str]) {
    let mut rig = Rig::ready();
    rig.deliver(direct(), 5);
    rig.wait_ms(200);
    let id = rig.ids("range")[0];
    assert_eq!(rig.heard(), ["range direct 1..4"]);
    rig.range(id, &answer);
    rig.wait_ms(2000);
    assert_eq!(rig.told(), told);
    assert_eq!(rig.heard(), heard);
}

#[test]
fn an_answer_brings_records_or_says_that_there_are_none() {
    let all = Answer { records: &[1, 2, 3, 4], head: 5, first: 1, complete: true, ..Answer::default() };
    let given = ["direct 1", "direct 2", "direct 3", "direct 4", "direct 5"];
    check_answer(all, &given, &[]);
    // More than asked for, and what is held anyway.
    check_answer(Answer { records: &[1, 2, 3, 4, 5], ..all }, &given, &[]);
    let skips = Answer { records: &[2, 4], skips: &[(1, 1), (3, 3)], ..all };
    check_answer(
        skips,
        &["direct skipped 1..1", "direct 2", "direct skipped 3..3", "direct 4", "direct 5"],
        &[],
    );
    check_answer(Answer { records: &[], skips: &[(1, 4)], ..all }, &["direct skipped 1..4", "direct 5"], &[]);
    check_answer(
        Answer { records: &[4], first: 4, ..all },
        &["direct skipped 1..3", "direct 4", "direct 5"],
        &[],
    );
    check_answer(Answer { records: &[], first: 9, ..all }, &["direct skipped 1..4", "direct 5"], &[]);
    // Complete, but nothing is said of 3.
    check_answer(
        Answer { records: &[1, 2, 4], ..all },
        &["direct 1", "direct 2", "direct skipped 3..3", "direct 4", "direct 5"],
        &[],
    );
    // A page that ended early is followed by the next one at once.
    check_answer(
        Answer { records: &[1, 2], complete: false, ..all },
        &["direct 1", "direct 2"],
        &["range direct 3..4"],
    );
}

#[test]
fn answers_that_lead_nowhere_end_after_three() {
    let mut rig = Rig::ready();
    rig.deliver(direct(), 5);
    let empty = Answer { head: 5, ..Answer::default() };
    for wait in [200, 2000, 4000] {
        rig.wait_ms(wait - 1);
        assert!(rig.heard().is_empty(), "{wait}");
        rig.wait_ms(1);
        let id = rig.ids("range")[0];
        rig.heard();
        rig.range(id, &empty);
    }
    assert_eq!(rig.told(), ["direct skipped 1..4", "direct 5"]);
    rig.wait_ms(20_000);
    assert!(rig.heard().iter().all(|text| text == "ping"));
}

#[test]
fn a_refused_range_is_asked_again_or_passed() {
    // Temporary: after the wait, with backoff.
    let mut rig = Rig::ready();
    rig.deliver(direct(), 2);
    for wait in [200, 1000, 2000, 4000] {
        rig.wait_ms(wait - 1);
        assert!(rig.heard().is_empty(), "{wait}");
        rig.wait_ms(1);
        let id = rig.ids("range")[0];
        rig.heard();
        rig.refuse(id, 102, 0, 0);
    }
    assert!(rig.told().is_empty());
    // For good: it is passed.
    rig.wait_ms(8000);
    let id = rig.ids("range")[0];
    rig.refuse(id, 401, 0, 0);
    assert_eq!(rig.told(), ["direct skipped 1..1", "direct 2"]);
}

#[test]
fn ranges_without_any_answer_end_the_connection() {
    let mut rig = Rig::ready();
    rig.deliver(direct(), 2);
    rig.wait_ms(20_000);
    assert!(rig.machine.wants_close());
    rig.drop_socket();
    rig.wait_ms(60_000);
    rig.heard();
    rig.connect();
    assert_eq!(rig.ids("range").len(), 1);
    // What was held is still there: one record fills the hole.
    rig.told();
    rig.deliver(direct(), 1);
    assert_eq!(rig.told(), ["direct 1", "direct 2"]);
}

#[test]
fn a_dirty_range_is_a_duty_that_is_stored_then_acknowledged_then_fetched() {
    let mut rig = Rig::ready();
    rig.push(&dirty(1, 230));
    assert_eq!(rig.told(), ["direct begins 1", "direct duty 1..230"]);
    rig.push(&dirty(100, 200));
    assert!(rig.told().is_empty(), "nothing new to store");
    assert_eq!(rig.machine.snapshot().conversations[0].duty_to, Sequence(230));
    rig.wait_ms(100);
    let first = rig.ids("range")[0];
    assert_eq!(rig.heard(), ["range direct 1..100"], "nothing is acknowledged before it is stored");
    rig.store();
    rig.wait_ms(50);
    assert_eq!(rig.heard(), ["ack 2"]);
    // What is pushed meanwhile is held.
    rig.deliver(direct(), 231);
    let page: Vec<u64> = (1..=100).collect();
    rig.range(first, &Answer { records: &page, head: 231, first: 1, complete: true, ..Answer::default() });
    assert_eq!(rig.told().len(), 100);
    assert_eq!(rig.heard(), ["range direct 101..200"]);
    rig.store();
    assert_eq!(rig.heard(), ["mark direct delivered 100 read 0"]);
}

#[test]
fn at_most_two_ranges_are_in_flight() {
    let mut rig = Rig::ready();
    for peer in [31, 32, 33] {
        let conversation = tidegate_ids::ConversationId::direct(ME, tidegate_ids::UserId(peer));
        let dirty = Dirty { conversation, from: Sequence(1), head: Sequence(9), mentions: 0 };
        rig.push(&ServerFrame::Dirty(dirty));
    }
    let ids = rig.ids("range");
    assert_eq!(ids.len(), 2);
    rig.refuse(ids[0], 401, 0, 0);
    assert_eq!(rig.ids("range").len(), 3);
}

#[test]
fn a_duty_outlives_the_process() {
    let conversation = StoredConversation {
        conversation: direct(),
        number: CommandNumber(3),
        next: Sequence(5),
        duty_to: Sequence(7),
        outbox: Vec::new(),
    };
    let stored = Stored { conversations: vec![conversation], ..seasoned() };
    let mut rig = Rig::with(stored, Config::default());
    rig.connect();
    assert_eq!(rig.heard(), ["hello attempt 1 token token", "range direct 5..7"]);
}

#[test]
fn what_is_above_the_room_for_order_becomes_a_duty() {
    let config = Config { reorder_max: 2, backfill: Backfill::All, ..Config::default() };
    let mut rig = Rig::with(seasoned(), config);
    rig.connect();
    rig.told();
    rig.heard();
    [2, 3, 5].into_iter().for_each(|sequence| rig.deliver(direct(), sequence));
    assert_eq!(rig.told(), ["direct duty 1..5"]);
    rig.wait_ms(200);
    let id = rig.ids("range")[0];
    assert_eq!(rig.heard(), ["range direct 1..1"]);
    rig.deliver(direct(), 1);
    assert_eq!(rig.told(), ["direct 1", "direct 2", "direct 3"]);
    // One request a conversation: the next hole follows the answer.
    rig.wait_ms(200);
    assert!(rig.heard().is_empty());
    rig.range(id, &Answer { records: &[1], head: 5, first: 1, complete: true, ..Answer::default() });
    assert_eq!(rig.heard(), ["range direct 4..5"]);
}

#[test]
fn a_skip_closes_a_hole_wherever_it_stands() {
    let skip = |from, to| {
        let (from, to) = (Sequence(from), Sequence(to));
        ServerFrame::Skip(Skip { conversation: direct(), from, to, reason: SkipReason::Expired })
    };
    let mut rig = Rig::ready();
    rig.deliver(direct(), 1);
    rig.push(&skip(2, 3));
    rig.push(&skip(6, 8));
    rig.deliver(direct(), 4);
    rig.deliver(direct(), 9);
    rig.deliver(direct(), 5);
    assert_eq!(
        rig.told(),
        ["direct 1", "direct skipped 2..3", "direct 4", "direct 5", "direct skipped 6..8", "direct 9"]
    );
    rig.push(&skip(1, 9));
    assert!(rig.told().is_empty());
}

#[test]
fn the_own_record_fills_its_place() {
    let mut rig = Rig::ready();
    rig.deliver(direct(), 1);
    rig.send("mine");
    let id = rig.ids("send")[0];
    rig.acknowledge(id, 3, false);
    rig.deliver(direct(), 4);
    rig.deliver(direct(), 2);
    assert_eq!(rig.told(), ["direct 1", "sent n1 at 3", "direct 2", "direct 4"]);
    rig.wait_ms(1000);
    assert!(rig.ids("range").is_empty());
}

fn system(change: Change, users: &[tidegate_ids::UserId]) -> Vec<u8> {
    let mut encoder = Encoder::new();
    let (mut body, mut message) = (Vec::new(), Vec::new());
    let change = GroupChange { change, users: List::new(users), ..GroupChange::default() };
    encoder.group_change(&mut body, &change).expect("small");
    let fields = MessageFields { kind: MessageKind::System, body: &body, ..MessageFields::default() };
    encoder.message(&mut message, &fields).expect("small");
    message
}

#[test]
fn a_group_begins_where_this_user_joined() {
    let joined = system(Change::Added, &[ME]);
    let other = system(Change::Added, &[tidegate_ids::UserId(99)]);
    let mut rig = Rig::ready();
    let deliver =
        |sequence, message| ServerFrame::Deliver(Deliver { stamp: stamp(group(), sequence), message });
    rig.push(&deliver(18, &other));
    assert!(rig.told().is_empty());
    rig.push(&deliver(17, &joined));
    assert_eq!(rig.told(), ["group begins 17", "group 17", "group 18"]);
    rig.wait_ms(1000);
    assert!(rig.ids("range").is_empty());
}

#[test]
fn a_group_whose_beginning_stays_unknown_is_asked_for() {
    let mut rig = Rig::ready();
    rig.deliver(group(), 18);
    rig.wait_ms(200);
    assert_eq!(rig.told(), ["group begins 1"]);
    assert_eq!(rig.heard(), ["range group 1..17"]);
}

#[test]
fn a_new_device_begins_as_it_was_told_to() {
    let row = ConversationRow {
        conversation: direct(),
        head: Sequence(40),
        first_available: Sequence(11),
        joined: Sequence(1),
        last_number: CommandNumber(4),
        ..ConversationRow::default()
    };
    for (backfill, told) in [
        (Backfill::Heads, &["renumbered n5", "direct begins 41", "row direct"][..]),
        (Backfill::All, &["renumbered n5", "direct begins 11", "direct duty 11..40", "row direct"][..]),
    ] {
        let mut rig = Rig::with(Stored::new(DEVICE), Config { backfill, ..Config::default() });
        rig.resync = Resync::NewDevice;
        rig.rows = vec![row];
        rig.connect();
        let mut all = rig.told();
        all.retain(|text| told.contains(&text.as_str()));
        assert_eq!(all, told, "{backfill:?}");
        assert!(rig.machine.is_ready());
        rig.heard();
        rig.send("x");
        assert!(rig.heard().contains(&"send direct n5 x".to_owned()));
    }
}

#[test]
fn what_is_pushed_while_the_list_is_paged_is_not_lost() {
    let mut rig = Rig::with(Stored::new(DEVICE), Config::default());
    rig.resync = Resync::NewDevice;
    rig.upgrade();
    let hello = rig.ids("hello")[0];
    rig.welcome(hello);
    rig.deliver(direct(), 40);
    rig.deliver(direct(), 41);
    let list = rig.ids("list")[0];
    let row = ConversationRow {
        conversation: direct(),
        head: Sequence(40),
        first_available: Sequence(1),
        joined: Sequence(1),
        ..ConversationRow::default()
    };
    let rows = [row];
    let page = tidegate_schema::ConversationPage { rows: List::new(&rows), ..Default::default() };
    rig.told();
    rig.say(list, &ServerFrame::ConversationPage(page));
    assert_eq!(rig.told(), ["direct begins 40", "direct 40", "direct 41", "row direct", "ready"]);
}

#[test]
fn another_incarnation_takes_what_is_above_the_heads() {
    let mut rig = Rig::ready();
    (1..=9).for_each(|sequence| rig.deliver(direct(), sequence));
    rig.send("a");
    let id = rig.ids("send")[0];
    rig.acknowledge(id, 10, false);
    rig.send("b");
    rig.drop_socket();
    rig.wait_ms(60_000);
    rig.resync = Resync::NewIncarnation;
    rig.rows = vec![ConversationRow {
        conversation: direct(),
        head: Sequence(6),
        first_available: Sequence(1),
        last_number: CommandNumber(0),
        ..ConversationRow::default()
    }];
    rig.told();
    rig.heard();
    rig.connect();
    let told = rig.told();
    let tail = ["direct drop above 6", "renumbered n1", "row direct", "ready"];
    assert_eq!(told[told.len() - 4..], tail);
    assert_eq!(rig.heard().last().map(String::as_str), Some("send direct n1 b"));
    rig.deliver(direct(), 7);
    assert_eq!(rig.told(), ["direct 7"]);
}

#[test]
fn an_unknown_push_is_acknowledged_and_ignored() {
    let mut rig = Rig::ready();
    let header = tidegate_schema::FrameHeader { body_len: 8, kind: 0x0F00, flags: 1, id: 1 };
    let mut payload = header.to_bytes().to_vec();
    payload.extend_from_slice(&[0; 8]);
    let mut bytes = Vec::new();
    tidegate_ws::encode::binary(&mut bytes, &payload, None);
    rig.bytes(&mut bytes);
    rig.store();
    rig.wait_ms(50);
    assert_eq!(rig.heard(), [format!("ack {}", PushNumber(1))]);
    assert!(rig.told().is_empty());
}

/// Ten thousand conversations are announced as too long to push: each is asked for once, two at a time, in the order in
/// which they were announced, and nothing is refused or asked again.
#[test]
fn ten_thousand_announced_ranges_are_fetched_with_a_request_each() {
    const COUNT: u64 = 10_000;
    let conversation =
        |number: u64| tidegate_ids::ConversationId::direct(ME, tidegate_ids::UserId(1000 + number));
    let mut rig = Rig::ready();
    let (mut announced, mut fetched, mut acknowledged) = (0, 0, 0);
    while fetched < COUNT {
        // As many as the credit allows come ahead of what is fetched.
        while announced < COUNT && announced - acknowledged < 256 {
            let (from, head) = (Sequence(1), Sequence(70));
            let body = Dirty { conversation: conversation(announced), from, head, mentions: 0 };
            rig.push(&ServerFrame::Dirty(body));
            announced += 1;
        }
        rig.store();
        let ids = rig.ids("range");
        let heard = rig.heard();
        if let Some(ack) = heard.iter().rev().find_map(|text| text.strip_prefix("ack ")) {
            acknowledged = ack.parse().expect("a number");
        }
        let asked = heard.iter().filter(|text| text.starts_with("range"));
        assert!(ids.len() <= 2, "{} requests at a time", ids.len());
        if ids.is_empty() {
            rig.wait_ms(50);
        }
        for (id, text) in ids.into_iter().zip(asked) {
            assert_eq!(*text, format!("range {} 1..70", conversation(fetched)));
            let mut records = Vec::new();
            for sequence in 1..=70 {
                let stamp = stamp(conversation(fetched), sequence);
                tidegate_schema::deliver::write_stored(&stamp, b"m", &mut records);
            }
            rig.say(
                id,
                &ServerFrame::Range(tidegate_schema::Range {
                    conversation: conversation(fetched),
                    head: Sequence(70),
                    first_available: Sequence(1),
                    complete: true,
                    skips: List::new(&[]),
                    records: &records,
                }),
            );
            fetched += 1;
        }
    }
    let of_records =
        |text: &&String| text.contains(':') && !text.contains("duty") && !text.contains("begins");
    assert_eq!(rig.told().iter().filter(of_records).count(), 700_000);
    assert_eq!(rig.ids("range"), [] as [u64; 0], "nothing is asked for twice");
}

/// A group that the user had left and come to again: all of it that is theirs begins before the last time.
#[test]
fn a_new_device_begins_with_the_first_stay() {
    let mut rig = Rig::with(Stored::new(DEVICE), Config { backfill: Backfill::All, ..Config::default() });
    rig.resync = Resync::NewDevice;
    rig.rows = vec![ConversationRow {
        conversation: group(),
        head: Sequence(113),
        first_available: Sequence(57),
        joined: Sequence(74),
        ..ConversationRow::default()
    }];
    rig.connect();
    let told = rig.told();
    assert!(told.contains(&"group begins 57".to_owned()), "{told:?}");
    assert!(told.contains(&"group duty 57..113".to_owned()), "{told:?}");
}

/// A gateway had forgotten a device's queue and said so in its `Welcome`. The connection was cut while the list was paged; the
/// next `Welcome` knew the device, and what it had missed was never fetched.
#[test]
fn a_synchronisation_that_is_cut_is_done_at_the_next_connect() {
    let row = ConversationRow {
        conversation: direct(),
        head: Sequence(9),
        first_available: Sequence(1),
        joined: Sequence(1),
        ..ConversationRow::default()
    };
    let synchronises = |rig: &mut Rig| {
        rig.resync = Resync::None;
        rig.rows = vec![row];
        rig.wait_ms(60_000);
        rig.told();
        rig.heard();
        rig.connect();
        let told = rig.told();
        assert!(rig.machine.is_ready() && !rig.machine.snapshot().owes_sync);
        told.contains(&"row direct".to_owned()) && told.contains(&"direct duty 1..9".to_owned())
    };
    let known = || {
        let conversation = StoredConversation {
            conversation: direct(),
            number: CommandNumber(1),
            next: Sequence(1),
            ..StoredConversation::default()
        };
        Stored { conversations: vec![conversation], ..seasoned() }
    };
    // While the list is paged.
    let mut rig = Rig::with(known(), Config::default());
    rig.resync = Resync::NewDevice;
    rig.upgrade();
    let hello = rig.ids("hello")[0];
    rig.welcome(hello);
    assert!(rig.machine.snapshot().owes_sync);
    rig.drop_socket();
    let mut later = Rig::with(rig.machine.snapshot(), Config::default());
    assert!(synchronises(&mut rig));
    assert!(synchronises(&mut later), "also after a restart of the application");
    // Before the `Welcome` came.
    let mut rig = Rig::with(known(), Config::default());
    rig.upgrade();
    assert!(rig.machine.snapshot().owes_sync);
    rig.drop_socket();
    assert!(synchronises(&mut rig));
    // A gateway that is too full has not taken the `Hello`.
    let mut rig = Rig::with(known(), Config::default());
    rig.upgrade();
    rig.close_with(4029);
    assert!(!rig.machine.snapshot().owes_sync);
    assert!(!synchronises(&mut rig));
}
