//! The family of a process: who waits for whom, who gets orphans, who is there.
//!
//! Locks: the component's table, for an instant.
//! Sleep: `rumpvm_process_wait`, for a child to end.

use rumpvm::{Orphans, Pid as Number, State, WaitFor};

use crate::errno::{Errno, RUMPVM_EINVAL, RUMPVM_ESRCH, number, outcome};
use crate::machine;
use crate::process::{Pid, with_process};

/// Of rumpvm_process_wait: do not sleep.
pub const RUMPVM_WNOHANG: u32 = 1;

/// State of a process: it has a space.
pub const RUMPVM_STATE_RUNNING: i32 = 0;
/// State of a process: it has exited, and nobody has waited for it.
pub const RUMPVM_STATE_ZOMBIE: i32 = 1;

/// Waits for child `whom` of `process`, or for whichever ends first if that is 0, and returns its number, which names
/// nothing from now on; stores its status at `status`, unless that is null. Any thread of the process may wait, several
/// at once: each child is for one of them. Takes the table's lock, and sleeps until a child has ended; with `flags`
/// RUMPVM_WNOHANG it does not sleep, and returns 0 if none has. From a thread. Or -ECHILD (no such child), -EINVAL (no
/// such flag), -ESRCH, -ENODEV.
///
/// # Safety
/// `status` is null, or there is a number to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_process_wait(
    process: Pid,
    whom: Pid,
    flags: u32,
    status: *mut i32,
) -> i64 {
    number(with_process(process, |vm, process| {
        if flags & !RUMPVM_WNOHANG != 0 {
            return Err(Errno(RUMPVM_EINVAL));
        }
        let whom = if whom == 0 { WaitFor::Any } else { WaitFor::Pid(Number(whom)) };
        let Some((child, ended)) = process.wait(vm, whom, flags & RUMPVM_WNOHANG != 0)? else {
            return Ok(0);
        };
        if !status.is_null() {
            // SAFETY: by the caller's promise.
            unsafe { status.write(ended) };
        }
        Ok(child.0.into())
    }))
}

/// Says whether `process` gets the children of its descendants when those exit: `adopts` is 1 if it does
/// (PR_SET_CHILD_SUBREAPER), 0 if they go to somebody above it. A child does not inherit this. Takes the table's lock for
/// an instant; from a thread. Returns 0, -EINVAL, -ESRCH, -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_process_adopt_orphans(process: Pid, adopts: u32) -> i32 {
    outcome(with_process(process, |_, process| {
        let orphans = match adopts {
            0 => Orphans::PassOn,
            1 => Orphans::Adopt,
            _ => return Err(Errno(RUMPVM_EINVAL)),
        };
        process.set_orphans(orphans);
        Ok(())
    }))
}

/// Number of the parent of `process`; 0 if it has none, and then it is waited for by nobody: its number is gone when it
/// exits. Takes the table's lock for an instant; from a thread. Or -ESRCH, -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_process_parent(process: Pid) -> i64 {
    number(with_process(process, |_, process| {
        Ok(process.parent().map_or(0, |parent| parent.0).into())
    }))
}

/// How many threads `process` has. Takes the table's lock for an instant; from a thread. Or -ESRCH, -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_process_threads(process: Pid) -> i64 {
    number(with_process(process, |_, process| Ok(process.threads().into())))
}

/// RUMPVM_STATE_* of `process`; of a zombie its status is stored at `status`, unless that is null. Takes the table's
/// lock for an instant; from a thread. Or -ESRCH, -ENODEV.
///
/// # Safety
/// `status` is null, or there is a number to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_process_state(process: Pid, status: *mut i32) -> i32 {
    let state = with_process(process, |_, process| match process.state() {
        State::Running => Ok(RUMPVM_STATE_RUNNING),
        State::Zombie(ended) => {
            if !status.is_null() {
                // SAFETY: by the caller's promise.
                unsafe { status.write(ended) };
            }
            Ok(RUMPVM_STATE_ZOMBIE)
        }
        State::Reaped => Err(Errno(RUMPVM_ESRCH)),
    });
    state.unwrap_or_else(|error| -error.0)
}

/// The lowest number above `process` that a process has, zombies too, or 0 if there is none: from 0 on, all of them one
/// after the other. Takes the table's lock for an instant; from a thread. Or -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_process_after(process: Pid) -> i64 {
    number(
        machine::vm()
            .map(|vm| vm.process_after(Number(process)).map_or(0, |next| next.pid().0).into()),
    )
}
