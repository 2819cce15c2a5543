//! The page record: what is known about one frame, in one cache line.
//!
//! Everything in it is atomic, so a record can be read at any time; who may *change* a field is said
//! beside it. A record outlives every use of its frame, so looking at the record of a frame that was
//! freed meanwhile is safe, and the look is repeated under the owner's lock.

use core::fmt;

use rumpvm_platform::Platform;

use super::NO_FRAME;
use crate::sync::{Atomic, Ordering, RawSpin};

/// Where a frame is (invariant 4 of DESIGN: in exactly one place).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum PageKind {
    /// Inside a free block of the buddy, not its first frame.
    FreeTail = 0,
    /// First frame of a free block.
    Free = 1,
    /// In a magazine or in the depot.
    Cached = 2,
    /// In a stock of zeroed frames.
    Zeroed = 3,
    /// Unlinked; free when no reader is left.
    Limbo = 4,
    /// Taken, and known only to whoever took it.
    Fresh = 5,
    /// A page table.
    Table = 6,
    /// A node of an amap's or an object's radix tree.
    Node = 7,
    /// Anonymous memory, named by amap slots.
    Anon = 8,
    /// A page of an object.
    Object = 9,
    /// Wired for the component itself: the zero page.
    Wired = 10,
    /// Holds page records.
    Record = 11,
    /// Taken by the kernel around us, for itself.
    Kernel = 12,
    /// Taken by the kernel around us, for what it maps by itself (`classic`).
    Host = 13,
    /// Part of a slab: see `zone::slab`.
    Zone = 14,
}

const KINDS: [PageKind; 15] = [
    PageKind::FreeTail,
    PageKind::Free,
    PageKind::Cached,
    PageKind::Zeroed,
    PageKind::Limbo,
    PageKind::Fresh,
    PageKind::Table,
    PageKind::Node,
    PageKind::Anon,
    PageKind::Object,
    PageKind::Wired,
    PageKind::Record,
    PageKind::Kernel,
    PageKind::Host,
    PageKind::Zone,
];

const KIND_MASK: u32 = 0xf;
/// Contents are newer than the backing store.
const DIRTY: u32 = 1 << 4;
/// Unlinked from its tree: whoever locks it must start over.
const STRAY: u32 = 1 << 5;
/// Exclusively busy: the contents are in transit.
const BUSY: u32 = 1 << 6;
/// Somebody sleeps until it is no longer busy.
const WANTED: u32 = 1 << 7;
/// Somebody used the contents through an entry that is gone.
const REFERENCED: u32 = 1 << 8;
// Bits 9 to 11 are kept for the page queues, 16 to 31 for shared busy holders.

/// The record of one frame.
#[repr(C, align(64))]
pub struct Page<P> {
    /// Guards the slots of a table or node, and its `live` count.
    pub lock: RawSpin<P>,
    /// Kind, flags and busy state.
    state: Atomic<u32, P>,
    /// Slots that name an anonymous page; parents of a node; pmaps that share a page table. Whoever adds
    /// one has one already, or holds the lock of what names it.
    pub refs: Atomic<u32, P>,
    /// Nonzero entries of a table or node, under its lock; order of a free block, under the buddy's.
    pub live: Atomic<u32, P>,
    /// Where page tables map this frame: see `pmap::rmap`.
    pub rmap: Atomic<u64, P>,
    /// Page index in its object; first address and level of a page table. Set before it is published.
    pub index: Atomic<u64, P>,
    /// Id of the object, or of the pmap a page table was made for. Set before it is published.
    pub owner: Atomic<u64, P>,
    /// Links of whatever list the frame is on, under that list's lock.
    pub next: Atomic<u32, P>,
    /// As `next`.
    pub prev: Atomic<u32, P>,
    /// Room for a page queue's stamp and the wire count of kernel users.
    reserved: [u64; 2],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Page<()>>() == 64, "one cache line for each frame (D6)");

impl<P: Platform> Page<P> {
    /// The record of a frame that is not in use.
    pub fn new(kind: PageKind) -> Self {
        Self {
            lock: RawSpin::new(),
            state: Atomic::new(kind as u32),
            refs: Atomic::new(0),
            live: Atomic::new(0),
            rmap: Atomic::new(0),
            index: Atomic::new(0),
            owner: Atomic::new(0),
            next: Atomic::new(NO_FRAME),
            prev: Atomic::new(NO_FRAME),
            reserved: [0; 2],
        }
    }

    /// Where the frame is.
    #[inline]
    pub fn kind(&self) -> PageKind {
        KINDS[(self.state.load(Ordering::Relaxed) & KIND_MASK) as usize]
    }

    /// Moves the frame to another place. Only for whoever has it to himself: flags are cleared.
    #[inline]
    pub(crate) fn set_kind(&self, kind: PageKind) {
        self.state.store(kind as u32, Ordering::Release);
    }

