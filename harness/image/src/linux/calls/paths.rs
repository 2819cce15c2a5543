//! Paths: opening, looking, making, removing, moving; each in its plain form and in that with a directory.

use alloc::vec::Vec;

use rumpvm::Hold;
use rumpvm_arch::VirtAddr;
use rumpvm_bare::Bare;
use rumpvm_files::tree::RenameFlags;
use rumpvm_files::walk::Last;
use rumpvm_files::{Credentials, Entry, Errno, OpenFlags, Rights, Walk};

use super::{Answer, Args, files};
use crate::linux::process::{Place, Process};
use crate::linux::system::system;
use crate::linux::thread::Thread;
use crate::linux::user::PATH_MAX;

/// "From where the process stands" in place of a descriptor (`AT_FDCWD`).
pub(crate) const HERE: u32 = (-100_i32).cast_unsigned();
/// The link itself, not what it leads to.
pub(crate) const NO_FOLLOW: u32 = 0x100;
/// What the descriptor stands for, if the path is empty.
pub(crate) const EMPTY_PATH: u32 = 0x1000;
const REMOVE_DIRECTORY: u32 = 0x200;
const FOLLOW: u32 = 0x400;
const EFFECTIVE: u32 = 0x200;
/// Bits of `mode` that programs set.
pub(super) const MODE: u32 = 0o7777;

/// Somebody who walks from somewhere.
struct Walker {
    root: Hold<Entry<Bare>, Bare>,
    from: Hold<Entry<Bare>, Bare>,
    who: Credentials,
}

impl Walker {
    /// The process, from where it stands or from the directory of a descriptor.
    fn new(process: &Process, from: u32, path: &[u8]) -> Result<Self, Errno> {
        let place = place(process)?;
        let who = process.credentials()?;
        let absolute = path.starts_with(b"/");
        let from = if from == HERE || absolute {
            place.here
        } else {
            let table = process.files.lock().clone().ok_or(Errno::EBADF)?;
            table.get(from)?.entry().clone()
        };
        Ok(Self { root: place.root, from, who })
    }

    fn walk(&self) -> Walk<'_, Bare> {
        Walk { root: &self.root, from: &self.from, who: &self.who }
    }
}

fn place(process: &Process) -> Result<Place, Errno> {
    process.place.lock().clone().ok_or(Errno::ESRCH)
}

/// What `path` names for `process`, with the flags of the calls that end with `at`.
pub(crate) fn find(
    process: &Process,
    from: u32,
    path: &[u8],
    flags: u32,
) -> Result<Hold<Entry<Bare>, Bare>, Errno> {
    if path.is_empty() && flags & EMPTY_PATH != 0 {
        if from == HERE {
            return Ok(place(process)?.here);
        }
        let table = process.files.lock().clone().ok_or(Errno::EBADF)?;
        return Ok(table.get(from)?.entry().clone());
    }
    let last = if flags & NO_FOLLOW != 0 { Last::Stay } else { Last::Follow };
    Walker::new(process, from, path)?.walk().find(path, last)
}

/// What the path at `at` names.
pub(super) fn find_at(
    thread: &Thread,
    from: u32,
    at: VirtAddr,
    flags: u32,
) -> Result<Hold<Entry<Bare>, Bare>, Errno> {
    let path = thread.user().path(at)?;
    find(&thread.task.process, from, &path, flags)
}

