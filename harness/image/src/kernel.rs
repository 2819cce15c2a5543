//! The component on the bare home: made once, connected to the machine, given its memory.
//!
//! Flow:  [`start`] -> heap -> `Vm` -> memory -> upcalls.
//! Owns:  the component, for good.

use rumpvm::phys::PageKind;
use rumpvm::{Broken, Vm};
use rumpvm_arch::PhysAddr;
use rumpvm_bare::{Bare, Upcalls, heap};
use spin::Once;

/// The component.
pub(crate) struct Kernel {
    /// Its calls.
    pub(crate) vm: Vm<Bare>,
    /// The home may have more of its frames.
    lends: bool,
}

/// Where the heap's memory comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeapSize {
    /// From the component, as it is needed.
    Grows,
    /// All at once, so that who counts frames finds as many as before.
    Fixed(usize),
}

static KERNEL: Once<Kernel> = Once::new();

/// Makes it and gives it all memory.
pub(crate) fn start(size: HeapSize) -> &'static Kernel {
    if let HeapSize::Fixed(bytes) = size {
        assert!(heap::make_room(bytes), "memory for a heap of {bytes} bytes");
    }
    let kernel = KERNEL.call_once(|| {
        let vm = Vm::new(Bare).expect("memory for the component's first records");
        Kernel { vm, lends: size == HeapSize::Grows }
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

impl Kernel {
    /// Checks every invariant, as [`Vm::check`], which notes where each frame was found: the heap must not take any for
    /// that meanwhile.
    pub(crate) fn check(&self) -> Result<(), Broken> {
        /// Of a map of frame numbers, half empty at worst.
        const NOTE: usize = 40;
        heap::make_room(self.vm.statistics().frames_total as usize * NOTE);
        self.vm.check()
    }
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
        if !self.lends {
            return None;
        }
        let phys = &self.vm.mmu.phys;
        let run = phys.alloc_run(order).ok()?;
        for fresh in phys.rest_of_run(&run, order) {
            phys.give(fresh, PageKind::Wired);
        }
        Some(phys.give(run, PageKind::Wired).start())
    }
}
