//! Allocators for `no_std`, each behind a spin lock, with memory of its own.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::{self, NonNull};

use spin::mutex::SpinMutex;

use super::MEMORY;

/// Memory for one of them, for good.
fn memory() -> (*mut u8, usize) {
    // SAFETY: the layout has a size.
    let start = unsafe { System.alloc(Layout::from_size_align(MEMORY, 1 << 20).expect("a size")) };
    assert!(!start.is_null(), "the host has memory");
    (start, MEMORY)
}

/// `talc`.
pub(crate) struct Talc(SpinMutex<talc::Talc<talc::ErrOnOom>>);

impl Talc {
    pub(crate) fn new() -> Self {
        let mut inner = talc::Talc::new(talc::ErrOnOom);
        let (start, size) = memory();
        // SAFETY: the memory is nobody else's, for good.
        unsafe { inner.claim(talc::Span::from_base_size(start, size)) }.expect("it is enough");
        Self(SpinMutex::new(inner))
    }
}

// SAFETY: `Talc` hands out what layouts ask for, and the lock makes the calls follow each other.
unsafe impl GlobalAlloc for Talc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the layout has a size, by the caller's promise.
        unsafe { self.0.lock().malloc(layout) }.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: by the caller's promise.
            unsafe { self.0.lock().free(block, layout) };
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(old) = NonNull::new(block) else { return ptr::null_mut() };
        let mut inner = self.0.lock();
        if size <= layout.size() {
            // SAFETY: by the caller's promise; the size is smaller, and not zero.
            unsafe { inner.shrink(old, layout, size) };
            return block;
        }
        // SAFETY: as above; the size is larger.
        unsafe { inner.grow(old, layout, size) }.map_or(ptr::null_mut(), NonNull::as_ptr)
    }
}

/// `buddy_system_allocator::Heap`.
pub(crate) struct Buddy(SpinMutex<buddy_system_allocator::Heap<32>>);

impl Buddy {
    pub(crate) fn new() -> Self {
        let mut inner = buddy_system_allocator::Heap::new();
        let (start, size) = memory();
        // SAFETY: the memory is nobody else's, for good.
        unsafe { inner.init(start as usize, size) };
        Self(SpinMutex::new(inner))
    }
}

// SAFETY: as of `Talc`.
unsafe impl GlobalAlloc for Buddy {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.lock().alloc(layout).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: by the caller's promise.
            unsafe { self.0.lock().dealloc(block, layout) };
        }
    }
}

/// `linked_list_allocator::Heap`.
pub(crate) struct LinkedList(SpinMutex<linked_list_allocator::Heap>);

impl LinkedList {
    pub(crate) fn new() -> Self {
        let mut inner = linked_list_allocator::Heap::empty();
        let (start, size) = memory();
        // SAFETY: the memory is nobody else's, for good.
        unsafe { inner.init(start, size) };
        Self(SpinMutex::new(inner))
    }
}

// SAFETY: as of `Talc`.
unsafe impl GlobalAlloc for LinkedList {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.lock().allocate_first_fit(layout).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: by the caller's promise.
            unsafe { self.0.lock().deallocate(block, layout) };
        }
    }
}
