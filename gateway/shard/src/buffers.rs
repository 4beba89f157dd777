//! Memory for what is sent, used again: a warm shard takes none from the heap, and an idle connection has none (DESIGN 4).
//! Frames on their way to a ring, and answers under construction, borrow it too.

use crate::limits::{BUFFER_BYTES_KEPT_MAX, BUFFER_BYTES_MIN, BUFFERS_BYTES_MAX};

/// Buffers that nobody uses, the last given back on top.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    free: Vec<Vec<u8>>,
    /// Their capacities together, at most [`BUFFERS_BYTES_MAX`].
    bytes: usize,
}

impl Buffers {
    /// An empty buffer that has room for something.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let Some(buffer) = self.free.pop() else { return Vec::with_capacity(BUFFER_BYTES_MIN) };
        self.bytes -= buffer.capacity();
        buffer
    }

    /// Gives a buffer back; dropped are those that have grown too large, and those for which there is no place.
    pub(crate) fn give(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        let is_kept = (1..=BUFFER_BYTES_KEPT_MAX).contains(&capacity);
        if is_kept && self.bytes + capacity <= BUFFERS_BYTES_MAX {
            buffer.clear();
            self.bytes += capacity;
            self.free.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends to ten thousand connections at once gave nine thousand buffers of some hundred bytes back to the heap: their
    /// number was limited, not what they take.
    #[test]
    fn buffers_are_kept_by_the_bytes_they_take() {
        let mut buffers = Buffers::default();
        let taken: Vec<Vec<u8>> = (0..10_000).map(|_| buffers.take()).collect();
        assert!(taken.iter().all(|buffer| buffer.is_empty() && buffer.capacity() >= BUFFER_BYTES_MIN));
        taken.into_iter().for_each(|buffer| buffers.give(buffer));
        assert_eq!(buffers.free.len(), 10_000);
        let kept = buffers.bytes;
        for capacity in [0, BUFFER_BYTES_KEPT_MAX + 1] {
            buffers.give(Vec::with_capacity(capacity));
        }
        assert_eq!((buffers.free.len(), buffers.bytes), (10_000, kept), "nothing, and too much");
        let large = || Vec::with_capacity(BUFFER_BYTES_KEPT_MAX);
        (0..2 * BUFFERS_BYTES_MAX / BUFFER_BYTES_KEPT_MAX).for_each(|_| buffers.give(large()));
        assert!(
            buffers.bytes <= BUFFERS_BYTES_MAX && buffers.bytes + BUFFER_BYTES_KEPT_MAX > BUFFERS_BYTES_MAX
        );
        while buffers.bytes > 0 {
            assert!(buffers.take().is_empty());
        }
        assert!(buffers.free.is_empty());
    }
}
