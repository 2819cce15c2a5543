//! Why a process or a thread of a workload stops early.

use std::io;

/// Why a worker stops early.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    /// A call says that there is no memory. The workload's business: counted, and the others go on.
    OutOfMemory,
    /// Something that must not happen: a wrong byte, or an error that Linux would not give.
    Broken(String),
}

impl Stop {
    /// The exit status that a shell would show: that of SIGKILL, or plain failure.
    pub(super) fn status(&self) -> i32 {
        match self {
            Self::OutOfMemory => 128 + libc::SIGKILL,
            Self::Broken(_) => 1,
        }
    }

    /// A call that failed.
    pub(super) fn call(name: &str, error: io::Error) -> Self {
        match error.raw_os_error() {
            // A fork without memory says the latter.
            Some(libc::ENOMEM | libc::EAGAIN) => Self::OutOfMemory,
            _ => Self::Broken(format!("{name}: {error}")),
        }
    }
}
