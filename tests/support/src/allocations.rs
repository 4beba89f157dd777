//! Counting allocations, so that a test can show that a path has none once it is warm.
//!
//! A test binary declares the allocator and asks what a closure does on its own thread:
//!
//! ```
//! use tidegate_tests_support::{Allocations, CountingAllocator, allocations};
//!
//! #[global_allocator]
//! static ALLOCATOR: CountingAllocator = CountingAllocator;
//!
//! let (taken, block) = allocations(|| vec![0_u8; 100]);
//! assert_eq!((taken, block.len()), (Allocations { count: 1, bytes: 100 }, 100));
//! let (taken, ()) = allocations(|| ());
//! assert_eq!(taken, Allocations::default());
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Constant and without a destructor: reaching it allocates nothing.
    static TAKEN: Cell<Allocations> = const { Cell::new(Allocations { count: 0, bytes: 0 }) };
    /// Bytes taken and not given back on this thread, and the most there were since somebody asked.
    static HELD: Cell<(i64, i64)> = const { Cell::new((0, 0)) };
}

/// What was taken from the heap; giving back is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocations {
    /// Blocks allocated or grown.
    pub count: u64,
    /// Bytes asked for; a grown block counts with its new size.
    pub bytes: u64,
}

/// The system's allocator, counting per thread.
#[derive(Debug)]
pub struct CountingAllocator;

/// What a closure takes on this thread, and its result. Nothing is counted unless [`CountingAllocator`] is the
/// global allocator, so a test also shows that it counts.
pub fn allocations<R>(work: impl FnOnce() -> R) -> (Allocations, R) {
    let before = TAKEN.get();
    let result = work();
    let after = TAKEN.get();
    (Allocations { count: after.count - before.count, bytes: after.bytes - before.bytes }, result)
}

/// The most bytes that a closure holds at a time on this thread, beyond those held before it, and its result. What one
/// thread takes and another gives back is counted wrongly.
pub fn most_held<R>(work: impl FnOnce() -> R) -> (u64, R) {
    let (before, _) = HELD.get();
    HELD.set((before, before));
    let result = work();
    let (_, most) = HELD.get();
    (u64::try_from(most - before).unwrap_or(0), result)
}

/// Bytes taken and not given back on this thread so far. What one thread takes and another gives back is counted wrongly.
#[must_use]
pub fn held_bytes() -> i64 {
    HELD.get().0
}

fn hold(bytes: i64) {
    let _ = HELD.try_with(|held| {
        let (now, most) = held.get();
        held.set((now + bytes, most.max(now + bytes)));
    });
}

fn take(bytes: usize) {
    // A thread that is ending has no counter any more, and nobody who asks.
    let _ = TAKEN.try_with(|taken| {
        let Allocations { count, bytes: before } = taken.get();
        taken.set(Allocations { count: count + 1, bytes: before + bytes as u64 });
    });
}

// SAFETY: every call goes to `System` with the caller's own arguments, so its promises are the caller's; the
// counter is touched without allocating. The example above breaks if a call does not arrive.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        hold(layout.size() as i64);
        // SAFETY: the caller's promise about the layout is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        hold(layout.size() as i64);
        // SAFETY: the caller's promise about the layout is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        take(new_size);
        hold(new_size as i64 - layout.size() as i64);
        // SAFETY: `block` came from `System` with this layout, since every allocation here does.
        unsafe { System.realloc(block, layout, new_size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        hold(-(layout.size() as i64));
        // SAFETY: `block` came from `System` with this layout, since every allocation here does.
        unsafe { System.dealloc(block, layout) }
    }
}
