//! A change of the map: prepared where it may fail, then committed where it cannot (D13).

use alloc::vec::Vec;
use core::ops::ControlFlow;

use rumpvm_arch::{PAGE_SIZE, Prot, VirtAddr, VirtRange};
use rumpvm_platform::Platform;

use super::{Area, AreaFlags, Limits, Map, Reserve, State, Store};
use crate::error::CallError;
use crate::object::Object;
use crate::promise::{Asker, Taken};
use crate::sync::{Edit, Hold, try_push, try_reserve};

/// A change that is being prepared. Dropping it leaves the map as it was.
pub(super) struct Change<'m, P: Platform> {
    map: &'m Map<P>,
    edit: Option<Edit<'m, Area<P>, P>>,
    limits: Limits,
    /// Most areas there may be.
    most: u64,
    /// What was promised beforehand of what the change needs.
    promise: Option<Taken<'m, P>>,
    counts: Counts<'m>,
    /// What areas of the change use, each counted already.
    came: Vec<Use<P>>,
    /// What areas used that go.
    gone: Vec<Use<P>>,
}

/// An area's use of its object.
pub(super) struct Use<P: Platform> {
    object: Hold<Object<P>, P>,
    /// The map, if the area is private.
    mapper: Option<u64>,
    /// Whether stores through the area reach the object, now or after mprotect(2).
    writes: bool,
}

struct Counts<'m> {
    mapped: &'m mut u64,
    locked: &'m mut u64,
    data: &'m mut u64,
    promised: &'m mut u64,
    new_mapped: u64,
    new_locked: u64,
    new_data: u64,
    new_promised: u64,
}

/// Objects that lost a user. Settle it when no page of theirs is mapped by what went, without the map's
/// lock: the last user of a file writes it.
#[must_use = "objects keep a user too many until this is settled"]
pub(super) struct Gone<P: Platform>(Vec<Use<P>>);

impl<P: Platform> Use<P> {
    /// What `area` of the map of that number uses, if it has an object. Not counted yet.
    pub(super) fn of(map: u64, area: &Area<P>) -> Option<Self> {
        let mapper = (!area.is_shared()).then_some(map);
        let writes = area.is_shared() && area.max_prot.contains(Prot::WRITE);
        area.object.as_ref().map(|object| Self { object: object.clone(), mapper, writes })
    }

    /// Counts it. On error nothing has changed.
    fn count(&self) -> Result<(), CallError> {
        if let Some(map) = self.mapper {
            self.object.mappers().add(map)?;
        }
        if self.writes {
            self.object.add_writer()?;
        }
        self.object.add_user();
        Ok(())
    }

    /// Takes it back: somebody else is a user too.
    fn undo(&self) {
        self.leave();
        self.object.undo_user();
    }

    fn leave(&self) {
        if let Some(map) = self.mapper {
            self.object.mappers().remove(map);
        }
        if self.writes {
            self.object.remove_writer();
        }
    }

    /// Ends it.
    pub(super) fn settle(&self, store: &Store<P>) {
        self.leave();
        store.objects.let_go(&store.mmu, &self.object);
    }
}

impl<P: Platform> Gone<P> {
    /// Nothing went.
    pub(super) fn none() -> Self {
        Self(Vec::new())
    }

    /// Makes room for so many objects more.
    pub(super) fn make_room(&mut self, more: usize) -> Result<(), CallError> {
        Ok(try_reserve::<_, P>(&mut self.0, more)?)
    }

    /// Takes over what `other` has, for which room was made.
    pub(super) fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Lets the users go.
    pub(super) fn settle(self, store: &Store<P>) {
        for used in &self.0 {
            used.settle(store);
        }
    }
}

impl<P: Platform> Map<P> {
    /// Begins a change.
    pub(super) fn change<'m>(&'m self, state: &'m mut State) -> Change<'m, P> {
        let State { writer, limits, mapped, locked, data, promised, .. } = state;
        let (new_mapped, new_locked) = (*mapped, *locked);
        let (new_data, new_promised) = (*data, *promised);
        Change {
            map: self,
            edit: Some(self.areas.edit(writer)),
            limits: *limits,
            most: limits.areas,
            promise: None,
            counts: Counts {
                mapped,
                locked,
                data,
                promised,
                new_mapped,
                new_locked,
                new_data,
                new_promised,
            },
            came: Vec::new(),
            gone: Vec::new(),
        }
    }
}

