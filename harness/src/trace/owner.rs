//! Whose line it is, where the line does not say.
//!
//! With its output on the terminal, strace names the task only while it watches several. A line
//! without a number is then about the only task alive, which may be a child that outlived the others.
//!
//! O1. `live` holds the tasks that have been seen and have not ended.

use std::collections::{BTreeSet, HashSet};

use super::event::Task;

/// What is known about who is alive.
#[derive(Debug)]
pub(super) struct Owners {
    live: BTreeSet<Task>, // O1
    /// Numbers that some clone of the recording returned: they cannot be the first task's.
    children: HashSet<u32>,
    /// The number of [`Task::FIRST`], once it is known.
    first: Option<u32>,
    /// Whether [`Task::FIRST`] has been met.
    first_seen: bool,
}

impl Owners {
    /// Nobody alive yet; `children` are the numbers that clones of the recording return.
    pub(super) fn new(children: HashSet<u32>) -> Self {
        Self { live: BTreeSet::new(), children, first: None, first_seen: false }
    }

    /// The task called `pid` in the recording.
    pub(super) fn named(&mut self, pid: u32) -> Task {
        let task = self.task_of(pid);
        self.live.insert(task);
        task
    }

    /// The task of a line without a number; `None` if it might be any of several.
    pub(super) fn unnamed(&mut self) -> Option<Task> {
        let mut alive = self.live.iter();
        match (alive.next().copied(), alive.next()) {
            (Some(task), None) => Some(task),
            (None, _) if !self.first_seen => {
                self.first_seen = true;
                self.live.insert(Task::FIRST);
                Some(Task::FIRST)
            }
            _ => None,
        }
    }

    /// strace has attached to `pid`, which is therefore not the first task.
    pub(super) fn attached(&mut self, pid: u32) {
        self.live.insert(Task(pid));
    }

    /// `task` has ended.
    pub(super) fn ended(&mut self, task: Task) {
        self.live.remove(&task);
    }

    fn task_of(&mut self, pid: u32) -> Task {
        if self.first == Some(pid) {
            return Task::FIRST;
        }
        let may_be_first = self.first_seen && self.first.is_none();
        if may_be_first && !self.children.contains(&pid) && !self.live.contains(&Task(pid)) {
            self.first = Some(pid);
            return Task::FIRST;
        }
        Task(pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_without_a_number_belong_to_the_only_task_alive() {
        let mut owners = Owners::new(HashSet::from([12]));
        assert_eq!(owners.unnamed(), Some(Task::FIRST));
        assert_eq!(owners.named(12), Task(12));
        assert_eq!(owners.unnamed(), None);
        assert_eq!(owners.named(11), Task::FIRST);
        owners.ended(Task::FIRST);
        assert_eq!(owners.unnamed(), Some(Task(12)));
        owners.ended(Task(12));
        assert_eq!(owners.unnamed(), None);
    }

    #[test]
    fn a_recording_with_numbers_has_no_nameless_task() {
        let mut owners = Owners::new(HashSet::new());
        assert_eq!(owners.named(5), Task(5));
        assert_eq!(owners.named(6), Task(6));
    }
}
