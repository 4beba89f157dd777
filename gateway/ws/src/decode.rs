//! Received bytes into messages and control frames.
//!
//! Invariants:
//! - `held` is the unmasked beginning of the message under way, followed by the unmasked beginning of the control frame
//!   under way, if any. It never exceeds the message limit plus 125 bytes.
//! - `held` grows by bytes that have come, never by a length that was announced.
//! - Every rule is checked at the first byte that can break it, in an order that does not depend on where reads are cut.
//! - A byte is unmasked once and looked at by the UTF-8 check at most four times: work is linear in the bytes received.

use crate::close::{self, CloseCode};
use crate::error::CloseError;
use crate::limits::{CONTROL_BYTES_MAX, HEADER_BYTES_MAX, HELD_FIRST_BYTES, HELD_KEPT_BYTES_MAX};
use crate::mask::{advance_mask, apply_mask};
use crate::opcode::Opcode;
use std::ops::Range;

#[cfg(test)]
mod tests;

/// Which end of the connection decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Decodes what a client sent: every frame must be masked.
    Server,
    /// Decodes what a server sent: no frame may be masked.
    Client,
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A whole text message, valid UTF-8. Mutable, so that it may be answered or decrypted in place.
    Text(&'a mut [u8]),
    /// A whole binary message.
    Binary(&'a mut [u8]),
    /// A ping, to be answered with a pong of the same payload.
    Ping(&'a [u8]),
    /// A pong.
    Pong(&'a [u8]),
    /// The peer closes: answer with the same code and drop the connection. The decoder ignores whatever follows.
    Close {
        /// The peer's code, if it gave one.
        code: Option<CloseCode>,
        /// The peer's reason, often empty.
        reason: &'a str,
    },
}

/// One step of decoding.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// How many bytes of the input are done with; the next call starts behind them.
    pub consumed: usize,
    /// What came; nothing means that all input is consumed and more is needed.
    pub item: Option<Item<'a>>,
}

/// Where a connection stands between two calls: 32 bytes and no heap.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// Payload bytes of the present frame that have not come yet; 0 while its header is incomplete.
    remaining: u32,
    frame_bytes_max: u32,
    message_bytes_max: u32,
    /// The present frame's header, as far as it has come, `head_len` bytes; behind them anything. The mask in it is
    /// turned as payload is unmasked.
    head: [u8; HEADER_BYTES_MAX],
    head_len: u8,
    phase: Phase,
    /// The message under way.
    message: Message,
    lent: Lent,
    /// How many bytes at the end of a held text message are the beginning of a character, 0 to 3.
    partial_char: u8,
    role: Role,
}

const _: () = assert!(size_of::<Decoder>() <= 32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Header,
    Payload,
    /// A close frame came or a rule was broken: what follows is ignored.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    None,
    Text,
    Binary,
}

/// What of `held` the last call lent out, to be dropped by the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lent {
    Nothing,
    Message,
    Control,
}

/// Where a finished payload lies.
enum Place {
    Input(Range<usize>),
    Held(Range<usize>),
}

struct Found {
    opcode: Opcode,
    place: Place,
}

impl Decoder {
    /// A decoder before the first frame. `frame_bytes_max` bounds the payload of one data frame, `message_bytes_max` that
    /// of a whole message; both in bytes. (A control frame holds at most 125 bytes whatever they say.)
    pub const fn new(role: Role, frame_bytes_max: u32, message_bytes_max: u32) -> Self {
        Self {
            remaining: 0,
            frame_bytes_max,
            message_bytes_max,
            head: [0; HEADER_BYTES_MAX],
            head_len: 0,
            phase: Phase::Header,
            message: Message::None,
            lent: Lent::Nothing,
            partial_char: 0,
            role,
        }
    }

