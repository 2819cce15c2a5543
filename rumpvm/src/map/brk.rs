//! brk(2): the end of the heap, as the kernel's call has it: the answer is always where the end is now.

use rumpvm_arch::{Format, PAGE_SIZE, Prot, VirtAddr, VirtRange};
use rumpvm_platform::Platform;

use super::change::Gone;
use super::mmap::check_memory;
use super::{Area, AreaFlags, Map, State, Store};
use crate::error::CallError;
use crate::sync::Pin;

impl<P: Platform> Map<P> {
    /// Fixes the start of the heap, which is then empty. For whoever loads a program.
    pub fn set_brk_base(&self, at: VirtAddr) {
        self.state.lock().heap = VirtRange::new(at, at);
    }

    /// Where the heap begins.
    pub fn brk_base(&self) -> VirtAddr {
        self.state.lock().heap.start
    }

    /// Moves the end of the heap to `at` if that is possible; returns where it is then, and what is to be
    /// brought in because it is locked.
    ///
    /// Takes the map's lock. Does not sleep otherwise.
    pub(crate) fn brk(&self, store: &Store<P>, at: VirtAddr) -> (VirtAddr, VirtRange) {
        let mut state = self.state.lock();
        let before = state.heap.end;
        let moved = if at >= state.heap.start {
            self.move_end(store, &mut state, at)
        } else {
            Err(CallError::Invalid)
        };
        if moved.is_ok() {
            state.heap.end = at;
        }
        let end = state.heap.end;
        let filled = state.future == AreaFlags::LOCKED && end > before;
        let from = if filled { before.page_up().unwrap_or(end).min(end) } else { end };
        drop(state);
        if let Ok(gone) = moved {
            gone.settle(store);
        }
        (end, VirtRange::new(from, end))
    }

    fn move_end(
        &self,
        store: &Store<P>,
        state: &mut State,
        at: VirtAddr,
    ) -> Result<Gone<P>, CallError> {
        let heap = state.heap;
        if at - heap.start > state.limits.data {
            return Err(CallError::NoMemory);
        }
        let from = heap.end.page_up().ok_or(CallError::NoMemory)?;
        let to = at.page_up().ok_or(CallError::NoMemory)?;
        if to == from {
            return Ok(Gone::none());
        }
        if to < from {
            let range = VirtRange::new(to, from);
            // What is gone already is no part of the heap to Linux, which the end cannot move over.
            if self.is_empty(&store.mmu.phys.epoch.pin(), range) {
                return Err(CallError::Invalid);
            }
            return self.unmap(store, state, range);
        }
        let range = VirtRange::new(from, to);
        // As no other mapping may. A space whose heap begins nowhere yet has its base at 0.
        if from.0 < state.limits.lowest {
            return Err(CallError::NotPermitted);
        }
        if to > P::Format::USER_END || !self.is_clear(&store.mmu.phys.epoch.pin(), range) {
            return Err(CallError::NoMemory);
        }
        let area = Area {
            range,
            prot: Prot::RW,
            max_prot: Prot::ALL,
            flags: state.future,
            object: None,
            accounted: false,
            offset: 0,
        };
        check_memory(store, state, &area)?;
        self.put(store, state, area)
    }

    /// Whether `range` is free, with a page to spare behind it: the heap keeps off its neighbour.
    fn is_clear(&self, pin: &Pin<'_, P>, range: VirtRange) -> bool {
        let end = VirtAddr(range.end.0.saturating_add(PAGE_SIZE));
        self.is_free(pin, VirtRange::new(range.start, end))
    }
}
