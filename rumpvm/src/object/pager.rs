//! Moving pages between an object and its file, and throwing them away.
//!
//! Whoever moves a page has it exclusively busy, and holds nothing else while the file works. A page is
//! cleaned in its mappings before it is written, so a store during the write makes it dirty again.

use rumpvm_arch::{Frame, PAGE_SIZE};
use rumpvm_platform::{IoError, Platform};

use super::{Object, Pager};
use crate::NoMemory;
use crate::phys::Busy;
use crate::pmap::{Debt, Mmu};
use crate::radix::{Slot, put_page};
use crate::stats::Event;

/// Why an object could not bring or keep a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PagerError {
    /// No frame. Nothing has changed.
    NoMemory,
    /// The file failed. A page that could not be read is absent, one that could not be written is dirty.
    Io(IoError),
}

impl From<NoMemory> for PagerError {
    fn from(NoMemory: NoMemory) -> Self {
        Self::NoMemory
    }
}

impl From<IoError> for PagerError {
    fn from(error: IoError) -> Self {
        Self::Io(error)
    }
}

impl<P: Platform> Object<P> {
    /// Reads the page at `index` from the file, unless somebody else has it. Sleeps.
    pub(crate) fn page_in(&self, mmu: &Mmu<P>, index: u64) -> Result<(), PagerError> {
        let Pager::File(file) = &self.pager else { return Ok(()) };
        let phys = &mmu.phys;
        if index >= self.page_count() {
            return Ok(());
        }
        let fresh = phys.alloc()?;
        let pin = phys.epoch.pin();
        let mut leaf = match self.pages.leaf_mut(phys, &pin, index) {
            Ok(leaf) => leaf,
            Err(NoMemory) => {
                phys.free(fresh);
                self.pages.trim(phys, index);
                return Err(PagerError::NoMemory);
            }
        };
        if leaf.get(index) != Slot::Empty {
            drop(leaf);
            phys.free(fresh);
            return Ok(());
        }
        let Some(frame) = self.install(mmu, &mut leaf, index, fresh) else {
            // If the object has ended meanwhile, nobody else gives the nodes up.
            drop(leaf);
            self.pages.trim(phys, index);
            return Ok(());
        };
        let Some(busy) = phys.page(frame).try_busy() else {
            phys.broken(format_args!("{frame:?} was busy before it could be seen"));
        };
        drop(leaf);
        drop(pin);

        let read = phys.fill_busy(frame, &busy, |bytes| file.read(index * PAGE_SIZE, bytes));
        match read {
            Ok(bytes) => {
                phys.zero_tail(frame, bytes as u64);
                phys.counters.count(Event::PageIn);
                Ok(())
            }
            Err(error) => {
                self.remove(mmu, index, frame, busy);
                Err(PagerError::Io(error))
            }
        }
    }

    /// Takes a busy page out of the tree and frees it.
    fn remove(&self, mmu: &Mmu<P>, index: u64, frame: Frame, busy: Busy<'_, P>) {
        let pin = mmu.phys.epoch.pin();
        let taken = self.pages.take(&mmu.phys, &pin, index);
        debug_assert_eq!(taken, Some(frame));
        drop(pin);
        drop(busy);
        put_page(&mmu.phys, frame);
    }

    /// Writes the dirty pages in `lo..hi` to the file. Sleeps. On an error the page stays dirty, the others
    /// are still tried, and the first error is returned.
    pub(crate) fn write_back(&self, mmu: &Mmu<P>, (lo, hi): (u64, u64)) -> Result<(), IoError> {
        let Pager::File(file) = &self.pager else { return Ok(()) };
        let mut outcome = Ok(());
        let mut from = lo;
        while let Some(index) = self.next_page(mmu, (from, hi)) {
            from = index + 1;
            let Some((frame, busy)) = self.busy(mmu, index) else { continue };
            let mut debt = Debt::new();
            mmu.clean(&mmu.phys.epoch.pin(), frame, &mut debt);
            debt.pay_everywhere(mmu);
            let page = mmu.phys.page(frame);
            if !page.take_dirty() {
                continue;
            }
            let start = index * PAGE_SIZE;
            let length = self.size().saturating_sub(start).min(PAGE_SIZE) as usize;
            if length == 0 {
                // The object ends before it by now, and it is about to go; unless the file refuses.
                page.set_dirty();
                continue;
            }
            let written =
                mmu.phys.fill_busy(frame, &busy, |bytes| file.write(start, &bytes[..length]));
            match written {
                Ok(()) => mmu.phys.counters.count(Event::PageOut),
                Err(error) => {
                    page.set_dirty();
                    outcome = outcome.and(Err(error));
                }
            }
        }
        outcome
    }

    /// The page at `index`, made busy; sleeps while somebody else is. None if there is no page.
    pub(super) fn busy<'p>(&self, mmu: &'p Mmu<P>, index: u64) -> Option<(Frame, Busy<'p, P>)> {
        loop {
            let pin = mmu.phys.epoch.pin();
            let leaf = self.pages.leaf(&mmu.phys, &pin, index)?;
            let Slot::Page(frame) = leaf.get(index) else { return None };
            let page = mmu.phys.page(frame);
            if let Some(busy) = page.try_busy() {
                return Some((frame, busy));
            }
            drop(leaf);
            drop(pin);
            page.sleep_while_busy();
        }
    }

    /// Unmaps and frees every page in `lo..hi`, whatever it holds; private copies stay. Sleeps.
    pub(super) fn drop_pages(&self, mmu: &Mmu<P>, (lo, hi): (u64, u64)) {
        let mut from = lo;
        while let Some(index) = self.next_page(mmu, (from, hi)) {
            if let Some((frame, busy)) = self.busy(mmu, index) {
                let pin = mmu.phys.epoch.pin();
                // Out of the tree first: after that no fault can map it again.
                let taken = self.pages.take(&mmu.phys, &pin, index);
                debug_assert_eq!(taken, Some(frame));
                let mut debt = Debt::new();
                mmu.revoke(&pin, frame, &mut debt);
                drop(pin);
                debt.pay_everywhere(mmu);
                drop(busy);
                put_page(&mmu.phys, frame);
            }
            from = index + 1;
        }
    }

    /// Whether any page is newer than the file. For checks.
    pub(crate) fn has_dirty(&self, mmu: &Mmu<P>) -> bool {
        let pin = mmu.phys.epoch.pin();
        let mut dirty = false;
        self.pages.for_each(&mmu.phys, &pin, (0, u64::MAX), |_, frame| {
            dirty = mmu.phys.page(frame).is_dirty();
            !dirty
        });
        dirty
    }
}
