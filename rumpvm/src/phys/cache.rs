//! Magazines and the depot: why most allocations touch nothing shared.
//!
//! Bonwick and Adams, "Magazines and Vmem" (2001), with one magazine of twice the batch for each CPU
//! instead of two: it refills and spills half of itself, so a CPU that alternates around a boundary does
//! not go to the depot each time. In the depot a batch is a chain through the records.

use rumpvm_arch::Frame;
use rumpvm_platform::Platform;

use super::page::PageKind;
use super::{NO_FRAME, Phys};
use crate::sync::{Atomic, Ordering};

/// Most frames that go between a magazine and the depot at a time: 128 KiB, so that the depot's lock
/// costs each frame a thirtieth of itself.
pub(super) const MAX_BATCH: u32 = 32;
/// Batches that the depot keeps before it gives frames back to the buddy, for each CPU.
const DEPOT_BATCHES: u32 = 8;
pub(super) const MAGAZINE: usize = 2 * MAX_BATCH as usize;

/// What one CPU has at hand. Written by that CPU alone, with interrupts masked.
pub(super) struct Cache<P> {
    len: Atomic<u32, P>,
    zeroed_len: Atomic<u32, P>,
    frames: [Atomic<u32, P>; MAGAZINE],
    zeroed: [Atomic<u32, P>; MAX_BATCH as usize],
}

impl<P: Platform> Cache<P> {
    pub(super) fn new() -> Self {
        Self {
            len: Atomic::new(0),
            zeroed_len: Atomic::new(0),
            frames: core::array::from_fn(|_| Atomic::new(NO_FRAME)),
            zeroed: core::array::from_fn(|_| Atomic::new(NO_FRAME)),
        }
    }

    #[inline]
    pub(super) fn pop(&self) -> Option<Frame> {
        let len = self.len.get().checked_sub(1)?;
        self.len.set(len);
        Some(Frame(self.frames[len as usize].get()))
    }

    /// Whether there was room, with `limit` frames as the capacity.
    #[inline]
    pub(super) fn push(&self, frame: Frame, limit: u32) -> bool {
        let len = self.len.get();
        if len >= limit {
            return false;
        }
        self.frames[len as usize].set(frame.0);
        self.len.set(len + 1);
        true
    }

    #[inline]
    pub(super) fn pop_zeroed(&self) -> Option<Frame> {
        let len = self.zeroed_len.get().checked_sub(1)?;
        self.zeroed_len.set(len);
        Some(Frame(self.zeroed[len as usize].get()))
    }

    pub(super) fn push_zeroed(&self, frame: Frame, limit: u32) -> bool {
        let len = self.zeroed_len.get();
        if len >= limit {
            return false;
        }
        self.zeroed[len as usize].set(frame.0);
        self.zeroed_len.set(len + 1);
        true
    }

    pub(super) fn zeroed_is_full(&self, limit: u32) -> bool {
        self.zeroed_len.get() >= limit
    }

    /// Frames in it. Any CPU may ask; stale at once unless the owner does.
    pub(super) fn frames(&self) -> u64 {
        let cached = self.len.load(Ordering::Relaxed);
        u64::from(cached) + u64::from(self.zeroed_len.load(Ordering::Relaxed))
    }

    /// Every frame in the magazine and in the zeroed stock.
    pub(super) fn for_each(&self, mut f: impl FnMut(Frame, PageKind)) {
        for frame in &self.frames[..self.len.get() as usize] {
            f(Frame(frame.get()), PageKind::Cached);
        }
        for frame in &self.zeroed[..self.zeroed_len.get() as usize] {
            f(Frame(frame.get()), PageKind::Zeroed);
        }
    }
}

/// Chains of frames: `next` links the frames of a chain, `prev` of its first frame the next chain.
pub(super) struct Depot {
    first_chain: u32,
    chains: u32,
    frames: u64,
}

impl Depot {
    pub(super) fn new() -> Self {
        Self { first_chain: NO_FRAME, chains: 0, frames: 0 }
    }

    pub(super) fn frames(&self) -> u64 {
        self.frames
    }
}

impl<P: Platform> Phys<P> {
    /// Fills half of an empty magazine from the depot, else from the buddy; returns one frame of it.
    #[cold]
    pub(super) fn refill(&self, cache: &Cache<P>) -> Option<Frame> {
        if !self.pop_chain(cache) {
            let batch = self.batch.get();
            let mut buddy = self.buddy.lock();
            for _ in 0..batch {
                let Some(frame) = buddy.alloc(&self.records, 0) else { break };
                self.page(frame).set_kind(PageKind::Cached);
                cache.push(frame, batch);
            }
            let left = buddy.free_frames();
            drop(buddy);
            self.note_peak(left);
        }
        cache.pop()
    }

