use super::*;
use crate::records::write_user;
use crate::state::part_header;
use std::ops::Range;
use tidegate_domain::{QueueChange, UserRecord};
use tidegate_ids::{ConversationId, DeviceId, WallMs};

/// A segment went bad under a running gateway, and the snapshot over it forgot that its last records had been given
/// sequences.
#[test]
fn what_is_lost_at_the_end_keeps_its_places() {
    let id = ConversationId::direct(UserId(1), UserId(2));
    let stream = StreamId::conversation(id);
    let near = Location::new(3, 4097);
    let mut fold = StreamFold::new();
    let mut lost = Vec::new();
    assert!(fold.reduce_lost(&stream, Sequence(7), &mut lost));
    fold.begin(&stream, None);
    fold.apply(near, &lost);
    let mut state = Vec::new();
    assert!(fold.finish(&mut state));
    let Some((conversation, spine)) = read_conversation(&state) else { panic!("a state") };
    assert_eq!((conversation.last, spine.count(), spine.last()), (Sequence(7), 7, near));
    // Records that are known already are not lost again.
    fold.begin(&stream, Some(&state));
    fold.apply(Location::new(4, 513), &lost);
    let mut again = Vec::new();
    assert!(fold.finish(&mut again) && again == state);
    assert!(!fold.reduce_lost(&StreamId::user(UserId(1)), Sequence(7), &mut lost), "users have no sequences");
}

/// Folds records of a user on top of a state, as a merge does.
fn fold_user(fold: &mut StreamFold, id: UserId, base: Option<&[u8]>, records: &[UserRecord]) -> Vec<u8> {
    fold.begin(&StreamId::user(id), base);
    let (mut body, mut reduced) = (Vec::new(), Vec::new());
    for (record, offset) in records.iter().zip(1..) {
        let kind = write_user(record, &mut body);
        let head = RecordHead { stream: StreamId::user(id), kind: kind as u16, ..RecordHead::default() };
        let location = Location::new(1, 8 * offset);
        let view = RecordView { location, placement: Default::default(), head, body: &body };
        reduced.clear();
        assert!(fold.reduce(&view, &mut reduced));
        fold.apply(location, &reduced);
    }
    let mut state = Vec::new();
    assert!(fold.finish(&mut state));
    state
}

