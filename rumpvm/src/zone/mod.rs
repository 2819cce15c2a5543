//! Zones: items of one size, for kernels.
//!
//! After Bonwick and Adams, "Magazines and Vmem" (2001). A CPU takes items from a magazine of its own and gives them back
//! to it, and touches nothing shared. Magazines are filled and emptied half at a time: from and to the depot, which
//! keeps whole batches, else from and to slabs.
//!
//! Flow:  frames -> slab -> (constructed) -> depot or magazine -> user; and back.
//! Locks: one spin lock for depot and slabs; the magazines are the CPU's own, with interrupts masked.
//! Sleep: never: from anywhere, also from interrupts, and under any lock of the component's user.
//! Owns:  its slabs' frames.
//!
//! Z1. An item is in exactly one place: out, in one magazine, in one batch of the depot, or in its slab.
//! Z2. An item in a magazine or in the depot is constructed; one in its slab is not. (Where there are owner records an
//!     item is constructed when it is handed out, because a free one holds junk.)
//! Z3. A slab is made with no lock held. What was seen before is looked at again: another CPU may have taken what the slab
//!     was made for, and an interrupt may have filled the magazine.
//! Z4. Nothing here allocates from the heap but [`Zone::try_new`], so a heap can stand on zones.
//! Z5. See `records`.

mod depot;
mod magazine;
mod records;
mod slab;
mod spec;
mod story;

use core::fmt;
use core::panic::Location;
use core::ptr::{self, NonNull};

use rumpvm_arch::{PAGE_SIZE, PhysAddr};
use rumpvm_platform::{CpuId, Platform};

pub(crate) use magazine::Magazine;
pub(crate) use records::DEBUG;
pub(crate) use slab::{Plan, Slabs, place};
pub use spec::{Hook, InUse, Spec, SpecError, Usage};
pub(crate) use story::tell;

use crate::NoMemory;
use crate::phys::Phys;
use crate::sync::spin::SpinGuard;
use crate::sync::{Atomic, Ordering, PerCpu, Spin, class};
use depot::{Batch, Depot, MAX_BATCH};
use records::Records;
use slab::{MAX_STRIDE, Slab};

/// Items of a magazine.
const MAGAZINE: usize = 2 * MAX_BATCH;
/// The batch of a zone that has just been made, or has given back what it had.
const FIRST_BATCH: u32 = 4;
/// Batches that the depot keeps before items go back to their slabs, for each CPU.
const DEPOT_BATCHES: u32 = 4;
/// A batch doubles after so many visits to the depot. One that found the lock taken counts for several: then it is
/// not only the visitor who waits.
const VISITS: u32 = 16;
const VISITS_OF_ONE_WHO_WAITED: u32 = 8;
/// What all CPUs may have in magazines of one zone: this part of memory.
const SHARE: u64 = 1024;
/// Empty slabs that a zone keeps.
const SPARE_SLABS: u32 = 1;

/// What CPUs share.
struct Core {
    slabs: Slabs,
    depot: Depot,
    /// Since the batch grew.
    visits: u32,
    failed: u64,
}

/// A zone.
pub struct Zone<P: Platform> {
    magazines: PerCpu<Magazine<P, MAGAZINE>, P>,
    /// Changed under the lock, looked at without.
    batch: Atomic<u32, P>,
    /// The spec's.
    size: u32,
    spec: Spec,
    records: Records,
    plan: Plan,
    cpus: u32,
    core: Spin<Core, P>,
}

impl<P: Platform> fmt::Debug for Zone<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zone").field("spec", &self.spec).finish_non_exhaustive()
    }
}

/// The pointer that an item's address in a magazine was made of.
#[inline]
fn pointer(item: u64) -> NonNull<u8> {
    let item = ptr::with_exposed_provenance_mut(item as usize);
    NonNull::new(item).unwrap_or(NonNull::dangling())
}

impl<P: Platform> Zone<P> {
    /// A zone without slabs. Its record for each CPU comes from the heap; nothing else will.
    pub fn try_new(phys: &Phys<P>, spec: Spec) -> Result<Self, SpecError> {
        Self::try_labelled(phys, spec, u16::MAX)
    }

