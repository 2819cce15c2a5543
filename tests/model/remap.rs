//! mremap: grow, shrink and move.

use rumpvm::{CallError, RemapFlags};
use rumpvm_arch::{PAGE_SIZE, Prot, VirtAddr};

use super::{Contents, Memory, Page, Pages};

/// A request in whole pages.
struct Request {
    at: u64,
    old: u64,
    new: u64,
    flags: RemapFlags,
    to: u64,
}

impl Memory {
    /// mremap(2): from the first many bytes to the second many.
    pub fn mremap(
        &mut self,
        objects: &mut [Contents],
        at: VirtAddr,
        (old, new): (u64, u64),
        flags: RemapFlags,
        to: VirtAddr,
    ) -> Result<VirtAddr, CallError> {
        let request = self.validate(at, (old, new), flags, to)?;
        let Request { at, old, new, .. } = request;
        let first = self.pages.get(&at).ok_or(CallError::BadAddress)?.clone();
        let moved = self.change_size(&request, &first)?;
        let locked = self.pages.get(&moved).is_some_and(Page::is_locked);
        if locked {
            self.populate(objects, (moved + old.min(new), moved + new));
        }
        Ok(VirtAddr::of_page(moved))
    }

    fn validate(
        &self,
        at: VirtAddr,
        (old, new): (u64, u64),
        flags: RemapFlags,
        to: VirtAddr,
    ) -> Result<Request, CallError> {
        let (fixed, keep) =
            (flags.contains(RemapFlags::FIXED), flags.contains(RemapFlags::DONTUNMAP));
        if ((fixed || keep) && !flags.contains(RemapFlags::MAYMOVE)) || (keep && old != new) {
            return Err(CallError::Invalid);
        }
        let end = self.computer.end.0;
        // The last page of all wraps to nothing.
        let whole = |bytes: u64| bytes.wrapping_add(PAGE_SIZE - 1) & !(PAGE_SIZE - 1);
        let (old, new) = (whole(old), whole(new));
        if !at.is_page_aligned() || new == 0 || new > end {
            return Err(CallError::Invalid);
        }
        if fixed || keep {
            let apart = to.0 >= at.0.saturating_add(old) || to.0.saturating_add(new) <= at.0;
            if !to.is_page_aligned() || to.0 > end - new || !apart {
                return Err(CallError::Invalid);
            }
        }
        let (old, new) = (old / PAGE_SIZE, new / PAGE_SIZE);
        Ok(Request { at: at.page(), old, new, flags, to: to.page() })
    }

    /// Where the mapping is then.
    fn change_size(&mut self, request: &Request, first: &Page) -> Result<u64, CallError> {
        let Request { at, old, new, flags, to } = *request;
        let (fixed, keep) =
            (flags.contains(RemapFlags::FIXED), flags.contains(RemapFlags::DONTUNMAP));
        if old == 0 && !first.is_shared() {
            return Err(CallError::Invalid);
        }
        if !fixed && !keep && new <= old && old > 0 {
            // What goes may be anything.
            if new < old {
                self.inside(at, old)?;
                self.remove((at + new, at + old));
            }
            return Ok(at);
        }
        let end = self.area_end(at);
        // So here too: only what moves has to be of one area.
        if at + old.min(new) > end {
            return Err(CallError::BadAddress);
        }
        self.inside(at, old)?;
        if new > old {
            let more = new - old;
            let promised = first.prot.contains(Prot::WRITE) && !first.is_shared();
            if promised && more > self.computer.frames {
                return Err(CallError::NoMemory);
            }
            if first.is_locked() && self.locked().saturating_add(more * PAGE_SIZE) > self.lock_limit
            {
                return Err(CallError::Again);
            }
            let gained = (at + old, at + new);
            let fits = gained.1 <= self.computer.end.page() && self.is_free(gained);
            if !fixed && old > 0 && at + old == end && fits {
                self.put(gained, &first.further(old as usize));
                return Ok(at);
            }
        }
        if !flags.contains(RemapFlags::MAYMOVE) {
            return Err(CallError::NoMemory);
        }
        let to = if fixed {
            self.remove((to, to + new));
            to
        } else {
            let hint = if keep { VirtAddr::of_page(to) } else { VirtAddr(0) };
            self.place(hint, self.computer.end.page(), new)?
        };
        self.relocate((at, at + old), (to, to + new), first, keep);
        Ok(to)
    }

    /// What is unmapped lies inside user memory.
    fn inside(&self, at: u64, pages: u64) -> Result<(), CallError> {
        let fits = at + pages <= self.computer.end.page();
        if fits { Ok(()) } else { Err(CallError::Invalid) }
    }

    fn relocate(&mut self, old: Pages, new: Pages, first: &Page, keep: bool) {
        let pages = old.1 - old.0;
        for page in 0..pages.max(new.1 - new.0) {
            let mut moved = first.further(page as usize);
            if page < pages
                && let Some(slot) = self.pages.get_mut(&(old.0 + page))
            {
                (moved.private, moved.loaded) = (slot.private.take(), slot.loaded);
                slot.loaded = false;
            }
            if page < new.1 - new.0 {
                self.pages.insert(new.0 + page, moved);
            }
        }
        if !keep && pages > 0 {
            self.remove(old);
        }
    }
}
