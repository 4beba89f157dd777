//! Reading again: `Dirty`, `Skip`, `GetRange`, `Range` (PROTOCOL, "Messages").

use crate::deliver::{StoredIter, stored_iter};
use crate::encoder::{Body, Root, Writer};
use crate::error::DecodeError;
use crate::frame::Decode;
use crate::kind::FrameKind;
use crate::limits::{PAYLOAD_BYTES_MAX, RANGE_RECORDS_MAX, SKIPS_MAX};
use crate::list::{Item, List};
use crate::verify::{bytes, count, integer};
use crate::wire_enum::wire_enum;
use tidegate_ids::{ConversationId, Sequence};
use tidegate_schema_generated as wire;

wire_enum! {
    /// Why a sequence has no record for this user.
    SkipReason = SkipReason {
        /// Not said, or a reason of a newer version.
        Unspecified,
        /// The user was no member then.
        NotMember,
        /// Past its expiry or the retention.
        Expired,
        /// Erased on request.
        Erased,
        /// The disk lost it.
        Damaged,
    }
}

/// S, numbered: a range too long to push. The client keeps the duty to fetch `from` to `head`, then acknowledges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// Where.
    pub conversation: ConversationId,
    /// The lowest sequence to fetch.
    pub from: Sequence,
    /// The highest one.
    pub head: Sequence,
    /// How many of them mention the user, as far as known.
    pub mentions: u32,
}

/// S: a hole that will not be filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skip {
    /// Where.
    pub conversation: ConversationId,
    /// The hole's first sequence.
    pub from: Sequence,
    /// Its last one.
    pub to: Sequence,
    /// Why it is one.
    pub reason: SkipReason,
}

/// What a `GetRange` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeSpan {
    /// The nearest records below this sequence; 0: the newest of all.
    Before(Sequence),
    /// The nearest records above this sequence.
    After(Sequence),
    /// From the first to the second, both included; from the lower end if there are more than the limit.
    Between(Sequence, Sequence),
}

/// C: asks for records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetRange {
    /// Where.
    pub conversation: ConversationId,
    /// Which.
    pub span: RangeSpan,
    /// How many at most: 1 to [`RANGE_RECORDS_MAX`].
    pub limit: u16,
}

/// Sequences without a record, both ends included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SkipSpan {
    /// The first.
    pub from: Sequence,
    /// The last.
    pub to: Sequence,
    /// Why.
    pub reason: SkipReason,
}

/// S: the reply to `GetRange`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range<'a> {
    /// Where.
    pub conversation: ConversationId,
    /// The highest sequence of the conversation that this user may see.
    pub head: Sequence,
    /// The lowest one that can still be read.
    pub first_available: Sequence,
    /// Whether everything asked for is here; if not, the client asks again after the last one.
    pub complete: bool,
    /// Holes in what was asked for.
    pub skips: Skips<'a>,
    /// Stored forms one after the other, oldest first; see [`Range::iter`].
    pub records: &'a [u8],
}

/// The holes of a `Range`.
pub type Skips<'a> = List<'a, SkipSpan, wire::SkipSpan>;

impl<'a> Range<'a> {
    /// The records, oldest first; an error ends the iteration.
    #[must_use]
    pub const fn iter(&self) -> StoredIter<'a> {
        stored_iter(self.records)
    }
}

impl<'a> Decode<'a> for Dirty {
    type Table = wire::Dirty<'a>;

    fn read(table: wire::Dirty<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            conversation: ConversationId(table.conversation().0),
            from: Sequence(integer(table.from(), "from")?),
            head: Sequence(integer(table.head(), "head")?),
            mentions: table.mentions(),
        })
    }
}

impl Body for Dirty {
    const KIND: FrameKind = FrameKind::Dirty;

    fn build(&self, writer: &mut Writer) -> Root {
        let args = wire::DirtyArgs {
            conversation: Some(&wire::ConversationId(self.conversation.0)),
            from: self.from.0,
            head: self.head.0,
            mentions: self.mentions,
        };
        wire::Dirty::create(&mut writer.fbb, &args).as_union_value()
    }
}

impl<'a> Decode<'a> for Skip {
    type Table = wire::Skip<'a>;

