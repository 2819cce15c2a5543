//! The kernel's own mappings, in a window of its addresses that the host leaves to rumpvm.

use core::sync::atomic::{AtomicU32, Ordering};

use rumpvm::pmap::{Debt, Kernel, Link, Mmu, TlbScope, WindowError};
use rumpvm_arch::{Format, Frame, PAGE_SIZE, Prot, Pte, VirtAddr, VirtRange, kernel_half, span};

use crate::errno::{
    Errno, RUMPVM_EBUSY, RUMPVM_EEXIST, RUMPVM_EINVAL, RUMPVM_ENODEV, RUMPVM_ENOMEM, outcome,
};
use crate::format::{ROOT_BYTES, Tables};
use crate::home::Foreign;
use crate::hypercalls::{calls, seen};
use crate::{frames, heap, home, layer, machine};

/// Of rumpvm_kernel_window: CPUs keep its translations when CR3 is loaded, if CR4.PGE is on.
pub const RUMPVM_WINDOW_GLOBAL: u32 = 1;

fn mmu() -> Result<&'static Mmu<Foreign>, Errno> {
    heap::make_room();
    Ok(layer::mmu(machine::get().ok_or(Errno(RUMPVM_ENODEV))?))
}

fn kernel(mmu: &Mmu<Foreign>) -> Result<&Kernel<Foreign>, Errno> {
    mmu.kernel().ok_or(Errno(RUMPVM_ENODEV))
}

/// The entry of the host's tables at `level` that serves `at`, in two halves if entries have 8 bytes; `None` if the host has no
/// table there.
fn of_host(level: usize, at: VirtAddr) -> Option<&'static [AtomicU32]> {
    const WORDS: usize = if Tables::WIDE { 2 } else { 1 };
    let mut table = calls().kernel_root;
    for above in (level..=Tables::LEVELS).rev() {
        let whole = if above == Tables::LEVELS { ROOT_BYTES } else { PAGE_SIZE as usize };
        let entries = whole / (4 * WORDS);
        let slot = (at.0 / span::<Tables>(above)) as usize % entries;
        let start = seen(calls().direct_map, table) as *const AtomicU32;
        // SAFETY: the host's tables are where it said, or where their entries say, and have as many entries; CPUs use them
        // meanwhile, as words.
        let entry = unsafe { core::slice::from_raw_parts(start.add(slot * WORDS), WORDS) };
        if above == level {
            return Some(entry);
        }
        let half = |at: usize| entry.get(at).map_or(0, |half| half.load(Ordering::Acquire));
        let entry = Pte(u64::from(half(1)) << 32 | u64::from(half(0)));
        if !entry.is_present() {
            return None;
        }
        table = entry.frame().start().0;
    }
    None
}

/// Level of the host's tables that the window's entries go to: PAE's root leads to a table of the host's, all other roots have
/// the entries themselves.
const LINKED: usize = if Tables::LEVELS == 3 { 2 } else { Tables::LEVELS };

/// Whether the host has tables for the entries that `range` needs, and nothing in these entries.
fn check_room(range: VirtRange) -> Result<(), Errno> {
    if calls().kernel_root == 0 {
        return Err(Errno(RUMPVM_EINVAL));
    }
    let step = span::<Tables>(LINKED);
    let first = range.start.0 & !(step - 1);
    for part in 0..(range.end.0 - first).div_ceil(step) {
        let entry = of_host(LINKED, VirtAddr(first + part * step)).ok_or(Errno(RUMPVM_EINVAL))?;
        if Pte(entry[0].load(Ordering::Acquire).into()).is_present() {
            return Err(Errno(RUMPVM_EEXIST));
        }
    }
    Ok(())
}

/// Stores a link in the host's tables: the half that makes it present last.
fn store(link: Link) {
    let Some(entry) = of_host(link.level, link.at) else { return };
    for (at, half) in entry.iter().enumerate().rev() {
        half.store((link.entry.0 >> (32 * at)) as u32, Ordering::Release);
    }
}

/// Takes the kernel's addresses from `start` to `end`, multiples of 4096 in the upper half, over, for rumpvm_kernel_enter
/// and its like. rumpvm makes the tables, and tells `link` of each entry that leads to one: it belongs, for good, in the
/// host's table of that `level` which serves `address`, in every space, and nothing else may be mapped by it (a level-4
/// entry serves 512 GiB, a level-2 entry 2 or 4 MiB). A null `link`: rumpvm stores them in kernel_root, or with PAE in the
/// directory that its last entry leads to, from where every space gets them. `flags` is
/// 0 or RUMPVM_WINDOW_GLOBAL.
///
/// Once, behind the first memory, before any CPU translates through a root of rumpvm's. Takes spin locks, does not sleep; from
/// a thread. Returns 0; -EINVAL (no such addresses or flags; neither `link` nor kernel_root), -EEXIST (there is a window, or
/// with a null `link` something in the entries that it needs), -EBUSY (a CPU has translated through a root of rumpvm's),
/// -ENOMEM, -ENODEV.
///
/// # Safety
/// `link` may be called, and the entries that are stored map nothing else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_kernel_window(
    start: u64,
    end: u64,
    flags: u32,
    link: Option<unsafe extern "C" fn(address: u64, level: u32, entry: u64)>,
) -> i32 {
    let open = || {
        let scope = match flags {
            0 => TlbScope::Space,
            RUMPVM_WINDOW_GLOBAL => TlbScope::Global,
            _ => return Err(Errno(RUMPVM_EINVAL)),
        };
        let range = VirtRange { start: VirtAddr(start), end: VirtAddr(end) };
        let half = kernel_half::<Tables>();
        if range.is_empty() || range.start < half.start || range.end > half.end {
            return Err(Errno(RUMPVM_EINVAL));
        }
        let mmu = mmu()?;
        if mmu.kernel().is_some() {
            return Err(Errno(RUMPVM_EEXIST));
        }
        if home::has_translated() {
            return Err(Errno(RUMPVM_EBUSY));
        }
        if link.is_none() {
            check_room(range)?;
        }
        let opened = mmu.open_window(range, scope, |it| match link {
            // SAFETY: the host's own function.
            Some(link) => unsafe { link(it.at.0, it.level as u32, it.entry.0) },
            None => store(it),
        });
        opened.map(|_| ()).map_err(|error| {
            Errno(match error {
                WindowError::Invalid => RUMPVM_EINVAL,
                WindowError::Taken => RUMPVM_EEXIST,
                WindowError::NoMemory => RUMPVM_ENOMEM,
            })
        })
    };
    outcome(open())
}

