//! Waiting: the one way in which a thread of a program blocks.
//!
//! Flow:  a thread lists its waker in the queues of what it waits for, looks, sleeps, looks again; whoever changes
//!        something wakes the queue; whoever sends a signal interrupts the waker.
//! Locks: a queue's, for a few instructions.
//! Sleep: [`wait`], with none of this crate's locks held.
//! Owns:  a queue holds the wakers that are listed in it.
//!
//! W1. Whoever is listed looks after listing himself, and whoever changes something wakes the queue afterwards: no
//!     change goes unnoticed.
//! W2. An interrupt stays until it is cleared, so it also ends a wait that begins after it.

use alloc::vec::Vec;

use rumpvm::sync::{Atomic, Event, Ordering, Spin, try_push};
use rumpvm::{Hold, NoMemory};
use rumpvm_platform::{Platform, Seam};

use crate::class;
use crate::errno::Errno;

/// What wakes one thread.
pub struct Waker<P: Platform> {
    event: Event<P>,
    interrupted: Atomic<u32, P>,
}

impl<P: Platform> Waker<P> {
    /// The waker of a new thread.
    pub fn try_new() -> Result<Hold<Self, P>, NoMemory> {
        Hold::try_new(Self { event: Event::new(), interrupted: Atomic::new(0) })
    }

    /// Has the thread look again at what it waits for, if it waits. Takes no lock.
    pub fn wake(&self) {
        self.event.raise();
    }

    /// Ends the thread's wait, or its next one, with [`Errno::EINTR`], until [`Waker::clear`] (W2). Takes no lock.
    pub fn interrupt(&self) {
        self.interrupted.store(1, Ordering::Release);
        self.event.raise();
    }

    /// Whether somebody has interrupted it since it was cleared.
    #[inline]
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Acquire) != 0
    }

    /// The thread is about to look at why it was interrupted.
    pub fn clear(&self) {
        self.interrupted.swap(0, Ordering::AcqRel);
    }
}

/// Most pipes and sockets have one thread on each side.
const FEW: usize = 2;

/// Who waits for something.
pub struct Queue<P: Platform> {
    wakers: Spin<Vec<Hold<Waker<P>, P>>, P>,
}

impl<P: Platform> Default for Queue<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Platform> Queue<P> {
    /// Nobody.
    pub fn new() -> Self {
        Self { wakers: Spin::new(&class::QUEUE, Vec::new()) }
    }

    /// Has everybody look again. To be called after the change that they wait for.
    ///
    /// A few are woken with the lock given up: to interrupt another CPU takes long, above all where that is an emulated
    /// one, and who is woken there wants the lock at once to strike himself. Who has struck himself meanwhile is woken
    /// for nothing, and looks again.
    pub fn wake(&self) {
        let mut few = [const { None }; FEW];
        let wakers = self.wakers.lock();
        if wakers.len() > FEW {
            wakers.iter().for_each(|waker| waker.wake());
            return;
        }
        for (place, waker) in few.iter_mut().zip(&*wakers) {
            *place = Some(waker.clone());
        }
        drop(wakers);
        few.iter().flatten().for_each(|waker| waker.wake());
    }

    fn list(&self, waker: &Hold<Waker<P>, P>) -> Result<(), NoMemory> {
        try_push::<_, P>(&mut self.wakers.lock(), waker.clone())
    }

    fn strike(&self, waker: &Hold<Waker<P>, P>) {
        let mut wakers = self.wakers.lock();
        let found = wakers.iter().position(|other| other.is(waker));
        let struck = found.map(|at| wakers.swap_remove(at));
        drop(wakers);
        drop(struck);
    }
}

/// A thread in the queues of what it waits for; taken out when it is dropped.
struct Listed<'a, P: Platform> {
    waker: &'a Hold<Waker<P>, P>,
    queues: &'a [&'a Queue<P>],
}

impl<'a, P: Platform> Listed<'a, P> {
    fn new(waker: &'a Hold<Waker<P>, P>, queues: &'a [&'a Queue<P>]) -> Result<Self, NoMemory> {
        let mut listed = Self { waker, queues: &[] };
        for (at, queue) in queues.iter().enumerate() {
            queue.list(waker)?;
            listed.queues = &queues[..=at];
        }
        Ok(listed)
    }
}

impl<P: Platform> Drop for Listed<'_, P> {
    fn drop(&mut self) {
        for queue in self.queues {
            queue.strike(self.waker);
        }
    }
}

/// Calls `look` until it has an answer, and sleeps meanwhile; `queues` are woken when that may have changed.
///
/// Errors: [`Errno::EINTR`] when the waker is interrupted, [`Errno::ETIMEDOUT`] once the home's clock
/// ([`Seam::clock`]) has reached `until`, [`Errno::ENOMEM`]; an answer goes before all of them. The caller holds no
/// lock.
pub fn wait<P: Platform, T>(
    waker: &Hold<Waker<P>, P>,
    queues: &[&Queue<P>],
    until: Option<u64>,
    mut look: impl FnMut() -> Option<T>,
) -> Result<T, Errno> {
    if let Some(answer) = look() {
        return Ok(answer);
    }
    let _listed = Listed::new(waker, queues)?;
    loop {
        let seen = waker.event.seen();
        if let Some(answer) = look() {
            return Ok(answer);
        }
        if waker.is_interrupted() {
            return Err(Errno::EINTR);
        }
        if until.is_some_and(|until| <P as Seam>::clock() >= until) {
            return Err(Errno::ETIMEDOUT);
        }
        waker.event.wait_until(seen, until);
    }
}