    /// The depot is empty, and the buddy has `left` frames: more are in use than ever before, if ever.
    fn note_peak(&self, left: u64) {
        let cached: u64 = self.caches.iter().map(Cache::frames).sum();
        let used = self.records.frames().saturating_sub(left + cached);
        if used > self.peak.load(Ordering::Relaxed) {
            self.peak.store(used, Ordering::Relaxed);
        }
    }

    fn pop_chain(&self, cache: &Cache<P>) -> bool {
        let mut depot = self.depot.lock();
        if depot.first_chain == NO_FRAME {
            return false;
        }
        let mut at = depot.first_chain;
        depot.first_chain = self.page(Frame(at)).prev.get();
        depot.chains -= 1;
        while at != NO_FRAME {
            let next = self.page(Frame(at)).next.get();
            cache.push(Frame(at), MAGAZINE as u32);
            depot.frames -= 1;
            at = next;
        }
        true
    }

    /// Moves half of a full magazine to the depot; what is too much there goes to the buddy.
    #[cold]
    pub(super) fn spill(&self, cache: &Cache<P>) {
        self.push_chain(cache, self.batch.get());
        let limit = DEPOT_BATCHES * self.platform.cpu_count() as u32;
        if self.depot.lock().chains > limit {
            self.empty_chain();
        }
    }

    fn push_chain(&self, cache: &Cache<P>, count: u32) {
        let mut depot = self.depot.lock();
        let mut chain = NO_FRAME;
        for _ in 0..count {
            let Some(frame) = cache.pop() else { break };
            self.page(frame).next.set(chain);
            chain = frame.0;
            depot.frames += 1;
        }
        if chain != NO_FRAME {
            self.page(Frame(chain)).prev.set(depot.first_chain);
            depot.first_chain = chain;
            depot.chains += 1;
        }
    }

    /// Gives one chain of the depot to the buddy. Whether there was one.
    fn empty_chain(&self) -> bool {
        let mut depot = self.depot.lock();
        let mut at = depot.first_chain;
        if at == NO_FRAME {
            return false;
        }
        depot.first_chain = self.page(Frame(at)).prev.get();
        depot.chains -= 1;
        let mut buddy = self.buddy.lock();
        while at != NO_FRAME {
            let next = self.page(Frame(at)).next.get();
            buddy.free(&self.records, Frame(at), 0);
            depot.frames -= 1;
            at = next;
        }
        true
    }

    /// Gives all that this CPU has at hand, and all of the depot, to the buddy, so that other CPUs and
    /// larger blocks can have it.
    pub fn drain(&self) {
        let cache = self.caches.mine();
        while let Some(frame) = cache.pop_zeroed() {
            self.page(frame).set_kind(PageKind::Cached);
            if !cache.push(frame, MAGAZINE as u32) {
                self.push_chain(&cache, MAX_BATCH);
                cache.push(frame, MAGAZINE as u32);
            }
        }
        while cache.frames() > 0 {
            self.push_chain(&cache, MAX_BATCH);
        }
        drop(cache);
        while self.empty_chain() {}
    }

    /// Calls `f` with the first frame and the order of every free block. For checks at a quiet moment.
    pub fn for_each_block(&self, mut f: impl FnMut(Frame, u32)) {
        self.buddy.lock().for_each(&self.records, |first, order| f(Frame(first), order));
    }

    /// Calls `f` with every frame that is free, and where it is. For checks at a quiet moment.
    pub fn for_each_free(&self, mut f: impl FnMut(Frame, PageKind)) {
        self.buddy.lock().for_each(&self.records, |first, order| {
            f(Frame(first), PageKind::Free);
            for at in 1..1 << order {
                f(Frame(first + at), PageKind::FreeTail);
            }
        });
        for cache in self.caches.iter() {
            cache.for_each(&mut f);
        }
        let depot = self.depot.lock();
        let mut chain = depot.first_chain;
        while chain != NO_FRAME {
            let mut at = chain;
            while at != NO_FRAME {
                f(Frame(at), PageKind::Cached);
                at = self.page(Frame(at)).next.get();
            }
            chain = self.page(Frame(chain)).prev.get();
        }
    }
}
