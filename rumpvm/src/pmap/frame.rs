//! One frame and all its mappings: what is done before a page is taken away, written out or given to somebody else.
//!
//! Locks: a table's, then the frame's reverse map. Who has the reverse map's first only tries those of its tables.

use rumpvm_arch::{Frame, Prot, Pte};
use rumpvm_platform::Platform;

use super::leaf::forget;
use super::table::{self, Entries};
use super::{Debt, Mmu, is_tracked, keep_dirty, rmap};
use crate::sync::{Pin, class};

impl<P: Platform> Mmu<P> {
    /// Removes every mapping of `frame`, wherever it is. Owes a flush on every CPU, because a shared table
    /// does not say whose it is.
    pub fn revoke(&self, _pin: &Pin<'_, P>, frame: Frame, debt: &mut Debt<P>) {
        while let Some(place) = rmap::first(&self.phys, frame) {
            let page = self.phys.page(place.table());
            let _lock = page.lock.lock(&class::TABLE);
            let old = table::load(self, place.table(), place.slot());
            // Entry and reverse map change together under this lock: if it does not fit, look again.
            if old.is_present() && old.frame() == frame && !page.is_stray() {
                debt.revokes(self);
                table::swap(self, place.table(), place.slot(), Pte::ABSENT);
                page.live.set(page.live.get() - 1);
                forget(self, place.table(), place.slot(), old);
                debt.everywhere(place.address::<P>(page));
            }
        }
    }

    /// Clears the dirty bit of every mapping of `frame` and moves it to the page record. After the debt is
    /// paid, a store to the page sets a dirty bit again.
    pub fn clean(&self, pin: &Pin<'_, P>, frame: Frame, debt: &mut Debt<P>) {
        self.change_mappings(pin, frame, (Pte::D, 0), debt);
    }

    /// Clears bits, then sets others, in every entry that maps `frame` and differs. What was noted in bits that are cleared
    /// goes to the page record.
    pub(super) fn change_mappings(
        &self,
        _pin: &Pin<'_, P>,
        frame: Frame,
        (clear, set): (u64, u64),
        debt: &mut Debt<P>,
    ) {
        // The reverse map's lock comes after the tables'; here we have it first and only try.
        let mut taken = None;
        while !rmap::try_each(&self.phys, frame, |place| {
            let page = self.phys.page(place.table());
            let Some(_lock) = page.lock.try_lock(&class::TABLE) else {
                taken = Some(page);
                return false;
            };
            let old = table::load(self, place.table(), place.slot());
            let differs = old.0 & clear | !old.0 & set != 0;
            if old.is_present() && old.frame() == frame && differs {
                let entries = Entries::of(&self.phys, place.table());
                let old = entries.clear_bits(place.slot(), clear);
                if set != 0 {
                    entries.set_bits(place.slot(), set);
                }
                keep_dirty(self.phys.page(frame), Pte(old.0 & clear));
                debt.everywhere(place.address::<P>(page));
            }
            true
        }) {
            if let Some(page) = taken.take() {
                page.lock.wait_until_free();
            }
        }
    }

    /// Number of entries that map `frame`.
    pub fn mappings(&self, frame: Frame) -> u64 {
        rmap::count(&self.phys, frame)
    }

    /// Whether the entry at `slot` of `table` is in the reverse map of `frame`. For checks.
    pub fn is_mapped_at(&self, frame: Frame, table: Frame, slot: usize) -> bool {
        rmap::contains(&self.phys, frame, rmap::Place::new(table, slot))
    }

    /// Whether `frame` has a reverse map at all.
    pub fn is_tracked(&self, frame: Frame) -> bool {
        is_tracked(&self.phys, frame)
    }

    /// Leaves no more than `prot`, which is not empty, of the rights of every mapping of `frame`. Owes a flush everywhere.
    pub fn restrict_frame(&self, pin: &Pin<'_, P>, frame: Frame, prot: Prot, debt: &mut Debt<P>) {
        let wanted = Pte::page::<P::Format>(Frame(0), prot);
        self.change_mappings(pin, frame, (!wanted.0 & Pte::W, wanted.0 & Pte::NX), debt);
    }

    /// Clears the accessed bit of every mapping of `frame`. After the debt is paid, an access sets one again.
    pub fn clear_accessed(&self, pin: &Pin<'_, P>, frame: Frame, debt: &mut Debt<P>) {
        self.change_mappings(pin, frame, (Pte::A, 0), debt);
    }

    /// All that CPUs noted in the entries that map `frame` ([`Pte::A`], [`Pte::D`]), at a moment when each was either there or
    /// had left what it knew in the record. Locks its reverse map; waits for who changes one of the entries.
    pub fn noted(&self, frame: Frame) -> u64 {
        loop {
            let mut noted = 0;
            let is_whole = rmap::try_each(&self.phys, frame, |place| {
                let entry = Entries::of(&self.phys, place.table()).load(place.slot());
                noted |= entry.0 & (Pte::A | Pte::D);
                entry.is_present() && entry.frame() == frame
            });
            if is_whole {
                return noted;
            }
            P::relax(self.phys.page(frame).rmap.address());
        }
    }
}
