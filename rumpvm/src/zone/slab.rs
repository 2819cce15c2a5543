//! Slabs: frames in a row, cut into items of one size.
//!
//! Flow:  frames -> [`Slab`] -> [`Slabs`] -> item, by physical address; an empty slab goes back the same way.
//! Locks: the owner's. Frames are asked for and given back with [`Slab`]s in hand, outside of it.
//! Sleep: never.
//! Owns:  its slabs. What is known of one is in the records of its frames, so an item needs no header, and the
//!        frame of an item says whose it is.
//!
//! S1. A slab with an item out and one in is on the partial list, one with none out on the empty list, a full one on
//!     neither. The `live` count of its first record is the number of items out.
//! S2. Items up to `bump` have been out before; those of them that are in are a chain from `head` through the items
//!     themselves.

use rumpvm_arch::{Frame, PAGE_SIZE, PhysAddr};
use rumpvm_platform::Platform;

use super::story;
use crate::NoMemory;
use crate::phys::{NO_FRAME, PageKind, Phys, Run};
use crate::sync::{Atomic, Ordering};

/// Largest slab: 2^3 frames. Longer runs are hard to come by.
const MAX_ORDER: u32 = 3;

/// Largest item with what belongs to it: a slab has one at least.
pub(crate) const MAX_STRIDE: u32 = (PAGE_SIZE as u32) << MAX_ORDER;

/// How slabs are cut, and whose they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// From one item to the next, in bytes, a multiple of 8.
    pub(crate) stride: u32,
    /// Where in a free item the chain is.
    pub(crate) link: u32,
    /// Frames of a slab, if they are to be had in a row: 2^order.
    order: u32,
    /// A number of the owner's, found again by [`place`].
    label: u16,
    /// Whose.
    owner: u64,
}

/// A slab that is on no list, with no item out.
#[must_use = "a slab is lost unless it is added or freed"]
#[derive(Debug)]
pub(crate) struct Slab {
    first: Frame,
    order: u32,
}

/// What the record of each frame of a slab says, in its `index` word. Changed under the owner's lock, and looked at
/// without ([`place`]) for what does not change.
#[derive(Clone, Copy)]
struct Word {
    /// Offset of the first free item that has been out, in 8 bytes, plus one; zero if there is none. First frame only.
    head: u16,
    /// Offset of the first item that has never been out, in 8 bytes. First frame only.
    bump: u16,
    /// Frames since the first.
    position: u8,
    order: u8,
    label: u16,
}

impl Word {
    fn of(word: u64) -> Self {
        Self {
            head: word as u16,
            bump: (word >> 16) as u16,
            position: (word >> 32) as u8,
            order: (word >> 40) as u8,
            label: (word >> 48) as u16,
        }
    }

    fn bits(self) -> u64 {
        u64::from(self.head)
            | u64::from(self.bump) << 16
            | u64::from(self.position) << 32
            | u64::from(self.order) << 40
            | u64::from(self.label) << 48
    }

    /// Whether every item is out.
    fn is_full(self, plan: &Plan) -> bool {
        self.head == 0
            && u64::from(self.bump) * 8 + u64::from(plan.stride) > PAGE_SIZE << self.order
    }
}

/// Where in a slab some byte is.
pub(crate) struct Place {
    /// Bytes from the start of the slab.
    pub(crate) offset: u64,
    /// As in its plan.
    pub(crate) label: u16,
    /// As in its plan.
    pub(crate) owner: u64,
}

/// The slab that has the byte at `at`, if one has it.
pub(crate) fn place<P: Platform>(phys: &Phys<P>, at: PhysAddr) -> Option<Place> {
    let page = phys.known(at.frame()).filter(|page| page.kind() == PageKind::Zone)?;
    let Word { position, label, .. } = Word::of(page.index.load(Ordering::Relaxed));
    let offset = u64::from(position) * PAGE_SIZE + at.0 % PAGE_SIZE;
    Some(Place { offset, label, owner: page.owner.get() })
}

impl Plan {
    /// The smallest slab that wastes no more than an eighth, or else the one that wastes least.
    pub(crate) fn new(stride: u32, link: u32, label: u16, owner: u64) -> Self {
        let waste = |order: u32| (PAGE_SIZE as u32) << order;
        let fits = |order: &u32| waste(*order) >= stride;
        let eighths = |order: &u32| waste(*order) % stride * 8 / waste(*order);
        let order = (0..=MAX_ORDER).filter(fits).min_by_key(eighths).unwrap_or(MAX_ORDER);
        Self { stride, link, order, label, owner }
    }

    /// Whose the slabs are.
    pub(crate) fn owner(&self) -> u64 {
        self.owner
    }

    /// What the slabs are called.
    pub(crate) fn label(&self) -> u16 {
        self.label
    }

