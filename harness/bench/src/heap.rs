//! The heap of this program: the system's, with a count of the bytes in use.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Of this thread: more than one would need an atomic, which costs as much as what is measured.
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

/// Bytes that this thread has allocated and nobody has freed on it.
pub(crate) fn bytes() -> i64 {
    BYTES.get()
}

pub(crate) struct Counting;

// SAFETY: every call is the system allocator's own; only a number is kept beside it.
unsafe impl GlobalAlloc for Counting {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.set(BYTES.get() + layout.size() as i64);
        // SAFETY: by the caller's promise.
        unsafe { System.alloc(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        BYTES.set(BYTES.get() - layout.size() as i64);
        // SAFETY: by the caller's promise.
        unsafe { System.dealloc(place, layout) }
    }
}
