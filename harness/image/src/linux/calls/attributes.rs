//! What a file says of itself, and what can be changed of that: stat(2), chmod(2), chown(2), truncate(2), utimensat(2) and
//! their kind.

use rumpvm::Hold;
use rumpvm_arch::VirtAddr;
use rumpvm_bare::Bare;
use rumpvm_files::stat::Stat;
use rumpvm_files::tree::{Owner, When};
use rumpvm_files::{Entry, Errno, Open, Time};

use super::paths::{EMPTY_PATH, HERE, MODE, NO_FOLLOW, find_at, only};
use super::{Answer, Args, files, limits};
use crate::linux::thread::Thread;

/// `AT_NO_AUTOMOUNT`: nothing is mounted by itself.
const NO_AUTOMOUNT: u32 = 0x800;

fn put_stat(thread: &Thread, entry: &Hold<Entry<Bare>, Bare>, at: VirtAddr) -> Answer {
    thread.user().write(at, &Stat::of(entry.node()).bytes())?;
    Ok(0)
}

pub(super) fn stat(thread: &mut Thread, args: Args) -> Answer {
    let entry = find_at(thread, HERE, args.at(0), 0)?;
    put_stat(thread, &entry, args.at(1))
}

pub(super) fn lstat(thread: &mut Thread, args: Args) -> Answer {
    let entry = find_at(thread, HERE, args.at(0), NO_FOLLOW)?;
    put_stat(thread, &entry, args.at(1))
}

pub(super) fn fstat(thread: &mut Thread, args: Args) -> Answer {
    let open = files::get(thread, args.half(0))?;
    thread.user().write(args.at(1), &open.stat().bytes())?;
    Ok(0)
}

pub(super) fn newfstatat(thread: &mut Thread, args: Args) -> Answer {
    only(args.half(3), NO_FOLLOW | NO_AUTOMOUNT | EMPTY_PATH)?;
    let entry = find_at(thread, args.half(0), args.at(1), args.half(3))?;
    put_stat(thread, &entry, args.at(2))
}

pub(super) fn statx(thread: &mut Thread, args: Args) -> Answer {
    /// How fresh the answer is to be; it always is.
    const FRESHNESS: u32 = 0x6000;
    only(args.half(2), NO_FOLLOW | NO_AUTOMOUNT | EMPTY_PATH | FRESHNESS)?;
    let entry = find_at(thread, args.half(0), args.at(1), args.half(2))?;
    thread.user().write(args.at(4), &Stat::of(entry.node()).extended())?;
    Ok(0)
}

pub(super) fn statfs(thread: &mut Thread, args: Args) -> Answer {
    let entry = find_at(thread, HERE, args.at(0), 0)?;
    thread.user().write(args.at(1), &entry.node().volume().statfs())?;
    Ok(0)
}

pub(super) fn fstatfs(thread: &mut Thread, args: Args) -> Answer {
    let open = files::get(thread, args.half(0))?;
    thread.user().write(args.at(1), &open.node().volume().statfs())?;
    Ok(0)
}

/// An open file, and not only the name of one.
fn for_changing(thread: &Thread, number: u32) -> Result<Hold<Open<Bare>, Bare>, Errno> {
    let open = files::get(thread, number)?;
    if open.is_path() { Err(Errno::EBADF) } else { Ok(open) }
}

fn chmod_entry(thread: &Thread, entry: &Hold<Entry<Bare>, Bare>, mode: u32) -> Answer {
    entry.chmod(&thread.task.process.credentials()?, mode & MODE)?;
    Ok(0)
}

pub(super) fn chmod(thread: &mut Thread, args: Args) -> Answer {
    let entry = find_at(thread, HERE, args.at(0), 0)?;
    chmod_entry(thread, &entry, args.half(1))
}

pub(super) fn fchmod(thread: &mut Thread, args: Args) -> Answer {
    let open = for_changing(thread, args.half(0))?;
    chmod_entry(thread, open.entry(), args.half(1))
}

pub(super) fn fchmodat(thread: &mut Thread, args: Args) -> Answer {
    let entry = find_at(thread, args.half(0), args.at(1), 0)?;
    chmod_entry(thread, &entry, args.half(2))
}

