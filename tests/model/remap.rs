//! mremap: grow, shrink and move.

use rumpvm::{CallError, RemapFlags};
use rumpvm_arch::{PAGE_SIZE, Prot, VirtAddr};

use super::{AreaFlags, Contents, LOCK, Memory, Page, Pages};

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
        if flags.contains(RemapFlags::FIXED) && old == new {
            return self.move_areas(&request);
        }
        let first = self.pages.get(&at).ok_or(CallError::BadAddress)?.clone();
        let moved = self.change_size(&request, &first)?;
        let filled = self.pages.get(&moved).is_some_and(Page::is_filled);
        if filled {
            self.populate(objects, (moved + old.min(new), moved + new));
        }
        Ok(VirtAddr::of_page(moved))
    }

    /// Area by area, each over what is at its new place; holes are left as they are.
    fn move_areas(&mut self, request: &Request) -> Result<VirtAddr, CallError> {
        let Request { at, old, flags, to, .. } = *request;
        if !self.pages.contains_key(&at) {
            return Err(CallError::BadAddress);
        }
        let mut from = at;
        while let Some((&first, page)) = self.pages.range(from..at + old).next() {
            let page = page.clone();
            let end = self.area_end(first).min(at + old);
            let (pages, to) = (end - first, to + (first - at));
            let one = Request { at: first, old: pages, new: pages, flags, to };
            self.change_size(&one, &page)?;
            from = end;
        }
        Ok(VirtAddr::of_page(to))
    }

    /// remap_file_pages(2).
    pub fn remap_file_pages(
        &mut self,
        objects: &mut [Contents],
        start: VirtAddr,
        size: u64,
        page: u64,
    ) -> Result<(), CallError> {
        let (first, pages) = (start.page(), size / PAGE_SIZE);
        let end = first.checked_add(pages).filter(|end| *end > first).ok_or(CallError::Invalid)?;
        let last = page.checked_add(pages).ok_or(CallError::Invalid)?;
        let model = self.pages.get(&first).cloned().filter(Page::is_shared);
        let model = model.ok_or(CallError::Invalid)?;
        let alike = |page: &Page| {
            let object = |page: &Page| page.object.map(|(object, _)| object);
            object(page) == object(&model) && (page.prot, page.flags) == (model.prot, model.flags)
        };
        let pages = (first, end);
        if self.prefix(pages) != pages || !self.in_range(pages).all(|(_, page)| alike(page)) {
            return Err(CallError::Invalid);
        }
        if last > i64::MAX as u64 / PAGE_SIZE {
            return Err(CallError::Overflow);
        }
        let flags = model.flags & (AreaFlags::SHARED | AreaFlags::LOCKED) | self.future;
        let object = model.object.map(|(object, _)| (object, page as usize));
        let fresh = Page { flags, object, guard: false, private: None, loaded: false, ..model };
        let (locked, filled) = (fresh.is_locked(), fresh.is_filled());
        self.put(pages, &fresh);
        if filled || !locked {
            self.populate(objects, pages);
        }
        Ok(())
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
        if (fixed || keep) && !flags.contains(RemapFlags::MAYMOVE) {
            return Err(CallError::Invalid);
        }
        let end = self.computer.end.0;
        // The last page of all wraps to nothing.
        let whole = |bytes: u64| bytes.wrapping_add(PAGE_SIZE - 1) & !(PAGE_SIZE - 1);
        let (old, new) = (whole(old), whole(new));
        if !at.is_page_aligned() || new == 0 || new > end || (keep && old != new) {
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
            if !self.pages.contains_key(&at) {
                return Err(CallError::BadAddress);
            }
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
        if keep && first.is_locked() {
            let all = (self.area_start(old.0), self.area_end(old.0));
            self.change(all, |page| page.flags.remove(LOCK));
        }
        for page in 0..pages.max(new.1 - new.0) {
            let mut moved = first.further(page as usize);
            if page < pages
                && let Some(slot) = self.pages.get_mut(&(old.0 + page))
            {
                (moved.private, moved.loaded) = (slot.private.take(), slot.loaded);
                moved.guard = slot.guard;
                (slot.loaded, slot.guard) = (false, false);
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
