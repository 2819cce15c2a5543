//! `buddy-slab-allocator`: its buddy, behind the spin lock that its users put around it.

use std::hint::black_box;

use buddy_slab_allocator::BuddyAllocator;
use spin::Mutex;

use super::ram::Ram;
use crate::cases::frames::{ORDER, PAIRS};
use crate::meter::{Measured, Meter};

const PAGE: usize = 4096;
const BYTES: usize = 64 << 20;

/// One frame.
pub(crate) fn single(meter: Meter) -> Measured {
    pairs(meter, 1)
}

/// 512 frames in a row.
pub(crate) fn run(meter: Meter) -> Measured {
    pairs(meter, 1 << ORDER)
}

fn pairs(mut meter: Meter, frames: usize) -> Measured {
    let mut ram = Ram::new(BYTES, 2 << 20);
    let allocator = Mutex::new(BuddyAllocator::<PAGE>::new());
    // SAFETY: the memory is ours and lives longer than the allocator.
    unsafe { allocator.lock().init(ram.bytes()) }.expect("memory for its records");
    let pair = || {
        let first = allocator.lock().alloc_pages(frames, PAGE).expect("memory");
        allocator.lock().dealloc_pages(black_box(first), frames);
    };
    (0..100).for_each(|_| pair());
    let pairs = meter.scale(PAIRS.0, PAIRS.1);
    meter.measure(pairs, || (0..pairs).for_each(|_| pair()));
    meter.done()
}
