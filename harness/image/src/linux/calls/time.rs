//! Time: clocks, sleeps, timers, and what has been used.

use rumpvm_arch::VirtAddr;
use rumpvm_bare::{Bare, calendar};
use rumpvm_files::{Errno, wait};

use super::{Answer, Args};
use crate::linux::signal::Signal;
use crate::linux::system::system;
use crate::linux::thread::Thread;
use crate::linux::timers::{Kind, Setting};
use crate::linux::usage::Used;

const SECOND: u64 = 1_000_000_000;
const MICROSECOND: u64 = 1_000;

/// Clocks.
mod clock {
    pub(super) const REALTIME: i32 = 0;
    pub(super) const MONOTONIC: i32 = 1;
    pub(super) const PROCESS: i32 = 2;
    pub(super) const THREAD: i32 = 3;
    pub(super) const MONOTONIC_RAW: i32 = 4;
    pub(super) const REALTIME_COARSE: i32 = 5;
    pub(super) const MONOTONIC_COARSE: i32 = 6;
    pub(super) const BOOTTIME: i32 = 7;
    pub(super) const TAI: i32 = 11;
}

/// Nanoseconds of a clock.
fn read_clock(thread: &Thread, number: i32) -> Result<u64, Errno> {
    Ok(match number {
        clock::REALTIME | clock::REALTIME_COARSE | clock::TAI => calendar::now(),
        clock::MONOTONIC | clock::MONOTONIC_RAW | clock::MONOTONIC_COARSE | clock::BOOTTIME => {
            calendar::since_start()
        }
        clock::THREAD => Bare::thread_time(),
        clock::PROCESS => thread.task.process.usage.own().nanoseconds + Bare::thread_time(),
        // A process or thread by its number, in the upper bits, which are turned.
        number if number < 0 => {
            let pid = !(number >> 3);
            if pid == 0 {
                return read_clock(thread, clock::PROCESS);
            }
            let process = system().find(pid.cast_unsigned()).ok_or(Errno::EINVAL)?;
            process.usage.own().nanoseconds
        }
        _ => return Err(Errno::EINVAL),
    })
}

fn put_time(thread: &Thread, at: VirtAddr, nanoseconds: u64, unit: u64) -> Result<(), Errno> {
    thread.user().put_words(at, &[nanoseconds / SECOND, nanoseconds % SECOND / unit])
}

/// Nanoseconds of a `timespec` or, by its unit, a `timeval`. Times that nobody lives to see are all the same.
fn get_time(thread: &Thread, at: VirtAddr, unit: u64) -> Result<u64, Errno> {
    let [seconds, rest] = thread.user().words(at)?;
    if seconds > i64::MAX as u64 || rest >= SECOND / unit {
        return Err(Errno::EINVAL);
    }
    Ok(seconds.saturating_mul(SECOND).saturating_add(rest * unit).min(i64::MAX as u64))
}

/// When the `timespec` at `at` will have passed; none if there is none.
pub(super) fn deadline_at(thread: &Thread, at: VirtAddr) -> Result<Option<u64>, Errno> {
    if at.0 == 0 {
        return Ok(None);
    }
    Ok(Some(calendar::since_start().saturating_add(get_time(thread, at, 1)?)))
}

/// The same of a `timeval`.
pub(super) fn deadline_at_micro(thread: &Thread, at: VirtAddr) -> Result<Option<u64>, Errno> {
    if at.0 == 0 {
        return Ok(None);
    }
    // Select(2) takes more microseconds than a second has.
    let [seconds, rest] = thread.user().words(at)?;
    if seconds > i64::MAX as u64 || rest > i64::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    let time = seconds.saturating_mul(SECOND).saturating_add(rest.saturating_mul(MICROSECOND));
    Ok(Some(calendar::since_start().saturating_add(time)))
}

/// The moment at `at` on `CLOCK_MONOTONIC` or, if `real`, on `CLOCK_REALTIME`.
pub(super) fn moment_at(thread: &Thread, at: VirtAddr, real: bool) -> Result<u64, Errno> {
    let moment = get_time(thread, at, 1)?;
    let offset = if real { calendar::now() - calendar::since_start() } else { 0 };
    Ok(moment.saturating_sub(offset))
}

/// Stores what is left until `until`.
pub(super) fn put_left(thread: &Thread, at: VirtAddr, until: u64, unit: u64) -> Result<(), Errno> {
    put_time(thread, at, until.saturating_sub(calendar::since_start()), unit)
}

pub(super) fn clock_gettime(thread: &mut Thread, args: Args) -> Answer {
    let now = read_clock(thread, args.int(0))?;
    put_time(thread, args.at(1), now, 1)?;
    Ok(0)
}

pub(super) fn clock_getres(thread: &mut Thread, args: Args) -> Answer {
    read_clock(thread, args.int(0))?;
    if args.word(1) != 0 {
        put_time(thread, args.at(1), 1, 1)?;
    }
    Ok(0)
}

