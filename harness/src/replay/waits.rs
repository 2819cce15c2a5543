//! wait4 and waitid: whether rumpvm has the child to give that Linux gave.
//!
//! No wait here ever sleeps: the recording says when it was over.

use rumpvm::{Vm, WaitFor};
use rumpvm_hosted::Hosted;

use super::judge::Judged;
use super::memory;
use super::processes::{ProcessId, Processes};
use super::untold::Untold;
use crate::trace::{Errno, Returned, Task, Wait};

const ECHILD: Errno = Errno(10);

/// The status of a process whose end strace did not show.
const UNSEEN: i32 = 0;

/// A parent that waits, on a machine.
pub(super) struct Waiter<'a> {
    pub(super) vm: &'a Vm<Hosted>,
    pub(super) processes: &'a mut Processes,
    pub(super) parent: ProcessId,
}

impl Waiter<'_> {
    /// Makes the wait that a task of the parent made, and judges it.
    pub(super) fn wait(&mut self, wait: &Wait, linux: Returned) -> Judged {
        match (linux, wait.child) {
            (Returned::Failed(ECHILD), _) => self.refused(wait, linux),
            (Returned::Failed(_) | Returned::Nothing, _) => Judged::Untold(Untold::NoResult),
            _ if !wait.reaps => Judged::Untold(Untold::Timing),
            (Returned::Value(0), None) => self.in_vain(wait, linux),
            (Returned::Value(0), Some(child)) => self.reap(Task(child), 0),
            (Returned::Value(child), _) => self.reap(Task(child as u32), child),
        }
    }

    /// The children that `wait` is about.
    fn asked(&self, wait: &Wait) -> Vec<ProcessId> {
        let is_asked = |id: &ProcessId| match wait.only {
            Some(pid) => self.processes.life(*id).first == Task(pid),
            None => true,
        };
        self.processes.children(self.parent).filter(is_asked).collect()
    }

    /// Those of them that have ended.
    fn ended(&self, wait: &Wait) -> Vec<ProcessId> {
        let mut asked = self.asked(wait);
        asked.retain(|id| self.processes.has_ended(*id));
        asked
    }

    /// Linux said that there is no child to wait for.
    fn refused(&mut self, wait: &Wait, linux: Returned) -> Judged {
        let ended = self.ended(wait);
        if ended.is_empty() {
            return self.look(wait, linux);
        }
        // A parent that ignores SIGCHLD never sees its children's ends.
        for child in ended {
            self.take(child);
        }
        Judged::Untold(Untold::Signals)
    }

    /// Linux had no ended child to give.
    fn in_vain(&mut self, wait: &Wait, linux: Returned) -> Judged {
        if self.ended(wait).is_empty() {
            self.look(wait, linux)
        } else {
            Judged::Untold(Untold::Timing)
        }
    }

    /// Has the parent wait, when none that it asks about has ended.
    fn look(&self, wait: &Wait, linux: Returned) -> Judged {
        let which = match (wait.only, self.asked(wait).first()) {
            (None, _) => WaitFor::Any,
            (Some(_), Some(child)) => WaitFor::Pid(self.processes.life(*child).process.pid()),
            (Some(_), None) => return Judged::Untold(Untold::Stranger),
        };
        let found = self.processes.life(self.parent).process.wait(self.vm, which, true);
        let ours = found.map(|found| found.map_or(0, |(pid, _)| u64::from(pid.0)));
        Judged::of(linux, ours.map_err(memory::errno))
    }

    /// Linux gave `child`, and returned `value` for it.
    fn reap(&mut self, child: Task, value: u64) -> Judged {
        let is_child = |id: &ProcessId| self.processes.life(*id).first == child;
        let Some(id) = self.processes.children(self.parent).find(is_child) else {
            return Judged::Untold(Untold::Stranger);
        };
        if !self.processes.has_ended(id) {
            self.processes.exit(self.vm, id, UNSEEN);
        }
        let ours = if self.take(id) { Ok(value) } else { Err(ECHILD) };
        Judged::of(Returned::Value(value), ours)
    }

    /// Has the parent wait for the ended `child`; whether it got it.
    fn take(&mut self, child: ProcessId) -> bool {
        let pid = self.processes.life(child).process.pid();
        let parent = self.processes.life(self.parent);
        let taken = parent.process.wait(self.vm, WaitFor::Pid(pid), true);
        self.processes.reaped(child);
        matches!(taken, Ok(Some((taken, _))) if taken == pid)
    }
}
