//! Why a connection must be closed: always the peer's fault, but for [`CloseError::NoRoom`].

use crate::close::CloseCode;
use std::fmt;

/// A received byte broke a rule. The caller sends a close frame with [`CloseError::code`] and drops the connection;
/// nothing recovers it. The variant tells an operator which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseError {
    /// RSV1, RSV2 or RSV3 is set, and no extension was negotiated (5.2).
    ReservedBits,
    /// An opcode the RFC reserves (5.2).
    ReservedOpcode(u8),
    /// A control frame without FIN (5.5).
    ControlFragmented,
    /// A control frame with a payload above 125 bytes (5.5).
    ControlTooLong,
    /// A continuation with no message to continue (5.4).
    ContinuationWithoutStart,
    /// A new text or binary frame inside a fragmented message (5.4).
    MessageInsideMessage,
    /// A frame from a client without a mask (5.1).
    Unmasked,
    /// A frame from a server with a mask (5.1).
    Masked,
    /// A length written in more bytes than it needs (5.2).
    LengthNotMinimal,
    /// A 64-bit length with its highest bit set (5.2).
    LengthHighBit,
    /// A frame announces more than the frame limit.
    FrameTooLarge,
    /// A frame would take its message above the message limit.
    MessageTooLarge,
    /// A text message is not UTF-8 (8.1).
    TextInvalid,
    /// A close frame with one byte of payload (5.5.1).
    CloseCut,
    /// A close code that must not stand on the wire (7.4).
    CloseCodeInvalid(u16),
    /// A close reason that is not UTF-8 (5.5.1).
    CloseReasonInvalid,
    /// The caller had no room to hold an incomplete message: its own limit, not the peer's fault.
    NoRoom,
}

impl CloseError {
    /// The code to close with.
    pub const fn code(self) -> CloseCode {
        match self {
            Self::FrameTooLarge | Self::MessageTooLarge => CloseCode::TOO_BIG,
            Self::TextInvalid | Self::CloseReasonInvalid => CloseCode::INVALID_DATA,
            Self::NoRoom => CloseCode::TRY_AGAIN,
            _ => CloseCode::PROTOCOL,
        }
    }

    /// One short sentence for the reason of the close frame; the same for every occurrence, so it needs no formatting.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::ReservedBits => "reserved bit set",
            Self::ReservedOpcode(_) => "reserved opcode",
            Self::ControlFragmented => "fragmented control frame",
            Self::ControlTooLong => "control frame above 125 bytes",
            Self::ContinuationWithoutStart => "continuation of nothing",
            Self::MessageInsideMessage => "new message inside a fragmented one",
            Self::Unmasked => "client frame without mask",
            Self::Masked => "server frame with mask",
            Self::LengthNotMinimal => "length not in its shortest form",
            Self::LengthHighBit => "length above 63 bits",
            Self::FrameTooLarge => "frame too large",
            Self::MessageTooLarge => "message too large",
            Self::TextInvalid => "text is not UTF-8",
            Self::CloseCut => "close frame of one byte",
            Self::CloseCodeInvalid(_) => "invalid close code",
            Self::CloseReasonInvalid => "close reason is not UTF-8",
            Self::NoRoom => "no room to hold the message",
        }
    }
}

impl fmt::Display for CloseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())?;
        match self {
            Self::ReservedOpcode(bits) => write!(f, " {bits:#x}"),
            Self::CloseCodeInvalid(code) => write!(f, " {code}"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for CloseError {}
