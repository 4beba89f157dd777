//! Sending: `Send`, `SendBatch`, `SendAck`, `Typing` (PROTOCOL, "Messages").

use crate::encoder::{Body, Root, Writer};
use crate::error::DecodeError;
use crate::frame::Decode;
use crate::kind::FrameKind;
use crate::limits::{BATCH_ITEMS_MAX, MESSAGE_BYTES_MAX};
use crate::list::{Item, List};
use crate::verify::{bytes, count, integer};
use flatbuffers::{ForwardsUOffset, WIPOffset};
use tidegate_ids::{ClientId, CommandNumber, ConversationId, MessageId, Sequence, UserId, WallMs};
use tidegate_schema_generated as wire;

/// C: a message, or an item of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Send<'a> {
    /// Where to.
    pub conversation: ConversationId,
    /// The device's next number there; 0 asks for the expected one.
    pub number: CommandNumber,
    /// The client's own id.
    pub client_id: ClientId,
    /// An encoded `Message`, at most [`MESSAGE_BYTES_MAX`] bytes, not verified: see [`crate::MessageFields`].
    pub message: &'a [u8],
}

/// C: messages in order, 1 to [`BATCH_ITEMS_MAX`]; each is answered with its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendBatch<'a> {
    /// What to send.
    pub items: SendItems<'a>,
}

/// S: a command that is synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendAck {
    /// Where it stands in the conversation; 0 for a duplicate so old that this is no longer known.
    pub sequence: Sequence,
    /// The message's id.
    pub message_id: MessageId,
    /// The stamp's time.
    pub time: WallMs,
    /// Whether the number was taken before.
    pub duplicate: bool,
    /// Which item of a `SendBatch`.
    pub index: u16,
}

/// C and S: somebody types, or has stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Typing {
    /// Where.
    pub conversation: ConversationId,
    /// Who; set by the gateway.
    pub user: UserId,
    /// Whether they type; `false`: they stopped.
    pub active: bool,
}

/// What a `SendBatch` sends.
pub type SendItems<'a> = List<'a, Send<'a>, ForwardsUOffset<wire::Send<'a>>>;

impl<'a> Decode<'a> for Send<'a> {
    type Table = wire::Send<'a>;

    fn read(table: wire::Send<'a>) -> Result<Self, DecodeError> {
        integer(table.number(), "number")?;
        bytes(Some(table.message()), MESSAGE_BYTES_MAX, "message")?;
        Ok(<Self as Item<'a, _>>::read(table))
    }
}

impl<'a> Item<'a, ForwardsUOffset<wire::Send<'a>>> for Send<'a> {
    fn read(table: wire::Send<'a>) -> Self {
        Self {
            conversation: ConversationId(table.conversation().0),
            number: CommandNumber(table.number()),
            client_id: ClientId(table.client_id().0),
            message: table.message().bytes(),
        }
    }
}

impl Send<'_> {
    fn write(&self, writer: &mut Writer) -> WIPOffset<wire::Send<'static>> {
        let args = wire::SendArgs {
            conversation: Some(&wire::ConversationId(self.conversation.0)),
            number: self.number.0,
            client_id: Some(&wire::ClientId(self.client_id.0)),
            message: Some(writer.aligned_bytes(self.message)),
        };
        wire::Send::create(&mut writer.fbb, &args)
    }
}

impl Body for Send<'_> {
    const KIND: FrameKind = FrameKind::Send;

    fn build(&self, writer: &mut Writer) -> Root {
        self.write(writer).as_union_value()
    }
}

impl<'a> Decode<'a> for SendBatch<'a> {
    type Table = wire::SendBatch<'a>;

    fn read(table: wire::SendBatch<'a>) -> Result<Self, DecodeError> {
        let items = table.items();
        count(items.len(), BATCH_ITEMS_MAX, "items")?;
        if items.is_empty() {
            return Err(DecodeError::BadValue("items"));
        }
        for item in items {
            <Send<'_> as Decode<'_>>::read(item)?;
        }
        Ok(Self { items: List::from_wire(Some(items)) })
    }
}

impl Body for SendBatch<'_> {
    const KIND: FrameKind = FrameKind::SendBatch;

    fn build(&self, writer: &mut Writer) -> Root {
        let items = Some(writer.tables(self.items, |writer, item| item.write(writer)));
        wire::SendBatch::create(&mut writer.fbb, &wire::SendBatchArgs { items }).as_union_value()
    }
}

impl<'a> Decode<'a> for SendAck {
    type Table = wire::SendAck<'a>;

    fn read(table: wire::SendAck<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            sequence: Sequence(integer(table.sequence(), "sequence")?),
            message_id: MessageId(table.message_id().0),
            time: WallMs(integer(table.time(), "time")?),
            duplicate: table.duplicate(),
            index: table.index(),
        })
    }
}

impl Body for SendAck {
    const KIND: FrameKind = FrameKind::SendAck;

    fn build(&self, writer: &mut Writer) -> Root {
        let args = wire::SendAckArgs {
            sequence: self.sequence.0,
            message_id: Some(&wire::MessageId(self.message_id.0)),
            time: self.time.0,
            duplicate: self.duplicate,
            index: self.index,
        };
        wire::SendAck::create(&mut writer.fbb, &args).as_union_value()
    }
}

impl<'a> Decode<'a> for Typing {
    type Table = wire::Typing<'a>;

    fn read(table: wire::Typing<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            conversation: ConversationId(table.conversation().0),
            user: UserId(integer(table.user(), "user")?),
            active: table.active(),
        })
    }
}

impl Body for Typing {
    const KIND: FrameKind = FrameKind::Typing;

    fn build(&self, writer: &mut Writer) -> Root {
        let args = wire::TypingArgs {
            conversation: Some(&wire::ConversationId(self.conversation.0)),
            user: self.user.0,
            active: self.active,
        };
        wire::Typing::create(&mut writer.fbb, &args).as_union_value()
    }
}
