//! `page_table_multiarch`: its cursor by region. It frees no table when it unmaps; flushes are compiled out.

use std::alloc::{Layout, alloc_zeroed, dealloc};

use memory_addr::{PhysAddr, VirtAddr};
use page_table_entry::MappingFlags;
use page_table_entry::x86_64::X64PTE;
use page_table_multiarch::{PageTable64, PagingHandler, PagingMetaData};

use crate::cases::tables::{FEW_PAGES, PAGES, ROUNDS};
use crate::meter::{Measured, Meter};

const PAGE: usize = 4096;
const BASE: usize = 0x40_0000_0000;
const FIRST_FRAME: usize = 1 << 24;

/// x86-64, without the instruction that only a kernel may use.
struct Hosted;

impl PagingMetaData for Hosted {
    const LEVELS: usize = 4;
    const PA_MAX_BITS: usize = 52;
    const VA_MAX_BITS: usize = 48;
    type VirtAddr = VirtAddr;

    #[inline]
    fn flush_tlb(_: Option<VirtAddr>) {}
}

struct Heap;

impl PagingHandler for Heap {
    fn alloc_frames(count: usize, align: usize) -> Option<PhysAddr> {
        let layout = Layout::from_size_align(count * PAGE, align).ok()?;
        // SAFETY: the layout has a size.
        let start = unsafe { alloc_zeroed(layout) };
        (!start.is_null()).then(|| PhysAddr::from(start.expose_provenance()))
    }

    fn dealloc_frames(start: PhysAddr, count: usize) {
        let layout = Layout::from_size_align(count * PAGE, PAGE).expect("it was one before");
        // SAFETY: the memory came from `alloc_frames`; tables are single pages, aligned to their size.
        unsafe { dealloc(std::ptr::with_exposed_provenance_mut(start.as_usize()), layout) };
    }

    fn phys_to_virt(at: PhysAddr) -> VirtAddr {
        VirtAddr::from(at.as_usize())
    }
}

type Table = PageTable64<Hosted, X64PTE, Heap>;

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
    let mut table = Table::try_new().expect("memory for a table");
    for round in 0..ROUNDS {
        for step in [Step::Map, Step::Protect, Step::Unmap] {
            let mut work = || carry_out(&mut table, step, pages as usize * PAGE);
            if round > 0 && step == measured {
                meter.measure(pages, work);
            } else {
                work();
            }
        }
    }
    meter.done()
}

fn carry_out(table: &mut Table, step: Step, bytes: usize) {
    let (at, rw) = (VirtAddr::from(BASE), MappingFlags::READ | MappingFlags::WRITE);
    let mut cursor = table.cursor();
    let done = match step {
        Step::Map => {
            let frame = |at: VirtAddr| PhysAddr::from(at.as_usize() - BASE + FIRST_FRAME * PAGE);
            cursor.map_region(at, frame, bytes, rw, false)
        }
        Step::Protect => cursor.protect_region(at, bytes, MappingFlags::READ),
        Step::Unmap => cursor.unmap_region(at, bytes),
    };
    done.expect("the range is as the last step left it");
}
