//! Timers: alarm(2), setitimer(2), timer_create(2), the limit of CPU time; one kernel thread sends what is due.
//!
//! Flow:  set -> listed -> the thread sleeps until the first can be due -> looks at its clock -> a signal -> listed
//!        again, if it repeats or is not due yet.
//! Locks: one, for a look at the list.
//! Owns:  the list. CPU time is not told when it has passed: whoever may have spent it is looked at when he could have, were
//!        all CPUs his, and then again.

use alloc::sync::Arc;
use alloc::vec::Vec;

use rumpvm::Hold;
use rumpvm::sync::{Atomic, Event, Ordering, Spin, try_push};
use rumpvm_bare::{Bare, Priority, Standing, calendar};
use rumpvm_files::Errno;
use rumpvm_platform::Platform;

use super::class;
use super::limits::resource;
use super::process::Process;
use super::signal::{Info, Signal, code, send};
use super::system::system;

/// Which timer of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// The one that sends this signal.
    Alarm(Signal),
    /// One that was made.
    Made(u32),
    /// That of the CPU time that it may spend (`RLIMIT_CPU`).
    Limit,
}

/// What a timer goes by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Measure {
    /// The time since the start.
    Time,
    /// The time of day.
    Day,
    /// CPU time of a process.
    Process(u32),
    /// CPU time of a thread.
    Task(u32),
}

/// When it goes off, and then again: nanoseconds from now, or 0 for never.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Setting {
    pub(crate) left: u64,
    pub(crate) interval: u64,
}

struct Timer {
    process: u32,
    kind: Kind,
    signal: Option<Signal>,
    /// What the program wants to find in the signal.
    value: Option<u64>,
    /// The thread that gets it; the process otherwise.
    task: Option<u32>,
    measure: Measure,
    /// On its clock.
    due: Option<u64>,
    /// When it is looked at, in nanoseconds since the start.
    look: Option<u64>,
    interval: u64,
    /// How often it had gone off since, when its signal was delivered last.
    overrun: u64,
}

/// What a new timer is to do.
pub(crate) struct Wish {
    /// Nothing is sent without one.
    pub(crate) signal: Option<Signal>,
    /// What the program wants to find in it; the timer's number otherwise.
    pub(crate) value: Option<u64>,
    /// The thread that gets it; the process otherwise.
    pub(crate) task: Option<u32>,
    pub(crate) measure: Measure,
}

/// Between two signals of one timer, at least: others must come to their turn.
const LEAST: u64 = 100_000;
/// Between two looks at CPU time, at least: as long as a tick of Linux.
const TICK: u64 = 4_000_000;
const SECOND: u64 = 1_000_000_000;
/// Timers that a process may make.
const MOST: usize = 256;

/// All timers.
pub(crate) struct Timers {
    list: Spin<Vec<Timer>, Bare>,
    changed: Event<Bare>,
    started: Atomic<u32, Bare>,
}

impl Measure {
    /// What a process's alarm with that signal goes by.
    fn of_alarm(process: &Process, signal: Signal) -> Self {
        if signal == Signal::ALRM { Self::Time } else { Self::Process(process.pid()) }
    }

    /// The clock that due times are noted by; the time of day is a sum.
    fn now(self) -> Option<u64> {
        match self {
            Self::Time | Self::Day => Some(calendar::since_start()),
            Self::Process(pid) => Some(system().find(pid)?.used().nanoseconds),
            Self::Task(number) => Some(system().find_task(number)?.time()),
        }
    }

    /// The same as programs see it.
    pub(crate) fn shown(self) -> u64 {
        if self == Self::Day { calendar::now() } else { self.now().unwrap_or(0) }
    }

    /// When so much can have passed, since the start.
    fn look_after(self, left: u64) -> u64 {
        let wait = match self {
            Self::Time | Self::Day => left,
            Self::Process(_) => (left / Bare.cpu_count() as u64).max(TICK),
            Self::Task(_) => left.max(TICK),
        };
        calendar::since_start().saturating_add(wait)
    }
}

impl Timers {
    pub(crate) fn new() -> Self {
        let list = Spin::new(&class::TIMERS, Vec::new());
        Self { list, changed: Event::new(), started: Atomic::new(0) }
    }

    /// What a timer goes by, if there is one.
    pub(crate) fn measure(&self, process: &Process, kind: Kind) -> Option<Measure> {
        let list = self.list.lock();
        list.iter().find(|timer| timer.is(process.pid(), kind)).map(|timer| timer.measure)
    }

    /// How a timer is set, if there is one.
    pub(crate) fn get(&self, process: &Process, kind: Kind) -> Option<Setting> {
        let now = self.measure(process, kind)?.now().unwrap_or(0);
        let list = self.list.lock();
        let found = list.iter().find(|timer| timer.is(process.pid(), kind));
        found.map(|timer| timer.setting(now))
    }

