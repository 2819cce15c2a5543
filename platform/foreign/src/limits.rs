//! How much one space may have, how much it has, and how much all together may be promised.
//!
//! Locks: the map's, for its own.

use rumpvm::{CommitPolicy as Policy, Limits as Allowed, Overcommit, Reserve};

use crate::errno::{Errno, RUMPVM_EINVAL, number, outcome};
use crate::space::{Space, with};
use crate::{machine, pointers};

/// Limits of one space, in bytes but `areas`. A new space has Linux's for root; a child has its parent's.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest size that a growing stack reaches (RLIMIT_STACK).
    pub stack: u64,
    /// Most bytes mapped (RLIMIT_AS).
    pub address_space: u64,
    /// Largest heap, and most bytes of private memory that can be stored to, stacks aside (RLIMIT_DATA).
    pub data: u64,
    /// Most bytes locked (RLIMIT_MEMLOCK).
    pub locked: u64,
    /// Most areas (vm.max_map_count).
    pub areas: u64,
    /// No mapping below this address (vm.mmap_min_addr).
    pub lowest: u64,
    /// 1: what is kept for administrators is kept from this space, too. 0: it is not.
    pub is_ordinary: u32,
    /// Zero.
    pub reserved: u32,
}

/// What one space has.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Bytes mapped.
    pub mapped: u64,
    /// Bytes in locked areas.
    pub locked: u64,
    /// Bytes of private memory that can be stored to, stacks aside.
    pub data: u64,
    /// Bytes that were promised to it.
    pub promised: u64,
    /// Areas.
    pub areas: u64,
    /// Pages that its page tables map, those that it shares with other spaces included.
    pub resident: u64,
    /// Pages of those tables, shared ones included.
    pub tables: u64,
}

/// One request larger than all memory is refused (Linux's mode 0).
pub const RUMPVM_COMMIT_HEURISTIC: u32 = 0;
/// Nothing is refused (mode 1).
pub const RUMPVM_COMMIT_ALWAYS: u32 = 1;
/// What goes beyond the limit in sum is refused (mode 2).
pub const RUMPVM_COMMIT_NEVER: u32 = 2;

/// How much may be promised: memory that was mapped and may be needed. In bytes but `mode` and `ratio`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CommitPolicy {
    /// RUMPVM_COMMIT_*.
    pub mode: u32,
    /// Of all memory, in per cent, unless `bytes` says it. For RUMPVM_COMMIT_NEVER.
    pub ratio: u32,
    /// In all; 0 for the ratio.
    pub bytes: u64,
    /// What only spaces get that are not ordinary.
    pub admin_reserve: u64,
    /// Most that is kept from a space because it is large: a 32nd of its own size.
    pub user_reserve: u64,
}

/// Stores the limits of `space` at `into`. Takes the map's sleep lock; from a thread. Returns 0, -EINVAL (null),
/// -EBADF, -ENODEV.
///
/// # Safety
/// `into` is null, or there are limits to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_limits(space: Space, into: *mut Limits) -> i32 {
    let look = || {
        with(space, |_, space| {
            let Allowed { stack, address_space, data, locked, areas, reserve, lowest } =
                space.limits();
            let is_ordinary = u32::from(reserve == Reserve::Kept);
            let reserved = 0;
            Ok(Limits { stack, address_space, data, locked, areas, lowest, is_ordinary, reserved })
        })
    };
    // SAFETY: by the caller's promise.
    outcome(unsafe { pointers::put(into, look) })
}

