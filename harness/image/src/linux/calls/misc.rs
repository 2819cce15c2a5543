//! What fits nowhere else: names of the system, chance, volumes.

use alloc::vec::Vec;

use rumpvm_arch::PAGE_SIZE;
use rumpvm_bare::calendar;
use rumpvm_files::tree::{Owner, Unmount, new_root};
use rumpvm_files::volume::{MountFlags, PROC, TMPFS};
use rumpvm_files::{Capabilities, Credentials, Errno};

use super::{Answer, Args, paths};
use crate::linux::system::system;
use crate::linux::thread::Thread;
use crate::linux::{chance, proc};

/// Bytes of each part of `struct utsname`.
const NAME: usize = 65;
/// The Linux whose calls these are.
pub(crate) const RELEASE: &str = "6.1.0-rumpvm";
/// What uname(2) says besides.
pub(crate) const VERSION: &str = "#1 rumpvm";

pub(super) fn uname(thread: &mut Thread, args: Args) -> Answer {
    let mut bytes = [0; 6 * NAME];
    let parts = ["Linux", "rumpvm", RELEASE, VERSION, "x86_64", "(none)"];
    for (part, place) in parts.iter().zip(bytes.chunks_mut(NAME)) {
        place[..part.len()].copy_from_slice(part.as_bytes());
    }
    thread.user().write(args.at(0), &bytes)?;
    Ok(0)
}

pub(super) fn sysinfo(thread: &mut Thread, args: Args) -> Answer {
    let (total, free) = system().kernel.frames();
    let mut bytes = [0; 112];
    let mut put = |at: usize, word: u64| bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
    put(0, calendar::since_start() / 1_000_000_000);
    put(32, total * PAGE_SIZE);
    put(40, free * PAGE_SIZE);
    // Number of threads, in 16 bits.
    put(80, system().counts().1 as u64 & 0xffff);
    // The unit of the above.
    put(104, 1);
    thread.user().write(args.at(0), &bytes)?;
    Ok(0)
}

pub(super) fn getrandom(thread: &mut Thread, args: Args) -> Answer {
    const KNOWN: u32 = 7;
    if args.half(2) & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    let mut into = thread.user().buffer(args.at(0), args.word(1))?;
    let mut done = 0;
    loop {
        use rumpvm_files::Sink;
        let mut bytes = [0; 256];
        let count = into.room().min(bytes.len());
        if count == 0 || done > 0 && thread.task.waker.is_interrupted() {
            return Ok(done);
        }
        chance::fill(&mut bytes[..count]);
        match into.put(&bytes[..count]) {
            Ok(stored) => done += stored as u64,
            Err(error) if done == 0 => return Err(error),
            Err(_) => return Ok(done),
        }
    }
}

/// A string of a program's, or nothing.
fn text(thread: &Thread, args: Args, number: usize) -> Result<Vec<u8>, Errno> {
    match args.word(number) {
        0 => Ok(Vec::new()),
        _ => thread.user().path(args.at(number)),
    }
}

fn may_mount(thread: &Thread) -> Result<(), Errno> {
    let who = thread.task.process.credentials()?;
    if who.can(Capabilities::SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM) }
}

/// What is said of a memory file system's root.
struct Options {
    mode: u32,
    owner: Owner,
}

impl Options {
    /// As tmpfs(5) has them. How large it may become is checked and not kept to: files leave other memory alone anyway.
    fn parse(text: &[u8]) -> Result<Self, Errno> {
        let mut options = Self { mode: 0o1777, owner: Owner::default() };
        let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
        for option in text.split(',').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let number = |base| u32::from_str_radix(value, base).map_err(|_| Errno::EINVAL);
            match name {
                "mode" => options.mode = number(8)? & 0o7777,
                "uid" => options.owner.user = Some(number(10)?),
                "gid" => options.owner.group = Some(number(10)?),
                "size" | "nr_blocks" | "nr_inodes" => {
                    let digits = value.trim_end_matches(['k', 'K', 'm', 'M', 'g', 'G', '%']);
                    digits.parse::<u64>().map_err(|_| Errno::EINVAL)?;
                }
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(options)
    }
}

pub(super) fn mount(thread: &mut Thread, args: Args) -> Answer {
    /// What this layer has no use for: it says "silently", or how times are kept.
    const IGNORED: u32 = 0x8000 | 0x20_0000 | 0x100_0000 | 0xc0ed_0000;
    may_mount(thread)?;
    let (source, kind) = (text(thread, args, 0)?, text(thread, args, 2)?);
    let path = thread.user().path(args.at(1))?;
    let at = paths::find(&thread.task.process, paths::HERE, &path, 0)?;
    let flags = MountFlags::from_bits_retain(args.half(3) & !IGNORED);
    if flags.bits() & !MountFlags::all().bits() != 0 {
        // Moving and binding, for instance.
        return Err(Errno::EINVAL);
    }
    if flags.contains(MountFlags::REMOUNT) {
        at.node().volume().set_flags(flags - MountFlags::REMOUNT);
        return Ok(0);
    }
    let tree = &system().tree;
    let root = match &kind[..] {
        b"tmpfs" | b"ramfs" | b"devtmpfs" | b"shm" => {
            let options = Options::parse(&text(thread, args, 4)?)?;
            let root = new_root(&tree.volume(TMPFS)?, options.mode)?;
            root.chown(&Credentials::root(), options.owner)?;
            root
        }
        b"proc" => proc::new_root(&tree.volume(PROC)?)?,
        _ => return Err(Errno::ENODEV),
    };
    tree.mount(&at, root, &source, flags)?;
    Ok(0)
}

pub(super) fn umount2(thread: &mut Thread, args: Args) -> Answer {
    const DETACH: u32 = 2;
    const FORCE: u32 = 1;
    const NO_FOLLOW: u32 = 8;
    may_mount(thread)?;
    if args.half(1) & !(DETACH | FORCE | NO_FOLLOW) != 0 {
        return Err(Errno::EINVAL);
    }
    let path = thread.user().path(args.at(0))?;
    let root = paths::find(&thread.task.process, paths::HERE, &path, 0)?;
    let how = if args.half(1) & DETACH != 0 { Unmount::Detach } else { Unmount::IfIdle };
    system().tree.unmount(&root, how)?;
    Ok(0)
}

/// Calls that ask for what the machine does not have, by whoever is asked.
pub(super) fn refused(_: &mut Thread, _: Args) -> Answer {
    Err(Errno::EPERM)
}
