//! What a voice answers: an outcome for each step, and what a look shows.
//!
//! Plain numbers throughout: one of the voices writes them into memory that it shares with others.

use std::fmt;

use bitflags::bitflags;

use super::op::SEEN;

/// What came of one step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It was not carried out.
    Unreached,
    /// It succeeded, with this result.
    Done(u64),
    /// It was refused with this error number.
    Refused(i32),
    /// An access ended in a signal.
    Signal {
        /// The signal.
        number: i32,
        /// Its `si_code`.
        code: i32,
        /// Its `si_addr`.
        at: u64,
    },
    /// It succeeded, at a place of the kernel's own choice outside of what is looked at. What was mapped
    /// there is gone again.
    Elsewhere,
}

impl Outcome {
    /// As numbers.
    pub fn to_raw(self) -> [u64; 3] {
        match self {
            Self::Unreached => [0, 0, 0],
            Self::Done(value) => [1, value, 0],
            Self::Refused(errno) => [2, errno as u64, 0],
            Self::Signal { number, code, at } => {
                [3, at, u64::from(number as u32) << 32 | u64::from(code as u32)]
            }
            Self::Elsewhere => [4, 0, 0],
        }
    }

    /// From numbers.
    pub fn from_raw([kind, value, more]: [u64; 3]) -> Self {
        match kind {
            1 => Self::Done(value),
            2 => Self::Refused(value as i32),
            3 => Self::Signal { number: (more >> 32) as i32, code: more as i32, at: value },
            4 => Self::Elsewhere,
            _ => Self::Unreached,
        }
    }
}

/// Name of an error number.
pub fn errno_name(errno: i32) -> &'static str {
    match errno {
        1 => "EPERM",
        2 => "ENOENT",
        3 => "ESRCH",
        4 => "EINTR",
        5 => "EIO",
        9 => "EBADF",
        11 => "EAGAIN",
        12 => "ENOMEM",
        13 => "EACCES",
        14 => "EFAULT",
        16 => "EBUSY",
        17 => "EEXIST",
        22 => "EINVAL",
        26 => "ETXTBSY",
        27 => "EFBIG",
        28 => "ENOSPC",
        38 => "ENOSYS",
        43 => "EIDRM",
        75 => "EOVERFLOW",
        95 => "EOPNOTSUPP",
        _ => "error",
    }
}

/// Name of a signal and its code.
fn signal_name(number: i32, code: i32) -> String {
    match (number, code) {
        (11, 1) => "SIGSEGV (SEGV_MAPERR)".into(),
        (11, 2) => "SIGSEGV (SEGV_ACCERR)".into(),
        (11, 4) => "SIGSEGV (SEGV_PKUERR)".into(),
        (7, 2) => "SIGBUS (BUS_ADRERR)".into(),
        (7, code) => format!("SIGBUS (code {code})"),
        (11, code) => format!("SIGSEGV (code {code})"),
        (number, code) => format!("signal {number} (code {code})"),
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Unreached => f.write_str("not carried out"),
            Self::Done(value) => write!(f, "{value:#x}"),
            Self::Refused(errno) => write!(f, "{} ({errno})", errno_name(errno)),
            Self::Signal { number, code, at } => {
                write!(f, "{} at {at:#x}", signal_name(number, code))
            }
            Self::Elsewhere => f.write_str("a place of the kernel's choice"),
        }
    }
}

bitflags! {
    /// What a page's area is, as far as both sides can say.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Shown: u32 {
        /// There is an area.
        const MAPPED = 1;
        /// It may be loaded from.
        const READ = 1 << 1;
        /// It may be stored to.
        const WRITE = 1 << 2;
        /// It may be fetched from.
        const EXEC = 1 << 3;
        /// Stores are shared.
        const SHARED = 1 << 4;
        /// Of the file.
        const FILE = 1 << 5;
        /// Of the memory with a name.
        const MEMORY = 1 << 6;
        /// Of shared memory without a name.
        const NAMELESS = 1 << 7;
        /// Grows downwards: `gd`.
        const GROWSDOWN = 1 << 8;
        /// Locked: `lo`.
        const LOCKED = 1 << 9;
        /// Not for a child: `dc`.
        const DONTFORK = 1 << 10;
        /// Not for a dump: `dd`.
        const DONTDUMP = 1 << 11;
        /// Read in no order: `rr`.
        const RANDOM = 1 << 12;
        /// Read in order: `sr`.
        const SEQUENTIAL = 1 << 13;
        /// Not counted: `nr`.
        const NORESERVE = 1 << 14;
        /// `hg`.
        const HUGEPAGE = 1 << 15;
        /// `nh`.
        const NOHUGEPAGE = 1 << 16;
        /// `mg`.
        const MERGEABLE = 1 << 17;
        /// Zeros for a child: `wf`.
        const WIPEONFORK = 1 << 18;
        /// May go when memory is short: `dp`.
        const DROPPABLE = 1 << 19;
    }

    /// What is in memory of a page.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Present: u32 {
        /// mincore(2) says so.
        const CORE = 1;
        /// A private page is there.
        const PRIVATE = 1 << 1;
        /// It cannot be said whether a private page is there.
        const UNTOLD = 1 << 2;
    }
}

