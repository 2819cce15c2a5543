//! The calls on mappings, by their names in BSD and with Linux's numbers: each is the component's own, behind a handle.
//!
//! Errors are those of the Linux call of that name; unless it says otherwise, nothing has changed then.

use rumpvm::{Backing, Inheritance, LockFlags, MapFlags, ProtFlags, RemapFlags};
use rumpvm_arch::{PAGE_SIZE, Prot, VirtAddr};

use crate::errno::{Errno, RUMPVM_EINVAL, RUMPVM_EOPNOTSUPP, number, outcome};
use crate::space::{Space, with};

/// Loads.
pub const RUMPVM_PROT_READ: u32 = 1;
/// Stores.
pub const RUMPVM_PROT_WRITE: u32 = 2;
/// Instruction fetches.
pub const RUMPVM_PROT_EXEC: u32 = 4;

/// Stores are seen by all who share the memory, children above all.
pub const RUMPVM_MAP_SHARED: u32 = 0x01;
/// Stores are one's own.
pub const RUMPVM_MAP_PRIVATE: u32 = 0x02;
/// In place of RUMPVM_MAP_PRIVATE: pages that may go when memory is short.
pub const RUMPVM_MAP_DROPPABLE: u32 = 0x08;
/// Exactly at the hint, replacing what is there.
pub const RUMPVM_MAP_FIXED: u32 = 0x10;
/// Zero-filled memory: of rumpvm_mmap, and not of rumpvm_mmap_object.
pub const RUMPVM_MAP_ANONYMOUS: u32 = 0x20;
/// Below 2 GiB.
pub const RUMPVM_MAP_32BIT: u32 = 0x40;
/// A stack: faults below extend it.
pub const RUMPVM_MAP_GROWSDOWN: u32 = 0x100;
/// The pages stay in memory.
pub const RUMPVM_MAP_LOCKED: u32 = 0x2000;
/// It is not counted against memory.
pub const RUMPVM_MAP_NORESERVE: u32 = 0x4000;
/// The pages are brought in at once.
pub const RUMPVM_MAP_POPULATE: u32 = 0x8000;
/// With RUMPVM_MAP_POPULATE, and of rumpvm_remap_file_pages: nothing is brought in.
pub const RUMPVM_MAP_NONBLOCK: u32 = 0x1_0000;
/// Exactly at the hint, or not at all.
pub const RUMPVM_MAP_FIXED_NOREPLACE: u32 = 0x0010_0000;

/// It may move.
pub const RUMPVM_MREMAP_MAYMOVE: u32 = 1;
/// It must move to the new address, replacing what is there.
pub const RUMPVM_MREMAP_FIXED: u32 = 2;
/// It moves, and the old range stays mapped, empty.
pub const RUMPVM_MREMAP_DONTUNMAP: u32 = 4;

/// A child gets the same memory.
pub const RUMPVM_INHERIT_SHARE: i32 = 0;
/// A child gets a copy.
pub const RUMPVM_INHERIT_COPY: i32 = 1;
/// A child gets nothing.
pub const RUMPVM_INHERIT_NONE: i32 = 2;
/// A child gets zeros.
pub const RUMPVM_INHERIT_ZERO: i32 = 3;

/// Maps `length` bytes, rounded up to whole pages, of zero-filled memory with the rights `prot` (RUMPVM_PROT_*) as
/// `flags` say (RUMPVM_MAP_*), at `hint`, near it, or anywhere; returns where, or a negative error: see mmap(2). Pages
/// come when they are touched. Takes the map's sleep lock; from a thread, with interrupts on. Errors: -EINVAL (no length,
/// `flags` that contradict each other, no page), -EEXIST (RUMPVM_MAP_FIXED_NOREPLACE), -ENOMEM (no memory, no room, a
/// limit, addresses that are not user memory), -EPERM (below the lowest address; locked, where nothing may be), -EAGAIN
/// (more locked than may be), -EOPNOTSUPP (without RUMPVM_MAP_ANONYMOUS).
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_mmap(space: Space, hint: u64, length: u64, prot: u32, flags: u32) -> i64 {
    number(with(space, |vm, space| {
        let rights = rights_of(prot)?;
        let flags = MapFlags::from_bits_retain(flags);
        if !flags.contains(MapFlags::ANONYMOUS) {
            return Err(Errno(RUMPVM_EOPNOTSUPP));
        }
        let backing = Backing::Anonymous;
        Ok(space.mmap(vm, VirtAddr(hint), length, rights, flags, backing, 0)?.0)
    }))
}

/// Unmaps every page that `length` bytes from `address`, a multiple of 4096, touch; see munmap(2). Takes the map's
/// sleep lock and waits for other CPUs' flushes; from a thread, with interrupts on. Returns 0, -EINVAL, -ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_munmap(space: Space, address: u64, length: u64) -> i32 {
    outcome(with(space, |vm, space| Ok(space.munmap(vm, VirtAddr(address), length)?)))
}

