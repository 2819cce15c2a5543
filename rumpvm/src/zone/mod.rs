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
//!
//! This file is what a zone is to its users; `stock` moves items between magazines, depot and slabs.

mod depot;
mod hoard;
mod item;
mod magazine;
mod records;
mod slab;
mod spec;
mod stock;
mod story;

use core::fmt;
use core::panic::Location;
use core::ptr::NonNull;

use rumpvm_arch::PAGE_SIZE;
use rumpvm_platform::Platform;

pub(crate) use magazine::Magazine;
pub(crate) use records::DEBUG;
pub(crate) use slab::{Plan, Slabs, place};
pub use spec::{Hook, InUse, Spec, SpecError, Usage};
pub(crate) use story::tell;

use crate::NoMemory;
use crate::phys::Phys;
use crate::sync::{Hold, Ordering};
use records::Records;
use slab::{MAX_STRIDE, Slab};
use stock::{Stock, pointer};

/// A zone.
pub struct Zone<P: Platform> {
    /// Held by the list of hoards too, as long as it has frames.
    stock: Hold<Stock<P>, P>,
}

impl<P: Platform> fmt::Debug for Zone<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zone").field("spec", self.spec()).finish_non_exhaustive()
    }
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
        let stock = Stock::try_new(phys, spec, records, (stride, link), label)?;
        Ok(Self { stock: Hold::try_new(stock)? })
    }

    /// What its items are.
    pub fn spec(&self) -> &Spec {
        &self.stock.spec
    }

    /// An item. Where there are no owner records and the zone has a constructor it is as its last user left it, or
    /// as constructed; else its contents are unknown.
    #[inline]
    #[track_caller]
    pub fn alloc(&self, phys: &Phys<P>) -> Result<NonNull<u8>, NoMemory> {
        self.alloc_part(phys, self.stock.spec.size)
    }

    /// An item of which only the first `size` bytes will be used.
    #[inline]
    #[track_caller]
    pub(crate) fn alloc_part(&self, phys: &Phys<P>, size: u32) -> Result<NonNull<u8>, NoMemory> {
        let popped = self.stock.magazines.mine().pop();
        let item = match popped {
            Some(item) => item,
            None => self.refill(phys)?,
        };
        let item = pointer(item);
        if DEBUG {
            let at = phys.platform.virt_to_phys(item);
            self.stock.records.hand_out(phys, at, size.into(), Location::caller());
            if let Some(construct) = self.stock.spec.construct {
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
        unsafe { self.free_part(phys, item, Some(self.stock.spec.size)) }
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
        if !self.stock.magazines.mine().push(item, 2 * self.stock.batch.load(Ordering::Relaxed)) {
            self.stock.spill(phys, item);
        }
    }

    /// Whether the slab of `place` is one of its own.
    pub(crate) fn owns(&self, place: &slab::Place) -> bool {
        place.owner == self.stock.plan.owner()
    }

    /// How much of an item that is out may be used.
    pub(crate) fn part(&self, phys: &Phys<P>, item: NonNull<u8>) -> u64 {
        match DEBUG {
            true => self.stock.records.size(phys, phys.platform.virt_to_phys(item)),
            false => self.stock.spec.size.into(),
        }
    }

    /// Changes how much of an item is used.
    #[track_caller]
    pub(crate) fn resize_part(&self, phys: &Phys<P>, item: NonNull<u8>, size: u32) {
        if DEBUG {
            let at = phys.platform.virt_to_phys(item);
            self.stock.records.resize(phys, at, size.into(), Location::caller());
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
        if ours.is_none_or(|place| !place.offset.is_multiple_of(self.stock.plan.stride.into())) {
            self.stock.records.not_ours(phys, item.as_ptr() as usize, now);
        }
        self.stock.records.take_back(phys, at, size.map(u64::from), now);
        if let Some(destroy) = self.stock.spec.destroy {
            destroy(item.cast());
        }
        self.stock.records.bury(phys, at);
    }

    /// Gives back what is free: this CPU's magazine, the depot, empty slabs. Items in other CPUs' magazines stay there
    /// until those come here or spill. From anywhere. Where there is no frame for somebody who wants one this is done without
    /// the host, as far as nothing has to be destroyed.
    pub fn drain(&self, phys: &Phys<P>) {
        self.stock.drain(phys);
    }

    /// Gives everything back, if no item is in use; else what is not in use, and the zone goes on. A zone that is
    /// dropped without this leaves its frames behind, and its records, until `phys` ends.
    pub fn close(&mut self, phys: &Phys<P>) -> Result<(), InUse> {
        // From here on nobody else uses it.
        phys.leave(&self.stock.link);
        self.stock.empty_magazines(phys);
        self.drain(phys);
        let items = self.stock.core.lock().slabs.out();
        if items == 0 {
            return Ok(());
        }
        phys.join(&self.stock);
        Err(InUse { items, allocated: self.leaked(phys) })
    }

    /// What it has. Takes its lock.
    pub fn usage(&self) -> Usage {
        let magazines = || self.stock.magazines.iter();
        let in_magazines: u64 = magazines().map(|one| u64::from(one.len())).sum();
        let core = self.stock.core.lock();
        let cached = in_magazines + core.depot.items();
        Usage {
            size: self.stock.spec.size,
            taken: magazines().map(Magazine::taken).sum(),
            out: core.slabs.out().saturating_sub(cached),
            cached,
            items: core.slabs.items(),
            frames: core.slabs.frames() + core.depot.frames(),
            failed: core.failed,
            batch: self.stock.batch.load(Ordering::Relaxed),
        }
    }

    /// Which invariant does not hold, if any. At a quiet moment.
    pub fn check(&self, phys: &Phys<P>) -> Result<(), &'static str> {
        let cached = self.usage().cached;
        let core = self.stock.core.lock();
        if core.slabs.out() < cached {
            return Err("Z1: an item is in two places");
        }
        core.depot.check(phys)?;
        core.slabs.check(phys)
    }

    /// An item, with more behind it in the magazine.
    #[cold]
    #[inline(never)]
    #[track_caller]
    fn refill(&self, phys: &Phys<P>) -> Result<u64, NoMemory> {
        let item = self.stock.refill(phys)?;
        phys.join(&self.stock);
        Ok(item)
    }

    /// Where some item that is out was allocated.
    fn leaked(&self, phys: &Phys<P>) -> Option<&'static Location<'static>> {
        let mut found = None;
        phys.for_each_frame(|frame| {
            let place = place(phys, frame.start());
            let ours =
                place.filter(|place| self.owns(place) && place.label == self.stock.plan.label());
            if DEBUG && found.is_none() && ours.is_some_and(|place| place.offset == 0) {
                let mut items = Slab::at(phys, frame).items(&self.stock.plan);
                found = items.find_map(|at| self.stock.records.allocated(phys, at));
            }
        });
        found
    }
}
