//! Memory: every call goes to the component as it is; what it needs of descriptors is looked up here.

use alloc::vec::Vec;

use rumpvm::sync::try_reserve;
use rumpvm::{
    Advised, Backing, LockAllFlags, LockFlags, MapFlags, MemoryFlags, ProtFlags, RemapFlags,
    SyncFlags,
};
use rumpvm_arch::{Format, PAGE_SIZE, Prot, VirtAddr};
use rumpvm_bare::{Bare, Kernel};
use rumpvm_files::node::Memory as Mapped;
use rumpvm_files::{Errno, OpenFlags};

use super::{Answer, Args, files};
use crate::linux::ids::capability;
use crate::linux::names;
use crate::linux::system::system;
use crate::linux::thread::Thread;
use crate::linux::user::{Memory, Pieces};

pub(super) fn mmap(thread: &mut Thread, args: Args) -> Answer {
    let vm = &system().kernel.vm;
    let flags = MapFlags::from_bits_retain(args.half(3));
    let (hint, length, offset) = (args.at(0), args.word(1), args.word(5));
    let prot = rights(args.word(2));
    if !offset.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let space = thread.space();
    if flags.contains(MapFlags::ANONYMOUS) {
        let at = system()
            .kernel
            .fed(|| space.mmap(vm, hint, length, prot, flags, Backing::Anonymous, offset))?;
        return Ok(at.0);
    }
    let open = files::get(thread, args.half(4))?;
    if open.is_path() {
        return Err(Errno::EBADF);
    }
    let granted = open.mappable();
    if !granted.contains(Prot::READ) {
        return Err(Errno::EACCES);
    }
    if prot.contains(Prot::EXEC) && !granted.contains(Prot::EXEC) {
        return Err(Errno::EPERM);
    }
    let at = match open.memory()? {
        Mapped::Object(object) => {
            names::note(open.entry());
            system().kernel.fed(|| {
                let backing = Backing::Opened(&object, granted);
                space.mmap(vm, hint, length, prot, flags, backing, offset)
            })?
        }
        Mapped::Anonymous => {
            let flags = flags | MapFlags::ANONYMOUS;
            system()
                .kernel
                .fed(|| space.mmap(vm, hint, length, prot, flags, Backing::Anonymous, 0))?
        }
    };
    Ok(at.0)
}

fn rights(prot: u64) -> Prot {
    Prot::from_bits_truncate(prot as u8)
}

pub(super) fn munmap(thread: &mut Thread, args: Args) -> Answer {
    thread.space().munmap(&system().kernel.vm, args.at(0), args.word(1))?;
    Ok(0)
}

pub(super) fn mprotect(thread: &mut Thread, args: Args) -> Answer {
    let prot = ProtFlags::from_bits_retain(args.word(2));
    let (kernel, space) = (system().kernel, thread.space());
    kernel.fed(|| space.mprotect(&kernel.vm, args.at(0), args.word(1), prot))?;
    Ok(0)
}

pub(super) fn pkey_mprotect(thread: &mut Thread, args: Args) -> Answer {
    let (prot, vm) = (ProtFlags::from_bits_retain(args.word(2)), &system().kernel.vm);
    thread.space().pkey_mprotect(vm, args.at(0), args.word(1), prot, args.int(3))?;
    Ok(0)
}

pub(super) fn pkey_alloc(thread: &mut Thread, args: Args) -> Answer {
    let key = thread.space().pkey_alloc(args.word(0), args.word(1))?;
    Ok(u64::from(key.cast_unsigned()))
}

pub(super) fn pkey_free(thread: &mut Thread, args: Args) -> Answer {
    thread.space().pkey_free(args.int(0))?;
    Ok(0)
}

pub(super) fn mremap(thread: &mut Thread, args: Args) -> Answer {
    let flags = RemapFlags::from_bits_retain(args.half(3));
    let (vm, space) = (&system().kernel.vm, thread.space());
    let at = system()
        .kernel
        .fed(|| space.mremap(vm, args.at(0), args.word(1), args.word(2), flags, args.at(4)))?;
    Ok(at.0)
}

