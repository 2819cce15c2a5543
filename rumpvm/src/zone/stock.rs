//! What one zone has, and how it goes between magazines, depot and slabs.
//!
//! Flow:  frames -> slab -> (constructed) -> depot or magazine; and back.
//! Locks: the zone's spin lock for depot and slabs; the magazines are the CPU's own, with interrupts masked. Neither is
//!        held when frames are asked for, but for the depot's blocks.
//! Sleep: never.
//! Owns:  its slabs' frames.

use core::ptr::{self, NonNull};

use rumpvm_arch::{PAGE_SIZE, PhysAddr};
use rumpvm_platform::{CpuId, Platform};

use super::depot::{Batch, Depot, MAX_BATCH};
use super::magazine::Magazine;
use super::records::{DEBUG, Records};
use super::slab::{Plan, Slab, Slabs};
use super::spec::Spec;
use crate::NoMemory;
use crate::phys::{Link, Phys};
use crate::sync::spin::SpinGuard;
use crate::sync::{Atomic, Ordering, PerCpu, Spin, class};

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
pub(super) struct Core {
    pub(super) slabs: Slabs,
    pub(super) depot: Depot,
    /// Since the batch grew.
    visits: u32,
    pub(super) failed: u64,
}

/// All that a zone has.
pub(super) struct Stock<P: Platform> {
    pub(super) magazines: PerCpu<Magazine<P, MAGAZINE>, P>,
    /// Changed under the lock, looked at without.
    pub(super) batch: Atomic<u32, P>,
    pub(super) spec: Spec,
    pub(super) records: Records,
    pub(super) plan: Plan,
    cpus: u32,
    pub(super) link: Link<P>,
    pub(super) core: Spin<Core, P>,
}

/// The pointer that an item's address in a magazine was made of.
#[inline]
pub(super) fn pointer(item: u64) -> NonNull<u8> {
    let item = ptr::with_exposed_provenance_mut(item as usize);
    NonNull::new(item).unwrap_or(NonNull::dangling())
}

impl<P: Platform> Stock<P> {
    /// Nothing yet, of items that lie `stride` bytes apart and have their slab's link at `link`.
    pub(super) fn try_new(
        phys: &Phys<P>,
        spec: Spec,
        records: Records,
        (stride, link): (u32, u32),
        label: u16,
    ) -> Result<Self, NoMemory> {
        let cpus = phys.platform.cpu_count();
        let magazines = PerCpu::try_new(cpus, |_| Magazine::new())?;
        // No two zones that live have their magazines in one place.
        let owner = ptr::from_ref(magazines.of(CpuId(0))).addr() as u64;
        let plan = Plan::new(stride, link, label, owner);
        let core = Core { slabs: Slabs::new(plan), depot: Depot::new(owner), visits: 0, failed: 0 };
        let stock = Self {
            magazines,
            batch: Atomic::new(1),
            spec,
            records,
            plan,
            cpus: cpus as u32,
            link: Link::new(),
            core: Spin::new(&class::ZONE, core),
        };
        stock.batch.store(FIRST_BATCH.min(stock.most(phys)), Ordering::Relaxed);
        Ok(stock)
    }

    /// Gives back what is free: this CPU's magazine, the depot, empty slabs.
    pub(super) fn drain(&self, phys: &Phys<P>) {
        loop {
            let batch = self.unload(MAX_BATCH as u32);
            if batch.items().is_empty() {
                break;
            }
            self.give_back(phys, &batch, 0);
        }
        let mut batch = Batch::new();
        while self.core.lock().depot.pop(phys, &mut batch) {
            self.give_back(phys, &batch, 0);
        }
        let mut core = self.core.lock();
        self.begin_again(phys, &mut core);
        drop(core);
        self.trim(phys, 0);
    }

    /// Puts what the magazines of all CPUs have back in its slabs. Nobody else uses the zone.
    pub(super) fn empty_magazines(&self, phys: &Phys<P>) {
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
    }

    /// The depot has nothing: it needs no blocks, and batches are small again.
    pub(super) fn begin_again(&self, phys: &Phys<P>, core: &mut Core) {
        core.depot.trim(phys);
        core.visits = 0;
        self.batch.store(FIRST_BATCH.min(self.most(phys)), Ordering::Relaxed);
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
    #[inline(never)]
    fn most(&self, phys: &Phys<P>) -> u32 {
        let bytes = phys.total_frames() * PAGE_SIZE / SHARE / u64::from(self.cpus);
        (bytes / u64::from(self.plan.stride)).clamp(1, MAX_BATCH as u64) as u32
    }

    /// An item, with more behind it in the magazine.
    #[track_caller]
    pub(super) fn refill(&self, phys: &Phys<P>) -> Result<u64, NoMemory> {
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
        let mut batch = Batch::new();
        if core.depot.pop(phys, &mut batch) {
            drop(core);
            batch.items().iter().for_each(|item| _ = mine.push(*item, MAGAZINE as u32));
            return mine.pop();
        }
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
    pub(super) fn spill(&self, phys: &Phys<P>, item: u64) {
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

    pub(super) fn at(&self, phys: &Phys<P>, item: u64) -> PhysAddr {
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
