//! Objects: memory that can be mapped by several spaces, or by one at several places.
//!
//! Flow:  fault -> `resident` -> page, or "ask the pager" -> `page_in` -> fault again.
//! Locks: a leaf of the page tree; above it the object's `resizing` sleep lock, and the registry's.
//! Sleep: in `page_in`, `write_back`, a change of the size, and at the end of the last user; never with a leaf locked.
//! Owns:  its pages. A page is kept while any user is left, mapped or not.
//!
//! O1. A page in the tree is inside the object's size, or busy on its way out.
//! O2. A page that is busy is looked at by nobody but the pager.
//! O3. Users (mappings and handles) keep the pages, holds keep the record. When the last user leaves,
//!     dirty pages are written; if that fails they are kept, with the object, for the next who opens it.

mod contents;
mod copy;
mod mappers;
mod memory;
mod pager;
mod punch;
mod registry;
mod seals;
mod size;

use alloc::boxed::Box;

use rumpvm_arch::{Frame, PAGE_SIZE};
use rumpvm_platform::{File, FileId, Platform};

pub use pager::PagerError;
pub use registry::Registry;
pub(crate) use seals::Purpose;
pub use seals::{MemoryFlags, Seals};
pub(crate) use size::{MAX_SIZE, Resizing};

use crate::NoMemory;
use crate::phys::PageKind;
use crate::pmap::Mmu;
use crate::radix::{Leaf, Radix, Slot, put_page};
use crate::sync::{Atomic, Hold, Ordering, Pin, SleepLock, class, fence};
pub(crate) use contents::allocation_end;
use mappers::Mappers;

/// Where an object's pages come from.
pub(crate) enum Pager {
    /// Anonymous memory that several spaces see: zero-filled, kept in memory.
    Memory(Purpose),
    /// A file.
    File(Box<dyn File>),
    /// Frames of a device, mapped as they are.
    Device {
        /// The first one.
        first: Frame,
    },
}

/// Memory that can be mapped.
pub struct Object<P: Platform> {
    id: u64,
    pager: Pager,
    pages: Radix<P>,
    /// Bytes. Pages that lie beyond it as a whole cannot be touched.
    size: Atomic<u64, P>,
    /// Mappings and handles.
    users: Atomic<u64, P>,
    /// [`LIVE`] or [`LEAVING`].
    state: Atomic<u32, P>,
    /// Held alone while the size changes; the file may sleep under it.
    resizing: SleepLock<P>,
    /// Maps with private areas of it.
    mappers: Mappers<P>,
    /// Pages that are kept for it as a whole.
    promised: Atomic<u64, P>,
    /// [`Seals`]. Written with `resizing` held.
    seals: Atomic<u32, P>,
    /// Shared areas that may be stored through; see `seals`.
    writers: Atomic<u64, P>,
}

const LIVE: u32 = 0;
/// The last user has left, and its pages are being written and freed.
const LEAVING: u32 = 1;

/// What a fault finds in an object.
pub(crate) enum Resident<'p, P: Platform> {
    /// This frame. Mapping it is safe while the leaf, if there is one, stays locked.
    Page(Frame, Option<Leaf<'p, P>>),
    /// The page is in transit: sleep until it is not busy, then look everything up again.
    Busy(Frame),
    /// Not in memory: `page_in`, then look everything up again.
    Absent,
    /// The object ends before it.
    BeyondEnd,
}

impl<P: Platform> Object<P> {
    fn try_new(id: u64, pager: Pager, size: u64) -> Result<Hold<Self, P>, NoMemory> {
        Hold::try_new(Self {
            id,
            pager,
            pages: Radix::new(&class::OBJECT),
            size: Atomic::new(size),
            users: Atomic::new(1),
            state: Atomic::new(LIVE),
            resizing: SleepLock::new(&class::RESIZING),
            mappers: Mappers::new(),
            promised: Atomic::new(0),
            seals: Atomic::new(0),
            writers: Atomic::new(0),
        })
    }

    /// Number of this object, unique in its machine.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// The file behind it, if it is one.
    pub fn file(&self) -> Option<&dyn File> {
        match &self.pager {
            Pager::File(file) => Some(&**file),
            Pager::Memory(_) | Pager::Device { .. } => None,
        }
    }

    /// Identity of the file behind it, if it is one.
    pub fn file_id(&self) -> Option<FileId> {
        self.file().map(|file| file.id())
    }

    /// Whether it is anonymous memory that spaces share.
    pub fn is_memory(&self) -> bool {
        matches!(self.pager, Pager::Memory(_))
    }

    /// Its first frame, if it is a device.
    pub(crate) fn device(&self) -> Option<Frame> {
        match self.pager {
            Pager::Device { first } => Some(first),
            Pager::Memory(_) | Pager::File(_) => None,
        }
    }

