//! Fork of a large process, and the store that first ends what the two share.

use rumpvm_arch::{Access, PAGE_SIZE, Prot};

use super::faults::touch;
use super::{BASE, leave, map, on_cpu, space};
use crate::meter::{Measured, Meter};

const GIBIBYTE: u64 = 1 << 30;
/// Pages below one leaf table.
const TABLE: u64 = 512;

/// Fork, and the parent's first store.
pub(crate) fn fork(meter: Meter) -> Measured {
    let bytes = meter.scale(GIBIBYTE, GIBIBYTE / 16);
    on_cpu(bytes + bytes / 8, meter, move |vm, meter| {
        let space = space(vm);
        let pages = bytes / PAGE_SIZE;
        map(vm, &space, BASE, pages, Prot::RW);
        touch(vm, &space, BASE, pages);
        for round in 0..meter.scale(8, 2) {
            let work = || {
                let child = vm.fork_space(&space).expect("memory for a fork");
                let stored = vm.fault(&space, BASE, Access::Write);
                assert_eq!(stored, Ok(()));
                child
            };
            let child = if round > 0 { meter.measure(1, work) } else { work() };
            vm.leave_space(&child);
            // As a program that goes on: each table is its own again.
            for table in 0..pages / TABLE {
                touch(vm, &space, BASE + table * TABLE * PAGE_SIZE, 1);
            }
        }
        leave(vm, &space);
    })
}
