//! Tables: reaching, making and freeing them.

use rumpvm_arch::{Format, Frame, Pte, VirtAddr, VirtRange, entries, index, span, user_entries};
use rumpvm_platform::Platform;

use super::{Debt, Mmu, Pmap};
use crate::NoMemory;
use crate::phys::{Fresh, PageKind, Phys};
use crate::stats::Event;
use crate::sync::{Atomic, Ordering, Pin, class, fence};

/// What an entry has when a CPU can note nothing more in it: A and D are all that a CPU ever sets.
const ALL_NOTED: u64 = Pte::A | Pte::D;

/// The entries of one table. Whoever changes them holds the table's lock, or has the table alone; CPUs note
/// accesses meanwhile.
pub(super) enum Entries<'m, P> {
    Wide(&'m [Atomic<u64, P>; 512]),
    Narrow(&'m [Atomic<u32, P>; 1024]),
}

impl<'m, P: Platform> Entries<'m, P> {
    #[inline]
    pub(super) fn of(phys: &'m Phys<P>, table: Frame) -> Self {
        if P::Format::WIDE {
            Self::Wide(phys.words(table))
        } else {
            Self::Narrow(phys.words32(table))
        }
    }

    /// Loads entry `at`.
    #[inline]
    pub(super) fn load(&self, at: usize) -> Pte {
        Pte(match self {
            Self::Wide(words) => words[at].load(Ordering::Acquire),
            Self::Narrow(words) => u64::from(words[at].load(Ordering::Acquire)),
        })
    }

    /// Stores an entry where there is none in which a CPU could note anything.
    #[inline]
    pub(super) fn store(&self, at: usize, entry: Pte) {
        match self {
            Self::Wide(words) => words[at].store(entry.0, Ordering::Release),
            Self::Narrow(words) => words[at].store(entry.0 as u32, Ordering::Release),
        }
    }

    /// Replaces an entry that CPUs may be using, and returns it with all that they noted in it. Where they have
    /// noted all there is, a store does it, which costs a tenth of an exchange.
    #[inline]
    pub(super) fn swap(&self, at: usize, entry: Pte) -> Pte {
        let old = self.load(at);
        if old.0 & ALL_NOTED == ALL_NOTED {
            self.store(at, entry);
            return old;
        }
        Pte(match self {
            Self::Wide(words) => words[at].swap(entry.0, Ordering::AcqRel),
            Self::Narrow(words) => u64::from(words[at].swap(entry.0 as u32, Ordering::AcqRel)),
        })
    }

    /// Clears the bits of `mask` and returns the entry as it was. CPUs may set bits at the same time.
    #[inline]
    pub(super) fn clear_bits(&self, at: usize, mask: u64) -> Pte {
        let old = self.load(at);
        if old.0 & ALL_NOTED == ALL_NOTED {
            self.store(at, old.without(mask));
            return old;
        }
        Pte(match self {
            Self::Wide(words) => words[at].fetch_and(!mask, Ordering::AcqRel),
            Self::Narrow(words) => u64::from(words[at].fetch_and(!mask as u32, Ordering::AcqRel)),
        })
    }

    /// Clears the bits of `clear` and sets those of `set`, in this order, in an entry that the caller has just seen to
    /// be `old`. CPUs may set bits at the same time.
    #[inline]
    pub(super) fn change(&self, at: usize, old: Pte, clear: u64, set: u64) {
        if old.0 & ALL_NOTED == ALL_NOTED {
            return self.store(at, old.without(clear).with(set));
        }
        self.change_live(at, old, clear, set);
    }

    #[inline(never)]
    fn change_live(&self, at: usize, old: Pte, clear: u64, set: u64) {
        if old.0 & clear != 0 {
            self.clear_bits(at, clear);
        }
        if set & !old.0 != 0 {
            self.set_bits(at, set);
        }
    }

    /// Sets the bits of `mask`. CPUs may set bits at the same time.
    #[inline]
    pub(super) fn set_bits(&self, at: usize, mask: u64) {
        let old = self.load(at);
        if old.0 & ALL_NOTED == ALL_NOTED {
            return self.store(at, old.with(mask));
        }
        match self {
            Self::Wide(words) => words[at].fetch_or(mask, Ordering::AcqRel),
            Self::Narrow(words) => u64::from(words[at].fetch_or(mask as u32, Ordering::AcqRel)),
        };
    }
}

/// Loads entry `at` of `table`.
#[inline]
pub(super) fn load<P: Platform>(mmu: &Mmu<P>, table: Frame, at: usize) -> Pte {
    Entries::of(&mmu.phys, table).load(at)
}

/// As [`Entries::store`].
#[inline]
pub(super) fn store<P: Platform>(mmu: &Mmu<P>, table: Frame, at: usize, entry: Pte) {
    Entries::of(&mmu.phys, table).store(at, entry);
}

/// As [`Entries::swap`].
#[inline]
pub(super) fn swap<P: Platform>(mmu: &Mmu<P>, table: Frame, at: usize, entry: Pte) -> Pte {
    Entries::of(&mmu.phys, table).swap(at, entry)
}

/// As [`Entries::clear_bits`].
#[inline]
pub(super) fn clear_bits<P: Platform>(mmu: &Mmu<P>, table: Frame, at: usize, mask: u64) -> Pte {
    Entries::of(&mmu.phys, table).clear_bits(at, mask)
}

/// As [`Entries::set_bits`].
#[inline]
pub(super) fn set_bits<P: Platform>(mmu: &Mmu<P>, table: Frame, at: usize, mask: u64) {
    Entries::of(&mmu.phys, table).set_bits(at, mask);
}

/// The range that a table at `level` over `at` serves.
#[inline]
pub(super) fn serves<F: Format>(level: usize, at: VirtAddr) -> VirtRange {
    let span = span::<F>(level + 1);
    let start = VirtAddr(at.0 & !(span - 1));
    // The last table of all ends where there is no address any more.
    VirtRange::new(start, VirtAddr(start.0.saturating_add(span)))
}

/// Turns a zeroed frame into a table at `level` over `at`.
pub(super) fn make<P: Platform>(
    mmu: &Mmu<P>,
    zeroed: Fresh,
    at: VirtAddr,
    level: usize,
    pmap: u64,
) -> Frame {
    let page = mmu.phys.page(zeroed.frame());
    page.refs.set(1);
    page.live.set(0);
    page.owner.set(pmap);
    page.index.set(serves::<P::Format>(level, at).start.0 | level as u64);
    mmu.phys.counters.count(Event::TableMade);
    mmu.phys.give(zeroed, PageKind::Table)
}

impl<P: Platform> Pmap<P> {
    /// The table at `level` that serves `at`, if there is one.
    #[inline]
    pub(crate) fn table_at(&self, mmu: &Mmu<P>, at: VirtAddr, level: usize) -> Option<Frame> {
        let mut table = self.root;
        for above in (level + 1..=P::Format::LEVELS).rev() {
            let entry = load(mmu, table, index::<P::Format>(above, at));
            if !entry.is_present() {
                return None;
            }
            table = entry.frame();
        }
        Some(table)
    }

    /// Makes the tables down to `level` that serve `at`. With a fence behind each new link, so that a
    /// walk over a range either sees the link or the maker sees what the walk was announced by.
    pub(crate) fn make_tables(
        &self,
        mmu: &Mmu<P>,
        at: VirtAddr,
        level: usize,
    ) -> Result<(), NoMemory> {
        'again: loop {
            let mut table = self.root;
            for above in (level + 1..=P::Format::LEVELS).rev() {
                let slot = index::<P::Format>(above, at);
                let entry = load(mmu, table, slot);
                if entry.is_present() {
                    table = entry.frame();
                    continue;
                }
                let fresh = mmu.phys.alloc_zeroed()?;
                let page = mmu.phys.page(table);
                let lock = page.lock.lock(&class::TABLE);
                if page.is_stray() || load(mmu, table, slot).is_present() {
                    drop(lock);
                    mmu.phys.free(fresh);
                    continue 'again;
                }
                let below = make(mmu, fresh, at, above - 1, self.id);
                page.live.set(page.live.get() + 1);
                let link = Pte::table::<P::Format>(above, below, true);
                store(mmu, table, slot, link.without(self.flip & Pte::U));
                drop(lock);
                fence::<P>();
                table = below;
            }
            return Ok(());
        }
    }

    /// Unlinks the table at `level` over `at` if it is empty and nobody shares it, then those above it
    /// that this empties.
    pub(crate) fn free_empty(&self, mmu: &Mmu<P>, at: VirtAddr, level: usize, debt: &mut Debt<P>) {
        for level in level..self.kept {
            let Some(parent) = self.table_at(mmu, at, level + 1) else { return };
            let above = mmu.phys.page(parent);
            let lock = above.lock.lock(&class::TABLE);
            let slot = index::<P::Format>(level + 1, at);
            let entry = load(mmu, parent, slot);
            if above.is_stray() || !entry.is_present() {
                return;
            }
            let table = entry.frame();
            let page = mmu.phys.page(table);
            let inner = page.lock.lock(&class::TABLE);
            if page.live.get() != 0 || page.refs.load(Ordering::Acquire) != 1 {
                return;
            }
            page.set_stray();
            drop(inner);
            self.unlink(mmu, parent, slot, at, level, debt);
            debt.table(&mmu.phys, table);
            let empty = above.live.get() == 0;
            drop(lock);
            if !empty {
                return;
            }
        }
    }

    /// Clears the entry of `parent` that leads to the table at `level` over `at`. With the lock of
    /// `parent` held.
    pub(super) fn unlink(
        &self,
        mmu: &Mmu<P>,
        parent: Frame,
        slot: usize,
        at: VirtAddr,
        level: usize,
        debt: &mut Debt<P>,
    ) {
        swap(mmu, parent, slot, Pte::ABSENT);
        let above = mmu.phys.page(parent);
        above.live.set(above.live.get() - 1);
        debt.range(serves::<P::Format>(level, at));
    }

    /// Calls `f` with every table: frame, level, first address.
    pub fn for_each_table(
        &self,
        mmu: &Mmu<P>,
        pin: &Pin<'_, P>,
        f: impl FnMut(Frame, usize, VirtAddr),
    ) {
        let is_users = self.flip & Pte::U == 0;
        let slots = if is_users { user_entries::<P::Format> } else { entries::<P::Format> };
        mmu.for_each_table_below(pin, self.root, self.base, slots(P::Format::LEVELS), f);
    }

    /// Calls `f` with every nonzero one of the first `slots` entries of the table in `frame`.
    pub fn for_each_entry(mmu: &Mmu<P>, frame: Frame, slots: usize, mut f: impl FnMut(usize, Pte)) {
        for slot in 0..slots {
            let entry = load(mmu, frame, slot);
            if entry != Pte::ABSENT {
                f(slot, entry);
            }
        }
    }

    /// Gives up all tables below one that nobody uses any more. Entries of a root that are the host's come last, and are not
    /// counted.
    pub(super) fn release_below(&self, mmu: &Mmu<P>, table: Frame, level: usize) {
        let mut left = mmu.phys.page(table).live.get();
        for slot in 0..entries::<P::Format>(level) {
            if left == 0 {
                break;
            }
            let entry = load(mmu, table, slot);
            if !entry.is_present() {
                continue;
            }
            left -= 1;
            let below = entry.frame();
            if level - 1 == 1 {
                super::share::release(mmu, below);
                continue;
            }
            self.release_below(mmu, below, level - 1);
            let page = mmu.phys.page(below);
            page.refs.set(0);
            page.live.set(0);
            mmu.phys.retire(below);
            mmu.phys.counters.count(Event::TableFreed);
        }
    }
}

impl<P: Platform> Mmu<P> {
    /// Calls `f` with every table below the first `slots` entries of `root`, and with that, which serves addresses from `base`
    /// on: frame, level, first address.
    pub(crate) fn for_each_table_below(
        &self,
        _pin: &Pin<'_, P>,
        root: Frame,
        base: VirtAddr,
        slots: usize,
        mut f: impl FnMut(Frame, usize, VirtAddr),
    ) {
        fn walk<P: Platform>(
            mmu: &Mmu<P>,
            table: Frame,
            level: usize,
            base: VirtAddr,
            slots: usize,
            f: &mut impl FnMut(Frame, usize, VirtAddr),
        ) {
            f(table, level, base);
            if level == 1 {
                return;
            }
            for slot in 0..slots {
                let entry = load(mmu, table, slot);
                if entry.is_present() {
                    let base = base + slot as u64 * span::<P::Format>(level);
                    let slots = entries::<P::Format>(level - 1);
                    walk(mmu, entry.frame(), level - 1, base, slots, f);
                }
            }
        }
        walk(self, root, P::Format::LEVELS, base, slots, &mut f);
    }
}
