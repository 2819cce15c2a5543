//! Advice, and what is in memory.

use rumpvm::{Advised, AreaFlags, CallError, FaultError, SyncFlags};
use rumpvm_arch::{Access, PAGE_SIZE, VirtAddr};

use super::{Contents, Memory, PAGE, Page, Pages, whole_pages};

/// What is cleared, and what is set, by advice that only marks.
fn marks(advice: i32) -> Option<(AreaFlags, AreaFlags)> {
    let order = AreaFlags::RANDOM | AreaFlags::SEQUENTIAL;
    let huge = AreaFlags::HUGEPAGE | AreaFlags::NOHUGEPAGE;
    let none = AreaFlags::empty();
    Some(match advice {
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
        18 => (none, AreaFlags::WIPEONFORK),
        19 => (AreaFlags::WIPEONFORK, none),
        _ => return None,
    })
}

/// What a page says to advice that is not for it.
fn fits(advice: i32, page: &Page) -> Result<(), CallError> {
    let fits = match advice {
        8 => page.object.is_none() && !page.is_locked(),
        9 if page.is_locked() || page.object.is_none() => false,
        9 if !page.is_shared() => return Err(CallError::Denied),
        4 | 20 | 21 | 102 => !page.is_locked(),
        18 => page.object.is_none(),
        25 => false,
        _ => true,
    };
    if fits { Ok(()) } else { Err(CallError::Invalid) }
}

impl Memory {
    /// madvise(2).
    pub fn madvise(
        &mut self,
        objects: &mut [Contents],
        at: VirtAddr,
        length: u64,
        advice: i32,
    ) -> Result<(), CallError> {
        let known = marks(advice).is_some()
            || [3, 4, 8, 9, 20, 21, 22, 23, 24, 25, 102, 103].contains(&advice);
        let pages = whole_pages(at, length).filter(|_| known && at.is_page_aligned());
        let pages = pages.ok_or(CallError::Invalid)?;
        if pages.0 == pages.1 {
            return Ok(());
        }
        match advice {
            22 => return self.populate_for(objects, pages, Access::Read),
            23 => return self.populate_for(objects, pages, Access::Write),
            _ => {}
        }
        let unfit = self
            .in_range(pages)
            .find_map(|(number, page)| fits(advice, page).err().map(|error| (*number, error)));
        let (end, answer) = match unfit {
            Some((number, error)) => (number, Err(error)),
            None => (pages.1, self.answer(pages)),
        };
        for (_, page) in self.pages.range_mut(pages.0..end) {
            follow(objects, page, advice);
        }
        answer
    }

    /// process_madvise(2).
    pub fn process_madvise(
        &mut self,
        objects: &mut [Contents],
        ranges: &[(VirtAddr, u64)],
        advice: i32,
        whose: Advised,
    ) -> Result<u64, CallError> {
        let total: u64 = ranges.iter().map(|(_, length)| length).sum();
        let outside = |(at, length): &(VirtAddr, u64)| at.0 + length > self.computer.end.0;
        if ranges.iter().any(outside) {
            return Err(CallError::BadAddress);
        }
        if whose == Advised::Others && ![3, 20, 21, 25].contains(&advice) {
            return Err(CallError::Invalid);
        }
        let mut done = 0;
        for (number, &(at, length)) in ranges.iter().enumerate() {
            let skipped = length == 0 && number > 0;
            if total == done || skipped {
                continue;
            }
            match self.madvise(objects, at, length, advice) {
                Ok(()) => done += length,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
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
}

/// What advice does to one page that it fits.
fn follow(objects: &mut [Contents], page: &mut Page, advice: i32) {
    if let Some((cleared, set)) = marks(advice) {
        let ignored = advice == 12 && page.is_shared();
        let set = if ignored { AreaFlags::empty() } else { set };
        page.flags = page.flags.difference(cleared) | set;
        return;
    }
    let object = page.object.filter(|(object, index)| index * PAGE < objects[*object].size);
    match (advice, object) {
        (3, Some((object, index))) if objects[object].is_file => {
            objects[object].resident.insert(index);
        }
        (4 | 8 | 24, _) => (page.private, page.loaded) = (None, false),
        (9, Some((object, index))) => {
            let contents = &mut objects[object];
            contents.bytes[index * PAGE..(index + 1) * PAGE].fill(0);
            contents.resident.remove(&index);
        }
        (102, _) => (page.private, page.loaded, page.guard) = (None, false, true),
        (103, _) => page.guard = false,
        _ => {}
    }
}
