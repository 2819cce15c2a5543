//! The kernel's heap: Rust's global allocator, for small records.
//!
//! `buddy_system_allocator` does the work. It begins with what is free of the first megabyte, and grows by
//! frames, first from boot, then from the component. It never shrinks.
//!
//! Locks: its own. To grow it takes the component's locks, so it grows only for callers that hold none: those
//!        with interrupts on, because who holds a spin lock has masked them.

use alloc::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};

use buddy_system_allocator::Heap;
use rumpvm_arch::{PAGE_SIZE, PhysAddr, interrupts_on};

use crate::boot::BootInfo;
use crate::layout::direct;
use crate::lock::Lock;
use crate::memory;

/// Block sizes up to 2^31 bytes.
const ORDER: usize = 32;
/// It grows by 256 KiB at a time, or by as much as is asked for.
const GROW_BY: usize = 256 << 10;
/// It grows ahead of need when so little is left, for those who cannot let it grow.
const LOW_WATER: usize = 64 << 10;

/// The allocator.
struct KernelHeap {
    heap: Lock<Heap<ORDER>>,
    /// Bytes that are left, as of the last call.
    left: AtomicUsize,
}

#[cfg_attr(target_os = "none", global_allocator)]
static HEAP: KernelHeap = KernelHeap { heap: Lock::new(Heap::empty()), left: AtomicUsize::new(0) };

/// Gives it its first memory.
pub(crate) fn start(boot: &BootInfo) {
    if let Some((start, end)) = memory::low_heap(boot) {
        HEAP.add(PhysAddr(start), (end - start) as usize);
    }
}

/// Bytes that it has, and bytes that are handed out.
pub fn usage() -> (usize, usize) {
    let heap = HEAP.heap.lock();
    (heap.stats_total_bytes(), heap.stats_alloc_actual())
}

/// Lets it grow until `bytes` are left, and what is always left besides, for who must not make it grow; whether there
/// was memory.
#[inline]
pub fn make_room(bytes: usize) -> bool {
    let has_room = HEAP.left.load(Ordering::Relaxed) >= bytes + LOW_WATER;
    has_room || Layout::from_size_align(bytes, 1).is_ok_and(|layout| HEAP.grow(layout))
}

impl KernelHeap {
    fn add(&self, start: PhysAddr, bytes: usize) {
        let start = direct(start) as usize;
        let mut heap = self.heap.lock();
        // SAFETY: the range is mapped, and the heap's alone for good: `low_heap` and `frames` give each once.
        unsafe { heap.add_to_heap(start, start + bytes) };
        self.left.store(heap.stats_total_bytes() - heap.stats_alloc_actual(), Ordering::Relaxed);
    }

    fn take(&self, layout: Layout) -> *mut u8 {
        let mut heap = self.heap.lock();
        let block = heap.alloc(layout);
        self.left.store(heap.stats_total_bytes() - heap.stats_alloc_actual(), Ordering::Relaxed);
        block.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    /// Grows by enough for `layout`; whether it did.
    fn grow(&self, layout: Layout) -> bool {
        let bytes = layout.size().max(layout.align()).max(GROW_BY).next_power_of_two();
        let order = (bytes / PAGE_SIZE as usize).trailing_zeros();
        let Some(start) = memory::frames(order) else { return false };
        self.add(start, bytes);
        true
    }
}

// SAFETY: `Heap` hands out disjoint blocks of at least the layout's size and alignment, and the lock makes
// the calls follow each other.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut block = self.take(layout);
        let may_grow = interrupts_on() || !memory::is_taken();
        if may_grow {
            if block.is_null() && self.grow(layout) {
                block = self.take(layout);
            }
            if self.left.load(Ordering::Relaxed) < LOW_WATER {
                // If there is nothing, the next one who needs it will say so.
                self.grow(Layout::new::<u64>());
            }
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(block) = NonNull::new(block) else { return };
        let mut heap = self.heap.lock();
        // SAFETY: the caller got `block` from `alloc` with this layout.
        unsafe { heap.dealloc(block, layout) };
        self.left.store(heap.stats_total_bytes() - heap.stats_alloc_actual(), Ordering::Relaxed);
    }
}
