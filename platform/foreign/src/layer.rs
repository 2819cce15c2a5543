//! Which layers this library has. The machine is made of the uppermost, and what is above is not in the library at all.
//!
//! | feature | machine | for |
//! |---|---|---|
//! | none | `Mmu` | frames |
//! | `window` | `Mmu` | frames and kernel mappings |
//! | `kmem` | `Mmu` | the same, an allocator and zones |
//! | `pmap` | `Pmaps` | page tables under the host's own map |
//! | `spaces` | `Vm` | everything but processes |
//! | `processes` | `Vm` | everything |

use rumpvm::pmap::Mmu;
use rumpvm::{Broken, NoMemory};

use crate::home::Foreign;

#[cfg(feature = "spaces")]
pub(crate) type Machine = rumpvm::Vm<Foreign>;
#[cfg(all(feature = "pmap", not(feature = "spaces")))]
pub(crate) type Machine = rumpvm::classic::Pmaps<Foreign>;
#[cfg(not(any(feature = "pmap", feature = "spaces")))]
pub(crate) type Machine = Mmu<Foreign>;

pub(crate) fn make() -> Result<Machine, NoMemory> {
    #[cfg(feature = "spaces")]
    return Machine::new(Foreign);
    #[cfg(not(feature = "spaces"))]
    return Machine::try_new(Foreign);
}

/// Its memory and page tables.
#[inline]
pub(crate) fn mmu(machine: &Machine) -> &Mmu<Foreign> {
    #[cfg(feature = "spaces")]
    return &machine.mmu;
    #[cfg(not(feature = "spaces"))]
    return machine;
}

/// Carries out what other CPUs asked of this one.
pub(crate) fn tlb_interrupt(machine: &Machine) {
    #[cfg(any(feature = "pmap", feature = "spaces"))]
    machine.tlb_interrupt();
    #[cfg(not(any(feature = "pmap", feature = "spaces")))]
    machine.tlb_interrupt(|| ());
}

/// Walks every invariant.
pub(crate) fn check(machine: &Machine) -> Result<(), Broken> {
    #[cfg(feature = "spaces")]
    return machine.check();
    #[cfg(all(feature = "pmap", not(feature = "spaces")))]
    return rumpvm::check::check_pmaps(machine);
    #[cfg(not(any(feature = "pmap", feature = "spaces")))]
    return rumpvm::check::check_frames(machine);
}
