//! Lists in frames: written from a slice, read from verified bytes, one type for both.

use core::fmt;
use flatbuffers::{Follow, Vector};
use tidegate_ids::UserId;

/// What can stand in a [`List`].
pub trait Item<'a>: Copy {
    /// How it stands in verified bytes.
    #[doc(hidden)]
    type Wire: Follow<'a> + 'a;

    /// Reads one; the list was checked as a whole when its frame was decoded.
    #[doc(hidden)]
    fn read(wire: <Self::Wire as Follow<'a>>::Inner) -> Self;
}

/// A list that borrows: from a slice that is to be written, or from a verified body.
pub struct List<'a, T: Item<'a>>(Source<'a, T>);

enum Source<'a, T: Item<'a>> {
    Items(&'a [T]),
    Wire(Vector<'a, T::Wire>),
}

impl<'a, T: Item<'a>> List<'a, T> {
    /// A list to be written.
    #[must_use]
    pub const fn new(items: &'a [T]) -> Self {
        Self(Source::Items(items))
    }

    /// A list in verified bytes; an absent one is empty.
    pub(crate) fn from_wire(wire: Option<Vector<'a, T::Wire>>) -> Self {
        Self(wire.map_or(Source::Items(&[]), Source::Wire))
    }

    /// How many items there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Source::Items(items) => items.len(),
            Source::Wire(vector) => vector.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The item at an index below the length.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<T> {
        match &self.0 {
            Source::Items(items) => items.get(index).copied(),
            Source::Wire(vector) => (index < vector.len()).then(|| T::read(vector.get(index))),
        }
    }

    /// The items in order.
    #[must_use]
    pub const fn iter(&self) -> Iter<'a, T> {
        Iter { list: *self, front: 0, back: None }
    }
}

impl<'a, T: Item<'a>> Clone for List<'a, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<'a, T: Item<'a>> Copy for List<'a, T> {}

impl<'a, T: Item<'a>> Clone for Source<'a, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<'a, T: Item<'a>> Copy for Source<'a, T> {}

impl<'a, T: Item<'a>> Default for List<'a, T> {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl<'a, T: Item<'a>> From<&'a [T]> for List<'a, T> {
    fn from(items: &'a [T]) -> Self {
        Self::new(items)
    }
}

impl<'a, T: Item<'a> + PartialEq> PartialEq for List<'a, T> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<'a, T: Item<'a> + Eq> Eq for List<'a, T> {}

impl<'a, T: Item<'a> + fmt::Debug> fmt::Debug for List<'a, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The items of a [`List`].
pub struct Iter<'a, T: Item<'a>> {
    list: List<'a, T>,
    front: usize,
    back: Option<usize>,
}

impl<'a, T: Item<'a>> Iterator for Iter<'a, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let item = (self.len() > 0).then(|| self.list.get(self.front)).flatten();
        self.front += usize::from(item.is_some());
        item
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.back.unwrap_or_else(|| self.list.len()) - self.front;
        (left, Some(left))
    }
}

impl<'a, T: Item<'a>> DoubleEndedIterator for Iter<'a, T> {
    fn next_back(&mut self) -> Option<T> {
        let last = self.back.unwrap_or_else(|| self.list.len()).checked_sub(1)?;
        if last < self.front {
            return None;
        }
        self.back = Some(last);
        self.list.get(last)
    }
}

impl<'a, T: Item<'a>> ExactSizeIterator for Iter<'a, T> {}

impl<'a, T: Item<'a>> IntoIterator for List<'a, T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<'a> Item<'a> for UserId {
    type Wire = u64;

    fn read(wire: u64) -> Self {
        Self(wire)
    }
}
