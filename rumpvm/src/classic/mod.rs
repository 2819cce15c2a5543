//! Page tables under somebody else's map: the interface that BSD and Mach put between a VM and its machine (pmap(9)).
//!
//! For a kernel that has a map and a pager of its own. It says what is mapped where; a fault that finds nothing, or too
//! little, is its affair. It needs no `Vm`: [`Pmaps`] is memory and page tables alone.
//!
//! Flow:  host's map -> [`Pmaps::enter`], [`remove`](Pmaps::remove), ... -> tables and reverse maps -> flushes.
//! Locks: the tables', and one for the list of pmaps; none is held when a call returns. All calls are complete when they
//!        return: no CPU uses what they took away.
//! Sleep: never; but they wait for other CPUs' flushes, so those must be able to take the interrupt: with interrupts masked,
//!        or a lock held that another CPU spins for with interrupts masked, only what says so may be called.
//! Owns:  the tables. Pmaps are counted: by who has a reference, and by each CPU that translates through one.
//!
//! C1. What is mapped *wired* stays until the host takes it away. All else may be dropped ([`Pmaps::collect`]): the host's
//!     fault handler enters it again.
//! C2. What CPUs noted of a frame of the host's ([`PageKind::Host`](crate::phys::PageKind)) is never lost: it is in an entry, or
//!     in the frame's record.
//! C3. A pmap ends when nobody refers to it, and no CPU translates through it.

mod frames;
mod mappings;

use core::ops::Deref;

use rumpvm_arch::{Frame, VirtAddr};
use rumpvm_platform::Platform;

pub use frames::NotHosts;
pub use mappings::{Extracted, PmapError, Wiring};

use crate::NoMemory;
use crate::phys::NO_FRAME;
use crate::pmap::{Mmu, Pmap as Tables};
use crate::stats::Statistics;
use crate::sync::{Hold, Left, PerCpu, Spin, Uses, class};

/// Through which pmap one CPU translates.
type Current<P> = Spin<Option<Hold<Pmap<P>, P>>, P>;

/// The page tables of one machine, and its memory.
pub struct Pmaps<P: Platform> {
    mmu: Mmu<P>,
    /// Through which each CPU translates.
    current: PerCpu<Current<P>, P>,
    /// The first root of all; the list runs through the roots' records.
    roots: Spin<u32, P>,
}

/// The page tables of one address space.
pub struct Pmap<P: Platform> {
    tables: Tables<P>,
    uses: Uses<P>,
}

impl<P: Platform> Pmap<P> {
    /// Frame of the root table.
    pub fn root(&self) -> Frame {
        self.tables.root()
    }
}

impl<P: Platform> Pmaps<P> {
    /// Page tables of a machine without memory, which comes by [`add_memory`](crate::phys::Phys::add_memory).
    pub fn try_new(platform: P) -> Result<Self, NoMemory> {
        let cpus = platform.cpu_count();
        Ok(Self {
            mmu: Mmu::try_new(platform)?,
            current: PerCpu::try_new(cpus, |_| Spin::new(&class::CURRENT, None))?,
            roots: Spin::new(&class::PMAPS, NO_FRAME),
        })
    }

    /// An empty pmap, with one reference: pmap_create.
    pub fn create(&self) -> Result<Hold<Pmap<P>, P>, NoMemory> {
        let vacant = crate::sync::Vacant::try_new()?;
        let tables = Tables::try_new(&self.mmu)?;
        let page = self.phys.page(tables.root());
        let mut first = self.roots.lock();
        page.prev.set(NO_FRAME);
        page.next.set(*first);
        if *first != NO_FRAME {
            self.phys.page(Frame(*first)).prev.set(tables.root().0);
        }
        *first = tables.root().0;
        drop(first);
        Ok(vacant.fill(Pmap { tables, uses: Uses::one() }))
    }

    /// One more reference, for who has one: pmap_reference.
    pub fn reference(&self, pmap: &Pmap<P>) {
        pmap.uses.add();
    }

    /// Gives up a reference: pmap_destroy. With the last one all mappings go, wired or not, and what CPUs noted in them is
    /// kept; if a CPU still translates through it, when that leaves it.
    pub fn destroy(&self, pmap: &Pmap<P>) {
        if pmap.uses.leave() == Left::Last {
            self.end(pmap);
        }
    }

    fn end(&self, pmap: &Pmap<P>) {
        let page = self.phys.page(pmap.root());
        let mut first = self.roots.lock();
        let (prev, next) = (page.prev.get(), page.next.get());
        match prev {
            NO_FRAME => *first = next,
            prev => self.phys.page(Frame(prev)).next.set(next),
        }
        if next != NO_FRAME {
            self.phys.page(Frame(next)).prev.set(prev);
        }
        drop(first);
        pmap.tables.destroy(&self.mmu);
    }

    /// This CPU translates through `pmap` from now on: pmap_activate. Interrupts may be masked; waits for nobody.
    pub fn activate(&self, pmap: &Hold<Pmap<P>, P>) {
        let mine = self.current.mine();
        let mut current = mine.lock();
        if current.as_ref().is_some_and(|old| old.is(pmap)) {
            return;
        }
        pmap.uses.add();
        if let Some(old) = current.as_ref() {
            old.tables.deactivate(&self.mmu);
        }
        pmap.tables.activate(&self.mmu);
        let left = current.replace(pmap.clone());
        drop(current);
        drop(mine);
        left.iter().for_each(|old| self.destroy(old));
    }

    /// This CPU translates through no pmap from now on: pmap_deactivate. Otherwise as [`Pmaps::activate`].
    pub fn deactivate(&self) {
        let mine = self.current.mine();
        let mut current = mine.lock();
        let left = current.take();
        if let Some(old) = left.as_ref() {
            old.tables.deactivate(&self.mmu);
        }
        drop(current);
        drop(mine);
        left.iter().for_each(|old| self.destroy(old));
    }

    /// Carries out what other CPUs asked of this one; see [`Mmu::tlb_interrupt`]. Nobody asks it to leave a pmap.
    pub fn tlb_interrupt(&self) {
        self.mmu.tlb_interrupt(|| ());
    }

    /// A little work for a CPU that has nothing to do; false when there is none left.
    pub fn idle(&self) -> bool {
        self.mmu.idle()
    }

    /// What has happened, and what is in use now.
    pub fn statistics(&self) -> Statistics {
        self.phys.usage(self.phys.counters.sum())
    }

    /// Calls `f` with the root of every pmap. For checks at a quiet moment.
    pub(crate) fn for_each_root(&self, mut f: impl FnMut(Frame)) {
        let mut at = *self.roots.lock();
        while at != NO_FRAME {
            f(Frame(at));
            at = self.phys.page(Frame(at)).next.get();
        }
    }

    /// Whether `at` is the first byte of a page of user memory.
    fn is_user_page(at: VirtAddr) -> bool {
        at.is_page_aligned() && at < <P::Format as rumpvm_arch::Format>::USER_END
    }
}

impl<P: Platform> Deref for Pmaps<P> {
    type Target = Mmu<P>;
    fn deref(&self) -> &Mmu<P> {
        &self.mmu
    }
}
