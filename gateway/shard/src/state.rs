//! A stream's folded state as bytes: what a cold stream is loaded from, together with what follows it.
//!
//! States are written in parts, since a record has a largest size; a part says which of how many it is.

use crate::bytes::{Reader, Writer};
use crate::mesh_frame::{read_stay, write_stay};
use tidegate_domain::{
    Author, Conversation, ConversationEntry, DeviceNumbers, INTERVALS_PER_GROUP_MAX, LastCommand, Membership,
    NUMBERS_PER_CONVERSATION_MAX, QueueChange, User, UserStateBytes,
};
use tidegate_ids::{
    ClientId, CommandNumber, ConversationId, Countable, DeviceId, Location, Sequence, UserId, UserVersion,
};
use tidegate_storage_log::Spine;
use tidegate_storage_log::limits::{PAGE_RECORDS_MAX, SNAPSHOT_STATE_BYTES_MAX, SPINE_ROOTS_MAX};

/// Bytes of a state in one record.
pub(crate) const STATE_PART_BYTES: usize = 64 * 1024;

/// Bytes before a part's content: which part, of how many.
pub(crate) const PART_HEADER_BYTES: usize = 4;

/// What the parts of a user's state take in it.
pub(crate) const USER_STATE_BYTES: UserStateBytes =
    UserStateBytes { user: 8 + 8 + 4 + 4, device: 3 * 8 + 4, range: 16 + 8, conversation: 16 + 3 * 8 };

/// A conversation's state without numbers, stays and spine.
const CONVERSATION_BYTES: usize = 16 + 3 * 8 + 8 + 1 + 2 * 8 + 16 + 4 + 4 + RESERVED.len();
/// The last number of a device in it.
const NUMBER_BYTES: usize = 4 * 8;
/// A stay in it.
const STAY_BYTES: usize = 3 * 8;
/// The largest spine: how many records it has, and its roots.
const SPINE_BYTES_MAX: usize = 8 + 8 * SPINE_ROOTS_MAX;

/// The largest state of a conversation: 705 KiB.
const CONVERSATION_BYTES_MAX: usize = CONVERSATION_BYTES
    + NUMBERS_PER_CONVERSATION_MAX * NUMBER_BYTES
    + INTERVALS_PER_GROUP_MAX * STAY_BYTES
    + SPINE_BYTES_MAX;

// What has no rule that makes it smaller fits as it is.
const _: () = assert!(CONVERSATION_BYTES_MAX <= SNAPSHOT_STATE_BYTES_MAX);
const _: () = assert!(CONVERSATION_BYTES_MAX.div_ceil(STATE_PART_BYTES) <= PAGE_RECORDS_MAX as usize);
// So do the parts of a user's state in one chain, which is how they are read: one that a shard writes for want of a log has
// what memory holds, and no more than parts can be counted.
const _: () = assert!(PAGE_RECORDS_MAX <= u16::MAX as u32);

/// The header of part `index` of `count`.
pub(crate) fn part_header(index: usize, count: usize) -> [u8; PART_HEADER_BYTES] {
    let mut header = [0; PART_HEADER_BYTES];
    header[..2].copy_from_slice(&(index as u16).to_le_bytes());
    header[2..].copy_from_slice(&(count as u16).to_le_bytes());
    header
}

/// Which part of how many a body is, and its content.
pub(crate) fn read_part(body: &[u8]) -> Option<(u16, u16, &[u8])> {
    let mut from = Reader(body);
    let (index, count) = (from.take()?, from.take()?);
    Some((index, count, from.0))
}

/// Bytes of a conversation's state that once said how much of it was lost (decision 0018). Written as zeroes, read as nothing.
const RESERVED: [u8; 16] = [0; 16];

/// Writes a conversation's fold and its spine.
pub(crate) fn write_conversation(conversation: &Conversation, spine: &Spine, out: &mut Vec<u8>) {
    let mut to = Writer(out);
    to.put(conversation.id).put(conversation.last).put(conversation.countable.0).put(conversation.time);
    to.put(conversation.member_version).put(conversation.creator.is_some());
    let (creator, client_id) = conversation.creator.unwrap_or_default();
    to.put(creator.user).put(creator.device).put(client_id);
    to.put(conversation.numbers.entries().len() as u32);
    for (user, device, last) in conversation.numbers.entries() {
        to.put(*user).put(*device).put(last.number).put(last.location);
    }
    to.put(conversation.membership.stays().len() as u32);
    conversation.membership.stays().iter().for_each(|stay| write_stay(out, stay));
    Writer(out).bytes(&RESERVED);
    spine.encode(out);
}