/// What a look shows of one page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct PageSeen {
    /// [`Shown`].
    pub area: u32,
    /// Page of the object.
    pub index: u32,
    /// [`Present`].
    pub present: u32,
    /// If it cannot be loaded from: signal and code.
    pub fault: u32,
    /// Of all bytes.
    pub hash: u64,
}

impl PageSeen {
    /// The area.
    pub fn shown(&self) -> Shown {
        Shown::from_bits_truncate(self.area)
    }

    /// What is in memory.
    pub fn in_memory(&self) -> Present {
        Present::from_bits_truncate(self.present)
    }

    /// The fault in place of bytes, as a number.
    pub fn fault_of(number: i32, code: i32) -> u32 {
        (number as u32) << 8 | code as u32
    }

    /// Bytes or the fault in their place, in words.
    pub fn bytes_told(&self) -> String {
        match self.fault {
            0 => format!("bytes with hash {:016x}", self.hash),
            fault => signal_name((fault >> 8) as i32, (fault & 0xff) as i32),
        }
    }

    /// The area, as /proc/self/smaps would have it.
    pub fn area_told(&self) -> String {
        let shown = self.shown();
        if !shown.contains(Shown::MAPPED) {
            return "nothing".into();
        }
        let letter = |flag, letter| if shown.contains(flag) { letter } else { '-' };
        let rights: String = [(Shown::READ, 'r'), (Shown::WRITE, 'w'), (Shown::EXEC, 'x')]
            .map(|(flag, name)| letter(flag, name))
            .iter()
            .collect();
        let sharing = if shown.contains(Shown::SHARED) { 's' } else { 'p' };
        let object = match shown & (Shown::FILE | Shown::MEMORY | Shown::NAMELESS) {
            Shown::FILE => format!(" file page {}", self.index),
            Shown::MEMORY => format!(" memory page {}", self.index),
            Shown::NAMELESS => format!(" shared memory page {}", self.index),
            _ => String::new(),
        };
        let flags: String = FLAG_NAMES
            .iter()
            .filter(|(flag, _)| shown.contains(*flag))
            .map(|(_, name)| format!(" {name}"))
            .collect();
        format!("{rights}{sharing}{object}{flags}")
    }

    /// What is in memory, in words.
    pub fn present_told(&self) -> String {
        let present = self.in_memory();
        let core = if present.contains(Present::CORE) { 1 } else { 0 };
        let private = if present.contains(Present::UNTOLD) {
            "perhaps a private page"
        } else if present.contains(Present::PRIVATE) {
            "a private page"
        } else {
            "no private page"
        };
        format!("mincore {core}, {private}")
    }
}

/// The flags, and their names in `VmFlags`.
pub const FLAG_NAMES: [(Shown, &str); 12] = [
    (Shown::GROWSDOWN, "gd"),
    (Shown::LOCKED, "lo"),
    (Shown::DONTFORK, "dc"),
    (Shown::DONTDUMP, "dd"),
    (Shown::RANDOM, "rr"),
    (Shown::SEQUENTIAL, "sr"),
    (Shown::NORESERVE, "nr"),
    (Shown::HUGEPAGE, "hg"),
    (Shown::NOHUGEPAGE, "nh"),
    (Shown::MERGEABLE, "mg"),
    (Shown::WIPEONFORK, "wf"),
    (Shown::DROPPABLE, "dp"),
];

/// What a look shows.
pub type Look = [PageSeen; SEEN];

/// All that a voice has to say about a program.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Answers {
    /// For each step.
    pub outcomes: Vec<Outcome>,
    /// For each look, in order.
    pub looks: Vec<Look>,
    /// The component gave up here, and what it said.
    pub panic: Option<String>,
}

/// Hash of the bytes of a page: the same on both sides, and quick. Four lanes, because multiplications wait for
/// each other.
pub fn hash(words: impl Iterator<Item = u64>) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut lanes = [1u64, 2, 3, 4];
    for (place, word) in words.enumerate() {
        let lane = &mut lanes[place % 4];
        *lane = (*lane ^ word).wrapping_mul(ODD).rotate_left(29);
    }
    lanes.iter().fold(0, |sum, lane| (sum ^ lane).wrapping_mul(ODD).rotate_left(31))
}
