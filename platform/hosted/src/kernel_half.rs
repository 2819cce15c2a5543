//! The kernel's half of every space, as far as a host's tables lead to tables of the component.
//!
//! A pretend machine has no kernel that needs tables: the component runs beside it. So what a host would store in its own
//! tables is kept here as it is, and a CPU that translates an address of the kernel's begins with it; below, it walks
//! tables in memory, as for user code.
//!
//! Flow:  `link_kernel` -> links; access of the kernel's -> link -> the CPU's TLB of that half -> walk.
//! Locks: the list's, for a look.
//! Owns:  the links.

use rumpvm_arch::{Format, Frame, Pte, VirtAddr, span};

use crate::Hosted;
use crate::hardware::Hardware;
use crate::tlb::{Mode, Rights, Table, Tlb};

/// An entry of a host's table.
#[derive(Clone, Copy)]
struct Link {
    /// First address that it serves.
    at: VirtAddr,
    /// Level of the table that it is in.
    level: usize,
    entry: Pte,
}

#[derive(Default)]
pub(crate) struct KernelHalf {
    links: spin::Mutex<Vec<Link>>,
}

impl KernelHalf {
    pub(crate) fn forget(&self) {
        self.links.lock().clear();
    }

    fn find<F: Format>(&self, at: VirtAddr) -> Option<Link> {
        let serves = |link: &&Link| link.at <= at && at.0 - link.at.0 < span::<F>(link.level);
        self.links.lock().iter().find(serves).copied()
    }

    /// The table that a walk for `at` begins with, and its level.
    pub(crate) fn below<F: Format>(&self, at: VirtAddr) -> Option<(Frame, usize)> {
        let link = self.find::<F>(at)?;
        Some((link.entry.frame(), link.level - 1))
    }
}

impl Hardware {
    /// Has `tlb` know the table that a walk for `at` begins with.
    pub(crate) fn prepare_kernel<F: Format>(&self, tlb: &mut Tlb, at: VirtAddr) {
        tlb.mode = Mode::Kernel;
        let Some(link) = self.kernel.find::<F>(at) else { return };
        let frame = link.entry.frame();
        let generation = self.walker().generation(frame).expect("a table is in memory");
        let rights = Rights::of::<F>(link.entry);
        tlb.remember_table::<F>(link.level - 1, at, Table { frame, rights, generation });
    }
}

impl<F: Format> Hosted<F> {
    /// Stores `entry` where the tables of every space have it at `level` for the kernel's address `at`.
    pub fn link_kernel(&self, at: VirtAddr, level: usize, entry: Pte) {
        assert!(level > 1 && entry.is_present(), "a link leads to a table, {entry:?} does not");
        self.machine().hardware.kernel.links.lock().push(Link { at, level, entry });
    }
}
