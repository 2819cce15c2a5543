//! Copying between the kernel and a space: bad addresses are errors, not crashes.
//!
//! Bytes move through the direct map with the leaf table locked, so the page cannot go while they do, and
//! no exception table is needed. What the access would have noted in the entry is noted.

use rumpvm_arch::{Access, Format, PAGE_SIZE, Prot, VirtAddr};
use rumpvm_platform::Platform;

use crate::error::FaultError;
use crate::map::{Map, Store};
use crate::sync::Ordering;

impl<P: Platform> Map<P> {
    /// Copies bytes of this space, from `from` on, into the kernel. On error a prefix has been copied.
    /// Sleeps as a fault does.
    pub fn copy_in(
        &self,
        store: &Store<P>,
        from: VirtAddr,
        into: &mut [u8],
    ) -> Result<(), FaultError> {
        let mut done = 0;
        while done < into.len() {
            let at = address::<P>(from, done)?;
            let length = (PAGE_SIZE - at.page_offset()).min((into.len() - done) as u64) as usize;
            let part = &mut into[done..done + length];
            self.with_page(store, at, Access::Read, |frame| {
                store.mmu.phys.read(frame, at.page_offset(), part);
            })?;
            done += length;
        }
        Ok(())
    }

    /// Copies `from` to this space, from `to` on. On error a prefix has been copied. Sleeps as a fault
    /// does.
    pub fn copy_out(&self, store: &Store<P>, to: VirtAddr, from: &[u8]) -> Result<(), FaultError> {
        let mut done = 0;
        while done < from.len() {
            let at = address::<P>(to, done)?;
            let length = (PAGE_SIZE - at.page_offset()).min((from.len() - done) as u64) as usize;
            let part = &from[done..done + length];
            self.with_page(store, at, Access::Write, |frame| {
                store.mmu.phys.write(frame, at.page_offset(), part);
            })?;
            done += length;
        }
        Ok(())
    }

    /// Changes the word of 32 bits at `at` in one step, as a locked instruction of the program's own would: `change` gets
    /// what it is and says what it becomes, or `None` to leave it; again, if the program stored to it meanwhile. Returns what
    /// it was. A word that is no multiple of 4 is denied. For futexes. `change` runs under a spin lock. Sleeps as a
    /// fault does.
    pub fn change_word(
        &self,
        store: &Store<P>,
        at: VirtAddr,
        change: impl Fn(u32) -> Option<u32>,
    ) -> Result<u32, FaultError> {
        let at = address::<P>(at, 0)?;
        if !at.0.is_multiple_of(4) {
            return Err(FaultError::Denied { at, wanted: Prot::WRITE });
        }
        let mut was = 0;
        self.with_page(store, at, Access::Write, |frame| {
            let word = &store.mmu.phys.words32(frame)[at.page_offset() as usize / 4];
            was = word.load(Ordering::SeqCst);
            while let Some(new) = change(was)
                && let Err(now) = word.compare_exchange(was, new, Ordering::SeqCst)
            {
                was = now;
            }
        })?;
        Ok(was)
    }

    /// Calls `work` with the frame at `at` while it stays mapped with the right to `access`. The memory of a
    /// device is denied: the direct map need not cover it.
    fn with_page(
        &self,
        store: &Store<P>,
        at: VirtAddr,
        access: Access,
        mut work: impl FnMut(rumpvm_arch::Frame),
    ) -> Result<(), FaultError> {
        loop {
            {
                let pin = store.mmu.phys.epoch.pin();
                if let Some(mut leaf) = self.pmap.find_leaf(&store.mmu, &pin, at)
                    && leaf.note(at, access)
                {
                    let frame = leaf.get(at).frame();
                    if !store.mmu.phys.has(frame) {
                        return Err(FaultError::Denied { at, wanted: access.needs() });
                    }
                    work(frame);
                    return Ok(());
                }
            }
            super::fault(store, self, at, access)?;
        }
    }
}

/// `start` plus `offset`, if it is an address of user memory.
fn address<P: Platform>(start: VirtAddr, offset: usize) -> Result<VirtAddr, FaultError> {
    let at = VirtAddr(start.0.saturating_add(offset as u64));
    if at >= P::Format::USER_END {
        return Err(FaultError::Unmapped { at });
    }
    Ok(at)
}
