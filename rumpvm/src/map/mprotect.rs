//! mprotect(2): change rights.

use alloc::vec::Vec;
use core::ops::ControlFlow;

use bitflags::bitflags;

use rumpvm_arch::{Prot, VirtAddr, VirtRange};
use rumpvm_platform::Platform;

use super::area::Area;
use super::{AreaFlags, Map, State, Store, whole_pages};
use crate::NoMemory;
use crate::error::CallError;
use crate::pmap::Debt;
use crate::sync::try_push;

bitflags! {
    /// What mprotect(2) is asked for, with Linux's values. Whatever number a program passes goes in by
    /// `from_bits_retain`; bits without a name are refused.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct ProtFlags: u64 {
        /// Loads.
        const READ = 1;
        /// Stores.
        const WRITE = 2;
        /// Instruction fetches.
        const EXEC = 4;
        /// Memory for atomic operations; means nothing on x86.
        const SEM = 8;
        /// From the start of the stack that the range touches.
        const GROWSDOWN = 0x0100_0000;
        /// To the end of the upwards growing stack that the range begins in, of which there are none.
        const GROWSUP = 0x0200_0000;
    }
}

impl From<Prot> for ProtFlags {
    fn from(prot: Prot) -> Self {
        Self::from_bits_truncate(u64::from(prot.bits()))
    }
}

impl ProtFlags {
    /// The rights in it.
    pub fn rights(self) -> Prot {
        Prot::from_bits_truncate(self.bits() as u8)
    }
}

/// What came of it, and the locked memory that can be stored to since then: it is to be brought in, so that
/// no store has to wait. Both, because a part may have been done.
pub(crate) struct Protected {
    pub(crate) fill: Vec<VirtRange>,
    pub(crate) answer: Result<(), CallError>,
}

impl<P: Platform> Map<P> {
    /// Gives `length` bytes from `at` the rights `prot`. Up to the first hole it is done even if there is
    /// one, and then the answer is [`CallError::Unmapped`]; likewise up to the first area that may not have them,
    /// or that is more data than there may be. As on Linux.
    ///
    /// Takes the map's lock. Does not sleep otherwise.
    pub(crate) fn mprotect(
        &self,
        store: &Store<P>,
        at: VirtAddr,
        length: u64,
        prot: ProtFlags,
    ) -> Protected {
        let mut fill = Vec::new();
        let answer = self.protect(store, (at, length), prot, &mut fill);
        Protected { fill, answer }
    }

    fn protect(
        &self,
        store: &Store<P>,
        (at, length): (VirtAddr, u64),
        flags: ProtFlags,
        fill: &mut Vec<VirtRange>,
    ) -> Result<(), CallError> {
        // In this order, as on Linux: nothing to do is no error, whatever else is wrong.
        let grows = flags & (ProtFlags::GROWSDOWN | ProtFlags::GROWSUP);
        if grows == ProtFlags::GROWSDOWN | ProtFlags::GROWSUP {
            return Err(CallError::Invalid);
        }
        let range = whole_pages(at, length)?;
        if range.is_empty() {
            return Ok(());
        }
        if flags.bits() & !ProtFlags::all().bits() != 0 {
            return Err(CallError::Invalid);
        }
        let prot = flags.rights();
        let mut state = self.state.lock();
        let range = self.grown(store, range, grows)?;
        let prefix = self.mapped_prefix(&store.mmu.phys.epoch.pin(), range);
        let (allowed, denied) = self.allowed_prefix(store, prefix, prot);
        let (allowed, too_much) = self.affordable_prefix(store, &state, allowed, prot);
        if !allowed.is_empty() {
            if prot.contains(Prot::WRITE) {
                self.locked_to_store(store, allowed, fill)?;
            }
            let rewritten = self.rewrite(store, &mut state, allowed, |area| {
                // As on FreeBSD, reserved addresses are passed over.
                let reserved = area.flags.contains(AreaFlags::RESERVED);
                let prot = if reserved { Prot::empty() } else { prot };
                area.accounted &= area.prot == prot || self.keeps_promise(store, area, prot);
                area.prot = prot;
            });
            let gone = rewritten.inspect_err(|_| fill.clear())?;
            let mut debt = Debt::new();
            let pin = store.mmu.phys.epoch.pin();
            self.pmap.cursor(&store.mmu, &pin, allowed).protect(prot, &mut debt);
            drop(pin);
            debt.pay(&store.mmu, &self.pmap);
            drop(state);
            gone.settle(store);
        }
        match (denied, prefix == range) {
            _ if too_much => Err(CallError::NoMemory),
            (true, _) => Err(CallError::Denied),
            (false, true) => Ok(()),
            (false, false) => Err(CallError::Unmapped),
        }
    }

