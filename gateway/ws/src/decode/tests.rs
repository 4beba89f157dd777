//! What comes out for what goes in, whole and cut at every byte.

use super::*;
use crate::encode;

mod defects;
mod splits;
mod streams;

const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
const FRAME_BYTES_MAX: u32 = 300;
const MESSAGE_BYTES_MAX: u32 = 400;

/// An item that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owned {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

impl From<Item<'_>> for Owned {
    fn from(item: Item<'_>) -> Self {
        match item {
            Item::Text(text) => Self::Text(String::from_utf8(text.to_vec()).expect("text is UTF-8")),
            Item::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Item::Ping(bytes) => Self::Ping(bytes.to_vec()),
            Item::Pong(bytes) => Self::Pong(bytes.to_vec()),
            Item::Close { code, reason } => Self::Close(code.map(CloseCode::get), reason.to_owned()),
        }
    }
}

/// What a stream gave: its items, and the error that ended it.
type Outcome = (Vec<Owned>, Option<CloseError>);

/// A connection as a caller drives it, with its assertions.
struct Connection {
    decoder: Decoder,
    held: Vec<u8>,
    items: Vec<Owned>,
    error: Option<CloseError>,
}

impl Connection {
    fn new(role: Role) -> Self {
        Self::with(Decoder::new(role, FRAME_BYTES_MAX, MESSAGE_BYTES_MAX))
    }

    fn with(decoder: Decoder) -> Self {
        Self { decoder, held: Vec::new(), items: Vec::new(), error: None }
    }

    /// One received piece, to its end or to an error.
    fn receive(&mut self, piece: &[u8]) {
        let mut input = piece.to_vec();
        let mut at = 0;
        loop {
            let bytes_left = input.len() - at;
            match self.decoder.decode(&mut input[at..], &mut self.held) {
                Ok(Decoded { consumed, item: Some(item) }) => {
                    assert!(consumed <= bytes_left);
                    at += consumed;
                    self.items.push(item.into());
                }
                Ok(Decoded { consumed, item: None }) => {
                    assert_eq!(consumed, bytes_left);
                    break;
                }
                Err(error) => {
                    assert_eq!(self.error.replace(error), None, "told twice");
                    break;
                }
            }
        }
        assert!(self.held.len() <= self.decoder.message_bytes_max as usize + CONTROL_BYTES_MAX);
        assert!(!self.decoder.is_idle() || self.held.is_empty() || self.error.is_some());
    }

    fn outcome(self) -> Outcome {
        (self.items, self.error)
    }
}

fn decode_pieces<'a>(role: Role, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut connection = Connection::new(role);
    for piece in pieces {
        connection.receive(piece);
    }
    connection.outcome()
}

/// Decodes `stream` whole, in pieces of every size and cut in two at every byte: always the same must come out.
fn check(role: Role, stream: &[u8], items: &[Owned], error: Option<CloseError>) {
    let wanted = (items.to_vec(), error);
    assert_eq!(decode_pieces(role, [stream]), wanted, "whole");
    for size in 1..stream.len() {
        assert_eq!(decode_pieces(role, stream.chunks(size)), wanted, "pieces of {size}");
    }
    for cut in 1..stream.len() {
        let (left, right) = stream.split_at(cut);
        assert_eq!(decode_pieces(role, [left, right]), wanted, "cut at {cut}");
    }
}

/// One frame as a client sends it.
fn masked(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::frame(&mut out, opcode, fin, payload, Some(MASK));
    out
}

/// One frame as a server sends it.
fn plain(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::frame(&mut out, opcode, fin, payload, None);
    out
}
