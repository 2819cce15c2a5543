//! The classic interface: page tables under the host's own map, as pmap(9) of the BSDs and Mach have it.
//!
//! What holds for all: user addresses, multiples of 4096; frames by physical address, got from rumpvm_frame_alloc or memory
//! of devices. When a call returns, no CPU uses what it took away.

use core::sync::atomic::{AtomicU32, Ordering};

use rumpvm::Hold;
use rumpvm::classic::{NotHosts, Pmap as Tables, PmapError, Pmaps, Wiring};
use rumpvm_arch::{VirtAddr, VirtRange};

use crate::errno::{
    Errno, RUMPVM_EFAULT, RUMPVM_EINVAL, RUMPVM_ENODEV, RUMPVM_ENOMEM, number, outcome,
};
use crate::frames::frame;
use crate::handles::Table;
use crate::home::{self, Foreign};
use crate::window::rights;
use crate::{heap, machine};

/// Page tables of one address space, by a number that is never 0 and, once it was destroyed, names no other (until 4
/// billion more were made in its place). A wrong number is refused with -EBADF.
pub type Pmap = u64;

/// Of rumpvm_pmap_enter and its like: the mapping stays until the host takes it away.
pub const RUMPVM_PMAP_WIRED: u32 = 1;

/// What a number names.
struct Named {
    pmap: Hold<Tables<Foreign>, Foreign>,
    references: AtomicU32,
}

static PMAPS: Table<Named> = Table::new();

/// For calls from anywhere.
fn look() -> Result<&'static Pmaps<Foreign>, Errno> {
    machine::get().ok_or(Errno(RUMPVM_ENODEV))
}

/// For calls from a thread: with room on the heap, and without what was destroyed in calls that must not do that.
fn pmaps() -> Result<&'static Pmaps<Foreign>, Errno> {
    let pmaps = look()?;
    heap::make_room();
    while PMAPS.has_ended()
        && let Some(ended) = PMAPS.next_ended()
    {
        pmaps.destroy(&ended.pmap);
    }
    Ok(pmaps)
}

/// As [`with`], for calls from anywhere, which take nothing down and let no heap grow.
fn glance<T>(
    pmap: Pmap,
    work: impl FnOnce(&Pmaps<Foreign>, &Named) -> Result<T, Errno>,
) -> Result<T, Errno> {
    let pmaps = look()?;
    let used = PMAPS.enter(pmap)?;
    let outcome = work(pmaps, &used);
    used.leave_for_others();
    outcome
}

fn with<T>(
    pmap: Pmap,
    work: impl FnOnce(&Pmaps<Foreign>, &Named, &dyn Fn() -> Result<(), Errno>) -> Result<T, Errno>,
) -> Result<T, Errno> {
    let pmaps = pmaps()?;
    let used = PMAPS.enter(pmap)?;
    let outcome = work(pmaps, &used, &|| used.close());
    if let Some(ended) = used.leave() {
        pmaps.destroy(&ended.pmap);
    }
    outcome
}

fn wiring(flags: u32) -> Result<Wiring, Errno> {
    match flags {
        0 => Ok(Wiring::Unwired),
        RUMPVM_PMAP_WIRED => Ok(Wiring::Wired),
        _ => Err(Errno(RUMPVM_EINVAL)),
    }
}

fn range(address: u64, length: u64) -> Result<VirtRange, Errno> {
    let range = VirtRange::of_length(VirtAddr(address), length).ok_or(Errno(RUMPVM_EINVAL))?;
    let is_whole = range.start.is_page_aligned() && range.end.is_page_aligned();
    if is_whole { Ok(range) } else { Err(Errno(RUMPVM_EINVAL)) }
}

fn said(answer: Result<bool, NotHosts>) -> Result<u64, Errno> {
    answer.map(u64::from).map_err(|NotHosts| Errno(RUMPVM_EINVAL))
}

/// Makes an empty pmap with one reference, and stores its number at `made`: pmap_create. Takes spin locks, does not
/// sleep; from a thread. Returns 0, -EINVAL (`made` is null), -ENOMEM, -ENOSPC (65,536 pmaps), -ENODEV.
///
/// # Safety
/// `made` is null, or there is a number to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_pmap_create(made: *mut Pmap) -> i32 {
    let create = || {
        if made.is_null() {
            return Err(Errno(RUMPVM_EINVAL));
        }
        let pmaps = pmaps()?;
        let slot = PMAPS.reserve()?;
        let named = Named { pmap: pmaps.create()?, references: AtomicU32::new(1) };
        // SAFETY: by the caller's promise.
        unsafe { made.write(slot.fill(named)) };
        Ok(())
    };
    outcome(create())
}

/// One more reference, of who has one: pmap_reference. Takes no lock of the pmap; from anywhere. Returns 0, -EBADF, -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_pmap_reference(pmap: Pmap) -> i32 {
    outcome(glance(pmap, |_, named| {
        named.references.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }))
}

