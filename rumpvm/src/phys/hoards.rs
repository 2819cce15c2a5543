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

use rumpvm_platform::Platform;

use super::Phys;
use crate::sync::{Atomic, Hold, Ordering, Spin, class};

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
    next: Spin<Next<P>, P>,
    /// Whether it is in the list: changed under the list's lock, looked at without.
    is_in: Atomic<u32, P>,
}

impl<P: Platform> Link<P> {
    /// A place outside of the list.
    pub(crate) fn new() -> Self {
        Self { next: Spin::new(&class::HOARD, None), is_in: Atomic::new(0) }
    }
}

impl<P: Platform> Phys<P> {
    /// `hoard` is asked from now on, until it leaves. As often as one likes.
    pub(crate) fn join<T: Hoard<P> + 'static>(&self, hoard: &Hold<T, P>) {
        let link = hoard.link();
        if link.is_in.load(Ordering::Relaxed) != 0 {
            return;
        }
        let mut first = self.hoards.lock();
        if link.is_in.load(Ordering::Relaxed) == 0 {
            link.is_in.store(1, Ordering::Relaxed);
            *link.next.lock() = first.take();
            // SAFETY: the pointer is returned as it is, but for its type.
            *first = Some(unsafe { hoard.clone().unsize(|record| record) });
        }
    }

    /// `hoard` is asked no more, if it was (H2).
    pub(crate) fn leave<T: Hoard<P>>(&self, hoard: &Hold<T, P>) {
        let mut first = self.hoards.lock();
        let mut rest = first.take();
        while let Some(one) = rest {
            rest = one.link().next.lock().take();
            if core::ptr::eq(one.link(), hoard.link()) {
                one.link().is_in.store(0, Ordering::Relaxed);
                continue;
            }
            *one.link().next.lock() = first.take();
            *first = Some(one);
        }
    }

    /// Asks one hoard after the other until `wanted` finds something; what it is.
    #[cold]
    #[inline(never)]
    pub(super) fn ask_hoards<T>(&self, wanted: impl Fn() -> Option<T>) -> Option<T> {
        let first = self.hoards.lock();
        let mut next = first.clone();
        loop {
            // First of all, because another CPU may just have asked.
            let found = wanted();
            let Some(hoard) = next.filter(|_| found.is_none()) else { return found };
            hoard.let_go(self);
            next = hoard.link().next.lock().clone();
        }
    }

    /// Takes all that hoards let go, and all that this CPU has at hand, back to where everyone finds it, and in one piece
    /// where it is one.
    pub(crate) fn drain_all(&self) {
        self.ask_hoards(|| None::<()>);
        self.drain();
    }
}
