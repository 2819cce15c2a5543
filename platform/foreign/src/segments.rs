//! System V's shared memory, for hosts whose programs ask for it: shmget(2), shmat(2), shmdt(2), and shmctl(2) taken
//! apart.
//!
//! Locks: the component's table of segments; where something is mapped, the map's.
//! Sleep: where a segment ends.
//!
//! Who calls, and when, the host says with each call. Errors are those of the Linux call of that name; nothing has changed
//! then.

use rumpvm::Vm;
use rumpvm::shm::{
    AttachFlags, Caller as Who, Rank, SegmentFlags, SegmentLimits as Most, Status, Totals,
};
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

/// Of rumpvm_shm_status: `id` is a segment's number (IPC_STAT).
pub const RUMPVM_SHM_BY_NUMBER: u32 = 0;
/// Of rumpvm_shm_status: `id` is a place in the table (SHM_STAT).
pub const RUMPVM_SHM_BY_PLACE: u32 = 1;
/// Of rumpvm_shm_status: `id` is a place in the table, whoever asks (SHM_STAT_ANY).
pub const RUMPVM_SHM_BY_PLACE_ANY: u32 = 2;

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

/// What is known of a segment.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Its number.
    pub id: i32,
    /// Its key; RUMPVM_IPC_PRIVATE once it is removed.
    pub key: i32,
    /// Owner.
    pub uid: u32,
    /// The owner's group.
    pub gid: u32,
    /// Who made it.
    pub creator_uid: u32,
    /// The group of who made it.
    pub creator_gid: u32,
    /// Permissions, with 0o1000 (octal) when it is removed and 0o2000 when it is locked.
    pub mode: u32,
    /// Process that made it.
    pub creator: u32,
    /// Process that attached or detached it last.
    pub last: u32,
    /// Zero.
    pub reserved: u32,
    /// Bytes, as they were asked for.
    pub bytes: u64,
    /// Areas of it, in all spaces.
    pub attachments: u64,
    /// When it was last attached, in seconds since 1970.
    pub attached: i64,
    /// When it was last detached by rumpvm_shmdt.
    pub detached: i64,
    /// When it was made or changed.
    pub changed: i64,
}

/// Limits of all segments.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SegmentLimits {
    /// Most bytes of one.
    pub bytes: u64,
    /// Most of them.
    pub segments: u64,
    /// Most pages of all.
    pub pages: u64,
}

/// What there is of all segments.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SegmentTotals {
    /// Segments.
    pub segments: u64,
    /// Pages of all.
    pub pages: u64,
    /// Pages of all that are in memory.
    pub resident: u64,
    /// Highest place in the table that is in use; 0 if none is.
    pub highest: u64,
}

/// Does `work` for the caller at `caller`.
///
/// # Safety
/// `caller` is null, or points to a caller whose groups are there; nobody changes them meanwhile.
unsafe fn as_caller<T>(
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

/// Stores what is known of segment `id`, which is found as `how` says (RUMPVM_SHM_BY_*), at `into`. Takes the table's
/// sleep lock; from a thread. Returns 0, -EINVAL, -EACCES, -ENODEV.
///
/// # Safety
/// `caller` is null, or points to a caller with his groups; `into` is null, or there is a segment to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_shm_status(
    caller: *const Caller,
    id: i32,
    how: u32,
    into: *mut Segment,
) -> i32 {
    let look = || {
        // SAFETY: by the caller's promise.
        unsafe {
            as_caller(caller, |vm, who| {
                let segments = vm.segments();
                let status = match how {
                    RUMPVM_SHM_BY_NUMBER => segments.status(who, id)?,
                    RUMPVM_SHM_BY_PLACE => segments.status_at(who, id)?,
                    RUMPVM_SHM_BY_PLACE_ANY => segments.status_of_any(id)?,
                    _ => return Err(Errno(RUMPVM_EINVAL)),
                };
                Ok(told(status))
            })
        }
    };
    // SAFETY: by the caller's promise.
    outcome(unsafe { pointers::put(into, look) })
}