    fn read(table: wire::Skip<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            conversation: ConversationId(table.conversation().0),
            from: Sequence(integer(table.from(), "from")?),
            to: Sequence(integer(table.to(), "to")?),
            reason: SkipReason::from_wire(table.reason()).unwrap_or_default(),
        })
    }
}

impl Body for Skip {
    const KIND: FrameKind = FrameKind::Skip;

    fn build(&self, writer: &mut Writer) -> Root {
        let args = wire::SkipArgs {
            conversation: Some(&wire::ConversationId(self.conversation.0)),
            from: self.from.0,
            to: self.to.0,
            reason: self.reason.to_wire(),
        };
        wire::Skip::create(&mut writer.fbb, &args).as_union_value()
    }
}

impl<'a> Decode<'a> for GetRange {
    type Table = wire::GetRange<'a>;

    fn read(table: wire::GetRange<'a>) -> Result<Self, DecodeError> {
        let from = Sequence(integer(table.from(), "from")?);
        let to = Sequence(integer(table.to(), "to")?);
        let span = match table.mode() {
            wire::RangeMode::Before => RangeSpan::Before(from),
            wire::RangeMode::After => RangeSpan::After(from),
            wire::RangeMode::Between if from <= to => RangeSpan::Between(from, to),
            wire::RangeMode::Between => return Err(DecodeError::BadValue("to")),
            _ => return Err(DecodeError::BadValue("mode")),
        };
        let limit = table.limit();
        if limit == 0 || limit > RANGE_RECORDS_MAX {
            return Err(DecodeError::BadValue("limit"));
        }
        Ok(Self { conversation: ConversationId(table.conversation().0), span, limit })
    }
}

impl Body for GetRange {
    const KIND: FrameKind = FrameKind::GetRange;

    fn build(&self, writer: &mut Writer) -> Root {
        let (mode, from, to) = match self.span {
            RangeSpan::Before(sequence) => (wire::RangeMode::Before, sequence, Sequence(0)),
            RangeSpan::After(sequence) => (wire::RangeMode::After, sequence, Sequence(0)),
            RangeSpan::Between(from, to) => (wire::RangeMode::Between, from, to),
        };
        let args = wire::GetRangeArgs {
            conversation: Some(&wire::ConversationId(self.conversation.0)),
            mode,
            from: from.0,
            to: to.0,
            limit: self.limit,
        };
        wire::GetRange::create(&mut writer.fbb, &args).as_union_value()
    }
}

impl<'a> Item<'a, wire::SkipSpan> for SkipSpan {
    fn read(wire: &'a wire::SkipSpan) -> Self {
        Self {
            from: Sequence(wire.from()),
            to: Sequence(wire.to()),
            reason: SkipReason::from_wire(wire.reason()).unwrap_or_default(),
        }
    }
}

impl<'a> Decode<'a> for Range<'a> {
    type Table = wire::Range<'a>;

    fn read(table: wire::Range<'a>) -> Result<Self, DecodeError> {
        if let Some(skips) = table.skips() {
            count(skips.len(), SKIPS_MAX, "skips")?;
            for span in skips {
                integer(span.from(), "skips")?;
                integer(span.to(), "skips")?;
            }
        }
        Ok(Self {
            conversation: ConversationId(table.conversation().0),
            head: Sequence(integer(table.head(), "head")?),
            first_available: Sequence(integer(table.first_available(), "first_available")?),
            complete: table.complete(),
            skips: List::from_wire(table.skips()),
            records: bytes(table.records(), PAYLOAD_BYTES_MAX, "records")?,
        })
    }
}

impl Body for Range<'_> {
    const KIND: FrameKind = FrameKind::Range;

    fn build(&self, writer: &mut Writer) -> Root {
        let records = Some(writer.aligned_bytes(self.records));
        let skips =
            self.skips.iter().map(|span| wire::SkipSpan::new(span.from.0, span.to.0, span.reason.to_wire()));
        let skips = Some(writer.fbb.create_vector_from_iter(skips));
        let args = wire::RangeArgs {
            conversation: Some(&wire::ConversationId(self.conversation.0)),
            head: self.head.0,
            first_available: self.first_available.0,
            complete: self.complete,
            skips,
            records,
        };
        wire::Range::create(&mut writer.fbb, &args).as_union_value()
    }
}
