//! The hypercalls: what rumpvm asks of the machine it runs on, and nothing else.
//!
//! A home of rumpvm is a type that implements [`Platform`]. Seven calls are enough to start: both
//! directions of the direct map, CPU number, panic, [`Platform::tlb_activate`],
//! [`Platform::tlb_invalidate`] and [`Seam::thread`]; what only several CPUs, sleeping or tests need has a default. Memory is pushed in by the host
//! (`Vm::add_memory`), threads are the host's, and there is no allocator call.
//!
//! The trait [`Seam`] is the part that locks and atomics use. Its calls are associated functions, so a
//! lock need not carry a pointer to its machine; a home finds "this CPU" as its hardware does.
#![no_std]

extern crate alloc;

mod cpuset;
mod failing;
mod file;
mod lock;
mod lock_stats;
mod memory;
mod thread;

pub use cpuset::{CpuId, CpuSet, MAX_CPUS};
pub use failing::{FailingFile, Failures};
pub use file::{File, FileId, IoError};
pub use lock::{LockClass, LockKind, LockStep, LockUse, Violation, Witness};
pub use lock_stats::{LockCounts, LockStats, LockWatch};
pub use memory::{Cell, Op, Site, Step};
pub use thread::{MAX_SLEEP_LOCKS, MAX_TOKENS, ThreadLocal};

use core::ptr::{self, NonNull};
use core::sync::atomic::AtomicU32;

use rumpvm_arch::{Format, Frame, PhysAddr, VirtRange};

/// What can run out or fail, and can therefore be made to in a test.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scarce {
    /// A physical frame.
    Frame,
    /// A small record on the heap.
    Heap,
    /// What a file does: a read, a write, a sync, a change of its length. Files ask, not the component.
    Io,
}

/// What locks, atomics and waits need of a home.
pub trait Seam: Sized + Send + Sync + 'static {
    /// Whether the home owns the schedule, and carries out every step on a shared word itself.
    const OWNS_MEMORY: bool = false;

    /// Number of the CPU that runs the caller, below [`MAX_CPUS`].
    fn cpu_id() -> CpuId;

    /// The caller looked at `word` (an address) and must wait until another CPU changes it. Returns
    /// after a while, or at once when it has changed; the caller looks again. Flush requests to this
    /// CPU must be served in the meantime, or two CPUs that wait for each other's flush never end; but
    /// one at a time, never while one is being served.
    fn relax(word: usize) {
        let _ = word;
        core::hint::spin_loop();
    }

    /// As [`Seam::relax`], for a spin lock: its holder will change `word` soon whatever this CPU does, so
    /// nothing needs to be served; and nothing may be, because serving takes spin locks.
    fn pause(word: usize) {
        let _ = word;
        core::hint::spin_loop();
    }

    /// Masks interrupts on this CPU and returns the state to go back to. A home whose CPUs are not
    /// interrupted does nothing.
    fn intr_save() -> usize {
        0
    }

    /// Goes back to the interrupt state that [`Seam::intr_save`] returned.
    fn intr_restore(state: usize) {
        let _ = state;
    }

    /// The calling thread must stay on this CPU, and no other may run there, until [`Seam::release_cpu`]; it is in
    /// the middle of something that belongs to the CPU. They nest. A home that switches threads only where they
    /// ask for it does nothing.
    #[inline(always)]
    fn hold_cpu() {}

    /// Undoes one [`Seam::hold_cpu`].
    #[inline(always)]
    fn release_cpu() {}

    /// Blocks the calling thread while `*word == expected`, as a futex does: the comparison and the
    /// decision to sleep are one step for [`Seam::wakeup`]. May return early, and does so once
    /// [`Seam::clock`] has reached `until`. Never called with a spin lock held.
    fn sleep(word: &AtomicU32, expected: u32, until: Option<u64>, site: Site) {
        let _ = (expected, until, site);
        Self::relax(ptr::from_ref(word) as usize);
    }

    /// Wakes every thread that sleeps on `word`.
    fn wakeup(word: &AtomicU32, site: Site) {
        let _ = (word, site);
    }

    /// Nanoseconds since some moment; never goes back. In a home without a clock no wait times out.
    fn clock() -> u64 {
        0
    }

    /// What this home keeps of the calling thread for the component; the same as long as the thread lives, and
    /// used by nobody else. Tokens and the owners of sleep locks need it, hence processes, files and `Vm::check`; a home
    /// without threads has one for each CPU.
    fn thread() -> Option<NonNull<ThreadLocal>> {
        None
    }

    /// A number for what lies at `address`. A home that repeats runs gives the same one in each.
    fn name(address: usize) -> usize {
        address
    }

    /// Carries out `step` and returns what the word held before. Called only where [`Seam::OWNS_MEMORY`].
    ///
    /// # Safety
    /// `step.cell` is a live atomic of that width.
    unsafe fn carry_out(step: Step) -> u64 {
        unreachable!("a home that owns the schedule carries out {step:?}")
    }

    /// A full fence is about to be passed.
    #[inline(always)]
    fn fence(site: Site) {
        let _ = site;
    }

    /// Whether [`Seam::fence_everywhere`] works in this home. The same answer as long as the machine lives.
    #[inline(always)]
    fn fences_everywhere() -> bool {
        false
    }

    /// Passes a full fence on every CPU, in the middle of whatever it does. Readers then need no fence of their
    /// own (`sync::epoch` of the component).
    fn fence_everywhere(site: Site) {
        unreachable!("this home cannot fence everywhere, as {site} wants");
    }

    /// Something is done to a lock; see [`LockStep`].
    #[inline(always)]
    fn lock_step(step: LockStep, lock: &LockUse) {
        let _ = (step, lock);
    }

    /// Whether to pretend that `what` has run out, or failed.
    #[inline(always)]
    fn fails(what: Scarce, site: Site) -> bool {
        let _ = (what, site);
        false
    }
}

/// A machine that rumpvm can run on.
pub trait Platform: Seam {
    /// Format of its page tables.
    type Format: Format;

    /// Where the kernel sees physical address `at`. Every frame given by `add_memory` must stay mapped
    /// there, readable and writable, as long as the machine lives.
    fn phys_to_virt(&self, at: PhysAddr) -> NonNull<u8>;

    /// The physical address behind a pointer that [`Platform::phys_to_virt`] returned.
    fn virt_to_phys(&self, at: NonNull<u8>) -> PhysAddr;

    /// Number of CPUs that may ever run the component; at most [`MAX_CPUS`].
    fn cpu_count(&self) -> usize {
        1
    }

    /// Makes this CPU translate user addresses through the table in `root`, or through none. Drops
    /// whatever translations the CPU holds of the space it leaves.
    fn tlb_activate(&self, root: Option<Frame>);

    /// Drops this CPU's translations for `range` of the active space, those of the tables above the
    /// pages included; of addresses of the kernel's ([`rumpvm_arch::kernel_half`]) global ones too, if the home has
    /// opened a window there.
    fn tlb_invalidate(&self, range: VirtRange);

    /// Asks each CPU in `targets` to call `Vm::tlb_interrupt` soon. Never names the calling CPU.
    fn tlb_ipi(&self, targets: &CpuSet) {
        let _ = targets;
    }

    /// `frame` has been freed: whoever still translates to it is broken. Strict machines remember.
    #[inline(always)]
    fn frame_freed(&self, frame: Frame) {
        let _ = frame;
    }

    /// An invariant of the component broke. Must not return.
    fn panic(&self, story: &str) -> !;
}
