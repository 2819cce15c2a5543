//! Cursors: one operation over a range, a leaf table at a time.
//!
//! A cursor skips what has no tables, holds one leaf's lock at a time, and can be told to stop anywhere:
//! what it leaves behind is consistent after every leaf.

use rumpvm_arch::{Format, Frame, PAGE_SIZE, Prot, Pte, VirtAddr, VirtRange, span};
use rumpvm_platform::Platform;

use super::{Debt, Leaf, Mmu, Pmap, table};
use crate::NoMemory;
use crate::phys::{Fresh, PageKind};
use crate::sync::{Ordering, Pin, class, fence};

/// A range of one pmap that is to be worked on.
pub struct Cursor<'m, P: Platform> {
    mmu: &'m Mmu<P>,
    pmap: &'m Pmap<P>,
    pin: &'m Pin<'m, P>,
    range: VirtRange,
}

impl<P: Platform> Pmap<P> {
    /// A cursor over `range`, whose ends are page-aligned. What announced the operation (a new version
    /// of the map) must have been stored before: faults that do not see it are seen by the cursor.
    pub fn cursor<'m>(
        &'m self,
        mmu: &'m Mmu<P>,
        pin: &'m Pin<'m, P>,
        range: VirtRange,
    ) -> Cursor<'m, P> {
        Cursor { mmu, pmap: self, pin, range }
    }
}

impl<'m, P: Platform> Cursor<'m, P> {
    /// Maps `frames` at the successive pages of the range, with `prot`, until either ends. Each frame must
    /// be kept by its owner while it is mapped. Returns the number of pages entered; on error those
    /// before it stay.
    pub fn enter(
        self,
        frames: impl IntoIterator<Item = Frame>,
        prot: Prot,
        debt: &mut Debt<P>,
    ) -> Result<u64, NoMemory> {
        let mut frames = frames.into_iter().peekable();
        let mut at = self.range.start;
        while at < self.range.end && frames.peek().is_some() {
            let store = prot.contains(Prot::WRITE);
            let mut leaf = self.pmap.leaf(self.mmu, self.pin, at, store)?;
            let end = leaf.range().end.min(self.range.end);
            if debt.is_full() {
                drop(leaf);
                core::mem::take(debt).pay(self.mmu, self.pmap);
                continue;
            }
            while at < end && !debt.is_full() {
                let Some(frame) = frames.next() else { break };
                leaf.enter(at, frame, prot, None, debt)?;
                at = at + PAGE_SIZE;
            }
        }
        Ok((at - self.range.start) / PAGE_SIZE)
    }

    /// As [`Cursor::enter`], with exactly `prot`, and the bits of `software` in each entry, whatever is there; of a pmap that
    /// never shares tables.
    pub(crate) fn replace(
        self,
        frames: impl IntoIterator<Item = Frame>,
        prot: Prot,
        software: u64,
        debt: &mut Debt<P>,
    ) -> Result<u64, NoMemory> {
        let mut at = self.range.start;
        for frame in frames {
            if at >= self.range.end {
                break;
            }
            if debt.is_full() {
                core::mem::take(debt).pay(self.mmu, self.pmap);
            }
            let mut leaf = self.pmap.own_leaf(self.mmu, self.pin, at)?;
            leaf.replace(at, frame, prot, software, debt)?;
            at = at + PAGE_SIZE;
        }
        Ok((at - self.range.start) / PAGE_SIZE)
    }

    /// As [`Cursor::enter`], for frames that nobody else knows, where nothing is mapped; each goes to an owner of the
    /// given kind. Ends at the first page that is mapped; then, as on error, no frame is taken from `frames` any more.
    pub fn enter_fresh(
        self,
        frames: &mut impl Iterator<Item = Fresh>,
        kind: PageKind,
        prot: Prot,
    ) -> Result<u64, NoMemory> {
        self.enter_absent(prot, |leaf, part| leaf.enter_all_fresh(part, frames, kind, prot))
    }

