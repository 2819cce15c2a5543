//! Arenas: ranges of anything that is handed out in multiples of a quantum, such as addresses.
//!
//! Flow:  source -> span -> segment -> (quantum cache) -> user; and back.
//! Locks: one spin lock for the segments; magazines of the quantum caches are the CPU's own. Neither is held when the
//!        source is asked.
//! Sleep: never, unless the source does.
//! Owns:  its spans, and the frames of its tags.
//!
//! A4. A span is imported with no lock held: what was seen before is looked at again, and a span that nobody needs any
//!     more is free memory of the arena like any other.
//! A5. What a quantum cache has is allocated as far as the segments know.

use alloc::vec::Vec;
use core::panic::Location;

use rumpvm_platform::Platform;

use super::segments::Segments;
use super::source::Source;
use super::spec::{ArenaSpec, ArenaUsage, MAX_CACHES};
use super::tag::{Kind, Span};
use crate::NoMemory;
use crate::phys::Phys;
use crate::sync::{PerCpu, Spin, class, try_push};
use crate::zone::{DEBUG, Magazine};

/// Rounds of a magazine.
const ROUNDS: usize = 16;
/// Quanta that a magazine may hold, so that larger multiples have fewer rounds.
const QUANTA: u32 = 64;
/// Tags that one request may need: a span and its free segment, and what is left on both sides of what is allocated.
const TAGS: u64 = 4;

type Caches<P> = PerCpu<Magazine<P, ROUNDS>, P>;

/// An arena.
pub struct Arena<'s, P: Platform> {
    pub(super) spec: ArenaSpec,
    pub(super) source: Option<&'s dyn Source<P>>,
    pub(super) caches: Vec<Caches<P>>,
    pub(super) segments: Spin<Segments, P>,
}

impl<'s, P: Platform> Arena<'s, P> {
    /// An arena without spans, which come from `source` when they are needed. Its caches come from the heap; nothing
    /// else will. A quantum that is no power of two counts as the next one.
    pub fn try_new(
        phys: &Phys<P>,
        spec: ArenaSpec,
        source: Option<&'s dyn Source<P>>,
    ) -> Result<Self, NoMemory> {
        let quantum = spec.quantum.checked_next_power_of_two().ok_or(NoMemory)?;
        let mut caches = Vec::new();
        for _ in 0..spec.cached.min(MAX_CACHES) {
            let cache = Caches::try_new(phys.platform.cpu_count(), |_| Magazine::new())?;
            try_push::<_, P>(&mut caches, cache)?;
        }
        let segments = Spin::new(&class::ARENA, Segments::new(quantum, spec.fit));
        Ok(Self { spec: ArenaSpec { quantum, ..spec }, source, caches, segments })
    }

    /// Adds a span for good; both ends are rounded inwards.
    pub fn add(&self, phys: &Phys<P>, span: Span) -> Result<(), NoMemory> {
        let quantum = self.spec.quantum;
        let start = span.start.checked_next_multiple_of(quantum).ok_or(NoMemory)?;
        let end = span.start.checked_add(span.size).ok_or(NoMemory)? / quantum * quantum;
        let mut segments = self.segments.lock();
        segments.reserve(phys, TAGS)?;
        if let Some(size) = end.checked_sub(start).filter(|size| *size > 0) {
            segments.add(phys, Span { start, size }, Kind::Added);
        }
        Ok(())
    }

    /// Allocates `size`, rounded up to the quantum, at any multiple of it.
    #[inline]
    #[track_caller]
    pub fn alloc(&self, phys: &Phys<P>, size: u64) -> Result<u64, NoMemory> {
        self.alloc_aligned(phys, size, self.spec.quantum)
    }

    /// Allocates `size`, rounded up to the quantum, at a multiple of `align`, a power of two.
    #[inline]
    #[track_caller]
    pub fn alloc_aligned(&self, phys: &Phys<P>, size: u64, align: u64) -> Result<u64, NoMemory> {
        let size = self.rounded(size).ok_or(NoMemory)?;
        let cache = self.cache(size).filter(|_| align <= self.spec.quantum);
        let popped = cache.and_then(|cache| cache.mine().pop());
        let start = match popped {
            Some(start) => start,
            None => self.take(phys, size, align, cache)?,
        };
        if DEBUG {
            self.note_allocated(phys, start, Location::caller());
        }
        Ok(start)
    }

    /// Frees what was allocated with that `size`.
    #[inline]
    #[track_caller]
    pub fn free(&self, phys: &Phys<P>, start: u64, size: u64) {
        let size = self.rounded(size).unwrap_or(0);
        if DEBUG {
            self.note_freed(phys, start, size, Location::caller());
        }
        let Some(cache) = self.cache(size) else { return self.put(phys, start) };
        let limit = limit(size / self.spec.quantum);
        if !cache.mine().push(start, limit) {
            self.spill(phys, cache, start, limit / 2);
        }
    }

    /// What was allocated at `start`, if anything was. Takes the arena's lock.
    pub fn size_of(&self, phys: &Phys<P>, start: u64) -> Option<u64> {
        let segments = self.segments.lock();
        let tag = segments.lookup(phys, start)?;
        Some(tag.span(phys).size)
    }

    /// What is allocated where `at` is, if anything is. Takes the arena's lock, and looks at one segment after the other.
    pub fn containing(&self, phys: &Phys<P>, at: u64) -> Option<Span> {
        let mut found = None;
        self.for_each_allocated(phys, |span| {
            if span.start <= at && at - span.start < span.size {
                found = Some(span);
            }
        });
        found
    }

