//! The heap of a run: memory that is given out once, and forgotten when the run ends.
//!
//! A schedule is repeated only if its addresses are. While a run is under way everything that it allocates comes
//! from one region of the host thread, from its beginning upward; what is freed is soiled and not given out
//! again, so whoever still uses it is found out; and a run that is abandoned in the middle leaves nothing behind.
//! A program that explores makes [`RunHeap`] its global allocator.
//!
//! Locks: none; a region belongs to one host thread. Owns: the regions.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io;
use std::ptr;

use memmap2::{MmapMut, MmapRaw};

/// Address space of one region. The host fills it in as it is used, some 200 KiB for a small machine.
const REGION: usize = 1 << 30;

/// What freed memory is overwritten with.
const FREED: u8 = 0xdd;

/// Longest piece of freed memory that is soiled: what is longer is a table, not a record.
const SOILED: usize = 4096;

thread_local! {
    static BASE: Cell<usize> = const { Cell::new(0) };
    static NEXT: Cell<usize> = const { Cell::new(0) };
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    static LIVE: Cell<i64> = const { Cell::new(0) };
    /// Allocations of this thread outside any run, less those that it freed; counted in debug builds.
    static OUTSIDE: Cell<i64> = const { Cell::new(0) };
    /// Called before memory of the run is freed.
    static ON_FREE: Cell<Option<fn()>> = const { Cell::new(None) };
}

/// The global allocator of a program that explores.
pub struct RunHeap;

/// The region of one host thread.
pub(super) struct Region {
    _map: MmapRaw,
}

impl Region {
    /// Makes the calling host thread's region. One for each thread.
    pub(super) fn new(on_free: fn()) -> io::Result<Self> {
        let map: MmapRaw = MmapMut::map_anon(REGION)?.into();
        let base = map.as_mut_ptr() as usize;
        assert_eq!(BASE.replace(base), 0, "a host thread explores one machine at a time");
        NEXT.set(base);
        LIVE.set(0);
        ON_FREE.set(Some(on_free));
        Ok(Self { _map: map })
    }

    /// Forgets all that was allocated.
    pub(super) fn reset(&self) {
        NEXT.set(BASE.get());
        LIVE.set(0);
    }

    /// Allocations that have not been freed.
    pub(super) fn live(&self) -> i64 {
        LIVE.get()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        BASE.set(0);
        ON_FREE.set(None);
    }
}

/// Says whether what is allocated from now on belongs to the run; returns what was the case.
#[inline]
pub(super) fn enter(inside: bool) -> bool {
    INSIDE.replace(inside)
}

#[inline]
fn count_outside(more: i64) {
    if cfg!(debug_assertions) {
        OUTSIDE.set(OUTSIDE.get() + more);
    }
}

/// Allocations that this thread of the host made outside any run, less those that it freed; zero in a release
/// build. All that a machine with one CPU allocates and frees is its CPU's thread's.
pub fn records_here() -> i64 {
    OUTSIDE.get()
}

/// Offset of `address` in this thread's region.
#[inline]
pub(super) fn offset(address: usize) -> Option<usize> {
    let offset = address.wrapping_sub(BASE.get());
    (offset < REGION && BASE.get() != 0).then_some(offset)
}

// SAFETY:
// - Pieces of a region are disjoint, because `NEXT` only grows while they live, and aligned below.
// - Everything else is the system's allocator, and each piece goes back to where it came from: by its address.
unsafe impl GlobalAlloc for RunHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !INSIDE.get() {
            count_outside(1);
            // SAFETY: the caller's promises are the same.
            return unsafe { System.alloc(layout) };
        }
        let start = NEXT.get().next_multiple_of(layout.align().max(16));
        let end = start + layout.size();
        if end > BASE.get() + REGION {
            return ptr::null_mut();
        }
        NEXT.set(end);
        LIVE.set(LIVE.get() + 1);
        ptr::with_exposed_provenance_mut(start)
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if offset(at.addr()).is_none() {
            count_outside(-1);
            // SAFETY: it is in no region of this thread, so the system gave it out.
            return unsafe { System.dealloc(at, layout) };
        }
        if INSIDE.get()
            && let Some(hook) = ON_FREE.get()
        {
            hook();
        }
        LIVE.set(LIVE.get() - 1);
        // SAFETY: the caller gives these bytes up, and nobody gets them again in this run.
        unsafe { ptr::write_bytes(at, FREED, layout.size().min(SOILED)) };
    }
}
