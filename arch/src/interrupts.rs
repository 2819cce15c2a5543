//! Whether this CPU takes interrupts: in ring 0, the flag that `cli` and `sti` change (Intel SDM vol. 3A, 6.8.1).

#[cfg(target_arch = "x86")]
use x86::bits32::eflags::{self as flags, EFlags as Flags};
#[cfg(target_arch = "x86_64")]
use x86::bits64::rflags::{self as flags, RFlags as Flags};

/// Whether this CPU takes interrupts. In any ring.
#[inline]
pub fn interrupts_on() -> bool {
    #[allow(unused_unsafe, reason = "`x86` has it safe for 64 bits, and not for 32")]
    // SAFETY: reading the flags changes nothing.
    unsafe { flags::read() }.contains(Flags::FLAGS_IF)
}

/// Masks interrupts; the result is for [`intr_restore`], on the same CPU. They nest.
///
/// # Safety
/// This is ring 0, or a ring that may change the flag.
#[inline]
pub unsafe fn intr_save() -> usize {
    let on = interrupts_on();
    if on {
        // SAFETY: it may be changed here, by the caller's promise, and masking breaks nothing.
        unsafe { x86::irq::disable() };
    }
    usize::from(on)
}

/// Goes back to what [`intr_save`] found.
///
/// # Safety
/// As there; and what interrupts were masked for is finished.
#[inline]
pub unsafe fn intr_restore(before: usize) {
    if before != 0 {
        // SAFETY: they were on when they were masked, and nothing is in the middle any more, by the caller's promise.
        unsafe { x86::irq::enable() };
    }
}
