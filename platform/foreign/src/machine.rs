//! The machine: made of the first memory that it gets, then called by everything else.
//!
//! Flow:  `rumpvm_init` -> `rumpvm_add_memory` (the first makes the `Vm`) -> `rumpvm_cpu_attach` -> all other calls.
//! Locks: the component's.
//! Owns:  the one `Vm`, for good.

use alloc::vec::Vec;
use core::ffi::{CStr, c_char};
use core::fmt::Write;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use rumpvm::AddMemoryError;
use rumpvm_arch::{Format, PAGE_SIZE, PhysAddr};
use rumpvm_platform::{MAX_CPUS, Platform, Seam};
use spin::Once;

use crate::errno::{
    Errno, RUMPVM_EEXIST, RUMPVM_EINVAL, RUMPVM_ENODEV, RUMPVM_ENOMEM, RUMPVM_ENOSPC,
    RUMPVM_EUCLEAN, outcome,
};
use crate::format::{self, Tables};
use crate::home::{self, Foreign};
use crate::hypercalls::{self, Hypercalls};
use crate::layer::{self, Machine};
use crate::{heap, text, thread};

static VM: Once<Machine> = Once::new();
static ATTACHED: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];
/// Why a call of this file was last refused.
static REASON: AtomicPtr<c_char> = AtomicPtr::new(c"nothing was refused".as_ptr().cast_mut());

/// The component, if there is one.
#[inline]
pub(crate) fn get() -> Option<&'static Machine> {
    VM.get()
}

/// The component, with room on the heap. For calls of the host, which hold no locks.
#[inline]
pub(crate) fn vm() -> Result<&'static Machine, Errno> {
    let vm = VM.get().ok_or(Errno(RUMPVM_ENODEV))?;
    heap::make_room();
    Ok(vm)
}

fn refuse(number: i32, reason: &'static CStr) -> Errno {
    REASON.store(reason.as_ptr().cast_mut(), Ordering::Release);
    Errno(number)
}

/// Takes over the host's table, of which a copy is kept; the first call of all. `version` is RUMPVM_VERSION. Once, on
/// one CPU. Touches nothing but the table; takes no lock, does not sleep. Returns 0; or -EINVAL, and rumpvm_reason
/// says what is wrong with it.
///
/// # Safety
/// `table` is null or points to a table of the size that it begins with; what it names may be called for good.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_init(version: u32, table: *const Hypercalls) -> i32 {
    // SAFETY: by the caller's promise.
    let accepted = unsafe { hypercalls::accept(version, table) };
    if accepted.is_ok() && hypercalls::calls().console.is_some() && log::set_logger(&Logger).is_ok()
    {
        log::set_max_level(log::LevelFilter::Warn);
    }
    outcome(accepted.map_err(|reason| refuse(RUMPVM_EINVAL, reason)))
}

/// Why rumpvm_init, rumpvm_add_memory or rumpvm_cpu_attach was last refused: a line that ends with a zero and stays for
/// good. Takes no lock, does not sleep; from anywhere.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_reason() -> *const c_char {
    REASON.load(Ordering::Acquire)
}

/// Gives rumpvm the physical memory from byte `start` to byte `end`, rounded inwards to whole pages, for good: mapped
/// at direct_map, and used by nobody else. Any number of times (64 separate ranges), at any time; one page in 64 holds
/// the records of the others. The first range becomes the machine: some 256 KiB of it hold its first records, on one
/// CPU; it is given before any other call, on one CPU.
///
/// On i386, with PAE too, only what lies below 4 GiB and is mapped at direct_map for good: some 900 MiB, where the host
/// has the uppermost GiB of addresses; the rest is never seen by turns.
///
/// Takes spin locks, does not sleep; from a thread. Returns 0, or with a rumpvm_reason: -EINVAL (no whole page, or none beside those for
/// its own records; seen at address 0 or among user addresses; out of reach), -EEXIST (overlaps what was given), -ENOSPC
/// (too many ranges), -ENODEV (before rumpvm_init). Or -ENOMEM, of the first range: it is too small for the first records,
/// and is theirs as a whole now; the next range goes on from there.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_add_memory(start: u64, end: u64) -> i32 {
    outcome(add_memory(start, end))
}

