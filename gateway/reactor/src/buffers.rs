//! The ring of receive buffers: the kernel picks one when bytes come, the reactor gives it back after the turn's
//! closure has seen them.

use io_uring::types::BufRingEntry;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

/// One ring has one group of buffers.
pub(crate) const GROUP: u16 = 0;

/// Page-aligned memory that is written once when it is made, so that no turn pays for its first touch.
struct Pages {
    start: NonNull<u8>,
    layout: Layout,
}

impl Pages {
    fn new(bytes: usize) -> Self {
        assert!(bytes > 0, "no memory is no allocation");
        let Ok(layout) = Layout::from_size_align(bytes, rustix::param::page_size()) else {
            unreachable!("the configuration bounds the buffers");
        };
        // SAFETY: the layout has a size above zero; a null pointer is handled before any use
        // (`buffers::tests::buffers_are_lent_and_given_back`).
        let start = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        // SAFETY: the whole allocation is ours and `bytes` long.
        unsafe { start.write_bytes(0, bytes) };
        Self { start, layout }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// Buffers and the ring through which they are given to the kernel.
pub(crate) struct Buffers {
    ring: Pages,
    data: Pages,
    count: u16,
    buffer_bytes: usize,
    tail: u16,
    /// Buffers that the kernel may use: counted here to catch one given back twice.
    given: u32,
}

impl Buffers {
    /// `count` buffers, all with the kernel as soon as the ring is registered.
    pub(crate) fn new(count: u16, buffer_bytes: u32) -> Self {
        assert!(count.is_power_of_two(), "the kernel masks its index");
        let ring = Pages::new(usize::from(count) * size_of::<BufRingEntry>());
        let data = Pages::new(usize::from(count) * buffer_bytes as usize);
        let mut buffers = Self { ring, data, count, buffer_bytes: buffer_bytes as usize, tail: 0, given: 0 };
        for buffer in 0..count {
            buffers.give(buffer);
        }
        buffers
    }

    pub(crate) fn address(&self) -> u64 {
        self.ring.start.as_ptr().addr() as u64
    }

    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// The first `len` bytes of a buffer that a completion named.
    pub(crate) fn lend(&mut self, buffer: u16, len: usize) -> &mut [u8] {
        assert!(
            buffer < self.count && len <= self.buffer_bytes,
            "the kernel named buffer {buffer} with {len} bytes"
        );
        let offset = usize::from(buffer) * self.buffer_bytes;
        // SAFETY: inside the allocation, initialized when it was made, and not the kernel's between its completion
        // and `give` (`loopback::echo_a_thousand_connections`).
        unsafe { std::slice::from_raw_parts_mut(self.data.start.as_ptr().add(offset), len) }
    }

    /// Gives a buffer back to the kernel.
    pub(crate) fn give_back(&mut self, buffer: u16) {
        assert!(buffer < self.count, "there is no buffer {buffer}");
        self.give(buffer);
    }

    /// A completion has taken a buffer from the kernel.
    pub(crate) fn taken(&mut self) {
        assert!(self.given > 0, "the kernel named a buffer that it does not have");
        self.given -= 1;
    }

    fn give(&mut self, buffer: u16) {
        assert!(self.given < u32::from(self.count), "a buffer is given back twice");
        self.given += 1;
        let entries = self.ring.start.as_ptr().cast::<BufRingEntry>();
        let index = usize::from(self.tail & (self.count - 1));
        let address = self.data.start.as_ptr().addr() + usize::from(buffer) * self.buffer_bytes;
        // SAFETY: the index is masked to the ring, and the kernel reads an entry only after the tail says so; the
        // tail stands in a field of the first entry that is not written here.
        unsafe {
            let entry = &mut *entries.add(index);
            entry.set_addr(address as u64);
            entry.set_len(self.buffer_bytes as u32);
            entry.set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail is two aligned bytes in the ring's memory, shared with the kernel and atomic on both sides.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(entries).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_lent_and_given_back() {
        let mut buffers = Buffers::new(4, 100);
        for buffer in 0..4 {
            buffers.taken();
            buffers.lend(buffer, 100).fill(buffer as u8);
        }
        for buffer in 0..4 {
            assert!(buffers.lend(buffer, 100).iter().all(|&byte| byte == buffer as u8));
            buffers.give_back(buffer);
        }
    }

    #[test]
    #[should_panic(expected = "given back twice")]
    fn a_buffer_given_back_twice_is_a_bug() {
        Buffers::new(4, 100).give_back(0);
    }
}
