//! A heap for kernels: memory of any size, by zones up to a page and an arena of the direct map above.
//!
//! Flow:  request -> size class -> zone; or, when larger, pages of an arena, which has caches for up to eight of them.
//! Locks: those of zones and arenas. Sleep: never.
//! Owns:  its zones and its arena, which give frames back by themselves when somebody wants one and there is none.
//!
//! K1. A block begins at a multiple of its alignment, and no two overlap.
//! K2. A block's class follows from its layout; without the layout, from the record of its frame.

use alloc::vec::Vec;
use core::alloc::Layout;
use core::ptr::{self, NonNull};

use rumpvm_arch::PAGE_SIZE;
use rumpvm_platform::Platform;

use super::source::physical;
use super::{Arena, ArenaSpec, ArenaUsage, Direct, Fit, pointer};
use crate::NoMemory;
use crate::phys::{Hoard, Link, Phys};
use crate::sync::{Hold, try_push};
use crate::zone::{DEBUG, Spec, SpecError, Usage, Zone, place, tell};

/// What C's malloc promises: as on the ABIs of x86, room for any scalar.
const MIN_ALIGN: usize = 16;
/// Largest block that a zone serves.
const LARGEST: usize = PAGE_SIZE as usize;
/// Bytes of the blocks of each class: multiples of 16 up to 128, then four for each doubling, so that a fifth is wasted
/// at most.
const SIZES: [u32; 28] = [
    16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024,
    1280, 1536, 1792, 2048, 2560, 3072, 3584, 4096,
];
const NAMES: [&str; SIZES.len()] = [
    "heap-16",
    "heap-32",
    "heap-48",
    "heap-64",
    "heap-80",
    "heap-96",
    "heap-112",
    "heap-128",
    "heap-160",
    "heap-192",
    "heap-224",
    "heap-256",
    "heap-320",
    "heap-384",
    "heap-448",
    "heap-512",
    "heap-640",
    "heap-768",
    "heap-896",
    "heap-1024",
    "heap-1280",
    "heap-1536",
    "heap-1792",
    "heap-2048",
    "heap-2560",
    "heap-3072",
    "heap-3584",
    "heap-4096",
];
/// The class of a size, by the number of times that it has 16 bytes, rounded up.
const CLASS: [u8; LARGEST / MIN_ALIGN + 1] = {
    let mut table = [0; LARGEST / MIN_ALIGN + 1];
    let (mut at, mut class) = (0, 0);
    while at < table.len() {
        if at * MIN_ALIGN > SIZES[class as usize] as usize {
            class += 1;
        }
        table[at] = class;
        at += 1;
    }
    table
};
/// Pages of a block for which CPUs keep some at hand.
const CACHED: usize = 8;
/// What the arena keeps though nobody uses it, at most, and the part of memory that it keeps at most.
const SPARE: u64 = 1 << 20;
const SPARE_SHARE: u64 = 64;

/// What a heap has, as of some moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeapUsage {
    /// Blocks of zones that are in use.
    pub blocks: u64,
    /// Their bytes, rounded up to their classes.
    pub bytes: u64,
    /// Frames of the zones.
    pub frames: u64,
    /// The arena of what is larger; its frames come on top.
    pub pages: ArenaUsage,
}

/// A heap.
pub struct KernelHeap<P: Platform> {
    zones: Vec<Zone<P>>,
    pages: Hold<Pages<P>, P>,
}

/// The arena of what is larger than zones serve, and its place among the hoards.
struct Pages<P: Platform> {
    arena: Arena<'static, P>,
    link: Link<P>,
}

impl<P: Platform> Hoard<P> for Pages<P> {
    fn link(&self) -> &Link<P> {
        &self.link
    }

    fn let_go(&self, phys: &Phys<P>) {
        self.arena.let_go(phys);
    }
}

/// The class of a block, if zones serve it.
#[inline]
fn class_of(size: usize, align: usize) -> Option<usize> {
    if align <= MIN_ALIGN {
        return CLASS.get(size.div_ceil(MIN_ALIGN)).map(|class| usize::from(*class));
    }
    let size = size.max(1).checked_next_multiple_of(align)?;
    let class = usize::from(*CLASS.get(size.div_ceil(MIN_ALIGN))?);
    // Some class is a multiple: the last one is a page, and the alignment no more.
    (class..SIZES.len()).find(|class| (SIZES[*class] as usize).is_multiple_of(align))
}

