//! Processes, for hosts that want rumpvm's: who has which space, from fork to exit. `family` is who waits for whom.
//!
//! Flow:  number -> the component's table -> a hold of the process, for the call.
//! Locks: the component's table, for an instant.
//! Sleep: as each says.
//! Owns:  nothing. A process is its own user of its space; a number that the host gets for that space is another.
//!
//! A process is named by its number, which no other ever gets and which is looked up at every call: after the process
//! was waited for it is -ESRCH.

use rumpvm::{Hold, Pid as Number, Process, Vm};

use crate::errno::{Errno, RUMPVM_EINVAL, RUMPVM_ESRCH, number, outcome};
use crate::handles::{Reserved, SPACES};
use crate::home::Foreign;
use crate::sharing::user_of;
use crate::space::{Held, Space, destroy, with};
use crate::{machine, pointers};

/// A process, by its number: from 1 on, and none is given twice.
pub type Pid = u32;

type HeldProcess = Hold<Process<Foreign>, Foreign>;

/// Does `work` with the process of that number.
pub(crate) fn with_process<T>(
    process: Pid,
    work: impl FnOnce(&Vm<Foreign>, &HeldProcess) -> Result<T, Errno>,
) -> Result<T, Errno> {
    let vm = machine::vm()?;
    let process = vm.find_process(Number(process)).ok_or(Errno(RUMPVM_ESRCH))?;
    work(vm, &process)
}

/// Makes a process without parent, with an empty space and one thread, and returns its number; stores a number for its
/// space at `space`. That number is another user of the space, as of rumpvm_space_share, for faults, calls and
/// switches; the host destroys it when the process ends, or what is mapped stays. Takes sleep locks for an instant;
/// from a thread. Or -ENOMEM, -ENOSPC, -EINVAL (`space` is null), -EAGAIN (all 4 billion numbers are used up), -ENODEV,
/// and nothing has changed.
///
/// # Safety
/// `space` is null, or there is a number to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_process_create(space: *mut Space) -> i64 {
    // SAFETY: by the caller's promise.
    unsafe { born(space, || Ok(machine::vm()?.first_process()?)) }
}

/// Makes a child of `process` with a copy of its space (see rumpvm_space_fork) and one thread, and returns its number;
/// stores a number for its space at `space`, as rumpvm_process_create does. Takes the map's sleep lock, then the
/// table's; from a thread. Or as rumpvm_process_create; -EINVAL also if `process` has exited, or does so meanwhile;
/// -ESRCH.
///
/// # Safety
/// `space` is null, or there is a number to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_process_fork(process: Pid, space: *mut Space) -> i64 {
    let fork = || with_process(process, |vm, process| Ok(process.fork(vm)?));
    // SAFETY: by the caller's promise.
    unsafe { born(space, fork) }
}

/// As rumpvm_process_fork, but the child has the space of `process` itself until it execs or exits. The calling thread
/// calls rumpvm_process_await_release, and runs in the space again after that; other threads of `process` go on.
///
/// # Safety
/// `space` is null, or there is a number to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_process_vfork(process: Pid, space: *mut Space) -> i64 {
    let vfork = || with_process(process, |vm, process| Ok(process.vfork(vm)?));
    // SAFETY: by the caller's promise.
    unsafe { born(space, vfork) }
}

/// Sleeps until `child`, which rumpvm_process_vfork made, has a space of its own or has exited; takes no lock. From a
/// thread. Returns 0, -ESRCH (it has even been waited for), -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_process_await_release(child: Pid) -> i32 {
    outcome(with_process(child, |_, child| {
        child.await_release();
        Ok(())
    }))
}

/// Stores another number for the space that `process` has now at `space`, as rumpvm_space_share does. Takes a sleep
/// lock for an instant; from a thread. Returns 0, -EINVAL (it has exited; `space` is null), -ENOMEM, -ENOSPC, -ESRCH,
/// -ENODEV.
///
/// # Safety
/// `space` is null, or there is a number to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_process_space(process: Pid, space: *mut Space) -> i32 {
    let share = || {
        with_process(process, |_, process| match space_number(process, SPACES.reserve()?) {
            0 => Err(Errno(RUMPVM_EINVAL)),
            number => Ok(number),
        })
    };
    // SAFETY: by the caller's promise.
    outcome(unsafe { pointers::put(space, share) })
}

