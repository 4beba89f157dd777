//! What can be wrong with bytes from the other side.

use crate::code::ErrorCode;
use core::fmt;

/// A WebSocket payload that does not split into frames. Nothing after it can be trusted: the connection closes
/// with [`crate::CloseCode::PROTOCOL_ERROR`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// No frame at all.
    Empty,
    /// More than [`crate::limits::PAYLOAD_BYTES_MAX`] bytes.
    PayloadTooLarge,
    /// More than [`crate::limits::FRAMES_MAX`] frames.
    TooManyFrames,
    /// Fewer bytes left than a header has.
    HeaderTruncated,
    /// The header announces more bytes than are left.
    BodyTruncated,
    /// The length is no multiple of 8.
    LengthUnaligned,
    /// The id is above 2^53 − 1.
    IdTooLarge,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "no frame",
            Self::PayloadTooLarge => "payload too large",
            Self::TooManyFrames => "too many frames",
            Self::HeaderTruncated => "frame header cut off",
            Self::BodyTruncated => "frame body cut off",
            Self::LengthUnaligned => "body length is no multiple of 8",
            Self::IdTooLarge => "frame id above 2^53 - 1",
        })
    }
}

impl core::error::Error for FrameError {}

/// A frame whose body is not what its kind promises. The connection is kept; the request is answered with
/// [`DecodeError::code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// A kind that this side does not take.
    Unsupported(u16),
    /// The body does not verify as its kind's table.
    Malformed,
    /// A field that must be below 2^53 is not.
    IntegerTooLarge(&'static str),
    /// A field has a value outside what is defined.
    BadValue(&'static str),
    /// A field is above its limit of bytes or items.
    TooLarge(&'static str),
}

impl DecodeError {
    /// The code to answer with.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Unsupported(_) => ErrorCode::Unsupported,
            Self::Malformed => ErrorCode::BadFrame,
            Self::IntegerTooLarge(_) | Self::BadValue(_) => ErrorCode::BadArgument,
            Self::TooLarge(_) => ErrorCode::TooLarge,
        }
    }

    /// The field at fault, if one is.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::Unsupported(_) | Self::Malformed => "",
            Self::IntegerTooLarge(field) | Self::BadValue(field) | Self::TooLarge(field) => field,
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported(kind) => write!(f, "unsupported frame kind {kind:#06x}"),
            Self::Malformed => f.write_str("body does not verify"),
            Self::IntegerTooLarge(field) => write!(f, "{field} is above 2^53 - 1"),
            Self::BadValue(field) => write!(f, "{field} has no such value"),
            Self::TooLarge(field) => write!(f, "{field} is above its limit"),
        }
    }
}

impl core::error::Error for DecodeError {}