/// Reads what [`write_conversation`] wrote.
pub(crate) fn read_conversation(bytes: &[u8]) -> Option<(Conversation, Spine)> {
    let mut from = Reader(bytes);
    let (id, last, countable, time): (_, _, u64, _) =
        (from.take()?, from.take()?, from.take()?, from.take()?);
    let (member_version, has_creator): (Sequence, bool) = (from.take()?, from.take()?);
    let creator = Author { user: from.take()?, device: from.take()? };
    let client_id: ClientId = from.take()?;
    let count: u32 = from.take()?;
    let mut numbers: Vec<(UserId, DeviceId, LastCommand)> = Vec::new();
    for _ in 0..count {
        let (user, device) = (from.take()?, from.take()?);
        let (number, location): (CommandNumber, Location) = (from.take()?, from.take()?);
        numbers.push((user, device, LastCommand { number, location }));
    }
    let count: u32 = from.take()?;
    let stays = (0..count).map(|_| read_stay(&mut from)).collect::<Option<Vec<_>>>()?;
    from.bytes(RESERVED.len())?;
    let (spine, _) = Spine::decode(from.0)?;
    let conversation = Conversation {
        id,
        last,
        countable: Countable(countable),
        time,
        creator: has_creator.then_some((creator, client_id)),
        member_version,
        numbers: DeviceNumbers::from_entries(numbers)?,
        membership: Membership::from_stays(stays)?,
    };
    Some((conversation, spine))
}

/// Writes a user's fold: devices with the durable ends of their ranges, in the order in which these opened,
/// conversations, version.
pub(crate) fn write_user_state(user: &User, out: &mut Vec<u8>) {
    let mut to = Writer(out);
    to.put(user.id).put(user.version.0).put(user.devices.count() as u32);
    for device in user.devices.iter() {
        to.put(device.id).put(device.registered).put(device.seen).put(device.queue.range_count() as u32);
        for (conversation, from) in device.queue.ranges() {
            to.put(conversation).put(from);
        }
    }
    to.put(user.conversations().len() as u32);
    for (conversation, entry) in user.conversations() {
        let left = entry.left.unwrap_or(Sequence(0));
        to.put(*conversation).put(entry.joined).put(left).put(entry.version.0);
    }
}

/// Reads what [`write_user_state`] wrote.
pub(crate) fn read_user_state(bytes: &[u8]) -> Option<User> {
    let mut reader = UserStateReader::new(bytes.to_vec())?;
    let mut entries = usize::MAX;
    reader.advance(&mut entries)?.then(|| reader.into_user())
}

/// Reads what [`write_user_state`] wrote, a few entries at a time.
#[derive(Debug)]
pub(crate) struct UserStateReader {
    bytes: Vec<u8>,
    done: usize,
    user: User,
    devices_left: u32,
    /// The device whose ranges are read.
    device: DeviceId,
    ranges_left: u32,
    conversations_left: Option<u32>,
}

impl UserStateReader {
    /// Begins; `None` if that is no state.
    pub(crate) fn new(bytes: Vec<u8>) -> Option<Self> {
        let mut from = Reader(&bytes);
        let mut user = User::new(from.take()?);
        user.version = UserVersion(from.take()?);
        let devices_left = from.take()?;
        let done = bytes.len() - from.0.len();
        let (device, ranges_left, conversations_left) = (DeviceId(0), 0, None);
        Some(Self { bytes, done, user, devices_left, device, ranges_left, conversations_left })
    }

    /// Reads so many devices, ranges and conversations at most, and says whether that was all; `None` if it is no state.
    pub(crate) fn advance(&mut self, entries: &mut usize) -> Option<bool> {
        let Self { bytes, done, user, .. } = self;
        let mut from = Reader(&bytes[*done..]);
        while *entries > 0 {
            if self.ranges_left > 0 {
                let (conversation, at) = (from.take()?, from.take()?);
                let queue = &mut user.devices.get_mut(self.device)?.queue;
                queue.apply(&QueueChange::Widen { conversation, from: at });
                self.ranges_left -= 1;
            } else if self.devices_left > 0 {
                let (id, registered, seen) = (from.take()?, from.take()?, from.take()?);
                user.devices.register(id, registered);
                user.devices.saw(id, seen);
                (self.device, self.ranges_left) = (id, from.take()?);
                self.devices_left -= 1;
            } else {
                match &mut self.conversations_left {
                    None => self.conversations_left = Some(from.take()?),
                    Some(0) => return Some(true),
                    Some(left) => {
                        *left -= 1;
                        let (id, entry) = read_entry(&mut from)?;
                        user.restore(id, entry);
                    }
                }
            }
            *entries -= 1;
        }
        *done = bytes.len() - from.0.len();
        Some(false)
    }

