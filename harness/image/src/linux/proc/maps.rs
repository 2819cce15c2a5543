//! maps and smaps: the areas of a process.
//!
//! The areas are copied first: what follows may take a while, and nobody is kept from anything meanwhile.

use alloc::vec::Vec;
use core::ops::ControlFlow;

use rumpvm::sync::try_push;
use rumpvm::{AreaFlags, NoMemory};
use rumpvm_arch::{PAGE_SIZE, Prot, VirtAddr, VirtRange};
use rumpvm_bare::Bare;
use rumpvm_files::Errno;

use super::process::with_memory;
use super::{Out, put};
use crate::linux::names;
use crate::linux::process::Process;
use crate::linux::system::system;
use crate::linux::user::Memory;

/// What is shown of an area.
struct Row {
    range: VirtRange,
    prot: Prot,
    max_prot: Prot,
    flags: AreaFlags,
    offset: u64,
    accounted: bool,
    /// Number of its object.
    object: Option<u64>,
    /// Some of it is the heap, which merges with its neighbours.
    is_heap: bool,
}

fn rows(memory: &Memory) -> Result<Vec<Row>, Errno> {
    let mut rows = Vec::new();
    let (vm, space) = (&system().kernel.vm, memory.space());
    // Where no heap can end, so its end stays where it is.
    let heap = VirtRange::new(space.brk_base(), space.brk(vm, VirtAddr(0)));
    let flow = space.areas(vm, |area| {
        let row = Row {
            range: area.range,
            prot: area.prot,
            max_prot: area.max_prot,
            flags: area.flags,
            offset: area.offset,
            accounted: area.accounted,
            object: area.object.as_ref().map(|object| object.id()),
            is_heap: !heap.is_empty() && area.range.overlaps(heap),
        };
        match try_push::<_, Bare>(&mut rows, row) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    });
    match flow {
        ControlFlow::Break(NoMemory) => Err(Errno::ENOMEM),
        ControlFlow::Continue(()) => Ok(rows),
    }
}

pub(super) fn maps(process: &Process, out: &mut Out) -> Result<(), Errno> {
    with_memory(process, |memory| {
        rows(memory)?.iter().try_for_each(|row| head(process, row, out))
    })?;
    Ok(())
}

pub(super) fn smaps(process: &Process, out: &mut Out) -> Result<(), Errno> {
    with_memory(process, |memory| {
        rows(memory)?.iter().try_for_each(|row| {
            head(process, row, out)?;
            counts(memory, row, out)
        })
    })?;
    Ok(())
}

/// The line of maps.
fn head(process: &Process, row: &Row, out: &mut Out) -> Result<(), Errno> {
    let letter = |right, letter| if row.prot.contains(right) { letter } else { '-' };
    let shared = if row.flags.contains(AreaFlags::SHARED) { 's' } else { 'p' };
    let named = row.object.and_then(names::find);
    let (device, node) = named.as_ref().map_or((0, 0), |named| (named.device, named.node));
    let (major, minor) = rumpvm_files::services::device_parts(device);
    // Of anonymous memory there is no offset.
    let offset = if row.object.is_some() { row.offset } else { 0 };
    let before = out.len();
    put(
        out,
        format_args!(
            "{:08x}-{:08x} {}{}{}{} {:08x} {:02x}:{:02x} {} ",
            row.range.start.0,
            row.range.end.0,
            letter(Prot::READ, 'r'),
            letter(Prot::WRITE, 'w'),
            letter(Prot::EXEC, 'x'),
            shared,
            offset,
            major,
            minor,
            node
        ),
    )?;
    let stack = process.image.lock().stack;
    let is_stack = row.range.start.0 <= stack && stack < row.range.end.0;
    let name = match (&named, row.object) {
        (Some(named), _) => &named.path[..],
        (None, Some(_)) => b"/dev/zero (deleted)",
        (None, None) if row.is_heap => b"[heap]",
        (None, None) if is_stack => b"[stack]",
        (None, None) => b"",
    };
    if !name.is_empty() {
        /// Names begin in this column.
        const COLUMN: usize = 73;
        let used = out.len() - before;
        put(out, format_args!("{:width$}", "", width = COLUMN.saturating_sub(used)))?;
        out.push(name)?;
    }
    put(out, format_args!("\n"))
}

/// Pages of an area, by kind.
#[derive(Default)]
struct Pages {
    present: u64,
    private_clean: u64,
    private_dirty: u64,
    shared_clean: u64,
    shared_dirty: u64,
    anonymous: u64,
    referenced: u64,
}

