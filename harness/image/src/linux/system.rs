//! The system: which processes there are, and what all of them have in common.
//!
//! Locks: the list's sleep lock, for a search.
//! Owns:  every process from birth until it is waited for; the tree of files.

use alloc::vec::Vec;
use core::cmp::Reverse;

use rumpvm::sync::{Atomic, Mutex, Ordering, try_push};
use rumpvm::{Hold, NoMemory};
use rumpvm_bare::Bare;
use rumpvm_files::{Entry, Errno, Name, Queue, Tree};
use spin::Once;

use super::class;
use super::futex::Futexes;
use super::process::Process;
use super::task::Task;
use super::timers::Timers;
use crate::kernel::Kernel;

/// What all processes have in common.
pub(crate) struct System {
    pub(crate) kernel: &'static Kernel,
    pub(crate) tree: Tree<Bare>,
    pub(crate) futexes: Futexes,
    pub(crate) timers: Timers,
    /// Woken when a child of anybody ends, stops or goes on.
    pub(crate) child_events: Queue<Bare>,
    /// By number, the largest first.
    processes: Mutex<Vec<Hold<Process, Bare>>, Bare>,
    next_task: Atomic<u32, Bare>,
}

/// Numbers of threads that are not the first of their process begin here, above all processes'.
const FIRST_TASK: u32 = 1 << 21;
/// Linux's `pid_max` on large machines; all numbers are less.
pub(crate) const PID_MAX: u32 = 1 << 22;

static SYSTEM: Once<System> = Once::new();

/// The system, once it has been made.
pub(crate) fn system() -> &'static System {
    SYSTEM.get().expect("programs run after the system has been made")
}

impl System {
    /// Makes it.
    pub(crate) fn start(kernel: &'static Kernel, tree: Tree<Bare>) -> &'static Self {
        SYSTEM.call_once(|| Self {
            kernel,
            tree,
            futexes: Futexes::new(),
            timers: Timers::new(),
            child_events: Queue::new(),
            processes: Mutex::new(&class::PROCESSES, Vec::new()),
            next_task: Atomic::new(0),
        })
    }

    /// A process has been born.
    pub(crate) fn enlist(&self, process: &Hold<Process, Bare>) -> Result<(), NoMemory> {
        let mut processes = self.processes.lock();
        try_push::<_, Bare>(&mut processes, process.clone())?;
        processes.sort_unstable_by_key(|process| Reverse(process.pid()));
        Ok(())
    }

    /// A process has been waited for.
    pub(crate) fn strike(&self, pid: u32) -> Option<Hold<Process, Bare>> {
        let mut processes = self.processes.lock();
        let at = processes.iter().position(|process| process.pid() == pid)?;
        Some(processes.remove(at))
    }

    /// The process of that number.
    pub(crate) fn find(&self, pid: u32) -> Option<Hold<Process, Bare>> {
        let processes = self.processes.lock();
        let at = processes.binary_search_by_key(&Reverse(pid), |process| Reverse(process.pid()));
        at.ok().map(|at| processes[at].clone())
    }

    /// The thread of that number.
    pub(crate) fn find_task(&self, number: u32) -> Option<Hold<Task, Bare>> {
        if let Some(process) = self.find(number) {
            return process.task(number);
        }
        self.processes.lock().iter().find_map(|process| process.task(number))
    }

    /// The process with the smallest number above `pid`.
    pub(crate) fn next(&self, pid: u32) -> Option<Hold<Process, Bare>> {
        let processes = self.processes.lock();
        processes.iter().rev().find(|process| process.pid() > pid).cloned()
    }

    /// Calls `f` with every process, in order of number, and with nothing held.
    pub(crate) fn for_each(&self, mut f: impl FnMut(&Hold<Process, Bare>)) {
        let mut last = 0;
        while let Some(process) = self.next(last) {
            last = process.pid();
            f(&process);
        }
    }

    /// Number of processes and of threads.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let processes = self.processes.lock();
        (processes.len(), processes.iter().map(|process| process.task_count()).sum())
    }

    /// A number for a thread.
    pub(crate) fn task_number(&self) -> u32 {
        loop {
            let offset = self.next_task.fetch_add(1, Ordering::Relaxed) % (PID_MAX - FIRST_TASK);
            let number = FIRST_TASK + offset;
            let is_used = || {
                let processes = self.processes.lock();
                processes.iter().any(|process| process.task(number).is_some())
            };
            // Nobody has had it in the first round.
            let wrapped = self.next_task.load(Ordering::Relaxed) > PID_MAX - FIRST_TASK;
            if !wrapped || !is_used() {
                return number;
            }
        }
    }

    /// The path of an entry.
    pub(crate) fn path_of(&self, entry: &Hold<Entry<Bare>, Bare>) -> Result<Name, Errno> {
        Ok(Name::try_new::<Bare>(&self.path_from(entry, self.tree.root())?)?)
    }

    /// The path of an entry for whoever has this root.
    pub(crate) fn path_from(
        &self,
        entry: &Hold<Entry<Bare>, Bare>,
        root: &Hold<Entry<Bare>, Bare>,
    ) -> Result<Vec<u8>, Errno> {
        let mut text = Vec::new();
        Entry::path(entry, root, &mut text)?;
        Ok(text)
    }

    /// Number of the first process.
    pub(crate) fn first_pid(&self) -> u32 {
        1
    }
}
