//! The component on the bare home: made once, connected to the machine, given its memory.
//!
//! Flow:  [`start`] -> `Vm` -> memory -> upcalls.
//! Owns:  the component, for good.

use rumpvm::Vm;
use rumpvm_arch::PhysAddr;
use rumpvm_bare::{Bare, Upcalls};
use spin::Once;

/// The component.
pub(crate) struct Kernel {
    /// Its calls.
    pub(crate) vm: Vm<Bare>,
}

static KERNEL: Once<Kernel> = Once::new();

/// Makes it and gives it all memory.
pub(crate) fn start() -> &'static Kernel {
    let kernel = KERNEL.call_once(|| {
        let vm = Vm::new(Bare).expect("memory for the component's first records");
        Kernel { vm }
    });
    rumpvm_bare::memory::take_all(|start, end| {
        // A range of a page or two has no room for its own records.
        if let Err(refused) = kernel.vm.add_memory(start, end) {
            log::info!("memory {start:?} to {end:?} is left alone: {refused}");
        }
    });
    rumpvm_bare::connect(kernel);
    let statistics = kernel.vm.statistics();
    let (pages, cpus) = (statistics.frames_total, rumpvm_platform::Platform::cpu_count(&Bare));
    log::info!("{} KiB of memory, {cpus} CPUs", pages * 4);
    kernel
}

impl Upcalls for Kernel {
    fn tlb_interrupt(&self) {
        self.vm.tlb_interrupt();
    }

    /// An idle CPU leaves its space first: it need not be interrupted for flushes then, and does not keep a dead one.
    fn idle(&self) -> bool {
        self.vm.deactivate();
        self.vm.idle()
    }

    fn frames(&self, order: u32) -> Option<PhysAddr> {
        let phys = &self.vm.mmu.phys;
        let run = phys.alloc_run(order).ok()?;
        let rest: Option<()> = phys.rest_of_run(&run, order).map(|fresh| {
            phys.give(fresh, rumpvm::phys::PageKind::Wired);
        }).last();
        let _ = rest;
        Some(phys.give(run, rumpvm::phys::PageKind::Wired).start())
    }
}
