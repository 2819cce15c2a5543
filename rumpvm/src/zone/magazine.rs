//! A magazine: what one CPU has at hand of one zone.
//!
//! One of twice the batch for each CPU, instead of Bonwick and Adams's loaded and previous one: half of it is filled or
//! emptied at a time, so a CPU that goes back and forth around a boundary stays away from what is shared, as
//! with two; and a round is found with one pointer less. The same as for frames (`phys/cache.rs`).

use rumpvm_platform::Platform;

use crate::sync::{Atomic, Ordering};

/// Up to `N` items, by address. Written by its CPU alone, with interrupts masked.
pub(crate) struct Magazine<P, const N: usize> {
    len: Atomic<u32, P>,
    /// Items that were taken out to be used, ever.
    taken: Atomic<u64, P>,
    rounds: [Atomic<u64, P>; N],
}

impl<P: Platform, const N: usize> Magazine<P, N> {
    pub(crate) fn new() -> Self {
        Self {
            len: Atomic::new(0),
            taken: Atomic::new(0),
            rounds: core::array::from_fn(|_| Atomic::new(0)),
        }
    }

    /// Takes one, to be used.
    #[inline]
    pub(crate) fn pop(&self) -> Option<u64> {
        let item = self.unload()?;
        self.taken.set(self.taken.get().wrapping_add(1));
        Some(item)
    }

    /// Takes one, to be put elsewhere.
    #[inline]
    pub(crate) fn unload(&self) -> Option<u64> {
        let len = self.len.get().checked_sub(1)?;
        self.len.set(len);
        Some(self.rounds[len as usize].get())
    }

    /// Whether there was room, with `limit` as the capacity.
    #[inline]
    pub(crate) fn push(&self, item: u64, limit: u32) -> bool {
        let len = self.len.get();
        if len >= limit {
            return false;
        }
        self.rounds[len as usize].set(item);
        self.len.set(len + 1);
        true
    }

    /// Items in it. Any CPU may ask; stale at once unless the owner does.
    pub(crate) fn len(&self) -> u32 {
        self.len.load(Ordering::Relaxed)
    }

    /// Items taken, ever. As [`Magazine::len`].
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}
