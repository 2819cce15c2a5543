//! Who runs when and where: nobody here has a priority, and threads stay on their CPU.

use rumpvm_bare::Bare;
use rumpvm_files::Errno;
use rumpvm_platform::{Platform, Seam};

use super::{Answer, Args};
use crate::linux::thread::Thread;

pub(super) fn sched_yield(_: &mut Thread, _: Args) -> Answer {
    Bare::yield_now();
    Ok(0)
}

pub(super) fn getcpu(thread: &mut Thread, args: Args) -> Answer {
    if args.word(0) != 0 {
        thread.user().put_half(args.at(0), Bare::cpu_id().0)?;
    }
    if args.word(1) != 0 {
        thread.user().put_half(args.at(1), 0)?;
    }
    Ok(0)
}

pub(super) fn sched_getaffinity(thread: &mut Thread, args: Args) -> Answer {
    let bytes = args.word(1);
    if bytes < 8 || !bytes.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let cpus = Bare.cpu_count().min(64);
    let mask = u64::MAX >> (64 - cpus);
    thread.user().put_words(args.at(2), &[mask])?;
    Ok(8)
}

pub(super) fn sched_setaffinity(thread: &mut Thread, args: Args) -> Answer {
    // Threads stay where they are; who wants something else is told that he has it, if that is possible at all.
    if args.word(1) < 1 {
        return Err(Errno::EINVAL);
    }
    let mask = thread.user().load::<1>(args.at(2))?;
    if mask[0] == 0 { Err(Errno::EINVAL) } else { Ok(0) }
}

pub(super) fn sched_getscheduler(_: &mut Thread, _: Args) -> Answer {
    Ok(0)
}

pub(super) fn sched_getparam(thread: &mut Thread, args: Args) -> Answer {
    thread.user().put_half(args.at(1), 0)?;
    Ok(0)
}

pub(super) fn sched_priority(_: &mut Thread, args: Args) -> Answer {
    if args.int(0) == 0 { Ok(0) } else { Err(Errno::EINVAL) }
}

pub(super) fn getpriority(_: &mut Thread, _: Args) -> Answer {
    // 20 less the priority.
    Ok(20)
}

/// Priorities and policies are taken note of nowhere: all threads take equal turns.
pub(super) fn accept_priority(_: &mut Thread, _: Args) -> Answer {
    Ok(0)
}
