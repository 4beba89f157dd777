//! Frames and messages into the caller's buffer. One encoder per shard or connection: once its buffer has grown
//! to the largest frame it has seen, it allocates nothing.

use crate::header::FrameHeader;
use crate::kind::FrameKind;
use crate::limits::{HEADER_BYTES, MESSAGE_BYTES_MAX, PAYLOAD_BYTES_MAX};
use crate::list::{Item, List, Users};
use flatbuffers::{FlatBufferBuilder, Follow, ForwardsUOffset, UnionWIPOffset, Vector, WIPOffset};

/// What the encoder starts with: more than every frame but those that carry messages or pages.
const START_BYTES: usize = 1024;

/// A table that is written, of whatever type.
pub(crate) type Root = WIPOffset<UnionWIPOffset>;
/// A vector of bytes that is written.
pub(crate) type Bytes = WIPOffset<Vector<'static, u8>>;

/// A body that can be written; every struct of a frame is one.
pub trait Body {
    /// What stands in the header.
    const KIND: FrameKind;

    /// Writes the table.
    #[doc(hidden)]
    fn build(&self, writer: &mut Writer) -> Root;
}

/// Encodes frames; see [`Encoder::frame`].
#[derive(Default)]
pub struct Encoder {
    writer: Writer,
}

impl core::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl Encoder {
    /// An encoder with a small buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one frame, header and body, to `out`; gives its length. `flags` are those of the header, `id` a
    /// request id, a push number, or 0.
    pub fn frame<B: Body>(&mut self, out: &mut Vec<u8>, id: u64, flags: u16, body: &B) -> usize {
        let body = self.writer.root(|writer| body.build(writer));
        append(out, FrameHeader { body_len: 0, kind: B::KIND as u16, flags, id }, body)
    }

    /// Appends one frame that is a header alone.
    pub fn alone(&mut self, out: &mut Vec<u8>, kind: FrameKind, id: u64) -> usize {
        debug_assert!(kind.is_header_alone());
        out.extend_from_slice(&FrameHeader::alone(kind, id).to_bytes());
        HEADER_BYTES
    }

    /// Appends a root that is no frame, padded to 8 bytes, unless it has more than `bytes_max`.
    pub(crate) fn root(
        &mut self,
        out: &mut Vec<u8>,
        bytes_max: usize,
        build: impl FnOnce(&mut Writer) -> Root,
    ) -> Result<usize, TooLarge> {
        debug_assert!(bytes_max <= MESSAGE_BYTES_MAX);
        let bytes = self.writer.root(build);
        let padded_bytes = bytes.len().next_multiple_of(8);
        if padded_bytes > bytes_max {
            return Err(TooLarge { bytes: padded_bytes, bytes_max });
        }
        out.extend_from_slice(bytes);
        out.resize(out.len() + padded_bytes - bytes.len(), 0);
        Ok(padded_bytes)
    }
}

/// What was to be encoded has more bytes than it may have; nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// What it would have.
    pub bytes: usize,
    /// What it may have.
    pub bytes_max: usize,
}

impl core::fmt::Display for TooLarge {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} bytes, at most {} allowed", self.bytes, self.bytes_max)
    }
}

impl core::error::Error for TooLarge {}

/// Appends header and body, padded to 8 bytes.
fn append(out: &mut Vec<u8>, mut header: FrameHeader, body: &[u8]) -> usize {
    let padded_bytes = body.len().next_multiple_of(8);
    assert!(padded_bytes <= PAYLOAD_BYTES_MAX - HEADER_BYTES, "a frame above the payload limit");
    header.body_len = padded_bytes as u32;
    out.reserve(HEADER_BYTES + padded_bytes);
    out.extend_from_slice(&header.to_bytes());
    out.extend_from_slice(body);
    out.resize(out.len() + padded_bytes - body.len(), 0);
    HEADER_BYTES + padded_bytes
}

/// The builder behind an [`Encoder`], with what it needs to write lists of tables.
pub struct Writer {
    /// Writes back to front; empty between two frames.
    pub(crate) fbb: FlatBufferBuilder<'static>,
    offsets: Vec<u32>,
}

impl Default for Writer {
    fn default() -> Self {
        Self { fbb: FlatBufferBuilder::with_capacity(START_BYTES), offsets: Vec::new() }
    }
}

impl Writer {
    /// Builds one root from nothing; the bytes are borrowed until the next one.
    fn root(&mut self, build: impl FnOnce(&mut Self) -> Root) -> &[u8] {
        self.fbb.reset();
        let root = build(self);
        self.fbb.finish_minimal(root);
        self.fbb.finished_data()
    }

    /// Bytes that are absent when there are none.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Option<Bytes> {
        (!bytes.is_empty()).then(|| self.fbb.create_vector(bytes))
    }

    /// Bytes whose first one stands on a multiple of 8 (`force_align: 8`). The builder writes back to front, so
    /// what is already written and the bytes together must be such a multiple; the whole is aligned to 8 by
    /// the ids that every table with such bytes requires.
    pub(crate) fn aligned_bytes(&mut self, bytes: &[u8]) -> Bytes {
        while !(self.fbb.unfinished_data().len() + bytes.len()).is_multiple_of(8) {
            self.fbb.push(0_u8);
        }
        self.fbb.create_vector(bytes)
    }

    /// Users, also when there are none.
    pub(crate) fn users(&mut self, users: Users<'_>) -> WIPOffset<Vector<'static, u64>> {
        self.fbb.create_vector_from_iter(users.iter().map(|user| user.0))
    }

    /// A vector of tables, each written by `build`.
    pub(crate) fn tables<'a, T: Item<'a, R>, R: Follow<'a> + 'a, W>(
        &mut self,
        list: List<'a, T, R>,
        build: impl Fn(&mut Self, &T) -> WIPOffset<W>,
    ) -> WIPOffset<Vector<'static, ForwardsUOffset<W>>> {
        self.offsets.clear();
        self.offsets.reserve(list.len());
        for item in list {
            let offset = build(self, &item).value();
            self.offsets.push(offset);
        }
        self.fbb.create_vector_from_iter(self.offsets.iter().map(|offset| WIPOffset::<W>::new(*offset)))
    }
}
