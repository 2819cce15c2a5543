//! mmap(2): make a mapping.

use alloc::vec::Vec;

use bitflags::bitflags;

use rumpvm_arch::{Format, PAGE_SIZE, Prot, VirtAddr, VirtRange};
use rumpvm_platform::Platform;

use super::change::Gone;
use super::{Area, AreaFlags, Map, Overcommit, State, Store};
use crate::error::CallError;
use crate::object::Object;
use crate::sync::{Hold, try_push};

bitflags! {
    /// Flags of mmap(2), with Linux's values.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct MapFlags: u32 {
        /// Stores are seen by all who map the object.
        const SHARED = 0x01;
        /// Stores are one's own. Together with `SHARED`: `MAP_SHARED_VALIDATE`, shared, and unknown flags
        /// are refused.
        const PRIVATE = 0x02;
        /// Exactly at the hint, replacing what is there.
        const FIXED = 0x10;
        /// No object: zero-filled.
        const ANONYMOUS = 0x20;
        /// Below 2 GiB.
        const BIT32 = 0x40;
        /// A stack: faults below extend it.
        const GROWSDOWN = 0x100;
        /// Accepted and ignored.
        const DENYWRITE = 0x800;
        /// Accepted and ignored.
        const EXECUTABLE = 0x1000;
        /// Lock the pages in memory.
        const LOCKED = 0x2000;
        /// Do not count it against memory.
        const NORESERVE = 0x4000;
        /// Fault the pages in at once.
        const POPULATE = 0x8000;
        /// With `POPULATE`: only pages that are in memory.
        const NONBLOCK = 0x1_0000;
        /// It will be a stack, which is no place for superpages.
        const STACK = 0x2_0000;
        /// Superpages of a hugetlb file system.
        const HUGETLB = 0x4_0000;
        /// Persistent memory; refused for what we map, as on Linux.
        const SYNC = 0x8_0000;
        /// Exactly at the hint, or not at all.
        const FIXED_NOREPLACE = 0x10_0000;
        /// Set by tools for memory that is known to be uninitialized; ignored.
        const UNINITIALIZED = 0x400_0000;
    }
}

/// The bits that say what kind of mapping it is (`MAP_TYPE`), and the kinds.
const MAP_TYPE: u32 = 0x0f;
const SHARED: u32 = MapFlags::SHARED.bits();
const PRIVATE: u32 = MapFlags::PRIVATE.bits();
const SHARED_VALIDATE: u32 = SHARED | PRIVATE;

/// Flags that `MAP_SHARED_VALIDATE` lets pass: Linux's `LEGACY_MAP_MASK`, with `MAP_ABOVE4G` and sizes of huge
/// pages, and without `MAP_FIXED_NOREPLACE` and `MAP_SYNC`.
const VALIDATED: u32 = 0x7c07_f9f3;

/// What `MAP_32BIT` stays below: its addresses are to fit 31 bits.
const BIT32_END: VirtAddr = VirtAddr(1 << 31);

/// What is to be mapped.
pub enum Backing<'o, P: Platform> {
    /// Zero-filled memory.
    Anonymous,
    /// An object, from a byte offset on.
    Object(&'o Hold<Object<P>, P>),
}

/// Where a mapping is now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Placed {
    /// All of it.
    pub(crate) range: VirtRange,
    /// The part whose pages are wanted at once.
    pub(crate) populate: VirtRange,
}

/// A request after validation.
struct Request {
    length: u64,
    hint: VirtAddr,
    /// Where it must end, if its place is ours to choose.
    limit: VirtAddr,
    fixed: bool,
    no_replace: bool,
    area: AreaFlags,
    /// Why this kind of mapping cannot be, which Linux says only of a place that is good.
    misfit: Option<CallError>,
}

