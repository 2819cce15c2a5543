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
use core::panic::Location;

use rumpvm_platform::{LockClass, LockStep, LockUse, Seam};

use super::cells::const_unless_loom;
use super::seam::{Atomic, Ordering};

/// A ticket lock without data, 4 bytes, for records that guard something elsewhere. Its class is said where it
/// is taken: a record has no room for it.
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
    taken: LockUse,
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
    const_unless_loom! {
        /// An unlocked lock.
        #[inline]
        pub const fn new() -> Self {
            Self { next: Atomic::zero(), owner: Atomic::zero() }
        }
    }

    /// Takes the lock; waits without sleeping, and serves flush requests meanwhile.
    #[inline]
    #[track_caller]
    pub fn lock(&self, class: &'static LockClass) -> RawGuard<'_, S> {
        self.wait_for_turn(class, |owner, ticket| {
            owner.wait_while(Ordering::Acquire, |owner| owner != ticket);
        })
    }

    /// As [`RawSpin::lock`], without serving anything.
    #[inline]
    #[track_caller]
    fn lock_quietly(&self, class: &'static LockClass) -> RawGuard<'_, S> {
        self.wait_for_turn(class, |owner, ticket| {
            owner.spin_while(Ordering::Acquire, |owner| owner != ticket);
        })
    }

    #[inline]
    #[track_caller]
    fn wait_for_turn(
        &self,
        class: &'static LockClass,
        wait: impl Fn(&Atomic<u16, S>, u16),
    ) -> RawGuard<'_, S> {
        let wanted = self.used(class);
        S::lock_step(LockStep::Want, &wanted);
        let interrupts = S::intr_save();
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        if self.owner.load(Ordering::Acquire) != ticket {
            wait(&self.owner, ticket);
        }
        self.guard(wanted, interrupts)
    }

    /// Takes the lock if it is free at this moment.
    #[inline]
    #[track_caller]
    pub fn try_lock(&self, class: &'static LockClass) -> Option<RawGuard<'_, S>> {
        let wanted = self.used(class);
        S::lock_step(LockStep::Try, &wanted);
        let interrupts = S::intr_save();
        // What the last holder did is seen through the word that he stored on unlocking.
        let owner = self.owner.load(Ordering::Acquire);
        // `next == owner` means that nobody holds the lock or waits for it.
        match self.next.compare_exchange(owner, owner.wrapping_add(1), Ordering::Acquire) {
            Ok(_) => Some(self.guard(wanted, interrupts)),
            Err(_) => {
                S::lock_step(LockStep::Failed, &wanted);
                S::intr_restore(interrupts);
                None
            }
        }
    }

    /// Waits until those who hold it or wait for it now have had it, without taking it; serves flush requests
    /// meanwhile.
    pub fn wait_until_free(&self) {
        let next = self.next.load(Ordering::Relaxed);
        let is_ahead = |owner: u16| next.wrapping_sub(owner) as i16 > 0;
        self.owner.wait_while(Ordering::Acquire, is_ahead);
    }

    /// Whether anybody holds it. Stale at once unless nobody runs.
    #[inline]
    pub fn is_locked(&self) -> bool {
        self.next.load(Ordering::Relaxed) != self.owner.load(Ordering::Relaxed)
    }

    #[inline]
    #[track_caller]
    fn used(&self, class: &'static LockClass) -> LockUse {
        LockUse { class, address: self.owner.address(), shared: false, site: Location::caller() }
    }

    #[inline]
    fn guard(&self, taken: LockUse, interrupts: usize) -> RawGuard<'_, S> {
        S::lock_step(LockStep::Taken, &taken);
        RawGuard { lock: self, taken, interrupts, not_send: PhantomData }
    }
}

impl<S: Seam> Drop for RawGuard<'_, S> {
    #[inline]
    fn drop(&mut self) {
        S::lock_step(LockStep::Free, &self.taken);
        let ticket = self.lock.owner.get();
        self.lock.owner.store(ticket.wrapping_add(1), Ordering::Release);
        S::lock_step(LockStep::Freed, &self.taken);
        S::intr_restore(self.interrupts);
    }
}

/// Data behind a ticket lock.
pub struct Spin<T, S> {
    class: &'static LockClass,
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
    const_unless_loom! {
        /// Puts `data` behind a lock.
        #[inline]
        pub const fn new(class: &'static LockClass, data: T) -> Self {
            Self { class, lock: RawSpin::new(), data: UnsafeCell::new(data) }
        }
    }

    /// Takes the lock; waits without sleeping.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> SpinGuard<'_, T, S> {
        SpinGuard { _raw: self.lock.lock_quietly(self.class), data: &self.data }
    }

    /// Takes the lock if it is free at this moment.
    #[inline]
    #[track_caller]
    pub fn try_lock(&self) -> Option<SpinGuard<'_, T, S>> {
        let raw = self.lock.try_lock(self.class)?;
        Some(SpinGuard { _raw: raw, data: &self.data })
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
