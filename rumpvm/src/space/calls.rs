//! The calls of a space that end by bringing pages in. All others are the map's own.
//!
//! Locks: none across a fault; the map was given up before the first page is touched.
//! Sleep: as a fault does.

use rumpvm_arch::{Access, PAGE_SIZE, Prot, VirtAddr, VirtRange};
use rumpvm_platform::Platform;

use super::Space;
use crate::error::{CallError, FaultError};
use crate::fault;
use crate::map::{
    AreaFlags, Backing, LockAllFlags, LockFlags, MapFlags, ProtFlags, RemapFlags, Request, Store,
    whole_pages,
};

/// No right, and nothing else that mprotect(2) knows.
const NO_SUCH_BIT: u64 = 1 << 63;
/// `MADV_POPULATE_READ`.
const POPULATE_READ: i32 = 22;
/// `MADV_POPULATE_WRITE`.
const POPULATE_WRITE: i32 = 23;

impl<P: Platform> Space<P> {
    /// Maps `length` bytes of `backing` from byte `offset` on and returns where; see mmap(2). With
    /// `POPULATE` or `LOCKED` the pages are brought in; one that cannot be is no error, as on Linux.
    ///
    /// Takes the map's lock. Sleeps for pages, and when what it replaces was the last mapping of a file.
    #[expect(clippy::too_many_arguments, reason = "the arguments of mmap(2)")]
    pub fn mmap(
        &self,
        store: &Store<P>,
        hint: VirtAddr,
        length: u64,
        prot: Prot,
        flags: MapFlags,
        backing: Backing<'_, P>,
        offset: u64,
    ) -> Result<VirtAddr, CallError> {
        let request = Request { hint, length, prot, flags, backing, offset };
        let placed = self.map.mmap(store, &request)?;
        self.populate(store, placed.populate);
        Ok(placed.range.start)
    }

    /// Gives `length` bytes from `at` the rights `prot`; see mprotect(2). Up to the first hole, or the first
    /// area that may not have them or is more data than there may be, it is done even if there is one, and
    /// then the answer is [`CallError::Unmapped`], [`CallError::Denied`] or [`CallError::NoMemory`]. Private
    /// memory that is locked and can be stored to from now on is brought in; a page that cannot be is no
    /// error. As on Linux.
    ///
    /// Takes the map's lock; sleeps for pages without it.
    pub fn mprotect(
        &self,
        store: &Store<P>,
        at: VirtAddr,
        length: u64,
        prot: impl Into<ProtFlags>,
    ) -> Result<(), CallError> {
        let done = self.map.mprotect(store, at, length, prot.into());
        done.fill.into_iter().for_each(|range| self.populate(store, range));
        done.answer
    }

    /// pkey_mprotect(2): mprotect for the key -1. There are no others, which is said only where there is
    /// something to do, as on Linux.
    pub fn pkey_mprotect(
        &self,
        store: &Store<P>,
        at: VirtAddr,
        length: u64,
        prot: impl Into<ProtFlags>,
        key: i32,
    ) -> Result<(), CallError> {
        // A key that nobody has is refused just where an unknown bit is.
        let unknown = ProtFlags::from_bits_retain(if key == -1 { 0 } else { NO_SUCH_BIT });
        let prot = prot.into().union(unknown);
        self.mprotect(store, at, length, prot)
    }

    /// Makes the `old_length` bytes mapped at `old` be `new_length` bytes, here or, if `flags` allow it,
    /// elsewhere; returns where. With `FIXED`, at `new_at`; with `DONTUNMAP` alone, there if it is free. An
    /// `old_length` of 0 maps a shared object once more. See mremap(2).
    ///
    /// Takes the map's lock. Sleeps as [`Space::mmap`] does.
    pub fn mremap(
        &self,
        store: &Store<P>,
        old: VirtAddr,
        old_length: u64,
        new_length: u64,
        flags: RemapFlags,
        new_at: VirtAddr,
    ) -> Result<VirtAddr, CallError> {
        let placed = self.map.mremap(store, old, old_length, new_length, flags, new_at)?;
        self.populate(store, placed.populate);
        Ok(placed.range.start)
    }

    /// Maps `size` bytes of the object at `start` from its page `page` on, with the rights that are there;
    /// `start` and `size` are rounded down, `rights` must be 0. The range must be shared and mapped alike
    /// throughout. See remap_file_pages(2). Pages are brought in unless `flags` has `NONBLOCK`.
    ///
    /// Takes the map's lock. Sleeps for pages without it.
    pub fn remap_file_pages(
        &self,
        store: &Store<P>,
        start: VirtAddr,
        size: u64,
        rights: u64,
        page: u64,
        flags: MapFlags,
    ) -> Result<(), CallError> {
        let placed = self.map.remap_file_pages(store, (start, size), rights, page, flags)?;
        self.populate(store, placed.populate);
        Ok(())
    }

