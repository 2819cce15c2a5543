//! minherit(2) and `MAP_GUARD` of the BSDs: what a child gets, and reservations that nothing may use.
//!
//! Linux has two of the four inheritances as advice (10 and 18). What only BSD has are private memory that
//! a child shares, and shared memory that it gets as a copy: the mark `INHERIT` turns what `SHARED` says
//! around at the next fork.

use alloc::vec::Vec;
use core::ops::ControlFlow;

use rumpvm_arch::{PAGE_SIZE, Prot, VirtAddr, VirtRange};
use rumpvm_platform::Platform;

use super::change::Gone;
use super::{Area, AreaFlags, Map, MapFlags, State, Store};
use crate::NoMemory;
use crate::error::CallError;
use crate::object::{Object, Purpose, Seals};
use crate::radix::Slot;
use crate::sync::{Hold, try_push, try_reserve};

/// What a child gets, with FreeBSD's values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inheritance {
    /// The same memory: each sees what the other stores.
    Share = 0,
    /// What the memory holds at the fork. Of shared memory, each page as it is when the child first stores
    /// to it.
    Copy = 1,
    /// Nothing.
    None = 2,
    /// Zeros.
    Zero = 3,
}

impl Inheritance {
    /// What a program's number means.
    pub fn from_number(number: i32) -> Result<Self, CallError> {
        Ok(match number {
            0 => Self::Share,
            1 => Self::Copy,
            2 => Self::None,
            3 => Self::Zero,
            _ => return Err(CallError::Invalid),
        })
    }
}

/// An object that was made of private memory, and what that was before. Its end, if the area was not made after
/// all, takes locks that come before the map's.
#[must_use = "the maker is a user of the object until it is settled"]
pub(super) struct Made<P: Platform> {
    object: Hold<Object<P>, P>,
    gone: Gone<P>,
}

impl<P: Platform> Made<P> {
    /// Leaves the object to its area. Sleeps where that was not made, or a file was there that loses its last
    /// user.
    pub(super) fn settle(self, store: &Store<P>) {
        self.gone.settle(store);
        store.objects.let_go(&store.mmu, &self.object);
    }
}

