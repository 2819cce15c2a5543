//! Leaf tables: where pages are entered, removed and restricted, one lock for each table.

use rumpvm_arch::{Access, Frame, PAGE_SIZE, Prot, Pte, VirtAddr, VirtRange, index};
use rumpvm_platform::Platform;

use super::table::{self, Entries};
use super::{Debt, Mmu, Pmap, is_tracked, keep_dirty, known_to_map, rmap};
use crate::NoMemory;
use crate::phys::{Fresh, Page, PageKind};
use crate::sync::{Ordering, Pin, class, spin::RawGuard};

/// A locked leaf table of one pmap.
pub struct Leaf<'m, P: Platform> {
    mmu: &'m Mmu<P>,
    page: &'m Page<P>,
    frame: Frame,
    entries: Entries<'m, P>,
    range: VirtRange,
    /// The entry above lets stores pass. It changes only with this leaf's lock held.
    writable: bool,
    /// As [`Pmap`] has it.
    flip: u64,
    _lock: RawGuard<'m, P>,
}

impl<P: Platform> Pmap<P> {
    /// The leaf table that serves `at`, locked, if there is one. Always in line: moving what it returns costs a fault
    /// as much as finding it.
    #[inline(always)]
    pub fn find_leaf<'m>(
        &self,
        mmu: &'m Mmu<P>,
        _pin: &'m Pin<'_, P>,
        at: VirtAddr,
    ) -> Option<Leaf<'m, P>> {
        loop {
            let parent = self.table_at(mmu, at, 2)?;
            let slot = index::<P::Format>(2, at);
            let entry = table::load(mmu, parent, slot);
            if !entry.is_present() {
                return None;
            }
            let frame = entry.frame();
            let page = mmu.phys.page(frame);
            let lock = page.lock.lock(&class::TABLE);
            let now = table::load(mmu, parent, slot);
            if now.is_present() && now.frame() == frame && !page.is_stray() {
                let range = table::serves::<P::Format>(1, at);
                let writable = now.is_writable();
                let entries = Entries::of(&mmu.phys, frame);
                let flip = self.flip;
                return Some(Leaf {
                    mmu,
                    page,
                    frame,
                    entries,
                    range,
                    writable,
                    flip,
                    _lock: lock,
                });
            }
        }
    }

    /// As [`Pmap::find_leaf`], out of line: where finding it is not what costs.
    #[inline(never)]
    pub(crate) fn find_leaf_seldom<'m>(
        &self,
        mmu: &'m Mmu<P>,
        pin: &'m Pin<'_, P>,
        at: VirtAddr,
    ) -> Option<Leaf<'m, P>> {
        self.find_leaf(mmu, pin, at)
    }

    /// The leaf table that serves `at`, locked; made if there is none. Out of line, and of a pmap that never shares tables.
    #[inline(never)]
    pub(crate) fn own_leaf<'m>(
        &self,
        mmu: &'m Mmu<P>,
        pin: &'m Pin<'_, P>,
        at: VirtAddr,
    ) -> Result<Leaf<'m, P>, NoMemory> {
        loop {
            if let Some(leaf) = self.find_leaf(mmu, pin, at) {
                return Ok(leaf);
            }
            self.make_tables(mmu, at, 1)?;
        }
    }

    /// The leaf table that serves `at`, locked; made if there is none. With `store`, one through which
    /// stores can pass: a table that a fork shared is taken over or given up for an empty one. In line as
    /// [`Pmap::find_leaf`] is.
    #[inline(always)]
    pub fn leaf<'m>(
        &self,
        mmu: &'m Mmu<P>,
        pin: &'m Pin<'_, P>,
        at: VirtAddr,
        store: bool,
    ) -> Result<Leaf<'m, P>, NoMemory> {
        loop {
            match self.find_leaf(mmu, pin, at) {
                Some(leaf) if leaf.writable || !store => return Ok(leaf),
                Some(leaf) => {
                    drop(leaf);
                    self.take_over(mmu, at)?;
                }
                None => self.make_tables(mmu, at, 1)?,
            }
        }
    }
}

