//! One step of a program that both voices carry out: a call with raw arguments, as the kernel gets them.
//!
//! Flow:  generator or text -> [`Op`] -> a voice.
//! Owns:  nothing; everything is a number, so that unknown bits can be tried as well.

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// Pages that a look shows.
pub const SEEN: usize = 64;
/// The first byte of them. The border of two leaf page tables lies in the middle. Nothing else of a process
/// is near: programs and libraries are loaded far above.
pub const SEEN_BASE: u64 = 0x10_0000_0000 - SEEN as u64 / 2 * PAGE;
/// One past the last byte that a look shows.
pub const SEEN_END: u64 = SEEN_BASE + SEEN as u64 * PAGE;
/// The pages that programs are about, as numbers in a look. What a stack grows into, or `mremap` lengthens, goes
/// beyond.
pub const WINDOW: std::ops::Range<u64> = 16..48;

/// The file: it has contents at the start.
pub const FILE: u64 = 0;
/// Memory with a name, as memfd_create(2) makes it: zeros at the start.
pub const MEMORY: u64 = 1;
/// In place of an object: none.
pub const NO_OBJECT: u64 = u64::MAX;
/// Pages of each object at the start.
pub const OBJECT_PAGES: u64 = 12;

/// A look shows the areas.
pub const AREAS: u64 = 1;
/// A look shows what is in memory.
pub const RESIDENT: u64 = 2;
/// A look shows every byte, or the fault in its place.
pub const BYTES: u64 = 4;

/// Stores go to the first bytes of a page, and no file ends within them: what is stored behind the end of a
/// file is nobody's promise.
pub const STORED: u64 = 64;
/// Fetches are made here, where a page has either zeros or [`NOP`]s.
pub const FETCHED: u64 = 128;
/// `MADV_FREE`: when the pages go is left open. Both voices have them go at once, by [`DONTNEED`].
pub const FREE: i32 = 8;
/// [`Call::Limit`] of the bytes mapped (`RLIMIT_AS`).
pub const LIMIT_MAPPED: u64 = 0;
/// Of data (`RLIMIT_DATA`).
pub const LIMIT_DATA: u64 = 1;
/// Of the areas (`vm.max_map_count`), which the host's side meets by making so many.
pub const LIMIT_AREAS: u64 = 2;
/// Segments that a program can name.
pub const SEGMENTS: usize = 3;
/// Where the heap begins, empty.
pub const HEAP: u64 = SEEN_BASE + 36 * PAGE;
/// `MADV_DONTNEED`.
pub const DONTNEED: i32 = 4;

/// An instruction of one byte that does nothing.
pub const NOP: u8 = 0x90;

/// What is done.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Call {
    /// mmap(2).
    Mmap,
    /// munmap(2).
    Munmap,
    /// mprotect(2).
    Mprotect,
    /// mremap(2).
    Mremap,
    /// madvise(2).
    Madvise,
    /// msync(2).
    Msync,
    /// mincore(2); only the answer, not the vector.
    Mincore,
    /// mlock(2).
    Mlock,
    /// mlock2(2).
    Mlock2,
    /// munlock(2).
    Munlock,
    /// mlockall(2).
    Mlockall,
    /// munlockall(2).
    Munlockall,
    /// remap_file_pages(2).
    RemapFilePages,
    /// ftruncate(2).
    Truncate,
    /// fcntl(2) with `F_ADD_SEALS`, for the memory with a name.
    AddSeals,
    /// fallocate(2), for the memory with a name.
    Fallocate,
    /// setrlimit(2) of `RLIMIT_AS` or `RLIMIT_DATA`, to so many bytes more than there are; or so many areas more.
    Limit,
    /// process_madvise(2) of two ranges of a process.
    ProcessMadvise,
    /// brk(2).
    Brk,
    /// shmget(2). The answer is the first name of that segment.
    Shmget,
    /// shmat(2).
    Shmat,
    /// shmdt(2).
    Shmdt,
    /// shmctl(2). The answer of `IPC_STAT` is [`segment_told`].
    Shmctl,
    /// A load of eight bytes.
    Load,
    /// A store of eight bytes.
    Store,
    /// A load, and if that succeeds the fetch of one instruction.
    Fetch,
    /// fork(2); the child is the process of the given number.
    Fork,
    /// exit(2).
    Exit,
    /// A look at everything that must agree.
    Look,
}

/// What an argument means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// An address.
    Address,
    /// A number of bytes.
    Length,
    /// Byte of an object.
    Offset,
    /// Rights.
    Prot,
    /// Flags, each a bit.
    Flags,
    /// One of a list.
    Choice,
    /// Number of an object, or [`NO_OBJECT`].
    Object,
    /// What is stored.
    Value,
    /// Number of a process.
    Process,
    /// Name of a segment.
    Segment,
}

