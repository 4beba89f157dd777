//! Batch memory: aligned, recycled, bounded, and unmoved while the kernel writes it.

use crate::limits::BLOCK_BYTES_MAX;
use core::ops::Deref;
use std::sync::Arc;

const ALIGN: usize = BLOCK_BYTES_MAX as usize;

/// One buffer. Its bytes start at a multiple of 4096, as direct writes want it.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    class: usize,
}

impl Buffer {
    /// A zeroed buffer of `ALIGN << class` bytes; over-allocated so that an aligned start lies in it.
    fn new(class: usize) -> Self {
        let bytes = vec![0; class_bytes(class) + ALIGN - 1];
        let start = bytes.as_ptr().addr().wrapping_neg() & (ALIGN - 1);
        Self { bytes, start, class }
    }

    pub(crate) const fn capacity(&self) -> usize {
        class_bytes(self.class)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.capacity()]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let end = self.start + self.capacity();
        &mut self.bytes[self.start..end]
    }
}

const fn class_bytes(class: usize) -> usize {
    ALIGN << class
}

/// What a buffer takes of memory, its slack for alignment included.
const fn class_cost(class: usize) -> usize {
    class_bytes(class) + ALIGN
}

/// What a buffer for `bytes` takes of memory.
pub(crate) const fn buffer_cost(bytes: usize) -> usize {
    class_cost(class_of(bytes))
}

/// The smallest class that holds `bytes`.
const fn class_of(bytes: usize) -> usize {
    bytes.div_ceil(ALIGN).next_power_of_two().ilog2() as usize
}

/// The bytes of a batch, shared: they stay where they are and what they are as long as any clone lives.
#[derive(Clone, Debug)]
pub struct BatchBytes {
    buffer: Arc<Buffer>,
    len: usize,
}

impl BatchBytes {
    pub(crate) fn new(buffer: &Arc<Buffer>, len: usize) -> Self {
        debug_assert!(len <= buffer.capacity());
        Self { buffer: Arc::clone(buffer), len }
    }
}

impl Deref for BatchBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer.bytes()[..self.len]
    }
}

impl AsRef<[u8]> for BatchBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// A buffer that only its holder sees, and the shared shell it goes back into. The shell is recycled with it, so
/// that neither taking nor sharing allocates.
#[derive(Debug)]
pub(crate) struct OwnBuffer {
    pub(crate) buffer: Buffer,
    shell: Arc<Buffer>,
}

impl OwnBuffer {
    /// Ends the exclusive hold.
    pub(crate) fn share(mut self) -> Arc<Buffer> {
        let inside = Arc::get_mut(&mut self.shell).expect("an empty shell is never shared");
        *inside = self.buffer;
        self.shell
    }
}

/// Buffers of all sizes, in powers of two, at most `limit` bytes of them together.
#[derive(Debug)]
pub(crate) struct BufferPool {
    free: Vec<Vec<Arc<Buffer>>>,
    /// Given back while somebody still held a clone.
    lingering: Vec<Arc<Buffer>>,
    allocated: usize,
    limit: usize,
}

impl BufferPool {
    /// A pool for buffers of up to `largest` bytes.
    pub(crate) fn new(limit: usize, largest: usize) -> Self {
        let free = (0..=class_of(largest)).map(|_| Vec::new()).collect();
        Self { free, lingering: Vec::new(), allocated: 0, limit }
    }

    /// A buffer of at least `bytes`; `None` if the limit leaves no room. Its content is arbitrary.
    pub(crate) fn take(&mut self, bytes: usize) -> Option<OwnBuffer> {
        let class = class_of(bytes);
        debug_assert!(class < self.free.len());
        self.reclaim();
        let held = self.free[class].pop().or_else(|| self.allocate(class)).or_else(|| self.larger(class));
        let found = held.or_else(|| {
            self.evict_below(class);
            self.allocate(class)
        });
        found.map(own)
    }

    /// A buffer of at least `bytes`, past the limit if it must be: for the ends of segments, which cannot be put off. They are
    /// of any size and soon given back, so a larger buffer that is free comes before a new one.
    pub(crate) fn take_unbounded(&mut self, bytes: usize) -> OwnBuffer {
        let class = class_of(bytes);
        self.reclaim();
        if let Some(held) = self.larger(class) {
            return own(held);
        }
        self.take(bytes).unwrap_or_else(|| {
            self.allocated += class_cost(class);
            own(Arc::new(Buffer::new(class)))
        })
    }

    /// Takes a buffer back.
    pub(crate) fn give(&mut self, mut buffer: Arc<Buffer>) {
        if Arc::get_mut(&mut buffer).is_none() {
            self.lingering.push(buffer);
        } else if self.allocated > self.limit {
            self.allocated -= class_cost(buffer.class);
        } else {
            self.free[buffer.class].push(buffer);
        }
    }

    /// Bytes of all buffers, free or not.
    pub(crate) const fn allocated(&self) -> usize {
        self.allocated
    }

    fn reclaim(&mut self) {
        for _ in 0..self.lingering.len() {
            if let Some(buffer) = self.lingering.pop() {
                self.give(buffer);
            }
        }
    }

    fn allocate(&mut self, class: usize) -> Option<Arc<Buffer>> {
        let fits = self.allocated + class_cost(class) <= self.limit;
        fits.then(|| {
            self.allocated += class_cost(class);
            Arc::new(Buffer::new(class))
        })
    }

    /// Drops free smaller buffers until one of `class` fits, if they suffice.
    fn evict_below(&mut self, class: usize) {
        let free = self.free[..class].iter().enumerate().map(|(class, free)| free.len() * class_cost(class));
        if self.allocated + class_cost(class) > self.limit + free.sum::<usize>() {
            return;
        }
        for smaller in 0..class {
            while self.allocated + class_cost(class) > self.limit && self.free[smaller].pop().is_some() {
                self.allocated -= class_cost(smaller);
            }
        }
    }

    fn larger(&mut self, class: usize) -> Option<Arc<Buffer>> {
        self.free[class..].iter_mut().find_map(Vec::pop)
    }
}

fn own(mut shell: Arc<Buffer>) -> OwnBuffer {
    let inside = Arc::get_mut(&mut shell).expect("a free buffer is never shared");
    let buffer = core::mem::take(inside);
    OwnBuffer { buffer, shell }
}
