//! What the gateway says unasked: slow down, go away, this was refused (PROTOCOL, "Session", "Errors and closes").

use crate::code::ErrorCode;
use crate::encoder::{Body, Root, Writer};
use crate::error::DecodeError;
use crate::frame::Decode;
use crate::kind::FrameKind;
use crate::limits::TEXT_BYTES_MAX;
use crate::verify::{bytes, integer};
use crate::wire_enum::wire_enum;
use tidegate_ids::{CommandNumber, ConversationId};
use tidegate_schema_generated as wire;

wire_enum! {
    /// What a `Throttle` concerns.
    ThrottleScope = ThrottleScope {
        /// This connection.
        Connection,
        /// The device.
        Device,
        /// All devices of the user.
        User,
        /// One conversation.
        Conversation,
        /// The whole node.
        Node,
    }
}

wire_enum! {
    /// Why the gateway closes.
    GoAwayReason = GoAwayReason {
        /// Not said, or a reason of a newer version.
        Unspecified,
        /// The gateway stops.
        Shutdown,
        /// The user lives elsewhere now.
        Moved,
        /// The gateway sheds load.
        Overloaded,
        /// A newer socket of the same device.
        Replaced,
        /// The device or the token was revoked.
        Revoked,
    }
}

/// S: send nothing of this scope for a while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttle {
    /// What it concerns; a scope of a newer version reads as the connection.
    pub scope: ThrottleScope,
    /// For how long.
    pub retry_after_ms: u32,
    /// Which conversation, if one.
    pub conversation: Option<ConversationId>,
}

/// S: the socket closes soon; come back after a random delay in the range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GoAway {
    /// Why.
    pub reason: GoAwayReason,
    /// The shortest delay.
    pub delay_min_ms: u32,
    /// The longest delay.
    pub delay_max_ms: u32,
    /// Whether to come back at all.
    pub come_back: bool,
}

/// S: a refused request, under its id; with id 0 it concerns the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error<'a> {
    /// Why.
    pub code: ErrorCode,
    /// Whether the same request may succeed later.
    pub temporary: bool,
    /// How long to wait before, if known; else 0.
    pub retry_after_ms: u32,
    /// For people; UTF-8 by convention.
    pub text: &'a [u8],
    /// For developers, for example the field at fault.
    pub detail: &'a [u8],
    /// The command number that the conversation's home expects of this device; 0 if none is meant.
    pub expected_number: CommandNumber,
    /// Which item of a `SendBatch`.
    pub index: u16,
}

impl Error<'_> {
    /// An error with its code and what that means, in a sentence for people.
    #[must_use]
    pub const fn new(code: ErrorCode) -> Self {
        Self {
            code,
            temporary: code.is_temporary(),
            retry_after_ms: 0,
            text: code.sentence().as_bytes(),
            detail: &[],
            expected_number: CommandNumber(0),
            index: 0,
        }
    }
}

impl<'a> Decode<'a> for Throttle {
    type Table = wire::Throttle<'a>;

    fn read(table: wire::Throttle<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            scope: ThrottleScope::from_wire(table.scope()).unwrap_or_default(),
            retry_after_ms: table.retry_after_ms(),
            conversation: table.conversation().map(|id| ConversationId(id.0)),
        })
    }
}

impl Body for Throttle {
    const KIND: FrameKind = FrameKind::Throttle;

    fn build(&self, writer: &mut Writer) -> Root {
        let conversation = self.conversation.map(|id| wire::ConversationId(id.0));
        let args = wire::ThrottleArgs {
            scope: self.scope.to_wire(),
            retry_after_ms: self.retry_after_ms,
            conversation: conversation.as_ref(),
        };
        wire::Throttle::create(&mut writer.fbb, &args).as_union_value()
    }
}

impl<'a> Decode<'a> for GoAway {
    type Table = wire::GoAway<'a>;

    fn read(table: wire::GoAway<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            reason: GoAwayReason::from_wire(table.reason()).unwrap_or_default(),
            delay_min_ms: table.delay_min_ms(),
            delay_max_ms: table.delay_max_ms(),
            come_back: table.come_back(),
        })
    }
}

impl Body for GoAway {
    const KIND: FrameKind = FrameKind::GoAway;

    fn build(&self, writer: &mut Writer) -> Root {
        let args = wire::GoAwayArgs {
            reason: self.reason.to_wire(),
            delay_min_ms: self.delay_min_ms,
            delay_max_ms: self.delay_max_ms,
            come_back: self.come_back,
        };
        wire::GoAway::create(&mut writer.fbb, &args).as_union_value()
    }
}

impl<'a> Decode<'a> for Error<'a> {
    type Table = wire::Error<'a>;

    fn read(table: wire::Error<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            code: ErrorCode::from(table.code().0),
            temporary: table.temporary(),
            retry_after_ms: table.retry_after_ms(),
            text: bytes(table.text(), TEXT_BYTES_MAX, "text")?,
            detail: bytes(table.detail(), TEXT_BYTES_MAX, "detail")?,
            expected_number: CommandNumber(integer(table.expected_number(), "expected_number")?),
            index: table.index(),
        })
    }
}

impl Body for Error<'_> {
    const KIND: FrameKind = FrameKind::Error;

    fn build(&self, writer: &mut Writer) -> Root {
        let args = wire::ErrorArgs {
            code: wire::ErrorCode(self.code.get()),
            temporary: self.temporary,
            retry_after_ms: self.retry_after_ms,
            text: writer.bytes(self.text),
            detail: writer.bytes(self.detail),
            expected_number: self.expected_number.0,
            index: self.index,
        };
        wire::Error::create(&mut writer.fbb, &args).as_union_value()
    }
}
