//! Why a process or a thread of a workload stops early.

use rumpvm::{CallError, FaultError};

/// Why a worker stops early.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    /// The machine has no memory left for it. The workload's business: counted, and the others go on.
    OutOfMemory,
    /// Something that must not happen: a wrong byte, or an error that Linux would not give.
    Broken(String),
}

impl Stop {
    /// The exit status that a shell would show: that of SIGKILL, or plain failure.
    pub(super) fn status(&self) -> i32 {
        match self {
            Self::OutOfMemory => 128 + 9,
            Self::Broken(_) => 1,
        }
    }

    /// A call that failed.
    pub(super) fn call(name: &str, error: CallError) -> Self {
        match error {
            CallError::NoMemory => Self::OutOfMemory,
            other => Self::Broken(format!("{name}: {other}")),
        }
    }

    /// An access that failed.
    pub(super) fn access(name: &str, error: FaultError) -> Self {
        match error {
            FaultError::NoMemory { .. } => Self::OutOfMemory,
            other => Self::Broken(format!("{name}: {other}")),
        }
    }
}
