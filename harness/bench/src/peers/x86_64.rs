//! `x86_64`: `OffsetPageTable`, one page at a time, because it has no ranges. It frees no table when it unmaps.

use std::hint::black_box;

use x86_64::structures::paging::mapper::OffsetPageTable;
use x86_64::structures::paging::{
    FrameAllocator, Mapper, Page, PageTable, PageTableFlags, PhysFrame, Size4KiB,
};
use x86_64::{PhysAddr, VirtAddr};

use super::ram::Ram;
use crate::cases::tables::{FEW_PAGES, PAGES, ROUNDS};
use crate::meter::{Measured, Meter};

const PAGE: usize = 4096;
const BASE: u64 = 0x40_0000_0000;
const FIRST_FRAME: u64 = 1 << 24;

/// Gives out the pages of some memory, one after the other.
struct Tables {
    next: usize,
}

// SAFETY: each page is given out once.
unsafe impl FrameAllocator<Size4KiB> for Tables {
    fn allocate_frame(&mut self) -> Option<PhysFrame<Size4KiB>> {
        self.next += PAGE;
        Some(PhysFrame::containing_address(PhysAddr::new(self.next as u64 - PAGE as u64)))
    }
}

fn page(at: u64) -> Page<Size4KiB> {
    Page::containing_address(VirtAddr::new(BASE + at * PAGE as u64))
}

const RW: PageTableFlags = PageTableFlags::PRESENT.union(PageTableFlags::WRITABLE);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Map,
    Protect,
    Unmap,
}

/// Mapping.
pub(crate) fn map(meter: Meter) -> Measured {
    range(meter, Step::Map)
}

/// Taking the right to store away.
pub(crate) fn protect(meter: Meter) -> Measured {
    range(meter, Step::Protect)
}

/// Unmapping.
pub(crate) fn unmap(meter: Meter) -> Measured {
    range(meter, Step::Unmap)
}

fn range(mut meter: Meter, measured: Step) -> Measured {
    let pages = meter.scale(PAGES, FEW_PAGES);
    let ram = Ram::new((pages as usize / 512 + 16) * PAGE, PAGE);
    let mut tables = Tables { next: ram.address() + PAGE };
    // SAFETY: the first page of `ram` is zeroed, which is an empty table, and used for nothing else.
    let root = unsafe { &mut *std::ptr::with_exposed_provenance_mut::<PageTable>(ram.address()) };
    // SAFETY: "physical" addresses are those of this process.
    let mut mapper = unsafe { OffsetPageTable::new(root, VirtAddr::new(0)) };
    for round in 0..ROUNDS {
        for step in [Step::Map, Step::Protect, Step::Unmap] {
            let mut work = || carry_out(&mut mapper, &mut tables, step, pages);
            if round > 0 && step == measured {
                meter.measure(pages, work);
            } else {
                work();
            }
        }
    }
    meter.done()
}

fn carry_out(mapper: &mut OffsetPageTable<'_>, tables: &mut Tables, step: Step, pages: u64) {
    for at in 0..pages {
        match step {
            Step::Map => {
                let frame = PhysAddr::new((FIRST_FRAME + at) * PAGE as u64);
                // SAFETY: nothing translates through these tables.
                let mapped = unsafe {
                    mapper.map_to(page(at), PhysFrame::containing_address(frame), RW, tables)
                };
                mapped.expect("nothing was there").ignore();
            }
            Step::Protect => {
                // SAFETY: as above.
                let done = unsafe { mapper.update_flags(page(at), PageTableFlags::PRESENT) };
                done.expect("the page is mapped").ignore();
            }
            Step::Unmap => {
                let (frame, flush) = mapper.unmap(page(at)).expect("the page is mapped");
                black_box(frame);
                flush.ignore();
            }
        }
    }
}
