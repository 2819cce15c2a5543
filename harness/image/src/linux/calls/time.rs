//! Time: clocks, sleeps, and what has been used.

use rumpvm_arch::VirtAddr;
use rumpvm_bare::{Bare, calendar};
use rumpvm_files::{Errno, wait};

use super::{Answer, Args};
use crate::linux::system::system;
use crate::linux::thread::Thread;
use crate::linux::usage::Used;

pub(super) const SECOND: u64 = 1_000_000_000;
pub(super) const MICROSECOND: u64 = 1_000;

/// Clocks.
pub(super) mod clock {
    pub(in crate::linux::calls) const REALTIME: i32 = 0;
    pub(in crate::linux::calls) const MONOTONIC: i32 = 1;
    pub(in crate::linux::calls) const PROCESS: i32 = 2;
    pub(in crate::linux::calls) const THREAD: i32 = 3;
    pub(in crate::linux::calls) const MONOTONIC_RAW: i32 = 4;
    pub(in crate::linux::calls) const REALTIME_COARSE: i32 = 5;
    pub(in crate::linux::calls) const MONOTONIC_COARSE: i32 = 6;
    pub(in crate::linux::calls) const BOOTTIME: i32 = 7;
    pub(in crate::linux::calls) const TAI: i32 = 11;
}

/// Nanoseconds of a clock.
pub(super) fn read_clock(thread: &Thread, number: i32) -> Result<u64, Errno> {
    Ok(match number {
        clock::REALTIME | clock::REALTIME_COARSE | clock::TAI => calendar::now(),
        clock::MONOTONIC | clock::MONOTONIC_RAW | clock::MONOTONIC_COARSE | clock::BOOTTIME => {
            calendar::since_start()
        }
        clock::THREAD => Bare::thread_time(),
        clock::PROCESS => thread.task.process.used().nanoseconds,
        number if number < 0 => read_clock_of(thread, number)?,
        _ => return Err(Errno::EINVAL),
    })
}

/// Whose CPU time a clock counts.
pub(super) enum Whose {
    Process(u32),
    /// One of the caller's own process.
    Task(u32),
}

/// Whose clock it is by a number that has theirs in the upper bits, turned, and then what they are.
pub(super) fn whose(thread: &Thread, number: i32) -> Result<Whose, Errno> {
    const OF_THREAD: i32 = 4;
    /// The two lowest bits say which times count; all do in each. Both together are a device.
    const DEVICE: i32 = 3;
    if number & DEVICE == DEVICE {
        return Err(Errno::EINVAL);
    }
    Ok(match (!(number >> 3)).cast_unsigned() {
        0 if number & OF_THREAD != 0 => Whose::Task(thread.number()),
        0 => Whose::Process(thread.task.process.pid()),
        number_of_it if number & OF_THREAD != 0 => Whose::Task(number_of_it),
        pid => Whose::Process(pid),
    })
}

fn read_clock_of(thread: &Thread, number: i32) -> Result<u64, Errno> {
    let time = match whose(thread, number)? {
        Whose::Process(pid) => system().find(pid).map(|process| process.used().nanoseconds),
        Whose::Task(number) => thread.task.process.task(number).map(|task| task.time()),
    };
    time.ok_or(Errno::EINVAL)
}

pub(super) fn put_time(
    thread: &Thread,
    at: VirtAddr,
    nanoseconds: u64,
    unit: u64,
) -> Result<(), Errno> {
    thread.user().put_words(at, &[nanoseconds / SECOND, nanoseconds % SECOND / unit])
}

/// Nanoseconds of a `timespec` or, by its unit, a `timeval`. Times that nobody lives to see are all the same.
pub(super) fn get_time(thread: &Thread, at: VirtAddr, unit: u64) -> Result<u64, Errno> {
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
    process.used()
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
