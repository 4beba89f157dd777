//! The canonical body of a `Deliver`, and its stored form: what the log keeps and a `Range` packs
//! (docs/formats/deliver.md).
//!
//! The body is [`PREFIX`] and the stored form. Nothing here goes through the FlatBuffers builder: what the log
//! holds is what leaves, byte by byte.

use crate::error::DecodeError;
use crate::header::{FLAG_NUMBERED, FrameHeader};
use crate::kind::FrameKind;
use crate::limits::{HEADER_BYTES, MESSAGE_BYTES_MAX};
use crate::verify::{bytes, integer, root};
use tidegate_ids::{ConversationId, Countable, DeviceId, MessageId, PushNumber, Sequence, UserId, WallMs};
use tidegate_schema_generated as wire;

/// Root offset 12 (u32); vtable: its length 8, the table's 88, stamp at 4, message at 84 (4 × u16); the table's
/// distance to its vtable 8 (i32). The stamp follows, 16 bytes into the body and so on a multiple of 8.
pub const PREFIX: [u8; 16] = [12, 0, 0, 0, 8, 0, 88, 0, 4, 0, 84, 0, 8, 0, 0, 0];

/// Bytes of a stamp.
pub const STAMP_BYTES: usize = 80;

/// Bytes of a stored form before the message: the stamp, the message's offset (u32), its length (u32).
pub const STORED_HEAD_BYTES: usize = STAMP_BYTES + 8;

/// Bytes of the longest stored form.
pub const STORED_BYTES_MAX: usize = stored_len(MESSAGE_BYTES_MAX);

/// The message's length stands 4 bytes behind its offset.
const MESSAGE_OFFSET: u32 = 4;

const _: () = assert!(PREFIX.len().is_multiple_of(8) && STORED_HEAD_BYTES.is_multiple_of(8));
const _: () = assert!(size_of::<wire::Stamp>() == STAMP_BYTES);

/// What the conversation's home says about a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Where it belongs.
    pub conversation: ConversationId,
    /// Its place there.
    pub sequence: Sequence,
    /// How many countable records the conversation holds, this one included.
    pub countable: Countable,
    /// Its id.
    pub message_id: MessageId,
    /// When it was decided.
    pub time: WallMs,
    /// Who sent it.
    pub sender: UserId,
    /// On which device.
    pub device: DeviceId,
    /// Which record it edits, deletes or reacts to; 0: none.
    pub target: Sequence,
}

/// S: a record. `message` is an encoded `Message`, verified apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deliver<'a> {
    /// What the home says.
    pub stamp: Stamp,
    /// What the sender's client encoded.
    pub message: &'a [u8],
}

/// A stored form, read.
pub type Stored<'a> = Deliver<'a>;

/// Bytes of the stored form of a message, a multiple of 8.
#[must_use]
pub const fn stored_len(message_len: usize) -> usize {
    STORED_HEAD_BYTES + message_len.next_multiple_of(8)
}

/// Appends the stored form.
///
/// # Panics
/// If the message has more than [`MESSAGE_BYTES_MAX`] bytes: whoever took it has checked.
pub fn write_stored(stamp: &Stamp, message: &[u8], out: &mut Vec<u8>) {
    assert!(message.len() <= MESSAGE_BYTES_MAX, "a message above its limit");
    let end = out.len() + stored_len(message.len());
    out.reserve(stored_len(message.len()));
    out.extend_from_slice(&stamp.to_wire().0);
    out.extend_from_slice(&MESSAGE_OFFSET.to_le_bytes());
    out.extend_from_slice(&(message.len() as u32).to_le_bytes());
    out.extend_from_slice(message);
    out.resize(end, 0);
}

