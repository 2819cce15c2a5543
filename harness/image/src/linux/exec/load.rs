//! Loading: segments of a file become areas of a fresh space.

use rumpvm::{Backing, Hold, MapFlags, Space};
use rumpvm_arch::{Format, PAGE_SIZE, Prot, VirtAddr};
use rumpvm_bare::{Bare, Kernel};
use rumpvm_files::elf::{Program, Segment};
use rumpvm_files::{Entry, Errno};

use crate::linux::names;
use crate::linux::system::system;
use crate::linux::user::Memory;

/// Where a file goes that may go anywhere.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    /// At two thirds of the addresses, as Linux puts programs.
    Program,
    /// Where mappings go.
    Interpreter,
}

/// Where everything is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loaded {
    /// What was added to every address.
    pub(super) moved: u64,
    pub(super) entry: VirtAddr,
    pub(super) headers_at: u64,
    /// One past the last segment.
    pub(super) end: u64,
    pub(super) code: (u64, u64),
    pub(super) data: (u64, u64),
}

/// Maps `program`, which is in `file`, into `space`.
pub(super) fn load(
    space: &Hold<Space<Bare>, Bare>,
    file: &Hold<Entry<Bare>, Bare>,
    program: &Program,
    base: Base,
) -> Result<Loaded, Errno> {
    names::note(file);
    let (first, end) = program.extent();
    let moved =
        if program.is_movable { place(space, end - first, base)?.wrapping_sub(first) } else { 0 };
    let mut loaded = Loaded {
        moved,
        entry: VirtAddr(program.entry.wrapping_add(moved)),
        headers_at: program.headers_at.wrapping_add(moved),
        end: end.wrapping_add(moved),
        code: (u64::MAX, 0),
        data: (u64::MAX, 0),
    };
    for segment in &program.segments {
        let at = segment.at.wrapping_add(moved);
        map(space, file, &Segment { at, ..*segment })?;
        let part = match segment.prot.contains(Prot::EXEC) {
            true => &mut loaded.code,
            false => &mut loaded.data,
        };
        *part = (part.0.min(at), part.1.max(at.saturating_add(segment.file_bytes)));
    }
    if loaded.entry >= Kernel::USER_END { Err(Errno::ENOEXEC) } else { Ok(loaded) }
}

/// A place for `bytes` bytes, kept free for them.
fn place(space: &Hold<Space<Bare>, Bare>, bytes: u64, base: Base) -> Result<u64, Errno> {
    let vm = &system().kernel.vm;
    let hint = match base {
        Base::Program => {
            let random = crate::linux::chance::pages(28);
            VirtAddr(Kernel::USER_END.0 / 3 * 2 / PAGE_SIZE * PAGE_SIZE + random)
        }
        Base::Interpreter => VirtAddr(0),
    };
    let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::NORESERVE;
    let at = space.mmap(vm, hint, bytes, Prot::empty(), flags, Backing::Anonymous, 0)?;
    space.munmap(vm, at, bytes)?;
    Ok(at.0)
}

/// Maps one segment: the file's part, then zeros.
fn map(
    space: &Hold<Space<Bare>, Bare>,
    file: &Hold<Entry<Bare>, Bare>,
    segment: &Segment,
) -> Result<(), Errno> {
    let vm = &system().kernel.vm;
    let object = file.node().regular().ok_or(Errno::EACCES)?.object();
    let down = segment.at % PAGE_SIZE;
    let start = segment.at - down;
    let file_end = segment.at.checked_add(segment.file_bytes).ok_or(Errno::ENOMEM)?;
    let end = segment.at.checked_add(segment.memory_bytes).ok_or(Errno::ENOMEM)?;
    let mut mapped_to = start;
    if segment.file_bytes > 0 {
        mapped_to = file_end.next_multiple_of(PAGE_SIZE);
        let flags = MapFlags::PRIVATE | MapFlags::FIXED;
        let backing = Backing::Opened(object, Prot::ALL);
        let bytes = mapped_to - start;
        let offset = segment.offset - down;
        space.mmap(vm, VirtAddr(start), bytes, segment.prot, flags, backing, offset)?;
        if end > file_end && segment.prot.contains(Prot::WRITE) {
            zero(space, file_end, mapped_to)?;
        }
    }
    if end > mapped_to {
        let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED;
        let bytes = (end - mapped_to).next_multiple_of(PAGE_SIZE);
        let at = VirtAddr(mapped_to);
        space.mmap(vm, at, bytes, segment.prot, flags, Backing::Anonymous, 0)?;
    }
    Ok(())
}

/// Zeroes the rest of a page behind what is the file's. Where the file itself ends before, there is nothing to zero.
fn zero(space: &Hold<Space<Bare>, Bare>, from: u64, to: u64) -> Result<(), Errno> {
    const ZEROS: [u8; PAGE_SIZE as usize] = [0; PAGE_SIZE as usize];
    if from == to {
        return Ok(());
    }
    Memory::new(space.clone()).write(VirtAddr(from), &ZEROS[..(to - from) as usize])
}
