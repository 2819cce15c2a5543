//! Who runs when and where: policies and levels, as sched(7) has them; threads stay on their CPU.
//!
//! There are no deadlines and no clamps of utilization. Real-time threads may take all of their CPU.

use rumpvm::Hold;
use rumpvm_arch::{PAGE_SIZE, VirtAddr};
use rumpvm_bare::Bare;
use rumpvm_files::Errno;
use rumpvm_platform::{Platform, Seam};

use super::{Answer, Args, nice, time};
use crate::linux::ids::capability;
use crate::linux::limits::resource;
use crate::linux::schedule::{HIGHEST, NICE, Policy, Schedule};
use crate::linux::task::Task;
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

/// In the word of a policy, and in the flags of `struct sched_attr`.
const RESET_ON_FORK: u32 = 0x4000_0000;
mod attr_flags {
    pub(super) const RESET_ON_FORK: u64 = 1;
    pub(super) const KEEP_POLICY: u64 = 8;
    pub(super) const KEEP_PARAMS: u64 = 0x10;
    pub(super) const CLAMPS: u64 = 0x60;
    pub(super) const ALL: u64 = 0x7f;
}
/// Bytes of `struct sched_attr`, in its first version and in that of these calls.
const ATTR_FIRST: u32 = 48;
const ATTR: u32 = 56;

/// The thread that a call names.
fn named(thread: &Thread, args: Args) -> Result<Hold<Task, Bare>, Errno> {
    if args.int(0) < 0 {
        return Err(Errno::EINVAL);
    }
    nice::task(thread, args.half(0))
}

/// What a call asks for.
struct Wish {
    /// None keeps what there is, and whether children have it.
    policy: Option<(u32, bool)>,
    level: u32,
    /// None keeps it.
    nice: Option<i32>,
}

/// Has `task` scheduled so, if the caller may.
fn set(thread: &Thread, task: &Task, wish: &Wish) -> Answer {
    let privileged = thread.task.process.can(capability::SYS_NICE);
    let is_his = nice::is_his(thread, task);
    let limit = task.process.limits.lock().get(resource::REAL_TIME).map_or(0, |limit| limit.soft);
    task.scheduled.change(|schedule| {
        let (policy, resets) = match wish.policy {
            None => (schedule.policy, schedule.resets),
            Some((number, resets)) => (Policy::new(number).ok_or(Errno::EINVAL)?, resets),
        };
        let level = wish.level;
        if level > HIGHEST || policy.is_real_time() != (level != 0) {
            return Err(Errno::EINVAL);
        }
        let nice = wish.nice.filter(|_| policy.is_nice()).unwrap_or(schedule.nice);
        let wants_more = match policy.is_real_time() {
            true => {
                policy != schedule.policy && limit == 0
                    || level > schedule.level && u64::from(level) > limit
            }
            false => {
                let leaves_idle = schedule.policy == Policy::Idle && policy != Policy::Idle;
                (nice < schedule.nice || leaves_idle) && !nice::is_allowed(task, nice)
            }
        };
        let wants_right = wants_more || !is_his || schedule.resets && !resets;
        if wants_right && !privileged {
            return Err(Errno::EPERM);
        }
        *schedule = Schedule { policy, nice, level, resets };
        Ok(())
    })?;
    Ok(0)
}

pub(super) fn sched_setscheduler(thread: &mut Thread, args: Args) -> Answer {
    let word = args.half(1);
    if args.int(1) < 0 {
        return Err(Errno::EINVAL);
    }
    set_level(thread, args, args.at(2), Some((word & !RESET_ON_FORK, word & RESET_ON_FORK != 0)))
}

pub(super) fn sched_setparam(thread: &mut Thread, args: Args) -> Answer {
    set_level(thread, args, args.at(1), None)
}

fn set_level(thread: &Thread, args: Args, at: VirtAddr, policy: Option<(u32, bool)>) -> Answer {
    if at.0 == 0 || args.int(0) < 0 {
        return Err(Errno::EINVAL);
    }
    let level = thread.user().half(at)?;
    let task = named(thread, args)?;
    set(thread, &task, &Wish { policy, level, nice: None })
}

pub(super) fn sched_getscheduler(thread: &mut Thread, args: Args) -> Answer {
    let schedule = named(thread, args)?.scheduled.get();
    let resets = if schedule.resets { RESET_ON_FORK } else { 0 };
    Ok(u64::from(schedule.policy as u32 | resets))
}

