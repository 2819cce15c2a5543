//! The component's side of each row, on the hosted machine.

pub(crate) mod areas;
pub(crate) mod faults;
pub(crate) mod fork;
pub(crate) mod frames;
pub(crate) mod memory;
pub(crate) mod scaling;
pub(crate) mod tables;

use rumpvm::{Backing, Hold, MapFlags, Space, Vm};
use rumpvm_arch::{PAGE_SIZE, Prot, VirtAddr};
use rumpvm_platform::CpuId;

use crate::machine::{Home, Machine};
use crate::meter::{Measured, Meter};

/// Where cases map: any place that is aligned to what a table of the third level serves.
pub(crate) const BASE: VirtAddr = VirtAddr(0x40_0000_0000);

/// Private memory without an object.
pub(crate) const ANON: MapFlags = MapFlags::PRIVATE.union(MapFlags::ANONYMOUS);

/// Runs `work` in kernel mode on the CPU of a machine with `memory` bytes.
pub(crate) fn on_cpu(
    memory: u64,
    mut meter: Meter,
    work: impl FnOnce(&Vm<Home>, &mut Meter) + Send + 'static,
) -> Measured {
    Machine::new(memory, 1).on_cpu(CpuId(0), move |vm| {
        work(vm, &mut meter);
        meter.done()
    })
}

/// A space with one user, this CPU's own.
pub(crate) fn space(vm: &Vm<Home>) -> Hold<Space<Home>, Home> {
    let space = vm.new_space().expect("memory for a space");
    vm.activate(&space);
    space
}

/// Takes `space` down.
pub(crate) fn leave(vm: &Vm<Home>, space: &Hold<Space<Home>, Home>) {
    vm.deactivate();
    vm.leave_space(space);
}

/// Maps `pages` pages of anonymous memory at `at`.
pub(crate) fn map(vm: &Vm<Home>, space: &Space<Home>, at: VirtAddr, pages: u64, prot: Prot) {
    let flags = ANON | MapFlags::FIXED_NOREPLACE | MapFlags::NORESERVE;
    let mapped = space.mmap(vm, at, pages * PAGE_SIZE, prot, flags, Backing::Anonymous, 0);
    assert_eq!(mapped, Ok(at));
}