    /// Sets a timer, which is made if it is an alarm; returns how it was set.
    pub(crate) fn set(
        &self,
        process: &Process,
        kind: Kind,
        setting: Setting,
    ) -> Result<Setting, Errno> {
        self.start()?;
        let usual = match kind {
            Kind::Alarm(signal) => Some(Measure::of_alarm(process, signal)),
            Kind::Limit => Some(Measure::Process(process.pid())),
            Kind::Made(_) => None,
        };
        let measure = usual.or_else(|| self.measure(process, kind)).ok_or(Errno::EINVAL)?;
        let now = measure.now().unwrap_or(0);
        let due = (setting.left > 0).then(|| now.saturating_add(setting.left));
        let look = due.map(|_| measure.look_after(setting.left));
        let mut list = self.list.lock();
        let found = list.iter_mut().find(|timer| timer.is(process.pid(), kind));
        let before = match found {
            Some(timer) => {
                let before = timer.setting(now);
                (timer.due, timer.look, timer.interval) = (due, look, setting.interval);
                before
            }
            None if due.is_none() => Setting::default(),
            None => {
                let signal = if let Kind::Alarm(signal) = kind { Some(signal) } else { None };
                let (process, interval) = (process.pid(), setting.interval);
                let wish = Wish { signal, value: None, task: None, measure };
                let timer = Timer { due, look, interval, ..Timer::new(process, kind, wish) };
                try_push::<_, Bare>(&mut list, timer)?;
                Setting::default()
            }
        };
        drop(list);
        self.changed.raise();
        Ok(before)
    }

    /// The process may spend so many seconds of CPU time: it is told every second from then on, until it may not live on.
    pub(crate) fn limit(&self, process: &Process, seconds: u64) -> Result<(), Errno> {
        let at = seconds.max(1).saturating_mul(SECOND);
        let left = at.saturating_sub(process.used().nanoseconds).max(1);
        let left = if seconds == u64::MAX { 0 } else { left };
        self.set(process, Kind::Limit, Setting { left, interval: SECOND }).map(|_| ())
    }

    /// Makes a timer, which is not set yet; returns its number.
    pub(crate) fn make(&self, process: &Process, wish: Wish) -> Result<u32, Errno> {
        let mut list = self.list.lock();
        let pid = process.pid();
        if list.iter().filter(|timer| timer.process == pid).count() >= MOST {
            return Err(Errno::EAGAIN);
        }
        let is_free = |id: &u32| !list.iter().any(|timer| timer.is(pid, Kind::Made(*id)));
        let id = (0..).find(is_free).ok_or(Errno::EAGAIN)?;
        // Without a value of the program's own it finds the number there.
        let value = Some(wish.value.unwrap_or(u64::from(id)));
        let timer = Timer::new(pid, Kind::Made(id), Wish { value, ..wish });
        try_push::<_, Bare>(&mut list, timer)?;
        Ok(id)
    }

    /// How often a timer that was made had gone off besides when its signal was delivered last.
    pub(crate) fn overrun(&self, process: &Process, id: u32) -> Option<u64> {
        let list = self.list.lock();
        let found = list.iter().find(|timer| timer.is(process.pid(), Kind::Made(id)));
        found.map(|timer| timer.overrun.min(i32::MAX as u64))
    }

    /// The signal of a timer is delivered, and says how often that went off besides.
    pub(crate) fn delivered(&self, process: &Process, info: &Info) {
        let (id, overrun) = (info.fields[0] as u32, info.fields[0] >> 32);
        let mut list = self.list.lock();
        if let Some(timer) = list.iter_mut().find(|timer| timer.is(process.pid(), Kind::Made(id))) {
            timer.overrun = overrun;
        }
    }

    /// Ends a timer that was made.
    pub(crate) fn delete(&self, process: &Process, id: u32) -> Result<(), Errno> {
        let mut list = self.list.lock();
        let at = list.iter().position(|timer| timer.is(process.pid(), Kind::Made(id)));
        list.swap_remove(at.ok_or(Errno::EINVAL)?);
        Ok(())
    }

    /// Ends those that were made: the process becomes another program.
    pub(crate) fn forget_made(&self, process: u32) {
        let is_made = |timer: &Timer| matches!(timer.kind, Kind::Made(_));
        self.list.lock().retain(|timer| timer.process != process || !is_made(timer));
    }

    /// Ends all timers of a process.
    pub(crate) fn forget_process(&self, process: u32) {
        self.list.lock().retain(|timer| timer.process != process);
    }

