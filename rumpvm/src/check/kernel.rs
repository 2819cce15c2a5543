//! The window of kernel addresses: every entry is a supervisor's, in the window, and known to the reverse map.

use alloc::format;

use rumpvm_arch::{Frame, PAGE_SHIFT, Pte, VirtAddr, entries};
use rumpvm_platform::Platform;

use super::{Broken, Findings, ensure};
use crate::phys::PageKind;
use crate::pmap::{Kernel, Mmu, Pmap, TlbScope};
use crate::sync::Ordering;

pub(super) fn check<P: Platform>(mmu: &Mmu<P>, found: &mut Findings) -> Result<(), Broken> {
    let Some(kernel) = mmu.kernel() else { return Ok(()) };
    let pin = mmu.phys.epoch.pin();
    let mut broken = Ok(());
    kernel.pmap().for_each_table(mmu, &pin, |frame, level, base| {
        if broken.is_ok() {
            // Each has one parent, the first none.
            found.tables.entry(frame.0).or_default().named += 1;
            let slots = entries::<P::Format>(level);
            let belongs = |at, entry| belongs(kernel, at, entry);
            broken = table(mmu, found, (frame, level, base), slots, belongs)
                .map_err(|broken| Broken(format!("the kernel's window: {broken}")));
        }
    });
    broken
}

/// A table whose entries are nobody else's: it is one, counts its entries, and the reverse map knows those of leaf tables,
/// of which `belongs` says whether they may be there. Its own are the first `slots`.
pub(super) fn table<P: Platform>(
    mmu: &Mmu<P>,
    found: &mut Findings,
    (frame, level, base): (Frame, usize, VirtAddr),
    slots: usize,
    belongs: impl Fn(VirtAddr, Pte) -> Result<(), Broken>,
) -> Result<(), Broken> {
    let page = mmu.phys.page(frame);
    ensure!(page.kind() == PageKind::Table && !page.is_stray(), "table at {base}: {page:?}");
    let (mut live, mut broken) = (0, Ok(()));
    Pmap::for_each_entry(mmu, frame, slots, |slot, entry| {
        live += 1;
        if level == 1 && broken.is_ok() {
            let at = base + ((slot as u64) << PAGE_SHIFT);
            broken =
                belongs(at, entry).and_then(|()| leaf_entry(mmu, found, at, entry, (frame, slot)));
        }
    });
    broken?;
    let counted = page.live.load(Ordering::Relaxed);
    ensure!(counted == live, "table at {base} has {live} entries, counted {counted}");
    Ok(())
}

fn belongs<P: Platform>(kernel: &Kernel<P>, at: VirtAddr, entry: Pte) -> Result<(), Broken> {
    ensure!(kernel.range().contains(at), "{at} is mapped outside of it: {entry:?}");
    let is_global = entry.0 & Pte::G != 0;
    let is_ours = entry.0 & Pte::U == 0 && is_global == (kernel.scope() == TlbScope::Global);
    ensure!(is_ours, "the entry for {at} is no entry of the kernel's: {entry:?}");
    Ok(())
}

fn leaf_entry<P: Platform>(
    mmu: &Mmu<P>,
    found: &mut Findings,
    at: VirtAddr,
    entry: Pte,
    (table, slot): (Frame, usize),
) -> Result<(), Broken> {
    ensure!(entry.is_present(), "the entry for {at} is litter: {entry:?}");
    let frame = entry.frame();
    if entry.0 & Pte::UNTRACKED == 0 && mmu.is_tracked(frame) {
        let known = mmu.is_mapped_at(frame, table, slot);
        ensure!(known, "{at} is mapped to {entry:?}, which the reverse map does not know");
        found.frame(frame).mapped += 1;
    }
    Ok(())
}
