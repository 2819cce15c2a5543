//! System calls, and loads and stores that may be refused.
//!
//! Flow:  an access that must not be stops at one instruction; the handler of SIGSEGV goes on behind it.
//! Owns:  the page of numbers that all processes of a run share, by a file without a name that survives exec.
//!
//! S1. Workloads touch only what they have mapped themselves, far from everything that this program lives on.

use std::arch::global_asm;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};

use rumpvm::map::{MapFlags, SyncFlags};
use rumpvm_arch::{Prot, VirtAddr};

// load_copy(to, from, count) -> 0, or 1 if an access in it was refused.
global_asm!(
    "
load_copy:
    mov rcx, rdx
load_copy_access:
    rep movsb
    xor eax, eax
    ret
load_copy_refused:
    mov eax, 1
    ret
"
);

unsafe extern "C" {
    fn load_copy(to: *mut u8, from: *const u8, count: usize) -> i32;
    static load_copy_access: u8;
    static load_copy_refused: u8;
}

/// An access was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Refused;

/// Loads `into` from `at`.
pub(super) fn load(at: VirtAddr, into: &mut [u8]) -> Result<(), Refused> {
    // SAFETY: the buffer is ours; what may happen at the other address is caught (`catch_faults`).
    match unsafe { load_copy(into.as_mut_ptr(), at.0 as *const u8, into.len()) } {
        0 => Ok(()),
        _ => Err(Refused),
    }
}

/// Stores `from` at `at`.
pub(super) fn store(at: VirtAddr, from: &[u8]) -> Result<(), Refused> {
    // SAFETY: as in `load`; what is stored to is the workload's (S1).
    match unsafe { load_copy(at.0 as *mut u8, from.as_ptr(), from.len()) } {
        0 => Ok(()),
        _ => Err(Refused),
    }
}

/// From now on refused accesses of `load` and `store` are told; all others end the process as ever.
pub(super) fn catch_faults() -> io::Result<()> {
    let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = go_on;
    // SAFETY: zeros are a `sigaction`, and the handler does only what a handler may.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO;
        told(libc::sigaction(libc::SIGSEGV, &raw const action, ptr::null_mut()))
    }
}

