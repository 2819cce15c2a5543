//! mincore(2): which pages are in memory.

use rumpvm_arch::{Format, PAGE_SIZE, VirtAddr, VirtRange};
use rumpvm_platform::Platform;

use super::{Map, Store};
use crate::error::CallError;
use crate::radix::Slot;

impl<P: Platform> Map<P> {
    /// Sets `resident[i]` to 1 if the i-th page from `at` on is in memory, else to 0. `resident` must have
    /// a byte for each page that `length` bytes touch.
    ///
    /// Takes no lock: what changes meanwhile may be seen or not.
    pub fn mincore(
        &self,
        store: &Store<P>,
        at: VirtAddr,
        length: u64,
        resident: &mut [u8],
    ) -> Result<(), CallError> {
        if !at.is_page_aligned() {
            return Err(CallError::Invalid);
        }
        let length = length.checked_next_multiple_of(PAGE_SIZE).ok_or(CallError::Unmapped)?;
        let range = VirtRange::of_length(at, length).ok_or(CallError::Unmapped)?;
        if range.end > P::Format::USER_END {
            return Err(CallError::Unmapped);
        }
        let phys = &store.mmu.phys;
        for (page, byte) in (range.start.page()..range.end.page()).zip(resident.iter_mut()) {
            let pin = phys.epoch.pin();
            let at = VirtAddr::of_page(page);
            let area = self.areas.get(&pin, at.0).ok_or(CallError::Unmapped)?;
            // Behind a guard of a file there may be a page of the file; as on Linux.
            let private = self.amap.get(phys, &pin, page);
            let present = matches!(private, Slot::Page(_))
                || match &area.object {
                    Some(object) => object.is_resident(&store.mmu, &pin, area.object_index(page)),
                    None => self.pmap.query(&store.mmu, &pin, at).is_some(),
                };
            *byte = u8::from(present);
        }
        Ok(())
    }
}
