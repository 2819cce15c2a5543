//! What a machine is made of, whoever schedules it: memory, and how an access finds its bytes there.
//!
//! Flow:  access -> TLB -> else page walk -> rights -> is the frame still alive -> place of the bytes.
//! Locks: none; the caller has the TLB.
//! Owns:  the arena, and the obituaries of its frames.

use std::io;
use std::ptr::NonNull;

use rumpvm_arch::{Access, Format, PhysAddr, VirtAddr};

use crate::arena::Arena;
use crate::freed::{Freed, Generation};
use crate::kernel_half::KernelHalf;
use crate::tlb::{Tlb, Translation};
use crate::walk::{Refused, Walker};

/// Memory and its history.
pub(crate) struct Hardware {
    pub(crate) arena: Arena,
    pub(crate) freed: Freed,
    pub(crate) kernel: KernelHalf,
}

/// Where the bytes of one access within a page are.
pub(crate) struct Place {
    pub(crate) bytes: NonNull<u8>,
    /// The frame's position in the arena.
    pub(crate) position: usize,
    pub(crate) generation: Generation,
}

impl Hardware {
    pub(crate) fn new(memory: u64) -> io::Result<Self> {
        let arena = Arena::new(memory)?;
        let kernel = KernelHalf::default();
        Ok(Self { freed: Freed::new(arena.frames())?, arena, kernel })
    }

    /// As if the power had just come on. Nobody else uses it.
    pub(crate) fn renew(&self) {
        self.arena.soil();
        self.freed.forget();
        self.kernel.forget();
    }

    pub(crate) fn walker(&self) -> Walker<'_> {
        Walker { arena: &self.arena, freed: &self.freed }
    }

    /// Finds the bytes at `at` for a CPU with this TLB.
    #[inline]
    pub(crate) fn translate<F: Format>(
        &self,
        tlb: &mut Tlb,
        at: VirtAddr,
        access: Access,
    ) -> Result<Place, Refused> {
        tlb.clock += 1;
        let translation = match tlb.page(at) {
            Some(known) if !known.rights.allow::<F>(access, tlb.mode) => {
                return Err(Refused::Denied);
            }
            // The first store through a clean translation has to set D in the entry: walk again.
            Some(known) if known.dirty || access != Access::Write => known,
            _ => self.walker().fill::<F>(tlb, at, access)?,
        };
        let frame = translation.frame;
        let position = self.arena.position(frame).expect("the walk found it in memory");
        let generation = translation.generation;
        if self.freed.generation(position) != generation {
            return Err(Refused::Broken(self.stale::<F>(tlb, at, translation)));
        }
        let bytes = self.arena.pointer(PhysAddr(frame.start().0 + at.page_offset()));
        Ok(Place { bytes, position, generation })
    }

    /// The story of a translation that outlived its frame.
    #[cold]
    fn stale<F: Format>(&self, tlb: &Tlb, at: VirtAddr, old: Translation) -> String {
        let now = self.walker().generation(old.frame).expect("it was in memory");
        format!(
            "stale translation to {:?}, a frame that has been freed since. Filled at access {} of this \
             CPU, now at {}; then {}, now {}. {}",
            old.frame,
            old.filled,
            tlb.clock,
            old.generation,
            now,
            self.table_now::<F>(tlb, at)
        )
    }

    /// What the page table says about `at` at the moment.
    pub(crate) fn table_now<F: Format>(&self, tlb: &Tlb, at: VirtAddr) -> String {
        let top = match tlb.root() {
            Some(root) => Some((root.frame, F::LEVELS)),
            None => self.kernel.below::<F>(at),
        };
        match top.and_then(|top| self.walker().peek_below::<F>(top, 1, at)) {
            Some(seen) => format!("The page table now says {:?}", seen.entry),
            None => "There is no page table for it any more".to_owned(),
        }
    }
}

/// How a story names an access.
pub(crate) fn verb(access: Access) -> &'static str {
    match access {
        Access::Read => "loads from",
        Access::Write => "stores to",
        Access::Execute => "fetches from",
    }
}
