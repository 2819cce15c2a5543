//! Calls on what is mapped: rights, advice, locks, and what is in memory.

use rumpvm::{AreaFlags, CallError, FaultError, ProtFlags, SyncFlags};
use rumpvm_arch::{Access, PAGE_SIZE, Prot, VirtAddr};

use super::{Contents, Memory, PAGE, Page, Pages, whole_pages};

impl Memory {
    /// mprotect(2).
    pub fn mprotect(
        &mut self,
        objects: &mut [Contents],
        at: VirtAddr,
        length: u64,
        flags: ProtFlags,
    ) -> Result<(), CallError> {
        let both = ProtFlags::GROWSDOWN | ProtFlags::GROWSUP;
        if flags.contains(both) || !at.is_page_aligned() {
            return Err(CallError::Invalid);
        }
        let (mut first, end) = whole_pages(at, length).ok_or(CallError::Unmapped)?;
        if first == end {
            return Ok(());
        }
        if ProtFlags::from_bits(flags.bits()).is_none() {
            return Err(CallError::Invalid);
        }
        let touched =
            self.pages.range(first..end).next().map(|(number, page)| (*number, page.is_stack()));
        if flags.intersects(both) {
            let (found, is_stack) = touched.ok_or(CallError::Unmapped)?;
            if flags.contains(ProtFlags::GROWSUP) {
                return Err(if found == first { CallError::Invalid } else { CallError::Unmapped });
            }
            if !is_stack {
                return Err(CallError::Invalid);
            }
            first = self.area_start(found);
        }
        let prefix = self.prefix((first, end));
        let prot = flags.rights();
        let mut fill = vec![];
        for (number, page) in self.pages.range_mut(prefix.0..prefix.1) {
            let gains = prot.contains(Prot::WRITE) && !page.prot.contains(Prot::WRITE);
            if gains && page.is_filled() && !page.is_shared() {
                fill.push((*number, (page.prot, page.flags)));
            }
            page.prot = prot;
        }
        // Area by area, and each as far as it goes.
        let runs = fill.chunk_by(|one, next| one.0 + 1 == next.0 && one.1 == next.1);
        for run in runs {
            self.populate(objects, (run[0].0, run[run.len() - 1].0 + 1));
        }
        self.answer((first, end))
    }

    /// pkey_mprotect(2) of a machine without keys.
    pub fn pkey_mprotect(
        &mut self,
        objects: &mut [Contents],
        at: VirtAddr,
        length: u64,
        flags: ProtFlags,
        key: i32,
    ) -> Result<(), CallError> {
        let unknown = if key == -1 { 0 } else { 1 << 40 };
        self.mprotect(objects, at, length, flags | ProtFlags::from_bits_retain(unknown))
    }

    /// madvise(2).
    pub fn madvise(
        &mut self,
        objects: &mut [Contents],
        at: VirtAddr,
        length: u64,
        advice: i32,
    ) -> Result<(), CallError> {
        let order = AreaFlags::RANDOM | AreaFlags::SEQUENTIAL;
        let huge = AreaFlags::HUGEPAGE | AreaFlags::NOHUGEPAGE;
        let none = AreaFlags::empty();
        // What is cleared, and what is set.
        let marks = match advice {
            0 => (order, none),
            1 => (order, AreaFlags::RANDOM),
            2 => (order, AreaFlags::SEQUENTIAL),
            10 => (none, AreaFlags::DONTFORK),
            11 => (AreaFlags::DONTFORK, none),
            12 => (none, AreaFlags::MERGEABLE),
            13 => (AreaFlags::MERGEABLE, none),
            14 => (huge, AreaFlags::HUGEPAGE),
            15 => (huge, AreaFlags::NOHUGEPAGE),
            16 => (none, AreaFlags::DONTDUMP),
            17 => (AreaFlags::DONTDUMP, none),
            3 | 4 | 8 | 20 | 21 | 22 | 23 => (none, none),
            _ => return Err(CallError::Invalid),
        };
        let pages = whole_pages(at, length).filter(|_| at.is_page_aligned());
        let pages = pages.ok_or(CallError::Invalid)?;
        match advice {
            3 => self.will_need(objects, pages),
            4 | 8 => self.dont_need(pages, advice == 8)?,
            20 | 21 => self.page_out(pages)?,
            22 => return self.populate_for(objects, pages, Access::Read),
            23 => return self.populate_for(objects, pages, Access::Write),
            _ if pages.0 < pages.1 => {
                self.change(pages, |page| page.flags = page.flags.difference(marks.0) | marks.1);
            }
            _ => {}
        }
        self.answer(pages)
    }

    fn will_need(&self, objects: &mut [Contents], pages: Pages) {
        for (_, page) in self.in_range(pages) {
            if let Some((object, index)) = page.object
                && objects[object].is_file
                && index * PAGE < objects[object].size
            {
                objects[object].resident.insert(index);
            }
        }
    }

