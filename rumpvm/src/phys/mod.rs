//! Physical memory: which frame is whose, and where the next one comes from.
//!
//! Flow:  alloc -> this CPU's magazine -> depot -> buddy; free goes the same way back.
//! Locks: `depot`, then `buddy`, both spin; the magazines are the CPU's own.
//! Sleep: never. When there is no frame, hoards are asked for theirs (`hoards`); then the caller gets [`NoMemory`].
//! Owns:  every frame given by `add_memory`, and one [`Page`] record for each.
//!
//! P1. A frame is in exactly one place, and its record's [`PageKind`] says which.
//! P2. A frame in the buddy, a magazine or the depot is mapped nowhere and named by nobody.
//! P3. Frames of the zeroed stock hold zeros.
//! P4. A retired frame becomes free two epochs later, when no lock-free reader can still look at it.

mod add;
mod buddy;
mod cache;
mod contents;
// A `static` can hold no lock of loom's.
#[cfg(all(feature = "boot-heap", not(loom)))]
mod heap;
mod hoards;
mod host;
mod limbo;
mod page;
mod records;
mod run;

use core::panic::Location;

use rumpvm_arch::Frame;
use rumpvm_platform::{Platform, Scarce};

pub use add::AddMemoryError;
#[cfg(all(feature = "boot-heap", not(loom)))]
pub use heap::BootHeap;
pub(crate) use hoards::{Hoard, Link};
pub use host::{Contents, GiveBackError};
pub use page::{Busy, Page, PageKind};
pub use run::Run;

use crate::NoMemory;
use crate::stats::{Counters, Event, Statistics};
use crate::sync::{Atomic, Epoch, Ordering, PerCpu, Spin, class};
use buddy::Buddy;
use cache::{Cache, Depot, MAGAZINE};
use limbo::Limbo;
use records::Records;

/// "No frame" in links and lists; frame numbers stay below it.
pub(crate) const NO_FRAME: u32 = u32::MAX;

/// A frame that nobody but the holder of this value knows. Give it to an owner or free it.
#[must_use = "a fresh frame is lost unless it is given to an owner or freed"]
#[derive(Debug)]
pub struct Fresh(Frame);

impl Fresh {
    /// Which frame.
    #[inline]
    pub fn frame(&self) -> Frame {
        self.0
    }

    /// Gives it to an owner of the given kind; `page` is its record.
    #[inline]
    pub(crate) fn given<P: Platform>(self, page: &Page<P>, kind: PageKind) -> Frame {
        page.set_kind(kind);
        self.0
    }
}

/// The physical memory of one machine, with the platform, the clock and the counters that go with it.
pub struct Phys<P: Platform> {
    /// The machine.
    pub platform: P,
    /// When may readers no longer look?
    pub epoch: Epoch<P>,
    /// What happened.
    pub counters: Counters<P>,
    records: Records<P>,
    buddy: Spin<Buddy, P>,
    depot: Spin<Depot, P>,
    caches: PerCpu<Cache<P>, P>,
    limbo: PerCpu<Limbo<P>, P>,
    /// Frames that a magazine takes from the depot, or gives to it, at a time.
    batch: Atomic<u32, P>,
    /// The frame of zeros that read faults share, or [`NO_FRAME`] before memory was added.
    zero_page: Atomic<u32, P>,
    /// Largest number of frames in use, as seen when a magazine was filled.
    peak: Atomic<u64, P>,
    /// Serializes `add_memory`.
    adding: Spin<(), P>,
    /// The first of those who keep frames at hand.
    hoards: Spin<hoards::Next<P>, P>,
}

impl<P: Platform> Phys<P> {
    /// Physical memory of which there is none yet.
    pub fn try_new(platform: P) -> Result<Self, NoMemory> {
        let cpus = platform.cpu_count();
        Ok(Self {
            platform,
            epoch: Epoch::try_new(cpus)?,
            counters: Counters::try_new(cpus)?,
            records: Records::new(),
            buddy: Spin::new(&class::BUDDY, Buddy::new()),
            depot: Spin::new(&class::DEPOT, Depot::new()),
            caches: PerCpu::try_new(cpus, |_| Cache::new())?,
            limbo: PerCpu::try_new(cpus, |_| Limbo::new())?,
            batch: Atomic::new(1),
            zero_page: Atomic::new(NO_FRAME),
            peak: Atomic::new(0),
            adding: Spin::new(&class::ADDING, ()),
            hoards: Spin::new(&class::HOARDS, None),
        })
    }

    /// The record of `frame`, which must be one that was added.
    #[inline]
    pub fn page(&self, frame: Frame) -> &Page<P> {
        match self.records.get(frame) {
            Some(page) => page,
            None => self.broken(format_args!("{frame:?} was never added")),
        }
    }

    /// The record of `frame`, if it was added.
    #[inline]
    pub(crate) fn known(&self, frame: Frame) -> Option<&Page<P>> {
        self.records.get(frame)
    }

    /// Whether `frame` has a record.
    pub fn has(&self, frame: Frame) -> bool {
        self.known(frame).is_some()
    }

