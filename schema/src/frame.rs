//! All frames of one direction as one type, and how a frame becomes one.

use crate::conversations::{ConversationList, ConversationPage};
use crate::deliver::Deliver;
use crate::encoder::Encoder;
use crate::error::DecodeError;
use crate::groups::{
    GroupCreate, GroupCreated, Leave, MembersAdd, MembersChange, MembersGet, MembersPage, MembersRemove,
};
use crate::header::Frame;
use crate::kind::FrameKind;
use crate::notice::{Error, GoAway, Throttle};
use crate::range::{Dirty, GetRange, Range, Skip};
use crate::receipts::{Mark, ReadSync, Receipts};
use crate::sending::{Send, SendAck, SendBatch, Typing};
use crate::session::{ClientState, DrainDone, Hello, Okay, Refresh, Welcome};
use crate::verify::root;
use flatbuffers::{Follow, Verifiable};
use tidegate_ids::PushNumber;

/// A struct that is read from a verified table.
pub(crate) trait Decode<'a>: Sized {
    /// The generated accessor.
    type Table: Follow<'a, Inner = Self::Table> + Verifiable + 'a;

    /// Takes the fields and checks what the table's types do not say.
    fn read(table: Self::Table) -> Result<Self, DecodeError>;

    /// Verifies, then reads.
    fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        Self::read(root::<Self::Table>(body)?)
    }
}

