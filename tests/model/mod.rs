//! What memory should look like: a flat map of pages for each process, and the bytes of every object.
//!
//! Owns:  plain values. It knows no area, no page table and no sharing but that of objects; where areas
//!        begin and end it works out from the pages.
//!
//! | file | what it answers |
//! |---|---|
//! | `access` | loads, stores and fetches, with their faults; growing stacks |
//! | `map` | mmap, munmap, brk, and where a mapping goes |
//! | `protect` | mprotect |
//! | `advise` | madvise, process_madvise, msync, mincore |
//! | `lock` | mlock, mlockall and their opposites |
//! | `remap` | mremap, remap_file_pages |
//! | `fork` | fork, minherit, reservations |

mod access;
mod advise;
mod fork;
mod lock;
mod map;
mod protect;
mod remap;

use std::collections::{BTreeMap, BTreeSet};

use rumpvm::{AreaFlags, CallError};
use rumpvm_arch::{PAGE_SIZE, Prot, VirtAddr};

pub use map::Source;

/// Bytes of a page.
pub const PAGE: usize = PAGE_SIZE as usize;
/// Nothing is mapped below (`vm.mmap_min_addr`).
const LOWEST: u64 = 0x1_0000;

/// Memory that several mappings see.
pub struct Contents {
    /// Whether it can be read from somewhere; otherwise it begins as zeros.
    pub is_file: bool,
    /// In bytes. What lies beyond it in `bytes` is zero.
    pub size: usize,
    /// Whole pages.
    pub bytes: Vec<u8>,
    /// Pages in memory.
    resident: BTreeSet<usize>,
}

impl Contents {
    /// A file with these bytes.
    pub fn file(bytes: &[u8]) -> Self {
        let mut contents = Self::memory(bytes.len());
        contents.bytes[..bytes.len()].copy_from_slice(bytes);
        Self { is_file: true, ..contents }
    }

    /// So many zeros.
    pub fn memory(size: usize) -> Self {
        let bytes = vec![0; size.next_multiple_of(PAGE)];
        Self { is_file: false, size, bytes, resident: BTreeSet::new() }
    }

    /// Changes the size; what is beyond a new end is lost.
    pub fn resize(&mut self, size: usize) {
        if size < self.size {
            self.bytes[size..].fill(0);
        }
        self.bytes.resize(size.next_multiple_of(PAGE), 0);
        self.size = size;
        self.resident.retain(|index| index * PAGE < size);
    }
}

/// What one page of a process is.
#[derive(Clone, Debug)]
pub struct Page {
    /// What may be done.
    pub prot: Prot,
    /// What else an area is known by.
    pub flags: AreaFlags,
    /// Which object, and which page of it.
    pub object: Option<(usize, usize)>,
    /// The private copy, once there is one.
    pub private: Option<Vec<u8>>,
    /// It is, or was, private memory that can be stored to: promised.
    pub accounted: bool,
    /// It was loaded from. Whether a page of zeros counts as being in memory from then on is no promise.
    loaded: bool,
    /// Nothing may touch it.
    guard: bool,
}

impl Page {
    /// One that nobody has touched.
    fn fresh(prot: Prot, flags: AreaFlags, object: Option<(usize, usize)>) -> Self {
        Self { prot, flags, object, private: None, accounted: false, loaded: false, guard: false }
    }

    /// Whether stores go to the object.
    pub fn is_shared(&self) -> bool {
        self.flags.contains(AreaFlags::SHARED)
    }

    /// Private memory that can be stored to is promised from then on.
    pub(crate) fn account(&mut self) {
        let shared = AreaFlags::SHARED | AreaFlags::NORESERVE;
        self.accounted |= self.prot.contains(Prot::WRITE) && !self.flags.intersects(shared);
    }

    fn is_stack(&self) -> bool {
        self.flags.contains(AreaFlags::GROWSDOWN)
    }

    fn is_locked(&self) -> bool {
        self.flags.contains(AreaFlags::LOCKED)
    }

    /// Whether it is to be in memory as long as it is there.
    fn is_filled(&self) -> bool {
        self.is_locked() && !self.flags.contains(AreaFlags::ONFAULT)
    }

    /// What a page so much further in the same area is before it is touched.
    fn further(&self, pages: usize) -> Self {
        let object = self.object.map(|(object, index)| (object, index + pages));
        Self { object, private: None, loaded: false, guard: false, ..*self }
    }

    fn continues_in(&self, next: &Self) -> bool {
        let further = self.further(1);
        further.object == next.object
            && (self.prot, self.flags) == (next.prot, next.flags)
            && self.accounted == next.accounted
    }

    /// What is in it.
    pub fn bytes(&self, objects: &[Contents]) -> Vec<u8> {
        match (&self.private, self.object) {
            (Some(bytes), _) => bytes.clone(),
            (None, Some((object, index))) => {
                objects[object].bytes[index * PAGE..(index + 1) * PAGE].to_vec()
            }
            (None, None) => vec![0; PAGE],
        }
    }
}

