//! Mappings come and go: mmap, munmap, brk, and where a mapping goes that may go anywhere.

use rumpvm::{AreaFlags, CallError, MapFlags};
use rumpvm_arch::{PAGE_SIZE, Prot, VirtAddr};

use super::access::GUARD;
use super::{Contents, LOWEST, Memory, PAGE, Page, Pages, whole_pages};

/// Kept free below the end of user memory, for the stack.
const STACK_ROOM: u64 = 128 << 20;
/// The end of what `MAP_32BIT` allows.
const LOW_END: u64 = 1 << 31;

/// What is to be mapped: an object from a byte on, or nothing but zeros.
pub type Source = Option<(usize, u64)>;

impl Memory {
    /// mmap(2).
    pub fn mmap(
        &mut self,
        objects: &mut Vec<Contents>,
        hint: VirtAddr,
        length: u64,
        prot: Prot,
        flags: MapFlags,
        source: Source,
    ) -> Result<VirtAddr, CallError> {
        let shared = flags.contains(MapFlags::SHARED);
        let stack = flags.contains(MapFlags::GROWSDOWN);
        if length == 0 || source.is_some_and(|(_, offset)| !offset.is_multiple_of(PAGE_SIZE)) {
            return Err(CallError::Invalid);
        }
        let pages =
            length.checked_next_multiple_of(PAGE_SIZE).ok_or(CallError::NoMemory)? / PAGE_SIZE;
        let first = self.choose(hint, pages, flags)?;
        let mut lock = self.future;
        lock |= if flags.contains(MapFlags::LOCKED) { AreaFlags::LOCKED } else { lock };
        let locked = !lock.is_empty();
        if flags.contains(MapFlags::LOCKED) && self.lock_limit == 0 {
            return Err(CallError::NotPermitted);
        }
        if locked && self.locked().saturating_add(pages * PAGE_SIZE) > self.lock_limit {
            return Err(CallError::Again);
        }
        if !flags.intersects(MapFlags::SHARED | MapFlags::PRIVATE)
            || (stack && (shared || source.is_some()))
        {
            return Err(CallError::Invalid);
        }
        let promised = prot.contains(Prot::WRITE)
            && !shared
            && !flags.contains(MapFlags::NORESERVE)
            && pages > self.computer.frames;
        if promised {
            return Err(CallError::NoMemory);
        }
        let range = (first, first + pages);
        let object = match source {
            Some((object, offset)) => Some((object, (offset / PAGE_SIZE) as usize)),
            None if shared => {
                objects.push(Contents::memory(pages as usize * PAGE));
                Some((objects.len() - 1, 0))
            }
            None => None,
        };
        let mut kind = AreaFlags::empty();
        kind.set(AreaFlags::SHARED, shared);
        kind.set(AreaFlags::GROWSDOWN, stack);
        kind |= lock;
        kind.set(AreaFlags::NORESERVE, flags.contains(MapFlags::NORESERVE));
        let mut page = Page::fresh(prot, kind, object);
        page.account();
        self.put(range, &page);
        let populate = MapFlags::POPULATE;
        let asked = flags & (populate | MapFlags::NONBLOCK) == populate;
        if if locked { lock == AreaFlags::LOCKED } else { asked } {
            self.populate(objects, range);
        }
        Ok(VirtAddr::of_page(first))
    }

    /// Makes a range consist of the pages of one new area.
    pub(super) fn put(&mut self, range: Pages, page: &Page) {
        self.remove(range);
        for number in range.0..range.1 {
            self.pages.insert(number, page.further((number - range.0) as usize));
        }
    }

    /// Brings pages in. The first failure ends it, and is no error.
    pub(super) fn populate(&mut self, objects: &mut [Contents], range: Pages) {
        let _ = (range.0..range.1).try_for_each(|page| self.touch(objects, page));
    }

    fn choose(&self, hint: VirtAddr, pages: u64, flags: MapFlags) -> Result<u64, CallError> {
        if !flags.intersects(MapFlags::FIXED | MapFlags::FIXED_NOREPLACE) {
            let low = flags.contains(MapFlags::BIT32);
            if low {
                return self.place_low(hint, pages);
            }
            return self.place(hint, self.computer.end.page(), pages);
        }
        let end = self.computer.end.page();
        if pages > end || hint.0 > (end - pages) * PAGE_SIZE {
            return Err(CallError::NoMemory);
        }
        if !hint.is_page_aligned() {
            return Err(CallError::Invalid);
        }
        if hint.0 < LOWEST {
            return Err(CallError::NotPermitted);
        }
        let taken = !self.is_free((hint.page(), hint.page() + pages));
        if flags.contains(MapFlags::FIXED_NOREPLACE) && taken {
            return Err(CallError::Exists);
        }
        Ok(hint.page())
    }

