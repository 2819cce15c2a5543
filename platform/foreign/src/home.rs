//! The host as the component sees it.
//!
//! Flow:  `Seam`/`Platform` calls -> the host's hypercalls, or what holds where they were left out.
//! Locks: none.
//! Sleep: `Seam::sleep`, as the host does.
//! Owns:  a few words for each CPU.

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

#[cfg(any(feature = "pmap", feature = "spaces"))]
use rumpvm_arch::Format;
use rumpvm_arch::{Frame, PhysAddr, VirtRange};
use rumpvm_platform::{CpuId, CpuSet, MAX_CPUS, Platform, Seam, Site, ThreadLocal};

use crate::format::Tables;
use crate::hypercalls::{RUMPVM_CPU_WORDS, RUMPVM_NEVER, calls, host, seen};
use crate::{cpu, directories, layer, machine, text, thread};

/// A handle to the host; there is only one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Foreign;

/// A CPU has translated through a root of the component's: those have the host's entries as they were then.
static HAS_TRANSLATED: AtomicBool = AtomicBool::new(false);

/// What we know of one CPU.
#[repr(align(64))]
struct Cpu {
    /// How often interrupts were masked and not yet unmasked. Written by this CPU alone.
    masked: AtomicU32,
    /// Another CPU wants something flushed.
    flush: AtomicBool,
    /// It is doing that.
    serving: AtomicBool,
}

const _: () = assert!(RUMPVM_CPU_WORDS == CpuSet::WORDS, "the header says how long a set is");

static CPUS: [Cpu; MAX_CPUS] = [const {
    Cpu {
        masked: AtomicU32::new(0),
        flush: AtomicBool::new(false),
        serving: AtomicBool::new(false),
    }
}; MAX_CPUS];

fn this() -> &'static Cpu {
    &CPUS[Foreign::cpu_id().0 as usize]
}

/// Whether the caller holds a spin lock of the component, or may.
pub(crate) fn is_masked() -> bool {
    this().masked.load(Ordering::Relaxed) != 0
}

/// Whether a CPU has ever translated through a root of the component's.
#[cfg(feature = "window")]
pub(crate) fn has_translated() -> bool {
    HAS_TRANSLATED.load(Ordering::Relaxed)
}

/// Carries out what other CPUs asked of this one, unless it is doing so.
pub(crate) fn serve_flushes() {
    let before = Foreign::intr_save();
    let this = this();
    if !this.serving.swap(true, Ordering::Acquire) {
        while this.flush.swap(false, Ordering::SeqCst) {
            if let Some(vm) = machine::get() {
                layer::tlb_interrupt(vm);
            }
        }
        this.serving.store(false, Ordering::Release);
    }
    Foreign::intr_restore(before);
}

/// What a fault has just made good may be in a root that this CPU has to load again to see it.
#[cfg(any(feature = "pmap", feature = "spaces"))]
#[inline]
pub(crate) fn catch_up() {
    if Tables::ROOT_HAS_RIGHTS {
        return;
    }
    let before = Foreign::intr_save();
    if let Some(root) = directories::changed(Foreign::cpu_id()) {
        Foreign.tlb_activate(Some(root));
    }
    Foreign::intr_restore(before);
}

fn wait_a_little() {
    match calls().relax {
        // SAFETY: the host's own function.
        Some(relax) => unsafe { relax() },
        None => core::hint::spin_loop(),
    }
}

/// Tells the host that all is lost.
pub(crate) fn panic(story: &str) -> ! {
    let mut line = text::Line::<1024>::new();
    line.push(story);
    if let Some(host) = host() {
        // SAFETY: the host's own function, with what it was promised; the line ends with a zero.
        unsafe { (host.panic)(line.as_c().as_ptr()) };
    }
    loop {
        core::hint::spin_loop();
    }
}

impl Seam for Foreign {
    #[inline]
    fn cpu_id() -> CpuId {
        // SAFETY: the host's own function.
        CpuId(calls().cpu_id.map_or(0, |cpu_id| unsafe { cpu_id() }))
    }

    fn relax(_word: usize) {
        if this().flush.load(Ordering::Relaxed) {
            serve_flushes();
        }
        wait_a_little();
    }

    fn pause(_word: usize) {
        wait_a_little();
    }

