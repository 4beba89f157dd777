//! Frame headers, and how a WebSocket payload splits into frames (PROTOCOL, "Framing").

use crate::error::FrameError;
use crate::kind::FrameKind;
use crate::limits::{FRAMES_MAX, HEADER_BYTES, PAYLOAD_BYTES_MAX};
use tidegate_ids::{INTEGER_MAX, PushNumber};

/// The id is a push number of this connection: the client acknowledges it.
pub const FLAG_NUMBERED: u16 = 1;

/// Sixteen bytes before every body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of the body, padding included; a multiple of 8.
    pub body_len: u32,
    /// What the body is; [`FrameKind`], or a number from a newer version.
    pub kind: u16,
    /// [`FLAG_NUMBERED`].
    pub flags: u16,
    /// A request id, a push number, or 0.
    pub id: u64,
}

impl FrameHeader {
    /// A header of a frame that is a header alone.
    #[must_use]
    pub const fn alone(kind: FrameKind, id: u64) -> Self {
        Self { body_len: 0, kind: kind as u16, flags: 0, id }
    }

    /// The acknowledgement of everything up to this push.
    #[must_use]
    pub const fn ack(push: PushNumber) -> Self {
        Self::alone(FrameKind::Ack, push.0)
    }

    /// The bytes on the wire.
    #[must_use]
    pub const fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let [a, b, c, d] = self.body_len.to_le_bytes();
        let [e, f] = self.kind.to_le_bytes();
        let [g, h] = self.flags.to_le_bytes();
        let [i, j, k, l, m, n, o, p] = self.id.to_le_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// From the bytes on the wire.
    #[must_use]
    pub const fn from_bytes(bytes: &[u8; HEADER_BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *bytes;
        Self {
            body_len: u32::from_le_bytes([a, b, c, d]),
            kind: u16::from_le_bytes([e, f]),
            flags: u16::from_le_bytes([g, h]),
            id: u64::from_le_bytes([i, j, k, l, m, n, o, p]),
        }
    }

    /// Whether the id is a push number.
    #[must_use]
    pub const fn is_numbered(&self) -> bool {
        self.flags & FLAG_NUMBERED != 0
    }
}

/// A header and its body, not yet verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What stands before the body.
    pub header: FrameHeader,
    /// `header.body_len` bytes.
    pub body: &'a [u8],
}

/// Splits a WebSocket payload into its frames.
///
/// # Errors
/// The first error ends the iteration.
#[must_use]
pub const fn frames(payload: &[u8]) -> FrameIter<'_> {
    FrameIter { payload, rest: payload, count: 0, failed: false }
}

/// The frames of a payload; see [`frames`].
#[derive(Clone, Debug)]
pub struct FrameIter<'a> {
    payload: &'a [u8],
    rest: &'a [u8],
    count: usize,
    failed: bool,
}

impl<'a> FrameIter<'a> {
    fn split_next(&mut self) -> Result<Frame<'a>, FrameError> {
        if self.payload.is_empty() {
            return Err(FrameError::Empty);
        }
        if self.payload.len() > PAYLOAD_BYTES_MAX {
            return Err(FrameError::PayloadTooLarge);
        }
        if self.count == FRAMES_MAX {
            return Err(FrameError::TooManyFrames);
        }
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(FrameError::HeaderTruncated)?;
        let header = FrameHeader::from_bytes(bytes);
        if !header.body_len.is_multiple_of(8) {
            return Err(FrameError::LengthUnaligned);
        }
        if header.id > INTEGER_MAX {
            return Err(FrameError::IdTooLarge);
        }
        let (body, rest) =
            rest.split_at_checked(header.body_len as usize).ok_or(FrameError::BodyTruncated)?;
        self.rest = rest;
        self.count += 1;
        Ok(Frame { header, body })
    }
}

impl<'a> Iterator for FrameIter<'a> {
    type Item = Result<Frame<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        let finished = self.rest.is_empty() && !self.payload.is_empty();
        if finished || self.failed {
            return None;
        }
        let frame = self.split_next();
        self.failed = frame.is_err();
        Some(frame)
    }
}
