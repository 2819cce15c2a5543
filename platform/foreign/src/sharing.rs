//! One space under several numbers, and a fresh one in place of an old: what threads, vfork and exec do with spaces.
//!
//! Locks: the component's list of spaces.
//! Sleep: where a file loses its last user.
//! Owns:  each number is one user of its space; the space goes with the last.

use rumpvm::Space as Spaces;

use crate::errno::{Errno, RUMPVM_EBADF, outcome};
use crate::handles::SPACES;
use crate::pointers;
use crate::space::{Held, Space, destroy, vm, with};

/// Makes another number for `space` itself, as threads of a program or the two sides of a vfork want it, and stores it
/// at `made`: whatever is done under one number is seen under the other, and CPUs that translate through one translate
/// through the other. Each number is destroyed by itself; what is mapped goes with the last. Takes no sleep lock, unless
/// `space` is destroyed meanwhile; from a thread. Returns 0, -EBADF, -ENOMEM, -ENOSPC (65,536 numbers), -EINVAL (`made` is null),
/// -ENODEV.
///
/// # Safety
/// `made` is null, or there is a number to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_space_share(space: Space, made: *mut Space) -> i32 {
    let share = || {
        let slot = SPACES.reserve()?;
        with(space, |_, space| Ok(slot.fill(user_of(space)?)))
    };
    // SAFETY: by the caller's promise.
    outcome(unsafe { pointers::put(made, share) })
}

/// Gives up the space whose number is at `space`, and stores the number of a fresh, empty one there, as execve(2) does:
/// one step, after which nothing can fail. Whoever else has a number for the old space (the parent of a vfork) keeps
/// it; else what is mapped there goes. This CPU is to be switched to the fresh one. Limits, layout and heap are those
/// of a new space. Takes sleep locks for an instant, the old map's lock, and waits for other CPUs' flushes; from a
/// thread, with interrupts on. Returns 0; or -EBADF, -ENOMEM, -ENOSPC, -EINVAL (`space` is null), -ENODEV, and the old
/// space is as it was.
///
/// # Safety
/// `space` is null, or points to a number that nobody else uses meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_space_exec(space: *mut Space) -> i32 {
    // SAFETY: by the caller's promise.
    outcome(unsafe { pointers::get(space) }.and_then(|old| {
        // SAFETY: by the caller's promise.
        unsafe { pointers::put(space, || exchange(old)) }
    }))
}

/// The number of a fresh space, in place of `old`.
fn exchange(old: Space) -> Result<Space, Errno> {
    let vm = vm()?;
    let slot = SPACES.reserve()?;
    let fresh = vm.new_space()?;
    match destroy(old) {
        Ok(()) => Ok(slot.fill(fresh)),
        Err(error) => {
            vm.leave_space(&fresh);
            Err(error)
        }
    }
}

/// `space`, with one more user, which belongs to the caller.
pub(crate) fn user_of(space: &Held) -> Result<Held, Errno> {
    if Spaces::try_enter(space) { Ok(space.clone()) } else { Err(Errno(RUMPVM_EBADF)) }
}