    /// A thread has ended: its timers tell nobody.
    pub(crate) fn forget_task(&self, task: u32) {
        for timer in &mut *self.list.lock() {
            if timer.task == Some(task) {
                timer.signal = None;
            }
        }
    }

    /// Starts the thread, if that has not been done.
    fn start(&self) -> Result<(), Errno> {
        if self.started.load(Ordering::Acquire) != 0
            || self.started.compare_exchange(0, 1, Ordering::AcqRel).is_err()
        {
            return Ok(());
        }
        // It stands for the interrupts that send signals on Linux.
        let before_all = Arc::new(Standing::new(Priority::INTERRUPT));
        Bare::spawn_with(None, before_all, || system().timers.serve()).map_err(|_| {
            self.started.store(0, Ordering::Release);
            Errno::EAGAIN
        })
    }

    /// The thread.
    fn serve(&self) {
        loop {
            let seen = self.changed.seen();
            while let Some((pid, kind, measure)) = self.take_look() {
                let Some(process) = system().find(pid) else { continue };
                let Some(now) = measure.now() else { continue };
                match self.take_due(pid, kind, now) {
                    Some(Due::Signal(info, task)) => send_due(&process, info, task),
                    Some(Due::Limit) => enforce_limit(&process, now),
                    None => {}
                }
            }
            let next = self.list.lock().iter().filter_map(|timer| timer.look).min();
            self.changed.wait_until(seen, next);
        }
    }

    /// One that is to be looked at.
    fn take_look(&self) -> Option<(u32, Kind, Measure)> {
        let now = calendar::since_start();
        let mut list = self.list.lock();
        let timer = list.iter_mut().find(|timer| timer.look.is_some_and(|look| look <= now))?;
        timer.look = None;
        Some((timer.process, timer.kind, timer.measure))
    }

    /// What is to be sent for that timer at `now` on its clock, if it is due, and nobody has set it since.
    fn take_due(&self, pid: u32, kind: Kind, now: u64) -> Option<Due> {
        let mut list = self.list.lock();
        let timer = list.iter_mut().find(|timer| timer.is(pid, kind) && timer.look.is_none())?;
        let due = timer.due?;
        if due > now {
            timer.look = Some(timer.measure.look_after(due - now));
            return None;
        }
        timer.due = None;
        let missed = (now - due).checked_div(timer.interval);
        if let Some(missed) = missed {
            // Those that were missed are told of, not made up for.
            let next = due.saturating_add((missed + 1).saturating_mul(timer.interval));
            let next = next.max(now + LEAST);
            (timer.due, timer.look) = (Some(next), Some(timer.measure.look_after(next - now)));
        }
        if timer.kind == Kind::Limit {
            return Some(Due::Limit);
        }
        let signal = timer.signal?;
        let info = match (timer.kind, timer.value) {
            (Kind::Made(id), Some(value)) => {
                let missed = missed.unwrap_or(0).min(i32::MAX as u64);
                let fields = [u64::from(id) | missed << 32, value, 0, 0];
                Info { code: code::TIMER, fields, ..Info::kernel(signal) }
            }
            _ => Info::kernel(signal),
        };
        Some(Due::Signal(info, timer.task))
    }
}

/// What a timer that is due asks for.
enum Due {
    Signal(Info, Option<u32>),
    Limit,
}

impl Timer {
    fn new(process: u32, kind: Kind, wish: Wish) -> Self {
        let Wish { signal, value, task, measure } = wish;
        let (due, look, interval, overrun) = (None, None, 0, 0);
        Self { process, kind, signal, value, task, measure, due, look, interval, overrun }
    }

    fn is(&self, process: u32, kind: Kind) -> bool {
        self.process == process && self.kind == kind
    }

    /// How it is set at `now` on its clock.
    fn setting(&self, now: u64) -> Setting {
        // One that is just going off has a little left.
        let left = self.due.map_or(0, |due| due.saturating_sub(now).max(1));
        Setting { left, interval: self.interval }
    }
}

/// Who finds no room for one more signal has enough of them.
fn send_due(process: &Hold<Process, Bare>, info: Info, task: Option<u32>) {
    match task {
        None => send::to_process(process, info).ok(),
        Some(number) => process.task(number).and_then(|task| send::to_task(&task, info).ok()),
    };
}

/// A process has spent `used` of CPU time, and is not to.
fn enforce_limit(process: &Hold<Process, Bare>, used: u64) {
    let limit = process.limits.lock().get(resource::CPU);
    let is_over = limit.is_some_and(|limit| used >= limit.hard.saturating_mul(SECOND));
    let signal = if is_over { Signal::KILL } else { Signal::XCPU };
    send::to_process(process, Info::kernel(signal)).ok();
}
