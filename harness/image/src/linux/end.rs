//! The end of threads and of processes.
//!
//! Flow:  a thread ends -> its futexes are let go -> if it was the last: files, memory, then the parent is told.
//! Sleep: where the space was a file's last user.

use rumpvm::sync::Ordering;
use rumpvm::{Hold, Orphans, Pid, State, WaitFor};
use rumpvm_arch::VirtAddr;
use rumpvm_bare::Bare;

use super::calls::job;
use super::process::Process;
use super::signal::actions::{IGNORE, flags};
use super::signal::{Info, Signal, send};
use super::system::system;
use super::thread::Thread;
use super::{finish, futex};

/// `CLD_EXITED`, `CLD_KILLED`, `CLD_DUMPED`.
const EXITED: i32 = 1;
const KILLED: i32 = 2;

/// Ends the calling thread's program, and its process with the last one.
pub(crate) fn end(thread: Thread) {
    let Thread { task, .. } = &thread;
    let process = task.process.clone();
    let kernel = system().kernel;
    futex::let_go(&thread);
    if thread.clear_at != 0 && thread.space().users() > 0 {
        let at = VirtAddr(thread.clear_at);
        if thread.user().put_half(at, 0).is_ok() {
            system().futexes.wake_at(thread.user(), at);
        }
    }
    process.usage.note_pages(thread.space().resident_pages(&kernel.vm));
    system().timers.forget_task(task.number());
    process.remove_task(task);
    let was_last = process.memory.thread_ends();
    // The registers go before the space does.
    let Thread { program, .. } = thread;
    drop(program);
    if was_last {
        end_process(&process);
    }
    Bare::clear_on_resume();
    kernel.vm.deactivate();
}

/// The last thread of `process` has ended.
fn end_process(process: &Hold<Process, Bare>) {
    let system = system();
    let status = process.ending_status().unwrap_or(0);
    system.timers.forget_process(process.pid());
    let (files, place) = (process.files.lock().take(), process.place.lock().take());
    drop((files, place));
    let file = process.image.lock().file.take();
    drop(file);
    job::leave(process);
    let pid = process.pid();
    let parent = process.parent_pid();
    system.for_each(|child| {
        let signal = child.parent_signal.load(Ordering::Relaxed);
        if child.parent_pid() == pid
            && let Some(signal) = Signal::new(u64::from(signal))
        {
            send::to_process(child, Info::from(signal, 0, pid, process.user())).ok();
        }
    });
    let was_guarded = job::note_guarded(process);
    process.memory.exit(&system.kernel.vm, status);
    job::abandon(process, was_guarded);
    if process.memory.state() == State::Reaped {
        // Nobody is left to wait for it.
        system.strike(pid);
    } else {
        tell_parent(process, parent, status);
    }
    system.child_events.wake();
    if pid == system.first_pid() {
        finish::finish(status);
    }
}

fn tell_parent(process: &Hold<Process, Bare>, parent: u32, status: i32) {
    let system = system();
    // It may have a new one since.
    let parent = if process.parent_pid() == 0 { parent } else { process.parent_pid() };
    let Some(parent) = system.find(parent) else { return };
    let Some(signal) = Signal::new(u64::from(process.exit_signal)) else { return };
    let action = parent.actions.lock().get(Signal::CHLD);
    let (code, number) = match status & 0x7f {
        0 => (EXITED, status >> 8 & 0xff),
        signal => (KILLED, signal),
    };
    let info = Info { signal, ..Info::child(code, process.pid(), process.user(), number) };
    send::to_process(&parent, info).ok();
    let is_ignored = action.handler == IGNORE || action.flags & flags::NOCLDWAIT != 0;
    if signal == Signal::CHLD && is_ignored {
        let vm = &system.kernel.vm;
        if let Ok(Some(_)) = parent.memory.wait(vm, WaitFor::Pid(Pid(process.pid())), true) {
            system.strike(process.pid());
        }
    }
}

/// Whether `process` takes the children of those below it when they end.
pub(crate) fn set_orphans(process: &Process, adopts: bool) {
    process.memory.set_orphans(if adopts { Orphans::Adopt } else { Orphans::PassOn });
}
