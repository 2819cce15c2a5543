//! Holes: taking what an object holds out of its middle, `MADV_REMOVE`'s work.

use rumpvm_arch::PAGE_SIZE;
use rumpvm_platform::Platform;

use super::{Object, Pager};
use crate::error::CallError;
use crate::pmap::Mmu;

impl<P: Platform> Object<P> {
    /// Makes the pages `lo..hi` a hole: they go from memory and from every mapping, but not private copies
    /// of them, and are read as zeros from then on. The size stays. Sleeps. If the file fails, what was in
    /// memory only is lost, as on Linux.
    ///
    /// Each page goes in one step, so a store meanwhile is either lost or kept as a whole.
    pub(crate) fn punch(&self, mmu: &Mmu<P>, (lo, hi): (u64, u64)) -> Result<(), CallError> {
        let hi = hi.min(self.page_count());
        match &self.pager {
            Pager::Device { .. } => return Err(CallError::Unsupported),
            Pager::File(file) if !file.can_punch() => return Err(CallError::Unsupported),
            Pager::File(_) | Pager::Memory(_) => {}
        }
        if lo >= hi {
            return Ok(());
        }
        let _resizing = self.resizing(mmu);
        self.drop_pages(mmu, (lo, hi));
        if let Pager::File(file) = &self.pager {
            let start = lo * PAGE_SIZE;
            let end = (hi * PAGE_SIZE).min(self.size());
            file.punch(start, end.saturating_sub(start))?;
            // What was read or written between the two.
            self.drop_pages(mmu, (lo, hi));
        }
        Ok(())
    }
}