pub(super) fn remap_file_pages(thread: &mut Thread, args: Args) -> Answer {
    let flags = MapFlags::from_bits_retain(args.half(4));
    let (vm, space) = (&system().kernel.vm, thread.space());
    space.remap_file_pages(vm, args.at(0), args.word(1), args.word(2), args.word(3), flags)?;
    Ok(0)
}

pub(super) fn brk(thread: &mut Thread, args: Args) -> Answer {
    Ok(thread.space().brk(&system().kernel.vm, args.at(0)).0)
}

pub(super) fn madvise(thread: &mut Thread, args: Args) -> Answer {
    thread.space().madvise(&system().kernel.vm, args.at(0), args.word(1), args.int(2))?;
    Ok(0)
}

pub(super) fn msync(thread: &mut Thread, args: Args) -> Answer {
    let flags = SyncFlags::from_bits_retain(args.half(2));
    thread.space().msync(&system().kernel.vm, args.at(0), args.word(1), flags)?;
    Ok(0)
}

pub(super) fn mlock(thread: &mut Thread, args: Args) -> Answer {
    thread.space().mlock(&system().kernel.vm, args.at(0), args.word(1))?;
    Ok(0)
}

pub(super) fn mlock2(thread: &mut Thread, args: Args) -> Answer {
    let flags = LockFlags::from_bits_retain(args.half(2));
    thread.space().mlock2(&system().kernel.vm, args.at(0), args.word(1), flags)?;
    Ok(0)
}

pub(super) fn munlock(thread: &mut Thread, args: Args) -> Answer {
    thread.space().munlock(&system().kernel.vm, args.at(0), args.word(1))?;
    Ok(0)
}

pub(super) fn mlockall(thread: &mut Thread, args: Args) -> Answer {
    let flags = LockAllFlags::from_bits_retain(args.half(0));
    thread.space().mlockall(&system().kernel.vm, flags)?;
    Ok(0)
}

pub(super) fn munlockall(thread: &mut Thread, _: Args) -> Answer {
    thread.space().munlockall(&system().kernel.vm)?;
    Ok(0)
}

pub(super) fn mincore(thread: &mut Thread, args: Args) -> Answer {
    /// Pages that are asked for at a time.
    const PIECE: u64 = 256;
    let (at, length, into) = (args.at(0), args.word(1), args.at(2));
    if !at.is_page_aligned() {
        return Err(Errno::EINVAL);
    }
    let end = at.0.checked_add(length).filter(|end| *end <= Kernel::USER_END.0);
    end.ok_or(Errno::ENOMEM)?;
    let pages = length.div_ceil(PAGE_SIZE);
    let (vm, space) = (&system().kernel.vm, thread.space());
    let mut done = 0;
    while done < pages {
        let count = PIECE.min(pages - done);
        let mut resident = [0; PIECE as usize];
        let resident = &mut resident[..count as usize];
        space.mincore(vm, VirtAddr(at.0 + done * PAGE_SIZE), count * PAGE_SIZE, resident)?;
        thread.user().write(VirtAddr(into.0.saturating_add(done)), resident)?;
        done += count;
    }
    Ok(0)
}

pub(super) fn memfd_create(thread: &mut Thread, args: Args) -> Answer {
    /// Longest name (`MFD_NAME_MAX_LEN`), its end included.
    const LONGEST: usize = 250;
    let flags = MemoryFlags::from_bits_retain(args.half(1));
    let mut name = Vec::new();
    let read = thread.user().string(args.at(0), LONGEST, &mut name);
    read.map_err(|error| if error == Errno::ENAMETOOLONG { Errno::EINVAL } else { error })?;
    let who = thread.task.process.credentials()?;
    let open = system().tree.memory_file(&name, flags, &who)?;
    let mut on_exec = OpenFlags::empty();
    on_exec.set(OpenFlags::CLOSE_ON_EXEC, flags.contains(MemoryFlags::CLOEXEC));
    files::add(thread, open, on_exec)
}

/// The list of ranges at `at`, at most `IOV_MAX`.
fn ranges(memory: &Memory, at: VirtAddr, count: u64) -> Result<Vec<(VirtAddr, u64)>, Errno> {
    if count > 1024 {
        return Err(Errno::EINVAL);
    }
    let mut ranges = Vec::new();
    try_reserve::<_, Bare>(&mut ranges, count as usize)?;
    for number in 0..count {
        let [start, length] = memory.words(VirtAddr(at.0.saturating_add(16 * number)))?;
        ranges.push((VirtAddr(start), length));
    }
    Ok(ranges)
}

