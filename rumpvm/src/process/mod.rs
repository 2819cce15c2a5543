//! Processes, as far as memory goes: who has which space, who waits for whom.
//!
//! Flow:  fork -> run -> exec -> exit (zombie; the space loses a user) -> wait (reaped) -> last hold.
//! Locks: the table's sleep lock, for the family tree and every state; held for a scan, never across the
//!        end of a space.
//! Sleep: `wait` for an event of the caller's, `vfork` for the child; by generation, so that no wake-up is
//!        lost between the scan and the sleep.
//! Owns:  a process is in the table from birth until it is reaped, and lives until the last hold.
//!
//! L1. A child is reaped once: whoever removes it from the table under the lock.
//! L2. `events` of a parent moves after the state of a child has, and before its sleepers are woken.
//! L3. A zombie has no space.

mod table;
mod wait;

use rumpvm_platform::Platform;

pub use table::Processes;
pub use wait::WaitFor;

use crate::error::CallError;
use crate::space::Space;
use crate::sync::{Atomic, Hold, Mutex, Ordering, class};

/// Number of a process, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Pid(pub u32);

/// What a process is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It has a space.
    Running,
    /// It has exited with this status, and nobody has waited for it.
    Zombie(i32),
    /// Somebody has.
    Reaped,
}

/// One process.
pub struct Process<P: Platform> {
    pid: Pid,
    /// Who waits for it; none once the whole family above is gone. Under the table's lock.
    parent: Atomic<u32, P>,
    /// Under the table's lock.
    state: Mutex<State, P>,
    /// The space; replaced by exec, gone at exit.
    space: Mutex<Option<Hold<Space<P>, P>>, P>,
    /// Counts what a waiting parent may want to know of.
    events: Atomic<u32, P>,
    /// 0 while it uses the space of a parent that waits for it to go.
    released: Atomic<u32, P>,
    /// Threads that run in it.
    threads: Atomic<u32, P>,
}

/// "No parent".
const NOBODY: u32 = 0;

impl<P: Platform> Process<P> {
    fn new(pid: Pid, parent: u32, space: Hold<Space<P>, P>, released: u32) -> Self {
        Self {
            pid,
            parent: Atomic::new(parent),
            state: Mutex::new(&class::PROCESS_STATE, State::Running),
            space: Mutex::new(&class::PROCESS_SPACE, Some(space)),
            events: Atomic::new(0),
            released: Atomic::new(released),
            threads: Atomic::new(1),
        }
    }

    /// Its number.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Its parent's number, if it has one.
    pub fn parent(&self) -> Option<Pid> {
        let parent = self.parent.load(Ordering::Acquire);
        (parent != NOBODY).then_some(Pid(parent))
    }

    /// What it is doing.
    pub fn state(&self) -> State {
        *self.state.lock()
    }

    /// Its space, unless it has exited. Whoever uses it for longer than the process does must enter it
    /// ([`Space::try_enter`]).
    pub fn space(&self) -> Option<Hold<Space<P>, P>> {
        self.space.lock().clone()
    }

    /// A child with a copy of this process's space. Takes the map's lock of the space, then the table's; its
    /// faults wait meanwhile. Fails for want of memory, and then nothing has changed.
    pub fn fork(&self, vm: &Processes<P>) -> Result<Hold<Self, P>, CallError> {
        let space = self.space().ok_or(CallError::Invalid)?;
        let copy = vm.fork_space(&space)?;
        vm.adopt(self.pid.0, copy, 1)
    }

    /// A child that uses this process's own space. The caller must then [`Process::await_release`] it. Takes
    /// the table's lock. Fails for want of memory, and then nothing has changed.
    pub fn vfork(&self, vm: &Processes<P>) -> Result<Hold<Self, P>, CallError> {
        let space = self.space().ok_or(CallError::Invalid)?;
        space.add_user();
        vm.adopt(self.pid.0, space, 0)
    }

    /// Sleeps until this child of a vfork has its own space, or has exited.
    pub fn await_release(&self) {
        while self.released.load(Ordering::Acquire) == 0 {
            self.released.sleep_while(0);
        }
    }

    /// Gives the process a fresh, empty space; the old one loses a user. On error nothing has changed.
    ///
    /// To be called by the only thread of the process. Sleeps where the old space was a file's last user.
    pub fn exec(&self, vm: &Processes<P>) -> Result<(), CallError> {
        let fresh = vm.new_space()?;
        let old = self.space.lock().replace(fresh);
        self.release();
        if let Some(old) = old {
            vm.leave_space(&old);
        }
        Ok(())
    }

    /// One more thread.
    pub fn thread_starts(&self) {
        self.threads.fetch_add(1, Ordering::AcqRel);
    }

    /// Threads that run in it.
    pub fn threads(&self) -> u32 {
        self.threads.load(Ordering::Acquire)
    }

    /// One thread less, and whether it was the last; the last one must [`Process::exit`].
    pub fn thread_ends(&self) -> bool {
        self.threads.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Ends the process: its mappings go now, the record when it is waited for. Children go to the oldest
    /// living ancestor.
    ///
    /// To be called by its last thread. Sleeps where the space was a file's last user.
    pub fn exit(&self, vm: &Processes<P>, status: i32) {
        let space = self.space.lock().take();
        if let Some(space) = space {
            vm.leave_space(&space);
        }
        self.release();
        vm.bury(self, status);
    }

    fn release(&self) {
        self.released.store(1, Ordering::Release);
        self.released.wake_sleepers();
    }

    fn notify(&self) {
        self.events.fetch_add(1, Ordering::AcqRel);
        self.events.wake_sleepers();
    }
}
