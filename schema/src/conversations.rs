//! The user's conversations: `ConversationList`, `ConversationPage` (PROTOCOL, "Messages").

use crate::encoder::{Body, Root, Writer};
use crate::error::DecodeError;
use crate::frame::Decode;
use crate::kind::FrameKind;
use crate::limits::CONVERSATION_ROWS_MAX;
use crate::list::{Item, List};
use crate::verify::{count, integer};
use flatbuffers::{ForwardsUOffset, WIPOffset};
use tidegate_ids::{CommandNumber, ConversationId, Sequence, UserVersion, WallMs};
use tidegate_schema_generated as wire;

/// Which conversations, in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListOrder {
    /// By last activity, newest first, below this time (0: from the newest).
    LastActivity(WallMs),
    /// What has changed since this version of the user's list, oldest change first.
    ChangedSince(UserVersion),
}

/// C: asks for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConversationList {
    /// Which ones.
    pub order: ListOrder,
    /// The last conversation of the page before, which decides between rows of equal rank.
    pub after: Option<ConversationId>,
    /// How many rows at most: 1 to [`CONVERSATION_ROWS_MAX`].
    pub limit: u16,
}

/// One conversation, as the asking device sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConversationRow {
    /// Which.
    pub conversation: ConversationId,
    /// The highest sequence that the user may see.
    pub head: Sequence,
    /// The lowest one that can still be read.
    pub first_available: Sequence,
    /// The last command number of the asking device that was accepted.
    pub last_number: CommandNumber,
    /// When the last record was stamped.
    pub last_activity: WallMs,
    /// With which sequence the user joined.
    pub joined: Sequence,
    /// With which sequence the user left; 0: still a member.
    pub left: Sequence,
    /// The user's own watermark of delivery.
    pub delivered: Sequence,
    /// The user's own watermark of reading.
    pub read: Sequence,
}

/// S: the reply to `ConversationList`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConversationPage<'a> {
    /// In the order asked for.
    pub rows: ConversationRows<'a>,
    /// What to ask changes since, once the last page is read.
    pub user_version: UserVersion,
    /// Whether there is another page.
    pub more: bool,
}

/// The rows of a `ConversationPage`.
pub type ConversationRows<'a> = List<'a, ConversationRow, ForwardsUOffset<wire::ConversationRow<'a>>>;

impl<'a> Decode<'a> for ConversationList {
    type Table = wire::ConversationList<'a>;

    fn read(table: wire::ConversationList<'a>) -> Result<Self, DecodeError> {
        let changed_since = UserVersion(integer(table.changed_since(), "changed_since")?);
        let before = WallMs(integer(table.before(), "before")?);
        let order = match table.order() {
            wire::ListOrder::LastActivity => ListOrder::LastActivity(before),
            wire::ListOrder::ChangedSince => ListOrder::ChangedSince(changed_since),
            _ => return Err(DecodeError::BadValue("order")),
        };
        let limit = table.limit();
        if limit == 0 || limit > CONVERSATION_ROWS_MAX {
            return Err(DecodeError::BadValue("limit"));
        }
        Ok(Self { order, after: table.after().map(|id| ConversationId(id.0)), limit })
    }
}

impl Body for ConversationList {
    const KIND: FrameKind = FrameKind::ConversationList;

    fn build(&self, writer: &mut Writer) -> Root {
        let (order, before, changed_since) = match self.order {
            ListOrder::LastActivity(before) => (wire::ListOrder::LastActivity, before.0, 0),
            ListOrder::ChangedSince(version) => (wire::ListOrder::ChangedSince, 0, version.0),
        };
        let after = self.after.map(|id| wire::ConversationId(id.0));
        let args = wire::ConversationListArgs {
            order,
            changed_since,
            before,
            after: after.as_ref(),
            limit: self.limit,
        };
        wire::ConversationList::create(&mut writer.fbb, &args).as_union_value()
    }
}

impl<'a> Item<'a, ForwardsUOffset<wire::ConversationRow<'a>>> for ConversationRow {
    fn read(table: wire::ConversationRow<'a>) -> Self {
        Self {
            conversation: ConversationId(table.conversation().0),
            head: Sequence(table.head()),
            first_available: Sequence(table.first_available()),
            last_number: CommandNumber(table.last_number()),
            last_activity: WallMs(table.last_activity()),
            joined: Sequence(table.joined()),
            left: Sequence(table.left()),
            delivered: Sequence(table.delivered()),
            read: Sequence(table.read()),
        }
    }
}

impl ConversationRow {
    /// Checks what [`Item::read`] then takes as it is.
    fn check(&self) -> Result<(), DecodeError> {
        integer(self.head.0, "rows.head")?;
        integer(self.first_available.0, "rows.first_available")?;
        integer(self.last_number.0, "rows.last_number")?;
        integer(self.last_activity.0, "rows.last_activity")?;
        integer(self.joined.0, "rows.joined")?;
        integer(self.left.0, "rows.left")?;
        integer(self.delivered.0, "rows.delivered")?;
        integer(self.read.0, "rows.read")?;
        Ok(())
    }

    fn write(&self, writer: &mut Writer) -> WIPOffset<wire::ConversationRow<'static>> {
        let args = wire::ConversationRowArgs {
            conversation: Some(&wire::ConversationId(self.conversation.0)),
            head: self.head.0,
            first_available: self.first_available.0,
            last_number: self.last_number.0,
            last_activity: self.last_activity.0,
            joined: self.joined.0,
            left: self.left.0,
            delivered: self.delivered.0,
            read: self.read.0,
        };
        wire::ConversationRow::create(&mut writer.fbb, &args)
    }
}

impl<'a> Decode<'a> for ConversationPage<'a> {
    type Table = wire::ConversationPage<'a>;

    fn read(table: wire::ConversationPage<'a>) -> Result<Self, DecodeError> {
        count(table.rows().len(), CONVERSATION_ROWS_MAX as usize, "rows")?;
        let rows: ConversationRows<'a> = List::from_wire(Some(table.rows()));
        rows.iter().try_for_each(|row| row.check())?;
        let user_version = UserVersion(integer(table.user_version(), "user_version")?);
        Ok(Self { rows, user_version, more: table.more() })
    }
}

impl Body for ConversationPage<'_> {
    const KIND: FrameKind = FrameKind::ConversationPage;

    fn build(&self, writer: &mut Writer) -> Root {
        let rows = Some(writer.tables(self.rows, |writer, row| row.write(writer)));
        let args = wire::ConversationPageArgs { rows, user_version: self.user_version.0, more: self.more };
        wire::ConversationPage::create(&mut writer.fbb, &args).as_union_value()
    }
}
