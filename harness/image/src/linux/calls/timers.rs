//! Timers: alarm(2), setitimer(2), timer_create(2) and their kind.

use rumpvm_arch::VirtAddr;
use rumpvm_files::Errno;

use super::time::{MICROSECOND, SECOND, Whose, clock, get_time, put_time, read_clock, whose};
use super::{Answer, Args};
use crate::linux::signal::Signal;
use crate::linux::system::system;
use crate::linux::thread::Thread;
use crate::linux::timers::{Kind, Measure, Setting, Wish};

fn kind(number: i32) -> Result<Kind, Errno> {
    Ok(match number {
        0 => Kind::Alarm(Signal::ALRM),
        1 => Kind::Alarm(Signal::VTALRM),
        2 => Kind::Alarm(Signal::PROF),
        _ => return Err(Errno::EINVAL),
    })
}

fn put_setting(thread: &Thread, at: VirtAddr, setting: Setting, unit: u64) -> Result<(), Errno> {
    put_time(thread, at, setting.interval, unit)?;
    put_time(thread, VirtAddr(at.0.saturating_add(16)), setting.left, unit)
}

fn get_setting(thread: &Thread, at: VirtAddr, unit: u64) -> Result<Setting, Errno> {
    let interval = get_time(thread, at, unit)?;
    let left = get_time(thread, VirtAddr(at.0.saturating_add(16)), unit)?;
    Ok(Setting { left, interval })
}

pub(super) fn alarm(thread: &mut Thread, args: Args) -> Answer {
    let left = u64::from(args.half(0)) * SECOND;
    let process = &thread.task.process;
    let kind = Kind::Alarm(Signal::ALRM);
    let before = system().timers.set(process, kind, Setting { left, interval: 0 })?;
    // A part of a second that is left counts as one.
    Ok(before.left.div_ceil(SECOND))
}

pub(super) fn getitimer(thread: &mut Thread, args: Args) -> Answer {
    let kind = kind(args.int(0))?;
    let setting = system().timers.get(&thread.task.process, kind).unwrap_or_default();
    put_setting(thread, args.at(1), setting, MICROSECOND)?;
    Ok(0)
}

pub(super) fn setitimer(thread: &mut Thread, args: Args) -> Answer {
    let kind = kind(args.int(0))?;
    let setting = match args.word(1) {
        0 => Setting::default(),
        _ => get_setting(thread, args.at(1), MICROSECOND)?,
    };
    let before = system().timers.set(&thread.task.process, kind, setting)?;
    if args.word(2) != 0 {
        put_setting(thread, args.at(2), before, MICROSECOND)?;
    }
    Ok(0)
}

/// What a timer of that clock goes by.
fn measure(thread: &Thread, number: i32) -> Result<Measure, Errno> {
    read_clock(thread, number)?;
    Ok(match number {
        clock::REALTIME | clock::REALTIME_COARSE | clock::TAI => Measure::Day,
        clock::PROCESS => Measure::Process(thread.task.process.pid()),
        clock::THREAD => Measure::Task(thread.number()),
        number if number >= 0 => Measure::Time,
        number => match whose(thread, number)? {
            Whose::Process(pid) => Measure::Process(pid),
            Whose::Task(number) => Measure::Task(number),
        },
    })
}

pub(super) fn timer_create(thread: &mut Thread, args: Args) -> Answer {
    /// `SIGEV_SIGNAL`, `SIGEV_NONE`, `SIGEV_THREAD_ID`.
    const SIGNAL: u32 = 0;
    const NONE: u32 = 1;
    const THREAD: u32 = 4;
    let measure = measure(thread, args.int(0))?;
    let (mut signal, mut value, mut task) = (Some(Signal::ALRM), None, None);
    if args.word(1) != 0 {
        let [given, word, number] = thread.user().words(args.at(1))?;
        value = Some(given);
        let chosen = Signal::new(word & 0xffff_ffff);
        match (word >> 32) as u32 {
            NONE => signal = None,
            SIGNAL => signal = Some(chosen.ok_or(Errno::EINVAL)?),
            THREAD => {
                signal = Some(chosen.ok_or(Errno::EINVAL)?);
                let number = number as u32;
                thread.task.process.task(number).ok_or(Errno::EINVAL)?;
                task = Some(number);
            }
            _ => return Err(Errno::EINVAL),
        }
    }
    let timers = &system().timers;
    let id = timers.make(&thread.task.process, Wish { signal, value, task, measure })?;
    if let Err(error) = thread.user().put_half(args.at(2), id) {
        timers.delete(&thread.task.process, id).ok();
        return Err(error);
    }
    Ok(0)
}

pub(super) fn timer_settime(thread: &mut Thread, args: Args) -> Answer {
    const ABSOLUTE: u32 = 1;
    let (process, id) = (thread.task.process.clone(), args.half(0));
    let mut setting = get_setting(thread, args.at(2), 1)?;
    let timers = &system().timers;
    if args.half(1) & ABSOLUTE != 0 && setting.left != 0 {
        let measure = timers.measure(&process, Kind::Made(id)).ok_or(Errno::EINVAL)?;
        setting.left = setting.left.saturating_sub(measure.shown()).max(1);
    }
    timers.get(&process, Kind::Made(id)).ok_or(Errno::EINVAL)?;
    let before = timers.set(&process, Kind::Made(id), setting)?;
    if args.word(3) != 0 {
        put_setting(thread, args.at(3), before, 1)?;
    }
    Ok(0)
}

pub(super) fn timer_gettime(thread: &mut Thread, args: Args) -> Answer {
    let setting = system().timers.get(&thread.task.process, Kind::Made(args.half(0)));
    put_setting(thread, args.at(1), setting.ok_or(Errno::EINVAL)?, 1)?;
    Ok(0)
}

pub(super) fn timer_getoverrun(thread: &mut Thread, args: Args) -> Answer {
    system().timers.overrun(&thread.task.process, args.half(0)).ok_or(Errno::EINVAL)
}

pub(super) fn timer_delete(thread: &mut Thread, args: Args) -> Answer {
    system().timers.delete(&thread.task.process, args.half(0))?;
    Ok(0)
}
