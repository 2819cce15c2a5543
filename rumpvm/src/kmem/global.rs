//! A kernel heap as Rust's global allocator.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};

use rumpvm_platform::Platform;

use super::KernelHeap;
use crate::NoMemory;
use crate::phys::Phys;

/// A heap on the memory of one machine that lives for good. It is made of boxes itself, so a host that has no other
/// allocator begins with a `phys::BootHeap`, and tells blocks of the two apart by their addresses; [`guide`](crate::guide), step 1, has
/// both. The first serves again while [`Vm::check`](crate::Vm::check) runs.
pub struct HostHeap<P: Platform> {
    phys: &'static Phys<P>,
    heap: KernelHeap<P>,
}

impl<P: Platform> HostHeap<P> {
    /// A heap on `phys`.
    pub fn try_new(phys: &'static Phys<P>) -> Result<Self, NoMemory> {
        Ok(Self { phys, heap: KernelHeap::try_new(phys)? })
    }

    /// The heap.
    pub fn heap(&self) -> &KernelHeap<P> {
        &self.heap
    }
}

// SAFETY: blocks are disjoint, of at least the layout's size, at multiples of its alignment (K1), and stay until they are
// given back. It does not unwind.
unsafe impl<P: Platform> GlobalAlloc for HostHeap<P> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.heap.alloc(self.phys, layout).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: by the caller's promise.
            unsafe { self.heap.free(self.phys, block, layout) };
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(block) = NonNull::new(block) else { return ptr::null_mut() };
        // SAFETY: by the caller's promise.
        let moved = unsafe { self.heap.realloc(self.phys, block, layout, size) };
        moved.map_or(ptr::null_mut(), NonNull::as_ptr)
    }
}
