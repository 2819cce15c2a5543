//! The home's own lock: a spin lock whose holder is not interrupted.
//!
//! Interrupt handlers take some of the same locks, and a holder that is switched away would keep a whole CPU
//! spinning. Held for a few instructions; its holder never waits for another CPU's flush, so who waits for it
//! need not serve any.

use core::ops::{Deref, DerefMut};

use spin::mutex::{SpinMutex, SpinMutexGuard};

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

/// Masks interrupts; the result is for [`intr_restore`].
#[inline]
pub(crate) fn intr_save() -> usize {
    // SAFETY: this is ring 0.
    unsafe { rumpvm_arch::intr_save() }
}

/// Goes back to what [`intr_save`] found.
#[inline]
pub(crate) fn intr_restore(before: usize) {
    // SAFETY: this is ring 0, and all that the caller did meanwhile is finished.
    unsafe { rumpvm_arch::intr_restore(before) };
}
