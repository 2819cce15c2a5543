//! The recorded processes, and the rumpvm process behind each.
//!
//! Flow:  clone, exec, end of a task -> [`Processes`] -> fork, vfork, exec, exit of `Process`.
//! Owns:  the rumpvm processes.
//!
//! P1. A task belongs to exactly one process; a process ends with its last task.
//! P2. Processes that share an address space share what is known about it.
//! P3. Processes without a recorded parent are children of an init, so that orphans go where no recorded
//!     wait looks.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use rumpvm::{CallError, CommitPolicy, Hold, Overcommit, Process, Space, Vm, WaitFor};
use rumpvm_hosted::Hosted;

use super::files::Descriptors;
use super::known::Known;
use crate::trace::{CLONE_PARENT, CLONE_THREAD, CLONE_VM, End, Task};

/// One of the recorded processes. Numbers are not used again, unlike those of Linux.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ProcessId(usize);

/// A recorded process.
pub(super) struct Life {
    /// rumpvm's.
    pub(super) process: Hold<Process<Hosted>, Hosted>,
    /// Its first task, whose number is the process's.
    pub(super) first: Task,
    /// What is known about its address space.
    pub(super) known: Rc<RefCell<Known>>, // P2
    /// Its descriptors.
    pub(super) open: Descriptors,
    parent: Option<ProcessId>,
    state: State,
}

/// How far a process has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// It runs with so many tasks.
    Alive { tasks: usize },
    /// It has ended, and its parent has not looked.
    Ended,
    /// Nothing is left of it.
    Gone,
}

/// An address space of a process that runs.
pub(super) type Place = Hold<Space<Hosted>, Hosted>;

/// What rumpvm is told of a process that a signal ended.
const KILLED: i32 = 128;

/// All of them.
#[derive(Default)]
pub(super) struct Processes {
    lives: Vec<Life>,
    of_task: HashMap<Task, ProcessId>, // P1
    /// The ancestor of all, as on every Unix: whoever is left alone becomes its child.
    init: Option<Hold<Process<Hosted>, Hosted>>, // P3
    /// Tasks beyond the first of each process, so far.
    pub(super) threads: u64,
}

impl Processes {
    /// The process of `task`, if it has appeared.
    pub(super) fn of(&self, task: Task) -> Option<ProcessId> {
        self.of_task.get(&task).copied()
    }

    /// The process `id`.
    pub(super) fn life(&self, id: ProcessId) -> &Life {
        &self.lives[id.0]
    }

    /// The process `id`, to change its descriptors.
    pub(super) fn life_mut(&mut self, id: ProcessId) -> &mut Life {
        &mut self.lives[id.0]
    }

    /// How many there have been.
    pub(super) fn count(&self) -> u64 {
        self.lives.len() as u64
    }