fn add_memory(start: u64, end: u64) -> Result<(), Errno> {
    let host =
        hypercalls::host().ok_or_else(|| refuse(RUMPVM_ENODEV, c"rumpvm_init comes first"))?;
    let first = start.checked_next_multiple_of(PAGE_SIZE);
    let end = end / PAGE_SIZE * PAGE_SIZE;
    let Some(first) = first.filter(|first| *first < end) else {
        return Err(refuse(RUMPVM_EINVAL, c"there is no whole page in the range"));
    };
    check_view(&host.calls, first, end).map_err(|reason| refuse(RUMPVM_EINVAL, reason))?;
    if let Some(vm) = VM.get() {
        return add(vm, first, end);
    }
    heap::begin_reserve(first, end);
    let made = VM.try_call_once(|| {
        if !thread::make_for_cpus() {
            return Err(rumpvm::NoMemory);
        }
        layer::make()
    });
    let (first, end) = heap::end_reserve();
    if made.is_ok_and(|vm| add(vm, first, end).is_ok()) {
        return Ok(());
    }
    // The rest is too small for a machine, or for a page and its record beside one.
    heap::give(first, end);
    Err(refuse(RUMPVM_ENOMEM, c"too small for the first records, which have all of it now"))
}

/// Whether the physical range `start..end` can be seen at the direct map of `calls`; why not, if so.
fn check_view(calls: &Hypercalls, start: u64, end: u64) -> Result<(), &'static CStr> {
    // Any frame may become a root, for which CR3 has as many bits as a pointer.
    if usize::try_from(end - 1).is_err() {
        return Err(c"the range ends above 4 GiB, where CR3 does not reach");
    }
    if end / PAGE_SIZE > Tables::FRAME_END.min(u32::MAX.into()) {
        return Err(c"page tables of rumpvm reach 16 TiB");
    }
    let seen = hypercalls::seen(calls.direct_map, start);
    if seen.checked_add((end - start) as usize).is_none() {
        return Err(c"the direct map ends before the range does");
    }
    if seen == 0 {
        return Err(c"the range is seen at address 0");
    }
    if calls.tlb_activate.is_none() && (seen as u64) < Tables::USER_END.0 {
        return Err(c"the range is seen among user addresses, which are rumpvm's");
    }
    Ok(())
}

fn add(vm: &Machine, start: u64, end: u64) -> Result<(), Errno> {
    let added = layer::mmu(vm).phys.add_memory(PhysAddr(start), PhysAddr(end));
    added.map_err(|error| match error {
        AddMemoryError::TooSmall => {
            refuse(RUMPVM_EINVAL, c"the range holds no page beside its own records")
        }
        AddMemoryError::OutOfReach { .. } => {
            refuse(RUMPVM_EINVAL, c"page tables of rumpvm reach 16 TiB")
        }
        AddMemoryError::Overlaps => refuse(RUMPVM_EEXIST, c"part of the range was given before"),
        AddMemoryError::TooManySegments => refuse(RUMPVM_ENOSPC, c"there are 64 ranges already"),
    })
}

/// The calling CPU will call rumpvm from now on. Once on each CPU, behind the first memory, before any other call
/// there, which rumpvm leaves to the host. It sees whether the CPU is set up for rumpvm's page tables, and from it on this
/// CPU is asked to flush the kernel's window. Takes no lock, does not sleep. Returns 0, or with a rumpvm_reason: -EINVAL (its number is not below
/// cpu_count, or it is set up otherwise than rumpvm's page tables need), -EEXIST (that number has attached), -ENODEV
/// (too early).
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_cpu_attach() -> i32 {
    outcome(cpu_attach())
}

