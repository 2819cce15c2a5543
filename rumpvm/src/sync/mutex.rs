//! Sleep locks: mutual exclusion that may be held across I/O and other sleeps.
//!
//! The word is 0 (free), 1 (held) or 2 (held, and somebody may sleep on it); the protocol is the third
//! one of Drepper's "Futexes Are Tricky".

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::panic::Location;

use rumpvm_platform::{LockClass, LockStep, LockUse, Seam};

use super::seam::{Atomic, Ordering};

const FREE: u32 = 0;
const HELD: u32 = 1;
const CONTENDED: u32 = 2;

/// Data behind a sleep lock. Sleeps when it has to wait; take no spin lock before it.
pub struct Mutex<T, S> {
    class: &'static LockClass,
    word: Atomic<u32, S>,
    data: UnsafeCell<T>,
}

/// Access to the data of a held [`Mutex`].
#[must_use = "dropping the guard unlocks"]
pub struct MutexGuard<'l, T, S: Seam> {
    lock: &'l Mutex<T, S>,
    taken: LockUse,
}

// SAFETY: the data is reached only through a guard, and the word admits one guard at a time.
unsafe impl<T: Send, S: Seam> Sync for Mutex<T, S> {}
// SAFETY: an owned lock owns its data.
unsafe impl<T: Send, S: Seam> Send for Mutex<T, S> {}

impl<T, S: Seam> Mutex<T, S> {
    /// Puts `data` behind a lock.
    pub fn new(class: &'static LockClass, data: T) -> Self {
        Self { class, word: Atomic::new(FREE), data: UnsafeCell::new(data) }
    }

    /// Takes the lock, sleeping while somebody else has it.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T, S> {
        let address = self.word.address();
        let taken = LockUse { class: self.class, address, shared: false, site: Location::caller() };
        S::lock_step(LockStep::Want, &taken);
        if self.word.compare_exchange(FREE, HELD, Ordering::Acquire).is_err() {
            while self.word.swap(CONTENDED, Ordering::Acquire) != FREE {
                self.word.sleep_while(CONTENDED);
            }
        }
        S::lock_step(LockStep::Taken, &taken);
        MutexGuard { lock: self, taken }
    }

    /// Whether anybody holds it. Stale at once unless nobody runs.
    pub fn is_locked(&self) -> bool {
        self.word.load(Ordering::Relaxed) != FREE
    }
}

impl<T, S: Seam> Drop for MutexGuard<'_, T, S> {
    #[inline]
    fn drop(&mut self) {
        S::lock_step(LockStep::Free, &self.taken);
        if self.lock.word.swap(FREE, Ordering::Release) == CONTENDED {
            self.lock.word.wake_sleepers();
        }
        S::lock_step(LockStep::Freed, &self.taken);
    }
}

impl<T, S: Seam> Deref for MutexGuard<'_, T, S> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard is the only one, so nobody writes.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T, S: Seam> DerefMut for MutexGuard<'_, T, S> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard is the only one, and it is borrowed mutably.
        unsafe { &mut *self.lock.data.get() }
    }
}
