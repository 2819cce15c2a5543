//! System V's shared memory, for hosts whose programs ask for it: shmget(2), shmat(2), shmdt(2). What shmctl(2) does is in
//! `segment_control`.
//!
//! Locks: the component's table of segments; where something is mapped, the map's.
//! Sleep: where a segment ends.
//!
//! Who calls, and when, the host says with each call. Errors are those of the Linux call of that name; nothing has changed
//! then.

use rumpvm::Vm;
use rumpvm::shm::{AttachFlags, Caller as Who, Rank, SegmentFlags};
use rumpvm_arch::VirtAddr;

use crate::errno::{Errno, RUMPVM_EINVAL, number, outcome};
use crate::home::Foreign;
use crate::space::{Space, with};
use crate::{machine, pointers};

/// Of rumpvm_shmget, for `key`: a segment that nobody finds by its key.
pub const RUMPVM_IPC_PRIVATE: i32 = 0;
/// Of rumpvm_shmget: make it if there is none with that key.
pub const RUMPVM_IPC_CREAT: u32 = 0o1000;
/// Of rumpvm_shmget, with RUMPVM_IPC_CREAT: fail if there is one.
pub const RUMPVM_IPC_EXCL: u32 = 0o2000;
/// Of rumpvm_shmget: it is not counted against memory.
pub const RUMPVM_SHM_NORESERVE: u32 = 0o10000;

/// Of rumpvm_shmat: to load only.
pub const RUMPVM_SHM_RDONLY: u32 = 0o10000;
/// Of rumpvm_shmat: round the address down.
pub const RUMPVM_SHM_RND: u32 = 0o20000;
/// Of rumpvm_shmat: in place of what is there.
pub const RUMPVM_SHM_REMAP: u32 = 0o40000;
/// Of rumpvm_shmat: to execute, too.
pub const RUMPVM_SHM_EXEC: u32 = 0o100000;

/// Bits that are permissions.
const MODE: u32 = 0o777;

/// Who calls.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Further groups, as many as `group_count`.
    pub groups: *const u32,
    /// How many.
    pub group_count: u32,
    /// 1 if permissions and ownership do not bind it, else 0.
    pub is_admin: u32,
    /// Number of its process.
    pub pid: u32,
    /// Zero.
    pub reserved: u32,
    /// Seconds since 1970.
    pub now: i64,
}

/// Does `work` for the caller at `caller`.
///
/// # Safety
/// `caller` is null, or points to a caller whose groups are there; nobody changes them meanwhile.
pub(crate) unsafe fn as_caller<T>(
    caller: *const Caller,
    work: impl FnOnce(&Vm<Foreign>, &Who<'_>) -> Result<T, Errno>,
) -> Result<T, Errno> {
    let vm = machine::vm()?;
    // SAFETY: by the caller's promise.
    let said = unsafe { pointers::get(caller)? };
    let rank = match said.is_admin {
        0 => Rank::Ordinary,
        1 => Rank::Administrator,
        _ => return Err(Errno(RUMPVM_EINVAL)),
    };
    let groups = match said.group_count {
        0 => &[],
        _ if said.groups.is_null() => return Err(Errno(RUMPVM_EINVAL)),
        // SAFETY: by the caller's promise.
        many => unsafe { core::slice::from_raw_parts(said.groups, many as usize) },
    };
    let Caller { uid, gid, pid, now, .. } = said;
    work(vm, &Who { uid, gid, groups, rank, pid, now })
}

/// The number of the segment with `key`, or of a new one of `bytes` bytes; `flags` are RUMPVM_IPC_CREAT,
/// RUMPVM_IPC_EXCL, RUMPVM_SHM_NORESERVE, and permissions below them. See shmget(2). Takes the table's sleep lock; from a
/// thread. Or -ENOENT, -EEXIST, -EACCES, -ENOSPC, -ENOMEM, -EINVAL, -ENODEV.
///
/// # Safety
/// `caller` is null, or points to a caller with his groups.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_shmget(
    caller: *const Caller,
    key: i32,
    bytes: u64,
    flags: u32,
) -> i64 {
    let (flags, mode) = (SegmentFlags::from_bits_retain(flags & !MODE), flags & MODE);
    // SAFETY: by the caller's promise.
    number(unsafe {
        as_caller(caller, |vm, who| {
            let id = vm.segments().get(vm, who, key, bytes, flags, mode)?;
            Ok(u64::from(id.cast_unsigned()))
        })
    })
}

/// Maps segment `id` in `space`, at `address`, or anywhere if that is 0, as `flags` say (RUMPVM_SHM_*); returns where. See
/// shmat(2). Takes the table's sleep lock, then the map's; from a thread, with interrupts on. Or -EINVAL, -EACCES,
/// -ENOMEM, -EBADF, -ENODEV.
///
/// # Safety
/// `caller` is null, or points to a caller with his groups.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_shmat(
    caller: *const Caller,
    space: Space,
    id: i32,
    address: u64,
    flags: u32,
) -> i64 {
    let flags = AttachFlags::from_bits_retain(flags);
    // SAFETY: by the caller's promise.
    number(unsafe {
        as_caller(caller, |vm, who| {
            with(space, |_, space| {
                Ok(vm.segments().attach(vm, who, space, id, VirtAddr(address), flags)?.0)
            })
        })
    })
}

/// Unmaps what is left of the segment that was attached in `space` at `address`; see shmdt(2). Takes the map's sleep
/// lock, waits for other CPUs' flushes; from a thread, with interrupts on. Returns 0, -EINVAL, -ENOMEM, -EBADF,
/// -ENODEV.
///
/// # Safety
/// `caller` is null, or points to a caller with his groups.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_shmdt(caller: *const Caller, space: Space, address: u64) -> i32 {
    // SAFETY: by the caller's promise.
    outcome(unsafe {
        as_caller(caller, |vm, who| {
            with(space, |_, space| Ok(vm.segments().detach(vm, who, space, VirtAddr(address))?))
        })
    })
}
