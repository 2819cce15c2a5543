//! A change of the map: prepared where it may fail, then committed where it cannot (D13).

use alloc::vec::Vec;
use core::ops::ControlFlow;

use rumpvm_arch::{VirtAddr, VirtRange};
use rumpvm_platform::Platform;

use super::{Area, AreaFlags, Map, State, Store};
use crate::NoMemory;
use crate::error::CallError;
use crate::object::Object;
use crate::sync::{Edit, Hold, try_push};

/// A change that is being prepared. Dropping it leaves the map as it was.
pub(super) struct Change<'m, P: Platform> {
    map: &'m Map<P>,
    edit: Option<Edit<'m, Area<P>, P>>,
    limit: u64,
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
}

struct Counts<'m> {
    mapped: &'m mut u64,
    locked: &'m mut u64,
    new_mapped: u64,
    new_locked: u64,
}

/// Objects that lost a user. Settle it when no page of theirs is mapped by what went, without the map's
/// lock: the last user of a file writes it.
#[must_use = "objects keep a user too many until this is settled"]
pub(super) struct Gone<P: Platform>(Vec<Use<P>>);

impl<P: Platform> Use<P> {
    /// What `area` of the map of that number uses, if it has an object. Not counted yet.
    pub(super) fn of(map: u64, area: &Area<P>) -> Option<Self> {
        let mapper = (!area.is_shared()).then_some(map);
        area.object.as_ref().map(|object| Self { object: object.clone(), mapper })
    }

    /// Counts it. On error nothing has changed.
    fn count(&self) -> Result<(), NoMemory> {
        if let Some(map) = self.mapper {
            self.object.mappers().add(map)?;
        }
        self.object.add_user();
        Ok(())
    }

    /// Takes it back: somebody else is a user too.
    fn undo(&self) {
        if let Some(map) = self.mapper {
            self.object.mappers().remove(map);
        }
        self.object.undo_user();
    }

    /// Ends it. A file that could not be written keeps its pages, and the log says so: unmapping has no way to
    /// report it, as in POSIX.
    pub(super) fn settle(&self, store: &Store<P>) {
        if let Some(map) = self.mapper {
            self.object.mappers().remove(map);
        }
        if let Err(error) = store.objects.release(&store.mmu, &self.object) {
            log::warn!("object {} stays in memory: {error:?}", self.object.id());
        }
    }
}

impl<P: Platform> Gone<P> {
    /// Nothing went.
    pub(super) fn none() -> Self {
        Self(Vec::new())
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
        let State { writer, limits, mapped, locked, .. } = state;
        let (new_mapped, new_locked) = (*mapped, *locked);
        Change {
            map: self,
            edit: Some(self.areas.edit(writer)),
            limit: limits.areas,
            counts: Counts { mapped, locked, new_mapped, new_locked },
            came: Vec::new(),
            gone: Vec::new(),
        }
    }
}

impl<P: Platform> Change<'_, P> {
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
        for area in new.into_iter().chain(right) {
            merge_or_push(&mut parts, area)?;
        }
        for area in &parts {
            count(area, &mut self.counts, true);
            if let Some(used) = Use::of(map, area) {
                crate::sync::try_reserve::<_, P>(&mut self.came, 1)?;
                used.count()?;
                self.came.push(used);
            }
        }
        edit.splice(lo.0, hi.0, parts)?;
        if edit.len() > self.limit && edit.len() > self.map.areas.len() {
            return Err(CallError::NoMemory);
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
    if comes {
        counts.new_mapped += length;
        counts.new_locked += locked;
    } else {
        counts.new_mapped -= length;
        counts.new_locked -= locked;
    }
}