/// Changes owner and permissions of segment `id` (IPC_SET). Takes the table's sleep lock; from a thread. Returns 0,
/// -EINVAL, -EPERM, -ENODEV.
///
/// # Safety
/// `caller` is null, or points to a caller with his groups.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_shm_set(
    caller: *const Caller,
    id: i32,
    uid: u32,
    gid: u32,
    mode: u32,
) -> i32 {
    // SAFETY: by the caller's promise.
    outcome(unsafe {
        as_caller(caller, |vm, who| Ok(vm.segments().set(who, id, (uid, gid), mode)?))
    })
}

/// Removes segment `id` (IPC_RMID): nobody finds it by its key any more, and its memory goes with its last area. Takes
/// the table's sleep lock, and sleeps where the memory goes now; from a thread, with interrupts on. Returns 0, -EINVAL,
/// -EPERM, -ENODEV.
///
/// # Safety
/// `caller` is null, or points to a caller with his groups.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_shm_remove(caller: *const Caller, id: i32) -> i32 {
    // SAFETY: by the caller's promise.
    outcome(unsafe { as_caller(caller, |vm, who| Ok(vm.segments().remove(vm, who, id)?)) })
}

/// Marks segment `id` as locked in memory, or not, as `locked` is 1 or 0 (SHM_LOCK, SHM_UNLOCK), by the limit of
/// `space` on locked memory. It is in memory anyway. Takes the table's sleep lock; from a thread. Returns 0, -EINVAL,
/// -EPERM, -EBADF, -ENODEV.
///
/// # Safety
/// `caller` is null, or points to a caller with his groups.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_shm_lock(
    caller: *const Caller,
    space: Space,
    id: i32,
    locked: u32,
) -> i32 {
    // SAFETY: by the caller's promise.
    outcome(unsafe {
        as_caller(caller, |vm, who| {
            if locked > 1 {
                return Err(Errno(RUMPVM_EINVAL));
            }
            let limits = with(space, |_, space| Ok(space.limits()))?;
            Ok(vm.segments().set_locked(who, &limits, id, locked == 1)?)
        })
    })
}

/// Stores what there is of all segments at `into` (SHM_INFO). Takes the table's sleep lock; from a thread. Returns 0,
/// -EINVAL (null), -ENODEV.
///
/// # Safety
/// `into` is null, or there are totals to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_shm_totals(into: *mut SegmentTotals) -> i32 {
    let look = || {
        let vm = machine::vm()?;
        let Totals { segments, pages, resident, highest } = vm.segments().totals(vm);
        Ok(SegmentTotals { segments, pages, resident, highest: highest.cast_unsigned().into() })
    };
    // SAFETY: by the caller's promise.
    outcome(unsafe { pointers::put(into, look) })
}

/// Stores the limits of all segments at `into` (IPC_INFO); before rumpvm_shm_set_limits, Linux's. Takes the table's sleep
/// lock; from a thread. Returns 0, -EINVAL (null), -ENODEV.
///
/// # Safety
/// `into` is null, or there are limits to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_shm_limits(into: *mut SegmentLimits) -> i32 {
    let look = || {
        let Most { bytes, segments, pages } = machine::vm()?.segments().limits();
        Ok(SegmentLimits { bytes, segments, pages })
    };
    // SAFETY: by the caller's promise.
    outcome(unsafe { pointers::put(into, look) })
}

/// Changes them to those at `from`; what there is stays. Takes the table's sleep lock; from a thread. Returns 0, -EINVAL
/// (null), -ENODEV.
///
/// # Safety
/// `from` is null, or points to limits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_shm_set_limits(from: *const SegmentLimits) -> i32 {
    // SAFETY: by the caller's promise.
    let limits = unsafe { pointers::get(from) };
    outcome(machine::vm().and_then(|vm| {
        let SegmentLimits { bytes, segments, pages } = limits?;
        vm.segments().set_limits(Most { bytes, segments, pages });
        Ok(())
    }))
}

fn told(status: Status) -> Segment {
    let Status {
        id,
        key,
        uid,
        gid,
        creator_uid,
        creator_gid,
        mode,
        bytes,
        attached,
        detached,
        changed,
        creator,
        last,
        attachments,
    } = status;
    Segment {
        id,
        key,
        uid,
        gid,
        creator_uid,
        creator_gid,
        mode,
        creator,
        last,
        reserved: 0,
        bytes,
        attachments,
        attached,
        detached,
        changed,
    }
}
