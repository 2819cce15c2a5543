//! The kernel's own mappings: a window of kernel addresses that the host leaves to us.
//!
//! The upper half of every space is the host's: it makes those tables, and puts them in every root. Of its addresses it can
//! leave a window to the component, for memory that is to be in a row there, or to be seen there for a while.
//!
//! Flow:  host -> [`Mmu::open_window`] -> [`Link`]s, which the host stores in tables of its own -> [`Kernel::enter`] and its
//!        like -> [`Kernel::remove`] -> debt -> a flush on every CPU.
//! Locks: each table's, as in every pmap. Who uses an address of the window is settled above: one at a time.
//! Sleep: never; paying waits for other CPUs.
//! Owns:  the tables below the links, for good.
//!
//! K1. The tables stay when they are empty, so entering fails only where none was made before ([`Kernel::prepare`]), and
//!     no flush of whole tables is ever owed: it would be one of everything, everywhere. They are a 512th of what was in
//!     use at once. BSD's kernels keep theirs too.
//! K2. The tables that the links lead to are made with the window, so links never change, and no root has to be told later.
//! K3. Every CPU that uses the window has said so ([`Mmu::attach_cpu`]), so every flush reaches it, whatever it
//!     translates through.

use rumpvm_arch::{Format, Frame, Prot, Pte, VirtAddr, VirtRange, kernel_half, span};
use rumpvm_platform::Platform;

use super::{Cursor, Debt, Mmu, Pmap, table};
use crate::NoMemory;
use crate::phys::{Fresh, PageKind};
use crate::sync::Pin;

/// Which tables a window begins with: those below the root where the root is large, because then each serves very much;
/// else the leaf tables.
const fn linked<F: Format>() -> usize {
    if F::LEVELS > 3 { F::LEVELS - 1 } else { 1 }
}

/// What a host has to store in its own tables so that a part of the window is seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// First address that the entry serves.
    pub at: VirtAddr,
    /// Level of the host's table that gets it.
    pub level: usize,
    /// The entry.
    pub entry: Pte,
}

/// What a CPU does with translations of the window when it changes spaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TlbScope {
    /// It drops them.
    Space,
    /// It keeps them, if CR4.PGE is on; the home drops them when it is told to.
    Global,
}

/// Why there is no window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WindowError {
    /// The range is empty, not made of whole pages, or not in the kernel's half.
    Invalid,
    /// There is one already.
    Taken,
    /// No memory for its tables. Nothing has changed.
    NoMemory,
}

impl From<NoMemory> for WindowError {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

/// The window of kernel addresses.
pub struct Kernel<P: Platform> {
    pmap: Pmap<P>,
    range: VirtRange,
    scope: TlbScope,
}

impl<P: Platform> Mmu<P> {
    /// Takes `range` of the kernel's addresses over, and has `link` store what makes it seen, in the tables of the host that
    /// every root has: before any root is loaded, or on every CPU at once. Nothing else may be mapped by the entries that
    /// are stored, each of which serves 2 or 4 MiB, or where addresses are long as much as one of the root. Once, by one
    /// caller, who has added memory.
    pub fn open_window(
        &self,
        range: VirtRange,
        scope: TlbScope,
        link: impl FnMut(Link),
    ) -> Result<&Kernel<P>, WindowError> {
        let half = kernel_half::<P::Format>();
        let is_whole = range.start.is_page_aligned() && range.end.is_page_aligned();
        if range.is_empty() || !is_whole || range.start < half.start || range.end > half.end {
            return Err(WindowError::Invalid);
        }
        let global = if scope == TlbScope::Global { Pte::G } else { 0 };
        let base = VirtAddr(range.start.0 & !(span::<P::Format>(P::Format::LEVELS + 1) - 1));
        let pmap = Pmap::try_with(self, base, Pte::U | global, 1)?;
        let kernel = Kernel { pmap, range, scope };
        if let Err(NoMemory) = kernel.make_linked(self) {
            kernel.pmap.destroy(self);
            return Err(WindowError::NoMemory);
        }
        match self.kernel.set(kernel) {
            Ok(kernel) => {
                kernel.links(self).for_each(link);
                Ok(kernel)
            }
            Err(unused) => {
                unused.pmap.destroy(self);
                Err(WindowError::Taken)
            }
        }
    }

