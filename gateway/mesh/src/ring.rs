//! One ring of words between two shards, carrying whole frames.
//!
//! A frame is a header word and its payload, rounded up to words. The header's low half is the payload's
//! length in bytes; a header whose low half is [`PADDING`] says in its high half how many words to skip,
//! itself included: the rest of the buffer, which the next frame did not fit into.

use crate::limits::WORD_BYTES;
use core::mem::MaybeUninit;
use rtrb::{Consumer, Producer, RingBuffer};

/// The length that marks padding; no frame is that long (`limits`).
const PADDING: u64 = u32::MAX as u64;

/// The writing half.
pub(crate) struct Writer {
    words: Producer<u64>,
    /// Where the next word goes, as an index into the buffer.
    next: usize,
}

/// The reading half.
pub(crate) struct Reader {
    words: Consumer<u64>,
}

/// How many words a frame of `len` bytes takes, its header included.
pub(crate) const fn frame_words(len: usize) -> usize {
    1 + len.div_ceil(WORD_BYTES)
}

/// A ring of `words` words, every one of them written once, so that its memory is there before the first turn
/// and no word is ever uninitialized.
pub(crate) fn ring(words: usize) -> (Writer, Reader) {
    let (mut producer, mut consumer) = RingBuffer::new(words);
    let Ok(chunk) = producer.write_chunk(words) else {
        unreachable!("a new ring is empty");
    };
    chunk.commit_all();
    let Ok(chunk) = consumer.read_chunk(words) else {
        unreachable!("the ring has just been filled");
    };
    chunk.commit_all();
    (Writer { words: producer, next: 0 }, Reader { words: consumer })
}

impl Writer {
    fn capacity(&self) -> usize {
        self.words.buffer().capacity()
    }

    /// Words before the buffer's end.
    fn tail(&self) -> usize {
        self.capacity() - self.next
    }

    /// The payload bytes of the largest frame that [`Writer::try_push`] would take now.
    pub(crate) fn room(&self) -> usize {
        let free = self.words.slots();
        let tail = self.tail();
        let words = free.min(tail).max(free.saturating_sub(tail));
        words.saturating_sub(1) * WORD_BYTES
    }

    /// Bytes that the reader has not released, headers and padding included.
    pub(crate) fn depth(&self) -> usize {
        (self.capacity() - self.words.slots()) * WORD_BYTES
    }

    /// Appends a frame of `len` bytes that `fill` writes, or does nothing and returns false.
    ///
    /// `fill` finds bytes of an older frame and must write all of them; the padding behind them is zeroed here.
    pub(crate) fn try_push(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> bool {
        let need = frame_words(len);
        let tail = self.tail();
        let skip = if need <= tail { 0 } else { tail };
        let Ok(mut chunk) = self.words.write_chunk_uninit(skip + need) else {
            return false;
        };
        let (first, second) = chunk.as_mut_slices();
        let frame = if skip == 0 {
            first
        } else {
            first[0].write((skip as u64) << 32 | PADDING);
            second
        };
        assert!(frame.len() == need, "a frame is contiguous");
        frame[0].write(len as u64);
        if let Some(last) = frame[1..].last_mut() {
            last.write(0);
        }
        fill(payload_mut(&mut frame[1..], len));
        // SAFETY: every word of the ring was written once when it was made and `u64` has no invalid bits, so all
        // words of the chunk are initialized, also those of padding that are not written again
        // (`ring::tests::padding_is_skipped`).
        unsafe { chunk.commit_all() };
        self.next = if skip == 0 { self.next + need } else { need };
        if self.next == self.capacity() {
            self.next = 0;
        }
        true
    }
}

impl Reader {
    /// Whether nothing waits. Looks at what the writer has published.
    pub(crate) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The oldest frame, which stays until [`Reader::pop`].
    pub(crate) fn peek(&mut self) -> Option<&[u8]> {
        let len = self.head()?;
        let Ok(chunk) = self.words.read_chunk(frame_words(len)) else {
            unreachable!("a frame is published as a whole");
        };
        let (frame, rest) = chunk.as_slices();
        assert!(rest.is_empty(), "a frame is contiguous");
        let bytes = frame[1..].as_ptr().cast::<u8>();
        // SAFETY: the words behind the header hold `len` initialized bytes, and the writer does not touch them
        // until they are released, which takes `&mut self` (`pop`) while the slice borrows `self`
        // (`ring::tests::frames_come_out_in_order`).
        Some(unsafe { core::slice::from_raw_parts(bytes, len) })
    }

    /// Releases the oldest frame and returns its length; `None` if there is none.
    pub(crate) fn pop(&mut self) -> Option<usize> {
        let len = self.head()?;
        self.release(frame_words(len));
        Some(len)
    }

    /// The length of the oldest frame, padding before it released.
    fn head(&mut self) -> Option<usize> {
        let header = *self.words.peek().ok()?;
        if header & PADDING != PADDING {
            return Some(header as usize);
        }
        self.release((header >> 32) as usize);
        let header = *self.words.peek().ok()?;
        assert!(header & PADDING != PADDING, "padding stands only at the end of the buffer");
        Some(header as usize)
    }

    fn release(&mut self, words: usize) {
        let Ok(chunk) = self.words.read_chunk(words) else {
            unreachable!("a frame and the padding before it are published as a whole");
        };
        chunk.commit_all();
    }
}

/// The first `len` bytes of a frame's payload words.
fn payload_mut(words: &mut [MaybeUninit<u64>], len: usize) -> &mut [u8] {
    assert!(len <= words.len() * WORD_BYTES, "the frame was reserved for its length");
    // SAFETY: every word of the ring was written once when it was made, so these bytes are initialized; they are
    // borrowed from the chunk for as long as the slice lives (`ring::tests::frames_come_out_in_order`).
    unsafe { core::slice::from_raw_parts_mut(words.as_mut_ptr().cast::<u8>(), len) }
}

// Under loom only models run.
#[cfg(all(test, not(loom)))]
#[path = "ring_tests.rs"]
mod tests;
