//! Frames, taken and given back at once.

use std::hint::black_box;

use super::on_cpu;
use crate::meter::{Measured, Meter};

/// Pairs of taking and giving back.
pub(crate) const PAIRS: (u64, u64) = (200_000, 2_000);
/// 2 MiB.
pub(crate) const ORDER: u32 = 9;
const MEMORY: u64 = 64 << 20;

/// One frame.
pub(crate) fn single(meter: Meter) -> Measured {
    on_cpu(MEMORY, meter, |vm, meter| {
        let phys = &vm.mmu.phys;
        let pair = || phys.free(black_box(phys.alloc().expect("a frame")));
        (0..100).for_each(|_| pair());
        let pairs = meter.scale(PAIRS.0, PAIRS.1);
        meter.measure(pairs, || (0..pairs).for_each(|_| pair()));
    })
}

/// 512 frames in a row.
pub(crate) fn run(meter: Meter) -> Measured {
    on_cpu(MEMORY, meter, |vm, meter| {
        let phys = &vm.mmu.phys;
        let pair = || phys.free_run(black_box(phys.alloc_run(ORDER).expect("2 MiB in a row")));
        (0..100).for_each(|_| pair());
        let pairs = meter.scale(PAIRS.0, PAIRS.1);
        meter.measure(pairs, || (0..pairs).for_each(|_| pair()));
    })
}
