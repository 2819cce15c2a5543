//! Fork: both sides go on with the same leaf tables, read-only from above (D4).
//!
//! Zhao, Gong and Fonseca, "On-demand-fork" (EuroSys 2021). A gibibyte is 512 leaf tables, so forking it
//! touches about a thousand words. The first store below a table ends its sharing for whoever stores;
//! who unmaps all of it, or exits, gives up his use of it.

use rumpvm_arch::{
    Format, Frame, Prot, Pte, VirtAddr, VirtRange, entries, index, span, user_entries,
};
use rumpvm_platform::Platform;

use super::leaf::forget;
use super::{Debt, Mmu, Pmap, table};
use crate::NoMemory;
use crate::stats::Event;
use crate::sync::{Ordering, Pin, class, fence};

/// What a child gets of a leaf table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inherit {
    /// The table itself.
    Share,
    /// Nothing: part of what it maps is not inherited. The parent's entries become read-only.
    Nothing,
}

impl<P: Platform> Pmap<P> {
    /// Lets `child`, which nobody uses yet, share the leaf tables of this pmap. `inherit` decides for the
    /// range of each. On error the child has some of them, and this pmap is as good as before: stores that
    /// meet a read-only table just fault once more.
    pub fn share(
        &self,
        mmu: &Mmu<P>,
        _pin: &Pin<'_, P>,
        child: &Self,
        inherit: impl Fn(VirtRange) -> Inherit,
        debt: &mut Debt<P>,
    ) -> Result<(), NoMemory> {
        fence::<P>();
        debt.whole();
        self.share_below(mmu, self.root(), P::Format::LEVELS, VirtAddr(0), child, &inherit)
    }

    fn share_below(
        &self,
        mmu: &Mmu<P>,
        parent: rumpvm_arch::Frame,
        level: usize,
        base: VirtAddr,
        child: &Self,
        inherit: &impl Fn(VirtRange) -> Inherit,
    ) -> Result<(), NoMemory> {
        let mut own = None;
        for slot in 0..user_entries::<P::Format>(level) {
            let entry = table::load(mmu, parent, slot);
            if !entry.is_present() {
                continue;
            }
            let at = base + slot as u64 * span::<P::Format>(level);
            if level > 2 {
                self.share_below(mmu, entry.frame(), level - 1, at, child, inherit)?;
                continue;
            }
            let range = VirtRange::new(at, at + span::<P::Format>(2));
            if inherit(range) == Inherit::Nothing {
                self.make_read_only(mmu, range);
                continue;
            }
            let own = match own {
                Some(own) => own,
                None => {
                    child.make_tables(mmu, at, 2)?;
                    let table = child.table_at(mmu, at, 2).ok_or(NoMemory)?;
                    *own.insert(table)
                }
            };
            // Table above, then leaf: whoever stores through the leaf holds its lock, so after this
            // every entry that is entered is entered read-only.
            let above = mmu.phys.page(parent);
            let lock = above.lock.lock(&class::TABLE);
            let entry = table::load(mmu, parent, slot);
            if entry.is_present() {
                let leaf = mmu.phys.page(entry.frame());
                let inner = leaf.lock.lock(&class::TABLE);
                leaf.refs.fetch_add(1, Ordering::AcqRel);
                table::clear_bits(mmu, parent, slot, Pte::W);
                drop(inner);
                let entry = Pte::table::<P::Format>(2, entry.frame(), false);
                table::store(mmu, own, slot, entry);
                let own = mmu.phys.page(own);
                own.live.set(own.live.get() + 1);
                mmu.phys.counters.count(Event::TableShared);
            }
            drop(lock);
        }
        Ok(())
    }

    /// Takes the right to store from every entry of one leaf table. The caller flushes.
    fn make_read_only(&self, mmu: &Mmu<P>, range: VirtRange) {
        let pin = mmu.phys.epoch.pin();
        let Some(mut leaf) = self.find_leaf(mmu, &pin, range.start) else { return };
        let mut debt = Debt::new();
        leaf.restrict(range, Prot::READ | Prot::EXEC, &mut debt);
        debt.covered_by_another();
    }

