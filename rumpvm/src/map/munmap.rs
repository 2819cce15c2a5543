//! munmap(2): take mappings away.

use alloc::vec::Vec;

use rumpvm_arch::{Format, PAGE_SIZE, VirtAddr, VirtRange};
use rumpvm_platform::Platform;

use super::change::Gone;
use super::{Map, State, Store};
use crate::error::CallError;
use crate::pmap::Debt;
use crate::radix::Spares;

impl<P: Platform> Map<P> {
    /// Unmaps every page that `length` bytes from `at` touch. Ranges without mappings are no error. Areas
    /// may have to be cut, which can fail for want of memory; then nothing has changed.
    ///
    /// Takes the map's lock. Sleeps when a file loses its last mapping and has to be written.
    pub fn munmap(&self, store: &Store<P>, at: VirtAddr, length: u64) -> Result<(), CallError> {
        let end = P::Format::USER_END.0;
        if !at.is_page_aligned() || at.0 > end || length > end - at.0 || length == 0 {
            return Err(CallError::Invalid);
        }
        let length = length.next_multiple_of(PAGE_SIZE);
        let range = VirtRange::of_length(at, length).ok_or(CallError::Invalid)?;
        let mut state = self.state.lock();
        let gone = self.unmap(store, &mut state, range)?;
        drop(state);
        gone.settle(store);
        Ok(())
    }

    /// Unmaps `range`, whose ends are page-aligned.
    pub(super) fn unmap(
        &self,
        store: &Store<P>,
        state: &mut State,
        range: VirtRange,
    ) -> Result<Gone<P>, CallError> {
        let pin = store.mmu.phys.epoch.pin();
        let next = self.areas.at_or_after(&pin, range.start.0);
        if next.is_none_or(|area| area.range.start >= range.end) {
            return Ok(Gone::none());
        }
        drop(pin);
        let spares = self.amap.spares(&store.mmu.phys, range)?;
        let mut change = self.change(state);
        change.replace(range, Vec::new())?;
        // No fault finds an area here any more, so nothing can come back while pages go.
        let gone = change.commit(store);
        self.drop_pages(store, range, spares);
        Ok(gone)
    }

    /// Gives up leaf tables over `range` that a fork shared, before anything is mapped there where nothing
    /// was: what a fault enters through them the other side would see. The generation is frozen.
    pub(super) fn give_up_tables(&self, store: &Store<P>, range: VirtRange) {
        let mut debt = Debt::new();
        let pin = store.mmu.phys.epoch.pin();
        self.pmap.cursor(&store.mmu, &pin, range).remove(&mut debt);
        drop(pin);
        debt.pay(&store.mmu, &self.pmap);
    }

    /// Unmaps and gives up what is in memory of `range`. No fault may bring it back meanwhile: nothing is
    /// mapped there any more, or the generation is frozen.
    pub(super) fn drop_pages(&self, store: &Store<P>, range: VirtRange, mut spares: Spares<'_, P>) {
        self.give_up_tables(store, range);
        self.amap.clear(&store.mmu.phys, range, &mut spares);
    }
}
