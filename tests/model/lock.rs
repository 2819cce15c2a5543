//! Locked memory.

use rumpvm::{CallError, LockAllFlags, LockFlags};
use rumpvm_arch::{PAGE_SIZE, VirtAddr};

use super::{AreaFlags, Contents, LOCK, Memory, Pages, whole_pages};

impl Memory {
    /// mlock2(2).
    pub fn mlock(
        &mut self,
        objects: &mut [Contents],
        at: VirtAddr,
        length: u64,
        flags: LockFlags,
    ) -> Result<(), CallError> {
        if LockFlags::from_bits(flags.bits()).is_none() {
            return Err(CallError::Invalid);
        }
        if self.lock_limit == 0 {
            return Err(CallError::NotPermitted);
        }
        let touched = touched_pages(at, length);
        // One that wraps around is counted to the very end.
        let most = (at.page(), u64::MAX / PAGE_SIZE);
        let counted = touched.map_or(Some(most), |pages| pages).unwrap_or((0, 0));
        let there = self.in_range(counted).filter(|(_, page)| page.is_locked()).count() as u64;
        let bytes = match touched {
            Err(_) => length.wrapping_add(at.page_offset()),
            Ok(_) => (counted.1 - counted.0) * PAGE_SIZE,
        };
        let more = bytes.saturating_sub(there * PAGE_SIZE);
        if self.locked().saturating_add(more) > self.lock_limit {
            return Err(CallError::NoMemory);
        }
        let Some(pages) = touched? else { return Ok(()) };
        self.set_locked(pages, kind(flags.contains(LockFlags::ONFAULT)))?;
        if flags.contains(LockFlags::ONFAULT) {
            return Ok(());
        }
        let mut pages = pages.0..pages.1;
        pages.try_for_each(|page| self.touch(objects, page)).map_err(|_| CallError::Unmapped)
    }

    /// munlock(2).
    pub fn munlock(&mut self, at: VirtAddr, length: u64) -> Result<(), CallError> {
        let Some(pages) = touched_pages(at, length)? else { return Ok(()) };
        self.set_locked(pages, AreaFlags::empty())
    }

    /// mlockall(2).
    pub fn mlockall(
        &mut self,
        objects: &mut [Contents],
        flags: LockAllFlags,
    ) -> Result<(), CallError> {
        let known = LockAllFlags::from_bits(flags.bits()).is_some();
        if !known || flags.difference(LockAllFlags::ONFAULT).is_empty() {
            return Err(CallError::Invalid);
        }
        if self.lock_limit == 0 {
            return Err(CallError::NotPermitted);
        }
        let mapped = self.pages.len() as u64 * PAGE_SIZE;
        let now = flags.contains(LockAllFlags::CURRENT);
        if now && mapped > self.lock_limit {
            return Err(CallError::NoMemory);
        }
        let kind = kind(flags.contains(LockAllFlags::ONFAULT));
        let future = flags.contains(LockAllFlags::FUTURE);
        self.future = if future { kind } else { AreaFlags::empty() };
        if now {
            self.lock_all(kind);
            let ranges: Vec<Pages> = self.areas().iter().map(|(pages, _)| *pages).collect();
            if kind == AreaFlags::LOCKED {
                ranges.into_iter().for_each(|range| self.populate(objects, range));
            }
        }
        Ok(())
    }

    /// munlockall(2).
    pub fn munlockall(&mut self) {
        self.future = AreaFlags::empty();
        self.lock_all(AreaFlags::empty());
    }

    fn lock_all(&mut self, kind: AreaFlags) {
        self.change((0, u64::MAX), |page| page.flags = page.flags.difference(LOCK) | kind);
    }

    fn set_locked(&mut self, pages: Pages, kind: AreaFlags) -> Result<(), CallError> {
        let prefix = self.prefix(pages);
        self.change(prefix, |page| page.flags = page.flags.difference(LOCK) | kind);
        self.answer(pages)
    }
}

fn kind(on_fault: bool) -> AreaFlags {
    if on_fault { LOCK } else { AreaFlags::LOCKED }
}

/// The pages that `length` bytes from `at` touch; none if they are none, or wrap to nothing.
fn touched_pages(at: VirtAddr, length: u64) -> Result<Option<Pages>, CallError> {
    let from_page = length.wrapping_add(at.page_offset());
    let length = from_page.wrapping_add(PAGE_SIZE - 1) & !(PAGE_SIZE - 1);
    if length == 0 {
        return Ok(None);
    }
    whole_pages(at.page_down(), length).map(Some).ok_or(CallError::Invalid)
}