    /// Makes stores possible below the entry over `at`, which a fork made read-only.
    ///
    /// While others share the table, its entries may name pages that a store must copy first, and say so
    /// only above: so we leave it to them and begin an empty one, which faults refill by the windowful.
    /// Copying all 512 entries would need as many reverse-map records, and most forks end in exec. When
    /// the others are gone, the table is ours again once every entry in it is read-only itself.
    pub(super) fn take_over(&self, mmu: &Mmu<P>, at: VirtAddr) -> Result<(), NoMemory> {
        let fresh = mmu.phys.alloc_zeroed()?;
        let mut spare = Some(fresh);
        if let Some(parent) = self.table_at(mmu, at, 2) {
            let slot = index::<P::Format>(2, at);
            let lock = mmu.phys.page(parent).lock.lock(&class::TABLE);
            let entry = table::load(mmu, parent, slot);
            if entry.is_present() && !entry.is_writable() {
                if self.make_own(mmu, parent, slot, entry.frame()) {
                    // Nobody shares it any more.
                } else if let Some(fresh) = spare.take() {
                    // Gone from every CPU before a store passes through the new table: else one thread could
                    // still load from a page of which another has stored to the copy.
                    self.leave(mmu, parent, slot, entry.frame(), at);
                    let own = table::make(mmu, fresh, at, 1, self.id());
                    table::store(mmu, parent, slot, Pte::table::<P::Format>(2, own, true));
                }
            }
            drop(lock);
        }
        if let Some(fresh) = spare {
            mmu.phys.free(fresh);
        }
        Ok(())
    }

    /// Lets stores through the leaf table that entry `slot` of `parent` leads to, if nobody else has it.
    /// With the lock of `parent` held.
    fn make_own(&self, mmu: &Mmu<P>, parent: Frame, slot: usize, leaf: Frame) -> bool {
        let page = mmu.phys.page(leaf);
        let _lock = page.lock.lock(&class::TABLE);
        if page.refs.load(Ordering::Acquire) != 1 {
            return false;
        }
        for slot in 0..entries::<P::Format>(1) {
            if table::load(mmu, leaf, slot).is_writable() {
                table::clear_bits(mmu, leaf, slot, Pte::W);
            }
        }
        table::set_bits(mmu, parent, slot, Pte::W);
        true
    }

    /// Unlinks a shared leaf table from `parent`, whose lock is held, and gives up this pmap's use of it: the
    /// others may take it for their own only when no CPU reaches it through us any more.
    pub(super) fn leave(
        &self,
        mmu: &Mmu<P>,
        parent: Frame,
        slot: usize,
        leaf: Frame,
        at: VirtAddr,
    ) {
        let mut owed = Debt::new();
        table::swap(mmu, parent, slot, Pte::ABSENT);
        owed.range(table::serves::<P::Format>(1, at));
        owed.pay(mmu, self);
        release(mmu, leaf);
        mmu.phys.counters.count(Event::TableUnshared);
    }
}

/// Gives up one pmap's use of a leaf table that it does not reach any more, on no CPU. The last one removes
/// every entry and retires the table.
pub(super) fn release<P: Platform>(mmu: &Mmu<P>, frame: Frame) {
    let page = mmu.phys.page(frame);
    let lock = page.lock.lock(&class::TABLE);
    if page.refs.fetch_sub(1, Ordering::AcqRel) != 1 {
        return;
    }
    page.set_stray();
    let mut left = page.live.get();
    for slot in 0..entries::<P::Format>(1) {
        if left == 0 {
            break;
        }
        let old = table::load(mmu, frame, slot);
        if old.is_present() {
            table::store(mmu, frame, slot, Pte::ABSENT);
            forget(mmu, frame, slot, old);
            left -= 1;
        }
    }
    page.live.set(0);
    drop(lock);
    mmu.phys.retire(frame);
    mmu.phys.counters.count(Event::TableFreed);
}