impl<P: Platform> Leaf<'_, P> {
    /// The range that this table serves.
    #[inline]
    pub fn range(&self) -> VirtRange {
        self.range
    }

    /// Whether other pmaps use this table too.
    #[inline]
    pub fn is_shared(&self) -> bool {
        self.page.refs.load(Ordering::Acquire) > 1
    }

    /// Nonzero entries.
    #[inline]
    pub fn live(&self) -> u32 {
        self.page.live.get()
    }

    /// The entry for `at`.
    #[inline]
    pub fn get(&self, at: VirtAddr) -> Pte {
        self.entries.load(index::<P::Format>(1, at))
    }

    /// An entry for `frame` with `prot`, which is not empty.
    #[inline]
    fn entry(&self, frame: Frame, prot: Prot) -> Pte {
        Pte(Pte::page::<P::Format>(frame, prot).0 ^ self.flip)
    }

    /// Maps `frame` at `at` with `prot`, less what the entry above forbids. `touched` is the access that
    /// is about to follow, so that the CPU need not note it again.
    ///
    /// An entry that maps `frame` already only gains rights, which needs no flush; one that maps another
    /// frame is replaced. The only failure is that the reverse map cannot grow: then nothing has changed.
    pub fn enter(
        &mut self,
        at: VirtAddr,
        frame: Frame,
        prot: Prot,
        touched: Option<Access>,
        debt: &mut Debt<P>,
    ) -> Result<(), NoMemory> {
        let slot = index::<P::Format>(1, at);
        let prot = match prot {
            _ if self.writable => prot,
            // Writable implies readable: without the former, the latter has to be said.
            Prot::WRITE => Prot::READ,
            _ => prot.difference(Prot::WRITE),
        };
        let mut entry = self.entry(frame, prot);
        if let Some(access) = touched {
            let stores = access == Access::Write && prot.contains(Prot::WRITE);
            entry = entry.with(if stores { Pte::A | Pte::D } else { Pte::A });
        }
        let old = self.entries.load(slot);
        if old.is_present() && old.frame() == frame {
            self.entries.set_bits(slot, entry.0 & (Pte::W | Pte::A | Pte::D));
            if entry.0 & Pte::NX == 0 && old.0 & Pte::NX != 0 {
                self.entries.clear_bits(slot, Pte::NX);
            }
            return Ok(());
        }
        if is_tracked(&self.mmu.phys, frame) {
            rmap::add(&self.mmu.phys, frame, rmap::Place::new(self.frame, slot))?;
        }
        if old.is_present() {
            let old = self.entries.swap(slot, entry);
            self.forget(slot, old, debt);
            debt.page(at);
        } else {
            self.entries.store(slot, entry);
            self.page.live.set(self.page.live.get() + 1);
        }
        Ok(())
    }

    /// Maps `frame` at `at` with exactly `prot`, which is not empty, and the bits of `software`, in place of whatever is
    /// mapped there. What the CPU noted of the same frame stays noted. The only failure is that the reverse map cannot grow:
    /// then nothing has changed.
    pub(crate) fn replace(
        &mut self,
        at: VirtAddr,
        frame: Frame,
        prot: Prot,
        software: u64,
        debt: &mut Debt<P>,
    ) -> Result<(), NoMemory> {
        const NOTED: u64 = Pte::A | Pte::D;
        let slot = index::<P::Format>(1, at);
        let entry = self.entry(frame, prot).with(software);
        let old = self.entries.load(slot);
        let known = (old.0 ^ entry.0) & Pte::UNTRACKED == 0;
        if old.is_present() && old.frame() == frame && known {
            let old = self.entries.swap(slot, entry.with(old.0 & NOTED));
            // Noted since it was looked at.
            self.entries.set_bits(slot, old.0 & NOTED);
            let (lost, barred) = (old.0 & !entry.0 & (Pte::W | Pte::G), entry.0 & !old.0 & Pte::NX);
            if lost | barred != 0 {
                debt.page(at);
            }
            return Ok(());
        }
        if known_to_map(&self.mmu.phys, entry).is_some() {
            rmap::add(&self.mmu.phys, frame, rmap::Place::new(self.frame, slot))?;
        }
        if old.is_present() {
            let old = self.entries.swap(slot, entry);
            self.forget(slot, old, debt);
            debt.page(at);
        } else {
            self.entries.store(slot, entry);
            self.page.live.set(self.page.live.get() + 1);
        }
        Ok(())
    }

    /// Sets the software bits of `mask` to those of `bits` in the entry at `at`; false if there is none.
    pub(crate) fn set_software(&mut self, at: VirtAddr, mask: u64, bits: u64) -> bool {
        let slot = index::<P::Format>(1, at);
        let old = self.entries.load(slot);
        if !old.is_present() {
            return false;
        }
        self.entries.change(slot, old, mask & !bits, mask & bits);
        true
    }

    /// Maps a frame that nobody else knows at `at`, where nothing is mapped, with `prot`, and gives it to an owner of
    /// the given kind.
    #[inline]
    pub fn enter_fresh(&mut self, at: VirtAddr, fresh: Fresh, kind: PageKind, prot: Prot) {
        let range = VirtRange { start: at, end: at + PAGE_SIZE };
        let entered = self.enter_all_fresh(range, &mut core::iter::once(fresh), kind, prot);
        debug_assert_eq!(entered, 1, "something is mapped at {at:?}");
    }

    /// Maps frames that nobody else knows at the successive pages of `range`, until one is mapped or the frames end;
    /// returns how many. Their records need no exchange; and what was never stored anywhere is as good as accessed
    /// and dirty, so no CPU need note that.
    #[inline]
    pub fn enter_all_fresh(
        &mut self,
        range: VirtRange,
        frames: &mut impl Iterator<Item = Fresh>,
        kind: PageKind,
        prot: Prot,
    ) -> u64 {
        let noted = if prot.contains(Prot::WRITE) { Pte::A | Pte::D } else { Pte::A };
        let (phys, table) = (&self.mmu.phys, self.frame);
        self.enter_absent(range, self.entry(Frame(0), prot).with(noted), |slot| {
            let fresh = frames.next()?;
            let page = phys.page(fresh.frame());
            rmap::begin(page, rmap::Place::new(table, slot));
            Some(fresh.given(page, kind))
        })
    }

    /// Maps the frames from `first` on, which are no memory of ours, at the successive pages of `range`, until one is
    /// mapped; returns how many.
    pub fn enter_device(&mut self, range: VirtRange, first: Frame, prot: Prot) -> u64 {
        let mut next = first.0;
        self.enter_absent(range, self.entry(Frame(0), prot), |_| {
            next += 1;
            Some(Frame(next - 1))
        })
    }

    /// Fills the entries of `range` with `rights` and the frames that `next` names, until one is present or there is
    /// none; returns how many.
    #[inline]
    fn enter_absent(
        &mut self,
        range: VirtRange,
        rights: Pte,
        mut next: impl FnMut(usize) -> Option<Frame>,
    ) -> u64 {
        debug_assert!(rights.is_present() && (self.writable || !rights.is_writable()));
        let first = index::<P::Format>(1, range.start);
        let mut entered = 0;
        for slot in first..first + range.pages() as usize {
            if self.entries.load(slot).is_present() {
                break;
            }
            let Some(frame) = next(slot) else { break };
            self.entries.store(slot, rights.with(frame.start().0));
            entered += 1;
        }
        self.page.live.set(self.page.live.get() + entered);
        u64::from(entered)
    }

    /// Notes `access` in the entry at `at`, as the CPU would; false if the entry does not allow it.
    pub fn note(&mut self, at: VirtAddr, access: Access) -> bool {
        let slot = index::<P::Format>(1, at);
        let entry = self.entries.load(slot);
        let store = access == Access::Write;
        if !entry.is_present() || (store && !(self.writable && entry.is_writable())) {
            return false;
        }
        let bits = if store { Pte::A | Pte::D } else { Pte::A };
        if entry.0 & bits != bits {
            self.entries.set_bits(slot, bits);
        }
        true
    }

    /// Removes what is mapped at `at`.
    #[inline]
    pub fn remove(&mut self, at: VirtAddr, debt: &mut Debt<P>) -> Option<Pte> {
        let slot = index::<P::Format>(1, at);
        if !self.entries.load(slot).is_present() {
            return None;
        }
        let old = self.entries.swap(slot, Pte::ABSENT);
        self.page.live.set(self.page.live.get() - 1);
        self.forget(slot, old, debt);
        debt.page(at);
        Some(old)
    }

    /// Leaves no more than `prot`, which is not empty, of the rights in `range`. Rights that are missing stay missing.
    pub fn restrict(&mut self, range: VirtRange, prot: Prot, debt: &mut Debt<P>) {
        let wanted = Pte::page::<P::Format>(Frame(0), prot);
        let (clear, set) = (!wanted.0 & Pte::W, wanted.0 & Pte::NX);
        let first = index::<P::Format>(1, range.start);
        let mut changed = None;
        for slot in first..first + range.pages() as usize {
            let old = self.entries.load(slot);
            if !old.is_present() || old.0 & clear | !old.0 & set == 0 {
                continue;
            }
            self.entries.change(slot, old, clear, set);
            changed = Some((changed.map_or(slot, |(from, _)| from), slot));
        }
        if let Some((from, to)) = changed {
            let page = |slot: usize| range.start + (slot - first) as u64 * PAGE_SIZE;
            debt.range(VirtRange::new(page(from), page(to + 1)));
        }
    }

    /// Clears the accessed and dirty bits in `mask` at `at` and returns the entry as it was. What the CPU
    /// noted is the caller's now, in the page record too if it was a store to an object.
    pub fn harvest(&mut self, at: VirtAddr, mask: u64, debt: &mut Debt<P>) -> Option<Pte> {
        let slot = index::<P::Format>(1, at);
        let old = self.entries.load(slot);
        if !old.is_present() {
            return None;
        }
        if old.0 & mask == 0 {
            return Some(old);
        }
        let old = self.entries.clear_bits(slot, mask & (Pte::A | Pte::D));
        if mask & Pte::D != 0
            && let Some(page) = known_to_map(&self.mmu.phys, old)
        {
            keep_dirty(page, old);
        }
        debt.page(at);
        Some(old)
    }

    /// Keeps what an entry that went away knew, and has the debt remember that stores through it may still come.
    #[inline]
    fn forget(&self, slot: usize, old: Pte, debt: &mut Debt<P>) {
        if forget(self.mmu, self.frame, slot, old) {
            debt.dirty(old.frame());
        }
    }
}

/// Keeps what an entry that went away knew; whether a page of an object was stored to through it.
#[inline]
pub(super) fn forget<P: Platform>(mmu: &Mmu<P>, table: Frame, slot: usize, old: Pte) -> bool {
    let Some(page) = known_to_map(&mmu.phys, old) else { return false };
    let stored = keep_dirty(page, old);
    rmap::remove(&mmu.phys, page, old.frame(), rmap::Place::new(table, slot));
    stored
}
