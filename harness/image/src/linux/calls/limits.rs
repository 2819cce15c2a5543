//! Limits: getrlimit(2), setrlimit(2), prlimit(2).

use rumpvm::Hold;
use rumpvm_bare::Bare;
use rumpvm_files::open::Whence;
use rumpvm_files::{Errno, Open, OpenFlags};

use super::{Answer, Args};
use crate::linux::ids::capability;
use crate::linux::limits::{INFINITY, Limit, resource as resources};
use crate::linux::process::Process;
use crate::linux::signal::{Info, Signal, send};
use crate::linux::system::system;
use crate::linux::thread::Thread;

/// The process of that number; 0 is one's own.
fn process(thread: &Thread, pid: u32) -> Result<Hold<Process, Bare>, Errno> {
    match pid {
        0 => Ok(thread.task.process.clone()),
        pid => system().find(pid).ok_or(Errno::ESRCH),
    }
}

pub(super) fn getrlimit(thread: &mut Thread, args: Args) -> Answer {
    let limit = thread.task.process.limits.lock().get(args.word(0) as usize);
    let limit = limit.ok_or(Errno::EINVAL)?;
    thread.user().put_words(args.at(1), &[limit.soft, limit.hard])?;
    Ok(0)
}

pub(super) fn setrlimit(thread: &mut Thread, args: Args) -> Answer {
    let [soft, hard] = thread.user().words(args.at(1))?;
    let process = thread.task.process.clone();
    set_limit(thread, &process, args.half(0), Limit { soft, hard })?;
    Ok(0)
}

pub(super) fn prlimit64(thread: &mut Thread, args: Args) -> Answer {
    let process = process(thread, args.half(0))?;
    let resource = args.half(1);
    let new = match args.word(2) {
        0 => None,
        _ => Some(thread.user().words::<2>(args.at(2))?),
    };
    let old = process.limits.lock().get(resource as usize).ok_or(Errno::EINVAL)?;
    if let Some([soft, hard]) = new {
        set_limit(thread, &process, resource, Limit { soft, hard })?;
    }
    if args.word(3) != 0 {
        thread.user().put_words(args.at(3), &[old.soft, old.hard])?;
    }
    Ok(0)
}

/// How much the caller may write to `open`, at `at` or where it stands: none beyond the largest file that he may make
/// (`RLIMIT_FSIZE`), of which a signal tells him as well.
pub(super) fn room(thread: &Thread, open: &Open<Bare>, at: Option<u64>) -> Result<u64, Errno> {
    let most = largest_file(thread);
    if most == INFINITY || open.node().regular().is_none() {
        return Ok(INFINITY);
    }
    let at = match at {
        _ if open.flags().contains(OpenFlags::APPEND) => open.size(),
        Some(at) => at,
        None => open.seek(0, Whence::Here)?,
    };
    if at < most { Ok(most - at) } else { Err(too_large(thread)) }
}

/// Checks that the caller may make a file of `before` bytes so long.
pub(super) fn may_grow(thread: &Thread, before: u64, bytes: u64) -> Result<(), Errno> {
    if bytes > before && bytes > largest_file(thread) { Err(too_large(thread)) } else { Ok(()) }
}

fn largest_file(thread: &Thread) -> u64 {
    let limit = thread.task.process.limits.lock().get(resources::FILE_SIZE);
    limit.map_or(INFINITY, |limit| limit.soft)
}

fn too_large(thread: &Thread) -> Errno {
    // The signal is one that is always noted.
    send::to_task(&thread.task, Info::kernel(Signal::XFSZ)).ok();
    Errno::EFBIG
}

/// Checks that the caller's user may have one more thread (`RLIMIT_NPROC`); the administrator may, and who may change
/// limits or is one.
pub(super) fn may_be_born(process: &Process) -> Result<(), Errno> {
    let (user, is_free) = {
        let ids = process.ids.lock();
        let rights = [capability::SYS_RESOURCE, capability::SYS_ADMIN];
        (ids.user.real, ids.user.real == 0 || rights.iter().any(|right| ids.can(*right)))
    };
    let limit = process.limits.lock().get(resources::PROCESSES);
    let most = limit.map_or(INFINITY, |limit| limit.soft);
    if is_free || most == INFINITY {
        return Ok(());
    }
    let mut count = 0;
    system().for_each(|process| {
        if process.user() == user {
            count += process.task_count() as u64;
        }
    });
    if count < most { Ok(()) } else { Err(Errno::EAGAIN) }
}

fn set_limit(thread: &Thread, process: &Process, resource: u32, new: Limit) -> Result<(), Errno> {
    let (resource, may_raise) =
        (resource as usize, thread.task.process.can(capability::SYS_RESOURCE));
    let limits = {
        let mut limits = process.limits.lock();
        let old = limits.get(resource).ok_or(Errno::EINVAL)?;
        if new.soft > new.hard {
            return Err(Errno::EINVAL);
        }
        if new.hard > old.hard && !may_raise {
            return Err(Errno::EPERM);
        }
        limits.set(resource, new);
        limits.clone()
    };
    if resource == resources::CPU {
        system().timers.limit(process, new.soft)?;
    }
    if let Some(space) = process.memory.space() {
        space.set_limits(limits.of_space(process.can(capability::IPC_LOCK)));
    }
    Ok(())
}