pub(super) fn set_clock(_: &mut Thread, _: Args) -> Answer {
    // What the time of day is says the machine.
    Err(Errno::EPERM)
}

pub(super) fn gettimeofday(thread: &mut Thread, args: Args) -> Answer {
    if args.word(0) != 0 {
        put_time(thread, args.at(0), calendar::now(), MICROSECOND)?;
    }
    if args.word(1) != 0 {
        thread.user().put_words(args.at(1), &[0])?;
    }
    Ok(0)
}

pub(super) fn time(thread: &mut Thread, args: Args) -> Answer {
    let now = calendar::now() / SECOND;
    if args.word(0) != 0 {
        thread.user().put_words(args.at(0), &[now])?;
    }
    Ok(now)
}

pub(super) fn nanosleep(thread: &mut Thread, args: Args) -> Answer {
    let time = get_time(thread, args.at(0), 1)?;
    sleep(thread, calendar::since_start().saturating_add(time), args.at(1))
}

pub(super) fn clock_nanosleep(thread: &mut Thread, args: Args) -> Answer {
    const ABSOLUTE: u32 = 1;
    let number = args.int(0);
    if number == clock::THREAD {
        return Err(Errno::EINVAL);
    }
    read_clock(thread, number)?;
    if args.half(1) & ABSOLUTE == 0 {
        let time = get_time(thread, args.at(2), 1)?;
        return sleep(thread, calendar::since_start().saturating_add(time), args.at(3));
    }
    let real = matches!(number, clock::REALTIME | clock::REALTIME_COARSE | clock::TAI);
    let until = moment_at(thread, args.at(2), real)?;
    sleep(thread, until, VirtAddr(0))
}

/// Sleeps until `until`; a sleep that is made once more ends when the first one was to end.
fn sleep(thread: &mut Thread, until: u64, left_at: VirtAddr) -> Answer {
    let until = thread.sleeps_until.take().unwrap_or(until);
    match wait(&thread.task.waker, &[], Some(until), || None::<()>) {
        Err(Errno::EINTR) => {
            if left_at.0 != 0 {
                put_left(thread, left_at, until, 1)?;
            }
            thread.sleeps_until = Some(until);
            Err(Errno::EINTR)
        }
        Err(Errno::ETIMEDOUT) | Ok(()) => Ok(0),
        Err(error) => Err(error),
    }
}

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

/// `struct rusage`. All time counts as the program's own.
pub(super) fn usage_bytes(used: Used) -> [u8; 144] {
    let mut bytes = [0; 144];
    let mut put = |at: usize, word: u64| bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
    put(0, used.nanoseconds / SECOND);
    put(8, used.nanoseconds % SECOND / MICROSECOND);
    // KiB; then faults without, and with, reading.
    put(32, used.largest * 4);
    put(64, used.faults);
    bytes
}

/// What the calling thread's process has used up to now.
fn own(thread: &Thread) -> Used {
    let process = &thread.task.process;
    process.usage.note_pages(thread.space().resident_pages(&system().kernel.vm));
    let mut used = process.usage.own();
    used.nanoseconds += Bare::thread_time();
    used
}

pub(super) fn getrusage(thread: &mut Thread, args: Args) -> Answer {
    let used = match args.int(0) {
        0 => own(thread),
        -1 => thread.task.process.usage.children(),
        1 => Used { nanoseconds: Bare::thread_time(), ..Used::default() },
        _ => return Err(Errno::EINVAL),
    };
    thread.user().write(args.at(1), &usage_bytes(used))?;
    Ok(0)
}

pub(super) fn times(thread: &mut Thread, args: Args) -> Answer {
    const TICK: u64 = SECOND / 100;
    let children = thread.task.process.usage.children();
    if args.word(0) != 0 {
        let words = [own(thread).nanoseconds / TICK, 0, children.nanoseconds / TICK, 0];
        thread.user().put_words(args.at(0), &words)?;
    }
    Ok(calendar::since_start() / TICK)
}

pub(super) fn timer_create(thread: &mut Thread, args: Args) -> Answer {
    /// `SIGEV_SIGNAL`, `SIGEV_NONE`, `SIGEV_THREAD_ID`.
    const SIGNAL: u32 = 0;
    const NONE: u32 = 1;
    const THREAD: u32 = 4;
    read_clock(thread, args.int(0))?;
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
    let real = args.int(0) == clock::REALTIME;
    let timers = &system().timers;
    let id = timers.make(&thread.task.process, signal, value, task, real)?;
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
        let real = timers.is_real(&process, id)?;
        let offset = if real { calendar::now() } else { calendar::since_start() };
        setting.left = setting.left.saturating_sub(offset).max(1);
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
    let setting = system().timers.get(&thread.task.process, Kind::Made(args.half(0)));
    setting.map(|_| 0).ok_or(Errno::EINVAL)
}

pub(super) fn timer_delete(thread: &mut Thread, args: Args) -> Answer {
    system().timers.delete(&thread.task.process, args.half(0))?;
    Ok(0)
}
