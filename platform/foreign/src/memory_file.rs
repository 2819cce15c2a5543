//! Memory files, as memfd_create(2) makes them: objects without a pager that can be written, sealed, and have holes.
//!
//! Locks: the registry's, and each object's own.
//! Sleep: as a fault does.

use core::ffi::c_void;

use rumpvm::{BeyondEnd, MemoryFlags, Seals};

use crate::errno::{Errno, RUMPVM_EINVAL, number, outcome};
use crate::machine;
use crate::object::{OBJECTS, Object, with_object};
use crate::pointers;

/// Of rumpvm_object_memory_file: seals can be added.
pub const RUMPVM_MFD_ALLOW_SEALING: u32 = 2;
/// Of rumpvm_object_memory_file: not executable, and sealed so; other seals can be added.
pub const RUMPVM_MFD_NOEXEC_SEAL: u32 = 8;
/// Of rumpvm_object_memory_file: executable, as it is without this.
pub const RUMPVM_MFD_EXEC: u32 = 0x10;

/// Seal: no more seals.
pub const RUMPVM_SEAL_SEAL: u32 = 1;
/// Seal: it does not become shorter.
pub const RUMPVM_SEAL_SHRINK: u32 = 2;
/// Seal: it does not become longer.
pub const RUMPVM_SEAL_GROW: u32 = 4;
/// Seal: nobody stores to it.
pub const RUMPVM_SEAL_WRITE: u32 = 8;
/// Seal: nobody stores to it but through mappings that there are already.
pub const RUMPVM_SEAL_FUTURE_WRITE: u32 = 0x10;
/// Seal: whether it is executable does not change.
pub const RUMPVM_SEAL_EXEC: u32 = 0x20;

/// Makes an empty memory file, as memfd_create(2) does with `flags` (RUMPVM_MFD_*), and stores its object's number at
/// `made`. Takes the registry's sleep lock; from a thread. Returns 0, -EINVAL, -ENOMEM, -ENOSPC, -ENODEV.
///
/// # Safety
/// `made` is null, or there is a number to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_object_memory_file(flags: u32, made: *mut Object) -> i32 {
    let make = || {
        let vm = machine::vm()?;
        let slot = OBJECTS.reserve()?;
        Ok(slot.fill(vm.memory_file(MemoryFlags::from_bits_retain(flags))?))
    };
    // SAFETY: by the caller's promise.
    outcome(unsafe { pointers::put(made, make) })
}

/// How many bytes `object` has. Takes no lock, unless it is closed meanwhile; from a thread. Or -EBADF, -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_object_size(object: Object) -> i64 {
    number(with_object(object, |_, object| Ok(object.size())))
}

/// Stores `length` bytes at `from` in `object` from byte `offset` on, and returns how many; mappings see them. A memory
/// file becomes longer if need be; a file of the host's is written with its last user, or by rumpvm_msync. Sleeps as a
/// fault does; from a thread, with interrupts on. Or, when nothing was stored: -EPERM (sealed), -EIO, -ENOMEM, -EINVAL,
/// -EFBIG, -EBADF, -ENODEV.
///
/// # Safety
/// There are `length` bytes to read at `from`, which nobody changes meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_object_write(
    object: Object,
    offset: u64,
    from: *const c_void,
    length: usize,
) -> i64 {
    number(with_object(object, |vm, object| {
        // SAFETY: by the caller's promise.
        let bytes = unsafe { crate::access::bytes(from, length)? };
        Ok(vm.write_object(object, offset, bytes)? as u64)
    }))
}

/// Makes `length` bytes of a memory file from byte `offset` on zeros, and gives their pages back; see fallocate(2),
/// FALLOC_FL_PUNCH_HOLE. Sleeps; from a thread, with interrupts on. Returns 0; -EINVAL (no length), -EPERM (sealed),
/// -EOPNOTSUPP (no memory file), -EFBIG, -EBADF, -ENODEV, and nothing has changed.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_object_punch(object: Object, offset: u64, length: u64) -> i32 {
    outcome(with_object(object, |vm, object| Ok(vm.punch_hole(object, offset, length)?)))
}

/// Brings in what is missing of `length` bytes of a memory file from byte `offset` on, so that none of it can fail to
/// come later; see fallocate(2). `keeps_size` is 0 if the file is to become longer where it has to, 1 if not. Sleeps;
/// from a thread, with interrupts on. Returns 0; -EINVAL, -EFBIG, -EPERM (sealed), -EOPNOTSUPP (no memory file),
/// -ENOMEM (the size is what it was then), -EBADF, -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_object_allocate(
    object: Object,
    offset: u64,
    length: u64,
    keeps_size: u32,
) -> i32 {
    let beyond = match keeps_size {
        0 => Ok(BeyondEnd::Grow),
        1 => Ok(BeyondEnd::Keep),
        _ => Err(Errno(RUMPVM_EINVAL)),
    };
    outcome(with_object(object, |vm, object| Ok(vm.allocate(object, offset, length, beyond?)?)))
}

/// The seals of a memory file (RUMPVM_SEAL_*). Takes no lock, unless it is closed meanwhile; from a thread. Or -EINVAL (no memory file), -EBADF,
/// -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_object_seals(object: Object) -> i64 {
    number(with_object(object, |_, object| {
        Ok(object.seals().ok_or(Errno(RUMPVM_EINVAL))?.bits().into())
    }))
}

/// Adds `seals` (RUMPVM_SEAL_*) to a memory file; see fcntl(2), F_ADD_SEALS. That the descriptor was opened for writing
/// is for the host to look at. Sleeps while the size is being changed; from a thread. Returns 0; -EINVAL (unknown
/// seals, no memory file), -EPERM (sealed off itself), -EBUSY (stores are to be sealed off, and a shared mapping could
/// be stored through), -EBADF, -ENODEV, and nothing has changed.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_object_add_seals(object: Object, seals: u32) -> i32 {
    let seals = Seals::from_bits_retain(seals);
    outcome(with_object(object, |vm, object| Ok(vm.add_seals(object, seals)?)))
}