/// Gives up a reference: pmap_destroy. With the last one the number names nothing any more, and all mappings go, wired or not,
/// when the last CPU that translates through the pmap has left it, and the last call that uses it has returned; if that is one
/// from anywhere, with the next call from a thread. What CPUs noted is kept. Takes spin locks, does not sleep; from a thread.
/// Returns 0, -EBADF, -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_pmap_destroy(pmap: Pmap) -> i32 {
    outcome(with(pmap, |_, named, close| {
        if named.references.fetch_sub(1, Ordering::AcqRel) == 1 { close() } else { Ok(()) }
    }))
}

/// Maps the frame at physical address `frame` at `address`, with exactly the rights `prot`, which are not 0, in place of what is
/// mapped there: pmap_enter. `flags` is 0 or RUMPVM_PMAP_WIRED. Takes spin locks, waits for other CPUs' flushes if
/// something is replaced or loses rights, does not sleep; from a thread. Returns 0; -ENOMEM, -EINVAL (no such address,
/// rights or flags; a frame that was given to rumpvm and is not the host's), -EBADF, -ENODEV, and what was there is
/// there still.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_pmap_enter(
    pmap: Pmap,
    address: u64,
    frame: u64,
    prot: u32,
    flags: u32,
) -> i32 {
    outcome(with(pmap, |pmaps, named, _| {
        let (frame, prot, wiring) = (self::frame(frame)?, rights(prot)?, wiring(flags)?);
        let entered = pmaps.enter(&named.pmap, VirtAddr(address), frame, prot, wiring);
        // A fault is made good by this.
        home::catch_up();
        entered.map_err(|error| {
            Errno(match error {
                PmapError::Invalid => RUMPVM_EINVAL,
                PmapError::NoMemory => RUMPVM_ENOMEM,
            })
        })
    }))
}

/// Unmaps `length` bytes from `address` on, wired or not: pmap_remove. Frames stay the host's. Takes spin locks, waits for
/// other CPUs' flushes, does not sleep; from a thread, with interrupts on. Returns 0, -EINVAL, -EBADF, -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_pmap_remove(pmap: Pmap, address: u64, length: u64) -> i32 {
    outcome(with(pmap, |pmaps, named, _| {
        pmaps.remove(&named.pmap, range(address, length)?);
        Ok(())
    }))
}

/// Leaves no more than `prot` of the rights in `length` bytes from `address` on: pmap_protect. It never gives rights, and
/// with 0 it unmaps. Otherwise as rumpvm_pmap_remove.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_pmap_protect(pmap: Pmap, address: u64, length: u64, prot: u32) -> i32 {
    outcome(with(pmap, |pmaps, named, _| {
        pmaps.protect(&named.pmap, range(address, length)?, rights(prot)?);
        Ok(())
    }))
}

/// Physical address behind `address`, which need not be aligned: pmap_extract. Stores its rights (RUMPVM_PROT_*) at `prot`
/// and RUMPVM_PMAP_WIRED or 0 at `flags`, unless they are null. Takes no lock of the pmap; from anywhere. Or -EFAULT (nothing is
/// mapped), -EBADF, -ENODEV.
///
/// # Safety
/// `prot` and `flags` are null, or there are numbers to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_pmap_extract(
    pmap: Pmap,
    address: u64,
    prot: *mut u32,
    flags: *mut u32,
) -> i64 {
    number(glance(pmap, |pmaps, named| {
        let at = VirtAddr(address);
        let found = pmaps.extract(&named.pmap, at).ok_or(Errno(RUMPVM_EFAULT))?;
        // SAFETY: by the caller's promise.
        if let Some(prot) = unsafe { prot.as_mut() } {
            *prot = u32::from(found.prot.bits());
        }
        // SAFETY: as above.
        if let Some(flags) = unsafe { flags.as_mut() } {
            *flags = if found.wiring == Wiring::Wired { RUMPVM_PMAP_WIRED } else { 0 };
        }
        Ok(found.frame.start().0 + at.page_offset())
    }))
}

/// Makes what is mapped at `address` wired or not, as `flags` say: pmap_change_wiring, pmap_unwire. Takes a spin lock, does not
/// sleep; from anywhere. Returns 0, -EFAULT (nothing is mapped), -EINVAL, -EBADF, -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_pmap_change_wiring(pmap: Pmap, address: u64, flags: u32) -> i32 {
    outcome(glance(pmap, |pmaps, named| {
        let changed = pmaps.change_wiring(&named.pmap, VirtAddr(address), wiring(flags)?);
        if changed { Ok(()) } else { Err(Errno(RUMPVM_EFAULT)) }
    }))
}