    /// `MADV_DONTNEED`, or with `anonymous` `MADV_FREE`. Done up to the first page that cannot.
    fn dont_need(&mut self, pages: Pages, anonymous: bool) -> Result<(), CallError> {
        for (_, page) in self.pages.range_mut(pages.0..pages.1) {
            if page.is_locked() || (anonymous && page.object.is_some()) {
                return Err(CallError::Invalid);
            }
            (page.private, page.loaded) = (None, false);
        }
        Ok(())
    }

    /// `MADV_COLD` and `MADV_PAGEOUT`, which do nothing that shows.
    fn page_out(&self, pages: Pages) -> Result<(), CallError> {
        let locked = self.in_range(pages).any(|(_, page)| page.is_locked());
        if locked { Err(CallError::Invalid) } else { Ok(()) }
    }

    /// `MADV_POPULATE_READ` and `MADV_POPULATE_WRITE`.
    fn populate_for(
        &mut self,
        objects: &mut [Contents],
        (first, end): Pages,
        access: Access,
    ) -> Result<(), CallError> {
        (first..end).try_for_each(|page| {
            let at = VirtAddr::of_page(page);
            // Rights are taken by their word, although the machine would let a load pass.
            let allowed = |page: &Page| page.prot.contains(access.needs());
            if self.pages.get(&page).is_some_and(|page| !allowed(page)) {
                return Err(CallError::Invalid);
            }
            self.fault_in(objects, at, access).map(|_| ()).map_err(|error| match error {
                FaultError::Unmapped { .. } => CallError::Unmapped,
                FaultError::Denied { .. } => CallError::Invalid,
                _ => CallError::BadAddress,
            })
        })
    }

    /// msync(2), but for what it writes.
    pub fn msync(&self, at: VirtAddr, length: u64, flags: SyncFlags) -> Result<(), CallError> {
        let both = SyncFlags::ASYNC | SyncFlags::SYNC;
        if !at.is_page_aligned() || flags.contains(both) {
            return Err(CallError::Invalid);
        }
        // The last page of all wraps to nothing.
        let length = if length > PAGE_SIZE.wrapping_neg() { 0 } else { length };
        let pages = whole_pages(at, length).ok_or(CallError::Unmapped)?;
        let locked = self.in_range(pages).any(|(_, page)| page.is_locked());
        if flags.contains(SyncFlags::INVALIDATE) && locked {
            return Err(CallError::Busy);
        }
        self.answer(pages)
    }

    /// mincore(2): for each page whether it is in memory, where that is a promise.
    pub fn mincore(
        &self,
        objects: &[Contents],
        at: VirtAddr,
        length: u64,
    ) -> Result<Vec<Option<bool>>, CallError> {
        if !at.is_page_aligned() {
            return Err(CallError::Invalid);
        }
        let pages = whole_pages(at, length).ok_or(CallError::Unmapped)?;
        if pages.1 > self.computer.end.page() {
            return Err(CallError::Unmapped);
        }
        self.answer(pages)?;
        let resident = |(_, page): (&u64, &Page)| match (&page.private, page.object) {
            (Some(_), _) => Some(true),
            (None, Some((object, index))) => Some(objects[object].resident.contains(&index)),
            (None, None) if page.loaded => None,
            (None, None) => Some(false),
        };
        Ok(self.in_range(pages).map(resident).collect())
    }

    /// mlock(2).
    pub fn mlock(
        &mut self,
        objects: &mut [Contents],
        at: VirtAddr,
        length: u64,
    ) -> Result<(), CallError> {
        let Some(pages) = touched_pages(at, length)? else { return Ok(()) };
        if self.lock_limit == 0 {
            return Err(CallError::NotPermitted);
        }
        let there = self.in_range(pages).filter(|(_, page)| page.is_locked()).count() as u64;
        let more = pages.1 - pages.0 - there;
        if self.locked().saturating_add(more * PAGE_SIZE) > self.lock_limit {
            return Err(CallError::NoMemory);
        }
        self.set_locked(pages, true)?;
        let mut pages = pages.0..pages.1;
        pages.try_for_each(|page| self.touch(objects, page)).map_err(|_| CallError::Unmapped)
    }

    /// munlock(2).
    pub fn munlock(&mut self, at: VirtAddr, length: u64) -> Result<(), CallError> {
        let Some(pages) = touched_pages(at, length)? else { return Ok(()) };
        self.set_locked(pages, false)
    }

    fn set_locked(&mut self, pages: Pages, locked: bool) -> Result<(), CallError> {
        let prefix = self.prefix(pages);
        if prefix.0 < prefix.1 {
            self.change(prefix, |page| page.flags.set(AreaFlags::LOCKED, locked));
        }
        self.answer(pages)
    }
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
