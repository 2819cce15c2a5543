//! Address maps: which addresses of a space mean what.
//!
//! Flow:  call -> validate -> `Change` (prepared, then committed with one store) -> pmap, amap.
//! Locks: `state`, a sleep lock, serializes calls; a fault takes no lock of the map (D7).
//! Sleep: for `state`, and where an object is written out, which is after `state` was given up.
//! Owns:  the areas, the amap and the pmap of one space.
//!
//! V1. Areas are page-aligned, not empty, disjoint, and inside user memory.
//! V2. `generation` is different after every change that could make a fault's decision wrong; it is odd
//!     while pages move or go under an address that stays mapped, and no fault decides then.
//! V3. Every area with an object is one of that object's users.
//! V4. A call that fails has changed nothing, except where it says so.
//!
//! One file for each call, named after it.

mod area;
mod brk;
mod change;
mod cut_off;
mod fork;
mod generation;
mod guard;
mod layout;
mod limits;
mod madvise;
mod mincore;
mod minherit;
mod mlock;
mod mmap;
mod mprotect;
mod mremap;
mod msync;
mod munmap;
mod pkeys;
mod place;
mod remap_file_pages;
mod shmdt;
mod stack;

use core::ops::ControlFlow;

use rumpvm_arch::{PAGE_SIZE, VirtAddr, VirtRange};
use rumpvm_platform::Platform;

pub use area::{Area, AreaFlags};
pub use layout::{Direction, Layout, Randomness};
pub use limits::{Limits, Reserve};
pub use minherit::Inheritance;
pub use mlock::{LockAllFlags, LockFlags};
pub(crate) use mmap::Request;
pub use mmap::{Backing, MapFlags};
pub use mprotect::ProtFlags;
pub use mremap::RemapFlags;
pub use msync::SyncFlags;

use crate::amap::Amap;
use crate::error::CallError;
use crate::object::Registry;
use crate::pmap::{Mmu, Pmap};
use crate::sync::tree::Writer;
use crate::sync::{Atomic, Mutex, Ordering, Pin, Tree};
use crate::{NoMemory, sync};
use generation::Generation;

/// What all spaces of a machine share: frames and tables, and objects.
pub struct Store<P: Platform> {
    /// Frames and page tables.
    pub mmu: Mmu<P>,
    /// Objects.
    pub objects: Registry<P>,
}

/// The address map of one space, with its private pages and its page tables.
pub struct Map<P: Platform> {
    pub(crate) pmap: Pmap<P>,
    pub(crate) amap: Amap<P>,
    pub(crate) areas: Tree<Area<P>, P>,
    pub(crate) generation: Generation<P>,
    /// 1 once there was a guard in the amap: who has none never looks for them in shared memory.
    guards: Atomic<u32, P>,
    state: Mutex<State, P>,
}

/// What only calls look at.
struct State {
    writer: Writer,
    /// From the fixed start of the heap to its current end, which need not be page-aligned.
    heap: VirtRange,
    limits: Limits,
    /// Bytes mapped.
    mapped: u64,
    /// Bytes in locked areas.
    locked: u64,
    /// Bytes of private memory that can be stored to, stacks aside.
    data: u64,
    /// Bytes that are promised.
    promised: u64,
    /// Where mappings go whose caller does not say.
    layout: Layout,
    /// How whatever is mapped from now on is locked: some of [`AreaFlags::LOCK`], by mlockall(2).
    future: AreaFlags,
    /// It has been taken down.
    ended: bool,
}

impl<P: Platform> Map<P> {
    /// An empty map.
    pub(crate) fn try_new(mmu: &Mmu<P>) -> Result<Self, NoMemory> {
        let pmap = Pmap::try_new(mmu)?;
        let (areas, writer) = Tree::new();
        let heap = VirtRange::default();
        let state = State {
            writer,
            heap,
            limits: Limits::default(),
            mapped: 0,
            locked: 0,
            data: 0,
            promised: 0,
            layout: Layout::plain::<P::Format>(),
            future: AreaFlags::empty(),
            ended: false,
        };
        Ok(Self {
            pmap,
            amap: Amap::new(),
            areas,
            generation: Generation::new(),
            guards: Atomic::new(0),
            state: sync::Mutex::new(&sync::class::MAP, state),
        })
    }