    /// As [`Zone::try_new`]; [`place`] finds `label` for its items.
    pub(crate) fn try_labelled(phys: &Phys<P>, spec: Spec, label: u16) -> Result<Self, SpecError> {
        if !spec.align.is_power_of_two() || u64::from(spec.align) > PAGE_SIZE {
            return Err(SpecError::Alignment);
        }
        if spec.size == 0 || spec.size > MAX_STRIDE / 2 {
            return Err(SpecError::Size);
        }
        let (records, bytes, link) = Records::new(spec.name, spec.size);
        let (bytes, link) = if DEBUG { (bytes, link) } else { (spec.size, 0) };
        let stride = bytes.next_multiple_of(spec.align.max(8));
        let cpus = phys.platform.cpu_count();
        let magazines = PerCpu::try_new(cpus, |_| Magazine::new())?;
        // No two zones that live have their magazines in one place.
        let owner = ptr::from_ref(magazines.of(CpuId(0))).addr() as u64;
        let plan = Plan::new(stride, link, label, owner);
        let core = Core { slabs: Slabs::new(plan), depot: Depot::new(owner), visits: 0, failed: 0 };
        let zone = Self {
            magazines,
            batch: Atomic::new(1),
            size: spec.size,
            spec,
            records,
            plan,
            cpus: cpus as u32,
            core: Spin::new(&class::ZONE, core),
        };
        zone.batch.store(FIRST_BATCH.min(zone.most(phys)), Ordering::Relaxed);
        Ok(zone)
    }

    /// What its items are.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// An item. Where there are no owner records and the zone has a constructor it is as its last user left it, or
    /// as constructed; else its contents are unknown.
    #[inline]
    #[track_caller]
    pub fn alloc(&self, phys: &Phys<P>) -> Result<NonNull<u8>, NoMemory> {
        self.alloc_part(phys, self.size)
    }

    /// An item of which only the first `size` bytes will be used.
    #[inline]
    #[track_caller]
    pub(crate) fn alloc_part(&self, phys: &Phys<P>, size: u32) -> Result<NonNull<u8>, NoMemory> {
        let popped = self.magazines.mine().pop();
        let item = match popped {
            Some(item) => item,
            None => self.refill(phys)?,
        };
        let item = pointer(item);
        if DEBUG {
            let at = phys.platform.virt_to_phys(item);
            self.records.hand_out(phys, at, size.into(), Location::caller());
            if let Some(construct) = self.spec.construct {
                construct(item.cast());
            }
        }
        Ok(item)
    }

    /// Frees an item.
    ///
    /// # Safety
    /// `item` came from [`Zone::alloc`] of this zone and is used no more.
    #[inline]
    #[track_caller]
    pub unsafe fn free(&self, phys: &Phys<P>, item: NonNull<u8>) {
        // SAFETY: by the caller's promise.
        unsafe { self.free_part(phys, item, Some(self.size)) }
    }

    /// Frees an item of which `size` bytes were used, if that is known.
    ///
    /// # Safety
    /// As [`Zone::free`].
    #[inline]
    #[track_caller]
    pub(crate) unsafe fn free_part(&self, phys: &Phys<P>, item: NonNull<u8>, size: Option<u32>) {
        if DEBUG {
            self.take_back(phys, item, size, Location::caller());
        }
        let item = item.as_ptr().expose_provenance() as u64;
        if !self.magazines.mine().push(item, 2 * self.batch.load(Ordering::Relaxed)) {
            self.spill(phys, item);
        }
    }

    /// Whether the slab of `place` is one of its own.
    pub(crate) fn owns(&self, place: &slab::Place) -> bool {
        place.owner == self.plan.owner()
    }

    /// How much of an item that is out may be used.
    pub(crate) fn part(&self, phys: &Phys<P>, item: NonNull<u8>) -> u64 {
        match DEBUG {
            true => self.records.size(phys, phys.platform.virt_to_phys(item)),
            false => self.size.into(),
        }
    }

    /// Changes how much of an item is used.
    #[track_caller]
    pub(crate) fn resize_part(&self, phys: &Phys<P>, item: NonNull<u8>, size: u32) {
        if DEBUG {
            let at = phys.platform.virt_to_phys(item);
            self.records.resize(phys, at, size.into(), Location::caller());
        }
    }

    fn take_back(
        &self,
        phys: &Phys<P>,
        item: NonNull<u8>,
        size: Option<u32>,
        now: &'static Location<'static>,
    ) {
        let at = phys.platform.virt_to_phys(item);
        let ours = place(phys, at).filter(|place| self.owns(place));
        if ours.is_none_or(|place| !place.offset.is_multiple_of(self.plan.stride.into())) {
            self.records.not_ours(phys, item.as_ptr() as usize, now);
        }
        self.records.take_back(phys, at, size.map(u64::from), now);
        if let Some(destroy) = self.spec.destroy {
            destroy(item.cast());
        }
        self.records.bury(phys, at);
    }