/// Reads one stored form at the start of `bytes`, and how many bytes it has.
///
/// # Errors
/// [`DecodeError::Malformed`] if it is cut off or not canonical, [`DecodeError::TooLarge`] or
/// [`DecodeError::IntegerTooLarge`] if a field is above its limit.
pub fn read_stored(bytes: &[u8]) -> Result<(Stored<'_>, usize), DecodeError> {
    let (stamp, rest) = bytes.split_first_chunk::<STAMP_BYTES>().ok_or(DecodeError::Malformed)?;
    let (offset, rest) = rest.split_first_chunk().ok_or(DecodeError::Malformed)?;
    let (length, rest) = rest.split_first_chunk().ok_or(DecodeError::Malformed)?;
    if u32::from_le_bytes(*offset) != MESSAGE_OFFSET {
        return Err(DecodeError::Malformed);
    }
    let message_len = u32::from_le_bytes(*length) as usize;
    if message_len > MESSAGE_BYTES_MAX {
        return Err(DecodeError::TooLarge("message"));
    }
    let (message, rest) = rest.split_at_checked(message_len).ok_or(DecodeError::Malformed)?;
    let padding = rest.get(..message_len.next_multiple_of(8) - message_len).ok_or(DecodeError::Malformed)?;
    if padding.iter().any(|byte| *byte != 0) {
        return Err(DecodeError::Malformed);
    }
    let stamp = Stamp::from_wire(&wire::Stamp(*stamp))?;
    Ok((Deliver { stamp, message }, stored_len(message_len)))
}

/// The header of a `Deliver` with this push number and stored form.
#[must_use]
pub const fn frame_header(push: PushNumber, stored_len: usize) -> [u8; HEADER_BYTES] {
    debug_assert!(stored_len <= STORED_BYTES_MAX && stored_len.is_multiple_of(8));
    let body_len = (PREFIX.len() + stored_len) as u32;
    FrameHeader { body_len, kind: FrameKind::Deliver as u16, flags: FLAG_NUMBERED, id: push.0 }.to_bytes()
}

/// Stored forms one after the other; see [`stored_iter`].
#[derive(Clone, Debug)]
pub struct StoredIter<'a> {
    rest: &'a [u8],
}

/// The stored forms that are packed in `bytes`. The first error ends the iteration.
#[must_use]
pub const fn stored_iter(bytes: &[u8]) -> StoredIter<'_> {
    StoredIter { rest: bytes }
}

impl<'a> Iterator for StoredIter<'a> {
    type Item = Result<Stored<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let read = read_stored(self.rest);
        let consumed = read.as_ref().map_or(self.rest.len(), |(_, consumed)| *consumed);
        self.rest = &self.rest[consumed..];
        Some(read.map(|(stored, _)| stored))
    }
}

impl Stamp {
    fn from_wire(wire: &wire::Stamp) -> Result<Self, DecodeError> {
        Ok(Self {
            conversation: ConversationId(wire.conversation().0),
            sequence: Sequence(integer(wire.sequence(), "stamp.sequence")?),
            countable: Countable(integer(wire.countable(), "stamp.countable")?),
            message_id: MessageId(wire.message_id().0),
            time: WallMs(integer(wire.time(), "stamp.time")?),
            sender: UserId(integer(wire.sender(), "stamp.sender")?),
            device: DeviceId(integer(wire.device(), "stamp.device")?),
            target: Sequence(integer(wire.target(), "stamp.target")?),
        })
    }

    fn to_wire(self) -> wire::Stamp {
        wire::Stamp::new(
            &wire::ConversationId(self.conversation.0),
            self.sequence.0,
            self.countable.0,
            &wire::MessageId(self.message_id.0),
            self.time.0,
            self.sender.0,
            self.device.0,
            self.target.0,
        )
    }
}

impl<'a> Deliver<'a> {
    /// Reads a body: the canonical one as it lies, another one (of a newer version) through the verifier.
    pub(crate) fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        if let Some(stored) = body.strip_prefix(&PREFIX) {
            return match read_stored(stored)? {
                (deliver, consumed) if consumed == stored.len() => Ok(deliver),
                _ => Err(DecodeError::Malformed),
            };
        }
        let table = root::<wire::Deliver<'a>>(body)?;
        let message = bytes(Some(table.message()), MESSAGE_BYTES_MAX, "message")?;
        Ok(Self { stamp: Stamp::from_wire(table.stamp())?, message })
    }

    /// Appends the whole frame; gives its length.
    pub fn write_frame(&self, out: &mut Vec<u8>, push: PushNumber) -> usize {
        let start = out.len();
        out.extend_from_slice(&frame_header(push, stored_len(self.message.len())));
        out.extend_from_slice(&PREFIX);
        write_stored(&self.stamp, self.message, out);
        out.len() - start
    }
}
