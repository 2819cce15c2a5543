//! shmdt(2), as far as the map goes: which areas are pieces of one attachment.

use core::ops::ControlFlow;

use rumpvm_arch::{PAGE_SIZE, VirtAddr};
use rumpvm_platform::Platform;

use super::{Area, Map, Store};
use crate::error::CallError;
use crate::object::{Object, Purpose};
use crate::sync::Hold;

/// Most areas that unmapping one looks at: it and its neighbours.
const AREAS_OF_A_CUT: usize = 3;

impl<P: Platform> Map<P> {
    /// Unmaps what is left of the segment that begins, or began, at `at`: the first area behind that maps some
    /// segment where an attachment at `at` would have it, and all others of the same segment for which that is so
    /// and that end inside it. As Linux has it, the last piece counts as inside only if the segment's size is a
    /// whole number of pages. Returns the segment.
    ///
    /// Takes the map's lock. Sleeps when that was the last area of a removed segment. Errors:
    /// [`CallError::Invalid`]; [`CallError::NoMemory`], and then the pieces before are gone.
    pub(crate) fn detach_segment(
        &self,
        store: &Store<P>,
        at: VirtAddr,
    ) -> Result<Hold<Object<P>, P>, CallError> {
        if !at.is_page_aligned() {
            return Err(CallError::Invalid);
        }
        let mut state = self.state.lock();
        let first = self.next_piece(store, at, at.0, None).ok_or(CallError::Invalid)?;
        let object = first.object.clone().ok_or(CallError::Invalid)?;
        let pages = object.size().div_ceil(PAGE_SIZE);
        let end = VirtAddr(at.0.saturating_add(pages * PAGE_SIZE));
        let mut from = first.range.end;
        let mut gone = self.unmap(store, &mut state, first.range)?;
        let mut outcome = Ok(());
        while let Some(piece) = self.next_piece(store, at, from.0, Some(&object)) {
            from = piece.range.end;
            if from > end {
                break;
            }
            // A piece is one area, but for what it may have touched.
            let unmapped = gone
                .make_room(AREAS_OF_A_CUT)
                .and_then(|()| self.unmap(store, &mut state, piece.range));
            match unmapped {
                Ok(more) => gone.append(more),
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        drop(state);
        gone.settle(store);
        outcome.map(|()| object)
    }

    /// The first area from `from` on that is a piece of an attachment at `at`: of `object`, or of any segment.
    fn next_piece(
        &self,
        store: &Store<P>,
        at: VirtAddr,
        from: u64,
        object: Option<&Hold<Object<P>, P>>,
    ) -> Option<Area<P>> {
        let pin = store.mmu.phys.epoch.pin();
        let found = self.areas.visit(&pin, from, u64::MAX, |area| {
            let wanted = area.object.as_ref().is_some_and(|mapped| match object {
                Some(object) => mapped.is(object),
                None => mapped.purpose() == Some(Purpose::Segment),
            });
            let in_place = area.range.start >= at && area.range.start - at == area.offset;
            if wanted && in_place {
                return ControlFlow::Break(area.part(area.range));
            }
            ControlFlow::Continue(())
        });
        found.break_value()
    }
}
