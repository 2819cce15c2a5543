//! `buddy_system_allocator`: its frame allocator, which keeps free blocks in B-trees.

use std::hint::black_box;

use buddy_system_allocator::FrameAllocator;

use crate::cases::frames::{ORDER, PAIRS};
use crate::meter::{Measured, Meter};

/// One frame.
pub(crate) fn single(meter: Meter) -> Measured {
    pairs(meter, 1)
}

/// 512 frames in a row.
pub(crate) fn run(meter: Meter) -> Measured {
    pairs(meter, 1 << ORDER)
}

fn pairs(mut meter: Meter, frames: usize) -> Measured {
    let mut allocator = FrameAllocator::<32>::new();
    allocator.add_frame(0, 1 << 14);
    let mut pair = || {
        let first = allocator.alloc(frames).expect("memory");
        allocator.dealloc(black_box(first), frames);
    };
    (0..100).for_each(|_| pair());
    let pairs = meter.scale(PAIRS.0, PAIRS.1);
    meter.measure(pairs, || (0..pairs).for_each(|_| pair()));
    meter.done()
}
