//! Sending: from whoever has something to say to the thread that will hear it.
//!
//! Locks: actions, pending signals, the list of threads; one after the other.

use core::ops::ControlFlow;

use rumpvm::Hold;
use rumpvm::sync::Ordering;
use rumpvm_bare::Bare;

use super::{Info, Set, Signal, actions};
use crate::linux::process::Process;
use crate::linux::task::Task;

/// Why a signal that was sent is not pending.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct QueueFull;

/// Sends to a process: whichever of its threads does not block it.
pub(crate) fn to_process(process: &Process, info: Info) -> Result<(), QueueFull> {
    let signal = info.signal;
    if prepare(process, signal).is_break() {
        return Ok(());
    }
    if is_dropped(process, signal, process.blocked_by_all()) {
        return Ok(());
    }
    let most = process.limits.lock().signals();
    if !process.pending.lock().add(info, most) {
        return Err(QueueFull);
    }
    process.interrupt_one_that_hears(signal);
    Ok(())
}

/// Sends to one thread.
pub(crate) fn to_task(task: &Hold<Task, Bare>, info: Info) -> Result<(), QueueFull> {
    let signal = info.signal;
    if prepare(&task.process, signal).is_break() {
        return Ok(());
    }
    if is_dropped(&task.process, signal, task.mask.load(Ordering::SeqCst)) {
        return Ok(());
    }
    let most = task.process.limits.lock().signals();
    if !task.pending.lock().add(info, most) {
        return Err(QueueFull);
    }
    if task.hears(signal) {
        task.interrupt();
    }
    Ok(())
}

/// Whether nobody would notice. What is blocked is kept, because its action may change before it is delivered.
fn is_dropped(process: &Process, signal: Signal, blocked: Set) -> bool {
    let action = process.actions.lock().get(signal);
    blocked & signal.bit() == 0 && action.ignores(signal)
}

/// What a signal does as it is sent: going on and stopping cancel each other; killing is not put off until a thread
/// looks, because those of a stopped process do not. Breaks if that is all.
fn prepare(process: &Process, signal: Signal) -> ControlFlow<()> {
    if signal == Signal::KILL {
        process.end(signal.number().cast_signed());
        return ControlFlow::Break(());
    }
    if signal == Signal::CONT {
        process.forget_signals(Signal::STOPS);
        super::stop::resume(process);
    } else if signal.bit() & Signal::STOPS != 0 {
        process.forget_signals(Signal::CONT.bit());
    }
    ControlFlow::Continue(())
}

/// Has a thread hear about what its own instruction did: if it blocks or ignores that, it ends its process.
pub(crate) fn force(task: &Task, info: Info) {
    let signal = info.signal;
    let mut all = task.process.actions.lock();
    let mut action = all.get(signal);
    let blocked = task.mask.load(Ordering::SeqCst) & signal.bit() != 0;
    if blocked || action.handler == actions::IGNORE {
        action.handler = actions::DEFAULT;
        all.set(signal, action);
        task.mask.fetch_and(!signal.bit(), Ordering::SeqCst);
    }
    drop(all);
    task.pending.lock().add(info, u64::MAX);
    task.interrupt();
}
