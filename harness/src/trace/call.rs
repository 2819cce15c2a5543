//! The calls that make and change address spaces, with their arguments.
//!
//! Flow:  name and pieces of text -> [`Call`], checked here once.

use rumpvm_arch::{VirtAddr, VirtRange};

use super::args::{self, Args};
use super::event::Reason;
use super::names;

/// A range as a call gives it: neither end need be aligned, and it may be empty or wrap around.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// First byte.
    pub at: VirtAddr,
    /// Bytes.
    pub length: u64,
}

impl Span {
    /// The whole pages that it touches, none if it is empty; `None` if it wraps around.
    pub fn pages(self) -> Option<VirtRange> {
        if self.length == 0 {
            return Some(VirtRange::new(self.at, self.at));
        }
        let range = VirtRange::of_length(self.at, self.length)?;
        Some(VirtRange::new(range.start.page_down(), range.end.page_up()?))
    }
}

/// A file descriptor, with the name that `-y` prints.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Descriptor {
    /// Its number.
    pub number: i32,
    /// Its name.
    pub name: Option<Box<str>>,
}

/// A call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Call {
    /// mmap, mmap2, old_mmap.
    Mmap {
        /// Hint or fixed place, and length.
        span: Span,
        /// `PROT_*`.
        prot: u64,
        /// `MAP_*`.
        flags: u64,
        /// The file; means nothing for an anonymous mapping.
        file: Descriptor,
        /// Where in the file, in bytes.
        offset: u64,
    },
    /// munmap.
    Munmap(Span),
    /// mprotect, or pkey_mprotect with the key -1, which is the same by definition.
    Mprotect {
        /// Where.
        span: Span,
        /// `PROT_*`.
        prot: u64,
    },
    /// mremap.
    Mremap {
        /// The mapping as it was.
        old: Span,
        /// How long it shall be.
        new_length: u64,
        /// `MREMAP_*`.
        flags: u64,
        /// Where to, if the flags ask for a place.
        new_at: VirtAddr,
    },
    /// madvise.
    Madvise {
        /// Where.
        span: Span,
        /// `MADV_*`.
        advice: i32,
    },
    /// msync.
    Msync {
        /// Where.
        span: Span,
        /// `MS_*`.
        flags: u32,
    },
    /// mincore.
    Mincore(Span),
    /// mlock, mlock2.
    Mlock {
        /// Where.
        span: Span,
        /// Only pages as they come in (`MLOCK_ONFAULT`).
        flags: u64,
    },
    /// munlock.
    Munlock(Span),
    /// mlockall: `MCL_*`.
    Mlockall(u64),
    /// munlockall.
    Munlockall,
    /// remap_file_pages.
    RemapFilePages {
        /// Where.
        span: Span,
        /// Must be 0.
        prot: u64,
        /// From which page of the file on.
        page: u64,
        /// `MAP_*`.
        flags: u64,
    },
    /// brk; address 0 asks for the present one.
    Brk(VirtAddr),
    /// fork, vfork, clone, clone3: `CLONE_*` and the signal at exit.
    Clone(u64),
    /// execve, execveat.
    Exec {
        /// The program.
        path: String,
    },
    /// exit, exit_group.
    Exit {
        /// The status.
        status: i32,
    },
    /// wait4, waitid, waitpid.
    Wait(Wait),
    /// One that changes no address space, or in a way that is not modelled.
    Other {
        /// Its name.
        name: String,
    },
}

/// What a waiting call asked, and which child it told about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wait {
    /// For this process only.
    pub only: Option<u32>,
    /// It may return at once (`WNOHANG`).
    pub nohang: bool,
    /// It takes away a child that has ended. Stops, and looks with `WNOWAIT`, leave it.
    pub reaps: bool,
    /// The child, where that is not what the call returned (waitid).
    pub child: Option<u32>,
}

/// The child shares the address space (Linux: `CLONE_VM`).
pub const CLONE_VM: u64 = 0x100;
/// The parent waits until the child leaves the address space.
pub const CLONE_VFORK: u64 = 0x4000;
/// The child is a sibling of the caller.
pub const CLONE_PARENT: u64 = 0x8000;
/// The child is a thread of the caller's process.
pub const CLONE_THREAD: u64 = 0x1_0000;
/// What fork passes to clone.
const SIGCHLD: u64 = 17;

const WNOHANG: u64 = 1;
const WNOWAIT: u64 = 0x0100_0000;

/// A call without a file has this in place of a descriptor.
const NO_KEY: u64 = u64::MAX;

