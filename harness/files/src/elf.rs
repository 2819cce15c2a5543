//! ELF files: what is to be mapped where, read by a crate and then checked.
//!
//! Flow:  the first bytes of a file -> its header -> its table of segments -> each checked against the addresses of a
//!        program.
//!
//! Nothing is loaded here; what is returned cannot make a loader's arithmetic wrap around.

use alloc::vec::Vec;

use ::elf::abi;
use ::elf::endian::LittleEndian;
use ::elf::file::{Class, FileHeader, parse_ident};
use ::elf::segment::{ProgramHeader, SegmentTable};
use rumpvm::Hold;
use rumpvm::sync::{try_push, try_reserve};
use rumpvm_arch::{PAGE_SIZE, Prot};
use rumpvm_platform::Platform;

use crate::entry::Entry;
use crate::errno::Errno;

/// Bytes of a header, and of the identification that it begins with.
const HEADER: usize = 64;
const IDENTIFICATION: usize = 16;
/// Bytes of a segment's description.
const SEGMENT: usize = 56;
/// Most segments.
const MOST_SEGMENTS: usize = 128;
/// What of a file is read first.
const HEAD: usize = 4096;

/// A segment, checked: neither its addresses nor its offsets wrap around.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Its first address, before anything is moved.
    pub at: u64,
    /// Bytes that it has in memory.
    pub memory_bytes: u64,
    /// Where it begins in the file: as far into a page as `at`.
    pub offset: u64,
    /// Bytes that come from the file; the rest are zeros.
    pub file_bytes: u64,
    /// What the program may do there.
    pub prot: Prot,
}

/// What is in a file that can be run.
#[derive(Debug)]
pub struct Program {
    /// Where it begins to run.
    pub entry: u64,
    /// It may lie anywhere.
    pub is_movable: bool,
    /// What is to be mapped; at least one.
    pub segments: Vec<Segment>,
    /// Where the descriptions of its segments are once it is loaded.
    pub headers_at: u64,
    /// How many descriptions.
    pub header_count: u64,
    /// Path of what loads the rest of it.
    pub interpreter: Option<Vec<u8>>,
    /// It says that it runs what is on its stack.
    pub executable_stack: bool,
}

/// The beginning of `file`, up to a page of it. Sleeps for it. [`Errno::EACCES`] if it is no regular file.
pub fn read_head<P: Platform>(file: &Hold<Entry<P>, P>) -> Result<Vec<u8>, Errno> {
    read(file, 0, HEAD)
}

/// Up to `most` bytes of `file` from `offset` on.
fn read<P: Platform>(file: &Hold<Entry<P>, P>, offset: u64, most: usize) -> Result<Vec<u8>, Errno> {
    let regular = file.node().regular().ok_or(Errno::EACCES)?;
    let mut bytes = Vec::new();
    try_reserve::<_, P>(&mut bytes, most)?;
    bytes.resize(most, 0);
    let count = regular.read(offset, &mut &mut bytes[..])?;
    bytes.truncate(count);
    Ok(bytes)
}

impl Program {
    /// What is in `file`, which begins with `head`, for a space whose addresses end before `user_end`. Sleeps for pages
    /// of the file. [`Errno::ENOEXEC`] if it is nothing that runs there, [`Errno::EIO`] if it ends within the path of its
    /// interpreter, [`Errno::ENOMEM`].
    pub fn read<P: Platform>(
        file: &Hold<Entry<P>, P>,
        head: &[u8],
        user_end: u64,
    ) -> Result<Self, Errno> {
        let header = header(head)?;
        let count = usize::from(header.e_phnum);
        if usize::from(header.e_phentsize) != SEGMENT || !(1..=MOST_SEGMENTS).contains(&count) {
            return Err(Errno::ENOEXEC);
        }
        let table = read(file, header.e_phoff, count * SEGMENT)?;
        if table.len() < count * SEGMENT {
            return Err(Errno::ENOEXEC);
        }
        let mut program = Self {
            entry: header.e_entry,
            is_movable: header.e_type == abi::ET_DYN,
            segments: Vec::new(),
            headers_at: 0,
            header_count: count as u64,
            interpreter: None,
            executable_stack: false,
        };
        for segment in SegmentTable::new(LittleEndian, Class::ELF64, &table) {
            program.add(file, &header, &segment, user_end)?;
        }
        if program.segments.is_empty() { Err(Errno::ENOEXEC) } else { Ok(program) }
    }

