//! Objects: what can be mapped besides private memory. Files of the host's, memory that spaces share, devices.

use core::ffi::c_void;

use rumpvm::{Backing, Hold, MapFlags, Object as Objects, SyncFlags, Vm};
use rumpvm_arch::{PAGE_SIZE, PhysAddr, VirtAddr};
use rumpvm_platform::FileId;

use crate::access::bytes_mut;
use crate::errno::{Errno, RUMPVM_EINVAL, number, outcome};
use crate::handles::{Table, Use};
use crate::home::Foreign;
use crate::map::rights_of;
use crate::pager::{HostFile, Pager};
use crate::space::{Space, with};
use crate::{machine, pointers};

/// Something that can be mapped, by a number as that of a space. Each number is one user of the object; its mappings
/// are others, so a number may be closed while the object is mapped.
pub type Object = u64;

/// Of rumpvm_msync: begin to write.
pub const RUMPVM_MS_ASYNC: u32 = 1;
/// Of rumpvm_msync: other mappings must see it; they always do.
pub const RUMPVM_MS_INVALIDATE: u32 = 2;
/// Of rumpvm_msync: write, and return when it is done.
pub const RUMPVM_MS_SYNC: u32 = 4;

pub(crate) type Held = Hold<Objects<Foreign>, Foreign>;

/// Objects by handle.
pub(crate) static OBJECTS: Table<Held> = Table::new();

/// Does `work` with what `object` names.
pub(crate) fn with_object<T>(
    object: Object,
    work: impl FnOnce(&Vm<Foreign>, &Held) -> Result<T, Errno>,
) -> Result<T, Errno> {
    let vm = machine::vm()?;
    let used = OBJECTS.enter(object)?;
    let outcome = work(vm, &used);
    let left = leave(vm, used);
    outcome.and_then(|outcome| left.map(|()| outcome))
}

/// Ends a use; who is the last to use a closed object gives it up.
fn leave(vm: &Vm<Foreign>, used: Use<Held>) -> Result<(), Errno> {
    used.leave().map_or(Ok(()), |closed| Ok(vm.close(&closed)?))
}

/// Opens the file `inode` of volume `device`, by numbers of the host's: opens of one file share pages. Stores the
/// object's number at `made`. The table is copied. If the file is open already, its first cookie goes on being used,
/// and this one is closed at once. Takes the registry's sleep lock, and sleeps while the file's last user writes it;
/// from a thread. Returns 0; -EINVAL (a pointer is null, or the table incomplete), -ENODEV, and the cookie was not
/// taken; -ENOMEM, -ENOSPC, and it was closed.
///
/// # Safety
/// `pager` is null or points to a table; what it names may be called until the cookie is closed. `made` is null, or
/// there is a number to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_object_open(
    pager: *const Pager,
    cookie: *mut c_void,
    device: u64,
    inode: u64,
    made: *mut Object,
) -> i32 {
    let open = || {
        let vm = machine::vm()?;
        // SAFETY: by the caller's promise.
        let pager = *unsafe { pager.as_ref() }.ok_or(Errno(RUMPVM_EINVAL))?;
        let is_whole = pager.size == size_of::<Pager>() as u64;
        if !is_whole || pager.length.is_none() || pager.read.is_none() {
            return Err(Errno(RUMPVM_EINVAL));
        }
        let file = HostFile { pager, cookie, id: FileId { device, inode } };
        let slot = OBJECTS.reserve()?;
        Ok(slot.fill(vm.open_file(file)?))
    };
    // SAFETY: by the caller's promise.
    outcome(unsafe { pointers::put(made, open) })
}

/// Makes an object of `bytes` bytes of zeros, at most INT64_MAX, for spaces to share, and stores its number at `made`.
/// Pages come when they are touched. Takes the registry's sleep lock; from a thread. Returns 0, -EINVAL (also: too many
/// bytes), -ENOMEM, -ENOSPC, -ENODEV.
///
/// # Safety
/// `made` is null, or there is a number to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_object_memory(bytes: u64, made: *mut Object) -> i32 {
    let make = || {
        let vm = machine::vm()?;
        let slot = OBJECTS.reserve()?;
        Ok(slot.fill(vm.shared_memory(bytes)?))
    };
    // SAFETY: by the caller's promise.
    outcome(unsafe { pointers::put(made, make) })
}