    /// Whether the connection is between messages with not one byte of the next: `held` holds nothing of use, and the
    /// caller may take it away.
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Closed
            || (self.phase == Phase::Header && self.head_len == 0 && self.message == Message::None)
    }

    /// Whether a close frame came or a rule was broken: whatever follows is ignored.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Bytes that `held` has at most: of a message and a control frame inside.
    pub const fn held_bytes_max(&self) -> usize {
        (self.message_bytes_max as usize).saturating_add(CONTROL_BYTES_MAX)
    }

    /// Takes the next item out of `input`, and what is incomplete over into `held`. Call again with the rest of the input
    /// until there is no item. `held` belongs to this connection and changes only here, except that the caller may take
    /// it away while [`Decoder::is_idle`].
    ///
    /// `held` grows by doubling, at most to what the message limit allows, and gives a large capacity back once idle.
    ///
    /// # Errors
    /// A broken rule, told once; afterwards the decoder ignores its input.
    pub fn decode<'a>(
        &mut self,
        input: &'a mut [u8],
        held: &'a mut Vec<u8>,
    ) -> Result<Decoded<'a>, CloseError> {
        let held_bytes_max = self.held_bytes_max();
        self.drop_lent(held);
        if self.is_idle() && held.capacity() > HELD_KEPT_BYTES_MAX {
            *held = Vec::new();
        }
        self.decode_growing(input, held, |held, additional| {
            let needed = held.len() + additional;
            let doubled = (held.capacity() * 2).clamp(HELD_FIRST_BYTES, held_bytes_max.max(HELD_FIRST_BYTES));
            held.reserve_exact(needed.max(doubled) - held.len());
            true
        })
    }

    /// As [`Decoder::decode`], but where `held` has no capacity for `additional` more bytes, `grow(held, additional)` must
    /// provide it with the content kept, for instance by exchanging it for the next larger block of a pool; saying
    /// `false` ends the connection. The capacity of `held` is never changed otherwise.
    ///
    /// # Errors
    /// A broken rule, or [`CloseError::NoRoom`], told once; afterwards the decoder ignores its input.
    pub fn decode_growing<'a>(
        &mut self,
        input: &'a mut [u8],
        held: &'a mut Vec<u8>,
        grow: impl FnMut(&mut Vec<u8>, usize) -> bool,
    ) -> Result<Decoded<'a>, CloseError> {
        self.drop_lent(held);
        if self.phase == Phase::Closed {
            return Ok(Decoded { consumed: input.len(), item: None });
        }
        let (consumed, found) = match self.advance(input, held, grow) {
            Ok(step) => step,
            Err(error) => {
                self.phase = Phase::Closed;
                held.clear();
                return Err(error);
            }
        };
        let Some(Found { opcode, place }) = found else {
            debug_assert_eq!(consumed, input.len());
            return Ok(Decoded { consumed, item: None });
        };
        let payload = match place {
            Place::Input(range) => &mut input[range],
            Place::Held(range) => &mut held[range],
        };
        let item = match opcode {
            Opcode::Text => Item::Text(payload),
            Opcode::Binary | Opcode::Continuation => Item::Binary(payload),
            Opcode::Ping => Item::Ping(payload),
            Opcode::Pong => Item::Pong(payload),
            Opcode::Close => {
                self.phase = Phase::Closed;
                let (code, reason) = close::parse(payload)?;
                Item::Close { code, reason }
            }
        };
        Ok(Decoded { consumed, item: Some(item) })
    }

    fn drop_lent(&mut self, held: &mut Vec<u8>) {
        match self.lent {
            _ if self.phase == Phase::Closed => held.clear(),
            Lent::Nothing => {}
            Lent::Message => held.clear(),
            Lent::Control => held.truncate(held.len().saturating_sub(self.control_len())),
        }
        self.lent = Lent::Nothing;
    }

    /// Walks frames until an item is found or the input is used up.
    fn advance(
        &mut self,
        input: &mut [u8],
        held: &mut Vec<u8>,
        mut grow: impl FnMut(&mut Vec<u8>, usize) -> bool,
    ) -> Result<(usize, Option<Found>), CloseError> {
        let mut at = 0;
        loop {
            if self.phase == Phase::Header {
                at += self.take_header(&input[at..], held.len())?;
                if self.phase == Phase::Header {
                    return Ok((at, None));
                }
            }
            let present = (self.remaining as usize).min(input.len() - at);
            let payload = at..at + present;
            at = payload.end;
            self.unmask(&mut input[payload.clone()]);
            let found = if self.opcode().is_control() {
                self.take_control(input, payload, held, &mut grow)?
            } else {
                self.take_data(input, payload, held, &mut grow)?
            };
            if self.remaining == 0 {
                self.phase = Phase::Header;
                self.head_len = 0;
            } else {
                return Ok((at, None));
            }
            if found.is_some() {
                return Ok((at, found));
            }
        }
    }

    /// Takes payload of a control frame; found once it is complete.
    fn take_control(
        &mut self,
        input: &[u8],
        payload: Range<usize>,
        held: &mut Vec<u8>,
        grow: &mut impl FnMut(&mut Vec<u8>, usize) -> bool,
    ) -> Result<Option<Found>, CloseError> {
        let opcode = self.opcode();
        let nothing_held = self.remaining as usize == self.control_len();
        self.remaining -= payload.len() as u32;
        if nothing_held && self.remaining == 0 {
            return Ok(Some(Found { opcode, place: Place::Input(payload) }));
        }
        hold(held, &input[payload], grow)?;
        if self.remaining > 0 {
            return Ok(None);
        }
        self.lent = Lent::Control;
        Ok(Some(Found { opcode, place: Place::Held(held.len() - self.control_len()..held.len()) }))
    }

    /// Takes payload of a data frame; found once its message is complete.
    fn take_data(
        &mut self,
        input: &[u8],
        payload: Range<usize>,
        held: &mut Vec<u8>,
        grow: &mut impl FnMut(&mut Vec<u8>, usize) -> bool,
    ) -> Result<Option<Found>, CloseError> {
        self.remaining -= payload.len() as u32;
        let complete = self.remaining == 0 && self.is_final();
        let is_text = self.message == Message::Text;
        let opcode = if is_text { Opcode::Text } else { Opcode::Binary };
        if complete && held.is_empty() {
            if is_text && std::str::from_utf8(&input[payload.clone()]).is_err() {
                return Err(CloseError::TextInvalid);
            }
            self.message = Message::None;
            return Ok(Some(Found { opcode, place: Place::Input(payload) }));
        }
        hold(held, &input[payload.clone()], grow)?;
        debug_assert!(held.len() <= self.message_bytes_max as usize);
        if is_text {
            self.check_text(held, payload.len())?;
        }
        if !complete {
            return Ok(None);
        }
        if self.partial_char != 0 {
            return Err(CloseError::TextInvalid);
        }
        self.message = Message::None;
        self.lent = Lent::Message;
        Ok(Some(Found { opcode, place: Place::Held(0..held.len()) }))
    }

    /// Checks the last `added` bytes of a held text together with the character they may continue.
    fn check_text(&mut self, held: &[u8], added: usize) -> Result<(), CloseError> {
        let unchecked = &held[held.len() - added - usize::from(self.partial_char)..];
        self.partial_char = match std::str::from_utf8(unchecked) {
            Ok(_) => 0,
            Err(error) if error.error_len().is_none() => (unchecked.len() - error.valid_up_to()) as u8,
            Err(_) => return Err(CloseError::TextInvalid),
        };
        debug_assert!(self.partial_char < 4);
        Ok(())
    }

    fn unmask(&mut self, payload: &mut [u8]) {
        if self.role == Role::Server {
            let end = usize::from(self.head_len);
            let Some(mask) = self.head[..end].last_chunk_mut::<4>() else { return };
            apply_mask(payload, *mask);
            *mask = advance_mask(*mask, payload.len());
        }
    }

    /// Takes header bytes from the front of `bytes`; once the header is complete the phase is `Payload`. Returns how many
    /// were taken.
    fn take_header(&mut self, bytes: &[u8], held_len: usize) -> Result<usize, CloseError> {
        let start = usize::from(self.head_len);
        let present = self.copy_head(bytes);
        let mut end = present;
        if present >= 1 {
            self.check_first_byte()?;
        }
        if present >= 2 {
            self.check_second_byte()?;
            let length_end = match self.head[1] & 0x7F {
                126 => 4,
                127 => 10,
                _ => 2,
            };
            if present >= length_end {
                let length = self.checked_length(held_len)?;
                let header_end = if self.role == Role::Server { length_end + 4 } else { length_end };
                if present >= header_end {
                    end = header_end;
                    self.begin_payload(length);
                }
            }
        }
        self.head_len = end as u8;
        Ok(end - start)
    }

    /// Copies what may be header behind what is there already; returns how many bytes of `head` are good now. Some may
    /// turn out to be payload.
    fn copy_head(&mut self, bytes: &[u8]) -> usize {
        let start = usize::from(self.head_len);
        if let (0, Some(head)) = (start, bytes.first_chunk::<HEADER_BYTES_MAX>()) {
            self.head = *head;
            return HEADER_BYTES_MAX;
        }
        let copied = bytes.len().min(HEADER_BYTES_MAX - start);
        self.head[start..start + copied].copy_from_slice(&bytes[..copied]);
        start + copied
    }

    fn begin_payload(&mut self, length: u32) {
        match self.opcode() {
            Opcode::Text => self.message = Message::Text,
            Opcode::Binary => self.message = Message::Binary,
            _ => {}
        }
        self.remaining = length;
        self.phase = Phase::Payload;
    }

    fn check_first_byte(&self) -> Result<(), CloseError> {
        let first = self.head[0];
        if first & 0x70 != 0 {
            return Err(CloseError::ReservedBits);
        }
        let opcode = Opcode::from_bits(first & 0x0F).ok_or(CloseError::ReservedOpcode(first & 0x0F))?;
        let under_way = self.message != Message::None;
        match opcode {
            Opcode::Continuation if !under_way => Err(CloseError::ContinuationWithoutStart),
            Opcode::Text | Opcode::Binary if under_way => Err(CloseError::MessageInsideMessage),
            _ if opcode.is_control() && !self.is_final() => Err(CloseError::ControlFragmented),
            _ => Ok(()),
        }
    }

    fn check_second_byte(&self) -> Result<(), CloseError> {
        let masked = self.head[1] & 0x80 != 0;
        match self.role {
            Role::Server if !masked => Err(CloseError::Unmasked),
            Role::Client if masked => Err(CloseError::Masked),
            _ if self.opcode().is_control() && self.control_len() > CONTROL_BYTES_MAX => {
                Err(CloseError::ControlTooLong)
            }
            _ => Ok(()),
        }
    }

    /// The announced length, in its shortest form and within the limits.
    fn checked_length(&self, held_len: usize) -> Result<u32, CloseError> {
        let [_, short, high, low, ..] = self.head;
        let (length, shortest) = match short & 0x7F {
            126 => (u64::from(u16::from_be_bytes([high, low])), 126),
            127 => {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&self.head[2..10]);
                (u64::from_be_bytes(bytes), 0x1_0000)
            }
            short => (u64::from(short), 0),
        };
        if length >> 63 != 0 {
            return Err(CloseError::LengthHighBit);
        }
        if length < shortest {
            return Err(CloseError::LengthNotMinimal);
        }
        if self.opcode().is_control() {
            return Ok(length as u32);
        }
        if length > u64::from(self.frame_bytes_max) {
            return Err(CloseError::FrameTooLarge);
        }
        if length + held_len as u64 > u64::from(self.message_bytes_max) {
            return Err(CloseError::MessageTooLarge);
        }
        Ok(length as u32)
    }

    fn is_final(&self) -> bool {
        self.head[0] & 0x80 != 0
    }

    /// The opcode of the header under way, which [`Decoder::check_first_byte`] has accepted.
    fn opcode(&self) -> Opcode {
        Opcode::from_bits(self.head[0] & 0x0F).unwrap_or(Opcode::Continuation)
    }

    /// The payload length of the control frame whose header is in `head`.
    fn control_len(&self) -> usize {
        usize::from(self.head[1] & 0x7F)
    }
}

/// Appends `bytes` to `held`, asking for room first.
fn hold(
    held: &mut Vec<u8>,
    bytes: &[u8],
    grow: &mut impl FnMut(&mut Vec<u8>, usize) -> bool,
) -> Result<(), CloseError> {
    if held.capacity() - held.len() < bytes.len() {
        let before = held.len();
        if !grow(held, bytes.len()) {
            return Err(CloseError::NoRoom);
        }
        assert!(
            held.len() == before && held.capacity() - before >= bytes.len(),
            "grow must keep and provide"
        );
    }
    held.extend_from_slice(bytes);
    Ok(())
}
