//! mlock(2) and munlock(2): keep pages in memory.

use rumpvm_arch::{PAGE_SIZE, VirtAddr, VirtRange};
use rumpvm_platform::Platform;

use super::{AreaFlags, Map, Store};
use crate::error::CallError;

impl<P: Platform> Map<P> {
    /// Locks every page that `length` bytes from `at` touch, and returns their range: they are yet to be
    /// brought in. Up to the first hole it is done even if there is one, and then the answer is
    /// [`CallError::Unmapped`].
    ///
    /// Takes the map's lock.
    pub(crate) fn mlock(
        &self,
        store: &Store<P>,
        at: VirtAddr,
        length: u64,
    ) -> Result<VirtRange, CallError> {
        self.set_locked(store, at, length, true)
    }

    /// Ends the locking of every page that `length` bytes from `at` touch; holes as for `mlock`.
    pub fn munlock(&self, store: &Store<P>, at: VirtAddr, length: u64) -> Result<(), CallError> {
        self.set_locked(store, at, length, false).map(drop)
    }

    fn set_locked(
        &self,
        store: &Store<P>,
        at: VirtAddr,
        length: u64,
        locked: bool,
    ) -> Result<VirtRange, CallError> {
        let start = at.page_down();
        let bytes = length.checked_add(at - start).ok_or(CallError::Invalid)?;
        let bytes = bytes.checked_next_multiple_of(PAGE_SIZE).ok_or(CallError::Invalid)?;
        let range = VirtRange::of_length(start, bytes).ok_or(CallError::Invalid)?;
        if range.is_empty() {
            return Ok(range);
        }
        let mut state = self.state.lock();
        if locked && state.locked.saturating_add(bytes) > state.limits.locked {
            return Err(if state.limits.locked == 0 {
                CallError::NotPermitted
            } else {
                CallError::NoMemory
            });
        }
        let prefix = self.mapped_prefix(&store.mmu.phys.epoch.pin(), range);
        if prefix.is_empty() {
            return Err(CallError::Unmapped);
        }
        let gone = self.rewrite(store, &mut state, prefix, |area| {
            area.flags.set(AreaFlags::LOCKED, locked);
        })?;
        drop(state);
        gone.settle(store);
        if prefix == range { Ok(range) } else { Err(CallError::Unmapped) }
    }
}
