//! Areas: made, given up, and found, among many.

use std::hint::black_box;

use rumpvm::sync::Tree;
use rumpvm::{Area, AreaFlags, Limits, Space, Vm};
use rumpvm_arch::{PAGE_SIZE, Prot, VirtAddr, VirtRange};

use super::{BASE, leave, map, on_cpu, space};
use crate::machine::Home;
use crate::meter::{Measured, Meter};

/// Each area has four pages of address space: its own, and a gap in which another one fits without touching.
pub(crate) const STRIDE: u64 = 4 * PAGE_SIZE;
pub(crate) const THOUSAND: u64 = 1_000;
pub(crate) const HUNDRED_THOUSAND: u64 = 100_000;
/// Pairs of calls, or searches.
pub(crate) const TIMES: (u64, u64) = (20_000, 500);
const MEMORY: u64 = 16 << 20;

/// Places in random order, the same every time.
pub(crate) struct Places(u64);

impl Places {
    pub(crate) fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    /// A place below `count` (xorshift).
    #[inline]
    pub(crate) fn next(&mut self, count: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((u128::from(self.0) * u128::from(count)) >> 64) as u64
    }
}

/// mmap and munmap among a thousand areas.
pub(crate) fn thousand(meter: Meter) -> Measured {
    among(THOUSAND, meter)
}

/// mmap and munmap among a hundred thousand areas.
pub(crate) fn hundred_thousand(meter: Meter) -> Measured {
    among(HUNDRED_THOUSAND, meter)
}

fn among(count: u64, meter: Meter) -> Measured {
    on_cpu(MEMORY, meter, move |vm, meter| {
        let space = space(vm);
        fill(vm, &space, count);
        let mut places = Places::new();
        let mut pair = || {
            let at = BASE + places.next(count) * STRIDE + STRIDE / 2;
            map(vm, &space, at, 1, Prot::RW);
            space.munmap(vm, at, PAGE_SIZE).expect("memory for the change");
        };
        (0..500).for_each(|_| pair());
        let pairs = meter.scale(TIMES.0, TIMES.1);
        meter.measure(pairs, || (0..pairs).for_each(|_| pair()));
        leave(vm, &space);
    })
}

/// Maps `count` single pages, a stride apart, from the lowest up.
pub(crate) fn fill(vm: &Vm<Home>, space: &Space<Home>, count: u64) {
    space.set_limits(Limits { areas: 1 << 20, ..space.limits() });
    for at in 0..count {
        map(vm, space, BASE + at * STRIDE, 1, Prot::RW);
    }
}

/// Finding the area of an address, as a fault does.
pub(crate) fn lookup(meter: Meter) -> Measured {
    on_cpu(MEMORY, meter, |vm, meter| {
        let epoch = &vm.mmu.phys.epoch;
        let (tree, mut writer) = Tree::<Area<Home>, Home>::new();
        for at in 0..HUNDRED_THOUSAND {
            let area = area(BASE + at * STRIDE);
            let (lo, hi) = (area.range.start.0, area.range.end.0);
            let mut edit = tree.edit(&mut writer);
            edit.splice(lo, hi, vec![area]).expect("memory for the change");
            edit.commit(epoch);
        }
        let mut places = Places::new();
        let mut find = || {
            let at = BASE + places.next(HUNDRED_THOUSAND) * STRIDE + PAGE_SIZE / 2;
            let pin = epoch.pin();
            black_box(tree.get(&pin, at.0).is_some());
        };
        (0..1000).for_each(|_| find());
        let times = meter.scale(10 * TIMES.0, TIMES.1);
        meter.measure(times, || (0..times).for_each(|_| find()));
    })
}

fn area(at: VirtAddr) -> Area<Home> {
    Area {
        range: VirtRange::new(at, at + PAGE_SIZE),
        prot: Prot::RW,
        max_prot: Prot::ALL,
        flags: AreaFlags::empty(),
        object: None,
        accounted: false,
        offset: 0,
    }
}