    /// Gives back what is free: this CPU's magazine, the depot, empty slabs. Items in other CPUs' magazines stay there
    /// until those come here or spill. From anywhere.
    pub fn drain(&self, phys: &Phys<P>) {
        loop {
            let batch = self.unload(MAX_BATCH as u32);
            if batch.items().is_empty() {
                break;
            }
            self.give_back(phys, &batch, 0);
        }
        loop {
            let popped = self.core.lock().depot.pop(phys);
            let Some(batch) = popped else { break };
            self.give_back(phys, &batch, 0);
        }
        let mut core = self.core.lock();
        core.depot.trim(phys);
        core.visits = 0;
        self.batch.store(FIRST_BATCH.min(self.most(phys)), Ordering::Relaxed);
        drop(core);
        self.trim(phys, 0);
    }

    /// Gives everything back, if no item is in use; else what is not in use, and the zone goes on. A zone that is
    /// dropped without this leaves its frames behind.
    pub fn close(&mut self, phys: &Phys<P>) -> Result<(), InUse> {
        for magazine in self.magazines.iter() {
            while magazine.len() > 0 {
                let mut batch = Batch::new();
                while batch.items().len() < MAX_BATCH {
                    let Some(item) = magazine.unload() else { break };
                    batch.push(item);
                }
                self.give_back(phys, &batch, 0);
            }
        }
        self.drain(phys);
        match self.core.lock().slabs.out() {
            0 => Ok(()),
            items => Err(InUse { items, allocated: self.leaked(phys) }),
        }
    }

    /// What it has. Takes its lock.
    pub fn usage(&self) -> Usage {
        let magazines = || self.magazines.iter();
        let in_magazines: u64 = magazines().map(|one| u64::from(one.len())).sum();
        let core = self.core.lock();
        let cached = in_magazines + core.depot.items();
        Usage {
            size: self.size,
            taken: magazines().map(Magazine::taken).sum(),
            out: core.slabs.out().saturating_sub(cached),
            cached,
            items: core.slabs.items(),
            frames: core.slabs.frames() + core.depot.frames(),
            failed: core.failed,
            batch: self.batch.load(Ordering::Relaxed),
        }
    }

