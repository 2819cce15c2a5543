//! Faults on shared memory: the object's page, with all rights of the area.

use rumpvm_platform::Platform;

use super::{Attempt, Step};
use crate::NoMemory;
use crate::error::FaultError;
use crate::object::Resident;
use crate::pmap::Debt;
use crate::radix::Slot;
use crate::stats::Event;

impl<P: Platform> Attempt<'_, P> {
    /// Whether a guard is there. Shared memory has nothing else in the amap, so most spaces need not look.
    fn is_guarded(&self) -> bool {
        let (phys, page) = (&self.store.mmu.phys, self.at.page());
        self.map.has_guards() && self.map.amap.get(phys, self.pin, page) == Slot::Guard
    }

    /// Any access. The hardware's dirty bit tells stores from loads, so the right to store is given at
    /// once.
    pub(super) fn shared(&self, debt: &mut Debt<P>) -> Result<Step<P>, NoMemory> {
        let mmu = &self.store.mmu;
        let Some(object) = &self.area.object else {
            mmu.phys.broken(format_args!("the shared area {} has no object", self.area.range));
        };
        if self.is_guarded() {
            return Ok(Step::Failed(FaultError::Guarded { at: self.at }));
        }
        let index = self.area.object_index(self.at.page());
        let (frame, leaf) = match object.resident(mmu, self.pin, index)? {
            Resident::Page(frame, leaf) => (frame, leaf),
            Resident::Busy(frame) => return Ok(Step::Busy(frame)),
            Resident::Absent => return Ok(Step::PageIn(object.clone(), index)),
            Resident::BeyondEnd => return Ok(Step::BeyondEnd(object.clone(), index)),
        };
        let store = self.access == rumpvm_arch::Access::Write;
        let mut table = self.map.pmap.leaf(mmu, self.pin, self.at, store)?;
        if !self.map.generation.still(self.generation) {
            return Ok(Step::Again);
        }
        let there = table.get(self.at);
        let known = there.is_present() && there.frame() == frame;
        if known && there.prot::<P::Format>().allows(self.access, true) {
            return Ok(Step::Done(Event::FaultSpurious));
        }
        table.enter(self.at, frame, self.area.prot, Some(self.access), debt)?;
        if let Some(leaf) = leaf {
            self.map_object_around(&mut table, &leaf, self.area.prot, debt);
        }
        Ok(Step::Done(Event::FaultSoft))
    }
}