fn count(memory: &Memory, row: &Row) -> Pages {
    let (mmu, space) = (&system().kernel.vm.mmu, memory.space());
    let pin = mmu.phys.epoch.pin();
    let mut pages = Pages::default();
    let zero = mmu.phys.zero_page();
    space.pmap().cursor(mmu, &pin, row.range).query(|at, entry| {
        let frame = entry.frame();
        if frame == zero {
            return;
        }
        pages.present += 1;
        pages.referenced += u64::from(entry.is_accessed());
        let page = mmu.phys.page(frame);
        let is_shared = page.refs.load(rumpvm::sync::Ordering::Relaxed) > 1;
        let is_dirty = entry.is_dirty() || page.is_dirty();
        let one = VirtRange::new(at, at + PAGE_SIZE);
        let mut own = false;
        space.amap().for_each(&mmu.phys, &pin, one, |_, private| {
            own |= private == frame;
            true
        });
        pages.anonymous += u64::from(own);
        match (own && !is_shared, is_dirty || own) {
            (true, true) => pages.private_dirty += 1,
            (true, false) => pages.private_clean += 1,
            (false, true) => pages.shared_dirty += 1,
            (false, false) => pages.shared_clean += 1,
        }
    });
    pages
}

/// The lines of smaps.
fn counts(memory: &Memory, row: &Row, out: &mut Out) -> Result<(), Errno> {
    const KIB: u64 = PAGE_SIZE / 1024;
    let pages = count(memory, row);
    let locked = row.flags.contains(AreaFlags::LOCKED);
    let rows = [
        ("Size", row.range.pages()),
        ("KernelPageSize", 1),
        ("MMUPageSize", 1),
        ("Rss", pages.present),
        (
            "Pss",
            pages.private_clean
                + pages.private_dirty
                + (pages.shared_clean + pages.shared_dirty) / 2,
        ),
        ("Shared_Clean", pages.shared_clean),
        ("Shared_Dirty", pages.shared_dirty),
        ("Private_Clean", pages.private_clean),
        ("Private_Dirty", pages.private_dirty),
        ("Referenced", pages.referenced),
        ("Anonymous", pages.anonymous),
        ("LazyFree", 0),
        ("AnonHugePages", 0),
        ("ShmemPmdMapped", 0),
        ("FilePmdMapped", 0),
        ("Shared_Hugetlb", 0),
        ("Private_Hugetlb", 0),
        ("Swap", 0),
        ("SwapPss", 0),
        ("Locked", if locked { pages.present } else { 0 }),
    ];
    for (name, count) in rows {
        put(out, format_args!("{name}:{:>width$} kB\n", count * KIB, width = 23 - name.len()))?;
    }
    put(out, format_args!("THPeligible:    0\nVmFlags:"))?;
    flags(row, out)?;
    put(out, format_args!("\n"))
}

/// Linux's two letters for each flag.
fn flags(row: &Row, out: &mut Out) -> Result<(), Errno> {
    let may = |right| row.max_prot.contains(right);
    let has = |flag| row.flags.contains(flag);
    let all = [
        (row.prot.contains(Prot::READ), "rd"),
        (row.prot.contains(Prot::WRITE), "wr"),
        (row.prot.contains(Prot::EXEC), "ex"),
        (has(AreaFlags::SHARED), "sh"),
        (may(Prot::READ), "mr"),
        (may(Prot::WRITE), "mw"),
        (may(Prot::EXEC), "me"),
        (has(AreaFlags::SHARED), "ms"),
        (has(AreaFlags::GROWSDOWN), "gd"),
        (has(AreaFlags::LOCKED), "lo"),
        (has(AreaFlags::SEQUENTIAL), "sr"),
        (has(AreaFlags::RANDOM), "rr"),
        (has(AreaFlags::DONTFORK), "dc"),
        (row.accounted, "ac"),
        (has(AreaFlags::NORESERVE), "nr"),
        (has(AreaFlags::WIPEONFORK), "wf"),
        (has(AreaFlags::DONTDUMP), "dd"),
        (has(AreaFlags::HUGEPAGE), "hg"),
        (has(AreaFlags::NOHUGEPAGE), "nh"),
        (has(AreaFlags::MERGEABLE), "mg"),
    ];
    all.iter().filter(|(is, _)| *is).try_for_each(|(_, name)| put(out, format_args!(" {name}")))
}