    /// As [`Cursor::enter`], for the frames from `first` on, which are no memory of ours, where nothing is mapped.
    /// Ends at the first page that is mapped.
    pub fn enter_device(self, first: Frame, prot: Prot) -> Result<u64, NoMemory> {
        let start = self.range.start;
        self.enter_absent(prot, |leaf, part| {
            let before = (part.start - start) / PAGE_SIZE;
            leaf.enter_device(part, Frame(first.0 + before as u32), prot)
        })
    }

    /// Has `enter` fill what each leaf table serves of the range, until it does not fill all.
    fn enter_absent(
        &self,
        prot: Prot,
        mut enter: impl FnMut(&mut Leaf<'m, P>, VirtRange) -> u64,
    ) -> Result<u64, NoMemory> {
        let mut at = self.range.start;
        while at < self.range.end {
            let store = prot.contains(Prot::WRITE);
            let mut leaf = self.pmap.leaf(self.mmu, self.pin, at, store)?;
            let part = VirtRange::new(at, leaf.range().end.min(self.range.end));
            let entered = enter(&mut leaf, part);
            at = at + entered * PAGE_SIZE;
            if at < part.end {
                break;
            }
        }
        Ok((at - self.range.start) / PAGE_SIZE)
    }

    /// Removes every mapping in the range. A leaf table that a fork shared is given up as a whole: what
    /// else it mapped faults in again.
    pub fn remove(self, debt: &mut Debt<P>) {
        self.remove_each(debt, |_, _, _| ());
    }

    /// Removes every mapping of the range but wired ones, and frees the tables that are empty, also those that revoking
    /// frames emptied.
    pub(crate) fn collect(self, debt: &mut Debt<P>) {
        self.change(debt, |leaf, part, debt| {
            let mut at = part.start;
            while at < part.end && leaf.live() > 0 && !debt.is_full() {
                if leaf.get(at).0 & Pte::WIRED == 0 {
                    leaf.remove(at, debt);
                }
                at = at + PAGE_SIZE;
            }
            if leaf.live() == 0 { part.end } else { at }
        });
    }

    /// As [`Cursor::remove`]; tells `gone` of every entry as it was.
    pub(super) fn remove_each(
        self,
        debt: &mut Debt<P>,
        mut gone: impl FnMut(VirtAddr, Pte, &mut Debt<P>),
    ) {
        self.change(debt, |leaf, part, debt| {
            let mut at = part.start;
            while at < part.end && leaf.live() > 0 && !debt.is_full() {
                if let Some(old) = leaf.remove(at, debt) {
                    gone(at, old, debt);
                }
                at = at + PAGE_SIZE;
            }
            if leaf.live() == 0 { part.end } else { at }
        });
    }

    /// Leaves no more than `prot` of the rights in the range. Shared leaf tables are given up.
    pub fn protect(self, prot: Prot, debt: &mut Debt<P>) {
        if prot.is_empty() {
            return self.remove(debt);
        }
        self.change(debt, |leaf, part, debt| {
            leaf.restrict(part, prot, debt);
            part.end
        });
    }

    /// Clears the accessed and dirty bits in `mask` ([`Pte::A`], [`Pte::D`]) and calls `f` with every
    /// present entry as it was.
    pub fn harvest(self, mask: u64, debt: &mut Debt<P>, mut f: impl FnMut(VirtAddr, Pte)) {
        fence::<P>();
        self.each_leaf(|leaf, part| {
            let mut at = part.start;
            while at < part.end {
                if let Some(entry) = leaf.harvest(at, mask, debt) {
                    f(at, entry);
                }
                at = at + PAGE_SIZE;
            }
        });
    }

    /// Calls `f` with every present entry.
    pub fn query(self, mut f: impl FnMut(VirtAddr, Pte)) {
        self.each_leaf(|leaf, part| {
            let mut at = part.start;
            while at < part.end {
                let entry = leaf.get(at);
                if entry.is_present() {
                    f(at, entry);
                }
                at = at + PAGE_SIZE;
            }
        });
    }

    /// Has `change` work on the part of the range that each own leaf table serves, and gives shared ones up. `change`
    /// returns where it stopped, which is the end of the part unless the debt was full.
    fn change(
        self,
        debt: &mut Debt<P>,
        mut change: impl FnMut(&mut Leaf<'m, P>, VirtRange, &mut Debt<P>) -> VirtAddr,
    ) {
        fence::<P>();
        let mut at = self.range.start;
        while let Some(mut leaf) = self.next_leaf(&mut at) {
            let part = leaf.range().clip(self.range);
            if debt.is_full() {
                drop(leaf);
                core::mem::take(debt).pay(self.mmu, self.pmap);
                at = part.start;
                continue;
            }
            if leaf.is_shared() {
                drop(leaf);
                if !self.pmap.give_up_shared(self.mmu, part.start, debt) {
                    // The others left meanwhile: the table is ours, so work on it after all.
                    at = part.start;
                }
                continue;
            }
            let reached = change(&mut leaf, part, debt);
            let empty = leaf.live() == 0;
            drop(leaf);
            if empty {
                self.pmap.free_empty(self.mmu, part.start, 1, debt);
            } else if reached < part.end {
                at = reached;
            }
        }
        if self.mmu.is_revoking() {
            // What is absent may be so because it is being revoked, and some CPU not have heard of it (M6).
            debt.range(self.range);
        }
    }

    fn each_leaf(&self, mut f: impl FnMut(&mut Leaf<'m, P>, VirtRange)) {
        let mut at = self.range.start;
        while let Some(mut leaf) = self.next_leaf(&mut at) {
            let part = leaf.range().clip(self.range);
            f(&mut leaf, part);
        }
    }

    /// The next leaf at or after `at` in the range, locked; `at` moves behind it.
    fn next_leaf(&self, at: &mut VirtAddr) -> Option<Leaf<'m, P>> {
        while *at < self.range.end {
            let mut level = P::Format::LEVELS;
            while level > 1 && self.pmap.table_at(self.mmu, *at, level - 1).is_some() {
                level -= 1;
            }
            let here = *at;
            // Nothing below the entry at `level`: go on behind what it covers.
            let step = if level == 1 { span::<P::Format>(2) } else { span::<P::Format>(level) };
            *at = VirtAddr((here.0 & !(step - 1)).saturating_add(step));
            if level == 1
                && let Some(leaf) = self.pmap.find_leaf(self.mmu, self.pin, here)
            {
                return Some(leaf);
            }
        }
        None
    }
}

impl<P: Platform> Pmap<P> {
    /// Unlinks the shared leaf table over `at` from this pmap. False if it is not shared any more.
    fn give_up_shared(&self, mmu: &Mmu<P>, at: VirtAddr, debt: &mut Debt<P>) -> bool {
        let Some(parent) = self.table_at(mmu, at, 2) else { return true };
        let slot = rumpvm_arch::index::<P::Format>(2, at);
        let above = mmu.phys.page(parent);
        let lock = above.lock.lock(&class::TABLE);
        let entry = table::load(mmu, parent, slot);
        if above.is_stray() || !entry.is_present() {
            return true;
        }
        // Only this pmap's own fork adds sharers, and a fork takes the lock of `parent`.
        if mmu.phys.page(entry.frame()).refs.load(Ordering::Acquire) == 1 {
            return false;
        }
        self.leave(mmu, parent, slot, entry.frame(), at);
        above.live.set(above.live.get() - 1);
        let empty = above.live.get() == 0;
        drop(lock);
        if empty {
            self.free_empty(mmu, at, 2, debt);
        }
        true
    }
}
