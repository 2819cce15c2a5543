//! The table of processes: the family tree.

use alloc::vec::Vec;
use core::ops::Deref;

use rumpvm_platform::Platform;

use super::{NOBODY, Pid, Process, State};
use crate::error::CallError;
use crate::space::{Space, Spaces};
use crate::sync::{Hold, Mutex, Ordering, class, try_reserve};

/// All processes of a machine that have not been reaped, and below them all spaces.
pub struct Processes<P: Platform> {
    spaces: Spaces<P>,
    pub(super) table: Mutex<Table<P>, P>,
}

pub(super) struct Table<P: Platform> {
    /// In order of number.
    pub(super) processes: Vec<Hold<Process<P>, P>>,
    next_pid: u32,
}

impl<P: Platform> Processes<P> {
    /// No process.
    pub(crate) fn new(spaces: Spaces<P>) -> Self {
        Self {
            spaces,
            table: Mutex::new(&class::PROCESSES, Table { processes: Vec::new(), next_pid: 1 }),
        }
    }

    /// A process without parent, with an empty space.
    pub fn first_process(&self) -> Result<Hold<Process<P>, P>, CallError> {
        let space = self.new_space()?;
        self.adopt(NOBODY, space, 1)
    }

    /// A new process with `space`, of which it takes over one use. On error the use is given up.
    pub(crate) fn adopt(
        &self,
        parent: u32,
        space: Hold<Space<P>, P>,
        released: u32,
    ) -> Result<Hold<Process<P>, P>, CallError> {
        let made = self.insert(parent, space.clone(), released);
        if made.is_err() {
            self.leave_space(&space);
        }
        made
    }

    fn insert(
        &self,
        parent: u32,
        space: Hold<Space<P>, P>,
        released: u32,
    ) -> Result<Hold<Process<P>, P>, CallError> {
        let mut list = self.table.lock();
        try_reserve::<_, P>(&mut list.processes, 1)?;
        let pid = Pid(list.next_pid);
        let process = Hold::try_new(Process::new(pid, parent, space, released))?;
        list.next_pid = list.next_pid.checked_add(1).ok_or(CallError::Again)?;
        list.processes.push(process.clone());
        Ok(process)
    }

    /// Makes `process` a zombie, hands its children on, and tells its parent. A process whose whole family
    /// above is gone is reaped at once.
    pub(super) fn bury(&self, process: &Process<P>, status: i32) {
        let mut list = self.table.lock();
        *process.state.lock() = State::Zombie(status);
        let heir = list.oldest_ancestor(process);
        let mut inherited = false;
        for child in &list.processes {
            if child.parent.load(Ordering::Acquire) == process.pid.0 {
                child.parent.store(heir, Ordering::Release);
                inherited = true;
            }
        }
        if heir == NOBODY {
            // Nobody will ever wait for these.
            list.processes.retain(|child| {
                let waited_for = child.parent.load(Ordering::Acquire) != NOBODY;
                let mut state = child.state.lock();
                let stays = waited_for || *state == State::Running;
                if !stays {
                    *state = State::Reaped;
                }
                stays
            });
        }
        let parent = list.find(Pid(process.parent.load(Ordering::Acquire)));
        let heir = if inherited { list.find(Pid(heir)) } else { None };
        drop(list);
        for waiter in [parent, heir].into_iter().flatten() {
            waiter.notify();
        }
    }

    /// The process of that number, if it has not been reaped.
    pub fn find_process(&self, pid: Pid) -> Option<Hold<Process<P>, P>> {
        self.table.lock().find(pid)
    }

    /// Calls `f` with every process, in order of number.
    pub fn for_each_process(&self, mut f: impl FnMut(&Hold<Process<P>, P>)) {
        for process in &self.table.lock().processes {
            f(process);
        }
    }
}

impl<P: Platform> Deref for Processes<P> {
    type Target = Spaces<P>;
    fn deref(&self) -> &Spaces<P> {
        &self.spaces
    }
}

impl<P: Platform> Table<P> {
    pub(super) fn find(&self, pid: Pid) -> Option<Hold<Process<P>, P>> {
        let at = self.processes.binary_search_by_key(&pid, |process| process.pid).ok()?;
        Some(self.processes[at].clone())
    }

    /// The living ancestor that is furthest up.
    fn oldest_ancestor(&self, process: &Process<P>) -> u32 {
        let mut oldest = NOBODY;
        let mut next = process.parent.load(Ordering::Acquire);
        while let Some(ancestor) = self.find(Pid(next)) {
            if *ancestor.state.lock() == State::Running {
                oldest = next;
            }
            next = ancestor.parent.load(Ordering::Acquire);
        }
        oldest
    }
}
