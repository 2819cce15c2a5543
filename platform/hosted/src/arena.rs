//! The arena: one anonymous mapping that plays the part of RAM.
//!
//! Flow:  physical address -> offset -> host pointer; the direct map of the component.
//! Locks: none. Bytes are copied and entries changed by atomics; see `copy`.
//! Owns:  the mapping. The host kernel fills it in as it is touched.
//!
//! A1. Every frame in `start()..end()` is mapped, readable and writable, as long as the arena lives.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use memmap2::{MmapMut, MmapRaw};
use rumpvm_arch::{Format, Frame, PAGE_SIZE, PhysAddr, Pte};

/// Where RAM begins. Frame 0 is never used, and no frame number looks like a small count: PCs have
/// their BIOS below the first megabyte.
const START: u64 = 0x10_0000;

pub(crate) struct Arena {
    map: MmapRaw,
}

/// One entry of a page table, as the CPU shares it with the component.
pub(crate) enum Entry<'a> {
    Wide(&'a AtomicU64),
    Narrow(&'a AtomicU32),
}

impl Arena {
    pub(crate) fn new(bytes: u64) -> io::Result<Self> {
        let bytes = bytes.next_multiple_of(PAGE_SIZE).max(PAGE_SIZE);
        let map = MmapMut::map_anon(usize::try_from(bytes).map_err(io::Error::other)?)?;
        Ok(Self { map: map.into() })
    }

    pub(crate) fn start(&self) -> PhysAddr {
        PhysAddr(START)
    }

    pub(crate) fn end(&self) -> PhysAddr {
        PhysAddr(START + self.map.len() as u64)
    }

    pub(crate) fn frames(&self) -> usize {
        self.map.len() / PAGE_SIZE as usize
    }

    /// Which of the arena's frames this is; `None` outside.
    pub(crate) fn position(&self, frame: Frame) -> Option<usize> {
        let at = frame.start();
        (self.start() <= at && at < self.end()).then(|| ((at.0 - START) / PAGE_SIZE) as usize)
    }

    /// The host's pointer to `at`, which must lie in the arena.
    #[inline]
    pub(crate) fn pointer(&self, at: PhysAddr) -> NonNull<u8> {
        // What lies below the start wraps round to what lies far beyond the end.
        let offset = at.0.wrapping_sub(START) as usize;
        assert!(
            offset < self.map.len(),
            "physical address {at:?} is outside of memory, {:?}..{:?}",
            self.start(),
            self.end()
        );
        // SAFETY: the offset is below the mapping's length, checked here; the mapping never moves.
        unsafe { NonNull::new_unchecked(self.map.as_mut_ptr().add(offset)) }
    }

    /// Offset of a host address in the arena.
    #[inline]
    pub(crate) fn offset(&self, address: usize) -> Option<usize> {
        let offset = address.wrapping_sub(self.map.as_mut_ptr().addr());
        (offset < self.map.len()).then_some(offset)
    }

    /// Overwrites all of it, so that nothing of an earlier life is left. Nobody else uses it.
    pub(crate) fn soil(&self) {
        // SAFETY: the mapping has that length, and the caller has it to himself.
        unsafe { self.map.as_mut_ptr().write_bytes(0xa5, self.map.len()) };
    }

    /// The physical address behind a pointer of [`Arena::pointer`].
    pub(crate) fn address(&self, at: NonNull<u8>) -> PhysAddr {
        let offset = (at.as_ptr() as usize).wrapping_sub(self.map.as_mut_ptr() as usize);
        assert!(offset < self.map.len(), "{at:p} is not a pointer into this machine's memory");
        PhysAddr(START + offset as u64)
    }

    /// Entry number `index` of the table in `table`.
    pub(crate) fn entry<F: Format>(&self, table: Frame, index: usize) -> Entry<'_> {
        let width = if F::WIDE { 8 } else { 4 };
        let at = self.pointer(PhysAddr(table.start().0 + (index * width) as u64));
        // SAFETY:
        // - the entry lies inside the frame that `pointer` checked: every format's table fits one,
        //   and the mapping outlives `self` (A1).
        // - `at` is aligned to its width, because frames are aligned to 4096.
        // - CPUs and the component touch live tables by atomics only.
        unsafe {
            if F::WIDE {
                Entry::Wide(AtomicU64::from_ptr(at.cast().as_ptr()))
            } else {
                Entry::Narrow(AtomicU32::from_ptr(at.cast().as_ptr()))
            }
        }
    }
}

impl Entry<'_> {
    pub(crate) fn load(&self) -> Pte {
        match self {
            Self::Wide(cell) => Pte(cell.load(Ordering::Acquire)),
            Self::Narrow(cell) => Pte(u64::from(cell.load(Ordering::Acquire))),
        }
    }

    /// Replaces `old` by `new`; says whether `old` was still there.
    pub(crate) fn exchange(&self, old: Pte, new: Pte) -> bool {
        let (done, failed) = (Ordering::AcqRel, Ordering::Relaxed);
        match self {
            Self::Wide(cell) => cell.compare_exchange(old.0, new.0, done, failed).is_ok(),
            Self::Narrow(cell) => {
                cell.compare_exchange(old.0 as u32, new.0 as u32, done, failed).is_ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_leads_back_to_its_physical_address() {
        let arena = Arena::new(8 * PAGE_SIZE).unwrap();
        for at in [arena.start(), PhysAddr(arena.end().0 - 1)] {
            assert_eq!(arena.address(arena.pointer(at)), at);
        }
        assert_eq!(arena.frames(), 8);
        assert_eq!(arena.position(Frame(0)), None);
        assert_eq!(arena.position(arena.end().frame()), None);
    }

    #[test]
    #[should_panic(expected = "outside of memory")]
    fn physical_address_zero_is_not_memory() {
        Arena::new(PAGE_SIZE).unwrap().pointer(PhysAddr(0));
    }
}