    /// Moves an unlinked node or table to limbo. It stays stray for whoever still finds it.
    #[inline]
    pub(crate) fn set_limbo(&self) {
        self.state.store(PageKind::Limbo as u32 | STRAY, Ordering::Release);
    }

    /// Forgets all that the last owner left.
    #[inline]
    pub(crate) fn reset(&self, kind: PageKind) {
        self.refs.set(0);
        self.live.set(0);
        self.set_kind(kind);
    }

    /// Whether nobody names, maps or works on it: it may be freed.
    #[inline]
    pub fn is_unused(&self) -> bool {
        let state = self.state.load(Ordering::Acquire);
        state & BUSY == 0
            && self.refs.load(Ordering::Relaxed) == 0
            && self.rmap.load(Ordering::Acquire) == 0
    }

    /// Whether the contents are newer than the backing store.
    #[inline]
    pub fn is_dirty(&self) -> bool {
        self.state.load(Ordering::Acquire) & DIRTY != 0
    }

    /// Notes that the contents are newer than the backing store.
    #[inline]
    pub fn set_dirty(&self) {
        if !self.is_dirty() {
            self.state.fetch_or(DIRTY, Ordering::Release);
        }
    }

    /// Notes that the backing store is about to be as new; whether it was not before.
    #[inline]
    pub fn take_dirty(&self) -> bool {
        self.state.fetch_and(!DIRTY, Ordering::AcqRel) & DIRTY != 0
    }

    /// Whether the contents were used since [`Page::take_referenced`], as far as entries that are gone knew.
    #[inline]
    pub fn is_referenced(&self) -> bool {
        self.state.load(Ordering::Acquire) & REFERENCED != 0
    }

    /// Notes that the contents were used.
    #[inline]
    pub fn set_referenced(&self) {
        if !self.is_referenced() {
            self.state.fetch_or(REFERENCED, Ordering::Release);
        }
    }

    /// Forgets that the contents were used; whether they were.
    #[inline]
    pub fn take_referenced(&self) -> bool {
        self.state.fetch_and(!REFERENCED, Ordering::AcqRel) & REFERENCED != 0
    }

    /// Whether the node or table has been unlinked.
    #[inline]
    pub fn is_stray(&self) -> bool {
        self.state.load(Ordering::Acquire) & STRAY != 0
    }

    /// Notes that the node or table has been unlinked. Under its lock.
    #[inline]
    pub fn set_stray(&self) {
        self.state.fetch_or(STRAY, Ordering::Release);
    }

    /// Whether somebody is busy with the contents.
    #[inline]
    pub fn is_busy(&self) -> bool {
        self.state.load(Ordering::Acquire) & BUSY != 0
    }

    /// Makes the page busy, if it is not.
    pub fn try_busy(&self) -> Option<Busy<'_, P>> {
        let before = self.state.fetch_or(BUSY, Ordering::Acquire);
        // Lazily: a `Busy` that is made and dropped ends the busy state of whoever has it.
        (before & BUSY == 0).then(|| Busy { page: self })
    }

    /// Sleeps while the page is busy; may return early. Whatever was read before must be looked up again.
    pub fn sleep_while_busy(&self) {
        let state = self.state.load(Ordering::Acquire);
        if state & BUSY == 0 {
            return;
        }
        let wanted = state | WANTED;
        if state == wanted || self.state.compare_exchange(state, wanted, Ordering::AcqRel).is_ok() {
            self.state.sleep_while(wanted);
        }
    }
}

/// Exclusive busy: the right to fill, write out or take away the contents of one page. It moves with the
/// work (to the pager and back) and ends where it is dropped, which wakes whoever waits.
#[must_use = "dropping it ends the busy state"]
pub struct Busy<'p, P: Platform> {
    page: &'p Page<P>,
}

impl<P: Platform> Drop for Busy<'_, P> {
    fn drop(&mut self) {
        let before = self.page.state.fetch_and(!(BUSY | WANTED), Ordering::AcqRel);
        if before & WANTED != 0 {
            self.page.state.wake_sleepers();
        }
    }
}

impl<P: Platform> fmt::Debug for Page<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind())?;
        for (set, name) in [
            (self.is_dirty(), " dirty"),
            (self.is_busy(), " busy"),
            (self.is_stray(), " stray"),
            (self.lock.is_locked(), " locked"),
        ] {
            if set {
                f.write_str(name)?;
            }
        }
        write!(
            f,
            ", {} refs, {} live, rmap {:#x}, owner {}, index {:#x}",
            self.refs.load(Ordering::Relaxed),
            self.live.load(Ordering::Relaxed),
            self.rmap.load(Ordering::Relaxed),
            self.owner.load(Ordering::Relaxed),
            self.index.load(Ordering::Relaxed),
        )
    }
}