/// Gives `process` a fresh, empty space in place of its own, as execve(2) does: one step, after which nothing can fail.
/// The number at `space`, if it is not 0, is destroyed, and that of the fresh space stored there; this CPU is to be
/// switched to it. The parent of a vfork goes on. Sleeps until the caller's is the only thread of the process: the host
/// ends the others, each with rumpvm_process_thread_ends. Takes sleep locks, waits for other CPUs' flushes; from a
/// thread, with interrupts on. Returns 0; or -EAGAIN (another thread is in exec), -EINVAL (it has exited; `space` is
/// null), -EBADF (no such number at `space`), -ENOMEM, -ENOSPC, -ESRCH, -ENODEV, and nothing has changed.
///
/// # Safety
/// `space` is null, or points to a number that nobody else uses meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_process_exec(process: Pid, space: *mut Space) -> i32 {
    // SAFETY: by the caller's promise.
    outcome(unsafe { pointers::get(space) }.and_then(|old| {
        // SAFETY: by the caller's promise.
        unsafe {
            pointers::put(space, || with_process(process, |vm, process| exec(vm, process, old)))
        }
    }))
}

/// The number of the fresh space; 0 if the process has exited behind the exec.
fn exec(vm: &Vm<Foreign>, process: &HeldProcess, old: Space) -> Result<Space, Errno> {
    let slot = SPACES.reserve()?;
    if old != 0 {
        with(old, |_, _| Ok(()))?;
    }
    process.exec(vm)?;
    if old != 0 {
        // Gone already if the host destroyed it meanwhile, and gone is what it is to be.
        let _ = destroy(old);
    }
    Ok(space_number(process, slot))
}

/// Ends `process` with `status`, for its last thread: its space loses a user, and is taken down unless there are others
/// (a number of the host's; the other side of a vfork). It is a zombie, whose number and status stay until somebody has
/// waited for it; its children go to the nearest ancestor that adopts orphans, else to the oldest that runs. Nothing
/// happens if it has exited before. Takes sleep locks, waits for other CPUs' flushes, and sleeps where a file loses its
/// last user; from a thread, with interrupts on. Returns 0, -ESRCH, -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_process_exit(process: Pid, status: i32) -> i32 {
    outcome(with_process(process, |vm, process| {
        process.exit(vm, status);
        Ok(())
    }))
}

/// `process` has one more thread. Takes the table's lock for an instant; from a thread. Returns 0, -ESRCH, -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_process_thread_starts(process: Pid) -> i32 {
    outcome(with_process(process, |_, process| {
        process.thread_starts();
        Ok(())
    }))
}

/// `process` has one thread less. Returns 1 if that was the last, which now calls rumpvm_process_exit; 0 if there are
/// others, one of which may be waiting for this in rumpvm_process_exec. Takes the table's lock for an instant; from a
/// thread. Or -EINVAL (there is none), -ESRCH, -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_process_thread_ends(process: Pid) -> i32 {
    let ended = with_process(process, |_, process| {
        if process.threads() == 0 {
            return Err(Errno(RUMPVM_EINVAL));
        }
        Ok(process.thread_ends())
    });
    ended.map_or_else(|error| -error.0, i32::from)
}

/// Makes a process and returns its number, and stores one for its space at `space`.
///
/// # Safety
/// `space` is null, or there is a number to write.
unsafe fn born(space: *mut Space, make: impl FnOnce() -> Result<HeldProcess, Errno>) -> i64 {
    let mut pid = 0;
    let make = || {
        let slot = SPACES.reserve()?;
        let process = make()?;
        pid = process.pid().0;
        Ok(space_number(&process, slot))
    };
    // SAFETY: by the caller's promise.
    let made = unsafe { pointers::put(space, make) };
    number(made.map(|()| pid.into()))
}

/// A number for the space of `process`, in `slot`; 0 if it has exited.
fn space_number(process: &HeldProcess, slot: Reserved<Held>) -> Space {
    let user = process.space().and_then(|space| user_of(&space).ok());
    user.map_or(0, |space| slot.fill(space))
}