    /// Children of `parent` that it has not waited for.
    pub(super) fn children(&self, parent: ProcessId) -> impl Iterator<Item = ProcessId> + '_ {
        let lives = self.lives.iter().enumerate();
        lives
            .filter(move |(_, life)| life.parent == Some(parent) && life.state != State::Gone)
            .map(|(index, _)| ProcessId(index))
    }

    /// Whether `id` has ended.
    pub(super) fn has_ended(&self, id: ProcessId) -> bool {
        !matches!(self.life(id).state, State::Alive { .. })
    }

    /// Whether two processes live in one address space.
    pub(super) fn share_space(&self, one: ProcessId, other: ProcessId) -> bool {
        Rc::ptr_eq(&self.life(one).known, &self.life(other).known)
    }

    /// `task` appears without a birth in the recording: strace started it, or met it alive.
    pub(super) fn adopt(&mut self, vm: &Vm<Hosted>, task: Task) -> Result<ProcessId, CallError> {
        let init = match &self.init {
            Some(init) => init,
            None => self.init.insert(vm.first_process()?),
        };
        let process = init.fork(vm)?;
        promise_all(vm);
        Ok(self.add(task, None, process, Rc::default(), Descriptors::default()))
    }

    /// `child` is born of a clone with `flags` by a task of `parent`.
    pub(super) fn born(
        &mut self,
        vm: &Vm<Hosted>,
        parent: ProcessId,
        child: Task,
        flags: u64,
    ) -> Result<(), CallError> {
        if flags & CLONE_THREAD != 0 {
            if let State::Alive { tasks } = &mut self.lives[parent.0].state {
                *tasks += 1;
            }
            self.of_task.insert(child, parent);
            self.threads += 1;
            return Ok(());
        }
        let life = self.life(parent);
        let (process, known) = if flags & CLONE_VM != 0 {
            (life.process.vfork(vm)?, life.known.clone())
        } else {
            let known = life.known.borrow().clone();
            (life.process.fork(vm)?, Rc::new(RefCell::new(known)))
        };
        let open = life.open.clone();
        // rumpvm has no such birth: the sibling is the caller's child there, and waits leave it alone.
        let parent = if flags & CLONE_PARENT != 0 { None } else { Some(parent) };
        self.add(child, parent, process, known, open);
        Ok(())
    }

    fn add(
        &mut self,
        first: Task,
        parent: Option<ProcessId>,
        process: Hold<Process<Hosted>, Hosted>,
        known: Rc<RefCell<Known>>,
        open: Descriptors,
    ) -> ProcessId {
        let id = ProcessId(self.lives.len());
        let state = State::Alive { tasks: 1 };
        self.of_task.insert(first, id);
        self.lives.push(Life { process, first, known, open, parent, state });
        id
    }

    /// The lines of the task that was born as `number` call it `task`. Waits go on calling it `number`.
    pub(super) fn rename(&mut self, number: Task, task: Task) {
        if let Some(id) = self.of_task.remove(&number) {
            self.of_task.insert(task, id);
        }
    }

    /// `task` has called exec: its process goes on with this task alone and a fresh address space.
    pub(super) fn exec(&mut self, vm: &Vm<Hosted>, task: Task) -> Result<(), CallError> {
        let Some(id) = self.of(task) else { return Ok(()) };
        self.of_task.retain(|other, process| *process != id || *other == task);
        let life = self.life_mut(id);
        life.process.exec(vm)?;
        life.state = State::Alive { tasks: 1 };
        life.known = Rc::default();
        life.open = Descriptors::default();
        Ok(())
    }

    /// Thread `by` goes on under the number of `first`, the first task of its process.
    pub(super) fn superseded(&mut self, first: Task, by: Task) {
        if let Some(id) = self.of_task.remove(&by) {
            self.of_task.insert(first, id);
            if let State::Alive { tasks } = &mut self.life_mut(id).state {
                *tasks -= 1;
            }
        }
    }

    /// `task` has ended, and its process if it was the last one.
    pub(super) fn ended(&mut self, vm: &Vm<Hosted>, task: Task, end: &End) {
        let Some(id) = self.of_task.remove(&task) else { return };
        let State::Alive { tasks } = &mut self.life_mut(id).state else { return };
        *tasks -= 1;
        if *tasks == 0 {
            let status = if let End::Exited(status) = end { *status } else { KILLED };
            self.exit(vm, id, status);
        }
    }

    /// Ends the process `id`, whatever tasks it has.
    pub(super) fn exit(&mut self, vm: &Vm<Hosted>, id: ProcessId, status: i32) {
        self.of_task.retain(|_, process| *process != id);
        let has_parent = self.life(id).parent.is_some_and(|parent| !self.has_ended(parent));
        let life = self.life_mut(id);
        life.process.exit(vm, status);
        life.open = Descriptors::default();
        life.state = if has_parent { State::Ended } else { State::Gone };
        for child in self.children(id).collect::<Vec<_>>() {
            self.lives[child.0].parent = None;
        }
        self.clear_orphans(vm);
    }

    /// init takes away the children that it was left with and that have ended, as it does everywhere.
    fn clear_orphans(&self, vm: &Vm<Hosted>) {
        while let Some(init) = &self.init
            && let Ok(Some(_)) = init.wait(vm, WaitFor::Any, true)
        {}
    }

    /// The parent of `id` has waited for it.
    pub(super) fn reaped(&mut self, id: ProcessId) {
        self.life_mut(id).state = State::Gone;
    }

    /// Ends whatever still runs where the recording stops.
    pub(super) fn exit_all(&mut self, vm: &Vm<Hosted>) {
        for index in 0..self.lives.len() {
            if let State::Alive { .. } = self.lives[index].state {
                self.exit(vm, ProcessId(index), KILLED);
            }
        }
        if let Some(init) = self.init.take() {
            init.exit(vm, 0);
        }
    }
}

impl Life {
    /// Its address space.
    pub(super) fn space(&self) -> Place {
        self.process.space().expect("P1: a process that still has tasks has not exited")
    }
}

/// Promises everything: what the recording machine could promise is not known, and where it refused,
/// the recording says so.
fn promise_all(vm: &Vm<Hosted>) {
    vm.set_commit_policy(CommitPolicy { mode: Overcommit::Always, ..vm.commit_policy() });
}
