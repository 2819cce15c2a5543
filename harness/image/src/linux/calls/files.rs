//! Open files: reading, writing, seeking; pipes and the like.

use rumpvm::Hold;
use rumpvm_bare::Bare;
use rumpvm_files::event::Takes;
use rumpvm_files::open::Whence;
use rumpvm_files::table::OnExec;
use rumpvm_files::{Errno, FileType, Open, OpenFlags, Sink, Source, Table};

use super::{Answer, Args, job};
use crate::linux::block;
use crate::linux::signal::{Info, Signal, code, send};
use crate::linux::system::system;
use crate::linux::thread::Thread;
use crate::linux::user::Pieces;

/// The process's descriptors.
pub(super) fn table(thread: &Thread) -> Result<Hold<Table<Bare>, Bare>, Errno> {
    thread.task.process.files.lock().clone().ok_or(Errno::EBADF)
}

/// The open file of that number.
pub(super) fn get(thread: &Thread, number: u32) -> Result<Hold<Open<Bare>, Bare>, Errno> {
    table(thread)?.get(number)
}

/// Most descriptors.
pub(super) fn limit(thread: &Thread) -> u32 {
    thread.task.process.limits.lock().files().min(1 << 20) as u32
}

pub(super) fn on_exec(flags: OpenFlags) -> OnExec {
    match flags.contains(OpenFlags::CLOSE_ON_EXEC) {
        true => OnExec::Close,
        false => OnExec::Keep,
    }
}

/// Gives `open` a number.
pub(super) fn add(thread: &Thread, open: Hold<Open<Bare>, Bare>, flags: OpenFlags) -> Answer {
    let number = table(thread)?.add(open, 0, limit(thread), on_exec(flags))?;
    Ok(u64::from(number))
}

pub(super) fn add_pair(
    thread: &Thread,
    pair: [Hold<Open<Bare>, Bare>; 2],
    args: (Args, usize),
    flags: OpenFlags,
) -> Answer {
    let table = table(thread)?;
    let [first, second] = table.add_pair(pair, limit(thread), on_exec(flags))?;
    let both = u64::from(first) | u64::from(second) << 32;
    if let Err(error) = thread.user().put_words(args.0.at(args.1), &[both]) {
        drop(table.close(first));
        drop(table.close(second));
        return Err(error);
    }
    Ok(0)
}

/// What is written to nobody is told by a signal, too.
pub(super) fn written(thread: &Thread, outcome: Result<usize, Errno>) -> Answer {
    if outcome == Err(Errno::EPIPE) {
        let process = &thread.task.process;
        let info = Info::from(Signal::PIPE, code::USER, process.pid(), process.user());
        send::to_task(&thread.task, info).ok();
    }
    outcome.map(|count| count as u64)
}

pub(super) fn read(thread: &mut Thread, args: Args) -> Answer {
    let open = get(thread, args.half(0))?;
    job::reads(thread, &open)?;
    let mut into = thread.user().buffer(args.at(1), args.word(2))?;
    Ok(open.read(&mut into, &thread.task.waker)? as u64)
}

pub(super) fn write(thread: &mut Thread, args: Args) -> Answer {
    let open = get(thread, args.half(0))?;
    job::writes(thread, &open)?;
    let mut from = thread.user().buffer(args.at(1), args.word(2))?;
    if from.left() > 0 {
        from.cut(super::limits::room(thread, &open, None)?);
    }
    written(thread, open.write(&mut from, &thread.task.waker))
}

pub(super) fn readv(thread: &mut Thread, args: Args) -> Answer {
    let open = get(thread, args.half(0))?;
    job::reads(thread, &open)?;
    let mut into = thread.user().pieces(args.at(1), args.word(2))?;
    Ok(open.read(&mut into, &thread.task.waker)? as u64)
}

pub(super) fn writev(thread: &mut Thread, args: Args) -> Answer {
    let open = get(thread, args.half(0))?;
    job::writes(thread, &open)?;
    let mut from = thread.user().pieces(args.at(1), args.word(2))?;
    if from.left() > 0 {
        from.cut(super::limits::room(thread, &open, None)?);
    }
    written(thread, open.write(&mut from, &thread.task.waker))
}

fn read_at(thread: &Thread, number: u32, mut into: Pieces, at: u64) -> Answer {
    Ok(get(thread, number)?.read_at(at, &mut into, &thread.task.waker)? as u64)
}

fn write_at(thread: &Thread, number: u32, mut from: Pieces, at: u64) -> Answer {
    let open = get(thread, number)?;
    if from.left() > 0 {
        from.cut(super::limits::room(thread, &open, Some(at))?);
    }
    written(thread, open.write_at(at, &mut from, &thread.task.waker))
}

pub(super) fn pread64(thread: &mut Thread, args: Args) -> Answer {
    let into = thread.user().buffer(args.at(1), args.word(2))?;
    read_at(thread, args.half(0), into, args.word(3))
}

pub(super) fn pwrite64(thread: &mut Thread, args: Args) -> Answer {
    let from = thread.user().buffer(args.at(1), args.word(2))?;
    write_at(thread, args.half(0), from, args.word(3))
}

pub(super) fn preadv(thread: &mut Thread, args: Args) -> Answer {
    let into = thread.user().pieces(args.at(1), args.word(2))?;
    read_at(thread, args.half(0), into, args.word(3))
}

pub(super) fn pwritev(thread: &mut Thread, args: Args) -> Answer {
    let from = thread.user().pieces(args.at(1), args.word(2))?;
    write_at(thread, args.half(0), from, args.word(3))
}

