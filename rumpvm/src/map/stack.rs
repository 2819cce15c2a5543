//! Growing stacks: a fault just below a `GROWSDOWN` area extends it.

use alloc::vec::Vec;

use rumpvm_arch::{VirtAddr, VirtRange};
use rumpvm_platform::Platform;

use super::mmap::check_memory;
use super::place::GUARD;
use super::{Area, AreaFlags, Map, Store};
use crate::error::CallError;
use crate::sync::{Pin, try_push};

impl<P: Platform> Map<P> {
    /// Whether the next area above `at`, where nothing is mapped, is a stack that may grow.
    pub(crate) fn has_stack_above(&self, pin: &Pin<'_, P>, at: VirtAddr) -> bool {
        let above = self.areas.at_or_after(pin, at.0);
        above.is_some_and(|area| area.flags.contains(AreaFlags::GROWSDOWN))
    }

    /// Extends the stack above `at` down to the page of `at`. Keeps [`GUARD`] bytes free below it, unless
    /// what is there is inaccessible or a stack itself; and obeys the limits.
    ///
    /// Takes the map's lock. Does not sleep otherwise.
    pub(crate) fn grow_stack(&self, store: &Store<P>, at: VirtAddr) -> Result<(), CallError> {
        let mut state = self.state.lock();
        let pin = store.mmu.phys.epoch.pin();
        let Some(stack) = self.areas.at_or_after(&pin, at.0) else {
            return Err(CallError::Unmapped);
        };
        if stack.range.contains(at) {
            // Somebody else has grown it meanwhile.
            return Ok(());
        }
        let range = VirtRange::new(at.page_down(), stack.range.end);
        let gained = VirtRange::new(range.start, stack.range.start);
        let limits = state.limits;
        let too_low = range.start.0 < limits.lowest;
        if !stack.flags.contains(AreaFlags::GROWSDOWN) || range.length() > limits.stack || too_low {
            return Err(CallError::NoMemory);
        }
        if let Some(below) = self.areas.before(&pin, at.0) {
            let needs_gap = !below.prot.is_empty() && !below.flags.contains(AreaFlags::GROWSDOWN);
            if needs_gap && range.start - below.range.end < GUARD {
                return Err(CallError::NoMemory);
            }
        }
        let area = Area { range, object: None, ..*stack };
        drop(pin);
        check_memory(store, &state, &area)?;
        let locked = area.flags.contains(AreaFlags::LOCKED);
        let mut new = Vec::new();
        try_push::<_, P>(&mut new, area)?;
        let mut change = self.change(&mut state);
        change.replace(range, new)?;
        change.promise(store)?;
        if change.mapped() > limits.address_space || (locked && change.locked() > limits.locked) {
            return Err(CallError::NoMemory);
        }
        let frozen = self.generation.freeze();
        let gone = change.commit(store);
        self.give_up_tables(store, gained);
        drop(frozen);
        drop(state);
        gone.settle(store);
        Ok(())
    }
}
