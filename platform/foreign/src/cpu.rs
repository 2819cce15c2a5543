//! The CPU's own instructions, for hosts in ring 0 that leave them to us.

use core::ffi::CStr;
use core::sync::atomic::{AtomicU64, Ordering};

use rumpvm_arch::{PAGE_SIZE, VirtRange, X86_64Lower};
use x86::bits64::rflags::{self, RFlags};
use x86::controlregs::{self, Cr4};
use x86::msr;

use rumpvm_arch::{Format, entries};

/// Up to so many pages one instruction for each is quicker than dropping everything: each costs some hundred cycles,
/// and each page that is used again some ten.
const SINGLY: u64 = 32;

/// Bit of EFER: the no-execute bit of entries is not reserved.
const NXE: u64 = 1 << 11;

/// Whether privileged instructions work.
pub(crate) fn is_ring_0() -> bool {
    x86::segmentation::cs().bits() & 3 == 0
}

/// Whether this CPU is set up for tables as the component makes them. In ring 0.
pub(crate) fn can_use_tables() -> Result<(), &'static CStr> {
    if !is_ring_0() {
        return Ok(());
    }
    // SAFETY: reading them changes nothing; every CPU in long mode has them.
    let (efer, cr4) = unsafe { (msr::rdmsr(msr::IA32_EFER), controlregs::cr4()) };
    if efer & NXE == 0 {
        return Err(c"EFER.NXE is off: no-execute bits would be reserved bits");
    }
    if cr4.contains(Cr4::CR4_ENABLE_LA57) {
        return Err(c"this CPU walks five levels: give tlb_activate");
    }
    Ok(())
}

/// Masks interrupts; the result is for [`intr_restore`].
#[inline]
pub(crate) fn intr_save() -> usize {
    let on = rflags::read().contains(RFlags::FLAGS_IF);
    if on {
        // SAFETY: masking interrupts breaks nothing; this is ring 0 (`hypercalls::check`).
        unsafe { x86::irq::disable() };
    }
    usize::from(on)
}

/// Goes back to what [`intr_save`] found.
#[inline]
pub(crate) fn intr_restore(before: usize) {
    if before != 0 {
        // SAFETY: they were on when the caller masked them, and all that he did meanwhile is finished.
        unsafe { x86::irq::enable() };
    }
}

/// Loads `root`, after giving it the upper half of `kernel_root`; or `kernel_root` itself. Both are seen at
/// `direct_map`.
pub(crate) fn activate(root: Option<u64>, kernel_root: u64, direct_map: u64) {
    const UPPER: usize = entries::<X86_64Lower>(X86_64Lower::LEVELS);
    let table = |at: u64| direct_map.wrapping_add(at) as *const [AtomicU64; 2 * UPPER];
    if let Some(root) = root {
        // SAFETY: the root is a frame of ours, and the host's table is where it said; CPUs and other callers of this use
        // both meanwhile, as words.
        let (from, to) = unsafe { (&*table(kernel_root), &*table(root)) };
        for (from, to) in from.iter().zip(to).skip(UPPER) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
    // SAFETY: either root has the host's half, so what runs now stays mapped.
    unsafe { controlregs::cr3_write(root.unwrap_or(kernel_root)) };
}

/// Drops translations that a load of CR3 keeps.
fn drop_global() {
    // SAFETY: global translations are dropped when CR4.PGE changes, and kept again when it is as it was. Nobody else
    // changes CR4 meanwhile: flushes are served with interrupts masked.
    unsafe {
        let before = controlregs::cr4();
        if before.contains(Cr4::CR4_ENABLE_GLOBAL_PAGES) {
            controlregs::cr4_write(before - Cr4::CR4_ENABLE_GLOBAL_PAGES);
            controlregs::cr4_write(before);
        }
    }
}

/// Drops this CPU's translations of `range`, which are the kernel's window's if they are not a user's.
pub(crate) fn invalidate(range: VirtRange) {
    if range.pages() > SINGLY {
        if range.end > X86_64Lower::USER_END {
            drop_global();
        }
        // SAFETY: loading the same root again drops translations, which costs walks and no more.
        unsafe { x86::tlb::flush_all() };
        return;
    }
    for page in 0..range.pages() {
        // SAFETY: as above.
        unsafe { x86::tlb::flush((range.start.0 + page * PAGE_SIZE) as usize) };
    }
}
