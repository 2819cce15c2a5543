//! Areas: what BSD calls map entries. A value, not a place: a change makes new ones.

use bitflags::bitflags;

use rumpvm_arch::{Prot, VirtRange};
use rumpvm_platform::Platform;

use crate::object::Object;
use crate::sync::{Hold, Ranged};

bitflags! {
    /// What else is to be known of an area.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct AreaFlags: u32 {
        /// Stores go to the object; otherwise the first store to a page copies it.
        const SHARED = 1 << 0;
        /// A fault just below extends it downwards.
        const GROWSDOWN = 1 << 1;
        /// Its pages are faulted in at once and stay.
        const LOCKED = 1 << 2;
        /// Not counted against memory when it is made.
        const NORESERVE = 1 << 3;
        /// A child does not get it.
        const DONTFORK = 1 << 4;
        /// Left out of dumps.
        const DONTDUMP = 1 << 5;
        /// Accesses will come in no order: map nothing around a fault.
        const RANDOM = 1 << 6;
        /// Accesses will come in order.
        const SEQUENTIAL = 1 << 7;
        /// Superpages are wanted.
        const HUGEPAGE = 1 << 8;
        /// Superpages are not wanted.
        const NOHUGEPAGE = 1 << 9;
        /// Equal pages may be merged.
        const MERGEABLE = 1 << 10;
        /// With `LOCKED`: its pages are not faulted in at once, but stay once they are.
        const ONFAULT = 1 << 12;
        /// A child gets it empty.
        const WIPEONFORK = 1 << 13;
        /// A child gets private memory shared, shared memory as a copy.
        const INHERIT = 1 << 14;
        /// Addresses that are kept from use; there are no rights to have.
        const RESERVED = 1 << 15;
        /// Its pages may go when memory is short. Nothing of it is for a child or for a dump, and it is not locked.
        const DROPPABLE = 1 << 16;
    }
}

impl AreaFlags {
    /// How memory can be locked.
    pub(crate) const LOCK: Self = Self::LOCKED.union(Self::ONFAULT);
}

/// A range of addresses that means one thing.
pub struct Area<P: Platform> {
    /// Which addresses.
    pub range: VirtRange,
    /// What may be done there.
    pub prot: Prot,
    /// What mprotect(2) may allow.
    pub max_prot: Prot,
    /// The rest.
    pub flags: AreaFlags,
    /// Where the pages come from that are not private yet; none for anonymous memory.
    pub object: Option<Hold<Object<P>, P>>,
    /// Its pages are promised: it is, or was, private memory that can be stored to. Set when it is made part of
    /// the map; mprotect(2) takes it back from anonymous memory without private pages.
    pub accounted: bool,
    /// Byte of the object at `range.start`; a multiple of the page size.
    pub offset: u64,
}

impl<P: Platform> Area<P> {
    /// Whether stores go to the object.
    pub fn is_shared(&self) -> bool {
        self.flags.contains(AreaFlags::SHARED)
    }

    /// Whether its pages are to be in memory as long as it is there.
    pub(crate) fn is_filled(&self) -> bool {
        self.flags & AreaFlags::LOCK == AreaFlags::LOCKED
    }

    /// Index in the object of virtual page `page`.
    #[inline]
    pub(crate) fn object_index(&self, page: u64) -> u64 {
        page - self.range.start.page() + self.offset / rumpvm_arch::PAGE_SIZE
    }

    /// The part of it in `range`, which must overlap it.
    pub(crate) fn part(&self, range: VirtRange) -> Self {
        let range = self.range.clip(range);
        Self {
            range,
            offset: self.offset + (range.start - self.range.start),
            object: self.object.clone(),
            ..*self
        }
    }

    /// Whether `next`, which begins where this one ends, means the same.
    pub(crate) fn continues_in(&self, next: &Self) -> bool {
        let same_object = match (&self.object, &next.object) {
            (None, None) => true,
            (Some(a), Some(b)) => a.is(b) && self.offset + self.range.length() == next.offset,
            _ => false,
        };
        self.range.end == next.range.start
            && same_object
            && self.prot == next.prot
            && self.max_prot == next.max_prot
            && self.flags == next.flags
            && self.accounted == next.accounted
    }

    /// Whether it counts as data (`RLIMIT_DATA`): private, to be stored to, and no stack.
    pub(crate) fn is_data(&self) -> bool {
        self.prot.contains(Prot::WRITE)
            && !self.flags.intersects(AreaFlags::SHARED | AreaFlags::GROWSDOWN)
    }

    /// Whether it may need pages of its own, which are to be promised.
    pub(crate) fn needs_promise(&self) -> bool {
        self.prot.contains(Prot::WRITE)
            && !self.flags.intersects(AreaFlags::SHARED | AreaFlags::NORESERVE)
    }
}

impl<P: Platform> Ranged for Area<P> {
    fn start(&self) -> u64 {
        self.range.start.0
    }

    fn end(&self) -> u64 {
        self.range.end.0
    }
}
