//! The home's own lock: a spin lock whose holder is not interrupted. Held for a few instructions; its holder waits for
//! nobody, so who waits for it need not serve flushes.

use core::ops::{Deref, DerefMut};

use rumpvm_platform::Seam;
use spin::mutex::{SpinMutex, SpinMutexGuard};

use crate::home::Foreign;

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
struct Masked {
    before: usize,
}

impl Drop for Masked {
    fn drop(&mut self) {
        Foreign::intr_restore(self.before);
    }
}

impl<T> Lock<T> {
    pub(crate) const fn new(data: T) -> Self {
        Self { data: SpinMutex::new(data) }
    }

    pub(crate) fn lock(&self) -> Guard<'_, T> {
        let interrupts = Masked { before: Foreign::intr_save() };
        Guard { data: self.data.lock(), _interrupts: interrupts }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.data
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.data
    }
}
