//! Shared anonymous memory: `MAP_SHARED | MAP_ANONYMOUS`, memfd, System V segments.

use rumpvm_platform::Platform;

use super::{Object, Resident};
use crate::NoMemory;
use crate::pmap::Mmu;
use crate::radix::Slot;
use crate::sync::Pin;

impl<P: Platform> Object<P> {
    /// The page at `index`, zero-filled if it is touched for the first time.
    pub(super) fn resident_memory<'p>(
        &self,
        mmu: &'p Mmu<P>,
        pin: &'p Pin<'_, P>,
        index: u64,
    ) -> Result<Resident<'p, P>, NoMemory> {
        let phys = &mmu.phys;
        let made = self.pages.leaf_mut(phys, pin, index);
        let mut leaf = made.inspect_err(|NoMemory| self.pages.trim(phys, index))?;
        if let Slot::Page(frame) = leaf.get(index) {
            if mmu.phys.page(frame).is_busy() {
                return Ok(Resident::Busy(frame));
            }
            return Ok(Resident::Page(frame, Some(leaf)));
        }
        let filled = phys.alloc_zeroed().map(|fresh| self.install(mmu, &mut leaf, index, fresh));
        if let Ok(Some(frame)) = filled {
            return Ok(Resident::Page(frame, Some(leaf)));
        }
        // If the object has ended meanwhile, nobody else gives the nodes up.
        drop(leaf);
        self.pages.trim(phys, index);
        filled.map(|_| Resident::BeyondEnd)
    }
}
