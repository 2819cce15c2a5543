//! Spaces: made, forked, switched to, destroyed.

use rumpvm::{Hold, Space as Spaces};

use crate::errno::{Errno, RUMPVM_ENODEV, number, outcome};
use crate::handles::{SPACES, Use};
use crate::home::Foreign;
use crate::{machine, pointers};

/// An address space, by a number that is never 0 and, once it was destroyed, names no other (until 4 billion more were
/// made in its place). A wrong number is refused with -EBADF.
pub type Space = u64;

pub(crate) type Held = Hold<Spaces<Foreign>, Foreign>;

/// Does `work` with what `space` names; whoever is the last to use a destroyed space takes it down, and takes down those
/// that others had to leave.
pub(crate) fn with<T>(
    space: Space,
    work: impl FnOnce(&rumpvm::Vm<Foreign>, &Held) -> Result<T, Errno>,
) -> Result<T, Errno> {
    let vm = vm()?;
    let used = SPACES.enter(space)?;
    let outcome = work(vm, &used);
    leave(vm, used);
    outcome
}

/// The component, without what was destroyed in calls that must not sleep. For calls that may.
pub(crate) fn vm() -> Result<&'static rumpvm::Vm<Foreign>, Errno> {
    let vm = machine::vm()?;
    if SPACES.has_ended() {
        take_down(vm);
    }
    Ok(vm)
}

#[cold]
fn take_down(vm: &rumpvm::Vm<Foreign>) {
    while let Some(ended) = SPACES.next_ended() {
        vm.leave_space(&ended);
    }
}

/// As [`with`], for calls from anywhere, which take nothing down and let no heap grow.
fn glance<T>(
    space: Space,
    work: impl FnOnce(&rumpvm::Vm<Foreign>, &Held) -> T,
) -> Result<T, Errno> {
    let vm = machine::get().ok_or(Errno(RUMPVM_ENODEV))?;
    let used = SPACES.enter(space)?;
    let seen = work(vm, &used);
    used.leave_for_others();
    Ok(seen)
}

fn leave(vm: &rumpvm::Vm<Foreign>, used: Use<Held>) {
    if let Some(ended) = used.leave() {
        vm.leave_space(&ended);
    }
}

/// Makes an empty space and stores its number at `made`. Takes a sleep lock for an instant; from a thread. Returns 0,
/// or -ENOMEM, -ENOSPC (65,536 spaces), -EINVAL (`made` is null), -ENODEV, and nothing has changed.
///
/// # Safety
/// `made` is null, or there is a number to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_space_create(made: *mut Space) -> i32 {
    let create = || {
        let vm = vm()?;
        let slot = SPACES.reserve()?;
        Ok(slot.fill(vm.new_space()?))
    };
    // SAFETY: by the caller's promise.
    outcome(unsafe { pointers::put(made, create) })
}

/// Makes a copy of `space`, as fork(2) does, and stores its number at `made`: private memory is copied when one of the
/// two first stores to it, shared memory is shared, page tables are shared where they can be. Time grows with the
/// number of mappings, not of pages. Takes the map's sleep lock of `space`, whose faults wait meanwhile; from a
/// thread. Returns 0, or as rumpvm_space_create; -EBADF.
///
/// # Safety
/// `made` is null, or there is a number to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_space_fork(space: Space, made: *mut Space) -> i32 {
    let fork = || {
        with(space, |vm, space| {
            let slot = SPACES.reserve()?;
            Ok(slot.fill(vm.fork_space(space)?))
        })
    };
    // SAFETY: by the caller's promise.
    outcome(unsafe { pointers::put(made, fork) })
}

/// Makes this CPU translate user addresses through `space`, or through none if it is 0. Does nothing if it does
/// already. Takes spin locks, does not sleep; interrupts may be masked. A CPU with nothing to run is not asked to
/// flush when it translates through none. Returns 0, -EBADF, -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_space_switch(space: Space) -> i32 {
    if space == 0 {
        let vm = machine::get().ok_or(Errno(RUMPVM_ENODEV));
        return outcome(vm.map(|vm| vm.deactivate()));
    }
    outcome(glance(space, |vm, space| vm.activate(space)))
}

/// Ends `space`: its number names nothing from now on, and when the last call that still uses it has returned, and it
/// has no other number (rumpvm_space_share) and no process, what is mapped goes, and CPUs that translate through it are
/// made to give it up. That last call may be another CPU's, which does this then; if it is one that may not sleep, such
/// as rumpvm_space_switch, the next call on any space that may sleep does. Takes the map's lock, waits for other CPUs'
/// flushes, and sleeps where a file loses its last user; from a thread, with interrupts on. Returns 0, -EBADF, -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_space_destroy(space: Space) -> i32 {
    outcome(destroy(space))
}

/// Closes `space`.
pub(crate) fn destroy(space: Space) -> Result<(), Errno> {
    let vm = vm()?;
    let used = SPACES.enter(space)?;
    let closed = used.close();
    leave(vm, used);
    closed
}

/// Physical address of the root of the page tables of `space`, for looking only: who changes entries, breaks it. Takes
/// no lock but a spin lock if the space is destroyed meanwhile, does not sleep; from anywhere. Or -EBADF, -ENODEV.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_space_root(space: Space) -> i64 {
    number(glance(space, |_, space| space.pmap().root().start().0))
}

/// Pages that the page tables of `space` map, those that it shares with others included. Otherwise as
/// rumpvm_space_root.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_space_resident(space: Space) -> i64 {
    number(glance(space, |vm, space| space.resident_pages(vm)))
}
