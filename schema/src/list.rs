//! Lists in frames: written from a slice, read from verified bytes, one type for both.

use core::fmt;
use flatbuffers::{Follow, Vector};
use tidegate_ids::UserId;

/// How an item is read from a verified vector of `W`; the list was checked as a whole when its frame was decoded.
#[doc(hidden)]
pub trait Item<'a, W: Follow<'a>>: Copy {
    /// Reads one.
    fn read(wire: W::Inner) -> Self;
}

/// A list that borrows: from a slice that is to be written, or from a verified body. `W` is how an item stands
/// there; it is named so that a list of a longer lifetime passes for one of a shorter. The default is that of
/// users; the others have aliases ([`crate::Members`], [`crate::SendItems`], …).
pub struct List<'a, T, W = u64>(Source<'a, T, W>);

enum Source<'a, T, W> {
    Items(&'a [T]),
    Wire(Vector<'a, W>),
}

/// Users.
pub type Users<'a> = List<'a, UserId>;

impl<'a, T, W> List<'a, T, W> {
    /// A list to be written.
    #[must_use]
    pub const fn new(items: &'a [T]) -> Self {
        Self(Source::Items(items))
    }

    /// A list in verified bytes; an absent one is empty.
    pub(crate) fn from_wire(wire: Option<Vector<'a, W>>) -> Self {
        Self(wire.map_or(Source::Items(&[]), Source::Wire))
    }
}

impl<'a, T: Item<'a, W>, W: Follow<'a> + 'a> List<'a, T, W> {
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
    pub const fn iter(&self) -> Iter<'a, T, W> {
        Iter { list: *self, front: 0, back: None }
    }
}

impl<T, W> Clone for List<'_, T, W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, W> Copy for List<'_, T, W> {}

impl<T, W> Clone for Source<'_, T, W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, W> Copy for Source<'_, T, W> {}

impl<T, W> Default for List<'_, T, W> {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl<'a, T, W> From<&'a [T]> for List<'a, T, W> {
    fn from(items: &'a [T]) -> Self {
        Self::new(items)
    }
}

impl<'a, T: Item<'a, W> + PartialEq, W: Follow<'a> + 'a> PartialEq for List<'a, T, W> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<'a, T: Item<'a, W> + Eq, W: Follow<'a> + 'a> Eq for List<'a, T, W> {}

impl<'a, T: Item<'a, W> + fmt::Debug, W: Follow<'a> + 'a> fmt::Debug for List<'a, T, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The items of a [`List`].
pub struct Iter<'a, T, W> {
    list: List<'a, T, W>,
    front: usize,
    back: Option<usize>,
}

impl<'a, T: Item<'a, W>, W: Follow<'a> + 'a> Iterator for Iter<'a, T, W> {
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

impl<'a, T: Item<'a, W>, W: Follow<'a> + 'a> DoubleEndedIterator for Iter<'a, T, W> {
    fn next_back(&mut self) -> Option<T> {
        let last = self.back.unwrap_or_else(|| self.list.len()).checked_sub(1)?;
        if last < self.front {
            return None;
        }
        self.back = Some(last);
        self.list.get(last)
    }
}

impl<'a, T: Item<'a, W>, W: Follow<'a> + 'a> ExactSizeIterator for Iter<'a, T, W> {}

impl<'a, T: Item<'a, W>, W: Follow<'a> + 'a> IntoIterator for List<'a, T, W> {
    type Item = T;
    type IntoIter = Iter<'a, T, W>;

    fn into_iter(self) -> Iter<'a, T, W> {
        self.iter()
    }
}

impl Item<'_, u64> for UserId {
    fn read(wire: u64) -> Self {
        Self(wire)
    }
}
