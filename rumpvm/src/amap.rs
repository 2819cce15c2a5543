//! The amap: a space's private pages, by virtual page number (D3).
//!
//! One tree serves a whole space, because a private page belongs to an address, not to an entry: clipping
//! and merging entries then never touches pages, and fork shares all of it by one reference to the root.
//! Entries without private pages simply have no slots.
//!
//! A1. A slot is filled or replaced with both its leaf's lock and the lock of the page table that serves
//!     the same address held, and after the space's generation was looked at under them.
//! A2. A page may be stored to through this amap only if every node on its path, and the page, has one
//!     reference.

use rumpvm_arch::VirtRange;
use rumpvm_platform::Platform;

use crate::NoMemory;
use crate::phys::Phys;
use crate::radix::{Leaf, Radix, Slot, Spares};
use crate::sync::{Pin, class};

/// The private pages of one space.
pub struct Amap<P: Platform> {
    slots: Radix<P>,
}

impl<P: Platform> Default for Amap<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Platform> Amap<P> {
    /// No pages.
    pub fn new() -> Self {
        Self { slots: Radix::new(&class::AMAP) }
    }

    /// What is at virtual page `page`. Takes no lock.
    #[inline]
    pub fn get(&self, phys: &Phys<P>, pin: &Pin<'_, P>, page: u64) -> Slot {
        self.slots.get(phys, pin, page)
    }

    /// The leaf of virtual page `page`, this amap's alone, locked.
    #[inline]
    pub fn leaf_mut<'p>(
        &self,
        phys: &'p Phys<P>,
        pin: &'p Pin<'_, P>,
        page: u64,
    ) -> Result<Leaf<'p, P>, NoMemory> {
        self.slots.leaf_mut(phys, pin, page)
    }

    /// The same pages for a child, which has none yet: neither side may store to them any more without a
    /// copy. The space's generation must move on before any page table is shared (A1).
    pub fn fork(&self, phys: &Phys<P>, child: &Self) {
        self.slots.share(phys, &child.slots);
    }

    /// Sets aside what clearing `range` may need, so that it cannot fail. No fork may come between.
    pub fn spares<'p>(
        &self,
        phys: &'p Phys<P>,
        range: VirtRange,
    ) -> Result<Spares<'p, P>, NoMemory> {
        self.slots.spares(phys, (range.start.page(), range.end.page()))
    }

    /// Gives up the pages of `range`, of which none may be mapped any more.
    pub fn clear(&self, phys: &Phys<P>, range: VirtRange, spares: &mut Spares<'_, P>) {
        self.slots.clear(phys, (range.start.page(), range.end.page()), spares);
    }

    /// Takes what is at virtual page `page` out, with the slot's reference if it is a page. The path must be
    /// ours alone, as [`Amap::leaf_mut`] makes it, and the page unmapped.
    pub fn take(&self, phys: &Phys<P>, pin: &Pin<'_, P>, page: u64) -> Slot {
        self.slots.take_slot(phys, pin, page)
    }

    /// The first slot of `range` that is not empty and is `wanted`.
    pub fn next(
        &self,
        phys: &Phys<P>,
        pin: &Pin<'_, P>,
        range: VirtRange,
        wanted: impl Fn(Slot) -> bool,
    ) -> Option<u64> {
        let mut found = None;
        let pages = (range.start.page(), range.end.page());
        self.slots.for_each_slot(phys, pin, pages, |page, slot| {
            found = wanted(slot).then_some(page);
            found.is_none()
        });
        found
    }

    /// Gives up the nodes on the way to virtual page `page` that are empty.
    pub fn trim(&self, phys: &Phys<P>, page: u64) {
        self.slots.trim(phys, page);
    }

    /// Takes the pages of `range` out, in all amaps that share their nodes, and gives each to `f` with the slot's
    /// reference. For pages that no fault can map any more, in any space that shares them: those of an object
    /// that has been cut off before them. Needs no memory.
    pub(crate) fn take_everywhere(
        &self,
        phys: &Phys<P>,
        range: VirtRange,
        f: impl FnMut(rumpvm_arch::Frame),
    ) {
        self.slots.take_everywhere(phys, (range.start.page(), range.end.page()), f);
    }

    /// Calls `f` with every page of `range`, in order, until it returns false.
    pub fn for_each(
        &self,
        phys: &Phys<P>,
        pin: &Pin<'_, P>,
        range: VirtRange,
        f: impl FnMut(u64, rumpvm_arch::Frame) -> bool,
    ) {
        self.slots.for_each(phys, pin, (range.start.page(), range.end.page()), f);
    }

    /// The tree itself, for checks.
    pub fn slots(&self) -> &Radix<P> {
        &self.slots
    }
}
