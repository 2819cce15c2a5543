//! The machine as the component sees it: the hypercalls.
//!
//! Flow:  `Seam`/`Platform` calls -> this CPU, the scheduler, the tables, other CPUs.
//! Locks: none of its own.
//! Sleep: `Seam::sleep` switches to another thread.

use alloc::sync::Arc;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use rumpvm_arch::{Frame, PhysAddr, VirtRange};
use rumpvm_platform::{CpuId, CpuSet, Platform, Seam, Site, ThreadLocal};

use crate::layout::{direct, physical};
use crate::priority::Standing;
use crate::traps::vectors;
use crate::{apic, clock, cpu, lock, paging, scheduler, sleepers, thread, traps};

/// Up to so many pages one instruction for each is quicker than dropping everything: each costs some hundred cycles,
/// and each page that is used again some ten.
const SINGLY: u64 = 32;

/// A handle to the machine that runs this code; there is only one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bare;

/// Four-level tables whose root's upper half is the kernel's: the component owns, walks and counts the lower
/// half of a root, and [`Platform::tlb_activate`] fills in the rest.
pub use rumpvm_arch::X86_64Lower as Kernel;

impl Seam for Bare {
    #[inline]
    fn cpu_id() -> CpuId {
        cpu::id()
    }

    fn relax(_word: usize) {
        if cpu::this().flush.load(Ordering::Relaxed) {
            traps::serve_flushes();
        }
        core::hint::spin_loop();
    }

    #[inline]
    fn intr_save() -> usize {
        lock::intr_save()
    }

    #[inline]
    fn intr_restore(state: usize) {
        lock::intr_restore(state);
    }

    #[inline]
    fn hold_cpu() {
        // One instruction, so that no interrupt comes between load and store.
        // SAFETY: `gs` points to this CPU's record, whose word at 12 counts these.
        unsafe { core::arch::asm!("inc dword ptr gs:[12]", options(nostack)) };
    }

    #[inline]
    fn release_cpu() {
        // SAFETY: as in `hold_cpu`.
        unsafe { core::arch::asm!("dec dword ptr gs:[12]", options(nostack)) };
    }

    fn sleep(word: &AtomicU32, expected: u32, until: Option<u64>, _site: Site) {
        sleepers::sleep(word, expected, until);
    }

    fn wakeup(word: &AtomicU32, _site: Site) {
        sleepers::wake(word);
    }

    fn clock() -> u64 {
        clock::now()
    }

    fn thread() -> Option<NonNull<ThreadLocal>> {
        Some(NonNull::from(&thread::current().local))
    }
}

impl Platform for Bare {
    type Format = Kernel;

    #[inline]
    fn phys_to_virt(&self, at: PhysAddr) -> NonNull<u8> {
        NonNull::new(direct(at) as *mut u8).expect("the direct map does not begin at zero")
    }

    #[inline]
    fn virt_to_phys(&self, at: NonNull<u8>) -> PhysAddr {
        physical(at.as_ptr() as u64)
    }

    fn cpu_count(&self) -> usize {
        cpu::count()
    }

    fn tlb_activate(&self, root: Option<Frame>) {
        match root {
            Some(root) => {
                paging::share_with(root);
                paging::load(root.start());
            }
            None => paging::load_kernel_root(),
        }
    }

    fn tlb_invalidate(&self, range: VirtRange) {
        if range.pages() > SINGLY {
            // SAFETY: loading the same root again drops all translations but those of the kernel's own half.
            unsafe { x86::tlb::flush_all() };
            return;
        }
        for page in 0..range.pages() {
            // SAFETY: dropping a translation costs a walk and no more.
            unsafe { x86::tlb::flush((range.start.0 + page * rumpvm_arch::PAGE_SIZE) as usize) };
        }
    }

    fn tlb_ipi(&self, targets: &CpuSet) {
        for target in targets.iter() {
            cpu::cpu(target).flush.store(true, Ordering::SeqCst);
            apic::interrupt(target, vectors::FLUSH);
        }
    }

    fn panic(&self, story: &str) -> ! {
        panic!("{story}");
    }
}

impl Bare {
    /// Starts `body` as a kernel thread on `cpu`, or where the fewest are. It stays there.
    pub fn spawn(
        cpu: Option<CpuId>,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<(), thread::NoStack> {
        thread::spawn(cpu, None, alloc::boxed::Box::new(body))
    }

    /// The same, with a priority that may change.
    pub fn spawn_with(
        cpu: Option<CpuId>,
        standing: Arc<Standing>,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<(), thread::NoStack> {
        thread::spawn(cpu, Some(standing), alloc::boxed::Box::new(body))
    }

    /// Lets the other threads of this CPU run first; of one with a priority, its equals.
    pub fn yield_now() {
        scheduler::yield_now();
    }

    /// Nanoseconds that the calling thread has had a CPU.
    pub fn thread_time() -> u64 {
        scheduler::time_of_this()
    }

    /// Nanoseconds that `cpu` has had nothing to do.
    pub fn idle_time(cpu: CpuId) -> u64 {
        cpu::cpu(cpu).idled.time()
    }

    /// Has `cpu` look at what it runs: a program there comes back by [`Trap::Interrupted`](crate::Trap::Interrupted).
    pub fn interrupt(cpu: CpuId) {
        if cpu != cpu::id() {
            apic::interrupt(cpu, vectors::WAKE);
        }
    }

    /// Nanoseconds of a thread's turn, while others wait.
    pub fn turn() -> u64 {
        scheduler::turn()
    }

    /// Makes a thread's turn so many nanoseconds long, while others wait. A short one switches threads away in more places
    /// of a call, for tests.
    pub fn set_turn(nanoseconds: u64) {
        scheduler::set_turn(nanoseconds);
    }

    /// Has `hook` called in the calling thread, with interrupts masked, now and whenever it goes on after its CPU did
    /// something else, so that its address space is the active one. (If it were not called now, a thread switched
    /// away between making its space active and this call would go on in another one.)
    pub fn set_on_resume(hook: impl Fn() + 'static) {
        let hook: thread::Resume = alloc::boxed::Box::new(hook);
        let _masked = lock::Masked::now();
        hook();
        drop(thread::current().resume.replace(Some(hook)));
    }

    /// Takes that back.
    pub fn clear_on_resume() {
        let _masked = lock::Masked::now();
        drop(thread::current().resume.take());
    }
}
