//! The kernel's half of every address space: the direct map, the image, devices, stacks.
//!
//! Flow:  memory map and image -> tables -> CR3. Later only stacks and devices are mapped, where nothing was.
//! Locks: one, for later mappings.
//! Owns:  the kernel's tables, for good. Nothing is ever unmapped, so no CPU has to flush for them.
//!
//! K1. No page is both writable and executable, at any of its addresses.
//! K2. RAM is mapped by the largest pages that fit; none of it is read or written for that.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use bitflags::bitflags;
use rumpvm_arch::{Frame, PAGE_SIZE, PhysAddr};
use spin::Once;

use crate::boot::{BootInfo, Kind, List};
use crate::cpu::features::features;
use crate::layout::{
    DEVICES, DIRECT, DIRECT_BYTES, ENTRIES, HUGE, IMAGE, Image, LARGE, ROOT_ENTRY, STACKS, direct,
};
use crate::lock::Lock;
use crate::memory;

bitflags! {
    /// Bits of an entry. Intel SDM vol. 3A, 4.5.
    #[derive(Clone, Copy, PartialEq, Eq)]
    struct Bits: u64 {
        const PRESENT = 1 << 0;
        const WRITE = 1 << 1;
        const THROUGH = 1 << 3;
        const UNCACHED = 1 << 4;
        const LARGE = 1 << 7;
        const GLOBAL = 1 << 8;
        const NO_EXECUTE = 1 << 63;
    }
}

/// What kernel code may do with a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Use {
    Code,
    Constants,
    Data,
    Registers,
}

/// An entry of a table in use by CPUs.
type Entry = AtomicU64;

static ROOT: AtomicU64 = AtomicU64::new(0);
/// Entries of the root for the kernel's half: where, and what. The direct map has 128 at most.
static SHARED: Once<List<(usize, u64), 160>> = Once::new();
/// The next free address for registers of devices. Held while tables change.
static NEXT_DEVICE: Lock<u64> = Lock::new(DEVICES);

/// Makes the tables and loads them.
pub(crate) fn start(boot: &BootInfo, image: &Image) {
    const MEMORY: &str = "memory for the kernel's own page tables";
    let root = memory::zeroed_frame().expect(MEMORY);
    for region in boot.regions().iter().filter(|region| region.kind != Kind::Reserved) {
        map_directly(root, image, region.start, region.end).expect(MEMORY);
    }
    for (part, usage) in
        [(image.text, Use::Code), (image.constants, Use::Constants), (image.data, Use::Data)]
    {
        for at in (part.0..part.1).step_by(PAGE_SIZE as usize) {
            map(root, IMAGE + at, at, PAGE_SIZE, usage).expect(MEMORY);
        }
    }
    // So that L1 holds: a table under each root entry that may be needed.
    for region in [DEVICES, STACKS] {
        entry(root, region, 4).and_then(below).expect(MEMORY);
    }
    let mut shared = List::new((0, 0));
    for at in ENTRIES / 2..ENTRIES {
        let value = table(root)[at].load(Ordering::Relaxed);
        if value != 0 {
            assert!(shared.push((at, value)), "more memory than the direct map can hold");
        }
    }
    SHARED.call_once(|| shared);
    ROOT.store(root.0, Ordering::Release);
    load_kernel_root();
}

/// Maps `start..end` at its place in the direct map, in whole large pages.
fn map_directly(root: PhysAddr, image: &Image, start: u64, end: u64) -> Option<()> {
    let end = end.min(DIRECT_BYTES);
    let mut at = start / LARGE * LARGE;
    while at < end {
        let is_huge = features().huge_pages && at.is_multiple_of(HUGE) && at + HUGE <= end;
        let (image_start, image_end) = image.extent();
        if is_huge && (at >= image_end || at + HUGE <= image_start) {
            map(root, DIRECT + at, at, HUGE, Use::Data)?;
            at += HUGE;
            continue;
        }
        if at >= image_end || at + LARGE <= image_start {
            map(root, DIRECT + at, at, LARGE, Use::Data)?;
        } else {
            // Code and constants cannot be written through the direct map either (K1).
            for page in (at..at + LARGE).step_by(PAGE_SIZE as usize) {
                let fixed = image.text.0 <= page && page < image.constants.1;
                let usage = if fixed { Use::Constants } else { Use::Data };
                map(root, DIRECT + page, page, PAGE_SIZE, usage)?;
            }
        }
        at += LARGE;
    }
    Some(())
}

