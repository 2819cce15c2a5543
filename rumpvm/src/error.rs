//! Errors, one small type for each layer, each saying whose fault it is and what state remains.

use core::fmt;

use rumpvm_arch::{Prot, VirtAddr};
use rumpvm_platform::IoError;

/// There was no memory. Nothing has changed; trying again later is safe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoMemory;

impl fmt::Display for NoMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("out of memory")
    }
}

impl core::error::Error for NoMemory {}

/// Why a call was refused. What it says of Linux's error numbers is [`CallError::errno`]. Unless the call's
/// own documentation says otherwise, nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallError {
    /// An argument is malformed, or two contradict each other.
    Invalid,
    /// No frame, no record, no room in the address space, or a limit is reached.
    NoMemory,
    /// A table of the machine is full.
    NoSpace,
    /// Nothing has that name.
    NotFound,
    /// Part of the range is not mapped. What was mapped before the hole may have been changed.
    Unmapped,
    /// There is something where nothing may be replaced.
    Exists,
    /// The object may not be used in that way.
    Denied,
    /// The caller may not do that at all.
    NotPermitted,
    /// There is no mapping where one was named.
    BadAddress,
    /// Offset plus length is more than an object can have.
    Overflow,
    /// It would become longer than an object can be.
    TooLarge,
    /// The range is locked in memory, or in use.
    Busy,
    /// Temporarily impossible.
    Again,
    /// A flag is not known, and the caller asked to be told.
    Unsupported,
    /// There is no child to wait for.
    NoChild,
    /// Input or output failed.
    Io(IoError),
}

impl CallError {
    /// Linux's number for it (`asm-generic/errno*.h`).
    pub const fn errno(self) -> i32 {
        match self {
            Self::NotPermitted => 1,
            Self::NotFound => 2,
            Self::Io(_) => 5,
            Self::NoChild => 10,
            Self::Again => 11,
            Self::NoMemory | Self::Unmapped => 12,
            Self::Denied => 13,
            Self::BadAddress => 14,
            Self::Busy => 16,
            Self::Exists => 17,
            Self::Invalid => 22,
            Self::TooLarge => 27,
            Self::NoSpace => 28,
            Self::Overflow => 75,
            Self::Unsupported => 95,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotPermitted => "operation not permitted (EPERM)",
            Self::Io(_) => "input or output error (EIO)",
            Self::NotFound => "no such thing (ENOENT)",
            Self::NoSpace => "no space left (ENOSPC)",
            Self::NoChild => "no child (ECHILD)",
            Self::Again => "try again (EAGAIN)",
            Self::NoMemory => "out of memory (ENOMEM)",
            Self::Unmapped => "part of the range is not mapped (ENOMEM)",
            Self::Denied => "permission denied (EACCES)",
            Self::BadAddress => "bad address (EFAULT)",
            Self::Busy => "busy (EBUSY)",
            Self::Exists => "already mapped (EEXIST)",
            Self::Invalid => "invalid argument (EINVAL)",
            Self::Overflow => "value too large (EOVERFLOW)",
            Self::TooLarge => "object too large (EFBIG)",
            Self::Unsupported => "not supported (EOPNOTSUPP)",
        })
    }
}

impl core::error::Error for CallError {}

impl From<NoMemory> for CallError {
    fn from(NoMemory: NoMemory) -> Self {
        Self::NoMemory
    }
}

impl From<IoError> for CallError {
    fn from(error: IoError) -> Self {
        Self::Io(error)
    }
}

/// Why an access cannot be made good. No content has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultError {
    /// No entry covers `at`. The program's fault: SIGSEGV, `SEGV_MAPERR`.
    Unmapped {
        /// The address used.
        at: VirtAddr,
    },
    /// The entry forbids `wanted`. The program's fault: SIGSEGV, `SEGV_ACCERR`.
    Denied {
        /// The address used.
        at: VirtAddr,
        /// The right that is missing.
        wanted: Prot,
    },
    /// The object ends before the page of `at`. SIGBUS, `BUS_ADRERR`.
    BeyondEnd {
        /// The address used.
        at: VirtAddr,
    },
    /// The pager failed; the page stays absent. SIGBUS, `BUS_ADRERR`.
    Pager {
        /// The address used.
        at: VirtAddr,
        /// What the file said.
        error: IoError,
    },
    /// A guard is there, by advice 102. SIGSEGV, `SEGV_MAPERR`.
    Guarded {
        /// The address used.
        at: VirtAddr,
    },
    /// No frame, even after every cache was emptied. Trying again is safe; a kernel kills somebody.
    NoMemory {
        /// The address used.
        at: VirtAddr,
    },
}

/// What a kernel would do to the thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// Signal 11, with this `si_code`.
    Segv {
        /// 1 for `SEGV_MAPERR`, 2 for `SEGV_ACCERR`.
        code: i32,
    },
    /// Signal 7, with `si_code` 2, `BUS_ADRERR`.
    Bus,
    /// Signal 9, from the out-of-memory killer.
    Kill,
}

impl Signal {
    /// Linux's number for it.
    pub const fn number(self) -> i32 {
        match self {
            Self::Segv { .. } => 11,
            Self::Bus => 7,
            Self::Kill => 9,
        }
    }
}

impl FaultError {
    /// The address used.
    pub const fn at(self) -> VirtAddr {
        match self {
            Self::Unmapped { at }
            | Self::Denied { at, .. }
            | Self::BeyondEnd { at }
            | Self::Guarded { at }
            | Self::Pager { at, .. }
            | Self::NoMemory { at } => at,
        }
    }

    /// The signal that Linux sends for it.
    pub const fn signal(self) -> Signal {
        match self {
            Self::Unmapped { .. } | Self::Guarded { .. } => Signal::Segv { code: 1 },
            Self::Denied { .. } => Signal::Segv { code: 2 },
            Self::BeyondEnd { .. } | Self::Pager { .. } => Signal::Bus,
            Self::NoMemory { .. } => Signal::Kill,
        }
    }
}

impl fmt::Display for FaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unmapped { at } => write!(f, "nothing is mapped at {at} (SIGSEGV)"),
            Self::Denied { at, wanted } => write!(f, "{wanted:?} is denied at {at} (SIGSEGV)"),
            Self::Guarded { at } => write!(f, "a guard is at {at} (SIGSEGV)"),
            Self::BeyondEnd { at } => write!(f, "{at} lies beyond the end of its object (SIGBUS)"),
            Self::Pager { at, error } => {
                write!(f, "the page of {at} cannot be read: {error} (SIGBUS)")
            }
            Self::NoMemory { at } => write!(f, "no memory for the page of {at} (SIGKILL)"),
        }
    }
}

impl core::error::Error for FaultError {}
