//! What a host does when a program touches memory, and when it touches a program's memory itself.

use core::ffi::c_void;

use rumpvm_arch::{Access, PAGE_SIZE, PageFault, VirtAddr};

use crate::errno::{Errno, RUMPVM_EINVAL, RUMPVM_ENAMETOOLONG, outcome};
use crate::home;
use crate::space::{Space, with};

/// A load.
pub const RUMPVM_ACCESS_READ: u32 = 1;
/// A store, or a read-modify-write.
pub const RUMPVM_ACCESS_WRITE: u32 = 2;
/// An instruction fetch.
pub const RUMPVM_ACCESS_EXECUTE: u32 = 4;

/// Makes one access (RUMPVM_ACCESS_*) to `address` in `space` possible, or says why not: to be called by the host's
/// page fault handler, with interrupts on if they were on in the program. Takes no lock of the space, but the map's sleep
/// lock where a stack grows; calls a pager's read where a page is not in memory; sleeps for that, and while pages of the
/// space move. From a thread that holds no spin lock. After 0 the access is tried again. -EFAULT: nothing
/// is mapped there (SIGSEGV, SEGV_MAPERR); -EACCES: the right is missing (SIGSEGV, SEGV_ACCERR); -EIO: SIGBUS;
/// -ENOMEM: no memory, nothing has changed; -EINVAL: no such access; -EBADF, -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_fault(space: Space, address: u64, access: u32) -> i32 {
    let access = match access {
        RUMPVM_ACCESS_READ => Ok(Access::Read),
        RUMPVM_ACCESS_WRITE => Ok(Access::Write),
        RUMPVM_ACCESS_EXECUTE => Ok(Access::Execute),
        _ => Err(Errno(RUMPVM_EINVAL)),
    };
    outcome(with(space, |vm, space| {
        vm.fault(space, VirtAddr(address), access?)?;
        home::catch_up();
        Ok(())
    }))
}

/// As rumpvm_fault, for the error code that the CPU pushed; `address` is CR2. -EINVAL for a reserved bit in a page
/// table: that is a bug, not the program's.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_fault_code(space: Space, address: u64, code: u32) -> i32 {
    let fault = PageFault::decode(VirtAddr(address), code).ok_or(Errno(RUMPVM_EINVAL));
    outcome(with(space, |vm, space| {
        let fault = fault?;
        vm.fault(space, fault.at, fault.access)?;
        home::catch_up();
        Ok(())
    }))
}

/// Copies `length` bytes of `space` from address `from` on to `into`, through the direct map: it need not be the
/// active space, and no page fault comes of it. Sleeps as a fault does; from a thread that holds no spin lock. Returns
/// 0, or an error of rumpvm_fault, and then a first part may have been copied.
///
/// # Safety
/// There are `length` bytes to write at `into`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_copyin(
    space: Space,
    from: u64,
    into: *mut c_void,
    length: usize,
) -> i32 {
    // SAFETY: by the caller's promise.
    let into = unsafe { bytes_mut(into, length) };
    outcome(with(space, |vm, space| Ok(space.copy_in(vm, VirtAddr(from), into?)?)))
}

/// Copies `length` bytes at `from` to address `to` of `space`; otherwise as rumpvm_copyin.
///
/// # Safety
/// There are `length` bytes to read at `from`, which nobody changes meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_copyout(
    space: Space,
    from: *const c_void,
    to: u64,
    length: usize,
) -> i32 {
    outcome(with(space, |vm, space| {
        // SAFETY: by the caller's promise.
        let bytes = unsafe { bytes(from, length)? };
        Ok(space.copy_out(vm, VirtAddr(to), bytes)?)
    }))
}

/// Copies the bytes of `space` from address `from` on, up to a zero and with it, to `into`, at most `size`; stores how
/// many at `length`, unless that is null. Otherwise as rumpvm_copyin. -ENAMETOOLONG if there is no zero among them.
///
/// # Safety
/// There are `size` bytes to write at `into`, and a number at `length`, or that is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_copyinstr(
    space: Space,
    from: u64,
    into: *mut c_void,
    size: usize,
    length: *mut usize,
) -> i32 {
    // SAFETY: by the caller's promise.
    let into = unsafe { bytes_mut(into, size) };
    outcome(with(space, |vm, space| {
        let into = into?;
        let mut done = 0;
        while done < into.len() {
            let at = VirtAddr(from.saturating_add(done as u64));
            // To the end of the page at most: the next one may not be there.
            let to_end = (PAGE_SIZE - at.page_offset()) as usize;
            let left = into.len() - done;
            let piece = &mut into[done..][..to_end.min(left)];
            space.copy_in(vm, at, piece)?;
            if let Some(end) = piece.iter().position(|byte| *byte == 0) {
                if !length.is_null() {
                    // SAFETY: by the caller's promise.
                    unsafe { length.write(done + end + 1) };
                }
                return Ok(());
            }
            done += piece.len();
        }
        Err(Errno(RUMPVM_ENAMETOOLONG))
    }))
}

/// The `length` bytes at `at`, which may be null if there are none.
///
/// # Safety
/// They are there, and nobody changes them while they are used.
pub(crate) unsafe fn bytes<'b>(at: *const c_void, length: usize) -> Result<&'b [u8], Errno> {
    if length == 0 {
        return Ok(&[]);
    }
    if at.is_null() || length > isize::MAX as usize {
        return Err(Errno(RUMPVM_EINVAL));
    }
    // SAFETY: by the caller's promise.
    Ok(unsafe { core::slice::from_raw_parts(at.cast(), length) })
}

/// As [`bytes`], to be written.
///
/// # Safety
/// They are there, and the caller's alone while they are used.
pub(crate) unsafe fn bytes_mut<'b>(at: *mut c_void, length: usize) -> Result<&'b mut [u8], Errno> {
    if length == 0 {
        return Ok(&mut []);
    }
    if at.is_null() || length > isize::MAX as usize {
        return Err(Errno(RUMPVM_EINVAL));
    }
    // SAFETY: by the caller's promise.
    Ok(unsafe { core::slice::from_raw_parts_mut(at.cast(), length) })
}
