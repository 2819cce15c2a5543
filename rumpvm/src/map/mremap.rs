//! mremap(2): grow, shrink or move a mapping, pages and all.

use alloc::vec::Vec;

use bitflags::bitflags;

use rumpvm_arch::{Format, PAGE_SIZE, VirtAddr, VirtRange};
use rumpvm_platform::Platform;

use super::change::Gone;
use super::mmap::{Placed, check_memory};
use super::place::Room;
use super::{Area, AreaFlags, Map, State, Store};
use crate::error::CallError;
use crate::radix::{Slot, put_page};
use crate::sync::try_push;

bitflags! {
    /// Flags of mremap(2), with Linux's values.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct RemapFlags: u32 {
        /// It may move.
        const MAYMOVE = 1;
        /// It must move to the new address, replacing what is there.
        const FIXED = 2;
        /// The old range stays mapped, empty.
        const DONTUNMAP = 4;
    }
}

/// How far from their limit the areas must be for a move.
const MARGIN: u64 = 3;

/// A request after validation.
struct Request {
    old: VirtRange,
    new_length: u64,
    flags: RemapFlags,
    new_at: VirtAddr,
}

impl<P: Platform> Map<P> {
    /// Makes the `old_length` bytes mapped at `old` be `new_length` bytes, here or, if `flags` allow it,
    /// elsewhere; returns where. With `FIXED`, at `new_at`; with `DONTUNMAP` alone, there if it is free. An
    /// `old_length` of 0 maps a shared object once more. With `FIXED` and an unchanged length the range may
    /// be of several areas, with holes between them. See mremap(2).
    ///
    /// Takes the map's lock. Sleeps when what it replaces was the last mapping of a file.
    pub(crate) fn mremap(
        &self,
        store: &Store<P>,
        old: VirtAddr,
        old_length: u64,
        new_length: u64,
        flags: RemapFlags,
        new_at: VirtAddr,
    ) -> Result<Placed, CallError> {
        let request = decode::<P>(old, old_length, new_length, flags, new_at)?;
        let mut state = self.state.lock();
        if flags.intersects(RemapFlags::FIXED | RemapFlags::DONTUNMAP) {
            // Both places may be cut in three before anything moves.
            self.has_room(&state, 2)?;
        }
        if flags.contains(RemapFlags::FIXED) && request.old.length() == request.new_length {
            drop(state);
            return self.move_areas(store, &request);
        }
        let mut replaced = Gone::none();
        let remapped = self.remap(store, &mut state, &request, &mut replaced);
        drop(state);
        replaced.settle(store);
        let (moved, gone) = remapped?;
        gone.settle(store);
        let pin = store.mmu.phys.epoch.pin();
        let filled = self.areas.get(&pin, moved.start.0).is_some_and(Area::is_filled);
        let had = if filled { request.old.length().min(moved.length()) } else { moved.length() };
        let populate = VirtRange::new(moved.start + had, moved.end);
        Ok(Placed { range: moved, populate })
    }

    /// Moves all areas of a range, with the holes between them, as Linux does since 6.17. One after the
    /// other, each over what is at its new place; what is there under a hole stays. An error leaves those
    /// before it moved.
    fn move_areas(&self, store: &Store<P>, request: &Request) -> Result<Placed, CallError> {
        let old = request.old;
        let mut from = old.start;
        let mut state = self.state.lock();
        while let Some(part) = self.next_part(store, VirtRange::new(from, old.end), |_| ()) {
            let part = part.0;
            if from == old.start && part.start > from {
                break;
            }
            let new_at = request.new_at + (part.start - old.start);
            let one = Request { old: part, new_length: part.length(), new_at, ..*request };
            let mut replaced = Gone::none();
            let moved = self.remap(store, &mut state, &one, &mut replaced);
            drop(state);
            replaced.settle(store);
            moved?.1.settle(store);
            from = part.end;
            if from == old.end {
                break;
            }
            state = self.state.lock();
        }
        if from == old.start {
            return Err(CallError::BadAddress);
        }
        let range = VirtRange::new(request.new_at, request.new_at + request.new_length);
        Ok(Placed { range, populate: VirtRange::new(range.end, range.end) })
    }

