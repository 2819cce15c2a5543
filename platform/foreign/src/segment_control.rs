//! Segments of System V looked at, changed and removed: shmctl(2), a function for each command.
//!
//! Locks: the component's table of segments.
//! Sleep: where a segment ends.

use rumpvm::shm::{SegmentLimits as Most, Status, Totals};

use crate::errno::{Errno, RUMPVM_EINVAL, outcome};
use crate::segments::{Caller, as_caller};
use crate::space::{Space, with};
use crate::{machine, pointers};

/// Of rumpvm_shm_status: `id` is a segment's number (IPC_STAT).
pub const RUMPVM_SHM_BY_NUMBER: u32 = 0;
/// Of rumpvm_shm_status: `id` is a place in the table (SHM_STAT).
pub const RUMPVM_SHM_BY_PLACE: u32 = 1;
/// Of rumpvm_shm_status: `id` is a place in the table, whoever asks (SHM_STAT_ANY).
pub const RUMPVM_SHM_BY_PLACE_ANY: u32 = 2;

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

fn told(of: Status) -> Segment {
    Segment {
        id: of.id,
        key: of.key,
        uid: of.uid,
        gid: of.gid,
        creator_uid: of.creator_uid,
        creator_gid: of.creator_gid,
        mode: of.mode,
        creator: of.creator,
        last: of.last,
        reserved: 0,
        bytes: of.bytes,
        attachments: of.attachments,
        attached: of.attached,
        detached: of.detached,
        changed: of.changed,
    }
}