/// Makes an object of the device memory at physical address `start`, of `bytes` bytes, both multiples of 4096, which
/// was not given by rumpvm_add_memory; stores its number at `made`. Frames that the host got from rumpvm_frame_alloc or
/// _run will do as well, if it keeps them as long as the object is open or mapped. It can be shared, not copied. Takes the
/// registry's sleep lock; from a thread. Returns 0, -EINVAL (also: part of it is rumpvm's, or out of reach of page
/// tables), -ENOMEM, -ENOSPC, -ENODEV.
///
/// # Safety
/// `made` is null, or there is a number to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_object_device(start: u64, bytes: u64, made: *mut Object) -> i32 {
    let make = || {
        let vm = machine::vm()?;
        let frames = u32::try_from(bytes / PAGE_SIZE).ok();
        let is_whole = start.is_multiple_of(PAGE_SIZE) && bytes.is_multiple_of(PAGE_SIZE);
        let first = u32::try_from(start / PAGE_SIZE).ok();
        let (true, Some(_), Some(frames)) = (is_whole, first, frames.filter(|many| *many > 0))
        else {
            return Err(Errno(RUMPVM_EINVAL));
        };
        let slot = OBJECTS.reserve()?;
        Ok(slot.fill(vm.device(PhysAddr(start).frame(), frames)?))
    };
    // SAFETY: by the caller's promise.
    outcome(unsafe { pointers::put(made, make) })
}

/// Closes a number. If nothing else uses the object, it ends: a file is written, and its cookie closed. Sleeps; from a
/// thread. Returns 0, -EBADF, -ENODEV; -EIO if the file could not be written, and then its pages stay for the next
/// open. (If another call still uses the number, the object is given up when that returns, and that call tells of it.)
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_object_close(object: Object) -> i32 {
    outcome(machine::vm().and_then(|vm| {
        let used = OBJECTS.enter(object)?;
        let closed = used.close();
        let left = leave(vm, used);
        closed.and(left)
    }))
}

/// As rumpvm_mmap, of `object` from byte `offset` on, a multiple of 4096. `rights` (RUMPVM_PROT_*) is all that the
/// mapping may ever have, as the open file has it: stores to a private mapping need only the right to load. -EACCES if
/// `prot` is more; -EOVERFLOW (more than an object can have), -EINVAL also with RUMPVM_MAP_ANONYMOUS.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_mmap_object(
    space: Space,
    hint: u64,
    length: u64,
    prot: u32,
    flags: u32,
    object: Object,
    offset: u64,
    rights: u32,
) -> i64 {
    number(with(space, |vm, space| {
        with_object(object, |_, object| {
            let flags = MapFlags::from_bits_retain(flags);
            if flags.contains(MapFlags::ANONYMOUS) {
                return Err(Errno(RUMPVM_EINVAL));
            }
            let backing = Backing::Opened(object, rights_of(rights)?);
            Ok(space.mmap(vm, VirtAddr(hint), length, rights_of(prot)?, flags, backing, offset)?.0)
        })
    }))
}

/// Writes what was stored through the shared file mappings in `length` bytes from `address` on, if `flags`
/// (RUMPVM_MS_*) say so; see msync(2). Holes do not stop it, but are -ENOMEM. Sleeps; from a thread, with interrupts
/// on. Returns 0, -EINVAL, -ENOMEM, -EBUSY, -EIO.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_msync(space: Space, address: u64, length: u64, flags: u32) -> i32 {
    let flags = SyncFlags::from_bits_retain(flags);
    outcome(with(space, |vm, space| Ok(space.msync(vm, VirtAddr(address), length, flags)?)))
}

/// Writes what was stored in `object`, through whatever mapping, to its file, and makes that durable, as fsync(2). Nothing
/// is done for what is no file. A host that wants files to be written now and then has a thread that calls it for
/// each that it has open. Sleeps; from a thread, with interrupts on. Returns 0; -EIO, and what was not written is
/// still to be; -EBADF, -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_object_sync(object: Object) -> i32 {
    outcome(with_object(object, |vm, object| Ok(vm.sync_object(object)?)))
}

/// Copies up to `length` bytes of `object` from byte `offset` on to `into`; returns how many there were, or a negative
/// error: -EIO, -ENOMEM, -EINVAL (a null pointer; the memory of a device). It sees what mappings see. Sleeps as a fault
/// does; from a thread.
///
/// # Safety
/// There are `length` bytes to write at `into`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_object_read(
    object: Object,
    offset: u64,
    into: *mut c_void,
    length: usize,
) -> i64 {
    // SAFETY: by the caller's promise.
    let into = unsafe { bytes_mut(into, length) };
    number(with_object(object, |vm, object| Ok(vm.read_object(object, offset, into?)? as u64)))
}

/// Makes `object` `bytes` bytes long: pages beyond are taken from all mappings, and the file is told. Takes the
/// object's sleep lock, waits for other CPUs' flushes; from a thread, with interrupts on. Returns 0, -EINVAL, -EPERM,
/// -EIO, -ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_object_resize(object: Object, bytes: u64) -> i32 {
    outcome(with_object(object, |vm, object| Ok(vm.resize(object, bytes)?)))
}
