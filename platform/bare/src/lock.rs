//! The home's own lock: a spin lock whose holder is not interrupted.
//!
//! Interrupt handlers take some of the same locks, and a holder that is switched away would keep a whole CPU
//! spinning. Held for a few instructions; its holder never waits for another CPU's flush, so who waits for it
//! need not serve any.

use core::ops::{Deref, DerefMut};

use spin::mutex::{SpinMutex, SpinMutexGuard};
use x86::bits64::rflags::{self, RFlags};

/// Data that one CPU at a time uses, with interrupts masked.
pub(crate) struct Lock<T> {
    data: SpinMutex<T>,
}

/// The holder's access.
pub(crate) struct Guard<'l, T> {
    // Given back before interrupts come on again: fields are dropped in order.
    data: SpinMutexGuard<'l, T>,
    _interrupts: Masked,
}

/// Interrupts are masked while it lives.
pub(crate) struct Masked {
    before: usize,
}

impl Masked {
    /// Masks interrupts.
    #[inline]
    pub(crate) fn now() -> Self {
        Self { before: intr_save() }
    }
}

impl Drop for Masked {
    #[inline]
    fn drop(&mut self) {
        intr_restore(self.before);
    }
}

impl<T> Lock<T> {
    pub(crate) const fn new(data: T) -> Self {
        Self { data: SpinMutex::new(data) }
    }

    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        let interrupts = Masked::now();
        Guard { data: self.data.lock(), _interrupts: interrupts }
    }

    /// Takes it if nobody holds it.
    pub(crate) fn try_lock(&self) -> Option<Guard<'_, T>> {
        let interrupts = Masked::now();
        Some(Guard { data: self.data.try_lock()?, _interrupts: interrupts })
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.data
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.data
    }
}

/// Whether this CPU takes interrupts.
#[inline]
pub(crate) fn interrupts_on() -> bool {
    rflags::read().contains(RFlags::FLAGS_IF)
}

/// Masks interrupts; the result is for [`intr_restore`].
#[inline]
pub(crate) fn intr_save() -> usize {
    let on = interrupts_on();
    if on {
        // SAFETY: masking interrupts breaks nothing; this is ring 0.
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