impl<P: Platform> Map<P> {
    /// Maps `length` bytes of `backing` from byte `offset` on and returns where; see mmap(2). Anonymous
    /// shared memory becomes an object of its own.
    ///
    /// The memory of a device can be shared, not copied: a private mapping that may be stored to is refused.
    ///
    /// Takes the map's lock. Sleeps when what it replaces was the last mapping of a file.
    #[expect(clippy::too_many_arguments, reason = "the arguments of mmap(2)")]
    pub(crate) fn mmap(
        &self,
        store: &Store<P>,
        hint: VirtAddr,
        length: u64,
        prot: Prot,
        flags: MapFlags,
        backing: Backing<'_, P>,
        offset: u64,
    ) -> Result<Placed, CallError> {
        let request = decode(hint, length, flags, &backing, offset)?;
        let made = match backing {
            Backing::Anonymous if request.area.contains(AreaFlags::SHARED) => {
                Some(store.objects.memory(request.length)?)
            }
            _ => None,
        };
        let (object, offset) = match (&made, &backing) {
            (Some(made), _) => (Some(made), 0),
            (None, Backing::Object(object)) => (Some(*object), offset),
            (None, Backing::Anonymous) => (None, 0),
        };
        let mapped = self.map_validated(store, &request, prot, object, offset);
        if let Some(made) = &made {
            // The area, if it was made, is the user now.
            store.objects.release(&store.mmu, made)?;
        }
        let (range, locked) = mapped?;
        let asked = flags.contains(MapFlags::POPULATE) && !flags.contains(MapFlags::NONBLOCK);
        // What is locked is brought in whatever is asked for, or, as Linux has it, never at once.
        let wanted = if locked.is_empty() { asked } else { locked == AreaFlags::LOCKED };
        let populate = if wanted { range } else { VirtRange::new(range.end, range.end) };
        Ok(Placed { range, populate })
    }

    fn map_validated(
        &self,
        store: &Store<P>,
        request: &Request,
        prot: Prot,
        object: Option<&Hold<Object<P>, P>>,
        offset: u64,
    ) -> Result<(VirtRange, AreaFlags), CallError> {
        let shared = request.area.contains(AreaFlags::SHARED);
        let cannot_copy = !shared && object.is_some_and(|object| object.device().is_some());
        let max_prot = if cannot_copy { Prot::READ | Prot::EXEC } else { Prot::ALL };
        if !max_prot.contains(prot) {
            return Err(CallError::Denied);
        }
        let mut state = self.state.lock();
        let range = self.choose(store, &state, request)?;
        // All of these after the place was found good, in Linux's order.
        may_lock(&state, request)?;
        let end = offset.checked_add(request.length);
        if object.is_some() && end.is_none_or(|end| end > i64::MAX as u64) {
            return Err(CallError::Overflow);
        }
        if let Some(error) = request.misfit {
            return Err(error);
        }
        let is_device = object.is_some_and(|object| object.device().is_some());
        let flags = if is_device {
            request.area.difference(AreaFlags::LOCK)
        } else {
            request.area | state.future
        };
        let area = Area { range, prot, max_prot, flags, object: object.cloned(), offset };
        check_memory(store, &state, &area)?;
        let gone = self.put(store, &mut state, area)?;
        drop(state);
        gone.settle(store);
        Ok((range, flags & AreaFlags::LOCK))
    }

    /// Maps nothing, with no rights to be had; for reservations.
    pub(super) fn map_reserved(
        &self,
        store: &Store<P>,
        hint: VirtAddr,
        length: u64,
        flags: MapFlags,
        area: AreaFlags,
    ) -> Result<VirtAddr, CallError> {
        let flags = flags | MapFlags::PRIVATE | MapFlags::ANONYMOUS;
        let request = decode::<P>(hint, length, flags, &Backing::Anonymous, 0)?;
        let mut state = self.state.lock();
        let range = self.choose(store, &state, &request)?;
        let none = Prot::empty();
        let area = Area { range, prot: none, max_prot: none, flags: area, object: None, offset: 0 };
        let gone = self.put(store, &mut state, area)?;
        drop(state);
        gone.settle(store);
        Ok(range.start)
    }

    /// Where the mapping goes.
    fn choose(
        &self,
        store: &Store<P>,
        state: &State,
        request: &Request,
    ) -> Result<VirtRange, CallError> {
        let pin = store.mmu.phys.epoch.pin();
        if !request.fixed {
            return self.place(state, &pin, (request.hint, request.limit), request.length);
        }
        let range =
            VirtRange::of_length(request.hint, request.length).ok_or(CallError::NoMemory)?;
        if range.end > P::Format::USER_END {
            return Err(CallError::NoMemory);
        }
        if !request.hint.is_page_aligned() {
            return Err(CallError::Invalid);
        }
        if range.start.0 < state.limits.lowest {
            return Err(CallError::NotPermitted);
        }
        let next = self.areas.at_or_after(&pin, range.start.0);
        if request.no_replace && next.is_some_and(|area| area.range.start < range.end) {
            return Err(CallError::Exists);
        }
        Ok(range)
    }