use Role::{Address, Choice, Flags, Length, Object, Offset, Process, Prot, Segment, Value};

impl Call {
    /// Every call, its name, and what its arguments are.
    pub const ALL: [(Self, &'static str, &'static [Role]); 29] = [
        (Self::Mmap, "mmap", &[Address, Length, Prot, Flags, Object, Offset]),
        (Self::Munmap, "munmap", &[Address, Length]),
        (Self::Mprotect, "mprotect", &[Address, Length, Prot]),
        (Self::Mremap, "mremap", &[Address, Length, Length, Flags, Address]),
        (Self::Madvise, "madvise", &[Address, Length, Choice]),
        (Self::Msync, "msync", &[Address, Length, Flags]),
        (Self::Mincore, "mincore", &[Address, Length]),
        (Self::Mlock, "mlock", &[Address, Length]),
        (Self::Mlock2, "mlock2", &[Address, Length, Flags]),
        (Self::Munlock, "munlock", &[Address, Length]),
        (Self::Mlockall, "mlockall", &[Flags]),
        (Self::Munlockall, "munlockall", &[]),
        (Self::RemapFilePages, "remap_file_pages", &[Address, Length, Prot, Value, Flags]),
        (Self::Truncate, "ftruncate", &[Object, Offset]),
        (Self::AddSeals, "add_seals", &[Flags]),
        (Self::Fallocate, "fallocate", &[Flags, Offset, Length]),
        (Self::Limit, "limit", &[Choice, Length]),
        (
            Self::ProcessMadvise,
            "process_madvise",
            &[Address, Length, Address, Length, Choice, Process],
        ),
        (Self::Brk, "brk", &[Address]),
        (Self::Shmget, "shmget", &[Segment, Choice, Length, Flags]),
        (Self::Shmat, "shmat", &[Segment, Address, Flags]),
        (Self::Shmdt, "shmdt", &[Address]),
        (Self::Shmctl, "shmctl", &[Segment, Choice, Flags]),
        (Self::Load, "load", &[Address]),
        (Self::Store, "store", &[Address, Value]),
        (Self::Fetch, "fetch", &[Address]),
        (Self::Fork, "fork", &[Process]),
        (Self::Exit, "exit", &[]),
        (Self::Look, "look", &[Flags]),
    ];

    fn row(self) -> &'static (Self, &'static str, &'static [Role]) {
        let row = Self::ALL.iter().find(|(call, ..)| *call == self);
        row.expect("every call is in the table")
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// What its arguments are.
    pub fn roles(self) -> &'static [Role] {
        self.row().2
    }
}

/// One step: who does what.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Op {
    /// Number of the process; the first is 0.
    pub process: u8,
    /// What it does.
    pub call: Call,
    /// The arguments; those that the call has not are zero.
    pub arguments: [u64; 6],
}

impl Op {
    /// A step with these arguments.
    pub fn new(process: u8, call: Call, given: &[u64]) -> Self {
        let mut arguments = [0; 6];
        arguments[..given.len()].copy_from_slice(given);
        Self { process, call, arguments }
    }

    /// The process that a fork makes.
    pub fn child(&self) -> u8 {
        self.arguments[0] as u8
    }

    /// The process that is advised, if it is one's own choice.
    pub fn advised(&self) -> Option<u8> {
        (self.call == Call::ProcessMadvise).then_some(self.arguments[5] as u8)
    }

    /// Each argument with what it means.
    pub fn told(&self) -> impl Iterator<Item = (Role, u64)> {
        self.call.roles().iter().copied().zip(self.arguments)
    }
}

/// Address of the page of this number in a look.
pub const fn address(page: u64) -> u64 {
    SEEN_BASE + page * PAGE
}

/// What the file holds at the start: the number of the page where stores go, then what may be fetched.
pub const fn file_byte(at: u64) -> u8 {
    let (page, place) = (at / PAGE, at % PAGE);
    if place < STORED || place == PAGE - 1 { 0x10 + page as u8 } else { NOP }
}

/// What `IPC_STAT` says, as one number: bytes, mode, areas, and whether it can be found by its key.
pub const fn segment_told(bytes: u64, mode: u32, attachments: u64, has_key: bool) -> u64 {
    (bytes & 0xffff_ffff) | (mode as u64 & 0xfff) << 32 | attachments << 44 | (has_key as u64) << 63
}

/// The areas in such a number, and the rest of it.
pub const fn segment_areas(told: u64) -> (u64, u64) {
    const AREAS: u64 = 0x7_ffff << 44;
    ((told & AREAS) >> 44, told & !AREAS)
}
