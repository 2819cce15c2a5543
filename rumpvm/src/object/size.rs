//! The size of an object: who changes it, and what goes when it shrinks.
//!
//! Flow:  `resizing` taken -> size stored -> pages in transit awaited -> the file told -> its own pages dropped ->
//!        the private copies of every space (`Spaces::resize`) -> the rest of the last page zeroed.
//! Locks: `resizing`, all the while: what asks a file for its length waits until object and file agree again.
//! Sleep: for that lock, for pages in transit, and in the file.
//!
//! Z1. While `resizing` is free the object is not longer than the file was when it was last asked or told.
//! Z2. From the store of a smaller size on no fault maps a page beyond it, nor a private copy of one.

use rumpvm_arch::PAGE_SIZE;
use rumpvm_platform::Platform;

use super::{Object, Pager, Seals};
use crate::error::CallError;
use crate::pmap::Mmu;
use crate::radix::Spares;
use crate::sync::lockmgr::{Exclusive, Patience, Recursion};
use crate::sync::{Ordering, fence};

/// Most bytes of an object: a signed offset has to name each.
pub(crate) const MAX_SIZE: u64 = i64::MAX as u64;

/// The right to change the size of an object.
#[must_use = "dropping it lets others change the size"]
pub(crate) struct Resizing<'o, P: Platform> {
    object: &'o Object<P>,
    _alone: Exclusive<'o, P>,
}

impl<P: Platform> Object<P> {
    /// The right to change the size. Sleeps while somebody else has it.
    #[track_caller]
    pub(crate) fn resizing(&self, mmu: &Mmu<P>) -> Resizing<'_, P> {
        match self.resizing.exclusive(Patience::Wait, Recursion::Refuse) {
            Ok(alone) => Resizing { object: self, _alone: alone },
            // A file that changes the size of its own object while it is asked for its length.
            Err(error) => mmu.phys.broken(format_args!("the size of object {}: {error}", self.id)),
        }
    }

    /// Whether the object has a page at `index` after all, for a fault that found none: the size may be changing,
    /// and a file may have grown by other means than this component. May block as a file does.
    pub(crate) fn reaches(&self, mmu: &Mmu<P>, index: u64) -> bool {
        let Pager::File(file) = &self.pager else { return false };
        let _resizing = self.resizing(mmu);
        let length = file.length();
        // Without users it is on its way out, and stays as short as it was made (`end`).
        if self.users() > 0 && length > self.size() {
            self.size.store(length, Ordering::Release);
        }
        index < self.page_count()
    }

    /// Waits until no page from `first` on is in transit. Who begins to move one later sees the size.
    fn await_transit(&self, mmu: &Mmu<P>, first: u64) {
        let mut from = first;
        while let Some(index) = self.next_page(mmu, (from, u64::MAX)) {
            drop(self.busy(mmu, index));
            from = index + 1;
        }
    }

    /// Ends an object without users: from now on it has no pages, and gets none from a fault that looked
    /// it up before.
    pub(super) fn end(&self, mmu: &Mmu<P>) {
        let resizing = self.resizing(mmu);
        self.size.store(0, Ordering::SeqCst);
        fence::<P>();
        drop(resizing);
        self.drop_pages(mmu, (0, u64::MAX));
        self.pages.clear(&mmu.phys, (0, u64::MAX), &mut Spares::none(&mmu.phys));
    }
}

impl<P: Platform> Resizing<'_, P> {
    /// Makes object and file `bytes` long, and drops the object's own pages beyond that. Returns the first
    /// page that private copies must go from, if it shrank. On error nothing has changed.
    pub(crate) fn set(&self, mmu: &Mmu<P>, bytes: u64) -> Result<Option<u64>, CallError> {
        let object = self.object;
        let before = object.size();
        if object.device().is_some() || bytes > MAX_SIZE {
            return Err(CallError::Invalid);
        }
        let seals = object.sealed();
        if (bytes < before && seals.contains(Seals::SHRINK))
            || (bytes > before && seals.contains(Seals::GROW))
        {
            return Err(CallError::NotPermitted);
        }
        self.change(mmu, bytes)
    }

    /// The same whatever the seals say, for a size that is possible.
    pub(crate) fn change(&self, mmu: &Mmu<P>, bytes: u64) -> Result<Option<u64>, CallError> {
        let object = self.object;
        let before = object.size();
        if bytes >= before {
            if let Pager::File(file) = &object.pager {
                file.set_length(bytes)?;
            }
            object.size.store(bytes, Ordering::Release);
            return Ok(None);
        }
        object.size.store(bytes, Ordering::SeqCst);
        fence::<P>();
        if let Pager::File(file) = &object.pager {
            // A page that is being written was measured by the old size, and must not make the file longer
            // than it is about to be.
            object.await_transit(mmu, bytes / PAGE_SIZE);
            if let Err(error) = file.set_length(bytes) {
                // Faults beyond the end wait in `reaches`, so nobody was told.
                object.size.store(before, Ordering::Release);
                if let Some((frame, _busy)) = object.busy(mmu, bytes / PAGE_SIZE) {
                    // It may have been written as far as the size was for a moment.
                    mmu.phys.page(frame).set_dirty();
                }
                return Err(error.into());
            }
        }
        let first_gone = bytes.div_ceil(PAGE_SIZE);
        object.drop_pages(mmu, (first_gone, u64::MAX));
        Ok(Some(first_gone))
    }

    /// Zeroes what is left of the last page behind the end.
    pub(crate) fn zero_tail(&self, mmu: &Mmu<P>) {
        let bytes = self.object.size();
        if !bytes.is_multiple_of(PAGE_SIZE)
            && let Some((frame, _busy)) = self.object.busy(mmu, bytes / PAGE_SIZE)
        {
            mmu.phys.zero_tail(frame, bytes % PAGE_SIZE);
        }
    }
}
