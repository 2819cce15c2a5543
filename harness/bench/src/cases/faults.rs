//! Faults on memory that nobody had touched.

use rumpvm::{Space, Vm};
use rumpvm_arch::{Access, PAGE_SIZE, Prot, VirtAddr};

use super::{BASE, leave, map, on_cpu, space};
use crate::machine::Home;
use crate::meter::{Measured, Meter};

/// Frames that the machine's stock of zeroed ones holds; with a fault for each, zeroing is never part of one.
const STOCK: u64 = 16;
/// Pages of the memory that is touched.
const PAGES: u64 = 4096;

/// The first store to a page: its frame is zeroed already, the rest of the fault is measured. One fault in 512
/// makes a table and a node, and there are other areas, as in any program.
pub(crate) fn fresh(meter: Meter) -> Measured {
    on_cpu(128 << 20, meter, |vm, meter| {
        let space = space(vm);
        for other in 1..100 {
            map(vm, &space, BASE + (PAGES + 2 * other) * PAGE_SIZE, 1, Prot::RW);
        }
        for round in 0..meter.scale(8, 2) {
            map(vm, &space, BASE, PAGES, Prot::RW);
            for batch in 0..PAGES / STOCK {
                while vm.idle() {}
                let first = BASE + batch * STOCK * PAGE_SIZE;
                let work = || touch(vm, &space, first, STOCK);
                if round > 0 {
                    meter.measure(STOCK, work);
                } else {
                    work();
                }
            }
            space.munmap(vm, BASE, PAGES * PAGE_SIZE).expect("memory for the change");
        }
        leave(vm, &space);
    })
}

/// Faults `pages` pages in, for a store.
pub(crate) fn touch(vm: &Vm<Home>, space: &Space<Home>, first: VirtAddr, pages: u64) {
    for page in 0..pages {
        let touched = vm.fault(space, first + page * PAGE_SIZE, Access::Write);
        assert_eq!(touched, Ok(()));
    }
}
