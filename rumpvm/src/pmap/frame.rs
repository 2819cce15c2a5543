//! One frame and all its mappings: what a kernel with its own map asks before it takes a page away.

use rumpvm_arch::{Frame, Prot, Pte};
use rumpvm_platform::Platform;

use super::table::Entries;
use super::{Debt, Mmu, rmap};
use crate::sync::Pin;

impl<P: Platform> Mmu<P> {
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