    /// The calling CPU serves requests from now on, so it may use the window (K3). As often as one likes; translating through
    /// a pmap does it too, and so does idle work.
    pub fn attach_cpu(&self) {
        let interrupts = P::intr_save();
        self.shootdown.serves(P::cpu_id());
        P::intr_restore(interrupts);
    }

    /// The window of kernel addresses, if there is one.
    #[inline]
    pub fn kernel(&self) -> Option<&Kernel<P>> {
        self.kernel.get()
    }
}

impl<P: Platform> Kernel<P> {
    /// The addresses.
    pub fn range(&self) -> VirtRange {
        self.range
    }

    /// What CPUs do with its translations when they change spaces.
    pub fn scope(&self) -> TlbScope {
        self.scope
    }

    /// Its tables, as a pmap.
    pub(crate) fn pmap(&self) -> &Pmap<P> {
        &self.pmap
    }

    /// What the host has to store, as it was told when the window was opened.
    pub fn links(&self, mmu: &Mmu<P>) -> impl Iterator<Item = Link> {
        let level = linked::<P::Format>();
        self.linked_parts().filter_map(move |at| {
            let table = self.pmap.table_at(mmu, at, level)?;
            let entry = Pte::table::<P::Format>(level + 1, table, true).without(Pte::U);
            Some(Link { at, level: level + 1, entry })
        })
    }

    /// The first address that each link serves.
    fn linked_parts(&self) -> impl Iterator<Item = VirtAddr> + use<P> {
        let step = span::<P::Format>(linked::<P::Format>() + 1);
        let (first, end) = (self.range.start.0 & !(step - 1), self.range.end.0);
        (0..(end - first).div_ceil(step)).map(move |at| VirtAddr(first + at * step))
    }

    fn make_linked(&self, mmu: &Mmu<P>) -> Result<(), NoMemory> {
        self.linked_parts().try_for_each(|at| self.pmap.make_tables(mmu, at, linked::<P::Format>()))
    }

