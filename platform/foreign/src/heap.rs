//! The heap for small records, in donated memory and nowhere else.
//!
//! Flow:  first range -> `Reserve` -> heap, until the component has the rest; then its frames -> heap.
//! Locks: its own. To grow it takes the component's locks, so it grows only for callers that hold no spin lock: those
//!        who have not masked interrupts through the component.
//! Owns:  what it took, for good; it never shrinks.
//!
//! `buddy_system_allocator` does the work. What grows is asked for with room to spare, so that who must not let it grow
//! finds some ([`make_room`], at the beginning of calls).

use alloc::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};

use buddy_system_allocator::Heap;
use rumpvm::phys::PageKind;
use rumpvm_arch::{PAGE_SIZE, PhysAddr};
use rumpvm_platform::Platform;

use crate::home::{self, Foreign};
use crate::hypercalls::calls;
use crate::lock::Lock;
use crate::{layer, machine};

/// Block sizes up to 2^31 bytes.
const ORDER: usize = 32;
/// It grows by 128 KiB at a time, or by as much as is asked for.
const GROW_BY: usize = 128 << 10;
/// It grows ahead of need when so little is left.
const LOW_WATER: usize = 64 << 10;

/// The allocator.
struct SmallRecords {
    heap: Lock<Heap<ORDER>>,
    /// Bytes that are left, as of the last call.
    left: AtomicUsize,
}

#[cfg_attr(feature = "standalone", global_allocator)]
static HEAP: SmallRecords =
    SmallRecords { heap: Lock::new(Heap::empty()), left: AtomicUsize::new(0) };

/// Where its memory comes from before the component has any: the first range, from its start on.
static RESERVE: Lock<(u64, u64)> = Lock::new((0, 0));

/// Lets it take from `start..end`, page-aligned, until [`end_reserve`].
pub(crate) fn begin_reserve(start: u64, end: u64) {
    *RESERVE.lock() = (start, end);
}

/// What it did not take of that.
pub(crate) fn end_reserve() -> (u64, u64) {
    core::mem::take(&mut *RESERVE.lock())
}

/// Gives it `start..end`, page-aligned, which may be empty.
pub(crate) fn give(start: u64, end: u64) {
    if start < end {
        HEAP.add(start, (end - start) as usize);
    }
}

/// Bytes that it has, and bytes that are handed out.
pub(crate) fn usage() -> (usize, usize) {
    let heap = HEAP.heap.lock();
    (heap.stats_total_bytes(), heap.stats_alloc_actual())
}

/// Lets it grow if little is left. Of callers without locks.
#[inline]
pub(crate) fn make_room() {
    if HEAP.left.load(Ordering::Relaxed) < LOW_WATER {
        HEAP.grow(Layout::new::<u64>());
    }
}

impl SmallRecords {
    fn note(&self, heap: &Heap<ORDER>) {
        self.left.store(heap.stats_total_bytes() - heap.stats_alloc_actual(), Ordering::Relaxed);
    }

    fn take(&self, layout: Layout) -> *mut u8 {
        let mut heap = self.heap.lock();
        let block = heap.alloc(layout);
        self.note(&heap);
        block.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    fn add(&self, start: u64, bytes: usize) {
        let start = Foreign.phys_to_virt(PhysAddr(start)).as_ptr() as usize;
        let mut heap = self.heap.lock();
        // SAFETY: the range is donated memory, mapped, and the heap's alone for good.
        unsafe { heap.add_to_heap(start, start + bytes) };
        self.note(&heap);
    }

    /// Grows by enough for `layout`; whether it did.
    fn grow(&self, layout: Layout) -> bool {
        let bytes = layout.size().max(layout.align()).max(GROW_BY).checked_next_power_of_two();
        // Blocks lie at multiples of their size. Where the range need not, one of that size is in twice as much.
        let Some(twice) = bytes.and_then(|bytes| bytes.checked_mul(2)) else { return false };
        let is_aligned = calls().direct_map.is_multiple_of(twice as u64 / 2);
        let bytes = if is_aligned { twice / 2 } else { twice };
        let taken = reserved(twice).map(|start| (start, twice));
        let taken = taken.or_else(|| Some((frames(bytes)?, bytes)));
        let Some((start, bytes)) = taken else { return false };
        self.add(start, bytes);
        true
    }
}

/// `bytes` bytes of the first range.
fn reserved(bytes: usize) -> Option<u64> {
    let mut reserve = RESERVE.lock();
    let (start, end) = *reserve;
    let next = start.checked_add(bytes as u64).filter(|next| *next <= end)?;
    *reserve = (next, end);
    Some(start)
}

/// `bytes` bytes, a power of two, of the component's frames.
fn frames(bytes: usize) -> Option<u64> {
    let phys = &layer::mmu(machine::get()?).phys;
    let run = phys.alloc_run((bytes / PAGE_SIZE as usize).trailing_zeros()).ok()?;
    let first = run.first();
    for fresh in phys.split_run(run) {
        phys.give(fresh, PageKind::Wired);
    }
    Some(first.start().0)
}

// SAFETY: `Heap` hands out disjoint blocks of at least the layout's size and alignment, and the lock makes
// the calls follow each other.
unsafe impl GlobalAlloc for SmallRecords {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut block = self.take(layout);
        if block.is_null() && !home::is_masked() && self.grow(layout) {
            block = self.take(layout);
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(block) = NonNull::new(block) else { return };
        let mut heap = self.heap.lock();
        // SAFETY: the caller got `block` from `alloc` with this layout.
        unsafe { heap.dealloc(block, layout) };
        self.note(&heap);
    }
}
