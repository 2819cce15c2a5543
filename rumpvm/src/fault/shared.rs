//! Faults on shared memory: the object's page, with all rights of the area.

use rumpvm_platform::Platform;

use super::{Attempt, Step};
use crate::NoMemory;
use crate::object::Resident;
use crate::pmap::Debt;
use crate::stats::Event;

impl<P: Platform> Attempt<'_, P> {
    /// Any access. The hardware's dirty bit tells stores from loads, so the right to store is given at
    /// once.
    pub(super) fn shared(&self, debt: &mut Debt<P>) -> Result<Step<P>, NoMemory> {
        let mmu = &self.store.mmu;
        let Some(object) = &self.area.object else {
            mmu.phys.broken(format_args!("the shared area {} has no object", self.area.range));
        };
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