impl<P: Platform> KernelHeap<P> {
    /// An empty heap. Its records for each CPU, some 24 KiB, come from the heap that the component has; nothing else
    /// will.
    pub fn try_new(phys: &Phys<P>) -> Result<Self, NoMemory> {
        let mut zones = Vec::new();
        for (class, (size, name)) in SIZES.into_iter().zip(NAMES).enumerate() {
            let align = (1 << size.trailing_zeros()).min(PAGE_SIZE as u32);
            let spec = Spec::new(name, size, align);
            let zone = Zone::try_labelled(phys, spec, class as u16).map_err(|error| match error {
                SpecError::NoMemory => NoMemory,
                SpecError::Size | SpecError::Alignment => {
                    tell(phys, format_args!("K1: {error}: {name}"))
                }
            });
            try_push::<_, P>(&mut zones, zone?)?;
        }
        let spec = ArenaSpec {
            name: "heap-pages",
            quantum: PAGE_SIZE,
            fit: Fit::Instant,
            cached: CACHED,
            spare: SPARE.min(phys.total_frames() * PAGE_SIZE / SPARE_SHARE),
        };
        let arena = Arena::try_new(phys, spec, Some(&Direct))?;
        let pages = Hold::try_new(Pages { arena, link: Link::new() })?;
        phys.join(&pages);
        Ok(Self { zones, pages })
    }

    /// A block of that layout, with unknown contents. A layout without a size gets a block too.
    #[inline]
    #[track_caller]
    pub fn alloc(&self, phys: &Phys<P>, layout: Layout) -> Result<NonNull<u8>, NoMemory> {
        match self.try_alloc(phys, layout) {
            Err(NoMemory) => self.alloc_after_all(phys, layout),
            block => block,
        }
    }

    /// Frees a block.
    ///
    /// # Safety
    /// `block` came from this heap with this layout, or was last resized to it, and is used no more.
    #[inline]
    #[track_caller]
    pub unsafe fn free(&self, phys: &Phys<P>, block: NonNull<u8>, layout: Layout) {
        match self.zone(layout.size(), layout.align()) {
            // SAFETY: by the caller's promise, and the class follows from the layout.
            Some(zone) => unsafe { zone.free_part(phys, block, Some(layout.size() as u32)) },
            None => {
                let start = block.as_ptr().expose_provenance() as u64;
                self.pages.arena.free(phys, start, layout.size().max(1) as u64);
            }
        }
    }

    /// Frees a block whose layout is not known.
    ///
    /// # Safety
    /// `block` came from this heap and is used no more.
    #[track_caller]
    pub unsafe fn free_unsized(&self, phys: &Phys<P>, block: NonNull<u8>) {
        match self.zone_of(phys, block) {
            // SAFETY: by the caller's promise; its slab says whose the block is.
            Some(zone) => unsafe { zone.free_part(phys, block, None) },
            None => {
                let size = self.pages_of(phys, block);
                self.pages.arena.free(phys, block.as_ptr().expose_provenance() as u64, size);
            }
        }
    }

    /// Bytes of a block that may be used.
    #[track_caller]
    pub fn usable(&self, phys: &Phys<P>, block: NonNull<u8>) -> usize {
        match self.zone_of(phys, block) {
            Some(zone) => zone.part(phys, block) as usize,
            None => self.pages_of(phys, block) as usize,
        }
    }

    /// Changes the size of a block, in its place if that is possible. After an error the block is as it was.
    ///
    /// # Safety
    /// As [`KernelHeap::free`]; `size` is not more than `isize::MAX` when rounded up to the alignment.
    #[track_caller]
    pub unsafe fn realloc(
        &self,
        phys: &Phys<P>,
        block: NonNull<u8>,
        layout: Layout,
        size: usize,
    ) -> Result<NonNull<u8>, NoMemory> {
        let (had, has) = (class_of(layout.size(), layout.align()), class_of(size, layout.align()));
        match (had, has) {
            (Some(had), Some(has)) if had == has => {
                self.zones[had].resize_part(phys, block, size as u32);
                return Ok(block);
            }
            (None, None) => {
                let start = block.as_ptr().expose_provenance() as u64;
                let pages = |size: usize| size.max(1).div_ceil(PAGE_SIZE as usize);
                let same = pages(layout.size()) == pages(size);
                if same || self.pages.arena.resize(phys, start, size.max(1) as u64) {
                    return Ok(block);
                }
            }
            _ => {}
        }
        // SAFETY: by the caller's promise.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        let to = self.alloc(phys, new)?;
        // SAFETY: both blocks have so many bytes, and the new one is nobody else's.
        unsafe { to.copy_from_nonoverlapping(block, size.min(layout.size())) };
        // SAFETY: by the caller's promise.
        unsafe { self.free(phys, block, layout) };
        Ok(to)
    }

