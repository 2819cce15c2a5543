//! mmap(2): make a mapping.

use alloc::vec::Vec;

use bitflags::bitflags;

use rumpvm_arch::{Format, PAGE_SIZE, Prot, VirtAddr, VirtRange};
use rumpvm_platform::Platform;

use super::change::Gone;
use super::place::Room;
use super::{Area, AreaFlags, Map, Reserve, State, Store};
use crate::error::CallError;
use crate::object::{Object, Purpose, Seals};
use crate::promise::{Asker, Overcommit};
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
        /// In place of `PRIVATE`: pages that may go when memory is short; anonymous memory only.
        const DROPPABLE = 0x08;
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

/// What is to be mapped.
pub enum Backing<'o, P: Platform> {
    /// Zero-filled memory.
    Anonymous,
    /// An object, from a byte offset on.
    Object(&'o Hold<Object<P>, P>),
    /// The same through a descriptor that gives no more than these rights: to load, for which it was opened to be
    /// read; to store; to execute, unless its file system is mounted without.
    Opened(&'o Hold<Object<P>, P>, Prot),
}

/// Where a mapping is now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Placed {
    /// All of it.
    pub(crate) range: VirtRange,
    /// The part whose pages are wanted at once.
    pub(crate) populate: VirtRange,
}

/// The arguments of mmap(2).
pub(crate) struct Request<'o, P: Platform> {
    pub(crate) hint: VirtAddr,
    pub(crate) length: u64,
    pub(crate) prot: Prot,
    pub(crate) flags: MapFlags,
    pub(crate) backing: Backing<'o, P>,
    pub(crate) offset: u64,
}

/// What the flags say of who sees stores.
const KIND: u32 = 0xf;

/// `MAP_SHARED_VALIDATE`.
const VALIDATE: u32 = 3;

/// Flags that `MAP_SHARED_VALIDATE` lets pass: Linux's `LEGACY_MAP_MASK`, with `MAP_ABOVE4G` and sizes of huge
/// pages, and without `MAP_FIXED_NOREPLACE` and `MAP_SYNC`.
const VALIDATED: u32 = 0x7c07_f9f3;

/// Superpages that x86 has, as the flags name them: 0 for the default, else log2 of the bytes.
const HUGE_SIZES: [u32; 3] = [0, 21, 30];

impl<P: Platform> Map<P> {
    /// Maps what `request` says and returns where; see mmap(2). Anonymous shared memory becomes an object of its
    /// own.
    ///
    /// The memory of a device can be shared, not copied: a private mapping that may be stored to is refused.
    ///
    /// Takes the map's lock. Sleeps when what it replaces was the last mapping of a file.
    pub(crate) fn mmap(
        &self,
        store: &Store<P>,
        request: &Request<'_, P>,
    ) -> Result<Placed, CallError> {
        let (length, flags) = (request.check_numbers()?, request.flags);
        let mut state = self.state.lock();
        // Too many already; one too many is none.
        if self.areas.len() > state.limits.areas {
            return Err(CallError::NoMemory);
        }
        let range = self.choose(store, &state, request, length)?;
        if flags.contains(MapFlags::LOCKED) && state.limits.locked == 0 {
            return Err(CallError::NotPermitted);
        }
        let is_device = request.object().is_some_and(|object| object.device().is_some());
        let mut lock = if is_device { AreaFlags::empty() } else { state.future };
        if flags.contains(MapFlags::LOCKED) && !is_device {
            lock |= AreaFlags::LOCKED;
        }
        // What is replaced counts as well, as on Linux.
        if !lock.is_empty() && state.locked.saturating_add(length) > state.limits.locked {
            return Err(CallError::Again);
        }
        let max_prot = request.check_backing(length)?;
        // Counted and brought in, but not locked.
        let kept_lock = if request.is_droppable() { AreaFlags::empty() } else { lock };
        let honours = store.objects.promises().mode() != Overcommit::Never;
        let mut area = Area {
            range,
            prot: request.prot,
            max_prot,
            flags: request.area_flags(honours) | kept_lock,
            object: request.object().cloned(),
            accounted: false,
            offset: if request.object().is_some() { request.offset } else { 0 },
        };
        check_memory(store, &state, &area)?;
        let made = self.make_shared(store, &state, &area)?;
        if made.is_some() {
            area.object = made.clone();
        }
        let put = request.check_object().and_then(|()| self.put(store, &mut state, area));
        drop(state);
        if let Some(made) = &made {
            // The area, if it was made, is the user now.
            store.objects.release(&store.mmu, made)?;
        }
        put?.settle(store);
        let asked = flags & (MapFlags::POPULATE | MapFlags::NONBLOCK) == MapFlags::POPULATE;
        // What is locked is brought in whatever is asked for, or, as Linux has it, never at once; but not what only
        // would be.
        let at_once = lock == AreaFlags::LOCKED || lock != kept_lock;
        let wanted = if lock.is_empty() { asked } else { at_once };
        let populate = if wanted { range } else { VirtRange::new(range.end, range.end) };
        Ok(Placed { range, populate })
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
        let (prot, backing) = (Prot::empty(), Backing::Anonymous);
        let request = Request { hint, length, prot, flags, backing, offset: 0 };
        let length = request.check_numbers()?;
        let mut state = self.state.lock();
        let range = self.choose(store, &state, &request, length)?;
        request.check_backing(length)?;
        let area = Area {
            range,
            prot,
            max_prot: prot,
            flags: area,
            object: None,
            accounted: false,
            offset: 0,
        };
        let gone = self.put(store, &mut state, area)?;
        drop(state);
        gone.settle(store);
        Ok(range.start)
    }