pub(super) fn sched_getparam(thread: &mut Thread, args: Args) -> Answer {
    if args.word(1) == 0 {
        return Err(Errno::EINVAL);
    }
    let schedule = named(thread, args)?.scheduled.get();
    thread.user().put_half(args.at(1), schedule.level)?;
    Ok(0)
}

pub(super) fn sched_setattr(thread: &mut Thread, args: Args) -> Answer {
    use attr_flags::{ALL, CLAMPS, KEEP_PARAMS, KEEP_POLICY, RESET_ON_FORK};
    if args.word(1) == 0 || args.int(0) < 0 || args.half(2) != 0 {
        return Err(Errno::EINVAL);
    }
    let Attr { policy, flags, nice, level } = read_attr(thread, args.at(1))?;
    if policy.cast_signed() < 0 {
        return Err(Errno::EINVAL);
    }
    let task = named(thread, args)?;
    let now = task.scheduled.get();
    let keeps = flags & KEEP_PARAMS != 0;
    if flags & !ALL != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & CLAMPS != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let wish = Wish {
        policy: (flags & KEEP_POLICY == 0).then_some((policy, flags & RESET_ON_FORK != 0)),
        level: if keeps { now.level } else { level },
        nice: (!keeps).then_some(nice.clamp(NICE.0, NICE.1)),
    };
    set(thread, &task, &wish)
}

/// What there is in a `struct sched_attr` for policies that are here.
struct Attr {
    policy: u32,
    flags: u64,
    nice: i32,
    level: u32,
}

fn read_attr(thread: &Thread, at: VirtAddr) -> Result<Attr, Errno> {
    let [bytes, policy] = halves(thread.user().word(at)?);
    let bytes = if bytes == 0 { ATTR_FIRST } else { bytes };
    let mut is_known = (ATTR_FIRST..=PAGE_SIZE as u32).contains(&bytes);
    if is_known {
        // What a later version has may be there, but not say anything.
        for offset in (ATTR..bytes).step_by(4) {
            is_known &= thread.user().half(at + u64::from(offset))? == 0;
        }
    }
    if !is_known {
        thread.user().put_half(at, ATTR)?;
        return Err(Errno::E2BIG);
    }
    let [flags, word] = thread.user().words(at + 8)?;
    let [nice, level] = halves(word);
    Ok(Attr { policy, flags, nice: nice.cast_signed(), level })
}

fn halves(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

pub(super) fn sched_getattr(thread: &mut Thread, args: Args) -> Answer {
    let bytes = args.half(2);
    let is_known = (ATTR_FIRST..=PAGE_SIZE as u32).contains(&bytes);
    if args.word(1) == 0 || args.int(0) < 0 || !is_known || args.half(3) != 0 {
        return Err(Errno::EINVAL);
    }
    let schedule = named(thread, args)?.scheduled.get();
    let bytes = bytes.min(ATTR);
    let mut attr = [0; ATTR as usize];
    let flags = if schedule.resets { attr_flags::RESET_ON_FORK } else { 0 };
    let nice = if schedule.policy.is_real_time() { 0 } else { schedule.nice };
    attr[0..4].copy_from_slice(&bytes.to_le_bytes());
    attr[4..8].copy_from_slice(&(schedule.policy as u32).to_le_bytes());
    attr[8..16].copy_from_slice(&flags.to_le_bytes());
    attr[16..20].copy_from_slice(&nice.to_le_bytes());
    attr[20..24].copy_from_slice(&schedule.level.to_le_bytes());
    thread.user().write(args.at(1), &attr[..bytes as usize])?;
    Ok(0)
}

/// The least and the highest level of a policy.
fn levels(args: Args) -> Result<(u32, u32), Errno> {
    /// Linux knows it, and it has no levels.
    const DEADLINE: u32 = 6;
    match Policy::new(args.half(0)) {
        Some(policy) if policy.is_real_time() => Ok((1, HIGHEST)),
        None if args.half(0) != DEADLINE => Err(Errno::EINVAL),
        _ => Ok((0, 0)),
    }
}

pub(super) fn sched_get_priority_max(_: &mut Thread, args: Args) -> Answer {
    Ok(levels(args)?.1.into())
}

pub(super) fn sched_get_priority_min(_: &mut Thread, args: Args) -> Answer {
    Ok(levels(args)?.0.into())
}

pub(super) fn sched_rr_get_interval(thread: &mut Thread, args: Args) -> Answer {
    let turn = match named(thread, args)?.scheduled.get().policy {
        Policy::Fifo => 0,
        _ => Bare::turn(),
    };
    time::put_time(thread, args.at(1), turn, 1)?;
    Ok(0)
}