/// Maps at `at` in `to`, where nothing is mapped, what `length` bytes of `from` from `address` on map: pmap_copy, which saves
/// faults after a fork. Advice: wired mappings and devices' are left out, and so is what memory does not suffice for. Takes
/// spin locks, does not sleep; from a thread. Returns the number of pages; -EINVAL, -EBADF, -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_pmap_copy(
    to: Pmap,
    at: u64,
    from: Pmap,
    address: u64,
    length: u64,
) -> i64 {
    number(with(to, |pmaps, to, _| {
        with(from, |_, from, _| {
            range(at, length)?;
            let range = range(address, length)?;
            Ok(pmaps.copy(&to.pmap, VirtAddr(at), &from.pmap, range))
        })
    }))
}

/// Unmaps what is not wired, and frees the tables that this empties: pmap_collect. For when memory is short. Otherwise as
/// rumpvm_pmap_remove.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_pmap_collect(pmap: Pmap) -> i32 {
    outcome(with(pmap, |pmaps, named, _| {
        pmaps.collect(&named.pmap);
        Ok(())
    }))
}

/// Pages that `pmap` maps: pmap_resident_count. Takes no lock of the pmap; from anywhere. Or -EBADF, -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_pmap_resident(pmap: Pmap) -> i64 {
    number(glance(pmap, |pmaps, named| Ok(pmaps.resident(&named.pmap))))
}

/// Physical address of its root, for looking only. Takes no lock of the pmap; from anywhere. Or -EBADF, -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_pmap_root(pmap: Pmap) -> i64 {
    number(glance(pmap, |_, named| Ok(named.pmap.root().start().0)))
}

/// This CPU translates user addresses through `pmap` from now on: pmap_activate. Does nothing if it does already. The pmap
/// lives until the CPU leaves it. Takes spin locks, does not sleep; interrupts may be masked, from anywhere but an
/// interrupt. Returns 0, -EBADF, -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_pmap_activate(pmap: Pmap) -> i32 {
    outcome(glance(pmap, |pmaps, named| {
        pmaps.activate(&named.pmap);
        Ok(())
    }))
}

/// This CPU translates user addresses through nothing from now on: pmap_deactivate. Otherwise as rumpvm_pmap_activate.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_pmap_deactivate() -> i32 {
    outcome(look().map(Pmaps::deactivate))
}

/// Leaves no more than `prot` of the rights of every mapping of the frame at physical address `frame`, in every pmap, wired or
/// not: pmap_page_protect. With 0 nothing maps it any more, and it may be freed or get other contents. Takes spin locks, waits for
/// other CPUs' flushes, does not sleep; from a thread, with interrupts on. Returns 0, -EINVAL (also: not the host's), -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_page_protect(frame: u64, prot: u32) -> i32 {
    let protect = || {
        let done = pmaps()?.page_protect(self::frame(frame)?, rights(prot)?);
        done.map_err(|NotHosts| Errno(RUMPVM_EINVAL))
    };
    outcome(protect())
}

/// Whether the frame was stored to through any mapping since rumpvm_page_clear_modify: pmap_is_modified. Stores of the kernel
/// through the direct map or the window do not count. Takes a spin lock, does not sleep; from a thread. Returns 1, 0, -EINVAL,
/// -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_page_is_modified(frame: u64) -> i32 {
    let ask = || said(pmaps()?.is_modified(self::frame(frame)?));
    number(ask()) as i32
}

/// As rumpvm_page_is_modified, of any access: pmap_is_referenced.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_page_is_referenced(frame: u64) -> i32 {
    let ask = || said(pmaps()?.is_referenced(self::frame(frame)?));
    number(ask()) as i32
}

/// Forgets that the frame was stored to; whether it was: pmap_clear_modify. A store after it is noted again. Takes spin locks,
/// waits for other CPUs' flushes, does not sleep; from a thread, with interrupts on. Returns 1, 0, -EINVAL, -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_page_clear_modify(frame: u64) -> i32 {
    let clear = || said(pmaps()?.clear_modify(self::frame(frame)?));
    number(clear()) as i32
}

/// As rumpvm_page_clear_modify, of any access: pmap_clear_reference.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_page_clear_reference(frame: u64) -> i32 {
    let clear = || said(pmaps()?.clear_reference(self::frame(frame)?));
    number(clear()) as i32
}

/// Fills a frame of the host's with zeros: pmap_zero_page. Takes no lock; from anywhere. Returns 0, -EINVAL, -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_page_zero(frame: u64) -> i32 {
    let zero = || {
        let done = look()?.zero_page_of(self::frame(frame)?);
        done.map_err(|NotHosts| Errno(RUMPVM_EINVAL))
    };
    outcome(zero())
}

/// Copies the contents of the host's frame `from` to its frame `to`: pmap_copy_page. Takes no lock; from anywhere. Returns
/// 0, -EINVAL, -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_page_copy(from: u64, to: u64) -> i32 {
    let copy = || {
        let done = look()?.copy_page(self::frame(from)?, self::frame(to)?);
        done.map_err(|NotHosts| Errno(RUMPVM_EINVAL))
    };
    outcome(copy())
}
