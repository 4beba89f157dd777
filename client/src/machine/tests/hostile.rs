//! A gateway that says anything at any time: the machine must not panic, not spin, not grow.

use super::rig::{DEVICE, Rig, direct, group};
use crate::config::{Backfill, Config};
use crate::event::ConnectionState;
use crate::stored::Stored;
use proptest::prelude::*;
use tidegate_ids::{CommandNumber, ConversationId, INTEGER_MAX, Sequence, UserId, UserVersion};
use tidegate_schema::{
    ConversationPage, ConversationRow, Deliver, Dirty, Error, ErrorCode, GoAway, GroupCreated, List, Range,
    Resync, SendAck, ServerFrame, Skip, SkipReason, SkipSpan, Stamp, Throttle, ThrottleScope, deliver,
};

/// One thing that happens.
#[derive(Clone, Debug)]
enum Act {
    /// The gateway says the frame of this kind, made of these numbers, under an id that was heard (or not).
    Say {
        kind: u8,
        id: usize,
        a: u64,
        b: u64,
        flag: bool,
    },
    /// Bytes that are not even frames.
    Bytes(Vec<u8>),
    Wait(u64),
    Send,
    Create,
    Leave,
    Drop,
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0_u64..12, 1 => Just(INTEGER_MAX), 1 => 90_u64..250, 1 => Just(INTEGER_MAX - 1)]
}

fn act() -> impl Strategy<Value = Act> {
    let say = (0_u8..16, 0_usize..12, number(), number(), any::<bool>())
        .prop_map(|(kind, id, a, b, flag)| Act::Say { kind, id, a, b, flag });
    prop_oneof![
        12 => say,
        1 => proptest::collection::vec(any::<u8>(), 1..40).prop_map(Act::Bytes),
        2 => (1_u64..8_000).prop_map(Act::Wait),
        2 => Just(Act::Send),
        1 => Just(Act::Create),
        1 => Just(Act::Leave),
        1 => Just(Act::Drop),
    ]
}

fn conversation(number: u64) -> ConversationId {
    match number % 3 {
        0 => direct(),
        1 => group(),
        _ => ConversationId::direct(UserId(number), UserId(number)),
    }
}

fn say(rig: &mut Rig, (kind, id): (u8, u64), (a, b, flag): (u64, u64, bool)) {
    let (id_of, from, to) = (conversation(a), Sequence(a), Sequence(b));
    let reason = SkipReason::Expired;
    let spans = [SkipSpan { from, to, reason }, SkipSpan { from: to, to: from, reason }];
    let stamp = Stamp { conversation: id_of, sequence: to, sender: UserId(a), ..Stamp::default() };
    let mut records = Vec::new();
    deliver::write_stored(&stamp, b"m", &mut records);
    deliver::write_stored(&Stamp { sequence: from, ..stamp }, b"m", &mut records);
    if flag && kind == 4 {
        records.truncate(100);
    }
    let row = ConversationRow {
        conversation: id_of,
        head: to,
        first_available: from,
        last_number: CommandNumber(b),
        joined: from,
        ..ConversationRow::default()
    };
    let rows = [row, ConversationRow { head: from, ..row }];
    let code = [102, 103, 411, 410, 401, 600, 301, 100][(a % 8) as usize];
    let retry_after_ms = (b % 5_000) as u32;
    let frame = match kind {
        0 | 1 => ServerFrame::Deliver(Deliver { stamp, message: b"m" }),
        2 => ServerFrame::Dirty(Dirty { conversation: id_of, from, head: to, mentions: 1 }),
        3 => ServerFrame::Skip(Skip { conversation: id_of, from, to, reason }),
        4..=6 => ServerFrame::Range(Range {
            conversation: if flag { direct() } else { id_of },
            head: to,
            first_available: if flag { Sequence(0) } else { from },
            complete: flag,
            skips: if a.is_multiple_of(2) { List::new(&spans) } else { List::default() },
            records: if b.is_multiple_of(2) { &records } else { &[] },
        }),
        7 | 8 => ServerFrame::SendAck(SendAck { sequence: to, duplicate: flag, ..SendAck::default() }),
        9 | 10 => ServerFrame::Error(Error {
            expected_number: CommandNumber(b),
            retry_after_ms,
            ..Error::new(ErrorCode::from(code))
        }),
        11 => ServerFrame::ConversationPage(ConversationPage {
            rows: List::new(&rows),
            user_version: UserVersion(a),
            more: flag,
        }),
        12 => ServerFrame::Throttle(Throttle {
            scope: if flag { ThrottleScope::Conversation } else { ThrottleScope::User },
            retry_after_ms,
            conversation: Some(id_of),
        }),
        13 => ServerFrame::GoAway(GoAway {
            delay_min_ms: retry_after_ms,
            delay_max_ms: a as u32,
            come_back: true,
            ..GoAway::default()
        }),
        14 => ServerFrame::GroupCreated(GroupCreated {
            conversation: group(),
            sequence: to,
            member_version: a,
            duplicate: flag,
        }),
        _ => ServerFrame::DrainDone,
    };
    rig.say_flagged(id, u16::from(flag && kind < 4), &frame);
}

/// Whatever happened to the connection, there is one again.
fn come_back(rig: &mut Rig, resync: Resync) {
    if rig.machine.wants_close() {
        rig.drop_socket();
    }
    match rig.machine.connection() {
        ConnectionState::Offline(at) => rig.now = rig.now.max(at),
        ConnectionState::NeedsToken => rig.machine.set_token(b"t", rig.now),
        ConnectionState::Stopped(_) => rig.machine.resume(rig.now),
        ConnectionState::Connecting | ConnectionState::Syncing | ConnectionState::Ready => return,
    }
    rig.resync = resync;
    rig.told();
    rig.heard();
    rig.upgrade();
    let hello = rig.ids("hello")[0];
    rig.welcome(hello);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_gateway_makes_it_panic_or_spin(acts in proptest::collection::vec(act(), 1..80)) {
        let config = Config { backfill: Backfill::All, reorder_max: 8, ..Config::default() };
        let mut rig = Rig::with(Stored::new(DEVICE), config);
        for (place, act) in acts.into_iter().enumerate() {
            let resync = [Resync::None, Resync::NewIncarnation, Resync::QueueExpired][place % 3];
            come_back(&mut rig, resync);
            match act {
                Act::Say { kind, id, a, b, flag } => {
                    let ids = rig.ids("");
                    let id = if id < 2 { id as u64 } else { ids.iter().rev().nth(id - 2).copied().unwrap_or(1) };
                    say(&mut rig, (kind, id), (a, b, flag));
                }
                Act::Bytes(mut bytes) => rig.bytes(&mut bytes),
                Act::Wait(ms) => rig.wait_ms(ms),
                Act::Send => {
                    let _ = rig.machine.send(direct(), b"m");
                }
                Act::Create => {
                    let _ = rig.machine.create_group(b"g", &[UserId(3)]);
                }
                Act::Leave => {
                    let _ = rig.machine.leave(group());
                }
                Act::Drop => rig.drop_socket(),
            }
            rig.store();
            let stored = rig.machine.snapshot();
            prop_assert!(stored.conversations.iter().all(|row| row.number.0 > 0));
        }
    }
}
