//! Hoards: who keeps frames at hand that nobody uses, and lets them go when somebody wants one and there is none.
//!
//! Zones and the heap's arena of pages are such. They are built on frames, so here they are known by what they promise.
//!
//! Flow:  no frame -> one hoard after the other -> frames -> whoever wants one. `Mmu::squeeze` has every CPU ask, because a
//!        hoard lets go of what all CPUs share and of what it has for the CPU that asks.
//! Locks: the list's. Who asks may have any lock but that one and those of frames; so a hoard's own locks come before, and
//!        are only tried.
//! Sleep: never; and no other CPU is waited for but one that asks too.
//! Owns:  a hold of each hoard.
//!
//! H1. A hoard that lets go asks for no frame, calls no constructor or destructor of the host's, and waits for no lock but
//!     those of frames: so whoever asks never meets himself.
//! H2. Who has left is asked no more: leaving waits for whoever is asking.
//! H3. The link of a hoard is changed, and looked at, by whoever has the lock of the list that it is in. It is in one at
//!     most: who makes `is_in` 1 puts it there.

use core::cell::UnsafeCell;

use rumpvm_arch::Frame;
use rumpvm_platform::Platform;

use super::Phys;
use crate::sync::{Atomic, Hold, Ordering};

/// Something that keeps frames at hand.
pub(crate) trait Hoard<P: Platform>: Send + Sync {
    /// Its place among the others.
    fn link(&self) -> &Link<P>;

    /// Frees all frames that nobody uses, as far as this CPU gets at them (H1).
    fn let_go(&self, phys: &Phys<P>);
}

/// The next hoard, if there is one.
pub(super) type Next<P> = Option<Hold<dyn Hoard<P>, P>>;

/// The place of a hoard in the list, so that entering takes no memory.
pub(crate) struct Link<P: Platform> {
    next: UnsafeCell<Next<P>>,
    is_in: Atomic<u32, P>,
}

// SAFETY: `next` is reached by one CPU at a time (H3), and what is there can be sent to another CPU.
unsafe impl<P: Platform> Sync for Link<P> {}

impl<P: Platform> Link<P> {
    /// A place outside of the list.
    pub(crate) fn new() -> Self {
        Self { next: UnsafeCell::new(None), is_in: Atomic::new(0) }
    }
}

impl<P: Platform> Phys<P> {
    /// `hoard` is asked from now on, until it leaves. As often as one likes.
    #[inline]
    pub(crate) fn join<T: Hoard<P> + 'static>(&self, hoard: &Hold<T, P>) {
        if hoard.link().is_in.load(Ordering::Relaxed) == 0 {
            // SAFETY: the pointer is returned as it is, but for its type.
            self.enter(unsafe { hoard.clone().unsize(|record| record) });
        }
    }

    #[cold]
    #[inline(never)]
    fn enter(&self, hoard: Hold<dyn Hoard<P>, P>) {
        let mut first = self.hoards.lock();
        let link = hoard.link();
        if link.is_in.compare_exchange(0, 1, Ordering::Acquire).is_ok() {
            // SAFETY: it was in no list, and is about to be in this one, whose lock we have (H3).
            unsafe { *link.next.get() = first.take() };
            first.replace(hoard);
        }
    }

    /// The hoard with that link is asked no more, if it was (H2).
    #[inline(never)]
    pub(crate) fn leave(&self, link: &Link<P>) {
        let mut first = self.hoards.lock();
        let mut rest = first.take();
        while let Some(one) = rest {
            // SAFETY: it is in this list, whose lock we have (H3); nobody else has a reference.
            let next = unsafe { &mut *one.link().next.get() };
            rest = next.take();
            if core::ptr::eq(one.link(), link) {
                link.is_in.store(0, Ordering::Release);
            } else {
                *next = first.take();
                *first = Some(one);
            }
        }
    }

    /// Asks one hoard after the other until `wanted` finds a frame.
    #[cold]
    #[inline(never)]
    pub(super) fn ask_hoards(&self, wanted: &dyn Fn() -> Option<Frame>) -> Option<Frame> {
        let first = self.hoards.lock();
        let mut next = first.as_ref();
        loop {
            // First of all, because another CPU may just have asked.
            let found = wanted();
            let Some(hoard) = next.filter(|_| found.is_none()) else { return found };
            hoard.let_go(self);
            // SAFETY: it is in this list, whose lock we have (H3); nobody changes it before `first` goes.
            next = unsafe { &*hoard.link().next.get() }.as_ref();
        }
    }

    /// Takes all that hoards let go, and all that this CPU has at hand, back to where everyone finds it, and in one piece
    /// where it is one.
    pub(crate) fn drain_all(&self) {
        self.ask_hoards(&|| None);
        self.drain();
    }
}