    /// As [`KernelHeap::realloc`], of a block whose layout is not known; elsewhere it is at a multiple of 16.
    ///
    /// # Safety
    /// As [`KernelHeap::free_unsized`].
    #[track_caller]
    pub unsafe fn realloc_unsized(
        &self,
        phys: &Phys<P>,
        block: NonNull<u8>,
        size: usize,
    ) -> Result<NonNull<u8>, NoMemory> {
        match (self.zone_of(phys, block), self.zone(size, MIN_ALIGN)) {
            (Some(had), Some(has)) if ptr::eq(had, has) => {
                had.resize_part(phys, block, size as u32);
                return Ok(block);
            }
            (None, None) => {
                let start = block.as_ptr().expose_provenance() as u64;
                if self.pages.arena.resize(phys, start, size as u64) {
                    return Ok(block);
                }
            }
            _ => {}
        }
        let new = Layout::from_size_align(size, MIN_ALIGN).map_err(|_| NoMemory)?;
        let to = self.alloc(phys, new)?;
        let had = self.usable(phys, block);
        // SAFETY: both blocks have so many bytes, and the new one is nobody else's.
        unsafe { to.copy_from_nonoverlapping(block, size.min(had)) };
        // SAFETY: by the caller's promise.
        unsafe { self.free_unsized(phys, block) };
        Ok(to)
    }

    /// Gives back what is free, but for what other CPUs have in their magazines. From anywhere.
    #[cold]
    pub fn drain(&self, phys: &Phys<P>) {
        for zone in &self.zones {
            zone.drain(phys);
        }
        self.pages.arena.drain_to_frames(phys);
    }

    /// Gives everything back, if no block is in use; whether that is so. Otherwise the heap goes on without what it had
    /// in its caches.
    pub fn close(&mut self, phys: &Phys<P>) -> bool {
        let mut empty = true;
        for zone in &mut self.zones {
            empty &= zone.close(phys).is_ok();
        }
        phys.leave(&self.pages.link);
        empty &= self.pages.arena.end(phys);
        if !empty {
            phys.join(&self.pages);
        }
        empty
    }

    /// What it has. Takes each lock in turn.
    pub fn usage(&self) -> HeapUsage {
        let (mut blocks, mut bytes, mut frames) = (0, 0, 0);
        for usage in self.zones() {
            blocks += usage.out;
            bytes += usage.out * u64::from(usage.size);
            frames += usage.frames;
        }
        HeapUsage { blocks, bytes, frames, pages: self.pages.arena.usage() }
    }

    /// What each of its zones has, smallest blocks first.
    pub fn zones(&self) -> impl Iterator<Item = Usage> {
        self.zones.iter().map(Zone::usage)
    }

    /// Which invariant does not hold, if any. At a quiet moment.
    pub fn check(&self, phys: &Phys<P>) -> Result<(), &'static str> {
        self.zones.iter().try_for_each(|zone| zone.check(phys))?;
        self.pages.arena.check(phys)
    }

    #[inline]
    fn zone(&self, size: usize, align: usize) -> Option<&Zone<P>> {
        self.zones.get(class_of(size, align)?)
    }

    #[inline]
    #[track_caller]
    fn try_alloc(&self, phys: &Phys<P>, layout: Layout) -> Result<NonNull<u8>, NoMemory> {
        match self.zone(layout.size(), layout.align()) {
            Some(zone) => zone.alloc_part(phys, layout.size() as u32),
            None => {
                let (size, align) = (layout.size().max(1) as u64, layout.align() as u64);
                Ok(pointer(self.pages.arena.alloc_aligned(phys, size, align.max(PAGE_SIZE))?))
            }
        }
    }

    /// Once more, when what can be given back has been.
    #[cold]
    #[inline(never)]
    #[track_caller]
    fn alloc_after_all(&self, phys: &Phys<P>, layout: Layout) -> Result<NonNull<u8>, NoMemory> {
        self.drain(phys);
        phys.drain();
        self.try_alloc(phys, layout)
    }

    /// The zone that has `block`, if one has it.
    #[track_caller]
    fn zone_of(&self, phys: &Phys<P>, block: NonNull<u8>) -> Option<&Zone<P>> {
        let at = physical(phys, block.as_ptr().expose_provenance() as u64);
        let place = place(phys, at)?;
        let zone = self.zones.get(usize::from(place.label)).filter(|zone| zone.owns(&place));
        if DEBUG && zone.is_none() {
            tell(phys, format_args!("heap: {block:p} is in a zone that is not the heap's"));
        }
        zone
    }

    #[track_caller]
    fn pages_of(&self, phys: &Phys<P>, block: NonNull<u8>) -> u64 {
        let size = self.pages.arena.size_of(phys, block.as_ptr().expose_provenance() as u64);
        size.unwrap_or_else(|| {
            let now = core::panic::Location::caller();
            tell(phys, format_args!("heap: {block:p} is given back at {now} and was never taken"))
        })
    }
}
