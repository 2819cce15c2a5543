//! The bootstrap heap: small records for homes that bring no allocator.
//!
//! A kernel that links rumpvm usually has no `#[global_allocator]`; this one serves out of ranges that it
//! is given, such as a megabyte of its image (`guide`, step 1). `buddy_system_allocator` does the work: its list scans
//! are slow (thousands of cycles when fragmented), which is why nothing on a fault's path uses it; frames
//! come from the magazines.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};

use buddy_system_allocator::Heap;
use rumpvm_platform::Seam;

use crate::sync::{Spin, class};

/// Block sizes up to 2^31 bytes.
const ORDER: usize = 32;

/// A heap behind a spin lock of the component.
pub struct BootHeap<S> {
    heap: Spin<Heap<ORDER>, S>,
}

impl<S: Seam> Default for BootHeap<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Seam> BootHeap<S> {
    /// A heap without memory. For a `static`.
    pub const fn new() -> Self {
        Self { heap: Spin::new(&class::HEAP, Heap::empty()) }
    }

    /// Gives the heap `length` bytes at `start`.
    ///
    /// # Safety
    /// The range is mapped, writable, and the heap's alone for as long as the heap is used.
    pub unsafe fn add(&self, start: NonNull<u8>, length: usize) {
        let start = start.as_ptr() as usize;
        // SAFETY: by the caller's promise.
        unsafe { self.heap.lock().add_to_heap(start, start + length) };
    }

    /// Bytes that were given, and bytes that are handed out.
    pub fn usage(&self) -> (usize, usize) {
        let heap = self.heap.lock();
        (heap.stats_total_bytes(), heap.stats_alloc_actual())
    }
}

// SAFETY: `Heap` hands out disjoint blocks of at least the layout's size and alignment, and the lock makes
// the calls follow each other.
unsafe impl<S: Seam> GlobalAlloc for BootHeap<S> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.heap.lock().alloc(layout).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller got `block` from `alloc` with this layout.
            unsafe { self.heap.lock().dealloc(block, layout) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rumpvm_platform::CpuId;

    struct OneCpu;
    impl Seam for OneCpu {
        fn cpu_id() -> CpuId {
            CpuId(0)
        }
    }

    #[test]
    fn blocks_are_disjoint_and_come_back_and_an_empty_heap_says_so() {
        let heap = BootHeap::<OneCpu>::new();
        let layout = Layout::from_size_align(48, 16).unwrap();
        // SAFETY: the layout has a size.
        assert!(unsafe { heap.alloc(layout) }.is_null());
        let mut memory = alloc::vec![0u64; 512];
        let start = NonNull::new(memory.as_mut_ptr().cast()).unwrap();
        // SAFETY: `memory` outlives the heap's use and is not touched meanwhile.
        unsafe { heap.add(start, 4096) };
        // SAFETY: the layout has a size, and blocks are given back once with the same layout.
        unsafe {
            let a = heap.alloc(layout);
            let b = heap.alloc(layout);
            assert!(!a.is_null() && !b.is_null() && a.addr().abs_diff(b.addr()) >= 48);
            assert!(heap.usage().0 >= 2048 && heap.usage().1 >= 96);
            heap.dealloc(a, layout);
            heap.dealloc(b, layout);
        }
        assert_eq!(heap.usage().1, 0);
    }
}