    fn add<P: Platform>(
        &mut self,
        file: &Hold<Entry<P>, P>,
        header: &FileHeader<LittleEndian>,
        segment: &ProgramHeader,
        user_end: u64,
    ) -> Result<(), Errno> {
        match segment.p_type {
            abi::PT_LOAD => {
                let checked = check(segment, user_end)?;
                let within = header.e_phoff.checked_sub(checked.offset);
                if let Some(within) = within.filter(|within| *within < checked.file_bytes) {
                    self.headers_at = checked.at + within;
                }
                try_push::<_, P>(&mut self.segments, checked)?;
            }
            abi::PT_INTERP => {
                let bytes = usize::try_from(segment.p_filesz).map_err(|_| Errno::ENOEXEC)?;
                if !(2..=4096).contains(&bytes) {
                    return Err(Errno::ENOEXEC);
                }
                let mut path = read(file, segment.p_offset, bytes)?;
                if path.len() < bytes {
                    return Err(Errno::EIO);
                }
                if path.pop() != Some(0) {
                    return Err(Errno::ENOEXEC);
                }
                self.interpreter = Some(path);
            }
            abi::PT_GNU_STACK => self.executable_stack = segment.p_flags & abi::PF_X != 0,
            _ => {}
        }
        Ok(())
    }

    /// The first address of the lowest page of all segments, and one past the highest.
    pub fn extent(&self) -> (u64, u64) {
        let first = self.segments.iter().map(|segment| segment.at).min().unwrap_or(0);
        let end = self.segments.iter().map(|segment| segment.at + segment.memory_bytes).max();
        (first / PAGE_SIZE * PAGE_SIZE, end.unwrap_or(0).next_multiple_of(PAGE_SIZE))
    }
}

fn header(head: &[u8]) -> Result<FileHeader<LittleEndian>, Errno> {
    let no = |_| Errno::ENOEXEC;
    let identification = head.get(..IDENTIFICATION).ok_or(Errno::ENOEXEC)?;
    let identity = parse_ident::<LittleEndian>(identification).map_err(no)?;
    if identity.1 != Class::ELF64 {
        return Err(Errno::ENOEXEC);
    }
    let tail = head.get(IDENTIFICATION..HEADER).ok_or(Errno::ENOEXEC)?;
    let header = FileHeader::parse_tail(identity, tail).map_err(no)?;
    let runs = matches!(header.e_type, abi::ET_EXEC | abi::ET_DYN);
    if runs && header.e_machine == abi::EM_X86_64 { Ok(header) } else { Err(Errno::ENOEXEC) }
}

fn check(segment: &ProgramHeader, user_end: u64) -> Result<Segment, Errno> {
    let end = segment.p_vaddr.checked_add(segment.p_memsz).ok_or(Errno::ENOEXEC)?;
    let file_end = segment.p_offset.checked_add(segment.p_filesz).ok_or(Errno::ENOEXEC)?;
    let fits = end < user_end
        && file_end <= i64::MAX as u64
        && segment.p_filesz <= segment.p_memsz
        && segment.p_memsz > 0
        && segment.p_vaddr % PAGE_SIZE == segment.p_offset % PAGE_SIZE;
    if !fits {
        return Err(Errno::ENOEXEC);
    }
    let mut prot = Prot::empty();
    prot.set(Prot::READ, segment.p_flags & abi::PF_R != 0);
    prot.set(Prot::WRITE, segment.p_flags & abi::PF_W != 0);
    prot.set(Prot::EXEC, segment.p_flags & abi::PF_X != 0);
    Ok(Segment {
        at: segment.p_vaddr,
        memory_bytes: segment.p_memsz,
        offset: segment.p_offset,
        file_bytes: segment.p_filesz,
        prot,
    })
}