/// Reads the arguments of the call `name`.
pub(super) fn read(name: &str, args: &Args<'_>) -> Result<Call, Reason> {
    let call = match name {
        "mmap" | "mmap2" | "old_mmap" => mmap(args)?,
        "munmap" => Call::Munmap(span(args)?),
        "mprotect" => Call::Mprotect { span: span(args)?, prot: args.flags(2, &names::PROT)? },
        "pkey_mprotect" if args.number(3)? == NO_KEY => {
            Call::Mprotect { span: span(args)?, prot: args.flags(2, &names::PROT)? }
        }
        "mremap" => mremap(args)?,
        "madvise" => {
            Call::Madvise { span: span(args)?, advice: args.flags(2, &names::ADVICE)? as i32 }
        }
        "msync" => Call::Msync { span: span(args)?, flags: args.flags(2, &names::SYNC)? as u32 },
        "mincore" => Call::Mincore(span(args)?),
        "mlock" => Call::Mlock { span: span(args)?, flags: 0 },
        "mlock2" => Call::Mlock { span: span(args)?, flags: args.flags(2, &names::LOCK)? },
        "munlock" => Call::Munlock(span(args)?),
        "mlockall" => Call::Mlockall(args.flags(0, &names::LOCK_ALL)?),
        "munlockall" => Call::Munlockall,
        "remap_file_pages" => Call::RemapFilePages {
            span: span(args)?,
            prot: args.flags(2, &names::PROT)?,
            page: args.number(3)?,
            flags: args.flags(4, &names::MAP)?,
        },
        "brk" => Call::Brk(VirtAddr(args.number(0)?)),
        "fork" => Call::Clone(SIGCHLD),
        "vfork" => Call::Clone(CLONE_VM | CLONE_VFORK | SIGCHLD),
        "clone" => Call::Clone(clone_flags(args)?),
        "clone3" => clone3(args)?,
        "execve" => Call::Exec { path: path(args.piece(0)?) },
        "execveat" => Call::Exec { path: path(args.piece(1)?) },
        "exit" | "_exit" | "exit_group" => Call::Exit { status: args.number(0)? as i32 },
        "wait4" | "waitpid" | "wait3" => Call::Wait(wait4(args)?),
        "waitid" => Call::Wait(waitid(args)?),
        other => Call::Other { name: other.to_owned() },
    };
    Ok(call)
}

fn span(args: &Args<'_>) -> Result<Span, Reason> {
    Ok(Span { at: VirtAddr(args.number(0)?), length: args.number(1)? })
}

fn mmap(args: &Args<'_>) -> Result<Call, Reason> {
    let (number, name) = args::descriptor(args.piece(4)?)?;
    Ok(Call::Mmap {
        span: span(args)?,
        prot: args.flags(2, &names::PROT)?,
        flags: args.flags(3, &names::MAP)?,
        file: Descriptor { number, name: name.map(Box::from) },
        offset: args.number(5)?,
    })
}

fn mremap(args: &Args<'_>) -> Result<Call, Reason> {
    let new_at = if args.count() > 4 { args.number(4)? } else { 0 };
    Ok(Call::Mremap {
        old: span(args)?,
        new_length: args.number(2)?,
        flags: args.flags(3, &names::REMAP)?,
        new_at: VirtAddr(new_at),
    })
}

fn clone_flags(args: &Args<'_>) -> Result<u64, Reason> {
    let flags = args.field("flags").ok_or(Reason::MissingArgument { index: 1 })?;
    args::flags(flags, &names::CLONE)
}

/// `clone3({flags=..., exit_signal=..., ...}, 88)`; a bare pointer is one that the kernel could not
/// read either, and makes nothing.
fn clone3(args: &Args<'_>) -> Result<Call, Reason> {
    let piece = args.piece(0)?;
    if !piece.starts_with('{') {
        return Ok(Call::Other { name: "clone3".to_owned() });
    }
    let (fields, _) = args::split(piece);
    let signal = fields.field("exit_signal").map_or(Ok(0), |s| args::flags(s, &names::CLONE))?;
    Ok(Call::Clone(clone_flags(&fields)? | signal))
}

/// The text inside the quotes.
fn path(piece: &str) -> String {
    piece.trim_end_matches("...").trim_matches('"').to_owned()
}

fn wait4(args: &Args<'_>) -> Result<Wait, Reason> {
    let status = args.piece(1)?;
    let options = args.flags(2, &names::WAIT)?;
    Ok(Wait {
        only: u32::try_from(args.number(0)? as i64).ok().filter(|pid| *pid > 0),
        nohang: options & WNOHANG != 0,
        reaps: !status.contains("WIFSTOPPED") && !status.contains("WIFCONTINUED"),
        child: None,
    })
}

fn waitid(args: &Args<'_>) -> Result<Wait, Reason> {
    let only = match args.piece(0)? {
        "P_PID" => Some(args.number(1)? as u32),
        _ => None,
    };
    let options = args.flags(3, &names::WAIT)?;
    let (told, _) = args::split(args.piece(2)?);
    let code = told.field("si_code").unwrap_or("");
    let ended = ["CLD_EXITED", "CLD_KILLED", "CLD_DUMPED"].contains(&code);
    Ok(Wait {
        only,
        nohang: options & WNOHANG != 0,
        reaps: ended && options & WNOWAIT == 0,
        child: told.field("si_pid").and_then(|pid| pid.parse().ok()),
    })
}

impl Call {
    /// What to count it under.
    pub fn kind(&self) -> &str {
        match self {
            Self::Mmap { .. } => "mmap",
            Self::Munmap(_) => "munmap",
            Self::Mprotect { .. } => "mprotect",
            Self::Mremap { .. } => "mremap",
            Self::Madvise { .. } => "madvise",
            Self::Msync { .. } => "msync",
            Self::Mincore(_) => "mincore",
            Self::Mlock { .. } => "mlock",
            Self::Munlock(_) => "munlock",
            Self::Mlockall(_) => "mlockall",
            Self::Munlockall => "munlockall",
            Self::RemapFilePages { .. } => "remap_file_pages",
            Self::Brk(_) => "brk",
            Self::Clone(flags) if flags & CLONE_THREAD != 0 => "thread",
            Self::Clone(flags) if flags & CLONE_VM != 0 => "vfork",
            Self::Clone(_) => "fork",
            Self::Exec { .. } => "exec",
            Self::Exit { .. } => "exit",
            Self::Wait(_) => "wait",
            Self::Other { name } => name,
        }
    }
}

/// `MADV_DONTNEED`, or the number of advice without a name.
pub fn advice_name(advice: i32) -> String {
    let name = u64::try_from(advice).ok().and_then(|advice| names::ADVICE.name(advice));
    name.map_or_else(|| advice.to_string(), str::to_owned)
}

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;
