//! Ticket spin locks: first come, first served; interrupts stay masked while one is held.
//!
//! A spin lock is never held across a sleep or a switch: masking interrupts keeps the timer out, and
//! nothing in the component sleeps with a guard alive.
//!
//! There are two kinds. The holder of a [`RawSpin`], which guards a table or node, may wait for other CPUs
//! to flush what it takes away; so a CPU that waits for one serves flush requests meanwhile. The holder of
//! a [`Spin`] waits for nothing, and a CPU that waits for one serves nothing: serving takes such locks.

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use rumpvm_platform::{Point, Seam};

use super::seam::{Atomic, Ordering};

/// A ticket lock without data, 4 bytes, for records that guard something elsewhere.
pub struct RawSpin<S> {
    /// Next ticket to hand out.
    next: Atomic<u16, S>,
    /// Ticket that may enter.
    owner: Atomic<u16, S>,
}

/// Proof that a [`RawSpin`] is held. Unlocks when dropped.
#[must_use = "dropping the guard unlocks"]
pub struct RawGuard<'l, S: Seam> {
    lock: &'l RawSpin<S>,
    interrupts: usize,
    /// Interrupt state belongs to the CPU that saved it.
    not_send: PhantomData<*mut ()>,
}

impl<S: Seam> Default for RawSpin<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Seam> RawSpin<S> {
    /// An unlocked lock.
    #[inline]
    pub fn new() -> Self {
        Self { next: Atomic::new(0), owner: Atomic::new(0) }
    }

    /// Takes the lock; waits without sleeping, and serves flush requests meanwhile.
    #[inline]
    pub fn lock(&self) -> RawGuard<'_, S> {
        S::point(Point::Lock(self.owner.address()));
        let interrupts = S::intr_save();
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        if self.owner.load(Ordering::Acquire) != ticket {
            self.owner.wait_while(Ordering::Acquire, |owner| owner != ticket);
        }
        RawGuard { lock: self, interrupts, not_send: PhantomData }
    }

    /// As [`RawSpin::lock`], without serving anything.
    #[inline]
    fn lock_quietly(&self) -> RawGuard<'_, S> {
        S::point(Point::Lock(self.owner.address()));
        let interrupts = S::intr_save();
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        if self.owner.load(Ordering::Acquire) != ticket {
            self.owner.spin_while(Ordering::Acquire, |owner| owner != ticket);
        }
        RawGuard { lock: self, interrupts, not_send: PhantomData }
    }

    /// Takes the lock if it is free at this moment.
    #[inline]
    pub fn try_lock(&self) -> Option<RawGuard<'_, S>> {
        S::point(Point::Lock(self.owner.address()));
        let interrupts = S::intr_save();
        let owner = self.owner.load(Ordering::Relaxed);
        // `next == owner` means that nobody holds the lock or waits for it.
        match self.next.compare_exchange(owner, owner.wrapping_add(1), Ordering::Acquire) {
            Ok(_) => Some(RawGuard { lock: self, interrupts, not_send: PhantomData }),
            Err(_) => {
                S::intr_restore(interrupts);
                None
            }
        }
    }

    /// Whether anybody holds it. Stale at once unless nobody runs.
    #[inline]
    pub fn is_locked(&self) -> bool {
        self.next.load(Ordering::Relaxed) != self.owner.load(Ordering::Relaxed)
    }
}

impl<S: Seam> Drop for RawGuard<'_, S> {
    #[inline]
    fn drop(&mut self) {
        let ticket = self.lock.owner.get();
        self.lock.owner.store(ticket.wrapping_add(1), Ordering::Release);
        S::intr_restore(self.interrupts);
        S::point(Point::Unlock(self.lock.owner.address()));
    }
}

/// Data behind a ticket lock.
pub struct Spin<T, S> {
    lock: RawSpin<S>,
    data: UnsafeCell<T>,
}

/// Access to the data of a held [`Spin`].
#[must_use = "dropping the guard unlocks"]
pub struct SpinGuard<'l, T, S: Seam> {
    data: &'l UnsafeCell<T>,
    _raw: RawGuard<'l, S>,
}

// SAFETY: the data is reached only through a guard, and the lock gives out one guard at a time, so
// sharing the lock only ever moves the data from one CPU to another.
unsafe impl<T: Send, S: Seam> Sync for Spin<T, S> {}
// SAFETY: an owned lock owns its data.
unsafe impl<T: Send, S: Seam> Send for Spin<T, S> {}

impl<T, S: Seam> Spin<T, S> {
    /// Puts `data` behind a lock.
    #[inline]
    pub fn new(data: T) -> Self {
        Self { lock: RawSpin::new(), data: UnsafeCell::new(data) }
    }

    /// Takes the lock; waits without sleeping.
    #[inline]
    pub fn lock(&self) -> SpinGuard<'_, T, S> {
        SpinGuard { _raw: self.lock.lock_quietly(), data: &self.data }
    }
}

impl<T, S: Seam> Deref for SpinGuard<'_, T, S> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the raw guard in `self` is the only one of this lock, so nobody writes.
        unsafe { &*self.data.get() }
    }
}

impl<T, S: Seam> DerefMut for SpinGuard<'_, T, S> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the raw guard in `self` is the only one of this lock, and `self` is borrowed mutably.
        unsafe { &mut *self.data.get() }
    }
}