    /// The user, once all was read.
    pub(crate) fn into_user(self) -> User {
        self.user
    }
}

fn read_entry(from: &mut Reader<'_>) -> Option<(ConversationId, ConversationEntry)> {
    let id = from.take()?;
    let (joined, left): (Sequence, Sequence) = (from.take()?, from.take()?);
    let left = (left.0 > 0).then_some(left);
    let version = UserVersion(from.take()?);
    Some((id, ConversationEntry { joined, left, version }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_domain::{Change, Record, UserRecord};
    use tidegate_ids::WallMs;

    #[test]
    fn a_group_survives_its_bytes() {
        let mut group = Conversation::new(ConversationId::group([3; 16]));
        let author = Author { user: UserId(1), device: DeviceId(2) };
        let mut spine = Spine::new();
        let changes = [
            Change::Created { client_id: ClientId([1; 16]), users: &[UserId(1), UserId(2)] },
            Change::Message { countable: true },
            Change::Removed { users: &[UserId(2)] },
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let sequence = Sequence(index as u64 + 1);
            let location = Location::new(1, 512 * sequence.0 as u32);
            let number = CommandNumber(index as u64);
            group.apply(&Record { sequence, time: WallMs(9), author, number, location, change });
            spine.push(location);
        }
        let mut bytes = Vec::new();
        write_conversation(&group, &spine, &mut bytes);
        let listed_bytes = NUMBER_BYTES + 2 * STAY_BYTES + spine.encoded_len();
        assert_eq!(bytes.len(), CONVERSATION_BYTES + listed_bytes);
        assert_eq!(read_conversation(&bytes), Some((group, spine)));
        (0..bytes.len()).for_each(|len| assert_eq!(read_conversation(&bytes[..len]), None));
    }

    /// A state was sorted by conversation, so after a load it was by luck which range was drained first.
    #[test]
    fn ranges_are_read_in_the_order_in_which_they_opened_a_few_at_a_time() {
        let mut user = User::new(UserId(7));
        for device in [1, 2, 3].map(DeviceId) {
            user.apply(&UserRecord::Registered { device, time: WallMs(5) });
        }
        let conversation = |number: u8| ConversationId::group([number.wrapping_mul(37); 16]);
        for number in 0..100 {
            let (conversation, from) = (conversation(number), Sequence(u64::from(number) + 1));
            user.apply(&UserRecord::Joined { conversation, at: Sequence(1) });
            user.apply(&UserRecord::WidenAll { except: Some(DeviceId(2)), conversation, from });
        }
        let mut bytes = Vec::new();
        write_user_state(&user, &mut bytes);
        let mut reader = UserStateReader::new(bytes.clone()).unwrap();
        let mut steps = 1;
        while !reader.advance(&mut 7).unwrap() {
            steps += 1;
        }
        assert_eq!(steps, (3 + 2 * 100 + 1 + 100) / 7 + 1);
        let found = reader.into_user();
        let ranges = |user: &User, device| -> Vec<(ConversationId, Sequence)> {
            user.devices.get(DeviceId(device)).unwrap().queue.ranges().collect()
        };
        assert_eq!((ranges(&found, 1), ranges(&found, 3)), (ranges(&user, 1), ranges(&user, 3)));
        let expected = (0..100).map(conversation).zip((1..).map(Sequence)).take(100).collect::<Vec<_>>();
        assert_eq!(ranges(&found, 1), expected);
        assert!(ranges(&found, 2).is_empty() && found.conversations() == user.conversations());
    }

    #[test]
    fn a_user_survives_their_bytes() {
        let conversation = ConversationId([0x80; 16]);
        let mut user = User::new(UserId(7));
        user.apply(&UserRecord::Registered { device: DeviceId(1), time: WallMs(5) });
        user.apply(&UserRecord::Joined { conversation, at: Sequence(3) });
        user.apply(&UserRecord::WidenAll { except: None, conversation, from: Sequence(3) });
        user.apply(&UserRecord::Seen { device: DeviceId(1), time: WallMs(8) });
        let mut bytes = Vec::new();
        write_user_state(&user, &mut bytes);
        assert_eq!(bytes.len(), user.state_bytes(&USER_STATE_BYTES));
        let mut again = Vec::new();
        write_user_state(&read_user_state(&bytes).unwrap(), &mut again);
        assert_eq!(again, bytes);
        (0..bytes.len()).for_each(|len| assert!(read_user_state(&bytes[..len]).is_none()));
    }

    #[test]
    fn a_part_says_which_of_how_many() {
        let mut body = part_header(2, 5).to_vec();
        body.extend_from_slice(b"content");
        assert_eq!(read_part(&body), Some((2, 5, &b"content"[..])));
    }
}