    /// Which invariant does not hold, if any. At a quiet moment.
    pub fn check(&self, phys: &Phys<P>) -> Result<(), &'static str> {
        let cached = self.usage().cached;
        let core = self.core.lock();
        if core.slabs.out() < cached {
            return Err("Z1: an item is in two places");
        }
        core.depot.check(phys)?;
        core.slabs.check(phys)
    }

    /// Where some item that is out was allocated.
    fn leaked(&self, phys: &Phys<P>) -> Option<&'static Location<'static>> {
        let mut found = None;
        phys.for_each_frame(|frame| {
            let place = place(phys, frame.start());
            let ours = place.filter(|place| self.owns(place) && place.label == self.plan.label());
            if DEBUG && found.is_none() && ours.is_some_and(|place| place.offset == 0) {
                let mut items = Slab::at(phys, frame).items(&self.plan);
                found = items.find_map(|at| self.records.allocated(phys, at));
            }
        });
        found
    }

    /// Depot and slabs. Counts visits, and lets the batch grow.
    #[track_caller]
    fn visit(&self, phys: &Phys<P>) -> SpinGuard<'_, Core, P> {
        let at_once = self.core.try_lock();
        let visits = if at_once.is_some() { 1 } else { VISITS_OF_ONE_WHO_WAITED };
        let mut core = at_once.unwrap_or_else(|| self.core.lock());
        core.visits += visits;
        if core.visits >= VISITS {
            core.visits = 0;
            self.batch.store(
                (2 * self.batch.load(Ordering::Relaxed)).min(self.most(phys)),
                Ordering::Relaxed,
            );
        }
        core
    }

    /// The largest batch: so that magazines stay a small part of memory, and of the time with the lock held.
    fn most(&self, phys: &Phys<P>) -> u32 {
        let bytes = phys.total_frames() * PAGE_SIZE / SHARE / u64::from(self.cpus);
        (bytes / u64::from(self.plan.stride)).clamp(1, MAX_BATCH as u64) as u32
    }

    /// An item, with more behind it in the magazine.
    #[cold]
    #[inline(never)]
    #[track_caller]
    fn refill(&self, phys: &Phys<P>) -> Result<u64, NoMemory> {
        if let Some(item) = self.load(phys, None) {
            return Ok(item);
        }
        let made = if self.is_at_limit() { Err(NoMemory) } else { self.plan.make(phys) };
        let slab = made.inspect_err(|_| self.core.lock().failed += 1)?;
        if DEBUG {
            slab.items(&self.plan).for_each(|item| self.records.begin(phys, item));
        }
        self.load(phys, Some(slab)).ok_or(NoMemory)
    }

    fn is_at_limit(&self) -> bool {
        self.spec.limit.is_some_and(|limit| self.core.lock().slabs.items() >= limit)
    }

    /// Adds `slab`, fills this CPU's magazine, and takes an item from it.
    fn load(&self, phys: &Phys<P>, slab: Option<Slab>) -> Option<u64> {
        let mine = self.magazines.mine();
        let mut core = self.visit(phys);
        if let Some(slab) = slab {
            if self.spec.limit.is_some_and(|limit| core.slabs.items() >= limit) {
                // Somebody else was quicker, and what he added may be free.
                core.slabs.add(phys, slab);
                let own = core.slabs.take_empty(phys, 0);
                drop(core);
                drop(mine);
                own.into_iter().for_each(|slab| slab.free(phys));
                return self.load(phys, None);
            }
            core.slabs.add(phys, slab);
        }
        // An interrupt may have filled it since it was seen empty.
        if mine.len() > 0 {
            drop(core);
            return mine.pop();
        }
        if let Some(batch) = core.depot.pop(phys) {
            drop(core);
            batch.items().iter().for_each(|item| _ = mine.push(*item, MAGAZINE as u32));
            return mine.pop();
        }
        let mut batch = Batch::new();
        for _ in 0..self.batch.load(Ordering::Relaxed) {
            let Some(at) = core.slabs.take(phys) else { break };
            batch.push(phys.platform.phys_to_virt(at).as_ptr().expose_provenance() as u64);
        }
        drop(core);
        for item in batch.items() {
            if let Some(construct) = self.spec.construct.filter(|_| !DEBUG) {
                construct(pointer(*item).cast());
            }
            mine.push(*item, MAGAZINE as u32);
        }
        mine.pop()
    }

    /// Puts `item` in this CPU's magazine, which is full, and half of that elsewhere.
    #[cold]
    #[inline(never)]
    fn spill(&self, phys: &Phys<P>, item: u64) {
        let batch = self.unload(self.batch.load(Ordering::Relaxed));
        let has_room = self.magazines.mine().push(item, MAGAZINE as u32);
        self.give_back(phys, &batch, DEPOT_BATCHES * self.cpus);
        if !has_room {
            // Interrupts have filled it again.
            let mut one = Batch::new();
            one.push(item);
            self.give_back(phys, &one, DEPOT_BATCHES * self.cpus);
        }
        self.trim(phys, SPARE_SLABS);
    }

    /// Up to `count` items of this CPU's magazine.
    fn unload(&self, count: u32) -> Batch {
        let (mine, mut batch) = (self.magazines.mine(), Batch::new());
        for _ in 0..count.min(MAX_BATCH as u32) {
            let Some(item) = mine.unload() else { break };
            batch.push(item);
        }
        batch
    }

    /// Puts a batch in the depot, if that has less than `batches`; else the items in their slabs.
    fn give_back(&self, phys: &Phys<P>, batch: &Batch, batches: u32) {
        let mut core = self.visit(phys);
        if core.depot.batches() < batches && core.depot.push(phys, batch) {
            return;
        }
        if let Some(destroy) = self.spec.destroy.filter(|_| !DEBUG) {
            drop(core);
            batch.items().iter().for_each(|item| destroy(pointer(*item).cast()));
            core = self.core.lock();
        }
        for item in batch.items() {
            core.slabs.put(phys, self.at(phys, *item));
        }
    }

    fn at(&self, phys: &Phys<P>, item: u64) -> PhysAddr {
        phys.platform.virt_to_phys(pointer(item))
    }

    /// Frees empty slabs but for `keep`.
    fn trim(&self, phys: &Phys<P>, keep: u32) {
        loop {
            let empty = self.core.lock().slabs.take_empty(phys, keep);
            let Some(slab) = empty else { break };
            slab.free(phys);
        }
    }
}