/// What a client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFrame<'a> {
    /// The first frame.
    Hello(Hello<'a>),
    /// A new token.
    Refresh(Refresh<'a>),
    /// Everything up to this push is stored.
    Ack(PushNumber),
    /// Answer, please.
    Ping,
    /// The answer.
    Pong,
    /// What the person does.
    ClientState(ClientState),
    /// A message.
    Send(Send<'a>),
    /// Messages.
    SendBatch(SendBatch<'a>),
    /// Asks for records.
    GetRange(GetRange),
    /// Asks for conversations.
    ConversationList(ConversationList),
    /// Somebody types.
    Typing(Typing),
    /// A new group.
    GroupCreate(GroupCreate<'a>),
    /// Users join.
    MembersAdd(MembersChange<'a>),
    /// Users are removed.
    MembersRemove(MembersChange<'a>),
    /// The user leaves.
    Leave(Leave),
    /// Asks for members.
    MembersGet(MembersGet),
    /// How far the user is.
    Mark(Mark),
}

/// What the gateway says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerFrame<'a> {
    /// The reply to `Hello`.
    Welcome(Welcome),
    /// Done.
    Ok,
    /// Answer, please.
    Ping,
    /// The answer.
    Pong,
    /// What waited has been pushed or announced.
    DrainDone,
    /// Send nothing for a while.
    Throttle(Throttle),
    /// The socket closes soon.
    GoAway(GoAway),
    /// A refused request.
    Error(Error<'a>),
    /// A command that is synced.
    SendAck(SendAck),
    /// A record.
    Deliver(Deliver<'a>),
    /// A range too long to push.
    Dirty(Dirty),
    /// A hole.
    Skip(Skip),
    /// Records.
    Range(Range<'a>),
    /// Conversations.
    ConversationPage(ConversationPage<'a>),
    /// Somebody types.
    Typing(Typing),
    /// The reply to `GroupCreate`.
    GroupCreated(GroupCreated),
    /// Members.
    MembersPage(MembersPage<'a>),
    /// How far others are.
    Receipts(Receipts<'a>),
    /// How far the user has read elsewhere.
    ReadSync(ReadSync),
}

/// The kind of a frame, with nothing behind a header that stands alone.
fn known_kind(frame: &Frame<'_>) -> Result<FrameKind, DecodeError> {
    let kind =
        FrameKind::try_from(frame.header.kind).map_err(|unknown| DecodeError::Unsupported(unknown.0))?;
    if kind.is_header_alone() && !frame.body.is_empty() {
        return Err(DecodeError::Malformed);
    }
    Ok(kind)
}

impl<'a> ClientFrame<'a> {
    /// Verifies a body and reads it; what it borrows is the body.
    ///
    /// # Errors
    /// [`DecodeError`]; the connection is kept, the request is refused with [`DecodeError::code`].
    pub fn decode(frame: &Frame<'a>) -> Result<Self, DecodeError> {
        let body = frame.body;
        Ok(match known_kind(frame)? {
            FrameKind::Hello => Self::Hello(Decode::decode(body)?),
            FrameKind::Refresh => Self::Refresh(Decode::decode(body)?),
            FrameKind::Ack => Self::Ack(PushNumber(frame.header.id)),
            FrameKind::Ping => Self::Ping,
            FrameKind::Pong => Self::Pong,
            FrameKind::ClientState => Self::ClientState(Decode::decode(body)?),
            FrameKind::Send => Self::Send(Decode::decode(body)?),
            FrameKind::SendBatch => Self::SendBatch(Decode::decode(body)?),
            FrameKind::GetRange => Self::GetRange(Decode::decode(body)?),
            FrameKind::ConversationList => Self::ConversationList(Decode::decode(body)?),
            FrameKind::Typing => Self::Typing(Decode::decode(body)?),
            FrameKind::GroupCreate => Self::GroupCreate(Decode::decode(body)?),
            FrameKind::MembersAdd => Self::MembersAdd(MembersAdd::decode(body)?.0),
            FrameKind::MembersRemove => Self::MembersRemove(MembersRemove::decode(body)?.0),
            FrameKind::Leave => Self::Leave(Decode::decode(body)?),
            FrameKind::MembersGet => Self::MembersGet(Decode::decode(body)?),
            FrameKind::Mark => Self::Mark(Decode::decode(body)?),
            _ => return Err(DecodeError::Unsupported(frame.header.kind)),
        })
    }

    /// Appends the frame under a request id; an `Ack` has its push number instead.
    pub fn encode(&self, encoder: &mut Encoder, out: &mut Vec<u8>, id: u64) -> usize {
        match self {
            Self::Hello(body) => encoder.frame(out, id, 0, body),
            Self::Refresh(body) => encoder.frame(out, id, 0, body),
            Self::Ack(push) => encoder.alone(out, FrameKind::Ack, push.0),
            Self::Ping => encoder.alone(out, FrameKind::Ping, id),
            Self::Pong => encoder.alone(out, FrameKind::Pong, id),
            Self::ClientState(body) => encoder.frame(out, id, 0, body),
            Self::Send(body) => encoder.frame(out, id, 0, body),
            Self::SendBatch(body) => encoder.frame(out, id, 0, body),
            Self::GetRange(body) => encoder.frame(out, id, 0, body),
            Self::ConversationList(body) => encoder.frame(out, id, 0, body),
            Self::Typing(body) => encoder.frame(out, id, 0, body),
            Self::GroupCreate(body) => encoder.frame(out, id, 0, body),
            Self::MembersAdd(body) => encoder.frame(out, id, 0, &MembersAdd(*body)),
            Self::MembersRemove(body) => encoder.frame(out, id, 0, &MembersRemove(*body)),
            Self::Leave(body) => encoder.frame(out, id, 0, body),
            Self::MembersGet(body) => encoder.frame(out, id, 0, body),
            Self::Mark(body) => encoder.frame(out, id, 0, body),
        }
    }
}

impl<'a> ServerFrame<'a> {
    /// Verifies a body and reads it; what it borrows is the body.
    ///
    /// # Errors
    /// [`DecodeError`]; a client acknowledges and ignores a numbered push that is
    /// [`DecodeError::Unsupported`].
    pub fn decode(frame: &Frame<'a>) -> Result<Self, DecodeError> {
        let body = frame.body;
        Ok(match known_kind(frame)? {
            FrameKind::Welcome => Self::Welcome(Decode::decode(body)?),
            FrameKind::Ok => Okay::decode(body).map(|Okay| Self::Ok)?,
            FrameKind::Ping => Self::Ping,
            FrameKind::Pong => Self::Pong,
            FrameKind::DrainDone => DrainDone::decode(body).map(|DrainDone| Self::DrainDone)?,
            FrameKind::Throttle => Self::Throttle(Decode::decode(body)?),
            FrameKind::GoAway => Self::GoAway(Decode::decode(body)?),
            FrameKind::Error => Self::Error(Decode::decode(body)?),
            FrameKind::SendAck => Self::SendAck(Decode::decode(body)?),
            FrameKind::Deliver => Self::Deliver(Deliver::decode(body)?),
            FrameKind::Dirty => Self::Dirty(Decode::decode(body)?),
            FrameKind::Skip => Self::Skip(Decode::decode(body)?),
            FrameKind::Range => Self::Range(Decode::decode(body)?),
            FrameKind::ConversationPage => Self::ConversationPage(Decode::decode(body)?),
            FrameKind::Typing => Self::Typing(Decode::decode(body)?),
            FrameKind::GroupCreated => Self::GroupCreated(Decode::decode(body)?),
            FrameKind::MembersPage => Self::MembersPage(Decode::decode(body)?),
            FrameKind::Receipts => Self::Receipts(Decode::decode(body)?),
            FrameKind::ReadSync => Self::ReadSync(Decode::decode(body)?),
            _ => return Err(DecodeError::Unsupported(frame.header.kind)),
        })
    }

    /// Appends the frame. `id` is the request's, or with [`crate::FLAG_NUMBERED`] in `flags` a push number, or 0;
    /// a `Deliver` is always numbered.
    pub fn encode(&self, encoder: &mut Encoder, out: &mut Vec<u8>, id: u64, flags: u16) -> usize {
        match self {
            Self::Welcome(body) => encoder.frame(out, id, flags, body),
            Self::Ok => encoder.frame(out, id, flags, &Okay),
            Self::Ping => encoder.alone(out, FrameKind::Ping, id),
            Self::Pong => encoder.alone(out, FrameKind::Pong, id),
            Self::DrainDone => encoder.frame(out, id, flags, &DrainDone),
            Self::Throttle(body) => encoder.frame(out, id, flags, body),
            Self::GoAway(body) => encoder.frame(out, id, flags, body),
            Self::Error(body) => encoder.frame(out, id, flags, body),
            Self::SendAck(body) => encoder.frame(out, id, flags, body),
            Self::Deliver(body) => body.write_frame(out, PushNumber(id)),
            Self::Dirty(body) => encoder.frame(out, id, flags, body),
            Self::Skip(body) => encoder.frame(out, id, flags, body),
            Self::Range(body) => encoder.frame(out, id, flags, body),
            Self::ConversationPage(body) => encoder.frame(out, id, flags, body),
            Self::Typing(body) => encoder.frame(out, id, flags, body),
            Self::GroupCreated(body) => encoder.frame(out, id, flags, body),
            Self::MembersPage(body) => encoder.frame(out, id, flags, body),
            Self::Receipts(body) => encoder.frame(out, id, flags, body),
            Self::ReadSync(body) => encoder.frame(out, id, flags, body),
        }
    }
}
