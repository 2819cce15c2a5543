//! Guards: pages that nothing may touch, put there by advice 102 and taken away by 103.
//!
//! A guard is a slot of the amap, whatever the area is, so that no area is cut, fork costs nothing, and it
//! moves with `mremap`. It outlives changes of rights and all advice but 103; who unmaps its page, or maps
//! something over it, takes it away. The pages of a space that never had one are not looked up for them.

use rumpvm_arch::{VirtAddr, VirtRange};
use rumpvm_platform::Platform;

use super::{Map, Store};
use crate::NoMemory;
use crate::error::CallError;
use crate::radix::{SLOTS, Slot, Spares, put_page};
use crate::sync::Ordering;

impl<P: Platform> Map<P> {
    /// Makes a place for a guard on every page of `range`. With the map's lock held. On failure the caller
    /// calls [`Map::unmake_leaves`] for this range and those that it made places for before.
    pub(super) fn make_leaves(&self, store: &Store<P>, range: VirtRange) -> Result<(), NoMemory> {
        let phys = &store.mmu.phys;
        leaves(range).try_for_each(|page| {
            let pin = phys.epoch.pin();
            self.amap.leaf_mut(phys, &pin, page).map(drop)
        })
    }

    /// Gives up places that stay empty.
    pub(super) fn unmake_leaves(&self, store: &Store<P>, range: VirtRange) {
        leaves(range).for_each(|page| self.amap.trim(&store.mmu.phys, page));
    }

    /// Puts a guard on every page of `range`, in place of whatever is there; all of it is mapped, and has
    /// its places. With the map's lock held.
    pub(super) fn put_guards(&self, store: &Store<P>, range: VirtRange) {
        let phys = &store.mmu.phys;
        let (first, end) = (range.start.page(), range.end.page());
        // Before anything can be decided with a guard in place.
        self.guards.store(1, Ordering::SeqCst);
        let frozen = self.generation.freeze();
        self.give_up_tables(store, range);
        for page in first..end {
            let pin = phys.epoch.pin();
            let Ok(mut leaf) = self.amap.leaf_mut(phys, &pin, page) else {
                phys.broken(format_args!("page {page:#x} has no place for a guard"));
            };
            let before = leaf.get(page);
            leaf.set(page, Slot::Guard);
            drop(leaf);
            if let Slot::Page(frame) = before {
                put_page(phys, frame);
            }
        }
        drop(frozen);
    }

    /// Takes the guards of `range` away. With the map's lock held. On failure nothing has changed.
    pub(super) fn remove_guards(
        &self,
        store: &Store<P>,
        range: VirtRange,
    ) -> Result<(), CallError> {
        if !self.has_guards() {
            return Ok(());
        }
        self.own_guards(store, range)?;
        let phys = &store.mmu.phys;
        let frozen = self.generation.freeze();
        // What a load enters here from now on, those who share the tables and have guards still must not see.
        self.give_up_tables(store, range);
        let mut from = range.start.page();
        while let Some(page) = self.next_guard(store, from, range.end) {
            let pin = phys.epoch.pin();
            self.amap.take(phys, &pin, page);
            drop(pin);
            if self.next_guard(store, page + 1, leaf_end(page)).is_none() {
                self.amap.trim(phys, page);
            }
            from = page + 1;
        }
        drop(frozen);
        Ok(())
    }

    /// Makes clearing between the guards of `range` need no more than the spares for its ends: nodes on
    /// the way to a guard are ours alone then. Until a fork, which takes the map's lock.
    pub(super) fn own_guards(&self, store: &Store<P>, range: VirtRange) -> Result<(), NoMemory> {
        if !self.has_guards() {
            return Ok(());
        }
        let phys = &store.mmu.phys;
        let mut from = range.start.page();
        while let Some(page) = self.next_guard(store, from, range.end) {
            let pin = phys.epoch.pin();
            self.amap.leaf_mut(phys, &pin, page)?;
            from = leaf_end(page).page();
        }
        Ok(())
    }

    /// Unmaps and gives up what is in memory of `range`, but not its guards, which are ours alone. The
    /// generation is frozen.
    pub(super) fn drop_pages_but_guards(
        &self,
        store: &Store<P>,
        range: VirtRange,
        mut spares: Spares<'_, P>,
    ) {
        if !self.has_guards() {
            return self.drop_pages(store, range, spares);
        }
        self.give_up_tables(store, range);
        let mut from = range.start;
        while from < range.end {
            let guard = self.next_guard(store, from.page(), range.end);
            let end = guard.map_or(range.end, VirtAddr::of_page);
            if from < end {
                let part = VirtRange::new(from, end);
                self.amap.clear(&store.mmu.phys, part, &mut spares);
            }
            from = VirtAddr::of_page(end.page() + 1);
        }
    }

    fn next_guard(&self, store: &Store<P>, from: u64, end: VirtAddr) -> Option<u64> {
        let start = VirtAddr::of_page(from);
        if start >= end {
            return None;
        }
        let pin = store.mmu.phys.epoch.pin();
        let is_guard = |slot| slot == Slot::Guard;
        self.amap.next(&store.mmu.phys, &pin, VirtRange::new(start, end), is_guard)
    }
}

/// The end of what the leaf of `page` covers.
fn leaf_end(page: u64) -> VirtAddr {
    VirtAddr::of_page((page | (SLOTS as u64 - 1)) + 1)
}

/// One page of `range` for each leaf that serves it.
fn leaves(range: VirtRange) -> impl Iterator<Item = u64> {
    let (first, end) = (range.start.page(), range.end.page());
    let next = |page: &u64| Some(leaf_end(*page).page());
    core::iter::successors(Some(first), next).take_while(move |page| *page < end)
}