extern "C" fn go_on(signal: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the third argument of such a handler is a context, which is ours until it returns.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    let place = &mut context.uc_mcontext.gregs[libc::REG_RIP as usize];
    if *place == &raw const load_copy_access as i64 {
        *place = &raw const load_copy_refused as i64;
    } else {
        // SAFETY: the default needs nothing. The instruction is done again, and ends the process.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

fn told(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// mmap(2).
pub(super) fn map(
    hint: VirtAddr,
    length: u64,
    prot: Prot,
    flags: MapFlags,
    (file, offset): (Option<&File>, u64),
) -> io::Result<VirtAddr> {
    let file = file.map_or(-1, AsRawFd::as_raw_fd);
    let (prot, flags) = (i32::from(prot.bits()), flags.bits().cast_signed());
    // SAFETY: what is there already, where the place is fixed, is the workload's (S1).
    let at = unsafe {
        libc::mmap(hint.0 as *mut _, length as usize, prot, flags, file, offset.cast_signed())
    };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(VirtAddr(at as u64))
}

/// munmap(2).
pub(super) fn unmap(at: VirtAddr, length: u64) -> io::Result<()> {
    // SAFETY: it is the workload's (S1).
    told(unsafe { libc::munmap(at.0 as *mut _, length as usize) })
}

/// mprotect(2).
pub(super) fn protect(at: VirtAddr, length: u64, prot: Prot) -> io::Result<()> {
    // SAFETY: it is the workload's (S1).
    told(unsafe { libc::mprotect(at.0 as *mut _, length as usize, i32::from(prot.bits())) })
}

/// madvise(2): the contents are not needed any more.
pub(super) fn discard(at: VirtAddr, length: u64) -> io::Result<()> {
    // SAFETY: it is the workload's (S1).
    told(unsafe { libc::madvise(at.0 as *mut _, length as usize, libc::MADV_DONTNEED) })
}

/// msync(2).
pub(super) fn sync(at: VirtAddr, length: u64, flags: SyncFlags) -> io::Result<()> {
    // SAFETY: it changes nothing in memory.
    told(unsafe { libc::msync(at.0 as *mut _, length as usize, flags.bits().cast_signed()) })
}

/// Moves the end of the heap; where it was. The allocator knows that others may do so.
pub(super) fn grow_heap(length: u64) -> io::Result<VirtAddr> {
    // SAFETY: the new part belongs to nobody else.
    let at = unsafe { libc::sbrk(length as isize) };
    if at as isize == -1 { Err(io::Error::last_os_error()) } else { Ok(VirtAddr(at as u64)) }
}

/// fork(2): the child's number, or nothing in the child. To be called by a process with one thread.
pub(super) fn fork() -> io::Result<Option<u32>> {
    // SAFETY: there is no other thread that could hold a lock of the library's.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        child => Ok(Some(child as u32)),
    }
}

/// Ends the process at once, without what its parent is still to write.
pub(super) fn leave(status: i32) -> ! {
    // SAFETY: it does not return.
    unsafe { libc::_exit(status) }
}

/// Waits for any child: its number and wait status.
pub(super) fn wait() -> io::Result<(u32, i32)> {
    let mut status = 0;
    // SAFETY: the status is ours.
    match unsafe { libc::wait(&raw mut status) } {
        -1 => Err(io::Error::last_os_error()),
        child => Ok((child as u32, status)),
    }
}

/// Bytes of memory that nobody uses.
pub(super) fn free_memory() -> Option<u64> {
    // SAFETY: zeros are such a record, and it is ours.
    let info = unsafe {
        let mut info: libc::sysinfo = std::mem::zeroed();
        told(libc::sysinfo(&raw mut info)).ok()?;
        info
    };
    Some(info.freeram * u64::from(info.mem_unit))
}

/// Bytes of the shared page of numbers.
const SHARED: usize = 1 << 20;
static NUMBERS: OnceLock<&[AtomicU64]> = OnceLock::new();
static FILE: AtomicI32 = AtomicI32::new(-1);
/// Numbers that are taken; the first is the run's own.
static TAKEN: AtomicUsize = AtomicUsize::new(1);

/// Maps the numbers: those behind the descriptor `file`, or new ones.
pub(super) fn share(file: Option<i32>) -> io::Result<()> {
    // SAFETY: the name is a C string. Without flags it stays open in programs that are started.
    let number = file.unwrap_or_else(|| unsafe { libc::memfd_create(c"board".as_ptr(), 0) });
    if file.is_none() {
        // SAFETY: it changes a file that nobody has mapped.
        told(unsafe { libc::ftruncate(number, SHARED as libc::off_t) })?;
    }
    FILE.store(number, Ordering::Relaxed);
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: it lies where nothing else does.
    let at = unsafe { libc::mmap(ptr::null_mut(), SHARED, prot, libc::MAP_SHARED, number, 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it stays mapped for good, is as long, and is used as such numbers by all who know it.
    let numbers = unsafe { std::slice::from_raw_parts(at.cast::<AtomicU64>(), SHARED / 8) };
    if file.is_none() {
        numbers[0].store(u64::from(std::process::id()), Ordering::Relaxed);
    }
    NUMBERS.get_or_init(|| numbers);
    Ok(())
}

fn numbers() -> &'static [AtomicU64] {
    NUMBERS.get().expect("`share` comes first")
}

/// The next `count` numbers: the same in all processes that ask in the same order.
pub(super) fn shared_numbers(count: usize) -> &'static [AtomicU64] {
    let first = TAKEN.fetch_add(count, Ordering::Relaxed);
    &numbers()[first..first + count]
}

/// The number of the run: its first process's.
pub(super) fn run_number() -> u64 {
    numbers()[0].load(Ordering::Relaxed)
}

/// The descriptor behind the numbers.
pub(super) fn board_number() -> i32 {
    FILE.load(Ordering::Relaxed)
}