    /// Puts `area` where it says, in place of whatever is there.
    pub(super) fn put(
        &self,
        store: &Store<P>,
        state: &mut State,
        area: Area<P>,
    ) -> Result<Gone<P>, CallError> {
        let range = area.range;
        let limits = state.limits;
        let spares = self.amap.spares(&store.mmu.phys, range)?;
        let mut new = Vec::new();
        try_push::<_, P>(&mut new, area)?;
        let (mapped, locked) = (state.mapped, state.locked);
        let mut change = self.change(state);
        change.replace(range, new)?;
        if change.mapped() > limits.address_space && change.mapped() > mapped {
            return Err(CallError::NoMemory);
        }
        if change.locked() > limits.locked && change.locked() > locked {
            return Err(CallError::Again);
        }
        // What was there before must be gone when the first fault on the new area looks.
        let frozen = self.generation.freeze();
        let gone = change.commit(store);
        self.drop_pages(store, range, spares);
        drop(frozen);
        Ok(gone)
    }
}

/// Checks everything that does not depend on the map.
fn decode<P: Platform>(
    hint: VirtAddr,
    length: u64,
    flags: MapFlags,
    backing: &Backing<'_, P>,
    offset: u64,
) -> Result<Request, CallError> {
    if length == 0 || !offset.is_multiple_of(PAGE_SIZE) {
        return Err(CallError::Invalid);
    }
    let anonymous = matches!(backing, Backing::Anonymous);
    if flags.contains(MapFlags::HUGETLB) {
        // No hugetlb pool is configured here, and our files are of no hugetlb file system.
        return Err(if anonymous { CallError::NoMemory } else { CallError::Invalid });
    }
    let length = length.checked_add(PAGE_SIZE - 1).ok_or(CallError::NoMemory)? & !(PAGE_SIZE - 1);
    let mut area = AreaFlags::empty();
    for (flag, meaning) in [
        (MapFlags::SHARED, AreaFlags::SHARED),
        (MapFlags::GROWSDOWN, AreaFlags::GROWSDOWN),
        (MapFlags::LOCKED, AreaFlags::LOCKED),
        (MapFlags::NORESERVE, AreaFlags::NORESERVE),
        (MapFlags::STACK, AreaFlags::NOHUGEPAGE),
    ] {
        area.set(meaning, flags.contains(flag));
    }
    let no_replace = flags.contains(MapFlags::FIXED_NOREPLACE);
    let fixed = no_replace || flags.contains(MapFlags::FIXED);
    let low = flags.contains(MapFlags::BIT32);
    let limit = if low { BIT32_END } else { P::Format::USER_END };
    let misfit = misfit(flags, anonymous).err();
    Ok(Request { length, hint, limit, fixed, no_replace, area, misfit })
}

/// Whether there are mappings of this kind.
fn misfit(flags: MapFlags, anonymous: bool) -> Result<(), CallError> {
    let shared = flags.contains(MapFlags::SHARED);
    match flags.bits() & MAP_TYPE {
        SHARED_VALIDATE if anonymous => return Err(CallError::Invalid),
        SHARED_VALIDATE => {
            if flags.bits() & !VALIDATED != 0 {
                return Err(CallError::Unsupported);
            }
        }
        SHARED | PRIVATE => {}
        _ => return Err(CallError::Invalid),
    }
    if flags.contains(MapFlags::GROWSDOWN) && (shared || !anonymous) {
        return Err(CallError::Invalid);
    }
    Ok(())
}

/// Whether so much more may be locked. What is replaced counts as well, as on Linux.
fn may_lock(state: &State, request: &Request) -> Result<(), CallError> {
    if !request.area.contains(AreaFlags::LOCKED) {
        return Ok(());
    }
    if state.limits.locked == 0 {
        return Err(CallError::NotPermitted);
    }
    if state.locked.saturating_add(request.length) > state.limits.locked {
        return Err(CallError::Again);
    }
    Ok(())
}

/// Refuses what is larger than all memory, if the space's limits say so.
pub(super) fn check_memory<P: Platform>(
    store: &Store<P>,
    state: &State,
    area: &Area<P>,
) -> Result<(), CallError> {
    let counted = state.limits.overcommit == Overcommit::Heuristic
        && area.prot.contains(Prot::WRITE)
        && !area.flags.intersects(AreaFlags::NORESERVE | AreaFlags::SHARED);
    if counted && area.range.pages() > store.mmu.phys.total_frames() {
        return Err(CallError::NoMemory);
    }
    Ok(())
}
