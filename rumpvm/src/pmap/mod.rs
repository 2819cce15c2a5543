//! Page tables: a cache of what maps, amaps and objects say (D1).
//!
//! Dropping any translation costs a fault, never data, so nothing here has to succeed but removal.
//!
//! Flow:  fault -> [`Pmap::leaf`] (find, make or take over the table) -> [`Leaf::enter`] -> entry.
//! Locks: one for each table, in its frame's record; upper tables before lower ones. Walks take none.
//! Sleep: never; but paying a [`Debt`] waits for other CPUs, so no lock may be held then but those of the
//!        tables and nodes that keep others from mapping something else meanwhile.
//! Owns:  tables, and the reverse map of every frame.
//!
//! M1. `live` of a table is the number of its nonzero entries, changed under its lock with them.
//! M2. A frame's reverse map names exactly the entries that map it, shared tables counted once.
//! M3. A table below the root that has no entry is freed by whoever emptied it, except when the last page
//!     was revoked through the reverse map.
//! M4. A leaf table that several pmaps share (`refs` > 1) is reached through read-only entries alone.
//! M5. A table is retired after its last link is gone and the debt for it is paid.
//! M6. Who finds an entry absent knows that no CPU has the translation, unless `revoking` says that one may: a page
//!     that is revoked loses its entries in all spaces before the CPUs are flushed. A call of a space that takes rights
//!     away in a range, and returns, flushes that range itself then; what comes in its place must not be stored to
//!     through what was there. (Linux waits in `flush_tlb_batched_pending` for the same reason.)

mod cursor;
mod flush;
mod frame;
mod kernel;
mod leaf;
mod ranges;
mod rmap;
mod share;
mod shootdown;
mod table;

use rumpvm_arch::{Format, Frame, Pte, VirtAddr};
use rumpvm_platform::{CpuSet, Platform};

pub use cursor::Cursor;
pub use flush::Debt;
pub use kernel::{Kernel, Link, TlbScope, WindowError};
pub use leaf::Leaf;
pub use share::Inherit;
pub use shootdown::Shootdown;

use crate::NoMemory;
use crate::phys::{Page, PageKind, Phys};
use crate::stats::Event;
use crate::sync::{Atomic, Once, Ordering, Pin, fence};

/// What the pmaps of one machine share: physical memory, and the way to other CPUs' TLBs.
pub struct Mmu<P: Platform> {
    /// Physical memory.
    pub phys: Phys<P>,
    /// Flush requests between CPUs.
    pub shootdown: Shootdown<P>,
    /// Number of the next pmap.
    next_id: Atomic<u64, P>,
    /// Debts that hold entries which somebody else than their space's own calls has cleared: see M6.
    revoking: Atomic<u32, P>,
    /// The window of kernel addresses, if the host gave one.
    kernel: Once<Kernel<P>, P>,
}

/// The page tables of one space.
pub struct Pmap<P: Platform> {
    root: Frame,
    id: u64,
    /// CPUs that translate through it.
    active: [Atomic<u64, P>; CpuSet::WORDS],
    /// Bits in which its leaf entries differ from those of user memory: none, but for the kernel's.
    flip: u64,
    /// Tables from this level on stay when they are empty: the root, but for the kernel's.
    kept: usize,
    /// The first address that the root serves.
    base: VirtAddr,
}

impl<P: Platform> Mmu<P> {
    /// The tables' side of a machine without memory.
    pub fn try_new(platform: P) -> Result<Self, NoMemory> {
        let cpus = platform.cpu_count();
        Ok(Self {
            phys: Phys::try_new(platform)?,
            shootdown: Shootdown::try_new(cpus)?,
            next_id: Atomic::new(1),
            revoking: Atomic::new(0),
            kernel: Once::new(),
        })
    }
}

impl<P: Platform> Mmu<P> {
    /// Whether an entry that is absent may be one that some CPU still has the translation of (M6).
    pub(crate) fn is_revoking(&self) -> bool {
        self.revoking.load(Ordering::SeqCst) != 0
    }

    /// A little work for a CPU that has nothing to do: frees what no reader can look at any more, zeroes a frame. False when
    /// there is none left.
    pub fn idle(&self) -> bool {
        self.attach_cpu();
        self.phys.epoch.advance();
        self.phys.epoch.collect();
        self.phys.collect();
        self.phys.zero_one()
    }
}

impl<P: Platform> Pmap<P> {
    /// An empty pmap: one root table.
    pub fn try_new(mmu: &Mmu<P>) -> Result<Self, NoMemory> {
        Self::try_with(mmu, VirtAddr(0), 0, P::Format::LEVELS)
    }