    fn remap(
        &self,
        store: &Store<P>,
        state: &mut State,
        request: &Request,
        replaced: &mut Gone<P>,
    ) -> Result<(VirtRange, Gone<P>), CallError> {
        let Request { old, new_length, flags, new_at } = *request;
        let places = flags.contains(RemapFlags::FIXED);
        let area = self.area_at(store, old.start).ok_or(CallError::BadAddress)?;
        if old.is_empty() && !area.is_shared() {
            return Err(CallError::Invalid);
        }
        let is_device = area.object.as_ref().is_some_and(|object| object.device().is_some());
        if flags.contains(RemapFlags::DONTUNMAP) && is_device {
            return Err(CallError::Invalid);
        }
        let shrinks = new_length < old.length();
        if !flags.contains(RemapFlags::FIXED)
            && new_length <= old.length()
            && !old.is_empty()
            && !flags.contains(RemapFlags::DONTUNMAP)
        {
            let kept = VirtRange::new(old.start, old.start + new_length);
            let gone = if shrinks {
                inside::<P>(old)?;
                self.unmap(store, state, VirtRange::new(kept.end, old.end))?
            } else {
                Gone::none()
            };
            return Ok((kept, gone));
        }
        // What moves is of one area; a tail that goes may be anything.
        if old.start + old.length().min(new_length) > area.range.end {
            return Err(CallError::BadAddress);
        }
        let more = new_length.saturating_sub(old.length());
        if more > 0 {
            if is_device {
                return Err(CallError::BadAddress);
            }
            self.check_growth(store, state, &area, more)?;
        }
        let takes_its_place =
            |new: &VirtRange| inside::<P>(old).is_err() || new.contains(old.start);
        let new = VirtRange::of_length(new_at, new_length).filter(|_| places);
        if let Some(new) = new.filter(takes_its_place) {
            // An old length of nothing, or one that wraps, has come so far; the new place is emptied all the same.
            *replaced = self.unmap(store, state, new)?;
            return Err(if new.contains(old.start) {
                CallError::BadAddress
            } else {
                CallError::Invalid
            });
        }
        inside::<P>(old)?;
        if more > 0 {
            let grown = VirtRange::of_length(old.start, new_length).ok_or(CallError::Invalid)?;
            if !flags.contains(RemapFlags::FIXED) && self.can_grow(store, &area, old, grown) {
                let gained = VirtRange::new(old.end, grown.end);
                let tail = extended(&area, gained);
                let gone = self.put(store, state, tail)?;
                return Ok((grown, gone));
            }
        }
        if !flags.contains(RemapFlags::MAYMOVE) {
            return Err(CallError::NoMemory);
        }
        self.relocate(store, state, request, area, replaced)
    }

    /// Whether with `more` areas there is still the room that Linux wants before anything moves: of one area that is
    /// cut in three and one that is new, and one to spare.
    fn has_room(&self, state: &State, more: u64) -> Result<(), CallError> {
        let needed = self.areas.len() + more + MARGIN;
        if needed >= state.limits.areas { Err(CallError::NoMemory) } else { Ok(()) }
    }

    /// A copy of the area at `at`.
    fn area_at(&self, store: &Store<P>, at: VirtAddr) -> Option<Area<P>> {
        let pin = store.mmu.phys.epoch.pin();
        self.areas.get(&pin, at.0).map(|area| area.part(area.range))
    }

    /// Whether `old`, the tail of `area`, can become `grown` where it is.
    fn can_grow(&self, store: &Store<P>, area: &Area<P>, old: VirtRange, grown: VirtRange) -> bool {
        let pin = store.mmu.phys.epoch.pin();
        !old.is_empty()
            && old.end == area.range.end
            && grown.end <= P::Format::USER_END
            && self.is_empty(&pin, VirtRange::new(old.end, grown.end))
    }

    fn check_growth(
        &self,
        store: &Store<P>,
        state: &State,
        area: &Area<P>,
        more: u64,
    ) -> Result<(), CallError> {
        let limits = state.limits;
        let locked = area.flags.contains(AreaFlags::LOCKED);
        if locked && state.locked.saturating_add(more) > limits.locked {
            return Err(CallError::Again);
        }
        check_limits(state, area, more)?;
        let mut probe = area.part(area.range);
        probe.range.end = VirtAddr(probe.range.start.0.saturating_add(more));
        check_memory(store, state, &probe)
    }