    /// A frame with unknown contents.
    #[inline]
    #[track_caller]
    pub fn alloc(&self) -> Result<Fresh, NoMemory> {
        if P::fails(Scarce::Frame, Location::caller()) {
            return Err(NoMemory);
        }
        self.pop()
    }

    #[inline]
    fn pop(&self) -> Result<Fresh, NoMemory> {
        let popped = self.caches.mine().pop();
        let frame = popped.or_else(|| self.pop_after_all()).ok_or(NoMemory)?;
        Ok(self.fresh(frame))
    }

    /// From the depot or the buddy, or from hoards if there is none.
    #[cold]
    #[inline(never)]
    fn pop_after_all(&self) -> Option<Frame> {
        let at_hand = || self.pop_at_hand();
        at_hand().or_else(|| self.ask_hoards(&at_hand))
    }

    /// A frame, if there is one without asking hoards.
    fn pop_at_hand(&self) -> Option<Frame> {
        let cache = self.caches.mine();
        cache.pop().or_else(|| self.refill(&cache)).or_else(|| cache.pop_zeroed())
    }

    #[inline]
    fn fresh(&self, frame: Frame) -> Fresh {
        self.page(frame).set_kind(PageKind::Fresh);
        Fresh(frame)
    }

    /// A frame full of zeros.
    #[inline]
    #[track_caller]
    pub fn alloc_zeroed(&self) -> Result<Fresh, NoMemory> {
        if P::fails(Scarce::Frame, Location::caller()) {
            return Err(NoMemory);
        }
        if let Some(frame) = self.caches.mine().pop_zeroed() {
            self.page(frame).set_kind(PageKind::Fresh);
            return Ok(Fresh(frame));
        }
        let fresh = self.pop()?;
        self.zero(&fresh);
        self.counters.count(Event::Zeroed);
        Ok(fresh)
    }

    /// Gives `fresh` to an owner of the given kind.
    #[inline]
    pub fn give(&self, fresh: Fresh, kind: PageKind) -> Frame {
        let page = self.page(fresh.0);
        fresh.given(page, kind)
    }

    /// Takes `frame` from its owner, which must have let go of it everywhere: no mapping, no slot.
    #[inline]
    pub fn take(&self, frame: Frame) -> Fresh {
        let page = self.page(frame);
        if !page.is_unused() {
            self.broken(format_args!("{frame:?} is freed while in use: {page:?}"));
        }
        page.set_kind(PageKind::Fresh);
        Fresh(frame)
    }

    /// Frees a frame. In debug builds its contents are overwritten, so that a dangling use shows.
    #[inline]
    pub fn free(&self, fresh: Fresh) {
        let frame = fresh.0;
        if cfg!(debug_assertions) {
            self.junk(&fresh);
        }
        self.platform.frame_freed(frame);
        let page = self.page(frame);
        page.reset(PageKind::Cached);
        let cache = self.caches.mine();
        if !cache.push(frame, self.batch.get() * 2) {
            self.spill(&cache);
            // A magazine may be fuller than it should, but then it has just become emptier.
            cache.push(frame, MAGAZINE as u32);
        }
    }

    /// The shared frame of zeros.
    #[inline]
    pub fn zero_page(&self) -> Frame {
        Frame(self.zero_page.get())
    }

    /// Zeroes one frame for later, if this CPU's stock is not full. Whether there was work.
    pub fn zero_one(&self) -> bool {
        if self.caches.mine().zeroed_is_full(self.batch.get()) {
            return false;
        }
        if P::fails(Scarce::Frame, Location::caller()) {
            return false;
        }
        let Some(frame) = self.pop_at_hand() else { return false };
        let fresh = self.fresh(frame);
        self.zero(&fresh);
        let page = self.page(fresh.0);
        page.set_kind(PageKind::Zeroed);
        let cache = self.caches.mine();
        if cache.push_zeroed(fresh.0, self.batch.get()) {
            self.counters.count(Event::ZeroedIdle);
            return true;
        }
        page.set_kind(PageKind::Fresh);
        drop(cache);
        self.free(fresh);
        false
    }

    /// Adds what is in use now to `counted`.
    pub fn usage(&self, counted: Statistics) -> Statistics {
        Statistics {
            frames_total: self.records.frames(),
            frames_free: self.free_frames(),
            frames_peak: self.peak.load(Ordering::Relaxed).max(self.used_frames()),
            frames_records: self.records.record_frames(),
            ..counted
        }
    }

    /// Frames that could be handed out now.
    pub fn free_frames(&self) -> u64 {
        let cached: u64 = self.caches.iter().map(Cache::frames).sum();
        let depot = self.depot.lock().frames();
        depot + cached + self.buddy.lock().free_frames()
    }

    /// Frames that were added, in use or not.
    pub fn total_frames(&self) -> u64 {
        self.records.frames()
    }

    fn used_frames(&self) -> u64 {
        self.records.frames().saturating_sub(self.free_frames())
    }

    /// Stops the machine: our own invariant broke.
    #[cold]
    pub fn broken(&self, what: core::fmt::Arguments<'_>) -> ! {
        self.platform.panic(&alloc::format!("rumpvm: invariant broken: {what}"))
    }
}
