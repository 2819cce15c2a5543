//! Physical memory before the component has it: which ranges there are, and frames for the home itself.
//!
//! Flow:  boot information -> RAM that nothing lies in -> frames for tables, stacks, heap -> the rest to the component.
//!        Once the component has it, further frames for the home come from there (`frames`).
//! Locks: one, for one request.
//! Owns:  the ranges, until [`take_all`].
//!
//! R1. No range here overlaps the image, a module, or the first megabyte.

use core::sync::atomic::{AtomicBool, Ordering};

use rumpvm_arch::{PAGE_SIZE, PhysAddr};

use crate::boot::{BootInfo, Kind, List};
use crate::layout::{BOOT_MAPPED, Image, direct};
use crate::lock::Lock;
use crate::paging;

/// The first megabyte is left to firmware, to the code that starts other CPUs, and to the heap.
const LOW: u64 = 1 << 20;
/// The page from which other CPUs start: above the BIOS's data, below where its own might begin.
pub(crate) const START_PAGE: u64 = 0x8000;
/// What the heap may have of the first megabyte.
const LOW_HEAP: (u64, u64) = (0x1_0000, 0x9_0000);
/// Ranges kept: one for each region, and a few that aligning and cutting make.
const RANGES: usize = 96;

type Ranges = List<(u64, u64), RANGES>;

/// Ranges of free RAM.
static FREE: Lock<Ranges> = Lock::new(Ranges::new((0, 0)));
/// The component has the rest. Changes once, under the lock; the heap looks at each allocation, without.
static CLOSED: AtomicBool = AtomicBool::new(false);

/// Finds the free ranges, and switches to tables that map all of RAM.
pub(crate) fn start(boot: &BootInfo, image: &Image) {
    *FREE.lock() = free_ranges(boot, image.extent());
    paging::start(boot, image);
    assert!(left() > 0, "the boot loader names no memory: {boot:?}");
}

/// RAM above the first megabyte but for the image and the modules, in whole pages.
fn free_ranges(boot: &BootInfo, image: (u64, u64)) -> Ranges {
    let mut free = Ranges::new((0, 0));
    let up = |at: u64| at.div_ceil(PAGE_SIZE) * PAGE_SIZE;
    let down = |at: u64| at / PAGE_SIZE * PAGE_SIZE;
    for region in boot.regions().iter().filter(|region| region.kind == Kind::Ram) {
        free.push((up(region.start.max(LOW)), down(region.end)));
    }
    let modules = boot.modules().iter().map(|module| (module.start, module.end));
    // What the loader calls RAM in one line and something else in another is not RAM.
    let others = boot.regions().iter().filter(|region| region.kind != Kind::Ram);
    let others = others.map(|region| (region.start, region.end));
    for (start, end) in modules.chain(others).chain([image]) {
        free = without(&free, (down(start), up(end)));
    }
    free
}

/// `ranges` without what lies in `hole`.
fn without(ranges: &Ranges, hole: (u64, u64)) -> Ranges {
    let mut left = Ranges::new((0, 0));
    for &(start, end) in ranges.as_slice() {
        for (start, end) in [(start, end.min(hole.0)), (start.max(hole.1), end)] {
            if start < end {
                left.push((start, end));
            }
        }
    }
    left
}

/// 2^`order` frames in a row, aligned to their length, for good; they hold anything. `None` if there are none.
pub(crate) fn frames(order: u32) -> Option<PhysAddr> {
    let mut free = FREE.lock();
    if is_taken() {
        drop(free);
        return crate::upcalls()?.frames(order);
    }
    let bytes = PAGE_SIZE << order;
    // Highest first, so that what is left for the component begins low; but not above what the boot tables map.
    let fits = |&(start, end): &(u64, u64)| {
        let place = (end.min(BOOT_MAPPED).checked_sub(bytes)?) / bytes * bytes;
        (place >= start).then_some(place)
    };
    let place = free.as_slice().iter().filter_map(fits).max()?;
    *free = without(&free, (place, place + bytes));
    Some(PhysAddr(place))
}

/// One frame of zeros for good.
pub(crate) fn zeroed_frame() -> Option<PhysAddr> {
    let frame = frames(0)?;
    // SAFETY: the frame is ours alone, and the direct map covers it: the boot tables' part of it before the
    // kernel's own are loaded (`frames`), all of RAM later.
    unsafe { core::ptr::write_bytes(direct(frame) as *mut u8, 0, PAGE_SIZE as usize) };
    Some(frame)
}

/// Bytes that are left to give away.
pub fn left() -> u64 {
    FREE.lock().as_slice().iter().map(|(start, end)| end - start).sum()
}

/// Whether the component has the memory.
#[inline]
pub(crate) fn is_taken() -> bool {
    CLOSED.load(Ordering::Acquire)
}

/// Calls `give` with each range that is left. From now on frames for the home come from who has them.
pub fn take_all(mut give: impl FnMut(PhysAddr, PhysAddr)) {
    let free = FREE.lock();
    assert!(!CLOSED.swap(true, Ordering::AcqRel), "memory is given away once");
    let ranges = *free;
    drop(free);
    for &(start, end) in ranges.as_slice() {
        give(PhysAddr(start), PhysAddr(end));
    }
}

/// What of the first megabyte is RAM that the heap may have.
pub(crate) fn low_heap(boot: &BootInfo) -> Option<(u64, u64)> {
    let mut low = Ranges::new((0, 0));
    for region in boot.regions().iter().filter(|region| region.kind == Kind::Ram) {
        low.push((region.start.max(LOW_HEAP.0), region.end.min(LOW_HEAP.1)));
    }
    for module in boot.modules() {
        low = without(&low, (module.start, module.end));
    }
    low.as_slice()
        .iter()
        .copied()
        .filter(|(start, end)| start < end)
        .max_by_key(|(start, end)| end - start)
}

/// Reads physical memory that the boot tables map, while they are loaded; elsewhere finds zeros.
pub(crate) fn read_early(at: u64, into: &mut [u8]) {
    let end = at.checked_add(into.len() as u64);
    if end.is_none_or(|end| end > BOOT_MAPPED) {
        into.fill(0);
        return;
    }
    let from = direct(PhysAddr(at)) as *const u8;
    // SAFETY: the boot tables map these addresses, and `into` is on our stack or in our data, which the
    // information of firmware and loader is not.
    unsafe { core::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) };
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn a_hole_splits_shortens_or_swallows_a_range() {
        let mut ranges = Ranges::new((0, 0));
        ranges.push((10, 20));
        ranges.push((30, 40));
        ranges.push((50, 60));
        assert_eq!(without(&ranges, (12, 14)).as_slice(), [(10, 12), (14, 20), (30, 40), (50, 60)]);
        assert_eq!(without(&ranges, (15, 55)).as_slice(), [(10, 15), (55, 60)]);
        assert_eq!(without(&ranges, (20, 30)).as_slice(), ranges.as_slice());
    }
}
