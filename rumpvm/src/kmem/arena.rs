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
use core::ptr;

use rumpvm_platform::Platform;

use super::segments::Segments;
use super::source::Source;
use super::tag::{ALLOCATED, FREED, Kind, Span};
use crate::NoMemory;
use crate::phys::Phys;
use crate::sync::{PerCpu, Spin, class, try_push};
use crate::zone::{DEBUG, Magazine, tell};

/// Most sizes that are cached: one quantum, two, ...
pub const MAX_CACHES: usize = 16;
/// Rounds of a magazine.
const ROUNDS: usize = 16;
/// Quanta that a magazine may hold, so that larger multiples have fewer rounds.
const QUANTA: u32 = 64;
/// Tags that one request may need: a span and its free segment, and what is left on both sides of what is allocated.
const TAGS: u64 = 4;

/// Which free segment is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fit {
    /// The first one of a list where all are large enough: in constant time, and good enough nearly always.
    Instant,
    /// The smallest that is large enough of the first list that has one.
    Best,
}

/// What an arena is like.
#[derive(Clone, Copy, Debug)]
pub struct ArenaSpec {
    /// What reports call it.
    pub name: &'static str,
    /// What everything is a multiple of; a power of two.
    pub quantum: u64,
    /// Which free segment is taken.
    pub fit: Fit,
    /// Sizes of which CPUs keep some at hand: 1 to so many quanta, at most [`MAX_CACHES`].
    pub cached: usize,
    /// A span that is wholly free goes back to the source only if so much stays free without it.
    pub spare: u64,
}

/// What an arena has, as of some moment, in units of what it is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ArenaUsage {
    /// Of all spans.
    pub total: u64,
    /// Free, caches aside.
    pub free: u64,
    /// In quantum caches.
    pub cached: u64,
    /// Segments in use, those in caches included.
    pub allocated: u64,
    /// Frames of tags and tables.
    pub frames: u64,
}

type Caches<P> = PerCpu<Magazine<P, ROUNDS>, P>;

/// An arena.
pub struct Arena<'s, P: Platform> {
    spec: ArenaSpec,
    source: Option<&'s dyn Source<P>>,
    caches: Vec<Caches<P>>,
    segments: Spin<Segments, P>,
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

    /// Frees the spans that it can do without, from wherever somebody wants a frame, maybe this arena for its tags: so nothing
    /// is waited for. Its source takes no locks but those of frames.
    pub(super) fn let_go(&self, phys: &Phys<P>) {
        let (Some(mut segments), Some(source)) = (self.segments.try_lock(), self.source) else {
            return;
        };
        for cache in &self.caches {
            loop {
                let unloaded = cache.mine().unload();
                let Some(start) = unloaded else { break };
                let Some(tag) = segments.lookup(phys, start) else { self.unknown(phys, start) };
                // No span goes here, but below.
                segments.put(phys, tag, u64::MAX);
            }
        }
        while let Some(span) = segments.take_free_span(phys) {
            source.release(phys, span);
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
    fn put(&self, phys: &Phys<P>, start: u64) {
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

    #[cold]
    fn unknown(&self, phys: &Phys<P>, start: u64) -> ! {
        let name = self.spec.name;
        tell(
            phys,
            format_args!("arena {name}: {start:#x} is freed, and nothing is allocated there"),
        )
    }

    /// `start` is in use from now on, as it was not.
    fn note_allocated(&self, phys: &Phys<P>, start: u64, now: &'static Location<'static>) {
        let segments = self.segments.lock();
        let Some(tag) = segments.lookup(phys, start) else { self.unknown(phys, start) };
        tag.set_kind(phys, Kind::Used);
        tag.set(phys, ALLOCATED, ptr::from_ref(now).expose_provenance() as u64);
    }

    /// `start` is not in use any more, as it was, with that size.
    fn note_freed(&self, phys: &Phys<P>, start: u64, size: u64, now: &'static Location<'static>) {
        let name = self.spec.name;
        let segments = self.segments.lock();
        let Some(tag) = segments.lookup(phys, start) else {
            drop(segments);
            tell(
                phys,
                format_args!(
                    "arena {name}: {start:#x} is freed at {now}, and nothing is allocated there"
                ),
            )
        };
        let allocated = place(tag.get(phys, ALLOCATED));
        let freed = place(tag.get(phys, FREED));
        let (was, had) = (tag.kind(phys), tag.span(phys).size);
        tag.set_kind(phys, Kind::Cached);
        tag.set(phys, FREED, ptr::from_ref(now).expose_provenance() as u64);
        drop(segments);
        if was != Kind::Used {
            tell(
                phys,
                format_args!(
                    "arena {name}: {start:#x} is freed twice: allocated at {allocated}, freed at {freed}, and again at {now}"
                ),
            );
        }
        if had != size {
            tell(
                phys,
                format_args!(
                    "arena {name}: {start:#x} is freed with size {size:#x}, not {had:#x}: allocated at {allocated}, freed at {now}"
                ),
            );
        }
    }
}

/// Rounds of a magazine of segments of so many quanta.
#[inline]
fn limit(quanta: u64) -> u32 {
    (QUANTA / quanta.max(1) as u32).clamp(2, ROUNDS as u32)
}

/// The place that a tag names.
fn place(word: u64) -> &'static Location<'static> {
    let from = ptr::with_exposed_provenance::<Location<'static>>(word as usize);
    // SAFETY: nobody but `note_allocated` and `note_freed` stores to that word of a tag, which is not memory that users
    // are given, and what they store is a reference that lives for good; otherwise it is zero.
    unsafe { from.as_ref() }.unwrap_or_else(|| Location::caller())
}