    /// Items of a slab of 2^`order` frames.
    fn items(&self, order: u32) -> u64 {
        (PAGE_SIZE << order) / u64::from(self.stride)
    }

    /// A slab of fresh frames: as many in a row as planned, or one if that is enough. Takes the locks of frames, and asks
    /// hoards for theirs if there are none.
    #[track_caller]
    pub(crate) fn make<P: Platform>(&self, phys: &Phys<P>) -> Result<Slab, NoMemory> {
        if self.order > 0 && self.items(0) > 0 {
            let many = self.make_at_hand(phys);
            return if many.is_err() { Ok(self.cut(phys, phys.alloc_block(0)?)) } else { many };
        }
        Ok(self.cut(phys, phys.alloc_block(self.order)?))
    }

    /// As [`Plan::make`], as planned or not at all, and without asking hoards.
    #[track_caller]
    pub(crate) fn make_at_hand<P: Platform>(&self, phys: &Phys<P>) -> Result<Slab, NoMemory> {
        Ok(self.cut(phys, phys.alloc_block_at_hand(self.order)?))
    }

    fn cut<P: Platform>(&self, phys: &Phys<P>, run: Run) -> Slab {
        let (first, order, mut position) = (run.first(), run.order(), 0);
        for fresh in phys.split_run(run) {
            let page = phys.page(fresh.frame());
            let word = Word { head: 0, bump: 0, position, order: order as u8, label: self.label };
            page.index.store(word.bits(), Ordering::Relaxed);
            page.owner.set(self.owner);
            page.live.set(0);
            phys.give(fresh, PageKind::Zone);
            position += 1;
        }
        Slab { first, order }
    }
}

impl Slab {
    /// The slab that begins with frame `first`, to look at.
    pub(crate) fn at<P: Platform>(phys: &Phys<P>, first: Frame) -> Self {
        Self { first, order: Word::of(phys.page(first).index.get()).order.into() }
    }

    /// Gives the frames back. Takes the locks of frames.
    pub(crate) fn free<P: Platform>(self, phys: &Phys<P>) {
        phys.free_block(phys.join_run(self.first, self.order));
    }

    /// Where each of its items begins.
    pub(crate) fn items(&self, plan: &Plan) -> impl Iterator<Item = PhysAddr> + use<> {
        let (start, stride) = (self.first.start(), u64::from(plan.stride));
        (0..plan.items(self.order)).map(move |at| PhysAddr(start.0 + at * stride))
    }
}

/// All slabs of one owner, behind his lock.
#[derive(Debug)]
pub(crate) struct Slabs {
    plan: Plan,
    partial: u32,
    empty: u32,
    /// Slabs on the empty list.
    empties: u32,
    frames: u64,
    items: u64,
    out: u64,
}

/// The word at `at`, a multiple of 8.
pub(super) fn word<P: Platform>(phys: &Phys<P>, at: PhysAddr) -> &Atomic<u64, P> {
    &phys.words(at.frame())[(at.0 % PAGE_SIZE / 8) as usize]
}

impl Slabs {
    /// None yet.
    pub(crate) fn new(plan: Plan) -> Self {
        Self { plan, partial: NO_FRAME, empty: NO_FRAME, empties: 0, frames: 0, items: 0, out: 0 }
    }

    /// How they are cut.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Frames of all slabs.
    pub(crate) fn frames(&self) -> u64 {
        self.frames
    }

    /// Items of all slabs, in and out.
    pub(crate) fn items(&self) -> u64 {
        self.items
    }

    /// Items that are out.
    pub(crate) fn out(&self) -> u64 {
        self.out
    }

    /// Adds a slab.
    pub(crate) fn add<P: Platform>(&mut self, phys: &Phys<P>, slab: Slab) {
        self.frames += 1 << slab.order;
        self.items += self.plan.items(slab.order);
        self.push_empty(phys, slab.first);
    }

    /// Takes an empty slab off, if there are more than `keep`.
    #[inline(never)]
    pub(crate) fn take_empty<P: Platform>(&mut self, phys: &Phys<P>, keep: u32) -> Option<Slab> {
        if self.empties <= keep {
            return None;
        }
        let first = self.pop_empty(phys)?;
        let order = u32::from(Word::of(phys.page(first).index.get()).order);
        self.frames -= 1 << order;
        self.items -= self.plan.items(order);
        Some(Slab { first, order })
    }

