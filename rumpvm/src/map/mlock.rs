//! mlock(2), mlock2(2), mlockall(2), munlock(2) and munlockall(2): keep pages in memory.

use core::ops::ControlFlow;

use bitflags::bitflags;

use rumpvm_arch::{PAGE_SIZE, VirtAddr, VirtRange};
use rumpvm_platform::Platform;

use super::{Area, AreaFlags, Map, State, Store};
use crate::error::CallError;
use crate::sync::Pin;

bitflags! {
    /// Flags of mlock2(2), with Linux's values.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct LockFlags: u32 {
        /// Pages are not brought in, but stay once they are.
        const ONFAULT = 1;
    }

    /// Flags of mlockall(2), with Linux's values.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct LockAllFlags: u32 {
        /// What is mapped now.
        const CURRENT = 1;
        /// What is mapped from now on.
        const FUTURE = 2;
        /// With either: as for mlock2.
        const ONFAULT = 4;
    }
}

impl<P: Platform> Map<P> {
    /// Locks every page that `length` bytes from `at` touch, and returns the range that is yet to be brought
    /// in where it is not locked on fault. Up to the first hole it is done even if there is one, and then the answer is
    /// [`CallError::Unmapped`]. Devices stay as they are.
    ///
    /// Takes the map's lock.
    pub(crate) fn mlock(
        &self,
        store: &Store<P>,
        at: VirtAddr,
        length: u64,
        flags: LockFlags,
    ) -> Result<VirtRange, CallError> {
        if flags.bits() & !LockFlags::all().bits() != 0 {
            return Err(CallError::Invalid);
        }
        self.set_locks(store, at, length, kind(flags.contains(LockFlags::ONFAULT)))
    }

    /// Ends the locking of every page that `length` bytes from `at` touch; holes as for `mlock`.
    pub fn munlock(&self, store: &Store<P>, at: VirtAddr, length: u64) -> Result<(), CallError> {
        self.set_locks(store, at, length, AreaFlags::empty()).map(drop)
    }

    /// Locks what is mapped now, or what is mapped from now on, or both. Without `FUTURE` the latter ends.
    /// `CURRENT` is refused if all that is mapped is more than may be locked.
    ///
    /// Takes the map's lock.
    pub(crate) fn mlockall(&self, store: &Store<P>, flags: LockAllFlags) -> Result<(), CallError> {
        let unknown = flags.bits() & !LockAllFlags::all().bits() != 0;
        if unknown || !flags.intersects(LockAllFlags::CURRENT | LockAllFlags::FUTURE) {
            return Err(CallError::Invalid);
        }
        let mut state = self.state.lock();
        if state.limits.locked == 0 {
            return Err(CallError::NotPermitted);
        }
        let now = flags.contains(LockAllFlags::CURRENT);
        if now && state.mapped > state.limits.locked {
            return Err(CallError::NoMemory);
        }
        let kind = kind(flags.contains(LockAllFlags::ONFAULT));
        let gone = if now { Some(self.lock_areas(store, &mut state, kind)?) } else { None };
        let future = flags.contains(LockAllFlags::FUTURE);
        state.future = if future { kind } else { AreaFlags::empty() };
        drop(state);
        if let Some(gone) = gone {
            gone.settle(store);
        }
        Ok(())
    }

    /// Ends all locking, that of what is still to be mapped included.
    ///
    /// Takes the map's lock.
    pub fn munlockall(&self, store: &Store<P>) -> Result<(), CallError> {
        let mut state = self.state.lock();
        let gone = self.lock_areas(store, &mut state, AreaFlags::empty())?;
        state.future = AreaFlags::empty();
        drop(state);
        gone.settle(store);
        Ok(())
    }

    /// Locks every area so, or none.
    fn lock_areas(
        &self,
        store: &Store<P>,
        state: &mut State,
        kind: AreaFlags,
    ) -> Result<super::change::Gone<P>, CallError> {
        let everything = VirtRange::new(VirtAddr(0), VirtAddr(u64::MAX - 1));
        self.rewrite(store, state, everything, |area| set_lock(area, kind))
    }

    fn set_locks(
        &self,
        store: &Store<P>,
        at: VirtAddr,
        length: u64,
        kind: AreaFlags,
    ) -> Result<VirtRange, CallError> {
        let locks = !kind.is_empty();
        let mut state = self.state.lock();
        // Even for nothing, as on Linux.
        if locks && state.limits.locked == 0 {
            return Err(CallError::NotPermitted);
        }
        let start = at.page_down();
        // Rounding wraps to nothing at the very top, as it does on Linux.
        let bytes = length.wrapping_add(at - start).wrapping_add(PAGE_SIZE - 1) & !(PAGE_SIZE - 1);
        let range = VirtRange::of_length(start, bytes);
        let pin = store.mmu.phys.epoch.pin();
        // A range that wraps around meets the limit first, as on Linux.
        let counted = range.unwrap_or(VirtRange::new(start, VirtAddr(u64::MAX)));
        let more = bytes.saturating_sub(self.locked_in(&pin, counted));
        if locks && state.locked.saturating_add(more) > state.limits.locked {
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
        let gone = self.rewrite(store, &mut state, prefix, |area| set_lock(area, kind))?;
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

fn kind(on_fault: bool) -> AreaFlags {
    if on_fault { AreaFlags::LOCK } else { AreaFlags::LOCKED }
}

/// The memory of a device is always there, and not counted; what may go when memory is short stays as it was mapped.
fn set_lock<P: Platform>(area: &mut Area<P>, kind: AreaFlags) {
    let is_device = area.object.as_ref().is_some_and(|object| object.device().is_some());
    if !is_device && !area.flags.contains(AreaFlags::DROPPABLE) {
        area.flags = area.flags.difference(AreaFlags::LOCK) | kind;
    }
}
