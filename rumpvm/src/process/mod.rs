//! Processes, as far as memory goes: who has which space, who waits for whom.
//!
//! Flow:  fork -> run -> exec -> exit (zombie: the space loses a user) -> wait (reaped) -> last hold (freed).
//! Locks: the table's token, for the family tree and every state. It is given up by every sleep under it, so
//!        whoever looks at the table looks again after one: the token does not let him do otherwise.
//! Sleep: `wait` for an event of the caller's; `await_release` for the child of a vfork; `exec` for the other
//!        threads of the process; the end of a space, with no token held.
//! Owns:  a process is in the table from birth until it is reaped, and lives until the last hold.
//!
//! What is promised, whatever else happens at the same time:
//!
//! L1. A child is reaped once. Of several threads that wait for it one gets it; the others go on waiting if
//!     they wait for another child too, or learn that there is none.
//! L2. No wake-up is lost: `events` of a parent is raised after the state of a child has changed, and read
//!     before the children are looked at.
//! L3. The end has two stages. At exit the space loses its user and the process is a zombie: a number, a status
//!     and a parent. When it is waited for it leaves the table; its memory goes with the last hold.
//! L4. Children of a process that exits, zombies too, go to its nearest living ancestor that adopts orphans;
//!     without one, to its oldest living ancestor; without any, they have no parent, and are reaped when they
//!     exit. The heir is told, because a zombie may be among them. So the parent of whatever is in the table
//!     runs, or is nobody.
//! L5. A process exits once: whoever takes its space away. A child that exits while its parent does is first
//!     or second under the token; either way one of the two hands it to the heir.
//! L6. Exec is for one thread: it sleeps until the others of the process have ended, and a second exec is
//!     refused meanwhile. It exchanges the space in one step, and fails if the process has exited.
//! L7. The child of a vfork is a user of its parent's space until it execs or exits; its parent's thread sleeps
//!     until then, its other threads go on. A parent that execs or exits leaves the space to the child.
//! L8. Nobody is born to the dead: a fork that an exit overtakes fails, and leaves nothing.
//!
//! From DragonFly's reports #2352 and #2369: several threads in wait(), sub-locks that blocked and gave up the
//! token of the parent, and a child that was somebody else's afterwards.

mod table;
mod wait;

use rumpvm_platform::Platform;

pub use table::Processes;
pub use wait::WaitFor;

use crate::error::CallError;
use crate::space::Space;
use crate::sync::{Atomic, Event, Hold, Mutex, Ordering, class};

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

/// What a process does with the children of descendants that have exited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Orphans {
    /// They go to somebody above it.
    PassOn,
    /// They become its own, as `PR_SET_CHILD_SUBREAPER` says.
    Adopt,
}

/// One process.
pub struct Process<P: Platform> {
    pid: Pid,
    /// Who waits for it; [`NOBODY`] once the whole family above is gone. Written under the table's token.
    parent: Atomic<u32, P>,
    /// A [`State`], packed. Written under the table's token.
    state: Atomic<u64, P>,
    /// Nonzero if it adopts orphans.
    adopts: Atomic<u32, P>,
    /// The space; replaced by exec, gone at exit.
    space: Mutex<Option<Hold<Space<P>, P>>, P>,
    /// Raised when a waiting parent may want to know something.
    events: Event<P>,
    /// 0 while it uses the space of a parent that waits for it to go.
    released: Atomic<u32, P>,
    /// Threads that run in it.
    threads: Atomic<u32, P>,
    /// 1 while one of them is in exec.
    in_exec: Atomic<u32, P>,
}

/// "No parent".
const NOBODY: u32 = 0;

impl State {
    const RUNNING: u64 = 0;
    const REAPED: u64 = 1;
    /// With the status in the upper half.
    const ZOMBIE: u64 = 2;

    fn pack(self) -> u64 {
        match self {
            Self::Running => Self::RUNNING,
            Self::Reaped => Self::REAPED,
            Self::Zombie(status) => Self::ZOMBIE | u64::from(status.cast_unsigned()) << 32,
        }
    }

    fn unpack(packed: u64) -> Self {
        match packed & u64::from(u32::MAX) {
            Self::RUNNING => Self::Running,
            Self::REAPED => Self::Reaped,
            _ => Self::Zombie(((packed >> 32) as u32).cast_signed()),
        }
    }
}

impl<P: Platform> Process<P> {
    fn new(pid: Pid, parent: u32, space: Hold<Space<P>, P>, released: u32) -> Self {
        Self {
            pid,
            parent: Atomic::new(parent),
            state: Atomic::new(State::Running.pack()),
            adopts: Atomic::new(0),
            space: Mutex::new(&class::PROCESS_SPACE, Some(space)),
            events: Event::new(),
            released: Atomic::new(released),
            threads: Atomic::new(1),
            in_exec: Atomic::new(0),
        }
    }

