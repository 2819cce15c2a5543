//! mprotect(2): change rights.

use rumpvm_arch::{Prot, VirtAddr, VirtRange};
use rumpvm_platform::Platform;

use super::area::Area;
use super::{Map, State, Store, whole_pages};
use crate::error::CallError;
use crate::pmap::Debt;
use crate::sync::try_push;
use alloc::vec::Vec;
use core::ops::ControlFlow;

impl<P: Platform> Map<P> {
    /// Gives `length` bytes from `at` the rights `prot`. Up to the first hole it is done even if there is
    /// one, and then the answer is [`CallError::Unmapped`]; as on Linux.
    ///
    /// Takes the map's lock. Does not sleep otherwise.
    pub fn mprotect(
        &self,
        store: &Store<P>,
        at: VirtAddr,
        length: u64,
        prot: Prot,
    ) -> Result<(), CallError> {
        let range = whole_pages(at, length)?;
        if range.is_empty() {
            return Ok(());
        }
        let mut state = self.state.lock();
        let prefix = self.mapped_prefix(&store.mmu.phys.epoch.pin(), range);
        let (allowed, denied) = self.allowed_prefix(store, prefix, prot);
        if !allowed.is_empty() {
            let gone = self.rewrite(store, &mut state, allowed, |area| area.prot = prot)?;
            let mut debt = Debt::new();
            let pin = store.mmu.phys.epoch.pin();
            self.pmap.cursor(&store.mmu, &pin, allowed).protect(prot, &mut debt);
            drop(pin);
            debt.pay(&store.mmu, &self.pmap);
            drop(state);
            gone.settle(store);
        }
        match (denied, prefix == range) {
            (true, _) => Err(CallError::Denied),
            (false, true) => Ok(()),
            (false, false) => Err(CallError::Unmapped),
        }
    }

    /// The part of `range` up to the first area that may not have `prot`, and whether there is one.
    fn allowed_prefix(&self, store: &Store<P>, range: VirtRange, prot: Prot) -> (VirtRange, bool) {
        let pin = store.mmu.phys.epoch.pin();
        let first = self.areas.visit(&pin, range.start.0, range.end.0, |area| {
            if area.max_prot.contains(prot) {
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
        Ok(change.commit(store))
    }
}