    /// Whether `part` of an area stays promised with `prot`. What cannot be stored to needs no promise, but only of
    /// anonymous memory that nobody has touched is it known that none was used; as on Linux, of the whole area
    /// that `part` is cut from. That memory was touched and given up since is not remembered.
    fn keeps_promise(&self, store: &Store<P>, part: &Area<P>, prot: Prot) -> bool {
        if !part.accounted || prot.contains(Prot::WRITE) || part.object.is_some() {
            return true;
        }
        let pin = store.mmu.phys.epoch.pin();
        let whole = self.areas.get(&pin, part.range.start.0).map_or(part.range, |area| area.range);
        self.amap.next(&store.mmu.phys, &pin, whole, |_| true).is_some()
    }

    /// `range`, or with `GROWSDOWN` what lies between the start of the first area in it and its end. That
    /// area may begin below the range or above its start; it must be one that grows.
    fn grown(
        &self,
        store: &Store<P>,
        range: VirtRange,
        grows: ProtFlags,
    ) -> Result<VirtRange, CallError> {
        if grows.is_empty() {
            return Ok(range);
        }
        let pin = store.mmu.phys.epoch.pin();
        let first = self.areas.at_or_after(&pin, range.start.0);
        let area = first.filter(|area| area.range.start < range.end).ok_or(CallError::Unmapped)?;
        if grows == ProtFlags::GROWSUP {
            let begins = area.range.contains(range.start);
            return Err(if begins { CallError::Invalid } else { CallError::Unmapped });
        }
        if !area.flags.contains(AreaFlags::GROWSDOWN) {
            return Err(CallError::Invalid);
        }
        Ok(VirtRange::new(area.range.start, range.end))
    }

    /// Adds to `fill` what in `range` is private, locked, and cannot be stored to yet.
    fn locked_to_store(
        &self,
        store: &Store<P>,
        range: VirtRange,
        fill: &mut Vec<VirtRange>,
    ) -> Result<(), NoMemory> {
        let pin = store.mmu.phys.epoch.pin();
        let walked = self.areas.visit(&pin, range.start.0, range.end.0, |area| {
            if !area.is_filled() || area.is_shared() || area.prot.contains(Prot::WRITE) {
                return ControlFlow::Continue(());
            }
            match try_push::<_, P>(fill, area.range.clip(range)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(error),
            }
        });
        match walked {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => {
                fill.clear();
                Err(error)
            }
        }
    }

    /// The part of `range` up to the first area that may not have `prot`, and whether there is one.
    fn allowed_prefix(&self, store: &Store<P>, range: VirtRange, prot: Prot) -> (VirtRange, bool) {
        let pin = store.mmu.phys.epoch.pin();
        let first = self.areas.visit(&pin, range.start.0, range.end.0, |area| {
            if area.max_prot.contains(prot) || area.flags.contains(AreaFlags::RESERVED) {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(area.range.start.max(range.start))
            }
        });
        match first {
            ControlFlow::Break(end) => (VirtRange::new(range.start, end), true),
            ControlFlow::Continue(()) => (range, false),
        }
    }

    /// The part of `range` up to the first area that with `prot` would be more data than there may be, and whether
    /// there is one. As on Linux each area counts when its turn comes; and where the limit of all that is mapped
    /// leaves no room for as much again, this one is not asked, because it cannot be told which of the two it was.
    fn affordable_prefix(
        &self,
        store: &Store<P>,
        state: &State,
        range: VirtRange,
        prot: Prot,
    ) -> (VirtRange, bool) {
        let (limits, mut data) = (state.limits, state.data);
        let pin = store.mmu.phys.epoch.pin();
        let first = self.areas.visit(&pin, range.start.0, range.end.0, |area| {
            let mut part = area.part(range);
            let was_data = part.is_data();
            part.prot = if part.flags.contains(AreaFlags::RESERVED) { Prot::empty() } else { prot };
            let length = part.range.length();
            match (was_data, part.is_data()) {
                (false, true) => {
                    let exceeds = data.saturating_add(length) > limits.data;
                    if exceeds && state.mapped.saturating_add(length) <= limits.address_space {
                        return ControlFlow::Break(part.range.start);
                    }
                    data += length;
                }
                (true, false) => data -= length,
                _ => {}
            }
            ControlFlow::Continue(())
        });
        match first {
            ControlFlow::Break(end) => (VirtRange::new(range.start, end), true),
            ControlFlow::Continue(()) => (range, false),
        }
    }

    /// Replaces the areas of `range` by what `edit` makes of them, cutting them at its ends.
    pub(super) fn rewrite(
        &self,
        store: &Store<P>,
        state: &mut State,
        range: VirtRange,
        mut edit: impl FnMut(&mut Area<P>),
    ) -> Result<super::change::Gone<P>, CallError> {
        let mut new = Vec::new();
        let mut result = Ok(());
        let pin = store.mmu.phys.epoch.pin();
        let _: ControlFlow<()> = self.areas.visit(&pin, range.start.0, range.end.0, |area| {
            let mut part = area.part(range);
            edit(&mut part);
            result = try_push::<_, P>(&mut new, part);
            if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        drop(pin);
        result?;
        let mut change = self.change(state);
        change.replace(range, new)?;
        change.promise(store)?;
        Ok(change.commit(store))
    }
}