/// How memory can be locked.
const LOCK: AreaFlags = AreaFlags::LOCKED.union(AreaFlags::ONFAULT);

/// Pages from the first to before the second.
pub type Pages = (u64, u64);

/// The memory of one process.
#[derive(Clone)]
pub struct Memory {
    /// By page number.
    pub pages: BTreeMap<u64, Page>,
    /// Start and end of the heap.
    pub heap: (VirtAddr, VirtAddr),
    /// Most bytes locked.
    pub lock_limit: u64,
    /// How whatever is mapped from now on is locked.
    future: AreaFlags,
    /// The machine.
    pub computer: Computer,
}

/// The machine, as far as calls tell of it.
#[derive(Clone, Copy)]
pub struct Computer {
    /// Whether rights to fetch can be denied.
    pub has_nx: bool,
    /// One past the highest address of user memory.
    pub end: VirtAddr,
    /// Frames. More private memory than that is not promised in one piece.
    pub frames: u64,
}

/// An area as the pages show it: which, and what the first one is.
pub type Run<'m> = (Pages, &'m Page);

impl Memory {
    /// A process with nothing mapped.
    pub fn new(computer: Computer) -> Self {
        let heap = (VirtAddr(0), VirtAddr(0));
        let future = AreaFlags::empty();
        Self { pages: BTreeMap::new(), heap, lock_limit: u64::MAX, future, computer }
    }

    /// An object has become as short as `size`: private copies of what lies beyond it are lost.
    pub fn cut_off(&mut self, object: usize, size: usize) {
        for page in self.pages.values_mut() {
            if page.object.is_some_and(|(of, index)| of == object && index * PAGE >= size) {
                (page.private, page.loaded) = (None, false);
            }
        }
    }

    /// The areas, in order.
    pub fn areas(&self) -> Vec<Run<'_>> {
        let mut areas: Vec<Run<'_>> = vec![];
        let mut last = None;
        for (&number, page) in &self.pages {
            match (areas.last_mut(), last) {
                (Some((pages, _)), Some(before))
                    if pages.1 == number && Page::continues_in(before, page) =>
                {
                    pages.1 += 1;
                }
                _ => areas.push(((number, number + 1), page)),
            }
            last = Some(page);
        }
        areas
    }

    /// One past the last page of the area of page `at`.
    fn area_end(&self, at: u64) -> u64 {
        let next = |page: &u64| match (self.pages.get(&(page - 1)), self.pages.get(page)) {
            (Some(page), Some(next)) => page.continues_in(next),
            _ => false,
        };
        (at + 1..).take_while(next).last().unwrap_or(at) + 1
    }

    /// The first page of the area of page `at`.
    fn area_start(&self, at: u64) -> u64 {
        let before = |page: &u64| match (self.pages.get(page), self.pages.get(&(page + 1))) {
            (Some(page), Some(next)) => page.continues_in(next),
            _ => false,
        };
        (0..at).rev().take_while(before).last().unwrap_or(at)
    }

    /// Bytes in locked areas.
    pub fn locked(&self) -> u64 {
        self.pages.values().filter(|page| page.is_locked()).count() as u64 * PAGE_SIZE
    }

    fn in_range(&self, (first, end): Pages) -> impl Iterator<Item = (&u64, &Page)> {
        self.pages.range(first..end)
    }

    fn is_free(&self, pages: Pages) -> bool {
        self.in_range(pages).next().is_none()
    }

    fn remove(&mut self, (first, end): Pages) {
        let numbers: Vec<u64> = self.in_range((first, end)).map(|(number, _)| *number).collect();
        for number in numbers {
            self.pages.remove(&number);
        }
    }

    /// The part up to the first hole.
    fn prefix(&self, (first, end): Pages) -> Pages {
        let mapped =
            self.in_range((first, end)).zip(first..).take_while(|((at, _), page)| *at == page);
        (first, first + mapped.count() as u64)
    }

    /// Changes every page of a range.
    fn change(&mut self, (first, end): Pages, mut edit: impl FnMut(&mut Page)) {
        self.pages.range_mut(first..end).for_each(|(_, page)| edit(page));
    }

    fn answer(&self, pages: Pages) -> Result<(), CallError> {
        if self.prefix(pages) == pages { Ok(()) } else { Err(CallError::Unmapped) }
    }
}

/// `length` bytes from `at` in whole pages, as the calls on existing mappings round them. None if they wrap.
fn whole_pages(at: VirtAddr, length: u64) -> Option<Pages> {
    let end = at.0.checked_add(length.checked_next_multiple_of(PAGE_SIZE)?)?;
    Some((at.page(), end / PAGE_SIZE))
}
