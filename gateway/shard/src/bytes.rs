//! Little-endian fields of this process's own frames and record bodies, in order.

use tidegate_ids::{
    ClientId, CommandNumber, ConversationId, DeviceId, Generation, Location, RequestId, Sequence, UserId,
    WallMs,
};

/// Writes fields behind each other.
#[derive(Debug)]
pub(crate) struct Writer<'a>(pub(crate) &'a mut Vec<u8>);

/// Reads fields behind each other; `None` once they end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

/// A field of fixed size.
pub(crate) trait Field: Copy {
    fn write(&self, out: &mut Vec<u8>);
    fn read(from: &mut Reader<'_>) -> Option<Self>;
}

impl Writer<'_> {
    /// Writes one field.
    pub(crate) fn put<F: Field>(&mut self, field: F) -> &mut Self {
        field.write(self.0);
        self
    }

    /// Writes bytes as they are; the reader takes the rest or knows the length.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }
}

impl<'a> Reader<'a> {
    /// Reads one field.
    pub(crate) fn take<F: Field>(&mut self) -> Option<F> {
        F::read(self)
    }

    /// Reads so many bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*bytes)
    }
}

macro_rules! integers {
    ($($type:ty),*) => { $(impl Field for $type {
        fn write(&self, out: &mut Vec<u8>) {
            out.extend_from_slice(&self.to_le_bytes());
        }

        fn read(from: &mut Reader<'_>) -> Option<Self> {
            from.array().map(<$type>::from_le_bytes)
        }
    })* };
}

macro_rules! newtypes {
    ($($type:ident),*) => { $(impl Field for $type {
        fn write(&self, out: &mut Vec<u8>) {
            self.0.write(out);
        }

        fn read(from: &mut Reader<'_>) -> Option<Self> {
            from.take().map($type)
        }
    })* };
}

integers!(u8, u16, u32, u64);
newtypes!(UserId, DeviceId, Sequence, CommandNumber, Generation, RequestId, WallMs, ConversationId, ClientId);

impl Field for [u8; 16] {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.array()
    }
}

impl Field for bool {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.take::<u8>().map(|byte| byte != 0)
    }
}

impl Field for Location {
    fn write(&self, out: &mut Vec<u8>) {
        self.to_u64().write(out);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.take().map(Self::from_u64)
    }
}

/// User ids as they lie in a frame: eight bytes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UserList<'a>(pub(crate) &'a [u8]);

impl<'a> UserList<'a> {
    /// How many there are.
    pub(crate) const fn len(&self) -> usize {
        self.0.len() / 8
    }

    /// The ids in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = UserId> + 'a {
        self.0.chunks_exact(8).filter_map(|chunk| Reader(chunk).take())
    }
}
