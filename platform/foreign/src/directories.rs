//! PAE's root, as a CPU has it: four registers, filled when CR3 is loaded, and not looked up in memory again (Intel SDM
//! vol. 3A, 4.4.1). `invlpg` leaves them alone.
//!
//! So a CPU that translates through a root learns of an entry that comes or goes only if it loads the root again. What a
//! CPU has is noted when it loads; it loads again when that is no longer what the root says: where translations are to be
//! dropped, and behind a fault that was made good.
//!
//! Flow:  `tlb_activate` -> [`note`]; `tlb_invalidate`, fault -> [`changed`] -> `tlb_activate` with the same root.
//! Locks: none; interrupts are masked, as the CPU is its own.
//!
//! R1. What is noted is read before the root is loaded, so the CPU has that or something newer.

use core::sync::atomic::{AtomicU32, Ordering};

use rumpvm_arch::{Format, Frame};
use rumpvm_platform::{CpuId, MAX_CPUS, Platform};

use crate::format::Tables;
use crate::home::Foreign;

/// Entries of the root for user memory. Directories lie below 4 GiB, so the lower half of an entry says it all.
const ENTRIES: usize = 3;
/// The halves of these entries.
type Root = [AtomicU32; 2 * ENTRIES];

/// No frame has this number.
const NONE: u32 = u32::MAX;

/// What one CPU has.
struct Loaded {
    /// Frame of the root, or [`NONE`] of ours.
    root: AtomicU32,
    entries: [AtomicU32; ENTRIES],
}

static LOADED: [Loaded; MAX_CPUS] = [const { Loaded::new() }; MAX_CPUS];

/// `cpu` is about to load `root`.
#[inline]
pub(crate) fn note(cpu: CpuId, root: Option<Frame>) {
    if Tables::ROOT_HAS_RIGHTS {
        return;
    }
    let loaded = &LOADED[cpu.0 as usize];
    loaded.root.store(root.map_or(NONE, |root| root.0), Ordering::Relaxed);
    if let Some(root) = root {
        loaded.fill(table(root));
    }
}

/// The root that `cpu` translates through, if that says something else than when it was loaded.
#[inline]
pub(crate) fn changed(cpu: CpuId) -> Option<Frame> {
    if Tables::ROOT_HAS_RIGHTS {
        return None;
    }
    let loaded = &LOADED[cpu.0 as usize];
    let root = Frame(loaded.root.load(Ordering::Relaxed));
    (root.0 != NONE && loaded.differs(table(root))).then_some(root)
}

fn table(root: Frame) -> &'static Root {
    // SAFETY: a root of ours, which stays one as long as a CPU translates through it; all use it as words.
    unsafe { Foreign.phys_to_virt(root.start()).cast().as_ref() }
}

impl Loaded {
    const fn new() -> Self {
        Self { root: AtomicU32::new(NONE), entries: [const { AtomicU32::new(0) }; ENTRIES] }
    }

    fn fill(&self, root: &Root) {
        for (noted, entry) in self.entries.iter().zip(root.iter().step_by(2)) {
            noted.store(entry.load(Ordering::Acquire), Ordering::Relaxed);
        }
    }

    fn differs(&self, root: &Root) -> bool {
        let same = |(noted, entry): (&AtomicU32, &AtomicU32)| {
            noted.load(Ordering::Relaxed) == entry.load(Ordering::Acquire)
        };
        !self.entries.iter().zip(root.iter().step_by(2)).all(same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_differs_from_what_a_cpu_has_exactly_when_a_directory_came_or_went_since() {
        let root: Root = [const { AtomicU32::new(0) }; 2 * ENTRIES];
        let loaded = Loaded::new();
        for at in 0..ENTRIES {
            root[2 * at].store(0x5001, Ordering::Relaxed);
            assert!(loaded.differs(&root));
            loaded.fill(&root);
            assert!(!loaded.differs(&root));
            // Another one in its place, between two looks.
            root[2 * at].store(0x6001, Ordering::Relaxed);
            assert!(loaded.differs(&root));
            loaded.fill(&root);
        }
        root[2].store(0, Ordering::Relaxed);
        assert!(loaded.differs(&root));
    }
}