    /// The object of anonymous memory that is to be shared.
    fn make_shared(
        &self,
        store: &Store<P>,
        state: &State,
        area: &Area<P>,
    ) -> Result<Option<Hold<Object<P>, P>>, CallError> {
        if !area.is_shared() || area.object.is_some() {
            return Ok(None);
        }
        let promise = if area.flags.contains(AreaFlags::NORESERVE) {
            None
        } else {
            let memory = store.mmu.phys.total_frames();
            Some(store.objects.promises().take(area.range.pages(), memory, asker(state))?)
        };
        let length = area.range.length();
        Ok(Some(store.objects.memory(Purpose::Mapping, length, Seals::empty(), promise)?))
    }

    /// Where the mapping goes.
    fn choose(
        &self,
        store: &Store<P>,
        state: &State,
        request: &Request<'_, P>,
        length: u64,
    ) -> Result<VirtRange, CallError> {
        let pin = store.mmu.phys.epoch.pin();
        let flags = request.flags;
        if !flags.intersects(MapFlags::FIXED | MapFlags::FIXED_NOREPLACE) {
            let low = flags.contains(MapFlags::BIT32);
            let room = if low { Room::Low } else { Room::Any };
            return self.place(state, &pin, (request.hint, room), length);
        }
        let range = VirtRange::of_length(request.hint, length).ok_or(CallError::NoMemory)?;
        if range.end > P::Format::USER_END {
            return Err(CallError::NoMemory);
        }
        if !request.hint.is_page_aligned() {
            return Err(CallError::Invalid);
        }
        if range.start.0 < state.limits.lowest {
            return Err(CallError::NotPermitted);
        }
        if flags.contains(MapFlags::FIXED_NOREPLACE) && !self.is_empty(&pin, range) {
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
        let is_data = area.is_data();
        let mut new = Vec::new();
        try_push::<_, P>(&mut new, area)?;
        let (mapped, locked, data) = (state.mapped, state.locked, state.data);
        let mut change = self.change(state);
        change.may_exceed_by_one();
        change.replace(range, new)?;
        if change.mapped() > limits.address_space && change.mapped() > mapped {
            return Err(CallError::NoMemory);
        }
        // As on Linux whatever was mapped there is set against it, data or not.
        let replaced = mapped + range.length() - change.mapped();
        if is_data && data + range.length() - replaced > limits.data {
            return Err(CallError::NoMemory);
        }
        if change.locked() > limits.locked && change.locked() > locked {
            return Err(CallError::Again);
        }
        change.promise(store)?;
        // What was there before must be gone when the first fault on the new area looks.
        let frozen = self.generation.freeze();
        let gone = change.commit(store);
        self.drop_pages(store, range, spares);
        drop(frozen);
        Ok(gone)
    }
}

impl<P: Platform> Request<'_, P> {
    fn object(&self) -> Option<&Hold<Object<P>, P>> {
        match self.backing {
            Backing::Anonymous => None,
            Backing::Object(object) | Backing::Opened(object, _) => Some(object),
        }
    }

    fn is_droppable(&self) -> bool {
        self.flags.bits() & KIND == MapFlags::DROPPABLE.bits()
    }

    /// What the descriptor allows.
    fn opened_for(&self) -> Prot {
        if let Backing::Opened(_, rights) = self.backing { rights } else { Prot::ALL }
    }

    /// Checks what comes before a place is looked for; returns the length in whole pages.
    fn check_numbers(&self) -> Result<u64, CallError> {
        if !self.offset.is_multiple_of(PAGE_SIZE) {
            return Err(CallError::Invalid);
        }
        let huge = self.flags.contains(MapFlags::HUGETLB);
        if huge && (self.object().is_some() || !HUGE_SIZES.contains(&(self.flags.bits() >> 26))) {
            return Err(CallError::Invalid);
        }
        if self.length == 0 {
            return Err(CallError::Invalid);
        }
        let length = self.length.checked_add(PAGE_SIZE - 1).ok_or(CallError::NoMemory)?;
        if huge {
            // There is no pool of superpages to take them from.
            let kind = self.flags.bits() & KIND;
            return Err(if kind == 0 { CallError::Invalid } else { CallError::NoMemory });
        }
        Ok(length & !(PAGE_SIZE - 1))
    }