pub(super) fn lseek(thread: &mut Thread, args: Args) -> Answer {
    let open = get(thread, args.half(0))?;
    let whence = Whence::of(args.half(2)).ok_or(Errno::EINVAL)?;
    open.seek(args.word(1).cast_signed(), whence)
}

pub(super) fn ftruncate(thread: &mut Thread, args: Args) -> Answer {
    let open = get(thread, args.half(0))?;
    if open.node().regular().is_some() && args.word(1) <= i64::MAX as u64 {
        super::limits::may_grow(thread, open.size(), args.word(1))?;
    }
    open.truncate(args.word(1))?;
    Ok(0)
}

pub(super) fn fallocate(thread: &mut Thread, args: Args) -> Answer {
    const KEEP_SIZE: u32 = 1;
    let open = get(thread, args.half(0))?;
    if args.word(2) > i64::MAX as u64 || args.word(3) > i64::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    if open.node().regular().is_some() && args.half(1) & KEEP_SIZE == 0 {
        super::limits::may_grow(thread, open.size(), args.word(2).saturating_add(args.word(3)))?;
    }
    open.allocate(args.half(1), args.word(2), args.word(3))?;
    Ok(0)
}

pub(super) fn fsync(thread: &mut Thread, args: Args) -> Answer {
    get(thread, args.half(0))?.sync()?;
    Ok(0)
}

pub(super) fn sync(_: &mut Thread, _: Args) -> Answer {
    block::sync();
    Ok(0)
}

pub(super) fn fadvise64(thread: &mut Thread, args: Args) -> Answer {
    /// Highest number of an advice.
    const LAST: u32 = 5;
    let open = get(thread, args.half(0))?;
    match open.node().file_type() {
        _ if open.is_path() => Err(Errno::EBADF),
        FileType::Pipe => Err(Errno::ESPIPE),
        _ if args.half(3) > LAST || args.word(2).cast_signed() < 0 => Err(Errno::EINVAL),
        _ => Ok(0),
    }
}

pub(super) fn getdents64(thread: &mut Thread, args: Args) -> Answer {
    let open = get(thread, args.half(0))?;
    let mut into = thread.user().buffer(args.at(1), args.word(2) & 0xffff_ffff)?;
    Ok(open.list(&mut into)? as u64)
}

fn pipe_with(thread: &mut Thread, args: Args, flags: OpenFlags) -> Answer {
    let who = thread.task.process.credentials()?;
    let pair = system().tree.pipe(flags, &who)?;
    add_pair(thread, pair, (args, 0), flags)
}

pub(super) fn pipe(thread: &mut Thread, args: Args) -> Answer {
    pipe_with(thread, args, OpenFlags::empty())
}

pub(super) fn pipe2(thread: &mut Thread, args: Args) -> Answer {
    pipe_with(thread, args, OpenFlags::from_bits_retain(args.half(1)))
}

fn counter(thread: &mut Thread, count: u32, flags: u32) -> Answer {
    const ONE_BY_ONE: u32 = 1;
    let takes = if flags & ONE_BY_ONE != 0 { Takes::One } else { Takes::All };
    let flags = OpenFlags::from_bits_retain(flags & !ONE_BY_ONE);
    if !(OpenFlags::NONBLOCK | OpenFlags::CLOSE_ON_EXEC).contains(flags) {
        return Err(Errno::EINVAL);
    }
    let who = thread.task.process.credentials()?;
    let open = system().tree.counter(count, takes, flags, &who)?;
    add(thread, open, flags)
}

pub(super) fn eventfd(thread: &mut Thread, args: Args) -> Answer {
    counter(thread, args.half(0), 0)
}

pub(super) fn eventfd2(thread: &mut Thread, args: Args) -> Answer {
    counter(thread, args.half(0), args.half(1))
}

/// sendfile(2): through a small buffer. As on Linux, what comes has positions, and it does not go to a file's end.
///
/// Between two pieces it ends early for a signal: what comes from a device has no end of its own.
pub(super) fn sendfile(thread: &mut Thread, args: Args) -> Answer {
    let (into, from) = (get(thread, args.half(0))?, get(thread, args.half(1))?);
    if !from.has_position() || into.flags().contains(OpenFlags::APPEND) {
        return Err(Errno::EINVAL);
    }
    job::writes(thread, &into)?;
    let mut at = match args.word(2) {
        0 => None,
        _ => Some(thread.user().word(args.at(2))?),
    };
    let mut left = args.word(3).min(crate::linux::user::MOST_BYTES);
    let (mut done, waker) = (0, &thread.task.waker);
    while left > 0 {
        let mut bytes = [0; 2048];
        let most = left.min(2048) as usize;
        let mut sink = &mut bytes[..most];
        let sink: &mut dyn Sink = &mut sink;
        let read = match at {
            Some(at) => from.read_at(at, sink, waker),
            None => from.read(sink, waker),
        };
        let count = match read {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        };
        let mut source = &bytes[..count];
        let source: &mut dyn Source = &mut source;
        let stored = match into.write(source, waker) {
            Ok(stored) => stored,
            Err(error) if done == 0 => return written(thread, Err(error)),
            Err(_) => break,
        };
        at = at.map(|at| at + stored as u64);
        (done, left) = (done + stored as u64, left - stored as u64);
        if stored < count || waker.is_interrupted() {
            break;
        }
    }
    if let Some(at) = at {
        thread.user().put_words(args.at(2), &[at])?;
    }
    Ok(done)
}