/// Maps one page of `bytes` bytes, unless there is one; `None` if there is no memory for a table.
fn map(root: PhysAddr, at: u64, to: u64, bytes: u64, usage: Use) -> Option<()> {
    let (level, large) = match bytes {
        HUGE => (3, Bits::LARGE),
        LARGE => (2, Bits::LARGE),
        _ => (1, Bits::empty()),
    };
    let entry = entry(root, at, level)?;
    if entry.load(Ordering::Relaxed) == 0 {
        entry.store(to | (bits(usage) | large).bits(), Ordering::Release);
    }
    Some(())
}

fn bits(usage: Use) -> Bits {
    let mut bits = match usage {
        Use::Code | Use::Constants => Bits::PRESENT,
        Use::Data => Bits::PRESENT | Bits::WRITE,
        Use::Registers => Bits::PRESENT | Bits::WRITE | Bits::UNCACHED | Bits::THROUGH,
    };
    bits.set(Bits::NO_EXECUTE, usage != Use::Code && features().nx);
    bits.set(Bits::GLOBAL, features().global_pages);
    bits
}

/// The entry for `at` at `level`; makes the tables above it.
fn entry(root: PhysAddr, at: u64, level: u32) -> Option<&'static Entry> {
    let mut frame = root;
    for upper in (level + 1..=4).rev() {
        frame = below(&table(frame)[index(at, upper)])?;
    }
    Some(&table(frame)[index(at, level)])
}

fn index(at: u64, level: u32) -> usize {
    (at >> (12 + 9 * (level - 1))) as usize % ENTRIES
}

/// The table that `entry` leads to, made if there is none. Rights are those of the pages.
fn below(entry: &Entry) -> Option<PhysAddr> {
    const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
    let value = entry.load(Ordering::Relaxed);
    if value != 0 {
        assert!(value & Bits::LARGE.bits() == 0, "a table is wanted where a large page is");
        return Some(PhysAddr(value & ADDRESS));
    }
    let new = memory::zeroed_frame()?;
    entry.store(new.0 | (Bits::PRESENT | Bits::WRITE).bits(), Ordering::Release);
    Some(new)
}

fn table(frame: PhysAddr) -> &'static [Entry; ENTRIES] {
    // SAFETY: the frame holds a table for good (`below`) or a root that is alive (`share_with`); tables are
    // used as atomics only, and the direct map covers them.
    unsafe { &*(direct(frame) as *const [Entry; ENTRIES]) }
}

/// Writes the kernel's half into the root table in `root`, which stays alive.
pub(crate) fn share_with(root: Frame) {
    let entries = table(root.start());
    for &(at, value) in SHARED.get().expect("the kernel has its tables").as_slice() {
        entries[at].store(value, Ordering::Relaxed);
    }
}

/// The root that maps nothing for programs.
pub(crate) fn kernel_root() -> PhysAddr {
    PhysAddr(ROOT.load(Ordering::Acquire))
}

/// Makes this CPU translate through the kernel's own root.
pub(crate) fn load_kernel_root() {
    load(kernel_root());
}

/// Makes this CPU translate through `root`.
pub(crate) fn load(root: PhysAddr) {
    // SAFETY: every root has the kernel's half (`share_with`), so what runs now stays mapped.
    unsafe { x86::controlregs::cr3_write(root.0) };
}

/// Maps the registers of a device, uncached. `None` when there is no memory for tables.
pub(crate) fn map_registers(at: PhysAddr, bytes: u64) -> Option<NonNull<u8>> {
    let mut next = NEXT_DEVICE.lock();
    let (first, offset) = (at.0 / PAGE_SIZE * PAGE_SIZE, at.0 % PAGE_SIZE);
    let place = *next;
    let pages = (offset + bytes).div_ceil(PAGE_SIZE);
    assert!(
        place + pages * PAGE_SIZE <= DEVICES + ROOT_ENTRY,
        "devices have more registers than fit"
    );
    for page in 0..pages {
        let step = page * PAGE_SIZE;
        map(kernel_root(), place + step, first + step, PAGE_SIZE, Use::Registers)?;
    }
    *next += pages * PAGE_SIZE;
    NonNull::new((place + offset) as *mut u8)
}

/// Maps `frame` at `at`, an address for stacks where nothing is mapped. `None` when there is no memory for tables.
pub(crate) fn map_stack_page(at: u64, frame: PhysAddr) -> Option<()> {
    let _changing = NEXT_DEVICE.lock();
    map(kernel_root(), at, frame.0, PAGE_SIZE, Use::Data)
}