    /// The page tables.
    pub fn pmap(&self) -> &Pmap<P> {
        &self.pmap
    }

    /// The private pages.
    pub fn amap(&self) -> &Amap<P> {
        &self.amap
    }

    /// Whether there may be guards in the amap. Set before the first one, under the frozen generation.
    #[inline]
    pub(crate) fn has_guards(&self) -> bool {
        self.guards.load(Ordering::Acquire) != 0
    }

    /// Calls `f` with every area, in order of address, until it breaks; as of the moment of the call.
    pub fn areas<R>(
        &self,
        store: &Store<P>,
        f: impl FnMut(&Area<P>) -> ControlFlow<R>,
    ) -> ControlFlow<R> {
        let pin = store.mmu.phys.epoch.pin();
        self.areas.visit(&pin, 0, u64::MAX, f)
    }

    /// Number of areas.
    pub fn area_count(&self) -> u64 {
        self.areas.len()
    }

    /// Bytes mapped.
    pub fn mapped_bytes(&self) -> u64 {
        self.state.lock().mapped
    }

    /// Bytes in locked areas.
    pub fn locked_bytes(&self) -> u64 {
        self.state.lock().locked
    }

    /// Pages that the page tables map, those shared with others included.
    pub fn resident_pages(&self, store: &Store<P>) -> u64 {
        self.pmap.resident(&store.mmu, &store.mmu.phys.epoch.pin())
    }

    /// Page-table pages, those shared with others included.
    pub fn table_pages(&self, store: &Store<P>) -> u64 {
        self.pmap.tables(&store.mmu, &store.mmu.phys.epoch.pin())
    }

    /// Bytes of private memory that can be stored to, stacks aside.
    pub fn data_bytes(&self) -> u64 {
        self.state.lock().data
    }

    /// Bytes that are promised.
    pub fn promised_bytes(&self) -> u64 {
        self.state.lock().promised
    }

    /// The limits of this space.
    pub fn limits(&self) -> Limits {
        self.state.lock().limits
    }

    /// Changes the limits. What is over a new limit already stays.
    pub fn set_limits(&self, limits: Limits) {
        self.state.lock().limits = limits;
    }

    /// The part of `range` up to its first hole.
    fn mapped_prefix(&self, pin: &Pin<'_, P>, range: VirtRange) -> VirtRange {
        let mut end = range.start;
        let _: ControlFlow<()> = self.areas.visit(pin, range.start.0, range.end.0, |area| {
            if area.range.start > end {
                return ControlFlow::Break(());
            }
            end = area.range.end;
            ControlFlow::Continue(())
        });
        VirtRange::new(range.start, end.min(range.end))
    }

    /// Whether calls are under way. For checks.
    pub(crate) fn is_locked(&self) -> bool {
        self.state.is_locked()
    }

    /// What the counters say, and what they should say. For checks.
    pub(crate) fn counted(&self) -> [u64; 4] {
        let state = self.state.lock();
        [state.mapped, state.locked, state.data, state.promised]
    }
}

/// `length` bytes from `at`, rounded up to whole pages; `at` must be page-aligned. The common argument check
/// of the calls on existing mappings, for which what lies beyond user memory is just not mapped.
pub(crate) fn whole_pages(at: VirtAddr, length: u64) -> Result<VirtRange, CallError> {
    if !at.is_page_aligned() {
        return Err(CallError::Invalid);
    }
    let length = length.checked_next_multiple_of(PAGE_SIZE).ok_or(CallError::Unmapped)?;
    VirtRange::of_length(at, length).ok_or(CallError::Unmapped)
}
