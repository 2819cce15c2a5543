//! What a zone lets go when somebody wants a frame and there is none (`phys::hoards`).
//!
//! Items that are to be destroyed first stay: their destructor is the host's, who may have any lock of his own at such a
//! moment, and no less so in an interrupt. They go when the host asks ([`Zone::drain`](super::Zone::drain)).

use rumpvm_platform::Platform;

use super::depot::Batch;
use super::stock::Stock;
use crate::phys::{Hoard, Link, Phys};

impl<P: Platform> Hoard<P> for Stock<P> {
    fn link(&self) -> &Link<P> {
        &self.link
    }

    fn let_go(&self, phys: &Phys<P>) {
        let Some(mut core) = self.core.try_lock() else { return };
        if self.spec.destroy.is_none() {
            // This CPU's: interrupts are masked as long as the lock is held.
            let mine = self.magazines.of(P::cpu_id());
            while let Some(item) = mine.unload() {
                core.slabs.put(phys, self.at(phys, item));
            }
            let mut batch = Batch::new();
            while core.depot.pop(phys, &mut batch) {
                for item in batch.items() {
                    core.slabs.put(phys, self.at(phys, *item));
                }
            }
            self.begin_again(phys, &mut core);
        }
        // Frames go to the caller's magazine or to the buddy, whose locks come later.
        while let Some(slab) = core.slabs.take_empty(phys, 0) {
            slab.free(phys);
        }
    }
}