    /// Some span of it.
    pub(super) fn first_span(&self, phys: &Phys<P>) -> Option<Span> {
        let mut first = None;
        self.segments.lock().for_each(phys, |span, kind| {
            if matches!(kind, Kind::Added | Kind::Imported) && first.is_none() {
                first = Some(span);
            }
        });
        first
    }

    /// Changes the size of what is allocated at `start` in its place; whether there was room for that.
    pub fn resize(&self, phys: &Phys<P>, start: u64, size: u64) -> bool {
        let Some(size) = self.rounded(size) else { return false };
        let mut segments = self.segments.lock();
        if segments.reserve(phys, 1).is_err() {
            return false;
        }
        segments.lookup(phys, start).is_some_and(|tag| segments.resize(phys, tag, size))
    }

    /// What it has. Takes its lock.
    pub fn usage(&self) -> ArenaUsage {
        let sizes = self.caches.iter().enumerate();
        let cached = sizes.map(|(at, cache)| {
            let rounds: u64 = cache.iter().map(|one| u64::from(one.len())).sum();
            rounds * (at as u64 + 1) * self.spec.quantum
        });
        let cached = cached.sum();
        let segments = self.segments.lock();
        ArenaUsage {
            total: segments.total(),
            free: segments.free(),
            cached,
            allocated: segments.allocated(),
            frames: segments.frames(),
        }
    }

    /// Which invariant does not hold, if any. At a quiet moment.
    pub fn check(&self, phys: &Phys<P>) -> Result<(), &'static str> {
        self.segments.lock().check(phys)
    }

    /// Calls `with` for each segment in use, those in caches included. Takes the arena's lock.
    pub fn for_each_allocated(&self, phys: &Phys<P>, mut with: impl FnMut(Span)) {
        self.segments.lock().for_each(phys, |span, kind| {
            if matches!(kind, Kind::Used | Kind::Cached) {
                with(span);
            }
        });
    }

    /// `size` as a multiple of the quantum; none if it is none or too much.
    #[inline]
    pub(super) fn rounded(&self, size: u64) -> Option<u64> {
        let quantum = self.spec.quantum;
        let size = size.checked_add(quantum - 1)? & !(quantum - 1);
        (size > 0).then_some(size)
    }

    #[inline]
    fn cache(&self, size: u64) -> Option<&Caches<P>> {
        let quanta = size >> self.spec.quantum.trailing_zeros();
        self.caches.get((quanta as usize).wrapping_sub(1))
    }

    /// Takes a segment, and some more for the cache if they are at hand.
    #[cold]
    #[inline(never)]
    #[track_caller]
    fn take(
        &self,
        phys: &Phys<P>,
        size: u64,
        align: u64,
        cache: Option<&Caches<P>>,
    ) -> Result<u64, NoMemory> {
        if let Some(start) = self.take_here(phys, size, align, cache, None)? {
            return Ok(start);
        }
        let span = self.source.ok_or(NoMemory)?.import(phys, size, align)?;
        match self.take_here(phys, size, align, cache, Some(span)) {
            Ok(start) => start.ok_or(NoMemory),
            Err(error) => {
                if let Some(source) = self.source {
                    source.release(phys, span);
                }
                Err(error)
            }
        }
    }

    /// Adds `span` and takes a segment of that size, if there is one.
    #[track_caller]
    fn take_here(
        &self,
        phys: &Phys<P>,
        size: u64,
        align: u64,
        cache: Option<&Caches<P>>,
        span: Option<Span>,
    ) -> Result<Option<u64>, NoMemory> {
        let mut segments = self.segments.lock();
        segments.reserve(phys, TAGS)?;
        if let Some(span) = span {
            segments.add(phys, span, Kind::Imported);
        }
        let Some(tag) = segments.take(phys, size, align) else { return Ok(None) };
        let start = tag.span(phys).start;
        let Some(cache) = cache else { return Ok(Some(start)) };
        let (mine, limit) = (cache.mine(), limit(size / self.spec.quantum));
        for _ in 1..limit / 2 {
            if mine.len() >= limit / 2 || segments.reserve(phys, TAGS).is_err() {
                break;
            }
            let Some(tag) = segments.take(phys, size, align) else { break };
            tag.set_kind(phys, Kind::Cached);
            mine.push(tag.span(phys).start, limit);
        }
        Ok(Some(start))
    }

    /// Puts `start` in this CPU's cache, which is full, and half of that back.
    #[cold]
    #[inline(never)]
    fn spill(&self, phys: &Phys<P>, cache: &Caches<P>, start: u64, half: u32) {
        for _ in 0..half {
            let unloaded = cache.mine().unload();
            let Some(start) = unloaded else { break };
            self.put(phys, start);
        }
        if !cache.mine().push(start, ROUNDS as u32) {
            self.put(phys, start);
        }
    }

    /// Frees a segment, and gives back a span.
    pub(super) fn put(&self, phys: &Phys<P>, start: u64) {
        let mut segments = self.segments.lock();
        let Some(tag) = segments.lookup(phys, start) else {
            drop(segments);
            self.unknown(phys, start)
        };
        let span = segments.put(phys, tag, self.spec.spare);
        drop(segments);
        if let (Some(span), Some(source)) = (span, self.source) {
            source.release(phys, span);
        }
    }
}

/// Rounds of a magazine of segments of so many quanta.
#[inline]
fn limit(quanta: u64) -> u32 {
    (QUANTA / quanta.max(1) as u32).clamp(2, ROUNDS as u32)
}