    #[inline]
    fn intr_save() -> usize {
        // SAFETY: the host's own function.
        let before = calls().intr_save.map_or_else(cpu::intr_save, |save| unsafe { save() });
        let masked = &this().masked;
        masked.store(masked.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        before
    }

    #[inline]
    fn intr_restore(before: usize) {
        let masked = &this().masked;
        masked.store(masked.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        match calls().intr_restore {
            // SAFETY: the host's own function, with what it returned.
            Some(restore) => unsafe { restore(before) },
            None => cpu::intr_restore(before),
        }
    }

    fn hold_cpu() {
        if let Some(hold) = calls().hold_cpu {
            // SAFETY: the host's own function.
            unsafe { hold() };
        }
    }

    fn release_cpu() {
        if let Some(release) = calls().release_cpu {
            // SAFETY: the host's own function, once for each `hold_cpu`.
            unsafe { release() };
        }
    }

    fn sleep(word: &AtomicU32, expected: u32, until: Option<u64>, _site: Site) {
        match calls().sleep {
            // SAFETY: the host's own function; the word lives while somebody sleeps on it.
            Some(sleep) => unsafe { sleep(word.as_ptr(), expected, until.unwrap_or(RUMPVM_NEVER)) },
            None => Self::relax(ptr::from_ref(word) as usize),
        }
    }

    fn wakeup(word: &AtomicU32, _site: Site) {
        if let Some(wakeup) = calls().wakeup {
            // SAFETY: the host's own function, which uses the address as a name.
            unsafe { wakeup(word.as_ptr()) };
        }
    }

    fn clock() -> u64 {
        // SAFETY: the host's own function.
        calls().clock.map_or(0, |clock| unsafe { clock() })
    }

    fn thread() -> Option<NonNull<ThreadLocal>> {
        match calls().thread {
            // SAFETY: the host's own function, which returns what `rumpvm_thread_init` made.
            Some(thread) => NonNull::new(unsafe { thread() }.cast()),
            None => thread::of_cpu(Self::cpu_id()),
        }
    }
}

impl Platform for Foreign {
    type Format = Tables;

    #[inline]
    fn phys_to_virt(&self, at: PhysAddr) -> NonNull<u8> {
        let at = seen(calls().direct_map, at.0);
        NonNull::new(at as *mut u8).expect("no memory is given that is seen at address 0")
    }

    #[inline]
    fn virt_to_phys(&self, at: NonNull<u8>) -> PhysAddr {
        // Below 4 GiB where a pointer has 32 bits (`machine::add_memory`), so nothing is lost.
        PhysAddr((at.as_ptr() as usize).wrapping_sub(calls().direct_map as usize) as u64)
    }

    fn cpu_count(&self) -> usize {
        calls().cpu_count.max(1) as usize
    }

    fn tlb_activate(&self, root: Option<Frame>) {
        directories::note(Self::cpu_id(), root);
        if root.is_some() && !HAS_TRANSLATED.load(Ordering::Relaxed) {
            HAS_TRANSLATED.store(true, Ordering::Relaxed);
        }
        let root = root.map(|frame| frame.start().0);
        match calls().tlb_activate {
            // SAFETY: the host's own function, with a root of ours.
            Some(activate) => unsafe { activate(root.unwrap_or(0)) },
            None => cpu::activate(root, calls().kernel_root, calls().direct_map),
        }
    }

    fn tlb_invalidate(&self, range: VirtRange) {
        if let Some(root) = directories::changed(Self::cpu_id()) {
            self.tlb_activate(Some(root));
        }
        match calls().tlb_invalidate {
            // SAFETY: the host's own function.
            Some(invalidate) => unsafe { invalidate(range.start.0, range.end.0) },
            None => cpu::invalidate(range),
        }
    }

    fn tlb_ipi(&self, targets: &CpuSet) {
        let mut words = [0; RUMPVM_CPU_WORDS];
        for cpu in targets.iter() {
            CPUS[cpu.0 as usize].flush.store(true, Ordering::SeqCst);
            words[cpu.0 as usize / 64] |= 1 << (cpu.0 % 64);
        }
        if let Some(ipi) = calls().tlb_ipi {
            // SAFETY: the host's own function, with as many words as it was promised.
            unsafe { ipi(words.as_ptr()) };
        }
    }

    fn panic(&self, story: &str) -> ! {
        panic(story)
    }
}
