//! Fault-around: whoever pays for one fault gets the neighbours that are in memory anyway.
//!
//! Only what the locks held already keep still: pages of the same leaf, in the same leaf table and area.
//! Nothing is made, read or waited for, and failing is no error.

use rumpvm_arch::{Frame, Prot, VirtAddr, VirtRange};
use rumpvm_platform::Platform;

use super::Attempt;
use crate::pmap::{Debt, Leaf as Table};
use crate::radix::{Leaf, Slot};
use crate::stats::Event;
use crate::sync::Ordering;

/// Bytes around a fault, aligned: Linux's `fault_around_bytes`.
const WINDOW: u64 = 64 << 10;

impl<P: Platform> Attempt<'_, P> {
    /// The neighbours of the fault that lie in the window, the area and the table, and inside the object.
    fn window(&self, table: &Table<'_, P>) -> VirtRange {
        if self.area.flags.contains(crate::map::AreaFlags::RANDOM) {
            return VirtRange::new(self.at, self.at);
        }
        let start = VirtAddr(self.at.0 & !(WINDOW - 1));
        let window =
            VirtRange::new(start, start + WINDOW).clip(self.area.range).clip(table.range());
        let Some(object) = &self.area.object else { return window };
        let pages = object.page_count().saturating_sub(self.area.object_index(window.start.page()));
        let end = VirtAddr::of_page(window.start.page().saturating_add(pages));
        VirtRange::new(window.start, window.end.min(end))
    }

    /// Maps the neighbours that are not mapped yet and for which `pick` names a frame and rights.
    fn map_around(
        &self,
        table: &mut Table<'_, P>,
        debt: &mut Debt<P>,
        mut pick: impl FnMut(u64) -> Option<(Frame, Prot)>,
    ) {
        let window = self.window(table);
        let mut mapped = 0;
        for page in window.start.page()..window.end.page() {
            let at = VirtAddr::of_page(page);
            if table.get(at).is_present() {
                continue;
            }
            let Some((frame, prot)) = pick(page) else { continue };
            if table.enter(at, frame, prot, None, debt).is_err() {
                break;
            }
            mapped += 1;
        }
        self.store.mmu.phys.counters.add(Event::MappedAround, mapped);
    }

    /// Maps pages of the object around the fault.
    pub(super) fn map_object_around(
        &self,
        table: &mut Table<'_, P>,
        leaf: &Leaf<'_, P>,
        prot: Prot,
        debt: &mut Debt<P>,
    ) {
        let phys = &self.store.mmu.phys;
        let (first, last) = leaf.range();
        self.map_around(table, debt, |page| {
            let index = self.area.object_index(page);
            if !(first..last).contains(&index) {
                return None;
            }
            let Slot::Page(frame) = leaf.get(index) else { return None };
            let may_hide = !self.area.is_shared() || self.map.has_guards();
            let hidden = may_hide && self.map.amap.get(phys, self.pin, page) != Slot::Empty;
            (!hidden && !phys.page(frame).is_busy()).then_some((frame, prot))
        });
    }

    /// Maps private pages around a store, those that are ours alone writable. For after a fork, when a
    /// shared leaf table was given up for an empty one.
    pub(super) fn map_private_around(
        &self,
        table: &mut Table<'_, P>,
        slots: &Leaf<'_, P>,
        debt: &mut Debt<P>,
    ) {
        let phys = &self.store.mmu.phys;
        let readable = self.readable();
        self.map_around(table, debt, |page| {
            // A leaf table can be wider than a leaf (i386): the window is not, and is aligned.
            let Slot::Page(frame) = slots.get(page) else { return None };
            let sole = phys.page(frame).refs.load(Ordering::Acquire) == 1;
            Some((frame, if sole { self.area.prot } else { readable }))
        });
    }

    /// Maps private pages around a load, for reading.
    pub(super) fn map_private_readable_around(&self, table: &mut Table<'_, P>, debt: &mut Debt<P>) {
        let phys = &self.store.mmu.phys;
        let readable = self.readable();
        self.map_around(table, debt, |page| match self.map.amap.get(phys, self.pin, page) {
            Slot::Page(frame) => Some((frame, readable)),
            Slot::Empty | Slot::Guard => None,
        });
    }

    /// The area's rights without that to store. x86 has no mapping without any.
    pub(super) fn readable(&self) -> Prot {
        let prot = self.area.prot.difference(Prot::WRITE);
        if prot.is_empty() { Prot::READ } else { prot }
    }
}
