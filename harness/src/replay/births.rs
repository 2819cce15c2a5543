//! How tasks come into a replay: born of a clone, or there already when strace met them.
//!
//! A child may be seen before its parent's clone returns. And in another PID namespace the clone
//! returns a number that no line has, while the lines of the child have a number that no clone returned.
//!
//! B1. A task that appears is born exactly once, by the clone that returned its number, or else by the
//!     oldest one whose number nobody has.

use std::collections::{HashSet, VecDeque};

use rumpvm::CallError;

use super::driver::Replay;
use super::judge::Judged;
use super::memory;
use super::processes::ProcessId;
use crate::trace::{CLONE_VM, Call, CallId, Returned, Task, Trace};

/// Children that were born under a number that no line of the recording has. (B1)
pub(super) struct Strangers {
    /// Numbers that lines have.
    named: HashSet<Task>,
    waiting: VecDeque<Task>,
}

impl Strangers {
    /// None yet.
    pub(super) fn new(trace: &Trace) -> Self {
        let named = trace.events.iter().map(|event| event.task).collect();
        Self { named, waiting: VecDeque::new() }
    }

    fn is_stranger(&self, child: Task) -> bool {
        !self.named.contains(&child)
    }
}

impl Replay<'_> {
    /// The process of `task`. If no clone has made the task, strace started it or met it alive.
    pub(super) fn appear(&mut self, task: Task) -> Result<ProcessId, CallError> {
        match self.find(task)? {
            Some(process) => Ok(process),
            None => self.processes.adopt(self.vm, task),
        }
    }

    /// The process of `task`; if the task is new, the clone that must have made it takes effect. (B1)
    pub(super) fn find(&mut self, task: Task) -> Result<Option<ProcessId>, CallError> {
        if let Some(process) = self.processes.of(task) {
            return Ok(Some(process));
        }
        if let Some((parent, id)) = self.clone_under_way(|child| child == task) {
            self.settle(parent, id)?;
            return Ok(self.processes.of(task));
        }
        if self.strangers.waiting.is_empty()
            && let Some((parent, id)) = self.clone_under_way(|it| self.strangers.is_stranger(it))
        {
            self.settle(parent, id)?;
        }
        if let Some(stranger) = self.strangers.waiting.pop_front() {
            self.processes.rename(stranger, task);
        }
        Ok(self.processes.of(task))
    }

    /// A clone that has not taken effect, and whose child is the wanted one.
    fn clone_under_way(&self, is_wanted: impl Fn(Task) -> bool) -> Option<(Task, CallId)> {
        let is_birth = |id: &CallId| {
            let record = self.trace.record(*id);
            match (&record.call, record.returned) {
                (Call::Clone(_), Returned::Value(child)) => is_wanted(Task(child as u32)),
                _ => false,
            }
        };
        // The first one entered, so that a replay repeats itself.
        let births = self.under_way.iter().filter(|(_, id)| is_birth(id));
        let first = births.min_by_key(|(_, id)| **id);
        first.map(|(parent, id)| (*parent, *id))
    }

    /// A task of `parent` made `child`.
    pub(super) fn birth(&mut self, parent: ProcessId, child: Task, flags: u64) -> Judged {
        if flags & CLONE_VM == 0 {
            let space = self.processes.life(parent).space();
            self.outcome.forks.count += 1;
            self.outcome.forks.entries_shared += space.resident_pages(self.vm);
            self.outcome.forks.tables_shared += space.table_pages(self.vm);
        }
        if let Err(error) = self.processes.born(self.vm, parent, child, flags) {
            return Judged::Disagreed { rumpvm: memory::errno(error).to_string() };
        }
        if self.strangers.is_stranger(child) {
            self.strangers.waiting.push_back(child);
        }
        Judged::Agreed
    }
}