    /// Moves `request.old`, which lies in `area`, to a new place. `replaced` gets what was there before.
    fn relocate(
        &self,
        store: &Store<P>,
        state: &mut State,
        request: &Request,
        mut area: Area<P>,
        replaced: &mut Gone<P>,
    ) -> Result<(VirtRange, Gone<P>), CallError> {
        let Request { old, new_length, flags, new_at } = *request;
        let new = if flags.contains(RemapFlags::FIXED) {
            let new = VirtRange::of_length(new_at, new_length).ok_or(CallError::Invalid)?;
            // As on Linux, what is at the new place goes first, whatever comes after.
            *replaced = self.unmap(store, state, new)?;
            // That can have been what was to be mapped once more.
            area = self.area_at(store, old.start).ok_or(CallError::BadAddress)?;
            new
        } else {
            let pin = store.mmu.phys.epoch.pin();
            let hint = if flags.contains(RemapFlags::DONTUNMAP) { new_at } else { VirtAddr(0) };
            self.place(state, &pin, (hint, Room::Any), new_length)?
        };
        if flags.contains(RemapFlags::DONTUNMAP) {
            check_limits(state, &area, new_length)?;
        }
        self.has_room(state, 0)?;
        Ok((new, self.move_to(store, state, request, &area, new)?))
    }

    fn move_to(
        &self,
        store: &Store<P>,
        state: &mut State,
        request: &Request,
        area: &Area<P>,
        new: VirtRange,
    ) -> Result<Gone<P>, CallError> {
        let kept = request.old.length().min(new.length());
        let old = VirtRange::new(request.old.start, request.old.start + kept);
        let leaves = !request.flags.contains(RemapFlags::DONTUNMAP) && !request.old.is_empty();
        let mut there = area.part(VirtRange::new(request.old.start, area.range.end));
        there.range = new;
        let mut spares = self.amap.spares(&store.mmu.phys, request.old)?;
        let mut spares_there = self.amap.spares(&store.mmu.phys, new)?;
        // From here to the end no fault decides, so what is made ready stays so.
        let frozen = self.generation.freeze();
        // Of shared memory only guards move.
        let private = !area.is_shared() || self.has_guards();
        let prepared = if private { self.prepare_move(store, old, new) } else { Ok(()) };
        let committed = prepared.and_then(|()| {
            let mut list = Vec::new();
            try_push::<_, P>(&mut list, there)?;
            let mut change = self.change(state);
            if leaves {
                change.replace(request.old, Vec::new())?;
            } else if !request.old.is_empty() && area.flags.contains(AreaFlags::LOCKED) {
                // What stays is locked no more, and not only where it was moved from; as on Linux.
                let mut stays = area.part(area.range);
                stays.flags.remove(AreaFlags::LOCK);
                let mut list = Vec::new();
                try_push::<_, P>(&mut list, stays)?;
                change.replace(area.range, list)?;
            }
            change.replace(new, list)?;
            Ok(change.commit(store))
        });
        if committed.is_err() {
            self.amap.clear(&store.mmu.phys, new, &mut spares_there);
            return committed;
        }
        self.give_up_tables(store, request.old);
        self.give_up_tables(store, new);
        if private {
            self.move_pages(store, old, new);
        }
        // What does not go along, and the nodes that the move has emptied.
        self.amap.clear(&store.mmu.phys, request.old, &mut spares);
        drop(frozen);
        committed
    }

    /// Makes a place for every private page and every guard of `old` in `new`, so that moving them cannot fail.
    fn prepare_move(
        &self,
        store: &Store<P>,
        old: VirtRange,
        new: VirtRange,
    ) -> Result<(), CallError> {
        let phys = &store.mmu.phys;
        let mut page = old.start.page();
        while let Some(at) = self.next_private(store, page, old.end.page()) {
            let pin = phys.epoch.pin();
            self.amap.leaf_mut(phys, &pin, at)?;
            self.amap.leaf_mut(phys, &pin, at - old.start.page() + new.start.page())?;
            page = at + 1;
        }
        Ok(())
    }

