//! The window of a connection: pushes that the device has not acknowledged.
//!
//! Entries come from one bounded pool per shard, so an idle device holds none and a connection owns no heap block.
//! An empty pool counts as no credit (DECISIONS, Receiving and delivering).

use crate::{CREDIT_BYTES_MAX, CREDIT_FRAMES_MAX};
use tidegate_ids::{ConversationId, PushNumber, Sequence};

const NIL: u32 = u32::MAX;

/// One push that is not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowEntry {
    /// Of which conversation.
    pub conversation: ConversationId,
    /// The record pushed, or the head that a `Dirty` announced.
    pub sequence: Sequence,
    /// Bytes it cost of the credit.
    pub bytes: u32,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    entry: WindowEntry,
    next: u32,
}

/// A shard's window entries.
#[derive(Debug)]
pub struct WindowPool {
    nodes: Vec<Node>,
    free: u32,
    free_count: usize,
}

impl WindowPool {
    /// A pool of `entries`, all of them touched now.
    #[must_use]
    pub fn new(entries: usize) -> Self {
        assert!(entries < NIL as usize, "entries are indexed by u32");
        let blank = WindowEntry { conversation: ConversationId([0; 16]), sequence: Sequence(0), bytes: 0 };
        let last = entries.saturating_sub(1);
        let next = |index: usize| if index == last { NIL } else { index as u32 + 1 };
        let nodes = (0..entries).map(|index| Node { entry: blank, next: next(index) }).collect();
        Self { nodes, free: if entries == 0 { NIL } else { 0 }, free_count: entries }
    }

    /// Entries that are free.
    #[must_use]
    pub const fn free_count(&self) -> usize {
        self.free_count
    }
}

/// One connection's window: a list through the pool, numbered contiguously.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    head: u32,
    tail: u32,
    count: u16,
    credit: u16,
    bytes: u32,
    first: PushNumber,
}

impl Window {
    /// An empty window of a connection that granted `credit` frames, at most [`CREDIT_FRAMES_MAX`].
    #[must_use]
    pub fn new(credit: u16) -> Self {
        let credit = credit.clamp(1, CREDIT_FRAMES_MAX);
        Self { head: NIL, tail: NIL, count: 0, credit, bytes: 0, first: PushNumber::FIRST }
    }

    /// Whether one more push is allowed.
    #[must_use]
    pub const fn has_credit(&self, pool: &WindowPool) -> bool {
        self.count < self.credit && self.bytes < CREDIT_BYTES_MAX && pool.free != NIL
    }

    /// How many pushes are not acknowledged.
    #[must_use]
    pub const fn count(&self) -> u16 {
        self.count
    }

    /// Takes the next push number for an entry; the caller has asked [`Window::has_credit`].
    pub fn push(&mut self, pool: &mut WindowPool, entry: WindowEntry) -> PushNumber {
        assert!(self.has_credit(pool), "a push needs credit");
        let index = pool.free;
        let node = &mut pool.nodes[index as usize];
        pool.free = node.next;
        pool.free_count -= 1;
        *node = Node { entry, next: NIL };
        match self.tail {
            NIL => self.head = index,
            tail => pool.nodes[tail as usize].next = index,
        }
        self.tail = index;
        self.bytes += entry.bytes;
        let number = PushNumber(self.first.0 + u64::from(self.count));
        self.count += 1;
        number
    }

    /// The highest number pushed, 0 if none.
    #[must_use]
    pub const fn pushed(&self) -> PushNumber {
        PushNumber(self.first.0 + self.count as u64 - 1)
    }

    /// Takes the oldest entry if its number is at most `up_to`.
    pub fn pop(&mut self, pool: &mut WindowPool, up_to: PushNumber) -> Option<WindowEntry> {
        if self.head == NIL || self.first > up_to {
            return None;
        }
        let index = self.head;
        let node = pool.nodes[index as usize];
        pool.nodes[index as usize].next = pool.free;
        pool.free = index;
        pool.free_count += 1;
        self.head = node.next;
        if self.head == NIL {
            self.tail = NIL;
        }
        self.count -= 1;
        self.bytes -= node.entry.bytes;
        self.first = self.first.next();
        Some(node.entry)
    }

    /// Entries, oldest first.
    pub fn entries<'a>(&self, pool: &'a WindowPool) -> impl Iterator<Item = WindowEntry> + 'a {
        let mut index = self.head;
        core::iter::from_fn(move || {
            let node = pool.nodes.get(index as usize)?;
            index = node.next;
            Some(node.entry)
        })
    }

    /// The lowest sequence of a conversation among the entries.
    #[must_use]
    pub fn lowest(&self, pool: &WindowPool, conversation: &ConversationId) -> Option<Sequence> {
        let of = |entry: &WindowEntry| entry.conversation == *conversation;
        self.entries(pool).filter(of).map(|entry| entry.sequence).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(sequence: u64) -> WindowEntry {
        WindowEntry { conversation: ConversationId([1; 16]), sequence: Sequence(sequence), bytes: 100 }
    }

    #[test]
    fn numbers_are_contiguous_and_entries_return_to_the_pool() {
        let mut pool = WindowPool::new(3);
        let mut window = Window::new(256);
        assert_eq!(window.pushed(), PushNumber(0));
        for n in 1..=3 {
            assert_eq!(window.push(&mut pool, entry(10 + n)), PushNumber(n));
        }
        assert!(!window.has_credit(&pool), "the pool is empty");
        assert_eq!(window.lowest(&pool, &ConversationId([1; 16])), Some(Sequence(11)));
        assert_eq!(window.pop(&mut pool, PushNumber(2)).map(|e| e.sequence), Some(Sequence(11)));
        assert_eq!(window.pop(&mut pool, PushNumber(2)).map(|e| e.sequence), Some(Sequence(12)));
        assert_eq!(window.pop(&mut pool, PushNumber(2)), None);
        assert_eq!((window.pushed(), pool.free_count()), (PushNumber(3), 2));
        assert_eq!(window.push(&mut pool, entry(20)), PushNumber(4));
        assert_eq!(window.entries(&pool).count(), 2);
    }

    #[test]
    fn credit_ends_by_frames_and_by_bytes() {
        let mut pool = WindowPool::new(600);
        let mut window = Window::new(2);
        window.push(&mut pool, entry(1));
        window.push(&mut pool, entry(2));
        assert!(!window.has_credit(&pool));
        let mut heavy = Window::new(999);
        heavy.push(&mut pool, WindowEntry { bytes: CREDIT_BYTES_MAX, ..entry(1) });
        assert!(!heavy.has_credit(&pool));
    }
}
