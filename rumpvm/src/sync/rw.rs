//! Reader-writer spin locks, phase-fair: readers and writers take turns when both wait.
//!
//! A reader waits for one writer at most, a writer for the readers and writers that came before it; so neither
//! starves, which a lock that prefers one of them cannot say. Ticket lock PF-T of Brandenburg and Anderson,
//! "Spin-Based Reader-Writer Synchronization for Multiprocessor Real-Time Systems" (2010), 3.2.
//!
//! As with [`Spin`](super::Spin) interrupts stay masked while it is held, by readers too: an interrupt that
//! wrote would wait for the reader below it. It is never held across a sleep, and who waits serves nothing. A
//! reader must not read again: a writer may have come in between, and each would wait for the other.
//!
//! P1. The low bits of `entered` say whether a writer is present, and in which of two phases; a reader that meets
//!     one waits until those bits are different. Each writer that enters turns the phase over, and nobody else
//!     does: the phase cannot be that of a ticket, because a try that fails uses one up.
//! P2. Readers count in whole steps above these bits, in at `entered` and out at `left`; when the counts that a
//!     writer finds are equal, no reader of before is inside.

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::panic::Location;

use rumpvm_platform::{LockClass, LockStep, LockUse, Seam};

use super::seam::{Atomic, Ordering};

/// One reader.
const READER: u32 = 0x100;
/// A writer is present.
const PRESENT: u32 = 2;
/// The phase of the writer that is or was present last.
const PHASE: u32 = 1;
const WRITER: u32 = PRESENT | PHASE;

/// Data behind a phase-fair reader-writer spin lock.
pub struct Rw<T, S> {
    class: &'static LockClass,
    /// Readers that came, and the writer's bits (P1).
    entered: Atomic<u32, S>,
    /// Readers that went.
    left: Atomic<u32, S>,
    /// Next ticket for a writer.
    next: Atomic<u32, S>,
    /// Ticket of the writer that may enter.
    turn: Atomic<u32, S>,
    data: UnsafeCell<T>,
}

/// Proof that a lock is held for reading. Unlocks when dropped.
#[must_use = "dropping the guard unlocks"]
pub struct Reading<'l, T, S: Seam> {
    lock: &'l Rw<T, S>,
    held: Held,
}

/// Proof that a lock is held for writing. Unlocks when dropped.
#[must_use = "dropping the guard unlocks"]
pub struct Writing<'l, T, S: Seam> {
    lock: &'l Rw<T, S>,
    held: Held,
}

/// What both guards keep.
struct Held {
    used: LockUse,
    interrupts: usize,
    /// Interrupt state belongs to the CPU that saved it.
    not_send: PhantomData<*mut ()>,
}

// SAFETY: the data is reached only through guards: by several readers at a time, which needs `T: Sync`, or by
// one writer, which needs `T: Send`.
unsafe impl<T: Send + Sync, S: Seam> Sync for Rw<T, S> {}
// SAFETY: an owned lock owns its data.
unsafe impl<T: Send, S: Seam> Send for Rw<T, S> {}

impl<T, S: Seam> Rw<T, S> {
    /// Puts `data` behind a lock.
    pub fn new(class: &'static LockClass, data: T) -> Self {
        let [entered, left, next, turn] = core::array::from_fn(|_| Atomic::new(0));
        Self { class, entered, left, next, turn, data: UnsafeCell::new(data) }
    }

    /// Takes the lock for reading; waits without sleeping.
    #[inline]
    #[track_caller]
    pub fn read(&self) -> Reading<'_, T, S> {
        let held = self.wants(LockStep::Want, true);
        let writer = self.entered.fetch_add(READER, Ordering::Acquire) & WRITER;
        if writer & PRESENT != 0 {
            self.entered.spin_while(Ordering::Acquire, |now| now & WRITER == writer);
        }
        S::lock_step(LockStep::Taken, &held.used);
        Reading { lock: self, held }
    }

    /// Takes the lock for reading if no writer is there at this moment.
    #[track_caller]
    pub fn try_read(&self) -> Option<Reading<'_, T, S>> {
        let held = self.wants(LockStep::Try, true);
        let mut seen = self.entered.load(Ordering::Relaxed);
        while seen & PRESENT == 0 {
            let more = seen.wrapping_add(READER);
            match self.entered.compare_exchange(seen, more, Ordering::Acquire) {
                Ok(_) => {
                    S::lock_step(LockStep::Taken, &held.used);
                    return Some(Reading { lock: self, held });
                }
                Err(now) => seen = now,
            }
        }
        held.failed::<S>();
        None
    }

    /// Takes the lock for writing; waits without sleeping.
    #[inline]
    #[track_caller]
    pub fn write(&self) -> Writing<'_, T, S> {
        let held = self.wants(LockStep::Want, false);
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        self.turn.spin_while(Ordering::Acquire, |turn| turn != ticket);
        // From here on readers wait; those that came before are waited for.
        let phase = self.entered.load(Ordering::Relaxed) & PHASE;
        let before = self.entered.fetch_add(WRITER - 2 * phase, Ordering::Acquire) & !WRITER;
        self.left.spin_while(Ordering::Acquire, |left| left != before);
        S::lock_step(LockStep::Taken, &held.used);
        Writing { lock: self, held }
    }

    /// Takes the lock for writing if nobody has it at this moment.
    #[track_caller]
    pub fn try_write(&self) -> Option<Writing<'_, T, S>> {
        let held = self.wants(LockStep::Try, false);
        let ticket = self.turn.load(Ordering::Acquire);
        let readers = self.left.load(Ordering::Acquire);
        if self.next.compare_exchange(ticket, ticket.wrapping_add(1), Ordering::Acquire).is_err() {
            held.failed::<S>();
            return None;
        }
        // The only writer now. No reader is inside if as many have come as had gone before.
        let phase = self.entered.load(Ordering::Relaxed) & PHASE;
        let (absent, present) = (readers | phase, readers | PRESENT | (phase ^ PHASE));
        if self.entered.compare_exchange(absent, present, Ordering::Acquire).is_err() {
            self.turn.store(ticket.wrapping_add(1), Ordering::Release);
            held.failed::<S>();
            return None;
        }
        S::lock_step(LockStep::Taken, &held.used);
        Some(Writing { lock: self, held })
    }

    #[inline]
    #[track_caller]
    fn wants(&self, step: LockStep, shared: bool) -> Held {
        let (address, site) = (self.entered.address(), Location::caller());
        let used = LockUse { class: self.class, address, shared, site };
        S::lock_step(step, &used);
        Held { used, interrupts: S::intr_save(), not_send: PhantomData }
    }
}