    /// Locks every page that `length` bytes from `at` touch, and brings them in. Up to the first hole it
    /// is done even if there is one, and then the answer is [`CallError::Unmapped`]. When memory ends while
    /// pages are brought in, the answer is [`CallError::Again`], and the range stays locked; as on Linux.
    ///
    /// Takes the map's lock; sleeps for pages without it.
    pub fn mlock(&self, store: &Store<P>, at: VirtAddr, length: u64) -> Result<(), CallError> {
        self.mlock2(store, at, length, LockFlags::empty())
    }

    /// As [`Space::mlock`]; with `ONFAULT` nothing is brought in, but what comes in later stays. See
    /// mlock2(2).
    pub fn mlock2(
        &self,
        store: &Store<P>,
        at: VirtAddr,
        length: u64,
        flags: LockFlags,
    ) -> Result<(), CallError> {
        let range = self.map.mlock(store, at, length, flags)?;
        // Even then what is never locked is brought in, as on Linux.
        let wanted = |at: &VirtAddr| {
            !flags.contains(LockFlags::ONFAULT)
                || self.next_area(store, *at).is_some_and(|(_, on_fault)| !on_fault)
        };
        pages(range).filter(wanted).try_for_each(|at| {
            fault::touch(store, &self.map, at).map_err(|error| match error {
                // What mlock(2) says of each on Linux.
                FaultError::NoMemory { .. } => CallError::Again,
                _ => CallError::Unmapped,
            })
        })
    }

    /// Locks what is mapped now, what is mapped from now on, or both; without `FUTURE` the latter ends. See
    /// mlockall(2). What is locked now is brought in area by area, each as far as it can be; that is no
    /// error.
    ///
    /// Takes the map's lock; sleeps for pages without it.
    pub fn mlockall(&self, store: &Store<P>, flags: LockAllFlags) -> Result<(), CallError> {
        self.map.mlockall(store, flags)?;
        if flags.contains(LockAllFlags::CURRENT) {
            let mut from = VirtAddr(0);
            while let Some((range, on_fault)) = self.next_area(store, from) {
                if !on_fault {
                    self.populate(store, range);
                }
                from = range.end;
            }
        }
        Ok(())
    }

    /// The range of the first area that ends behind `from`, and whether its pages are locked as they come.
    fn next_area(&self, store: &Store<P>, from: VirtAddr) -> Option<(VirtRange, bool)> {
        let pin = store.mmu.phys.epoch.pin();
        let area = self.map.areas.at_or_after(&pin, from.0)?;
        Some((area.range, area.flags.contains(AreaFlags::ONFAULT)))
    }

    /// Moves the end of the heap to `at` if that is possible; returns where it is then. Brings in what is
    /// new if all that is mapped is to be locked.
    ///
    /// Takes the map's lock; sleeps for pages without it.
    pub fn brk(&self, store: &Store<P>, at: VirtAddr) -> VirtAddr {
        let (end, fill) = self.map.brk(store, at);
        let whole = VirtRange::new(fill.start, fill.end.page_up().unwrap_or(fill.end));
        self.populate(store, whole);
        end
    }

    /// Takes advice on `length` bytes from `at`; see madvise(2). Holes are skipped, what is mapped is
    /// advised, and the answer is then [`CallError::Unmapped`]. An area that cannot be advised so ends it
    /// with its own answer; what comes before is advised. Populating stops at the first page that cannot be
    /// brought in. [`CallError::Again`] is want of memory for a mark.
    ///
    /// Takes the map's lock. Sleeps when pages are asked for, and for holes in files.
    pub fn madvise(
        &self,
        store: &Store<P>,
        at: VirtAddr,
        length: u64,
        advice: i32,
    ) -> Result<(), CallError> {
        let access = match advice {
            POPULATE_READ => Access::Read,
            POPULATE_WRITE => Access::Write,
            _ => return self.map.madvise(store, at, length, advice),
        };
        let range = whole_pages(at, length).map_err(|_| CallError::Invalid)?;
        pages(range).try_for_each(|at| {
            fault::bring(store, &self.map, at, access).map_err(|error| match error {
                FaultError::Unmapped { .. } => CallError::Unmapped,
                FaultError::Denied { .. } => CallError::Invalid,
                FaultError::NoMemory { .. } => CallError::NoMemory,
                FaultError::BeyondEnd { .. }
                | FaultError::Pager { .. }
                | FaultError::Guarded { .. } => CallError::BadAddress,
            })
        })
    }

    /// Faults in every page of `range` as far as that is possible.
    fn populate(&self, store: &Store<P>, range: VirtRange) {
        for at in pages(range) {
            if fault::touch(store, &self.map, at).is_err() {
                return;
            }
        }
    }
}

/// The first address of each page of `range`.
fn pages(range: VirtRange) -> impl Iterator<Item = VirtAddr> {
    (0..range.pages()).map(move |page| range.start + page * PAGE_SIZE)
}
