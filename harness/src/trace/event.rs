//! What a recording says, typed: calls with what they returned, and the ends of tasks, in order.
//!
//! A call is one value with two events, because other tasks act between its entry and its return:
//! `Entered` where strace first printed it, `Returned` where strace printed its result.

use std::fmt;

use super::call::Call;
use super::errno::Errno;

/// A line of the recording, counted from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize)]
pub struct LineNumber(pub u32);

impl fmt::Display for LineNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A task (thread) of the recording, by the number that strace prints for it. [`Task::FIRST`] is the
/// one that a recording without numbers starts with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize)]
pub struct Task(pub u32);

impl Task {
    /// The first task of a recording that does not say its number.
    pub const FIRST: Self = Self(0);
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::FIRST => f.write_str("the first process"),
            Self(pid) => write!(f, "process {pid}"),
        }
    }
}

/// Which of the two ABIs a task runs in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bits {
    /// i386.
    B32,
    /// x86-64 (or x32, whose calls for memory are the same).
    B64,
}

/// What a call returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Returned {
    /// Success, with this value.
    Value(u64),
    /// Failure.
    Failed(Errno),
    /// It did not return (exit, a call that a signal ended), or it was going to be restarted.
    Nothing,
}

impl fmt::Display for Returned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) if *value <= SMALL_VALUE => write!(f, "{value}"),
            Self::Value(value) => write!(f, "{value:#x}"),
            Self::Failed(errno) => write!(f, "{errno}"),
            Self::Nothing => f.write_str("?"),
        }
    }
}

/// Values up to this one are counts or numbers of processes (below 2^22 on Linux), others addresses.
const SMALL_VALUE: u64 = 1 << 22;

/// One call of the recording.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// What was asked.
    pub call: Call,
    /// What came of it.
    pub returned: Returned,
    /// The line with its result (the only one, mostly).
    pub line: LineNumber,
}

/// The number of a [`Record`] in its [`super::Trace`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallId(pub u32);

/// One thing that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// Where the recording says so.
    pub line: LineNumber,
    /// Who did it.
    pub task: Task,
    /// What.
    pub what: What,
}

/// The kinds of thing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// The task made this call.
    Entered(CallId),
    /// This call returned.
    Returned(CallId),
    /// The task ended.
    Ended(End),
    /// The task, the first of its process, is gone, and the thread `by` that called exec goes on under
    /// its number.
    Superseded {
        /// That thread.
        by: Task,
    },
    /// From here on the task runs in this mode.
    Mode(Bits),
}

/// How a task ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// It left with this status.
    Exited(i32),
    /// This signal ended it.
    Killed(String),
    /// strace let go of it while it still ran.
    Detached,
}

/// A line that could not be used, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// Which.
    pub line: LineNumber,
    /// Why.
    pub reason: Reason,
}

/// What can be wrong with a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reason {
    /// No call, signal, end or remark.
    Foreign,
    /// The brackets of the arguments do not close.
    Unclosed,
    /// There are fewer arguments than the call has.
    MissingArgument {
        /// The first that is missing, from 0.
        index: usize,
    },
    /// A number was expected here.
    NotANumber {
        /// What stands there.
        text: String,
    },
    /// A flag that nobody knows.
    UnknownName {
        /// Its name.
        name: String,
    },
    /// What stands behind the arguments is no result.
    NotAResult {
        /// What stands there.
        text: String,
    },
    /// It says that a call was resumed, and no such call was open.
    NeverBegun {
        /// The call.
        name: String,
    },
    /// It begins a call that never came to its end, and its task went on.
    NeverResumed {
        /// The call.
        name: String,
    },
    /// It does not say whose call it is, and several tasks were alive.
    NoOwner,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("no line of strace's"),
            Self::Unclosed => f.write_str("its arguments never end"),
            Self::MissingArgument { index } => write!(f, "argument {} is missing", index + 1),
            Self::NotANumber { text } => write!(f, "{text:?} is not a number"),
            Self::UnknownName { name } => write!(f, "the name {name:?} is not known"),
            Self::NotAResult { text } => write!(f, "{text:?} is not a result"),
            Self::NeverBegun { name } => write!(f, "{name} is resumed but was never begun"),
            Self::NeverResumed { name } => write!(f, "{name} is begun and never resumed"),
            Self::NoOwner => f.write_str("it does not say which of several processes it is about"),
        }
    }
}
