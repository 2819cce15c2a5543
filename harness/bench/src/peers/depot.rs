//! `frame-alloc`: its magazines and depot over its summary buddy, for one CPU.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::ptr::{self, NonNull};

use frame_alloc::{
    DepotAllocator, NoCpuId, PageSize, PhysicalAllocator, Provenance, RegionInit,
    SummaryBuddyAllocator,
};

use super::ram::Ram;
use crate::cases::frames::{ORDER, PAIRS};
use crate::meter::{Measured, Meter};

const PAGE: PageSize = PageSize::from_log2(12);
const ORDERS: usize = 11;
const BYTES: usize = 64 << 20;

struct Heap;

// SAFETY: addresses are those of this process, whose memory `Ram` exposed.
unsafe impl Provenance for Heap {
    unsafe fn create(at: usize) -> NonNull<u8> {
        // SAFETY: no memory begins at 0.
        unsafe { NonNull::new_unchecked(ptr::with_exposed_provenance_mut(at)) }
    }
    unsafe fn destroy<T>(at: NonNull<T>) -> usize {
        at.addr().get()
    }
}

type Allocator = DepotAllocator<SummaryBuddyAllocator<ORDERS, Heap>, NoCpuId, 1>;

/// One frame.
pub(crate) fn single(meter: Meter) -> Measured {
    pairs(meter, 1)
}

/// 512 frames in a row.
pub(crate) fn run(meter: Meter) -> Measured {
    pairs(meter, 1 << ORDER)
}

fn pairs(mut meter: Meter, frames: usize) -> Measured {
    let ram = Ram::new(BYTES, 4096 << (ORDERS - 1));
    let allocator = Box::new(Allocator::new(PAGE, SummaryBuddyAllocator::new(PAGE)));
    // SAFETY: the memory is ours, aligned to the largest block, and lives longer than the allocator.
    unsafe { allocator.init_region(ram.address(), BYTES) };
    let count = NonZeroUsize::new(frames).expect("a run has frames");
    let pair = || {
        let first = allocator.allocate_physical(PAGE, count).expect("memory");
        // SAFETY: it is what was just allocated.
        unsafe { allocator.deallocate_physical(PAGE, count, black_box(first)) };
    };
    (0..100).for_each(|_| pair());
    let pairs = meter.scale(PAIRS.0, PAIRS.1);
    meter.measure(pairs, || (0..pairs).for_each(|_| pair()));
    meter.done()
}
