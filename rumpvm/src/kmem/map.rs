//! Kernel maps: memory that is in a row in the window of kernel addresses, whatever frames it is made of.
//!
//! Flow:  request -> arena of addresses -> frames, entered in the window's tables -> user; freed: removed, flushed on every
//!        CPU, and only then is the address anybody's again.
//! Locks: the arena's, those of tables and frames; none is held across another's work.
//! Sleep: never. Freeing waits for other CPUs' flushes: not from an interrupt, and with no spin lock held.
//! Owns:  its addresses, and the frames that are mapped there.
//!
//! Hosts without a window have [`Direct`](super::Direct) in its place: frames in a row, at the addresses where the direct
//! map has them.
//!
//! M1. What is mapped lies in an allocated segment, and not in its guards.
//! M2. A segment is given back when nothing is mapped in it, and no CPU has a translation of it.
//!
//! *Pageable* means that a page comes when it is first touched, by [`KernelMap::fault`], and counts against the map's own
//! limit of addresses, no more. Nothing takes a page away again before its memory is freed, because nothing reclaims yet; and
//! when there is no frame the fault fails, so who touches such memory must be able to bear that.

use rumpvm_arch::{PAGE_SIZE, Prot, VirtAddr, VirtRange};
use rumpvm_platform::Platform;

use super::{Arena, ArenaSpec, Fit, Span};
use crate::NoMemory;
use crate::pmap::{Debt, Kernel, Mmu};

/// When the pages of a map come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backing {
    /// At once, and they stay.
    Wired,
    /// When they are first touched: see [`KernelMap::fault`].
    Pageable,
}

/// Pages around memory that are never mapped, so that who goes beyond its ends faults.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Guards {
    /// None.
    None,
    /// One before, as below a stack, and one behind.
    Both,
}

impl Guards {
    /// Bytes on each side.
    fn bytes(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Both => PAGE_SIZE,
        }
    }
}

/// Why a kernel map has nothing at an address, or is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapError {
    /// Nobody has opened a window of kernel addresses.
    NoWindow,
    /// No frame, no address, no room for a record. Nothing has changed.
    NoMemory,
    /// Nothing is allocated there, or it is a guard, or it is memory that is there already and may not be used so.
    BadAddress,
}

impl From<NoMemory> for MapError {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

/// Addresses of the window with memory behind them. The first one has the whole window; others are submaps of it.
pub struct KernelMap<'m, P: Platform> {
    addresses: Arena<'m, P>,
    backing: Backing,
    guards: Guards,
}

fn spec(name: &'static str) -> ArenaSpec {
    ArenaSpec { name, quantum: PAGE_SIZE, fit: Fit::Instant, cached: 0, spare: 0 }
}

fn window<P: Platform>(mmu: &Mmu<P>) -> Result<&Kernel<P>, MapError> {
    mmu.kernel().ok_or(MapError::NoWindow)
}

impl<'m, P: Platform> KernelMap<'m, P> {
    /// The map of the whole window. There is one for each window.
    pub fn try_new(mmu: &Mmu<P>, backing: Backing, guards: Guards) -> Result<Self, MapError> {
        let range = window(mmu)?.range();
        let addresses = Arena::try_new(&mmu.phys, spec("kernel-map"), None)?;
        let span = Span { start: range.start.0, size: range.end.0 - range.start.0 };
        addresses.add(&mmu.phys, span)?;
        Ok(Self { addresses, backing, guards })
    }

    /// A map of `size` bytes of this one, rounded up to pages, with its own limit: no more than that.
    pub fn submap(
        &self,
        mmu: &Mmu<P>,
        name: &'static str,
        size: u64,
        backing: Backing,
        guards: Guards,
    ) -> Result<Self, MapError> {
        let start = self.addresses.alloc(&mmu.phys, size)?;
        let size = self.addresses.size_of(&mmu.phys, start).unwrap_or(0);
        let made = Arena::try_new(&mmu.phys, spec(name), None);
        let made = made.and_then(|part| part.add(&mmu.phys, Span { start, size }).map(|()| part));
        match made {
            Ok(addresses) => Ok(Self { addresses, backing, guards }),
            Err(NoMemory) => {
                self.addresses.free(&mmu.phys, start, size);
                Err(MapError::NoMemory)
            }
        }
    }