    /// Mappings and handles.
    pub fn users(&self) -> u64 {
        self.users.load(Ordering::Acquire)
    }

    /// One more user, for somebody who is one or keeps one from leaving.
    pub(crate) fn add_user(&self) {
        self.users.fetch_add(1, Ordering::Relaxed);
    }

    /// One user less that cannot have been the last.
    pub(crate) fn undo_user(&self) {
        self.users.fetch_sub(1, Ordering::AcqRel);
    }

    /// One more user, unless there is none left: then it has ended, or is about to.
    pub(crate) fn try_add_user(&self) -> bool {
        let mut users = self.users();
        while users != 0 {
            match self.users.compare_exchange(users, users + 1, Ordering::AcqRel) {
                Ok(_) => return true,
                Err(now) => users = now,
            }
        }
        false
    }

    /// Pages that are kept for it as a whole. For checks.
    pub(crate) fn promised(&self) -> u64 {
        self.promised.load(Ordering::Acquire)
    }

    /// Who maps it privately.
    pub(crate) fn mappers(&self) -> &Mappers<P> {
        &self.mappers
    }

    /// Pages of it, rounded up.
    #[inline]
    pub(crate) fn page_count(&self) -> u64 {
        self.size().div_ceil(PAGE_SIZE)
    }

    /// The page at `index` for a fault.
    pub(crate) fn resident<'p>(
        &self,
        mmu: &'p Mmu<P>,
        pin: &'p Pin<'_, P>,
        index: u64,
    ) -> Result<Resident<'p, P>, NoMemory> {
        if index >= self.page_count() {
            return Ok(Resident::BeyondEnd);
        }
        if let Pager::Device { first } = self.pager {
            return Ok(Resident::Page(Frame(first.0 + index as u32), None));
        }
        let phys = &mmu.phys;
        if self.is_memory() {
            return self.resident_memory(mmu, pin, index);
        }
        let Some(leaf) = self.pages.leaf(phys, pin, index) else { return Ok(Resident::Absent) };
        Ok(match leaf.get(index) {
            Slot::Empty | Slot::Guard => Resident::Absent,
            Slot::Page(frame) if phys.page(frame).is_busy() => Resident::Busy(frame),
            Slot::Page(frame) => Resident::Page(frame, Some(leaf)),
        })
    }

    /// Whether pages that are not in memory can be read from somewhere, and how many there are.
    pub(crate) fn pages_to_read(&self) -> u64 {
        if self.file().is_some() { self.page_count() } else { 0 }
    }

    /// Whether the page at `index` is in memory now.
    pub(crate) fn is_resident(&self, mmu: &Mmu<P>, pin: &Pin<'_, P>, index: u64) -> bool {
        self.device().is_some() || self.pages.get(&mmu.phys, pin, index) != Slot::Empty
    }

    /// Pages in memory.
    pub fn resident_pages(&self, mmu: &Mmu<P>) -> u64 {
        let pin = mmu.phys.epoch.pin();
        let mut pages = 0;
        self.pages.for_each(&mmu.phys, &pin, (0, u64::MAX), |_, _| {
            pages += 1;
            true
        });
        pages
    }

    /// The page tree, for checks.
    pub(crate) fn pages(&self) -> &Radix<P> {
        &self.pages
    }

    /// Puts a fresh frame at `index` of a leaf, as a page of this object with one reference; or frees it,
    /// if the object ends before `index`. Whoever shrinks the object stores the size, and looks for pages
    /// after a fence; here the page comes first and then, after a fence, the size. So one of the two sees
    /// the other.
    fn install(
        &self,
        mmu: &Mmu<P>,
        leaf: &mut Leaf<'_, P>,
        index: u64,
        fresh: crate::phys::Fresh,
    ) -> Option<Frame> {
        let page = mmu.phys.page(fresh.frame());
        page.refs.set(1);
        page.owner.set(self.id);
        page.index.set(index);
        let frame = mmu.phys.give(fresh, PageKind::Object);
        leaf.set(index, Slot::Page(frame));
        fence::<P>();
        if index < self.page_count() {
            return Some(frame);
        }
        leaf.set(index, Slot::Empty);
        put_page(&mmu.phys, frame);
        None
    }

    /// Index of the first page in `lo..hi` that has a place in the tree.
    fn next_page(&self, mmu: &Mmu<P>, (lo, hi): (u64, u64)) -> Option<u64> {
        let pin = mmu.phys.epoch.pin();
        let mut next = None;
        self.pages.for_each(&mmu.phys, &pin, (lo, hi), |index, _| {
            next = Some(index);
            false
        });
        next
    }
}