    fn move_pages(&self, store: &Store<P>, old: VirtRange, new: VirtRange) {
        let phys = &store.mmu.phys;
        let mut page = old.start.page();
        while let Some(at) = self.next_private(store, page, old.end.page()) {
            let pin = phys.epoch.pin();
            let to = at - old.start.page() + new.start.page();
            let taken = self.amap.take(phys, &pin, at);
            match (taken, self.amap.leaf_mut(phys, &pin, to)) {
                (Slot::Page(_) | Slot::Guard, Ok(mut leaf)) => {
                    if let Slot::Page(stale) = leaf.get(to) {
                        put_page(phys, stale);
                    }
                    leaf.set(to, taken);
                }
                (taken, _) => {
                    phys.broken(format_args!("page {at:#x} has no place to move to: {taken:?}"));
                }
            }
            page = at + 1;
        }
    }

    fn next_private(&self, store: &Store<P>, from: u64, to: u64) -> Option<u64> {
        let pin = store.mmu.phys.epoch.pin();
        let range = VirtRange::new(
            VirtAddr::of_page(from),
            VirtAddr::of_page(to).max(VirtAddr::of_page(from)),
        );
        self.amap.next(&store.mmu.phys, &pin, range, |_| true)
    }
}

/// Whether there may be so many bytes more of what `area` has.
fn check_limits<P: Platform>(state: &State, area: &Area<P>, more: u64) -> Result<(), CallError> {
    let limits = state.limits;
    let mapped = state.mapped.saturating_add(more) > limits.address_space;
    let data = area.is_data() && state.data.saturating_add(more) > limits.data;
    if mapped || data { Err(CallError::NoMemory) } else { Ok(()) }
}

/// An area that goes on in `gained`, just behind `area`.
fn extended<P: Platform>(area: &Area<P>, gained: VirtRange) -> Area<P> {
    let mut tail = area.part(area.range);
    tail.offset += gained.start - tail.range.start;
    tail.range = gained;
    tail
}

/// Whether `old`, of which a part is to be unmapped, ends inside user memory.
fn inside<P: Platform>(old: VirtRange) -> Result<(), CallError> {
    if old.end <= P::Format::USER_END { Ok(()) } else { Err(CallError::Invalid) }
}

/// Checks everything that does not depend on the map.
fn decode<P: Platform>(
    old: VirtAddr,
    old_length: u64,
    new_length: u64,
    flags: RemapFlags,
    new_at: VirtAddr,
) -> Result<Request, CallError> {
    let places = flags.intersects(RemapFlags::FIXED | RemapFlags::DONTUNMAP);
    if flags.bits() & !RemapFlags::all().bits() != 0
        || (places && !flags.contains(RemapFlags::MAYMOVE))
        || !old.is_page_aligned()
    {
        return Err(CallError::Invalid);
    }
    // Rounding wraps to nothing at the very top, as it does on Linux.
    let round = |length: u64| length.wrapping_add(PAGE_SIZE - 1) & !(PAGE_SIZE - 1);
    let (old_length, new_length) = (round(old_length), round(new_length));
    let end = P::Format::USER_END.0;
    if flags.contains(RemapFlags::DONTUNMAP) && old_length != new_length {
        return Err(CallError::Invalid);
    }
    if new_length == 0 || new_length > end {
        return Err(CallError::Invalid);
    }
    // Whether all of it is user memory matters only to what is done with it.
    let old = VirtRange::new(old, VirtAddr(old.0.saturating_add(old_length)).page_down());
    if places {
        let new = VirtRange::of_length(new_at, new_length).ok_or(CallError::Invalid)?;
        // An old length that wraps overlaps nothing, as on Linux.
        let overlaps = old.start.0.wrapping_add(old_length) > new.start.0 && new.end > old.start;
        if !new_at.is_page_aligned() || new.end.0 > end || overlaps {
            return Err(CallError::Invalid);
        }
    }
    Ok(Request { old, new_length, flags, new_at })
}
