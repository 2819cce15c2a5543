//! Limbo: frames of nodes and tables that were unlinked while readers may still be looking at them.
//!
//! The same clock as for heap records (`sync::epoch`), but the list runs through the page records, so
//! retiring a frame cannot fail.

use rumpvm_arch::Frame;
use rumpvm_platform::Platform;

use super::{NO_FRAME, Phys};
use crate::sync::epoch::GENERATIONS;
use crate::sync::{Atomic, fence};

/// Frames retired on a CPU before it tries to move the epoch on: at most 256 KiB wait on each CPU, and
/// a scan of all CPUs is paid by 32 retirements.
const ADVANCE_EVERY: u64 = 32;

/// What one CPU has retired.
pub(super) struct Limbo<P> {
    heads: [Atomic<u32, P>; GENERATIONS],
    stamps: [Atomic<u64, P>; GENERATIONS],
    retired: Atomic<u64, P>,
}

impl<P: Platform> Limbo<P> {
    pub(super) fn new() -> Self {
        Self {
            heads: core::array::from_fn(|_| Atomic::new(NO_FRAME)),
            stamps: core::array::from_fn(|_| Atomic::new(0)),
            retired: Atomic::new(0),
        }
    }
}

impl<P: Platform> Phys<P> {
    /// Gives up `frame`, whose last link is gone; it is freed when no reader can look at it any more.
    pub fn retire(&self, frame: Frame) {
        let page = self.page(frame);
        page.set_limbo();
        let limbo = self.limbo.mine();
        // As in `Epoch::retire`: the unlinking first.
        fence::<P>();
        let now = self.epoch.now();
        let bag = (now % GENERATIONS as u64) as usize;
        let mut expired = NO_FRAME;
        if limbo.stamps[bag].get() != now {
            expired = limbo.heads[bag].get();
            limbo.heads[bag].set(NO_FRAME);
            limbo.stamps[bag].set(now);
        }
        page.next.set(limbo.heads[bag].get());
        limbo.heads[bag].set(frame.0);
        let retired = limbo.retired.get() + 1;
        limbo.retired.set(retired);
        drop(limbo);
        self.free_chain(expired);
        if retired.is_multiple_of(ADVANCE_EVERY) {
            self.epoch.advance();
            self.collect();
        }
    }

    /// Frees what this CPU retired long enough ago.
    pub fn collect(&self) {
        let now = self.epoch.now();
        for bag in 0..GENERATIONS {
            let limbo = self.limbo.mine();
            if limbo.stamps[bag].get() + 2 > now {
                continue;
            }
            let expired = limbo.heads[bag].get();
            limbo.heads[bag].set(NO_FRAME);
            drop(limbo);
            self.free_chain(expired);
        }
    }

    /// Calls `f` with every frame in limbo. For checks at a quiet moment.
    pub fn for_each_limbo(&self, mut f: impl FnMut(Frame)) {
        for limbo in self.limbo.iter() {
            for head in &limbo.heads {
                let mut at = head.get();
                while at != NO_FRAME {
                    f(Frame(at));
                    at = self.page(Frame(at)).next.get();
                }
            }
        }
    }

    fn free_chain(&self, mut at: u32) {
        while at != NO_FRAME {
            let page = self.page(Frame(at));
            let next = page.next.get();
            page.refs.set(0);
            self.free(self.take(Frame(at)));
            at = next;
        }
    }
}
