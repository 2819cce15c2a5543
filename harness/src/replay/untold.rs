//! What a recording cannot tell: results that follow from something it does not show.
//!
//! U1. A result is put here only if it follows from such a thing whatever rumpvm does. What rumpvm
//!     could get wrong is compared.

use std::fmt;

use serde::Serialize;

use crate::trace::{Call, Returned};

/// Why a result cannot be compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Untold {
    /// It did not return, or was to be started again.
    NoResult,
    /// The open file decides, and opens are not recorded.
    File,
    /// Linux refused more memory, locked memory or processes than its machine gives.
    Limit,
    /// The recording kernel did not know the call or the advice.
    Kernel,
    /// Whether a child has ended before a wait looked depends on the moment.
    Timing,
    /// Whether ended children wait for their parent depends on a signal handler.
    Signals,
    /// The child was not recorded.
    Stranger,
}

/// Bytes below which a refusal of memory is not put down to a limit. Linux's default policy refuses
/// only a request larger than all memory and swap together, and what runs programs worth recording
/// has more than this.
const LIMIT_MEMORY: u64 = 1 << 30;

/// `RLIMIT_MEMLOCK` before Linux 5.16 (8 MiB since).
const LIMIT_LOCKED: u64 = 64 << 10;

/// Advice up to this value is in every kernel since Linux 4.0, except what depends on its
/// configuration.
const OLD_ADVICE: i32 = 7;
/// `MADV_REMOVE`, `DONTFORK`, `DOFORK`, `DONTDUMP` and `DODUMP` are as old and always there.
const ALWAYS_ADVICE: [i32; 5] = [9, 10, 11, 16, 17];

impl Untold {
    /// Why Linux's result for `call` cannot be compared, if it cannot.
    pub(super) fn of(call: &Call, returned: Returned) -> Option<Self> {
        if let Call::Other { .. } | Call::Exit { .. } = call {
            return None;
        }
        let errno = match returned {
            Returned::Value(now) => return refused_break(call, now),
            Returned::Nothing => return Some(Self::NoResult),
            Returned::Failed(errno) => errno.name().unwrap_or(""),
        };
        match call {
            _ if errno == "ENOSYS" => Some(Self::Kernel),
            Call::Exec { .. } => Some(Self::File),
            Call::Clone(_) => Some(Self::Limit),
            Call::Mmap { flags, .. } if is_of_file(*flags) && FILE_ERRORS.contains(&errno) => {
                Some(Self::File)
            }
            Call::Mprotect { .. } if errno == "EACCES" => Some(Self::File),
            Call::Mmap { flags, .. } if *flags & MAP_HUGETLB != 0 && errno == "ENOMEM" => {
                Some(Self::Limit)
            }
            Call::Mmap { flags, .. } if *flags & MAP_LOCKED != 0 && errno == "EAGAIN" => {
                Some(Self::Limit)
            }
            Call::Mmap { span, .. } => refused_memory(errno, span.length),
            Call::Mremap { new_length, .. } => refused_memory(errno, *new_length),
            Call::Mlock { span, .. } => refused_lock(errno, span.length),
            Call::Madvise { span, advice } if errno == "EINVAL" && span.at.is_page_aligned() => {
                may_be_unknown(*advice).then_some(Self::Kernel)
            }
            _ => None,
        }
    }
}

const MAP_ANONYMOUS: u64 = 0x20;
const MAP_LOCKED: u64 = 0x2000;
const MAP_HUGETLB: u64 = 0x4_0000;

/// What mmap(2) returns for a file that is closed, of the wrong kind, or opened with too few rights.
const FILE_ERRORS: [&str; 8] =
    ["EBADF", "EACCES", "ENODEV", "EPERM", "ENFILE", "ETXTBSY", "EOPNOTSUPP", "EAGAIN"];

fn is_of_file(flags: u64) -> bool {
    flags & MAP_ANONYMOUS == 0
}

fn refused_memory(errno: &str, length: u64) -> Option<Untold> {
    (errno == "ENOMEM" && length >= LIMIT_MEMORY).then_some(Untold::Limit)
}

/// brk returns the break as it is where it cannot move it.
fn refused_break(call: &Call, now: u64) -> Option<Untold> {
    let Call::Brk(wanted) = call else { return None };
    (wanted.0.saturating_sub(now) >= LIMIT_MEMORY).then_some(Untold::Limit)
}

fn refused_lock(errno: &str, length: u64) -> Option<Untold> {
    let refused = matches!(errno, "ENOMEM" | "EAGAIN" | "EPERM");
    (errno == "EPERM" || refused && length > LIMIT_LOCKED).then_some(Untold::Limit)
}

fn may_be_unknown(advice: i32) -> bool {
    advice > OLD_ADVICE && !ALWAYS_ADVICE.contains(&advice)
}

impl fmt::Display for Untold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoResult => "the call did not return",
            Self::File => "the file decides, and opens are not recorded",
            Self::Limit => "a limit of the recording machine: memory, locked memory, processes",
            Self::Kernel => "the recording kernel does not know the call or the advice",
            Self::Timing => "the moment decides whether a child has ended",
            Self::Signals => "the handler of SIGCHLD decides whether ended children wait",
            Self::Stranger => "the child was not recorded",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Descriptor, Errno, Span};
    use rumpvm_arch::VirtAddr;

    fn failed(name: &str) -> Returned {
        Returned::Failed(Errno::from_name(name).expect("a name"))
    }

    fn mmap(length: u64, flags: u64) -> Call {
        let file = Descriptor { number: -1, name: None };
        Call::Mmap { span: Span { at: VirtAddr(0), length }, prot: 3, flags, file, offset: 0 }
    }

    #[test]
    fn refusals_that_the_recording_explains_are_compared() {
        let small = Span { at: VirtAddr(0x1000), length: 4096 };
        for (call, errno) in [
            (mmap(4096, 0x22), "ENOMEM"),
            (mmap(4096, 0x22), "EINVAL"),
            (mmap(4096, 0x2), "EINVAL"),
            (Call::Munmap(small), "EINVAL"),
            (Call::Mprotect { span: small, prot: 1 }, "ENOMEM"),
            (Call::Mlock { span: small, flags: 0 }, "ENOMEM"),
            (Call::Madvise { span: small, advice: 4 }, "EINVAL"),
            (Call::Madvise { span: Span { at: VirtAddr(1), length: 1 }, advice: 14 }, "EINVAL"),
        ] {
            assert_eq!(Untold::of(&call, failed(errno)), None, "{call:?} {errno}");
        }
    }

    #[test]
    fn refusals_that_follow_from_what_is_not_recorded_are_not() {
        let span = Span { at: VirtAddr(0x1000), length: 1 << 20 };
        for (call, errno, why) in [
            (mmap(1 << 46, 0x22), "ENOMEM", Untold::Limit),
            (mmap(2 << 20, 0x4_0022), "ENOMEM", Untold::Limit),
            (mmap(4096, 0x1), "EACCES", Untold::File),
            (Call::Mlock { span, flags: 0 }, "ENOMEM", Untold::Limit),
            (Call::Madvise { span, advice: 14 }, "EINVAL", Untold::Kernel),
            (Call::Exec { path: "x".into() }, "ENOENT", Untold::File),
            (Call::Clone(17), "EAGAIN", Untold::Limit),
        ] {
            assert_eq!(Untold::of(&call, failed(errno)), Some(why), "{call:?} {errno}");
        }
        let munmap = Call::Munmap(span);
        assert_eq!(Untold::of(&munmap, Returned::Nothing), Some(Untold::NoResult));
    }
}
