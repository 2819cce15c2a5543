//! What the component needs of memory for itself.

use rumpvm_arch::{PAGE_SIZE, Prot};
use rumpvm_platform::CpuId;

use super::areas::{HUNDRED_THOUSAND, fill};
use super::faults::touch;
use super::{BASE, leave, map, space};
use crate::heap;
use crate::machine::Machine;

/// Bytes for one of each.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    /// A frame's record.
    pub(crate) frame: f64,
    /// An area among a hundred thousand.
    pub(crate) area: f64,
    /// A resident page that is mapped once: what names it beside the page tables.
    pub(crate) page: f64,
    /// The same page's share of the page tables.
    pub(crate) tables: f64,
}

/// Counts it, on a machine of its own.
pub(crate) fn measure() -> Memory {
    const RESIDENT: u64 = 1 << 17;
    Machine::new(640 << 20, 1).on_cpu(CpuId(0), |vm| {
        let whole = vm.statistics();
        let frame = (whole.frames_records * PAGE_SIZE) as f64 / whole.frames_total as f64;

        let many = space(vm);
        let settle = || (0..8).for_each(|_| _ = vm.idle());
        settle();
        let before = (heap::bytes(), vm.statistics().frames_free);
        fill(vm, &many, HUNDRED_THOUSAND);
        settle();
        let frames = before.1 - vm.statistics().frames_free;
        let bytes = heap::bytes() - before.0 + (frames * PAGE_SIZE) as i64;
        let area = bytes as f64 / HUNDRED_THOUSAND as f64;
        leave(vm, &many);

        let space = space(vm);
        map(vm, &space, BASE, RESIDENT, Prot::RW);
        let before = (vm.statistics(), heap::bytes());
        touch(vm, &space, BASE, RESIDENT);
        let (after, bytes) = (vm.statistics(), heap::bytes() - before.1);
        let nodes = (after.nodes_made - before.0.nodes_made) * PAGE_SIZE;
        let tables = (after.tables_made - before.0.tables_made) * PAGE_SIZE;
        leave(vm, &space);
        let each = |bytes: u64| bytes as f64 / RESIDENT as f64;
        Memory { frame, area, page: each(nodes + bytes as u64), tables: each(tables) }
    })
}