    /// An empty pmap whose root serves the addresses from `base` on.
    fn try_with(mmu: &Mmu<P>, base: VirtAddr, flip: u64, kept: usize) -> Result<Self, NoMemory> {
        let fresh = mmu.phys.alloc_zeroed()?;
        let id = mmu.next_id.fetch_add(1, Ordering::Relaxed);
        let root = table::make(mmu, fresh, base, P::Format::LEVELS, id);
        let active = core::array::from_fn(|_| Atomic::new(0));
        Ok(Self { root, id, active, flip, kept, base })
    }

    /// Frame of the root table.
    pub fn root(&self) -> Frame {
        self.root
    }

    /// Number of this pmap, unique in its machine.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The entry for `at`, as of some moment during the call. Takes no lock.
    pub fn query(&self, mmu: &Mmu<P>, _pin: &Pin<'_, P>, at: VirtAddr) -> Option<Pte> {
        let leaf = self.table_at(mmu, at, 1)?;
        let entry = table::load(mmu, leaf, rumpvm_arch::index::<P::Format>(1, at));
        entry.is_present().then_some(entry)
    }

    /// Makes this CPU translate through this pmap. It must translate through none.
    pub fn activate(&self, mmu: &Mmu<P>) {
        let interrupts = P::intr_save();
        let cpu = P::cpu_id();
        mmu.shootdown.attach(cpu, true);
        // Before the first translation: who changes an entry later sees this CPU in the set.
        self.active[cpu.0 as usize / 64].fetch_or(1 << (cpu.0 % 64), Ordering::SeqCst);
        fence::<P>();
        mmu.phys.platform.tlb_activate(Some(self.root));
        P::intr_restore(interrupts);
    }

    /// Makes this CPU translate through no pmap. It must translate through this one.
    pub fn deactivate(&self, mmu: &Mmu<P>) {
        let interrupts = P::intr_save();
        let cpu = P::cpu_id();
        mmu.phys.platform.tlb_activate(None);
        self.active[cpu.0 as usize / 64].fetch_and(!(1 << (cpu.0 % 64)), Ordering::SeqCst);
        mmu.shootdown.attach(cpu, false);
        P::intr_restore(interrupts);
    }

    /// CPUs that translate through this pmap now.
    pub fn active(&self) -> CpuSet {
        CpuSet::from_words(core::array::from_fn(|at| self.active[at].load(Ordering::SeqCst)))
    }

    /// Pages mapped, those under shared tables included.
    pub fn resident(&self, mmu: &Mmu<P>, pin: &Pin<'_, P>) -> u64 {
        let mut pages = 0;
        self.for_each_table(mmu, pin, |frame, level, _| {
            if level == 1 {
                pages += u64::from(mmu.phys.page(frame).live.load(Ordering::Relaxed));
            }
        });
        pages
    }

    /// Page-table pages, the root and shared ones included.
    pub fn tables(&self, mmu: &Mmu<P>, pin: &Pin<'_, P>) -> u64 {
        let mut tables = 0;
        self.for_each_table(mmu, pin, |_, _, _| tables += 1);
        tables
    }

    /// Takes all tables apart. No CPU may translate through it, and nobody else use it, any more.
    pub fn destroy(&self, mmu: &Mmu<P>) {
        if !self.active().is_empty() {
            mmu.phys.broken(format_args!("pmap {} is destroyed while active", self.id));
        }
        self.release_below(mmu, self.root, P::Format::LEVELS);
        let root = mmu.phys.page(self.root);
        root.refs.set(0);
        root.live.set(0);
        mmu.phys.retire(self.root);
        mmu.phys.counters.count(Event::TableFreed);
    }
}

/// The record of the frame that an entry maps, if its reverse map knows of that.
#[inline]
fn known_to_map<P: Platform>(phys: &Phys<P>, entry: Pte) -> Option<&Page<P>> {
    if entry.0 & Pte::UNTRACKED == 0 { tracked(phys, entry.frame()) } else { None }
}

/// Whether the reverse map of `frame` is kept: not for the zero page, nor for memory of devices.
fn is_tracked<P: Platform>(phys: &Phys<P>, frame: Frame) -> bool {
    tracked(phys, frame).is_some()
}

/// The record of `frame` if its reverse map is kept.
#[inline]
fn tracked<P: Platform>(phys: &Phys<P>, frame: Frame) -> Option<&Page<P>> {
    if frame == phys.zero_page() { None } else { phys.known(frame) }
}

/// Keeps what the hardware noted in an entry for `page` that is going away: whether it was stored to through it,
/// where that matters, which is in objects and where the host asks.
#[inline]
fn keep_dirty<P: Platform>(page: &Page<P>, entry: Pte) -> bool {
    let kind = page.kind();
    if kind == PageKind::Host && entry.is_accessed() {
        page.set_referenced();
    }
    let stored = entry.is_dirty() && matches!(kind, PageKind::Object | PageKind::Host);
    if stored {
        page.set_dirty();
    }
    stored
}
