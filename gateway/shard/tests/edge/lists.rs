//! Lists of conversations: what a row says, and when there is none.

use crate::gateway::{Gateway, token};
use crate::group;
use tidegate_domain::group_id;
use tidegate_ids::{ClientId, CommandNumber, ConversationId, DeviceId, Sequence, UserId, WallMs};
use tidegate_schema::{
    ConversationList, ConversationRow, Frame, List, ListOrder, MembersAdd, MembersChange, MembersRemove,
    ServerFrame,
};
use tidegate_shard::{ConnectionId, Event, ShardLimits};

const OWNER: UserId = UserId(1);

/// The group that the owner's device makes `index`-th.
fn of_owner(index: u64) -> ConversationId {
    group_id(OWNER, DeviceId(5), &ClientId(u128::from(index).to_be_bytes()))
}

fn ask(gateway: &mut Gateway, id: u32) -> u64 {
    let order = ListOrder::LastActivity(WallMs(0));
    gateway.request(id, &ConversationList { order, after: None, limit: 50 })
}

fn rows(gateway: &mut Gateway, id: u32, request: u64) -> Vec<ConversationRow> {
    let frames = &gateway.socket(id).frames;
    let (header, body) = frames.iter().find(|(header, _)| header.id == request).unwrap();
    let ServerFrame::ConversationPage(page) = ServerFrame::decode(&Frame { header: *header, body }).unwrap()
    else {
        panic!("no page")
    };
    page.rows.iter().collect()
}

/// The row of a conversation whose home could not read it said that nothing was ever written there: a device that synchronised by
/// it fetched nothing, and one of another incarnation dropped what it had.
#[test]
fn a_list_with_a_conversation_that_cannot_be_read_is_refused() {
    let limits = ShardLimits { hot_conversations_max: 2, ..ShardLimits::default() };
    let mut gateway = Gateway::start(limits);
    let id = gateway.session(&token(OWNER.0, "unlimited"), 1);
    for index in 1..=5 {
        let request = gateway.request(id, &group(index, &[UserId(2)]));
        assert_eq!(gateway.answer(id, request), "GroupCreated");
    }
    // From here on a snapshot holds all of it but what is in memory, and cannot be read.
    gateway.holds_reads = true;
    gateway.tell(Event::Snapshot { through: 1 });
    gateway.pass(60_000);
    let request = ask(&mut gateway, id);
    let mut rounds = 0;
    while gateway.answer(id, request) == "nothing" {
        gateway.fail_reads();
        gateway.pass(300);
        rounds += 1;
        assert!(rounds < 100, "it is never answered");
    }
    assert_eq!(gateway.answer(id, request), "UNAVAILABLE");
    assert!(rounds >= 3, "damage is read again before it is believed");
}

/// Who had left and come again was told that nothing before the last time was there for them: a new device of theirs never
/// fetched what they had been told the first time.
#[test]
fn what_is_available_begins_with_the_first_stay() {
    let mut gateway = Gateway::start(ShardLimits::default());
    let id = gateway.session(&token(OWNER.0, "unlimited"), 1);
    let request = gateway.request(id, &group(1, &[UserId(2)]));
    assert_eq!(gateway.answer(id, request), "GroupCreated");
    let users = [UserId(2)];
    let change = |number: u64| MembersChange {
        conversation: of_owner(1),
        number: CommandNumber(number),
        client_id: ClientId([number as u8; 16]),
        member_version: 0,
        users: List::new(&users),
    };
    let request = gateway.request(id, &MembersRemove(change(1)));
    assert_eq!(gateway.answer(id, request), "SendAck");
    let request = gateway.request(id, &MembersAdd(change(2)));
    assert_eq!(gateway.answer(id, request), "SendAck");
    gateway.tell(Event::Ended { connection: ConnectionId(id) });
    let id = gateway.session(&token(2, "unlimited"), 1);
    let request = ask(&mut gateway, id);
    let rows = rows(&mut gateway, id, request);
    let said: Vec<_> = rows.iter().map(|row| (row.first_available, row.joined, row.head)).collect();
    assert_eq!(said, [(Sequence(1), Sequence(3), Sequence(3))]);
}
