//! The TLBs against the tables: at a quiet moment every translation that a CPU holds is one that a
//! fresh walk would give.
//!
//! Flow:  each CPU's TLB -> a walk that changes nothing -> agreement, or the story.
//! Locks: one TLB at a time. With accesses or flushes under way the answer means nothing.
//! Owns:  nothing.

use std::ops::Deref;

use rumpvm_arch::{Format, Frame, VirtAddr};

use crate::hardware::Hardware;
use crate::tlb::{Mode, Table, Tlb, Translation};

/// Checks the TLB of each CPU, in order of number.
pub(crate) fn verify<F: Format>(
    hardware: &Hardware,
    tlbs: impl Iterator<Item: Deref<Target = Tlb>>,
) -> Result<(), String> {
    for (cpu, tlb) in tlbs.enumerate() {
        let told = |story: String| format!("the TLB of CPU {cpu} is wrong: {story}");
        verify_tlb::<F>(hardware, &tlb).map_err(told)?;
    }
    Ok(())
}

fn verify_tlb<F: Format>(hardware: &Hardware, tlb: &Tlb) -> Result<(), String> {
    if tlb.mode == Mode::Kernel {
        return verify_kernel::<F>(hardware, tlb);
    }
    let Some(root) = tlb.root() else { return Ok(()) };
    if hardware.walker().generation(root.frame) != Some(root.generation) {
        return Err(format!("it is active on root {:?}, which has been freed", root.frame));
    }
    for (at, page) in tlb.pages() {
        verify_page::<F>(hardware, (root.frame, F::LEVELS), at, page)?;
    }
    for (level, at, table) in tlb.tables::<F>() {
        verify_table::<F>(hardware, root.frame, level, at, table)?;
    }
    Ok(())
}

/// Pages alone: the tables above them stay, as the links do.
fn verify_kernel<F: Format>(hardware: &Hardware, tlb: &Tlb) -> Result<(), String> {
    for (at, page) in tlb.pages() {
        let top = hardware.kernel.below::<F>(at);
        let top = top.ok_or_else(|| format!("{at} of the kernel is in no part that was linked"))?;
        verify_page::<F>(hardware, top, at, page)?;
    }
    Ok(())
}

fn verify_page<F: Format>(
    hardware: &Hardware,
    top: (Frame, usize),
    at: VirtAddr,
    page: Translation,
) -> Result<(), String> {
    let names = format!("{at} leads to {:?} (filled at access {})", page.frame, page.filled);
    let seen = match hardware.walker().peek_below::<F>(top, 1, at) {
        Some(seen) if seen.entry.is_present() => seen,
        _ => return Err(format!("{names}, but is not mapped")),
    };
    if seen.entry.frame() != page.frame {
        return Err(format!("{names}, but the entry is {:?}", seen.entry));
    }
    if page.rights.exceed(seen.rights) {
        return Err(format!(
            "{names} with {:?}, but the tables give {:?}",
            page.rights, seen.rights
        ));
    }
    if page.dirty && !seen.entry.is_dirty() {
        return Err(format!("{names} and stores would not set D, which the entry lacks"));
    }
    if hardware.walker().generation(page.frame) != Some(page.generation) {
        return Err(format!("{names}, which has been freed and is mapped again"));
    }
    Ok(())
}

fn verify_table<F: Format>(
    hardware: &Hardware,
    root: Frame,
    level: usize,
    at: VirtAddr,
    table: Table,
) -> Result<(), String> {
    let names = format!("the level-{level} table for {at} is {:?}", table.frame);
    let seen = match hardware.walker().peek::<F>(root, level + 1, at) {
        Some(seen) if seen.entry.is_present() => seen,
        _ => return Err(format!("{names}, but there is none")),
    };
    if seen.entry.frame() != table.frame {
        return Err(format!("{names}, but the entry above is {:?}", seen.entry));
    }
    if table.rights.exceed(seen.rights) {
        return Err(format!("{names} with {:?}, but above is {:?}", table.rights, seen.rights));
    }
    if hardware.walker().generation(table.frame) != Some(table.generation) {
        return Err(format!("{names}, which has been freed and is in use again"));
    }
    Ok(())
}
