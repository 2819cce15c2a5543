//! Stopped processes, for job control.
//!
//! Flow:  SIGTSTP and its like -> [`stop`] -> each thread stays in [`stay`] at its next look -> SIGCONT -> [`resume`].
//! Locks: none but the wait queue's.

use rumpvm::sync::Ordering;
use rumpvm_files::wait;

use super::{Info, Signal, actions, send};
use crate::linux::process::{Process, Report};
use crate::linux::system::system;
use crate::linux::thread::Thread;

/// `CLD_STOPPED`, `CLD_CONTINUED`.
const STOPPED: i32 = 5;
const CONTINUED: i32 = 6;

/// Stops every thread of `process`, and tells its parent.
pub(crate) fn stop(process: &Process, signal: Signal) {
    process.stopped.store(signal.number(), Ordering::SeqCst);
    process.report.store(Report::Stopped as u32, Ordering::SeqCst);
    process.for_each_task(|task| task.interrupt());
    tell_parent(process, STOPPED, signal);
}

/// Lets them go on.
pub(crate) fn resume(process: &Process) {
    if process.stopped.swap(0, Ordering::SeqCst) == 0 {
        return;
    }
    process.report.store(Report::Continued as u32, Ordering::SeqCst);
    process.resumed.wake();
    tell_parent(process, CONTINUED, Signal::CONT);
}

fn tell_parent(process: &Process, code: i32, signal: Signal) {
    let system = system();
    system.child_events.wake();
    let parent = process.memory.parent().and_then(|parent| system.find(parent.0));
    let Some(parent) = parent else { return };
    let action = parent.actions.lock().get(Signal::CHLD);
    if action.flags & actions::flags::NOCLDSTOP == 0 {
        let status = signal.number().cast_signed();
        let info = Info::child(code, process.pid(), process.user(), status);
        send::to_process(&parent, info).ok();
    }
}

/// Stays until the process goes on, or ends.
pub(crate) fn stay(thread: &Thread) {
    let process = &thread.task.process;
    let ends = || process.is_ending() || thread.task.is_told_to_end();
    let goes_on = || process.stopped.load(Ordering::SeqCst) == 0 || ends();
    while !goes_on() {
        thread.task.waker.clear();
        // Signals that are not to end the process wait until it goes on.
        wait(&thread.task.waker, &[&process.resumed], None, || goes_on().then_some(())).ok();
    }
}
