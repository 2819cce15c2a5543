//! remap_file_pages(2): other pages of the same object in part of a shared mapping. As today's Linux does
//! it: by a new mapping of that part.

use core::ops::ControlFlow;

use rumpvm_arch::{PAGE_SIZE, Prot, VirtAddr, VirtRange};
use rumpvm_platform::Platform;

use super::mmap::Placed;
use super::{Area, AreaFlags, Map, MapFlags, Store};
use crate::error::CallError;
use crate::object::Seals;

/// Seals on stores.
const SEALED: Seals = Seals::WRITE.union(Seals::FUTURE_WRITE);

impl<P: Platform> Map<P> {
    /// Maps `size` bytes of the object at `start` from its page `page` on, with the rights that are there;
    /// `start` and `size` are rounded down. All of the range must be mapped alike. `rights` must be 0; of
    /// `flags` only `NONBLOCK` means something.
    ///
    /// Takes the map's lock.
    pub(crate) fn remap_file_pages(
        &self,
        store: &Store<P>,
        (start, size): (VirtAddr, u64),
        rights: u64,
        page: u64,
        flags: MapFlags,
    ) -> Result<Placed, CallError> {
        let range = VirtRange::of_length(start.page_down(), size & !(PAGE_SIZE - 1));
        let range = range.filter(|range| rights == 0 && !range.is_empty());
        let range = range.ok_or(CallError::Invalid)?;
        let last = page.checked_add(range.pages()).ok_or(CallError::Invalid)?;
        let mut state = self.state.lock();
        let first = self.alike(store, range).ok_or(CallError::Invalid)?;
        // A new mapping to Linux, so limits count what it replaces as well.
        let asked = first.flags.contains(AreaFlags::LOCKED);
        if asked && state.limits.locked == 0 {
            return Err(CallError::NotPermitted);
        }
        let locks = asked || state.future.contains(AreaFlags::LOCKED);
        if locks && state.locked.saturating_add(range.length()) > state.limits.locked {
            return Err(CallError::Again);
        }
        if last > i64::MAX as u64 / PAGE_SIZE {
            return Err(CallError::Overflow);
        }
        // And seals that came meanwhile hold for it.
        let mut max_prot = first.max_prot;
        if first.object.as_ref().is_some_and(|object| object.sealed().intersects(SEALED)) {
            if first.prot.contains(Prot::WRITE) {
                return Err(CallError::NotPermitted);
            }
            max_prot -= Prot::WRITE;
        }
        let kept = AreaFlags::SHARED | AreaFlags::LOCKED;
        let flags_now = (first.flags & kept) | state.future;
        let area = Area { range, max_prot, flags: flags_now, offset: page * PAGE_SIZE, ..first };
        let filled = area.is_filled();
        let at_once =
            !flags.contains(MapFlags::NONBLOCK) && !area.flags.contains(AreaFlags::LOCKED);
        let gone = self.put(store, &mut state, area)?;
        drop(state);
        gone.settle(store);
        let from = if filled || at_once { range.start } else { range.end };
        Ok(Placed { range, populate: VirtRange::new(from, range.end) })
    }

    /// The first area of `range`, if it is shared, through a descriptor that can be written to, and what follows it
    /// in the range maps the same object alike. On Linux what cannot ever be stored to is shared only in name; unless
    /// seals are the reason.
    fn alike(&self, store: &Store<P>, range: VirtRange) -> Option<Area<P>> {
        let pin = store.mmu.phys.epoch.pin();
        let is_sealed = |area: &Area<P>| {
            area.object.as_ref().is_some_and(|object| object.sealed().intersects(SEALED))
        };
        let is_written = |area: &Area<P>| area.max_prot.contains(Prot::WRITE) || is_sealed(area);
        let first = self.areas.get(&pin, range.start.0);
        let first = first.filter(|area| area.is_shared() && is_written(area))?;
        let mut end = range.start;
        let walked = self.areas.visit(&pin, range.start.0, range.end.0, |area| {
            let same_object = match (&first.object, &area.object) {
                (Some(one), Some(other)) => one.is(other),
                _ => false,
            };
            let same = same_object && (first.prot, first.flags) == (area.prot, area.flags);
            if !same || area.range.start > end {
                return ControlFlow::Break(());
            }
            end = area.range.end;
            ControlFlow::Continue(())
        });
        (walked.is_continue() && end >= range.end).then(|| first.part(first.range))
    }
}