/// Gives `length` bytes from `address` on the rights `prot`; see mprotect(2). Up to the first hole it is done even if
/// there is one, which is -ENOMEM then. Takes the map's sleep lock, waits for other CPUs' flushes; from a thread, with
/// interrupts on. Returns 0, -EINVAL, -EACCES, -ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_mprotect(space: Space, address: u64, length: u64, prot: u32) -> i32 {
    let prot = ProtFlags::from_bits_retain(prot.into());
    outcome(with(space, |vm, space| Ok(space.mprotect(vm, VirtAddr(address), length, prot)?)))
}

/// Takes advice on `length` bytes from `address` on, by the numbers of Linux's madvise(2) (4: the contents are not
/// needed, 22 and 23: bring the pages in, 102: a guard, ...). Takes the map's sleep lock, waits for other CPUs'
/// flushes; from a thread, with interrupts on. Returns 0, -EINVAL, -ENOMEM (also: a hole), -EAGAIN, -EFAULT.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_madvise(space: Space, address: u64, length: u64, advice: i32) -> i32 {
    outcome(with(space, |vm, space| Ok(space.madvise(vm, VirtAddr(address), length, advice)?)))
}

/// Sets `resident[i]` to 1 if page i from `address` on is in memory, else to 0, for each page that `length` bytes touch;
/// see mincore(2). Takes no lock of the space: what changes meanwhile may be seen or not. From a thread. Returns 0,
/// -EINVAL, -ENOMEM (a hole).
///
/// # Safety
/// `resident` has a byte for each of those pages.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_mincore(
    space: Space,
    address: u64,
    length: u64,
    resident: *mut u8,
) -> i32 {
    let pages = usize::try_from(length.div_ceil(PAGE_SIZE)).unwrap_or(usize::MAX);
    // SAFETY: by the caller's promise.
    let resident = unsafe { crate::access::bytes_mut(resident.cast(), pages) };
    outcome(with(space, |vm, space| Ok(space.mincore(vm, VirtAddr(address), length, resident?)?)))
}

/// Says what a child gets of every page that `length` bytes from `address` touch (RUMPVM_INHERIT_*); see minherit(2)
/// of the BSDs. Takes the map's sleep lock; from a thread. Returns 0, -EINVAL, -ENOMEM, -EOPNOTSUPP.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_minherit(
    space: Space,
    address: u64,
    length: u64,
    inheritance: i32,
) -> i32 {
    outcome(with(space, |vm, space| {
        let inheritance = Inheritance::from_number(inheritance)?;
        Ok(space.minherit(vm, VirtAddr(address), length, inheritance)?)
    }))
}

/// Makes the `old_length` bytes mapped at `old` be `new_length` bytes, here or as `flags` (RUMPVM_MREMAP_*) allow
/// elsewhere; returns where, or a negative error: see mremap(2). Takes the map's sleep lock, waits for other CPUs'
/// flushes; from a thread, with interrupts on. Errors: -EINVAL, -ENOMEM (no memory, no room, a limit), -EFAULT (nothing
/// is mapped there, or what cannot grow), -EAGAIN (more locked than may be), -EPERM (below the lowest address).
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_mremap(
    space: Space,
    old: u64,
    old_length: u64,
    new_length: u64,
    flags: u32,
    new_address: u64,
) -> i64 {
    let flags = RemapFlags::from_bits_retain(flags);
    number(with(space, |vm, space| {
        let (old, new) = (VirtAddr(old), VirtAddr(new_address));
        Ok(space.mremap(vm, old, old_length, new_length, flags, new)?.0)
    }))
}

/// Brings in every page that `length` bytes from `address` touch, and keeps them in memory; see mlock(2). Takes the
/// map's sleep lock, and sleeps as a fault does; from a thread, with interrupts on. Returns 0, -EINVAL, -ENOMEM,
/// -EPERM, -EAGAIN.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_mlock(space: Space, address: u64, length: u64) -> i32 {
    let flags = LockFlags::empty();
    outcome(with(space, |vm, space| Ok(space.mlock2(vm, VirtAddr(address), length, flags)?)))
}

/// Undoes rumpvm_mlock for every page that `length` bytes from `address` touch; see munlock(2). Takes the map's sleep
/// lock; from a thread. Returns 0, -EINVAL, -ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_munlock(space: Space, address: u64, length: u64) -> i32 {
    outcome(with(space, |vm, space| Ok(space.munlock(vm, VirtAddr(address), length)?)))
}

/// Rights by their numbers.
pub(crate) fn rights_of(prot: u32) -> Result<Prot, Errno> {
    u8::try_from(prot).ok().and_then(Prot::from_bits).ok_or(Errno(RUMPVM_EINVAL))
}
