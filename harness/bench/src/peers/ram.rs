//! Memory for the peers: pages of the heap, at the address that they have here.

use std::alloc::{Layout, alloc_zeroed, dealloc};

/// Zeroed memory that begins at a multiple of its alignment.
pub(crate) struct Ram {
    start: *mut u8,
    layout: Layout,
}

impl Ram {
    /// `bytes` bytes, aligned to `align`.
    pub(crate) fn new(bytes: usize, align: usize) -> Self {
        let layout = Layout::from_size_align(bytes, align).expect("a power of two");
        // SAFETY: the layout has a size: no caller asks for nothing.
        let start = unsafe { alloc_zeroed(layout) };
        assert!(!start.is_null(), "no memory");
        Self { start, layout }
    }

    /// Its address, which stands for the physical one.
    pub(crate) fn address(&self) -> usize {
        self.start.expose_provenance()
    }

    /// All of it.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the memory is ours, initialized, of that length, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.layout.size()) }
    }
}

impl Drop for Ram {
    fn drop(&mut self) {
        // SAFETY: it came from `alloc_zeroed` with this layout.
        unsafe { dealloc(self.start, self.layout) };
    }
}
