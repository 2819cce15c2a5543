//! Leaves: 512 tagged slots behind one lock.

use rumpvm_arch::Frame;
use rumpvm_platform::{LockClass, Platform};

use super::SLOTS;
use super::node::TAG_BITS;
use crate::phys::{Page, Phys};
use crate::sync::{Atomic, Ordering, spin::RawGuard};

/// What a leaf slot says. Swapped-out pages and cells shared between amaps get tags of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slot {
    /// Nothing is there.
    Empty,
    /// This frame is there; the slot counts as one of its references.
    Page(Frame),
    /// No page may be there: whoever touches it is stopped.
    Guard,
}

pub(super) const TAG_PAGE: u64 = 1;

const TAG_GUARD: u64 = 4;

impl Slot {
    #[inline]
    pub(super) fn encode(self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Page(frame) => u64::from(frame.0) << TAG_BITS | TAG_PAGE,
            Self::Guard => TAG_GUARD,
        }
    }

    #[inline]
    pub(super) fn decode(word: u64) -> Self {
        match word {
            0 => Self::Empty,
            TAG_GUARD => Self::Guard,
            _ => Self::Page(Frame((word >> TAG_BITS) as u32)),
        }
    }
}

/// A locked leaf.
pub struct Leaf<'p, P: Platform> {
    pub(super) page: &'p Page<P>,
    pub(super) words: &'p [Atomic<u64, P>; SLOTS],
    /// Index of its first slot.
    pub(super) base: u64,
    pub(super) _lock: RawGuard<'p, P>,
}

impl<'p, P: Platform> Leaf<'p, P> {
    #[inline]
    #[track_caller]
    pub(super) fn lock(
        phys: &'p Phys<P>,
        class: &'static LockClass,
        frame: Frame,
        index: u64,
    ) -> Self {
        let page = phys.page(frame);
        let lock = page.lock.lock(class);
        let base = index & !(SLOTS as u64 - 1);
        Self { page, words: phys.words(frame), base, _lock: lock }
    }

    /// What is at `index`, which this leaf covers.
    #[inline]
    pub fn get(&self, index: u64) -> Slot {
        debug_assert_eq!(index & !(SLOTS as u64 - 1), self.base);
        Slot::decode(self.words[index as usize & (SLOTS - 1)].load(Ordering::Relaxed))
    }

    /// Changes what is at `index`. References move with the slot: the caller brings the new one and takes
    /// over the old one.
    #[inline]
    pub fn set(&mut self, index: u64, slot: Slot) {
        let word = &self.words[index as usize & (SLOTS - 1)];
        let (before, after) = (word.load(Ordering::Relaxed) != 0, slot != Slot::Empty);
        word.store(slot.encode(), Ordering::Release);
        let live = self.page.live.get() + u32::from(after) - u32::from(before);
        self.page.live.set(live);
    }

    /// Slots that are not empty.
    pub fn live(&self) -> u32 {
        self.page.live.get()
    }

    /// Indices that this leaf covers.
    #[inline]
    pub fn range(&self) -> (u64, u64) {
        (self.base, self.base + SLOTS as u64)
    }
}
