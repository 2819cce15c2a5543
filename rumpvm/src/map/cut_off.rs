//! What a space loses when an object becomes shorter: its private copies of the pages beyond the end.
//!
//! Two passes over all spaces, because nodes of amaps are shared by forks: first no page table maps such a copy any
//! more, in no space, and none will, because the object's size is stored already and faults look at it; then the
//! copies themselves go, out of shared nodes where these are. So shrinking needs no memory and cannot fail.
//!
//! Locks: the map's, once in each pass.

use core::ops::ControlFlow;

use rumpvm_arch::{PAGE_SIZE, VirtAddr, VirtRange};
use rumpvm_platform::Platform;

use super::{Area, Map, Store};
use crate::object::Object;
use crate::pmap::Debt;
use crate::radix::put_page;

impl<P: Platform> Map<P> {
    /// First pass: unmaps the private areas of `object` from its page `first` on, where it ends now.
    pub(crate) fn unmap_cut_off(&self, store: &Store<P>, object: &Object<P>, first: u64) {
        let state = self.state.lock();
        if state.ended {
            return;
        }
        // A fault that looked at the size before it changed decides nothing any more; those that have decided
        // hold a table's lock, which unmapping takes.
        self.generation.next();
        self.each_cut_off(store, object, first, |range| self.give_up_tables(store, range));
    }

    /// Second pass, after the first one in every space: gives up the private copies of `object` from its page
    /// `first` on.
    pub(crate) fn drop_cut_off(&self, store: &Store<P>, object: &Object<P>, first: u64) {
        let mmu = &store.mmu;
        let state = self.state.lock();
        if state.ended {
            return;
        }
        self.each_cut_off(store, object, first, |range| {
            self.amap.take_everywhere(&mmu.phys, range, |frame| {
                // A space that is being taken down has not been asked, and shares our nodes perhaps.
                let mut debt = Debt::new();
                mmu.revoke(&mmu.phys.epoch.pin(), frame, &mut debt);
                debt.pay_everywhere(mmu);
                put_page(&mmu.phys, frame);
            });
        });
    }

    /// Calls `f` with the part of each private area that has pages of `object` from `first` on.
    fn each_cut_off(
        &self,
        store: &Store<P>,
        object: &Object<P>,
        first: u64,
        mut f: impl FnMut(VirtRange),
    ) {
        let mut from = 0;
        loop {
            let pin = store.mmu.phys.epoch.pin();
            let found =
                self.areas.visit(&pin, from, u64::MAX, |area| match area.cut_off(object, first) {
                    Some(range) => ControlFlow::Break(range),
                    None => ControlFlow::Continue(()),
                });
            drop(pin);
            let Some(range) = found.break_value() else { return };
            from = range.end.0;
            f(range);
        }
    }
}

impl<P: Platform> Area<P> {
    /// The part with pages of `object` from `first` on, if this is a private area of it.
    fn cut_off(&self, object: &Object<P>, first: u64) -> Option<VirtRange> {
        self.object.as_ref().filter(|mapped| mapped.id() == object.id())?;
        let index = self.offset / PAGE_SIZE;
        let kept = first.saturating_sub(index);
        let whole = self.is_shared() || kept >= self.range.pages();
        let start = VirtAddr::of_page(self.range.start.page() + kept.min(self.range.pages()));
        (!whole).then(|| VirtRange::new(start, self.range.end))
    }
}
