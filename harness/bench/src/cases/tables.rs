//! Page tables by range: the cursor of a pmap that this CPU translates through.

use rumpvm::Vm;
use rumpvm::phys::{Fresh, PageKind};
use rumpvm::pmap::{Cursor, Debt, Pmap};
use rumpvm_arch::{Frame, PAGE_SIZE, Prot, VirtRange};

use super::{BASE, on_cpu};
use crate::machine::Home;
use crate::meter::{Measured, Meter};

/// Pages of the range when cycles are measured: 32 MiB. Their records, which peers do not have, are in the second level
/// of caches then, as those of frames that were just allocated are.
pub(crate) const PAGES: u64 = 1 << 13;
/// Pages of the range when instructions are counted: what one takes is what all take.
pub(crate) const FEW_PAGES: u64 = 1 << 12;
/// Rounds of mapping, protecting and unmapping; the first one only warms up.
pub(crate) const ROUNDS: usize = 5;
/// Room for the pages, their records and tables.
const MEMORY: u64 = 48 << 20;

/// Which step is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    MapFresh,
    Map,
    MapDevice,
    Protect,
    Unmap,
}

/// Mapping frames that were just allocated, as populating does: nobody else knows them.
pub(crate) fn map(meter: Meter) -> Measured {
    on_cpu(MEMORY, meter, |vm, meter| {
        let frames = take(vm, meter);
        range(vm, meter, Step::MapFresh, &frames);
        give_back(vm, frames);
    })
}

/// Mapping frames that others may map or unmap at the same moment, as those of a file.
pub(crate) fn map_known(meter: Meter) -> Measured {
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
        range(vm, meter, Step::MapDevice, &frames);
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

/// Maps, protects and unmaps `frames`, several times. They are mapped fresh, as resident memory
/// is, unless another way is what is measured.
fn range(vm: &Vm<Home>, meter: &mut Meter, measured: Step, frames: &[Frame]) {
    let pmap = Pmap::try_new(&vm.mmu).expect("memory for a table");
    pmap.activate(&vm.mmu);
    for round in 0..ROUNDS {
        let enter = match measured {
            Step::Map | Step::MapDevice => measured,
            _ => Step::MapFresh,
        };
        for step in [enter, Step::Protect, Step::Unmap] {
            let take = |frame: &Frame| vm.mmu.phys.take(*frame);
            let fresh =
                if step == Step::MapFresh { frames.iter().map(take).collect() } else { vec![] };
            let work = || carry_out(vm, &pmap, step, frames, fresh);
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

fn carry_out(vm: &Vm<Home>, pmap: &Pmap<Home>, step: Step, frames: &[Frame], fresh: Vec<Fresh>) {
    let pin = vm.mmu.phys.epoch.pin();
    let mut debt = Debt::new();
    let end = BASE + frames.len() as u64 * PAGE_SIZE;
    let cursor: Cursor<'_, Home> = pmap.cursor(&vm.mmu, &pin, VirtRange::new(BASE, end));
    match step {
        Step::MapFresh => {
            let mut fresh = fresh.into_iter();
            let entered = cursor.enter_fresh(&mut fresh, PageKind::Anon, Prot::RW);
            assert_eq!(entered, Ok(frames.len() as u64));
        }
        Step::MapDevice => {
            let entered = cursor.enter_device(frames[0], Prot::RW);
            assert_eq!(entered, Ok(frames.len() as u64));
        }
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
