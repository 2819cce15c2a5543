//! A page of shared memory that begins as a copy.

use rumpvm_arch::Frame;
use rumpvm_platform::Platform;

use super::Object;
use crate::NoMemory;
use crate::pmap::Mmu;
use crate::radix::Slot;
use crate::sync::Pin;

impl<P: Platform> Object<P> {
    /// Puts a copy of `frame` at `index` of an object that nobody has mapped yet.
    pub(crate) fn put_copy(
        &self,
        mmu: &Mmu<P>,
        pin: &Pin<'_, P>,
        index: u64,
        frame: Frame,
    ) -> Result<(), NoMemory> {
        let phys = &mmu.phys;
        let fresh = phys.alloc()?;
        phys.copy(&fresh, frame);
        match self.pages.leaf_mut(phys, pin, index) {
            Ok(mut leaf) if leaf.get(index) == Slot::Empty => {
                self.install(mmu, &mut leaf, index, fresh);
                Ok(())
            }
            Ok(_) => {
                phys.free(fresh);
                Ok(())
            }
            Err(error) => {
                phys.free(fresh);
                self.pages.trim(phys, index);
                Err(error)
            }
        }
    }
}
