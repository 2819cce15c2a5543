//! mlock(2) and munlock(2): keep pages in memory.

use core::ops::ControlFlow;

use rumpvm_arch::{PAGE_SIZE, VirtAddr, VirtRange};
use rumpvm_platform::Platform;

use super::{AreaFlags, Map, Store};
use crate::error::CallError;
use crate::sync::Pin;

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
        // Rounding wraps to nothing at the very top, as it does on Linux.
        let bytes = length.wrapping_add(at - start).wrapping_add(PAGE_SIZE - 1) & !(PAGE_SIZE - 1);
        let range = VirtRange::of_length(start, bytes);
        let mut state = self.state.lock();
        let pin = store.mmu.phys.epoch.pin();
        if locked && state.limits.locked == 0 {
            return Err(CallError::NotPermitted);
        }
        // The limits come first, as on Linux; what wraps is beyond any.
        let there = range.map_or(0, |range| self.locked_in(&pin, range));
        let more = bytes.saturating_sub(there);
        if locked && state.locked.saturating_add(more) > state.limits.locked {
            return Err(CallError::NoMemory);
        }
        let range = range.ok_or(CallError::Invalid)?;
        if range.is_empty() {
            return Ok(range);
        }
        let prefix = self.mapped_prefix(&pin, range);
        drop(pin);
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

    /// Bytes of `range` that are locked already. Holes count against the limit, as on Linux.
    fn locked_in(&self, pin: &Pin<'_, P>, range: VirtRange) -> u64 {
        let mut locked = 0;
        let _: ControlFlow<()> = self.areas.visit(pin, range.start.0, range.end.0, |area| {
            if area.flags.contains(AreaFlags::LOCKED) {
                locked += area.range.clip(range).length();
            }
            ControlFlow::Continue(())
        });
        locked
    }
}