fn cpu_attach() -> Result<(), Errno> {
    let vm = VM.get().ok_or_else(|| refuse(RUMPVM_ENODEV, c"rumpvm_add_memory comes first"))?;
    let number = Foreign::cpu_id().0 as usize;
    if number >= Foreign.cpu_count() {
        return Err(refuse(RUMPVM_EINVAL, c"cpu_id is not below cpu_count"));
    }
    if hypercalls::calls().tlb_activate.is_none() {
        format::is_walked().map_err(|reason| refuse(RUMPVM_EINVAL, reason))?;
    }
    if ATTACHED[number].swap(true, Ordering::AcqRel) {
        return Err(refuse(RUMPVM_EEXIST, c"a CPU of that number has attached"));
    }
    layer::mmu(vm).attach_cpu();
    Ok(())
}

/// Does a little work that need not be done now: zeroes a page ahead of need, frees what nobody can see any more, lets the
/// heap grow while there is time. Returns 1 if there may be more, 0 if not. Takes spin locks, does not sleep; from a
/// thread, not from an interrupt.
///
/// This is all that rumpvm asks of the host's threads. The idle loop of each CPU calls it until it returns 0, and halts; or a
/// thread of least priority on each CPU does, and sleeps for a tenth of a second. A CPU frees what it gave up itself, so
/// one thread for all of them is not enough. Without any, pages are zeroed when they are needed, and what was given up
/// comes back when memory is short. There is no pageout daemon, because there is no swap. Files are written by
/// rumpvm_msync, by rumpvm_object_sync, which a syncer of the host's may call, and for their last user.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_idle() -> i32 {
    i32::from(vm().is_ok_and(Machine::idle))
}

/// Carries out what other CPUs asked of this one: to be called on each CPU that the hypercall tlb_ipi names, from its
/// interrupt. Takes spin locks, waits for nobody, does not sleep; interrupts may be masked.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_tlb_interrupt() {
    if VM.get().is_some() {
        home::serve_flushes();
    }
}

/// Walks every invariant of the machine: page tables, reverse mappings, private pages, objects, every frame. At a
/// quiet moment: nobody is inside any other call. Takes all locks in turns; from a thread. Time and memory grow with the
/// memory given: the first call makes the heap grow, for good, by some 80 bytes for each page, rounded up to a power of
/// two. Returns 0; or -EUCLEAN, and `story` is told what is broken, in
/// `size` bytes at most and with a zero at its end; -ENOMEM, -ENODEV.
///
/// # Safety
/// `story` is null, and `size` 0, or there are `size` bytes to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_check(story: *mut c_char, size: usize) -> i32 {
    match check() {
        Ok(None) => 0,
        Ok(Some(line)) => {
            let bytes = line.bytes();
            if let Some(room) = size.checked_sub(1) {
                let length = bytes.len().min(room);
                // SAFETY: there are `size` bytes, of which one is for the zero.
                unsafe {
                    story.cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), length);
                    story.add(length).write(0);
                }
            }
            -RUMPVM_EUCLEAN
        }
        Err(error) => -error.0,
    }
}

fn check() -> Result<Option<text::Line<1024>>, Errno> {
    /// Of a map of frame numbers, half empty at worst, and once more while it grows.
    const NOTE: usize = 80;
    let vm = vm()?;
    // The check notes where each frame was found: the heap must not take any for that meanwhile.
    let frames = layer::mmu(vm).phys.total_frames() as usize;
    let mut room = Vec::<u8>::new();
    room.try_reserve_exact(frames * NOTE).map_err(|_| Errno(RUMPVM_ENOMEM))?;
    drop(room);
    Ok(layer::check(vm).err().map(|broken| {
        let mut line = text::Line::new();
        // A line never fails; it is cut off.
        let _ = write!(line, "{broken}");
        line
    }))
}

/// Warnings of the component, to the host's console.
struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let mut line = text::Line::<256>::new();
        // A line never fails; it is cut off.
        let _ = writeln!(line, "rumpvm: {}", record.args());
        if let Some(console) = hypercalls::calls().console {
            // SAFETY: the host's own function, with bytes that live so long.
            unsafe { console(line.bytes().as_ptr().cast(), line.bytes().len()) };
        }
    }

    fn flush(&self) {}
}
