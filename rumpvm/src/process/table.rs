//! The table of processes: the family tree, behind a token.
//!
//! Locks: the token; what is done under it neither sleeps nor ends a space.

use alloc::vec::Vec;
use core::ops::Deref;

use rumpvm_platform::Platform;

use super::wait::Found;
use super::{NOBODY, Pid, Process, State, WaitFor};
use crate::error::CallError;
use crate::space::{Space, Spaces};
use crate::sync::{Hold, Ordering, Token, class, try_reserve};

/// All processes of a machine that have not been reaped, and below them all spaces.
pub struct Processes<P: Platform> {
    spaces: Spaces<P>,
    pub(super) table: Token<Table<P>, P>,
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
            table: Token::new(&class::PROCESSES, Table { processes: Vec::new(), next_pid: 1 }),
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
        let made = self
            .table
            .exclusive(|table| table.change(|list| list.insert(parent, space.clone(), released)));
        if made.is_err() {
            self.leave_space(&space);
        }
        made
    }

    /// Makes `process` a zombie, hands its children on, and tells whom it concerns (L4). A process whose whole
    /// family above is gone is reaped at once.
    pub(super) fn bury(&self, process: &Process<P>, status: i32) {
        let concerned =
            self.table.exclusive(|table| table.change(|list| list.bury(process, status)));
        for waiter in concerned.into_iter().flatten() {
            waiter.events.raise();
        }
    }

    /// The process of that number, if it has not been reaped.
    pub fn find_process(&self, pid: Pid) -> Option<Hold<Process<P>, P>> {
        self.table.shared(|table| table.look(|list| list.find(pid)))
    }

    /// The process with the next number above `pid`, a zombie too.
    pub fn process_after(&self, pid: Pid) -> Option<Hold<Process<P>, P>> {
        self.table.shared(|table| table.look(|list| list.after(pid)))
    }

    /// Calls `f` with every process, in order of number, and with nothing held. Those that are born meanwhile
    /// come too, those that are reaped do not.
    pub fn for_each_process(&self, mut f: impl FnMut(&Hold<Process<P>, P>)) {
        let mut last = Pid(0);
        while let Some(next) = self.process_after(last) {
            last = next.pid;
            f(&next);
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

    /// The first process behind `pid`.
    fn after(&self, pid: Pid) -> Option<Hold<Process<P>, P>> {
        let at = self.processes.partition_point(|process| process.pid <= pid);
        self.processes.get(at).cloned()
    }

    /// A new process, whose parent runs or is nobody (L8).
    fn insert(
        &mut self,
        parent: u32,
        space: Hold<Space<P>, P>,
        released: u32,
    ) -> Result<Hold<Process<P>, P>, CallError> {
        let runs = |parent: Hold<Process<P>, P>| parent.state() == State::Running;
        if parent != NOBODY && !self.find(Pid(parent)).is_some_and(runs) {
            return Err(CallError::Invalid);
        }
        try_reserve::<_, P>(&mut self.processes, 1)?;
        let pid = Pid(self.next_pid);
        let process = Hold::try_new(Process::new(pid, parent, space, released))?;
        self.next_pid = self.next_pid.checked_add(1).ok_or(CallError::Again)?;
        self.processes.push(process.clone());
        Ok(process)
    }

    /// Makes `process` a zombie and hands its children on; returns those who may wait for one of them.
    fn bury(&mut self, process: &Process<P>, status: i32) -> [Option<Hold<Process<P>, P>>; 2] {
        process.set_state(State::Zombie(status));
        let heir = self.heir(process);
        let mut inherited = false;
        for child in &self.processes {
            if child.parent.load(Ordering::Acquire) == process.pid.0 {
                child.parent.store(heir, Ordering::Release);
                inherited = true;
            }
        }
        if heir == NOBODY {
            self.forget_orphans();
        }
        let parent = self.find(Pid(process.parent.load(Ordering::Acquire)));
        [parent, if inherited { self.find(Pid(heir)) } else { None }]
    }

    /// Takes out the zombies that nobody will ever wait for.
    fn forget_orphans(&mut self) {
        self.processes.retain(|child| {
            let stays = child.parent().is_some() || child.state() == State::Running;
            if !stays {
                child.set_state(State::Reaped);
            }
            stays
        });
    }

    /// Who gets the children of `process` (L4).
    fn heir(&self, process: &Process<P>) -> u32 {
        let mut oldest = NOBODY;
        let mut next = process.parent.load(Ordering::Acquire);
        while let Some(ancestor) = self.find(Pid(next)) {
            if ancestor.state() == State::Running {
                oldest = next;
                if ancestor.adopts.load(Ordering::Acquire) != 0 {
                    break;
                }
            }
            next = ancestor.parent.load(Ordering::Acquire);
        }
        oldest
    }

    /// A child of `parent` that is one of `whom` and has ended, taken out of the table; or how the others are.
    pub(super) fn reap(&mut self, parent: Pid, whom: WaitFor) -> Found<P> {
        let mut found = Found::None;
        for (at, child) in self.processes.iter().enumerate() {
            let wanted = whom == WaitFor::Any || whom == WaitFor::Pid(child.pid);
            if child.parent() != Some(parent) || !wanted {
                continue;
            }
            if let State::Zombie(status) = child.state() {
                child.set_state(State::Reaped);
                return Found::Ended(self.processes.remove(at), status);
            }
            found = Found::Running;
        }
        found
    }
}
