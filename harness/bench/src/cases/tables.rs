//! Page tables by range: the cursor of a pmap that this CPU translates through.

use rumpvm::Vm;
use rumpvm::phys::PageKind;
use rumpvm::pmap::{Cursor, Debt, Pmap};
use rumpvm_arch::{Frame, PAGE_SIZE, Prot, VirtRange};

use super::{BASE, on_cpu};
use crate::machine::Home;
use crate::meter::{Measured, Meter};

/// Pages of the range when cycles are measured: 256 MiB, whose records do not fit into the caches' first levels.
pub(crate) const PAGES: u64 = 1 << 16;
/// Pages of the range when instructions are counted: what one takes is what all take.
pub(crate) const FEW_PAGES: u64 = 1 << 12;
/// Room for the pages, their records and tables.
const MEMORY: u64 = 320 << 20;

/// Which step is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Map,
    Protect,
    Unmap,
}

/// Mapping memory.
pub(crate) fn map(meter: Meter) -> Measured {
    on_cpu(MEMORY, meter, |vm, meter| {
        let frames = take(vm, meter);
        range(vm, meter, Step::Map, &frames);
        give_back(vm, frames);
    })
}

/// Mapping frames that have no records, as those of a device.
pub(crate) fn map_device(meter: Meter) -> Measured {
    on_cpu(16 << 20, meter, |vm, meter| {
        let pages = meter.scale(PAGES, FEW_PAGES) as u32;
        let first = 1 << 24;
        let frames: Vec<Frame> = (first..first + pages).map(Frame).collect();
        range(vm, meter, Step::Map, &frames);
    })
}

/// Taking the right to store away.
pub(crate) fn protect(meter: Meter) -> Measured {
    on_cpu(MEMORY, meter, |vm, meter| {
        let frames = take(vm, meter);
        range(vm, meter, Step::Protect, &frames);
        give_back(vm, frames);
    })
}

/// Unmapping, with the tables.
pub(crate) fn unmap(meter: Meter) -> Measured {
    on_cpu(MEMORY, meter, |vm, meter| {
        let frames = take(vm, meter);
        range(vm, meter, Step::Unmap, &frames);
        give_back(vm, frames);
    })
}

fn take(vm: &Vm<Home>, meter: &Meter) -> Vec<Frame> {
    let phys = &vm.mmu.phys;
    let take = |_| phys.give(phys.alloc().expect("memory for the range"), PageKind::Anon);
    (0..meter.scale(PAGES, FEW_PAGES)).map(take).collect()
}

fn give_back(vm: &Vm<Home>, frames: Vec<Frame>) {
    for frame in frames {
        vm.mmu.phys.free(vm.mmu.phys.take(frame));
    }
}

/// Maps, protects and unmaps `frames` twice; the first time only warms up.
fn range(vm: &Vm<Home>, meter: &mut Meter, measured: Step, frames: &[Frame]) {
    let pmap = Pmap::try_new(&vm.mmu).expect("memory for a table");
    pmap.activate(&vm.mmu);
    for round in 0..2 {
        for step in [Step::Map, Step::Protect, Step::Unmap] {
            let work = || carry_out(vm, &pmap, step, frames);
            if round > 0 && step == measured {
                meter.measure(frames.len() as u64, work);
            } else {
                work();
            }
        }
    }
    pmap.deactivate(&vm.mmu);
    pmap.destroy(&vm.mmu);
}

fn carry_out(vm: &Vm<Home>, pmap: &Pmap<Home>, step: Step, frames: &[Frame]) {
    let pin = vm.mmu.phys.epoch.pin();
    let mut debt = Debt::new();
    let end = BASE + frames.len() as u64 * PAGE_SIZE;
    let cursor: Cursor<'_, Home> = pmap.cursor(&vm.mmu, &pin, VirtRange::new(BASE, end));
    match step {
        Step::Map => {
            let entered = cursor.enter(frames.iter().copied(), Prot::RW, &mut debt);
            assert_eq!(entered, Ok(frames.len() as u64));
        }
        Step::Protect => cursor.protect(Prot::READ, &mut debt),
        Step::Unmap => cursor.remove(&mut debt),
    }
    drop(pin);
    debt.pay(&vm.mmu, pmap);
}
