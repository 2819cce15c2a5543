//! Nice values: getpriority(2), setpriority(2).

use rumpvm::Hold;
use rumpvm::sync::Ordering;
use rumpvm_bare::Bare;
use rumpvm_files::Errno;

use super::{Answer, Args};
use crate::linux::ids::capability;
use crate::linux::limits::resource;
use crate::linux::schedule::NICE;
use crate::linux::system::system;
use crate::linux::task::Task;
use crate::linux::thread::Thread;

/// Calls `f` with every thread that `which` and `who` name.
fn for_each(
    thread: &Thread,
    which: i32,
    who: u32,
    mut f: impl FnMut(&Hold<Task, Bare>),
) -> Result<(), Errno> {
    const THREAD: i32 = 0;
    const GROUP: i32 = 1;
    const USER: i32 = 2;
    let own = &thread.task.process;
    match which {
        THREAD => f(&task(thread, who)?),
        GROUP => {
            let group = if who == 0 { own.group.load(Ordering::Relaxed) } else { who };
            system().for_each(|process| {
                if process.group.load(Ordering::Relaxed) == group {
                    process.for_each_task(&mut f);
                }
            });
        }
        USER => {
            let user = if who == 0 { own.user() } else { who };
            system().for_each(|process| {
                if process.user() == user {
                    process.for_each_task(&mut f);
                }
            });
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

/// The thread of that number; 0 is the calling one.
pub(super) fn task(thread: &Thread, number: u32) -> Result<Hold<Task, Bare>, Errno> {
    match number {
        0 => Ok(thread.task.clone()),
        number => system().find_task(number).ok_or(Errno::ESRCH),
    }
}

/// Whether the caller's user is that of `task`.
pub(super) fn is_his(thread: &Thread, task: &Task) -> bool {
    let effective = thread.task.process.ids.lock().user.effective;
    let theirs = task.process.ids.lock().user;
    effective == theirs.effective || effective == theirs.real
}

/// Whether a thread of that user may have `nice` without the right to any.
pub(super) fn is_allowed(task: &Task, nice: i32) -> bool {
    let limit = task.process.limits.lock().get(resource::NICE);
    limit.is_some_and(|limit| shown(nice) <= limit.soft)
}

/// A nice value as limits and getpriority(2) count: from 40 down to 1.
fn shown(nice: i32) -> u64 {
    (NICE.1 + 1 - nice).unsigned_abs().into()
}

pub(super) fn getpriority(thread: &mut Thread, args: Args) -> Answer {
    let mut highest = None;
    for_each(thread, args.int(0), args.half(1), |task| {
        highest = highest.max(Some(shown(task.scheduled.get().nice)));
    })?;
    highest.ok_or(Errno::ESRCH)
}

pub(super) fn setpriority(thread: &mut Thread, args: Args) -> Answer {
    let nice = args.int(2).clamp(NICE.0, NICE.1);
    let may_all = thread.task.process.can(capability::SYS_NICE);
    let mut outcome = Err(Errno::ESRCH);
    for_each(thread, args.int(0), args.half(1), |task| {
        let is_his = may_all || is_his(thread, task);
        let is_allowed = may_all || is_allowed(task, nice);
        let changed = task.scheduled.change(|schedule| {
            if !is_his {
                return Err(Errno::EPERM);
            }
            if nice < schedule.nice && !is_allowed {
                return Err(Errno::EACCES);
            }
            schedule.nice = nice;
            Ok(())
        });
        match changed {
            Ok(()) if outcome == Err(Errno::ESRCH) => outcome = Ok(0),
            Ok(()) => {}
            Err(error) => outcome = Err(error),
        }
    })?;
    outcome
}