    fn cursor<'m>(
        &'m self,
        mmu: &'m Mmu<P>,
        pin: &'m Pin<'m, P>,
        range: VirtRange,
    ) -> Cursor<'m, P> {
        assert!(
            self.range.start <= range.start && range.end <= self.range.end,
            "{range} is not in the window {}",
            self.range
        );
        self.pmap.cursor(mmu, pin, range)
    }

    /// Makes the tables for `range`, so that entering there does not fail for want of one.
    pub fn prepare(&self, mmu: &Mmu<P>, range: VirtRange) -> Result<(), NoMemory> {
        let step = span::<P::Format>(2);
        let mut at = range.start;
        while at < range.end {
            self.pmap.make_tables(mmu, at, 1)?;
            at = VirtAddr((at.0 & !(step - 1)).saturating_add(step));
        }
        Ok(())
    }

    /// Maps `frames` at the successive pages of `range`, until either ends, in place of what was there; each must be kept
    /// by its owner while it is mapped. Returns the number of pages; on error those before it stay.
    pub fn enter(
        &self,
        mmu: &Mmu<P>,
        range: VirtRange,
        frames: impl IntoIterator<Item = Frame>,
        prot: Prot,
        debt: &mut Debt<P>,
    ) -> Result<u64, NoMemory> {
        let pin = mmu.phys.epoch.pin();
        self.cursor(mmu, &pin, range).enter(frames, prot, debt)
    }

    /// Maps frames that nobody else knows at the successive pages of `range`, where nothing is mapped: the kernel's from
    /// now on ([`PageKind::Kernel`]), until [`Kernel::release`]. Returns the number of pages; on error those before it stay.
    /// Fails only where no tables were made, and takes no frame from `frames` that it does not map.
    pub fn enter_fresh(
        &self,
        mmu: &Mmu<P>,
        range: VirtRange,
        frames: &mut impl Iterator<Item = Fresh>,
        prot: Prot,
    ) -> Result<u64, NoMemory> {
        let pin = mmu.phys.epoch.pin();
        self.cursor(mmu, &pin, range).enter_fresh(frames, PageKind::Kernel, prot)
    }

    /// Maps the frames from `first` on, which are no memory of ours, where nothing is mapped.
    pub fn enter_device(
        &self,
        mmu: &Mmu<P>,
        range: VirtRange,
        first: Frame,
        prot: Prot,
    ) -> Result<u64, NoMemory> {
        let pin = mmu.phys.epoch.pin();
        self.cursor(mmu, &pin, range).enter_device(first, prot)
    }

    /// As [`Kernel::enter`], of frames whose reverse maps do not learn of it, so that they need no memory and revoking them
    /// leaves these mappings: for a short time, by who keeps the frames. Where tables were made it cannot fail.
    pub fn enter_untracked(
        &self,
        mmu: &Mmu<P>,
        range: VirtRange,
        frames: impl IntoIterator<Item = Frame>,
        prot: Prot,
        debt: &mut Debt<P>,
    ) -> Result<u64, NoMemory> {
        let pin = mmu.phys.epoch.pin();
        self.cursor(mmu, &pin, range).replace(frames, prot, Pte::UNTRACKED, debt)
    }

    /// Removes what is mapped in `range`, and tells `gone` of it. The frames stay their owners'.
    pub fn remove(
        &self,
        mmu: &Mmu<P>,
        range: VirtRange,
        debt: &mut Debt<P>,
        mut gone: impl FnMut(VirtAddr, Frame),
    ) {
        let pin = mmu.phys.epoch.pin();
        self.cursor(mmu, &pin, range).remove_each(debt, |at, old, _| gone(at, old.frame()));
    }

    /// Removes what is mapped in `range`. Frames of the kernel's, which must be mapped nowhere else, are freed when the debt
    /// is paid; one debt can gather many ranges.
    pub fn release(&self, mmu: &Mmu<P>, range: VirtRange, debt: &mut Debt<P>) {
        let pin = mmu.phys.epoch.pin();
        self.cursor(mmu, &pin, range).remove_each(debt, |_, old, debt| {
            let frame = old.frame();
            if mmu.phys.known(frame).is_some_and(|page| page.kind() == PageKind::Kernel) {
                debt.frame(&mmu.phys, frame);
            }
        });
    }

    /// Leaves no more than `prot` of the rights in `range`.
    pub fn protect(&self, mmu: &Mmu<P>, range: VirtRange, prot: Prot, debt: &mut Debt<P>) {
        let pin = mmu.phys.epoch.pin();
        self.cursor(mmu, &pin, range).protect(prot, debt);
    }

    /// Flushes what is owed for the window, on every CPU.
    pub fn pay(&self, mmu: &Mmu<P>, debt: Debt<P>) {
        debt.pay(mmu, &self.pmap);
    }

    /// The entry for `at`, as of some moment during the call. Takes no lock.
    pub fn query(&self, mmu: &Mmu<P>, at: VirtAddr) -> Option<Pte> {
        let leaf = self.pmap.table_at(mmu, at, 1)?;
        let entry = table::load(mmu, leaf, rumpvm_arch::index::<P::Format>(1, at));
        (self.range.contains(at) && entry.is_present()).then_some(entry)
    }

    /// Pages mapped.
    pub fn resident(&self, mmu: &Mmu<P>) -> u64 {
        self.pmap.resident(mmu, &mmu.phys.epoch.pin())
    }

    /// Pages of tables, one of which no CPU reads.
    pub fn tables(&self, mmu: &Mmu<P>) -> u64 {
        self.pmap.tables(mmu, &mmu.phys.epoch.pin())
    }
}
