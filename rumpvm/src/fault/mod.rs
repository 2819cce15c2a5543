//! Page faults: turn one failed access into one valid mapping, or a reason.
//!
//! Flow:  area (no lock) -> rights -> private page (amap) or object -> page table -> entry.
//! Locks: amap leaf, object leaf, leaf table; in this order, each only if needed. None of the space (D7).
//! Sleep: with nothing held, for a page in transit or a frozen map; then everything is looked up again.
//! Owns:  nothing but a fresh page on its way to a slot.
//!
//! F1. A decision is carried out only with the leaf table locked and the map's generation unchanged.
//! F2. A page entered here is named by the slot that the locks held keep still.
//! F3. On error no lock is held, and no content has changed.
//! F4. A page that was replaced is given up after the flush for it is paid.

mod around;
mod copy;
mod private;
mod shared;

use rumpvm_arch::{Access, Format, Frame, Prot, VirtAddr};
use rumpvm_platform::Platform;

use crate::error::FaultError;
use crate::map::{Area, Map, Store};
use crate::object::{Object, PagerError};
use crate::pmap::Debt;
use crate::radix::{Slot, put_page};
use crate::stats::Event;
use crate::sync::{Hold, Pin};

/// How one attempt ended.
enum Step<P: Platform> {
    /// The access will pass now.
    Done(Event),
    /// It cannot be made good.
    Failed(FaultError),
    /// Something changed under it.
    Again,
    /// There is no memory, but there may be in caches.
    NoMemory,
    /// A page is in transit.
    Busy(Frame),
    /// A page has to be read first.
    PageIn(Hold<Object<P>, P>, u64),
    /// The object ends before this page, as far as is known here.
    BeyondEnd(Hold<Object<P>, P>, u64),
    /// The area is a stack that has to grow first.
    Grow,
}

/// What one attempt works with.
struct Attempt<'f, P: Platform> {
    store: &'f Store<P>,
    map: &'f Map<P>,
    pin: &'f Pin<'f, P>,
    area: &'f Area<P>,
    at: VirtAddr,
    access: Access,
    generation: u32,
}

/// Makes `access` to `at` possible in `map`, or says why not. The access may still fault again if the map
/// changes meanwhile.
///
/// Sleeps for pages in transit and for a map that is being changed. Errors as [`FaultError`] says.
pub(crate) fn fault<P: Platform>(
    store: &Store<P>,
    map: &Map<P>,
    at: VirtAddr,
    access: Access,
) -> Result<(), FaultError> {
    let counters = &store.mmu.phys.counters;
    let mut squeezed = false;
    loop {
        let generation = map.generation.begin();
        let mut debt = Debt::new();
        let mut replaced = None;
        let step = {
            let pin = store.mmu.phys.epoch.pin();
            attempt(store, map, &pin, (at, access, generation), &mut debt, &mut replaced)
        };
        debt.pay(&store.mmu, &map.pmap);
        if let Some(frame) = replaced {
            // F4.
            put_page(&store.mmu.phys, frame);
        }
        let failed = match step {
            Step::Done(event) => {
                counters.count(event);
                return Ok(());
            }
            Step::Failed(error) => error,
            Step::Again => {
                counters.count(Event::FaultRetry);
                continue;
            }
            Step::Busy(frame) => {
                store.mmu.phys.page(frame).sleep_while_busy();
                continue;
            }
            Step::NoMemory if squeezed => FaultError::NoMemory { at },
            Step::NoMemory => {
                squeezed = true;
                store.mmu.squeeze();
                continue;
            }
            Step::PageIn(object, index) => {
                counters.count(Event::FaultPager);
                match object.page_in(&store.mmu, index) {
                    Ok(()) => continue,
                    Err(PagerError::Io(error)) => FaultError::Pager { at, error },
                    Err(PagerError::NoMemory) if squeezed => FaultError::NoMemory { at },
                    Err(PagerError::NoMemory) => {
                        squeezed = true;
                        store.mmu.squeeze();
                        continue;
                    }
                }
            }
            // The object may have ended with the area that it was found in.
            Step::BeyondEnd(..) if !map.generation.still(generation) => continue,
            Step::BeyondEnd(object, index) if object.reaches(&store.mmu, index) => continue,
            Step::BeyondEnd(..) => FaultError::BeyondEnd { at },
            Step::Grow => match map.grow_stack(store, at) {
                Ok(()) => {
                    counters.count(Event::FaultStack);
                    continue;
                }
                Err(_) => FaultError::Unmapped { at },
            },
        };
        counters.count(Event::FaultFailed);
        return Err(failed);
    }
}

/// Brings the page of `at` in as populating does: ready to be stored to where stores make private copies,
/// else for reading.
pub(crate) fn touch<P: Platform>(
    store: &Store<P>,
    map: &Map<P>,
    at: VirtAddr,
) -> Result<(), FaultError> {
    let access = {
        let pin = store.mmu.phys.epoch.pin();
        match map.areas.get(&pin, at.0) {
            Some(area) if !area.is_shared() && area.prot.contains(Prot::WRITE) => Access::Write,
            Some(area) if area.prot == Prot::EXEC => Access::Execute,
            _ => Access::Read,
        }
    };
    fault(store, map, at, access)
}

/// Brings the page of `at` in for `access`, if its area gives that right by name; no stack grows for it.
pub(crate) fn bring<P: Platform>(
    store: &Store<P>,
    map: &Map<P>,
    at: VirtAddr,
    access: Access,
) -> Result<(), FaultError> {
    let prot = {
        let pin = store.mmu.phys.epoch.pin();
        map.areas.get(&pin, at.0).ok_or(FaultError::Unmapped { at })?.prot
    };
    if !prot.contains(access.needs()) {
        return Err(FaultError::Denied { at, wanted: access.needs() });
    }
    fault(store, map, at, access)
}

fn attempt<P: Platform>(
    store: &Store<P>,
    map: &Map<P>,
    pin: &Pin<'_, P>,
    (at, access, generation): (VirtAddr, Access, u32),
    debt: &mut Debt<P>,
    replaced: &mut Option<Frame>,
) -> Step<P> {
    let Some(area) = map.areas.get(pin, at.0) else {
        if at < P::Format::USER_END && map.has_stack_above(pin, at) {
            return Step::Grow;
        }
        return Step::Failed(FaultError::Unmapped { at });
    };
    if !area.prot.allows(access, P::Format::HAS_NX) {
        return Step::Failed(FaultError::Denied { at, wanted: access.needs() });
    }
    // Before the end of the object, as on Linux. Most spaces have no guards, and need not look.
    let phys = &store.mmu.phys;
    if map.has_guards() && map.amap.get(phys, pin, at.page()) == Slot::Guard {
        return Step::Failed(FaultError::Guarded { at });
    }
    if let Some(object) = &area.object {
        let index = area.object_index(at.page());
        // Private copies too, before they are looked at: one may be on its way out (Z2 of `object::size`).
        if index >= object.page_count() {
            // A guard is found first, as on Linux, where it lies in the page table.
            let slot = map.amap.get(&store.mmu.phys, pin, at.page());
            return if map.has_guards() && slot == Slot::Guard {
                Step::Failed(FaultError::Guarded { at })
            } else {
                Step::BeyondEnd(object.clone(), index)
            };
        }
    }
    let attempt = Attempt { store, map, pin, area, at, access, generation };
    let step = if area.is_shared() {
        attempt.shared(debt)
    } else if access == Access::Write {
        attempt.private_store(debt, replaced)
    } else {
        attempt.private_load(debt)
    };
    step.unwrap_or(Step::NoMemory)
}
