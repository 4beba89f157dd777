//! Watermarks: delivered up to, read up to (PROTOCOL, "Receipts").

use crate::encoder::{Body, Root, Writer};
use crate::error::DecodeError;
use crate::frame::Decode;
use crate::kind::FrameKind;
use crate::limits::RECEIPT_ROWS_MAX;
use crate::list::{Item, List};
use crate::verify::{count, integer};
use tidegate_ids::{ConversationId, Sequence, UserId, WallMs};
use tidegate_schema_generated as wire;

/// C: how far the user is; monotone, a lower mark changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Where.
    pub conversation: ConversationId,
    /// Everything up to here is stored; 0: nothing to say.
    pub delivered: Sequence,
    /// Everything up to here is read; 0: nothing to say.
    pub read: Sequence,
}

/// How far one user is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Who.
    pub user: UserId,
    /// Delivered up to.
    pub delivered: Sequence,
    /// Read up to.
    pub read: Sequence,
    /// When this was logged.
    pub time: WallMs,
}

/// S: how far others are; state, not numbered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Receipts<'a> {
    /// Where.
    pub conversation: ConversationId,
    /// Who is how far.
    pub rows: ReceiptRows<'a>,
}

/// S: how far the user has read on another device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadSync {
    /// Where.
    pub conversation: ConversationId,
    /// Read up to.
    pub read: Sequence,
    /// When this was logged.
    pub time: WallMs,
}

/// The rows of `Receipts`.
pub type ReceiptRows<'a> = List<'a, Receipt, wire::Receipt>;

impl<'a> Decode<'a> for Mark {
    type Table = wire::Mark<'a>;

    fn read(table: wire::Mark<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            conversation: ConversationId(table.conversation().0),
            delivered: Sequence(integer(table.delivered(), "delivered")?),
            read: Sequence(integer(table.read(), "read")?),
        })
    }
}

impl Body for Mark {
    const KIND: FrameKind = FrameKind::Mark;

    fn build(&self, writer: &mut Writer) -> Root {
        let args = wire::MarkArgs {
            conversation: Some(&wire::ConversationId(self.conversation.0)),
            delivered: self.delivered.0,
            read: self.read.0,
        };
        wire::Mark::create(&mut writer.fbb, &args).as_union_value()
    }
}

impl<'a> Item<'a, wire::Receipt> for Receipt {
    fn read(wire: &'a wire::Receipt) -> Self {
        Self {
            user: UserId(wire.user()),
            delivered: Sequence(wire.delivered()),
            read: Sequence(wire.read()),
            time: WallMs(wire.time()),
        }
    }
}

impl Receipt {
    /// Checks what [`Item::read`] then takes as it is.
    fn check(&self) -> Result<(), DecodeError> {
        integer(self.user.0, "rows.user")?;
        integer(self.delivered.0, "rows.delivered")?;
        integer(self.read.0, "rows.read")?;
        integer(self.time.0, "rows.time")?;
        Ok(())
    }
}

impl<'a> Decode<'a> for Receipts<'a> {
    type Table = wire::Receipts<'a>;

    fn read(table: wire::Receipts<'a>) -> Result<Self, DecodeError> {
        count(table.rows().len(), RECEIPT_ROWS_MAX, "rows")?;
        let rows: ReceiptRows<'a> = List::from_wire(Some(table.rows()));
        rows.iter().try_for_each(|row| row.check())?;
        Ok(Self { conversation: ConversationId(table.conversation().0), rows })
    }
}

impl Body for Receipts<'_> {
    const KIND: FrameKind = FrameKind::Receipts;

    fn build(&self, writer: &mut Writer) -> Root {
        let rows = self
            .rows
            .iter()
            .map(|row| wire::Receipt::new(row.user.0, row.delivered.0, row.read.0, row.time.0));
        let rows = Some(writer.fbb.create_vector_from_iter(rows));
        let conversation = Some(&wire::ConversationId(self.conversation.0));
        wire::Receipts::create(&mut writer.fbb, &wire::ReceiptsArgs { conversation, rows }).as_union_value()
    }
}

impl<'a> Decode<'a> for ReadSync {
    type Table = wire::ReadSync<'a>;

    fn read(table: wire::ReadSync<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            conversation: ConversationId(table.conversation().0),
            read: Sequence(integer(table.read(), "read")?),
            time: WallMs(integer(table.time(), "time")?),
        })
    }
}

impl Body for ReadSync {
    const KIND: FrameKind = FrameKind::ReadSync;

    fn build(&self, writer: &mut Writer) -> Root {
        let args = wire::ReadSyncArgs {
            conversation: Some(&wire::ConversationId(self.conversation.0)),
            read: self.read.0,
            time: self.time.0,
        };
        wire::ReadSync::create(&mut writer.fbb, &args).as_union_value()
    }
}
