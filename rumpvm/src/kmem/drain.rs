//! What an arena gives back: caches, and spans that nobody uses.
//!
//! Flow:  quantum cache -> free segment -> span -> source.
//! Locks: the arena's; the source is called without it, but for [`Arena::let_go`].

use rumpvm_platform::Platform;

use super::Arena;
use super::segments::Segments;
use crate::phys::Phys;
use crate::sync::PerCpu;

impl<P: Platform> Arena<'_, P> {
    /// Gives back what is free: this CPU's caches, and imported spans without a segment in use.
    pub fn drain(&self, phys: &Phys<P>) {
        for cache in &self.caches {
            loop {
                let unloaded = cache.mine().unload();
                let Some(start) = unloaded else { break };
                self.put(phys, start);
            }
        }
        self.release_free(phys);
    }

    /// As [`Arena::drain`], with the caches of all CPUs; whether nothing is allocated any more. What was added goes
    /// with the arena, which leaves behind what is still allocated.
    pub fn close(&mut self, phys: &Phys<P>) -> bool {
        self.end(phys)
    }

    /// As [`Arena::drain`], from wherever somebody wants a frame, maybe this arena for its tags: so nothing is waited for.
    /// Its source is one of frames.
    pub(super) fn let_go(&self, phys: &Phys<P>) {
        if let Some(mut segments) = self.segments.try_lock() {
            self.release_all(phys, &mut segments);
        }
    }

    /// As [`Arena::drain`], under its lock throughout; its source is one of frames, whose locks come later.
    pub(super) fn drain_to_frames(&self, phys: &Phys<P>) {
        self.release_all(phys, &mut self.segments.lock());
    }

    #[inline(never)]
    fn release_all(&self, phys: &Phys<P>, segments: &mut Segments) {
        for cache in &self.caches {
            // This CPU's: interrupts are masked as long as the lock is held.
            let mine = cache.of(P::cpu_id());
            while let Some(start) = mine.unload() {
                let Some(tag) = segments.lookup(phys, start) else { self.unknown(phys, start) };
                // No span goes here, but below.
                segments.put(phys, tag, u64::MAX);
            }
        }
        if let Some(source) = self.source {
            while let Some(span) = segments.take_free_span(phys) {
                source.release(phys, span);
            }
        }
        segments.trim(phys);
    }

    /// As [`Arena::close`], by the only one who uses it.
    pub(super) fn end(&self, phys: &Phys<P>) -> bool {
        for magazine in self.caches.iter().flat_map(PerCpu::iter) {
            while let Some(start) = magazine.unload() {
                self.put(phys, start);
            }
        }
        self.release_free(phys);
        let mut segments = self.segments.lock();
        let is_empty = segments.allocated() == 0;
        if is_empty {
            *segments = {
                segments.forget(phys);
                Segments::new(self.spec.quantum, self.spec.fit)
            };
        }
        is_empty
    }

    fn release_free(&self, phys: &Phys<P>) {
        loop {
            let mut segments = self.segments.lock();
            let span = segments.take_free_span(phys);
            if span.is_none() {
                segments.trim(phys);
            }
            drop(segments);
            let (Some(span), Some(source)) = (span, self.source) else { break };
            source.release(phys, span);
        }
    }
}