/// Gives `space` the limits at `from`; what is over one already stays. Takes the map's sleep lock; from a thread.
/// Returns 0; -EINVAL (null, `is_ordinary` is neither 0 nor 1, `reserved` not 0), -EBADF, -ENODEV, and nothing has
/// changed.
///
/// # Safety
/// `from` is null, or points to limits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_set_limits(space: Space, from: *const Limits) -> i32 {
    // SAFETY: by the caller's promise.
    let limits = unsafe { pointers::get(from) };
    outcome(with(space, |_, space| {
        let Limits { stack, address_space, data, locked, areas, lowest, is_ordinary, reserved } =
            limits?;
        let reserve = match is_ordinary {
            0 => Reserve::Usable,
            1 => Reserve::Kept,
            _ => return Err(Errno(RUMPVM_EINVAL)),
        };
        if reserved != 0 {
            return Err(Errno(RUMPVM_EINVAL));
        }
        space.set_limits(Allowed { stack, address_space, data, locked, areas, reserve, lowest });
        Ok(())
    }))
}

/// Stores what `space` has at `into`, each number as of some moment of the call. Takes the map's sleep lock; from a
/// thread. Returns 0, -EINVAL (null), -EBADF, -ENODEV.
///
/// # Safety
/// `into` is null, or there is a usage to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_usage(space: Space, into: *mut Usage) -> i32 {
    let look = || {
        with(space, |vm, space| {
            Ok(Usage {
                mapped: space.mapped_bytes(),
                locked: space.locked_bytes(),
                data: space.data_bytes(),
                promised: space.promised_bytes(),
                areas: space.area_count(),
                resident: space.resident_pages(vm),
                tables: space.table_pages(vm),
            })
        })
    };
    // SAFETY: by the caller's promise.
    outcome(unsafe { pointers::put(into, look) })
}

/// Stores how much may be promised at `into`. Takes no lock; from a thread. Returns 0, -EINVAL (null), -ENODEV.
///
/// # Safety
/// `into` is null, or there is a policy to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_commit_policy(into: *mut CommitPolicy) -> i32 {
    let look = || {
        let policy = machine::vm()?.commit_policy();
        Ok(CommitPolicy {
            mode: match policy.mode {
                Overcommit::Heuristic => RUMPVM_COMMIT_HEURISTIC,
                Overcommit::Always => RUMPVM_COMMIT_ALWAYS,
                Overcommit::Never => RUMPVM_COMMIT_NEVER,
            },
            ratio: u32::try_from(policy.ratio).unwrap_or(u32::MAX),
            bytes: policy.bytes,
            admin_reserve: policy.admin_reserve,
            user_reserve: policy.user_reserve,
        })
    };
    // SAFETY: by the caller's promise.
    outcome(unsafe { pointers::put(into, look) })
}

/// Changes how much may be promised to what is at `from`; what has been promised stays so. Takes no lock; from a
/// thread. Returns 0; -EINVAL (null, no such mode), -ENODEV, and nothing has changed.
///
/// # Safety
/// `from` is null, or points to a policy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_set_commit_policy(from: *const CommitPolicy) -> i32 {
    // SAFETY: by the caller's promise.
    let policy = unsafe { pointers::get(from) };
    outcome(machine::vm().and_then(|vm| {
        let CommitPolicy { mode, ratio, bytes, admin_reserve, user_reserve } = policy?;
        let mode = match mode {
            RUMPVM_COMMIT_HEURISTIC => Overcommit::Heuristic,
            RUMPVM_COMMIT_ALWAYS => Overcommit::Always,
            RUMPVM_COMMIT_NEVER => Overcommit::Never,
            _ => return Err(Errno(RUMPVM_EINVAL)),
        };
        let ratio = ratio.into();
        vm.set_commit_policy(Policy { mode, ratio, bytes, admin_reserve, user_reserve });
        Ok(())
    }))
}

/// Bytes that are promised now (Committed_AS): private memory that can be stored to, and shared anonymous memory, both
/// unless they were mapped with RUMPVM_MAP_NORESERVE. As of some moment. Takes no lock; from a thread. Or -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_committed() -> i64 {
    number(machine::vm().map(|vm| vm.committed()))
}

/// Bytes that may be promised with RUMPVM_COMMIT_NEVER (CommitLimit). Takes no lock; from a thread. Or -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_commit_limit() -> i64 {
    number(machine::vm().map(|vm| vm.commit_limit()))
}
