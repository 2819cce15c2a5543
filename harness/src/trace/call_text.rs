//! A call as a report shows it: its name and arguments, near enough to how strace prints them.

use std::fmt;

use super::call::{Call, Span, advice_name};

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}, {}", self.at.0, self.length)
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mmap { span, prot, flags, file, offset } => {
                let number = file.number;
                write!(f, "mmap({span}, {prot:#x}, {flags:#x}, {number}, {offset:#x})")
            }
            Self::Munmap(span) => write!(f, "munmap({span})"),
            Self::Mprotect { span, prot } => write!(f, "mprotect({span}, {prot:#x})"),
            Self::Mremap { old, new_length, flags, new_at } => {
                write!(f, "mremap({old}, {new_length}, {flags:#x}, {:#x})", new_at.0)
            }
            Self::Madvise { span, advice } => {
                write!(f, "madvise({span}, {})", advice_name(*advice))
            }
            Self::Msync { span, flags } => write!(f, "msync({span}, {flags:#x})"),
            Self::Mincore(span) => write!(f, "mincore({span})"),
            Self::Mlock { span, flags } => write!(f, "mlock2({span}, {flags:#x})"),
            Self::Munlock(span) => write!(f, "munlock({span})"),
            Self::Mlockall(flags) => write!(f, "mlockall({flags:#x})"),
            Self::Munlockall => f.write_str("munlockall()"),
            Self::RemapFilePages { span, prot, page, flags } => {
                write!(f, "remap_file_pages({span}, {prot:#x}, {page}, {flags:#x})")
            }
            Self::Brk(at) => write!(f, "brk({:#x})", at.0),
            Self::Clone(flags) => write!(f, "clone({flags:#x})"),
            Self::Exec { path } => write!(f, "execve({path:?})"),
            Self::Exit { status } => write!(f, "exit({status})"),
            Self::Wait(wait) => match wait.only {
                Some(pid) => write!(f, "wait({pid})"),
                None => f.write_str("wait(any)"),
            },
            Self::Other { name } => write!(f, "{name}()"),
        }
    }
}