    /// Where so many pages go: at the hint if that is free, else as high as possible below the room for
    /// the stack, else as high as possible.
    pub(super) fn place(&self, hint: VirtAddr, end: u64, pages: u64) -> Result<u64, CallError> {
        let lowest = LOWEST / PAGE_SIZE;
        if pages > end - lowest {
            return Err(CallError::NoMemory);
        }
        let at = hint.page().max(lowest);
        if hint.page() != 0 && at + pages <= end && self.is_clear((at, at + pages)) {
            return Ok(at);
        }
        let room = end - STACK_ROOM / PAGE_SIZE;
        [room, end].iter().find_map(|&top| self.highest(top, pages)).ok_or(CallError::NoMemory)
    }

    /// Where so many pages go whose addresses must fit 31 bits: at the hint if that is free, else as low as
    /// possible in the upper half.
    fn place_low(&self, hint: VirtAddr, pages: u64) -> Result<u64, CallError> {
        let (lowest, end) = (LOWEST / PAGE_SIZE, LOW_END.min(self.computer.end.0) / PAGE_SIZE);
        let at = hint.page().max(lowest);
        if hint.page() != 0 && at + pages <= end && self.is_clear((at, at + pages)) {
            return Ok(at);
        }
        let mut at = LOW_END / 2 / PAGE_SIZE;
        while at + pages <= end {
            match self.pages.range(at..).next() {
                Some((&next, _)) if self.below_guard(next) < at + pages => at = self.area_end(next),
                _ => return Ok(at),
            }
        }
        Err(CallError::NoMemory)
    }

    /// The highest gap below page `top`.
    fn highest(&self, top: u64, pages: u64) -> Option<u64> {
        let mut end = top;
        for &number in self.pages.range(..top).map(|(number, _)| number).rev() {
            let usable = self.below_guard(end);
            if usable > pages + number {
                return Some(usable - pages);
            }
            end = number;
        }
        let usable = self.below_guard(end);
        (usable >= pages + LOWEST / PAGE_SIZE).then(|| usable - pages)
    }

    /// `end`, or below the guard if a stack begins there.
    fn below_guard(&self, end: u64) -> u64 {
        let stack = self.pages.get(&end).is_some_and(Page::is_stack);
        if stack { end.saturating_sub(GUARD) } else { end }
    }

    /// Whether nothing is mapped there, nor a stack so close above that it could not grow.
    pub(super) fn is_clear(&self, (first, end): Pages) -> bool {
        let next = self.pages.range(first..).next();
        next.is_none_or(|(&number, _)| number >= end && end <= self.below_guard(number))
    }

    /// munmap(2).
    pub fn munmap(&mut self, at: VirtAddr, length: u64) -> Result<(), CallError> {
        let end = self.computer.end.0;
        if !at.is_page_aligned() || length == 0 || at.0 > end || length > end - at.0 {
            return Err(CallError::Invalid);
        }
        self.remove(whole_pages(at, length).ok_or(CallError::Invalid)?);
        Ok(())
    }

    /// brk(2): where the end of the heap is afterwards.
    pub fn brk(&mut self, objects: &mut [Contents], at: VirtAddr) -> VirtAddr {
        let (start, old) = self.heap;
        if at < start {
            return old;
        }
        let pages = |at: VirtAddr| at.0.div_ceil(PAGE_SIZE);
        let (from, to) = (pages(old), pages(at));
        if to < from {
            if self.pages.range(to..from).next().is_none() {
                return old;
            }
            self.remove((to, from));
        } else if to > from {
            // A page is left between the heap and what comes next.
            let clear = self.is_clear((from, to + 1));
            if to > self.computer.end.page() || !clear || to - from > self.computer.frames {
                return old;
            }
            let locks = !self.future.is_empty();
            if locks && self.locked().saturating_add((to - from) * PAGE_SIZE) > self.lock_limit {
                return old;
            }
            let flags = self.future;
            let mut page = Page::fresh(Prot::RW, flags, None);
            page.account();
            self.put((from, to), &page);
            if flags.contains(AreaFlags::LOCKED) && !flags.contains(AreaFlags::ONFAULT) {
                self.populate(objects, (from, to));
            }
        }
        self.heap.1 = at;
        at
    }
}
