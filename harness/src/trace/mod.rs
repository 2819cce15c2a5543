//! Recordings of strace, read into typed events.
//!
//! Flow:  file -> `source` (unpack, lines) -> `line` (task, kind) -> `join` (whole calls)
//!        -> `call`, `returned` (arguments, results) -> [`Trace`].
//! Owns:  nothing; a [`Trace`] is plain data, and knows nothing of rumpvm.
//!
//! It takes what `strace -f -e trace=%memory,%process` prints, in every form that strace has for it:
//! written to a file or to the terminal, with time stamps of any kind, with descriptors named, of
//! 32-bit and 64-bit programs. A line that cannot be used is listed with the reason; a file in which
//! no line can be used is refused.
//!
//! The whole recording is in memory, because a call's arguments and result may be printed thousands of
//! lines apart, and a replay must know both when the call begins.

mod args;
mod call;
mod call_text;
mod errno;
mod event;
mod join;
mod line;
mod names;
mod owner;
mod returned;
mod source;

pub use call::{
    CLONE_PARENT, CLONE_THREAD, CLONE_VFORK, CLONE_VM, Call, Descriptor, Span, Wait, advice_name,
};
pub use errno::Errno;
pub use event::{
    Bits, Broken, CallId, End, Event, LineNumber, Reason, Record, Returned, Task, What,
};

use std::fmt;
use std::path::Path;

/// How much of a line an error message quotes.
const QUOTED: usize = 60;

/// A recording.
#[derive(Debug)]
pub struct Trace {
    /// What happened, in the order of the recording.
    pub events: Vec<Event>,
    /// The calls, by [`CallId`]; `None` where the call was too broken to use (no event names it).
    records: Vec<Option<Record>>,
    /// Lines that were not used.
    pub broken: Vec<Broken>,
    /// How many lines there are.
    pub lines: u32,
}

/// Why a file is not taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TraceError {
    /// It cannot be read.
    Unreadable {
        /// What the system said.
        why: String,
    },
    /// It is gzip data, and damaged.
    Unpackable {
        /// What is wrong.
        why: String,
        /// Bytes that came out before.
        after: u64,
    },
    /// It is no text.
    Binary {
        /// Where the first NUL byte is.
        offset: usize,
    },
    /// There is nothing in it.
    Empty,
    /// No line of it is a call.
    Foreign {
        /// The first line that is not blank.
        line: LineNumber,
        /// Its text.
        text: String,
    },
    /// It is a recording, but of other calls.
    OtherCalls {
        /// How many.
        calls: usize,
    },
}

impl Trace {
    /// Reads the recording at `path`, gzipped or not.
    pub fn load(path: &Path) -> Result<Self, TraceError> {
        Self::of_text(&source::read(path)?)
    }

    /// Reads a recording from memory, gzipped or not.
    pub fn parse(bytes: &[u8]) -> Result<Self, TraceError> {
        Self::of_text(&source::text(bytes.to_vec())?)
    }

    fn of_text(text: &[u8]) -> Result<Self, TraceError> {
        let lines = source::lines(text);
        let trace = join::join(&lines);
        let calls = trace.records.iter().flatten().count();
        let ours = |record: &Record| !matches!(record.call, Call::Other { .. });
        if trace.records.iter().flatten().any(ours) {
            return Ok(trace);
        }
        match lines.iter().find(|line| !line.text.trim().is_empty()) {
            None => Err(TraceError::Empty),
            Some(_) if calls > 0 => Err(TraceError::OtherCalls { calls }),
            Some(first) => Err(TraceError::Foreign {
                line: LineNumber(first.number),
                text: first.text.trim().chars().take(QUOTED).collect(),
            }),
        }
    }

    /// The call `id` of an event of this trace.
    pub fn record(&self, id: CallId) -> &Record {
        self.records[id.0 as usize].as_ref().expect("J2: events name records that are there")
    }
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { why } => write!(f, "it cannot be read: {why}"),
            Self::Unpackable { why, after } => {
                write!(f, "it is gzip data that breaks off after {after} bytes: {why}")
            }
            Self::Binary { offset } => write!(f, "it is no text: byte {offset} is zero"),
            Self::Empty => f.write_str("there is nothing in it"),
            Self::Foreign { line, text } => write!(
                f,
                "it is no recording of strace: line {line} is {text:?}, and no line has the form \
                 `call(arguments) = result`"
            ),
            Self::OtherCalls { calls } => write!(
                f,
                "it is a recording of strace, but none of its {calls} calls is about memory or \
                 processes; record with `strace -f -e trace=%memory,%process -o FILE COMMAND`"
            ),
        }
    }
}

impl std::error::Error for TraceError {}

#[cfg(test)]
mod tests;