impl<'m, P: Platform> Change<'m, P> {
    /// Makes `range` consist of `new` alone: areas there are cut, and what fits is merged with its
    /// neighbours. `new` is in order and inside `range`.
    pub(super) fn replace(&mut self, range: VirtRange, new: Vec<Area<P>>) -> Result<(), CallError> {
        let Some(edit) = self.edit.as_mut() else { return Err(CallError::Invalid) };
        let map = self.map.pmap.id();
        let (mut lo, mut hi) = (range.start, range.end);
        let mut parts: Vec<Area<P>> = Vec::new();
        let mut right = None;
        let mut result = Ok(());
        // One page further on each side, to see the neighbours that touch.
        let (first, last) = (range.start.0.saturating_sub(1), range.end.0.saturating_add(1));
        let _: ControlFlow<()> = edit.visit(first, last, |old| {
            result = Use::of(map, old)
                .map_or(Ok(()), |used| try_push::<_, P>(&mut self.gone, used))
                .map_err(CallError::from)
                .and_then(|()| visit_old(old, range, &mut parts, &mut right, (&mut lo, &mut hi)));
            count(old, &mut self.counts, false);
            if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        result?;
        for mut area in new.into_iter().chain(right) {
            area.accounted |= area.needs_promise();
            merge_or_push(&mut parts, area)?;
        }
        for area in &parts {
            count(area, &mut self.counts, true);
            if let Some(used) = Use::of(map, area) {
                try_reserve::<_, P>(&mut self.came, 1)?;
                used.count()?;
                self.came.push(used);
            }
        }
        edit.splice(lo.0, hi.0, parts)?;
        if edit.len() > self.most && edit.len() > self.map.areas.len() {
            return Err(CallError::NoMemory);
        }
        Ok(())
    }

    /// One area more than the limit is no error, as for every new mapping on Linux.
    pub(super) fn may_exceed_by_one(&mut self) {
        self.most = self.most.saturating_add(1);
    }

    /// Promises what is needed; that is taken back if the change is not committed. A change that is committed
    /// without this gets what it needs whatever the policy.
    pub(super) fn promise(&mut self, store: &'m Store<P>) -> Result<(), CallError> {
        let counts = &self.counts;
        let more = counts.new_promised.saturating_sub(*counts.promised) / PAGE_SIZE;
        self.promise = None;
        if more > 0 {
            let admin = self.limits.reserve == Reserve::Usable;
            let asker = Asker { admin, mapped: *counts.mapped };
            let memory = store.mmu.phys.total_frames();
            self.promise = Some(store.objects.promises().take(more, memory, asker)?);
        }
        Ok(())
    }

    /// Bytes that will be mapped.
    pub(super) fn mapped(&self) -> u64 {
        self.counts.new_mapped
    }

    /// Bytes that will be locked.
    pub(super) fn locked(&self) -> u64 {
        self.counts.new_locked
    }

    /// Publishes the change. Decisions of faults that began before it are void from here on.
    pub(super) fn commit(mut self, store: &Store<P>) -> Gone<P> {
        if let Some(edit) = self.edit.take() {
            edit.commit(&store.mmu.phys.epoch);
        }
        *self.counts.mapped = self.counts.new_mapped;
        *self.counts.locked = self.counts.new_locked;
        *self.counts.data = self.counts.new_data;
        let promises = store.objects.promises();
        let taken = self.promise.take().map_or(0, Taken::keep);
        let (before, now) =
            (*self.counts.promised / PAGE_SIZE, self.counts.new_promised / PAGE_SIZE);
        promises.add(now.wrapping_sub(before).wrapping_sub(taken));
        *self.counts.promised = self.counts.new_promised;
        self.came.clear();
        self.map.generation.next();
        Gone(core::mem::take(&mut self.gone))
    }
}

impl<P: Platform> Drop for Change<'_, P> {
    fn drop(&mut self) {
        for used in &self.came {
            // The area that it was taken from is still there and is a user too.
            used.undo();
        }
    }
}

/// Cuts one area that overlaps or touches `range`: what is left of it goes to `parts` or `right`.
fn visit_old<P: Platform>(
    old: &Area<P>,
    range: VirtRange,
    parts: &mut Vec<Area<P>>,
    right: &mut Option<Area<P>>,
    (lo, hi): (&mut VirtAddr, &mut VirtAddr),
) -> Result<(), CallError> {
    *lo = (*lo).min(old.range.start);
    *hi = (*hi).max(old.range.end);
    if old.range.start < range.start {
        let left = VirtRange::new(old.range.start, old.range.end.min(range.start));
        try_push::<_, P>(parts, old.part(left))?;
    }
    if old.range.end > range.end {
        let from = old.range.start.max(range.end);
        *right = Some(old.part(VirtRange::new(from, old.range.end)));
    }
    Ok(())
}

fn merge_or_push<P: Platform>(parts: &mut Vec<Area<P>>, area: Area<P>) -> Result<(), CallError> {
    if let Some(last) = parts.last_mut()
        && last.continues_in(&area)
    {
        last.range.end = area.range.end;
        return Ok(());
    }
    Ok(try_push::<_, P>(parts, area)?)
}

fn count<P: Platform>(area: &Area<P>, counts: &mut Counts<'_>, comes: bool) {
    let length = area.range.length();
    let locked = if area.flags.contains(AreaFlags::LOCKED) { length } else { 0 };
    let data = if area.is_data() { length } else { 0 };
    let promised = if area.accounted { length } else { 0 };
    if comes {
        counts.new_mapped += length;
        counts.new_locked += locked;
        counts.new_data += data;
        counts.new_promised += promised;
    } else {
        counts.new_mapped -= length;
        counts.new_locked -= locked;
        counts.new_data -= data;
        counts.new_promised -= promised;
    }
}
