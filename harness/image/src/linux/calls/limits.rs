//! Limits: getrlimit(2), setrlimit(2), prlimit(2).

use rumpvm::Hold;
use rumpvm_bare::Bare;
use rumpvm_files::Errno;

use super::{Answer, Args};
use crate::linux::ids::capability;
use crate::linux::limits::Limit;
use crate::linux::process::Process;
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
    if let Some(space) = process.memory.space() {
        space.set_limits(limits.of_space(process.can(capability::IPC_LOCK)));
    }
    Ok(())
}
