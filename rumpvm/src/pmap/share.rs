//! Fork: both sides go on with the same leaf tables, read-only from above (D4).
//!
//! Zhao, Gong and Fonseca, "On-demand-fork" (EuroSys 2021). A gibibyte is 512 leaf tables, so forking it
//! touches about a thousand words. The first store below a table ends its sharing for whoever stores.

use rumpvm_arch::{Format, Prot, Pte, VirtAddr, VirtRange, span, user_entries};
use rumpvm_platform::Platform;

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
}