pub(super) fn process_madvise(thread: &mut Thread, args: Args) -> Answer {
    let ranges = ranges(thread.user(), args.at(1), args.word(2))?;
    let process = super::pidfd::process(thread, args.half(0))?;
    let own = process.pid() == thread.task.process.pid();
    let whose = if own { Advised::Own } else { Advised::Others };
    let (advice, flags) = (args.int(3), args.half(4));
    with_space(thread, &process, |memory| {
        let vm = &system().kernel.vm;
        Ok(memory.space().process_madvise(vm, &ranges, advice, flags, whose)?)
    })
}

/// Calls `work` with the memory of `process`, of which the caller is a user for the time.
pub(crate) fn with_space<T>(
    thread: &Thread,
    process: &crate::linux::process::Process,
    work: impl FnOnce(&Memory) -> Result<T, Errno>,
) -> Result<T, Errno> {
    let own = &thread.task.process;
    if process.pid() != own.pid() {
        let same = process.user() == own.user()
            && process.capable().permitted & !own.capable().permitted == 0;
        if !same && !own.can(capability::SYS_PTRACE) {
            return Err(Errno::EPERM);
        }
    }
    let space = process.memory.space().ok_or(Errno::ESRCH)?;
    if !space.try_enter() {
        return Err(Errno::ESRCH);
    }
    let outcome = work(&Memory::new(space.clone()));
    system().kernel.vm.leave_space(&space);
    outcome
}

pub(super) fn process_vm_readv(thread: &mut Thread, args: Args) -> Answer {
    let mut into = thread.user().pieces(args.at(1), args.word(2))?;
    remote(thread, args, |theirs| carry(theirs, &mut into))
}

pub(super) fn process_vm_writev(thread: &mut Thread, args: Args) -> Answer {
    let mut from = thread.user().pieces(args.at(1), args.word(2))?;
    remote(thread, args, |theirs| carry(&mut from, theirs))
}

/// Calls `work` with the pieces of another process's memory that the last arguments name.
fn remote(
    thread: &Thread,
    args: Args,
    work: impl FnOnce(&mut Pieces) -> Result<u64, Errno>,
) -> Answer {
    if args.word(5) != 0 {
        return Err(Errno::EINVAL);
    }
    let ranges = thread.user().pieces(args.at(3), args.word(4))?;
    let process = system().find(args.half(0)).ok_or(Errno::ESRCH)?;
    with_space(thread, &process, |memory| work(&mut ranges.of(memory)))
}

/// Carries bytes from one to the other until either is used up, or an address is none.
fn carry(from: &mut Pieces, into: &mut Pieces) -> Result<u64, Errno> {
    use rumpvm_files::{Sink, Source};
    let mut done = 0;
    let mut bytes = [0; 1024];
    while into.room() > 0 && from.left() > 0 {
        let most = into.room().min(bytes.len());
        let step = from.take(&mut bytes[..most]).and_then(|count| {
            let stored = into.put(&bytes[..count])?;
            Ok((count, stored))
        });
        match step {
            Ok((taken, stored)) => {
                done += stored as u64;
                if stored < taken || taken == 0 {
                    break;
                }
            }
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

pub(super) fn membarrier(thread: &mut Thread, args: Args) -> Answer {
    /// Commands: what there is; everywhere; of one's own process, after registering.
    const QUERY: i32 = 0;
    const GLOBAL: i32 = 1;
    const PRIVATE: i32 = 8;
    const REGISTER_PRIVATE: i32 = 16;
    const ALL: u64 = (GLOBAL | PRIVATE | REGISTER_PRIVATE) as u64;
    if args.half(1) != 0 {
        return Err(Errno::EINVAL);
    }
    use rumpvm::sync::Ordering;
    let process = &thread.task.process;
    match args.int(0) {
        QUERY => return Ok(ALL),
        REGISTER_PRIVATE => process.barriers.store(1, Ordering::SeqCst),
        PRIVATE if process.barriers.load(Ordering::SeqCst) == 0 => return Err(Errno::EPERM),
        GLOBAL | PRIVATE => {
            crate::linux::barrier::everywhere()?;
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}