/// Calls `work` with a walk, and the path at `at`.
fn with_walk<T>(
    thread: &Thread,
    from: u32,
    at: VirtAddr,
    work: impl FnOnce(&Walk<'_, Bare>, &[u8]) -> Result<T, Errno>,
) -> Result<T, Errno> {
    let path = thread.user().path(at)?;
    let walker = Walker::new(&thread.task.process, from, &path)?;
    work(&walker.walk(), &path)
}

/// `mode` without what the process takes off.
fn masked(thread: &Thread, mode: u32) -> Result<u32, Errno> {
    Ok(mode & MODE & !place(&thread.task.process)?.mask)
}

fn open_from(thread: &mut Thread, from: u32, at: VirtAddr, flags: u32, mode: u32) -> Answer {
    let flags = OpenFlags::from_bits_retain(flags);
    let mode = masked(thread, mode)?;
    let waker = thread.task.waker.clone();
    let open = with_walk(thread, from, at, |walk, path| walk.open(path, flags, mode, &waker))?;
    super::job::opened(thread, &open, flags);
    files::add(thread, open, flags)
}

pub(super) fn open(thread: &mut Thread, args: Args) -> Answer {
    open_from(thread, HERE, args.at(0), args.half(1), args.half(2))
}

pub(super) fn openat(thread: &mut Thread, args: Args) -> Answer {
    open_from(thread, args.half(0), args.at(1), args.half(2), args.half(3))
}

pub(super) fn creat(thread: &mut Thread, args: Args) -> Answer {
    let flags = OpenFlags::CREATE | OpenFlags::WRITE_ONLY | OpenFlags::TRUNCATE;
    open_from(thread, HERE, args.at(0), flags.bits(), args.half(1))
}

/// Checks that `flags` has nothing but `known`.
pub(super) fn only(flags: u32, known: u32) -> Result<(), Errno> {
    if flags & !known == 0 { Ok(()) } else { Err(Errno::EINVAL) }
}

fn access_from(thread: &Thread, from: u32, at: VirtAddr, wanted: u32, flags: u32) -> Answer {
    only(flags, EFFECTIVE | NO_FOLLOW | EMPTY_PATH)?;
    let wanted = Rights::from_bits(wanted).ok_or(Errno::EINVAL)?;
    let path = thread.user().path(at)?;
    let process = &thread.task.process;
    let mut walker = Walker::new(process, from, &path)?;
    if flags & EFFECTIVE == 0 {
        walker.who = process.ids.lock().real_credentials()?;
    }
    let entry = if path.is_empty() {
        find(process, from, &path, flags)?
    } else {
        let last = if flags & NO_FOLLOW != 0 { Last::Stay } else { Last::Follow };
        walker.walk().find(&path, last)?
    };
    entry.access(&walker.who, wanted)?;
    Ok(0)
}

pub(super) fn access(thread: &mut Thread, args: Args) -> Answer {
    access_from(thread, HERE, args.at(0), args.half(1), 0)
}

pub(super) fn faccessat(thread: &mut Thread, args: Args) -> Answer {
    access_from(thread, args.half(0), args.at(1), args.half(2), 0)
}

pub(super) fn faccessat2(thread: &mut Thread, args: Args) -> Answer {
    access_from(thread, args.half(0), args.at(1), args.half(2), args.half(3))
}

fn mkdir_from(thread: &Thread, from: u32, at: VirtAddr, mode: u32) -> Answer {
    let mode = masked(thread, mode)?;
    with_walk(thread, from, at, |walk, path| walk.mkdir(path, mode))?;
    Ok(0)
}

pub(super) fn mkdir(thread: &mut Thread, args: Args) -> Answer {
    mkdir_from(thread, HERE, args.at(0), args.half(1))
}

pub(super) fn mkdirat(thread: &mut Thread, args: Args) -> Answer {
    mkdir_from(thread, args.half(0), args.at(1), args.half(2))
}

fn mknod_from(thread: &Thread, from: u32, at: VirtAddr, mode: u32, device: u64) -> Answer {
    let mode = mode & !MODE | masked(thread, mode)?;
    with_walk(thread, from, at, |walk, path| walk.mknod(path, mode, device))?;
    Ok(0)
}

pub(super) fn mknod(thread: &mut Thread, args: Args) -> Answer {
    mknod_from(thread, HERE, args.at(0), args.half(1), args.word(2))
}

pub(super) fn mknodat(thread: &mut Thread, args: Args) -> Answer {
    mknod_from(thread, args.half(0), args.at(1), args.half(2), args.word(3))
}

pub(super) fn unlink(thread: &mut Thread, args: Args) -> Answer {
    with_walk(thread, HERE, args.at(0), |walk, path| walk.unlink(path))?;
    Ok(0)
}

pub(super) fn rmdir(thread: &mut Thread, args: Args) -> Answer {
    with_walk(thread, HERE, args.at(0), |walk, path| walk.rmdir(path))?;
    Ok(0)
}

pub(super) fn unlinkat(thread: &mut Thread, args: Args) -> Answer {
    with_walk(thread, args.half(0), args.at(1), |walk, path| match args.half(2) {
        0 => walk.unlink(path),
        REMOVE_DIRECTORY => walk.rmdir(path),
        _ => Err(Errno::EINVAL),
    })?;
    Ok(0)
}

fn rename_from(thread: &Thread, old: (u32, VirtAddr), new: (u32, VirtAddr), flags: u32) -> Answer {
    let flags = RenameFlags::from_bits_retain(flags);
    let new_path = thread.user().path(new.1)?;
    let to = Walker::new(&thread.task.process, new.0, &new_path)?;
    with_walk(thread, old.0, old.1, |walk, path| walk.rename(path, &to.walk(), &new_path, flags))?;
    Ok(0)
}

pub(super) fn rename(thread: &mut Thread, args: Args) -> Answer {
    rename_from(thread, (HERE, args.at(0)), (HERE, args.at(1)), 0)
}

pub(super) fn renameat(thread: &mut Thread, args: Args) -> Answer {
    rename_from(thread, (args.half(0), args.at(1)), (args.half(2), args.at(3)), 0)
}

pub(super) fn renameat2(thread: &mut Thread, args: Args) -> Answer {
    let (old, new) = ((args.half(0), args.at(1)), (args.half(2), args.at(3)));
    rename_from(thread, old, new, args.half(4))
}

pub(super) fn link(thread: &mut Thread, args: Args) -> Answer {
    let old = find_at(thread, HERE, args.at(0), NO_FOLLOW)?;
    with_walk(thread, HERE, args.at(1), |walk, path| walk.link(&old, path))?;
    Ok(0)
}

pub(super) fn linkat(thread: &mut Thread, args: Args) -> Answer {
    let flags = args.half(4);
    only(flags, FOLLOW | EMPTY_PATH)?;
    let follow = if flags & FOLLOW != 0 { 0 } else { NO_FOLLOW };
    let old = find_at(thread, args.half(0), args.at(1), flags & EMPTY_PATH | follow)?;
    with_walk(thread, args.half(2), args.at(3), |walk, path| walk.link(&old, path))?;
    Ok(0)
}

fn symlink_from(thread: &Thread, target: VirtAddr, from: u32, at: VirtAddr) -> Answer {
    let target = thread.user().path(target)?;
    with_walk(thread, from, at, |walk, path| walk.symlink(&target, path))?;
    Ok(0)
}

pub(super) fn symlink(thread: &mut Thread, args: Args) -> Answer {
    symlink_from(thread, args.at(0), HERE, args.at(1))
}

pub(super) fn symlinkat(thread: &mut Thread, args: Args) -> Answer {
    symlink_from(thread, args.at(0), args.half(1), args.at(2))
}

fn readlink_from(thread: &Thread, from: u32, at: VirtAddr, into: VirtAddr, room: u64) -> Answer {
    if room == 0 || room > i32::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    let entry = find_at(thread, from, at, NO_FOLLOW | EMPTY_PATH)?;
    entry.read_link(|text| {
        let count = text.len().min(room as usize);
        thread.user().write(into, &text[..count])?;
        Ok(count as u64)
    })?
}

pub(super) fn readlink(thread: &mut Thread, args: Args) -> Answer {
    readlink_from(thread, HERE, args.at(0), args.at(1), args.word(2))
}

pub(super) fn readlinkat(thread: &mut Thread, args: Args) -> Answer {
    readlink_from(thread, args.half(0), args.at(1), args.at(2), args.word(3))
}

fn enter(thread: &Thread, entry: Hold<Entry<Bare>, Bare>) -> Answer {
    let process = &thread.task.process;
    if !entry.node().is_directory() {
        return Err(Errno::ENOTDIR);
    }
    process.credentials()?.check(entry.node(), Rights::EXECUTE)?;
    let mut place = place(process)?;
    place.here = entry;
    let before = process.place.lock().replace(place);
    drop(before);
    Ok(0)
}

pub(super) fn chdir(thread: &mut Thread, args: Args) -> Answer {
    let entry = find_at(thread, HERE, args.at(0), 0)?;
    enter(thread, entry)
}

pub(super) fn fchdir(thread: &mut Thread, args: Args) -> Answer {
    let open = files::get(thread, args.half(0))?;
    enter(thread, open.entry().clone())
}

pub(super) fn chroot(thread: &mut Thread, args: Args) -> Answer {
    let entry = find_at(thread, HERE, args.at(0), 0)?;
    let process = &thread.task.process;
    if !entry.node().is_directory() {
        return Err(Errno::ENOTDIR);
    }
    if !process.credentials()?.can(rumpvm_files::Capabilities::SYS_CHROOT) {
        return Err(Errno::EPERM);
    }
    let mut place = place(process)?;
    place.root = entry;
    let before = process.place.lock().replace(place);
    drop(before);
    Ok(0)
}

pub(super) fn getcwd(thread: &mut Thread, args: Args) -> Answer {
    let place = place(&thread.task.process)?;
    if place.here.is_removed() {
        return Err(Errno::ENOENT);
    }
    let path: Vec<u8> = system().path_from(&place.here, &place.root)?;
    if path.len() + 1 > args.word(1) as usize || path.len() + 1 > PATH_MAX {
        return Err(Errno::ERANGE);
    }
    thread.user().write(args.at(0), &path)?;
    thread.user().write(VirtAddr(args.word(0).saturating_add(path.len() as u64)), &[0])?;
    Ok(path.len() as u64 + 1)
}

pub(super) fn umask(thread: &mut Thread, args: Args) -> Answer {
    let mut place = thread.task.process.place.lock();
    let place = place.as_mut().ok_or(Errno::ESRCH)?;
    let before = core::mem::replace(&mut place.mask, args.half(0) & 0o777);
    Ok(u64::from(before))
}