impl<P: Platform> Map<P> {
    /// Says what a child gets of every page that `length` bytes from `at` touch. Holes are no error. The
    /// memory of a device cannot be copied, nor a private mapping of an object be shared: that is
    /// [`CallError::Unsupported`], and nothing has changed.
    ///
    /// Takes the map's lock. Does not sleep otherwise.
    pub fn minherit(
        &self,
        store: &Store<P>,
        at: VirtAddr,
        length: u64,
        inheritance: Inheritance,
    ) -> Result<(), CallError> {
        let start = at.page_down();
        let length = length
            .checked_add(at - start)
            .and_then(|bytes| bytes.checked_next_multiple_of(PAGE_SIZE));
        let range = length.and_then(|length| VirtRange::of_length(start, length));
        let range = range.ok_or(CallError::Invalid)?;
        if range.is_empty() {
            return Ok(());
        }
        let mut state = self.state.lock();
        let pin = store.mmu.phys.epoch.pin();
        let unfit = self.areas.visit(&pin, range.start.0, range.end.0, |area| {
            if can(area, inheritance) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        drop(pin);
        if unfit.is_break() {
            return Err(CallError::Unsupported);
        }
        let gone = self.rewrite(store, &mut state, range, |area| {
            // As on FreeBSD: what is reserved stays so in the child.
            if area.flags.contains(AreaFlags::RESERVED) && inheritance == Inheritance::Zero {
                return;
            }
            let all = AreaFlags::INHERIT | AreaFlags::DONTFORK | AreaFlags::WIPEONFORK;
            area.flags.remove(all);
            area.flags.insert(match inheritance {
                Inheritance::Share if !area.is_shared() => AreaFlags::INHERIT,
                Inheritance::Copy if area.is_shared() => AreaFlags::INHERIT,
                Inheritance::Share | Inheritance::Copy => AreaFlags::empty(),
                Inheritance::None => AreaFlags::DONTFORK,
                Inheritance::Zero => AreaFlags::WIPEONFORK,
            });
        })?;
        drop(state);
        gone.settle(store);
        Ok(())
    }

    /// Reserves `length` bytes: nothing can be used there, no rights can be given, and no mapping goes there
    /// but by `FIXED`. Of `flags` only `FIXED` and `FIXED_NOREPLACE` mean something. FreeBSD's `MAP_GUARD`.
    ///
    /// Takes the map's lock.
    pub fn reserve(
        &self,
        store: &Store<P>,
        hint: VirtAddr,
        length: u64,
        flags: MapFlags,
    ) -> Result<VirtAddr, CallError> {
        if flags.bits() & !(MapFlags::FIXED | MapFlags::FIXED_NOREPLACE).bits() != 0 {
            return Err(CallError::Invalid);
        }
        let area = AreaFlags::RESERVED | AreaFlags::NORESERVE;
        self.map_reserved(store, hint, length, flags, area)
    }

    /// Turns private memory that a child is to share into objects, pages and all. With the map's lock
    /// held; on failure it is as it was, but for areas that are objects by then. What goes into `made` has to be
    /// settled in either case, without the lock.
    pub(super) fn share_marked(
        &self,
        store: &Store<P>,
        state: &mut State,
        made: &mut Vec<Made<P>>,
    ) -> Result<(), NoMemory> {
        let mut marked = Vec::new();
        let pin = store.mmu.phys.epoch.pin();
        let walked = self.areas.visit(&pin, 0, u64::MAX, |area| {
            let wanted = area.flags.contains(AreaFlags::INHERIT) && !area.is_shared();
            let pushed = if wanted { try_push::<_, P>(&mut marked, area.range) } else { Ok(()) };
            match pushed {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(error),
            }
        });
        drop(pin);
        if let ControlFlow::Break(error) = walked {
            return Err(error);
        }
        try_reserve::<_, P>(made, marked.len())?;
        marked.into_iter().try_for_each(|range| {
            let (purpose, seals) = (Purpose::Mapping, Seals::empty());
            let object = store.objects.memory(purpose, range.length(), seals, None)?;
            let shared = self.share_as(store, state, range, &object);
            let (gone, shared) = match shared {
                Ok(gone) => (gone, Ok(())),
                Err(error) => (Gone::none(), Err(error)),
            };
            made.push(Made { object, gone });
            shared
        })
    }

    fn share_as(
        &self,
        store: &Store<P>,
        state: &mut State,
        range: VirtRange,
        object: &Hold<Object<P>, P>,
    ) -> Result<Gone<P>, NoMemory> {
        let spares = self.amap.spares(&store.mmu.phys, range)?;
        self.own_guards(store, range)?;
        // No store passes by while pages are copied: faults wait, and nothing is mapped.
        let frozen = self.generation.freeze();
        self.give_up_tables(store, range);
        let mut from = range.start;
        while let Some(page) = self.next_page(store, VirtRange::new(from, range.end)) {
            let pin = store.mmu.phys.epoch.pin();
            if let Slot::Page(frame) = self.amap.get(&store.mmu.phys, &pin, page) {
                object.put_copy(&store.mmu, &pin, page - range.start.page(), frame)?;
            }
            from = VirtAddr::of_page(page + 1);
        }
        let mut new = Vec::new();
        let pin = store.mmu.phys.epoch.pin();
        let Some(area) = self.areas.get(&pin, range.start.0) else { return Ok(Gone::none()) };
        let mut area = area.part(range);
        drop(pin);
        // An object has a size, so what was a stack does not grow any more.
        area.flags.remove(AreaFlags::INHERIT | AreaFlags::GROWSDOWN);
        area.flags.insert(AreaFlags::SHARED);
        (area.object, area.offset) = (Some(object.clone()), 0);
        try_push::<_, P>(&mut new, area)?;
        let mut change = self.change(state);
        change.replace(range, new).map_err(|_| NoMemory)?;
        let gone = change.commit(store);
        self.drop_pages_but_guards(store, range, spares);
        drop(frozen);
        Ok(gone)
    }

    fn next_page(&self, store: &Store<P>, range: VirtRange) -> Option<u64> {
        let pin = store.mmu.phys.epoch.pin();
        let is_page = |slot| matches!(slot, Slot::Page(_));
        (!range.is_empty()).then(|| self.amap.next(&store.mmu.phys, &pin, range, is_page))?
    }
}

/// What an area of the parent is in the child, and whether its pages and tables do not go along.
pub(super) fn inherited<P: Platform>(area: &Area<P>) -> Area<P> {
    let mut copy = area.part(area.range);
    copy.flags.remove(AreaFlags::LOCK);
    if area.flags.contains(AreaFlags::WIPEONFORK) {
        copy.flags.remove(AreaFlags::SHARED);
        (copy.object, copy.offset, copy.max_prot) = (None, 0, Prot::ALL);
    } else if area.flags.contains(AreaFlags::INHERIT) && area.is_shared() {
        copy.flags.remove(AreaFlags::SHARED | AreaFlags::INHERIT);
    }
    copy
}

fn can<P: Platform>(area: &Area<P>, inheritance: Inheritance) -> bool {
    match (inheritance, &area.object) {
        (Inheritance::Copy, Some(object)) => !area.is_shared() || object.device().is_none(),
        (Inheritance::Share, Some(_)) => area.is_shared(),
        _ => true,
    }
}
