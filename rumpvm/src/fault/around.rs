//! Fault-around: whoever pays for one fault gets the neighbours that are in memory anyway.
//!
//! Only what the locks held already keep still: pages of the same leaf, in the same leaf table and area.
//! Nothing is made, read or waited for, and failing is no error.

use rumpvm_arch::{PAGE_SIZE, Prot, VirtAddr, VirtRange};
use rumpvm_platform::Platform;

use super::Attempt;
use crate::pmap::{Debt, Leaf as Table};
use crate::radix::{Leaf, Slot};
use crate::stats::Event;

/// Bytes around a fault, aligned: Linux's `fault_around_bytes`.
const WINDOW: u64 = 64 << 10;

impl<P: Platform> Attempt<'_, P> {
    /// The neighbours of the fault that lie in the window, the area and the table.
    fn window(&self, table: &Table<'_, P>) -> VirtRange {
        if self.area.flags.contains(crate::map::AreaFlags::RANDOM) {
            return VirtRange::new(self.at, self.at);
        }
        let start = VirtAddr(self.at.0 & !(WINDOW - 1));
        VirtRange::new(start, start + WINDOW).clip(self.area.range).clip(table.range())
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
        let window = self.window(table);
        let (first, last) = leaf.range();
        let size = self.area.object.as_ref().map_or(0, |object| object.size());
        let mut mapped = 0;
        for page in window.start.page()..window.end.page() {
            let (at, index) = (VirtAddr::of_page(page), self.area.object_index(page));
            let known = (first..last).contains(&index) && index * PAGE_SIZE < size;
            if !known || table.get(at).is_present() {
                continue;
            }
            let Slot::Page(frame) = leaf.get(index) else { continue };
            let hidden =
                !self.area.is_shared() && self.map.amap.get(phys, self.pin, page) != Slot::Empty;
            if hidden || phys.page(frame).is_busy() {
                continue;
            }
            if table.enter(at, frame, prot, None, debt).is_err() {
                break;
            }
            mapped += 1;
        }
        phys.counters.add(Event::MappedAround, mapped);
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
        let window = self.window(table);
        let mut mapped = 0;
        for page in window.start.page()..window.end.page() {
            let at = VirtAddr::of_page(page);
            if table.get(at).is_present() {
                continue;
            }
            // A leaf table can be wider than a leaf (i386): the window is not, and is aligned.
            let Slot::Page(frame) = slots.get(page) else { continue };
            let sole = phys.page(frame).refs.load(crate::sync::Ordering::Acquire) == 1;
            let area = self.area.prot;
            let prot = if sole { area } else { area.difference(Prot::WRITE) };
            let prot = if prot.is_empty() { Prot::READ } else { prot };
            if table.enter(at, frame, prot, None, debt).is_err() {
                break;
            }
            mapped += 1;
        }
        phys.counters.add(Event::MappedAround, mapped);
    }

    /// Maps private pages around a load, for reading.
    pub(super) fn map_private_readable_around(
        &self,
        table: &mut Table<'_, P>,
        prot: Prot,
        debt: &mut Debt<P>,
    ) {
        let phys = &self.store.mmu.phys;
        let window = self.window(table);
        let mut mapped = 0;
        for page in window.start.page()..window.end.page() {
            let at = VirtAddr::of_page(page);
            if table.get(at).is_present() {
                continue;
            }
            let Slot::Page(frame) = self.map.amap.get(phys, self.pin, page) else { continue };
            if table.enter(at, frame, prot, None, debt).is_err() {
                break;
            }
            mapped += 1;
        }
        phys.counters.add(Event::MappedAround, mapped);
    }
}
