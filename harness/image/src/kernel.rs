//! The component on the bare home: made once, connected to the machine, given its memory.
//!
//! Flow:  [`start`] -> heap -> `Vm` -> memory -> upcalls.
//! Locks: `reserve`, for an element; the component is called without it.
//! Owns:  the component, for good, and what memory it does not have yet.
//!
//! One frame in 64 is written when memory is added, for the records of the others. A large machine would write for
//! seconds before its first program, so it gets its memory in pieces: the first at once, each other when little
//! is left, from an idle CPU or from who would otherwise be refused ([`Kernel::feed`]).

use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use rumpvm::phys::PageKind;
use rumpvm::sync::Spin;
use rumpvm::{Broken, FaultError, Space, Vm};
use rumpvm_arch::{Access, PAGE_SIZE, PhysAddr, VirtAddr};
use rumpvm_bare::{Bare, Module, Upcalls, heap};
use rumpvm_platform::{LockClass, LockKind, Platform};
use spin::Once;

/// The component.
pub(crate) struct Kernel {
    /// Its calls.
    pub(crate) vm: Vm<Bare>,
    /// The home may have more of its frames.
    lends: bool,
    /// Memory that the component does not have yet, in pieces.
    reserve: Spin<Vec<(PhysAddr, PhysAddr)>, Bare>,
    /// Pieces in it.
    pieces: AtomicUsize,
}

/// A piece of memory: quick to add, and large beside what a program takes before anybody looks.
const PIECE: u64 = 1 << 30;
/// The component knows 64 separate ranges; a memory map has a few, and pieces make more of them.
const PIECES: u64 = 32;
/// An idle CPU adds a piece when so little is left.
const LITTLE: u64 = (256 << 20) / PAGE_SIZE;

/// Before all locks of the component.
static RESERVE: LockClass =
    LockClass { name: "memory held back", rank: 0, kind: LockKind::Spin, nests: false };

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
        Kernel {
            vm,
            lends: size == HeapSize::Grows,
            reserve: Spin::new(&RESERVE, Vec::with_capacity(2 * PIECES as usize)),
            pieces: AtomicUsize::new(0),
        }
    });
    let piece = (rumpvm_bare::memory::left() / PIECES).next_power_of_two().max(PIECE);
    rumpvm_bare::memory::take_all(|start, end| {
        let mut reserve = kernel.reserve.lock();
        let cut = |at: u64| (at / piece + 1) * piece;
        let mut at = start.0;
        while at < end.0 {
            reserve.push((PhysAddr(at), PhysAddr(cut(at).min(end.0))));
            at = cut(at);
        }
        kernel.pieces.store(reserve.len(), Ordering::Relaxed);
    });
    // The lowest comes first, and all of a machine that has little.
    kernel.reserve.lock().reverse();
    while kernel.vm.mmu.phys.total_frames() < PIECE / PAGE_SIZE && kernel.feed() {}
    rumpvm_bare::connect(kernel);
    let statistics = kernel.vm.statistics();
    let kib = statistics.frames_total * PAGE_SIZE / 1024;
    let (held_back, cpus) = (kernel.pieces.load(Ordering::Relaxed), Bare.cpu_count());
    log::info!("{kib} KiB of memory, {held_back} pieces held back, {cpus} CPUs");
    kernel
}

/// The component, once it has been made.
pub(crate) fn get() -> &'static Kernel {
    KERNEL.get().expect("the component is made first of all")
}

impl Kernel {
    /// Adds the place of a boot module whose contents are not needed any more.
    pub(crate) fn add_module(&self, module: &Module) {
        let start = module.start.div_ceil(PAGE_SIZE) * PAGE_SIZE;
        let end = module.end / PAGE_SIZE * PAGE_SIZE;
        if start < end
            && let Err(refused) = self.vm.add_memory(PhysAddr(start), PhysAddr(end))
        {
            log::info!("the memory of a module is left alone: {refused}");
        }
    }

    /// Adds a piece of the memory that was held back; false if there is none.
    pub(crate) fn feed(&self) -> bool {
        let mut reserve = self.reserve.lock();
        let Some((start, end)) = reserve.pop() else { return false };
        self.pieces.store(reserve.len(), Ordering::Relaxed);
        drop(reserve);
        if let Err(refused) = self.vm.add_memory(start, end) {
            // A range of a page or two has no room for its own records.
            log::info!("memory {start:?} to {end:?} is left alone: {refused}");
        }
        true
    }

    /// Makes `access` possible, with more memory if that is what is missing.
    pub(crate) fn fault(
        &self,
        space: &Space<Bare>,
        at: VirtAddr,
        access: Access,
    ) -> Result<(), FaultError> {
        loop {
            match self.vm.fault(space, at, access) {
                Err(FaultError::NoMemory { .. }) if self.feed() => {}
                outcome => return outcome,
            }
        }
    }

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
        let is_fed = self.pieces.load(Ordering::Relaxed) == 0;
        if !is_fed && self.vm.mmu.phys.free_frames() < LITTLE {
            return self.feed();
        }
        self.vm.idle()
    }

    fn frames(&self, order: u32) -> Option<PhysAddr> {
        if !self.lends {
            return None;
        }
        let phys = &self.vm.mmu.phys;
        let run = phys.alloc_run(order).ok()?;
        let first = run.first();
        for fresh in phys.split_run(run) {
            phys.give(fresh, PageKind::Wired);
        }
        Some(first.start())
    }
}