fn group(number: u64) -> ConversationId {
    let mut id = [0x80; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    ConversationId(id)
}

fn registered(devices: u64) -> impl Iterator<Item = UserRecord> {
    (1..=devices).map(|id| UserRecord::Registered { device: DeviceId(id), time: WallMs(1000 - id) })
}

/// Somebody has created groups with the user as a member, and every device is owed them.
fn joined(numbers: Range<u64>) -> impl Iterator<Item = UserRecord> {
    numbers.map(group).flat_map(|conversation| {
        let (at, from) = (Sequence(1), Sequence(1));
        let joined = UserRecord::Joined { conversation, at };
        [joined, UserRecord::WidenAll { except: None, conversation, from }]
    })
}

/// A stranger's groups brought somebody to 70,000 conversations, and since their state was larger than an entry of a snapshot
/// no snapshot of the node was made any more.
#[test]
fn seventy_thousand_conversations_on_ten_devices_are_made_to_fit() {
    const CONVERSATIONS: u64 = 70_000;
    let id = UserId(7);
    let records: Vec<UserRecord> = registered(10).chain(joined(0..CONVERSATIONS)).collect();
    let mut fold = StreamFold::new();
    let state = fold_user(&mut fold, id, None, &records);
    // 24 + 10 x 28 + 70,000 x (40 + 10 x 24) are 19.6 MB. A device is 1.68 MB, so five go until it is three quarters of 16 MiB.
    assert!(state.len() <= SNAPSHOT_STATE_BYTES_MAX / 4 * 3, "{}", state.len());
    let large = fold.large_users();
    assert_eq!((large.users, large.devices, large.ranges), (1, 5, 5 * CONVERSATIONS));
    assert_eq!((large.conversations, large.named.len()), (0, 1));
    let (named, given_up) = &large.named[0];
    // Unseen longest is who registered last here.
    assert_eq!((*named, &given_up.devices[..]), (id, &[10, 9, 8, 7, 6].map(DeviceId)[..]));
    let Some(user) = read_user_state(&state) else { panic!("a state") };
    assert_eq!(user.version.0, CONVERSATIONS);
    assert!(user.conversations().keys().copied().eq((0..CONVERSATIONS).map(group)));
    assert!(user.devices.iter().map(|device| device.id.0).eq(1..=5));
    for device in user.devices.iter() {
        assert!(device.queue.ranges().eq((0..CONVERSATIONS).map(|number| (group(number), Sequence(1)))));
    }
    // The next snapshot has little new, and gives up nothing.
    let more: Vec<UserRecord> = joined(CONVERSATIONS..CONVERSATIONS + 100).collect();
    let mut next = StreamFold::new();
    let grown = fold_user(&mut next, id, Some(&state), &more);
    assert_eq!(grown.len(), state.len() + 100 * (40 + 5 * 24));
    assert_eq!(*next.large_users(), LargeUsers::default());
}

/// The limit of these tests: the user, two devices, and a hundred conversations with a range each on both.
const SMALL: usize = 24 + 2 * 28 + 100 * (40 + 2 * 24);

#[test]
fn a_fold_that_is_begun_again_comes_out_the_same() {
    let records: Vec<UserRecord> = registered(4).chain(joined(0..90)).collect();
    let fold = || {
        let mut fold = StreamFold::with_user_state_bytes_max(SMALL);
        (fold_user(&mut fold, UserId(7), None, &records), fold.large.clone())
    };
    let (state, large) = fold();
    assert_eq!((large.devices, large.conversations), (3, 0));
    assert_eq!(fold(), (state, large));
}

/// What the stream says of a device that is not known any more changes nothing, until it registers again.
#[test]
fn records_of_a_device_that_went_fold_without_harm() {
    let records: Vec<UserRecord> = registered(4).chain(joined(0..90)).collect();
    let mut fold = StreamFold::with_user_state_bytes_max(SMALL);
    let state = fold_user(&mut fold, UserId(7), None, &records);
    let gone = fold.large.named[0].1.devices[0];
    let change = QueueChange::Widen { conversation: group(500), from: Sequence(3) };
    let of_session =
        [UserRecord::Queue { device: gone, change }, UserRecord::Seen { device: gone, time: WallMs(9000) }];
    assert_eq!(fold_user(&mut fold, UserId(7), Some(&state), &of_session), state);
    let back = [of_session[0], UserRecord::Registered { device: gone, time: WallMs(9500) }, of_session[0]];
    let Some(user) = read_user_state(&fold_user(&mut fold, UserId(7), Some(&state), &back)) else {
        panic!("a state")
    };
    let ranges = user.devices.get(gone).map(|device| device.queue.ranges().collect::<Vec<_>>());
    assert_eq!(ranges, Some(vec![(group(500), Sequence(3))]), "what came since, and nothing of before");
}

/// A state that a shard wrote has all that memory had: what was given up before it comes back, and is not told as lost.
#[test]
fn a_state_from_memory_makes_a_device_known_again() {
    let records: Vec<UserRecord> = registered(4).chain(joined(0..90)).collect();
    let whole = fold_user(&mut StreamFold::new(), UserId(7), None, &records);
    let mut fold = StreamFold::with_user_state_bytes_max(SMALL);
    let state = fold_user(&mut fold, UserId(7), None, &records);
    let id = StreamId::user(UserId(7));
    let head = RecordHead { stream: id, kind: RecordKind::UserState as u16, ..RecordHead::default() };
    let body = [&part_header(0, 1)[..], &whole].concat();
    let location = Location::new(2, 8);
    let view = RecordView { location, placement: Default::default(), head, body: &body };
    let mut fold = StreamFold::new();
    let mut reduced = Vec::new();
    assert!(fold.reduce(&view, &mut reduced));
    fold.begin(&id, Some(&state));
    fold.apply(location, &reduced);
    let mut again = Vec::new();
    assert!(fold.finish(&mut again) && again == whole);
    assert_eq!(fold.large, LargeUsers::default());
}

/// Between two snapshots there may be gigabytes of logs, all of one user: what is held of them in memory is bounded before
/// all of it is folded.
#[test]
fn a_user_is_made_to_fit_before_all_records_are_folded() {
    let mut fold = StreamFold::with_user_state_bytes_max(SMALL);
    let records: Vec<UserRecord> = registered(4).chain(joined(0..1000)).collect();
    fold.begin(&StreamId::user(UserId(7)), None);
    for record in &records {
        let mut reduced = Vec::new();
        let mut body = Vec::new();
        let kind = write_user(record, &mut body);
        reduced.extend_from_slice(&(kind as u16).to_le_bytes());
        reduced.extend_from_slice(&body);
        fold.apply(Location::new(1, 8), &reduced);
        let Some(Folding::User(user, _)) = &fold.folding else { panic!("a user") };
        assert!(user.state_bytes(&USER_STATE_BYTES) <= FOLDING_STATES * SMALL);
    }
    let mut state = Vec::new();
    assert!(fold.finish(&mut state) && state.len() <= SMALL);
    assert_eq!((fold.large.users, fold.large.devices), (1, 4));
    let kept = read_user_state(&state).map_or(0, |user| user.conversations().len());
    assert_eq!(fold.large.conversations, 1000 - kept as u64);
}

#[test]
fn users_beyond_those_that_are_named_are_counted() {
    let mut fold = StreamFold::with_user_state_bytes_max(SMALL);
    let records: Vec<UserRecord> = registered(4).chain(joined(0..90)).collect();
    for user in 1..=LARGE_USERS_NAMED_MAX as u64 + 3 {
        fold_user(&mut fold, UserId(user), None, &records);
    }
    assert_eq!((fold.large.users, fold.large.named.len()), (103, 100));
    assert_eq!((fold.large.devices, fold.large.ranges), (103 * 3, 103 * 3 * 90));
}
