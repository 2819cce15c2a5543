//! Errors as a host sees them: Linux's numbers, negative.

use rumpvm::{CallError, FaultError};

/// Not permitted: a limit, or a seal.
pub const RUMPVM_EPERM: i32 = 1;
/// Nothing has that name.
pub const RUMPVM_ENOENT: i32 = 2;
/// There is no such process, or it has been waited for.
pub const RUMPVM_ESRCH: i32 = 3;
/// Input or output failed, or an object ends before that page: SIGBUS.
pub const RUMPVM_EIO: i32 = 5;
/// There is no such space, or it has ended.
pub const RUMPVM_EBADF: i32 = 9;
/// There is no child to wait for.
pub const RUMPVM_ECHILD: i32 = 10;
/// Temporarily impossible.
pub const RUMPVM_EAGAIN: i32 = 11;
/// No memory; or, of a range, that part of it is not mapped.
pub const RUMPVM_ENOMEM: i32 = 12;
/// The mapping does not give that right: SIGSEGV, SEGV_ACCERR.
pub const RUMPVM_EACCES: i32 = 13;
/// Nothing is mapped there: SIGSEGV, SEGV_MAPERR.
pub const RUMPVM_EFAULT: i32 = 14;
/// Locked, or in use.
pub const RUMPVM_EBUSY: i32 = 16;
/// There is something already.
pub const RUMPVM_EEXIST: i32 = 17;
/// Too early: rumpvm_init, or the first memory, is missing.
pub const RUMPVM_ENODEV: i32 = 19;
/// An argument makes no sense.
pub const RUMPVM_EINVAL: i32 = 22;
/// It would become longer than an object can be.
pub const RUMPVM_EFBIG: i32 = 27;
/// A table is full.
pub const RUMPVM_ENOSPC: i32 = 28;
/// A string has no end within the room for it.
pub const RUMPVM_ENAMETOOLONG: i32 = 36;
/// Offset and length are more than an object can have.
pub const RUMPVM_EOVERFLOW: i32 = 75;
/// Not supported.
pub const RUMPVM_EOPNOTSUPP: i32 = 95;
/// An invariant is broken.
pub const RUMPVM_EUCLEAN: i32 = 117;

/// A number of the above.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Errno(pub(crate) i32);

impl From<CallError> for Errno {
    fn from(error: CallError) -> Self {
        Self(error.errno())
    }
}

impl From<rumpvm::NoMemory> for Errno {
    fn from(_: rumpvm::NoMemory) -> Self {
        Self(RUMPVM_ENOMEM)
    }
}

impl From<FaultError> for Errno {
    fn from(error: FaultError) -> Self {
        Self(match error {
            FaultError::Unmapped { .. } | FaultError::Guarded { .. } => RUMPVM_EFAULT,
            FaultError::Denied { .. } => RUMPVM_EACCES,
            FaultError::BeyondEnd { .. } | FaultError::Pager { .. } => RUMPVM_EIO,
            FaultError::NoMemory { .. } => RUMPVM_ENOMEM,
        })
    }
}

/// What a call returns that has only an outcome.
pub(crate) fn outcome(result: Result<(), Errno>) -> i32 {
    result.map_or_else(|error| -error.0, |()| 0)
}

/// What a call returns that has an address or a number.
pub(crate) fn number(result: Result<u64, Errno>) -> i64 {
    result.map_or_else(|error| -i64::from(error.0), u64::cast_signed)
}
