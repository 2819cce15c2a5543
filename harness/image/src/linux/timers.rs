//! Timers: alarm(2), setitimer(2), timer_create(2); one kernel thread sends what is due.
//!
//! Flow:  set -> listed -> the thread sleeps until the first is due -> a signal -> listed again, if it repeats.
//! Locks: one, for a look at the list.
//! Owns:  the list. Timers of CPU time count the time of day, which is never less.

use alloc::sync::Arc;
use alloc::vec::Vec;

use rumpvm::Hold;
use rumpvm::sync::{Atomic, Event, Ordering, Spin, try_push};
use rumpvm_bare::{Bare, Priority, Standing, calendar};
use rumpvm_files::Errno;

use super::class;
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
    /// It goes by the time of day.
    real: bool,
    /// Nanoseconds since the start.
    due: Option<u64>,
    interval: u64,
}

/// Between two signals of one timer, at least: others must come to their turn.
const LEAST: u64 = 100_000;
/// Timers that a process may make.
const MOST: usize = 256;

/// All timers.
pub(crate) struct Timers {
    list: Spin<Vec<Timer>, Bare>,
    changed: Event<Bare>,
    started: Atomic<u32, Bare>,
}

impl Timer {
    fn setting(&self) -> Setting {
        let now = calendar::since_start();
        // One that is just going off has a little left.
        let left = self.due.map_or(0, |due| due.saturating_sub(now).max(1));
        Setting { left, interval: self.interval }
    }
}

impl Timers {
    pub(crate) fn new() -> Self {
        let list = Spin::new(&class::TIMERS, Vec::new());
        Self { list, changed: Event::new(), started: Atomic::new(0) }
    }

    /// How a timer is set, if there is one.
    pub(crate) fn get(&self, process: &Process, kind: Kind) -> Option<Setting> {
        let list = self.list.lock();
        let found = list.iter().find(|timer| timer.is(process.pid(), kind));
        found.map(Timer::setting)
    }

    /// Sets a timer, which is made if it is an alarm; returns how it was set.
    pub(crate) fn set(
        &self,
        process: &Process,
        kind: Kind,
        setting: Setting,
    ) -> Result<Setting, Errno> {
        self.start()?;
        let now = calendar::since_start();
        let due = (setting.left > 0).then(|| now.saturating_add(setting.left));
        let mut list = self.list.lock();
        let found = list.iter_mut().find(|timer| timer.is(process.pid(), kind));
        let before = match found {
            Some(timer) => {
                let before = timer.setting();
                (timer.due, timer.interval) = (due, setting.interval);
                before
            }
            None if due.is_none() => Setting::default(),
            None => {
                let Kind::Alarm(signal) = kind else { return Err(Errno::EINVAL) };
                let timer = Timer {
                    process: process.pid(),
                    kind,
                    signal: Some(signal),
                    value: None,
                    task: None,
                    real: false,
                    due,
                    interval: setting.interval,
                };
                try_push::<_, Bare>(&mut list, timer)?;
                Setting::default()
            }
        };
        drop(list);
        self.changed.raise();
        Ok(before)
    }

    /// Makes a timer, which is not set yet; returns its number.
    pub(crate) fn make(
        &self,
        process: &Process,
        signal: Option<Signal>,
        value: Option<u64>,
        task: Option<u32>,
        real: bool,
    ) -> Result<u32, Errno> {
        let mut list = self.list.lock();
        let pid = process.pid();
        if list.iter().filter(|timer| timer.process == pid).count() >= MOST {
            return Err(Errno::EAGAIN);
        }
        let is_free = |id: &u32| !list.iter().any(|timer| timer.is(pid, Kind::Made(*id)));
        let id = (0..).find(is_free).ok_or(Errno::EAGAIN)?;
        // Without a value of the program's own it finds the number there.
        let value = Some(value.unwrap_or(u64::from(id)));
        let kind = Kind::Made(id);
        let timer = Timer { process: pid, kind, signal, value, task, real, due: None, interval: 0 };
        try_push::<_, Bare>(&mut list, timer)?;
        Ok(id)
    }

    /// Whether a timer that was made goes by the time of day.
    pub(crate) fn is_real(&self, process: &Process, id: u32) -> Result<bool, Errno> {
        let list = self.list.lock();
        let found = list.iter().find(|timer| timer.is(process.pid(), Kind::Made(id)));
        found.map(|timer| timer.real).ok_or(Errno::EINVAL)
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
        let is_alarm = |timer: &Timer| matches!(timer.kind, Kind::Alarm(_));
        self.list.lock().retain(|timer| timer.process != process || is_alarm(timer));
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
            while let Some((process, info, task)) = self.take_due() {
                if let (Some(process), Some(info)) = (system().find(process), info) {
                    send_due(&process, info, task);
                }
            }
            let next = self.list.lock().iter().filter_map(|timer| timer.due).min();
            self.changed.wait_until(seen, next);
        }
    }

    /// One that is due, and what is to be sent, if anything.
    fn take_due(&self) -> Option<(u32, Option<Info>, Option<u32>)> {
        let now = calendar::since_start();
        let mut list = self.list.lock();
        let is_due = |timer: &&mut Timer| timer.due.is_some_and(|due| due <= now);
        let timer = list.iter_mut().find(is_due)?;
        let due = timer.due.take()?;
        if let Some(missed) = (now - due).checked_div(timer.interval) {
            // Those that were missed are not made up for.
            let next = due.saturating_add((missed + 1).saturating_mul(timer.interval));
            timer.due = Some(next.max(now + LEAST));
        }
        let info = timer.signal.map(|signal| match (timer.kind, timer.value) {
            (Kind::Made(id), Some(value)) => {
                let fields = [u64::from(id), value, 0, 0];
                Info { code: code::TIMER, fields, ..Info::kernel(signal) }
            }
            _ => Info::kernel(signal),
        });
        Some((timer.process, info, timer.task))
    }
}

impl Timer {
    fn is(&self, process: u32, kind: Kind) -> bool {
        self.process == process && self.kind == kind
    }
}

/// Who finds no room for one more signal has enough of them.
fn send_due(process: &Hold<Process, Bare>, info: Info, task: Option<u32>) {
    match task {
        None => send::to_process(process, info).ok(),
        Some(number) => process.task(number).and_then(|task| send::to_task(&task, info).ok()),
    };
}