    /// Its number.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Its parent's number, if it has one.
    #[inline]
    pub fn parent(&self) -> Option<Pid> {
        let parent = self.parent.load(Ordering::Acquire);
        (parent != NOBODY).then_some(Pid(parent))
    }

    /// What it is doing.
    pub fn state(&self) -> State {
        State::unpack(self.state.load(Ordering::Acquire))
    }

    /// With the table's token.
    fn set_state(&self, state: State) {
        self.state.store(state.pack(), Ordering::Release);
    }

    /// What becomes of orphans below it.
    pub fn orphans(&self) -> Orphans {
        if self.adopts.load(Ordering::Acquire) == 0 { Orphans::PassOn } else { Orphans::Adopt }
    }

    /// Says what becomes of orphans below it. A child does not inherit this.
    pub fn set_orphans(&self, orphans: Orphans) {
        self.adopts.store(u32::from(orphans == Orphans::Adopt), Ordering::Release);
    }

    /// Its space, unless it has exited. Whoever uses it for longer than the process does must enter it
    /// ([`Space::try_enter`]).
    pub fn space(&self) -> Option<Hold<Space<P>, P>> {
        self.space.lock().clone()
    }

    /// A child with a copy of this process's space. Takes the map's lock of the space, then the table's token; its
    /// faults wait meanwhile. Fails for want of memory, and then nothing has changed.
    pub fn fork(&self, vm: &Processes<P>) -> Result<Hold<Self, P>, CallError> {
        let space = self.enter_space()?;
        let copy = vm.fork_space(&space);
        vm.leave_space(&space);
        vm.adopt(self.pid.0, copy?, 1)
    }

    /// A child that uses this process's own space. The caller must then [`Process::await_release`] it. Takes
    /// the table's token. Fails for want of memory, and then nothing has changed.
    pub fn vfork(&self, vm: &Processes<P>) -> Result<Hold<Self, P>, CallError> {
        let space = self.enter_space()?;
        vm.adopt(self.pid.0, space, 0)
    }

    /// One more use of its space; none if the process has exited or the space has ended.
    fn enter_space(&self) -> Result<Hold<Space<P>, P>, CallError> {
        let space = self.space().ok_or(CallError::Invalid)?;
        if space.try_enter() { Ok(space) } else { Err(CallError::Invalid) }
    }

    /// Sleeps until this child of a vfork has its own space, or has exited.
    pub fn await_release(&self) {
        while self.released.load(Ordering::Acquire) == 0 {
            self.released.sleep_while(0);
        }
    }

    /// Gives the process a fresh, empty space; the old one loses a user. On error nothing has changed:
    /// [`CallError::NoMemory`], [`CallError::Again`] if another thread is in exec, [`CallError::Invalid`] if
    /// the process has exited.
    ///
    /// Sleeps until the caller is the only thread of the process (L6), and where the old space was a file's
    /// last user.
    pub fn exec(&self, vm: &Processes<P>) -> Result<(), CallError> {
        let fresh = vm.new_space()?;
        let left = self.exec_in(fresh);
        let (space, outcome) = match left {
            Ok(old) => (old, Ok(())),
            Err((fresh, error)) => (fresh, Err(error)),
        };
        vm.leave_space(&space);
        outcome
    }

    /// Exchanges the space for `fresh`, as the only thread; returns the old one, or `fresh`.
    #[expect(clippy::type_complexity, reason = "either space comes back")]
    fn exec_in(
        &self,
        fresh: Hold<Space<P>, P>,
    ) -> Result<Hold<Space<P>, P>, (Hold<Space<P>, P>, CallError)> {
        if self.in_exec.compare_exchange(0, 1, Ordering::Acquire).is_err() {
            return Err((fresh, CallError::Again));
        }
        self.await_other_threads();
        let mut space = self.space.lock();
        let left = match space.take() {
            Some(old) => {
                *space = Some(fresh);
                Ok(old)
            }
            None => Err((fresh, CallError::Invalid)),
        };
        drop(space);
        self.in_exec.store(0, Ordering::Release);
        if left.is_ok() {
            self.release();
        }
        left
    }

    fn await_other_threads(&self) {
        loop {
            let threads = self.threads();
            if threads <= 1 {
                return;
            }
            self.threads.sleep_while(threads);
        }
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
        let was_last = self.threads.fetch_sub(1, Ordering::AcqRel) == 1;
        // Perhaps one is in exec.
        self.threads.wake_sleepers();
        was_last
    }

    /// Ends the process: its mappings go now, the record when it is waited for. Children go to an heir (L4).
    /// Nothing happens if it has exited before (L5).
    ///
    /// To be called by its last thread. Sleeps where the space was a file's last user.
    pub fn exit(&self, vm: &Processes<P>, status: i32) {
        let Some(space) = self.space.lock().take() else { return };
        vm.leave_space(&space);
        self.release();
        vm.bury(self, status);
    }

    fn release(&self) {
        self.released.store(1, Ordering::Release);
        self.released.wake_sleepers();
    }
}
