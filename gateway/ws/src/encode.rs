//! Frames into the caller's buffer. A server gives no mask, a client a fresh unpredictable one per frame (RFC 6455, 5.3).

use crate::close::CloseCode;
use crate::limits::{CLOSE_REASON_BYTES_MAX, CONTROL_BYTES_MAX, HEADER_BYTES_MAX};
use crate::mask::apply_mask;
use crate::opcode::Opcode;

#[cfg(test)]
mod tests;

/// Bytes a frame's mask takes in its header.
const MASK_BYTES: usize = 4;
/// Bytes [`begin`] leaves for a header: the form with a 16-bit length, which fits most batches.
const BEGIN_BYTES: usize = 4;

/// The encoded header of one frame, 2 to 14 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    bytes: [u8; HEADER_BYTES_MAX],
    len: u8,
}

impl Header {
    /// The bytes that stand before the payload.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl std::ops::Deref for Header {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

/// The length of the header for a payload of `payload_bytes`.
pub const fn header_len(payload_bytes: usize, masked: bool) -> usize {
    let length = match payload_bytes {
        0..=125 => 2,
        126..=0xFFFF => 4,
        _ => 10,
    };
    if masked { length + MASK_BYTES } else { length }
}

/// The header of a frame of `payload_bytes`, whose length is in its shortest form. The payload itself is the caller's to
/// append, and to mask with [`apply_mask`].
pub fn header(opcode: Opcode, fin: bool, payload_bytes: usize, mask: Option<[u8; 4]>) -> Header {
    debug_assert!(!opcode.is_control() || (fin && payload_bytes <= CONTROL_BYTES_MAX));
    let mut bytes = [0; HEADER_BYTES_MAX];
    let len = header_len(payload_bytes, mask.is_some());
    bytes[0] = (u8::from(fin) << 7) | opcode as u8;
    let masked = u8::from(mask.is_some()) << 7;
    let long = payload_bytes as u64;
    match payload_bytes {
        0..=125 => bytes[1] = masked | long.to_be_bytes()[7],
        126..=0xFFFF => {
            bytes[1] = masked | 126;
            bytes[2..4].copy_from_slice(&long.to_be_bytes()[6..]);
        }
        _ => {
            bytes[1] = masked | 127;
            bytes[2..10].copy_from_slice(&long.to_be_bytes());
        }
    }
    if let Some(mask) = mask {
        bytes[len - MASK_BYTES..len].copy_from_slice(&mask);
    }
    Header { bytes, len: len as u8 }
}

/// Appends one frame.
pub fn frame(out: &mut Vec<u8>, opcode: Opcode, fin: bool, payload: &[u8], mask: Option<[u8; 4]>) {
    out.extend_from_slice(&header(opcode, fin, payload.len(), mask));
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(mask) = mask {
        apply_mask(&mut out[start..], mask);
    }
}

/// Appends a binary message as one frame.
pub fn binary(out: &mut Vec<u8>, payload: &[u8], mask: Option<[u8; 4]>) {
    frame(out, Opcode::Binary, true, payload, mask);
}

/// Appends a text message as one frame.
pub fn text(out: &mut Vec<u8>, payload: &str, mask: Option<[u8; 4]>) {
    frame(out, Opcode::Text, true, payload.as_bytes(), mask);
}

/// Appends a ping; what is above 125 bytes of `payload` is left out.
pub fn ping(out: &mut Vec<u8>, payload: &[u8], mask: Option<[u8; 4]>) {
    frame(out, Opcode::Ping, true, &payload[..payload.len().min(CONTROL_BYTES_MAX)], mask);
}

/// Appends a pong; what is above 125 bytes of `payload` is left out. A received ping is never longer.
pub fn pong(out: &mut Vec<u8>, payload: &[u8], mask: Option<[u8; 4]>) {
    frame(out, Opcode::Pong, true, &payload[..payload.len().min(CONTROL_BYTES_MAX)], mask);
}

/// Appends a close frame; a `reason` above 123 bytes is cut before the character that does not fit. No code means no
/// payload, the answer to a close frame that had none.
pub fn close(out: &mut Vec<u8>, code: Option<CloseCode>, reason: &str, mask: Option<[u8; 4]>) {
    let Some(code) = code else {
        return frame(out, Opcode::Close, true, &[], mask);
    };
    let reason = &reason[..reason.floor_char_boundary(CLOSE_REASON_BYTES_MAX)];
    let mut payload = [0; CONTROL_BYTES_MAX];
    payload[..2].copy_from_slice(&code.get().to_be_bytes());
    payload[2..2 + reason.len()].copy_from_slice(reason.as_bytes());
    frame(out, Opcode::Close, true, &payload[..2 + reason.len()], mask);
}

/// A message being built at the end of a buffer, its length not known yet; see [`begin`].
#[derive(Debug)]
#[must_use = "without `finish` the buffer holds a gap in place of a header"]
pub struct OpenMessage {
    start: usize,
    mask: Option<[u8; 4]>,
}

/// Starts a message whose payload the caller then appends to `out` piece by piece; [`OpenMessage::finish`] writes the
/// header. Room is left for the header of 126 to 65,535 bytes; other lengths move the payload once, by 2 or 6 bytes.
pub fn begin(out: &mut Vec<u8>, mask: Option<[u8; 4]>) -> OpenMessage {
    let start = out.len();
    out.resize(start + BEGIN_BYTES + mask.map_or(0, |mask| mask.len()), 0);
    OpenMessage { start, mask }
}

impl OpenMessage {
    /// Bytes of payload appended so far.
    pub fn payload_len(&self, out: &[u8]) -> usize {
        out.len() - self.payload_start()
    }

    /// Writes the header and masks the payload: everything appended to `out` since [`begin`] is one frame now.
    pub fn finish(self, out: &mut Vec<u8>, opcode: Opcode) {
        let payload_start = self.payload_start();
        let payload_len = self.payload_len(out);
        let header = header(opcode, true, payload_len, self.mask);
        if let Some(mask) = self.mask {
            apply_mask(&mut out[payload_start..], mask);
        }
        let moved_start = self.start + header.len();
        if moved_start > payload_start {
            out.resize(moved_start + payload_len, 0);
        }
        if moved_start != payload_start {
            out.copy_within(payload_start..payload_start + payload_len, moved_start);
            out.truncate(moved_start + payload_len);
        }
        out[self.start..moved_start].copy_from_slice(&header);
    }

    /// Takes the message back: `out` is as it was before [`begin`].
    pub fn cancel(self, out: &mut Vec<u8>) {
        out.truncate(self.start);
    }

    fn payload_start(&self) -> usize {
        self.start + BEGIN_BYTES + self.mask.map_or(0, |mask| mask.len())
    }
}