/// The pages of the window from `address` on.
fn pages(kernel: &Kernel<Foreign>, address: u64, length: u64) -> Result<VirtRange, Errno> {
    let range = VirtRange::of_length(VirtAddr(address), length).ok_or(Errno(RUMPVM_EINVAL))?;
    let window = kernel.range();
    let is_inside = window.start <= range.start && range.end <= window.end;
    let is_whole = address.is_multiple_of(PAGE_SIZE) && length.is_multiple_of(PAGE_SIZE);
    if is_inside && is_whole { Ok(range) } else { Err(Errno(RUMPVM_EINVAL)) }
}

/// Makes the tables for `length` bytes of the window from `address` on, so that rumpvm_kernel_enter cannot fail there:
/// pmap_growkernel. They stay. Takes spin locks, does not sleep; from anywhere. Returns 0, -EINVAL, -ENOMEM, -ENODEV (no
/// window).
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_kernel_prepare(address: u64, length: u64) -> i32 {
    let prepare = || {
        let mmu = mmu()?;
        let kernel = kernel(mmu)?;
        Ok(kernel.prepare(mmu, pages(kernel, address, length)?)?)
    };
    outcome(prepare())
}

/// Maps the `count` frames whose physical addresses stand at `frames` at successive pages of the window from `address` on,
/// with the rights `prot` for supervisors, in place of what was there: pmap_kenter_pa, pmap_qenter. Who enters says when it
/// ends: rumpvm_page_protect leaves these mappings, and rumpvm_frame_free does not know of them. One caller at a time for
/// each address. Takes spin locks, waits for other CPUs' flushes if there was something, does not sleep; from a thread, and
/// from anywhere where there was nothing. Returns 0; -EINVAL, -ENODEV, and nothing has changed; -ENOMEM only where
/// nothing was prepared, and then a first part may be mapped.
///
/// # Safety
/// `count` numbers can be read at `frames`; whatever the kernel does at those addresses is its own affair.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_kernel_enter(
    address: u64,
    frames: *const u64,
    count: usize,
    prot: u32,
) -> i32 {
    let enter = || {
        let mmu = mmu()?;
        let kernel = kernel(mmu)?;
        let length = (count as u64).checked_mul(PAGE_SIZE).ok_or(Errno(RUMPVM_EINVAL))?;
        let range = pages(kernel, address, length)?;
        let prot = rights(prot)?;
        if prot.is_empty() {
            return Err(Errno(RUMPVM_EINVAL));
        }
        if count == 0 {
            return Ok(());
        }
        if frames.is_null() {
            return Err(Errno(RUMPVM_EINVAL));
        }
        // SAFETY: by the caller's promise.
        let frames = unsafe { core::slice::from_raw_parts(frames, count) };
        frames.iter().try_for_each(|at| frames::frame(*at).map(|_| ()))?;
        let named = frames.iter().map(|at| Frame((*at / PAGE_SIZE) as u32));
        let mut debt = Debt::new();
        let entered = kernel.enter_untracked(mmu, range, named, prot, &mut debt);
        kernel.pay(mmu, debt);
        entered?;
        Ok(())
    };
    outcome(enter())
}

/// Unmaps `length` bytes of the window from `address` on, on every CPU that has attached: pmap_kremove, pmap_qremove. The
/// frames stay their owners'. Takes spin locks, waits for other CPUs' flushes, does not sleep; from a thread, with
/// interrupts on. Returns 0, -EINVAL, -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_kernel_remove(address: u64, length: u64) -> i32 {
    let remove = || {
        let mmu = mmu()?;
        let kernel = kernel(mmu)?;
        let range = pages(kernel, address, length)?;
        let mut debt = Debt::new();
        kernel.remove(mmu, range, &mut debt, |_, _| ());
        kernel.pay(mmu, debt);
        Ok(())
    };
    outcome(remove())
}

/// RUMPVM_PROT_* as rights.
pub(crate) fn rights(prot: u32) -> Result<Prot, Errno> {
    u8::try_from(prot).ok().and_then(Prot::from_bits).ok_or(Errno(RUMPVM_EINVAL))
}
