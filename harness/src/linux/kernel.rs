//! System calls of the host, without a library between: nothing is allocated, and no thread's state is touched.
//!
//! The processes that carry programs out are copies of one thread of ours; a library call might find a lock
//! held by a thread that was not copied.

use std::arch::asm;
use std::ffi::CStr;

/// Calls the host's kernel.
///
/// # Safety
/// The call does nothing to memory that Rust knows of, but to what its arguments name, which is the caller's.
pub(super) unsafe fn call(number: i64, arguments: [u64; 6]) -> Result<u64, i32> {
    let [a, b, c, d, e, f] = arguments;
    let result: i64;
    // SAFETY:
    // - the registers are those of the kernel's calling convention, which keeps all others.
    // - what the call does to memory is the caller's promise.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    if (-4095..0).contains(&result) { Err(-result as i32) } else { Ok(result as u64) }
}

/// As [`call`] with three arguments, for calls that touch no memory but the kernel's.
///
/// # Safety
/// As [`call`].
pub(super) unsafe fn short(number: i64, a: u64, b: u64, c: u64) -> Result<u64, i32> {
    // SAFETY: as for this function.
    unsafe { call(number, [a, b, c, 0, 0, 0]) }
}

/// Opens a file for reading.
pub(super) fn open(path: &CStr) -> Result<u64, i32> {
    let at = libc::AT_FDCWD as i64 as u64;
    // SAFETY: the path is a string that ends, and is only read.
    unsafe { short(libc::SYS_openat, at, path.as_ptr() as u64, libc::O_RDONLY as u64) }
}

/// Closes what [`open`] opened.
pub(super) fn close(file: u64) {
    // SAFETY: only the kernel's table of files changes.
    let _ = unsafe { short(libc::SYS_close, file, 0, 0) };
}

/// Reads from `file`, at byte `offset` if there is one, else where the last read ended.
pub(super) fn read(file: u64, into: &mut [u8], offset: Option<u64>) -> Result<usize, i32> {
    let (at, length) = (into.as_mut_ptr() as u64, into.len() as u64);
    // SAFETY: the kernel writes to `into` alone.
    let read = unsafe {
        match offset {
            Some(offset) => call(libc::SYS_pread64, [file, at, length, offset, 0, 0]),
            None => short(libc::SYS_read, file, at, length),
        }
    };
    read.map(|length| length as usize)
}

/// Ends the process, without any of what a library does at its end.
pub(super) fn exit(status: u64) -> ! {
    loop {
        // SAFETY: nothing of this process is used any more.
        let _ = unsafe { short(libc::SYS_exit_group, status, 0, 0) };
    }
}