    /// Gives the addresses of `part`, a submap of this map, back. None: memory of it is in use, and it stays.
    pub fn end_submap(&self, mmu: &Mmu<P>, part: &mut Self) -> Option<()> {
        let total = part.first_span(mmu)?;
        part.addresses.close(&mmu.phys).then(|| {
            self.addresses.free(&mmu.phys, total.start, total.size);
        })
    }

    /// Memory of `size` bytes, rounded up to pages, that is zero; of a wired map it is there at once.
    #[track_caller]
    pub fn alloc(&self, mmu: &Mmu<P>, size: u64) -> Result<VirtAddr, MapError> {
        let guard = self.guards.bytes();
        let pages = size.max(1).div_ceil(PAGE_SIZE);
        let all = pages.checked_mul(PAGE_SIZE).and_then(|bytes| bytes.checked_add(2 * guard));
        let all = all.ok_or(MapError::NoMemory)?;
        let start = self.addresses.alloc(&mmu.phys, all)?;
        let memory = VirtAddr(start + guard);
        if self.backing == Backing::Wired {
            let range = VirtRange::new(memory, memory + pages * PAGE_SIZE);
            if let Err(error) = wire(mmu, range) {
                self.unmap(mmu, range)?;
                self.addresses.free(&mmu.phys, start, all);
                return Err(error);
            }
        }
        Ok(memory)
    }

    /// Frees memory that was allocated with that `size`: its pages are gone on every CPU when this returns.
    #[track_caller]
    pub fn free(&self, mmu: &Mmu<P>, memory: VirtAddr, size: u64) -> Result<(), MapError> {
        let guard = self.guards.bytes();
        let bytes = size.max(1).div_ceil(PAGE_SIZE) * PAGE_SIZE;
        self.unmap(mmu, VirtRange::new(memory, memory + bytes))?;
        self.addresses.free(&mmu.phys, memory.0 - guard, bytes + 2 * guard);
        Ok(())
    }

    /// The page at `at` of a pageable map was touched and is not there: it comes, with zeros. Who may free that memory
    /// does not do so meanwhile. Several CPUs may come for one page. From the trap handler, with no spin lock held. Of several
    /// maps the host knows which one `at` is in. [`MapError::NoMemory`]: the page is not there, and may come later.
    pub fn fault(&self, mmu: &Mmu<P>, at: VirtAddr) -> Result<(), MapError> {
        let whole = self.addresses.containing(&mmu.phys, at.0).ok_or(MapError::BadAddress)?;
        let guard = self.guards.bytes();
        let (start, end) = (whole.start + guard, whole.start + whole.size - guard);
        if self.backing == Backing::Wired || at.0 < start || at.0 >= end {
            return Err(MapError::BadAddress);
        }
        let page = at.page_down();
        wire(mmu, VirtRange::new(page, page + PAGE_SIZE))
    }

    /// Gives everything back; whether nothing was in use.
    pub fn close(&mut self, mmu: &Mmu<P>) -> bool {
        self.addresses.close(&mmu.phys)
    }

    /// Bytes of addresses that are free.
    pub fn free_bytes(&self) -> u64 {
        self.addresses.usage().free
    }

    /// Which invariant does not hold, if any. At a quiet moment.
    pub fn check(&self, mmu: &Mmu<P>) -> Result<(), &'static str> {
        self.addresses.check(&mmu.phys)
    }

    fn first_span(&self, mmu: &Mmu<P>) -> Option<Span> {
        self.addresses.first_span(&mmu.phys)
    }

    fn unmap(&self, mmu: &Mmu<P>, range: VirtRange) -> Result<(), MapError> {
        let (kernel, mut debt) = (window(mmu)?, Debt::new());
        kernel.release(mmu, range, &mut debt);
        kernel.pay(mmu, debt);
        Ok(())
    }
}

/// Maps zeros wherever nothing is mapped in `range`. On error what was mapped before stays.
#[track_caller]
fn wire<P: Platform>(mmu: &Mmu<P>, range: VirtRange) -> Result<(), MapError> {
    let kernel = window(mmu)?;
    kernel.prepare(mmu, range)?;
    let mut refused = false;
    let mut frames = (0..range.pages()).map_while(|_| {
        let fresh = mmu.phys.alloc_zeroed();
        refused = fresh.is_err();
        fresh.ok()
    });
    kernel.enter_fresh(mmu, range, &mut frames, Prot::RW)?;
    if refused { Err(MapError::NoMemory) } else { Ok(()) }
}
