//! Stopped processes, for job control.
//!
//! Flow:  SIGTSTP and its like -> [`stop`] -> each thread stays in [`stay`] at its next look -> SIGCONT -> [`resume`].
//! Locks: `PENDING`, for a few instructions; the wait queue's.
//!
//! P1. A process does not stop for what was sent before it was last told to go on, even if a thread had taken that for
//!     delivery already: who is told to come to the foreground would stay stopped otherwise.

use rumpvm::sync::Ordering;
use rumpvm_files::wait;

use super::{Info, Signal, actions, send};
use crate::linux::calls::job;
use crate::linux::process::{Process, report};
use crate::linux::system::system;
use crate::linux::thread::Thread;

/// `CLD_STOPPED`, `CLD_CONTINUED`.
const STOPPED: i32 = 5;
const CONTINUED: i32 = 6;

/// How often `process` has been told to go on, for [`stop`]: asked before the signal is taken.
pub(crate) fn resumptions(process: &Process) -> u32 {
    process.resumptions.load(Ordering::SeqCst)
}

/// Stops every thread of `process`, and tells its parent; unless it was told to go on since `resumptions` (P1), or
/// nobody looks after its group and could tell it to.
pub(crate) fn stop(process: &Process, signal: Signal, resumptions: u32) {
    if signal != Signal::STOP && job::is_orphaned(process) {
        return;
    }
    let pending = process.pending.lock();
    if process.resumptions.load(Ordering::SeqCst) != resumptions {
        return;
    }
    process.stopped.store(signal.number(), Ordering::SeqCst);
    process.report.store(report::stopped_by(signal), Ordering::SeqCst);
    drop(pending);
    process.for_each_task(|task| task.interrupt());
    tell_parent(process, STOPPED, signal);
}

/// Lets them go on, and tells its parent.
pub(crate) fn resume(process: &Process) {
    let pending = process.pending.lock();
    process.resumptions.fetch_add(1, Ordering::SeqCst);
    let was_stopped = process.stopped.swap(0, Ordering::SeqCst) != 0;
    if was_stopped {
        process.report.store(report::CONTINUED, Ordering::SeqCst);
    }
    drop(pending);
    if was_stopped {
        process.resumed.wake();
        tell_parent(process, CONTINUED, Signal::CONT);
    }
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
