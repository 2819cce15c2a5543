//! Calls on mappings that only a layer for Linux's programs makes: all that its numbers mean, exactly.
//!
//! Errors are those of the Linux call of that name; unless it says otherwise, nothing has changed then.

use alloc::vec::Vec;

use rumpvm::{Advised, LockAllFlags, LockFlags, MapFlags, ProtFlags};
use rumpvm_arch::VirtAddr;

use crate::errno::{Errno, RUMPVM_EINVAL, RUMPVM_ENOMEM, number, outcome};
use crate::space::{Space, with};

/// Of rumpvm_mlock2: pages are not brought in, but stay once they are.
pub const RUMPVM_MLOCK_ONFAULT: u32 = 1;

/// Of rumpvm_mlockall: what is mapped now.
pub const RUMPVM_MCL_CURRENT: u32 = 1;
/// Of rumpvm_mlockall: what is mapped from now on.
pub const RUMPVM_MCL_FUTURE: u32 = 2;
/// Of rumpvm_mlockall, with either: pages are not brought in, but stay once they are.
pub const RUMPVM_MCL_ONFAULT: u32 = 4;

/// Most ranges in one call (`UIO_MAXIOV`).
const MOST_RANGES: usize = 1024;

/// A range of addresses, as struct iovec.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// Where it begins.
    pub start: u64,
    /// Bytes.
    pub length: u64,
}

/// As rumpvm_mlock, with `flags` (RUMPVM_MLOCK_*); see mlock2(2).
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_mlock2(space: Space, address: u64, length: u64, flags: u32) -> i32 {
    let flags = LockFlags::from_bits_retain(flags);
    outcome(with(space, |vm, space| Ok(space.mlock2(vm, VirtAddr(address), length, flags)?)))
}

/// Keeps all pages in memory as `flags` say (RUMPVM_MCL_*); without RUMPVM_MCL_FUTURE what is mapped later is not kept
/// any more. See mlockall(2). A page that cannot be brought in is no error. Takes the map's sleep lock, and sleeps as a
/// fault does; from a thread, with interrupts on. Returns 0, -EINVAL, -ENOMEM, -EPERM, -EBADF, -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_mlockall(space: Space, flags: u32) -> i32 {
    let flags = LockAllFlags::from_bits_retain(flags);
    outcome(with(space, |vm, space| Ok(space.mlockall(vm, flags)?)))
}

/// Undoes rumpvm_mlockall and rumpvm_mlock for the whole space; see munlockall(2). Takes the map's sleep lock; from a
/// thread. Returns 0, -ENOMEM, -EBADF, -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_munlockall(space: Space) -> i32 {
    outcome(with(space, |vm, space| Ok(space.munlockall(vm)?)))
}

/// As rumpvm_mprotect, for the protection key `key`: -1 for none. There are no others, so pkey_alloc(2) and
/// pkey_free(2) are -EINVAL, and this is too where it would have something to do.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_pkey_mprotect(
    space: Space,
    address: u64,
    length: u64,
    prot: u32,
    key: i32,
) -> i32 {
    let prot = ProtFlags::from_bits_retain(prot.into());
    outcome(with(space, |vm, space| {
        Ok(space.pkey_mprotect(vm, VirtAddr(address), length, prot, key)?)
    }))
}

/// Maps `size` bytes of the object at `start` from its page `page` on, in place of what is there, with the rights that
/// are there; `start` and `size` are rounded down to pages, and `rights` is 0. The range is shared, and mapped alike
/// throughout. Pages are brought in unless `flags` is RUMPVM_MAP_NONBLOCK. See remap_file_pages(2). Takes the map's
/// sleep lock, and sleeps as a fault does; from a thread, with interrupts on. Returns 0, -EINVAL, -ENOMEM, -EPERM,
/// -EAGAIN, -EACCES, -EBADF, -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_remap_file_pages(
    space: Space,
    start: u64,
    size: u64,
    rights: u64,
    page: u64,
    flags: u32,
) -> i32 {
    let flags = MapFlags::from_bits_retain(flags);
    outcome(with(space, |vm, space| {
        Ok(space.remap_file_pages(vm, VirtAddr(start), size, rights, page, flags)?)
    }))
}

/// Takes `advice`, by the numbers of rumpvm_madvise, on each of the `count` ranges at `ranges` in `space`, and returns
/// how many bytes were advised; the first range that cannot be ends it, and its error is returned only if nothing was
/// advised before. See process_madvise(2); `flags` is 0. `is_own` is 1 if `space` is the adviser's own; if it is 0, only
/// advice is taken that destroys nothing, and whether this adviser may is for the host to say. Takes the map's sleep lock,
/// waits for other CPUs' flushes; from a thread, with interrupts on. Or -EINVAL (also: more than 1024 ranges, a null
/// pointer), -EFAULT, an error of rumpvm_madvise.
///
/// # Safety
/// There are `count` ranges at `ranges`, which nobody changes meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_process_madvise(
    space: Space,
    ranges: *const Range,
    count: usize,
    advice: i32,
    flags: u32,
    is_own: u32,
) -> i64 {
    let whose = match is_own {
        0 => Ok(Advised::Others),
        1 => Ok(Advised::Own),
        _ => Err(Errno(RUMPVM_EINVAL)),
    };
    number(with(space, |vm, space| {
        // SAFETY: by the caller's promise.
        let ranges = unsafe { copied(ranges, count)? };
        Ok(space.process_madvise(vm, &ranges, advice, flags, whose?)?)
    }))
}

/// The `count` ranges at `ranges`, no more than the component takes.
///
/// # Safety
/// They are there.
unsafe fn copied(ranges: *const Range, count: usize) -> Result<Vec<(VirtAddr, u64)>, Errno> {
    if count > MOST_RANGES || (ranges.is_null() && count > 0) {
        return Err(Errno(RUMPVM_EINVAL));
    }
    let mut all = Vec::new();
    all.try_reserve_exact(count).map_err(|_| Errno(RUMPVM_ENOMEM))?;
    for at in 0..count {
        // SAFETY: by the caller's promise.
        let range = unsafe { ranges.add(at).read() };
        all.push((VirtAddr(range.start), range.length));
    }
    Ok(all)
}