    /// Takes an item, if one is in.
    pub(crate) fn take<P: Platform>(&mut self, phys: &Phys<P>) -> Option<PhysAddr> {
        if self.partial == NO_FRAME {
            let first = self.pop_empty(phys)?;
            self.link(phys, first);
        }
        let first = Frame(self.partial);
        let page = phys.page(first);
        let mut was = Word::of(page.index.get());
        let offset = if was.head == 0 {
            let offset = u64::from(was.bump) * 8;
            was.bump += (self.plan.stride / 8) as u16;
            offset
        } else {
            let offset = u64::from(was.head - 1) * 8;
            let link = word(phys, PhysAddr(first.start().0 + offset + u64::from(self.plan.link)));
            let next = link.get();
            if next > u64::from(was.bump) {
                story::tell(
                    phys,
                    format_args!(
                        "entry not free: the link of a free item at {:#x} says {next:#x}; somebody wrote to it after it was freed",
                        first.start().0 + offset
                    ),
                );
            }
            was.head = next as u16;
            offset
        };
        page.index.store(was.bits(), Ordering::Relaxed);
        page.live.set(page.live.get() + 1);
        self.out += 1;
        if was.is_full(&self.plan) {
            self.unlink(phys, first);
        }
        Some(PhysAddr(first.start().0 + offset))
    }

    /// Puts an item back.
    #[inline(never)]
    pub(crate) fn put<P: Platform>(&mut self, phys: &Phys<P>, at: PhysAddr) {
        let position = Word::of(phys.page(at.frame()).index.get()).position;
        let first = Frame(at.frame().0 - u32::from(position));
        let page = phys.page(first);
        let mut was = Word::of(page.index.get());
        let was_full = was.is_full(&self.plan);
        word(phys, PhysAddr(at.0 + u64::from(self.plan.link))).set(u64::from(was.head));
        was.head = ((at.0 - first.start().0) / 8 + 1) as u16;
        let live = page.live.get() - 1;
        page.live.set(live);
        self.out -= 1;
        if live > 0 {
            page.index.store(was.bits(), Ordering::Relaxed);
            if was_full {
                self.link(phys, first);
            }
            return;
        }
        if !was_full {
            self.unlink(phys, first);
        }
        page.index.store(Word { head: 0, bump: 0, ..was }.bits(), Ordering::Relaxed);
        self.push_empty(phys, first);
    }

    /// What is wrong with the lists, if anything. At a quiet moment.
    pub(crate) fn check<P: Platform>(&self, phys: &Phys<P>) -> Result<(), &'static str> {
        let (mut at, mut in_partial) = (self.partial, 0);
        while at != NO_FRAME {
            let page = phys.page(Frame(at));
            let word = Word::of(page.index.get());
            let (live, items) = (u64::from(page.live.get()), self.plan.items(word.order.into()));
            let is_ours = page.owner.get() == self.plan.owner && word.label == self.plan.label;
            if page.kind() != PageKind::Zone || !is_ours {
                return Err("S1: a frame on the partial list is of another zone");
            }
            if live == 0 || live >= items || word.is_full(&self.plan) {
                return Err("S1: a slab on the partial list is full or empty");
            }
            in_partial += items - live;
            at = page.next.get();
        }
        let (mut at, mut empties, mut in_empty) = (self.empty, 0, 0);
        while at != NO_FRAME {
            let page = phys.page(Frame(at));
            if page.live.get() != 0 {
                return Err("S1: a slab on the empty list has items out");
            }
            empties += 1;
            in_empty += self.plan.items(Word::of(page.index.get()).order.into());
            at = page.next.get();
        }
        if empties != self.empties {
            return Err("S1: the empty list is longer or shorter than its count");
        }
        if in_partial + in_empty + self.out != self.items {
            return Err("S1: an item is neither in nor out");
        }
        Ok(())
    }

    fn push_empty<P: Platform>(&mut self, phys: &Phys<P>, first: Frame) {
        phys.page(first).next.set(self.empty);
        self.empty = first.0;
        self.empties += 1;
    }

    fn pop_empty<P: Platform>(&mut self, phys: &Phys<P>) -> Option<Frame> {
        let first = Some(Frame(self.empty)).filter(|first| first.0 != NO_FRAME)?;
        self.empty = phys.page(first).next.get();
        self.empties -= 1;
        Some(first)
    }

    fn link<P: Platform>(&mut self, phys: &Phys<P>, first: Frame) {
        let page = phys.page(first);
        page.next.set(self.partial);
        page.prev.set(NO_FRAME);
        if self.partial != NO_FRAME {
            phys.page(Frame(self.partial)).prev.set(first.0);
        }
        self.partial = first.0;
    }

    fn unlink<P: Platform>(&mut self, phys: &Phys<P>, first: Frame) {
        let page = phys.page(first);
        let (next, prev) = (page.next.get(), page.prev.get());
        if prev == NO_FRAME {
            self.partial = next;
        } else {
            phys.page(Frame(prev)).next.set(next);
        }
        if next != NO_FRAME {
            phys.page(Frame(next)).prev.set(prev);
        }
    }
}
