//! The CPU's own instructions, for hosts in ring 0 that leave them to us.

use core::sync::atomic::{AtomicUsize, Ordering};

use rumpvm_arch::{Format, PAGE_SIZE, VirtRange};
use x86::controlregs::{self, Cr4};

use crate::format::{self, Tables};
use crate::hypercalls::seen;

/// Up to so many pages one instruction for each is quicker than dropping everything: each costs some hundred cycles,
/// and each page that is used again some ten.
const SINGLY: u64 = 32;

/// Words of the CPU's own width in a root, and where the host's begin. A PAE entry is two: nobody looks at a root while it
/// is filled in.
const WORDS: usize = format::ROOT_BYTES / size_of::<usize>();
const FIRST: usize = format::HOST_BYTES / size_of::<usize>();

/// Whether privileged instructions work.
pub(crate) fn is_ring_0() -> bool {
    x86::segmentation::cs().bits() & 3 == 0
}

/// Masks interrupts; the result is for [`intr_restore`].
#[inline]
pub(crate) fn intr_save() -> usize {
    // SAFETY: this is ring 0 (`hypercalls::check`).
    unsafe { rumpvm_arch::intr_save() }
}

/// Goes back to what [`intr_save`] found.
#[inline]
pub(crate) fn intr_restore(before: usize) {
    // SAFETY: as there; and all that the caller did meanwhile is finished.
    unsafe { rumpvm_arch::intr_restore(before) };
}

/// Loads `root`, after giving it the host's part of `kernel_root`; or `kernel_root` itself. Both are seen at
/// `direct_map`.
pub(crate) fn activate(root: Option<u64>, kernel_root: u64, direct_map: u64) {
    let table = |at: u64| seen(direct_map, at) as *const [AtomicUsize; WORDS];
    if let Some(root) = root {
        // SAFETY: the root is a frame of ours, and the host's table is where it said; CPUs and other callers of this use
        // both meanwhile, as words.
        let (from, to) = unsafe { (&*table(kernel_root), &*table(root)) };
        for (from, to) in from.iter().zip(to).skip(FIRST) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
    // SAFETY: either root has the host's part, so what runs now stays mapped.
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
        if range.end > Tables::USER_END {
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
