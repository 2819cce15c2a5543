//! Boundary tags: what an arena knows of one segment or span, in 64 bytes of a frame.
//!
//! Locks: the arena's, which whoever reads or writes a tag has.

use rumpvm_arch::PhysAddr;
use rumpvm_platform::Platform;

use crate::phys::Phys;
use crate::sync::Atomic;

/// Bytes of a tag.
pub(super) const TAG: u64 = 64;
/// Fields of a tag, by word. The lower bits of `PREV`, which leads to another tag, are its kind.
pub(super) const START: usize = 0;
pub(super) const SIZE: usize = 1;
pub(super) const PREV: usize = 2;
pub(super) const NEXT: usize = 3;
pub(super) const LIST_PREV: usize = 4;
pub(super) const LIST_NEXT: usize = 5;
/// Places in the source, for reports.
pub(super) const ALLOCATED: usize = 6;
pub(super) const FREED: usize = 7;

/// What a tag stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub(super) enum Kind {
    Free = 0,
    Used = 1,
    /// Used by a quantum cache.
    Cached = 2,
    /// A span that came from the source.
    Imported = 3,
    /// A span that was added for good.
    Added = 4,
}

const KINDS: [Kind; 5] = [Kind::Free, Kind::Used, Kind::Cached, Kind::Imported, Kind::Added];

/// A range of whatever the arena is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Where it begins.
    pub start: u64,
    /// How long it is.
    pub size: u64,
}

/// A tag, by physical address; zero for none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Tag(pub(super) u64);

pub(super) const NONE: Tag = Tag(0);

impl Tag {
    #[inline]
    pub(super) fn word<P: Platform>(self, phys: &Phys<P>, field: usize) -> &Atomic<u64, P> {
        let at = PhysAddr(self.0);
        &phys.words(at.frame())[(self.0 % 4096) as usize / 8 + field]
    }

    #[inline]
    pub(super) fn get<P: Platform>(self, phys: &Phys<P>, field: usize) -> u64 {
        self.word(phys, field).get()
    }

    #[inline]
    pub(super) fn set<P: Platform>(self, phys: &Phys<P>, field: usize, value: u64) {
        self.word(phys, field).set(value);
    }

    pub(super) fn tag<P: Platform>(self, phys: &Phys<P>, field: usize) -> Self {
        Self(self.get(phys, field) & !(TAG - 1))
    }

    pub(super) fn kind<P: Platform>(self, phys: &Phys<P>) -> Kind {
        KINDS[(self.get(phys, PREV) % TAG) as usize % KINDS.len()]
    }

    pub(super) fn set_kind<P: Platform>(self, phys: &Phys<P>, kind: Kind) {
        self.set(phys, PREV, self.tag(phys, PREV).0 | kind as u64);
    }

    pub(super) fn set_prev<P: Platform>(self, phys: &Phys<P>, prev: Self) {
        self.set(phys, PREV, prev.0 | self.kind(phys) as u64);
    }

    /// What it stands for.
    pub(super) fn span<P: Platform>(self, phys: &Phys<P>) -> Span {
        Span { start: self.get(phys, START), size: self.get(phys, SIZE) }
    }
}