impl Held {
    fn failed<S: Seam>(&self) {
        S::lock_step(LockStep::Failed, &self.used);
        S::intr_restore(self.interrupts);
    }
}

impl<T, S: Seam> Drop for Reading<'_, T, S> {
    #[inline]
    fn drop(&mut self) {
        S::lock_step(LockStep::Free, &self.held.used);
        self.lock.left.fetch_add(READER, Ordering::Release);
        S::lock_step(LockStep::Freed, &self.held.used);
        S::intr_restore(self.held.interrupts);
    }
}

impl<T, S: Seam> Drop for Writing<'_, T, S> {
    #[inline]
    fn drop(&mut self) {
        S::lock_step(LockStep::Free, &self.held.used);
        // The readers that wait go first, then the next writer: it sees them in `entered`.
        self.lock.entered.fetch_and(!PRESENT, Ordering::Release);
        let ticket = self.lock.turn.get();
        self.lock.turn.store(ticket.wrapping_add(1), Ordering::Release);
        S::lock_step(LockStep::Freed, &self.held.used);
        S::intr_restore(self.held.interrupts);
    }
}

impl<T, S: Seam> Deref for Reading<'_, T, S> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard keeps writers out.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T, S: Seam> Deref for Writing<'_, T, S> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard is the only one.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T, S: Seam> DerefMut for Writing<'_, T, S> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard is the only one, and it is borrowed mutably.
        unsafe { &mut *self.lock.data.get() }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::sync::Barrier;
    use std::thread;

    use super::*;
    use crate::sync::tests::{SPIN, Threads};

    type Tested<T> = Rw<T, Threads>;
    const ROUNDS: u64 = 3_000;

    #[test]
    fn readers_are_in_together_and_keep_writers_out() {
        let (lock, inside) = (Tested::new(&SPIN, 1), Barrier::new(3));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let reading = lock.read();
                    inside.wait();
                    assert_eq!(*reading, 1);
                    inside.wait();
                });
            }
            inside.wait();
            assert!(lock.try_write().is_none());
            assert!(lock.try_read().is_some());
            inside.wait();
        });
        *lock.try_write().unwrap() += 1;
        assert_eq!(*lock.read(), 2);
    }

    #[test]
    fn a_writer_is_alone() {
        let lock = Tested::new(&SPIN, ());
        for waits in [true, false] {
            let writing = if waits { lock.write() } else { lock.try_write().unwrap() };
            thread::scope(|scope| {
                let tries = || (lock.try_read().is_none(), lock.try_write().is_none());
                assert_eq!(scope.spawn(tries).join().unwrap(), (true, true));
            });
            drop(writing);
            assert!(lock.try_read().is_some() && lock.try_write().is_some());
        }
    }

    #[test]
    fn each_writer_turns_the_phase_over() {
        let lock = Tested::new(&SPIN, ());
        let phase = || lock.entered.load(Ordering::Relaxed);
        for waits in [true, false, false, true, true] {
            let before = phase();
            drop(if waits { lock.write() } else { lock.try_write().unwrap() });
            assert_eq!(phase(), before ^ PHASE);
        }
    }

    #[test]
    fn a_reader_waits_for_the_writer_that_is_inside() {
        let (lock, comes) = (Tested::new(&SPIN, 0), Barrier::new(2));
        let mut writing = lock.write();
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                comes.wait();
                *lock.read()
            });
            comes.wait();
            (0..1000).for_each(|_| thread::yield_now());
            *writing = 1;
            drop(writing);
            assert_eq!(reader.join().unwrap(), 1);
        });
    }

    #[test]
    fn readers_see_whole_writes_and_writers_lose_none() {
        // Two words that are always equal for whoever may look.
        let lock = Tested::new(&SPIN, [0u64; 2]);
        thread::scope(|scope| {
            for number in 0..4 {
                let lock = &lock;
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        if (number + round).is_multiple_of(4) {
                            if let Some(reading) = lock.try_read() {
                                assert_eq!(reading[0], reading[1]);
                            }
                        } else if number.is_multiple_of(2) {
                            let reading = lock.read();
                            assert_eq!(reading[0], reading[1]);
                        } else {
                            let writing = lock.try_write();
                            let mut writing = writing.unwrap_or_else(|| lock.write());
                            writing[0] += 1;
                            writing[1] += 1;
                        }
                    }
                });
            }
        });
        let writes = 2 * ROUNDS - ROUNDS / 4 * 2;
        assert_eq!(*lock.read(), [writes; 2]);
    }
}
