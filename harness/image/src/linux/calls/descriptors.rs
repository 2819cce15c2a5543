//! Descriptors: copies, flags, closing, ioctl(2).

use rumpvm::Seals;
use rumpvm_bare::Bare;
use rumpvm_files::pipe::Pipe;
use rumpvm_files::table::OnExec;
use rumpvm_files::{Errno, OpenFlags};

use super::files::{add, get, limit, on_exec, table};
use super::{Answer, Args, locks};
use crate::linux::thread::Thread;
use crate::linux::user::Argument;

pub(super) fn close(thread: &mut Thread, args: Args) -> Answer {
    drop(table(thread)?.close(args.half(0))?);
    Ok(0)
}

pub(super) fn close_range(thread: &mut Thread, args: Args) -> Answer {
    const UNSHARE: u32 = 2;
    const CLOEXEC: u32 = 4;
    let (first, last, flags) = (args.half(0), args.half(1), args.half(2));
    if first > last || flags & !(UNSHARE | CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & CLOEXEC != 0 {
        table(thread)?.set_range_on_exec(first, last, OnExec::Close);
    } else {
        table(thread)?.close_range(first, last);
    }
    Ok(0)
}

pub(super) fn dup(thread: &mut Thread, args: Args) -> Answer {
    let open = get(thread, args.half(0))?;
    add(thread, open, OpenFlags::empty())
}

pub(super) fn dup2(thread: &mut Thread, args: Args) -> Answer {
    let (old, new) = (args.half(0), args.half(1));
    let open = get(thread, old)?;
    if old != new {
        let before = table(thread)?.put(open, new, limit(thread), OnExec::Keep)?;
        drop(before);
    }
    Ok(u64::from(new))
}

pub(super) fn dup3(thread: &mut Thread, args: Args) -> Answer {
    let (old, new) = (args.half(0), args.half(1));
    let flags = OpenFlags::from_bits_retain(args.half(2));
    if old == new || !OpenFlags::CLOSE_ON_EXEC.contains(flags) {
        return Err(Errno::EINVAL);
    }
    let open = get(thread, old)?;
    let before = table(thread)?.put(open, new, limit(thread), on_exec(flags))?;
    drop(before);
    Ok(u64::from(new))
}

/// Commands of fcntl(2).
mod command {
    pub(super) const DUPFD: u32 = 0;
    pub(super) const GETFD: u32 = 1;
    pub(super) const SETFD: u32 = 2;
    pub(super) const GETFL: u32 = 3;
    pub(super) const SETFL: u32 = 4;
    pub(super) const DUPFD_CLOEXEC: u32 = 1030;
    pub(super) const SETPIPE_SZ: u32 = 1031;
    pub(super) const GETPIPE_SZ: u32 = 1032;
    pub(super) const ADD_SEALS: u32 = 1033;
    pub(super) const GET_SEALS: u32 = 1034;
}

pub(super) fn fcntl(thread: &mut Thread, args: Args) -> Answer {
    let (number, argument) = (args.half(0), args.half(2));
    let table = table(thread)?;
    let open = table.get(number)?;
    match args.half(1) {
        command @ (command::DUPFD | command::DUPFD_CLOEXEC) => {
            let limit = limit(thread);
            if argument >= limit {
                return Err(Errno::EINVAL);
            }
            let closes = command == command::DUPFD_CLOEXEC;
            let on_exec = if closes { OnExec::Close } else { OnExec::Keep };
            return Ok(u64::from(table.add(open, argument, limit, on_exec)?));
        }
        command::GETFD => return Ok(u64::from(table.on_exec(number)? == OnExec::Close)),
        command::SETFD => {
            let on_exec = if argument & 1 != 0 { OnExec::Close } else { OnExec::Keep };
            table.set_on_exec(number, on_exec)?;
        }
        command::GETFL => return Ok(u64::from(open.flags().bits())),
        command::SETFL => open.set_flags(OpenFlags::from_bits_retain(argument)),
        command @ (locks::RANGES_FIRST..=locks::RANGES_LAST
        | locks::OPEN_FIRST..=locks::OPEN_LAST) => {
            locks::control(thread, &table, &open, command, args.at(2))?;
            // Who closed it meanwhile would find no descriptor to give the lock up with.
            if !table.get(number).is_ok_and(|now| now.is(&open)) {
                locks::forget(&table, &open);
            }
        }
        command::SETPIPE_SZ => {
            let pipe = open.special::<Pipe<Bare>>().ok_or(Errno::EBADF)?;
            return Ok(pipe.set_capacity(argument as usize)? as u64);
        }
        command::GETPIPE_SZ => {
            let pipe = open.special::<Pipe<Bare>>().ok_or(Errno::EBADF)?;
            return Ok(pipe.capacity() as u64);
        }
        command::ADD_SEALS => open.add_seals(Seals::from_bits_retain(argument))?,
        command::GET_SEALS => return Ok(u64::from(open.seals()?.bits())),
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

pub(super) fn ioctl(thread: &mut Thread, args: Args) -> Answer {
    const CLOSE_ON_EXEC: u32 = 0x5451;
    const KEEP_ON_EXEC: u32 = 0x5450;
    const NONBLOCK: u32 = 0x5421;
    let (number, request) = (args.half(0), args.half(1));
    let open = get(thread, number)?;
    match request {
        CLOSE_ON_EXEC => table(thread)?.set_on_exec(number, OnExec::Close)?,
        KEEP_ON_EXEC => table(thread)?.set_on_exec(number, OnExec::Keep)?,
        NONBLOCK => {
            let mut flags = open.flags();
            flags.set(OpenFlags::NONBLOCK, thread.user().half(args.at(2))? != 0);
            open.set_flags(flags);
        }
        _ => {
            if let Some(answer) = super::job::control(thread, &open, request, args.at(2)) {
                return answer;
            }
            let mut argument = Argument { memory: thread.memory(), value: args.word(2) };
            return open.control(request, &mut argument);
        }
    }
    Ok(0)
}