fn chown_entry(thread: &Thread, entry: &Hold<Entry<Bare>, Bare>, user: u32, group: u32) -> Answer {
    let given = |id: u32| (id != u32::MAX).then_some(id);
    let owner = Owner { user: given(user), group: given(group) };
    entry.chown(&thread.task.process.credentials()?, owner)?;
    Ok(0)
}

pub(super) fn chown(thread: &mut Thread, args: Args) -> Answer {
    let entry = find_at(thread, HERE, args.at(0), 0)?;
    chown_entry(thread, &entry, args.half(1), args.half(2))
}

pub(super) fn lchown(thread: &mut Thread, args: Args) -> Answer {
    let entry = find_at(thread, HERE, args.at(0), NO_FOLLOW)?;
    chown_entry(thread, &entry, args.half(1), args.half(2))
}

pub(super) fn fchown(thread: &mut Thread, args: Args) -> Answer {
    let open = for_changing(thread, args.half(0))?;
    chown_entry(thread, open.entry(), args.half(1), args.half(2))
}

pub(super) fn fchownat(thread: &mut Thread, args: Args) -> Answer {
    only(args.half(4), NO_FOLLOW | EMPTY_PATH)?;
    let entry = find_at(thread, args.half(0), args.at(1), args.half(4))?;
    chown_entry(thread, &entry, args.half(2), args.half(3))
}

pub(super) fn truncate(thread: &mut Thread, args: Args) -> Answer {
    if args.word(1) > i64::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    let entry = find_at(thread, HERE, args.at(0), 0)?;
    if let Some(regular) = entry.node().regular() {
        limits::may_grow(thread, regular.size(), args.word(1))?;
    }
    entry.truncate(&thread.task.process.credentials()?, args.word(1))?;
    Ok(0)
}

/// One of the two times of utimensat(2).
fn when(words: [u64; 2]) -> Result<When, Errno> {
    const NOW: u64 = 0x3fff_ffff;
    const OMIT: u64 = 0x3fff_fffe;
    let [seconds, nanoseconds] = words;
    Ok(match nanoseconds {
        NOW => When::Now,
        OMIT => When::Same,
        0..1_000_000_000 => {
            let (seconds, nanoseconds) = (seconds.cast_signed(), nanoseconds as u32);
            When::At(Time { seconds, nanoseconds })
        }
        _ => return Err(Errno::EINVAL),
    })
}

pub(super) fn utimensat(thread: &mut Thread, args: Args) -> Answer {
    let (accessed, modified) = match args.word(2) {
        0 => (When::Now, When::Now),
        _ => {
            let [a, b, c, d] = thread.user().words(args.at(2))?;
            (when([a, b])?, when([c, d])?)
        }
    };
    only(args.half(3), NO_FOLLOW | EMPTY_PATH)?;
    let entry = match args.word(1) {
        0 => files::get(thread, args.half(0))?.entry().clone(),
        _ => find_at(thread, args.half(0), args.at(1), args.half(3))?,
    };
    entry.set_times(&thread.task.process.credentials()?, accessed, modified)?;
    Ok(0)
}

/// utimes(2), and utime(2) by its unit.
fn set_times(thread: &Thread, args: Args, unit: Option<u64>) -> Answer {
    let times = match (args.word(1), unit) {
        (0, _) => (When::Now, When::Now),
        (_, Some(unit)) => {
            let [a, b, c, d] = thread.user().words(args.at(1))?;
            let scale = |part: u64| part.checked_mul(unit).ok_or(Errno::EINVAL);
            (when([a, scale(b)?])?, when([c, scale(d)?])?)
        }
        (_, None) => {
            let [accessed, modified] = thread.user().words(args.at(1))?;
            (when([accessed, 0])?, when([modified, 0])?)
        }
    };
    let entry = find_at(thread, HERE, args.at(0), 0)?;
    entry.set_times(&thread.task.process.credentials()?, times.0, times.1)?;
    Ok(0)
}

pub(super) fn utimes(thread: &mut Thread, args: Args) -> Answer {
    set_times(thread, args, Some(1000))
}

pub(super) fn utime(thread: &mut Thread, args: Args) -> Answer {
    set_times(thread, args, None)
}