    /// Checks what comes after a place was found good, in Linux's order; returns what mprotect(2) may allow.
    fn check_backing(&self, length: u64) -> Result<Prot, CallError> {
        let kind = MapFlags::from_bits_retain(self.flags.bits() & KIND);
        let shared = kind.contains(MapFlags::SHARED);
        let known = kind == MapFlags::SHARED || kind == MapFlags::PRIVATE;
        let stack = self.flags.contains(MapFlags::GROWSDOWN);
        let Some(object) = self.object() else {
            let good = if self.is_droppable() {
                !stack && !self.flags.contains(MapFlags::LOCKED)
            } else {
                known && !(shared && stack)
            };
            return if good { Ok(Prot::ALL) } else { Err(CallError::Invalid) };
        };
        // The last byte has to have an offset that is not negative.
        let end = self.offset.checked_add(length);
        if end.is_none_or(|end| end > i64::MAX as u64) {
            return Err(CallError::Overflow);
        }
        if kind.bits() == VALIDATE {
            if self.flags.bits() & !VALIDATED != 0 {
                return Err(CallError::Unsupported);
            }
        } else if !known {
            return Err(CallError::Invalid);
        }
        let rights = self.opened_for();
        let mut max_prot = Prot::ALL;
        if shared && !rights.contains(Prot::WRITE) {
            max_prot -= Prot::WRITE;
        }
        if !max_prot.contains(self.prot) || !rights.contains(Prot::READ) {
            return Err(CallError::Denied);
        }
        if !rights.contains(Prot::EXEC) {
            if self.prot.contains(Prot::EXEC) {
                return Err(CallError::NotPermitted);
            }
            max_prot -= Prot::EXEC;
        }
        if stack {
            return Err(CallError::Invalid);
        }
        if !shared && object.device().is_some() {
            max_prot -= Prot::WRITE;
        }
        if !max_prot.contains(self.prot) {
            return Err(CallError::Denied);
        }
        // Seals that may be added later do not take away what is mapped; see `check_object`.
        let sealed = object.sealed().intersects(Seals::WRITE | Seals::FUTURE_WRITE);
        if shared && sealed && !self.prot.contains(Prot::WRITE) {
            max_prot -= Prot::WRITE;
        }
        Ok(max_prot)
    }

    /// Checks what the object itself has against it, last of all.
    fn check_object(&self) -> Result<(), CallError> {
        let Some(object) = self.object() else { return Ok(()) };
        if self.flags.contains(MapFlags::SYNC) && object.file().is_some() {
            return Err(CallError::Unsupported);
        }
        let stores = self.flags.contains(MapFlags::SHARED) && self.prot.contains(Prot::WRITE);
        if stores && object.sealed().intersects(Seals::WRITE | Seals::FUTURE_WRITE) {
            return Err(CallError::NotPermitted);
        }
        Ok(())
    }

    /// What the area keeps of the flags.
    fn area_flags(&self, honours_noreserve: bool) -> AreaFlags {
        let mut area = AreaFlags::empty();
        for (flag, meaning) in [
            (MapFlags::SHARED, AreaFlags::SHARED),
            (MapFlags::GROWSDOWN, AreaFlags::GROWSDOWN),
            (MapFlags::NORESERVE, AreaFlags::NORESERVE),
            (MapFlags::STACK, AreaFlags::NOHUGEPAGE),
        ] {
            area.set(meaning, self.flags.contains(flag));
        }
        if !honours_noreserve {
            area.remove(AreaFlags::NORESERVE);
        }
        if self.is_droppable() {
            area |= AreaFlags::DROPPABLE | AreaFlags::NORESERVE;
            area |= AreaFlags::WIPEONFORK | AreaFlags::DONTDUMP;
        }
        area
    }
}

/// Who asks for a promise.
pub(super) fn asker(state: &State) -> Asker {
    Asker { admin: state.limits.reserve == Reserve::Usable, mapped: state.mapped }
}

/// Refuses what the policy does not let be promised, as far as `area` needs it. Nothing is taken yet.
pub(super) fn check_memory<P: Platform>(
    store: &Store<P>,
    state: &State,
    area: &Area<P>,
) -> Result<(), CallError> {
    if area.needs_promise() {
        let memory = store.mmu.phys.total_frames();
        drop(store.objects.promises().take(area.range.pages(), memory, asker(state))?);
    }
    Ok(())
}
