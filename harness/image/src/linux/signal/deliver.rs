//! Delivery: what a thread does on its way back to its program, if somebody interrupted it.
//!
//! Flow:  [`attend`] -> the next signal that is not blocked -> ignored, a stop, the end, or a frame for a handler ->
//!        the next; then, if a call was interrupted for nothing, the call once more.

use core::ops::ControlFlow;

use rumpvm::sync::Ordering;

use super::actions::{self, flags};
use super::{Default, Info, Set, Signal, code, default_of, frame, send, stop};
use crate::linux::system::system;
use crate::linux::thread::Thread;

/// What becomes of a call that a signal interrupted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Restart {
    /// It is made once more if the handler says so (`SA_RESTART`).
    IfAsked,
    /// It is made once more only if there was no handler.
    Never,
}

/// Delivers what is pending; breaks when the thread is to end.
pub(crate) fn attend(thread: &mut Thread) -> ControlFlow<()> {
    thread.task.waker.clear();
    loop {
        let process = &thread.task.process;
        if process.is_ending() || thread.task.is_told_to_end() {
            return ControlFlow::Break(());
        }
        if process.stopped.load(Ordering::SeqCst) != 0 {
            stop::stay(thread);
            continue;
        }
        let resumptions = stop::resumptions(process);
        let Some(info) = next(thread) else { break };
        let action = take_action(thread, info.signal);
        match action.handler {
            actions::IGNORE => {}
            actions::DEFAULT => match default_of(info.signal) {
                Default::Ignore => {}
                Default::Stop => stop::stop(&thread.task.process, info.signal, resumptions),
                Default::Terminate => {
                    thread.task.process.end(info.signal.number().cast_signed());
                }
            },
            _ => handle(thread, &info, &action),
        }
    }
    // No handler: the call is made once more, with the mask that the program had before.
    if let Some((number, _)) = thread.restart.take() {
        repeat_call(thread, number);
    }
    if let Some(mask) = thread.saved_mask.take() {
        thread.set_mask(mask);
    }
    ControlFlow::Continue(())
}

fn next(thread: &Thread) -> Option<Info> {
    let wanted = !thread.task.mask.load(Ordering::SeqCst);
    let own = thread.task.pending.lock().take(wanted);
    let info = own.or_else(|| thread.task.process.pending.lock().take(wanted));
    info.inspect(|info| note_delivery(thread, info))
}

/// A timer is told what its signal said.
pub(crate) fn note_delivery(thread: &Thread, info: &Info) {
    if info.code == code::TIMER {
        system().timers.delivered(&thread.task.process, info);
    }
}

/// The action for `signal`, which is forgotten if it is for one time.
fn take_action(thread: &Thread, signal: Signal) -> actions::Action {
    let mut all = thread.task.process.actions.lock();
    let action = all.get(signal);
    let handled = !matches!(action.handler, actions::IGNORE | actions::DEFAULT);
    if handled && action.flags & flags::RESETHAND != 0 {
        all.set(signal, actions::Action { handler: actions::DEFAULT, ..action });
    }
    action
}

/// Makes the program go on in its handler.
fn handle(thread: &mut Thread, info: &Info, action: &actions::Action) {
    if let Some((number, restart)) = thread.restart.take()
        && restart == Restart::IfAsked
        && action.flags & flags::RESTART != 0
    {
        repeat_call(thread, number);
    }
    // A sleep that a handler interrupts is over.
    thread.sleeps_until = None;
    let before: Set = thread.task.mask.load(Ordering::SeqCst);
    let saved = thread.saved_mask.take().unwrap_or(before);
    if frame::push(thread, info, action, saved).is_err() {
        // No stack for it. If that was SIGSEGV's own handler, `force` ends the process.
        if info.signal == Signal::SEGV {
            thread.task.process.end(Signal::SEGV.number().cast_signed());
        }
        send::force(&thread.task, Info::kernel(Signal::SEGV));
        return;
    }
    let own = if action.flags & flags::NODEFER == 0 { info.signal.bit() } else { 0 };
    thread.set_mask(before | action.mask | own);
}

/// Sends the program back to its `syscall` instruction, which is two bytes long.
fn repeat_call(thread: &mut Thread, number: u64) {
    let registers = thread.program.registers();
    registers.rip = registers.rip.wrapping_sub(2);
    registers.rax = number;
}
